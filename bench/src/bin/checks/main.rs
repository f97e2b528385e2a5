//! Consistency checks over a million users on PostgreSQL: the monitor at one second while sign-ups go half through, and a backfill of
//! 100,000 rows beside the same fix as one plain statement for each batch.
//!
//! `checks [--markdown] [--users N] [--seconds N] [--rows N]`; `SWITCHBACK_TEST_POSTGRES` names a PostgreSQL, as `cargo xtask bench` does.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

mod postgres;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row as _};
use switchback_bench::measure::percentile;
use switchback_bench::server::{Server, database};
use switchback_bench::table::{number, render};

/// The shipped pack, on the tables that its tests have.
const PACK: &str = include_str!("../../../../runbooks/checks/signups.yaml");
const TABLES: &str = include_str!("../../../../tests/checks/supabase.sql");
const USERS: u64 = 1_000_000;
const SECONDS: u64 = 600;
const ROWS: u64 = 100_000;
/// Between two sign-ups that go half through: 25 a minute.
const FAULT_EVERY: Duration = Duration::from_millis(2_400);
const BATCH: u64 = 100;

#[tokio::main(worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the server to measure on is named so")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str, or: u64| {
        let place = arguments.iter().position(|word| word == name);
        let given = place.and_then(|place| arguments.get(place + 1)?.parse::<u64>().ok());
        given.unwrap_or(or)
    };
    let markdown = arguments.iter().any(|word| word == "--markdown");
    let server = std::env::var("SWITCHBACK_TEST_POSTGRES").expect(
        "SWITCHBACK_TEST_POSTGRES names a PostgreSQL: run it with `cargo xtask bench checks`",
    );
    let address = database(&server, "checks").await;
    let pool = PgPool::connect(&address).await.expect("PostgreSQL answers");
    let users = after("--users", USERS);
    fill(&pool, users).await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = Server::start_with(&folder, "127.0.0.1:0", &[("APP_DATABASE", &address)]).await;
    use_pack(&server).await;
    let watched = watch(&server, &pool, after("--seconds", SECONDS)).await;
    let repaired = backfill(&server, &pool, after("--rows", ROWS)).await;
    server.end().await;
    println!("{}", render(&watched, markdown));
    println!("{}", render(&repaired, markdown));
}

/// Users who are whole, and the indexes that the pack recommends.
async fn fill(pool: &PgPool, users: u64) {
    let rows = format!(
        "INSERT INTO auth.users (id, aud, role, email, phone, phone_confirmed_at, email_confirmed_at, raw_app_meta_data, \
         created_at, updated_at, is_sso_user, is_anonymous) SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, \
         'authenticated', 'authenticated', 'user' || n || '@example.com', '614' || lpad(n::text, 8, '0'), now(), now(), \
         '{{\"provider\": \"phone\"}}', now() - interval '1 hour' - n * interval '30 seconds', \
         now() - interval '1 hour' - n * interval '30 seconds', false, false FROM generate_series(1, {users}) AS n; \
         INSERT INTO public.profiles (id, phone, email, is_verified, created_at) SELECT id, '+' || phone, email, true, created_at \
         FROM auth.users ON CONFLICT (id) DO NOTHING; \
         ANALYZE"
    );
    // What the pack recommends, without CONCURRENTLY: nobody signs up yet.
    let advice: String = PACK
        .split("CREATE INDEX CONCURRENTLY ")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .fold(String::new(), |all, index| format!("{all}CREATE INDEX IF NOT EXISTS {index};"));
    for text in [TABLES.to_owned(), rows, advice, "VACUUM ANALYZE".to_owned()] {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(pool).await.expect("the tables can be made");
    }
}

async fn use_pack(server: &Server) {
    let settings = json!({"name": "app", "credentials": "env:APP_DATABASE", "access": "read_write",
        "statement_timeout_ms": 60_000});
    let body = json!({"settings": settings, "reason": "a benchmark"});
    server.send(Method::PUT, "/api/v1/data-sources/app", Some(body)).await;
    let pack = PACK
        .replace("observe_for: 1h", "observe_for: 0s")
        .replace("event: 1s", "event: 1s, cooldown: 0s");
    server.send(Method::PUT, "/api/v1/checks/signups", Some(json!({"source": pack}))).await;
    let body = json!({"source": "app"});
    server.send(Method::PATCH, "/api/v1/checks/signups/settings", Some(body)).await;
}

/// The monitor in event mode while somebody's sign-up goes half through now and then.
async fn watch(server: &Server, pool: &PgPool, seconds: u64) -> Vec<Vec<String>> {
    let body = json!({"mode": "fix", "event_minutes": 60});
    server.send(Method::PATCH, "/api/v1/checks/signups/settings", Some(body)).await;
    // The first looks are at everything.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let (cpu, begun) = (postgres::cpu_seconds(pool).await, Instant::now());
    let until = begun + Duration::from_secs(seconds);
    let (mut healed_ms, mut detect_ms, mut full_ms) = (Vec::new(), Vec::new(), Vec::new());
    let mut number_of = 0_u64;
    while Instant::now() < until {
        let round = Instant::now();
        number_of += 1;
        let id = half_a_sign_up(pool, number_of).await;
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let there =
                sqlx::query("SELECT 1 FROM public.profiles WHERE id = $1::text::uuid").bind(&id);
            if there.fetch_optional(pool).await.expect("PostgreSQL answers").is_some() {
                healed_ms.push(round.elapsed().as_secs_f64() * 1_000.0);
                break;
            }
            assert!(round.elapsed() < Duration::from_mins(1), "{id} is not healed");
        }
        let detail = server.get("/api/v1/checks/signups").await;
        let checks = detail.pointer("/view/checks").and_then(Value::as_array).cloned();
        for check in checks.unwrap_or_default() {
            let took = |name: &str| {
                let micros = check.pointer(&format!("/state/{name}")).and_then(Value::as_f64);
                micros.filter(|micros| *micros > 0.0).map(|micros| micros / 1_000.0)
            };
            detect_ms.extend(took("took_us"));
            full_ms.extend(took("took_full_us"));
        }
        tokio::time::sleep(FAULT_EVERY.saturating_sub(round.elapsed())).await;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let share = (postgres::cpu_seconds(pool).await - cpu) / elapsed * 100.0;
    let body = json!({"mode": "off"});
    server.send(Method::PATCH, "/api/v1/checks/signups/settings", Some(body)).await;
    let head = ["one-second loop", "p50", "p99", "aim"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    let mut row = |name: &str, mut values: Vec<f64>, aim: &str| {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| format!("{} ms", number(percentile(&values, share)));
        table.push(vec![name.to_owned(), at(0.5), at(0.99), aim.to_owned()]);
    };
    row("detect, the last ten minutes, each check", detect_ms, "p99 20 ms");
    row("detect, everything, each check", full_ms, "-");
    row("found to healed, as the app's database sees it", healed_ms, "p99 1,500 ms");
    let share = format!("{} % of a core", number(share));
    table.push(vec!["PostgreSQL's CPU".to_owned(), share, "-".to_owned(), "10 %".to_owned()]);
    table
}

/// A user whose profile is not written.
async fn half_a_sign_up(pool: &PgPool, number: u64) -> String {
    let row = sqlx::query(
        "INSERT INTO auth.users (id, aud, role, phone, phone_confirmed_at, raw_app_meta_data, created_at, updated_at, \
         is_sso_user, is_anonymous) VALUES (gen_random_uuid(), 'authenticated', 'authenticated', '615' || lpad($1::text, 8, '0'), \
         now(), '{\"provider\": \"phone\"}', now(), now(), false, false) RETURNING id::text",
    );
    let row = row.bind(number.to_string()).fetch_one(pool).await.expect("a user can be added");
    row.get(0)
}

/// A backfill of many rows, and the floor: one statement for each batch that finds and fixes, committed by itself.
async fn backfill(server: &Server, pool: &PgPool, rows: u64) -> Vec<Vec<String>> {
    let detect = "SELECT u.id AS key FROM auth.users AS u WHERE u.deleted_at IS NULL AND NOT u.is_anonymous \
                  AND (u.banned_until IS NULL OR u.banned_until <= now()) \
                  AND NOT EXISTS (SELECT FROM public.profiles AS p WHERE p.id = u.id)";
    let plain = format!(
        "WITH k AS (SELECT d.key FROM ({detect}) AS d WHERE d.key > $1::text::uuid ORDER BY d.key LIMIT {BATCH}), \
         i AS (INSERT INTO public.profiles (id, phone, email, is_verified) SELECT u.id, '+' || NULLIF(u.phone, ''), \
         NULLIF(u.email, ''), u.confirmed_at IS NOT NULL FROM auth.users AS u JOIN k ON k.key = u.id \
         ON CONFLICT DO NOTHING RETURNING id) SELECT max(key::text), count(*) FROM k"
    );
    remove(pool, rows).await;
    let begun = Instant::now();
    let mut cursor = "00000000-0000-0000-0000-000000000000".to_owned();
    let mut plainly = 0_u64;
    loop {
        let row = sqlx::query(AssertSqlSafe(plain.clone())).bind(&cursor).fetch_one(pool).await;
        let row = row.expect("the fix runs");
        let Some(last) = row.get::<Option<String>, _>(0) else { break };
        plainly += row.get::<i64, _>(1).cast_unsigned();
        cursor = last;
    }
    let floor = plainly as f64 / begun.elapsed().as_secs_f64();

    remove(pool, rows).await;
    let body = json!({"dry_run": false, "check": "profile_missing", "batch_size": BATCH, "reason": "a benchmark"});
    let begun = Instant::now();
    let answer = server.send(Method::POST, "/api/v1/checks/signups/backfill", Some(body)).await;
    let id = answer.pointer("/run/id").and_then(Value::as_str).expect("a run begins").to_owned();
    let run = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let run = server.get(&format!("/api/v1/repair-runs/{id}")).await;
        if run.get("finished_at").is_some_and(Value::is_number) {
            break run;
        }
    };
    let ours = rows as f64 / begun.elapsed().as_secs_f64();
    assert_eq!(run.get("verdict"), Some(&json!("PASS")), "{run}");
    let head = ["backfill, batches of 100", "rows/s", "share of the floor", "aim"];
    let row = |name: &str, rate: f64, aim: &str| {
        vec![name.to_owned(), number(rate), format!("{:.2}", rate / floor), aim.to_owned()]
    };
    vec![
        head.map(str::to_owned).to_vec(),
        row("floor: one statement for each batch", floor, "-"),
        row("a run of repairs, with journal, findings and log", ours, "0.50"),
    ]
}

async fn remove(pool: &PgPool, rows: u64) {
    let text = format!(
        "DELETE FROM public.profiles WHERE id IN (SELECT id FROM public.profiles ORDER BY md5(id::text) LIMIT {rows})"
    );
    sqlx::raw_sql(AssertSqlSafe(text)).execute(pool).await.expect("profiles can be removed");
    sqlx::raw_sql("VACUUM ANALYZE public.profiles")
        .execute(pool)
        .await
        .expect("it can be analyzed");
}
