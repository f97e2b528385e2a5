//! The port to backups of data sources.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::ports::PortError;

/// What to back up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupWish {
    /// The data source's name.
    pub source: String,
    /// Only these schemas; empty: all.
    pub schemas: Vec<String>,
    /// Only these tables; empty: all.
    pub tables: Vec<String>,
    /// How long to keep it, in milliseconds.
    pub keep_ms: u64,
}

/// A backup that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its id.
    pub id: String,
    /// The data source's name.
    pub source: String,
    /// Its file's name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// When it was taken, in UTC milliseconds.
    pub created_at: Millis,
    /// When restoring it worked last; `None` when that was not tried, or did not work.
    pub verified_at: Option<Millis>,
}

/// Room for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupSpace {
    /// What the data takes, in bytes.
    pub database_bytes: u64,
    /// What is left for backups, in bytes.
    pub free_bytes: u64,
}

/// A query to a restored backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupCheck {
    /// One query.
    pub sql: String,
    /// What the first column of its first row must be, as text.
    pub expect: String,
}

/// What restoring a backup elsewhere has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How long restoring took, in milliseconds (RTO).
    pub restore_ms: u64,
    /// How old the backup was, in milliseconds (RPO).
    pub age_ms: u64,
    /// Tables compared.
    pub tables: u64,
    /// Rows compared.
    pub rows: u64,
}

/// Backups of the app's databases.
#[async_trait]
pub trait Backups: Send + Sync {
    /// How much room a backup may need, and how much there is.
    async fn space(&self, wish: &BackupWish) -> Result<BackupSpace, PortError>;

    /// Takes a backup once per key; the key again finds it.
    async fn take(&self, key: &str, wish: &BackupWish) -> Result<Backup, PortError>;

    /// The finished backup of this key.
    async fn find(&self, key: &str) -> Result<Option<Backup>, PortError>;

    /// The backup of this id.
    async fn get(&self, id: &str) -> Result<Backup, PortError>;

    /// The source's newest backup; with `verified`, the newest that was restored for proof.
    async fn latest(&self, source: &str, verified: bool) -> Result<Option<Backup>, PortError>;

    /// Restores a backup elsewhere, counts and asks there, and notes what came of it.
    async fn verify(&self, id: &str, checks: &[BackupCheck]) -> Result<Verified, PortError>;

    /// Puts a backup back into its source, in one transaction, after taking one of what is there now under `before_key`. Returns
    /// that one.
    async fn restore(&self, key: &str, before_key: &str, id: &str) -> Result<Backup, PortError>;

    /// Whether the restore of this key has happened; `None` when it was cut off, and nobody knows.
    async fn was_restored(&self, key: &str, source: &str) -> Result<Option<bool>, PortError>;
}
