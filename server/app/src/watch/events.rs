//! Taking auth events in: read, given their variants and a user's key, and written in groups.
//!
//! Senders wait until their events are in the database, and many senders share one transaction, so that a thousand
//! small batches cost little more than a large one. What does not fit in memory is refused at once, to be sent again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use switchback_core::model::Millis;
use switchback_store::{AuthEventRow, Count, NewEvents, Role, SourceRow, StoreError, Taken};
use switchback_watch::event::{self, BATCH_MAX, Event, Refused};
use switchback_watch::rollup::{Rollup, Vocabulary};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::exposure::{History, Split};
use crate::App;
use crate::error::AppError;
use crate::user_keys::is_user_key;
use crate::who::Who;

/// Events in memory that wait to be written, at most.
const WAITING_MAX: usize = 50_000;
/// Batches in memory, at most.
const BATCHES_MAX: usize = 4_096;
/// Batches of SDKs in memory, at most.
const UNANSWERED_MAX: usize = 256;
/// Events of one transaction: more would make a reader of PostgreSQL's roll-ups wait.
const GROUP_MAX: usize = 10_000;
/// Refusals that are told one by one; the rest is a number.
pub(super) const TOLD_MAX: usize = 100;

/// What became of a batch of events.
#[derive(Clone, Debug, Default, Serialize, schemars::JsonSchema)]
pub struct EventsTaken {
    /// Events that are new and kept.
    pub taken: u64,
    /// Events that had been sent before; nothing to do.
    pub duplicates: u64,
    /// Events of another system that are known and say nothing of logins.
    pub ignored: u64,
    /// Events that cannot be taken; sending them again does not help.
    pub refused: u64,
    /// Names of another system that this release does not know, and how often each came; refused.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<String, u64>,
    /// The first hundred of those, and what is wrong with each.
    pub refusals: Vec<Refusal>,
}

/// Why one event was not taken.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Refusal {
    /// Its place in the batch, from 0.
    pub index: u64,
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `invalid`, `in_future`, `too_old`, `unknown_event`.
    pub code: String,
    /// What is wrong, where, and what is allowed.
    pub detail: String,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let Refused { index, id, code, detail } = refused;
        Self { index: index as u64, id, code: code.to_owned(), detail }
    }
}

/// A batch on its way to the database.
struct Job {
    environment: String,
    source: String,
    events: Vec<Event>,
    rows: Vec<AuthEventRow>,
    refused: (u64, Option<String>),
    at: Millis,
    reply: oneshot::Sender<Result<Taken, StoreError>>,
    _room: OwnedSemaphorePermit,
}

/// The way from senders to the one writer of this node.
pub struct Intake {
    queue: mpsc::Sender<Job>,
    jobs: tokio::sync::Mutex<mpsc::Receiver<Job>>,
    room: Arc<Semaphore>,
    unanswered: Arc<Semaphore>,
    histories: Mutex<HashMap<String, History>>,
    words: Mutex<HashMap<String, Vocabulary>>,
}

impl Default for Intake {
    fn default() -> Self {
        let (queue, jobs) = mpsc::channel(BATCHES_MAX);
        Self {
            queue,
            jobs: tokio::sync::Mutex::new(jobs),
            room: Arc::new(Semaphore::new(WAITING_MAX)),
            unanswered: Arc::new(Semaphore::new(UNANSWERED_MAX)),
            histories: Mutex::default(),
            words: Mutex::default(),
        }
    }
}

impl App {
    /// Takes a batch of auth events of an environment. `source` names the sender.
    ///
    /// Fails with `too_many` when more wait than fit in memory, and with `unavailable` while the database is away: send
    /// the same events again, nothing is counted twice.
    pub async fn take_auth_events(
        self: &Arc<Self>,
        environment: &str,
        source: &str,
        values: Vec<Value>,
    ) -> Result<EventsTaken, AppError> {
        let before = Before { source: source.to_owned(), refused: (0, None) };
        if values.is_empty() {
            return Ok(EventsTaken::default());
        }
        self.take_batch(environment, before, values).await
    }

    /// Takes what is left of a batch after some of it was refused.
    pub(super) async fn take_batch(
        self: &Arc<Self>,
        environment: &str,
        before: Before,
        values: Vec<Value>,
    ) -> Result<EventsTaken, AppError> {
        if values.len() > BATCH_MAX {
            let message = format!("{} events; at most {BATCH_MAX} in one batch", values.len());
            return Err(AppError::invalid("events", message));
        }
        let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.intake.room).try_acquire_many_owned(count) else {
            self.metrics.auth_events_turned_away.inc_by(u64::from(count));
            return Err(AppError::TooMany { seconds: 1 });
        };
        self.note_flags(environment).await?;
        let (app, place) = (Arc::clone(self), environment.to_owned());
        // Reading, hashing and evaluating thousands of events takes milliseconds: not on a thread that serves others.
        let read = move || app.read_auth_events(&place, before, &values);
        let (mut answer, read) = if count > 200 {
            tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| AppError::Internal(error.into()))?
        } else {
            read()
        };
        let (reply, written) = oneshot::channel();
        let Read { source, events, rows, refused, at } = read;
        answer.duplicates += u64::from(count) - answer.refused - events.len() as u64;
        let environment = environment.to_owned();
        let job = Job { environment, source, events, rows, refused, at, reply, _room: room };
        if self.intake.queue.try_send(job).is_err() {
            self.metrics.auth_events_turned_away.inc_by(u64::from(count));
            return Err(AppError::TooMany { seconds: 1 });
        }
        let lost = |_| AppError::Internal("the writer of events ended".into());
        let taken = written.await.map_err(lost)??;
        answer.taken = taken.new;
        answer.duplicates += taken.duplicates;
        Ok(answer)
    }

    /// Takes a batch whose sender waits for no answer; tries again while there is no room or no database.
    pub async fn keep_auth_events(
        self: Arc<Self>,
        environment: &str,
        source: &str,
        events: Vec<Value>,
    ) {
        let count = events.len() as u64;
        let Ok(_waiting) = Arc::clone(&self.intake.unanswered).try_acquire_owned() else {
            self.metrics.auth_events_turned_away.inc_by(count);
            return;
        };
        for wait_s in [0, 1, 2, 4, 8, 15, 30] {
            tokio::time::sleep(std::time::Duration::from_secs(wait_s)).await;
            match self.take_auth_events(environment, source, events.clone()).await {
                Err(AppError::TooMany { .. } | AppError::Unavailable(_)) => {}
                Err(error) => {
                    tracing::debug!(error = %error, "auth events of an SDK could not be taken");
                    return;
                }
                Ok(_) => return,
            }
        }
        self.metrics.auth_events_turned_away.inc_by(count);
    }

    async fn note_flags(&self, environment: &str) -> Result<(), AppError> {
        let feed = self.hub.feed(environment, None).await?;
        let snapshot = feed.current();
        let mut all = self.intake.histories.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(environment) {
            all.insert(environment.to_owned(), History::default());
        }
        if let Some(history) = all.get_mut(environment) {
            history.note(&snapshot, self.clock.now());
        }
        Ok(())
    }

    fn split_at(&self, environment: &str, moment: Millis) -> Option<Arc<Split>> {
        let all = self.intake.histories.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(environment)?.at(moment)
    }

    fn read_auth_events(
        &self,
        environment: &str,
        before: Before,
        values: &[Value],
    ) -> (EventsTaken, Read) {
        let now = self.clock.now();
        let mut answer = EventsTaken::default();
        let Before { source, refused } = before;
        let refused_before = refused.0;
        let mut read = Read { source, events: Vec::new(), rows: Vec::new(), refused, at: now };
        let mut seen = HashSet::new();
        let mut last: Option<(Millis, Option<Arc<Split>>)> = None;
        for (index, value) in values.iter().enumerate() {
            let mut event = match event::read(index, value, now) {
                Ok(event) => event,
                Err(refused) => {
                    answer.refused += 1;
                    let why = format!("{}: {}", refused.code, refused.detail);
                    read.refused = (refused_before + answer.refused, Some(why));
                    if answer.refusals.len() < TOLD_MAX {
                        answer.refusals.push(refused.into());
                    }
                    continue;
                }
            };
            if !seen.insert(event.id.clone()) {
                continue;
            }
            if event.variants.is_empty() {
                // Events of one batch lie close together; the state is looked up once for each second.
                let second = event.at / 1000;
                let split = match &last {
                    Some((known, split)) if *known == second => split.clone(),
                    _ => self.split_at(environment, event.at),
                };
                event.variants =
                    split.as_ref().map(|split| split.variants(&event)).unwrap_or_default();
                last = Some((second, split));
            }
            read.rows.push(self.row_of(&event, &read.source, now));
            read.events.push(event);
        }
        self.metrics.auth_events_refused.inc_by(answer.refused);
        (answer, read)
    }

    fn row_of(&self, event: &Event, source: &str, now: Millis) -> AuthEventRow {
        let variants =
            (!event.variants.is_empty()).then(|| serde_json::json!(event.variants).to_string());
        AuthEventRow {
            id: event.id.clone(),
            kind: event.kind.word().to_owned(),
            at: event.at,
            received_at: now,
            user_key: event.user.as_deref().map(|user| self.user_key(user)),
            session_id: event.session.clone(),
            platform: event.platform.clone(),
            app_version: event.app_version.clone(),
            country: event.country.clone(),
            latency_ms: event.latency_ms.map(i64::from),
            error: event.error.clone(),
            variants,
            source: source.to_owned(),
        }
    }

    /// Writes what senders brought, for the life of the server.
    pub(crate) async fn write_auth_events(self: Arc<Self>) {
        let mut jobs = self.intake.jobs.lock().await;
        let mut group = Vec::new();
        loop {
            group.clear();
            let Some(first) = jobs.recv().await else { return };
            let mut events = first.events.len();
            group.push(first);
            while events < GROUP_MAX {
                let Ok(next) = jobs.try_recv() else { break };
                events += next.events.len();
                group.push(next);
            }
            self.write_group(&mut group).await;
        }
    }

    async fn write_group(&self, group: &mut Vec<Job>) {
        let now = self.clock.now();
        for row in group.iter_mut().flat_map(|job| &mut job.rows) {
            // The time of the commit, as near as can be: readers go by it, and must not have gone past.
            row.received_at = now;
        }
        let batches: Vec<NewEvents<'_>> = group
            .iter()
            .map(|job| NewEvents {
                environment: &job.environment,
                source: &job.source,
                rows: &job.rows,
                refused: (job.refused.0, job.refused.1.as_deref()),
                at: job.at,
            })
            .collect();
        let written =
            self.store.add_auth_events(&batches, |fresh| self.counts_of(group, fresh, now)).await;
        match written {
            Ok(all) => {
                for (job, taken) in group.drain(..).zip(all) {
                    self.metrics.auth_events_taken.inc_by(taken.new);
                    let _ = job.reply.send(Ok(taken)); // a sender that went away will send again
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "auth events could not be written; their senders are told");
                let shared = Arc::new(error);
                for job in group.drain(..) {
                    let _ = job.reply.send(Err(StoreError::Together(Arc::clone(&shared))));
                }
            }
        }
    }

    fn counts_of(
        &self,
        group: &[Job],
        fresh: &mut dyn Iterator<Item = (usize, usize)>,
        now: Millis,
    ) -> Vec<Count> {
        let mut rollups: BTreeMap<&str, Rollup> = BTreeMap::new();
        let mut words = self.intake.words.lock().unwrap_or_else(PoisonError::into_inner);
        for (job, event) in fresh {
            let Some(job) = group.get(job) else { continue };
            let Some(event) = job.events.get(event) else { continue };
            if !words.contains_key(&job.environment) {
                words.insert(job.environment.clone(), Vocabulary::default());
            }
            let Some(words) = words.get_mut(&job.environment) else { continue };
            rollups.entry(&job.environment).or_default().add(event, words, now);
        }
        counts(&rollups)
    }

    /// Who sends auth events to an environment, and when each did so last.
    pub async fn list_auth_sources(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<Vec<SourceRow>, AppError> {
        who.must(Role::Viewer, environment, "look at auth events")?;
        self.get_environment(environment).await?;
        Ok(self.store.list_auth_sources(environment).await?)
    }

    /// What happened to a user's logins, the newest first. `user` is the id as the app knows it.
    pub async fn list_auth_events_of_user(
        &self,
        who: &Who,
        environment: &str,
        user: &str,
        limit: i64,
    ) -> Result<Vec<AuthEventRow>, AppError> {
        who.must(Role::Viewer, environment, "look at auth events")?;
        self.get_environment(environment).await?;
        let key = if is_user_key(user) { user.to_owned() } else { self.user_key(user) };
        Ok(self.store.list_auth_events_of_user(environment, &key, Millis::MAX, limit).await?)
    }
}

/// Who sends a batch, and what of it was refused before it was read: how much, and why the last of it.
pub(super) struct Before {
    pub source: String,
    pub refused: (u64, Option<String>),
}

struct Read {
    source: String,
    events: Vec<Event>,
    rows: Vec<AuthEventRow>,
    refused: (u64, Option<String>),
    at: Millis,
}

/// The counts of environments, in one order, so that two nodes never wait for each other.
pub(crate) fn counts(rollups: &BTreeMap<&str, Rollup>) -> Vec<Count> {
    let mut all: Vec<Count> = Vec::new();
    for (environment, rollup) in rollups {
        all.extend(rollup.cells().into_iter().map(|(cell, n)| Count {
            environment: (*environment).to_owned(),
            width_s: cell.width_s,
            dimension: cell.dimension,
            at: cell.at,
            kind: cell.kind.word().to_owned(),
            value: cell.value,
            n,
        }));
    }
    all
}
