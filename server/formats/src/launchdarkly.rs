//! LaunchDarkly's flag data, as its SDKs get it.

mod clause;
mod decide;

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;
use switchback_core::model::{
    FlagKey, FlagKind, Formula, Operator, Percent, Prerequisite, Stickiness, ValueType,
};

use super::compose::{Draft, Gives, Way, compose, gives, name_of, type_of};
use super::condition::{Condition, Share, test};
use super::{Imported, ImportedFlag, Note, null_as_default};

pub use decide::Source;

/// What all flags and segments of an environment look like.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    #[serde(deserialize_with = "null_as_default")]
    flags: BTreeMap<String, Value>,
    #[serde(rename = "flagValues", deserialize_with = "null_as_default")]
    values: BTreeMap<String, Value>,
    #[serde(deserialize_with = "null_as_default")]
    segments: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Flag {
    on: bool,
    deleted: bool,
    #[serde(deserialize_with = "null_as_default")]
    salt: String,
    #[serde(deserialize_with = "null_as_default")]
    prerequisites: Vec<Needs>,
    #[serde(deserialize_with = "null_as_default")]
    targets: Vec<Target>,
    #[serde(deserialize_with = "null_as_default")]
    context_targets: Vec<Target>,
    #[serde(deserialize_with = "null_as_default")]
    rules: Vec<Rule>,
    fallthrough: Outcome,
    off_variation: Option<usize>,
    #[serde(deserialize_with = "null_as_default")]
    variations: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Needs {
    key: String,
    variation: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Target {
    context_kind: Option<String>,
    #[serde(deserialize_with = "null_as_default")]
    values: Vec<String>,
    variation: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    #[serde(deserialize_with = "null_as_default")]
    id: String,
    description: Option<String>,
    #[serde(deserialize_with = "null_as_default")]
    clauses: Vec<clause::Clause>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    variation: Option<usize>,
    rollout: Option<Rollout>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rollout {
    kind: Option<String>,
    context_kind: Option<String>,
    bucket_by: Option<String>,
    seed: Option<i64>,
    #[serde(deserialize_with = "null_as_default")]
    variations: Vec<Weighted>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Weighted {
    variation: usize,
    weight: f64,
}

/// What an attribute is called here.
pub(crate) fn field(name: &str) -> String {
    super::field_name(name, "key")
}

/// Reads flag data: `{"flags": ..., "segments": ...}`.
pub fn import(text: &str) -> Result<Imported, String> {
    let document: Value = super::parse(text)?;
    let inner = document.get("data").filter(|data| data.get("flags").is_some());
    let document = inner.unwrap_or(&document);
    let is_data = document.get("flags").or_else(|| document.get("flagValues")).is_some();
    if !is_data {
        return Err("has no `flags`; give the flag data of an environment, as SDKs read it".into());
    }
    let data = Data::deserialize(document).map_err(|error| format!("is not flag data: {error}"))?;
    let mut imported = Imported::default();
    let mut needs: BTreeMap<String, Vec<Prerequisite>> = BTreeMap::new();
    for (key, value) in &data.flags {
        if value.get("deleted") == Some(&Value::Bool(true)) {
            continue;
        }
        let mut notes = Vec::new();
        match read(key, value, &data, &mut notes) {
            Ok(flag) => {
                needs.insert(key.clone(), flag.state.prerequisites.clone());
                imported.flags.push(flag);
                imported.notes.append(&mut notes);
            }
            Err(message) => imported.notes.push(super::left_out(key, "", message)),
        }
    }
    for (key, value) in &data.values {
        match constant(key, value) {
            Ok(flag) => imported.flags.push(flag),
            Err(message) => imported.notes.push(super::left_out(key, "", message)),
        }
    }
    super::without_orphans(&mut imported);
    Ok(imported)
}

/// A flag of a file data source that has the same value for everybody.
fn constant(key: &str, value: &Value) -> Result<ImportedFlag, String> {
    let value_type = type_of([value]);
    compose(Draft {
        key: key.to_owned(),
        kind: FlagKind::Release,
        description: String::new(),
        salt: key.to_owned(),
        enabled: *value != Value::Bool(false),
        value_type,
        on_value: value.clone(),
        off_value: value.clone(),
        ways: Vec::new(),
        prerequisites: Vec::new(),
    })
}

fn flag_of(key: &str, value: &Value) -> Result<Flag, String> {
    Flag::deserialize(value).map_err(|error| format!("`{key}` cannot be read: {error}"))
}

fn read(
    key: &str,
    value: &Value,
    data: &Data,
    notes: &mut Vec<Note>,
) -> Result<ImportedFlag, String> {
    let flag = flag_of(key, value)?;
    let value_type = type_of(&flag.variations);
    let off = flag.off_variation.map(|n| variation(&flag, n)).transpose()?;
    if value_type == ValueType::Boolean && off == Some(&Value::Bool(true)) {
        return Err("its off variation is true; off is always false here".to_owned());
    }
    let reader = Reader { key, flag: &flag, value_type };
    let mut ways = Vec::new();
    reader.targets(&mut ways)?;
    for (n, rule) in flag.rules.iter().enumerate() {
        let conditions = rule.clauses.iter().map(|one| clause::condition(one, data, notes, key));
        let when = Condition::All(conditions.collect::<Result<_, _>>()?);
        let id = if rule.id.is_empty() { format!("rule-{}", n + 1) } else { rule.id.clone() };
        reader.outcome(&rule.outcome, &when, (&id, rule.description.clone()), &mut ways)?;
    }
    reader.outcome(&flag.fallthrough, &Condition::Always, ("fallthrough", None), &mut ways)?;
    let mut prerequisites = Vec::new();
    for needs in &flag.prerequisites {
        prerequisites.push(prerequisite(needs, data)?);
    }
    let has_null = flag.variations.iter().any(Value::is_null);
    let fallthrough = flag.fallthrough.variation.and_then(|n| flag.variations.get(n));
    let on_value = fallthrough.or(flag.variations.first()).cloned().unwrap_or(Value::Null);
    compose(Draft {
        key: key.to_owned(),
        kind: FlagKind::Release,
        description: String::new(),
        salt: format!("{key}.{}", flag.salt),
        enabled: flag.on,
        value_type,
        on_value: if has_null { Value::Null } else { on_value },
        off_value: off.cloned().unwrap_or(Value::Null),
        ways,
        prerequisites,
    })
}

fn variation(flag: &Flag, n: usize) -> Result<&Value, String> {
    flag.variations.get(n).ok_or_else(|| format!("names variation {n}, which is not there"))
}

/// The names of a flag's variations, each once.
fn names(variations: &[Value]) -> Vec<String> {
    let mut taken = HashSet::new();
    let name = |(n, value)| {
        let name = name_of(value, n);
        if taken.insert(name.clone()) { name } else { format!("variation-{n}") }
    };
    variations.iter().enumerate().map(name).collect()
}

/// The other flag must be on and give a variation; its being off does not count.
fn prerequisite(needs: &Needs, data: &Data) -> Result<Prerequisite, String> {
    let key = needs.key.as_str();
    let flag = FlagKey::try_from(key).map_err(|error| error.to_string())?;
    let value = data.flags.get(key).ok_or_else(|| format!("needs `{key}`, which is not there"))?;
    let parent = flag_of(key, value)?;
    match (type_of(&parent.variations), variation(&parent, needs.variation)?) {
        (ValueType::Boolean, Value::Bool(true)) => {
            Ok(Prerequisite { flag, enabled: true, variants: Vec::new() })
        }
        (ValueType::Boolean, _) => {
            Err(format!("needs `{key}` to be on and to give false, which has no counterpart"))
        }
        _ => {
            let name = names(&parent.variations).get(needs.variation).cloned();
            Ok(Prerequisite { flag, enabled: true, variants: name.into_iter().collect() })
        }
    }
}

struct Reader<'d> {
    key: &'d str,
    flag: &'d Flag,
    value_type: ValueType,
}

impl Reader<'_> {
    fn gives(&self, n: usize) -> Result<Gives, String> {
        let value = variation(self.flag, n)?;
        let names = names(&self.flag.variations);
        Ok(gives(self.value_type, names.get(n).map_or("", String::as_str), value))
    }

    /// Users who are named one by one come before every rule.
    fn targets(&self, ways: &mut Vec<Way>) -> Result<(), String> {
        let flag = self.flag;
        let mut push = |values: &[String], n: usize| {
            let mut known = Vec::new();
            for value in values {
                known.push(super::condition::plain(value)?);
            }
            let when = test("user_id", Operator::In, known);
            if !values.is_empty() {
                let id = format!("target-{n}");
                ways.push(Way { id, title: None, when, share: None, gives: self.gives(n)? });
            }
            Ok::<(), String>(())
        };
        if flag.context_targets.is_empty() {
            for target in &flag.targets {
                push(&target.values, target.variation)?;
            }
            return Ok(());
        }
        for target in &flag.context_targets {
            is_user(target.context_kind.as_deref())?;
            if target.values.is_empty() {
                for one in flag.targets.iter().filter(|one| one.variation == target.variation) {
                    push(&one.values, one.variation)?;
                }
            } else {
                push(&target.values, target.variation)?;
            }
        }
        Ok(())
    }

    fn outcome(
        &self,
        outcome: &Outcome,
        when: &Condition,
        (id, title): (&str, Option<String>),
        ways: &mut Vec<Way>,
    ) -> Result<(), String> {
        let way = |share, gives| Way {
            id: id.to_owned(),
            title: title.clone(),
            when: when.clone(),
            share,
            gives,
        };
        match (outcome.variation, &outcome.rollout) {
            (Some(n), _) => ways.push(way(None, self.gives(n)?)),
            (None, Some(rollout)) => {
                let (salt, unit) = hashed(self.key, &self.flag.salt, rollout)?;
                let all = Percent::ALL.thousandths();
                let mut start: u32 = 0;
                let Some(last) = rollout.variations.len().checked_sub(1) else {
                    return Err("rolls out to no variation".to_owned());
                };
                for (n, one) in rollout.variations.iter().enumerate() {
                    let weight = whole_weight(one.weight)?;
                    let end = start.saturating_add(weight).min(all);
                    // Whoever is beyond the weights gets the last one.
                    let end = if n == last { all } else { end };
                    let (salt, unit) = (salt.clone(), unit.clone());
                    let formula = Formula::LaunchDarkly;
                    let share = Share { formula, salt, unit, start, end };
                    if start < end {
                        let share = (!share.is_everybody()).then_some(share);
                        ways.push(way(share, self.gives(one.variation)?));
                    }
                    start = end;
                }
            }
            (None, None) => return Err("has a rule without an outcome".to_owned()),
        }
        Ok(())
    }
}

/// What a rollout hashes, and which field of the context.
fn hashed(key: &str, salt: &str, rollout: &Rollout) -> Result<(String, Stickiness), String> {
    is_user(rollout.context_kind.as_deref())?;
    let salt = rollout.seed.map_or_else(|| format!("{key}.{salt}"), |seed| seed.to_string());
    let is_experiment = rollout.kind.as_deref() == Some("experiment");
    let by = rollout.bucket_by.as_deref().filter(|by| !by.is_empty() && !is_experiment);
    let by = attribute(by.unwrap_or("key"), rollout.context_kind.is_some())?;
    Ok((salt, Stickiness::Field(field(&by))))
}

fn whole_weight(weight: f64) -> Result<u32, String> {
    let is_whole = (0.0..=100_000.0).contains(&weight) && weight.fract() == 0.0;
    if is_whole { Ok(weight as u32) } else { Err(format!("has the weight {weight}")) }
}

/// Only users: a context of ours is about one person.
fn is_user(kind: Option<&str>) -> Result<(), String> {
    match kind {
        None | Some("user" | "") => Ok(()),
        Some(kind) => Err(format!("is about contexts of the kind `{kind}`, not users")),
    }
}

/// An attribute's name; with a context kind it may be a path.
fn attribute(name: &str, may_be_path: bool) -> Result<String, String> {
    let name = if may_be_path { name.strip_prefix('/').unwrap_or(name) } else { name };
    match name {
        "" => Err("names no attribute".to_owned()),
        "kind" => Err("asks for the context's kind".to_owned()),
        nested if may_be_path && nested.contains(['/', '~']) => {
            Err(format!("asks for `{nested}` inside another attribute"))
        }
        name => Ok(name.to_owned()),
    }
}
