//! From Unleash's document to ours.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;
use switchback_core::model::{
    self, Document, Flag, FlagEntry, FlagKey, FlagKind, FlagState, Operator, Percent, Prerequisite,
    Rule, Stickiness, ValueType,
};

use super::document::{
    Constraint, Dependency, Feature, Features, Payload, Segment, Strategy, Variant,
};
use super::export;
use crate::{Imported, ImportedFlag, Note, Weight};

/// A document that was read for deciding.
#[derive(Debug, Default)]
pub struct Reading {
    /// Ours; flags are under [`Reading::key`].
    pub document: Document,
    payloads: HashMap<String, Vec<(String, Option<Payload>)>>,
}

impl Reading {
    /// The key that a flag has in the document: its name, with characters that a key may not hold written as `~`
    /// and hexadecimal digits.
    pub fn key(name: &str) -> String {
        let mut key = String::with_capacity(name.len());
        for byte in name.bytes() {
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' | b'.' => {
                    key.push(char::from(byte));
                }
                other => {
                    let _ = write!(key, "~{other:02x}"); // a text always takes it
                }
            }
        }
        key
    }

    /// The value of the variant that a decision chose, as it was written. `rule` is the deciding rule's id.
    pub fn payload(&self, key: &str, rule: Option<&str>, variant: &str) -> Option<&Payload> {
        let find = |place: String| {
            let list = self.payloads.get(&place)?;
            Some(list.iter().find(|(name, _)| name == variant)?.1.as_ref())
        };
        rule.and_then(|rule| find(format!("{key}/{rule}")))
            .or_else(|| find(key.to_owned()))
            .flatten()
    }
}

/// Reads a document for deciding: every name is taken, nothing is refused; what an SDK would not understand never
/// admits. Answers exactly as the specification says.
pub fn read(features: &Features) -> Reading {
    let mut reading = Reading::default();
    let parents: HashSet<&str> = features
        .features
        .iter()
        .filter(|feature| !feature.dependencies.is_empty())
        .map(|feature| feature.name.as_str())
        .collect();
    for segment in &features.segments {
        let key = segment.id.to_string();
        let constraints = segment.constraints.iter().map(|one| constraint(one, Field::Exact));
        let Ok(own) = FlagKey::try_from(key.as_str()) else { continue };
        let constraints = constraints.map(|one| one.unwrap_or_else(|_| never())).collect();
        let name = segment.name.clone();
        reading.document.segments.insert(key, model::Segment { key: own, name, constraints });
    }
    for feature in &features.features {
        let key = Reading::key(&feature.name);
        let Ok(own) = FlagKey::try_from(key.as_str()).or_else(|_| short(&key)) else { continue };
        let mut notes = Vec::new();
        let state =
            state(feature, &mut Reader { field: Field::Exact, notes: &mut notes }, |parent| {
                (!parents.contains(parent.feature.as_str())).then(|| Reading::key(&parent.feature))
            });
        for (rule, strategy) in state.rules.iter().zip(admitting(feature)) {
            if !strategy.variants.is_empty() {
                reading.payloads.insert(format!("{key}/{}", rule.id), payloads(&strategy.variants));
            }
        }
        reading.payloads.insert(key.clone(), payloads(&feature.variants));
        let flag = Flag {
            key: own,
            project: String::new(),
            kind: FlagKind::Release,
            value_type: ValueType::Json,
            salt: feature.name.clone(),
            state: FlagState {
                on_value: Value::Bool(true),
                off_value: Value::Bool(false),
                ..state
            },
        };
        reading.document.flags.insert(key, FlagEntry::Known(Box::new(flag)));
    }
    reading
}

/// Names over 100 characters: their own key would be refused.
fn short(key: &str) -> Result<FlagKey, model::KeyError> {
    FlagKey::try_from(key.get(..100).unwrap_or("long"))
}

fn payloads(variants: &[Variant]) -> Vec<(String, Option<Payload>)> {
    variants.iter().map(|one| (one.name.clone(), one.payload.clone())).collect()
}

/// Reads a document or an export for adoption: names that we cannot keep are left out, and every difference is noted.
///
/// Takes the answer of `/api/client/features`, and the export of Unleash's admin interface for one environment
/// (`features`, `featureStrategies`, `featureEnvironments`, `segments`).
pub fn import(text: &str) -> Result<Imported, String> {
    features(text).map(|features| adopt(&features))
}

/// The flags of a document or an export.
pub(super) fn features(text: &str) -> Result<Features, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    if value.get("featureStrategies").is_some() {
        export::read(&value)
    } else if value.get("features").is_some() {
        Features::deserialize(&value).map_err(|e| format!("is not a features document: {e}"))
    } else {
        Err("has no `features`; give the answer of /api/client/features or an export".into())
    }
}

fn adopt(features: &Features) -> Imported {
    let mut imported = Imported::default();
    let parents: HashSet<&str> = features
        .features
        .iter()
        .filter(|feature| !feature.dependencies.is_empty())
        .map(|feature| feature.name.as_str())
        .collect();
    let known: HashSet<&str> = features.features.iter().map(|f| f.name.as_str()).collect();
    let segments: BTreeMap<i64, FlagKey> = names_of(&features.segments);
    for segment in &features.segments {
        let Some(key) = segments.get(&segment.id).cloned() else { continue };
        let mut reader = Reader { field: Field::Ours, notes: &mut imported.notes };
        let about = key.to_string();
        let constraints = segment.constraints.iter().enumerate();
        let constraints = constraints
            .map(|(n, one)| reader.constraint(&about, &format!("constraints[{n}]"), one))
            .collect();
        imported.segments.push(model::Segment { key, name: segment.name.clone(), constraints });
    }
    for feature in &features.features {
        if let Err(error) = FlagKey::try_from(feature.name.as_str()) {
            imported.notes.push(note(Weight::LeftOut, &feature.name, "name", error.to_string()));
            continue;
        }
        let mut notes = Vec::new();
        let mut reader = Reader { field: Field::Ours, notes: &mut notes };
        let mut state = state(feature, &mut reader, |parent| Some(parent.feature.clone()));
        for dependency in &feature.dependencies {
            let (weight, message) = if parents.contains(dependency.feature.as_str()) {
                (
                    Weight::Differs,
                    "depends on a flag that has dependencies itself: Unleash never turns it on, Switchback follows the chain",
                )
            } else if !known.contains(dependency.feature.as_str()) {
                (
                    Weight::Differs,
                    "depends on a flag that the file does not hold; it stays off until that flag is there",
                )
            } else {
                continue;
            };
            notes.push(note(
                weight,
                &feature.name,
                &format!("dependencies.{}", dependency.feature),
                message,
            ));
        }
        for rule in &mut state.rules {
            name_segments(rule, &segments, &feature.name, &mut notes);
        }
        let value_type = value_type(feature);
        values(&mut state, feature, value_type, &mut notes);
        imported.notes.append(&mut notes);
        imported.flags.push(ImportedFlag {
            key: feature.name.clone(),
            kind: kind(&feature.kind),
            value_type,
            description: feature.description.clone(),
            salt: feature.name.clone(),
            state,
        });
    }
    imported
}

fn note(weight: Weight, about: &str, path: &str, message: impl Into<String>) -> Note {
    Note { weight, about: about.into(), path: path.into(), message: message.into() }
}

fn kind(name: &str) -> FlagKind {
    match name {
        "experiment" => FlagKind::Experiment,
        "operational" => FlagKind::Operational,
        "kill-switch" => FlagKind::KillSwitch,
        "permission" => FlagKind::Permission,
        _ => FlagKind::Release,
    }
}

/// Segments have numbers there and keys here: their names, where those make good keys.
fn names_of(segments: &[Segment]) -> BTreeMap<i64, FlagKey> {
    let mut taken = HashSet::new();
    let mut names = BTreeMap::new();
    for segment in segments {
        let slug: String = segment
            .name
            .to_lowercase()
            .chars()
            .map(
                |c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '-' },
            )
            .collect();
        let slug = slug.trim_matches('-').to_owned();
        let slug = FlagKey::try_from(slug).ok().filter(|key| taken.insert(key.clone()));
        let numbered = || FlagKey::try_from(format!("segment-{}", segment.id)).ok();
        if let Some(key) = slug.or_else(numbered) {
            names.insert(segment.id, key);
        }
    }
    names
}

fn name_segments(
    rule: &mut Rule,
    names: &BTreeMap<i64, FlagKey>,
    flag: &str,
    notes: &mut Vec<Note>,
) {
    for segment in &mut rule.segments {
        if let Some(key) = segment.parse().ok().and_then(|id: i64| names.get(&id)) {
            *segment = key.to_string();
            continue;
        }
        let message = format!("segment {segment} is not in the file, so the rule never admits");
        notes.push(note(Weight::Info, flag, &format!("rules.{}", rule.id), message));
        *segment = format!("segment-{segment}");
    }
}

/// What the payloads have in common.
fn value_type(feature: &Feature) -> ValueType {
    let lists = feature.strategies.iter().map(|strategy| &strategy.variants);
    let kinds: HashSet<&str> = lists
        .chain([&feature.variants])
        .flatten()
        .filter_map(|variant| variant.payload.as_ref())
        .map(|payload| if payload.kind == "csv" { "string" } else { payload.kind.as_str() })
        .collect();
    match (kinds.len(), kinds.into_iter().next()) {
        (0, _) => ValueType::Boolean,
        (1, Some("string")) => ValueType::String,
        (1, Some("number")) => ValueType::Number,
        _ => ValueType::Json,
    }
}

/// Payloads are texts there and values here.
fn values(state: &mut FlagState, feature: &Feature, value_type: ValueType, notes: &mut Vec<Note>) {
    let strategies = admitting(feature).map(|strategy| &strategy.variants);
    let lists = state.rules.iter_mut().map(|rule| &mut rule.variants);
    for (variants, sources) in
        lists.zip(strategies).chain([(&mut state.variants, &feature.variants)])
    {
        for (variant, source) in variants.iter_mut().zip(sources) {
            let Some(payload) = &source.payload else { continue };
            variant.value = match payload.kind.as_str() {
                "number" | "json" => serde_json::from_str(&payload.value).unwrap_or_else(|_| {
                    let message =
                        format!("the payload is not {}; it is kept as text", payload.kind);
                    notes.push(note(
                        Weight::Differs,
                        &feature.name,
                        &format!("variants.{}", source.name),
                        message,
                    ));
                    Value::String(payload.value.clone())
                }),
                _ => Value::String(payload.value.clone()),
            };
            if payload.kind == "csv" {
                let message = "the payload's type csv becomes string; its text is the same";
                notes.push(note(
                    Weight::Differs,
                    &feature.name,
                    &format!("variants.{}", source.name),
                    message,
                ));
            }
            if value_type == ValueType::Number && !variant.value.is_number() {
                variant.value = Value::Null;
            }
        }
    }
    // What callers get without a variant: Unleash has no such value, its callers look at on and off.
    let empty = match value_type {
        ValueType::Boolean => Value::Null,
        ValueType::String => Value::String(String::new()),
        ValueType::Number => Value::from(0),
        ValueType::Json => Value::Object(serde_json::Map::new()),
    };
    state.on_value.clone_from(&empty);
    state.off_value = empty;
}

/// How context fields are named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    /// As in Unleash's context: for deciding exactly as its SDKs do.
    Exact,
    /// As we call them: for people.
    Ours,
}

struct Reader<'n> {
    field: Field,
    notes: &'n mut Vec<Note>,
}

/// Strategies that are in use, in order.
fn admitting(feature: &Feature) -> impl Iterator<Item = &Strategy> {
    feature.strategies.iter().filter(|strategy| !strategy.disabled)
}

fn state(
    feature: &Feature,
    reader: &mut Reader<'_>,
    parent: impl Fn(&Dependency) -> Option<String>,
) -> FlagState {
    let mut ids = HashSet::new();
    let rules = admitting(feature).enumerate();
    let rules: Vec<Rule> =
        rules.map(|(n, strategy)| reader.rule(feature, n, strategy, &mut ids)).collect();
    let prerequisites = feature.dependencies.iter().filter_map(|one| {
        let flag = parent(one).and_then(|key| FlagKey::try_from(key).ok());
        // One that can never be met: a key that no flag of the document has.
        let flag = flag.or_else(|| FlagKey::try_from("~~").ok())?;
        Some(Prerequisite { flag, enabled: one.enabled, variants: one.variants.clone() })
    });
    FlagState {
        enabled: feature.enabled,
        prerequisites: prerequisites.collect(),
        rules,
        variants: reader.variants(&feature.variants, Some(&Stickiness::Default)),
        impressions: feature.impression_data,
        ..FlagState::default()
    }
}

impl Reader<'_> {
    fn rule(
        &mut self,
        feature: &Feature,
        n: usize,
        strategy: &Strategy,
        ids: &mut HashSet<String>,
    ) -> Rule {
        let path = format!("strategies[{n}]");
        let id = strategy
            .id
            .clone()
            .filter(|id| id.len() <= 60 && FlagKey::try_from(id.as_str()).is_ok());
        let id =
            id.filter(|id| ids.insert(id.clone())).unwrap_or_else(|| format!("strategy-{}", n + 1));
        let mut rule = Rule::everybody(id);
        rule.title = strategy.title.clone().filter(|title| !title.is_empty());
        rule.segments = strategy.segments.iter().map(ToString::to_string).collect();
        let constraints = strategy.constraints.iter().enumerate();
        rule.constraints = constraints
            .map(|(at, one)| {
                self.constraint(&feature.name, &format!("{path}.constraints[{at}]"), one)
            })
            .collect();
        // Also where nothing is rolled out: the strategy's variants hash with it.
        rule.salt = strategy.parameter("groupId").filter(|group| !group.is_empty());
        let list = |name: &str| -> Vec<String> {
            let text = strategy.parameter(name).unwrap_or_default();
            text.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
        };
        let is_in = |field: &str, operator: Operator, values: Vec<String>| model::Constraint {
            field: field.to_owned(),
            operator,
            values,
            inverted: false,
            case_insensitive: false,
        };
        match strategy.name.as_str() {
            "default" => {}
            "userWithId" => {
                rule.constraints.push(is_in(self.name("userId"), Operator::In, list("userIds")));
            }
            "remoteAddress" => {
                let nets = list("IPs");
                rule.constraints.push(is_in(self.name("remoteAddress"), Operator::InCidr, nets));
            }
            "applicationHostname" => {
                rule.constraints.push(is_in("hostname", Operator::In, list("hostNames")));
                let message = "asks for the host name of the app: the app has to send it as the property `hostname`";
                self.note(Weight::Differs, &feature.name, &path, message);
            }
            "flexibleRollout" => {
                let stickiness = strategy.parameter("stickiness").unwrap_or_default();
                Self::rollout(&mut rule, strategy, "rollout", self.stickiness(&stickiness));
            }
            "gradualRolloutUserId" => {
                Self::rollout(&mut rule, strategy, "percentage", self.stickiness("userId"));
            }
            "gradualRolloutSessionId" => {
                Self::rollout(&mut rule, strategy, "percentage", self.stickiness("sessionId"));
            }
            "gradualRolloutRandom" => {
                Self::rollout(&mut rule, strategy, "percentage", Stickiness::Random);
            }
            other => {
                rule.constraints.push(never());
                let message = format!("the strategy `{other}` is not built in; it never admits");
                self.note(Weight::LeftOut, &feature.name, &path, message);
            }
        }
        if rule.salt.as_deref() == Some(feature.name.as_str()) {
            rule.salt = None;
        }
        rule.variants = self.variants(&strategy.variants, None);
        rule
    }

    /// Whole percents: Unleash compares `bucket <= rollout` with whole buckets, so 50.5 lets in what 50 does.
    fn rollout(rule: &mut Rule, strategy: &Strategy, share: &str, stickiness: Stickiness) {
        let percent = strategy.parameter(share).and_then(|text| text.trim().parse::<f64>().ok());
        let percent = percent.unwrap_or(0.0).clamp(0.0, 100.0).floor();
        rule.percent = Percent::try_from(percent).unwrap_or(Percent::NONE);
        rule.stickiness = stickiness;
    }

    fn stickiness(&self, name: &str) -> Stickiness {
        match name {
            "" | "default" => Stickiness::Default,
            "random" => Stickiness::Random,
            field => Stickiness::Field(self.name(field).to_owned()),
        }
    }

    fn name<'a>(&self, name: &'a str) -> &'a str {
        match (self.field, name) {
            (Field::Ours, "userId") => "user_id",
            (Field::Ours, "sessionId") => "session_id",
            (Field::Ours, "remoteAddress") => "remote_address",
            (Field::Ours, "appName") => "app_name",
            (Field::Ours, "currentTime") => "current_time",
            (Field::Ours, "appVersion") => "app_version",
            _ => name,
        }
    }

    fn variants(
        &self,
        variants: &[Variant],
        stickiness: Option<&Stickiness>,
    ) -> Vec<model::Variant> {
        let one = |variant: &Variant| model::Variant {
            name: variant.name.clone(),
            weight: u32::try_from(variant.weight.max(0)).unwrap_or(u32::MAX),
            value: Value::Null,
            stickiness: match variant.stickiness.as_deref() {
                None | Some("") => stickiness.cloned(),
                Some(name) => Some(self.stickiness(name)),
            },
            overrides: variant
                .overrides
                .iter()
                .map(|one| model::Override {
                    field: self.name(&one.context_name).to_owned(),
                    values: one.values.clone(),
                })
                .collect(),
        };
        variants.iter().map(one).collect()
    }

    fn constraint(&mut self, about: &str, path: &str, one: &Constraint) -> model::Constraint {
        constraint(one, self.field).unwrap_or_else(|message| {
            self.note(
                Weight::Info,
                about,
                path,
                format!("{message}; such a constraint never holds"),
            );
            never()
        })
    }

    fn note(&mut self, weight: Weight, about: &str, path: &str, message: impl Into<String>) {
        self.notes.push(note(weight, about, path, message));
    }
}

/// Our own, or why an SDK would not understand it.
fn constraint(one: &Constraint, field: Field) -> Result<model::Constraint, String> {
    let operator = Operator::deserialize(Value::String(one.operator.clone()))
        .ok()
        .filter(|operator| *operator != Operator::IsSet)
        .ok_or_else(|| format!("the operator `{}` is unknown", one.operator))?;
    let values = match operator {
        Operator::In
        | Operator::NotIn
        | Operator::StrContains
        | Operator::StrStartsWith
        | Operator::StrEndsWith
        | Operator::InCidr => one.values.clone(),
        _ => match one.value.clone().or_else(|| one.values.first().cloned()) {
            Some(value) if !value.trim().is_empty() => vec![value],
            _ => return Err("it has no value".to_owned()),
        },
    };
    let name = match (field, one.context_name.as_str()) {
        // Properties that are called like fields of ours.
        (
            Field::Exact,
            name @ ("user_id" | "session_id" | "remote_address" | "app_name" | "current_time"
            | "app_version"),
        ) => {
            format!("properties.{name}")
        }
        (Field::Exact, name) if name.starts_with("properties.") => format!("properties.{name}"),
        (Field::Exact, name) => name.to_owned(),
        (Field::Ours, name) => Reader { field, notes: &mut Vec::new() }.name(name).to_owned(),
    };
    Ok(model::Constraint {
        field: name,
        operator,
        values,
        inverted: one.inverted,
        case_insensitive: one.case_insensitive,
    })
}

/// A constraint that no context satisfies.
fn never() -> model::Constraint {
    model::Constraint {
        field: "unreadable".to_owned(),
        operator: Operator::In,
        values: Vec::new(),
        inverted: false,
        case_insensitive: false,
    }
}
