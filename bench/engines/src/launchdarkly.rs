//! LaunchDarkly: `launchdarkly-server-sdk-evaluation`, from the flag data of its SDKs. The flag is looked up in a map and
//! borrowed; the store of the official SDK hands out a copy.

use std::collections::HashMap;
use std::hint::black_box;

use launchdarkly_server_sdk_evaluation as ld;
use serde_json::{Value, json};

use super::world::{Engine, Flag, GROUP, Kind, groups, variants, word};

struct Store(HashMap<String, ld::Flag>);

impl ld::Store for Store {
    fn flag(&self, key: &str) -> Option<ld::Flag> {
        self.0.get(key).cloned()
    }

    fn segment(&self, _key: &str) -> Option<ld::Segment> {
        None
    }
}

/// The flags, and the user who asks.
pub struct LaunchDarkly {
    store: Store,
    context: ld::Context,
    names: Vec<String>,
}

fn context(user: &str, group: &str) -> ld::Context {
    let context = json!({
        "kind": "user", "key": user, "group": group, "platform": "ios", "version": "3.4.1", "plan": "pro",
    });
    serde_json::from_value(context).expect("LaunchDarkly reads it")
}

fn flag(flag: &Flag) -> Value {
    let half = json!({"variations": [{"variation": 0, "weight": 50_000}, {"variation": 1, "weight": 50_000}]});
    let clause = |attribute: &str, op: &str, values: Value, negate: bool| json!({"attribute": attribute, "contextKind": "user", "op": op, "values": values, "negate": negate});
    let rules = match flag.kind {
        Kind::Targeting => {
            json!([{"id": "beta", "trackEvents": false, "rollout": half, "clauses": [
                clause("group", "in", json!(groups()), false),
                clause("platform", "in", json!(["android", "ios"]), false),
                clause("version", "semVerLessThan", json!(["3.2.0"]), true),
            ]}])
        }
        _ => json!([]),
    };
    let names = variants();
    let even = (0..names.len()).map(|n| json!({"variation": n, "weight": 20_000}));
    let (variations, fallthrough) = match flag.kind {
        Kind::Plain => (json!([true, false]), json!({"variation": 0})),
        Kind::Rollout => (json!([true, false]), json!({"rollout": half})),
        Kind::Targeting => (json!([true, false]), json!({"variation": 1})),
        Kind::Variants => {
            (json!(names), json!({"rollout": {"variations": even.collect::<Vec<_>>()}}))
        }
    };
    json!({
        "key": flag.key, "version": 1, "on": true, "salt": flag.key, "offVariation": 1, "variations": variations,
        "targets": [], "rules": rules, "prerequisites": [], "fallthrough": fallthrough,
    })
}

impl LaunchDarkly {
    /// Reads the flags.
    pub fn new(flags: &[Flag]) -> Self {
        let read = |one: &Flag| {
            (one.key.clone(), serde_json::from_value(flag(one)).expect("LaunchDarkly reads it"))
        };
        let store = Store(flags.iter().map(read).collect());
        let names = flags.iter().map(|flag| flag.key.clone()).collect();
        Self { store, context: context("nobody", GROUP), names }
    }

    fn value<'a>(&'a self, key: &str, context: &'a ld::Context) -> Option<&'a ld::FlagValue> {
        ld::evaluate(&self.store, self.store.0.get(key)?, context, None).value
    }
}

impl Engine for LaunchDarkly {
    fn settle(&mut self, user: &str) {
        self.context = context(user, GROUP);
    }

    fn ask(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            let value = self.value(black_box(key), black_box(&self.context));
            black_box(value.and_then(ld::FlagValue::as_bool));
        }
    }

    fn ask_variant(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            black_box(self.value(black_box(key), black_box(&self.context)));
        }
    }

    fn ask_all(&self, calls: u64) {
        for _ in 0..calls {
            for name in &self.names {
                let value = self.value(black_box(name), black_box(&self.context));
                black_box(value.and_then(ld::FlagValue::as_bool));
            }
        }
    }

    fn decide(&self, key: &str, user: &str, group: &str) -> String {
        match self.value(key, &context(user, group)) {
            Some(ld::FlagValue::Bool(is_on)) => word(*is_on),
            Some(ld::FlagValue::Str(name)) => name.clone(),
            other => format!("{other:?}"),
        }
    }
}
