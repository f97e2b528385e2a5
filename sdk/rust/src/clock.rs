//! The SDK's edge to the world's time and randomness.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use switchback_core::model::Millis;

/// Time since the client was built, the age of what it knows, and random numbers.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// When the server was last heard of, in milliseconds after `start`; negative: before it.
    heard_ms: AtomicI64,
    seed: u64,
    draws: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let seed = getrandom::u64().unwrap_or_else(|_| now_ms() as u64);
        Self { start: Instant::now(), heard_ms: AtomicI64::new(0), seed, draws: AtomicU64::new(0) }
    }

    /// The server was heard of just now.
    pub(crate) fn on_heard(&self) {
        self.heard_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// What is known was last confirmed this long ago, by an earlier process.
    pub(crate) fn set_age(&self, age: Duration) {
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        self.heard_ms.store(self.elapsed_ms().saturating_sub(age_ms), Ordering::Relaxed);
    }

    pub(crate) fn stale_for_ms(&self) -> u64 {
        let heard_ms = self.heard_ms.load(Ordering::Relaxed);
        u64::try_from(self.elapsed_ms().saturating_sub(heard_ms)).unwrap_or(0)
    }

    /// A random number: SplitMix64 (Steele, Lea, Flood 2014) over a counter, so that threads share
    /// no state but the counter.
    pub(crate) fn draw(&self) -> u32 {
        let count = self.draws.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut z = self.seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> Millis {
    let now = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "apps that use the SDK have no clock to hand in")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
