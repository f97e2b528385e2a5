//! A herd that comes back: the server is killed with thousands of clients connected and started again, and while they
//! come back a flag is killed. Beside it, in the same run, as many bare WebSocket handshakes with a bare server that
//! answers each with the same bytes.
//!
//! `reconnect [--markdown] [--rounds N] [--clients N]` prints the table. `reconnect clients ...` and
//! `reconnect floor ...` are the processes that it starts for itself.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

mod clients;
mod floor;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use switchback_bench::helper::Helper;
use switchback_bench::measure::{machine_ns, median, process_peak_kib};
use switchback_bench::server::{ENVIRONMENT, SDK, Server};
use switchback_bench::table::{number, render};
use switchback_core::wire::Hello;
use switchback_tests::Stream;
use switchback_tests::fleet::raise_open_files;
use switchback_tests::stream::hello;

const ROUNDS: usize = 3;
/// Clients of Unleash's stream, besides our own.
const UNLEASH: usize = 500;
/// How long the server may take to count the last acknowledgement.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Two threads, as the server has on the two cores that these figures come from.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    match words.as_slice() {
        ["floor", address] => {
            let _inside = runtime.enter();
            floor::serve(address);
        }
        ["clients", address, native, unleash] => {
            let count = |word: &str| word.parse().expect("a number of clients");
            let herd = clients::run((*address).to_owned(), count(native), count(unleash));
            runtime.block_on(herd);
        }
        _ => runtime.block_on(compare(&words)),
    }
}

async fn compare(words: &[&str]) {
    let after = |name: &str| {
        let place = words.iter().position(|word| *word == name)?;
        words.get(place + 1)?.parse::<usize>().ok()
    };
    let open_files = raise_open_files();
    let rounds = after("--rounds").unwrap_or(ROUNDS).max(1);
    let sizes = after("--clients").map_or_else(|| vec![1_000, 5_000], |clients| vec![clients]);
    let head = [
        "server",
        "clients",
        "rounds",
        "away ms",
        "killed to last ms",
        "listening to last ms",
        "÷ floor",
        "flag kill, longest ms",
        "clients back by then",
        "peak RSS MiB",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for native in sizes {
        let all = native + UNLEASH;
        if open_files < all as u64 + 100 {
            println!("{all} clients need more open files than the {open_files} allowed; skipped");
            continue;
        }
        let (mut ours, mut bare) = (Figures::default(), Figures::default());
        for _ in 0..rounds {
            let (round, frames) = Box::pin(our_round(native)).await;
            bare.0.push(floor_round(all, &frames, round.away_ms).await);
            ours.0.push(round);
        }
        let name = format!("switchback, {UNLEASH} of them Unleash's");
        rows.push(ours.row(&name, all, &bare));
        rows.push(bare.row("bare handshakes", all, &bare));
    }
    print!("{}", render(&rows, words.contains(&"--markdown")));
}

/// What our server sends a client that has nothing, and one that comes back after the flag was killed.
struct Frames {
    first: String,
    again: String,
    revision: u64,
}

/// One round.
struct Round {
    away_ms: f64,
    since_killed_ms: f64,
    since_listening_ms: f64,
    kill_ms: f64,
    back: f64,
    peak_mib: f64,
}

/// All rounds of one server.
#[derive(Default)]
struct Figures(Vec<Round>);

impl Figures {
    fn middle(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.0.iter().map(of).collect())
    }

    fn row(&self, name: &str, clients: usize, floor: &Self) -> Vec<String> {
        let last = |figures: &Self| figures.middle(|round| round.since_listening_ms);
        let most = |of: fn(&Round) -> f64| self.0.iter().map(of).fold(f64::NAN, f64::max);
        vec![
            name.to_owned(),
            number(clients as f64),
            number(self.0.len() as f64),
            number(self.middle(|round| round.away_ms)),
            number(self.middle(|round| round.since_killed_ms)),
            number(last(self)),
            format!("{:.2}", last(self) / last(floor)),
            number(most(|round| round.kill_ms)),
            number(self.middle(|round| round.back)),
            number(most(|round| round.peak_mib)),
        ]
    }
}

/// A herd that has joined and expects the server to die.
async fn herd(address: &str, native: usize, unleash: usize) -> Helper {
    let counts = [native.to_string(), unleash.to_string()];
    let [native, unleash] = &counts;
    let mut herd = Helper::start(&["clients", address, native, unleash]);
    assert_eq!(herd.next().await, "joined");
    herd.say("herd").await;
    assert_eq!(herd.next().await, "ready");
    herd
}

/// Waits until everybody has the revision: when the last had it, then the longest wait and for how many.
async fn outcome(herd: &mut Helper, revision: u64, sent: u64) -> (f64, f64, f64) {
    herd.say(&format!("until {revision} {sent}")).await;
    let line = herd.next().await;
    let mut numbers = line.split(' ').map(|word| word.parse::<f64>().expect("a number"));
    let mut number = || numbers.next().expect("three numbers");
    (number(), number(), number())
}

/// A frame as our server sends it.
async fn frame(server: &Server, hello: Hello) -> String {
    let mut stream = Stream::connect(&server.url, SDK, hello).await;
    stream.text().await.expect("the stream goes on")
}

fn since(at: f64, start: u64) -> f64 {
    (at - start as f64) / 1e6
}

async fn our_round(native: usize) -> (Round, Frames) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = Server::start(&folder).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let first = frame(&server, hello("first")).await;
    let has: Value = serde_json::from_str(&first).expect("a frame is JSON");
    let mut herd = herd(&address, native, UNLEASH).await;

    let killed = machine_ns();
    server.kill().await;
    let server = Server::start_on(&folder, &address).await;
    let listening = server.listening_at;
    assert_eq!(herd.next().await, "half");
    let sent = machine_ns();
    let body = json!({"killed": true, "reason": "in the middle of the herd"});
    let path = format!("{ENVIRONMENT}/flags/auth_rollout/killed");
    let answer = server.send(Method::PUT, &path, Some(body)).await;
    let revision = answer.get("revision").and_then(Value::as_u64).expect("a revision");
    let (last, longest, back) = outcome(&mut herd, revision, sent).await;
    let peak_mib = process_peak_kib(server.id()) / 1024.0;

    let all = (native + UNLEASH) as u64;
    let counted = async {
        loop {
            let proof = server.get(&format!("{ENVIRONMENT}/convergence")).await;
            if proof.get("acked").and_then(Value::as_u64) == Some(all) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let counted = tokio::time::timeout(COUNTED_WITHIN, counted).await;
    counted.expect("the server counts everybody");
    let mut resumed = hello("again");
    resumed.epoch = has.get("epoch").and_then(Value::as_str).map(str::to_owned);
    resumed.revision = has.get("revision").and_then(Value::as_u64);
    let again = frame(&server, resumed).await;
    herd.end().await;
    server.end().await;
    let round = Round {
        away_ms: since(listening as f64, killed),
        since_killed_ms: since(last, killed),
        since_listening_ms: since(last, listening),
        kill_ms: longest / 1e6,
        back,
        peak_mib,
    };
    (round, Frames { first, again, revision })
}

/// The same with a bare server that is away for as long.
async fn floor_round(clients: usize, frames: &Frames, away_ms: f64) -> Round {
    let mut floor = Helper::start(&["floor", "127.0.0.1:0"]);
    floor.say(&frames.first).await;
    let address = floor.next().await;
    let mut herd = herd(&address, clients, 0).await;

    let killed = machine_ns();
    let back_at = tokio::time::Instant::now() + Duration::from_secs_f64(away_ms / 1e3);
    floor.kill().await;
    tokio::time::sleep_until(back_at).await;
    let mut floor = Helper::start(&["floor", &address]);
    floor.say(&frames.again).await;
    assert_eq!(floor.next().await, address);
    let listening = machine_ns();
    assert_eq!(herd.next().await, "half");
    let (last, _, _) = outcome(&mut herd, frames.revision, 0).await;
    let peak_mib = process_peak_kib(floor.id()) / 1024.0;
    herd.end().await;
    floor.end().await;
    Round {
        away_ms: since(listening as f64, killed),
        since_killed_ms: since(last, killed),
        since_listening_ms: since(last, listening),
        kill_ms: f64::NAN,
        back: f64::NAN,
        peak_mib,
    }
}
