//! What comes from outside in other systems' formats: whatever it is, it is read or refused, and nothing panics.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use switchback_core::Ruleset;
use switchback_core::model::Document;
use switchback_formats::flagd_definition::definition_of;
use switchback_formats::unleash::{Decider, Peer, context_of, features_of, import};
use switchback_formats::{ofrep, unleash};

/// Any JSON, with the words that these formats look for.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(word(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn word() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "features",
        "name",
        "enabled",
        "strategies",
        "flexibleRollout",
        "parameters",
        "rollout",
        "groupId",
        "constraints",
        "contextName",
        "operator",
        "REGEX",
        "IN_CIDR",
        "values",
        "value",
        "(((((a{9}){9}){9}){9}){9})",
        "variants",
        "weight",
        "stickiness",
        "payload",
        "dependencies",
        "feature",
        "segments",
        "id",
        "context",
        "properties",
        "targetingKey",
        "userId",
        "currentTime",
        "events",
        "type",
        "hydration",
        "feature-updated",
        "100",
        "-1",
        "1e308",
        "segment-removed",
    ];
    prop::sample::select(WORDS).prop_map(str::to_owned)
}

/// A document in the right shape, with anything inside.
fn shaped() -> impl Strategy<Value = Value> {
    (prop::collection::vec(anything(), 0..4), anything(), anything()).prop_map(|(parts, a, b)| {
        json!({
            "features": [{"name": "f", "enabled": true, "strategies": [{
                "name": "flexibleRollout", "parameters": {"rollout": a, "groupId": b, "stickiness": a},
                "constraints": [{"contextName": "userId", "operator": "NUM_GT", "value": "x", "values": []}],
                "variants": parts,
            }], "variants": b}],
            "segments": parts,
        })
    })
}

proptest! {
    #[test]
    fn unleash_documents_are_read_or_refused(state in prop_oneof![anything(), shaped()], context in anything()) {
        let context = context.as_object().cloned().unwrap_or_default();
        if let Ok(decider) = Decider::new(&state) {
            decider.is_enabled("f", &context, Peer::default());
            decider.variant("f", &context, Peer { fills: true, ..Peer::default() });
        }
        let _ = import(&state.to_string());
    }

    #[test]
    fn contexts_are_read_or_refused(body in anything()) {
        if let Some(body) = body.as_object() {
            context_of(body, Peer { fills: true, remote_address: Some("not an address"), ..Peer::default() });
        }
        let _ = ofrep::context_of(&body, None, 0, 0);
    }

    /// Whatever we can hold we can write in the other systems' terms, or say why not.
    #[test]
    fn documents_are_written_or_left_out(state in shaped()) {
        let Ok(features) = serde_json::from_value(state) else { return Ok(()) };
        let document: Document = unleash::read(&features).document;
        Ruleset::compile(&document);
        let written = features_of(&document);
        prop_assert_eq!(written.features.len() + written.left_out.len(), document.flags.len());
        let definition = definition_of(&document);
        prop_assert_eq!(definition["flags"].as_object().unwrap().len(), document.flags.len());
    }
}
