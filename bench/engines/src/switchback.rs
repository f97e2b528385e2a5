//! Ours.

use std::hint::black_box;

use serde_json::{Value, json};
use switchback_core::model::Document;
use switchback_core::{Context, Ruleset};

use super::world::{Engine, Flag, GROUP, Kind, groups, variants, word};

/// The compiled flags, and the user who asks.
pub struct Switchback {
    ruleset: Ruleset,
    context: Context<'static>,
    names: Vec<String>,
}

fn context(user: &str, group: &str) -> Context<'static> {
    Context::new()
        .user_id(user.to_owned())
        .groups([group.to_owned()])
        .platform("ios")
        .app_version("3.4.1")
        .property("plan", "pro")
}

impl Switchback {
    /// Compiles the flags.
    pub fn new(flags: &[Flag]) -> Self {
        let state = |kind| match kind {
            Kind::Plain => json!({"enabled": true}),
            Kind::Rollout => json!({"enabled": true, "rules": [{"id": "half", "percent": 50}]}),
            Kind::Targeting => json!({"enabled": true, "rules": [{
                "id": "beta", "groups": groups(), "platforms": ["android", "ios"], "percent": 50,
                "constraints": [{"field": "app_version", "operator": "SEMVER_GTE", "values": ["3.2.0"]}],
            }]}),
            Kind::Variants => json!({"enabled": true, "variants":
                variants().iter().map(|name| json!({"name": name, "weight": 20})).collect::<Vec<_>>()}),
        };
        let list: Vec<Value> = flags
            .iter()
            .map(|flag| json!({"key": flag.key, "project": "shop", "salt": flag.key, "state": state(flag.kind)}))
            .collect();
        let document = json!({
            "epoch": "bench", "environment": "production", "revision": 1, "flags": list, "segments": {},
        });
        let document: Document = serde_json::from_value(document).expect("the document is ours");
        let names = flags.iter().map(|flag| flag.key.clone()).collect();
        Self { ruleset: Ruleset::compile(&document), context: Context::new(), names }
    }

    /// Every flag, in one call.
    pub fn ask_all_at_once(&self, calls: u64) {
        for _ in 0..calls {
            self.ruleset.evaluate_all(black_box(&self.context), |key, evaluation| {
                black_box((key, evaluation));
            });
        }
    }
}

impl Engine for Switchback {
    fn settle(&mut self, user: &str) {
        self.context = context(user, GROUP);
    }

    fn ask(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            black_box(self.ruleset.is_enabled(black_box(key), black_box(&self.context)));
        }
    }

    fn ask_variant(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            black_box(self.ruleset.evaluate(black_box(key), black_box(&self.context)));
        }
    }

    fn ask_all(&self, calls: u64) {
        for _ in 0..calls {
            for name in &self.names {
                black_box(self.ruleset.is_enabled(black_box(name), black_box(&self.context)));
            }
        }
    }

    fn decide(&self, key: &str, user: &str, group: &str) -> String {
        let context = context(user, group);
        let found = self.ruleset.evaluate(key, &context);
        found.variant.map_or_else(|| word(found.enabled), str::to_owned)
    }
}
