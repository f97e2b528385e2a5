//! What can go wrong between a use case and the database.

/// Few variants, each needing a different reaction. `Display` says what failed and `source` says why.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The thing named is not there.
    #[error("no {kind} `{key}`")]
    NotFound {
        /// The noun.
        kind: &'static str,
        /// Its key.
        key: String,
    },
    /// The key is taken.
    #[error("{kind} `{key}` exists already")]
    Exists {
        /// The noun.
        kind: &'static str,
        /// Its key.
        key: String,
    },
    /// The caller named an older revision than the current one.
    #[error("changed by someone else at revision {current}")]
    Stale {
        /// The revision that it has now.
        current: u64,
    },
    /// The lease is in other hands; whoever holds this epoch must stop.
    #[error("the lease on run `{run}` was lost")]
    Fenced {
        /// The run.
        run: String,
    },
    /// A rule of the use case, found inside the transaction.
    #[error("{0}")]
    Refused(String),
    /// A row that this release cannot read.
    #[error("column `{column}` holds a value that this release cannot read")]
    Corrupt {
        /// The column.
        column: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database is from a newer release.
    #[error("the database was written by a newer release (schema {found}, this one knows {known})")]
    Newer {
        /// The schema version found.
        found: i64,
        /// The newest that this binary knows.
        known: i64,
    },
    /// A migration failed.
    #[error("the database could not be brought to this release's schema")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The address of the database is not usable.
    #[error("{0}")]
    Address(String),
    /// The database did not answer, or refused.
    #[error("the database did not answer")]
    Driver(#[source] sqlx::Error),
    /// A write that several callers shared failed, for each of them.
    #[error("what was written together could not be written")]
    Together(#[source] std::sync::Arc<StoreError>),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl StoreError {
    /// True where the same call may go through a little later.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Driver(_) => true,
            Self::Together(shared) => shared.is_outage(),
            _ => false,
        }
    }

    /// True where the database's disk is full: SQLite's primary code 13, PostgreSQL's 53100.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Driver(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                code == "53100"
                    || code.len() < 5 && code.parse::<u32>().is_ok_and(|code| code & 0xff == 13)
            }
            Self::Together(shared) => shared.is_full(),
            _ => false,
        }
    }

    /// True where the database answered that it will never take such a value: trying again is useless.
    pub fn is_rejection(&self) -> bool {
        let Self::Driver(sqlx::Error::Database(error)) = self else { return false };
        let code = error.code().unwrap_or_default();
        // PostgreSQL's classes 22 (data) and 23 (constraints) have five characters; SQLite's primary codes 18 (too big) and
        // 19 (constraint) are the low byte of a number.
        let is_postgres = code.len() == 5 && (code.starts_with("22") || code.starts_with("23"));
        let is_sqlite =
            code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18 | 19));
        is_postgres || is_sqlite
    }

    /// True where a unique key was already there.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Driver(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

pub(crate) fn not_found(kind: &'static str, key: impl Into<String>) -> StoreError {
    StoreError::NotFound { kind, key: key.into() }
}
