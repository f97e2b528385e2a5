//! Convergence: how many connected clients have acknowledged a revision, how fast, who has not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchback_core::model::Revision;

use super::client::{Client, ClientView};

/// Stragglers that are listed by name.
const STRAGGLERS_MAX: usize = 50;
/// Upper bounds of the delay histogram, in milliseconds; the last bucket is open.
pub const BUCKETS_MS: [i64; 11] = [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// What one node, or a whole cluster, knows about a revision.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Convergence {
    /// The revision.
    pub revision: Revision,
    /// Connected clients.
    pub connected: u64,
    /// Those that acknowledged this revision or a newer one.
    pub acked: u64,
    /// Half of them took no longer than this, in milliseconds.
    pub p50_ms: Option<i64>,
    /// All but one in a hundred took no longer than this, in milliseconds.
    pub p99_ms: Option<i64>,
    /// The slowest, in milliseconds.
    pub max_ms: Option<i64>,
    /// How many took how long, by [`BUCKETS_MS`] and one open bucket.
    pub histogram: Vec<u64>,
    /// By app, version and SDK.
    pub apps: Vec<AppShare>,
    /// Clients that have not acknowledged it, longest silent first; at most 50.
    pub stragglers: Vec<ClientSummary>,
}

/// The clients of one app, version and SDK.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct AppShare {
    /// The app's name.
    pub app: String,
    /// The app's version.
    pub app_version: String,
    /// The SDK and its version.
    pub sdk: String,
    /// Connected.
    pub connected: u64,
    /// Acknowledged.
    pub acked: u64,
}

/// A straggler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct ClientSummary {
    /// Node and number.
    pub id: String,
    /// The app's name.
    pub app: String,
    /// The SDK and its version.
    pub sdk: String,
    /// One process or device.
    pub instance: String,
    /// What it has.
    pub acked_revision: Revision,
    /// When it was last heard, in UTC milliseconds.
    pub last_seen_at: i64,
}

impl Convergence {
    /// Share of connected clients that have it, 0.0 to 1.0; 1.0 with nobody connected.
    pub fn share(&self) -> f64 {
        if self.connected == 0 { 1.0 } else { self.acked as f64 / self.connected as f64 }
    }

    /// Counts the clients of one node.
    pub fn of<'a>(
        node: &str,
        revision: Revision,
        clients: impl Iterator<Item = &'a Client>,
    ) -> Self {
        let mut found =
            Self { revision, histogram: vec![0; BUCKETS_MS.len() + 1], ..Self::default() };
        let mut delays = Vec::new();
        let mut apps: BTreeMap<(&str, &str, &str), AppShare> = BTreeMap::new();
        for client in clients {
            let key = (client.app.as_str(), client.app_version.as_str(), client.sdk.as_str());
            let app = apps.entry(key).or_default();
            let acked = client.acked();
            found.connected += 1;
            app.connected += 1;
            if acked >= revision {
                found.acked += 1;
                app.acked += 1;
                if acked == revision {
                    delays.extend(client.ack_delay_ms());
                }
            } else {
                found.stragglers.push(summary(&client.view(node)));
            }
        }
        found.set_delays(delays);
        found.apps = apps
            .into_iter()
            .map(|((app, version, sdk), share)| AppShare {
                app: app.to_owned(),
                app_version: version.to_owned(),
                sdk: sdk.to_owned(),
                ..share
            })
            .collect();
        found.trim();
        found
    }

    fn set_delays(&mut self, mut delays: Vec<i64>) {
        delays.sort_unstable();
        let rank = |share: f64| {
            let index = (share * delays.len() as f64).ceil() as usize;
            delays.get(index.saturating_sub(1)).copied()
        };
        (self.p50_ms, self.p99_ms) = (rank(0.50), rank(0.99));
        self.max_ms = delays.last().copied();
        for delay in delays {
            let bucket = BUCKETS_MS.partition_point(|bound| *bound < delay);
            if let Some(count) = self.histogram.get_mut(bucket) {
                *count += 1;
            }
        }
    }

    /// Adds another node's view. A node that does not know the revision yet has acknowledged nothing.
    pub fn merge(&mut self, other: Self) {
        let knows = other.revision >= self.revision;
        self.connected += other.connected;
        self.acked += if knows { other.acked } else { 0 };
        for share in other.apps {
            let acked = if knows { share.acked } else { 0 };
            let same = |own: &&mut AppShare| {
                (&own.app, &own.app_version, &own.sdk)
                    == (&share.app, &share.app_version, &share.sdk)
            };
            if let Some(own) = self.apps.iter_mut().find(same) {
                own.connected += share.connected;
                own.acked += acked;
            } else {
                self.apps.push(AppShare { acked, ..share });
            }
        }
        if knows {
            self.p50_ms = self.p50_ms.max(other.p50_ms);
            self.p99_ms = self.p99_ms.max(other.p99_ms);
            self.max_ms = self.max_ms.max(other.max_ms);
            for (own, more) in self.histogram.iter_mut().zip(other.histogram) {
                *own += more;
            }
        }
        self.stragglers.extend(other.stragglers);
        self.trim();
    }

    fn trim(&mut self) {
        self.stragglers.sort_by_key(|client| client.last_seen_at);
        self.stragglers.truncate(STRAGGLERS_MAX);
        self.apps.sort_by_key(|app| std::cmp::Reverse((app.connected - app.acked, app.connected)));
        self.apps.truncate(STRAGGLERS_MAX);
    }
}

fn summary(view: &ClientView) -> ClientSummary {
    ClientSummary {
        id: view.id.clone(),
        app: view.app.clone(),
        sdk: view.sdk.clone(),
        instance: view.instance.clone(),
        acked_revision: view.acked_revision,
        last_seen_at: view.last_seen_at,
    }
}

#[cfg(test)]
mod tests {
    use switchback_core::wire::Hello;

    use super::*;

    fn client(id: u64, acked: Revision, delay: i64) -> Client {
        let hello = Hello { app: "shop".to_owned(), ..Hello::default() };
        let client = Client::new(id, String::new(), "server", &hello, 0);
        client.on_ack(acked, delay);
        client
    }

    #[test]
    fn a_client_that_is_behind_is_a_straggler() {
        let clients = [client(1, 7, 4), client(2, 6, 1), client(3, 8, 9)];

        let found = Convergence::of("n", 7, clients.iter());

        assert_eq!((found.connected, found.acked, found.p50_ms), (3, 2, Some(4)));
        assert_eq!(found.stragglers.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["n.2"]);
    }

    #[test]
    fn a_node_that_lags_has_acknowledged_nothing() {
        let mut here = Convergence::of("a", 7, [client(1, 7, 4)].iter());
        let there = Convergence::of("b", 6, [client(2, 6, 4)].iter());

        here.merge(there);

        assert_eq!((here.connected, here.acked), (2, 1));
    }
}
