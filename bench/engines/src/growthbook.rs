//! GrowthBook: `growthbook-rust`, from its features.

use std::collections::HashMap;
use std::hint::black_box;

use growthbook_rust::dto::GrowthBookFeature;
use growthbook_rust::growthbook::GrowthBook as Own;
use growthbook_rust::model_public::GrowthBookAttribute;
use serde_json::{Map, Value, json};

use super::world::{Engine, Flag, GROUP, Kind, groups, variants, word};

/// The features, and the user who asks.
pub struct GrowthBook {
    engine: Own,
    attributes: Option<Vec<GrowthBookAttribute>>,
    names: Vec<String>,
}

fn attributes(user: &str, group: &str) -> Option<Vec<GrowthBookAttribute>> {
    let attributes =
        json!({"id": user, "group": group, "platform": "ios", "version": "3.4.1", "plan": "pro"});
    GrowthBookAttribute::from(attributes).ok()
}

fn feature(flag: &Flag) -> Value {
    let mut half = json!({"force": true, "coverage": 0.5, "hashAttribute": "id", "seed": flag.key, "hashVersion": 2});
    match flag.kind {
        Kind::Plain => json!({"defaultValue": true}),
        Kind::Rollout => json!({"defaultValue": false, "rules": [half]}),
        Kind::Targeting => {
            half["condition"] = json!({
                "group": {"$in": groups()}, "platform": {"$in": ["android", "ios"]}, "version": {"$vgte": "3.2.0"},
            });
            json!({"defaultValue": false, "rules": [half]})
        }
        Kind::Variants => {
            let names = variants();
            let weights = vec![0.2; names.len()];
            json!({"defaultValue": "", "rules": [{
                "key": flag.key, "variations": names, "weights": weights, "hashAttribute": "id", "hashVersion": 2,
            }]})
        }
    }
}

impl GrowthBook {
    /// Reads the features.
    pub fn new(flags: &[Flag]) -> Self {
        let features: Map<String, Value> =
            flags.iter().map(|flag| (flag.key.clone(), feature(flag))).collect();
        let features: HashMap<String, GrowthBookFeature> =
            serde_json::from_value(Value::Object(features)).expect("GrowthBook reads it");
        let engine = Own {
            forced_variations: None,
            features,
            attributes: None,
            sticky_bucket_service: None,
            saved_groups: HashMap::new(),
        };
        let names = flags.iter().map(|flag| flag.key.clone()).collect();
        Self { engine, attributes: None, names }
    }
}

impl Engine for GrowthBook {
    fn settle(&mut self, user: &str) {
        self.attributes = attributes(user, GROUP);
    }

    fn ask(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            black_box(self.engine.check(black_box(key), black_box(&self.attributes)).on);
        }
    }

    fn ask_variant(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            black_box(self.engine.check(black_box(key), black_box(&self.attributes)));
        }
    }

    fn ask_all(&self, calls: u64) {
        for _ in 0..calls {
            for name in &self.names {
                black_box(self.engine.check(black_box(name), black_box(&self.attributes)).on);
            }
        }
    }

    fn decide(&self, key: &str, user: &str, group: &str) -> String {
        match self.engine.check(key, &attributes(user, group)).value {
            Value::Bool(is_on) => word(is_on),
            Value::String(name) => name,
            other => other.to_string(),
        }
    }
}
