//! Flagsmith's environment document, which its SDKs evaluate locally.

mod decide;
mod segment;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use switchback_core::model::{
    FlagKey, FlagKind, Formula, Operator, Percent, Stickiness, ValueType,
};

use super::compose::{Draft, Gives, Way, compose, name_of, type_of};
use super::condition::{Condition, Share, plain, test};
use super::{Imported, ImportedFlag, Note, Weight, null_as_default};

pub use decide::Source;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Environment {
    api_key: String,
    #[serde(deserialize_with = "null_as_default")]
    feature_states: Vec<State>,
    #[serde(deserialize_with = "null_as_default")]
    identity_overrides: Vec<Identity>,
    #[serde(deserialize_with = "null_as_default")]
    project: Project,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Project {
    #[serde(deserialize_with = "null_as_default")]
    segments: Vec<Segment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Segment {
    id: i64,
    #[serde(deserialize_with = "null_as_default")]
    name: String,
    #[serde(deserialize_with = "null_as_default")]
    rules: Vec<segment::Rule>,
    #[serde(deserialize_with = "null_as_default")]
    feature_states: Vec<State>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Identity {
    identifier: String,
    #[serde(deserialize_with = "null_as_default")]
    identity_features: Vec<State>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    feature: Feature,
    enabled: bool,
    django_id: Option<i64>,
    #[serde(deserialize_with = "null_as_default")]
    featurestate_uuid: String,
    #[serde(deserialize_with = "null_as_default")]
    feature_state_value: Value,
    feature_segment: Option<Priority>,
    #[serde(deserialize_with = "null_as_default")]
    multivariate_feature_state_values: Vec<Multi>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Feature {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Priority {
    priority: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Multi {
    id: Option<i64>,
    percentage_allocation: f64,
    mv_fs_value_uuid: Option<String>,
    #[serde(rename = "multivariate_feature_option")]
    option: Choice,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    #[serde(deserialize_with = "null_as_default")]
    value: Value,
}

/// What a trait is called here.
pub(crate) fn field(name: &str) -> String {
    super::field_name(name, "$.identity.identifier")
}

/// Reads an environment document.
pub fn import(text: &str) -> Result<Imported, String> {
    let document: Value = super::parse(text)?;
    if document.get("feature_states").is_none() {
        return Err(
            "has no `feature_states`; give the answer of /api/v1/environment-document/".into()
        );
    }
    let environment = Environment::deserialize(&document)
        .map_err(|error| format!("is not an environment document: {error}"))?;
    let mut imported = Imported::default();
    let segments = segments(&environment, &mut imported);
    for state in &environment.feature_states {
        let mut notes = Vec::new();
        match read(state, &environment, &segments, &mut notes) {
            Ok(flag) => {
                imported.flags.push(flag);
                imported.notes.append(&mut notes);
            }
            Err(message) => {
                imported.notes.push(super::left_out(&state.feature.name, "", message));
            }
        }
    }
    imported.flags.sort_by(|a, b| a.key.cmp(&b.key));
    imported.flags.dedup_by(|a, b| a.key == b.key);
    // Only segments that a rule names.
    let rules = || imported.flags.iter().flat_map(|flag| &flag.state.rules);
    let used: BTreeSet<&String> = rules().flat_map(|rule| &rule.segments).collect();
    let kept: Vec<_> = imported
        .segments
        .iter()
        .filter(|s| used.iter().any(|key| **key == *s.key.as_str()))
        .cloned()
        .collect();
    imported.segments = kept;
    Ok(imported)
}

/// Each segment's condition; those that are one list of constraints stay segments.
fn segments(
    environment: &Environment,
    imported: &mut Imported,
) -> BTreeMap<i64, Result<Condition, String>> {
    let mut conditions = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for segment in &environment.project.segments {
        let condition = segment::condition(segment, &environment.api_key);
        let condition = condition.map(|condition| {
            let Ok(terms) = condition.terms() else { return condition };
            let [term] = terms.as_slice() else { return condition };
            let key = key_of(segment);
            let is_plain = term.share.is_none() && !term.tests.is_empty();
            let Some(key) = key.filter(|key| is_plain && taken.insert(key.clone())) else {
                return condition;
            };
            let name = segment.name.chars().take(200).collect();
            let own = switchback_core::model::Segment {
                key: key.clone(),
                name,
                constraints: term.tests.clone(),
            };
            if switchback_core::validate::validate_segment(&own).is_err() {
                return condition;
            }
            imported.segments.push(own);
            Condition::Segment(key.to_string(), Box::new(condition))
        });
        conditions.insert(segment.id, condition);
    }
    conditions
}

fn key_of(segment: &Segment) -> Option<FlagKey> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let key: String =
        segment.name.to_lowercase().chars().map(|c| if fits(c) { c } else { '-' }).collect();
    let key = FlagKey::try_from(key.trim_matches('-').to_owned());
    key.or_else(|_| FlagKey::try_from(format!("segment-{}", segment.id))).ok()
}

fn read(
    state: &State,
    environment: &Environment,
    segments: &BTreeMap<i64, Result<Condition, String>>,
    notes: &mut Vec<Note>,
) -> Result<ImportedFlag, String> {
    let name = state.feature.name.as_str();
    let is_this = |one: &&State| one.feature.name == name;
    let mut overrides: Vec<(i64, &Segment, &State)> = Vec::new();
    for segment in &environment.project.segments {
        for one in segment.feature_states.iter().filter(is_this) {
            let priority = one.feature_segment.as_ref().and_then(|s| s.priority);
            overrides.push((priority.unwrap_or(i64::MAX), segment, one));
        }
    }
    overrides.sort_by_key(|(priority, _, _)| *priority); // the first of equals stays first
    let identities = || {
        let of = |identity| move |state| (identity, state);
        environment.identity_overrides.iter().flat_map(move |identity: &Identity| {
            identity.identity_features.iter().filter(is_this).map(of(identity))
        })
    };
    let states = || {
        let others = overrides.iter().map(|(_, _, state)| *state);
        [state].into_iter().chain(others).chain(identities().map(|(_, state)| state))
    };
    let values: Vec<Value> = states().flat_map(values_of).collect();
    let value_type = match type_of(values.iter().filter(|value| !is_empty(value))) {
        _ if values.iter().all(is_empty) => ValueType::Boolean,
        ValueType::Boolean => ValueType::Json,
        other => other,
    };
    let has_null = values.iter().any(is_empty) && value_type != ValueType::Boolean;
    let enables = states().any(|state| state.enabled);
    let reader = Reader { value_type, key: &environment.api_key, is_on: !enables };
    let mut ways = Vec::new();
    for (identity, own) in identities() {
        let when = test("user_id", Operator::In, [plain(&identity.identifier)?]);
        reader.state(own, &when, "identity", None, &mut ways)?;
    }
    for (_, segment, own) in &overrides {
        let when = match segments.get(&segment.id) {
            Some(Ok(condition)) => condition.clone(),
            Some(Err(message)) => return Err(format!("segment `{}` {message}", segment.name)),
            None => Condition::Never,
        };
        // Segments are asked for identities only.
        let when = Condition::All(vec![super::condition::is_set("user_id"), when]);
        let title = Some(segment.name.as_str());
        reader.state(own, &when, &segment.name, title, &mut ways)?;
    }
    reader.state(state, &Condition::Always, "default", None, &mut ways)?;
    let default = if is_empty(&state.feature_state_value) {
        Value::Null
    } else {
        state.feature_state_value.clone()
    };
    if value_type != ValueType::Boolean && states().any(|state| !state.enabled) {
        notes.push(Note {
            weight: Weight::Info,
            about: name.to_owned(),
            path: "enabled".to_owned(),
            message: "has a value also where it is disabled; there Switchback gives the off value"
                .to_owned(),
        });
    }
    compose(Draft {
        key: name.to_owned(),
        kind: FlagKind::Release,
        description: String::new(),
        salt: name.to_owned(),
        enabled: enables,
        value_type,
        on_value: if has_null { Value::Null } else { default.clone() },
        off_value: default,
        ways,
        prerequisites: Vec::new(),
    })
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

fn values_of(state: &State) -> Vec<Value> {
    let others = state.multivariate_feature_state_values.iter();
    let others = others.map(|one| one.option.value.clone());
    [state.feature_state_value.clone()].into_iter().chain(others).collect()
}

struct Reader<'e> {
    value_type: ValueType,
    key: &'e str,
    /// The whole flag is off: its ways are kept as they are when it is switched on.
    is_on: bool,
}

impl Reader<'_> {
    fn gives(&self, state: &State, value: &Value, n: usize) -> Gives {
        match (state.enabled || self.is_on, self.value_type) {
            (false, _) => Gives::Off,
            (true, ValueType::Boolean) => Gives::On,
            (true, _) if is_empty(value) => Gives::Value("nothing".to_owned(), Value::Null),
            (true, _) => Gives::Value(name_of(value, n), value.clone()),
        }
    }

    fn state(
        &self,
        state: &State,
        when: &Condition,
        id: &str,
        title: Option<&str>,
        ways: &mut Vec<Way>,
    ) -> Result<(), String> {
        let way = |share, gives| Way {
            id: id.to_owned(),
            title: title.map(str::to_owned),
            when: when.clone(),
            share,
            gives,
        };
        let mut choices: Vec<&Multi> = state.multivariate_feature_state_values.iter().collect();
        choices.sort_by_key(|one| (one.id.unwrap_or(i64::MAX), one.mv_fs_value_uuid.clone()));
        let id_of_state =
            state.django_id.map_or_else(|| state.featurestate_uuid.clone(), |id| id.to_string());
        let mut start = 0;
        for (n, one) in choices.iter().enumerate() {
            if id_of_state.is_empty() {
                return Err("splits users, but its state has no id".to_owned());
            }
            let share = Percent::try_from(one.percentage_allocation);
            let share = share.map_err(|error| error.to_string())?.thousandths();
            let end = (start + share).min(Percent::ALL.thousandths());
            let gives = self.gives(state, &one.option.value, n + 1);
            let share = Share { start, end, ..self.share(&id_of_state) };
            if start < end && gives != Gives::Off {
                if share.is_everybody() {
                    let set = super::condition::is_set("user_id");
                    let when = Condition::All(vec![when.clone(), set]);
                    ways.push(Way { when, ..way(None, gives) });
                } else {
                    ways.push(way(Some(share), gives));
                }
            }
            start = end;
        }
        ways.push(way(None, self.gives(state, &state.feature_state_value, 0)));
        Ok(())
    }

    /// The text that is hashed is `state,environment_identifier`: its start is the salt.
    fn share(&self, object: &str) -> Share {
        Share {
            formula: Formula::Flagsmith,
            salt: format!("{object},{}_", self.key),
            unit: Stickiness::Field("user_id".to_owned()),
            start: 0,
            end: 0,
        }
    }
}
