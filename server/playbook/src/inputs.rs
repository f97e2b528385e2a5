//! What a playbook asks for before it starts, and the check of what it was given.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::expr::plain_scalar;
use crate::problem::{Problem, suggest};
use crate::read::{Reader, join};
use crate::units;
use crate::yaml::{Content, Node};

/// The type of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    /// A text.
    String,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A duration such as `2h`; it stays a text.
    Duration,
    /// A percentage such as `50%`; it stays a text.
    Percent,
}

const TYPES: [(&str, InputType); 5] = [
    ("string", InputType::String),
    ("bool", InputType::Bool),
    ("number", InputType::Number),
    ("duration", InputType::Duration),
    ("percent", InputType::Percent),
];

/// One declared input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Input {
    /// Its name in expressions: `inputs.<name>`.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: InputType,
    /// What people are told beside the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The only values allowed; empty: any.
    #[serde(rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Used when nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Something must be given.
    pub required: bool,
    /// The shortest text, in characters, or the smallest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
}

impl Input {
    /// Checks one given value and brings it to its canonical form. The error is a sentence.
    pub fn accept(&self, value: &Value) -> Result<Value, String> {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let accepted = match (self.kind, value) {
            (InputType::String, Value::String(_)) => json!(text),
            (InputType::Bool, Value::Bool(_)) | (InputType::Number, Value::Number(_)) => {
                value.clone()
            }
            // Forms, command lines and queries send text.
            (InputType::Bool, Value::String(_)) if text == "true" || text == "false" => {
                json!(text == "true")
            }
            (InputType::Number, Value::String(_)) if plain_scalar(&text).is_number() => {
                plain_scalar(&text)
            }
            (InputType::Duration, Value::String(_)) => {
                json!(units::duration_text(units::parse_duration(&text)?))
            }
            (InputType::Percent, Value::String(_) | Value::Number(_)) => {
                json!(units::percent_text(units::parse_percent(&text)?))
            }
            _ => return Err(format!("`{text}` is not a {}", self.type_name())),
        };
        if !self.choices.is_empty() && !self.choices.contains(&text) {
            return Err(format!("`{text}` is not one of {}", self.choices.join(", ")));
        }
        if text.len() > 4_000 {
            return Err("over 4000 bytes".to_owned());
        }
        match (self.min, self.kind) {
            (Some(min), InputType::String) if (text.trim().chars().count() as u64) < min => {
                Err(format!("at least {min} characters are needed"))
            }
            (Some(min), InputType::Number) if accepted.as_f64().is_some_and(|n| n < min as f64) => {
                Err(format!("at least {min} is needed"))
            }
            _ => Ok(accepted),
        }
    }

    /// A value of the right type, for checking a playbook before anybody gives values.
    pub fn sample(&self) -> Value {
        if let Some(default) = &self.default {
            return default.clone();
        }
        if let Some(choice) = self.choices.first() {
            return self.accept(&json!(choice)).unwrap_or_else(|_| json!(choice));
        }
        match self.kind {
            InputType::String => json!("x".repeat(self.min.unwrap_or(1).clamp(1, 1_000) as usize)),
            InputType::Bool => json!(true),
            InputType::Number => json!(self.min.unwrap_or(1)),
            InputType::Duration => json!("1s"),
            InputType::Percent => json!("50%"),
        }
    }

    fn type_name(&self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self.kind).map_or("value", |(name, _)| name)
    }
}

/// Reads `spec.inputs`.
pub(crate) fn parse(reader: &mut Reader, node: &Node) -> Vec<Input> {
    let path = "spec.inputs";
    let Some(pairs) = node.pairs() else {
        reader.fault(node, path, format!("a map is expected, not {}", node.noun()), "");
        return Vec::new();
    };
    pairs.iter().filter_map(|(key, node)| parse_one(reader, &key.text, node)).collect()
}

fn parse_one(reader: &mut Reader, name: &str, node: &Node) -> Option<Input> {
    let path = join("spec.inputs", name);
    let allowed = ["type", "description", "enum", "default", "required", "min"];
    let map = reader.map(node, &path, &allowed)?;
    let ascii = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > 60 || !name.chars().all(ascii) {
        let hint = "use letters, digits and `_`, as it stands in expressions";
        reader.fault(node, &path, format!("`{name}` is not a name for an input"), hint);
        return None;
    }
    if map.get("type").is_none() {
        reader.fault(node, &path, "`type` is missing", "string, bool, number, duration or percent");
    }
    let kind = reader.word(map, &path, "type", &TYPES)?;
    let choices = map.get("enum").map(|list| {
        let path = join(&path, "enum");
        reader.list(list, &path).iter().filter_map(reader_text).collect()
    });
    let mut input = Input {
        name: name.to_owned(),
        kind,
        description: reader.optional(map, &path, "description", 400),
        choices: choices.unwrap_or_default(),
        default: None,
        required: reader.bool(map, &path, "required").unwrap_or(false),
        min: reader.whole(map, &path, "min", 0, 1_000_000),
    };
    if let Some(default) = map.get("default") {
        let given = match &default.content {
            Content::Scalar { text, plain: true } if kind != InputType::String => {
                plain_scalar(text)
            }
            Content::Scalar { text, .. } => json!(text),
            _ => Value::Null,
        };
        match input.accept(&given) {
            Ok(value) => input.default = Some(value),
            Err(message) => reader.fault(default, &join(&path, "default"), message, ""),
        }
    } else if !input.required && kind != InputType::Bool {
        reader.fault(node, &path, "neither `required: true` nor a `default`", "say one of them");
    }
    if input.default.is_none() && !input.required && kind == InputType::Bool {
        input.default = Some(Value::Bool(false));
    }
    Some(input)
}

fn reader_text(node: &Node) -> Option<String> {
    node.text().map(str::to_owned)
}

/// Checks given values against the declarations: unknown names and wrong values are refused, defaults
/// are filled in.
pub fn accept(
    declared: &[Input],
    given: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>, Vec<Problem>> {
    let mut problems = Vec::new();
    for name in given.keys() {
        if !declared.iter().any(|input| input.name == *name) {
            let hint = suggest(name, declared.iter().map(|input| input.name.as_str()));
            problems
                .push(Problem::new(join("inputs", name), format!("no input `{name}`")).hint(hint));
        }
    }
    let mut accepted = BTreeMap::new();
    for input in declared {
        let path = join("inputs", &input.name);
        let value = match given.get(&input.name) {
            Some(value) => input.accept(value),
            None => input.default.clone().ok_or_else(|| "this input is required".to_owned()),
        };
        match value {
            Ok(value) => {
                accepted.insert(input.name.clone(), value);
            }
            Err(message) => problems.push(Problem::new(path, message)),
        }
    }
    if problems.is_empty() { Ok(accepted) } else { Err(problems) }
}
