//! Documents that were written here (incident templates, alert rules, packs of checks), every version of them.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params};
use crate::error::StoreError;

/// A version of a document.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct TemplateVersion {
    /// The document's name.
    pub name: String,
    /// Counts from 1.
    pub version: u64,
    /// Its text; absent: it was removed, and the shipped one counts again.
    pub source: Option<String>,
    /// When, in UTC milliseconds.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
}

/// Where versions of a kind are kept: a query for the last one's number, and one that adds a version.
pub(crate) struct Versions {
    pub last: &'static str,
    pub insert: &'static str,
    /// What the log calls it.
    pub kind: &'static str,
    /// What the log says when it is removed.
    pub removed: &'static str,
}

impl Versions {
    /// As [`put_in`](Self::put_in), in a transaction of its own.
    pub async fn put(
        &self,
        store: &Store,
        name: &str,
        expected: u64,
        source: Option<&str>,
        by: &Stamp,
    ) -> Result<u64, StoreError> {
        let mut tx = store.db.begin().await?;
        let version = self.put_in(&mut tx, name, expected, source, by).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Keeps a new version. `expected`: the version that it was made from, 0 when there was none.
    pub async fn put_in(
        &self,
        tx: &mut Tx,
        name: &str,
        expected: u64,
        source: Option<&str>,
        by: &Stamp,
    ) -> Result<u64, StoreError> {
        let last = tx.one(self.last, params![name]).await?;
        let last = last.map(|row| row.opt_int("version")).transpose()?.flatten().unwrap_or(0);
        let (last, version) = (last.cast_unsigned(), last.cast_unsigned() + 1);
        let params = params![name, version, source, by.at, &by.actor];
        if last != expected || tx.execute(self.insert, params).await? == 0 {
            return Err(StoreError::Stale { current: last });
        }
        let entry = Entry {
            environment: None,
            revision: None,
            kind: self.kind,
            subject: name,
            action: if source.is_some() { "put" } else { self.removed },
            before: None,
            after: source.map(|text| json(&text)).transpose()?,
        };
        tx.log(by, 0, entry).await?;
        Ok(version)
    }
}

pub(crate) fn read_version(row: &Row) -> Result<TemplateVersion, StoreError> {
    Ok(TemplateVersion {
        name: row.text("name")?,
        version: row.unsigned("version")?,
        source: row.opt_text("source")?,
        created_at: row.int("created_at")?,
        created_by: row.text("created_by")?,
    })
}
