//! What playbooks cost beside their own effects: a run of five empty steps on both databases, and looking at a table of a
//! million rows that must not lose any, beside counting and hashing them in the database.
//!
//! `playbook [--markdown] [--rounds N] [--rows N]`; `SWITCHBACK_TEST_POSTGRES` names a PostgreSQL, as `cargo xtask bench` does.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

mod preserve;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use switchback_bench::measure::percentile;
use switchback_bench::server::{Server, database};
use switchback_bench::table::{number, render};
use tempfile::TempDir;

const ROUNDS: usize = 50;
const ROWS: u64 = 1_000_000;
const ASK_EVERY: Duration = Duration::from_millis(2);
const FIVE: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: five, title: Five empty steps}
spec:
  deadline: 1m
  steps:
    - {id: a, log: {message: a}}
    - {id: b, log: {message: b}}
    - {id: c, log: {message: c}}
    - {id: d, log: {message: d}}
    - {id: e, log: {message: e}}
";

#[tokio::main(worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the server to measure on is named so")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let place = arguments.iter().position(|word| word == name)?;
        arguments.get(place + 1)?.parse::<u64>().ok()
    };
    let markdown = arguments.iter().any(|word| word == "--markdown");
    let rounds = after("--rounds").map_or(ROUNDS, |rounds| rounds.max(1) as usize);
    let postgres = std::env::var("SWITCHBACK_TEST_POSTGRES").expect(
        "SWITCHBACK_TEST_POSTGRES names a PostgreSQL: run it with `cargo xtask bench playbook`",
    );
    let address = database(&postgres, "playbook").await;

    let head = ["a run of five empty steps", "runs", "best ms", "p50 ms", "p99 ms", "aim ms"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (name, address, aim) in [("SQLite", None, 50), ("PostgreSQL", Some(&address), 100)] {
        let mut took = overhead(address.map(String::as_str), rounds).await;
        took.sort_by(f64::total_cmp);
        let best = took.first().copied().unwrap_or_default();
        rows.push(vec![
            name.to_owned(),
            took.len().to_string(),
            number(best),
            number(percentile(&took, 0.5)),
            number(percentile(&took, 0.99)),
            aim.to_string(),
        ]);
    }
    println!("{}", render(&rows, markdown));
    println!(
        "{}",
        render(&preserve::measure(&address, after("--rows").unwrap_or(ROWS)).await, markdown)
    );
}

/// Milliseconds from a run's first row to its last.
async fn overhead(address: Option<&str>, rounds: usize) -> Vec<f64> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let runbooks = TempDir::new().expect("a temporary folder can be made");
    std::fs::write(runbooks.path().join("five.yaml"), FIVE).expect("it can be written to");
    let path = runbooks.path().display().to_string();
    let mut variables = vec![("SWITCHBACK_RUNBOOKS_DIR", path.as_str())];
    variables.extend(address.map(|address| ("SWITCHBACK_DATABASE_URL", address)));
    let server = Server::start_with(&folder, "127.0.0.1:0", &variables).await;
    let mut took = Vec::new();
    for _ in 0..rounds {
        let body = json!({"environment": "staging", "reason": "a round of the benchmark"});
        let run = server.send(Method::POST, "/api/v1/playbooks/five/runs", Some(body)).await;
        let path = format!(
            "/api/v1/runs/{}",
            run.pointer("/id").and_then(Value::as_str).unwrap_or_default()
        );
        loop {
            let detail = server.get(&path).await;
            let at = |pointer: &str| detail.pointer(pointer).and_then(Value::as_i64);
            if let (Some(from), Some(to)) = (at("/run/created_at"), at("/run/finished_at")) {
                assert_eq!(detail.pointer("/state"), Some(&json!("succeeded")), "{detail}");
                took.push((to - from) as f64);
                break;
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    server.end().await;
    took
}
