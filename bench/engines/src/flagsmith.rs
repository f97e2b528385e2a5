//! Flagsmith: `flagsmith-flag-engine`, from its evaluation context. It decides all flags that it is given at once, so that
//! each flag under test has a context that holds nothing else. A share is said as a segment that splits by percentage.

use std::collections::HashMap;
use std::hint::black_box;

use flagsmith_flag_engine::engine::get_evaluation_result;
use flagsmith_flag_engine::engine_eval::EngineEvaluationContext;
use flagsmith_flag_engine::engine_eval::context::IdentityContext;
use serde_json::{Map, Value, json};

use super::world::{Engine, Flag, GROUP, Kind, groups, variants, word};

/// Everything, and the flags under test each for itself; with the user who asks in it.
pub struct Flagsmith {
    all: EngineEvaluationContext,
    alone: HashMap<String, EngineEvaluationContext>,
}

fn identity(user: &str, group: &str) -> IdentityContext {
    let traits = json!({"group": group, "platform": "ios", "version": "3.4.1", "plan": "pro"});
    let identity =
        json!({"identifier": user, "key": format!("production_{user}"), "traits": traits});
    serde_json::from_value(identity).expect("Flagsmith reads it")
}

fn context_of(flags: &[&Flag]) -> EngineEvaluationContext {
    let (mut features, mut segments) = (Map::new(), Map::new());
    for flag in flags {
        let is_on = matches!(flag.kind, Kind::Plain | Kind::Variants);
        let feature = |is_on: bool| json!({"key": flag.key, "name": flag.key, "enabled": is_on, "value": null});
        let mut whole = feature(is_on);
        if flag.kind == Kind::Variants {
            let even = variants()
                .into_iter()
                .map(|name| json!({"key": name, "value": name, "weight": 20.0}));
            whole["variants"] = Value::Array(even.collect());
        }
        features.insert(flag.key.clone(), whole);
        let condition = |property: &str, operator: &str, value: Value| json!({"property": property, "operator": operator, "value": value});
        let split = condition("$.identity.key", "PERCENTAGE_SPLIT", json!("50"));
        let conditions = match flag.kind {
            Kind::Plain | Kind::Variants => continue,
            Kind::Rollout => vec![split],
            Kind::Targeting => vec![
                condition("group", "IN", json!(groups())),
                condition("platform", "IN", json!(["android", "ios"])),
                condition("version", "GREATER_THAN_INCLUSIVE", json!("3.2.0:semver")),
                split,
            ],
        };
        let segment = json!({
            "key": flag.key, "name": flag.key, "rules": [{"type": "ALL", "conditions": conditions}],
            "overrides": [feature(true)],
        });
        segments.insert(flag.key.clone(), segment);
    }
    let context = json!({
        "environment": {"key": "production", "name": "production"}, "features": features, "segments": segments,
    });
    serde_json::from_value(context).expect("Flagsmith reads it")
}

impl Flagsmith {
    /// Reads the flags.
    pub fn new(flags: &[Flag]) -> Self {
        let tested = flags.iter().filter(|flag| !flag.key.starts_with("flag-"));
        Self {
            all: context_of(&flags.iter().collect::<Vec<_>>()),
            alone: tested.map(|flag| (flag.key.clone(), context_of(&[flag]))).collect(),
        }
    }
}

impl Engine for Flagsmith {
    fn settle(&mut self, user: &str) {
        for context in self.alone.values_mut().chain([&mut self.all]) {
            context.identity = Some(identity(user, GROUP));
        }
    }

    fn ask(&self, key: &str, calls: u64) {
        let context = &self.alone[key];
        for _ in 0..calls {
            let result = get_evaluation_result(black_box(context));
            black_box(result.flags.get(black_box(key)).is_some_and(|flag| flag.enabled));
        }
    }

    fn ask_variant(&self, key: &str, calls: u64) {
        let context = &self.alone[key];
        for _ in 0..calls {
            let result = get_evaluation_result(black_box(context));
            black_box(result.flags.get(black_box(key)));
        }
    }

    fn ask_all(&self, calls: u64) {
        for _ in 0..calls {
            black_box(get_evaluation_result(black_box(&self.all)));
        }
    }

    fn decide(&self, key: &str, user: &str, group: &str) -> String {
        let mut alone;
        let context = match self.alone.get(key) {
            Some(context) => context.clone(),
            None => {
                alone = self.all.clone();
                alone.features.retain(|name, _| name == key);
                alone.segments.retain(|name, _| name == key);
                alone
            }
        };
        let context = EngineEvaluationContext { identity: Some(identity(user, group)), ..context };
        match get_evaluation_result(&context).flags.get(key) {
            Some(flag) if flag.variant.is_some() => flag.value.value.clone(),
            Some(flag) => word(flag.enabled),
            None => "missing".to_owned(),
        }
    }
}
