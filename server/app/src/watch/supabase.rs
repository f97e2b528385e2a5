//! One look at the tables of Supabase Auth: `auth.audit_log_entries` as auth events, `auth.sessions` as sessions.
//!
//! Rows become visible when their transaction commits, which may be after rows with a later `created_at`: every look
//! reads the last two minutes again and leaves out what it knows. The table has no failed logins, may be switched off
//! or emptied, and says neither; what is not known is never told as nought.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use switchback_core::model::Millis;
use switchback_source::{Dialect, Row, Source, SourceError};
use switchback_store::{EventPollerRow, SessionWrite, UserSession, Whose};
use switchback_watch::event::{AGE_MS_MAX, WORD_CHARS_MAX};
use switchback_watch::foreign::Format;

use super::events::Before;
use super::foreign::{Translated, translate};
use crate::App;
use crate::config::Supabase;
use crate::error::AppError;

/// Rows of one query.
const PAGE: u64 = 1_000;
/// Queries of one look at each table; the rest is read at the next.
const PAGES_MAX: usize = 5;
/// How much is read again, in milliseconds: the longest that a transaction of Supabase Auth should take.
const OVERLAP_MS: Millis = 120_000;
/// How far back the first look goes, in milliseconds.
const FIRST_MS: Millis = 600_000;
/// Sessions whose end is looked for at once.
const SESSIONS_PAGE: i64 = 500;
/// Sessions that began so long after the newest event say that no events are written, in milliseconds.
const OFF_AFTER_MS: Millis = 300_000;
const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

const EVENTS: &str = "SELECT id::text AS id, payload::text AS payload, created_at FROM auth.audit_log_entries \
    WHERE (created_at, id) > ($1::timestamptz, $2::uuid) ORDER BY created_at, id LIMIT $3::bigint";
const NEWEST: &str =
    "SELECT (EXTRACT(EPOCH FROM MAX(created_at)) * 1000)::bigint AS at FROM auth.audit_log_entries";
/// Columns differ by release: those that may be absent are looked up by name. `refreshed_at` has no time zone; it is UTC.
const SESSIONS: &str = "SELECT id, user_id, began, active, agent FROM (SELECT s.id::text AS id, s.user_id::text AS user_id, \
    (EXTRACT(EPOCH FROM s.created_at) * 1000)::bigint AS began, \
    (EXTRACT(EPOCH FROM GREATEST(s.created_at, s.updated_at, \
    (to_jsonb(s) ->> 'refreshed_at')::timestamp AT TIME ZONE 'UTC')) * 1000)::bigint AS active, \
    to_jsonb(s) ->> 'user_agent' AS agent, (to_jsonb(s) ->> 'not_after')::timestamptz AS not_after FROM auth.sessions s) x \
    WHERE (active, id) > ($1::bigint, $2) AND (not_after IS NULL OR not_after > now()) \
    ORDER BY active, id LIMIT $3::bigint";
const ALIVE: &str = "SELECT s.id::text AS id FROM auth.sessions s \
    WHERE s.id IN (SELECT one::uuid FROM unnest(string_to_array($1, ',')) AS one) \
    AND ((to_jsonb(s) ->> 'not_after') IS NULL OR (to_jsonb(s) ->> 'not_after')::timestamptz > now())";

/// What this node knows of a database between two looks.
pub(super) struct Memory {
    /// Where to go on: a row's time and id.
    events_at: (String, String),
    sessions_at: (Millis, String),
    /// Events of the last minutes that were taken, by id, with their time.
    seen: HashMap<String, Millis>,
    newest_session: Option<Millis>,
    /// The last session whose end was looked for.
    checked: String,
}

/// How a look went.
pub(super) struct Progress {
    pub failures: u64,
    pub is_behind: bool,
}

/// Why a look did not work.
pub(super) enum Trouble {
    /// Our database, or no room: nothing is known of theirs.
    Ours(AppError),
    /// Theirs: a word, and why.
    Theirs(&'static str, String),
}

impl Memory {
    /// Where the first look of all begins.
    pub(super) fn beginning(environment: &str, source: &str, now: Millis) -> EventPollerRow {
        EventPollerRow {
            environment: environment.to_owned(),
            source: source.to_owned(),
            events_until: now - FIRST_MS + OVERLAP_MS,
            sessions_until: now - AGE_MS_MAX,
            looked_at: now,
            good_at: None,
            failures: 0,
            state: "reads".to_owned(),
            said: None,
        }
    }

    /// Goes on from what is kept.
    pub(super) fn of(row: &EventPollerRow, now: Millis) -> Self {
        Self {
            events_at: place(row, now),
            sessions_at: (row.sessions_until - OVERLAP_MS, String::new()),
            seen: HashMap::new(),
            newest_session: None,
            checked: String::new(),
        }
    }
}

/// Where a round begins: before the newest event, and never before what may still be taken.
fn place(row: &EventPollerRow, now: Millis) -> (String, String) {
    let since = (row.events_until - OVERLAP_MS).max(now - AGE_MS_MAX + OVERLAP_MS);
    let since = jiff::Timestamp::from_millisecond(since).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    (since.to_string(), NO_ID.to_owned())
}

impl From<AppError> for Trouble {
    fn from(error: AppError) -> Self {
        Self::Ours(error)
    }
}

impl From<switchback_store::StoreError> for Trouble {
    fn from(error: switchback_store::StoreError) -> Self {
        Self::Ours(error.into())
    }
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        let text = error.to_string();
        let word = match &error {
            SourceError::Refused(_) if text.contains("does not exist") => "missing",
            SourceError::Refused(_) | SourceError::Credentials(_) => "denied",
            _ => "away",
        };
        Self::Theirs(word, text)
    }
}

impl App {
    /// Reads both tables. Says whether there is more to read at once.
    pub(super) async fn read_supabase(
        self: &Arc<Self>,
        wanted: &Supabase,
        row: &mut EventPollerRow,
        memory: &mut Memory,
    ) -> Result<bool, Trouble> {
        let source = match self.source(&wanted.source).await {
            Ok(source) => source,
            Err(AppError::NotFound { .. }) => {
                let message = format!("the data source `{}` does not exist", wanted.source);
                return Err(Trouble::Theirs("missing", message));
            }
            Err(error) => return Err(error.into()),
        };
        if source.dialect().await? != Dialect::Postgres {
            let message = "Supabase's tables are in a PostgreSQL; this data source is none";
            return Err(Trouble::Theirs("missing", message.to_owned()));
        }
        // Sessions go on without the events, and the other way round: one table may be missing.
        let sessions = self.read_sessions(wanted, &source, row, memory).await;
        if matches!(sessions, Err(Trouble::Theirs("away", _) | Trouble::Ours(_))) {
            return sessions;
        }
        let events = self.read_events(wanted, &source, row, memory).await;
        let is_behind = events? | sessions?;
        (row.state, row.said) = self.judge(&source, row, memory).await?;
        Ok(is_behind)
    }

    async fn read_events(
        self: &Arc<Self>,
        wanted: &Supabase,
        source: &Source,
        row: &mut EventPollerRow,
        memory: &mut Memory,
    ) -> Result<bool, Trouble> {
        let page = PAGE.min(source.settings().rows_max);
        for _ in 0..PAGES_MAX {
            let (at, id) = memory.events_at.clone();
            let rows = source.query(EVENTS, &[at, id, page.to_string()]).await?;
            let times: Vec<(String, Millis)> = rows.iter().filter_map(named).collect();
            let fresh: Vec<Value> = rows
                .iter()
                .filter(|row| text(row, "id").is_some_and(|id| !memory.seen.contains_key(&id)))
                .map(|row| Value::Object(row.clone()))
                .collect();
            if !fresh.is_empty() {
                let Translated { events, said, why, .. } = translate(Format::Supabase, &fresh);
                let name = format!("supabase:{}", wanted.source);
                let before = Before { source: name, refused: (said.refused, why) };
                self.take_batch(&wanted.environment, before, events).await?;
            }
            memory.seen.extend(times.iter().cloned());
            if let Some(newest) = times.iter().map(|(_, at)| *at).max() {
                row.events_until = row.events_until.max(newest);
            }
            let last =
                rows.last().and_then(|row| Some((text(row, "created_at")?, text(row, "id")?)));
            match last {
                Some(last) if rows.len() as u64 == page => memory.events_at = last,
                _ => {
                    // At the end: the next round begins a little before it.
                    memory.events_at = place(row, self.clock.now());
                    let since = row.events_until - 2 * OVERLAP_MS;
                    memory.seen.retain(|_, at| *at >= since);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn read_sessions(
        &self,
        wanted: &Supabase,
        source: &Source,
        row: &mut EventPollerRow,
        memory: &mut Memory,
    ) -> Result<bool, Trouble> {
        let environment = wanted.environment.as_str();
        let page = PAGE.min(source.settings().rows_max);
        let mut is_behind = true;
        for _ in 0..PAGES_MAX {
            let (at, id) = memory.sessions_at.clone();
            let rows = source.query(SESSIONS, &[at.to_string(), id, page.to_string()]).await?;
            let found: Vec<UserSession> = rows.iter().filter_map(|row| self.polled(row)).collect();
            if !found.is_empty() {
                let ids: Vec<String> = found.iter().map(|one| one.id.clone()).collect();
                let mut writes = Vec::with_capacity(found.len() * 2);
                writes.extend(found.iter().map(|session| SessionWrite::Start {
                    environment: environment.to_owned(),
                    session: session.clone(),
                    replaces: None,
                }));
                writes.extend(found.iter().map(|session| SessionWrite::Touch {
                    environment: environment.to_owned(),
                    ids: vec![session.id.clone()],
                    at: session.last_activity_at,
                }));
                self.write_polled(&writes).await?;
                self.store.add_polled_sessions(environment, &wanted.source, &ids).await?;
                let newest = found.iter().map(|one| one.started_at).max();
                memory.newest_session = memory.newest_session.max(newest);
            }
            let last = rows.last().and_then(|row| Some((whole(row, "active")?, text(row, "id")?)));
            if let Some((active, _)) = &last {
                row.sessions_until = row.sessions_until.max(*active);
            }
            match last {
                Some(last) if rows.len() as u64 == page => memory.sessions_at = last,
                _ => {
                    memory.sessions_at = (row.sessions_until - OVERLAP_MS, String::new());
                    is_behind = false;
                    break;
                }
            }
        }
        self.end_polled(wanted, source, memory).await?;
        Ok(is_behind)
    }

    /// Ends sessions that are no longer there: Supabase removes the row when its user signs out.
    async fn end_polled(
        &self,
        wanted: &Supabase,
        source: &Source,
        memory: &mut Memory,
    ) -> Result<(), Trouble> {
        let Supabase { environment, source: name, .. } = wanted;
        let page = SESSIONS_PAGE.min(i64::try_from(source.settings().rows_max).unwrap_or(1));
        let listed = self.store.list_polled_sessions(environment, name, &memory.checked, page);
        let known = listed.await?;
        memory.checked = match known.last() {
            Some(last) if known.len() as i64 == page => last.clone(),
            _ => String::new(),
        };
        if known.is_empty() {
            return Ok(());
        }
        let alive = source.query(ALIVE, &[known.join(",")]).await?;
        let alive: Vec<String> = alive.iter().filter_map(|row| text(row, "id")).collect();
        let gone: Vec<String> = known.into_iter().filter(|id| !alive.contains(id)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let at = self.clock.now();
        let end = |id: &String| SessionWrite::End {
            environment: environment.clone(),
            whose: Whose::Session(id.clone()),
            at,
        };
        self.write_polled(&gone.iter().map(end).collect::<Vec<_>>()).await?;
        Ok(self.store.drop_polled_sessions(environment, name, &gone).await?)
    }

    async fn write_polled(&self, writes: &[SessionWrite]) -> Result<(), Trouble> {
        let counting =
            |rows: &[(&str, &switchback_store::AuthEventRow)]| self.count_session_events(rows);
        let now = self.clock.now();
        Ok(self.store.write_user_sessions(writes, now, &counting).await.map(drop)?)
    }

    /// A row of `auth.sessions` as a session of ours.
    fn polled(&self, row: &Row) -> Option<UserSession> {
        let agent = text(row, "agent").unwrap_or_default();
        let agent: String =
            agent.chars().filter(|c| !c.is_control()).take(WORD_CHARS_MAX).collect();
        let started_at = whole(row, "began")?;
        Some(UserSession {
            id: text(row, "id")?,
            user_key: self.user_key(&text(row, "user_id")?),
            started_at,
            last_activity_at: whole(row, "active")?.max(started_at),
            ended_at: None,
            session_duration_seconds: None,
            end_reason: None,
            platform: None,
            app_version: None,
            country: None,
            device: (!agent.is_empty()).then_some(agent),
        })
    }

    /// Whether the table says anything: it may be empty, or switched off while people go on signing in.
    async fn judge(
        &self,
        source: &Source,
        row: &EventPollerRow,
        memory: &Memory,
    ) -> Result<(String, Option<String>), Trouble> {
        let newest = if memory.seen.is_empty() {
            let found = source.query(NEWEST, &[]).await?;
            found.first().and_then(|row| whole(row, "at"))
        } else {
            Some(row.events_until)
        };
        let (state, said) = match (newest, memory.newest_session) {
            (None, _) => (
                "empty",
                "auth.audit_log_entries is empty: Supabase may not write it, or it was emptied",
            ),
            (Some(event), Some(session)) if session > event + OFF_AFTER_MS => (
                "off",
                "sessions begin, and auth.audit_log_entries says nothing of them: it is switched off",
            ),
            _ => return Ok(("reads".to_owned(), None)),
        };
        Ok((state.to_owned(), Some(said.to_owned())))
    }
}

/// An event's id and time.
fn named(row: &Row) -> Option<(String, Millis)> {
    let at: jiff::Timestamp = text(row, "created_at")?.parse().ok()?;
    Some((text(row, "id")?, at.as_millisecond()))
}

fn text(row: &Row, key: &str) -> Option<String> {
    row.get(key)?.as_str().map(str::to_owned)
}

fn whole(row: &Row, key: &str) -> Option<Millis> {
    row.get(key)?.as_i64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_round_begins_before_the_newest_event_and_within_what_is_taken() {
        let now = 1_790_000_000_000;
        let mut row = Memory::beginning("production", "app", now);
        let since = |row: &EventPollerRow| {
            let at: jiff::Timestamp = place(row, now).0.parse().unwrap();
            now - at.as_millisecond()
        };
        assert_eq!(since(&row), FIRST_MS);
        row.events_until = now;
        assert_eq!(since(&row), OVERLAP_MS);
        row.events_until = now - 30 * 86_400_000;
        assert_eq!(since(&row), AGE_MS_MAX - OVERLAP_MS);
    }

    #[test]
    fn a_row_needs_a_time_and_an_id() {
        let row = json!({"id": "a", "created_at": "2026-01-31T12:00:00.5+00:00"});
        let row: Row = row.as_object().unwrap().clone();
        assert_eq!(named(&row), Some(("a".to_owned(), 1_769_860_800_500)));
        assert_eq!(named(&Row::new()), None);
    }
}
