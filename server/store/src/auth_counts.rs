//! Counts of auth events by cell of time, dimension, kind and value; and who sends them.

use serde::Serialize;
use switchback_core::model::Millis;

use crate::Store;
use crate::auth_events::{NewEvents, Taken};
use crate::db::Column::{Int, Text};
use crate::db::{Bulk, Tx, params, sql};
use crate::error::StoreError;

pub(crate) static ADD: Bulk = Bulk::new(
    "INSERT INTO auth_counts (environment, width_s, dimension, at, kind, value, n) VALUES",
    &[Text, Int, Text, Int, Text, Text, Int],
    "ON CONFLICT (environment, width_s, dimension, at, kind, value) \
     DO UPDATE SET n = auth_counts.n + excluded.n",
);

sql! {
    SUM = "SELECT kind, value, CAST(SUM(n) AS BIGINT) AS n FROM auth_counts WHERE environment = $1 AND width_s = $2 \
           AND dimension = $3 AND at >= $4 AND at < $5 GROUP BY kind, value ORDER BY kind, value";
    SERIES = "SELECT at, kind, value, n FROM auth_counts WHERE environment = $1 AND width_s = $2 \
              AND dimension = $3 AND at >= $4 AND at < $5 ORDER BY at, kind, value";
    LINES = "SELECT kind, value, string_agg(CAST(at AS TEXT) || ' ' || CAST(n AS TEXT), ',') AS points FROM auth_counts \
             WHERE environment = $1 AND width_s = $2 AND dimension = $3 AND at >= $4 AND at < $5 \
             AND ($6 = '' OR $6 LIKE '%,' || kind || ',%') GROUP BY kind, value";
    DIMENSIONS = "SELECT DISTINCT dimension FROM auth_counts WHERE environment = $1 AND width_s = $2 \
                  AND dimension > $3 ORDER BY dimension LIMIT 1";
    FORGET = "DELETE FROM auth_counts WHERE width_s = $1 AND at < $2";
    SOURCE = "INSERT INTO auth_sources (environment, source, first_at, last_at, last_event_at, taken, duplicates, refused, \
              last_refusal) VALUES ($1, $2, $3, $3, $4, $5, $6, $7, $8) ON CONFLICT (environment, source) DO UPDATE SET \
              last_at = CASE WHEN excluded.last_at > auth_sources.last_at THEN excluded.last_at ELSE auth_sources.last_at END, \
              last_event_at = CASE WHEN excluded.last_event_at > auth_sources.last_event_at THEN excluded.last_event_at \
              ELSE auth_sources.last_event_at END, taken = auth_sources.taken + excluded.taken, \
              duplicates = auth_sources.duplicates + excluded.duplicates, refused = auth_sources.refused + excluded.refused, \
              last_refusal = COALESCE(excluded.last_refusal, auth_sources.last_refusal)";
    SOURCES = "SELECT * FROM auth_sources WHERE environment = $1 ORDER BY source";
    FORGET_SOURCES = "DELETE FROM auth_sources WHERE last_at < $1";
}

/// A count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Count {
    /// The environment.
    pub environment: String,
    /// The width of the cell, in seconds.
    pub width_s: i64,
    /// What it is split by.
    pub dimension: String,
    /// When the cell begins, in UTC milliseconds.
    pub at: Millis,
    /// What happened.
    pub kind: String,
    /// The value of the dimension; empty when it is not split.
    pub value: String,
    /// How often.
    pub n: u64,
}

/// Which counts.
#[derive(Clone, Debug)]
pub struct CountFilter<'a> {
    /// The environment.
    pub environment: &'a str,
    /// The width of the cells, in seconds.
    pub width_s: i64,
    /// What they are split by.
    pub dimension: &'a str,
    /// From this moment.
    pub from: Millis,
    /// Until before this one.
    pub until: Millis,
}

/// A line of a chart: what happened, to which value of the dimension, and in each cell how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountLine {
    /// What happened.
    pub kind: String,
    /// The value of the dimension.
    pub value: String,
    /// When each cell begins, in UTC milliseconds, and its count; in no order.
    pub points: Vec<(Millis, u64)>,
}

/// Who sends auth events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SourceRow {
    /// Its name: `token:NAME`, `supabase:SOURCE` ...
    pub source: String,
    /// Since when, in UTC milliseconds.
    pub first_at: Millis,
    /// When it sent last.
    pub last_at: Millis,
    /// The newest event that it sent.
    pub last_event_at: Millis,
    /// Events taken.
    pub taken: u64,
    /// Events that had been sent before.
    pub duplicates: u64,
    /// Events that could not be taken.
    pub refused: u64,
    /// Why the last of them could not.
    pub last_refusal: Option<String>,
}

pub(crate) async fn add(tx: &mut Tx, counts: Vec<Count>) -> Result<(), StoreError> {
    let values = counts.into_iter().map(|count| {
        let Count { environment, width_s, dimension, at, kind, value, n } = count;
        params![environment, width_s, dimension, at, kind, value, n]
    });
    ADD.write(tx, values).await.map(drop)
}

pub(crate) async fn note_source(
    tx: &mut Tx,
    batch: &NewEvents<'_>,
    taken: Taken,
) -> Result<(), StoreError> {
    let newest = batch.rows.iter().map(|row| row.at).max().unwrap_or(0);
    let (refused, why) = batch.refused;
    let Taken { new, duplicates } = taken;
    tx.execute(
        SOURCE,
        params![batch.environment, batch.source, batch.at, newest, new, duplicates, refused, why],
    )
    .await
    .map(drop)
}

impl Store {
    /// Sums over time, by kind and value.
    pub async fn sum_auth_counts(
        &self,
        filter: &CountFilter<'_>,
    ) -> Result<Vec<(String, String, u64)>, StoreError> {
        let CountFilter { environment, width_s, dimension, from, until } = *filter;
        let rows = self.db.all(SUM, params![environment, width_s, dimension, from, until]).await?;
        rows.iter()
            .map(|row| Ok((row.text("kind")?, row.text("value")?, row.unsigned("n")?)))
            .collect()
    }

    /// Counts by cell, the oldest first.
    pub async fn list_auth_counts(
        &self,
        filter: &CountFilter<'_>,
    ) -> Result<Vec<(Millis, String, String, u64)>, StoreError> {
        let CountFilter { environment, width_s, dimension, from, until } = *filter;
        let rows =
            self.db.all(SERIES, params![environment, width_s, dimension, from, until]).await?;
        rows.iter()
            .map(|row| {
                Ok((row.int("at")?, row.text("kind")?, row.text("value")?, row.unsigned("n")?))
            })
            .collect()
    }

    /// Counts by kind and value, of these kinds or of all when none is named. A line comes as one value: a row for each point
    /// would take several times as long.
    pub async fn list_auth_lines(
        &self,
        filter: &CountFilter<'_>,
        kinds: &[&str],
    ) -> Result<Vec<CountLine>, StoreError> {
        let CountFilter { environment, width_s, dimension, from, until } = *filter;
        let kinds = if kinds.is_empty() { String::new() } else { format!(",{},", kinds.join(",")) };
        let params = params![environment, width_s, dimension, from, until, kinds];
        let rows = self.db.all(LINES, params).await?;
        let point = |text: &str| {
            let (at, n) = text.split_once(' ')?;
            Some((at.parse().ok()?, n.parse().ok()?))
        };
        let lines: Result<Vec<CountLine>, StoreError> = rows
            .iter()
            .map(|row| {
                let points = row.text("points")?.split(',').map(point).collect::<Option<Vec<_>>>();
                let points = points.ok_or_else(|| StoreError::Corrupt {
                    column: "points",
                    source: "they are not pairs of numbers".into(),
                })?;
                Ok(CountLine { kind: row.text("kind")?, value: row.text("value")?, points })
            })
            .collect();
        let mut lines = lines?;
        // Here, as databases put texts in different orders.
        lines.sort_unstable_by(|a, b| (&a.kind, &a.value).cmp(&(&b.kind, &b.value)));
        Ok(lines)
    }

    /// The flags by whose variants events are counted.
    pub async fn list_counted_flags(&self, environment: &str) -> Result<Vec<String>, StoreError> {
        // One step of the index for each: a plain DISTINCT would read every cell.
        let mut found = Vec::new();
        let mut last = "flag:".to_owned();
        while let Some(row) = self.db.one(DIMENSIONS, params![environment, 3600_i64, &last]).await?
        {
            last = row.text("dimension")?;
            let Some(flag) = last.strip_prefix("flag:") else { break };
            found.push(flag.to_owned());
        }
        Ok(found)
    }

    /// Forgets cells of a width that began before a moment.
    pub async fn forget_auth_counts(
        &self,
        width_s: i64,
        before: Millis,
    ) -> Result<u64, StoreError> {
        self.db.execute(FORGET, params![width_s, before]).await
    }

    /// Who sends auth events to an environment.
    pub async fn list_auth_sources(&self, environment: &str) -> Result<Vec<SourceRow>, StoreError> {
        let rows = self.db.all(SOURCES, params![environment]).await?;
        rows.iter()
            .map(|row| {
                Ok(SourceRow {
                    source: row.text("source")?,
                    first_at: row.int("first_at")?,
                    last_at: row.int("last_at")?,
                    last_event_at: row.int("last_event_at")?,
                    taken: row.unsigned("taken")?,
                    duplicates: row.unsigned("duplicates")?,
                    refused: row.unsigned("refused")?,
                    last_refusal: row.opt_text("last_refusal")?,
                })
            })
            .collect()
    }

    /// Forgets senders that were not heard of since a moment.
    pub async fn forget_auth_sources(&self, before: Millis) -> Result<u64, StoreError> {
        self.db.execute(FORGET_SOURCES, params![before]).await
    }
}
