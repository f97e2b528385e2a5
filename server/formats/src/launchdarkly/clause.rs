//! Clauses and segments as conditions.

use serde::Deserialize;
use serde_json::Value;
use switchback_core::model::{Formula, Operator, Stickiness};

use super::{Data, Target, attribute, field, is_user, null_as_default, whole_weight};
use crate::condition::{Condition, Share, is_set, not, plain, test};
use crate::flagd::full_version;
use crate::{Note, Weight, number_text};

/// Segments that name segments: deeper is refused.
const DEPTH_MAX: usize = 16;
/// Segments that one clause may lead to.
const VISITS_MAX: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Clause {
    pub(super) context_kind: Option<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) attribute: String,
    pub(super) op: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) values: Vec<Value>,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) negate: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Segment {
    #[serde(deserialize_with = "null_as_default")]
    included: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    excluded: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    included_contexts: Vec<Target>,
    #[serde(deserialize_with = "null_as_default")]
    excluded_contexts: Vec<Target>,
    #[serde(deserialize_with = "null_as_default")]
    rules: Vec<SegmentRule>,
    #[serde(deserialize_with = "null_as_default")]
    salt: String,
    #[serde(deserialize_with = "null_as_default")]
    unbounded: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SegmentRule {
    #[serde(deserialize_with = "null_as_default")]
    clauses: Vec<Clause>,
    weight: Option<f64>,
    bucket_by: Option<String>,
    rollout_context_kind: Option<String>,
}

/// Where a clause holds.
pub(super) fn condition(
    clause: &Clause,
    data: &Data,
    notes: &mut Vec<Note>,
    about: &str,
) -> Result<Condition, String> {
    Reader { data, notes, about, visits: 0 }.clause(clause, 0)
}

struct Reader<'r> {
    data: &'r Data,
    notes: &'r mut Vec<Note>,
    about: &'r str,
    visits: usize,
}

impl Reader<'_> {
    fn clause(&mut self, clause: &Clause, depth: usize) -> Result<Condition, String> {
        if clause.op == "segmentMatch" {
            let keys = clause.values.iter().filter_map(Value::as_str);
            let known: Vec<&str> =
                keys.filter(|key| self.data.segments.contains_key(*key)).collect();
            let mut found = Vec::new();
            for key in known {
                found.push(self.segment(key, depth + 1)?);
            }
            let any = Condition::Any(found);
            return Ok(if clause.negate { not(any) } else { any });
        }
        is_user(clause.context_kind.as_deref())?;
        let name = attribute(&clause.attribute, clause.context_kind.is_some())?;
        let field = field(&name);
        let any = self.comparison(clause, &field, &name)?;
        if !clause.negate {
            return Ok(any);
        }
        // A missing attribute fails the clause, negated or not; a user always has a key.
        let opposite = not(any);
        let has = if field == "user_id" { Condition::Always } else { is_set(&field) };
        Ok(Condition::All(vec![has, opposite]))
    }

    fn comparison(
        &mut self,
        clause: &Clause,
        field: &str,
        name: &str,
    ) -> Result<Condition, String> {
        let texts = || clause.values.iter().filter_map(Value::as_str);
        let plain_texts = || texts().map(plain).collect::<Result<Vec<_>, _>>();
        let each = |values: Vec<String>, operator| {
            Condition::Any(values.into_iter().map(|value| test(field, operator, [value])).collect())
        };
        let all = |values: Vec<String>, operator| {
            if values.is_empty() { Condition::Never } else { test(field, operator, values) }
        };
        let numbers = || clause.values.iter().filter_map(Value::as_number).map(number_text);
        let is_number = clause.values.iter().all(Value::is_number);
        Ok(match clause.op.as_str() {
            "in" if is_number => each(numbers().collect(), Operator::NumEq),
            "in" => {
                let mut values = Vec::new();
                for value in &clause.values {
                    match value {
                        Value::String(text) => values.push(plain(text)?),
                        Value::Number(number) => values.push(number_text(number)),
                        Value::Bool(value) => values.push(value.to_string()),
                        Value::Null => {}
                        _ => return Err(format!("compares `{name}` with a list or an object")),
                    }
                }
                all(values, Operator::In)
            }
            "startsWith" => all(plain_texts()?, Operator::StrStartsWith),
            "endsWith" => all(plain_texts()?, Operator::StrEndsWith),
            "contains" => all(plain_texts()?, Operator::StrContains),
            "matches" => each(texts().map(str::to_owned).collect(), Operator::Regex),
            "lessThan" => each(numbers().collect(), Operator::NumLt),
            "lessThanOrEqual" => each(numbers().collect(), Operator::NumLte),
            "greaterThan" => each(numbers().collect(), Operator::NumGt),
            "greaterThanOrEqual" => each(numbers().collect(), Operator::NumGte),
            "semVerEqual" | "semVerGreaterThan" | "semVerLessThan" => {
                self.note(format!(
                    "compares the version in `{name}`: here it must have all three numbers (in `app_version`, `2.1` will do)"
                ));
                let operator = match clause.op.as_str() {
                    "semVerEqual" => Operator::SemverEq,
                    "semVerLessThan" => Operator::SemverLt,
                    _ => Operator::SemverGt,
                };
                let is_ours = |text: &&str| !text.starts_with(['v', 'V']);
                let versions = texts().filter(is_ours).filter_map(full_version);
                each(versions.collect(), operator)
            }
            "before" | "after" => {
                return Err(format!(
                    "compares the date in `{name}`; dates are compared with the time only"
                ));
            }
            other => return Err(format!("uses `{other}`, which has no counterpart")),
        })
    }

    fn segment(&mut self, key: &str, depth: usize) -> Result<Condition, String> {
        self.visits += 1;
        if depth > DEPTH_MAX || self.visits > VISITS_MAX {
            return Err(format!("segment `{key}` depends on itself, or on too many others"));
        }
        let value = self.data.segments.get(key).unwrap_or(&Value::Null);
        let segment = Segment::deserialize(value)
            .map_err(|error| format!("segment `{key}` cannot be read: {error}"))?;
        if segment.unbounded {
            return Err(format!("segment `{key}` is kept in LaunchDarkly only"));
        }
        let included = users(&segment.included, &segment.included_contexts)?;
        let excluded = users(&segment.excluded, &segment.excluded_contexts)?;
        let mut rules = Vec::new();
        for rule in &segment.rules {
            let mut all = Vec::new();
            for clause in &rule.clauses {
                all.push(self.clause(clause, depth)?);
            }
            if let Some(weight) = rule.weight.filter(|weight| *weight >= 0.0) {
                is_user(rule.rollout_context_kind.as_deref())?;
                let by = rule.bucket_by.as_deref().filter(|by| !by.is_empty()).unwrap_or("key");
                let by = attribute(by, rule.rollout_context_kind.is_some())?;
                all.push(Condition::Share(Share {
                    formula: Formula::LaunchDarkly,
                    salt: format!("{key}.{}", segment.salt),
                    unit: Stickiness::Field(field(&by)),
                    start: 0,
                    end: whole_weight(weight)?,
                }));
            }
            rules.push(Condition::All(all));
        }
        let rules = Condition::Any(rules);
        Ok(Condition::Any(vec![included, Condition::All(vec![not(excluded), rules])]))
    }

    fn note(&mut self, message: String) {
        let about = self.about.to_owned();
        let note = Note { weight: Weight::Differs, about, path: "rules".to_owned(), message };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

fn users(keys: &[String], contexts: &[Target]) -> Result<Condition, String> {
    let mut known = Vec::new();
    for target in contexts {
        is_user(target.context_kind.as_deref())?;
    }
    for key in contexts.iter().flat_map(|target| &target.values).chain(keys) {
        known.push(plain(key)?);
    }
    Ok(if known.is_empty() { Condition::Never } else { test("user_id", Operator::In, known) })
}
