//! The shared vectors in `tests/vectors`, which the TypeScript SDK reads too.

#![expect(clippy::expect_used, reason = "a helper of tests")]

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use switchback_core::model::{Document, FlagEntry};
use switchback_core::wire::{Delta, ServerFrame};
use switchback_core::{Context, ContextBody, Follower, Reply, Ruleset, slot, variant_point};

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect(&path);
    serde_json::from_str(&text).expect(&path)
}

#[derive(Deserialize)]
struct Bucketing {
    slots: Vec<SlotCase>,
    variants: Vec<VariantCase>,
}

#[derive(Deserialize)]
struct SlotCase {
    salt: String,
    unit: String,
    slot: u32,
    unleash: u32,
}

#[derive(Deserialize)]
struct VariantCase {
    salt: String,
    unit: String,
    total_weight: u64,
    point: u64,
}

#[test]
fn every_unit_is_in_its_slot() {
    let cases: Bucketing = read("bucketing.json");
    for case in cases.slots {
        let found = slot(&case.salt, &case.unit);
        assert_eq!(
            (found, found / 1000 + 1),
            (case.slot, case.unleash),
            "{}:{}",
            case.salt,
            case.unit
        );
    }
    for case in cases.variants {
        let found = variant_point(&case.salt, &case.unit, case.total_weight);
        assert_eq!(found, case.point, "{}:{} of {}", case.salt, case.unit, case.total_weight);
    }
}

#[derive(Deserialize)]
struct Evaluations {
    constraints: Vec<ConstraintCase>,
    document: Document,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct ConstraintCase {
    constraint: Value,
    context: ContextBody,
    holds: bool,
    #[serde(default)]
    now_ms: i64,
}

#[derive(Deserialize)]
struct Case {
    flag: String,
    context: ContextBody,
    #[serde(default)]
    now_ms: i64,
    #[serde(default)]
    stale_for_ms: u64,
    #[serde(default)]
    draw: u32,
    expect: Expect,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Expect {
    enabled: bool,
    variant: Option<String>,
    value: Value,
    reason: String,
}

#[test]
fn every_constraint_holds_where_it_should() {
    for case in read::<Evaluations>("evaluation.json").constraints {
        let document: Document = serde_json::from_value(json!({
            "epoch": "", "environment": "production", "revision": 1, "segments": {},
            "flags": [{"key": "f", "project": "p", "salt": "f", "state": {
                "enabled": true, "rules": [{"id": "r", "constraints": [case.constraint]}],
            }}],
        }))
        .unwrap();
        let ruleset = Ruleset::compile(&document);
        let context = case.context.to_context(case.now_ms, 0);

        let explanation = ruleset.explain("f", &context);

        assert_eq!(explanation.enabled, case.holds, "{explanation:?}");
        assert_eq!(explanation.rules[0].checks[0].held, case.holds, "{explanation:?}");
    }
}

#[test]
fn every_case_is_decided_as_written() {
    let Evaluations { document, cases, .. } = read("evaluation.json");
    let ruleset = Ruleset::compile(&document);
    for case in cases {
        let context =
            case.context.to_context(case.now_ms, case.draw).stale_for_ms(case.stale_for_ms);

        let found = ruleset.evaluate(&case.flag, &context);
        let words = Expect {
            enabled: found.enabled,
            variant: found.variant.map(str::to_owned),
            value: found.value.clone(),
            reason: found.reason.to_string(),
        };

        assert_eq!(words, case.expect, "{} for {:?}", case.flag, case.context);
        assert_eq!(ruleset.is_enabled(&case.flag, &context), case.expect.enabled, "{}", case.flag);
        let explanation = ruleset.explain(&case.flag, &context);
        assert_eq!(explanation.reason, case.expect.reason);
        let decided = explanation.rules.iter().find(|rule| rule.decided);
        assert_eq!(decided.is_some(), case.expect.reason.starts_with("rule("), "{explanation:?}");
    }
}

#[test]
fn a_document_survives_the_wire() {
    let Evaluations { document, .. } = read("evaluation.json");

    let text = serde_json::to_string(&document).unwrap();
    let mut understood = document.clone();
    understood.flags.retain(|_, flag| matches!(flag, FlagEntry::Known(_)));

    assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);
    assert_eq!(Document::read(&text).unwrap(), document, "with a flag that cannot be read");
    for document in [document.clone(), understood] {
        let frame = ServerFrame::Full(document);
        let text = serde_json::to_string(&frame).unwrap();
        assert_eq!(ServerFrame::read(&text).unwrap(), frame);
    }
    let paths: Vec<String> =
        Ruleset::compile(&document).problems().iter().map(|p| p.path.clone()).collect();
    for expected in ["flags.broken", "segments.future", "flags.circle_a.prerequisites"] {
        assert!(paths.iter().any(|path| path == expected), "{expected} is not in {paths:?}");
    }
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names in the file")]
struct Deltas {
    deltas: Vec<DeltaCase>,
    gaps: Vec<GapCase>,
    follower: Vec<FollowerCase>,
}

#[derive(Deserialize)]
struct DeltaCase {
    from: Document,
    delta: Delta,
    to: Document,
}

#[derive(Deserialize)]
struct GapCase {
    have: Document,
    delta: Delta,
}

#[derive(Deserialize)]
struct FollowerCase {
    at: Option<(String, u64)>,
    frames: Vec<ServerFrame>,
    replies: Vec<String>,
}

#[test]
fn deltas_lead_where_they_say() {
    let cases: Deltas = read("delta.json");
    for mut case in cases.deltas {
        assert_eq!(Delta::between(&case.from, &case.to), case.delta);
        case.from.apply(&case.delta).unwrap();
        assert_eq!(case.from, case.to);
    }
    for mut case in cases.gaps {
        let before = case.have.clone();
        assert!(case.have.apply(&case.delta).is_err(), "{:?}", case.delta);
        assert_eq!(case.have, before);
    }
}

#[test]
fn the_follower_answers_as_written() {
    for case in read::<Deltas>("delta.json").follower {
        let mut follower = case
            .at
            .map_or_else(Follower::default, |(epoch, revision)| Follower::resume(epoch, revision));
        for (frame, reply) in case.frames.iter().zip(&case.replies) {
            let found = match follower.on_frame(frame) {
                Reply::Apply => "apply",
                Reply::Ask => "ask",
                Reply::Nothing => "nothing",
            };
            assert_eq!(found, reply, "{frame:?}");
        }
    }
}

#[test]
fn auth_mode_never_opens_the_door_by_accident() {
    let mode = |flags: Value| {
        let document = serde_json::from_value(json!({
            "epoch": "", "environment": "production", "revision": 1, "segments": {}, "flags": flags,
        }));
        Ruleset::compile(&document.unwrap()).auth_mode(&Context::new().user_id("u")).as_str()
    };
    let flag = |key: &str, on: bool| json!({"key": key, "project": "p", "salt": key, "state": {"enabled": on}});
    let broken = |key: &str| json!({"key": key, "state": {"enabled": false}});

    assert_eq!(Ruleset::default().auth_mode(&Context::new()).as_str(), "enforced");
    assert_eq!(mode(json!([])), "enforced");
    assert_eq!(
        mode(json!([broken("auth_bypass"), broken("auth_enabled"), broken("auth_rollout")])),
        "enforced"
    );
    assert_eq!(mode(json!([flag("auth_enabled", true)])), "enforced");
    assert_eq!(mode(json!([flag("auth_enabled", false)])), "anonymous");
    assert_eq!(mode(json!([flag("auth_enabled", true), flag("auth_rollout", false)])), "anonymous");
    assert_eq!(mode(json!([flag("auth_bypass", true), flag("auth_enabled", true)])), "bypass");
    assert_eq!(mode(json!([flag("auth_bypass", false), flag("auth_enabled", true)])), "enforced");
}
