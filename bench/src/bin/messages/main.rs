//! What telling ten thousand people costs: the request that opens an incident and addresses a letter to each, beside the bare inserts of
//! the same rows in one transaction of the same store; how fast a mail server on loopback gets the letters, and the server's memory
//! meanwhile; and a hundred thousand readers of the status page while the database is stopped.
//!
//! `messages [--markdown] [--people N] [--rounds N] [--readers N]`; `SWITCHBACK_TEST_POSTGRES` names a PostgreSQL, as `cargo xtask
//! bench` does. Client, server, mail server and floor share this machine's cores; the floor runs alone.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

mod readers;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use switchback_bench::measure::{median, process_peak_kib, process_rss_kib};
use switchback_bench::server::{Server, database};
use switchback_bench::table::{number, render};
use switchback_tests::MailSink;

const PEOPLE: usize = 10_000;
const ROUNDS: usize = 3;
const READERS: usize = 100_000;
/// The longest that addressing everybody may take, in milliseconds.
const AIM_MS: f64 = 1_000.0;
/// Rows of one statement of the floor, and of what fills the table of subscribers.
const ROWS: usize = 500;
/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longer than all letters take on a busy machine.
const SENT_WITHIN: Duration = Duration::from_mins(10);

#[tokio::main(worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the server to measure on is named so")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str, usual: usize| {
        let place = arguments.iter().position(|word| word == name);
        let said = place.and_then(|place| arguments.get(place + 1)?.parse().ok());
        said.unwrap_or(usual).max(1)
    };
    let markdown = arguments.iter().any(|word| word == "--markdown");
    let (people, rounds) = (after("--people", PEOPLE), after("--rounds", ROUNDS));
    let postgres = std::env::var("SWITCHBACK_TEST_POSTGRES").expect(
        "SWITCHBACK_TEST_POSTGRES names a PostgreSQL: run it with `cargo xtask bench messages`",
    );

    let head = [
        "store",
        "people",
        "addressed in ms",
        "bare inserts ms",
        "x floor",
        "aim ms",
        "letters/s",
        "memory before",
        "most, while they are sent",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for (name, is_postgres) in [("SQLite", false), ("PostgreSQL", true)] {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (ours, floor) = if is_postgres {
            (database(&postgres, "messages").await, database(&postgres, "floor").await)
        } else {
            let file = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
            (file("switchback.db"), file("floor.db"))
        };
        let told = tell(&folder, &ours, people, rounds).await;
        let bare = bare_inserts(&floor, people, rounds).await;
        table.push(vec![
            name.to_owned(),
            number(people as f64),
            number(told.addressed_ms),
            number(bare),
            format!("{:.2}", told.addressed_ms / bare),
            number(AIM_MS),
            number(told.letters_per_second),
            format!("{} MiB", number(told.before_kib / 1024.0)),
            format!("{} MiB", number(told.most_kib / 1024.0)),
        ]);
    }
    print!("{}", render(&table, markdown));
    println!();
    print!("{}", readers::ask(&postgres, after("--readers", READERS), markdown).await);
}

/// What telling everybody took.
struct Told {
    addressed_ms: f64,
    letters_per_second: f64,
    before_kib: f64,
    most_kib: f64,
}

async fn tell(folder: &tempfile::TempDir, address: &str, people: usize, rounds: usize) -> Told {
    migrate(address).await;
    run(address, &subscribers(people)).await;
    let mail = MailSink::start(Duration::ZERO);
    let mut variables = vec![
        ("SWITCHBACK_MAIL__URL", mail.url.as_str()),
        ("SWITCHBACK_MAIL__FROM", "Shop status <status@shop.example>"),
    ];
    if address.starts_with("postgres") {
        variables.push(("SWITCHBACK_DATABASE_URL", address));
    }
    let server = Server::start_with(folder, "127.0.0.1:0", &variables).await;
    let before_kib = process_rss_kib(server.id());
    let (mut addressed, mut rates) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let body = json!({"template": "auth_down", "vars": {"estimated_time": "90m"}});
        let begun = Instant::now();
        server.send(Method::POST, "/api/v1/incidents", Some(body)).await;
        addressed.push(begun.elapsed().as_secs_f64() * 1_000.0);
        wait_for(&server, people * round).await;
        rates.push(people as f64 / begun.elapsed().as_secs_f64());
    }
    assert_eq!(mail.count(), people * rounds, "each has each letter once");
    let most_kib = process_peak_kib(server.id());
    server.end().await;
    Told {
        addressed_ms: median(addressed),
        letters_per_second: median(rates),
        before_kib,
        most_kib,
    }
}

/// Waits until so many letters are noted as sent.
async fn wait_for(server: &Server, letters: usize) {
    let begun = Instant::now();
    loop {
        let counts = server.get("/api/v1/messages/counts").await;
        let counts = counts.as_array().cloned().unwrap_or_default();
        let sent = counts.iter().find(|one| one.get("state") == Some(&json!("sent")));
        let sent = sent.and_then(|one| one.get("count")).and_then(Value::as_u64).unwrap_or(0);
        if sent as usize >= letters {
            return;
        }
        assert!(begun.elapsed() < SENT_WITHIN, "{sent} of {letters} letters were sent");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The rows that addressing everybody makes, and nothing else: no request, no reading of who wants what, no record.
async fn bare_inserts(address: &str, people: usize, rounds: usize) -> f64 {
    migrate(address).await;
    let mut took = Vec::new();
    for round in 0..rounds {
        let message = format!("inc_{round}.0");
        let mut statements = vec![format!(
            "INSERT INTO messages (id, topic, body, at) VALUES ('{message}', 'incidents', '{{}}', 1)"
        )];
        let head = "INSERT INTO outbox (id, message_id, channel, subscriber_id, state, attempts, next_at, leased_until, \
                    created_at) VALUES ";
        statements.extend(rows(people, head, |n| {
            format!(
                "('{message}.{0}', '{message}', 'subscribers', '{0}', 'waiting', 0, 1, 0, 1)",
                id(n)
            )
        }));
        took.push(run(address, &statements).await.as_secs_f64() * 1_000.0);
    }
    median(took)
}

/// An id as long as a real one.
fn id(n: usize) -> String {
    format!("sub_{n:020}")
}

fn subscribers(people: usize) -> Vec<String> {
    let head = "INSERT INTO subscribers (id, mode, address, state, is_global, created_at) VALUES ";
    rows(people, head, |n| {
        format!("('{}', 'email', 'p{n}@shop.example', 'active', TRUE, 1)", id(n))
    })
}

fn rows(count: usize, head: &str, row: impl Fn(usize) -> String) -> Vec<String> {
    let all: Vec<usize> = (0..count).collect();
    let statement = |some: &[usize]| {
        let mut text = head.to_owned();
        for (place, n) in some.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{}", row(*n));
        }
        text
    };
    all.chunks(ROWS).map(statement).collect()
}

/// Makes the tables.
async fn migrate(address: &str) {
    let opened = switchback_store::open(address).await.expect("a store can be opened");
    opened.store.close().await;
}

/// Runs statements in one transaction, as safely on disk as the server's own; says how long they took with the commit.
async fn run(address: &str, statements: &[String]) -> Duration {
    let text = |one: &String| AssertSqlSafe(one.clone());
    if address.starts_with("postgres") {
        let mut connection =
            sqlx::PgConnection::connect(address).await.expect("PostgreSQL answers");
        let begun = Instant::now();
        let mut tx = connection.begin().await.expect("a transaction begins");
        for one in statements {
            tx.execute(text(one)).await.expect("a statement runs");
        }
        tx.commit().await.expect("it is committed");
        return begun.elapsed();
    }
    let mut connection =
        sqlx::SqliteConnection::connect(address).await.expect("the file can be opened");
    connection.execute("PRAGMA synchronous = FULL").await.expect("SQLite takes it");
    let begun = Instant::now();
    let mut tx = connection.begin().await.expect("a transaction begins");
    for one in statements {
        tx.execute(text(one)).await.expect("a statement runs");
    }
    tx.commit().await.expect("it is committed");
    begun.elapsed()
}
