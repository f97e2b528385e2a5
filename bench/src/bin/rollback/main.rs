//! How long a rollback takes: from the request that starts `auth-rollback` until 99 % of 1,000 apps with
//! the real SDK have it, and until the incident is visible; beside what the same number of commits and
//! one bare broadcast cost, in the same run.
//!
//! `rollback [--markdown] [--rounds N] [--clients N]` prints the table; its other arguments are for the
//! processes that it starts for itself. Where `SWITCHBACK_TEST_POSTGRES` names a PostgreSQL, the rollback with the database kit follows.
#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "printing is its purpose")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

mod apps;
mod database;

use std::path::Path;
use std::time::Duration;

use apps::Apps;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use switchback_bench::fleet::{self, Fleet};
use switchback_bench::floor;
use switchback_bench::helper::Helper;
use switchback_bench::measure::{machine_ns, percentile, process_rss_kib};
use switchback_bench::server::{ENVIRONMENT, SDK, Server};
use switchback_bench::table::{number, render};
use switchback_tests::fleet::raise_open_files;

const ROUNDS: usize = 30;
const CLIENTS: usize = 1_000;
/// Flag changes of the playbook: the bypass goes on, authentication goes off.
const REVISIONS: u64 = 2;
/// Commits before authentication is off: the run, its lease, and intent and outcome of two steps.
const COMMITS_TO_FLAGS: usize = 6;
/// And until the incident is open: its intent, the incident itself.
const COMMITS_TO_INCIDENT: usize = 8;
/// How often it is asked whether everybody has it, and whether the incident is there.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// A run that takes longer has failed.
const RUN_WITHIN: Duration = Duration::from_mins(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let many = |clients: &str| clients.parse().expect("a number of clients");
    match words.as_slice() {
        ["floor"] => runtime.block_on(floor::serve()),
        ["clients", address, token, clients] => {
            runtime.block_on(fleet::run((*address).into(), (*token).into(), many(clients)));
        }
        ["apps", url, token, clients] => {
            runtime.block_on(apps::run((*url).into(), (*token).into(), many(clients)));
        }
        _ => runtime.block_on(measure(&words)),
    }
}

/// Milliseconds of every run.
#[derive(Default)]
struct Figures {
    in_force: Vec<f64>,
    acknowledged: Vec<f64>,
    visible: Vec<f64>,
    floor_flags: Vec<f64>,
    floor_incident: Vec<f64>,
}

async fn measure(words: &[&str]) {
    let after = |name: &str| {
        let place = words.iter().position(|word| *word == name)?;
        words.get(place + 1)?.parse::<usize>().ok()
    };
    let rounds = after("--rounds").unwrap_or(ROUNDS).max(1);
    let clients = after("--clients").unwrap_or(CLIENTS);
    raise_open_files();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = Server::start(&folder).await;
    let mut apps = Apps::start(&server.url, SDK, clients).await;
    let mut bare = Helper::start(&["floor"]);
    let bare_address = bare.next().await;
    let mut bare_fleet = Fleet::start(&bare_address, SDK, clients).await;
    let mut commits = Commits::open(folder.path()).await;

    let mut figures = Figures::default();
    for round in 0..rounds {
        one_run(&server, &mut apps, &mut figures).await;
        let to_flags = commits.time(COMMITS_TO_FLAGS).await;
        let to_incident = to_flags + commits.time(COMMITS_TO_INCIDENT - COMMITS_TO_FLAGS).await;
        let sent = machine_ns();
        // As long as the playbook's own deltas.
        let frame =
            format!(r#"{{"type":"delta","epoch":"floor","to":{round},{:300}}}"#, r#""flags":[]"#);
        bare.say(&frame).await;
        let broadcast = (bare_fleet.next().await.p99 - sent as f64) / 1e6;
        figures.floor_flags.push(to_flags + broadcast);
        figures.floor_incident.push(to_incident);
    }
    apps.end().await;
    bare_fleet.end().await;
    bare.end().await;
    let (started_in, idle_mib) = restart(server, &folder).await;
    print(&figures, clients, words.contains(&"--markdown"));
    if let Some(postgres) = postgres() {
        let rows = database::measure(&postgres, clients).await;
        println!("\n{}", render(&rows, words.contains(&"--markdown")));
    }
    println!(
        "\nA second start, to the first answer: {} ms; the server then holds {} MiB.",
        number(started_in),
        number(idle_mib)
    );
}

#[expect(clippy::disallowed_methods, reason = "the server to measure on is named so")]
fn postgres() -> Option<String> {
    std::env::var("SWITCHBACK_TEST_POSTGRES").ok()
}

async fn one_run(server: &Server, apps: &mut Apps, figures: &mut Figures) {
    let before = server.get(ENVIRONMENT).await["revision"].as_u64().expect("a revision");
    let body = json!({
        "environment": "production",
        "reason": "sign-in fails for everybody",
        "inputs": {"reason": "sign-in fails for everybody"},
    });
    let goal = before + REVISIONS;
    let sent = machine_ns();
    let since = |at: f64| (at - sent as f64) / 1e6;
    let path = "/api/v1/playbooks/auth-rollback/runs";
    let run = server.send(Method::POST, path, Some(body)).await;
    let convergence = format!("{ENVIRONMENT}/convergence?revision={goal}");
    let has_99 = |answer: &Value| {
        let count = |name: &str| answer[name].as_u64().unwrap_or(0);
        count("connected") > 0 && count("acked") * 100 >= count("connected") * 99
    };
    // The public page, as a customer reads it: what is open stands under this heading.
    let is_told = |page: &Value| page.as_str().is_some_and(|page| page.contains("<h2 id=\"now\">"));
    let reached = async {
        tokio::join!(
            apps.have(goal),
            until(server, &convergence, has_99),
            until(server, "/status", is_told),
        )
    };
    let (in_force, (acknowledged, _), (visible, _)) =
        tokio::time::timeout(RUN_WITHIN, reached).await.expect("a run takes no minute");
    figures.in_force.push(since(in_force.0));
    figures.acknowledged.push(since(acknowledged));
    figures.visible.push(since(visible));

    let run = format!("/api/v1/runs/{}", run["id"].as_str().expect("the run has an id"));
    let over = |answer: &Value| answer["run"]["finished_at"].is_i64();
    let ended = tokio::time::timeout(RUN_WITHIN, until(server, &run, over));
    ended.await.expect("the run ends");
    let incidents = server.get("/api/v1/incidents?open=true").await;
    let incident = incidents["items"][0]["id"].as_str().expect("the incident has an id");
    let resolve = json!({"status": "resolved", "body": "The benchmark goes on."});
    server
        .send(Method::POST, &format!("/api/v1/incidents/{incident}/updates"), Some(resolve))
        .await;
    server.set_flag("auth_enabled", true).await;
    let last = server.set_flag("auth_bypass", false).await;
    apps.have(last["revision"].as_u64().expect("a revision")).await;
}

/// Asks until the answer is as wanted; when that was, and the answer.
async fn until(server: &Server, path: &str, wanted: impl Fn(&Value) -> bool) -> (f64, Value) {
    loop {
        let answer = server.get(path).await;
        if wanted(&answer) {
            return (machine_ns() as f64, answer);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Small commits, each as safely on disk as the server's own.
struct Commits(sqlx::SqliteConnection);

impl Commits {
    async fn open(folder: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("floor.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = options.connect().await.expect("SQLite opens a file");
        let table = sqlx::query("CREATE TABLE log (id INTEGER PRIMARY KEY, detail TEXT)");
        table.execute(&mut connection).await.expect("a table can be made");
        Self(connection)
    }

    /// Milliseconds of a number of commits, one after the other.
    async fn time(&mut self, count: usize) -> f64 {
        let began = machine_ns();
        for _ in 0..count {
            let mut change = self.0.begin().await.expect("a transaction begins");
            let row = sqlx::query("INSERT INTO log (detail) VALUES ($1)").bind("x".repeat(400));
            row.execute(&mut *change).await.expect("a row is written");
            change.commit().await.expect("it is committed");
        }
        (machine_ns() - began) as f64 / 1e6
    }
}

/// How long a start takes on a database that is there already, in milliseconds, the best of five; and
/// what the server then holds, in MiB.
async fn restart(server: Server, folder: &tempfile::TempDir) -> (f64, f64) {
    server.end().await;
    let (mut best, mut idle_mib) = (f64::INFINITY, f64::NAN);
    for _ in 0..5 {
        let again = Server::start(folder).await;
        best = best.min(again.started_in.as_secs_f64() * 1e3);
        idle_mib = process_rss_kib(again.id()) / 1024.0;
        again.end().await;
    }
    (best, idle_mib)
}

fn print(figures: &Figures, clients: usize, markdown: bool) {
    let head =
        ["from the request to", "clients", "runs", "best ms", "p50 ms", "p99 ms", "p50 ÷ floor"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let sorted = |all: &[f64]| {
        let mut sorted = all.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let floor_flags = percentile(&sorted(&figures.floor_flags), 0.5);
    let floor_incident = percentile(&sorted(&figures.floor_incident), 0.5);
    for (name, all, floor) in [
        ("99 % have it in force", &figures.in_force, floor_flags),
        ("99 % acknowledged, by the API", &figures.acknowledged, floor_flags),
        ("incident on the status page", &figures.visible, floor_incident),
        ("floor: 6 commits, 1 broadcast", &figures.floor_flags, floor_flags),
        ("floor: 8 commits", &figures.floor_incident, floor_incident),
    ] {
        let times = sorted(all);
        let of = |share| percentile(&times, share);
        let mut row = vec![name.to_owned()];
        row.extend([clients as f64, times.len() as f64, of(0.0), of(0.5), of(0.99)].map(number));
        row.push(format!("{:.2}", of(0.5) / floor));
        rows.push(row);
    }
    print!("{}", render(&rows, markdown));
}
