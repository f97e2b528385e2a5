//! Our reading of Unleash's documents against Unleash's own engine, on random documents and contexts. What differs is
//! explained here, or it is a bug.
#![expect(clippy::indexing_slicing, reason = "tests fail that way")]

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use switchback_formats::unleash::{Decider, Peer};
use unleash_types::client_features::{ClientFeatures, Context};
use unleash_yggdrasil::{EngineState, UpdateMessage};

const DOCUMENTS: u64 = 5_000;
const CONTEXTS: u64 = 20;
const FLAGS: usize = 3;
const NOW: &str = "2026-06-15T12:00:00Z";

/// `SplitMix64` (Steele, Lea, Flood 2014): the same cases on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

// Not `user_id`: their rule language takes that word for `userId`.
const FIELDS: [&str; 9] = [
    "userId",
    "sessionId",
    "remoteAddress",
    "appName",
    "environment",
    "plan",
    "version",
    "age",
    "email",
];
const TEXTS: [&str; 14] = [
    "u1",
    "u2",
    "U1",
    "pro",
    "free",
    "7",
    "7.5",
    "-3",
    "1.2.3",
    "1.2.4-rc.1",
    "10.0.0.7",
    "åse",
    "2001:db8::1",
    " u1 ",
];
const OPERATORS: [&str; 21] = [
    "IN",
    "NOT_IN",
    "STR_CONTAINS",
    "STR_STARTS_WITH",
    "STR_ENDS_WITH",
    "NUM_EQ",
    "NUM_GT",
    "NUM_GTE",
    "NUM_LT",
    "NUM_LTE",
    "DATE_AFTER",
    "DATE_BEFORE",
    "SEMVER_EQ",
    "SEMVER_GT",
    "SEMVER_LT",
    "SEMVER_GTE",
    "SEMVER_LTE",
    "REGEX",
    "IN_CIDR",
    "IN",
    "NOT_IN",
];

fn constraint(random: &mut Random) -> Value {
    let operator = random.one(&OPERATORS);
    let field = if operator.starts_with("DATE") { "currentTime" } else { random.one(&FIELDS) };
    let values: Vec<&str> = match operator {
        "IN_CIDR" => vec!["10.0.0.0/8", "2001:db8::/32"],
        // Without blanks around them: Unleash's server trims them, its engine does not.
        _ => (0..=random.below(3)).map(|_| random.one(&TEXTS).trim()).collect(),
    };
    let value = match operator.split('_').next().unwrap_or_default() {
        "NUM" => random.one(&["7", "7.5", "-3", "0"]),
        "DATE" => random.one(&["2026-06-15T11:59:59Z", "2026-06-15T12:00:01Z", NOW]),
        "SEMVER" => random.one(&["1.2.3", "1.2.4-rc.1", "2.0.0"]),
        _ => random.one(&["^u", "1$", "U1", "[0-9]+", "^åse$"]),
    };
    json!({
        "contextName": field, "operator": operator, "values": values, "value": value,
        "inverted": random.chance(25), "caseInsensitive": random.chance(25),
    })
}

fn constraints(random: &mut Random) -> Vec<Value> {
    (0..random.below(3)).map(|_| constraint(random)).collect()
}

/// `stickiness` is the strategy's: Unleash's server writes no other into a strategy's variants, and its SDKs disagree on what
/// another would mean.
fn variants(random: &mut Random, stickiness: &str, with_overrides: bool) -> Vec<Value> {
    let count = random.below(4);
    let mut list: Vec<Value> = (0..count)
        .map(|n| json!({"name": format!("v{n}"), "weight": random.below(500) + 1, "stickiness": stickiness}))
        .collect();
    if with_overrides
        && random.chance(30)
        && let Some(first) = list.first_mut()
    {
        first["overrides"] =
            json!([{"contextName": random.one(&["userId", "plan"]), "values": ["u1", "pro"]}]);
    }
    list
}

fn strategy(random: &mut Random) -> Value {
    let name = random.one(&[
        "default",
        "flexibleRollout",
        "flexibleRollout",
        "flexibleRollout",
        "userWithId",
        "remoteAddress",
        "gradualRolloutUserId",
        "gradualRolloutSessionId",
        "custom",
    ]);
    let stickiness = random.one(&["default", "userId", "sessionId", "plan"]);
    let rollout = random.one(&["0", "1", "25", "50", "99", "100"]);
    json!({
        "name": name,
        "parameters": {
            "rollout": rollout, "percentage": rollout, "groupId": random.one(&["g1", "f0", "group två"]),
            "stickiness": stickiness,
            "userIds": "u1, u2,åse", "IPs": "10.0.0.0/8, 2001:db8::1",
        },
        "constraints": constraints(random),
        // One that is missing makes their whole flag false; the specification says: the strategy.
        "segments": if random.chance(20) { vec![random.below(2)] } else { Vec::new() },
        "variants": if random.chance(40) { variants(random, stickiness, false) } else { Vec::new() },
    })
}

fn document(random: &mut Random) -> Value {
    let features: Vec<Value> = (0..FLAGS)
        .map(|n| {
            let dependencies = match (n, random.chance(40)) {
                (0, _) | (_, false) => Vec::new(),
                _ => {
                    // Variants of a flag that must be off mean nothing.
                    let enabled = random.chance(75);
                    let named = enabled && random.chance(30);
                    let variants = if named { vec!["v0", "disabled"] } else { Vec::new() };
                    vec![json!({"feature": format!("f{}", n - 1), "enabled": enabled, "variants": variants})]
                }
            };
            json!({
                "name": format!("f{n}"), "enabled": random.chance(90),
                "strategies": (0..random.below(4)).map(|_| strategy(random)).collect::<Vec<_>>(),
                "variants": if random.chance(50) { variants(random, ["default", "userId", "plan"][n % 3], true) } else { Vec::new() },
                "dependencies": dependencies,
            })
        })
        .collect();
    let segments: Vec<Value> = (0..2)
        .map(|id| json!({"id": id, "name": "s", "constraints": constraints(random)}))
        .collect();
    json!({"version": 2, "features": features, "segments": segments})
}

fn context(random: &mut Random) -> Map<String, Value> {
    let mut context = Map::from_iter([("currentTime".to_owned(), json!(NOW))]);
    for field in ["userId", "sessionId", "appName", "environment"] {
        if random.chance(80) {
            let text = random.one(&TEXTS[..12]);
            let text = if random.chance(50) {
                format!("user-{}", random.below(1_000))
            } else {
                text.to_owned()
            };
            context.insert(field.to_owned(), json!(text));
        }
    }
    if random.chance(60) {
        context.insert(
            "remoteAddress".to_owned(),
            json!(random.one(&["10.1.2.3", "192.0.2.1", "2001:db8::1"])),
        );
    }
    let mut properties = Map::new();
    for field in ["plan", "version", "age", "email"] {
        if random.chance(60) {
            properties.insert(field.to_owned(), json!(random.one(&TEXTS)));
        }
    }
    context.insert("properties".to_owned(), Value::Object(properties));
    context
}

/// Unleash draws at random where there is no unit: a rollout for contexts with neither user nor session, variants for
/// contexts without the field that they stick to. We do not: see `docs/migrating.md`.
fn may_be_drawn(state: &Value, context: &Map<String, Value>) -> bool {
    let has =
        |field: &str| context.contains_key(field) || context["properties"].get(field).is_some();
    let is_missing = |stickiness: &Value| match stickiness.as_str() {
        Some("default") => !has("userId") && !has("sessionId"),
        Some(field) => !has(field),
        None => false,
    };
    let features = state["features"].as_array().into_iter().flatten();
    features.into_iter().any(|feature| {
        let strategies = feature["strategies"].as_array().into_iter().flatten();
        let lists = strategies
            .flat_map(|strategy| [strategy["parameters"].clone(), strategy["variants"][0].clone()])
            .chain([feature["variants"][0].clone()]);
        lists.into_iter().any(|one| is_missing(&one["stickiness"]))
    })
}

#[test]
fn decides_as_unleash_does_on_100_000_random_cases() {
    let mut random = Random(20_261_121);
    let (mut same, mut drawn) = (0_u64, 0_u64);
    let external: Option<HashMap<String, bool>> = None;
    for _ in 0..DOCUMENTS {
        let state = document(&mut random);
        let theirs = EngineState::default();
        let features: ClientFeatures = serde_json::from_value(state.clone()).unwrap();
        theirs.take_state(UpdateMessage::FullResponse(features));
        let ours = Decider::new(&state).unwrap();
        for _ in 0..CONTEXTS {
            let context = context(&mut random);
            let their_context: Context = serde_json::from_value(json!(context)).unwrap();
            let peer = Peer::default();
            for n in 0..FLAGS {
                let name = format!("f{n}");
                let enabled = theirs.is_enabled(&name, &their_context, &external);
                let chosen = theirs.get_variant(&name, &their_context, &external);
                let (our_enabled, our_chosen) =
                    (ours.is_enabled(&name, &context, peer), ours.variant(&name, &context, peer));
                if (our_enabled, &our_chosen.name) == (enabled, &chosen.name) {
                    same += 1;
                } else if may_be_drawn(&state, &context) {
                    drawn += 1;
                } else {
                    panic!(
                        "{name}: ours {our_enabled} {our_chosen:?}, theirs {enabled} {chosen:?}\ncontext {}\nstate {}",
                        json!(context),
                        state
                    );
                }
            }
        }
    }
    println!("{same} decisions agree, {drawn} are drawn at random by the other");
    assert!(same + drawn == DOCUMENTS * CONTEXTS * FLAGS as u64);
    assert!(drawn * 10 < same, "{drawn} drawn");
}
