//! An environment as a features document: for Unleash itself, or for people who compare. Stricter than what SDKs are
//! sent: nothing is rounded, and rules of flags that are off are written too.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Value, json};
use switchback_core::model::{self, Document, Flag, FlagEntry, Operator, ValueType};

use super::document::{Feature, Segment};
use super::write::{segment_id, segment_of, whole};
use crate::export::{Exported, Selection, constraints, unsayable};

#[derive(Serialize)]
struct File<'f> {
    version: u8,
    features: Vec<&'f Feature>,
    segments: Vec<Segment>,
}

/// Writes flags by name, and the segments that they name.
pub fn file_of(selection: &Selection<'_>) -> Exported {
    let document = selection.document;
    let mut exported = Exported::default();
    let mut features: BTreeMap<&str, Feature> = BTreeMap::new();
    let twice = ids_twice(document);
    for (key, flag) in selection.flags() {
        match flag.and_then(|flag| exact(flag, document, &twice)) {
            Ok(feature) => {
                let description = selection.description(key);
                features.insert(key, Feature { description, ..feature });
            }
            Err(reason) => drop(exported.refused.insert(key.to_owned(), reason)),
        }
    }
    // Only flags without prerequisites are prerequisites there, so that one look is enough.
    for (key, feature) in &features {
        let is_missing = |one: &&super::Dependency| !features.contains_key(one.feature.as_str());
        if let Some(missing) = feature.dependencies.iter().find(is_missing) {
            let reason = format!("needs `{}`, which is not in the file", missing.feature);
            exported.refused.insert((*key).to_owned(), reason);
        }
    }
    features.retain(|key, _| !exported.refused.contains_key(*key));
    let strategies = features.values().flat_map(|feature| &feature.strategies);
    let named: HashSet<i64> = strategies.flat_map(|one| one.segments.iter().copied()).collect();
    let segments =
        document.segments.values().filter(|one| named.contains(&segment_id(one.key.as_str())));
    let file = File {
        version: 2,
        features: features.values().collect(),
        segments: segments.map(segment_of).collect(),
    };
    exported.flags = features.len();
    exported.text = serde_json::to_string_pretty(&file).unwrap_or_default() + "\n";
    exported
}

/// Segments whose numbers are those of others.
fn ids_twice(document: &Document) -> HashSet<&str> {
    let mut seen: HashMap<i64, &str> = HashMap::new();
    let mut twice = HashSet::new();
    for key in document.segments.keys() {
        if let Some(other) = seen.insert(segment_id(key), key) {
            twice.extend([other, key.as_str()]);
        }
    }
    twice
}

/// The flag with all its rules, or what keeps Unleash from deciding the same.
fn exact(flag: &Flag, document: &Document, twice: &HashSet<&str>) -> Result<Feature, String> {
    if let Some(reason) = unsayable(flag, document) {
        return Err(reason);
    }
    values(flag)?;
    for rule in &flag.state.rules {
        let name = rule.title.as_deref().unwrap_or(&rule.id);
        if !rule.percent.thousandths().is_multiple_of(1_000) {
            return Err(format!(
                "rule `{name}` lets in {} %: Unleash counts in whole percents",
                rule.percent
            ));
        }
        if rule.groups.iter().any(|group| group.contains(',')) {
            return Err(format!("rule `{name}` names a group with a comma in it"));
        }
        if let Some(key) = rule.segments.iter().find(|key| twice.contains(key.as_str())) {
            return Err(format!("its segment `{key}` has the number of another one"));
        }
    }
    for one in constraints(flag, document) {
        let is_time = matches!(one.field.as_str(), "current_time" | "currentTime");
        let is_date = matches!(one.operator, Operator::DateAfter | Operator::DateBefore);
        if is_time && !is_date {
            return Err("compares the time otherwise than with a date".to_owned());
        }
    }
    for one in &flag.state.prerequisites {
        let carries = |entry: &FlagEntry| match entry {
            FlagEntry::Known(parent) => {
                parent.value_type != ValueType::Boolean && parent.state.variants.is_empty()
            }
            FlagEntry::Unreadable { .. } => true,
        };
        let parent = document.flags.get(one.flag.as_str());
        if !one.variants.is_empty() && parent.is_some_and(carries) {
            return Err(format!("asks for a variant of `{}`, which has a value instead", one.flag));
        }
    }
    whole(flag, document)
}

/// Unleash knows on, off, and values of variants.
fn values(flag: &Flag) -> Result<(), String> {
    let state = &flag.state;
    let boolean = flag.value_type == ValueType::Boolean;
    let nothing = match flag.value_type {
        ValueType::Boolean => json!(false),
        ValueType::String => json!(""),
        ValueType::Number => json!(0),
        ValueType::Json => json!({}),
    };
    if !state.off_value.is_null() && state.off_value != nothing {
        return Err(format!("gives {} when off, where Unleash gives nothing", state.off_value));
    }
    if boolean && state.on_value == json!(false) {
        return Err("gives false when on".to_owned());
    }
    let wrong = |value: &Value| if boolean { *value == json!(false) } else { value.is_null() };
    let given = |one: &model::Variant| {
        if one.value.is_null() { state.on_value.clone() } else { one.value.clone() }
    };
    let of_rules = state.rules.iter().flat_map(|rule| &rule.variants);
    for one in state.variants.iter().chain(of_rules) {
        if wrong(&given(one)) {
            return Err(format!("its variant `{}` gives {} when on", one.name, given(one)));
        }
    }
    let is_bare = |rules: &[model::Rule]| {
        rules.is_empty() || rules.iter().any(|rule| rule.serve.is_on() && rule.variants.is_empty())
    };
    if !boolean && state.on_value.is_null() && state.variants.is_empty() && is_bare(&state.rules) {
        return Err("has no value when on".to_owned());
    }
    Ok(())
}
