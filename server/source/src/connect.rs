//! Connecting, and finding out whether that works.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::SourceError;
use crate::settings::{Access, Settings};

/// How long making or waiting for a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_mins(5);
/// A transaction that does nothing for so long is ended by the database, in milliseconds.
const IDLE_IN_TRANSACTION_MS: &str = "60000";

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

#[derive(Clone, Debug)]
pub(crate) enum Pool {
    Postgres(PgPool),
    Sqlite {
        /// Opened read-only: SQLite has no other way to be sure.
        read: SqlitePool,
        /// One connection: SQLite has one writer.
        write: SqlitePool,
    },
}

/// A data source, connected when it is first used.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    /// The address of a copy, in place of what the credentials say.
    elsewhere: Option<String>,
    pool: Mutex<Option<Pool>>,
}

/// What a test found.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Tested {
    /// Which database.
    pub dialect: Dialect,
    /// Its version, such as `16.4` or `3.46.0`.
    pub version: String,
    /// How long connecting and one question took, in milliseconds.
    pub took_ms: u64,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

impl Source {
    /// A source that is not connected yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self { settings, elsewhere: None, pool: Mutex::default() })
    }

    /// A source on another database than its settings name. It never connects to theirs.
    pub(crate) fn at(settings: Settings, address: String) -> Self {
        Self { settings, elsewhere: Some(address), pool: Mutex::default() }
    }

    /// Where its database is.
    ///
    /// # Errors
    /// The credentials cannot be read.
    pub(crate) async fn address(&self) -> Result<String, SourceError> {
        match &self.elsewhere {
            Some(address) => Ok(address.clone()),
            None => self.settings.credentials.read().await,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Which database it is; connects for it.
    ///
    /// # Errors
    /// The credentials cannot be read, or the database cannot be reached.
    pub async fn dialect(&self) -> Result<Dialect, SourceError> {
        Ok(match self.pool().await? {
            Pool::Postgres(_) => Dialect::Postgres,
            Pool::Sqlite { .. } => Dialect::Sqlite,
        })
    }

    /// Connects anew and asks one question.
    ///
    /// # Errors
    /// The credentials cannot be read, the database cannot be reached, or it refuses the user.
    pub async fn test(&self) -> Result<Tested, SourceError> {
        self.forget().await;
        let begun = Instant::now();
        let pool = self.pool().await?;
        let (dialect, version, warnings) = match &pool {
            Pool::Postgres(pool) => {
                const ASK: &str = "SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS replica, \
                                   (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser";
                let asked = sqlx::query_as::<_, (String, bool, Option<bool>)>(ASK).fetch_one(pool);
                let (version, replica, superuser) =
                    asked.await.map_err(|error| self.error(error))?;
                (Dialect::Postgres, version, self.warnings(replica, superuser.unwrap_or(false)))
            }
            Pool::Sqlite { read: pool, .. } => {
                // Opening alone does not read the file.
                let asked = sqlx::query_as::<_, (String, i64)>(
                    "SELECT sqlite_version(), (SELECT COUNT(*) FROM sqlite_master)",
                );
                let (version, _) =
                    asked.fetch_one(pool).await.map_err(|error| self.error(error))?;
                (Dialect::Sqlite, version, Vec::new())
            }
        };
        let took_ms = begun.elapsed().as_millis() as u64;
        Ok(Tested { dialect, version, took_ms, warnings })
    }

    fn warnings(&self, replica: bool, superuser: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        if superuser {
            warnings.push(
                "its user is a superuser: give it a role with no more than it needs".to_owned(),
            );
        }
        if replica && self.settings.access == Access::ReadWrite {
            warnings.push("this is a replica: it cannot be written to".to_owned());
        }
        warnings
    }

    pub(crate) async fn pool(&self) -> Result<Pool, SourceError> {
        let mut pool = self.pool.lock().await;
        if let Some(pool) = &*pool {
            return Ok(pool.clone());
        }
        let made = self.connect(&self.address().await?)?;
        *pool = Some(made.clone());
        Ok(made)
    }

    /// Ends its connections.
    pub async fn close(&self) {
        match self.pool.lock().await.take() {
            Some(Pool::Postgres(pool)) => pool.close().await,
            Some(Pool::Sqlite { read, write }) => {
                read.close().await;
                write.close().await;
            }
            None => {}
        }
    }

    /// Forgets the connections, so that the next use reads the credentials again.
    pub(crate) async fn forget(&self) {
        self.pool.lock().await.take();
    }

    pub(crate) fn connect(&self, address: &str) -> Result<Pool, SourceError> {
        let connections = self.settings.connections_max;
        if address.starts_with("postgres://") || address.starts_with("postgresql://") {
            let unreadable = |_| SourceError::Credentials("the address cannot be read".to_owned());
            let options = PgConnectOptions::from_str(address).map_err(unreadable)?;
            let read_only = if self.settings.access == Access::ReadOnly { "on" } else { "off" };
            let options = options.application_name("switchback").options([
                ("statement_timeout", self.settings.statement_timeout_ms.to_string().as_str()),
                ("lock_timeout", self.settings.lock_timeout_ms.to_string().as_str()),
                ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_MS),
                ("default_transaction_read_only", read_only),
                // A window of minutes is planned as minutes, not as the third of a table that an unknown one is taken for.
                ("plan_cache_mode", "force_custom_plan"),
            ]);
            let pool = PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(CONNECT_WITHIN)
                .idle_timeout(IDLE)
                .connect_lazy_with(options);
            return Ok(Pool::Postgres(pool));
        }
        let Some(path) = address.strip_prefix("sqlite:") else {
            let message = "the address starts with neither `postgres://` nor `sqlite:`";
            return Err(SourceError::Credentials(message.to_owned()));
        };
        let options = SqliteConnectOptions::new()
            .filename(path.trim_start_matches("//"))
            .create_if_missing(false)
            .busy_timeout(Duration::from_millis(self.settings.lock_timeout_ms));
        let pool = |connections: u32, options: SqliteConnectOptions| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(CONNECT_WITHIN)
                .idle_timeout(IDLE)
                // Whoever stopped waiting left the handler that ends the statement.
                .after_release(|connection, _| {
                    Box::pin(async move {
                        connection.lock_handle().await?.remove_progress_handler();
                        Ok(true)
                    })
                })
                .connect_lazy_with(options)
        };
        let read = pool(connections, options.clone().read_only(true));
        Ok(Pool::Sqlite { read, write: pool(1, options) })
    }

    pub(crate) fn error(&self, error: sqlx::Error) -> SourceError {
        let Settings { statement_timeout_ms, lock_timeout_ms, .. } = self.settings;
        SourceError::of(error, statement_timeout_ms, lock_timeout_ms)
    }
}
