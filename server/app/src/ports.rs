//! The playbook engine's ports, over the store, the hub and the use cases. One value per run, so that
//! every write carries the run and the person behind it.

mod archive;
mod consistency;
mod http;
mod preservation;
mod sessions;
mod sources;
mod telling;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use switchback_core::model::{FlagState, Millis, Revision};
use switchback_playbook::journal::{Entry, Journal, Lease, NewEntry, Phase, RunRecord};
use switchback_playbook::ports::{
    Clock, Converged, Convergence, FlagSnapshot, FlagWrite, Flags, FlagsWrite, PortError, Progress,
    World,
};
use switchback_playbook::state::RunState;
use switchback_store::{self as store, RunRow, StoreError};

use super::App;
use super::error::AppError;
use super::who::Who;
use crate::live::News;

pub(super) use self::sources::source_error;

/// What stands before a data source's name where its copy in a drill is meant.
const IN_DRILL: &str = "drill of ";

/// The ports of one run; of a dry run when `run` is `None`.
pub(super) struct Ports {
    pub(super) app: Arc<App>,
    pub(super) run: Option<RunRow>,
    /// When each step's effect began, for the log's durations.
    began: Mutex<BTreeMap<String, Millis>>,
}

/// The world as one run sees it.
pub fn world(app: &Arc<App>, run: Option<RunRow>) -> World {
    let ports = Arc::new(Ports { app: Arc::clone(app), run, began: Mutex::default() });
    World {
        journal: ports.clone(),
        flags: ports.clone(),
        archive: ports.clone(),
        convergence: ports.clone(),
        incidents: ports.clone(),
        notices: ports.clone(),
        http: ports.clone(),
        sources: ports.clone(),
        preservation: ports.clone(),
        backups: ports.clone(),
        sessions: ports.clone(),
        consistency: ports.clone(),
        watch: ports.clone(),
        clock: ports.clone(),
        progress: ports,
    }
}

impl Ports {
    /// The run whose copies of data sources are used: that of a drill, or the one that a drill's end takes back.
    fn drill(&self) -> Option<&str> {
        let run = self.run.as_ref().filter(|run| run.trigger == "drill")?;
        Some(run.undoes.as_deref().unwrap_or(&run.id))
    }

    /// The name under which backups are listed: those of a drill's copies are nobody's backups.
    pub(super) fn kept_as(&self, source: &str) -> String {
        if self.drill().is_some() { format!("{IN_DRILL}{source}") } else { source.to_owned() }
    }

    pub(super) fn who(&self) -> Who {
        let name = self.run.as_ref().map_or("switchback", |run| run.requested_by.as_str());
        let mut who = Who::with_role(name, store::Role::Admin);
        who.run_id = self.run.as_ref().map(|run| run.id.clone());
        who
    }

    /// A row for the log, with who, why and how long.
    fn row(&self, entry: NewEntry) -> store::NewEntry {
        let (environment, reason, actor) = match &self.run {
            Some(run) => (run.environment.clone(), run.reason.clone(), run.requested_by.clone()),
            None => Default::default(),
        };
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let duration_ms = match entry.phase {
            Phase::Intent | Phase::UndoIntent => {
                began.insert(entry.step_id.clone(), entry.at);
                None
            }
            Phase::Done | Phase::Failed | Phase::Undone | Phase::UndoFailed => {
                began.get(&entry.step_id).map(|at| entry.at - at)
            }
            Phase::Finished => self.run.as_ref().map(|run| entry.at - run.created_at),
            _ => None,
        };
        store::NewEntry {
            run_id: entry.run_id,
            environment,
            step_id: entry.step_id,
            attempt: entry.attempt,
            phase: entry.phase.as_str().to_owned(),
            actor,
            reason,
            before: None,
            after: None,
            duration_ms,
            detail: entry.detail,
            at: entry.at,
        }
    }
}

/// A row of the log as the engine reads it; rows of later releases are passed over.
pub fn to_entry(row: &store::LogEntry) -> Option<Entry> {
    let phase = serde_json::from_value(Value::String(row.phase.clone())).ok()?;
    Some(Entry {
        seq: row.seq,
        epoch: row.epoch,
        row: NewEntry {
            run_id: row.run_id.clone(),
            step_id: row.step_id.clone(),
            attempt: row.attempt,
            phase,
            at: row.at,
            detail: row.detail.clone(),
        },
    })
}

fn fence_of(lease: &Lease) -> store::Lease {
    store::Lease { run_id: lease.run_id.clone(), epoch: lease.epoch }
}

pub(super) fn port_error(error: StoreError) -> PortError {
    match error {
        StoreError::Fenced { .. } => PortError::Fenced,
        StoreError::NotFound { kind, key } => PortError::NotFound(format!("{kind} `{key}`")),
        StoreError::Stale { current } => {
            PortError::Conflict(format!("it is at revision {current} now"))
        }
        StoreError::Refused(why) => PortError::Refused(why),
        error if error.is_outage() => {
            tracing::warn!(error = ?error, "the database did not answer a run");
            PortError::Unavailable(error.to_string())
        }
        error => PortError::Refused(error.to_string()),
    }
}

impl From<StoreError> for PortErrorBox {
    fn from(error: StoreError) -> Self {
        Self(port_error(error))
    }
}

/// Lets the store's generic closures end in a port's error.
struct PortErrorBox(PortError);

fn app_error(error: AppError) -> PortError {
    match error {
        AppError::NotFound { kind, key } => PortError::NotFound(format!("{kind} `{key}`")),
        AppError::Unavailable(source) => port_error(source),
        other => PortError::Refused(other.to_string()),
    }
}

#[async_trait]
impl Journal for Ports {
    async fn load(&self, run_id: &str) -> Result<RunRecord, PortError> {
        let run = self.app.store.get_run(run_id).await.map_err(port_error)?;
        let rows = self.app.store.list_entries(run_id).await.map_err(port_error)?;
        let plan = serde_json::from_str(&run.plan)
            .map_err(|error| PortError::Refused(format!("the plan cannot be read: {error}")))?;
        Ok(RunRecord {
            run_id: run.id,
            plan,
            started_at: run.begins_at,
            entries: rows
                .iter()
                .filter_map(to_entry)
                .filter(|e| e.row.phase != Phase::Note)
                .collect(),
        })
    }

    async fn append(&self, lease: &Lease, entry: NewEntry) -> Result<u64, PortError> {
        let row = self.row(entry);
        let kept = self.app.store.append_entry(&fence_of(lease), row).await.map_err(port_error)?;
        Ok(kept.seq)
    }

    async fn renew(&self, lease: &Lease) -> Result<(), PortError> {
        let ttl_ms = lease.ttl_ms.cast_signed();
        let now = self.app.clock.now();
        self.app.store.renew_lease(&fence_of(lease), now, ttl_ms).await.map_err(port_error)
    }

    async fn finish(
        &self,
        lease: &Lease,
        state: RunState,
        entry: NewEntry,
    ) -> Result<(), PortError> {
        let (fence, row) = (fence_of(lease), self.row(entry));
        let store = &self.app.store;
        let ended = if state.is_over() {
            store.finish_run(&fence, state.as_str(), row).await
        } else {
            store.park_run(&fence, state.as_str(), row).await
        };
        ended.map_err(port_error)
    }
}

/// One side of a change of several flags, by flag.
fn side(detail: &Value, name: &str) -> Option<Value> {
    let flags = detail.get("flags")?.as_object()?;
    let states =
        flags.iter().filter_map(|(key, both)| Some((key.clone(), both.get(name)?.clone())));
    Some(Value::Object(states.collect()))
}

#[async_trait]
impl Flags for Ports {
    async fn read(&self, environment: &str, flag: &str) -> Result<FlagSnapshot, PortError> {
        let row = self.app.store.get_flag(environment, flag).await.map_err(port_error)?;
        let (revision, value_type) = (row.revision, row.flag.value_type);
        Ok(FlagSnapshot { revision, value_type, state: row.state })
    }

    async fn read_before(
        &self,
        environment: &str,
        flag: &str,
        revision: Revision,
    ) -> Result<FlagState, PortError> {
        let found = self.app.store.find_change(environment, "flag", flag, revision).await;
        let missing = || PortError::NotFound(format!("revision {revision} of flag `{flag}`"));
        let found = found.map_err(port_error)?.filter(|change| change.revision == Some(revision));
        let before = found.and_then(|change| change.before).ok_or_else(missing)?;
        serde_json::from_value(before).map_err(|_| {
            PortError::Refused(format!("revision {revision} of `{flag}` cannot be read"))
        })
    }

    async fn read_all(
        &self,
        environment: &str,
    ) -> Result<(Revision, BTreeMap<String, FlagSnapshot>), PortError> {
        let store = &self.app.store;
        let revision = store.get_environment(environment).await.map_err(port_error)?.revision;
        let rows = store.list_flags(environment, false).await.map_err(port_error)?;
        let flags = rows.into_iter().map(|row| {
            let (revision, value_type) = (row.revision, row.flag.value_type);
            let found = FlagSnapshot { revision, value_type, state: row.state };
            (row.flag.key.as_str().to_owned(), found)
        });
        Ok((revision, flags.collect()))
    }

    async fn read_all_at(
        &self,
        environment: &str,
        at: Millis,
    ) -> Result<BTreeMap<String, FlagState>, PortError> {
        let changes = self.app.store.changes_as_of(environment, at).await.map_err(port_error)?;
        let flags = changes.into_iter().filter(|change| change.subject_kind == "flag");
        let read = flags.filter_map(|change| {
            let state = serde_json::from_value(change.after?).map_err(|_| {
                PortError::Refused(format!("`{}` at that moment cannot be read", change.subject))
            });
            Some(state.map(|state| (change.subject, state)))
        });
        read.collect()
    }

    async fn apply_all(
        &self,
        lease: &Lease,
        write: FlagsWrite,
        outcome: NewEntry,
    ) -> Result<Revision, PortError> {
        let FlagsWrite { environment, expected_revision, states, reason } = write;
        let by = self.app.stamp(&self.who(), &reason);
        let restored = states.into_iter().map(|(key, state)| store::RestoredFlag { key, state });
        let restored: Vec<store::RestoredFlag> = restored.collect();
        let row = |revision| {
            let mut row = self.row(outcome.with_revision(revision));
            (row.before, row.after) = (side(&row.detail, "before"), side(&row.detail, "after"));
            row
        };
        let (fence, store) = (fence_of(lease), &self.app.store);
        let changed = store
            .restore_flags_in_run(&fence, &environment, &restored, expected_revision, &by, row)
            .await;
        let revision = changed.map_err(|error| match error {
            StoreError::Stale { current } => {
                PortError::Conflict(format!("`{environment}` is at revision {current} now"))
            }
            error => port_error(error),
        })?;
        self.app.announce(News::Environment(environment)).await;
        Ok(revision)
    }

    async fn apply(
        &self,
        lease: &Lease,
        write: FlagWrite,
        outcome: NewEntry,
    ) -> Result<Revision, PortError> {
        let FlagWrite { environment, flag, expected_revision, state, reason } = write;
        let who = self.who();
        let by = self.app.stamp(&who, &reason);
        let decide = |_: &_, current: u64| {
            if current == expected_revision {
                return Ok(state);
            }
            let message = format!("`{flag}` is at revision {current} now");
            Err(PortErrorBox(PortError::Conflict(message)))
        };
        let row = |changed: &store::ChangedFlag| {
            let mut row = self.row(outcome.with_revision(changed.revision));
            row.before = serde_json::to_value(&changed.before).ok();
            row.after = serde_json::to_value(&changed.after).ok();
            row
        };
        let place = (environment.as_str(), flag.as_str(), "playbook");
        let fence = fence_of(lease);
        let changed = self.app.store.change_flag_in_run(&fence, place, &by, decide, row).await;
        let (changed, _) = changed.map_err(|error: PortErrorBox| error.0)?;
        if changed.changed {
            self.app.announce(News::Environment(environment)).await;
        }
        Ok(changed.revision)
    }
}

#[async_trait]
impl Convergence for Ports {
    async fn status(
        &self,
        environment: &str,
        revision: Option<Revision>,
    ) -> Result<Converged, PortError> {
        let found = self.app.hub.convergence(environment, revision);
        let crate::live::Convergence { revision, connected, acked, .. } = found;
        Ok(Converged { revision, connected, acked })
    }
}

#[async_trait]
impl Clock for Ports {
    fn now_ms(&self) -> Millis {
        self.app.clock.now()
    }

    async fn sleep_until(&self, at: Millis) {
        loop {
            let left = at - self.app.clock.now();
            if left <= 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(left.cast_unsigned().min(1_000))).await;
        }
    }
}

impl Progress for Ports {
    fn moved(&self, run_id: &str) {
        self.app.hub.publish(News::Run(run_id.to_owned()));
    }
}
