//! From our document to Unleash's, for its SDKs. A flag that Unleash cannot say is left out, with the reason: its SDKs
//! then give the caller's default, and never a decision that is not ours. Killed flags are always sent, as off.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use switchback_core::model::{
    self, Document, Flag, FlagEntry, FlagKind, Formula, Operator, Percent, Rule, Stickiness,
    ValueType,
};

use super::document::{
    Constraint, Dependency, Feature, Override, Payload, Segment, Strategy, Variant,
};

/// The document as Unleash's SDKs take it.
#[derive(Debug, Default)]
pub struct Written {
    /// By name.
    pub features: BTreeMap<String, Feature>,
    /// By key.
    pub segments: BTreeMap<String, Segment>,
    /// Flags that were left out, with the reason.
    pub left_out: BTreeMap<String, String>,
}

/// Writes everything.
pub fn features_of(document: &Document) -> Written {
    let mut written = Written::default();
    for (key, segment) in &document.segments {
        written.segments.insert(key.clone(), segment_of(segment));
    }
    for (key, entry) in &document.flags {
        match feature_of(entry, document) {
            Ok(feature) => drop(written.features.insert(key.clone(), feature)),
            Err(reason) => drop(written.left_out.insert(key.clone(), reason)),
        }
    }
    written
}

/// Segments have numbers there: one made of the key, the same on every node, above 0 and within 31 bits, as some SDKs want.
pub fn segment_id(key: &str) -> i64 {
    i64::try_from(switchback_core::variant_point("segment", key, 0x7FFF_FFFF)).unwrap_or_default()
}

/// Writes a segment.
pub fn segment_of(segment: &model::Segment) -> Segment {
    Segment {
        id: segment_id(segment.key.as_str()),
        name: if segment.name.is_empty() { segment.key.to_string() } else { segment.name.clone() },
        constraints: segment.constraints.iter().map(constraint_of).collect(),
    }
}

/// Writes a flag, or says why Unleash cannot say it.
pub fn feature_of(entry: &FlagEntry, document: &Document) -> Result<Feature, String> {
    let flag = match entry {
        FlagEntry::Known(flag) => flag,
        FlagEntry::Unreadable { error, .. } => return Err(format!("cannot be read: {error}")),
    };
    let feature = bare(flag);
    if feature.enabled { with_rules(feature, flag, document) } else { Ok(feature) }
}

/// What Unleash cannot say of a flag, were it on.
pub fn unsaid(flag: &Flag, document: &Document) -> Option<String> {
    whole(flag, document).err()
}

/// Writes a flag with its rules even if it is off.
pub(super) fn whole(flag: &Flag, document: &Document) -> Result<Feature, String> {
    with_rules(bare(flag), flag, document)
}

fn bare(flag: &Flag) -> Feature {
    let state = &flag.state;
    Feature {
        name: flag.key.to_string(),
        kind: kind_of(flag.kind).to_owned(),
        project: flag.project.clone(),
        impression_data: state.impressions,
        enabled: state.enabled && !state.killed,
        ..Feature::default()
    }
}

fn with_rules(mut feature: Feature, flag: &Flag, document: &Document) -> Result<Feature, String> {
    let state = &flag.state;
    for one in &state.prerequisites {
        let has_own = |entry: &FlagEntry| match entry {
            FlagEntry::Known(parent) => !parent.state.prerequisites.is_empty(),
            FlagEntry::Unreadable { .. } => false,
        };
        if document.flags.get(one.flag.as_str()).is_some_and(has_own) {
            return Err(format!("its prerequisite `{}` has prerequisites itself", one.flag));
        }
        feature.dependencies.push(Dependency {
            feature: one.flag.to_string(),
            enabled: one.enabled,
            variants: one.variants.clone(),
        });
    }
    let variants = shared_variants(flag);
    let by_strategy = needs_strategy_variants(flag, &variants);
    let mut refused = Vec::new();
    for rule in &state.rules {
        if !rule.serve.is_on() {
            refused.extend(negated(rule)?);
            continue;
        }
        let mut strategies = strategies_of(rule, flag, &variants, by_strategy)?;
        for strategy in &mut strategies {
            strategy.constraints.extend(refused.iter().cloned());
        }
        feature.strategies.append(&mut strategies);
    }
    if state.rules.is_empty() && (by_strategy || state.expires_at.is_some()) {
        let everybody = Rule::everybody("everybody");
        feature.strategies = strategies_of(&everybody, flag, &variants, by_strategy)?;
    } else if !state.rules.is_empty() && feature.strategies.is_empty() {
        feature.enabled = false; // rules that all serve off
    }
    if !by_strategy {
        feature.variants = variants_of(&variants, flag, &Stickiness::Default);
    }
    if let Some(end) = state.expires_at {
        let end = jiff::Timestamp::from_millisecond(end).map_err(|_| "its expiry is no time")?;
        for strategy in &mut feature.strategies {
            strategy.constraints.push(constraint("currentTime", "DATE_BEFORE", &[end.to_string()]));
        }
    }
    Ok(feature)
}

fn kind_of(kind: FlagKind) -> &'static str {
    match kind {
        FlagKind::Release => "release",
        FlagKind::Experiment => "experiment",
        FlagKind::Operational => "operational",
        FlagKind::KillSwitch => "kill-switch",
        FlagKind::Permission => "permission",
    }
}

/// The flag's own variants. A flag with a value and no variants has one, `on`, that carries the value.
fn shared_variants(flag: &Flag) -> Vec<model::Variant> {
    let state = &flag.state;
    let carries = flag.value_type != ValueType::Boolean && !state.on_value.is_null();
    if state.variants.is_empty() && carries {
        return vec![model::Variant {
            name: "on".to_owned(),
            weight: 1_000,
            value: Value::Null,
            stickiness: Some(Stickiness::Default),
            overrides: Vec::new(),
        }];
    }
    state.variants.clone()
}

/// The flag's variants hash with its name there and its salt here, and have no stickiness of the rule's.
fn needs_strategy_variants(flag: &Flag, variants: &[model::Variant]) -> bool {
    let Some(first) = variants.first() else { return false };
    let sticks = |rule: &Rule| first.stickiness.is_none() && rule.stickiness != Stickiness::Default;
    flag.salt != flag.key.as_str() || flag.state.rules.iter().any(sticks)
}

fn strategies_of(
    rule: &Rule,
    flag: &Flag,
    shared: &[model::Variant],
    by_strategy: bool,
) -> Result<Vec<Strategy>, String> {
    let named = || format!("rule `{}`", rule.title.as_deref().unwrap_or(&rule.id));
    let is_split = rule.percent < Percent::ALL || rule.variants.len() > 1;
    if rule.bucketing.formula != Formula::Native && is_split {
        return Err(format!("{} buckets by another system's formula", named()));
    }
    if rule.bucketing.offset != Percent::NONE {
        return Err(format!("{} does not start at 0 %", named()));
    }
    if !rule.percent.thousandths().is_multiple_of(1_000) && rule.percent.thousandths() < 1_000 {
        return Err(format!("{} lets in less than the 1 % that Unleash counts in", named()));
    }
    if rule.variants.iter().any(|variant| !variant.overrides.is_empty()) {
        return Err(format!("{} has variants with overrides", named()));
    }
    let mut variants = variants_of(&rule.variants, flag, &rule.stickiness);
    if variants.is_empty() && by_strategy && !shared.is_empty() {
        if rule.salt.as_ref().is_some_and(|salt| *salt != flag.salt) {
            return Err(format!(
                "{} has a salt of its own, the flag's variants have another",
                named()
            ));
        }
        if shared.iter().any(|variant| !variant.overrides.is_empty()) {
            return Err("its variants have overrides and another salt than its key".to_owned());
        }
        variants = variants_of(shared, flag, &rule.stickiness);
    }
    let mut strategy = Strategy {
        id: None,
        name: "flexibleRollout".to_owned(),
        title: rule.title.clone(),
        constraints: rule.constraints.iter().map(constraint_of).collect(),
        segments: rule.segments.iter().map(|key| segment_id(key)).collect(),
        variants,
        ..Strategy::default()
    };
    let parameters = [
        ("groupId", rule.salt.clone().unwrap_or_else(|| flag.salt.clone())),
        // Whole percents, rounded down: those that are let in are among those that we let in.
        ("rollout", (rule.percent.thousandths() / 1_000).to_string()),
        ("stickiness", stickiness_of(&rule.stickiness)),
    ];
    for (name, text) in parameters {
        strategy.parameters.insert(name.to_owned(), Value::String(text));
    }
    if !rule.platforms.is_empty() {
        strategy.constraints.push(constraint("platform", "IN", &rule.platforms));
    }
    if rule.groups.is_empty() {
        return Ok(vec![strategy]);
    }
    // Apps send one group, or several parted by commas; SDKs that do not know REGEX still find the one.
    let mut listed = strategy.clone();
    strategy.constraints.push(constraint("groups", "IN", &rule.groups));
    listed.constraints.push(constraint("groups", "REGEX", &[in_list(&rule.groups)]));
    Ok(vec![strategy, listed])
}

/// Constraints which hold for all that a rule which serves off does not admit.
fn negated(rule: &Rule) -> Result<Vec<Constraint>, String> {
    let parts = usize::from(!rule.groups.is_empty())
        + usize::from(!rule.platforms.is_empty())
        + rule.constraints.len()
        + rule.segments.len();
    if rule.percent != Percent::ALL || parts != 1 || !rule.segments.is_empty() {
        let name = rule.title.as_deref().unwrap_or(&rule.id);
        return Err(format!("rule `{name}` serves off to more than one condition tells"));
    }
    let inverse = |mut one: Constraint| {
        one.inverted = !one.inverted;
        one
    };
    Ok(match rule.constraints.first() {
        Some(one) => vec![inverse(constraint_of(one))],
        None if !rule.platforms.is_empty() => {
            vec![inverse(constraint("platform", "IN", &rule.platforms))]
        }
        None => vec![
            inverse(constraint("groups", "IN", &rule.groups)),
            inverse(constraint("groups", "REGEX", &[in_list(&rule.groups)])),
        ],
    })
}

/// Matches a list parted by commas that holds one of the names.
fn in_list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| regex::escape(name)).collect();
    format!(r"(^|,)\s*({})\s*(,|$)", names.join("|"))
}

fn constraint(field: &str, operator: &str, values: &[String]) -> Constraint {
    let takes_one = matches!(operator.split('_').next(), Some("NUM" | "DATE" | "SEMVER" | "REGEX"));
    Constraint {
        context_name: field.to_owned(),
        operator: operator.to_owned(),
        value: takes_one.then(|| values.first().cloned()).flatten(),
        values: if takes_one { Vec::new() } else { values.to_vec() },
        inverted: false,
        case_insensitive: false,
    }
}

fn constraint_of(one: &model::Constraint) -> Constraint {
    let name = field_of(&one.field);
    let operator = serde_json::to_value(one.operator).ok();
    let operator = operator.as_ref().and_then(Value::as_str).unwrap_or_default();
    let mut written = match one.operator {
        Operator::IsSet => constraint(name, "REGEX", &["(?s).".to_owned()]),
        _ if operator.starts_with("SEMVER") && one.field == "app_version" => {
            let full = one.values.iter().map(|version| three_parts(version));
            constraint(name, operator, &full.collect::<Vec<_>>())
        }
        _ => constraint(name, operator, &one.values),
    };
    written.inverted = one.inverted;
    written.case_insensitive = one.case_insensitive;
    written
}

/// `3.2` as `3.2.0`: Unleash takes whole versions only.
fn three_parts(version: &str) -> String {
    let (numbers, rest) = match version.find(['-', '+']) {
        Some(at) => version.split_at(at),
        None => (version, ""),
    };
    let missing = 3_usize.saturating_sub(numbers.split('.').count());
    format!("{numbers}{}{rest}", ".0".repeat(missing))
}

fn field_of(name: &str) -> &str {
    match name {
        "user_id" => "userId",
        "session_id" => "sessionId",
        "remote_address" => "remoteAddress",
        "app_name" => "appName",
        "current_time" => "currentTime",
        "app_version" => "appVersion",
        other => other.strip_prefix("properties.").unwrap_or(other),
    }
}

fn stickiness_of(stickiness: &Stickiness) -> String {
    match stickiness {
        Stickiness::Default => "default".to_owned(),
        Stickiness::Random => "random".to_owned(),
        Stickiness::Field(name) => field_of(name).to_owned(),
    }
}

fn variants_of(list: &[model::Variant], flag: &Flag, of_rule: &Stickiness) -> Vec<Variant> {
    // The first one's counts for all, here and there.
    let stickiness = list.first().and_then(|first| first.stickiness.as_ref()).unwrap_or(of_rule);
    let one = |variant: &model::Variant| Variant {
        name: variant.name.clone(),
        weight: i64::from(variant.weight),
        weight_type: "variable".to_owned(),
        stickiness: Some(stickiness_of(stickiness)),
        payload: payload_of(
            if variant.value.is_null() { &flag.state.on_value } else { &variant.value },
            flag.value_type,
        ),
        overrides: variant
            .overrides
            .iter()
            .map(|one| Override {
                context_name: field_of(&one.field).to_owned(),
                values: one.values.clone(),
            })
            .collect(),
    };
    let mut seen = HashSet::new();
    list.iter().filter(|variant| seen.insert(&variant.name)).map(one).collect()
}

/// A value as a payload; a boolean flag's `true` needs none.
pub fn payload_of(value: &Value, value_type: ValueType) -> Option<Payload> {
    let (kind, text) = match value {
        Value::Null => return None,
        Value::Bool(_) if value_type == ValueType::Boolean => return None,
        Value::String(text) => ("string", text.clone()),
        Value::Number(number) => ("number", number.to_string()),
        other => ("json", other.to_string()),
    };
    Some(Payload { kind: kind.to_owned(), value: text })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(flags: &Value) -> Document {
        serde_json::from_value(json!({
            "epoch": "e", "environment": "production", "revision": 1, "flags": flags, "segments": {},
        }))
        .unwrap()
    }

    fn flag(state: &Value) -> Value {
        json!([{"key": "a", "project": "p", "salt": "a", "state": state}])
    }

    #[test]
    fn a_killed_flag_is_sent_as_off_whatever_its_rules() {
        let rules = json!([{"id": "r", "percent": 0.5, "bucketing": {"formula": "flagd"}}]);
        let written = features_of(&document(&flag(
            &json!({"enabled": true, "killed": true, "rules": rules}),
        )));

        assert!(!written.features["a"].enabled);
    }

    #[test]
    fn what_unleash_cannot_say_is_left_out_with_the_reason() {
        for (rule, reason) in [
            (json!({"id": "r", "percent": 25, "bucketing": {"formula": "flagd"}}), "formula"),
            (json!({"id": "r", "percent": 0.125}), "less than the 1 %"),
            (json!({"id": "r", "percent": 20, "bucketing": {"offset": 50}}), "start at 0"),
        ] {
            let written = features_of(&document(&flag(&json!({"enabled": true, "rules": [rule]}))));
            assert!(written.left_out["a"].contains(reason), "{written:?}");
            assert!(written.features.is_empty());
        }
    }

    #[test]
    fn a_rule_that_serves_off_is_taken_from_the_rules_after_it() {
        let rules = json!([
            {"id": "no", "serve": "off", "constraints": [{"field": "user_id", "operator": "IN", "values": ["u"]}]},
            {"id": "rest", "percent": 50},
        ]);
        let written = features_of(&document(&flag(&json!({"enabled": true, "rules": rules}))));

        let [strategy] = written.features["a"].strategies.as_slice() else { panic!("{written:?}") };
        assert_eq!(strategy.constraints.len(), 1);
        assert!(strategy.constraints[0].inverted);
        assert_eq!(strategy.constraints[0].context_name, "userId");
    }

    #[test]
    fn versions_get_three_parts() {
        assert_eq!(three_parts("3.2"), "3.2.0");
        assert_eq!(three_parts("3-rc.1"), "3.0.0-rc.1");
        assert_eq!(three_parts("3.2.1+b"), "3.2.1+b");
    }
}
