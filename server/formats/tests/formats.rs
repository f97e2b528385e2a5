//! Other systems' files: who would change sides when they are taken over, and that no file breaks the reader.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use switchback_formats::drift::{self, Source};
use switchback_formats::{Imported, Weight, flagd, flagsmith, growthbook, launchdarkly, unleash};

const NOW_MS: i64 = 1_790_000_000_000;
const USERS: usize = 10_000;

const FLAGD: &str = include_str!("samples/flagd.json");
const LAUNCHDARKLY: &str = include_str!("samples/launchdarkly.json");
const GROWTHBOOK: &str = include_str!("samples/growthbook.json");
const FLAGSMITH: &str = include_str!("samples/flagsmith.json");
const UNLEASH: &str = include_str!("samples/unleash.json");

/// Every flag agrees for every user; returns what was left out.
#[track_caller]
fn nobody_moves(imported: &Imported, mut source: impl Source) -> BTreeSet<String> {
    let report = drift::report(imported, &mut source, USERS, NOW_MS);
    for flag in &report.flags {
        assert_eq!(flag.moved, 0, "{}: {:#?}", flag.flag, flag.users);
    }
    let notes = imported.notes.iter().filter(|note| note.weight == Weight::LeftOut);
    notes.map(|note| note.about.clone()).collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// How often each value is given: a report over flags that give everybody the same would prove nothing.
fn shares(imported: &Imported, key: &str) -> usize {
    let ruleset = switchback_core::Ruleset::compile(&drift::document(imported));
    let values: BTreeSet<String> = (0..3000)
        .map(|n| {
            let context = switchback_core::Context::new().user_id(format!("user-{n}"));
            ruleset.evaluate(key, &context).value.to_string()
        })
        .collect();
    values.len()
}

#[test]
fn nobody_moves_from_flagd() {
    let imported = flagd::import(FLAGD).unwrap();
    let left = nobody_moves(&imported, flagd::Source::new(FLAGD).unwrap());
    assert_eq!(left, names(&["computed"]), "{:#?}", imported.notes);
    assert_eq!(imported.flags.len(), 9);
    assert_eq!(shares(&imported, "thirds"), 3);
    assert_eq!(shares(&imported, "new_checkout"), 2);
}

#[test]
fn nobody_moves_from_launchdarkly() {
    let imported = launchdarkly::import(LAUNCHDARKLY).unwrap();
    let left = nobody_moves(&imported, launchdarkly::Source::new(LAUNCHDARKLY).unwrap());
    assert_eq!(left, names(&["dates", "orphan"]), "{:#?}", imported.notes);
    assert_eq!(imported.flags.len(), 4);
    assert_eq!(shares(&imported, "banner"), 3);
}

#[test]
fn nobody_moves_from_growthbook() {
    let imported = growthbook::import(GROWTHBOOK).unwrap();
    let left = nobody_moves(&imported, growthbook::Source::new(GROWTHBOOK).unwrap());
    assert_eq!(left, names(&["child", "elements"]), "{:#?}", imported.notes);
    assert_eq!(imported.flags.len(), 6);
    assert_eq!(shares(&imported, "spaced"), 2);
    assert_eq!(shares(&imported, "filtered"), 3);
}

#[test]
fn nobody_moves_from_flagsmith() {
    let imported = flagsmith::import(FLAGSMITH).unwrap();
    let left = nobody_moves(&imported, flagsmith::Source::new(FLAGSMITH).unwrap());
    assert_eq!(left, names(&["odd"]), "{:#?}", imported.notes);
    assert_eq!(imported.flags.len(), 4);
    assert_eq!(imported.segments.len(), 1, "a segment that is one list of constraints stays one");
    assert_eq!(shares(&imported, "banner"), 3);
}

#[test]
fn nobody_moves_from_unleash() {
    let imported = unleash::import(UNLEASH).unwrap();
    let left = nobody_moves(&imported, unleash::Source::new(UNLEASH).unwrap());
    assert_eq!(left, names(&[]), "{:#?}", imported.notes);
    assert_eq!(shares(&imported, "banner"), 3);
}

#[test]
fn a_reshuffled_flag_is_found() {
    let mut imported = launchdarkly::import(LAUNCHDARKLY).unwrap();
    let flag = imported.flags.iter_mut().find(|flag| flag.key == "checkout").unwrap();
    flag.salt = "another".to_owned();

    let mut source = launchdarkly::Source::new(LAUNCHDARKLY).unwrap();
    let report = drift::report(&imported, &mut source, USERS, NOW_MS);

    let checkout = report.flags.iter().find(|flag| flag.flag == "checkout").unwrap();
    assert!(checkout.moved > USERS / 20, "{checkout:?}");
    assert!(!checkout.users.is_empty());
}

#[test]
fn a_rule_that_matched_and_gave_false_does_not_fall_through() {
    let imported = launchdarkly::import(LAUNCHDARKLY).unwrap();
    let flag = imported.flags.iter().find(|flag| flag.key == "checkout").unwrap();
    let r2: Vec<_> = flag.state.rules.iter().filter(|rule| rule.id.starts_with("r2")).collect();

    assert_eq!(r2.len(), 2);
    assert!(r2[0].serve.is_on() && !r2[1].serve.is_on());
    assert_eq!(r2[0].percent.thousandths(), 12_345);
    assert_eq!(r2[1].bucketing.offset.thousandths(), 12_345);
}

#[test]
fn references_that_go_round_or_multiply_are_refused() {
    let flag = json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "targeting": {"if": [{"$ref": "a0"}, "on", "off"]}});
    let round = json!({"$evaluators": {"a0": {"and": [{"$ref": "a0"}]}}, "flags": {"f": flag}});
    let level = |n: usize| {
        let next = json!({"$ref": format!("a{}", n + 1)});
        (format!("a{n}"), json!({"and": [next.clone(), next]}))
    };
    let many: serde_json::Map<String, Value> = (0..40).map(level).collect();
    let many = json!({"$evaluators": many, "flags": {"f": flag}});
    let weights = json!({"flags": {"f": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": "a",
        "targeting": {"fractional": [["a", i64::MAX], ["a", i64::MAX], ["a", i64::MAX]]}}}});
    for text in [round, many, weights] {
        let imported = flagd::import(&text.to_string()).unwrap();
        assert_eq!(imported.notes[0].weight, Weight::LeftOut);
    }

    let segment = |n: usize| {
        let keys: Vec<String> = (0..10).map(|_| format!("s{}", n + 1)).collect();
        let clause = json!({"op": "segmentMatch", "attribute": "", "values": keys});
        (format!("s{n}"), json!({"rules": [{"clauses": [clause]}]}))
    };
    let segments: serde_json::Map<String, Value> = (0..20).map(segment).collect();
    let clause = json!({"op": "segmentMatch", "attribute": "", "values": ["s0"]});
    let data = json!({"segments": segments, "flags": {"f": {"on": true, "variations": [true, false],
        "rules": [{"clauses": [clause], "variation": 0}], "fallthrough": {"variation": 1}}}});
    let imported = launchdarkly::import(&data.to_string()).unwrap();
    assert_eq!(imported.notes[0].weight, Weight::LeftOut);
}

fn import_all(text: &str) {
    let found = [
        flagd::import(text),
        launchdarkly::import(text),
        growthbook::import(text),
        flagsmith::import(text),
        unleash::import(text),
    ];
    for imported in found.into_iter().flatten() {
        // Whatever was accepted compiles and can be asked.
        let sources: [Option<Box<dyn Source>>; 5] = [
            flagd::Source::new(text).ok().map(|source| Box::new(source) as _),
            launchdarkly::Source::new(text).ok().map(|source| Box::new(source) as _),
            growthbook::Source::new(text).ok().map(|source| Box::new(source) as _),
            flagsmith::Source::new(text).ok().map(|source| Box::new(source) as _),
            unleash::Source::new(text).ok().map(|source| Box::new(source) as _),
        ];
        for mut source in sources.into_iter().flatten() {
            drift::report(&imported, &mut *source, 3, NOW_MS);
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = "flags|features|variants|targeting|if|fractional|var|state|ENABLED|on|rules|clauses|op|values|\
                 segments|feature_states|project|defaultValue|variations|weights|force|condition|key|name";
    let word = proptest::sample::select(words.split('|').map(str::trim).collect::<Vec<_>>());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        "[a-z$. é]{0,6}".prop_map(Value::String),
        word.clone().prop_map(|word| json!(word)),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((word.clone(), inner), 0..5)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

/// Replaces what stands at the nth place of a tree.
fn replace(tree: &mut Value, at: &mut usize, with: &Value) {
    if *at == 0 {
        *tree = with.clone();
    }
    *at = at.wrapping_sub(1);
    match tree {
        Value::Array(list) => list.iter_mut().for_each(|one| replace(one, at, with)),
        Value::Object(object) => object.values_mut().for_each(|one| replace(one, at, with)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_json_breaks_a_reader(value in any_json(), inner in any_json()) {
        import_all(&value.to_string());
        import_all(&json!({"flags": {"a": inner.clone()}, "segments": {"s": inner.clone()}}).to_string());
        import_all(&json!({"features": {"a": inner.clone()}, "savedGroups": inner.clone()}).to_string());
        import_all(&json!({"features": [inner.clone()], "feature_states": [inner.clone()], "project": inner}).to_string());
    }

    #[test]
    fn no_text_breaks_a_reader(text in ".{0,60}") {
        import_all(&text);
    }

    #[test]
    fn no_change_of_a_good_file_breaks_its_reader(
        which in 0_usize..5, places in proptest::collection::vec((1_usize..400, any_json()), 1..4),
    ) {
        let text = [FLAGD, LAUNCHDARKLY, GROWTHBOOK, FLAGSMITH, UNLEASH][which];
        let mut tree: Value = serde_json::from_str(text).unwrap();
        for (mut place, with) in places {
            replace(&mut tree, &mut place, &with);
        }
        import_all(&tree.to_string());
    }
}
