//! What the rows of a run add up to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_core::model::Millis;

use crate::journal::{Decision, Entry, NewEntry, Phase};
use crate::plan::Plan;
use crate::standing::Standing;

/// How a run ended, or why it stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Every step was done, skipped, or failed with `on_error: continue`.
    Succeeded,
    /// A precondition said that there was nothing to do.
    NothingToDo,
    /// A precondition did not hold; no step was started.
    Failed,
    /// It failed, and everything that can be undone was undone.
    Compensated,
    /// It failed, and some undo failed too: somebody must look.
    CompensateFailed,
    /// It was cancelled, and everything that can be undone was undone.
    Cancelled,
    /// It waits for a person's decision; drive it again after one.
    Parked,
}

/// A run's state, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words are those of the documentation")]
pub enum RunState {
    Queued,
    Planned,
    WaitingApproval,
    Running,
    Verifying,
    Succeeded,
    Failed,
    Compensating,
    Compensated,
    CompensateFailed,
    Cancelled,
    Parked,
}

impl RunState {
    /// The word that stands in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Planned => "planned",
            Self::WaitingApproval => "waiting_approval",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::CompensateFailed => "compensate_failed",
            Self::Cancelled => "cancelled",
            Self::Parked => "parked",
        }
    }

    /// Whether nothing will happen any more. A parked run is not over.
    pub fn is_over(self) -> bool {
        use RunState::{Cancelled, CompensateFailed, Compensated, Failed, Succeeded};
        matches!(self, Succeeded | Failed | Compensated | CompensateFailed | Cancelled)
    }
}

impl From<Ending> for RunState {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Succeeded | Ending::NothingToDo => Self::Succeeded,
            Ending::Failed => Self::Failed,
            Ending::Compensated => Self::Compensated,
            Ending::CompensateFailed => Self::CompensateFailed,
            Ending::Cancelled => Self::Cancelled,
            Ending::Parked => Self::Parked,
        }
    }
}

/// A step's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words are those of the journal's phases")]
pub enum StepState {
    #[default]
    Pending,
    Waiting,
    Intent,
    Done,
    Failed,
    Unknown,
    Verified,
    Unverified,
    UndoIntent,
    Undone,
    UndoFailed,
    Skipped,
}

/// Why a run unwinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A step failed for good.
    Failure,
    /// A person cancelled.
    Cancel,
    /// The deadline passed.
    Deadline,
    /// A person chose to undo a parked run.
    Decision,
}

/// One step, as its rows add up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepView {
    /// Where it stands.
    pub state: StepState,
    /// How often it was started.
    pub attempts: u32,
    /// How often it failed.
    pub failures: u32,
    /// How often nobody knew how it ended.
    pub unknowns: u32,
    /// How often its undo was started.
    pub undo_attempts: u32,
    /// How often its undo failed since a person last decided.
    pub undo_failures: u32,
    /// When its last row was written, in UTC milliseconds.
    pub last_at: Millis,
    /// When it first started, in UTC milliseconds.
    pub started_at: Option<Millis>,
    /// When its wait for people ends.
    pub approval_until: Option<Millis>,
    /// When its wait for time ends.
    pub wait_until: Option<Millis>,
    /// Who approved, of the right roles.
    pub approvals: BTreeSet<String>,
    /// The row that asks people; an answer to an earlier one does not count.
    pub asked: u64,
    /// What was seen when they were asked: what they say holds only while that stands.
    pub standing: Standing,
    /// Why what people said before is void.
    pub voided: Option<String>,
    /// Who let it go on alone.
    pub broke_glass: Option<String>,
    /// Who refused.
    pub refused_by: Option<String>,
    /// The last error, or why it was skipped.
    pub because: Option<String>,
    /// The detail of its `done` row.
    pub output: Option<Value>,
    /// Whether another attempt may help.
    pub may_retry: bool,
    /// Its undo met somebody else's change.
    pub conflict: bool,
    /// A person said to undo all the same.
    pub forced: bool,
}

impl StepView {
    /// It failed at first and was done in the end. That stays visible.
    pub fn recovered(&self) -> bool {
        self.failures > 0 && matches!(self.state, StepState::Done | StepState::Verified)
    }

    /// Whether it may have changed something that is still there.
    pub fn may_have_effect(&self) -> bool {
        self.attempts > 0 && !matches!(self.state, StepState::Undone | StepState::Skipped)
    }

    fn take(&mut self, entry: &Entry, roles: &[String]) {
        let row = &entry.row;
        let text = |key: &str| row.detail.get(key).and_then(Value::as_str).map(str::to_owned);
        let until = row.detail.get("until").and_then(Value::as_i64);
        self.last_at = row.at;
        match row.phase {
            Phase::Intent => {
                self.attempts += 1;
                self.started_at.get_or_insert(row.at);
                self.state = StepState::Intent;
            }
            Phase::Done => {
                self.state = StepState::Done;
                self.output = Some(row.detail.clone());
            }
            Phase::Failed => {
                self.failures += 1;
                self.state = StepState::Failed;
                self.because = text("error");
                self.may_retry = row.detail.get("retry") == Some(&Value::Bool(true));
            }
            Phase::Unknown => {
                self.unknowns += 1;
                self.state = StepState::Unknown;
            }
            Phase::Verified => self.state = StepState::Verified,
            Phase::Unverified => {
                self.state = StepState::Unverified;
                self.because = text("error");
            }
            Phase::UndoIntent => {
                self.undo_attempts += 1;
                self.state = StepState::UndoIntent;
            }
            Phase::Undone => self.state = StepState::Undone,
            Phase::UndoFailed => {
                self.undo_failures += 1;
                self.state = StepState::UndoFailed;
                self.because = text("error");
                self.conflict = row.detail.get("conflict") == Some(&Value::Bool(true));
            }
            Phase::Skipped => {
                self.state = StepState::Skipped;
                self.because = text("because");
            }
            Phase::Waiting => {
                self.state = StepState::Waiting;
                if row.detail.get("for") == Some(&json!("approval")) {
                    self.ask(entry, until);
                } else {
                    self.wait_until = until;
                }
            }
            Phase::Voided => {
                self.state = StepState::Waiting;
                self.approvals.clear();
                self.voided = text("because");
                self.ask(entry, until);
            }
            Phase::BrokeGlass => self.broke_glass = text("by").or(Some(String::new())),
            // It was given to a question that was withdrawn in the same moment.
            Phase::Approved if self.is_to_another_question(row) => {}
            Phase::Approved => {
                let has: Vec<&str> = row
                    .detail
                    .get("roles")
                    .and_then(Value::as_array)
                    .map_or_else(Vec::new, |has| has.iter().filter_map(Value::as_str).collect());
                if roles.is_empty() || roles.iter().any(|role| has.contains(&role.as_str())) {
                    self.approvals.extend(text("by"));
                }
            }
            Phase::Refused => self.refused_by = text("by").or(Some(String::new())),
            Phase::Decided => self.decide(row.detail.get("decision")),
            Phase::CancelRequested
            | Phase::Compensating
            | Phase::Parked
            | Phase::Finished
            | Phase::Note => {}
        }
    }

    fn ask(&mut self, entry: &Entry, until: Option<Millis>) {
        (self.asked, self.approval_until) = (entry.seq, until);
        let seen = entry.row.detail.get("seen").and_then(|seen| Standing::deserialize(seen).ok());
        self.standing = seen.unwrap_or_default();
    }

    fn is_to_another_question(&self, row: &NewEntry) -> bool {
        row.detail.get("asked").and_then(Value::as_u64).is_some_and(|asked| asked != self.asked)
    }

    fn decide(&mut self, decision: Option<&Value>) {
        let decision = decision.and_then(|word| Decision::deserialize(word).ok());
        let undoing = matches!(self.state, StepState::UndoIntent | StepState::UndoFailed);
        match (decision, undoing) {
            (Some(Decision::WasDone), false) => {
                self.state = StepState::Done;
                self.output.get_or_insert_with(|| json!({}));
            }
            (Some(Decision::Redo), false) => self.state = StepState::Pending,
            (Some(Decision::Undo), false) => {
                self.state = StepState::Failed;
                self.may_retry = false;
                self.because = Some("a person chose to undo the run".to_owned());
            }
            (Some(Decision::WasDone), true) => self.state = StepState::Undone,
            (Some(Decision::Redo | Decision::Undo), true) => {
                self.state = StepState::Done;
                (self.undo_failures, self.conflict, self.forced) = (0, false, true);
            }
            (None, _) => {}
        }
    }
}

/// One preserve rule, as its rows add up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PreserveView {
    /// The detail of the look before the first step.
    pub before: Option<Value>,
    /// Whether it held after the last step.
    pub after: Option<bool>,
    /// Whether it held after the undo.
    pub after_undo: Option<bool>,
    /// It is not looked at.
    pub skipped: bool,
    /// How often the present look failed.
    pub failures: u32,
    /// Whether looking again may help.
    pub may_retry: bool,
    /// When its last row was written, in UTC milliseconds.
    pub last_at: Millis,
    /// What its last row says.
    pub says: String,
}

impl PreserveView {
    fn take(&mut self, entry: &Entry, is_unwinding: bool) {
        let row = &entry.row;
        let text = |key: &str| row.detail.get(key).and_then(Value::as_str).map(str::to_owned);
        self.last_at = row.at;
        let seen = if is_unwinding { &mut self.after_undo } else { &mut self.after };
        match row.phase {
            Phase::Done => self.before = Some(row.detail.clone()),
            Phase::Verified | Phase::Unverified => *seen = Some(row.phase == Phase::Verified),
            Phase::Skipped => self.skipped = true,
            Phase::Failed => {
                self.failures += 1;
                self.may_retry = row.detail.get("retry") == Some(&Value::Bool(true));
            }
            // "Was done": the data is as it should be; a person has looked.
            Phase::Decided if row.detail.get("decision") == Some(&json!(Decision::WasDone)) => {
                *seen = Some(true);
            }
            _ => {}
        }
        if row.phase != Phase::Failed {
            self.failures = 0;
        }
        if let Some(says) = text("says").or_else(|| text("error")).or_else(|| text("because")) {
            self.says = says;
        }
    }
}

/// How the row ids of conditions begin that look at the world.
pub const CONDITION: &str = "if.";

/// A run, as its rows add up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunView {
    /// Its steps, in the plan's order.
    pub steps: Vec<StepView>,
    /// Which preconditions were looked at, and whether they held.
    pub require: BTreeMap<String, bool>,
    /// What conditions that look at the world said, by the step or block; the error says why they have no answer.
    pub conditions: BTreeMap<String, Result<bool, String>>,
    /// What must not get lost, by the rule's id.
    pub preserve: BTreeMap<String, PreserveView>,
    /// Since when it unwinds, and why.
    pub compensating: Option<(Millis, Cause)>,
    /// A person wants it to stop.
    pub cancelled: bool,
    /// A person wants a parked run undone.
    pub undo_wanted: bool,
    /// A person said to go on although the time is over.
    pub late_allowed: bool,
    /// It waits for a decision about this step (empty: about the run).
    pub parked: Option<String>,
    /// It is over.
    pub finished: Option<Ending>,
    /// Every revision that this run made, forward or in undoing.
    pub revisions: BTreeSet<u64>,
    /// Nothing was written yet.
    pub untouched: bool,
}

impl RunView {
    /// Adds up a run's rows.
    pub fn of(plan: &Plan, entries: &[Entry]) -> Self {
        let mut view = Self {
            steps: vec![StepView::default(); plan.steps.len()],
            require: BTreeMap::new(),
            conditions: BTreeMap::new(),
            preserve: BTreeMap::new(),
            compensating: None,
            cancelled: false,
            undo_wanted: false,
            late_allowed: false,
            parked: None,
            finished: None,
            revisions: BTreeSet::new(),
            untouched: entries.is_empty(),
        };
        for entry in entries {
            view.take(plan, entry);
        }
        view
    }

    fn take(&mut self, plan: &Plan, entry: &Entry) {
        let row = &entry.row;
        match row.phase {
            Phase::CancelRequested => self.cancelled = true,
            Phase::Parked => self.parked = Some(row.step_id.clone()),
            Phase::Finished => {
                self.finished =
                    row.detail.get("ending").and_then(|word| Ending::deserialize(word).ok());
            }
            Phase::Compensating => {
                let cause = row.detail.get("cause").and_then(|word| Cause::deserialize(word).ok());
                self.compensating = Some((row.at, cause.unwrap_or(Cause::Failure)));
                self.late_allowed = false; // unwinding has its own deadline
            }
            Phase::Decided => {
                self.parked = None;
                let undo = row.detail.get("decision") == Some(&json!(Decision::Undo));
                if undo && self.compensating.is_none() {
                    self.undo_wanted = true;
                } else if row.step_id.is_empty() {
                    self.late_allowed = true;
                }
            }
            _ => {}
        }
        if matches!(row.phase, Phase::Done | Phase::Undone) {
            self.revisions.extend(row.detail.get("revision").and_then(Value::as_u64));
        }
        if let Some(id) = row.step_id.strip_prefix(CONDITION) {
            let why = row.detail.get("error").and_then(Value::as_str).unwrap_or_default();
            let found = match row.phase {
                Phase::Verified => Ok(true),
                Phase::Unverified => Ok(false),
                _ => Err(why.to_owned()),
            };
            self.conditions.insert(id.to_owned(), found);
        }
        if let Some(id) = row.step_id.strip_prefix("require.") {
            match (row.phase, row.detail.get("decision")) {
                (Phase::Verified | Phase::Unverified, _) => {
                    self.require.insert(id.to_owned(), row.phase == Phase::Verified);
                }
                // A person looked: it may go on all the same, or is looked at again.
                (Phase::Decided, Some(word)) if *word == json!(Decision::WasDone) => {
                    self.require.insert(id.to_owned(), true);
                }
                (Phase::Decided, Some(word)) if *word == json!(Decision::Redo) => {
                    self.require.remove(id);
                }
                _ => {}
            }
        }
        if let Some(id) = row.step_id.strip_prefix("preserve.") {
            let is_unwinding = self.compensating.is_some();
            self.preserve.entry(id.to_owned()).or_default().take(entry, is_unwinding);
        }
        let step = plan.steps.iter().zip(&mut self.steps).find(|(step, _)| step.id == row.step_id);
        if let Some((step, view)) = step {
            let roles = step.approve.as_ref().map_or(&[][..], |approval| &approval.roles);
            view.take(entry, roles);
        }
    }

    /// The run's state, as people see it.
    pub fn state(&self, plan: &Plan) -> RunState {
        let any = |state| self.steps.iter().any(|step| step.state == state);
        if let Some(ending) = self.finished {
            return ending.into();
        }
        let verifying = plan
            .steps
            .iter()
            .zip(&self.steps)
            .any(|(step, view)| view.state == StepState::Done && step.verify.is_some());
        let asked = self.steps.iter().any(|s| {
            s.state == StepState::Waiting && s.approval_until.is_some() && s.wait_until.is_none()
        });
        match () {
            () if self.parked.is_some() => RunState::Parked,
            () if self.compensating.is_some() => RunState::Compensating,
            () if self.untouched => RunState::Planned,
            () if any(StepState::Waiting) && asked => RunState::WaitingApproval,
            () if verifying => RunState::Verifying,
            () => RunState::Running,
        }
    }

    /// The details of all `done` rows, by step.
    pub fn outputs(&self, plan: &Plan) -> BTreeMap<String, Value> {
        let done = plan.steps.iter().zip(&self.steps);
        done.filter_map(|(step, view)| Some((step.id.clone(), view.output.clone()?))).collect()
    }
}
