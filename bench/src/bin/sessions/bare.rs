//! The floor: the same row, inserted by each client in a transaction of its own, without a server in between.

use std::sync::Arc;
use std::time::Instant;

use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Executor as _, PgPool, SqlitePool};
use tempfile::TempDir;
use tokio::sync::Barrier;

const SCHEMA: &str = include_str!("../../../../migrations/sqlite/0013_user_sessions.sql");
const INSERT: &str = "INSERT INTO user_sessions (environment, id, user_key, started_at, last_activity_at, platform, \
    app_version, country) VALUES ('production', $1, $2, $3, $3, 'ios', '2.4.1', 'DE')";
/// As many as the server has.
const CONNECTIONS: u32 = 16;

#[derive(Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Milliseconds of each insert when all clients begin at the same moment.
pub async fn insert(
    folder: &TempDir,
    address: Option<&str>,
    clients: usize,
    rounds: usize,
) -> Vec<f64> {
    let pool = match address {
        None => {
            let options = SqliteConnectOptions::new()
                .filename(folder.path().join("bare.db"))
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full);
            let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
            let pool = pool.expect("an SQLite file can be made");
            pool.execute(SCHEMA).await.expect("the table can be made");
            Pool::Sqlite(pool)
        }
        Some(address) => {
            let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(address).await;
            let pool = pool.expect("PostgreSQL answers");
            pool.execute(SCHEMA).await.expect("the table can be made");
            Pool::Postgres(pool)
        }
    };
    let mut took = Vec::new();
    for round in 0..rounds {
        let start = Arc::new(Barrier::new(clients));
        let calls = (0..clients).map(|client| {
            let (pool, start) = (pool.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                let (id, user) = (format!("s{round}-{client}"), format!("u{round}-{client}"));
                start.wait().await;
                let began = Instant::now();
                let done = match &pool {
                    Pool::Sqlite(pool) => {
                        let insert = sqlx::query(INSERT).bind(id).bind(user).bind(round as i64);
                        insert.execute(pool).await.map(drop)
                    }
                    Pool::Postgres(pool) => {
                        let insert = sqlx::query(INSERT).bind(id).bind(user).bind(round as i64);
                        insert.execute(pool).await.map(drop)
                    }
                };
                done.expect("a row can be inserted");
                began.elapsed().as_secs_f64() * 1_000.0
            })
        });
        for call in calls.collect::<Vec<_>>() {
            took.push(call.await.expect("a client goes on"));
        }
    }
    // The server makes its own.
    if let Pool::Postgres(pool) = &pool {
        for table in ["user_sessions", "session_days", "session_feeds"] {
            let drop = sqlx::AssertSqlSafe(format!("DROP TABLE {table}"));
            pool.execute(sqlx::query(drop)).await.expect("the table can be dropped");
        }
    }
    took
}
