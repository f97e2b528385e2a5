//! Auth events: each once, with the counts that it adds, in one transaction.

use serde::Serialize;
use switchback_core::model::Millis;

use crate::Store;
use crate::auth_counts::{self, Count};
use crate::db::Column::{Int, Text};
use crate::db::{Bulk, Param, Row, Tx, params, sql};
use crate::error::StoreError;

/// Without `ON CONFLICT` a second copy would fail the whole batch.
pub(crate) static INSERT: Bulk = Bulk::new(
    "INSERT INTO user_auth_log (environment, id, kind, at, received_at, user_key, session_id, platform, app_version, \
     country, latency_ms, error, variants, source) VALUES",
    &[Text, Text, Text, Int, Int, Text, Text, Text, Text, Text, Int, Text, Text, Text],
    "ON CONFLICT (environment, id) DO NOTHING RETURNING id",
);

sql! {
    OF_USER = "SELECT * FROM user_auth_log WHERE environment = $1 AND user_key = $2 AND at < $3 \
               ORDER BY at DESC, id LIMIT $4";
    ARRIVED = "SELECT * FROM user_auth_log WHERE environment = $1 AND received_at >= $2 AND received_at < $3 \
               ORDER BY received_at LIMIT $4";
    OF_KIND = "SELECT DISTINCT COALESCE(user_key, session_id, id) AS name FROM user_auth_log WHERE environment = $1 \
               AND kind = $2 AND received_at >= $3 AND received_at < $4 LIMIT $5";
    LATEST = "SELECT * FROM user_auth_log WHERE environment = $1 AND received_at >= $2 \
              ORDER BY received_at DESC, id LIMIT $3";
    FORGET = "DELETE FROM user_auth_log WHERE environment = $1 AND id IN \
              (SELECT id FROM user_auth_log WHERE environment = $1 AND received_at < $2 LIMIT $3)";
}

/// An auth event as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct AuthEventRow {
    /// The sender's id.
    pub id: String,
    /// What happened, such as `login_failure`.
    pub kind: String,
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// When it arrived.
    pub received_at: Millis,
    /// The user: hashed, or as the app knows them, by setting.
    pub user_key: Option<String>,
    /// The app's session.
    pub session_id: Option<String>,
    /// Such as `ios`.
    pub platform: Option<String>,
    /// The app's version.
    pub app_version: Option<String>,
    /// The country.
    pub country: Option<String>,
    /// How long it took, in milliseconds.
    pub latency_ms: Option<i64>,
    /// What kind of error.
    pub error: Option<String>,
    /// Flag to variant, as a JSON object.
    pub variants: Option<String>,
    /// Which sender.
    pub source: String,
}

/// A batch to be kept.
#[derive(Clone, Debug)]
pub struct NewEvents<'a> {
    /// The environment.
    pub environment: &'a str,
    /// Which sender.
    pub source: &'a str,
    /// The events; no id twice.
    pub rows: &'a [AuthEventRow],
    /// How many the sender had that could not be taken, and why the last one could not.
    pub refused: (u64, Option<&'a str>),
    /// When it arrived, in UTC milliseconds.
    pub at: Millis,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Events that are new.
    pub new: u64,
    /// Events that were here already.
    pub duplicates: u64,
}

impl Store {
    /// Keeps the batches whole or not at all. `counts` says what those events add that are new, by their place among
    /// `batches` and in their batch. Says what became of each batch, in their order.
    pub async fn add_auth_events(
        &self,
        batches: &[NewEvents<'_>],
        counts: impl FnOnce(&mut dyn Iterator<Item = (usize, usize)>) -> Vec<Count> + Send,
    ) -> Result<Vec<Taken>, StoreError> {
        let mut tx = self.db.begin().await?;
        let mut fresh = Vec::new();
        let mut taken = Vec::with_capacity(batches.len());
        for (place, batch) in batches.iter().enumerate() {
            let found = insert(&mut tx, batch.environment, batch.rows).await?;
            let one = Taken {
                new: found.len() as u64,
                duplicates: (batch.rows.len() - found.len()) as u64,
            };
            auth_counts::note_source(&mut tx, batch, one).await?;
            fresh.extend(found.into_iter().map(|row| (place, row)));
            taken.push(one);
        }
        auth_counts::add(&mut tx, counts(&mut fresh.into_iter())).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// A user's events before a moment, the newest first.
    pub async fn list_auth_events_of_user(
        &self,
        environment: &str,
        user_key: &str,
        before: Millis,
        limit: i64,
    ) -> Result<Vec<AuthEventRow>, StoreError> {
        let rows = self.db.all(OF_USER, params![environment, user_key, before, limit]).await?;
        rows.iter().map(read).collect()
    }

    /// What arrived from a moment until another, at most `limit`, the oldest first.
    pub async fn list_auth_events_arrived(
        &self,
        environment: &str,
        (from, until): (Millis, Millis),
        limit: i64,
    ) -> Result<Vec<AuthEventRow>, StoreError> {
        let rows = self.db.all(ARRIVED, params![environment, from, until, limit]).await?;
        rows.iter().map(read).collect()
    }

    /// Whom events of a kind are about that arrived from a moment until before another: their keys, else their
    /// sessions, else the events' ids; each once, at most `limit`.
    pub async fn list_users_of_kind(
        &self,
        environment: &str,
        kind: &str,
        (from, until): (Millis, Millis),
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let rows = self.db.all(OF_KIND, params![environment, kind, from, until, limit]).await?;
        rows.iter().map(|row| row.text("name")).collect()
    }

    /// The events that arrived last, the newest first.
    pub async fn list_latest_auth_events(
        &self,
        environment: &str,
        since: Millis,
        limit: i64,
    ) -> Result<Vec<AuthEventRow>, StoreError> {
        let rows = self.db.all(LATEST, params![environment, since, limit]).await?;
        rows.iter().map(read).collect()
    }

    /// Forgets at most `limit` events that arrived before a moment. Returns how many.
    pub async fn forget_auth_events(
        &self,
        environment: &str,
        before: Millis,
        limit: i64,
    ) -> Result<u64, StoreError> {
        self.db.execute(FORGET, params![environment, before, limit]).await
    }
}

/// Inserts rows, by id, so that two nodes with the same batch never wait for each other. Returns the places of those
/// that are new.
pub(crate) async fn insert(
    tx: &mut Tx,
    environment: &str,
    rows: &[AuthEventRow],
) -> Result<Vec<usize>, StoreError> {
    let mut order: Vec<(&str, usize, &AuthEventRow)> =
        rows.iter().enumerate().map(|(place, row)| (row.id.as_str(), place, row)).collect();
    order.sort_unstable_by_key(|(id, _, _)| *id);
    let written =
        INSERT.write(tx, order.iter().map(|(_, _, row)| values(environment, row))).await?;
    let mut new = Vec::with_capacity(written.len());
    for row in &written {
        let id = row.text("id")?;
        let found = order.binary_search_by_key(&id.as_str(), |(id, _, _)| *id);
        new.extend(found.ok().and_then(|at| order.get(at)).map(|(_, place, _)| *place));
    }
    Ok(new)
}

fn values(environment: &str, row: &AuthEventRow) -> Vec<Param> {
    params![
        environment,
        &row.id,
        &row.kind,
        row.at,
        row.received_at,
        &row.user_key,
        &row.session_id,
        &row.platform,
        &row.app_version,
        &row.country,
        row.latency_ms,
        &row.error,
        &row.variants,
        &row.source,
    ]
}

fn read(row: &Row) -> Result<AuthEventRow, StoreError> {
    Ok(AuthEventRow {
        id: row.text("id")?,
        kind: row.text("kind")?,
        at: row.int("at")?,
        received_at: row.int("received_at")?,
        user_key: row.opt_text("user_key")?,
        session_id: row.opt_text("session_id")?,
        platform: row.opt_text("platform")?,
        app_version: row.opt_text("app_version")?,
        country: row.opt_text("country")?,
        latency_ms: row.opt_int("latency_ms")?,
        error: row.opt_text("error")?,
        variants: row.opt_text("variants")?,
        source: row.text("source")?,
    })
}
