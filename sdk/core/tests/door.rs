//! What the server refuses, and where it says the fault is.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use serde_json::{Value, json};
use switchback_core::model::{FlagKey, FlagKind, FlagState, Prerequisite, Segment, ValueType};
use switchback_core::validate::{find_cycle, validate_flag, validate_segment};

fn problems(value_type: ValueType, state: Value) -> Vec<String> {
    let state: FlagState = serde_json::from_value(state).expect("a state");
    let found = validate_flag(value_type, &state, FlagKind::Release);
    found.err().into_iter().flatten().map(|problem| problem.path).collect()
}

fn constraint(field: &str, operator: &str, values: &[&str]) -> Vec<String> {
    let constraint = json!({"field": field, "operator": operator, "values": values});
    let rules = json!([{"id": "r"}, {"id": "s", "constraints": [constraint]}]);
    let found = problems(ValueType::Boolean, json!({"enabled": true, "rules": rules}));
    found.iter().map(|path| path.replace("rules[1].constraints[0].", "")).collect()
}

#[test]
fn sound_states_pass() {
    let state = json!({
        "enabled": true, "on_value": "new", "off_value": null, "max_staleness_ms": 900_000,
        "on_stale": {"value": "old"},
        "rules": [{"id": "beta", "groups": ["beta"], "percent": 0.125, "segments": ["s"],
            "stickiness": "tenant", "constraints": [
                {"field": "app_version", "operator": "SEMVER_GTE", "values": ["3.2"]},
                {"field": "current_time", "operator": "DATE_AFTER", "values": ["2027-01-31T08:00:00Z"]},
                {"field": "x", "operator": "IS_SET"},
        ]}],
        "variants": [{"name": "a", "weight": 0, "value": "x"}, {"name": "b", "weight": 1}],
        "prerequisites": [{"flag": "other", "variants": ["a"]}],
    });

    assert_eq!(problems(ValueType::String, state), Vec::<String>::new());
}

#[test]
fn values_must_be_of_the_flags_type() {
    let state = json!({
        "enabled": true, "on_value": "yes", "off_value": 0, "on_stale": {"value": []},
        "variants": [{"name": "a", "weight": 1, "value": "x"}],
    });

    let found = problems(ValueType::Boolean, state);

    assert_eq!(found, ["on_value", "off_value", "on_stale.value", "variants[0].value"]);
    let large = json!({"enabled": true, "on_value": "x".repeat(65 * 1024)});
    assert_eq!(problems(ValueType::Json, large), ["on_value"]);
    let state = FlagState::default();
    assert!(validate_flag(ValueType::String, &state, FlagKind::KillSwitch).is_err());
}

#[test]
fn constraints_must_make_sense() {
    assert_eq!(constraint("x", "IN", &["a", "b"]), Vec::<String>::new());
    assert_eq!(constraint("x", "IN", &[]), ["values"]);
    assert_eq!(constraint("x", "IN", &["a", " "]), ["values[1]"]);
    assert_eq!(constraint("", "IN", &["a"]), ["field"]);
    assert_eq!(constraint("x", "NUM_GT", &["1", "2"]), ["values"]);
    assert_eq!(constraint("x", "NUM_GT", &["inf"]), ["values"]);
    assert_eq!(constraint("x", "SEMVER_EQ", &["1.2"]), ["values"]);
    assert_eq!(constraint("x", "REGEX", &["(a"]), ["values"]);
    assert_eq!(constraint("x", "REGEX", &["(((a{100}){100}){100}){100}"]), ["values"]);
    assert_eq!(constraint("x", "IN_CIDR", &["10.0.0.0/8", "10.0.0.0/99"]), ["values[1]"]);
    assert_eq!(constraint("x", "IS_SET", &["a"]), ["values"]);
    assert_eq!(constraint("current_time", "DATE_AFTER", &["2027-01-31"]), ["values"]);
    assert_eq!(constraint("x", "DATE_AFTER", &["2027-01-31T08:00:00Z"]), ["field"]);
    assert_eq!(constraint("current_time", "IN", &["x"]), ["operator"]);
    let long = "x".repeat(1_001);
    assert_eq!(constraint("x", "IN", &[&long]), ["values[0]"]);
    let segment = json!({"key": "s", "constraints": [{"field": "x", "operator": "NUM_EQ"}]});
    let segment: Segment = serde_json::from_value(segment).unwrap();
    let found = validate_segment(&segment).unwrap_err();
    assert_eq!(found[0].path, "constraints[0].values");
}

#[test]
fn names_are_unique_and_lists_have_limits() {
    let rule = |id: &str| json!({"id": id});
    let rules = json!({"enabled": true, "rules": [rule("a"), rule("b"), rule("a"), rule("ä b")]});
    assert_eq!(problems(ValueType::Boolean, rules), ["rules[2].id", "rules[3].id"]);

    let rules: Vec<Value> = (0..101).map(|n| rule(&n.to_string())).collect();
    assert_eq!(problems(ValueType::Boolean, json!({"enabled": true, "rules": rules})), ["rules"]);

    let variant = |name: &str| json!({"name": name, "weight": 0});
    let variants = json!({"enabled": true, "variants": [variant("a"), variant("a")]});
    assert_eq!(problems(ValueType::Boolean, variants), ["variants[1].name", "variants"]);
    let heavy = json!({"enabled": true, "variants": [{"name": "a", "weight": 100_001}]});
    assert_eq!(problems(ValueType::Boolean, heavy), ["variants[0].weight"]);
}

#[test]
fn a_circle_of_prerequisites_is_found_with_its_way() {
    let key = |text: &str| FlagKey::try_from(text).unwrap();
    let needs = |text: &str| Prerequisite { flag: key(text), enabled: true, variants: Vec::new() };
    let lookup = |flag: &FlagKey| match flag.as_str() {
        "b" => Some(vec![key("c"), key("d")]),
        "d" => Some(vec![key("c"), key("a")]),
        _ => None,
    };

    let way = find_cycle(&key("a"), &[needs("b")], lookup).unwrap();

    assert_eq!(way.iter().map(FlagKey::as_str).collect::<Vec<_>>(), ["a", "b", "d", "a"]);
    assert_eq!(find_cycle(&key("a"), &[needs("c")], lookup), None);
    assert!(find_cycle(&key("a"), &[needs("a")], lookup).is_some());
}
