//! GrowthBook's SDK payload.

mod condition;
mod decide;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};
use switchback_core::model::{FlagKind, Formula, Operator, Stickiness, ValueType};

use super::compose::{Draft, Gives, Way, compose, gives, name_of, type_of};
use super::condition::{Condition, Share, is_set, test};
use super::{Imported, ImportedFlag, Note, Weight, null_as_default};

pub use decide::Source;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Feature {
    #[serde(deserialize_with = "null_as_default")]
    default_value: Value,
    #[serde(deserialize_with = "null_as_default")]
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    id: Option<String>,
    key: Option<String>,
    name: Option<String>,
    condition: Option<Value>,
    parent_conditions: Option<Vec<Value>>,
    #[serde(deserialize_with = "present")]
    force: Option<Value>,
    variations: Option<Vec<Value>>,
    weights: Option<Vec<f64>>,
    coverage: Option<f64>,
    range: Option<(f64, f64)>,
    ranges: Option<Vec<(f64, f64)>>,
    seed: Option<String>,
    hash_attribute: Option<String>,
    hash_version: Option<i64>,
    fallback_attribute: Option<String>,
    namespace: Option<(String, f64, f64)>,
    filters: Option<Vec<Filter>>,
    meta: Option<Vec<Meta>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    attribute: Option<String>,
    seed: String,
    hash_version: Option<i64>,
    ranges: Vec<(f64, f64)>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    key: Option<String>,
    name: Option<String>,
    #[serde(deserialize_with = "null_as_default")]
    passthrough: bool,
}

/// `null` is a value to force; only what is absent is none.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Reads a payload: `{"features": ...}`.
pub fn import(text: &str) -> Result<Imported, String> {
    let document: Value = super::parse(text)?;
    let features = document.get("features").and_then(Value::as_object);
    if features.is_none_or(Map::is_empty) && document.get("encryptedFeatures").is_some() {
        return Err("is encrypted; give the payload of an SDK connection without encryption".into());
    }
    let features = features.ok_or("has no `features`; give the answer of /api/features/<key>")?;
    let groups = document.get("savedGroups").and_then(Value::as_object).cloned();
    let file = File { groups: groups.unwrap_or_default(), primary: primary(features) };
    let mut imported = Imported::default();
    for (key, value) in features {
        let mut notes = Vec::new();
        match file.read(key, value, &mut notes) {
            Ok(flag) => {
                imported.flags.push(flag);
                imported.notes.append(&mut notes);
            }
            Err(message) => imported.notes.push(super::left_out(key, "", message)),
        }
    }
    Ok(imported)
}

/// The attribute that is our user id: `id` where it is used, else what is called so.
fn primary(features: &Map<String, Value>) -> String {
    let mut names = BTreeSet::new();
    for rule in features.values().filter_map(|feature| feature.get("rules")?.as_array()).flatten() {
        let by = rule.get("hashAttribute").and_then(Value::as_str).filter(|by| !by.is_empty());
        let hashes = rule.get("variations").is_some() || rule.get("coverage").is_some();
        if by.is_some() || hashes {
            names.insert(by.unwrap_or("id"));
        }
        collect(rule.get("condition").unwrap_or(&Value::Null), &mut names);
    }
    let known = ["id", "userId", "user_id"].into_iter().find(|name| names.contains(name));
    known.unwrap_or("id").to_owned()
}

fn collect<'v>(condition: &'v Value, names: &mut BTreeSet<&'v str>) {
    match condition {
        Value::Object(object) => {
            for (name, inner) in object {
                if !name.starts_with('$') {
                    names.insert(name);
                }
                collect(inner, names);
            }
        }
        Value::Array(list) => list.iter().for_each(|one| collect(one, names)),
        _ => {}
    }
}

struct File {
    groups: Map<String, Value>,
    primary: String,
}

/// One feature while it is read.
struct Reader<'f> {
    file: &'f File,
    key: &'f str,
    value_type: ValueType,
    names: Vec<Value>,
    default: Value,
    notes: &'f mut Vec<Note>,
}

impl File {
    fn field(&self, name: &str) -> String {
        super::field_name(name, &self.primary)
    }

    fn read(
        &self,
        key: &str,
        value: &Value,
        notes: &mut Vec<Note>,
    ) -> Result<ImportedFlag, String> {
        let feature = Feature::deserialize(value).map_err(|e| format!("cannot be read: {e}"))?;
        let mut values = vec![feature.default_value.clone()];
        for rule in &feature.rules {
            values.extend(rule.force.clone());
            values.extend(rule.variations.iter().flatten().cloned());
        }
        let value_type = type_of(&values);
        values.dedup();
        let default = feature.default_value.clone();
        let has_null = values.iter().any(Value::is_null);
        let mut reader =
            Reader { file: self, key, value_type, names: values, default: default.clone(), notes };
        let ways = reader.rules(&feature.rules)?;
        let is_experiment = feature.rules.iter().any(|rule| rule.variations.is_some());
        let is_off = feature.rules.is_empty() && default == Value::Bool(false);
        compose(Draft {
            key: key.to_owned(),
            kind: if is_experiment { FlagKind::Experiment } else { FlagKind::Release },
            description: String::new(),
            salt: key.to_owned(),
            enabled: !is_off,
            value_type,
            on_value: if has_null { Value::Null } else { default.clone() },
            off_value: default.clone(),
            ways: if is_off { Vec::new() } else { reader.with_default(ways) },
            prerequisites: Vec::new(),
        })
    }
}

impl Reader<'_> {
    fn with_default(&self, mut ways: Vec<Way>) -> Vec<Way> {
        ways.push(self.otherwise(None));
        ways
    }

    /// Whoever no rule is for gets the default.
    fn otherwise(&self, share: Option<Share>) -> Way {
        let gives = self.gives(&self.default, None);
        Way { id: "default".to_owned(), title: None, when: Condition::Always, share, gives }
    }

    fn gives(&self, value: &Value, name: Option<&str>) -> Gives {
        let place = self.names.iter().position(|known| known == value).unwrap_or_default();
        let name = name.map_or_else(|| name_of(value, place), str::to_owned);
        gives(self.value_type, &name, value)
    }

    fn note(&mut self, weight: Weight, path: &str, message: impl Into<String>) {
        let (about, path) = (self.key.to_owned(), path.to_owned());
        let note = Note { weight, about, path, message: message.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Rules in order. One behind a second hash needs everything after it to be without a hash: see `gated`.
    fn rules(&mut self, rules: &[Rule]) -> Result<Vec<Way>, String> {
        let mut ways = Vec::new();
        for (n, rule) in rules.iter().enumerate() {
            let path = format!("rules[{n}]");
            if rule.parent_conditions.as_ref().is_some_and(|list| !list.is_empty()) {
                return Err("has a rule with prerequisite features".to_owned());
            }
            if rule.fallback_attribute.is_some() {
                let message = "has a fallback attribute, which counts in apps with sticky buckets only; here nothing is sticky";
                self.note(Weight::Differs, &path, message);
            }
            let when = match &rule.condition {
                Some(condition) => self.condition(condition)?,
                None => Condition::Always,
            };
            let own = self.outcomes(rule, n, &when)?;
            let gates = self.gates(rule)?;
            match gates.as_slice() {
                [] => ways.extend(own),
                [gate] if own.iter().all(|way| way.share.is_none()) => {
                    for share in gate {
                        ways.extend(
                            own.iter().map(|way| Way { share: Some(share.clone()), ..way.clone() }),
                        );
                    }
                }
                [gate] => {
                    let rest = self.rules(rules.get(n + 1..).unwrap_or_default())?;
                    ways.extend(self.gated(own, gate, rest)?);
                    return Ok(ways);
                }
                _ => return Err("has a rule with several filters".to_owned()),
            }
        }
        Ok(ways)
    }

    /// Namespace and filters, each as the ranges that let in; those that let everybody in are left away.
    fn gates(&self, rule: &Rule) -> Result<Vec<Vec<Share>>, String> {
        let own = rule.hash_attribute.as_deref().filter(|by| !by.is_empty()).unwrap_or("id");
        let mut gates = Vec::new();
        if let Some(filters) = &rule.filters {
            for filter in filters {
                let by = filter.attribute.as_deref().filter(|by| !by.is_empty()).unwrap_or(own);
                let formula = formula(Some(filter.hash_version.unwrap_or(2)));
                let Some(formula) = formula else { return Err(unknown_version()) };
                gates.push(self.ranges(&filter.ranges, formula, &filter.seed, by));
            }
        } else if let Some((name, from, to)) = &rule.namespace
            && rule.variations.is_some()
        {
            let seed = format!("__{name}");
            gates.push(self.ranges(&[(*from, *to)], Formula::GrowthBookV1, &seed, own));
        }
        Ok(gates)
    }

    fn ranges(&self, ranges: &[(f64, f64)], formula: Formula, seed: &str, by: &str) -> Vec<Share> {
        let inside = |n: f64| ranges.iter().any(|(from, to)| n >= *from && n < *to);
        self.shares(formula, seed, by, |n| inside(n).then_some(0))
            .into_iter()
            .map(|(s, _)| s)
            .collect()
    }

    /// Every bucket is asked what it gets, as the SDK would: neighbours with the same answer are a range.
    fn shares(
        &self,
        formula: Formula,
        seed: &str,
        by: &str,
        pick: impl Fn(f64) -> Option<usize>,
    ) -> Vec<(Share, usize)> {
        let whole: u32 = if formula == Formula::GrowthBookV1 { 1_000 } else { 10_000 };
        let step = 100_000 / whole;
        let unit = Stickiness::Field(self.file.field(by));
        let mut found: Vec<(Share, usize)> = Vec::new();
        for bucket in 0..whole {
            let Some(picked) = pick(f64::from(bucket) / f64::from(whole)) else { continue };
            let start = bucket * step;
            match found.last_mut() {
                Some((last, what)) if *what == picked && last.end == start => last.end += step,
                _ => {
                    let (salt, unit, end) = (seed.to_owned(), unit.clone(), start + step);
                    found.push((Share { formula, salt, unit, start, end }, picked));
                }
            }
        }
        found
    }

    /// A rule behind a second hash: whoever is outside goes on to what comes after, which is said for each range
    /// outside. A range has one hash, so nothing that comes after may have one.
    fn gated(&self, own: Vec<Way>, gate: &[Share], rest: Vec<Way>) -> Result<Vec<Way>, String> {
        if rest.iter().any(|way| way.share.is_some()) {
            return Err("has a namespace or filter before another rule that splits users".into());
        }
        let Some(model) = gate.first() else { return Ok(rest) };
        let mut outside = Vec::new();
        let mut at = 0;
        for share in gate {
            outside.push(Share { start: at, end: share.start, ..share.clone() });
            at = share.end;
        }
        outside.push(Share { start: at, end: 100_000, ..model.clone() });
        let mut ways = Vec::new();
        for share in outside.into_iter().filter(|share| share.start < share.end) {
            let share = Some(share);
            ways.extend(rest.iter().map(|way| Way { share: share.clone(), ..way.clone() }));
            ways.push(self.otherwise(share));
        }
        // Who lacks what the gate hashes is outside too.
        let Stickiness::Field(by) = &model.unit else { return Ok(rest) };
        let inside = has_unit(by);
        ways.extend(own.into_iter().map(|way| {
            let when = Condition::All(vec![way.when.clone(), inside.clone()]);
            Way { when, ..way }
        }));
        ways.extend(rest);
        Ok(ways)
    }

    fn outcomes(&self, rule: &Rule, n: usize, when: &Condition) -> Result<Vec<Way>, String> {
        let by = rule.hash_attribute.as_deref().filter(|by| !by.is_empty()).unwrap_or("id");
        let id = rule.id.clone().filter(|id| !id.is_empty());
        let id = id.or_else(|| rule.key.clone()).unwrap_or_else(|| format!("rule-{}", n + 1));
        let has_unit = |share: Share, gives: Gives| {
            let (when, share) = if share.is_everybody() {
                (Condition::All(vec![when.clone(), has_unit(&self.file.field(by))]), None)
            } else {
                (when.clone(), Some(share))
            };
            Way { id: id.clone(), title: rule.name.clone(), when, share, gives }
        };
        let Some(version) = formula(rule.hash_version) else { return Err(unknown_version()) };
        if let Some(value) = &rule.force {
            let gives = self.gives(value, None);
            if rule.range.is_none() && rule.coverage.is_none() {
                let title = rule.name.clone();
                return Ok(vec![Way { id, title, when: when.clone(), share: None, gives }]);
            }
            let seed = rule.seed.clone().filter(|seed| !seed.is_empty());
            let seed = seed.unwrap_or_else(|| self.key.to_owned());
            let pick = |n: f64| match (rule.range, rule.coverage) {
                (Some((from, to)), _) => (n >= from && n < to).then_some(0),
                (None, Some(coverage)) => (n <= coverage).then_some(0),
                (None, None) => Some(0),
            };
            // A coverage of 0 lets nobody in, though the first bucket is 0.
            if rule.range.is_none() && rule.coverage == Some(0.0) {
                return Ok(Vec::new());
            }
            let shares = self.shares(version, &seed, by, pick);
            return Ok(shares.into_iter().map(|(s, _)| has_unit(s, gives.clone())).collect());
        }
        let Some(variations) = rule.variations.as_ref().filter(|list| list.len() > 1) else {
            return Ok(Vec::new());
        };
        let seed = [&rule.seed, &rule.key].into_iter().flatten().find(|seed| !seed.is_empty());
        let seed = seed.cloned().unwrap_or_else(|| self.key.to_owned());
        let ranges = rule.ranges.clone().filter(|ranges| !ranges.is_empty());
        let ranges = ranges.unwrap_or_else(|| {
            bucket_ranges(variations.len(), rule.coverage.unwrap_or(1.0), rule.weights.as_deref())
        });
        let meta = |n: usize| rule.meta.as_ref().and_then(|meta| meta.get(n));
        let pick = |n: f64| ranges.iter().position(|(from, to)| n >= *from && n < *to);
        let mut ways = Vec::new();
        for (share, picked) in self.shares(version, &seed, by, pick) {
            let Some(value) = variations.get(picked) else {
                return Err("has a range without a variation".to_owned());
            };
            if meta(picked).is_some_and(|meta| meta.passthrough) {
                continue;
            }
            let name = meta(picked).and_then(|meta| meta.name.as_deref().or(meta.key.as_deref()));
            ways.push(has_unit(share, self.gives(value, name.filter(|name| !name.is_empty()))));
        }
        Ok(ways)
    }
}

fn unknown_version() -> String {
    "has a rule with an unknown hash version".to_owned()
}

fn formula(version: Option<i64>) -> Option<Formula> {
    match version {
        None | Some(0 | 1) => Some(Formula::GrowthBookV1),
        Some(2) => Some(Formula::GrowthBookV2),
        Some(_) => None,
    }
}

/// An empty text is no unit.
fn has_unit(field: &str) -> Condition {
    match field {
        "user_id" | "session_id" => is_set(field),
        field => test(field, Operator::Regex, ["(?s)."]),
    }
}

/// Where each variation begins and ends; weights that do not add up are equal ones.
fn bucket_ranges(variations: usize, coverage: f64, weights: Option<&[f64]>) -> Vec<(f64, f64)> {
    let coverage = coverage.clamp(0.0, 1.0);
    let total: f64 = weights.unwrap_or_default().iter().sum();
    let given = weights.filter(|weights| weights.len() == variations);
    let given = given.filter(|_| (0.99..=1.01).contains(&total));
    let equal = vec![1.0 / variations as f64; variations];
    let mut start = 0.0;
    let range = |weight: &f64| {
        let from = start;
        start += weight;
        (from, from + coverage * weight)
    };
    given.unwrap_or(&equal).iter().map(range).collect()
}
