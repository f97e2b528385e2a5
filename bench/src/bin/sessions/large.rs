//! Looking among millions of sessions: who is in now, a user's past, the average by day, through the API; and at the charts of a
//! day of events.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use switchback_bench::measure::percentile;
use switchback_bench::server::{ENVIRONMENT, Server};
use switchback_bench::table::number;
use tempfile::TempDir;

use crate::day;

pub const HEAD: [&str; 4] = ["among many", "sessions or events", "p50 ms", "p99 ms"];
const ROUNDS: usize = 50;
/// One in so many is open.
const OPEN_ONE_IN: u64 = 100;

/// Rows of the table.
pub async fn measure(name: &str, address: Option<&str>, rows: u64) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut variables = Vec::new();
    variables.extend(address.map(|address| ("SWITCHBACK_DATABASE_URL", address)));
    Server::start_with(&folder, "127.0.0.1:0", &variables).await.end().await; // makes the tables
    fill(&folder, address, rows).await;
    run(&folder, address, &day::statements(address.is_some())).await;
    let server = Server::start_with(&folder, "127.0.0.1:0", &variables).await;
    let questions = [
        ("who is in now, in figures", "sessions/summary".to_owned()),
        ("who is in now, a page", "sessions?limit=50".to_owned()),
        ("who is in now, narrowed", "sessions?platform=ios&below_version=2.4&limit=50".to_owned()),
        ("a user's past", format!("sessions?user=u_{:032x}", 7)),
        ("average by day, a year", "sessions/days?days=365".to_owned()),
    ];
    let questions = questions.map(|(what, path)| (what.to_owned(), path));
    let mut table = asked(&server, name, rows, &questions).await;
    table.extend(asked(&server, name, day::EVENTS, &day::questions()).await);
    server.end().await;
    table
}

async fn asked(
    server: &Server,
    name: &str,
    rows: u64,
    questions: &[(String, String)],
) -> Vec<Vec<String>> {
    let mut table = Vec::new();
    for (what, path) in questions {
        let mut took = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            server.get(&format!("{ENVIRONMENT}/{path}")).await;
            took.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        took.sort_by(f64::total_cmp);
        table.push(vec![
            format!("{what}, {name}"),
            number(rows as f64),
            number(percentile(&took, 0.5)),
            number(percentile(&took, 0.99)),
        ]);
    }
    table
}

/// A year of sessions of a tenth as many users.
#[expect(clippy::disallowed_methods, reason = "the sessions lie in the past of the real clock")]
async fn fill(folder: &TempDir, address: Option<&str>, rows: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
    let users = (rows / 10).max(1);
    let key = match address {
        None => format!("'u_' || printf('%032x', i % {users})"),
        Some(_) => format!("'u_' || lpad(to_hex(i % {users}), 32, '0')"),
    };
    let numbers = format!(
        "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
    );
    let began = format!("{now} - (i % 365) * 86400000 - (i % 86000) * 1000");
    let is_open = format!("i % {OPEN_ONE_IN} = 0");
    let statements = [
        format!(
            "{numbers} INSERT INTO user_sessions (environment, id, user_key, started_at, last_activity_at, ended_at, \
             session_duration_seconds, end_reason, platform, app_version, version_rank, country) \
             SELECT 'production', 's' || i, {key}, {began}, \
             CASE WHEN {is_open} THEN {now} - i % 86000000 ELSE {began} + 600000 END, \
             CASE WHEN {is_open} THEN NULL ELSE {began} + 600000 END, CASE WHEN {is_open} THEN NULL ELSE 600 END, \
             CASE WHEN {is_open} THEN NULL ELSE 'logout' END, CASE WHEN i % 3 = 0 THEN 'ios' ELSE 'android' END, \
             CASE WHEN i % 5 = 0 THEN '2.3.0' ELSE '2.4.0' END, \
             CASE WHEN i % 5 = 0 THEN 2000003000000 ELSE 2000004000000 END, 'DE' FROM n"
        ),
        "INSERT INTO session_days (environment, day, started, ended, seconds) SELECT environment, \
         started_at / 86400000 * 86400000, COUNT(*), COUNT(ended_at), COALESCE(SUM(session_duration_seconds), 0) \
         FROM user_sessions GROUP BY 1, 2"
            .to_owned(),
        "ANALYZE".to_owned(),
    ];
    run(folder, address, &statements).await;
}

/// Runs statements behind the server's back; SQLite keeps figures of its tables by itself.
pub async fn run(folder: &TempDir, address: Option<&str>, statements: &[String]) {
    let ours = statements.iter().filter(|one| address.is_some() || *one != "ANALYZE");
    let texts = ours.map(|one| AssertSqlSafe(one.clone()));
    if let Some(address) = address {
        let mut connection =
            sqlx::PgConnection::connect(address).await.expect("PostgreSQL answers");
        for text in texts {
            connection.execute(sqlx::query(text)).await.expect("the rows can be made");
        }
        return;
    }
    let options = SqliteConnectOptions::new().filename(folder.path().join("switchback.db"));
    let mut connection = options.connect().await.expect("the server's file is there");
    for text in texts {
        connection.execute(sqlx::query(text)).await.expect("the rows can be made");
    }
}
