//! Flags of ours as other systems' files: read again, they decide the same, and what cannot be said is refused.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests fail that way")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchback_core::model::Document;
use switchback_core::{Context, Ruleset};
use switchback_formats::export::{Exported, Selection};
use switchback_formats::{Imported, drift, flagd, flagd_definition, unleash};

const NOW_MS: i64 = 1_790_000_000_000;
const USERS: i64 = 20_000;

fn document(flags: &[(&str, &str, Value)]) -> Document {
    let flags = flags.iter().map(|(key, value_type, state)| {
        json!({"key": key, "project": "shop", "salt": format!("salt-of-{key}"), "value_type": value_type, "state": state})
    });
    let segments = json!({
        "staff": {"key": "staff", "constraints": [{"field": "properties.email", "operator": "STR_ENDS_WITH", "values": ["@example.com"]}]},
        "idle": {"key": "idle", "constraints": []},
    });
    let document = json!({
        "epoch": "e", "environment": "production", "revision": 7,
        "flags": flags.collect::<Vec<_>>(), "segments": segments,
    });
    serde_json::from_value(document).unwrap()
}

fn exported(document: &Document, write: impl Fn(&Selection<'_>) -> Exported) -> Exported {
    let descriptions = BTreeMap::from([("plain".to_owned(), "What people wrote".to_owned())]);
    write(&Selection { document, project: None, descriptions: &descriptions })
}

/// All sorts of people, some of whom lack one thing or another.
fn context(n: i64) -> Context<'static> {
    let mut context =
        Context::new().now_ms(NOW_MS + (n % 3 - 1) * 3_600_000).property("age", n % 90);
    if n % 11 != 0 {
        context = context.user_id(format!("user-{n}"));
    }
    if n % 7 != 0 {
        context = context.app_version(["3.1.9", "3.2.0", "4.0.0-rc.1", "2.0.0"][n as usize % 4]);
    }
    if n % 5 != 0 {
        context = context.platform(["ios", "android", "web"][n as usize % 3]);
        context = context.property("plan", ["pro", "free", "team"][n as usize % 3]);
    }
    let mail = format!("user-{n}@example.{}", ["com", "org"][n as usize % 2]);
    if n % 6 != 0 {
        context = context.property("email", mail);
    }
    match n % 4 {
        0 => context,
        1 => context.groups(["beta"]),
        2 => context.groups(["gold", "beta"]),
        _ => context.groups(["silver"]),
    }
}

/// Ours before and after: on or off where that is all that the other system knows, and the value.
#[track_caller]
fn decides_the_same(before: &Document, imported: &Imported, compares_off: bool) {
    let (before, after) = (Ruleset::compile(before), Ruleset::compile(&drift::document(imported)));
    for flag in &imported.flags {
        let key = flag.key.as_str();
        let mut values = BTreeMap::new();
        for n in 0..USERS {
            let context = context(n);
            let (one, other) = (before.evaluate(key, &context), after.evaluate(key, &context));
            if compares_off {
                assert_eq!(one.value, other.value, "{key} for {context:?}");
            } else {
                assert_eq!(one.enabled, other.enabled, "{key} for {context:?}");
                assert!(
                    !one.enabled || one.value == other.value,
                    "{key} for {context:?}: {one:?} {other:?}"
                );
            }
            *values.entry(one.value.to_string()).or_insert(0) += 1;
        }
        let is_fixed = ["plain", "dark", "gone", "text", "over"].contains(&key);
        assert!(is_fixed || values.len() > 1, "{key} gives everybody {values:?}");
    }
}

fn one(field: &str, operator: &str, values: &[&str]) -> Value {
    json!({"field": field, "operator": operator, "values": values})
}

fn rules(rules: &Value) -> Value {
    json!({"enabled": true, "rules": rules})
}

#[test]
fn an_unleash_file_decides_as_we_do() {
    let beta = json!({
        "id": "beta", "groups": ["beta", "gold"], "platforms": ["ios", "android"], "percent": 40,
        "constraints": [one("app_version", "SEMVER_GTE", &["3.2"]), one("properties.age", "NUM_LT", &["60"])],
    });
    let colours = json!([{"name": "red", "weight": 1, "value": "#f00"}, {"name": "blue", "weight": 2, "value": "#00f"}]);
    let end = "2026-09-21T14:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let document = document(&[
        ("plain", "boolean", json!({"enabled": true})),
        ("dark", "boolean", json!({"enabled": false, "rules": [beta]})),
        ("gone", "boolean", json!({"enabled": true, "killed": true, "rules": [beta]})),
        (
            "beta",
            "boolean",
            rules(
                &json!([beta, {"id": "rest", "percent": 5, "stickiness": "email", "salt": "other"}]),
            ),
        ),
        (
            "barred",
            "boolean",
            rules(&json!([
                {"id": "no", "serve": "off", "constraints": [one("properties.plan", "IN", &["free"])]},
                {"id": "half", "percent": 50, "segments": ["staff"]},
            ])),
        ),
        ("ending", "boolean", json!({"enabled": true, "expires_at": end, "rules": [beta]})),
        (
            "child",
            "boolean",
            json!({"enabled": true, "prerequisites": [{"flag": "beta", "enabled": false}]}),
        ),
        ("text", "string", json!({"enabled": true, "on_value": "hello", "off_value": ""})),
        (
            "colour",
            "string",
            json!({"enabled": true, "on_value": "", "off_value": "", "variants": colours}),
        ),
        (
            "limit",
            "number",
            json!({"enabled": true, "on_value": 7, "rules": [
                {"id": "few", "percent": 30, "variants": [{"name": "a", "weight": 1, "value": 1.5}, {"name": "b", "weight": 1, "value": 3}]},
                {"id": "rest", "groups": ["silver"]},
            ]}),
        ),
    ]);

    let exported = exported(&document, unleash::file_of);
    let imported = unleash::import(&exported.text).unwrap();

    assert!(exported.refused.is_empty() && exported.flags == 10, "{exported:?}");
    assert!(imported.notes.is_empty(), "{:?}", imported.notes);
    decides_the_same(&document, &imported, false);
    let report =
        drift::report(&imported, &mut unleash::Source::new(&exported.text).unwrap(), 5_000, NOW_MS);
    assert_eq!(report.moved(), 0, "{report:?}");
    let file: Value = serde_json::from_str(&exported.text).unwrap();
    assert_eq!(file["segments"].as_array().unwrap().len(), 1, "only what is named");
    let flag = |name| imported.flags.iter().find(|flag| flag.key == name).unwrap();
    assert_eq!(flag("plain").description, "What people wrote");
    assert_eq!(flag("dark").state.rules.len(), 2, "rules of a flag that is off are kept");
}

#[test]
fn a_flagd_file_decides_as_we_do() {
    let flagd_share = |percent: f64, offset: f64| json!({"id": "share", "percent": percent, "stickiness": "user_id", "bucketing": {"formula": "flagd", "offset": offset}});
    let asked = json!([
        one("app_version", "SEMVER_GTE", &["3.2.0"]),
        one("properties.age", "NUM_LT", &["60"]),
        one("properties.plan", "NOT_IN", &["free"]),
    ]);
    let split = json!({
        "id": "split", "stickiness": "user_id", "bucketing": {"formula": "flagd"}, "groups": ["beta"],
        "variants": [{"name": "red", "weight": 1, "value": "#f00"}, {"name": "blue", "weight": 2, "value": "#00f"}],
    });
    let document = document(&[
        ("plain", "boolean", json!({"enabled": true})),
        ("dark", "boolean", json!({"enabled": false, "rules": [{"id": "r", "percent": 12.5}]})),
        (
            "gone",
            "string",
            json!({"enabled": true, "killed": true, "on_value": "a", "off_value": "b"}),
        ),
        ("low", "boolean", rules(&json!([flagd_share(37.125, 0.0)]))),
        ("high", "boolean", rules(&json!([flagd_share(25.0, 60.5)]))),
        (
            "asked",
            "boolean",
            rules(&json!([{"id": "a", "constraints": asked, "segments": ["staff"]},
            {"id": "no", "serve": "off", "platforms": ["web"]}, flagd_share(50.0, 0.0)])),
        ),
        (
            "colour",
            "string",
            json!({"enabled": true, "on_value": "none", "off_value": "off", "rules": [split]}),
        ),
        (
            "left",
            "string",
            json!({"enabled": true, "on_value": "some", "rules": [flagd_share(50.0, 0.0)]}),
        ),
        ("there", "boolean", rules(&json!([{"id": "r", "stickiness": "email"}]))),
        ("over", "boolean", json!({"enabled": true, "expires_at": NOW_MS - 7_200_000})),
        (
            "ending",
            "boolean",
            json!({"enabled": true, "expires_at": NOW_MS, "rules": [{"id": "r", "constraints":
            [one("current_time", "DATE_BEFORE", &["2027-01-01T00:00:00Z"])]}]}),
        ),
    ]);

    let exported = exported(&document, flagd_definition::file_of);
    let imported = flagd::import(&exported.text).unwrap();

    assert!(exported.refused.is_empty() && exported.flags == 11, "{exported:?}");
    assert_eq!(exported.notes.keys().collect::<Vec<_>>(), ["dark"]);
    assert_eq!(imported.flags.len(), 11, "{:?}", imported.notes);
    decides_the_same(&document, &imported, true);
    let report =
        drift::report(&imported, &mut flagd::Source::new(&exported.text).unwrap(), 5_000, NOW_MS);
    assert_eq!(report.moved(), 0, "{report:?}");
    assert_eq!(
        imported.flags.iter().find(|flag| flag.key == "plain").unwrap().description,
        "What people wrote"
    );
}

#[test]
fn what_unleash_cannot_say_is_refused() {
    let constraint = |field: &str, operator: &str, value: &str| {
        rules(&json!([{"id": "r", "constraints": [one(field, operator, &[value])]}]))
    };
    for (value_type, state, reason) in [
        ("boolean", rules(&json!([{"id": "r", "percent": 12.5}])), "whole percents"),
        (
            "boolean",
            rules(&json!([{"id": "r", "percent": 20, "bucketing": {"formula": "flagd"}}])),
            "formula",
        ),
        (
            "boolean",
            json!({"enabled": false, "rules": [{"id": "r", "percent": 0.5}]}),
            "whole percents",
        ),
        (
            "boolean",
            json!({"enabled": true, "max_staleness_ms": 5000, "on_stale": "off"}),
            "not been heard of",
        ),
        ("boolean", rules(&json!([{"id": "r", "groups": ["a,b"]}])), "comma"),
        ("boolean", constraint("current_time", "NUM_GTE", "5"), "time"),
        ("boolean", constraint("properties.userId", "IN", "u"), "properties.userId"),
        ("boolean", json!({"enabled": true, "prerequisites": [{"flag": "bad"}]}), "needs `bad`"),
        ("string", json!({"enabled": true, "on_value": "a", "off_value": "b"}), "when off"),
        ("string", json!({"enabled": true}), "no value when on"),
    ] {
        let bad = rules(&json!([{"id": "r", "percent": 0.25}]));
        let document = document(&[
            ("bad", "boolean", bad),
            ("good", "boolean", json!({"enabled": true})),
            ("x", value_type, state),
        ]);

        let exported = exported(&document, unleash::file_of);

        assert!(exported.refused["x"].contains(reason), "{:?}", exported.refused);
        assert_eq!(exported.flags, 1);
        assert!(exported.text.contains("\"good\"") && !exported.text.contains("\"x\""));
    }
}

#[test]
fn what_flagd_cannot_say_is_refused() {
    for (value_type, state, reason) in [
        ("boolean", rules(&json!([{"id": "r", "percent": 20}])), "sticks to the user or else"),
        (
            "boolean",
            rules(&json!([{"id": "r", "percent": 20, "stickiness": "user_id"}])),
            "formula",
        ),
        (
            "boolean",
            rules(&json!([{"id": "r", "constraints": [one("email", "REGEX", &["a"])]}])),
            "regular",
        ),
        ("boolean", json!({"enabled": true, "prerequisites": [{"flag": "good"}]}), "prerequisites"),
        ("boolean", json!({"enabled": true, "expires_at": 1_790_000_000_500_i64}), "second"),
        ("string", json!({"enabled": true, "off_value": "a"}), "when on"),
    ] {
        let document =
            document(&[("good", "boolean", json!({"enabled": true})), ("x", value_type, state)]);

        let exported = exported(&document, flagd_definition::file_of);

        assert!(exported.refused["x"].contains(reason), "{:?}", exported.refused);
        assert_eq!(exported.flags, 1);
    }
}
