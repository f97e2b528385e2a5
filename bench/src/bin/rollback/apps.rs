//! A thousand apps with the real SDK, in a process of their own.
#![expect(clippy::print_stdout, reason = "its output is read by the process that started it")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says where and ends")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use switchback_bench::helper::Helper;
use switchback_bench::measure::machine_ns;
use switchback_sdk::{AuthMode, Context, Switchback};
use tokio::sync::Semaphore;

/// Clients that are connecting at the same time.
const OPENING_MAX: usize = 64;
/// Revisions that one benchmark makes at most.
const REVISIONS_MAX: usize = 4_096;

/// The apps, as the benchmark sees them.
pub struct Apps(Helper);

impl Apps {
    /// Starts the process and waits until every app is connected.
    pub async fn start(url: &str, token: &str, clients: usize) -> Self {
        let mut helper = Helper::start(&["apps", url, token, &clients.to_string()]);
        assert_eq!(helper.next().await, "joined");
        Self(helper)
    }

    /// When 99 in 100 apps, and when all, had a revision in force. Earlier revisions are passed over.
    pub async fn have(&mut self, revision: u64) -> (f64, f64) {
        let mut most = f64::NAN;
        loop {
            let line = self.0.next().await;
            let words: Vec<&str> = line.split(' ').collect();
            let [word, of, at] = words.as_slice() else { continue };
            if of.parse() != Ok(revision) {
                continue;
            }
            let at: f64 = at.parse().expect("a time");
            match *word {
                "most" => most = at,
                _ => return (most, at),
            }
        }
    }

    /// Ends every app.
    pub async fn end(self) {
        self.0.end().await;
    }
}

/// The apps' own process: serves until its input ends.
pub async fn run(url: String, token: String, clients: usize) {
    let counts: Arc<Vec<AtomicUsize>> =
        Arc::new((0..REVISIONS_MAX).map(|_| AtomicUsize::new(0)).collect());
    let (opening, joined) = (Arc::new(Semaphore::new(OPENING_MAX)), Arc::new(AtomicUsize::new(0)));
    for number in 0..clients {
        let turn = Arc::clone(&opening).acquire_owned().await.expect("it is never closed");
        let (url, token) = (url.clone(), token.clone());
        let (counts, joined) = (Arc::clone(&counts), Arc::clone(&joined));
        tokio::spawn(async move {
            let app = Switchback::builder()
                .url(url)
                .token(token)
                .app("bench")
                .app_version("1.0")
                .instance(number.to_string())
                .silence_timeout(Duration::from_mins(2)) // the server's heartbeats are rare here
                .build()
                .await
                .expect("the description is right");
            drop(turn);
            let mut changes = app.changes();
            let mut has = app.status().revision;
            if joined.fetch_add(1, Ordering::AcqRel) + 1 == clients {
                println!("joined");
            }
            while let Some(change) = changes.next().await {
                let _: AuthMode = app.auth_mode(&Context::new().user_id("u1"));
                for revision in has + 1..=change.revision {
                    count(revision, clients, &counts);
                }
                has = has.max(change.revision);
            }
        });
    }
    // This is the main thread, which serves nobody: it may block.
    std::io::stdin().lines().for_each(drop);
}

fn count(revision: u64, clients: usize, counts: &[AtomicUsize]) {
    let Some(count) = counts.get(revision as usize) else { return };
    let now = count.fetch_add(1, Ordering::AcqRel) + 1;
    if now == (clients * 99).div_ceil(100) {
        println!("most {revision} {}", machine_ns());
    }
    if now == clients {
        println!("all {revision} {}", machine_ns());
    }
}
