//! What is measured: decisions in a ruleset of 1,000 flags, and the floor that they stand on.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::OnceLock;

use serde_json::{Value, json};
use switchback_core::model::Document;
use switchback_core::{Context, Ruleset, slot};
use switchback_sdk::Switchback;

use super::peers::Unleash;

/// One row of the table.
pub struct Workload {
    /// Its name in the table and on the command line.
    pub name: &'static str,
    /// Runs it a number of times.
    pub run: fn(&World, u64),
    /// Calls to count instructions over; 0: they are not counted.
    pub calls: u64,
    /// CPU nanoseconds that the smallest conceivable engine takes; `performance.md`, "ideal".
    pub goal_ns: Option<f64>,
    /// Its instructions.
    pub goal_instructions: Option<f64>,
}

/// What all workloads work on, built once.
pub struct World {
    ruleset: Ruleset,
    context: Context<'static>,
    outsider: Context<'static>,
    index: HashMap<String, u32, foldhash::fast::FixedState>,
    document: Document,
    client: Switchback,
    /// Made when it is first asked: under callgrind that takes minutes.
    unleash: OnceLock<Unleash>,
    user: String,
}

/// A row of another engine: no goal, and no count of instructions.
const fn peer(name: &'static str, run: fn(&World, u64)) -> Workload {
    Workload { name, run, calls: 0, goal_ns: None, goal_instructions: None }
}

/// One look-up and one hash from scratch: no engine can do with less.
pub const FLOOR: &Workload = &Workload {
    name: "floor: look-up + murmur3",
    run: |world, calls| {
        for _ in 0..calls {
            let found = world.index.get(black_box("flag-0500"));
            black_box((found, slot(black_box("flag-0500"), black_box("user-1234567"))));
        }
    },
    calls: 20_000,
    goal_ns: None,
    goal_instructions: None,
};

/// All rows.
pub const WORKLOADS: &[&Workload] = &[
    FLOOR,
    &Workload {
        name: "plain flag",
        run: |world, calls| world.evaluate(calls, "plain", &world.context),
        calls: 20_000,
        goal_ns: Some(8.0),
        goal_instructions: Some(140.0),
    },
    &Workload {
        name: "plain flag, as bool",
        run: |world, calls| world.is_enabled(calls, "plain"),
        calls: 20_000,
        goal_ns: Some(8.0),
        goal_instructions: Some(140.0),
    },
    &Workload {
        name: "plain flag, through the client, counted",
        run: |world, calls| {
            for _ in 0..calls {
                black_box(world.client.is_enabled(black_box("plain"), black_box(&world.context)));
            }
        },
        calls: 20_000,
        goal_ns: None,
        goal_instructions: None,
    },
    &Workload {
        name: "50 % rollout",
        run: |world, calls| world.evaluate(calls, "rollout", &world.context),
        calls: 20_000,
        goal_ns: Some(29.0),
        goal_instructions: Some(366.0),
    },
    &Workload {
        name: "50 % rollout, as bool",
        run: |world, calls| world.is_enabled(calls, "rollout"),
        calls: 20_000,
        goal_ns: Some(29.0),
        goal_instructions: Some(366.0),
    },
    &Workload {
        name: "group + platform + version + rollout",
        run: |world, calls| world.evaluate(calls, "targeting", &world.context),
        calls: 20_000,
        goal_ns: Some(45.0),
        goal_instructions: Some(561.0),
    },
    &Workload {
        name: "the same, outsider",
        run: |world, calls| world.evaluate(calls, "targeting", &world.outsider),
        calls: 20_000,
        goal_ns: Some(15.5),
        goal_instructions: Some(232.0),
    },
    &Workload {
        name: "five variants",
        run: |world, calls| world.evaluate(calls, "variants", &world.context),
        calls: 20_000,
        goal_ns: Some(45.0),
        goal_instructions: Some(421.0),
    },
    &Workload {
        name: "all of 1,000 flags",
        run: |world, calls| {
            for _ in 0..calls {
                world.ruleset.evaluate_all(black_box(&world.context), |key, evaluation| {
                    black_box((key, evaluation));
                });
            }
        },
        calls: 100,
        goal_ns: Some(15_000.0),
        goal_instructions: Some(216_000.0),
    },
    &peer("yggdrasil: plain flag", |world, calls| world.unleash().is_enabled(calls, "plain")),
    &peer("yggdrasil: 50 % rollout", |world, calls| world.unleash().is_enabled(calls, "rollout")),
    &peer("yggdrasil: group + platform + version + rollout", |world, calls| {
        world.unleash().is_enabled(calls, "targeting");
    }),
    &peer("yggdrasil: five variants", |world, calls| world.unleash().variant(calls, "variants")),
    &peer("yggdrasil: all of 1,000 flags", |world, calls| world.unleash().all(calls)),
    &Workload {
        name: "context of 5 fields",
        run: |_, calls| {
            for _ in 0..calls {
                black_box(context(black_box("user-1234567"), "group-42"));
            }
        },
        calls: 20_000,
        goal_ns: Some(92.0),
        goal_instructions: None,
    },
    &Workload {
        name: "compile 1,000 flags",
        run: |world, calls| {
            for _ in 0..calls {
                black_box(Ruleset::compile(black_box(&world.document)));
            }
        },
        calls: 10,
        goal_ns: None,
        goal_instructions: None,
    },
];

impl World {
    /// A quarter each of plain flags, rollouts, targeting rules with 100 groups, and variants.
    pub fn new() -> Self {
        let mut flags: Vec<Value> = (0..996)
            .map(|n| {
                let key = format!("flag-{n:04}");
                match n % 4 {
                    0 => plain(&key),
                    1 => rollout(&key),
                    2 => targeting(&key),
                    _ => variants(&key),
                }
            })
            .collect();
        flags.extend([plain("plain"), rollout("rollout"), targeting("targeting")]);
        flags.push(variants("variants"));
        let document = json!({
            "epoch": "bench", "environment": "production", "revision": 1,
            "flags": flags, "segments": {},
        });
        let document: Document = serde_json::from_value(document).unwrap_or_default();
        let ruleset = Ruleset::compile(&document);
        // A user whom the rollouts under test let in: the longer way.
        let users = (0..1_000_000).map(|n| format!("user-{n:07}"));
        let user = users
            .into_iter()
            .find(|user| slot("rollout", user) < 50_000 && slot("targeting", user) < 50_000)
            .unwrap_or_default();
        Self {
            index: ruleset.keys().map(str::to_owned).zip(0..).collect(),
            ruleset,
            context: context(user.clone(), "group-42"),
            outsider: context(user.clone(), "nobody"),
            unleash: OnceLock::new(),
            user,
            document,
            client: Switchback::for_tests().flag_on("plain").build(),
        }
    }

    fn unleash(&self) -> &Unleash {
        self.unleash.get_or_init(|| Unleash::new(&self.document, &self.user))
    }

    fn evaluate(&self, calls: u64, key: &str, context: &Context<'_>) {
        for _ in 0..calls {
            black_box(self.ruleset.evaluate(black_box(key), black_box(context)));
        }
    }

    fn is_enabled(&self, calls: u64, key: &str) {
        for _ in 0..calls {
            black_box(self.ruleset.is_enabled(black_box(key), black_box(&self.context)));
        }
    }
}

fn context(
    user: impl Into<std::borrow::Cow<'static, str>>,
    group: &'static str,
) -> Context<'static> {
    Context::new()
        .user_id(user)
        .groups([group])
        .platform("ios")
        .app_version("3.4.1")
        .property("plan", "pro")
}

fn flag(key: &str, state: &Value) -> Value {
    json!({"key": key, "project": "shop", "salt": key, "state": state})
}

fn plain(key: &str) -> Value {
    flag(key, &json!({"enabled": true}))
}

fn rollout(key: &str) -> Value {
    flag(key, &json!({"enabled": true, "rules": [{"id": "half", "percent": 50}]}))
}

fn targeting(key: &str) -> Value {
    let groups: Vec<String> = (0..100).map(|n| format!("group-{n}")).collect();
    let rule = json!({
        "id": "beta", "groups": groups, "platforms": ["android", "ios"], "percent": 50,
        "constraints": [{"field": "app_version", "operator": "SEMVER_GTE", "values": ["3.2.0"]}],
    });
    flag(key, &json!({"enabled": true, "rules": [rule]}))
}

fn variants(key: &str) -> Value {
    let variant = |n: u32| json!({"name": format!("variant-{n}"), "weight": 20});
    let list: Vec<Value> = (0..5).map(variant).collect();
    flag(key, &json!({"enabled": true, "variants": list}))
}
