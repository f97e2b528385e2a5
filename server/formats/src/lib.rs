//! Other systems' flag files, as text in and out: pure functions between their shapes and ours. What cannot be said on
//! the other side is a [`Note`], never an approximation.

mod compose;
mod condition;
pub mod drift;
pub mod export;
pub mod flagd;
pub mod flagd_definition;
pub mod flagsmith;
pub mod growthbook;
mod hash;
pub mod launchdarkly;
pub mod native;
pub mod ofrep;
pub mod unleash;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};
use switchback_core::model::{FlagKey, FlagKind, FlagState, Segment, ValueType};
use switchback_core::validate;

/// What was read from another system's file.
#[derive(Debug, Default)]
pub struct Imported {
    /// The flags, by key.
    pub flags: Vec<ImportedFlag>,
    /// The segments, by key.
    pub segments: Vec<Segment>,
    /// What to know before it is applied.
    pub notes: Vec<Note>,
}

/// A flag that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedFlag {
    /// Its name there; a valid [`switchback_core::model::FlagKey`], or the flag was left out with a note.
    pub key: String,
    /// What it is for.
    pub kind: FlagKind,
    /// The type of its values.
    pub value_type: ValueType,
    /// What people wrote about it.
    pub description: String,
    /// Separates its buckets; what the other system hashes with.
    pub salt: String,
    /// Its state.
    pub state: FlagState,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Worth knowing; decisions are the same.
    Info,
    /// Some contexts may be decided otherwise; the message says which.
    Differs,
    /// The flag, or this part of it, is left out.
    LeftOut,
}

/// Something that does not map one to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How much it matters.
    pub weight: Weight,
    /// The flag or segment that it is about; empty: the file.
    pub about: String,
    /// Where in it, such as `strategies[0].constraints[1]`.
    pub path: String,
    /// What, and why.
    pub message: String,
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))
}

fn left_out(about: &str, path: &str, message: impl Into<String>) -> Note {
    let (about, path) = (about.to_owned(), path.to_owned());
    Note { weight: Weight::LeftOut, about, path, message: message.into() }
}

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A number as a context's property writes it: 1.0 is `1`.
fn number_text(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => float.to_string(),
        None => number.to_string(),
    }
}

/// A finite number.
fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// What an attribute of another system is called here. Its `primary` one is the user id; names that mean
/// something else here become properties.
fn field_name(name: &str, primary: &str) -> String {
    match name {
        name if name == primary => "user_id".to_owned(),
        "user_id" | "userId" | "session_id" | "sessionId" | "environment" | "current_time"
        | "currentTime" => format!("properties.{name}"),
        name if name.starts_with("properties.") => format!("properties.{name}"),
        name => name.to_owned(),
    }
}

/// Leaves out flags that need one that is not imported, or each other.
fn without_orphans(imported: &mut Imported) {
    loop {
        let needs_of = |key: &FlagKey| {
            let flag = imported.flags.iter().find(|flag| flag.key == key.as_str())?;
            Some(flag.state.prerequisites.iter().map(|one| one.flag.clone()).collect())
        };
        let fault = |flag: &ImportedFlag| {
            let needs = &flag.state.prerequisites;
            if let Some(missing) = needs.iter().find(|one| needs_of(&one.flag).is_none()) {
                return Some(format!("needs `{}`, which is not imported", missing.flag));
            }
            let own = FlagKey::try_from(flag.key.as_str()).ok()?;
            let cycle = validate::find_cycle(&own, needs, needs_of)?;
            Some(format!("needs itself through {} flags", cycle.len().saturating_sub(1)))
        };
        let found = imported.flags.iter().enumerate().find_map(|(n, flag)| Some((n, fault(flag)?)));
        let Some((n, message)) = found else { return };
        let flag = imported.flags.remove(n);
        imported.notes.push(left_out(&flag.key, "prerequisites", message));
    }
}
