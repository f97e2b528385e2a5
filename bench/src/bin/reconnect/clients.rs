//! The herd, in a process of its own: clients of our stream and of Unleash's, which come back by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use switchback_bench::measure::machine_ns;
use switchback_bench::server::SDK;
use switchback_core::backoff_ms;
use switchback_tests::fleet::{Client, News, OPENING_MAX, Target, draw};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

/// How often it is looked whether everybody is there; times are noted by the clients themselves.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const READ_BYTES: usize = 4 * 1024;

/// What is known of one client; times are of [`machine_ns`], 0: not yet.
#[derive(Default)]
struct Life {
    /// Its first word on its present connection.
    back_at: AtomicU64,
    revision: AtomicU64,
    has_at: AtomicU64,
    acked: AtomicU64,
    acked_at: AtomicU64,
}

impl Life {
    fn on(&self, news: News) {
        let now = machine_ns();
        match news {
            News::Has(revision) => {
                self.has_at.store(now, Ordering::Release);
                self.revision.store(revision, Ordering::Release);
            }
            News::Acked(revision) => {
                self.acked_at.store(now, Ordering::Release);
                self.acked.store(revision, Ordering::Release);
                let _ = self.back_at.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
            }
            News::Lost => {}
        }
    }
}

/// Serves until its input ends. `herd`: the server is about to die; says `half` when half are back.
/// `until REVISION SENT`: says when the last had acknowledged the revision, and how long one that was back when it was
/// sent took to get it, at most, and how many those were.
pub async fn run(address: String, native: usize, unleash: usize) {
    let lives: Arc<[Life]> = (0..native + unleash).map(|_| Life::default()).collect();
    let acks = watch::Sender::new(true);
    let doors = Arc::new(Semaphore::new(OPENING_MAX));
    for number in 0..lives.len() {
        let (lives, doors) = (Arc::clone(&lives), Arc::clone(&doors));
        let tell = move |news| {
            if let Some(life) = lives.get(number) {
                life.on(news);
            }
        };
        if number < native {
            let target = Target { address: address.clone(), token: SDK.to_owned() };
            tokio::spawn(Client::new(target, number, acks.subscribe()).run(doors, tell));
        } else {
            tokio::spawn(follow_events(address.clone(), number as u64, doors, tell));
        }
    }
    when(&lives, lives.len(), |life| life.acked.load(Ordering::Acquire) > 0).await;
    println!("joined");
    // This is the main thread, which serves nobody: it may block.
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["herd"] => {
                lives.iter().for_each(|life| life.back_at.store(0, Ordering::Release));
                println!("ready");
                let is_back = |life: &Life| life.back_at.load(Ordering::Acquire) > 0;
                when(&lives, lives.len() / 2, is_back).await;
                println!("half");
            }
            ["until", revision, sent] => {
                let number = |word: &str| word.parse::<u64>().expect("a number");
                println!("{}", outcome(&lives, number(revision), number(sent)).await);
            }
            _ => println!("what is `{line}`?"),
        }
    }
}

/// Waits until so many are.
async fn when(lives: &[Life], many: usize, is: impl Fn(&Life) -> bool) {
    while lives.iter().filter(|life| is(life)).count() < many {
        sleep(LOOK_EVERY).await;
    }
}

async fn outcome(lives: &[Life], revision: u64, sent: u64) -> String {
    when(lives, lives.len(), |life| life.acked.load(Ordering::Acquire) >= revision).await;
    let last = lives.iter().map(|life| life.acked_at.load(Ordering::Acquire)).max();
    let before = |life: &&Life| life.back_at.load(Ordering::Acquire) < sent;
    let waits = lives.iter().filter(before).map(|life| life.has_at.load(Ordering::Acquire) - sent);
    let (longest, many) = waits.fold((0, 0), |(longest, many), wait| (wait.max(longest), many + 1));
    format!("{} {longest} {many}", last.unwrap_or_default())
}

/// A client of Unleash's stream, with the same pauses as ours.
async fn follow_events(
    address: String,
    number: u64,
    doors: Arc<Semaphore>,
    mut tell: impl FnMut(News),
) {
    let mut door = doors.acquire_owned().await.ok();
    let mut last_id = String::new();
    let mut attempt = 0;
    for connection in 0.. {
        if let Ok(mut socket) = TcpStream::connect(&address).await {
            let request = format!(
                "GET /api/client/streaming HTTP/1.1\r\nHost: {address}\r\nAuthorization: {SDK}\r\nAccept: text/event-stream\r\n\
                 Unleash-AppName: herd\r\nUnleash-InstanceId: {number}\r\nUnleash-Client-Spec: 5.2.0\r\nLast-Event-ID: {last_id}\r\n\r\n"
            );
            let mut has_heard = false;
            if socket.write_all(request.as_bytes()).await.is_ok() {
                let mut text = String::new();
                let mut bytes = [0; READ_BYTES];
                while let Ok(count @ 1..) = socket.read(&mut bytes).await {
                    text.push_str(&String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()));
                    // The event's end: only then has it come whole.
                    while let Some((event, rest)) = text.split_once("\n\n") {
                        if let Some(id) = event.lines().find_map(|line| line.strip_prefix("id: ")) {
                            id.clone_into(&mut last_id);
                            let revision = id.split('-').next().and_then(|r| r.parse().ok());
                            let revision = revision.expect("an id begins with the revision");
                            tell(News::Has(revision));
                            tell(News::Acked(revision));
                            (has_heard, attempt) = (true, 0);
                        }
                        text = rest.to_owned();
                    }
                    if has_heard {
                        door = None;
                    }
                }
            }
        }
        tell(News::Lost);
        sleep(Duration::from_millis(backoff_ms(attempt, draw(number, connection)))).await;
        attempt += 1;
    }
    drop(door);
}
