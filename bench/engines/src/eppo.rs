//! Eppo: `eppo_core`, from its universal flag configuration. Nothing is logged, and the clock is not read.

use std::hint::black_box;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use eppo_core::eval::get_assignment;
use eppo_core::ufc::{Assignment, UniversalFlagConfig, VariationType};
use eppo_core::{Attributes, Configuration, SdkMetadata, Str};
use serde_json::{Map, Value, json};

use super::world::{Engine, Flag, GROUP, Kind, groups, variants, word};

const SHARDS: usize = 10_000;

/// The compiled flags, and the user who asks.
pub struct Eppo {
    configuration: Configuration,
    subject: Str,
    attributes: Arc<Attributes>,
    now: DateTime<Utc>,
    names: Vec<String>,
}

fn attributes(group: &str) -> Arc<Attributes> {
    let attributes = [("group", group), ("platform", "ios"), ("version", "3.4.1"), ("plan", "pro")];
    Arc::new(attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
}

fn flag(flag: &Flag) -> Value {
    let split = |variation: &str, start: usize, end: usize| {
        let shard = json!({"salt": flag.key, "ranges": [{"start": start, "end": end}]});
        json!({"variationKey": variation, "shards": [shard]})
    };
    let half = json!([split("on", 0, SHARDS / 2), split("off", SHARDS / 2, SHARDS)]);
    let names = variants();
    let step = SHARDS / names.len();
    let even = names.iter().enumerate().map(|(n, name)| split(name, n * step, (n + 1) * step));
    let condition = |attribute: &str, operator: &str, value: Value| json!({"attribute": attribute, "operator": operator, "value": value});
    let rules = match flag.kind {
        Kind::Targeting => json!([{"conditions": [
            condition("group", "ONE_OF", json!(groups())),
            condition("platform", "ONE_OF", json!(["android", "ios"])),
            condition("version", "GTE", json!("3.2.0")),
        ]}]),
        _ => json!([]),
    };
    let splits = match flag.kind {
        Kind::Plain => json!([{"variationKey": "on", "shards": []}]),
        Kind::Rollout | Kind::Targeting => half,
        Kind::Variants => Value::Array(even.collect()),
    };
    let (kind, values): (&str, Map<String, Value>) = match flag.kind {
        Kind::Variants => {
            let one = |name: &String| (name.clone(), json!({"key": name, "value": name}));
            ("STRING", names.iter().map(one).collect())
        }
        _ => {
            let one = |(name, value): (&str, bool)| {
                (name.to_owned(), json!({"key": name, "value": value}))
            };
            ("BOOLEAN", [("on", true), ("off", false)].into_iter().map(one).collect())
        }
    };
    json!({
        "key": flag.key, "enabled": true, "variationType": kind, "variations": values, "totalShards": SHARDS,
        "allocations": [{"key": "one", "rules": rules, "splits": splits, "doLog": false}],
    })
}

impl Eppo {
    /// Compiles the flags.
    pub fn new(flags: &[Flag]) -> Self {
        let all: Map<String, Value> =
            flags.iter().map(|one| (one.key.clone(), flag(one))).collect();
        let file = json!({
            "createdAt": "2026-01-01T00:00:00.000Z", "format": "SERVER", "environment": {"name": "production"},
            "flags": all, "bandits": {},
        });
        let about = SdkMetadata { name: "bench", version: "1" };
        let flags_read = UniversalFlagConfig::from_json(about, file.to_string().into_bytes());
        Self {
            configuration: Configuration::from_server_response(
                flags_read.expect("Eppo reads it"),
                None,
            ),
            subject: Str::from("nobody"),
            attributes: attributes(GROUP),
            now: DateTime::from_timestamp(1_790_000_000, 0).unwrap_or_default(),
            names: flags.iter().map(|flag| flag.key.clone()).collect(),
        }
    }

    fn assignment(&self, key: &str, kind: Option<VariationType>) -> Option<Assignment> {
        let (subject, attributes) = (black_box(&self.subject), black_box(&self.attributes));
        let found =
            get_assignment(Some(&self.configuration), key, subject, attributes, kind, self.now);
        found.ok().flatten()
    }
}

impl Engine for Eppo {
    fn settle(&mut self, user: &str) {
        self.subject = Str::from(user.to_owned());
    }

    fn ask(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            let found = self.assignment(black_box(key), Some(VariationType::Boolean));
            black_box(found.and_then(|found| found.value.as_boolean()));
        }
    }

    fn ask_variant(&self, key: &str, calls: u64) {
        for _ in 0..calls {
            black_box(self.assignment(black_box(key), Some(VariationType::String)));
        }
    }

    fn ask_all(&self, calls: u64) {
        for _ in 0..calls {
            for name in &self.names {
                black_box(self.assignment(black_box(name), None));
            }
        }
    }

    fn decide(&self, key: &str, user: &str, group: &str) -> String {
        let subject = Str::from(user.to_owned());
        let found = get_assignment(
            Some(&self.configuration),
            key,
            &subject,
            &attributes(group),
            None,
            self.now,
        );
        match found {
            Ok(None) => word(false), // no rule admits: the app's own default
            Ok(Some(found)) => match (found.value.as_boolean(), found.value.as_str()) {
                (Some(is_on), _) => word(is_on),
                (None, name) => name.unwrap_or_default().to_owned(),
            },
            Err(error) => error.to_string(),
        }
    }
}
