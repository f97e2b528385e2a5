//! Promises to users, tried on many inputs.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use proptest::prelude::*;
use serde_json::{Value, json};
use switchback_core::model::{Document, Percent};
use switchback_core::wire::Delta;
use switchback_core::{Context, ContextBody, Reason, Ruleset, SLOTS, slot};

fn document(flags: &Value) -> Document {
    serde_json::from_value(json!({
        "epoch": "e", "environment": "production", "revision": 1, "flags": flags, "segments": {},
    }))
    .expect("a document")
}

fn rollout(salt: &str, thousandths: u32, variants: &Value) -> Ruleset {
    let percent = Percent::from_thousandths(thousandths).expect("a share");
    Ruleset::compile(&document(&json!([{
        "key": "f", "project": "p", "salt": salt, "state": {
            "enabled": true, "rules": [{"id": "r", "percent": percent}], "variants": variants,
        },
    }])))
}

proptest! {
    /// Raising a rollout only adds users: nobody who had the feature may lose it, or change sides.
    #[test]
    fn raising_a_rollout_keeps_everyone_in(
        salt in "[a-z]{1,9}", unit in ".{1,40}", a in 0..=SLOTS, b in 0..=SLOTS,
    ) {
        let variants = json!([{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]);
        let context = Context::new().user_id(unit.as_str());
        let (low, high) = (rollout(&salt, a.min(b), &variants), rollout(&salt, a.max(b), &variants));
        let (low, high) = (low.evaluate("f", &context), high.evaluate("f", &context));

        prop_assert!(!low.enabled || high.enabled, "{:?} was lost", unit);
        if low.enabled {
            prop_assert_eq!(low.variant, high.variant);
        }
    }

    /// Whole percents let in exactly whom every Unleash SDK lets in.
    #[test]
    fn whole_percents_agree_with_unleash(salt in "[a-z]{1,9}", unit in ".{1,40}", percent in 0..=100_u32) {
        let unleash = slot(&salt, &unit) / 1000 < percent; // h % 100 + 1 <= percent
        let found = rollout(&salt, percent * 1000, &json!([]))
            .is_enabled("f", &Context::new().user_id(unit.as_str()));

        prop_assert_eq!(found, unleash);
    }

    #[test]
    fn applying_a_difference_gives_the_other_document(a in documents(), b in documents()) {
        let mut b = b;
        b.revision = a.revision + 1;
        let mut found = a.clone();

        let delta = Delta::between(&a, &b);
        let delta: Delta = serde_json::from_value(serde_json::to_value(delta).unwrap()).unwrap();
        found.apply(&delta).unwrap();

        prop_assert_eq!(found, b);
    }

    /// Whatever a server sends: no panic, and what cannot be read stays off.
    #[test]
    fn nonsense_never_turns_a_flag_on(
        state in json_values(), rule in json_values(), extra in "[a-z]{3,9}", body in contexts(),
    ) {
        let flags = json!([
            {"key": "a", "project": "p", "salt": "s", "state": state},
            {"key": "b", "project": "p", "salt": "s", "state": {"enabled": true, "rules": [rule]}},
            {"key": "c", "project": "p", "salt": "s", "state": {"enabled": true, extra: state}},
            {"key": "d", "state": {"enabled": true}, "rules": rule},
        ]);
        let document = document(&flags);
        let ruleset = Ruleset::compile(&document);
        let context = body.to_context(0, 0);

        for (key, entry) in &document.flags {
            let found = ruleset.evaluate(key, &context);
            let unreadable = !matches!(entry, switchback_core::model::FlagEntry::Known(_));
            prop_assert!(!(unreadable && found.enabled), "{} is on", key);
            ruleset.explain(key, &context);
        }
    }

    /// Any operator with any values, on any context: no panic, and both ways of asking agree.
    #[test]
    fn any_constraint_meets_any_context(
        operator in prop::sample::select(OPERATORS), field in fields(), inverted: bool, fold: bool,
        values in prop::collection::vec(texts(), 0..6), body in contexts(), now in any::<i64>(),
    ) {
        let ruleset = Ruleset::compile(&document(&json!([{
            "key": "f", "project": "p", "salt": "s", "state": {"enabled": true, "rules": [{
                "id": "r", "stickiness": field, "percent": 50,
                "constraints": [{"field": field, "operator": operator, "values": values,
                    "inverted": inverted, "case_insensitive": fold}],
            }], "variants": [{"name": "a", "weight": 4_294_967_295_u32}, {"name": "b", "weight": 9}]},
        }])));
        let context = body.to_context(now, now as u32);

        let found = ruleset.evaluate("f", &context);
        prop_assert_eq!(found.enabled, ruleset.is_enabled("f", &context));
        prop_assert_eq!(found.enabled, ruleset.explain("f", &context).enabled);
    }

    /// One flag, all flags at once, or as a boolean: each lets in whom the lists name, however long a key is and however
    /// many groups a user is in.
    #[test]
    fn every_way_of_asking_reads_the_lists_alike(
        lists in prop::collection::btree_map(
            "[ab]{1,4}|a{9,20}[ab]a{0,9}", (groups(8), prop::collection::vec("[xy]{1,2}", 0..7)), 1..12,
        ),
        own in groups(40), platform in prop::option::of("[xy]{1,2}"),
    ) {
        let flag = |(key, (groups, platforms)): (&String, &(Vec<String>, Vec<String>))| json!({
            "key": key, "project": "p", "salt": "s", "state": {"enabled": true, "rules": [
                {"id": "r", "groups": groups, "platforms": platforms, "percent": 100},
            ]},
        });
        let ruleset = Ruleset::compile(&document(&lists.iter().map(flag).collect()));
        let mut context = Context::new().groups(own.iter().map(String::as_str));
        if let Some(platform) = &platform {
            context = context.platform(platform.as_str());
        }

        let mut all = Vec::new();
        ruleset.evaluate_all(&context, |key, found| all.push((key, found)));
        prop_assert!(all.iter().map(|(key, _)| *key).eq(lists.keys()));
        for ((key, found), (groups, platforms)) in all.into_iter().zip(lists.values()) {
            let in_group = groups.is_empty() || groups.iter().any(|group| own.contains(group));
            let on_platform = platforms.is_empty()
                || platform.as_ref().is_some_and(|platform| platforms.contains(platform));
            prop_assert_eq!(found.enabled, in_group && on_platform, "{}", key);
            prop_assert_eq!(found, ruleset.evaluate(key, &context));
            prop_assert_eq!(found.enabled, ruleset.is_enabled(key, &context));
        }
        prop_assert_eq!(ruleset.evaluate("neither of them", &context).reason, Reason::UnknownFlag);
    }
}

/// Each variant's share of many units is within what chance allows (chi-square, 4 degrees of
/// freedom, p = 0.0001), among those let in as among all.
#[test]
fn variants_keep_their_share() {
    let weights = [10_u32, 20, 30, 15, 25];
    let variants: Value = weights
        .iter()
        .enumerate()
        .map(|(n, w)| json!({"name": n.to_string(), "weight": w}))
        .collect();
    for thousandths in [SLOTS, 10_000, 1_000] {
        let ruleset = rollout("checkout", thousandths, &variants);
        let mut counts = [0_u32; 5];
        for unit in 0..200_000 {
            let unit = format!("user-{unit}");
            if let Some(name) = ruleset.evaluate("f", &Context::new().user_id(unit)).variant {
                counts[name.parse::<usize>().unwrap()] += 1;
            }
        }
        let total = f64::from(counts.iter().sum::<u32>());
        let square: f64 = counts
            .iter()
            .zip(weights)
            .map(|(count, weight)| {
                let expected = total * f64::from(weight) / 100.0;
                (f64::from(*count) - expected).powi(2) / expected
            })
            .sum();
        assert!(square < 23.5, "{counts:?} at {thousandths}: {square}");
    }
}

const OPERATORS: &[&str] = &[
    "IN",
    "NOT_IN",
    "STR_CONTAINS",
    "STR_STARTS_WITH",
    "STR_ENDS_WITH",
    "NUM_EQ",
    "NUM_GT",
    "NUM_GTE",
    "NUM_LT",
    "NUM_LTE",
    "DATE_AFTER",
    "DATE_BEFORE",
    "SEMVER_EQ",
    "SEMVER_GT",
    "SEMVER_GTE",
    "SEMVER_LT",
    "SEMVER_LTE",
    "REGEX",
    "IN_CIDR",
    "IS_SET",
];

/// Names of groups, short and long.
fn groups(most: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("g[a-p]{0,1}|the group of people in team [a-h]", 0..most)
}

fn fields() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "user_id",
        "session_id",
        "groups",
        "platform",
        "app_version",
        "country",
        "remote_address",
        "app_name",
        "environment",
        "current_time",
        "x",
        "y",
    ])
    .prop_map(str::to_owned)
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,12}",
        "-?[0-9]{1,3}(\\.[0-9])?",
        "[0-9]\\.[0-9](\\.[0-9](-[a-z.]{1,4})?)?",
        "[0-9]{1,3}\\.0\\.0\\.1(/[0-9]{1,2})?",
        "20[0-9]{2}-01-01T00:00:00Z",
        "[a-c(\\[*.|^$]{1,6}",
    ]
}

fn contexts() -> impl Strategy<Value = ContextBody> {
    let text = || prop::option::of(texts());
    let properties = prop::collection::btree_map("[xy]", json_values(), 0..3);
    let fixed = (text(), text(), text(), text(), text(), text(), text());
    (fixed, prop::collection::vec(texts(), 0..3), properties).prop_map(
        |(
            (user_id, session_id, platform, app_version, country, remote_address, app_name),
            groups,
            properties,
        )| {
            ContextBody {
                user_id,
                session_id,
                groups,
                platform,
                app_version,
                country,
                remote_address,
                app_name,
                properties,
            }
        },
    )
}

fn json_values() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "enabled",
        "killed",
        "rules",
        "id",
        "constraints",
        "percent",
        "variants",
        "value",
        "weight",
        "name",
        "on_value",
        "field",
        "operator",
        "values",
        "IN",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        texts().prop_map(Value::from),
        words.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(words.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn documents() -> impl Strategy<Value = Document> {
    let flags =
        prop::collection::btree_map("[a-d]", (any::<bool>(), 0..3_u32, any::<bool>()), 0..4);
    let segments = prop::collection::btree_map("[s-v]", "[a-b]", 0..4);
    (flags, segments, 0..9_u64).prop_map(|(flags, segments, revision)| {
        let flags: Vec<Value> = flags
            .into_iter()
            .map(|(key, (enabled, percent, readable))| {
                let kind = if readable { "release" } else { "of a later release" };
                json!({"key": key, "project": "p", "salt": key, "kind": kind, "state": {
                    "enabled": enabled, "rules": [{"id": "r", "percent": percent}],
                }})
            })
            .collect();
        let mut document = document(&Value::from(flags));
        document.revision = revision;
        for (key, value) in segments {
            let segment = json!({"key": key, "constraints": [
                {"field": "x", "operator": "IN", "values": [value]},
            ]});
            document.segments.insert(key, serde_json::from_value(segment).expect("a segment"));
        }
        document
    })
}
