//! Other systems' own engines beside what an import of their file decides: nobody may change sides.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use flagsmith_flag_engine::engine::get_evaluation_result;
use flagsmith_flag_engine::engine_eval::{
    EngineEvaluationContext, add_identity_to_context, environment_to_context,
};
use flagsmith_flag_engine::environments::builders::build_environment_struct;
use flagsmith_flag_engine::identities::Trait;
use launchdarkly_server_sdk_evaluation as ld;
use serde_json::{Map, Value, json};
use switchback_formats::drift::{Person, Source, report};
use switchback_formats::{Imported, Weight, flagd, flagsmith, growthbook, launchdarkly, unleash};
use unleash_yggdrasil::{Context, EngineState, UpdateMessage};

const FLAGD: &str = include_str!("../../server/formats/tests/samples/flagd.json");
const FLAGSMITH: &str = include_str!("../../server/formats/tests/samples/flagsmith.json");
const GROWTHBOOK: &str = include_str!("../../server/formats/tests/samples/growthbook.json");
const LAUNCHDARKLY: &str = include_str!("../../server/formats/tests/samples/launchdarkly.json");
const UNLEASH: &str = include_str!("../../server/formats/tests/samples/unleash.json");
const USERS: usize = 10_000;
const NOW_MS: i64 = 1_790_000_000_000;

struct LaunchDarkly {
    flags: HashMap<String, ld::Flag>,
    segments: HashMap<String, ld::Segment>,
}

impl ld::Store for LaunchDarkly {
    fn flag(&self, key: &str) -> Option<ld::Flag> {
        self.flags.get(key).cloned()
    }

    fn segment(&self, key: &str) -> Option<ld::Segment> {
        self.segments.get(key).cloned()
    }
}

impl Source for LaunchDarkly {
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value> {
        let mut context: Map<String, Value> = who.fields.clone().into_iter().collect();
        let id = context.remove("user_id")?;
        context.insert("key".to_owned(), id);
        context.insert("kind".to_owned(), json!("user"));
        let context: ld::Context = serde_json::from_value(Value::Object(context)).unwrap();
        let detail = ld::evaluate(self, &self.flags[key], &context, None);
        detail.value.map(|value| serde_json::to_value(value).unwrap())
    }
}

#[test]
fn nobody_moves_from_launchdarkly() {
    let data: Value = serde_json::from_str(LAUNCHDARKLY).unwrap();
    let mut engine = LaunchDarkly {
        flags: serde_json::from_value(data["flags"].clone()).unwrap(),
        segments: serde_json::from_value(data["segments"].clone()).unwrap(),
    };
    let imported = launchdarkly::import(LAUNCHDARKLY).unwrap();

    let found = report(&imported, &mut engine, USERS, NOW_MS);

    assert_eq!((found.flags.len(), found.moved()), (4, 0), "{found:#?}");
}

struct Flagsmith(EngineEvaluationContext);

impl Source for Flagsmith {
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value> {
        let id = who.get("user_id");
        let traits = who.fields.iter().filter(|(name, _)| *name != "user_id");
        let traits: Vec<Trait> = traits
            .map(|(name, value)| json!({"trait_key": name, "trait_value": value}))
            .map(|one| serde_json::from_value(one).unwrap())
            .collect();
        let context = add_identity_to_context(&self.0, id.as_str()?, &traits);
        let result = get_evaluation_result(&context);
        let flag = &result.flags[key];
        flag.enabled.then(|| serde_json::to_value(&flag.value).unwrap())
    }
}

#[test]
fn nobody_moves_from_flagsmith() {
    let environment = build_environment_struct(serde_json::from_str(FLAGSMITH).unwrap());
    let mut engine = Flagsmith(environment_to_context(environment));
    let imported = flagsmith::import(FLAGSMITH).unwrap();

    let mut found = report(&imported, &mut engine, 2_000, NOW_MS);

    // Where the hash is 100 %, other engines of Flagsmith hash again; the one in Rust does not. That is one user
    // in 9,999; here it is `428`.
    for flag in &mut found.flags {
        let again = flag.users.iter().filter(|who| who.contains(r#""user_id":"428""#)).count();
        flag.moved -= again;
    }
    assert_eq!((found.flags.len(), found.moved()), (4, 0), "{found:#?}");
}

struct Unleash(EngineState);

impl Source for Unleash {
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value> {
        let mut properties: HashMap<String, String> = HashMap::new();
        for (name, value) in who.fields.iter().filter(|(name, _)| *name != "user_id") {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            properties.insert(name.clone(), text);
        }
        let user_id = who.get("user_id").as_str().map(str::to_owned);
        let context = Context { user_id, properties: Some(properties), ..Context::default() };
        if !self.0.is_enabled(key, &context, &None) {
            return None;
        }
        let payload = self.0.get_variant(key, &context, &None).payload;
        Some(payload.map_or(Value::Null, |payload| json!(payload.value)))
    }

    fn is_repeatable(&self, key: &str) -> bool {
        key != "drawn"
    }
}

#[test]
fn nobody_moves_from_unleash() {
    let engine = EngineState::default();
    let message: UpdateMessage = serde_json::from_str(UNLEASH).unwrap();
    assert!(engine.take_state(message).is_none());
    let imported = unleash::import(UNLEASH).unwrap();

    let found = report(&imported, &mut Unleash(engine), USERS, NOW_MS);

    assert_eq!((found.flags.len(), found.moved()), (4, 0), "{found:#?}");
}

/// An engine that is written in JavaScript, in a Node process of its own.
struct Node {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What the engine calls the user.
    user: &'static str,
    /// Evens out what the documents say that its users must not rely on.
    adapt: fn(&mut Map<String, Value>),
    /// Whom it was asked about last, and every flag's value for them.
    last: (BTreeMap<String, Value>, Map<String, Value>),
}

impl Node {
    fn start(
        kind: &str,
        sample: &str,
        user: &'static str,
        adapt: fn(&mut Map<String, Value>),
    ) -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new("node")
            .args(["engine.mjs", kind])
            .arg(tests.join("../server/formats/tests/samples").join(sample))
            .current_dir(tests.join("compat"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts: run `cargo xtask test`, which installs what is missing");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output, user, adapt, last: Default::default() }
    }
}

impl Source for Node {
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value> {
        if self.last.0 != who.fields {
            let name = |field: &str| match field {
                "user_id" => self.user.to_owned(),
                field => field.strip_prefix("properties.").unwrap_or(field).to_owned(),
            };
            let mut attributes: Map<String, Value> =
                who.fields.iter().map(|(field, value)| (name(field), value.clone())).collect();
            (self.adapt)(&mut attributes);
            let question = json!({"nowMs": who.now_ms, "attributes": attributes});
            let mut line = String::new();
            writeln!(self.input.as_mut().unwrap(), "{question}").unwrap();
            self.output.read_line(&mut line).unwrap();
            self.last = (who.fields.clone(), serde_json::from_str(&line).expect(&line));
        }
        self.last.1.get(key).cloned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.input = None; // and so it ends
        let _ = self.child.wait();
    }
}

/// Flags that were left out.
fn left_out(imported: &Imported) -> BTreeSet<&str> {
    let notes = imported.notes.iter().filter(|note| note.weight == Weight::LeftOut);
    notes.map(|note| note.about.as_str()).collect()
}

#[test]
fn nobody_moves_from_flagd() {
    let imported = flagd::import(FLAGD).unwrap();
    // In a `cat`, this engine writes `null` for what is missing; flagd itself, and we, write nothing.
    let adapt = |attributes: &mut Map<String, Value>| {
        attributes.entry("email").or_insert_with(|| json!(""));
    };
    let mut engine = Node::start("flagd", "flagd.json", "targetingKey", adapt);

    let found = report(&imported, &mut engine, USERS, NOW_MS);

    assert_eq!((found.flags.len(), found.moved()), (9, 0), "{found:#?}");
    assert_eq!(left_out(&imported), ["computed"].into(), "arithmetic alone");
}

#[test]
fn nobody_moves_from_growthbook() {
    let imported = growthbook::import(GROWTHBOOK).unwrap();
    // This engine takes any text for a yes where a rule wants `true`; an attribute must have the rule's type.
    let adapt = |attributes: &mut Map<String, Value>| {
        if attributes.get("beta").is_some_and(Value::is_string) {
            attributes.remove("beta");
        }
    };
    let mut engine = Node::start("growthbook", "growthbook.json", "id", adapt);

    let found = report(&imported, &mut engine, USERS, NOW_MS);

    assert_eq!((found.flags.len(), found.moved()), (6, 0), "{found:#?}");
    assert_eq!(
        left_out(&imported),
        ["child", "elements"].into(),
        "a prerequisite and `$elemMatch`"
    );
}
