//! What sessions of the app's users cost: 1,000 clients that log in at once while 100 others log out, and 1,000 that log out at
//! once, beside 1,000 bare inserts of the same row at once into the same kind of store; with `--large`, how long looking takes among ten million.
//!
//! `sessions [--markdown] [--clients N] [--rounds N] [--large] [--rows N]`; `SWITCHBACK_TEST_POSTGRES` names a PostgreSQL, as
//! `cargo xtask bench` does.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

mod bare;
mod day;
mod large;

use std::time::Instant;

use reqwest::Client;
use serde_json::{Value, json};
use switchback_bench::measure::percentile;
use switchback_bench::server::{SDK, Server, database};
use switchback_bench::table::{number, render};
use switchback_tests::fleet::raise_open_files;

const CLIENTS: usize = 1_000;
const ROUNDS: usize = 5;
const ROWS: u64 = 10_000_000;

#[tokio::main(worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the server to measure on is named so")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let place = arguments.iter().position(|word| word == name)?;
        arguments.get(place + 1)?.parse::<u64>().ok()
    };
    let has = |name: &str| arguments.iter().any(|word| word == name);
    let clients = after("--clients").map_or(CLIENTS, |clients| clients.max(1) as usize);
    let rounds = after("--rounds").map_or(ROUNDS, |rounds| rounds.max(1) as usize);
    let postgres = std::env::var("SWITCHBACK_TEST_POSTGRES").expect(
        "SWITCHBACK_TEST_POSTGRES names a PostgreSQL: run it with `cargo xtask bench sessions`",
    );
    let _ = rustls::crypto::ring::default_provider().install_default();
    raise_open_files();

    if has("--large") {
        let rows = after("--rows").unwrap_or(ROWS);
        let mut table = vec![large::HEAD.map(str::to_owned).to_vec()];
        for (name, address) in
            [("SQLite", None), ("PostgreSQL", Some(database(&postgres, "sessions").await))]
        {
            table.extend(large::measure(name, address.as_deref(), rows).await);
        }
        println!("{}", render(&table, has("--markdown")));
        return;
    }
    let head = ["at once", "calls", "p50 ms", "p99 ms", "x floor at p99", "aim p99 ms"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for (name, address) in
        [("SQLite", None), ("PostgreSQL", Some(database(&postgres, "sessions").await))]
    {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut floor = bare::insert(&folder, address.as_deref(), clients, rounds).await;
        let mut variables = Vec::new();
        variables.extend(address.as_deref().map(|address| ("SWITCHBACK_DATABASE_URL", address)));
        let server = Server::start_with(&folder, "127.0.0.1:0", &variables).await;
        let (mut logins, mut logouts, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
        let http = Client::builder().no_proxy().build().expect("a client can be made");
        at_once(&http, &server.url, clients, |_| ("/healthz", Value::Null)).await; // connects
        for round in 0..rounds {
            let user = |client: usize| format!("user-{round}-{client}");
            let login = |client: usize| {
                let body = json!({"user_id": user(client), "platform": "ios", "app_version": "2.4.1", "country": "DE"});
                ("/api/v1/sessions/login", body)
            };
            let logout =
                |client: usize| ("/api/v1/sessions/logout", json!({"user_id": user(client)}));
            // One in eleven leaves while all others come.
            let leaves = |client: usize| client % 11 == 10;
            let all = clients + clients / 10;
            at_once(&http, &server.url, all / 11, |place| login(place * 11 + 10)).await;
            let mixed = |client: usize| if leaves(client) { logout(client) } else { login(client) };
            for (client, took) in
                at_once(&http, &server.url, all, mixed).await.into_iter().enumerate()
            {
                if leaves(client) { leaving.push(took) } else { logins.push(took) }
            }
            let stays = |place: usize| place + place / 10;
            logouts
                .extend(at_once(&http, &server.url, clients, |place| logout(stays(place))).await);
        }
        server.end().await;
        floor.sort_by(f64::total_cmp);
        let least = percentile(&floor, 0.99);
        let mut row = |what: &str, mut took: Vec<f64>, aim: &str| {
            took.sort_by(f64::total_cmp);
            let (p50, p99) = (percentile(&took, 0.5), percentile(&took, 0.99));
            table.push(vec![
                format!("{what}, {name}"),
                took.len().to_string(),
                number(p50),
                number(p99),
                number(p99 / least),
                aim.to_owned(),
            ]);
        };
        row("floor: bare insert", floor, "-");
        row("login", logins, "200");
        row("logout among them", leaving, "150");
        row("logout, as many at once", logouts, "-");
    }
    println!("{}", render(&table, has("--markdown")));
}

/// Milliseconds of each client's request when all send theirs at the same moment.
async fn at_once(
    http: &Client,
    url: &str,
    clients: usize,
    what: impl Fn(usize) -> (&'static str, Value),
) -> Vec<f64> {
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(clients));
    let calls = (0..clients).map(|client| {
        let (path, body) = what(client);
        let request = match &body {
            Value::Null => http.get(format!("{url}{path}")),
            body => http.post(format!("{url}{path}")).bearer_auth(SDK).json(body),
        };
        let start = std::sync::Arc::clone(&start);
        tokio::spawn(async move {
            start.wait().await;
            let began = Instant::now();
            let answer = request.send().await.expect("the server answers");
            let status = answer.status();
            let text = answer.text().await.expect("the answer can be read");
            let took = began.elapsed().as_secs_f64() * 1_000.0;
            assert!(status.is_success() && status.as_u16() != 202, "{status} {text}");
            took
        })
    });
    let mut took = Vec::with_capacity(clients);
    for call in calls.collect::<Vec<_>>() {
        took.push(call.await.expect("a client goes on"));
    }
    took
}
