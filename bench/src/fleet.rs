//! Light clients: sockets that say hello, note when each delta came, and acknowledge it.
#![expect(clippy::print_stdout, reason = "its output is read by the process that started it")]
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a benchmark that cannot go on says where and ends"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use switchback_core::wire::Hello;
use switchback_tests::fleet::{Socket, Target};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Message;

use crate::helper::Helper;
use crate::measure::{machine_ns, percentile};

/// Sockets that are being opened at the same time.
const OPENING_MAX: usize = 64;

/// When a delta reached the fleet, in nanoseconds of [`machine_ns`].
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The revision that it leads to.
    pub revision: u64,
    /// The first client.
    pub first: f64,
    /// Half of them.
    pub p50: f64,
    /// All but one in a hundred.
    pub p99: f64,
    /// The last one.
    pub last: f64,
    /// The delta itself.
    pub frame: String,
}

/// A fleet in a process of its own.
pub struct Fleet(Helper);

impl Fleet {
    /// Starts the process and waits until everybody is in.
    pub async fn start(address: &str, token: &str, clients: usize) -> Self {
        let mut helper = Helper::start(&["clients", address, token, &clients.to_string()]);
        assert_eq!(helper.next().await, "joined");
        Self(helper)
    }

    /// The next delta, once everybody has it.
    pub async fn next(&mut self) -> Arrival {
        let line = self.0.next().await;
        let (numbers, frame) = line.split_once('{').expect("figures, then the frame");
        let mut numbers =
            numbers.split_whitespace().map(|word| word.parse::<f64>().expect("a number"));
        let mut number = || numbers.next().expect("five numbers");
        Arrival {
            revision: number() as u64,
            first: number(),
            p50: number(),
            p99: number(),
            last: number(),
            frame: format!("{{{frame}"),
        }
    }

    /// Closes every socket.
    pub async fn end(self) {
        self.0.end().await;
    }
}

struct Shared {
    joined: AtomicUsize,
    got: AtomicUsize,
    at: Vec<AtomicU64>,
}

/// The fleet's own process: serves until its input ends.
pub async fn run(address: String, token: String, clients: usize) {
    let shared = Arc::new(Shared {
        joined: AtomicUsize::new(0),
        got: AtomicUsize::new(0),
        at: (0..clients).map(|_| AtomicU64::new(0)).collect(),
    });
    let opening = Arc::new(Semaphore::new(OPENING_MAX));
    for number in 0..clients {
        let turn = Arc::clone(&opening).acquire_owned().await.expect("it is never closed");
        let target = Target { address: address.clone(), token: token.clone() };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let hello = Hello {
                app: "bench".to_owned(),
                app_version: Some("1.0".to_owned()),
                sdk: "bench/1".to_owned(),
                instance: number.to_string(),
                ..Hello::default()
            };
            let socket = target.open(hello).await.expect("the server opens a stream");
            drop(turn);
            follow(socket, number, &shared).await;
        });
    }
    // This is the main thread, which serves nobody: it may block.
    std::io::stdin().lines().for_each(drop);
}

async fn follow(mut socket: Socket, number: usize, shared: &Shared) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        if text.starts_with(r#"{"type":"full""#) {
            if shared.joined.fetch_add(1, Ordering::AcqRel) + 1 == shared.at.len() {
                println!("joined");
            }
            continue;
        }
        if !text.starts_with(r#"{"type":"delta""#) {
            continue;
        }
        let now = machine_ns();
        if let Some(at) = shared.at.get(number) {
            at.store(now, Ordering::Relaxed);
        }
        let (Some(epoch), Some(revision)) =
            (after(&text, "\"epoch\":\"", '"'), after(&text, "\"to\":", ','))
        else {
            continue;
        };
        let ack = format!(r#"{{"type":"ack","epoch":"{epoch}","revision":{revision}}}"#);
        if shared.got.fetch_add(1, Ordering::AcqRel) + 1 == shared.at.len() {
            shared.got.store(0, Ordering::Release);
            tell(revision, &shared.at, &text);
        }
        if socket.send(Message::text(ack)).await.is_err() {
            return;
        }
    }
}

fn tell(revision: &str, at: &[AtomicU64], frame: &str) {
    let mut times: Vec<f64> = at.iter().map(|at| at.load(Ordering::Relaxed) as f64).collect();
    times.sort_by(f64::total_cmp);
    let of = |share| percentile(&times, share);
    println!("{revision} {} {} {} {} {frame}", of(0.0), of(0.50), of(0.99), of(1.0));
}

/// What stands between a beginning and an end.
fn after<'a>(text: &'a str, start: &str, end: char) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}
