//! Readers of the status page while the database is stopped: each answer is counted by its status.

use std::collections::BTreeMap;
use std::time::Instant;

use reqwest::Method;
use serde_json::json;
use switchback_bench::load;
use switchback_bench::server::{Server, database};
use switchback_bench::table::{number, render};
use switchback_tests::link::Link;

/// Connections at once.
const CONNECTIONS: usize = 32;
/// The file that every visitor asks for, and what programs read.
const PATHS: [&str; 2] = ["/status", "/api/v2/summary.json"];

/// Lets so many readers come, half to the page and half to its summary.
pub async fn ask(postgres: &str, readers: usize, markdown: bool) -> String {
    let own = database(postgres, "outage").await;
    let (user, rest) = own.split_once('@').expect("an address names a user");
    let (host, name) = rest.split_once('/').expect("an address ends with a database");
    let link = Link::to(host).await;
    let address = format!("{user}@{}/{name}", link.address);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let variables = [("SWITCHBACK_DATABASE_URL", address.as_str())];
    let server = Server::start_with(&folder, "127.0.0.1:0", &variables).await;
    let body = json!({"name": "Sign-in is slow", "body": "We look."});
    server.send(Method::POST, "/api/v1/incidents", Some(body)).await;
    link.cut();

    let host = server.url.trim_start_matches("http://").to_owned();
    let head = ["asked while the database is stopped", "answers", "200", "5xx", "requests/s"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for path in PATHS {
        let request = load::request(&host, path, "none", "Accept-Encoding: gzip\r\n");
        let begun = Instant::now();
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|worker| {
                let (host, request) = (host.clone(), request.clone());
                let share = (readers / PATHS.len() + worker) / CONNECTIONS;
                tokio::spawn(async move { load::statuses(&host, &request, share).await })
            })
            .collect();
        let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
        for worker in workers {
            for (status, count) in worker.await.expect("each connection is answered") {
                *seen.entry(status).or_default() += count;
            }
        }
        let all: usize = seen.values().sum();
        let bad: usize = seen.range(500..).map(|(_, count)| count).sum();
        table.push(vec![
            path.to_owned(),
            number(all as f64),
            number(seen.get(&200).copied().unwrap_or(0) as f64),
            number(bad as f64),
            number(all as f64 / begun.elapsed().as_secs_f64()),
        ]);
        assert_eq!(bad, 0, "{path}: nobody is turned away");
    }
    server.kill().await;
    render(&table, markdown)
}
