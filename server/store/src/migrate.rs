//! Opens the database that an address names and brings it to this release's schema.

use std::borrow::Cow;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::SqlStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::Store;
use crate::db::Db;
use crate::error::StoreError;

/// Every step: version, name, and its text for SQLite and for PostgreSQL. A step that was released is never edited.
///
/// Listed here rather than read by `sqlx::migrate!`: that macro's crate builds both drivers a second time, for the
/// compiler, which makes the first `cargo run` a minute longer.
macro_rules! steps {
    ($($version:literal $name:literal),+ $(,)?) => {
        &[$(Step {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
        }),+]
    };
}

const STEPS: &[Step] = steps![
    1 "0001_init", 2 "0002_visits", 3 "0003_data_sources", 4 "0004_backups", 5 "0005_preserved",
    6 "0006_reviews", 7 "0007_undoes", 8 "0008_drills", 9 "0009_incidents",
    10 "0010_probes", 11 "0011_remote_incidents", 12 "0012_auth_events", 13 "0013_user_sessions",
    14 "0014_guards", 15 "0015_alerts", 16 "0016_event_pollers", 17 "0017_checks",
    18 "0018_run_queue"
];

struct Step {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
/// Prepared statements that a connection keeps: every one of ours, and the sizes of those that write many rows.
const STATEMENTS_KEPT: usize = 400;
const POSTGRES_CONNECTIONS_MAX: u32 = 16;

/// An open store, and whether it was empty.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// True the first time.
    pub is_new: bool,
}

/// Opens `postgres://...`, `sqlite:PATH`, or a plain path to an SQLite file (created when missing).
pub async fn open(address: &str) -> Result<Opened, StoreError> {
    let db = if address.starts_with("postgres://") || address.starts_with("postgresql://") {
        open_postgres(address).await?
    } else if let Some(path) = address.strip_prefix("sqlite:") {
        open_sqlite(Path::new(path.trim_start_matches("//"))).await?
    } else if address.contains("://") {
        return Err(StoreError::Address(format!(
            "`{}` is not a database that Switchback knows; use postgres://... or sqlite:PATH",
            address.split("://").next().unwrap_or_default(),
        )));
    } else {
        open_sqlite(Path::new(address)).await?
    };

    let migrated = match &db {
        Db::Sqlite { write, .. } => migrator(|step| step.sqlite).run(write).await,
        Db::Postgres(pool) => migrator(|step| step.postgres).run(pool).await,
    };
    migrated.map_err(|error| match error {
        MigrateError::VersionMissing(found) => {
            let known = STEPS.iter().map(|step| step.version).max().unwrap_or_default();
            StoreError::Newer { found, known }
        }
        other => StoreError::Migrate(other),
    })?;

    let store = Store { db };
    let is_new = store.find_meta("epoch").await?.is_none();
    Ok(Opened { store, is_new })
}

fn migrator(text: fn(&Step) -> &'static str) -> Migrator {
    let migrations = STEPS.iter().map(|step| {
        let description = step.name.split_once('_').map_or(step.name, |(_, words)| words);
        Migration::new(
            step.version,
            Cow::Borrowed(description),
            MigrationType::Simple,
            SqlStr::from_static(text(step)),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

async fn open_postgres(address: &str) -> Result<Db, StoreError> {
    let options = PgConnectOptions::from_str(address)
        .map_err(|_| StoreError::Address("the database URL cannot be read".to_owned()))?
        .application_name("switchback")
        .statement_cache_capacity(STATEMENTS_KEPT)
        .options([("statement_timeout", "15000"), ("lock_timeout", "5000")]);
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await?;
    Ok(Db::Postgres(pool))
}

/// WAL with `synchronous=FULL`: flag changes are rare, and an acknowledged one survives power loss.
async fn open_sqlite(path: &Path) -> Result<Db, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENTS_KEPT)
        .busy_timeout(Duration::from_secs(5));
    let write: SqlitePool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options.clone())
        .await?;
    let read = SqlitePoolOptions::new()
        .max_connections(READERS)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options.read_only(true).create_if_missing(false));
    Ok(Db::Sqlite { write, read })
}
