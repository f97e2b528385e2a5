//! The journal: what a run writes down, and the port through which the server keeps it.
//!
//! A run's state is its rows and nothing else. Nothing is replayed: a restarted node reads the rows and
//! asks [`next_move`](crate::next_move::next_move) what to do.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_core::model::Millis;

use crate::plan::Plan;
use crate::ports::PortError;

/// What a row says happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The step's effect is about to start. Committed before it does.
    Intent,
    /// The effect happened; `detail` holds what undo and later steps need.
    Done,
    /// The effect did not happen, or not wholly: `{error, retry}`.
    Failed,
    /// A node died, or time ran out, between intent and outcome.
    Unknown,
    /// The world was looked at again and is as it should be.
    Verified,
    /// It is not: `{error}`.
    Unverified,
    /// The undo is about to start.
    UndoIntent,
    /// The undo is complete, or there was nothing to undo.
    Undone,
    /// The undo did not work: `{error, conflict}`.
    UndoFailed,
    /// The step does not run: `{because}`.
    Skipped,
    /// Nothing is in flight; the step goes on at `{until}`, or when people approve.
    Waiting,
    /// A person approved: `{by, roles, comment}`. Written by the server.
    Approved,
    /// A person refused: `{by, roles, comment}`. Written by the server.
    Refused,
    /// The world has moved since people were asked: what they said so far is void, and they are asked again until
    /// `{until}`: `{because, seen}`.
    Voided,
    /// A person let the step go on alone, in an emergency: `{by, roles, comment}`. Written by the server.
    BrokeGlass,
    /// A person decided about a parked run: `{by, decision}`. Written by the server.
    Decided,
    /// A person cancelled the run: `{by, reason}`. Written by the server.
    CancelRequested,
    /// From here on the run unwinds: `{because, cause}`.
    Compensating,
    /// The run waits for a person's decision: `{because}`.
    Parked,
    /// The run is over: `{ending}`.
    Finished,
    /// A remark.
    Note,
}

impl Phase {
    /// The word that stands in the database and in JSON, such as `undo_intent`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::UndoIntent => "undo_intent",
            Self::Undone => "undone",
            Self::UndoFailed => "undo_failed",
            Self::Skipped => "skipped",
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Voided => "voided",
            Self::BrokeGlass => "broke_glass",
            Self::Decided => "decided",
            Self::CancelRequested => "cancel_requested",
            Self::Compensating => "compensating",
            Self::Parked => "parked",
            Self::Finished => "finished",
            Self::Note => "note",
        }
    }
}

/// A row before the journal numbers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewEntry {
    /// The run.
    pub run_id: String,
    /// The step; empty for a row about the whole run, `require.<id>` for a precondition.
    pub step_id: String,
    /// The attempt, from 1; 0 where it has no meaning.
    pub attempt: u32,
    /// What happened.
    pub phase: Phase,
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// More about it: an object.
    pub detail: Value,
}

impl NewEntry {
    /// The same row with `revision` in its detail. [`Flags::apply`](crate::ports::Flags::apply) calls
    /// this inside the transaction, as only the transaction knows the revision.
    #[must_use]
    pub fn with_revision(mut self, revision: u64) -> Self {
        if let Value::Object(detail) = &mut self.detail {
            detail.insert("revision".to_owned(), json!(revision));
        }
        self
    }

    /// A person's yes or no to a step's approval. The server checks that the person has the roles.
    pub fn approval(
        run_id: &str,
        step_id: &str,
        at: Millis,
        granted: bool,
        person: &Person,
    ) -> Self {
        let phase = if granted { Phase::Approved } else { Phase::Refused };
        let detail = json!({"by": person.name, "roles": person.roles, "comment": person.comment});
        Self { run_id: run_id.into(), step_id: step_id.into(), attempt: 0, phase, at, detail }
    }

    /// A person lets a step go on alone, without those who should agree.
    pub fn break_glass(run_id: &str, step_id: &str, at: Millis, person: &Person) -> Self {
        let entry = Self::approval(run_id, step_id, at, true, person);
        Self { phase: Phase::BrokeGlass, ..entry }
    }

    /// A person's decision about a parked run; `step_id` is that of the `parked` row.
    pub fn decision(
        run_id: &str,
        step_id: &str,
        at: Millis,
        decision: Decision,
        person: &Person,
    ) -> Self {
        let detail = json!({"by": person.name, "comment": person.comment, "decision": decision});
        let (run_id, step_id) = (run_id.into(), step_id.into());
        Self { run_id, step_id, attempt: 0, phase: Phase::Decided, at, detail }
    }

    /// A person's wish to stop the run and undo what it did.
    pub fn cancel(run_id: &str, at: Millis, person: &Person) -> Self {
        let detail = json!({"by": person.name, "reason": person.comment});
        let phase = Phase::CancelRequested;
        Self { run_id: run_id.into(), step_id: String::new(), attempt: 0, phase, at, detail }
    }
}

/// Who approves, refuses, decides or cancels, and what they say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// The account's name.
    pub name: String,
    /// The roles that it has in the environment.
    pub roles: Vec<String>,
    /// What they wrote; may be empty.
    pub comment: String,
}

/// What a person decides about a parked run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was done, or should be taken as done: go on behind it.
    WasDone,
    /// Do it again; for an undo that met somebody else's change: undo all the same.
    Redo,
    /// Give up on going forward and unwind the run.
    Undo,
}

/// A row of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number; a run's rows ascend.
    pub seq: u64,
    /// The lease epoch under which it was written.
    pub epoch: u64,
    /// The row.
    #[serde(flatten)]
    pub row: NewEntry,
}

/// The right to drive one run. Whoever takes a run over gets a higher epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run_id: String,
    /// The node that drives.
    pub owner: String,
    /// The fencing token: every write of an older epoch is refused.
    pub epoch: u64,
    /// How long the lease lives without renewal, in milliseconds (5,000).
    pub ttl_ms: u64,
}

/// Everything that is stored about a run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its id.
    pub run_id: String,
    /// The plan, frozen when the run was made.
    pub plan: Plan,
    /// When the run was started, in UTC milliseconds; its deadline counts from here.
    pub started_at: Millis,
    /// Every row, in order.
    pub entries: Vec<Entry>,
}

/// Where runs are kept. The server implements it over `runs` and the hash-chained `rollback_log`.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Reads a run: plan and rows, including those that people caused (approvals, decisions, cancel).
    async fn load(&self, run_id: &str) -> Result<RunRecord, PortError>;

    /// Commits one row, durably, if `lease` is still the run's lease; else [`PortError::Fenced`].
    /// Returns the row's number.
    async fn append(&self, lease: &Lease, entry: NewEntry) -> Result<u64, PortError>;

    /// Prolongs the lease by its `ttl_ms`; [`PortError::Fenced`] when somebody else has it.
    async fn renew(&self, lease: &Lease) -> Result<(), PortError>;

    /// Commits the run's last row (`finished`, or `parked`), the run's new state
    /// ([`RunState::as_str`](crate::state::RunState::as_str)) and the end of the lease, in one
    /// transaction, fenced as [`append`](Self::append) is.
    async fn finish(
        &self,
        lease: &Lease,
        state: crate::state::RunState,
        entry: NewEntry,
    ) -> Result<(), PortError>;
}
