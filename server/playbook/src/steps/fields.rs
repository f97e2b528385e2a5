//! Reading a kind's parameters: typed, with errors that name the field.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use switchback_core::model::FlagKey;

use crate::problem::suggest;
use crate::templates::Library;
use crate::units;

/// A parameter of a kind, for people and for checking names.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
}

/// What is wrong with a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The parameter; empty for the call as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl Fault {
    /// A fault without advice.
    pub fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into(), hint: String::new() }
    }

    /// The same fault with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// A call's parameters with their expressions filled in.
pub struct Fields<'f> {
    /// The parameters.
    pub map: &'f Map<String, Value>,
    /// The incident templates.
    pub templates: &'f Library,
    /// Ids and kinds of the steps before this one.
    pub earlier: &'f [(String, String)],
}

impl Fields<'_> {
    /// Refuses a parameter that the kind does not have.
    pub fn check_names(&self, known: &[Field]) -> Result<(), Fault> {
        match self.map.keys().find(|name| known.iter().all(|field| field.name != **name)) {
            None => Ok(()),
            Some(name) => Err(Fault::new(name, format!("unknown key `{name}`"))
                .hint(suggest(name, known.iter().map(|field| field.name)))),
        }
    }

    /// The value as it stands; `null` counts as absent.
    pub fn any(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn needed<T>(name: &str, found: Option<T>) -> Result<T, Fault> {
        found.ok_or_else(|| Fault::new(name, format!("`{name}` is missing")))
    }

    /// A text of 1 to `max` characters.
    pub fn text(&self, name: &str, max: usize) -> Result<String, Fault> {
        Self::needed(name, self.text_or_none(name, max)?)
    }

    /// A text of 1 to `max` characters, or nothing.
    pub fn text_or_none(&self, name: &str, max: usize) -> Result<Option<String>, Fault> {
        let Some(value) = self.any(name) else { return Ok(None) };
        match value {
            Value::String(text) if text.trim().is_empty() => {
                Err(Fault::new(name, "a text is expected, not nothing"))
            }
            Value::String(text) if text.chars().count() > max => {
                Err(Fault::new(name, format!("over {max} characters")))
            }
            Value::String(text) => Ok(Some(text.clone())),
            other => Err(Fault::new(name, format!("a text is expected, not `{other}`"))
                .hint("put it in quotes")),
        }
    }

    /// A flag's key under `key`.
    pub fn flag(&self) -> Result<String, Fault> {
        let key = self.text("key", 100)?;
        match FlagKey::try_from(key.as_str()) {
            Ok(_) => Ok(key),
            Err(error) => Err(Fault::new("key", error.to_string())),
        }
    }

    /// `true` or `false`.
    pub fn bool(&self, name: &str) -> Result<bool, Fault> {
        match Self::needed(name, self.any(name))? {
            Value::Bool(answer) => Ok(*answer),
            other => Err(Fault::new(name, format!("true or false is expected, not `{other}`"))),
        }
    }

    /// A duration, in milliseconds.
    pub fn duration(&self, name: &str) -> Result<u64, Fault> {
        Self::needed(name, self.duration_or_none(name)?)
    }

    /// A duration, in milliseconds, or nothing.
    pub fn duration_or_none(&self, name: &str) -> Result<Option<u64>, Fault> {
        let Some(text) = self.text_or_none(name, 40)? else { return Ok(None) };
        units::parse_duration(&text).map(Some).map_err(|message| Fault::new(name, message))
    }

    /// A percentage, in thousandths of a percent; a bare number is in percent.
    pub fn percent(&self, name: &str) -> Result<u32, Fault> {
        let text = match Self::needed(name, self.any(name))? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        units::parse_percent(&text).map_err(|message| Fault::new(name, message))
    }

    /// A whole number from `low` to `high`, or `default`.
    pub fn whole(&self, name: &str, low: u64, high: u64, default: u64) -> Result<u64, Fault> {
        let Some(value) = self.any(name) else { return Ok(default) };
        match value.as_u64() {
            Some(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(Fault::new(name, format!("a whole number from {low} to {high} is expected"))),
        }
    }

    /// One of a few words, or the first of them.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<T, Fault> {
        let given = self.text_or_none(name, 40)?;
        let found = match &given {
            Some(given) => words.iter().find(|(word, _)| word == given),
            None => words.first(),
        };
        let given = given.unwrap_or_default();
        found.map(|(_, value)| *value).ok_or_else(|| {
            Fault::new(name, format!("`{given}` is not a choice here"))
                .hint(suggest(&given, words.iter().map(|(word, _)| *word)))
        })
    }

    /// A map of texts; empty when absent.
    pub fn texts(&self, name: &str) -> Result<BTreeMap<String, String>, Fault> {
        let text = |(key, value): (&String, &Value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            _ => Err(Fault::new(name, format!("`{key}` must be a text"))),
        };
        self.map_of(name)?.iter().map(text).collect()
    }

    /// A map of any values; empty when absent.
    pub fn map_of(&self, name: &str) -> Result<Map<String, Value>, Fault> {
        match self.any(name) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(other) => Err(Fault::new(name, format!("a map is expected, not `{other}`"))),
        }
    }

    /// The text of the SQL file that `name` names, or nothing.
    pub fn script_or_none(&self, name: &str) -> Result<Option<String>, Fault> {
        let Some(path) = self.text_or_none(name, 200)? else { return Ok(None) };
        let text = self.templates.script(&path).map_err(|message| Fault::new(name, message))?;
        Ok(Some(text.to_owned()))
    }

    /// A list of texts; empty when absent.
    pub fn list(&self, name: &str) -> Result<Vec<String>, Fault> {
        let wrong = || Fault::new(name, "a list of texts is expected");
        match self.any(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }
}
