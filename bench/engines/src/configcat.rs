//! ConfigCat: `configcat`, from its config file, by local override; nothing is fetched. Its client is asynchronous and
//! takes the user by value, so that a copy of it belongs to each call.

use std::collections::HashMap;
use std::hint::black_box;

use configcat::{
    Client, Config, OverrideBehavior, OverrideDataSource, PollingMode, Setting, User, Value as Own,
};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::world::{Engine, Flag, GROUP, Kind, groups, variants, word};

struct File(Config);

impl OverrideDataSource for File {
    fn settings(&self) -> &HashMap<String, Setting> {
        &self.0.settings
    }
}

/// The client, and the user who asks.
pub struct ConfigCat {
    runtime: Runtime,
    client: Client,
    user: User,
    names: Vec<String>,
}

fn person(user: &str, group: &str) -> User {
    let user = User::new(user).custom("group", group).custom("platform", "ios");
    user.custom("version", "3.4.1").custom("plan", "pro")
}

fn setting(flag: &Flag) -> Value {
    let share = |percent: u32, value: Value| json!({"p": percent, "v": value});
    let half = json!([share(50, json!({"b": true})), share(50, json!({"b": false}))]);
    let names = variants();
    let even: Vec<Value> = names.iter().map(|name| share(20, json!({"s": name}))).collect();
    match flag.kind {
        Kind::Plain => json!({"t": 0, "v": {"b": true}}),
        Kind::Rollout => json!({"t": 0, "v": {"b": false}, "p": half}),
        // Comparators: 0 is one of, 9 is a version of at least.
        Kind::Targeting => json!({"t": 0, "v": {"b": false}, "r": [{"p": half, "c": [
            {"u": {"a": "group", "c": 0, "l": groups()}},
            {"u": {"a": "platform", "c": 0, "l": ["android", "ios"]}},
            {"u": {"a": "version", "c": 9, "s": "3.2.0"}},
        ]}]}),
        Kind::Variants => json!({"t": 1, "v": {"s": ""}, "p": even}),
    }
}

impl ConfigCat {
    /// Reads the flags.
    pub fn new(flags: &[Flag]) -> Self {
        let settings: Map<String, Value> =
            flags.iter().map(|flag| (flag.key.clone(), setting(flag))).collect();
        let file: Config =
            serde_json::from_value(json!({"f": settings})).expect("ConfigCat reads it");
        let client = Client::builder("local")
            .offline(true)
            .polling_mode(PollingMode::Manual)
            .overrides(Box::new(File(file)), OverrideBehavior::LocalOnly)
            .build();
        Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime starts"),
            client: client.expect("ConfigCat's client starts"),
            user: person("nobody", GROUP),
            names: flags.iter().map(|flag| flag.key.clone()).collect(),
        }
    }

    async fn is_on(&self, key: &str) -> bool {
        let user = black_box(&self.user).clone();
        self.client.get_value(black_box(key), false, Some(user)).await
    }
}

impl Engine for ConfigCat {
    fn settle(&mut self, user: &str) {
        self.user = person(user, GROUP);
    }

    fn ask(&self, key: &str, calls: u64) {
        self.runtime.block_on(async {
            for _ in 0..calls {
                black_box(self.is_on(key).await);
            }
        });
    }

    fn ask_variant(&self, key: &str, calls: u64) {
        self.runtime.block_on(async {
            for _ in 0..calls {
                let user = black_box(&self.user).clone();
                black_box(self.client.get_value(black_box(key), String::new(), Some(user)).await);
            }
        });
    }

    fn ask_all(&self, calls: u64) {
        self.runtime.block_on(async {
            for _ in 0..calls {
                for name in &self.names {
                    let user = black_box(&self.user).clone();
                    // Any type: asking a text as a boolean would time an error.
                    black_box(self.client.get_flag_details(black_box(name), Some(user)).await);
                }
            }
        });
    }

    fn decide(&self, key: &str, user: &str, group: &str) -> String {
        let found = self.client.get_flag_details(key, Some(person(user, group)));
        match self.runtime.block_on(found).value {
            Some(Own::Bool(is_on)) => word(is_on),
            Some(other) => other.to_string(),
            None => "an error".to_owned(),
        }
    }
}
