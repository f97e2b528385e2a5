//! The kinds of steps. A kind is one file here and one word in the list below.

mod announce;
mod fields;
pub(crate) mod flags;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_core::model::Millis;

pub use self::fields::{Fault, Field, Fields};
use crate::journal::{Lease, NewEntry, Phase};
use crate::plan::{Approval, Plan, PlannedStep};
use crate::ports::{FlagSnapshot, PortError, World};
use crate::standing::Sight;

/// Declares each kind's module and puts its `Kind` in the registry.
macro_rules! kinds {
    ($($module:ident),* $(,)?) => {
        $(pub(crate) mod $module;)*
        static KINDS: &[&dyn StepKind] = &[
            $(&$module::Kind,)*
            &announce::SLACK,
            &announce::DISCORD,
            &announce::TEAMS,
            &announce::PAGERDUTY,
            &announce::WEBHOOK,
            &announce::EMAIL,
        ];
    };
}

// One word for each kind, in the order in which people should meet them.
kinds! {
    flag_set,
    flag_kill,
    flag_rollout,
    flag_archive,
    flag_restore,
    flag_snapshot_restore,
    flag_ack,
    approve,
    pause,
    wait,
    incident_open,
    incident_update,
    incident_resolve,
    incident_withdraw,
    page_component,
    notify_in_app,
    probe_http,
    probe_metric,
    probe_sql,
    http_request,
    sql_exec,
    sql_restore,
    sql_migrate,
    backup_take,
    backup_verify,
    backup_restore,
    session_revoke,
    consistency_run,
    log,
}

/// The kind of this name.
pub fn find(name: &str) -> Option<&'static dyn StepKind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}

/// A kind, for people.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KindInfo {
    /// Its name, such as `flag.set`.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Changes nothing; may follow `verify:`.
    pub read_only: bool,
    /// How it is undone.
    pub undo: Undo,
    /// What it takes.
    pub fields: &'static [Field],
}

/// Every kind that this release runs.
pub fn registry() -> impl Iterator<Item = KindInfo> {
    let kinds = KINDS.iter().map(|kind| KindInfo {
        name: kind.name(),
        about: kind.about(),
        read_only: kind.read_only(),
        undo: kind.undo_mode(),
        fields: kind.fields(),
    });
    kinds.chain(crate::blocks::registry())
}

pub(crate) fn field_names(kind: &dyn StepKind) -> String {
    kind.fields().iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
}

/// How a kind is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// It changes nothing.
    NotNeeded,
    /// By itself.
    Automatic,
    /// Not at all: a message cannot be unsent.
    Impossible,
}

/// A call with its values checked.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The parameters as the kind reads them back.
    pub params: Value,
    /// What it will do: a sentence.
    pub does: String,
    /// What its undo will do; empty when there is none.
    pub undoes: String,
    /// The default limit of one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// A wait before the effect, in milliseconds.
    pub wait_ms: u64,
    /// People who must agree before the effect.
    pub approve: Option<Approval>,
    /// Needs care whatever the file says.
    pub danger: bool,
    /// How this call is undone, where that differs from its kind.
    pub undo: Option<Undo>,
}

impl Resolved {
    /// A call with a limit of 10 s, no wait and no approval.
    pub fn new(params: &impl Serialize, does: impl Into<String>) -> Self {
        Self {
            params: serde_json::to_value(params).unwrap_or_default(),
            does: does.into(),
            undoes: String::new(),
            timeout_ms: 10_000,
            wait_ms: 0,
            approve: None,
            danger: false,
            undo: None,
        }
    }
}

/// Why a step did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Another node drives the run: stop at once.
    #[error("another node has taken this run over")]
    Fenced,
    /// It failed; `retry` says whether trying again may help.
    #[error("{message}")]
    Failed {
        /// What happened.
        message: String,
        /// Whether trying again may help.
        retry: bool,
    },
    /// An undo found somebody else's change and left it alone.
    #[error("{0}")]
    Conflict(String),
}

impl StepError {
    /// A failure that trying again does not mend.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), retry: false }
    }

    /// A failure that trying again may mend.
    pub fn passing(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), retry: true }
    }
}

impl From<PortError> for StepError {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Fenced => Self::Fenced,
            PortError::NotFound(_) | PortError::Refused(_) => Self::permanent(error.to_string()),
            PortError::Conflict(_) | PortError::Unavailable(_) => Self::passing(error.to_string()),
        }
    }
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Ran {
    /// It happened; the runner writes the outcome with this detail.
    Done(Value),
    /// It happened, and its outcome row was committed with it.
    Committed,
}

/// A look at the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is as it should be: what was seen.
    Holds(String),
    /// It is not: what was seen.
    Broken(String),
}

/// What a dry run knows about a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// This.
    Known(T),
    /// It cannot be known before the run: why.
    Unknown(String),
}

/// What a step would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// What would change, from what to what; `None` when nothing would.
    pub change: Answer<Option<(Value, Value)>>,
    /// How many connected clients would hear of it.
    pub clients: Answer<u64>,
    /// What somebody should know first.
    pub warnings: Vec<String>,
}

impl Effect {
    /// Nothing changes and nobody is touched.
    pub fn none() -> Self {
        Self { change: Answer::Known(None), clients: Answer::Known(0), warnings: Vec::new() }
    }
}

/// The flags as the steps so far would leave them, in a dry run.
#[derive(Default)]
pub struct Overlay {
    /// By flag key.
    pub flags: BTreeMap<String, FlagSnapshot>,
}

/// Where a step stands when it is called.
pub struct At<'a> {
    /// The run's plan.
    pub plan: &'a Plan,
    /// The step.
    pub step: &'a PlannedStep,
    /// The parameters: the step's, or those of its check.
    pub params: &'a Value,
    /// The right to write.
    pub lease: &'a Lease,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The detail of the step's `done` row, if it has one.
    pub done: Option<&'a Value>,
    /// The details of all `done` rows, by step.
    pub outputs: &'a BTreeMap<String, Value>,
    /// Every revision that this run has made so far.
    pub revisions: &'a BTreeSet<u64>,
    /// A person said to undo although somebody else has changed it since.
    pub forced: bool,
    /// The world.
    pub world: &'a World,
}

impl At<'_> {
    /// The key under which an effect happens once, however often it is asked for.
    pub fn key(&self, phase: &str) -> String {
        format!("sb-{}-{}-{phase}", self.lease.run_id, self.step.id)
    }

    /// Now, in UTC milliseconds.
    pub fn now(&self) -> Millis {
        self.world.clock.now_ms()
    }

    /// A row about this step and attempt.
    pub fn entry(&self, phase: Phase, detail: Value) -> NewEntry {
        NewEntry {
            run_id: self.lease.run_id.clone(),
            step_id: self.step.id.clone(),
            attempt: self.attempt,
            phase,
            at: self.now(),
            detail,
        }
    }

    /// The parameters in the kind's own type. Only a plan of another release can fail here.
    pub fn read<P: DeserializeOwned>(&self) -> Result<P, StepError> {
        P::deserialize(self.params).map_err(|error| {
            StepError::permanent(format!("the plan holds parameters of another release: {error}"))
        })
    }

    /// The newest revision that this run has made, if it made one.
    pub fn revision(&self) -> Option<u64> {
        self.revisions.last().copied()
    }
}

/// A done step of a finished run.
pub struct Past<'p> {
    /// The run.
    pub run_id: &'p str,
    /// The step's name.
    pub step_id: &'p str,
    /// What it did, in words.
    pub does: &'p str,
    /// Its parameters.
    pub params: &'p Value,
    /// The detail of its `done` row.
    pub done: &'p Value,
}

impl Past<'_> {
    /// The key under which its effect happened: [`At::key`].
    pub fn key(&self, phase: &str) -> String {
        format!("sb-{}-{}-{phase}", self.run_id, self.step_id)
    }
}

/// What takes a step back in a playbook of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Inverse {
    /// Nothing: it changed nothing, or what it changed is taken back otherwise.
    Nothing,
    /// Nothing can: what it did, in words.
    Impossible(String),
    /// This step.
    Step {
        /// Its kind.
        kind: &'static str,
        /// Its parameters.
        params: Value,
    },
}

impl Inverse {
    /// A step.
    pub fn step(kind: &'static str, params: Value) -> Self {
        Self::Step { kind, params }
    }
}

/// One kind of step.
///
/// A node may die anywhere inside a step and another may start it again with the same keys, so `run`
/// and `undo` must end in the same place however often they are called. A kind that cannot promise
/// that says so in [`idempotent`](Self::idempotent), and a person is asked instead.
#[async_trait]
pub trait StepKind: Send + Sync {
    /// Its name in files, such as `flag.set`.
    fn name(&self) -> &'static str;
    /// One line for people.
    fn about(&self) -> &'static str;
    /// What it takes.
    fn fields(&self) -> &'static [Field];
    /// Changes nothing, and may therefore follow `verify:`.
    fn read_only(&self) -> bool {
        false
    }
    /// May be repeated when nobody knows whether it happened.
    fn idempotent(&self) -> bool {
        true
    }
    /// How it is undone.
    fn undo_mode(&self) -> Undo {
        Undo::NotNeeded
    }
    /// Whether it can be undone.
    fn can_undo(&self) -> bool {
        self.undo_mode() == Undo::Automatic
    }
    /// Commits its outcome with its effect, so the runner lets it finish rather than cut it off.
    fn commits_itself(&self) -> bool {
        false
    }
    /// May be cut off when the run is cancelled: what it has begun is dropped without a trace.
    fn stoppable(&self) -> bool {
        self.read_only()
    }
    /// Checks the values and says in words what will happen. Pure.
    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault>;
    /// What `run` would change, after the steps before it. Changes nothing itself.
    async fn preview(&self, _at: &At<'_>, _so_far: &mut Overlay) -> Effect {
        Effect::none()
    }
    /// What of the world an agreement to this step rests on; `None`: nothing, or it cannot be seen now.
    async fn sight(&self, _at: &At<'_>) -> Option<Sight> {
        None
    }
    /// Does it.
    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError>;
    /// Finds out whether an earlier attempt that left no outcome has happened: its detail, or `None`
    /// when that cannot be known.
    async fn probe(&self, _at: &At<'_>) -> Result<Option<Value>, StepError> {
        Ok(None)
    }
    /// Looks at the world again rather than trusting that `run` returned.
    async fn verify(&self, _at: &At<'_>) -> Result<Check, StepError> {
        Ok(Check::Holds("nothing to look at".to_owned()))
    }
    /// Takes it back. Called for done steps, and for failed ones, which may be half done.
    async fn undo(&self, _at: &At<'_>) -> Result<Ran, StepError> {
        Ok(Ran::Done(json!({})))
    }
    /// The step that takes a done one of a finished run back, in a playbook of its own. Flags are taken back by
    /// [`invert`](crate::invert) itself, each once.
    fn invert(&self, past: &Past<'_>) -> Inverse {
        match self.undo_mode() {
            Undo::Impossible => Inverse::Impossible(past.does.to_owned()),
            Undo::NotNeeded | Undo::Automatic => Inverse::Nothing,
        }
    }
}
