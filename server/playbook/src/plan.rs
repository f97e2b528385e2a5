//! The plan: a playbook with every value filled in, for one environment. A run walks a plan and
//! nothing else, so that editing a playbook never touches a run.

mod fill;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::blocks::PlannedBlock;
use crate::format::{Drill, OnConflict, OnDeadline, OnError, Playbook, ReportTo, Require, Retry};
use crate::inputs;
use crate::preserve::Preserve;
use crate::problem::{Problem, has_errors};
use crate::steps::{self, Undo};
use crate::templates::Library;

pub(crate) use fill::{Filled, fill};

/// The newest version of this structure that is understood; a run of a newer one is refused rather than misread.
pub const PLAN_VERSION: u32 = 3;
/// The version of a plan without conditions that look at the world, which earlier releases understand too.
const BLIND_VERSION: u32 = 2;
/// The version of a plan that has no groups and calls either.
const PLAIN_VERSION: u32 = 1;

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
    /// Whether whoever started the run may say so, too: it is a pause rather than an agreement.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
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
    /// It is found out when its turn comes: it depends on how earlier steps end, or on what the world looks like then.
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
    /// The group or the call that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
}

/// A playbook, ready to run in one environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Up to [`PLAN_VERSION`].
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
    /// What happens when there is one.
    #[serde(default, skip_serializing_if = "OnConflict::is_reject")]
    pub on_conflict: OnConflict,
    /// Where its report goes when it is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub report_to: Vec<ReportTo>,
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
    /// Its constants.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Value>,
    /// Groups and calls, each behind those that it stands in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<PlannedBlock>,
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
        // Steps of a group wait at the same time, whatever its `max`: waiting is not working.
        self.in_turn()
            .map(|(_, steps)| steps.iter().map(|step| step.wait_ms).max().unwrap_or(0))
            .sum()
    }

    /// The longest that waits, approvals and checks may take together without any failure, in
    /// milliseconds.
    pub fn slowest_ms(&self) -> u64 {
        let of = |step: &&PlannedStep| {
            let approval = step.approve.as_ref().map_or(0, |approval| approval.timeout_ms);
            let check = step.verify.as_ref().map_or(0, |check| check.timeout_ms);
            let own = if steps::find(&step.kind).is_some_and(steps::StepKind::read_only) {
                step.timeout_ms
            } else {
                0
            };
            approval + check + own.max(step.wait_ms)
        };
        let of_all = |(max, steps): (u64, Vec<&PlannedStep>)| {
            let longest = steps.iter().map(of).max().unwrap_or(0);
            if steps.len() as u64 <= max {
                return longest;
            }
            // However they are taken up, they are done no later than this.
            steps.iter().map(of).sum::<u64>() / max.max(1) + longest
        };
        self.in_turn().map(of_all).sum()
    }

    /// The steps that may run, one after the other; those of a group together, with how many run at once.
    pub fn in_turn(&self) -> impl Iterator<Item = (u64, Vec<&PlannedStep>)> {
        let mut found: Vec<(Option<&str>, u64, Vec<&PlannedStep>)> = Vec::new();
        for step in self.steps.iter().filter(|step| step.condition != Condition::Never) {
            let group = self.group_of(step);
            match (group, found.last_mut()) {
                (Some((id, _)), Some((last, _, steps))) if *last == Some(id) => steps.push(step),
                _ => {
                    let max = group.map_or(1, |(_, max)| max);
                    found.push((group.map(|(id, _)| id), max, vec![step]));
                }
            }
        }
        found.into_iter().map(|(_, max, steps)| (max, steps))
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
    let Filled { plan, mut problems, .. } = fill(playbook, templates, environment, inputs, reason);
    if plan.fixed_ms() >= plan.deadline_ms {
        let message = "with these inputs the waits alone take longer than the deadline";
        problems.push(Problem::new("spec.deadline", message));
    }
    if has_errors(&problems) { Err(problems) } else { Ok(plan) }
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
    let digest = Sha256::digest(bytes);
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
