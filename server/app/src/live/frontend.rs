//! A snapshot as Unleash's front ends take it: each outcome of each flag written once, an answer put together from those.

use std::hash::{BuildHasher as _, Hasher as _};

use serde_json::{Value, json};
use switchback_core::model::{Document, Flag, FlagEntry, ValueType};
use switchback_core::{Context, Evaluation, Ruleset};
use switchback_formats::unleash::payload_of;

use super::feed::Snapshot;

/// Room for one flag of an answer, in bytes, so that an answer rarely grows.
const FLAG_BYTES: usize = 176;

/// Every flag's outcomes as they are sent; by place in the ruleset, then by [`Evaluation::outcome`]. `None`: variants of one
/// name have different values, so the outcome alone does not tell.
#[derive(Debug)]
pub struct Front {
    outcomes: Vec<Vec<Option<Box<[u8]>>>>,
    value_types: Vec<ValueType>,
}

/// An answer, decided but not written yet.
pub struct Decided<'s> {
    snapshot: &'s Snapshot,
    also_off: bool,
    evaluations: Vec<(&'s str, Evaluation<'s>)>,
    /// Tells answers apart.
    pub digest: u64,
}

impl Front {
    pub(super) fn new(document: &Document, ruleset: &Ruleset) -> Self {
        let mut front = Self { outcomes: Vec::new(), value_types: Vec::new() };
        for (place, entry) in document.flags.values().enumerate() {
            let FlagEntry::Known(flag) = entry else {
                front.outcomes.push(Vec::new());
                front.value_types.push(ValueType::Boolean);
                continue;
            };
            let names =
                ruleset.nth(place).into_iter().flat_map(|index| ruleset.variant_names(index));
            let on = or_true(&flag.state.on_value, flag.value_type);
            let mut outcomes = vec![
                Some(write(flag, false, None, &Value::Null)),
                Some(write(flag, true, None, &on)),
            ];
            outcomes.extend(names.map(|name| {
                let value = value_of(flag, name, &on)?;
                Some(write(flag, true, Some(name), &value))
            }));
            front.outcomes.push(outcomes);
            front.value_types.push(flag.value_type);
        }
        front
    }
}

fn or_true(value: &Value, value_type: ValueType) -> Value {
    match (value, value_type) {
        (Value::Null, ValueType::Boolean) => Value::Bool(true),
        _ => value.clone(),
    }
}

/// The value of all variants of a name, if they agree.
fn value_of(flag: &Flag, name: &str, on: &Value) -> Option<Value> {
    let lists = flag.state.rules.iter().map(|rule| &rule.variants);
    let mut values = lists
        .chain([&flag.state.variants])
        .flatten()
        .filter(|variant| variant.name == name)
        .map(|variant| if variant.value.is_null() { on } else { &variant.value });
    let first = values.next()?;
    values.all(|value| value == first).then(|| first.clone())
}

fn write(flag: &Flag, enabled: bool, variant: Option<&str>, value: &Value) -> Box<[u8]> {
    written(flag.key.as_str(), flag.state.impressions, flag.value_type, (enabled, variant, value))
}

fn written(
    key: &str,
    impressions: bool,
    value_type: ValueType,
    (enabled, variant, value): (bool, Option<&str>, &Value),
) -> Box<[u8]> {
    let payload = enabled.then(|| payload_of(value, value_type)).flatten();
    let name = match (variant, &payload) {
        (Some(name), _) => Some(name),
        (None, Some(_)) => Some("on"), // a value without variants: as the SDKs for servers are told
        (None, None) => None,
    };
    let mut chosen = json!({
        "name": name.unwrap_or("disabled"), "enabled": name.is_some(),
        "feature_enabled": enabled, "featureEnabled": enabled,
    });
    if let (Some(payload), Some(chosen)) = (payload, chosen.as_object_mut()) {
        chosen.insert("payload".to_owned(), json!(payload));
    }
    let told = json!({
        "name": key, "enabled": enabled, "impressionData": impressions,
        "impression_data": impressions, "variant": chosen,
    });
    told.to_string().into_bytes().into()
}

impl Snapshot {
    /// Decides all flags for a context.
    pub fn decide_front(&self, context: &Context<'_>, also_off: bool) -> Decided<'_> {
        let front = self.front();
        let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
        hasher.write(self.unleash_place().to_string().as_bytes());
        hasher.write_u8(u8::from(also_off));
        let mut evaluations = Vec::with_capacity(self.document.flags.len());
        self.ruleset.evaluate_all(context, |key, evaluation| {
            let outcome = evaluation.outcome();
            let known = front.outcomes.get(evaluations.len()).and_then(|all| all.get(outcome));
            hasher.write_usize(outcome);
            if !matches!(known, Some(Some(_))) {
                hasher.write(evaluation.value.to_string().as_bytes());
            }
            evaluations.push((key, evaluation));
        });
        Decided { snapshot: self, also_off, evaluations, digest: hasher.finish() }
    }

    /// One flag's outcome for a context; `None`: there is no such flag.
    pub fn front_flag(&self, key: &str, context: &Context<'_>) -> Option<Vec<u8>> {
        let flag = self.ruleset.index_of(key)?;
        let evaluation = self.ruleset.evaluate_index(flag, context, context.moment());
        let mut body = Vec::with_capacity(FLAG_BYTES);
        self.put_flag(&mut body, flag.get(), key, evaluation);
        Some(body)
    }

    fn put_flag(&self, body: &mut Vec<u8>, place: usize, key: &str, evaluation: Evaluation<'_>) {
        let front = self.front();
        let outcomes = front.outcomes.get(place);
        if let Some(Some(bytes)) = outcomes.and_then(|all| all.get(evaluation.outcome())) {
            body.extend_from_slice(bytes);
            return;
        }
        let value_type = front.value_types.get(place).copied().unwrap_or_default();
        let index = self.ruleset.nth(place);
        let impressions = index.is_some_and(|index| self.ruleset.wants_impressions(index));
        let Evaluation { enabled, variant, value, .. } = evaluation;
        body.extend_from_slice(&written(key, impressions, value_type, (enabled, variant, value)));
    }
}

impl Decided<'_> {
    /// The answer's body.
    pub fn write(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.evaluations.len() * FLAG_BYTES + 32);
        body.extend_from_slice(b"{\"toggles\":[");
        let empty = body.len();
        for (place, (key, evaluation)) in self.evaluations.iter().enumerate() {
            if evaluation.enabled || self.also_off {
                if body.len() > empty {
                    body.push(b',');
                }
                self.snapshot.put_flag(&mut body, place, key, *evaluation);
            }
        }
        body.extend_from_slice(b"]}");
        body
    }
}
