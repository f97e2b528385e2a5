//! Segments: saved lists of constraints, one set per environment, so that a change in staging never
//! reaches production.

use serde::{Deserialize, Serialize};
use switchback_core::model::{Millis, Segment};

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, json, params, sql};
use crate::error::{StoreError, not_found};

sql! {
    LIST = "SELECT * FROM segments WHERE environment = $1 ORDER BY key";
    FIND = "SELECT * FROM segments WHERE environment = $1 AND key = $2";
    PUT = "INSERT INTO segments (environment, key, body, revision, updated_at, updated_by) \
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (environment, key) DO UPDATE SET \
           body = excluded.body, revision = excluded.revision, updated_at = excluded.updated_at, \
           updated_by = excluded.updated_by";
    DELETE = "DELETE FROM segments WHERE environment = $1 AND key = $2";
}

/// A segment in one environment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct SegmentRow {
    /// The segment.
    pub segment: Segment,
    /// The environment's revision that last changed it.
    pub revision: u64,
    /// When.
    pub updated_at: Millis,
    /// By whom.
    pub updated_by: String,
}

impl SegmentRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            segment: row.json("body")?,
            revision: row.unsigned("revision")?,
            updated_at: row.int("updated_at")?,
            updated_by: row.text("updated_by")?,
        })
    }
}

impl Store {
    /// All segments of an environment, by key.
    pub async fn list_segments(&self, environment: &str) -> Result<Vec<SegmentRow>, StoreError> {
        let rows = self.db.all(LIST, params![environment]).await?;
        rows.iter().map(SegmentRow::read).collect()
    }

    /// One segment.
    pub async fn get_segment(
        &self,
        environment: &str,
        key: &str,
    ) -> Result<SegmentRow, StoreError> {
        let row = self.db.one(FIND, params![environment, key]).await?;
        SegmentRow::read(&row.ok_or_else(|| not_found("segment", key))?)
    }

    /// Makes or replaces a segment. `expected` is the revision that the writer saw; 0 for a new one.
    pub async fn put_segment(
        &self,
        environment: &str,
        segment: &Segment,
        expected: Option<u64>,
        by: &Stamp,
    ) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let key = segment.key.as_str();
        let revision = tx.next_revision(environment).await?;
        let row = tx.one(FIND, params![environment, key]).await?;
        let before = row.as_ref().map(SegmentRow::read).transpose()?;
        let current = before.as_ref().map_or(0, |before| before.revision);
        if expected.is_some_and(|expected| expected != current) {
            return Err(StoreError::Stale { current });
        }
        let after = json(segment)?;
        let params = params![environment, key, &after, revision, by.at, &by.actor];
        tx.execute(PUT, params).await?;
        let entry = Entry {
            environment: Some(environment),
            revision: Some(revision),
            kind: "segment",
            subject: key,
            action: if before.is_some() { "update" } else { "create" },
            before: before.map(|before| json(&before.segment)).transpose()?,
            after: Some(after),
        };
        tx.log(by, 0, entry).await?;
        tx.announce(&format!("env:{environment}")).await?;
        tx.commit().await?;
        Ok(revision.cast_unsigned())
    }

    /// Deletes a segment. The caller has checked that no rule names it.
    pub async fn delete_segment(
        &self,
        environment: &str,
        key: &str,
        by: &Stamp,
    ) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let revision = tx.next_revision(environment).await?;
        let row = tx.one(FIND, params![environment, key]).await?;
        let before = row.ok_or_else(|| not_found("segment", key))?.text("body")?;
        tx.execute(DELETE, params![environment, key]).await?;
        let entry = Entry {
            environment: Some(environment),
            revision: Some(revision),
            kind: "segment",
            subject: key,
            action: "delete",
            before: Some(before),
            after: None,
        };
        tx.log(by, 0, entry).await?;
        tx.announce(&format!("env:{environment}")).await?;
        tx.commit().await?;
        Ok(revision.cast_unsigned())
    }
}
