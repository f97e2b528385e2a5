//! Clients that ask again and again instead of holding a connection: known by who asked, gone when they stop asking.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use switchback_core::model::{Millis, Revision};
use switchback_core::wire::Hello;

use super::client::{Client, Protocol};
use super::feed::{Feed, Membership};

/// A client that has not asked for this many of its intervals is gone.
const INTERVALS_MAX: i64 = 3;
/// Added to that: networks are slow, and intervals have jitter. In milliseconds.
const GRACE_MS: i64 = 5_000;
/// How often the ones that are gone are looked for, in milliseconds.
const SWEEP_MS: i64 = 5_000;
/// Taken for intervals that are not said, in milliseconds: what most SDKs have.
pub const INTERVAL_MS: u64 = 15_000;

/// One question of a client.
#[derive(Debug)]
pub struct Poll<'a> {
    /// The token that it came with.
    pub token_id: &'a str,
    /// `server` or `browser`.
    pub kind: &'static str,
    /// What tells it from others with the same token: its connection id, or its instance.
    pub connection: &'a str,
    /// The app's name.
    pub app: &'a str,
    /// The SDK and its version.
    pub sdk: &'a str,
    /// One process or device.
    pub instance: &'a str,
    /// How it asks.
    pub protocol: Protocol,
    /// How often it asks, in milliseconds.
    pub interval_ms: u64,
    /// What it was answered, or said that it has.
    pub has: Option<Revision>,
}

/// The polling clients of this node.
#[derive(Debug, Default)]
pub struct Pollers {
    /// By a hash of token and connection: asking again allocates nothing.
    known: Mutex<HashMap<u64, Membership>>,
    swept_at: AtomicI64,
}

impl Pollers {
    /// Notes that a client asked. Beyond `clients_max` new ones are not listed.
    pub fn on_poll(
        &self,
        feed: &Arc<Feed>,
        poll: &Poll<'_>,
        now: Millis,
        clients_max: usize,
        next_id: impl FnOnce() -> u64,
    ) {
        let key = key_of(poll);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |member: &Membership| {
            Arc::ptr_eq(&member.feed, feed) && member.client.protocol == poll.protocol
        };
        if !known.get(&key).is_some_and(is_same) {
            if known.len() >= clients_max {
                return;
            }
            let hello = Hello {
                app: poll.app.to_owned(),
                sdk: poll.sdk.to_owned(),
                instance: poll.instance.to_owned(),
                ..Hello::default()
            };
            let client = Client::new(next_id(), poll.token_id.to_owned(), poll.kind, &hello, now)
                .speaking(poll.protocol, poll.interval_ms);
            known.insert(key, feed.join(client));
            feed.on_client_moved();
        }
        let Some(member) = known.get(&key) else { return };
        member.client.on_sign_of_life(now);
        if let Some(revision) = poll.has
            && member.client.acked() < revision
        {
            let since = feed.current().known_at.max(member.client.connected_at);
            member.client.on_ack(revision, (now - since).max(0));
            feed.on_client_moved();
        }
        self.sweep(&mut known, now);
    }

    /// Forgets the clients that stopped asking, when it is time to look.
    pub fn look_after(&self, now: Millis) {
        self.sweep(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner), now);
    }

    fn sweep(&self, known: &mut HashMap<u64, Membership>, now: Millis) {
        if now - self.swept_at.load(Ordering::Relaxed) < SWEEP_MS {
            return;
        }
        self.swept_at.store(now, Ordering::Relaxed);
        known.retain(|_, Membership { feed, client }| {
            let limit_ms = client.interval_ms as i64 * INTERVALS_MAX + GRACE_MS;
            let stays = now - client.last_seen_at() <= limit_ms;
            if !stays {
                feed.on_client_moved();
            }
            stays
        });
    }
}

fn key_of(poll: &Poll<'_>) -> u64 {
    let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
    hasher.write(poll.token_id.as_bytes());
    hasher.write_u8(0);
    hasher.write(poll.connection.as_bytes());
    hasher.finish()
}
