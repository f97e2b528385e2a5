//! flagd: `flagd-evaluation-engine`, with which the OpenFeature provider `open-feature-flagd` decides in process, from a
//! flag definition. The provider itself cannot be built without the compiler of protocol buffers; what it does around its
//! engine (a lock, a copy of the flag) is left out, to the engine's favour.

use std::collections::HashMap;
use std::hint::black_box;

use flagd_evaluation_engine::{FeatureFlag, FlagParser, Operator};
use open_feature::EvaluationContext;
use serde_json::{Map, Value, json};

use super::world::{Engine, Flag, GROUP, Kind, groups, variants, word};

/// The flags, and the user who asks.
pub struct Flagd {
    flags: HashMap<String, FeatureFlag>,
    operator: Operator,
    context: EvaluationContext,
    names: Vec<String>,
}

fn context(user: &str, group: &str) -> EvaluationContext {
    EvaluationContext::default()
        .with_targeting_key(user)
        .with_custom_field("group", group)
        .with_custom_field("platform", "ios")
        .with_custom_field("version", "3.4.1")
        .with_custom_field("plan", "pro")
}

fn flag(flag: &Flag) -> Value {
    let half = json!({"fractional": [["on", 50], ["off", 50]]});
    let switch = json!({"on": true, "off": false});
    let names = variants();
    match flag.kind {
        Kind::Plain => json!({"state": "ENABLED", "variants": switch, "defaultVariant": "on"}),
        Kind::Rollout => {
            json!({"state": "ENABLED", "variants": switch, "defaultVariant": "off", "targeting": half})
        }
        Kind::Targeting => {
            let all = json!({"and": [
                {"in": [{"var": "group"}, groups()]},
                {"in": [{"var": "platform"}, ["android", "ios"]]},
                {"sem_ver": [{"var": "version"}, ">=", "3.2.0"]},
            ]});
            let targeting = json!({"if": [all, half, "off"]});
            json!({"state": "ENABLED", "variants": switch, "defaultVariant": "off", "targeting": targeting})
        }
        Kind::Variants => {
            let values: Map<String, Value> =
                names.iter().map(|name| (name.clone(), json!(name))).collect();
            let even: Vec<Value> = names.iter().map(|name| json!([name, 20])).collect();
            json!({"state": "ENABLED", "variants": values, "defaultVariant": names[0], "targeting": {"fractional": even}})
        }
    }
}

impl Flagd {
    /// Reads the flags.
    pub fn new(flags: &[Flag]) -> Self {
        let all: Map<String, Value> =
            flags.iter().map(|one| (one.key.clone(), flag(one))).collect();
        let read = FlagParser::parse_string(&json!({"flags": all}).to_string());
        Self {
            flags: read.expect("flagd reads it").flags,
            operator: Operator::new(),
            context: EvaluationContext::default(),
            names: flags.iter().map(|flag| flag.key.clone()).collect(),
        }
    }

    fn value(&self, key: &str, context: &EvaluationContext) -> Option<&Value> {
        let flag = self.flags.get(key)?;
        let targeting = flag.get_targeting();
        let chosen = if targeting == "{}" {
            None
        } else {
            self.operator.apply(key, &targeting, context).ok()?
        };
        flag.variants.get(chosen.as_deref().unwrap_or(&flag.default_variant))
    }
}

impl Engine for Flagd {
    fn settle(&mut self, user: &str) {
        self.context = context(user, GROUP);
    }

    fn ask(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            let value = self.value(black_box(key), black_box(&self.context));
            black_box(value.and_then(Value::as_bool));
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
                black_box(value.and_then(Value::as_bool));
            }
        }
    }

    fn decide(&self, key: &str, user: &str, group: &str) -> String {
        match self.value(key, &context(user, group)) {
            Some(Value::Bool(is_on)) => word(*is_on),
            Some(Value::String(name)) => name.clone(),
            other => format!("{other:?}"),
        }
    }
}
