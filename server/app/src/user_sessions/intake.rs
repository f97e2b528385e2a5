//! What apps say of their users' sessions: login, logout, activity. Writes of all requests are gathered, so that a
//! thousand logins at once are a few transactions, and kept in memory while the database is away: it never fails a login.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use switchback_core::model::Millis;
use switchback_store::{
    AuthEventRow, Count, RevokedSession, SessionWrite, SessionWritten, StoreError, UserSession,
    Whose,
};
use switchback_watch::event::{AHEAD_MS_MAX, Event, EventKind, ID_BYTES_MAX, WORD_CHARS_MAX};
use switchback_watch::rollup::{Rollup, Vocabulary};
use tokio::sync::{Notify, oneshot};

use crate::error::AppError;
use crate::watch::events::counts;
use crate::{App, ids};

/// Writes in one transaction at most.
const BATCH: usize = 500;
/// Writes that wait for the database at most; further ones are dropped, and counted.
const WAITING_MAX: usize = 10_000;
/// How long a request waits for its write; then it is told that it is not written yet.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// How long a transaction may take before it is tried again.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// How old a login may be when it is reported, in milliseconds: apps report late what happened offline.
const AGE_MS_MAX: Millis = 7 * 86_400_000;
/// Sessions in one report of activity at most.
pub const ACTIVITY_MAX: usize = 500;
/// A later activity than so long after the one that is kept is written, in milliseconds.
const TOUCH_AFTER_MS: Millis = 60_000;

/// What is on its way to the database.
#[derive(Default)]
pub(crate) struct Intake {
    waiting: Mutex<VecDeque<Job>>,
    /// Writes that were taken and are not done.
    writing: AtomicUsize,
    wake: Notify,
    words: Mutex<BTreeMap<String, Vocabulary>>,
}

struct Job {
    write: SessionWrite,
    answer: Option<oneshot::Sender<SessionWritten>>,
}

/// A user's login, as an app reports it.
#[derive(Clone, Debug, Default)]
pub struct LoginDraft {
    /// The user as the app knows them.
    pub user: String,
    /// The session's id; one id is one session.
    pub id: Option<String>,
    /// The session in whose place it is; ended when it is the same user's.
    pub replaces: Option<String>,
    /// Such as `ios`.
    pub platform: Option<String>,
    /// The app's version.
    pub app_version: Option<String>,
    /// The country.
    pub country: Option<String>,
    /// The device.
    pub device: Option<String>,
    /// When; now when not given.
    pub at: Option<Millis>,
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedIn {
    /// This call began the session.
    New(UserSession),
    /// The session was there.
    Known(UserSession),
    /// It is written when the database is back, or never: there were too many.
    NotYet(UserSession),
}

/// What became of a report of activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Activity {
    /// Whether the database knows of it by now, or will within a moment.
    pub recorded: bool,
    /// Sessions that go on.
    pub open: u64,
    /// Sessions that are over: the app should ask these users to sign in again.
    pub ended: Vec<String>,
    /// Sessions that were never begun here.
    pub unknown: Vec<String>,
}

/// How a session stands, for the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SessionState {
    /// Whether it goes on.
    pub is_open: bool,
    /// When it ends without further activity, in UTC milliseconds; absent when it has ended.
    pub expires_at: Option<Millis>,
    /// The session.
    pub session: UserSession,
}

/// Revoked sessions after a place in their list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RevokedPage {
    /// The sessions, the oldest first.
    pub items: Vec<RevokedSession>,
    /// Where to go on: the next `since`.
    pub next: u64,
    /// Whether there are more now.
    pub more: bool,
}

impl Intake {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting().len() + self.writing.load(Ordering::Relaxed)
    }

    /// False when there is no room.
    fn push(&self, job: Job) -> bool {
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            return false;
        }
        waiting.push_back(job);
        drop(waiting);
        self.wake.notify_one();
        true
    }

    fn take(&self) -> Vec<Job> {
        let mut waiting = self.waiting();
        let size = waiting.len().min(BATCH);
        self.writing.fetch_add(size, Ordering::Relaxed);
        waiting.drain(..size).collect()
    }

    fn is_done(&self, count: usize) {
        self.writing.fetch_sub(count, Ordering::Relaxed);
    }

    fn put_back(&self, jobs: Vec<Job>) {
        let mut waiting = self.waiting();
        self.writing.fetch_sub(jobs.len(), Ordering::Relaxed);
        for job in jobs.into_iter().rev() {
            waiting.push_front(job);
        }
    }
}

impl App {
    /// Begins a session, unless it is there.
    pub async fn log_user_in(
        &self,
        environment: &str,
        draft: LoginDraft,
    ) -> Result<LoggedIn, AppError> {
        let now = self.clock.now();
        let session = self.session_of(draft.clone(), now)?;
        let replaces = draft.replaces.map(|id| ident("replaces", id)).transpose()?;
        let write = SessionWrite::Start {
            environment: environment.to_owned(),
            session: session.clone(),
            replaces,
        };
        Ok(match self.hand_in(write).await {
            Some(SessionWritten::Started(found, true)) => LoggedIn::New(*found),
            Some(SessionWritten::Started(found, false)) => {
                if found.user_key != session.user_key {
                    let message = format!("session `{}` belongs to another user", session.id);
                    return Err(AppError::Refused(message));
                }
                LoggedIn::Known(*found)
            }
            _ => LoggedIn::NotYet(session),
        })
    }

    fn session_of(&self, draft: LoginDraft, now: Millis) -> Result<UserSession, AppError> {
        let user = ident("user_id", draft.user)?;
        let id = match draft.id {
            Some(id) => ident("session_id", id)?,
            None => self.ids.next("ses"),
        };
        let at = draft.at.unwrap_or(now);
        if at > now + AHEAD_MS_MAX || at < now - AGE_MS_MAX {
            let message =
                "a login is taken for 7 days, and at most 60 s ahead of this server's clock";
            return Err(AppError::invalid("at", message));
        }
        Ok(UserSession {
            id,
            user_key: self.user_key(&user),
            started_at: at,
            last_activity_at: at,
            ended_at: None,
            session_duration_seconds: None,
            end_reason: None,
            platform: word(draft.platform),
            app_version: word(draft.app_version),
            country: word(draft.country),
            device: word(draft.device),
        })
    }

    /// Ends a user's open sessions, or one. Returns how many; `None`: it is not written yet.
    pub async fn log_user_out(
        &self,
        environment: &str,
        user: Option<String>,
        session: Option<String>,
    ) -> Result<Option<u64>, AppError> {
        let whose = match (user, session) {
            (Some(user), None) => Whose::User(self.user_key(&ident("user_id", user)?)),
            (None, Some(id)) => Whose::Session(ident("session_id", id)?),
            _ => return Err(AppError::invalid("", "name either `user_id` or `session_id`")),
        };
        let at = self.clock.now();
        let write = SessionWrite::End { environment: environment.to_owned(), whose, at };
        Ok(match self.hand_in(write).await {
            Some(SessionWritten::Ended(count)) => Some(count),
            _ => None,
        })
    }

    /// Notes that users are active, at most once a minute for each session.
    pub async fn touch_sessions(
        &self,
        environment: &str,
        ids: Vec<String>,
    ) -> Result<Activity, AppError> {
        if ids.is_empty() || ids.len() > ACTIVITY_MAX {
            let message = format!("name 1 to {ACTIVITY_MAX} sessions");
            return Err(AppError::invalid("session_ids", message));
        }
        let ids: Result<Vec<String>, AppError> =
            ids.into_iter().map(|id| ident("session_ids", id)).collect();
        let (ids, at) = (ids?, self.clock.now());
        let touch =
            |ids: Vec<String>| SessionWrite::Touch { environment: environment.to_owned(), ids, at };
        let looked =
            tokio::time::timeout(ANSWER_WITHIN, self.store.find_user_sessions(environment, &ids));
        let known = match looked.await {
            Ok(Ok(known)) => known,
            Ok(Err(error)) if !error.is_outage() => return Err(error.into()),
            _ => {
                let recorded = false;
                self.keep(touch(ids));
                return Ok(Activity { recorded, open: 0, ended: vec![], unknown: vec![] });
            }
        };
        let known: BTreeMap<&str, &UserSession> =
            known.iter().map(|session| (session.id.as_str(), session)).collect();
        let mut said = Activity { recorded: true, open: 0, ended: vec![], unknown: vec![] };
        let mut stale = Vec::new();
        for id in ids {
            match known.get(id.as_str()) {
                None => said.unknown.push(id),
                Some(session) if session.ended_at.is_some() => said.ended.push(id),
                Some(session) => {
                    said.open += 1;
                    if at - session.last_activity_at > TOUCH_AFTER_MS {
                        stale.push(id);
                    }
                }
            }
        }
        if !stale.is_empty() {
            said.recorded = self.keep(touch(stale));
        }
        Ok(said)
    }

    /// How a session stands.
    pub async fn session_state(
        &self,
        environment: &str,
        id: &str,
    ) -> Result<SessionState, AppError> {
        let found = self.store.find_user_session(environment, id).await?;
        let missing = || AppError::NotFound { kind: "session", key: id.to_owned() };
        let session = found.ok_or_else(missing)?;
        let until = session.last_activity_at + self.session_idle_ms();
        let is_open = session.ended_at.is_none() && self.clock.now() < until;
        Ok(SessionState { is_open, expires_at: is_open.then_some(until), session })
    }

    /// The newest place in the list of revoked sessions; it changes with every one.
    pub async fn last_revoked(&self, environment: &str) -> Result<u64, AppError> {
        Ok(self.store.last_revoked_session(environment).await?)
    }

    /// Revoked sessions after a place in their list.
    pub async fn revoked_sessions(
        &self,
        environment: &str,
        since: u64,
        limit: i64,
    ) -> Result<RevokedPage, AppError> {
        let items = self.store.list_revoked_sessions(environment, since, limit).await?;
        let next = items.last().map_or(since, |last| last.seq);
        Ok(RevokedPage { next, more: items.len() as i64 == limit, items })
    }

    /// How long a session may be idle, in milliseconds.
    pub(crate) fn session_idle_ms(&self) -> Millis {
        Millis::from(self.config.watch.session_idle_hours) * 3_600_000
    }

    /// Hands a write in and waits for a while until it is written.
    async fn hand_in(&self, write: SessionWrite) -> Option<SessionWritten> {
        let (answer, written) = oneshot::channel();
        if !self.user_sessions.push(Job { write, answer: Some(answer) }) {
            self.metrics.session_writes_dropped.inc();
            return None;
        }
        if !self.store_is_up() {
            return None;
        }
        tokio::time::timeout(ANSWER_WITHIN, written).await.ok()?.ok()
    }

    /// Hands a write in without waiting; false when there is no room.
    fn keep(&self, write: SessionWrite) -> bool {
        let kept = self.user_sessions.push(Job { write, answer: None });
        if !kept {
            self.metrics.session_writes_dropped.inc();
        }
        kept
    }

    /// Writes what was handed in, for the life of the server.
    pub(crate) async fn write_sessions(self: Arc<Self>) {
        loop {
            let jobs = self.user_sessions.take();
            if jobs.is_empty() {
                self.user_sessions.wake.notified().await;
            } else if !self.write_taken(jobs).await {
                tokio::time::sleep(RETRY_EVERY).await;
            }
        }
    }

    /// Writes what still waits, when the server ends.
    pub async fn flush_sessions(&self) {
        loop {
            let jobs = self.user_sessions.take();
            if jobs.is_empty() {
                return;
            }
            if !self.write_taken(jobs).await {
                let lost = self.user_sessions.len();
                tracing::warn!(lost, "{lost} writes of sessions are lost: the database is away");
                return;
            }
        }
    }

    /// Writes what was taken; false when some of it waits again.
    async fn write_taken(&self, jobs: Vec<Job>) -> bool {
        let taken = jobs.len();
        let left = self.write_jobs(jobs).await;
        self.user_sessions.is_done(taken - left.len());
        let all = left.is_empty();
        self.user_sessions.put_back(left);
        all
    }

    /// Writes in one transaction. Returns what the database could not take now.
    async fn write_jobs(&self, jobs: Vec<Job>) -> Vec<Job> {
        let (writes, answers): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.write, job.answer)).unzip();
        match self.try_write(&writes).await {
            Ok(done) => {
                for (answer, written) in answers.into_iter().zip(done) {
                    if let Some(answer) = answer {
                        let _ = answer.send(written); // who asked may have gone
                    }
                }
                Vec::new()
            }
            Err(Some(error)) if error.is_rejection() && writes.len() == 1 => {
                self.metrics.session_writes_dropped.inc();
                tracing::error!(error = ?error, "the database does not take a write of a session");
                Vec::new()
            }
            Err(Some(error)) if error.is_rejection() => {
                // One of them is bad: the others must not wait for it.
                let mut rest = writes.into_iter().zip(answers);
                while let Some((write, answer)) = rest.next() {
                    let mut left = Box::pin(self.write_jobs(vec![Job { write, answer }])).await;
                    if !left.is_empty() {
                        left.extend(rest.map(|(write, answer)| Job { write, answer }));
                        return left;
                    }
                }
                Vec::new()
            }
            Err(error) => {
                tracing::debug!(error = ?error, "sessions could not be written; they wait");
                let jobs = writes.into_iter().zip(answers);
                jobs.map(|(write, answer)| Job { write, answer }).collect()
            }
        }
    }

    /// `None` as the error: it took too long.
    async fn try_write(
        &self,
        writes: &[SessionWrite],
    ) -> Result<Vec<SessionWritten>, Option<StoreError>> {
        let counting = |rows: &[(&str, &AuthEventRow)]| self.count_session_events(rows);
        let now = self.clock.now();
        let writing = self.store.write_user_sessions(writes, now, &counting);
        tokio::time::timeout(WRITE_WITHIN, writing).await.map_err(|_| None)?.map_err(Some)
    }

    /// What events of sessions add to the counts.
    pub(crate) fn count_session_events(&self, rows: &[(&str, &AuthEventRow)]) -> Vec<Count> {
        let now = self.clock.now();
        let mut words = self.user_sessions.words.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rollups: BTreeMap<&str, Rollup> = BTreeMap::new();
        for (environment, row) in rows {
            let Some(event) = event_of(row) else { continue };
            if !words.contains_key(*environment) {
                words.insert((*environment).to_owned(), Vocabulary::default());
            }
            if let Some(words) = words.get_mut(*environment) {
                rollups.entry(environment).or_default().add(&event, words, now);
            }
        }
        counts(&rollups)
    }
}

fn event_of(row: &AuthEventRow) -> Option<Event> {
    Some(Event {
        id: row.id.clone(),
        kind: EventKind::of(&row.kind)?,
        at: row.at,
        user: row.user_key.clone(),
        session: row.session_id.clone(),
        platform: row.platform.clone(),
        app_version: row.app_version.clone(),
        country: row.country.clone(),
        latency_ms: None,
        error: None,
        variants: BTreeMap::new(),
        groups: Vec::new(),
        properties: BTreeMap::new(),
    })
}

/// The session that an `Idempotency-Key` stands for: the same on every node.
pub fn id_of_key(environment: &str, key: &str) -> String {
    let hash = ids::hash(&format!("{environment}\0{key}"));
    format!("ses_{}", hash.get(..32).unwrap_or(&hash))
}

/// An id of the app: not empty, not too long, and safe to show.
pub(super) fn ident(field: &str, text: String) -> Result<String, AppError> {
    if text.is_empty() || text.len() > ID_BYTES_MAX {
        let message = format!("it has {} bytes; 1 to {ID_BYTES_MAX} are allowed", text.len());
        return Err(AppError::invalid(field, message));
    }
    if text.chars().any(char::is_control) {
        return Err(AppError::invalid(field, "it holds a control character"));
    }
    Ok(text)
}

/// A word for a list: trimmed, cut, without control characters; none when nothing is left.
fn word(text: Option<String>) -> Option<String> {
    let clean: String =
        text?.trim().chars().filter(|c| !c.is_control()).take(WORD_CHARS_MAX).collect();
    (!clean.is_empty()).then_some(clean)
}
