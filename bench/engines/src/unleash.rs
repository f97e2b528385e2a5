//! Unleash: `unleash-yggdrasil`, from the answer of its client API.

use std::collections::HashMap;
use std::hint::black_box;

use serde_json::{Value, json};
use unleash_types::client_features::{ClientFeatures, Context};
use unleash_yggdrasil::{EngineState, UpdateMessage};

use super::world::{Engine, Flag, GROUP, Kind, groups, variants, word};

/// The engine, and the user who asks.
pub struct Unleash {
    engine: EngineState,
    context: Context,
    names: Vec<String>,
}

const EXTERNAL: Option<HashMap<String, bool>> = None;

fn context(user: &str, group: &str) -> Context {
    let properties =
        [("platform", "ios"), ("appVersion", "3.4.1"), ("group", group), ("plan", "pro")];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Context {
        user_id: Some(user.to_owned()),
        properties: Some(properties.into_iter().collect()),
        ..Context::default()
    }
}

fn feature(flag: &Flag) -> Value {
    let half = json!({"rollout": "50", "stickiness": "default", "groupId": flag.key});
    let strategies = match flag.kind {
        Kind::Plain | Kind::Variants => json!([]),
        Kind::Rollout => json!([{"name": "flexibleRollout", "parameters": half}]),
        Kind::Targeting => json!([{"name": "flexibleRollout", "parameters": half, "constraints": [
            {"contextName": "group", "operator": "IN", "values": groups()},
            {"contextName": "platform", "operator": "IN", "values": ["android", "ios"]},
            {"contextName": "appVersion", "operator": "SEMVER_GTE", "value": "3.2.0", "values": []},
        ]}]),
    };
    let variants = match flag.kind {
        Kind::Variants => variants(),
        _ => Vec::new(),
    };
    let variants: Vec<Value> = variants
        .iter()
        .map(|name| json!({"name": name, "weight": 200, "weightType": "variable", "stickiness": "default"}))
        .collect();
    json!({"name": flag.key, "type": "release", "enabled": true, "strategies": strategies, "variants": variants})
}

impl Unleash {
    /// Compiles the flags.
    pub fn new(flags: &[Flag]) -> Self {
        let features: Vec<Value> = flags.iter().map(feature).collect();
        let state = json!({"version": 2, "features": features, "segments": []});
        let state: ClientFeatures = serde_json::from_value(state).expect("Unleash reads it");
        let engine = EngineState::default();
        engine.take_state(UpdateMessage::FullResponse(state));
        let names = flags.iter().map(|flag| flag.key.clone()).collect();
        Self { engine, context: Context::default(), names }
    }
}

impl Engine for Unleash {
    fn settle(&mut self, user: &str) {
        self.context = context(user, GROUP);
    }

    fn ask(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            black_box(self.engine.is_enabled(black_box(key), black_box(&self.context), &EXTERNAL));
        }
    }

    fn ask_variant(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            black_box(self.engine.get_variant(black_box(key), black_box(&self.context), &EXTERNAL));
        }
    }

    fn ask_all(&self, calls: u64) {
        for _ in 0..calls {
            for name in &self.names {
                black_box(self.engine.is_enabled(
                    black_box(name),
                    black_box(&self.context),
                    &EXTERNAL,
                ));
            }
        }
    }

    fn decide(&self, key: &str, user: &str, group: &str) -> String {
        let context = context(user, group);
        let variant = self.engine.get_variant(key, &context, &EXTERNAL);
        if variant.name == "disabled" {
            word(self.engine.is_enabled(key, &context, &EXTERNAL))
        } else {
            variant.name
        }
    }
}
