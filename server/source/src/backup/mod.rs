//! Backups of a data source: taken in one snapshot, proved by restoring them elsewhere, put back in one transaction.
//!
//! A backup is a file on a [`Shelf`]: PostgreSQL's custom format, or an SQLite file. What is known of it beside the file
//! ([`Taken`]) is kept by the caller.

mod child;
mod files;
mod postgres;
mod scratch;
mod sqlite;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::connect::{Dialect, Source};
use crate::error::SourceError;
use crate::settings::Access;
use files::Partial;

/// How long making a connection for a backup may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// PostgreSQL's backups are compressed: a disk with less than this part of the database's size free is refused.
const COMPRESSED_AT_BEST: u64 = 10;

/// Where backups lie, and the programs that make PostgreSQL's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// The folder; it is made when it is missing.
    pub folder: PathBuf,
    /// Where `pg_dump` and `pg_restore` are; otherwise the path, then where Debian keeps them.
    pub pg_bin_dir: Option<PathBuf>,
}

/// What a backup holds; both empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Scope {
    /// Only these schemas (PostgreSQL).
    #[serde(default)]
    pub schemas: Vec<String>,
    /// Only these tables.
    #[serde(default)]
    pub tables: Vec<String>,
}

/// A table and how many rows it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Count {
    /// Its name; in PostgreSQL with its schema.
    pub table: String,
    /// Its rows.
    pub rows: u64,
}

/// A finished backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Taken {
    /// Which database.
    pub dialect: Dialect,
    /// Its version.
    pub server_version: String,
    /// What the file holds.
    pub scope: Scope,
    /// Rows by table, in the file's own snapshot.
    pub counts: Vec<Count>,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256, in hex.
    pub sha256: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Room for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Space {
    /// What the data takes in the database, in bytes; a backup of PostgreSQL is usually much smaller.
    pub database_bytes: u64,
    /// What the shelf has left, in bytes.
    pub free_bytes: u64,
}

/// A query to a restored backup and what the first column of its first row must be, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// One query.
    pub sql: String,
    /// What it must give.
    pub expect: String,
}

/// What restoring a backup elsewhere has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Proof {
    /// How long restoring took, in milliseconds: the least that getting the data back takes.
    pub restore_ms: u64,
    /// Tables whose rows were counted.
    pub tables: u64,
    /// Rows, together.
    pub rows: u64,
    /// Queries that gave what they must.
    pub checks: u64,
}

impl Source {
    /// How much room a backup may need, and how much there is.
    ///
    /// # Errors
    /// The source cannot be reached, or the shelf cannot be made.
    pub async fn space(&self, shelf: &Shelf, scope: &Scope) -> Result<Space, SourceError> {
        let free_bytes = files::free(&shelf.folder).await?;
        let database_bytes = match self.dialect().await? {
            Dialect::Postgres => postgres::size(self, scope).await?,
            Dialect::Sqlite => sqlite::size(self).await?,
        };
        Ok(Space { database_bytes, free_bytes })
    }

    /// Writes a backup into the shelf's `file`, replacing what is there only when it is whole.
    ///
    /// # Errors
    /// The source cannot be reached or lacks what the scope names, `pg_dump` is missing or too old, the disk is too small, or
    /// another attempt writes the same file now. Then there is no new file.
    pub async fn take(
        &self,
        shelf: &Shelf,
        file: &str,
        scope: &Scope,
    ) -> Result<Taken, SourceError> {
        let begun = Instant::now();
        let dialect = self.dialect().await?;
        let space = self.space(shelf, scope).await?;
        let needed = match dialect {
            Dialect::Postgres => space.database_bytes / COMPRESSED_AT_BEST,
            Dialect::Sqlite => space.database_bytes,
        };
        if space.free_bytes < needed {
            let (has, free) =
                (files::size_text(space.database_bytes), files::size_text(space.free_bytes));
            let folder = shelf.folder.display();
            let message = format!("the data takes {has}, and {folder} has {free} left");
            return Err(SourceError::Refused(message));
        }
        let partial = Partial::new(&shelf.folder, file).await?;
        let (server_version, counts) = match dialect {
            Dialect::Postgres => postgres::take(self, shelf, scope, &partial).await?,
            Dialect::Sqlite => sqlite::take(self, scope, &partial).await?,
        };
        let (bytes, sha256) = partial.keep(file).await?;
        let took_ms = begun.elapsed().as_millis() as u64;
        let scope = scope.clone();
        Ok(Taken { dialect, server_version, scope, counts, bytes, sha256, took_ms })
    }

    /// Restores a backup into a database of its own, counts its rows, asks `looks` there, and removes that database again.
    /// `id` (a-z, 0-9, _) names it.
    ///
    /// # Errors
    /// The file is not what was written, it cannot be restored, rows are missing, or a look does not hold: why.
    pub async fn prove(
        &self,
        shelf: &Shelf,
        file: &str,
        taken: &Taken,
        looks: &[Look],
        id: &str,
    ) -> Result<Proof, SourceError> {
        self.check_file(shelf, file, taken).await?;
        match taken.dialect {
            Dialect::Postgres => postgres::prove(self, shelf, file, taken, looks, id).await,
            Dialect::Sqlite => sqlite::prove(self, shelf, file, taken, looks).await,
        }
    }

    /// Puts a backup back into the data source, in one transaction: what the backup holds becomes as it was then; what it
    /// does not hold stays.
    ///
    /// # Errors
    /// The source may not be written to, the file is not what was written, or the database refuses; then nothing has changed.
    pub async fn restore(
        &self,
        shelf: &Shelf,
        file: &str,
        taken: &Taken,
    ) -> Result<(), SourceError> {
        if self.settings().access == Access::ReadOnly {
            let message = "the data source is read-only; an administrator can let it be written to";
            return Err(SourceError::ReadOnly(message.to_owned()));
        }
        if self.dialect().await? != taken.dialect {
            let message = "the backup is of another kind of database";
            return Err(SourceError::Refused(message.to_owned()));
        }
        self.check_file(shelf, file, taken).await?;
        match taken.dialect {
            Dialect::Postgres => postgres::restore(self, shelf, file).await,
            Dialect::Sqlite => sqlite::restore(self, shelf, file).await,
        }
    }

    async fn check_file(
        &self,
        shelf: &Shelf,
        file: &str,
        taken: &Taken,
    ) -> Result<(), SourceError> {
        let path = shelf.folder.join(file);
        let (bytes, sha256) = files::measure(path).await?;
        if bytes == taken.bytes && sha256 == taken.sha256 {
            return Ok(());
        }
        let message =
            format!("{file} is damaged: it is not what was written (its SHA-256 differs)");
        Err(SourceError::Refused(message))
    }

    async fn looks_hold(&self, looks: &[Look]) -> Result<(), SourceError> {
        for look in looks {
            let rows = self.query(&look.sql, &[]).await?;
            let value = rows.first().and_then(|row| row.values().next());
            let found = match value {
                None => "no row".to_owned(),
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            if found != look.expect {
                let (sql, expect) = (look.sql.trim(), &look.expect);
                let message =
                    format!("in the restored backup `{sql}` gives `{found}`, not `{expect}`");
                return Err(SourceError::Refused(message));
            }
        }
        Ok(())
    }
}

impl Shelf {
    /// Removes the files of attempts that nobody makes any more.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn sweep(&self) -> Result<(), SourceError> {
        files::sweep(&self.folder).await
    }

    /// Removes a backup's file; one that is not there is fine.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub async fn remove(&self, file: &str) -> Result<(), SourceError> {
        match tokio::fs::remove_file(self.folder.join(file)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(SourceError::Refused(format!("{file} cannot be removed: {error}")))
            }
            _ => Ok(()),
        }
    }
}

/// Compares rows by table with those of the backup's own snapshot.
fn compare(counts: &[Count], found: &[Count]) -> Result<(), SourceError> {
    for count in counts {
        let rows = found.iter().find(|other| other.table == count.table).map(|other| other.rows);
        if rows != Some(count.rows) {
            let has = rows.map_or("is not there".to_owned(), |rows| format!("has {rows} rows"));
            let message = format!(
                "`{}` {has} in the restored backup; it had {} rows",
                count.table, count.rows
            );
            return Err(SourceError::Refused(message));
        }
    }
    Ok(())
}

fn proof(begun: Instant, restored: Instant, counts: &[Count], looks: &[Look]) -> Proof {
    Proof {
        restore_ms: (restored - begun).as_millis() as u64,
        tables: counts.len() as u64,
        rows: counts.iter().map(|count| count.rows).sum(),
        checks: looks.len() as u64,
    }
}
