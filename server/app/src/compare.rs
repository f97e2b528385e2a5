//! Two runs side by side: steps with state and duration, inputs and plans with what differs.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use switchback_core::model::Millis;
use switchback_playbook::Plan;

use super::App;
use super::diff::{Difference, diff};
use super::error::AppError;
use super::report::{Report, StepReport};
use super::who::Who;

/// Two runs side by side. Differences are read from the left one to the right one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Comparison {
    /// The run that was asked about.
    pub left: Side,
    /// The other one.
    pub right: Side,
    /// Whether both plans have the same hash. A plan holds reason and inputs, too.
    pub same_plan: bool,
    /// Whether both were made from the same text of the playbook.
    pub same_text: bool,
    /// Whether both ended, or stand, the same way.
    pub same_outcome: bool,
    /// How much longer the right one took, in milliseconds, once both are over.
    pub longer_ms: Option<i64>,
    /// What differs between the inputs.
    pub inputs: Vec<Difference>,
    /// What differs between the plans beside inputs and reason; steps go by their names.
    pub plan: Vec<Difference>,
    /// The steps of both, in the order of the left one; then those that only the right one has.
    pub steps: Vec<StepPair>,
}

/// One of two runs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Side {
    /// The run.
    pub run: String,
    /// The playbook's name.
    pub playbook: String,
    /// Its title then.
    pub title: String,
    /// Where it acted.
    pub environment: String,
    /// Its state.
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// Who started it.
    pub requested_by: String,
    /// Its plan's SHA-256, in hex.
    pub plan_sha256: String,
    /// When it was started, in UTC milliseconds.
    pub started_at: Millis,
    /// From start to end, in milliseconds.
    pub duration_ms: Option<i64>,
}

/// One step in both runs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct StepPair {
    /// Its name.
    pub id: String,
    /// What people read.
    pub title: String,
    /// In the left run; absent when it has no such step.
    pub left: Option<StepSide>,
    /// In the right run; absent when it has no such step.
    pub right: Option<StepSide>,
    /// How much longer it took in the right one, in milliseconds.
    pub longer_ms: Option<i64>,
}

/// A step in one of two runs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct StepSide {
    /// Its state.
    pub state: String,
    /// How often it was started.
    pub attempts: u32,
    /// What it took, in milliseconds; its waits are in it.
    pub duration_ms: Option<i64>,
    /// The last error, or why it was left out.
    pub error: Option<String>,
}

impl Side {
    fn of(report: &Report) -> Self {
        Self {
            run: report.id.clone(),
            playbook: report.playbook.clone(),
            title: report.title.clone(),
            environment: report.environment.clone(),
            outcome: report.outcome.clone(),
            reason: report.reason.clone(),
            requested_by: report.requested_by.clone(),
            plan_sha256: report.plan_sha256.clone(),
            started_at: report.started_at,
            duration_ms: report.duration_ms,
        }
    }
}

impl StepSide {
    fn of(step: &StepReport) -> Self {
        Self {
            state: step.state.clone(),
            attempts: step.attempts,
            duration_ms: step.duration_ms,
            error: step.error.clone(),
        }
    }
}

impl Comparison {
    /// From both plans and reports.
    pub fn of(left: (&Plan, &Report), right: (&Plan, &Report)) -> Self {
        let ((left_plan, left), (right_plan, right)) = (left, right);
        let find = |report: &'_ Report, id: &str| {
            report.steps.iter().find(|step| step.id == id).map(StepSide::of)
        };
        let only_right = right.steps.iter().filter(|step| left_plan.step(&step.id).is_none());
        let steps = left.steps.iter().chain(only_right).map(|step| {
            let (left, right) = (find(left, &step.id), find(right, &step.id));
            let took = |side: &Option<StepSide>| side.as_ref().and_then(|side| side.duration_ms);
            StepPair {
                id: step.id.clone(),
                title: step.title.clone(),
                longer_ms: longer(took(&left), took(&right)),
                left,
                right,
            }
        });
        Self {
            same_plan: left.plan_sha256 == right.plan_sha256,
            same_text: left_plan.source_sha256 == right_plan.source_sha256,
            same_outcome: left.outcome == right.outcome,
            longer_ms: longer(left.duration_ms, right.duration_ms),
            inputs: diff(Some(&left.inputs), Some(&right.inputs)),
            plan: diff(Some(&rest_of(left_plan)), Some(&rest_of(right_plan))),
            steps: steps.collect(),
            left: Side::of(left),
            right: Side::of(right),
        }
    }
}

fn longer(left_ms: Option<i64>, right_ms: Option<i64>) -> Option<i64> {
    Some(right_ms? - left_ms?)
}

/// A plan without what is compared apart, its steps by name.
fn rest_of(plan: &Plan) -> Value {
    let mut value = json!(plan);
    let steps: Map<String, Value> =
        plan.steps.iter().map(|step| (step.id.clone(), json!(step))).collect();
    if let Some(map) = value.as_object_mut() {
        for apart in ["inputs", "reason", "version"] {
            map.remove(apart);
        }
        map.insert("order".to_owned(), plan.steps.iter().map(|step| json!(step.id)).collect());
        map.insert("steps".to_owned(), Value::Object(steps));
    }
    value
}

impl App {
    /// Two runs side by side.
    pub async fn compare_runs(
        self: &Arc<Self>,
        who: &Who,
        left: &str,
        right: &str,
    ) -> Result<Comparison, AppError> {
        let (one, other) = (self.get_run(who, left).await?, self.get_run(who, right).await?);
        let report_of = |id: &str, detail: &super::playbooks::RunDetail| {
            Report::of(id, &detail.plan, &detail.log)
        };
        let (left, right) = (report_of(left, &one), report_of(right, &other));
        Ok(Comparison::of((&one.plan, &left), (&other.plan, &right)))
    }
}
