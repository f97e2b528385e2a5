//! Backups of data sources: what is known of each finished file.

use serde_json::Value;
use switchback_core::model::Millis;

use crate::Store;
use crate::db::{Row, json, params, sql};
use crate::error::{StoreError, not_found};

sql! {
    LIST = "SELECT * FROM backups WHERE source = $1 ORDER BY created_at DESC, id DESC LIMIT 500";
    GET = "SELECT * FROM backups WHERE id = $1";
    FIND = "SELECT * FROM backups WHERE key = $1";
    LATEST = "SELECT * FROM backups WHERE source = $1 ORDER BY created_at DESC, id DESC LIMIT 1";
    LATEST_VERIFIED = "SELECT * FROM backups WHERE source = $1 AND verified_at IS NOT NULL \
                       ORDER BY created_at DESC, id DESC LIMIT 1";
    PUT = "INSERT INTO backups (id, key, source, file, body, created_at, created_by, run_id, keep_until) \
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (key) DO NOTHING";
    VERIFIED = "UPDATE backups SET verified_at = $2, verification = $3 WHERE id = $1";
    EXPIRED = "SELECT * FROM backups WHERE keep_until < $1 ORDER BY created_at LIMIT 500";
    DELETE = "DELETE FROM backups WHERE id = $1";
}

/// A finished backup.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupRow {
    /// Its id.
    pub id: String,
    /// What it was asked under: the same key is one backup.
    pub key: String,
    /// The data source's name.
    pub source: String,
    /// The file's name.
    pub file: String,
    /// What is known of the file.
    pub body: Value,
    /// When it was begun: it holds the data of about then.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
    /// In which run.
    pub run_id: Option<String>,
    /// It may be removed after this.
    pub keep_until: Millis,
    /// When restoring it worked last; `None` when it was not tried, or did not work the last time.
    pub verified_at: Option<Millis>,
    /// What the last try has shown.
    pub verification: Option<Value>,
}

impl BackupRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            key: row.text("key")?,
            source: row.text("source")?,
            file: row.text("file")?,
            body: row.json("body")?,
            created_at: row.int("created_at")?,
            created_by: row.text("created_by")?,
            run_id: row.opt_text("run_id")?,
            keep_until: row.int("keep_until")?,
            verified_at: row.opt_int("verified_at")?,
            verification: row.opt_json("verification")?,
        })
    }
}

impl Store {
    /// A source's backups, newest first; at most 500.
    pub async fn list_backups(&self, source: &str) -> Result<Vec<BackupRow>, StoreError> {
        self.db.all(LIST, params![source]).await?.iter().map(BackupRow::read).collect()
    }

    /// One backup.
    pub async fn get_backup(&self, id: &str) -> Result<BackupRow, StoreError> {
        let row = self.db.one(GET, params![id]).await?;
        BackupRow::read(&row.ok_or_else(|| not_found("backup", id))?)
    }

    /// The backup of a key.
    pub async fn find_backup(&self, key: &str) -> Result<Option<BackupRow>, StoreError> {
        self.db.one(FIND, params![key]).await?.as_ref().map(BackupRow::read).transpose()
    }

    /// A source's newest backup; with `verified`, the newest whose restore worked.
    pub async fn latest_backup(
        &self,
        source: &str,
        verified: bool,
    ) -> Result<Option<BackupRow>, StoreError> {
        let sql = if verified { LATEST_VERIFIED } else { LATEST };
        self.db.one(sql, params![source]).await?.as_ref().map(BackupRow::read).transpose()
    }

    /// Keeps a finished backup; one that is kept under its key already stays.
    pub async fn put_backup(&self, row: &BackupRow) -> Result<(), StoreError> {
        let BackupRow { id, key, source, file, created_by, run_id, .. } = row;
        let body = json(&row.body)?;
        let params = params![
            id,
            key,
            source,
            file,
            body,
            row.created_at,
            created_by,
            run_id,
            row.keep_until
        ];
        self.db.execute(PUT, params).await.map(drop)
    }

    /// Notes what restoring a backup has shown, and when it worked.
    pub async fn note_verification(
        &self,
        id: &str,
        verified_at: Option<Millis>,
        verification: &Value,
    ) -> Result<(), StoreError> {
        let verification = json(verification)?;
        self.db.execute(VERIFIED, params![id, verified_at, verification]).await.map(drop)
    }

    /// Backups that need not be kept any more, oldest first; at most 500.
    pub async fn list_expired_backups(&self, now: Millis) -> Result<Vec<BackupRow>, StoreError> {
        self.db.all(EXPIRED, params![now]).await?.iter().map(BackupRow::read).collect()
    }

    /// Forgets a backup; its file is the caller's.
    pub async fn delete_backup(&self, id: &str) -> Result<(), StoreError> {
        self.db.execute(DELETE, params![id]).await.map(drop)
    }
}
