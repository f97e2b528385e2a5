//! How long a change takes to reach the last of 1,000 and of 10,000 connected clients, beside a bare
//! broadcast of the same bytes to clients that do the same, in the same run.
//!
//! `fanout [--markdown] [--rounds N] [--clients N]` prints the table. `fanout clients ...` and
//! `fanout floor` are the processes that it starts for itself.
#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "printing is its purpose")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

use std::time::Duration;

use switchback_bench::fleet::{Arrival, Fleet};
use switchback_bench::helper::Helper;
use switchback_bench::measure::{machine_ns, median, process_cpu_ns, process_rss_kib};
use switchback_bench::server::{ENVIRONMENT, SDK, Server};
use switchback_bench::table::{number, render};
use switchback_bench::{fleet, floor};
use switchback_tests::fleet::raise_open_files;

const ROUNDS: usize = 30;
/// Acknowledgements of one round have been dealt with before the next begins.
const BETWEEN: Duration = Duration::from_millis(150);
/// What a process frees after the last client joined is freed by then.
const SETTLE: Duration = Duration::from_secs(2);

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
        ["floor"] => runtime.block_on(floor::serve()),
        ["clients", address, token, clients] => {
            let clients = clients.parse().expect("a number of clients");
            runtime.block_on(fleet::run((*address).to_owned(), (*token).to_owned(), clients));
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
    let sizes = after("--clients").map_or_else(|| vec![1_000, 10_000], |clients| vec![clients]);
    let head = [
        "server",
        "clients",
        "rounds",
        "first ms",
        "p50 ms",
        "p99 ms",
        "last ms",
        "best last ms",
        "answer to last ms",
        "last ÷ floor",
        "best ÷ floor",
        "CPU µs/msg",
        "CPU ÷ floor",
        "RSS KiB/conn",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for clients in sizes {
        if open_files < clients as u64 + 100 {
            println!(
                "{clients} clients need more open files than the {open_files} allowed; skipped"
            );
            continue;
        }
        let (alone_ms, ours, bare) = measure(clients, rounds).await;
        rows.push(ours.row("switchback", clients, &bare));
        rows.push(ours.less(alone_ms).row("… less the write alone", clients, &bare));
        rows.push(bare.row("bare broadcast", clients, &bare));
    }
    print!("{}", render(&rows, words.contains(&"--markdown")));
}

/// One server's rounds, in milliseconds since the change was sent.
#[derive(Default)]
struct Figures {
    first: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    last: Vec<f64>,
    /// Since the answer; negative when the last client was faster.
    answer: Vec<f64>,
    cpu_us: f64,
    rss_kib: f64,
}

impl Figures {
    fn add(&mut self, sent: u64, arrival: &Arrival) {
        let since = |at: f64| (at - sent as f64) / 1e6;
        self.first.push(since(arrival.first));
        self.p50.push(since(arrival.p50));
        self.p99.push(since(arrival.p99));
        self.last.push(since(arrival.last));
    }

    /// The same without what a write takes with nobody connected.
    fn less(&self, alone_ms: f64) -> Self {
        let less = |all: &[f64]| all.iter().map(|ms| ms - alone_ms).collect();
        Self {
            first: less(&self.first),
            p50: less(&self.p50),
            p99: less(&self.p99),
            last: less(&self.last),
            cpu_us: f64::NAN,
            rss_kib: f64::NAN,
            answer: Vec::new(),
        }
    }

    fn best(&self) -> f64 {
        self.last.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn row(&self, name: &str, clients: usize, floor: &Self) -> Vec<String> {
        let middle = |all: &[f64]| median(all.to_vec());
        let ratio = |own: f64, floor: f64| {
            let ratio = own / floor;
            if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() }
        };
        let numbers = [
            clients as f64,
            self.last.len() as f64,
            middle(&self.first),
            middle(&self.p50),
            middle(&self.p99),
            middle(&self.last),
            self.best(),
            middle(&self.answer),
        ];
        let mut row = vec![name.to_owned()];
        row.extend(numbers.map(number));
        row.push(ratio(middle(&self.last), middle(&floor.last)));
        row.push(ratio(self.best(), floor.best()));
        row.push(number(self.cpu_us));
        row.push(ratio(self.cpu_us, floor.cpu_us));
        row.push(number(self.rss_kib));
        row
    }
}

/// Rounds of both, taking turns, so that what else the machine does hits both alike.
async fn measure(clients: usize, rounds: usize) -> (f64, Figures, Figures) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = Server::start(&folder).await;
    let mut floor = Helper::start(&["floor"]);
    let floor_address = floor.next().await;
    let (mut ours, mut bare) = (Figures::default(), Figures::default());

    let mut enabled = true;
    let mut alone = Vec::new();
    for _ in 0..rounds {
        let sent = machine_ns();
        server.set_flag("auth_bypass", enabled).await;
        alone.push((machine_ns() - sent) as f64 / 1e6);
        enabled = !enabled;
    }

    let before = (process_rss_kib(server.id()), process_rss_kib(floor.id()));
    let address = server.url.trim_start_matches("http://");
    let mut our_fleet = Fleet::start(address, SDK, clients).await;
    let mut bare_fleet = Fleet::start(&floor_address, SDK, clients).await;
    tokio::time::sleep(SETTLE).await;
    ours.rss_kib = (process_rss_kib(server.id()) - before.0) / clients as f64;
    bare.rss_kib = (process_rss_kib(floor.id()) - before.1) / clients as f64;

    let (mut our_cpu, mut bare_cpu) = (0, 0);
    for _ in 0..rounds {
        let cpu = process_cpu_ns(server.id());
        let sent = machine_ns();
        let answer = server.set_flag("auth_bypass", enabled).await;
        let answered = machine_ns();
        let arrival = our_fleet.next().await;
        assert_eq!(answer["revision"].as_u64(), Some(arrival.revision), "deltas come in order");
        ours.add(sent, &arrival);
        ours.answer.push((arrival.last - answered as f64) / 1e6);
        tokio::time::sleep(BETWEEN).await;
        our_cpu += process_cpu_ns(server.id()) - cpu;

        let cpu = process_cpu_ns(floor.id());
        let sent = machine_ns();
        floor.say(&arrival.frame).await;
        bare.add(sent, &bare_fleet.next().await);
        tokio::time::sleep(BETWEEN).await;
        bare_cpu += process_cpu_ns(floor.id()) - cpu;
        enabled = !enabled;
    }
    let messages = (clients * rounds) as f64;
    ours.cpu_us = our_cpu as f64 / 1e3 / messages;
    bare.cpu_us = bare_cpu as f64 / 1e3 / messages;

    let proof = server.get(&format!("{ENVIRONMENT}/convergence")).await;
    assert_eq!(proof["acked"].as_u64(), Some(clients as u64), "everybody acknowledged: {proof}");
    our_fleet.end().await;
    bare_fleet.end().await;
    floor.end().await;
    server.end().await;
    (median(alone), ours, bare)
}
