//! Flags and segments as YAML files: one each, written the same way every time, read strictly.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::{FlagKey, FlagKind, FlagState, Segment, ValueType};
use switchback_core::validate;
use switchback_playbook::yaml::{self, Content, Limits, Node};

/// Ten thousand values of a thousand characters fit.
const LIMITS: Limits = Limits { bytes: 16 * 1024 * 1024, nodes: 200_000 };

/// A flag in one environment, as a file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FlagFile {
    /// Its permanent name; the file's name without `.yaml`.
    pub key: FlagKey,
    /// Its project.
    pub project: String,
    /// What it is for.
    #[serde(default)]
    pub kind: FlagKind,
    /// The type of its values.
    #[serde(default)]
    pub value_type: ValueType,
    /// What its units are hashed with; the key when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// What people wrote about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How long it is meant to live, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_days: Option<i64>,
    /// Its state in the environment, without the kill.
    pub state: FlagState,
}

/// Writes a value as YAML: keys in order, one value a line, no times.
pub fn write<T: Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    let mut out = String::new();
    block(&value, 0, &mut out);
    out
}

/// Reads a flag. What is wrong comes with line, field, and what is allowed.
pub fn read_flag(text: &str) -> Result<FlagFile, String> {
    let (file, tree): (FlagFile, Node) = read(text)?;
    if file.state.killed {
        let message = "is not kept in files; use `switchback flag kill`";
        return Err(at(&tree, "state.killed", message));
    }
    validate::validate_flag(file.value_type, &file.state, file.kind).map_err(|problems| {
        let first = problems.first();
        first.map_or_else(String::new, |one| {
            let is_outer = one.path == "value_type";
            let path = if is_outer { one.path.clone() } else { format!("state.{}", one.path) };
            at(&tree, &path, &one.message)
        })
    })?;
    Ok(file)
}

/// Reads a segment, as strictly.
pub fn read_segment(text: &str) -> Result<Segment, String> {
    let (segment, tree): (Segment, Node) = read(text)?;
    validate::validate_segment(&segment).map_err(|problems| {
        problems.first().map_or_else(String::new, |one| at(&tree, &one.path, &one.message))
    })?;
    Ok(segment)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<(T, Node), String> {
    let tree = yaml::read_within(text, LIMITS).map_err(|problem| problem.to_string())?;
    let value = serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|place| (place.line() as usize, place.column() as usize));
        let full = error.without_snippet().to_string();
        let message = full.lines().next().unwrap_or_default();
        let message = message.split(" at line ").next().unwrap_or(message);
        match place {
            Some(place) => format!("{}:{}: {}{message}", place.0, place.1, field_at(&tree, place)),
            None => message.to_owned(),
        }
    })?;
    Ok((value, tree))
}

/// The innermost field that begins at a place, or before it.
fn field_at(tree: &Node, place: (usize, usize)) -> String {
    fn look(node: &Node, path: &str, place: (usize, usize), found: &mut String) {
        let mut step = |at: (usize, usize), inner: &Node, name: String| {
            if at <= place {
                let path = if path.is_empty() || name.starts_with('[') {
                    format!("{path}{name}")
                } else {
                    format!("{path}.{name}")
                };
                path.clone_into(found);
                look(inner, &path, place, found);
            }
        };
        match &node.content {
            Content::Map(pairs) => {
                for (key, inner) in pairs {
                    step(key.at, inner, key.text.clone());
                }
            }
            Content::List(items) => {
                for (n, one) in items.iter().enumerate() {
                    step(one.at, one, format!("[{n}]"));
                }
            }
            Content::Scalar { .. } => {}
        }
    }
    let mut found = String::new();
    look(tree, "", place, &mut found);
    if found.is_empty() { found } else { format!("{found}: ") }
}

/// A message with the line of the field at a path, or of what is nearest around it.
fn at(tree: &Node, path: &str, message: &str) -> String {
    let mut node = tree;
    let mut place = tree.at;
    let steps = path.replace('[', ".[");
    for step in steps.split('.').filter(|step| !step.is_empty()) {
        let next = match (&node.content, step.trim_matches(['[', ']']).parse::<usize>()) {
            (Content::List(items), Ok(n)) => items.get(n).map(|item| (item.at, item)),
            (Content::Map(pairs), _) => {
                pairs.iter().find(|(key, _)| key.text == step).map(|(key, inner)| (key.at, inner))
            }
            _ => None,
        };
        let Some((at, inner)) = next else { break };
        place = at;
        node = inner;
    }
    format!("{}:{}: {path}: {message}", place.0, place.1)
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(object) if !object.is_empty() => {
            let mut pairs: Vec<(&String, &Value)> = object.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            for (key, inner) in pairs {
                out.push_str(&pad);
                out.push_str(&text(key));
                out.push(':');
                nested(inner, indent, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for inner in list {
                let mut part = String::new();
                if is_scalar(inner) {
                    part.push_str(&scalar(inner));
                    part.push('\n');
                } else {
                    block(inner, indent + 2, &mut part);
                }
                out.push_str(&pad);
                out.push_str("- ");
                out.push_str(part.trim_start_matches(' '));
            }
        }
        other => {
            out.push_str(&pad);
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

fn nested(inner: &Value, indent: usize, out: &mut String) {
    if is_scalar(inner) {
        out.push(' ');
        out.push_str(&scalar(inner));
        out.push('\n');
    } else {
        out.push('\n');
        block(inner, indent + 2, out);
    }
}

fn is_scalar(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => true,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(own) => text(own),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// Plain where no reader of YAML could take it for something else, else in double quotes.
fn text(own: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '@' | '-');
    let is_plain = own.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && own.split(' ').all(|word| !word.is_empty() && word.chars().all(fits))
        && !WORDS.contains(&own.to_ascii_lowercase().as_str());
    if is_plain {
        return own.to_owned();
    }
    let mut out = String::from("\"");
    for c in own.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file() -> FlagFile {
        let state = json!({"enabled": true, "on_value": "no", "off_value": "1.10", "rules": [
            {"id": "a", "percent": 12.5, "constraints": [{"field": "plan", "operator": "IN", "values": ["pro", "a: b", "näh\n#"]}]},
            {"id": "b", "serve": "off"},
        ]});
        FlagFile {
            key: "banner".try_into().unwrap(),
            project: "default".to_owned(),
            kind: FlagKind::Release,
            value_type: ValueType::String,
            salt: Some("banner".to_owned()),
            description: "What the banner says: \"hello\"".to_owned(),
            owner: String::new(),
            tags: vec!["on".to_owned(), "007".to_owned()],
            lifetime_days: None,
            state: serde_json::from_value(state).unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = write(&file());

        assert_eq!(read_flag(&text).unwrap(), file(), "{text}");
        assert_eq!(write(&read_flag(&text).unwrap()), text);
    }

    #[test]
    fn a_fault_names_line_field_and_what_is_allowed() {
        let good = write(&file());
        let line = |part: &str| good.lines().position(|line| line.contains(part)).unwrap() + 1;

        let unknown = read_flag(&good.replace("percent:", "precent:")).unwrap_err();
        assert!(unknown.starts_with(&format!("{}:", line("percent:"))), "{unknown}");
        assert!(unknown.contains("precent") && unknown.contains("percent"), "{unknown}");
        let wrong = read_flag(&good.replace("enabled: true", "enabled: 7")).unwrap_err();
        assert!(wrong.starts_with(&format!("{}:", line("enabled:"))), "{wrong}");
        assert!(wrong.contains("state.enabled") && wrong.contains("bool"), "{wrong}");
        let over = read_flag(&good.replace("12.5", "120")).unwrap_err();
        assert!(over.contains("0 to 100"), "{over}");
        let blank = read_flag(&good.replace("- pro", "- \" \"")).unwrap_err();
        assert!(blank.contains("state.rules[0].constraints[0].values[0]"), "{blank}");
        assert!(blank.starts_with(&format!("{}:", line("- pro"))), "{blank}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives(own in ".*") {
            let value = json!({"k": own, "list": [{"a": own}]});
            let again: Value = serde_saphyr::from_str(&write(&value)).unwrap();
            proptest::prop_assert_eq!(again, value);
        }
    }
}
