//! Figures that apps report of themselves, by minute.

use switchback_core::model::Millis;

use crate::Store;
use crate::db::{params, sql};
use crate::error::StoreError;

sql! {
    ADD = "INSERT INTO impact_samples (environment, name, kind, app, labels, minute, le, sum_micros, count) \
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (environment, name, minute, app, labels, le) \
           DO UPDATE SET count = impact_samples.count + excluded.count, sum_micros = excluded.sum_micros + \
           CASE WHEN excluded.kind = 'gauge' THEN 0 ELSE impact_samples.sum_micros END";
    LIST = "SELECT name, kind, app, labels, minute, le, sum_micros, count FROM impact_samples \
            WHERE environment = $1 AND name = $2 AND minute >= $3 ORDER BY minute, app, labels, le LIMIT $4";
    NAMES = "SELECT name, kind, MAX(minute) AS minute FROM impact_samples WHERE environment = $1 \
             GROUP BY name, kind ORDER BY name LIMIT 1000";
    FORGET = "DELETE FROM impact_samples WHERE minute < $1";
}

/// One figure of one minute.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct ImpactRow {
    /// The figure's name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The app that reported it.
    pub app: String,
    /// Its labels, as a JSON object.
    pub labels: String,
    /// The minute's start, in UTC milliseconds.
    pub minute: Millis,
    /// A histogram's bucket: observations up to this; empty: the sum of all.
    pub le: String,
    /// The sum (a gauge: the last value), in millionths.
    pub sum_micros: i64,
    /// Observations.
    pub count: i64,
}

impl Store {
    /// Adds figures, all in one transaction.
    pub async fn add_impact(
        &self,
        environment: &str,
        rows: &[ImpactRow],
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        for ImpactRow { name, kind, app, labels, minute, le, sum_micros, count } in rows {
            let params =
                params![environment, name, kind, app, labels, *minute, le, *sum_micros, *count];
            tx.execute(ADD, params).await?;
        }
        tx.commit().await
    }

    /// A figure since a moment, oldest first; at most `limit` rows.
    pub async fn list_impact(
        &self,
        environment: &str,
        name: &str,
        since: Millis,
        limit: i64,
    ) -> Result<Vec<ImpactRow>, StoreError> {
        let rows = self.db.all(LIST, params![environment, name, since, limit]).await?;
        rows.iter()
            .map(|row| {
                Ok(ImpactRow {
                    name: row.text("name")?,
                    kind: row.text("kind")?,
                    app: row.text("app")?,
                    labels: row.text("labels")?,
                    minute: row.int("minute")?,
                    le: row.text("le")?,
                    sum_micros: row.int("sum_micros")?,
                    count: row.int("count")?,
                })
            })
            .collect()
    }

    /// Names of figures, their kind, and the last minute of each.
    pub async fn list_impact_names(
        &self,
        environment: &str,
    ) -> Result<Vec<(String, String, Millis)>, StoreError> {
        let rows = self.db.all(NAMES, params![environment]).await?;
        rows.iter()
            .map(|row| Ok((row.text("name")?, row.text("kind")?, row.int("minute")?)))
            .collect()
    }

    /// Forgets figures older than a moment.
    pub async fn forget_impact(&self, before: Millis) -> Result<u64, StoreError> {
        self.db.execute(FORGET, params![before]).await
    }
}
