//! The document's types. Reading is lenient, as SDKs are: what is missing has its default, what is unknown is passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What `GET /api/client/features` answers, as far as decisions need it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Features {
    /// The flags.
    #[serde(deserialize_with = "null_as_default")]
    pub features: Vec<Feature>,
    /// Shared constraints.
    #[serde(deserialize_with = "null_as_default")]
    pub segments: Vec<Segment>,
}

/// A flag.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// `release`, `experiment`, `operational`, `kill-switch`, `permission`.
    #[serde(rename = "type", deserialize_with = "null_as_default")]
    pub kind: String,
    /// What people wrote about it.
    #[serde(deserialize_with = "null_as_default")]
    pub description: String,
    /// The project.
    #[serde(deserialize_with = "null_as_default")]
    pub project: String,
    /// Marked as ready to be removed.
    #[serde(deserialize_with = "null_as_default")]
    pub stale: bool,
    /// SDKs report each evaluation.
    #[serde(deserialize_with = "null_as_default")]
    pub impression_data: bool,
    /// On at all.
    pub enabled: bool,
    /// The first that admits wins; none at all: whoever asks.
    #[serde(deserialize_with = "null_as_default")]
    pub strategies: Vec<Strategy>,
    /// Used when the strategy has none.
    #[serde(deserialize_with = "null_as_default")]
    pub variants: Vec<Variant>,
    /// All must hold.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
}

/// One way to be let in.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Strategy {
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `default`, `flexibleRollout`, ...
    pub name: String,
    /// What a person calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Switched off; servers do not send those.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Where among the others.
    #[serde(skip_serializing)]
    pub sort_order: Option<f64>,
    /// Texts by name.
    #[serde(deserialize_with = "null_as_default")]
    pub parameters: BTreeMap<String, Value>,
    /// All must hold.
    #[serde(deserialize_with = "null_as_default")]
    pub constraints: Vec<Constraint>,
    /// Ids of segments, all of which must hold.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<i64>,
    /// Used instead of the flag's.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

/// One test on a context field.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Constraint {
    /// The field.
    pub context_name: String,
    /// The comparison.
    pub operator: String,
    /// For operators on lists.
    #[serde(deserialize_with = "null_as_default")]
    pub values: Vec<String>,
    /// For operators on one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Turns the answer round.
    #[serde(deserialize_with = "null_as_default")]
    pub inverted: bool,
    /// Ignores case.
    #[serde(deserialize_with = "null_as_default")]
    pub case_insensitive: bool,
}

/// A named outcome.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Share among the total.
    pub weight: i64,
    /// `fix` or `variable`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub weight_type: String,
    /// The field that is bucketed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stickiness: Option<String>,
    /// The value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// Contexts that get it whatever their bucket.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
}

/// A variant's value, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Payload {
    /// `string`, `json`, `csv` or `number`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    pub value: String,
}

/// Contexts whose field is one of the values.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Override {
    /// The field.
    pub context_name: String,
    /// Any of these.
    #[serde(deserialize_with = "null_as_default")]
    pub values: Vec<String>,
}

/// Another flag that must be on or off.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Dependency {
    /// Its name.
    pub feature: String,
    /// On (also when absent) or off.
    #[serde(default = "yes", deserialize_with = "null_as_true")]
    pub enabled: bool,
    /// With on: one of these variants.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<String>,
}

/// Shared constraints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Segment {
    /// What strategies name it by.
    pub id: i64,
    /// What people call it.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// All must hold.
    #[serde(deserialize_with = "null_as_default")]
    pub constraints: Vec<Constraint>,
}

impl Strategy {
    /// A parameter's text; numbers and booleans as they are written.
    pub fn parameter(&self, name: &str) -> Option<String> {
        match self.parameters.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }
}

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn null_as_true<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(true))
}

fn yes() -> bool {
    true
}
