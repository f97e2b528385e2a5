//! The dry run: what each step would do, read from the world as it is now, changing nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{FutureExt as _, join_all};
use serde::Serialize;
use serde_json::Value;

use crate::format::{Criterion, Playbook};
use crate::journal::Lease;
use crate::plan::{Condition, Plan};
use crate::ports::World;
use crate::steps::{self, Answer, At, Effect, Overlay, Undo};
use crate::{live, next_move, require};

/// So long a page waits for what speaks for a playbook.
const CRITERIA_MAX: Duration = Duration::from_secs(2);
/// So long a dry run waits for the preconditions.
const REQUIRE_MAX: Duration = Duration::from_secs(10);

/// What a run of the plan would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preview {
    /// The plan's hash: what an approval is given to.
    pub plan_sha256: String,
    /// The preconditions as they stand.
    pub require: Vec<RequirePreview>,
    /// The steps, in order.
    pub steps: Vec<StepPreview>,
    /// Connected clients that a flag change would reach.
    pub clients: Answer<u64>,
    /// The waiting that is certain, in milliseconds.
    pub fixed_ms: u64,
    /// The longest that waits, approvals and checks may take, in milliseconds.
    pub slowest_ms: u64,
    /// The run's limit, in milliseconds.
    pub deadline_ms: u64,
}

/// A precondition as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequirePreview {
    /// Its name.
    pub id: String,
    /// Whether it holds now.
    pub holds: Answer<bool>,
}

/// Something that speaks for running a playbook, as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CriterionPreview {
    /// What people read.
    pub text: String,
    /// Whether it is so; none: people judge.
    pub holds: Option<Answer<bool>>,
    /// What was seen.
    pub says: String,
}

/// What a step would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepPreview {
    /// Its name.
    pub id: String,
    /// What people read.
    pub title: String,
    /// Its kind.
    pub kind: String,
    /// What it will do.
    pub does: String,
    /// What its undo will do; empty when there is none.
    pub undoes: String,
    /// The group or call that it stands in, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub within: String,
    /// Whether it would run.
    pub runs: Answer<bool>,
    /// Whether it can be taken back; `true` also when it changes nothing.
    pub reversible: bool,
    /// Shown in red.
    pub danger: bool,
    /// People must agree first.
    pub needs_approval: bool,
    /// What would change, who would hear of it, and what to know first.
    pub effect: Effect,
}

/// Asks every step what it would do. Reads through the ports and writes nothing.
pub async fn dry_run(plan: &Plan, world: &World) -> Preview {
    // The steps are shown a lease because their context has one; nothing is written under it.
    let lease = Lease { run_id: "dry-run".into(), owner: String::new(), epoch: 0, ttl_ms: 0 };
    let outputs: BTreeMap<String, Value> = BTreeMap::new();
    let mut so_far = Overlay::default();
    let mut steps = Vec::new();
    for step in &plan.steps {
        let at = At {
            plan,
            step,
            params: &step.params,
            lease: &lease,
            attempt: 1,
            done: None,
            outputs: &outputs,
            revisions: &BTreeSet::new(),
            forced: false,
            world,
        };
        let effect = match (steps::find(&step.kind), &plan.runs(step)) {
            (Some(kind), Condition::Always) => kind.preview(&at, &mut so_far).await,
            (Some(kind), Condition::When(_)) => {
                // Either it runs or it does not: later steps see the state without it.
                let mut aside = Overlay { flags: so_far.flags.clone() };
                kind.preview(&at, &mut aside).await
            }
            _ => Effect::none(),
        };
        steps.push(StepPreview {
            id: step.id.clone(),
            title: step.title.clone(),
            kind: step.kind.clone(),
            does: step.does.clone(),
            undoes: step.undoes.clone(),
            within: plan.place_of(step),
            runs: match &plan.runs(step) {
                Condition::Always => Answer::Known(true),
                Condition::Never => Answer::Known(false),
                Condition::When(expression) => {
                    Answer::Unknown(format!("it depends on `{}`", expression.trim()))
                }
            },
            reversible: step.undo != Undo::Impossible,
            danger: step.danger,
            needs_approval: step.approve.is_some(),
            effect,
        });
    }
    Preview {
        plan_sha256: plan.sha256(),
        require: require(plan, world).await,
        steps,
        clients: match world.convergence.status(&plan.environment, None).await {
            Ok(status) => Answer::Known(status.connected),
            Err(error) => Answer::Unknown(error.to_string()),
        },
        fixed_ms: plan.fixed_ms(),
        slowest_ms: plan.slowest_ms(),
        deadline_ms: plan.deadline_ms,
    }
}

/// Looks at what speaks for running a playbook, at all of it at once.
pub async fn criteria(playbook: &Playbook, plan: &Plan, world: &World) -> Vec<CriterionPreview> {
    let (_, values) = next_move::values(plan, None);
    let limit = Some(ending(CRITERIA_MAX));
    let looks = playbook.decision.iter().map(|Criterion { text, expr }| {
        let values = &values;
        async move {
            let (holds, says) = match expr {
                None => (None, String::new()),
                Some(expr) => {
                    let look = live::holds(expr, values, &plan.environment, world, limit);
                    let look =
                        look.map(|found| found.unwrap_or_else(|error| Err(error.to_string())));
                    match within(CRITERIA_MAX, look).await {
                        Ok((holds, says)) => (Some(Answer::Known(holds)), says),
                        Err(why) => (Some(Answer::Unknown(why)), String::new()),
                    }
                }
            };
            CriterionPreview { text: text.clone(), holds, says }
        }
    });
    join_all(looks).await
}

async fn require(plan: &Plan, world: &World) -> Vec<RequirePreview> {
    let looks = plan.require.iter().map(|require| async {
        let look = require::look(require, plan, world, Some(ending(REQUIRE_MAX)))
            .map(|found| found.map(|(holds, _)| holds).map_err(|error| error.to_string()));
        let holds = within(REQUIRE_MAX, look).await.map_or_else(Answer::Unknown, Answer::Known);
        RequirePreview { id: require.id.clone(), holds }
    });
    join_all(looks).await
}

/// When a look that nobody waits for any more ends by itself, in milliseconds: what it holds is free again soon.
fn ending(limit: Duration) -> u64 {
    limit.as_millis() as u64 + 500
}

/// What is found in time, or why nothing was.
async fn within<T>(
    limit: Duration,
    look: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let late = || format!("there was no answer within {} s", limit.as_secs());
    tokio::time::timeout(limit, look).await.unwrap_or_else(|_| Err(late()))
}
