//! The same rollback with the database kit: flags mirrored into the app's PostgreSQL, and a million rows that must not get lost,
//! looked at before and after.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;
use switchback_bench::measure::{machine_ns, percentile};
use switchback_bench::server::{ENVIRONMENT, SDK, Server, database};
use switchback_bench::table::number;

use crate::apps::Apps;
use crate::{REVISIONS, until};

/// Rows that are preserved.
const ROWS: u64 = 1_000_000;
const ROUNDS: usize = 3;
/// A run that takes longer has failed; five minutes are the promise.
const RUN_WITHIN: Duration = Duration::from_mins(5);

/// Measures some runs on a PostgreSQL of `server`.
pub async fn measure(server: &str, clients: usize) -> Vec<Vec<String>> {
    let address = database(server, "rollback").await;
    let pool = PgPool::connect(&address).await.expect("PostgreSQL answers");
    let rows = format!(
        "CREATE SCHEMA auth; CREATE TABLE auth.users (id UUID PRIMARY KEY, email TEXT NOT NULL); \
         INSERT INTO auth.users SELECT gen_random_uuid(), 'user' || n || '@example.com' FROM generate_series(1, {ROWS}) AS n; \
         ANALYZE"
    );
    sqlx::raw_sql(AssertSqlSafe(rows)).execute(&pool).await.expect("the rows can be made");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = Server::start_with(&folder, "127.0.0.1:0", &[("APP_DATABASE", &address)]).await;
    let settings = json!({"name": "app", "credentials": "env:APP_DATABASE", "access": "read_write",
        "statement_timeout_ms": 60_000});
    let body = json!({"settings": settings, "reason": "a benchmark"});
    server.send(Method::PUT, "/api/v1/data-sources/app", Some(body)).await;
    let body = json!({"environment": "production", "reason": "a benchmark"});
    server.send(Method::PUT, "/api/v1/data-sources/app/mirror", Some(body)).await;
    let mut apps = Apps::start(&server.url, SDK, clients).await;
    let (mut in_force, mut whole, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (first, last) = one_run(&server, &mut apps).await;
        in_force.push(first);
        whole.push(last);
        let sent = machine_ns();
        for _ in 0..2 {
            let count = sqlx::query("SELECT count(*), sum(hashtext(id::text)) FROM auth.users");
            count.execute(&pool).await.expect("PostgreSQL counts");
        }
        floor.push((machine_ns() - sent) as f64 / 1e9);
    }
    apps.end().await;
    server.end().await;
    table(clients, [in_force, whole, floor])
}

/// Seconds until 99 % have it in force, and until the run is over with its data proved.
async fn one_run(server: &Server, apps: &mut Apps) -> (f64, f64) {
    let before = server.get(ENVIRONMENT).await["revision"].as_u64().expect("a revision");
    let body = json!({
        "environment": "production",
        "reason": "sign-in fails for everybody",
        "inputs": {"reason": "sign-in fails for everybody"},
    });
    let sent = machine_ns();
    let since = |at: f64| (at - sent as f64) / 1e9;
    let path = "/api/v1/playbooks/auth-rollback-db/runs";
    let run = server.send(Method::POST, path, Some(body)).await;
    let run = format!("/api/v1/runs/{}", run["id"].as_str().expect("the run has an id"));
    let over = |answer: &Value| answer["run"]["finished_at"].is_i64();
    let reached = async { tokio::join!(apps.have(before + REVISIONS), until(server, &run, over)) };
    let reached = tokio::time::timeout(RUN_WITHIN, reached).await;
    let (in_force, (ended, answer)) = reached.expect("a run takes no five minutes");
    assert_eq!(answer["state"], json!("succeeded"), "{answer}");
    let kept = answer["view"]["preserve"]["users"]["after"].as_bool();
    assert_eq!(kept, Some(true), "nothing got lost: {answer}");
    let incidents = server.get("/api/v1/incidents?open=true").await;
    let incident = incidents["items"][0]["id"].as_str().expect("the incident has an id");
    let resolve = json!({"status": "resolved", "body": "The benchmark goes on."});
    let path = format!("/api/v1/incidents/{incident}/updates");
    server.send(Method::POST, &path, Some(resolve)).await;
    server.set_flag("auth_enabled", true).await;
    let last = server.set_flag("auth_bypass", false).await;
    apps.have(last["revision"].as_u64().expect("a revision")).await;
    (since(in_force.0), since(ended))
}

fn table(clients: usize, figures: [Vec<f64>; 3]) -> Vec<Vec<String>> {
    let head = [
        "with the database kit, from the request to",
        "clients",
        "rows",
        "best s",
        "p50 s",
        "worst s",
        "aim s",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let names = [
        ("99 % have it in force", ""),
        ("the run is over, its data proved", "60"),
        ("floor: the database counts and hashes the rows twice", ""),
    ];
    for ((name, aim), mut all) in names.into_iter().zip(figures) {
        all.sort_by(f64::total_cmp);
        let mut row = vec![name.to_owned()];
        let of = |share| percentile(&all, share);
        row.extend([clients as f64, ROWS as f64, of(0.0), of(0.5), of(1.0)].map(number));
        row.push(aim.to_owned());
        rows.push(row);
    }
    rows
}
