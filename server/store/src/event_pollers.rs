//! How far auth tables of the app's databases were read, and which of their sessions go on there.

use serde::Serialize;
use switchback_core::model::Millis;

use crate::Store;
use crate::db::Column::Text;
use crate::db::{Bulk, Row, params, sql};
use crate::error::StoreError;

pub(crate) static ADD: Bulk = Bulk::new(
    "INSERT INTO polled_sessions (environment, source, id) VALUES",
    &[Text, Text, Text],
    "ON CONFLICT (environment, source, id) DO NOTHING",
);
pub(crate) static DROP: Bulk = Bulk::new(
    "DELETE FROM polled_sessions WHERE (environment, source, id) IN (VALUES",
    &[Text, Text, Text],
    ")",
);

sql! {
    LIST = "SELECT * FROM event_pollers WHERE environment = $1 ORDER BY source";
    FIND = "SELECT * FROM event_pollers WHERE environment = $1 AND source = $2";
    // A node that read less never takes a place back.
    KEEP = "INSERT INTO event_pollers (environment, source, events_until, sessions_until, looked_at, good_at, failures, state, \
            said) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (environment, source) DO UPDATE SET \
            events_until = CASE WHEN excluded.events_until > event_pollers.events_until THEN excluded.events_until \
            ELSE event_pollers.events_until END, \
            sessions_until = CASE WHEN excluded.sessions_until > event_pollers.sessions_until THEN excluded.sessions_until \
            ELSE event_pollers.sessions_until END, \
            looked_at = excluded.looked_at, good_at = COALESCE(excluded.good_at, event_pollers.good_at), \
            failures = excluded.failures, state = excluded.state, said = excluded.said";
    SESSIONS = "SELECT id FROM polled_sessions WHERE environment = $1 AND source = $2 AND id > $3 ORDER BY id LIMIT $4";
}

/// How far a data source's auth tables were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct EventPollerRow {
    /// The environment whose logins they are.
    pub environment: String,
    /// The data source.
    pub source: String,
    /// The newest event that was read, in UTC milliseconds.
    pub events_until: Millis,
    /// The newest activity of a session that was read.
    pub sessions_until: Millis,
    /// When it was looked last.
    pub looked_at: Millis,
    /// When that worked last; none: it never did.
    pub good_at: Option<Millis>,
    /// Looks in a row that did not work.
    pub failures: u64,
    /// `reads`, `empty`, `off`, `missing`, `denied` or `away`.
    pub state: String,
    /// What is wrong, for people.
    pub said: Option<String>,
}

impl EventPollerRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            environment: row.text("environment")?,
            source: row.text("source")?,
            events_until: row.int("events_until")?,
            sessions_until: row.int("sessions_until")?,
            looked_at: row.int("looked_at")?,
            good_at: row.opt_int("good_at")?,
            failures: row.unsigned("failures")?,
            state: row.text("state")?,
            said: row.opt_text("said")?,
        })
    }
}

impl Store {
    /// The pollers of an environment that ever looked.
    pub async fn list_event_pollers(
        &self,
        environment: &str,
    ) -> Result<Vec<EventPollerRow>, StoreError> {
        let rows = self.db.all(LIST, params![environment]).await?;
        rows.iter().map(EventPollerRow::read).collect()
    }

    /// One poller, when it ever looked.
    pub async fn find_event_poller(
        &self,
        environment: &str,
        source: &str,
    ) -> Result<Option<EventPollerRow>, StoreError> {
        let row = self.db.one(FIND, params![environment, source]).await?;
        row.as_ref().map(EventPollerRow::read).transpose()
    }

    /// Keeps what a look found. Places only move on; `good_at` stays when there is none.
    pub async fn keep_event_poller(&self, row: &EventPollerRow) -> Result<(), StoreError> {
        let params = params![
            &row.environment,
            &row.source,
            row.events_until,
            row.sessions_until,
            row.looked_at,
            row.good_at,
            row.failures,
            &row.state,
            &row.said,
        ];
        self.db.execute(KEEP, params).await.map(drop)
    }

    /// Notes sessions that go on at a data source.
    pub async fn add_polled_sessions(
        &self,
        environment: &str,
        source: &str,
        ids: &[String],
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        ADD.write(&mut tx, ids.iter().map(|id| params![environment, source, id])).await?;
        tx.commit().await
    }

    /// Sessions that went on at a data source when it was looked last, after an id, at most `limit`, by id.
    pub async fn list_polled_sessions(
        &self,
        environment: &str,
        source: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let rows = self.db.all(SESSIONS, params![environment, source, after, limit]).await?;
        rows.iter().map(|row| row.text("id")).collect()
    }

    /// Forgets sessions that are over at a data source.
    pub async fn drop_polled_sessions(
        &self,
        environment: &str,
        source: &str,
        ids: &[String],
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        DROP.write(&mut tx, ids.iter().map(|id| params![environment, source, id])).await?;
        tx.commit().await
    }
}
