//! Copies of a whole data source for rehearsals: a database (PostgreSQL) or a file (SQLite) of its own, with the same limits.

use std::sync::Arc;

use super::{Scope, Shelf, postgres};
use crate::connect::{Dialect, Source};
use crate::error::SourceError;

impl Source {
    /// Copies everything into a scratch database that `id` (a-z, 0-9, _) names, and opens it.
    ///
    /// # Errors
    /// As [`take`](Self::take) and [`prove`](Self::prove); then nothing is left behind.
    pub async fn copy_to_scratch(&self, shelf: &Shelf, id: &str) -> Result<Arc<Self>, SourceError> {
        let file = file_of(id);
        match self.dialect().await? {
            // The backup of an SQLite file is the copy.
            Dialect::Sqlite => drop(self.take(shelf, &file, &Scope::default()).await?),
            Dialect::Postgres => {
                let taken = self.take(shelf, &file, &Scope::default()).await?;
                let copied = postgres::copy(self, shelf, &file, &taken, id).await;
                let removed = shelf.remove(&file).await;
                copied.and(removed)?;
            }
        }
        self.open_scratch(shelf, id).await
    }

    /// Opens a copy that was made before.
    ///
    /// # Errors
    /// The credentials cannot be read.
    pub async fn open_scratch(&self, shelf: &Shelf, id: &str) -> Result<Arc<Self>, SourceError> {
        let address = match self.dialect().await? {
            Dialect::Sqlite => format!("sqlite:{}", shelf.folder.join(file_of(id)).display()),
            Dialect::Postgres => postgres::scratch_address(self, id).await?,
        };
        Ok(Arc::new(Self::at(self.settings().clone(), address)))
    }

    /// Removes a copy; one that is not there is fine.
    ///
    /// # Errors
    /// The database or the file cannot be removed.
    pub async fn drop_scratch(&self, shelf: &Shelf, id: &str) -> Result<(), SourceError> {
        match self.dialect().await? {
            Dialect::Postgres => postgres::drop_copy(self, id).await,
            Dialect::Sqlite => {
                for ending in ["", "-wal", "-shm"] {
                    shelf.remove(&format!("{}{ending}", file_of(id))).await?;
                }
                Ok(())
            }
        }
    }
}

fn file_of(id: &str) -> String {
    format!("scratch-{id}.db")
}
