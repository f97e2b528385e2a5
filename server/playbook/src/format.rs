//! The playbook file.
//!
//! ```yaml
//! apiVersion: switchback/v1
//! kind: Playbook
//! metadata:
//!   name: auth-rollback              # letters, digits, `_`, `-`
//!   title: Disable auth, enable bypass
//!   owner: team-auth
//!   labels: {area: auth}
//!   description: When to use it.
//! spec:
//!   deadline: 5m                     # the whole run; default 5m
//!   on_deadline: compensate          # compensate | pause | continue
//!   concurrency: {key: "auth/${{ environment }}", on_conflict: reject}   # one run per key; or queue | join | supersede
//!   drill: {every: 30d, stale: warn} # warn | block
//!   inputs:
//!     reason: {type: string, min: 10, required: true}   # string | bool | number | duration | percent
//!     eta: {type: duration, default: 2h}
//!   vars: {app: "https://shop.example.com"}             # constants: vars.app
//!   secrets: {deploys: env:DEPLOY_HOOK_SECRET}          # env:NAME or file:/path
//!   triggers:                        # people may always start it, unless `roles` says which
//!     - manual: {roles: [operator, admin], confirm: type_name}   # none | click | type_name
//!     - schedule: {every: 30d, environment: staging}   # or {at: "03:00", days: [mon], environment: …}, UTC
//!     - webhook: {token: deploys, inputs: {reason: /message}}    # JSON pointers into the body
//!   limits: {cooldown: 10m, ceiling: {runs: 3, per: 1h}}         # for what starts by itself
//!   always:                          # when it is over, however it ends
//!     - report: {to: [rollback_log, incident]}
//!   decision:                        # shown to whoever decides
//!     - {text: Sign-in fails for more than 5 % of attempts., expr: "failures('login', 2) > 0.05"}
//!   require:                         # read only, before the first step
//!     - {id: not_already, flag: auth_bypass, is: off, else: stop_ok}     # stop_ok | fail
//!   preserve:                        # measured before the first step, after the last, after an undo
//!     - {id: receipts, source: shop, table: receipts, key: id, rule: no_loss}
//!     - {id: fresh, check: backup.age, source: shop, max: 24h}           # the newest verified backup
//!     - {id: whole, check: consistency, pack: signups, health: 99.9%}    # a pack of consistency checks
//!   steps:
//!     - id: bypass_on
//!       title: Let everybody in
//!       flag.set: {key: auth_bypass, value: true}       # exactly one kind
//!       expires: 4h                  # a flag goes off by itself; another kind is undone by itself
//!       if: inputs.eta != '0s'       # may also read steps.<earlier id>.state, .ok, .out.<name>, and look: flag('key'), age('source'),
//!                                    # count('source', 'SELECT …'), metric('https://prometheus', 'query'),
//!                                    # failures('login', 5), now
//!       timeout: 10s                 # one attempt; default by kind
//!       retry: {times: 3, backoff: 1s}
//!       foreach: [checkout, search]  # one step for each, named <id>_1, <id>_2, …; values see `item`
//!       on_error: stop               # stop = compensate (default) | continue
//!       danger: true                 # shown in red; needs an approval
//!       approve: {roles: [admin], min: 1, timeout: 60s, on_timeout: stop, message: Sure?}
//!       verify: {flag.ack: {at_least: 95%, within: 5s}}  # a read-only kind, after the step
//!     - id: both                     # its steps run at the same time: both.search, both.prices
//!       group: {max: 2, steps: [{id: search, …}, {id: prices, …}]}
//!     - id: tell                     # the steps of another playbook: tell.<step>
//!       playbook.call: {playbook: tell-everybody, with: {eta: "${{ inputs.eta }}"}}
//!   undo_order: reverse
//! ```
//! Unknown keys are refused with their place and the nearest known one. Values may hold `${{ … }}`
//! over `inputs.*`, `vars.*`, `environment`, `reason` and `playbook`; they are all filled in before a run starts.

mod ends;
mod steps;

pub use ends::{OnConflict, ReportTo};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inputs::{self, Input};
use crate::preserve::{self, Preserve};
use crate::problem::Problem;
use crate::read::{Entries, Reader, join};
use crate::triggers::{self, Limits, Triggers};
use crate::units::parse_percent;
use crate::yaml::{self, Content, Node};

/// What the format calls itself.
pub const API_VERSION: &str = "switchback/v1";
/// The most steps that a playbook may have.
pub const STEPS_MAX: usize = 50;

/// What happens when the deadline passes before the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDeadline {
    /// Undo what was done.
    Compensate,
    /// Park the run and ask a person.
    Pause,
    /// Go on; the run is shown as late.
    Continue,
}

/// What happens when a step fails for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Undo this step and those before it: the default. `compensate` is its other name.
    #[serde(alias = "compensate")]
    Stop,
    /// Go on; the step stays visible as failed.
    Continue,
}

/// What an unmet precondition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// There is nothing to do: the run ends well.
    StopOk,
    /// The run fails before its first step.
    Fail,
    /// A person decides whether it goes on.
    Ask,
}

/// How urgent an old drill is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stale {
    /// Say so.
    Warn,
    /// Refuse to start.
    Block,
}

/// How often a playbook is to be rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// At least this often, in milliseconds.
    pub every_ms: u64,
    /// When it was not.
    pub stale: Stale,
}

/// How often a failed step is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Further attempts after the first, 0 to 10.
    pub times: u32,
    /// The pause before the second attempt, in milliseconds; it doubles up to a minute.
    pub backoff_ms: u64,
}

/// Something that speaks for running a playbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Criterion {
    /// What people read.
    pub text: String,
    /// What shows whether it is so.
    pub expr: Option<String>,
}

/// A read-only condition that must hold before the first step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Require {
    /// Its name, unique among the preconditions.
    pub id: String,
    /// What is looked at.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// When it is not so.
    pub otherwise: Otherwise,
    /// The call of another playbook that it belongs to: `stop_ok` then leaves out that call's steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
}

/// What a precondition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Wanted {
    /// A flag.
    Flag {
        /// Its key.
        flag: String,
        /// Whether it must be on.
        on: bool,
    },
    /// The newest verified backup of a data source.
    BackupAge {
        /// The data source.
        source: String,
        /// How old it may be, in milliseconds.
        max_ms: u64,
    },
    /// An expression over the run's values and the world.
    Expression {
        /// Such as `flag('auth_bypass') == false`.
        expr: String,
    },
    /// A pack of consistency checks.
    Health {
        /// The pack.
        pack: String,
        /// The least health, in thousandths of a percent.
        health: u32,
    },
}

/// A kind's name and its parameters, as they stand in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The kind, such as `flag.set`; it may be unknown until lint has looked.
    pub kind: String,
    /// Its parameters.
    pub params: Node,
}

/// A step, as it stands in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Where it starts.
    pub at: (usize, usize),
    /// Its name, unique in the playbook and stable between versions.
    pub id: String,
    /// What people read; the kind describes itself when absent.
    pub title: Option<String>,
    /// What it does.
    pub call: Call,
    /// Runs only if this expression holds.
    pub condition: Option<Node>,
    /// The limit of one attempt, in milliseconds; the kind's own when absent.
    pub timeout_ms: Option<u64>,
    /// Further attempts.
    pub retry: Retry,
    /// When it fails for good.
    pub on_error: OnError,
    /// Marked as dangerous.
    pub danger: bool,
    /// Looked at afterwards.
    pub verify: Option<Call>,
    /// Waits for people first: the parameters of `approve`.
    pub approve: Option<Node>,
    /// It stands for one step for each of these values, which it calls `item`.
    pub foreach: Option<Vec<Node>>,
    /// So long after the run it is taken back by itself, in milliseconds. A flag knows its expiry itself.
    pub expires_ms: Option<u64>,
    /// What it stands for, if it does nothing itself.
    pub parts: Option<Parts>,
}

/// The steps that a step stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Parts {
    /// These, so many of them at the same time.
    Together {
        /// How many at once.
        max: u64,
        /// The steps; they are named `<group>.<step>`.
        steps: Vec<Step>,
    },
    /// Those of another playbook, one after the other, named `<call>.<step>`.
    Call {
        /// Its name.
        playbook: String,
        /// Values for its inputs.
        with: Option<Node>,
    },
}

/// A playbook, as it stands in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Playbook {
    /// Its name: the same in every version.
    pub name: String,
    /// What people read.
    pub title: String,
    /// Who looks after it.
    pub owner: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// When to use it.
    pub description: String,
    /// The whole run's limit, in milliseconds.
    pub deadline_ms: u64,
    /// When it passes.
    pub on_deadline: OnDeadline,
    /// One run at a time per key; with expressions. The name and environment when absent.
    pub concurrency_key: Option<Node>,
    /// What happens to a run that meets another with its key.
    pub on_conflict: OnConflict,
    /// Where its report goes when it is over, however it ends.
    pub report_to: Vec<ReportTo>,
    /// How often it is to be rehearsed.
    pub drill: Option<Drill>,
    /// What it asks for.
    pub inputs: Vec<Input>,
    /// Where secrets are, by name.
    pub secrets: BTreeMap<String, String>,
    /// Who and what may start it.
    pub triggers: Triggers,
    /// How often it may start by itself.
    pub limits: Limits,
    /// What speaks for running it.
    pub decision: Vec<Criterion>,
    /// Constants by name: `vars.<name>`.
    pub vars: BTreeMap<String, Value>,
    /// What must hold first.
    pub require: Vec<Require>,
    /// What must not get lost.
    pub preserve: Vec<Preserve>,
    /// What it does, in order.
    pub steps: Vec<Step>,
    /// SHA-256 of the file, in hex.
    pub source_sha256: String,
}

/// Reads a file's structure. [`lint`](crate::lint::load) also checks what the steps say; a playbook that
/// only this function has seen may still be refused.
pub fn parse(text: &str) -> Result<Playbook, Vec<Problem>> {
    let root = yaml::read(text).map_err(|problem| vec![problem])?;
    let mut reader = Reader::default();
    let playbook = playbook(&mut reader, &root, text);
    match playbook {
        Some(playbook) if reader.problems.is_empty() => Ok(playbook),
        _ => Err(reader.problems),
    }
}

fn playbook(reader: &mut Reader, root: &Node, text: &str) -> Option<Playbook> {
    let top = reader.map(root, "", &["apiVersion", "kind", "metadata", "spec"])?;
    reader.word(top, "", "apiVersion", &[(API_VERSION, ())]);
    reader.word(top, "", "kind", &[("Playbook", ())]);
    for key in ["apiVersion", "kind", "metadata", "spec"] {
        if top.get(key).is_none() {
            reader.fault(root, "", format!("`{key}` is missing"), "");
        }
    }
    let keys = ["name", "title", "owner", "labels", "description"];
    let meta = reader.map(top.get("metadata")?, "metadata", &keys)?;
    let name = reader.name(meta, "metadata", "name");
    let title = reader.required(meta, "metadata", "title", 120);
    let owner = reader.optional(meta, "metadata", "owner", 120);
    let description = reader.optional(meta, "metadata", "description", 2_000);
    let labels = meta.get("labels").map(|node| labels(reader, node));
    let keys = [
        "deadline",
        "on_deadline",
        "concurrency",
        "drill",
        "inputs",
        "vars",
        "decision",
        "require",
        "preserve",
        "secrets",
        "triggers",
        "limits",
        "steps",
        "undo_order",
        "always",
    ];
    let spec = reader.map(top.get("spec")?, "spec", &keys)?;
    let deadlines = [
        ("compensate", OnDeadline::Compensate),
        ("pause", OnDeadline::Pause),
        ("continue", OnDeadline::Continue),
    ];
    reader.word(spec, "spec", "undo_order", &[("reverse", ())]);
    let concurrency = spec.get("concurrency").map(|node| ends::concurrency(reader, node));
    let inputs = spec.get("inputs").map(|node| inputs::parse(reader, node)).unwrap_or_default();
    let secrets = spec.get("secrets").map(|node| triggers::secrets(reader, node));
    let secrets = secrets.unwrap_or_default();
    let triggers =
        spec.get("triggers").map(|node| triggers::parse(reader, node, &inputs, &secrets));
    let triggers = triggers.unwrap_or_default();
    let limits = spec.get("limits").map(|node| triggers::limits(reader, node, &triggers));
    Some(Playbook {
        deadline_ms: reader.duration(spec, "spec", "deadline").unwrap_or(300_000),
        on_deadline: reader
            .word(spec, "spec", "on_deadline", &deadlines)
            .unwrap_or(OnDeadline::Compensate),
        concurrency_key: concurrency.as_ref().and_then(|(key, _)| key.clone()),
        on_conflict: concurrency.map(|(_, choice)| choice).unwrap_or_default(),
        report_to: spec.get("always").map(|node| ends::always(reader, node)).unwrap_or_default(),
        drill: spec.get("drill").and_then(|node| drill(reader, node)),
        inputs,
        secrets,
        limits: limits.unwrap_or_default(),
        triggers,
        decision: spec.get("decision").map(|node| decision(reader, node)).unwrap_or_default(),
        vars: spec.get("vars").map(|node| vars(reader, node)).unwrap_or_default(),
        require: spec.get("require").map(|node| require(reader, node)).unwrap_or_default(),
        preserve: spec
            .get("preserve")
            .map(|node| preserve::parse(reader, node))
            .unwrap_or_default(),
        steps: steps::all_steps(reader, spec),
        name: name?,
        title: title?,
        owner: owner.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        description: description.unwrap_or_default(),
        source_sha256: crate::plan::sha256_hex(text.as_bytes()),
    })
}

fn labels(reader: &mut Reader, node: &Node) -> BTreeMap<String, String> {
    let Some(pairs) = node.pairs() else {
        reader.fault(node, "metadata.labels", "a map is expected", "");
        return BTreeMap::new();
    };
    pairs
        .iter()
        .filter_map(|(key, value)| {
            let text = reader.text(value, &join("metadata.labels", &key.text), 100)?;
            Some((key.text.clone(), text))
        })
        .collect()
}

/// Constants: texts, numbers, true or false.
fn vars(reader: &mut Reader, node: &Node) -> BTreeMap<String, Value> {
    let Some(pairs) = node.pairs() else {
        reader.fault(node, "spec.vars", format!("a map is expected, not {}", node.noun()), "");
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (key, value) in pairs {
        let path = join("spec.vars", &key.text);
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !key.text.starts_with(|c: char| c.is_ascii_alphabetic()) || !key.text.chars().all(named)
        {
            let hint = "use letters, digits and `_`, and start with a letter";
            let problem = Problem::new(path, format!("`{}` is not a name", key.text));
            reader.problems.push(problem.at(key.at).hint(hint));
            continue;
        }
        let Some(text) = reader.text(value, &path, 4_000) else { continue };
        if text.contains("${{") {
            let hint = "write it out, or use an input";
            reader.fault(value, &path, "a constant is not filled in", hint);
        }
        let plain = matches!(value.content, Content::Scalar { plain: true, .. });
        let value = if plain { crate::expr::plain_scalar(&text) } else { Value::String(text) };
        found.insert(key.text.clone(), value);
    }
    found
}

fn drill(reader: &mut Reader, node: &Node) -> Option<Drill> {
    let map = reader.map(node, "spec.drill", &["every", "stale"])?;
    let words = [("warn", Stale::Warn), ("block", Stale::Block)];
    let stale = reader.word(map, "spec.drill", "stale", &words).unwrap_or(Stale::Warn);
    Some(Drill { every_ms: reader.duration(map, "spec.drill", "every")?, stale })
}

fn decision(reader: &mut Reader, node: &Node) -> Vec<Criterion> {
    let mut found = Vec::new();
    for (index, item) in reader.list(node, "spec.decision").iter().enumerate() {
        let path = format!("spec.decision[{index}]");
        if let Some(map) = reader.map(item, &path, &["text", "expr"]) {
            let text = reader.required(map, &path, "text", 400);
            let expr = reader.optional(map, &path, "expr", 1_000);
            found.extend(text.map(|text| Criterion { text, expr }));
        }
    }
    found
}

fn require(reader: &mut Reader, node: &Node) -> Vec<Require> {
    let mut found: Vec<Require> = Vec::new();
    for (index, item) in reader.list(node, "spec.require").iter().enumerate() {
        let path = format!("spec.require[{index}]");
        let keys = ["id", "flag", "is", "check", "source", "max", "pack", "health", "expr", "else"];
        let Some(map) = reader.map(item, &path, &keys) else { continue };
        let id = reader.name(map, &path, "id");
        let wanted = match map.get("check") {
            Some(node) if node.text() == Some("consistency") => health(reader, map, &path),
            Some(_) => backup_age(reader, map, &path),
            None if map.get("expr").is_some() => {
                let others = ["flag", "is", "source", "max", "pack", "health"];
                refuse(reader, map, &path, &others, "an expression looks at what it names itself");
                let expr = reader.required(map, &path, "expr", 1_000);
                expr.map(|expr| Wanted::Expression { expr })
            }
            None => flag_state(reader, map, &path),
        };
        let words =
            [("stop_ok", Otherwise::StopOk), ("fail", Otherwise::Fail), ("ask", Otherwise::Ask)];
        let otherwise = reader.word(map, &path, "else", &words).unwrap_or(Otherwise::Fail);
        if let (Some(id), Some(wanted)) = (id, wanted) {
            if found.iter().any(|other| other.id == id) {
                reader.fault(item, &path, format!("the id `{id}` is taken"), "");
            }
            found.push(Require { id, wanted, otherwise, block: None });
        }
    }
    found
}

/// `check: consistency`: a pack and the least health, 100% unless it says otherwise.
fn health(reader: &mut Reader, map: Entries<'_>, path: &str) -> Option<Wanted> {
    refuse(reader, map, path, &["flag", "is"], "a check looks at no flag");
    refuse(reader, map, path, &["source", "max"], "it goes with `check: backup.age`");
    let pack = reader.name(map, path, "pack");
    let health = match map.get("health") {
        None => 100_000,
        Some(node) => match parse_percent(node.text().unwrap_or_default()) {
            Ok(health) => health,
            Err(message) => {
                reader.fault(node, &join(path, "health"), message, "such as 99.9%");
                return None;
            }
        },
    };
    Some(Wanted::Health { pack: pack?, health })
}

fn refuse(reader: &mut Reader, map: Entries<'_>, path: &str, keys: &[&str], why: &str) {
    for key in keys {
        if let Some(node) = map.get(key) {
            reader.fault(node, &join(path, key), why, "");
        }
    }
}

fn flag_state(reader: &mut Reader, map: Entries<'_>, path: &str) -> Option<Wanted> {
    refuse(reader, map, path, &["source", "max"], "it goes with `check: backup.age`");
    refuse(reader, map, path, &["pack", "health"], "it goes with `check: consistency`");
    let flag = reader.required(map, path, "flag", 100);
    if let Some(text) = &flag
        && let Err(error) = switchback_core::model::FlagKey::try_from(text.as_str())
    {
        reader.fault(map.node, &join(path, "flag"), error.to_string(), "");
    }
    if map.get("is").is_none() {
        reader.fault(map.node, path, "`is` is missing", "on or off");
    }
    let is = [("on", true), ("off", false), ("true", true), ("false", false)];
    let on = reader.word(map, path, "is", &is);
    Some(Wanted::Flag { flag: flag?, on: on? })
}

fn backup_age(reader: &mut Reader, map: Entries<'_>, path: &str) -> Option<Wanted> {
    refuse(reader, map, path, &["flag", "is"], "a check looks at no flag");
    refuse(reader, map, path, &["pack", "health"], "it goes with `check: consistency`");
    reader.word(map, path, "check", &[("backup.age", ()), ("consistency", ())]);
    let source = reader.required(map, path, "source", 60);
    if map.get("max").is_none() {
        reader.fault(map.node, path, "`max` is missing", "how old the backup may be, such as 24h");
    }
    let max = reader.duration(map, path, "max");
    Some(Wanted::BackupAge { source: source?, max_ms: max? })
}
