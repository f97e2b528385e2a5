//! The plan: a playbook with every value filled in, for one environment. A run walks a plan and
//! nothing else, so that editing a playbook never touches a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::format::{Call, Drill, OnDeadline, OnError, Playbook, Require, Retry, STEPS_MAX, Step};
use crate::preserve::Preserve;
use crate::problem::{Problem, has_errors};
use crate::steps::{self, Fault, Fields, Resolved, Undo};
use crate::templates::Library;
use crate::yaml::Node;
use crate::{expr, inputs};

/// The version of this structure; a run of another version is refused rather than misread.
pub const PLAN_VERSION: u32 = 1;

/// Who must agree before a step starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Any of these roles; empty: anybody who may approve.
    pub roles: Vec<String>,
    /// How many different people.
    pub min: u32,
    /// How long to wait for them, in milliseconds.
    pub timeout_ms: u64,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// What they are asked.
    pub message: String,
}

/// What happens when nobody approved in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// Leave the step out and go on.
    Skip,
    /// Fail the step.
    Stop,
    /// Run it all the same.
    Proceed,
}

/// Whether a step runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It does.
    Always,
    /// Its `if:` was false when the plan was made.
    Never,
    /// It depends on how earlier steps end.
    When(String),
}

/// A check that follows a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedCheck {
    /// A read-only kind.
    pub kind: String,
    /// Its parameters.
    pub params: Value,
    /// What it will look at, in words.
    pub does: String,
    /// The limit, in milliseconds.
    pub timeout_ms: u64,
}

/// A step with every value filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its name.
    pub id: String,
    /// What people read.
    pub title: String,
    /// Its kind.
    pub kind: String,
    /// Its parameters, as the kind wants them.
    pub params: Value,
    /// What it will do: a sentence.
    pub does: String,
    /// What its undo will do: a sentence; empty when there is none.
    pub undoes: String,
    /// Whether it runs.
    pub condition: Condition,
    /// Who must agree first.
    pub approve: Option<Approval>,
    /// How long it waits before it is done, in milliseconds (`wait`).
    pub wait_ms: u64,
    /// The limit of one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// Further attempts.
    pub retry: Retry,
    /// When it fails for good.
    pub on_error: OnError,
    /// Shown in red.
    pub danger: bool,
    /// May be repeated when nobody knows whether it happened.
    pub idempotent: bool,
    /// How it is undone.
    pub undo: Undo,
    /// What is looked at afterwards.
    pub verify: Option<PlannedCheck>,
    /// So long after the run it is taken back by itself, in milliseconds, unless somebody renews it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// A playbook, ready to run in one environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The playbook's name.
    pub playbook: String,
    /// The playbook's title.
    pub title: String,
    /// SHA-256 of the file that it was made from, in hex.
    pub source_sha256: String,
    /// The environment's key.
    pub environment: String,
    /// Why it is run, in words.
    pub reason: String,
    /// The accepted inputs.
    pub inputs: BTreeMap<String, Value>,
    /// No two runs with the same key at a time.
    pub concurrency_key: String,
    /// The limit from the start to the last step, in milliseconds; unwinding has the same again.
    pub deadline_ms: u64,
    /// When it passes.
    pub on_deadline: OnDeadline,
    /// How often it is to be rehearsed.
    pub drill: Option<Drill>,
    /// What must hold first.
    pub require: Vec<Require>,
    /// What must not get lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preserve: Vec<Preserve>,
    /// What it does, in order.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// SHA-256 over the canonical JSON (keys sorted, no spaces), in hex. Approvals are given to this.
    pub fn sha256(&self) -> String {
        // Through `Value`, whose maps are sorted; a plan always serialises, as its keys are texts.
        let value = serde_json::to_value(self).unwrap_or_default();
        sha256_hex(value.to_string().as_bytes())
    }

    /// The waiting that is certain, in milliseconds.
    pub fn fixed_ms(&self) -> u64 {
        self.steps
            .iter()
            .filter(|step| step.condition != Condition::Never)
            .map(|step| step.wait_ms)
            .sum()
    }

    /// The longest that waits, approvals and checks may take together without any failure, in
    /// milliseconds.
    pub fn slowest_ms(&self) -> u64 {
        let of = |step: &PlannedStep| {
            let approval = step.approve.as_ref().map_or(0, |approval| approval.timeout_ms);
            let check = step.verify.as_ref().map_or(0, |check| check.timeout_ms);
            let own = if steps::find(&step.kind).is_some_and(steps::StepKind::read_only) {
                step.timeout_ms
            } else {
                0
            };
            approval + check + own.max(step.wait_ms)
        };
        self.steps.iter().filter(|step| step.condition != Condition::Never).map(of).sum()
    }

    /// The step of this name.
    pub fn step(&self, id: &str) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == id)
    }
}

/// Fills a playbook in. `templates` are those that its incident steps name.
///
/// The errors are about inputs, and about values that only turned out wrong once they were filled in.
pub fn compile(
    playbook: &Playbook,
    templates: &Library,
    environment: &str,
    given: &BTreeMap<String, Value>,
    reason: &str,
) -> Result<Plan, Vec<Problem>> {
    let inputs = inputs::accept(&playbook.inputs, given)?;
    let (plan, mut problems) = fill(playbook, templates, environment, inputs, reason);
    if plan.fixed_ms() >= plan.deadline_ms {
        let message = "with these inputs the waits alone take longer than the deadline";
        problems.push(Problem::new("spec.deadline", message));
    }
    if has_errors(&problems) { Err(problems) } else { Ok(plan) }
}

/// Fills a playbook in with inputs that were accepted already, and says everything that is wrong.
pub(crate) fn fill(
    playbook: &Playbook,
    templates: &Library,
    environment: &str,
    inputs: BTreeMap<String, Value>,
    reason: &str,
) -> (Plan, Vec<Problem>) {
    let context = json!({
        "inputs": inputs, "environment": environment, "reason": reason, "playbook": playbook.name,
    });
    let mut filler = Filler { context, templates, problems: Vec::new(), earlier: Vec::new() };
    let concurrency_key = match &playbook.concurrency_key {
        Some(node) => {
            match expr::resolve(node, "spec.concurrency.key", &filler.context, &mut filler.problems)
            {
                Value::String(key) => key,
                other => other.to_string(),
            }
        }
        None => format!("{}/{environment}", playbook.name),
    };
    let steps = playbook
        .steps
        .iter()
        .enumerate()
        .flat_map(|(index, step)| {
            let path = format!("spec.steps[{index}]");
            let planned = match &step.foreach {
                None => filler.step(step, &path).into_iter().collect(),
                Some(items) => filler.each(step, items, &path),
            };
            filler.earlier.push((step.id.clone(), step.call.kind.clone()));
            planned
        })
        .collect::<Vec<_>>();
    if steps.len() > STEPS_MAX {
        let message = format!("with every `foreach` there are {} steps", steps.len());
        let hint = format!("at most {STEPS_MAX}; split the playbook");
        filler.problems.push(Problem::new("spec.steps", message).hint(hint));
    }
    let plan = Plan {
        version: PLAN_VERSION,
        playbook: playbook.name.clone(),
        title: playbook.title.clone(),
        source_sha256: playbook.source_sha256.clone(),
        environment: environment.to_owned(),
        reason: reason.to_owned(),
        inputs,
        concurrency_key,
        deadline_ms: playbook.deadline_ms,
        on_deadline: playbook.on_deadline,
        drill: playbook.drill,
        require: playbook.require.clone(),
        preserve: playbook.preserve.clone(),
        steps,
    };
    (plan, filler.problems)
}

struct Filler<'f> {
    context: Value,
    templates: &'f Library,
    problems: Vec<Problem>,
    /// Ids and kinds of the steps before this one.
    earlier: Vec<(String, String)>,
}

impl Filler<'_> {
    /// One step for each value, which its texts call `item`.
    fn each(&mut self, step: &Step, items: &[Node], path: &str) -> Vec<PlannedStep> {
        let mut planned = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{path}.foreach[{index}]");
            let value = expr::resolve(item, &at, &self.context, &mut self.problems);
            if let Value::Object(context) = &mut self.context {
                context.insert("item".to_owned(), value);
            }
            let own = Step { id: format!("{}_{}", step.id, index + 1), ..step.clone() };
            planned.extend(self.step(&own, path));
        }
        if let Value::Object(context) = &mut self.context {
            context.remove("item");
        }
        planned
    }

    fn step(&mut self, step: &Step, path: &str) -> Option<PlannedStep> {
        let kind = steps::find(&step.call.kind)?;
        let resolved = self.call(&step.call, &format!("{path}.{}", step.call.kind))?;
        let verify = step.verify.as_ref().and_then(|call| {
            let resolved = self.call(call, &format!("{path}.verify.{}", call.kind))?;
            let Resolved { params, does, timeout_ms, .. } = resolved;
            Some(PlannedCheck { kind: call.kind.clone(), params, does, timeout_ms })
        });
        let gate = step.approve.as_ref().and_then(|node| {
            let call = Call { kind: "approve".to_owned(), params: node.clone() };
            self.call(&call, &format!("{path}.approve"))?.approve
        });
        Some(PlannedStep {
            id: step.id.clone(),
            title: step.title.clone().unwrap_or_else(|| resolved.does.clone()),
            kind: step.call.kind.clone(),
            condition: self.condition(step.condition.as_ref(), path),
            approve: gate.or(resolved.approve),
            wait_ms: resolved.wait_ms,
            timeout_ms: step.timeout_ms.unwrap_or(resolved.timeout_ms),
            retry: step.retry,
            on_error: step.on_error,
            danger: step.danger || resolved.danger,
            idempotent: kind.idempotent(),
            undo: resolved.undo.unwrap_or_else(|| kind.undo_mode()),
            params: resolved.params,
            does: resolved.does,
            undoes: resolved.undoes,
            verify,
            expires_ms: step.expires_ms,
        })
    }

    /// A value inside SQL text could be SQL itself.
    fn refuse_values_in_sql(&mut self, call: &Call, path: &str) {
        const TEXTS: [&str; 5] = ["sql", "undo", "up_sql", "down_sql", "verify_sql"];
        let pairs = call.params.pairs().unwrap_or_default();
        for (key, node) in pairs.iter().filter(|(key, _)| TEXTS.contains(&key.text.as_str())) {
            if node.text().is_some_and(|text| text.contains("${{")) {
                let path = format!("{path}.{}", key.text);
                let message = "values do not go into the text of SQL";
                let hint = "write $1, and put the value into `params`";
                self.problems.push(Problem::new(path, message).at(node.at).hint(hint));
            }
        }
    }

    /// A value that names a secret, or the host that it goes to, would let whoever starts a run read secrets.
    fn refuse_values_in_addresses(&mut self, node: &Node, path: &str) {
        for (key, value) in node.pairs().unwrap_or_default() {
            let path = format!("{path}.{}", key.text);
            let filled = |text: &str| text.contains("${{");
            let wrong = match (key.text.as_str(), value.text()) {
                ("secret", Some(text)) if filled(text) => "a value does not name a secret",
                ("url", Some(text)) if text.split('/').take(3).any(filled) => {
                    "a value does not name a host"
                }
                _ => "",
            };
            if !wrong.is_empty() {
                let hint = "write it out";
                self.problems.push(Problem::new(path.as_str(), wrong).at(value.at).hint(hint));
            }
            self.refuse_values_in_addresses(value, &path);
        }
    }

    fn call(&mut self, call: &Call, path: &str) -> Option<Resolved> {
        let kind = steps::find(&call.kind)?;
        let before = self.problems.len();
        self.refuse_values_in_sql(call, path);
        if call.kind == "http.request" {
            self.refuse_values_in_addresses(&call.params, path);
        }
        let params = expr::resolve(&call.params, path, &self.context, &mut self.problems);
        if self.problems.len() > before {
            return None;
        }
        let Value::Object(map) = params else {
            let message = format!("a map is expected, not {}", call.params.noun());
            let hint = format!("`{}` takes {}", kind.name(), steps::field_names(kind));
            self.problems.push(Problem::new(path, message).at(call.params.at).hint(hint));
            return None;
        };
        let fields = Fields { map: &map, templates: self.templates, earlier: &self.earlier };
        match fields.check_names(kind.fields()).and_then(|()| kind.resolve(&fields)) {
            Ok(resolved) => Some(resolved),
            Err(Fault { field, message, hint }) => {
                // An unknown key is shown at the key, a wrong value at the value.
                let known = kind.fields().iter().any(|known| known.name == field);
                let pairs = call.params.pairs().unwrap_or_default();
                let pair = pairs.iter().find(|(key, _)| key.text == field);
                let at = match pair {
                    Some((_, value)) if known => value.at,
                    Some((key, _)) => key.at,
                    None => call.params.at,
                };
                let path =
                    if field.is_empty() { path.to_owned() } else { format!("{path}.{field}") };
                self.problems.push(Problem::new(path, message).at(at).hint(hint));
                None
            }
        }
    }

    fn condition(&mut self, node: Option<&Node>, path: &str) -> Condition {
        let Some(node) = node else { return Condition::Always };
        let text = node.text().unwrap_or_default().trim();
        let bare = text.strip_prefix("${{").and_then(|t| t.strip_suffix("}}")).unwrap_or(text);
        let late = expr::names(bare)
            .is_ok_and(|names| names.iter().any(|name| name.starts_with("steps.")));
        if late {
            return Condition::When(bare.to_owned());
        }
        match expr::holds(bare, &self.context) {
            Ok(true) => Condition::Always,
            Ok(false) => Condition::Never,
            Err(message) => {
                self.problems.push(Problem::new(format!("{path}.if"), message).at(node.at));
                Condition::Never
            }
        }
    }
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
    let digest = Sha256::digest(bytes);
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
