//! YAML as a tree in which every node knows its line and column. The only module that knows the reader.
//!
//! Scalars stay text until somebody asks for a type, so that `NO` and `1.10` are texts where a text is
//! expected. Anchors, aliases, tags, duplicate keys and second documents are refused: a playbook is
//! read in an emergency, and what it says must stand where the eye is.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::problem::Problem;

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 64 * 1024;
const DEPTH_MAX: usize = 24;
const NODES_MAX: usize = 5_000;

/// A value and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Line and column, both from 1.
    pub at: (usize, usize),
    /// What stands there.
    pub content: Content,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A scalar.
    Scalar {
        /// Its text.
        text: String,
        /// It was not quoted, so that it may also be a number, a boolean or null.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys in the order of the file, each once.
    Map(Vec<(Key, Node)>),
}

/// A key and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Line and column, both from 1.
    pub at: (usize, usize),
    /// The key.
    pub text: String,
}

impl Node {
    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The pairs of a map.
    pub fn pairs(&self) -> Option<&[(Key, Node)]> {
        match &self.content {
            Content::Map(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The value under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.pairs()?.iter().find(|(name, _)| name.text == key).map(|(_, node)| node)
    }

    /// What it is, in words.
    pub fn noun(&self) -> &'static str {
        match &self.content {
            Content::Scalar { text, plain: true } if text.is_empty() => "nothing",
            Content::Scalar { .. } => "a text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }
}

/// How large a file may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes.
    pub bytes: usize,
    /// Values in it.
    pub nodes: usize,
}

/// Reads one document of a playbook's size.
pub fn read(text: &str) -> Result<Node, Problem> {
    read_within(text, Limits { bytes: FILE_BYTES_MAX, nodes: NODES_MAX })
}

/// Reads one document.
pub fn read_within(text: &str, limits: Limits) -> Result<Node, Problem> {
    if text.len() > limits.bytes {
        let message = format!("the file has {} bytes; the limit is {}", text.len(), limits.bytes);
        return Err(Problem::new("", message));
    }
    let mut tree = Tree { parser: Parser::new_from_str(text), nodes: 0, nodes_max: limits.nodes };
    let root = loop {
        match tree.next()? {
            (Event::StreamStart | Event::DocumentStart(..), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => {
                return Err(Problem::new("", "the file is empty").at((1, 1)));
            }
            (event, span) => break tree.node(event, span, 0)?,
        }
    };
    loop {
        match tree.next()? {
            (Event::StreamEnd, _) => return Ok(root),
            (Event::DocumentStart(..), span) => {
                return Err(Problem::new("", "a second document starts here")
                    .at(position(span))
                    .hint("one file holds one document"));
            }
            _ => {}
        }
    }
}

struct Tree<'t> {
    parser: Parser<'t, serde_saphyr::granit_parser::StrInput<'t>>,
    nodes: usize,
    nodes_max: usize,
}

impl<'t> Tree<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        let event = loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                other => break other,
            }
        };
        match event {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => {
                let marker = error.marker();
                let at = (marker.line(), marker.col() + 1);
                Err(Problem::new("", format!("this is not YAML: {}", error.kind())).at(at))
            }
            None => Err(Problem::new("", "the file ends in the middle")),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Problem> {
        let at = position(span);
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > self.nodes_max {
            let max = self.nodes_max;
            let message = format!("over {DEPTH_MAX} levels deep or over {max} values");
            return Err(Problem::new("", message).at(at));
        }
        if event.anchor_id().is_some() || event.is_alias() {
            return Err(Problem::new("", "anchors and aliases are not allowed")
                .at(at)
                .hint("write the value out where it is used"));
        }
        if event.tag().is_some() {
            return Err(Problem::new("", "tags such as `!!str` are not allowed").at(at));
        }
        let content = match event {
            Event::Scalar(text, style, ..) => {
                Content::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            _ => return Err(Problem::new("", "a value is expected here").at(at)),
        };
        Ok(Node { at, content })
    }

    fn list(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Content::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut pairs: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Content::Map(pairs));
            }
            let key = self.node(event, span, depth + 1)?;
            let at = key.at;
            let Content::Scalar { text, .. } = key.content else {
                return Err(Problem::new("", "a key must be a text").at(at));
            };
            if let Some((first, _)) = pairs.iter().find(|(known, _)| known.text == text) {
                let hint = format!("it stands at line {} already", first.at.0);
                let message = format!("the key `{text}` is given twice");
                return Err(Problem::new("", message).at(at).hint(hint));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            pairs.push((Key { at, text }, value));
        }
    }
}

fn position(span: Span) -> (usize, usize) {
    (span.start.line(), span.start.col() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn scalars_stay_as_they_were_written() {
        let root = read("a: NO\nb: 1.10\nc: 'true'\n").unwrap();

        assert_eq!(root.get("a").unwrap().text(), Some("NO"));
        assert_eq!(root.get("b").unwrap().text(), Some("1.10"));
        assert_eq!(root.get("b").unwrap().at, (2, 4));
        assert!(matches!(root.get("c").unwrap().content, Content::Scalar { plain: false, .. }));
    }

    #[test]
    fn what_hides_or_multiplies_meaning_is_refused() {
        assert_eq!(
            refusal("a: 1\na: 2\n"),
            "2:1: the key `a` is given twice (it stands at line 1 already)"
        );
        assert!(refusal("a: &x [1]\nb: [*x, *x]\n").contains("anchors and aliases"));
        assert!(refusal("a: !!str 1\n").contains("tags"));
        assert!(refusal("a: 1\n---\nb: 2\n").contains("second document"));
        let deep = refusal(&"[".repeat(5_000));
        assert!(deep.contains("levels deep") || deep.contains("not YAML"), "{deep}");
        assert!(refusal(&"- 1\n".repeat(6_000)).contains("values"));
        assert!(refusal(&"x".repeat(70_000)).contains("bytes"));
        assert!(refusal("").contains("empty"));
        assert!(refusal("a: [1\n").contains("not YAML"));
    }
}
