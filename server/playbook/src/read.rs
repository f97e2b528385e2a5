//! Reading a document's own keys: strict about names, exact about places.

use crate::problem::{Problem, suggest};
use crate::units;
use crate::yaml::{Content, Node};

/// Gathers what is wrong while a document is read, so that one look shows everything.
#[derive(Default)]
pub struct Reader {
    /// What was found so far.
    pub problems: Vec<Problem>,
}

/// A map whose keys were checked, and where it stands.
#[derive(Clone, Copy)]
pub struct Entries<'n> {
    /// The map.
    pub node: &'n Node,
}

impl<'n> Entries<'n> {
    /// The value under a key.
    pub fn get(self, key: &str) -> Option<&'n Node> {
        self.node.get(key)
    }
}

impl Reader {
    /// Notes a fault at a node.
    pub fn fault(
        &mut self,
        node: &Node,
        path: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.push(Problem::new(path, message).at(node.at).hint(hint));
    }

    /// A map that has only `allowed` keys.
    pub fn map<'n>(&mut self, node: &'n Node, path: &str, allowed: &[&str]) -> Option<Entries<'n>> {
        let Some(pairs) = node.pairs() else {
            self.fault(node, path, format!("a map is expected, not {}", node.noun()), "");
            return None;
        };
        for (key, _) in pairs {
            let (name, at) = (key.text.as_str(), key.at);
            if !allowed.contains(&name) {
                let hint = suggest(name, allowed.iter().copied());
                let message = format!("unknown key `{name}`");
                self.problems.push(Problem::new(join(path, name), message).at(at).hint(hint));
            }
        }
        Some(Entries { node })
    }

    /// A list's items.
    pub fn list<'n>(&mut self, node: &'n Node, path: &str) -> &'n [Node] {
        if let Content::List(items) = &node.content {
            return items;
        }
        self.fault(node, path, format!("a list is expected, not {}", node.noun()), "");
        &[]
    }

    /// A text of at most `max` characters; empty is refused.
    pub fn text(&mut self, node: &Node, path: &str, max: usize) -> Option<String> {
        let fault = match node.text() {
            None => format!("a text is expected, not {}", node.noun()),
            Some(text) if text.trim().is_empty() => "a text is expected, not nothing".to_owned(),
            Some(text) if text.chars().count() > max => format!("over {max} characters"),
            Some(text) => return Some(text.to_owned()),
        };
        self.fault(node, path, fault, "");
        None
    }

    /// The text under a key that must be there.
    pub fn required(
        &mut self,
        map: Entries<'_>,
        path: &str,
        key: &str,
        max: usize,
    ) -> Option<String> {
        if let Some(node) = map.get(key) {
            return self.text(node, &join(path, key), max);
        }
        self.fault(map.node, path, format!("`{key}` is missing"), "");
        None
    }

    /// The text under a key that may be absent.
    pub fn optional(
        &mut self,
        map: Entries<'_>,
        path: &str,
        key: &str,
        max: usize,
    ) -> Option<String> {
        map.get(key).and_then(|node| self.text(node, &join(path, key), max))
    }

    /// A name of letters, digits, `_` and `-`, starting with a letter.
    pub fn name(&mut self, map: Entries<'_>, path: &str, key: &str) -> Option<String> {
        let name = self.required(map, path, key, 60)?;
        if is_name(&name) {
            return Some(name);
        }
        if let Some(node) = map.get(key) {
            let hint = "use letters, digits, `_` and `-`, and start with a letter";
            self.fault(node, &join(path, key), format!("`{name}` is not a name"), hint);
        }
        None
    }

    /// The duration under a key, in milliseconds.
    pub fn duration(&mut self, map: Entries<'_>, path: &str, key: &str) -> Option<u64> {
        let node = map.get(key)?;
        let path = join(path, key);
        let text = self.text(node, &path, 40)?;
        match units::parse_duration(&text) {
            Ok(ms) => Some(ms),
            Err(message) => {
                self.fault(node, &path, message, "");
                None
            }
        }
    }

    /// `true` or `false` under a key.
    pub fn bool(&mut self, map: Entries<'_>, path: &str, key: &str) -> Option<bool> {
        let node = map.get(key)?;
        match &node.content {
            Content::Scalar { text, plain: true } if text == "true" => Some(true),
            Content::Scalar { text, plain: true } if text == "false" => Some(false),
            _ => {
                self.fault(node, &join(path, key), "true or false is expected", "");
                None
            }
        }
    }

    /// A whole number from `low` to `high` under a key.
    pub fn whole(
        &mut self,
        map: Entries<'_>,
        path: &str,
        key: &str,
        low: u64,
        high: u64,
    ) -> Option<u64> {
        let node = map.get(key)?;
        match node.text().and_then(|text| text.parse().ok()) {
            Some(number) if (low..=high).contains(&number) => Some(number),
            _ => {
                self.fault(
                    node,
                    &join(path, key),
                    format!("a whole number from {low} to {high} is expected"),
                    "",
                );
                None
            }
        }
    }

    /// One of a few words under a key.
    pub fn word<T: Copy>(
        &mut self,
        map: Entries<'_>,
        path: &str,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let node = map.get(key)?;
        let text = node.text().unwrap_or_default();
        if let Some((_, found)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*found);
        }
        let hint = suggest(text, words.iter().map(|(word, _)| *word));
        self.fault(node, &join(path, key), format!("`{text}` is not a choice here"), hint);
        None
    }
}

/// Whether a text is a name: 1 to 60 letters, digits, `_` and `-`, starting with a letter.
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.len() <= 60
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(allowed)
}

/// `path.key`, or `key` at the top.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
