//! The report of a run: everything that is told about it, from its plan and its rows in the log alone, so that
//! whoever has both can make it again and compare.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::Millis;
use switchback_playbook::journal::{Entry, Phase};
use switchback_playbook::plan::PlannedStep;
use switchback_playbook::state::{StepState, StepView};
use switchback_playbook::{Plan, RunView};
use switchback_store::LogEntry;

use super::App;
use super::diff::{Difference, diff};
use super::error::AppError;
use super::moments::{self, told};
use super::ports::to_entry;
use super::who::Who;

/// The version of [`Report`]: another one may say other things about the same rows.
pub const REPORT_VERSION: u32 = 1;

/// What is told about a run after and while it happens.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The run.
    pub id: String,
    /// The playbook's name.
    pub playbook: String,
    /// The playbook's title then.
    pub title: String,
    /// The frozen plan's SHA-256, in hex.
    pub plan_sha256: String,
    /// Where it acted.
    pub environment: String,
    /// `ui`, `cli` or `api`.
    pub trigger: String,
    /// When it was started, as RFC 3339 in UTC; the same as `started_at`.
    pub timestamp: String,
    /// Why.
    pub reason: String,
    /// Who started it; the same as `requested_by`.
    #[serde(rename = "executedBy")]
    pub executed_by: String,
    /// What it did, a sentence for each step whose effect may have happened.
    pub actions: Vec<String>,
    /// Who started it.
    pub requested_by: String,
    /// What it was given.
    pub inputs: Value,
    /// Who agreed or refused.
    pub approvals: Vec<Approval>,
    /// What else people said to it: decisions about a parked run, a cancel.
    pub decisions: Vec<Said>,
    /// When it was started, in UTC milliseconds.
    pub started_at: Millis,
    /// When it was over, in UTC milliseconds.
    pub finished_at: Option<Millis>,
    /// From start to end, in milliseconds.
    pub duration_ms: Option<i64>,
    /// Its limit, in milliseconds.
    pub deadline_ms: u64,
    /// Its state: `succeeded`, `compensated`, `running` ...
    pub outcome: String,
    /// Why it unwound: `failure`, `cancel`, `deadline` or `decision`.
    pub unwound_because: Option<String>,
    /// Its steps, in order.
    pub steps: Vec<StepReport>,
    /// How far its changes came among the clients.
    pub convergence: Vec<Acknowledged>,
    /// What was found about the data that it had to preserve.
    pub data: Vec<DataRow>,
    /// Incidents that it opened.
    pub incidents: Vec<String>,
    /// Every row of the log, in words.
    pub timeline: Vec<Moment>,
}

/// A yes or a no to a step that waited for people.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Approval {
    /// The step.
    pub step: String,
    /// Who.
    pub by: String,
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// Yes or no.
    pub granted: bool,
    /// What they added.
    pub comment: String,
}

/// What a person decided about a run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Said {
    /// The step; empty for the run.
    pub step: String,
    /// Who.
    pub by: String,
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// `was_done`, `redo`, `undo`, `cancel` or `break_glass`.
    pub decision: String,
    /// What they added.
    pub comment: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct StepReport {
    /// Its name.
    pub id: String,
    /// What people read.
    pub title: String,
    /// Its kind.
    pub kind: String,
    /// What it does: a sentence.
    pub does: String,
    /// The group or call that it stands in, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub within: String,
    /// `pending`, `done`, `verified`, `failed`, `undone`, `skipped` ...
    pub state: String,
    /// How often it was started.
    pub attempts: u32,
    /// How often it failed.
    pub failures: u32,
    /// When its first row was written, in UTC milliseconds.
    pub started_at: Option<Millis>,
    /// From its first row to its last before any undo, in milliseconds; its waits are in it.
    pub duration_ms: Option<i64>,
    /// What it left behind, in words.
    pub says: Option<String>,
    /// The state before, of a flag.
    pub before: Option<Value>,
    /// The state after, of a flag.
    pub after: Option<Value>,
    /// What differs between both.
    pub changed: Vec<Difference>,
    /// What was looked at afterwards.
    pub verification: Option<Verification>,
    /// How it was taken back, if that was tried.
    pub undo: Option<Undo>,
    /// The last error, or why it was left out.
    pub error: Option<String>,
}

/// What a check after a step found.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Verification {
    /// Whether all is as it should be.
    pub holds: bool,
    /// In words.
    pub says: String,
    /// When, in UTC milliseconds.
    pub at: Millis,
}

/// How a step was taken back.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Undo {
    /// What it does: a sentence.
    pub does: String,
    /// `undo_intent`, `undone` or `undo_failed`.
    pub state: String,
    /// How often it was started.
    pub attempts: u32,
    /// What it left behind, or its error.
    pub says: Option<String>,
    /// When, in UTC milliseconds.
    pub at: Millis,
}

/// What a step that waits for acknowledgements counted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Acknowledged {
    /// The step.
    pub step: String,
    /// The revision that was to be acknowledged.
    pub revision: u64,
    /// Clients that were connected.
    pub connected: u64,
    /// Clients that had acknowledged it.
    pub acked: u64,
    /// Whether the wanted share was reached.
    pub reached: bool,
    /// How long that took, in milliseconds.
    pub took_ms: i64,
}

/// One look at data that the run had to preserve.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct DataRow {
    /// The rule.
    pub rule: String,
    /// `measured` (before), `holds` or `broken`; else the log's own word.
    pub verdict: String,
    /// In words.
    pub says: String,
    /// When, in UTC milliseconds.
    pub at: Millis,
}

/// One row of the log, in words.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Moment {
    /// The row's number.
    pub seq: u64,
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// Since the start, in milliseconds.
    pub after_ms: i64,
    /// The step; empty for the run itself.
    pub step: String,
    /// What happened.
    pub says: String,
    /// The row's hash.
    pub hash: String,
}

impl Report {
    /// From a run's plan and all of its rows, oldest first.
    pub fn of(run: &str, plan: &Plan, rows: &[LogEntry]) -> Self {
        let view = RunView::of(plan, &entries_of(rows));
        let first = rows.first();
        let started_at = first.map_or(0, |row| row.at);
        let finished_at = rows.iter().rfind(|row| is(row, Phase::Finished)).map(|row| row.at);
        let by = first.map(|row| row.actor.clone()).unwrap_or_default();
        let steps: Vec<StepReport> = plan
            .steps
            .iter()
            .zip(&view.steps)
            .map(|(step, seen)| StepReport {
                within: plan.place_of(step),
                ..step_report(step, seen, &rows_of(rows, &step.id))
            })
            .collect();
        let acted = plan.steps.iter().zip(&view.steps).filter(|(_, seen)| seen.attempts > 0);
        let actions = acted.map(|(step, seen)| match seen.state {
            StepState::Undone => format!("{} (taken back)", step.does),
            StepState::Failed => format!("{} (failed)", step.does),
            _ => step.does.clone(),
        });
        let title = |id: &str| plan.step(id).map_or(id, |step| &step.title).to_owned();
        let moment = |row: &LogEntry| Moment {
            seq: row.seq,
            at: row.at,
            after_ms: row.at - started_at,
            step: row.step_id.clone(),
            says: moments::says(row, &title(&row.step_id)),
            hash: row.hash.clone(),
        };
        Self {
            version: REPORT_VERSION,
            id: run.to_owned(),
            playbook: plan.playbook.clone(),
            title: plan.title.clone(),
            plan_sha256: first.map(|row| text(row, "plan_sha256")).unwrap_or_default(),
            environment: plan.environment.clone(),
            trigger: first.map(|row| text(row, "trigger")).unwrap_or_default(),
            timestamp: rfc3339(started_at),
            reason: first.map(|row| row.reason.clone()).unwrap_or_default(),
            executed_by: by.clone(),
            actions: actions.collect(),
            requested_by: by,
            inputs: serde_json::to_value(&plan.inputs).unwrap_or_default(),
            approvals: rows.iter().filter_map(approval).collect(),
            decisions: rows.iter().filter_map(said).collect(),
            started_at,
            finished_at,
            duration_ms: finished_at.map(|at| at - started_at),
            deadline_ms: plan.deadline_ms,
            outcome: view.state(plan).as_str().to_owned(),
            unwound_because: view.compensating.map(|(_, cause)| moments::word(&cause)),
            steps,
            convergence: rows.iter().filter_map(|row| convergence(plan, row)).collect(),
            data: rows.iter().filter_map(data_row).collect(),
            incidents: rows.iter().filter_map(|row| incident(plan, row)).collect(),
            timeline: rows.iter().map(moment).collect(),
        }
    }
}

/// The rows that the engine reads, without remarks.
pub fn entries_of(rows: &[LogEntry]) -> Vec<Entry> {
    rows.iter().filter_map(to_entry).filter(|entry| entry.row.phase != Phase::Note).collect()
}

/// One step's rows, oldest first.
pub fn rows_of<'r>(rows: &'r [LogEntry], step: &str) -> Vec<&'r LogEntry> {
    rows.iter().filter(|row| row.step_id == step).collect()
}

/// When a step's first row was written and its last before any undo, in UTC milliseconds.
pub fn span<'r>(rows: impl IntoIterator<Item = &'r LogEntry>) -> Option<(Millis, Millis)> {
    let forward = |row: &&LogEntry| {
        let back = [Phase::UndoIntent, Phase::Undone, Phase::UndoFailed, Phase::Parked];
        !back.iter().any(|phase| is(row, *phase))
    };
    let mut rows = rows.into_iter().take_while(forward);
    let first = rows.next()?;
    Some((first.at, rows.last().unwrap_or(first).at))
}

fn step_report(step: &PlannedStep, seen: &StepView, rows: &[&LogEntry]) -> StepReport {
    let last = |phases: &[Phase]| {
        rows.iter().rfind(|row| phases.iter().any(|phase| is(row, *phase))).copied()
    };
    let done = last(&[Phase::Done]);
    let checked = last(&[Phase::Verified, Phase::Unverified]);
    let undone = last(&[Phase::UndoIntent, Phase::Undone, Phase::UndoFailed]);
    let (before, after) = done.map_or((None, None), |row| (row.before.clone(), row.after.clone()));
    let span = span(rows.iter().copied());
    StepReport {
        id: step.id.clone(),
        title: step.title.clone(),
        kind: step.kind.clone(),
        does: step.does.clone(),
        within: String::new(),
        state: moments::word(&seen.state),
        attempts: seen.attempts,
        failures: seen.failures,
        started_at: span.map(|(from, _)| from),
        duration_ms: span.filter(|_| seen.attempts > 0).map(|(from, to)| to - from),
        says: done.and_then(|row| told(&row.detail)),
        changed: diff(before.as_ref(), after.as_ref()),
        before,
        after,
        verification: checked.map(|row| Verification {
            holds: is(row, Phase::Verified),
            says: told(&row.detail).unwrap_or_default(),
            at: row.at,
        }),
        undo: undone.map(|row| Undo {
            does: step.undoes.clone(),
            state: row.phase.clone(),
            attempts: seen.undo_attempts,
            says: told(&row.detail),
            at: row.at,
        }),
        error: seen.because.clone(),
    }
}

fn is(row: &LogEntry, phase: Phase) -> bool {
    row.phase == phase.as_str()
}

fn text(row: &LogEntry, key: &str) -> String {
    row.detail.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn approval(row: &LogEntry) -> Option<Approval> {
    let granted = is(row, Phase::Approved);
    (granted || is(row, Phase::Refused)).then(|| Approval {
        step: row.step_id.clone(),
        by: row.actor.clone(),
        at: row.at,
        granted,
        comment: text(row, "comment"),
    })
}

fn said(row: &LogEntry) -> Option<Said> {
    let (decision, comment) = match &row.phase {
        phase if phase == Phase::Decided.as_str() => (text(row, "decision"), text(row, "comment")),
        phase if phase == Phase::CancelRequested.as_str() => {
            ("cancel".to_owned(), text(row, "reason"))
        }
        phase if phase == Phase::BrokeGlass.as_str() => {
            ("break_glass".to_owned(), text(row, "comment"))
        }
        _ => return None,
    };
    let (step, by) = (row.step_id.clone(), row.actor.clone());
    Some(Said { step, by, at: row.at, decision, comment })
}

fn convergence(plan: &Plan, row: &LogEntry) -> Option<Acknowledged> {
    let counted = plan.step(&row.step_id)?.kind == "flag.ack" && is(row, Phase::Done);
    let number = |key: &str| row.detail.get(key).and_then(Value::as_u64);
    if !counted {
        return None;
    }
    Some(Acknowledged {
        step: row.step_id.clone(),
        revision: number("at_revision")?,
        connected: number("connected")?,
        acked: number("acked")?,
        reached: row.detail.get("reached") == Some(&Value::Bool(true)),
        took_ms: row.detail.get("took_ms").and_then(Value::as_i64).unwrap_or_default(),
    })
}

fn data_row(row: &LogEntry) -> Option<DataRow> {
    let rule = row.step_id.strip_prefix(moments::DATA).filter(|_| !moments::is_said(row))?;
    Some(DataRow {
        rule: rule.to_owned(),
        verdict: moments::verdict(&row.phase).to_owned(),
        says: told(&row.detail).unwrap_or_default(),
        at: row.at,
    })
}

fn incident(plan: &Plan, row: &LogEntry) -> Option<String> {
    let opened = plan.step(&row.step_id)?.kind == "incident.open" && is(row, Phase::Done);
    let id = row.detail.get("incident").and_then(Value::as_str)?;
    opened.then(|| id.to_owned())
}

fn rfc3339(at: Millis) -> String {
    Timestamp::from_millisecond(at).map(|at| at.to_string()).unwrap_or_default()
}

impl App {
    /// What is told about a run, after and while it happens.
    pub async fn report_run(self: &Arc<Self>, who: &Who, id: &str) -> Result<Report, AppError> {
        let detail = self.get_run(who, id).await?;
        Ok(Report::of(id, &detail.plan, &detail.log))
    }
}
