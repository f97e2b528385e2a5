//! Auth events a second into a running server, beside the same rows inserted in batches into the same table on the same
//! store without anything kept beside them: `intake [--markdown] [--seconds N]`. Client, server and floor share this
//! machine's cores; the floor runs alone.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use switchback_bench::measure::process_rss_kib;
use switchback_bench::server::{Server, database};
use switchback_bench::table::{number, render};

/// Events of one request.
const BATCH: u64 = 1_000;
/// Requests at once.
const SENDERS: u64 = 4;
const SECONDS: u64 = 60;
/// The share of the floor that is wanted.
const AIM: f64 = 0.50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let markdown = arguments.iter().any(|argument| argument == "--markdown");
    let seconds = arguments
        .iter()
        .position(|argument| argument == "--seconds")
        .and_then(|place| arguments.get(place + 1)?.parse().ok())
        .unwrap_or(SECONDS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    print!("{}", runtime.expect("a runtime can be made").block_on(compare(markdown, seconds)));
}

#[expect(clippy::disallowed_methods, reason = "the server to measure on is named so")]
async fn compare(markdown: bool, seconds: u64) -> String {
    let head =
        ["store", "events/s", "bare inserts/s", "share", "aim", "memory after 5 s", "at the end"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    let postgres = std::env::var("SWITCHBACK_TEST_POSTGRES").expect(
        "SWITCHBACK_TEST_POSTGRES names a PostgreSQL: run it with `cargo xtask bench intake`",
    );
    for (name, is_postgres) in [("SQLite", false), ("PostgreSQL", true)] {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut variables = Vec::new();
        let own = if is_postgres { database(&postgres, "intake").await } else { String::new() };
        if is_postgres {
            variables.push(("SWITCHBACK_DATABASE_URL", own.as_str()));
        }
        let server = Server::start_with(&folder, "127.0.0.1:0", &variables).await;
        let (rate, early, late) = ours(&server, seconds).await;
        server.end().await;
        let address = if is_postgres {
            database(&postgres, "floor").await
        } else {
            folder.path().join("floor.db").display().to_string()
        };
        let bare = floor(&address, seconds.min(20)).await;
        table.push(vec![
            name.to_owned(),
            number(rate),
            number(bare),
            format!("{:.2}", rate / bare),
            format!("{AIM:.2}"),
            format!("{} MiB", number(early / 1024.0)),
            format!("{} MiB", number(late / 1024.0)),
        ]);
    }
    render(&table, markdown)
}

async fn ours(server: &Server, seconds: u64) -> (f64, f64, f64) {
    let body = json!({"name": "bench", "kind": "events", "environment": "production"});
    let made = server.send(Method::POST, "/api/v1/tokens", Some(body)).await;
    let token = made.get("token").and_then(Value::as_str).expect("a token").to_owned();
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let mut senders = Vec::new();
    for sender in 0..SENDERS {
        let (url, token) = (format!("{}/api/v1/auth-events", server.url), token.clone());
        senders.push(tokio::spawn(async move {
            let client =
                reqwest::Client::builder().no_proxy().build().expect("a client can be made");
            let mut sent = 0;
            while Instant::now() < until {
                let events: Vec<Value> = (0..BATCH).map(|n| event(sender, sent + n)).collect();
                let answer = client.post(&url).bearer_auth(&token).json(&events).send().await;
                let answer = answer.expect("the server answers");
                assert!(answer.status().is_success(), "{}", answer.status());
                sent += BATCH;
            }
            sent
        }));
    }
    tokio::time::sleep(Duration::from_secs(5.min(seconds / 2))).await;
    let early = process_rss_kib(server.id());
    let mut sent = 0;
    for sender in senders {
        sent += sender.await.expect("the sender ends");
    }
    let rate = sent as f64 / begun.elapsed().as_secs_f64();
    (rate, early, process_rss_kib(server.id()))
}

fn event(sender: u64, n: u64) -> Value {
    let platform = if n.is_multiple_of(3) { "ios" } else { "android" };
    json!({
        "id": format!("{sender}-{n:012}"), "type": if n.is_multiple_of(50) { "login_failure" } else { "login_success" },
        "user_id": format!("user{}", n % 100_000), "platform": platform,
        "app_version": "7.2.0", "latency_ms": 20 + n % 60,
    })
}

/// The same rows into the same table, a thousand in one transaction with the server's own statement of many rows.
async fn floor(address: &str, seconds: u64) -> f64 {
    let store = switchback_store::open(address).await.expect("a store can be opened").store;
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let mut sent = 0_u64;
    while Instant::now() < until {
        let row = |n: u64| switchback_store::AuthEventRow {
            id: format!("0-{n:012}"),
            kind: "login_success".to_owned(),
            at: n as i64,
            received_at: n as i64,
            user_key: Some(format!("u_{:032x}", u128::from(n % 100_000) * 0x9e37_79b9_7f4a_7c15)),
            session_id: None,
            platform: Some("ios".to_owned()),
            app_version: Some("7.2.0".to_owned()),
            country: None,
            latency_ms: Some(40),
            error: None,
            variants: None,
            source: "token:bench".to_owned(),
        };
        let rows: Vec<_> = (sent..sent + BATCH).map(row).collect();
        let batch = switchback_store::NewEvents {
            environment: "production",
            source: "token:bench",
            rows: &rows,
            refused: (0, None),
            at: 0,
        };
        let batches = std::slice::from_ref(&batch);
        store.add_auth_events(batches, |_| Vec::new()).await.expect("rows can be inserted");
        sent += BATCH;
    }
    let rate = sent as f64 / begun.elapsed().as_secs_f64();
    store.close().await;
    rate
}
