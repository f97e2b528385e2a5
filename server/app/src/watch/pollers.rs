//! Reading auth tables of the app's databases: one node at a time for each, within limits, from a place that survives a
//! restart. A database that is away is left alone, ever longer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use switchback_core::model::Millis;
use switchback_store::{EventPollerRow, Role};
use tokio::time::Instant;

use super::supabase::{Memory, Progress, Trouble};
use crate::App;
use crate::config::Supabase;
use crate::error::AppError;
use crate::who::Who;

/// How long a look may take, with every page.
const LOOK_WITHIN: Duration = Duration::from_mins(1);
/// How long a node that died has a database to itself, in milliseconds.
const LEASE_MS: Millis = 10_000;
/// How often the lease is renewed, during a look too.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A look that found more than it may read at once goes on after this long.
const GO_ON_AFTER: Duration = Duration::from_millis(200);
/// The longest pause before a database that is away is asked again.
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// Doublings of the pause at most.
const DOUBLINGS_MAX: u32 = 6;

/// A database whose auth tables are read, for people.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct PollerView {
    /// The data source.
    pub source: String,
    /// From one look to the next, in seconds.
    pub every_s: u32,
    /// How far it was read; none: no node looked yet.
    pub progress: Option<EventPollerRow>,
}

impl App {
    /// The databases whose auth tables are read for an environment.
    pub async fn list_auth_pollers(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<Vec<PollerView>, AppError> {
        who.must(Role::Viewer, environment, "look at auth events")?;
        self.get_environment(environment).await?;
        let rows = self.store.list_event_pollers(environment).await?;
        let here = self.config.watch.supabase.iter().filter(|one| one.environment == environment);
        Ok(here
            .map(|one| PollerView {
                source: one.source.clone(),
                every_s: one.every_s,
                progress: rows.iter().find(|row| row.source == one.source).cloned(),
            })
            .collect())
    }

    /// Reads what is configured, for the life of the server.
    pub(crate) async fn run_pollers(self: Arc<Self>) {
        let all = self.config.watch.supabase.clone();
        join_all(all.iter().map(|one| self.poll(one))).await;
    }

    async fn poll(self: &Arc<Self>, wanted: &Supabase) {
        let every = Duration::from_secs(u64::from(wanted.every_s));
        let lease = format!("supabase:{}:{}", wanted.environment, wanted.source);
        let mut memory = None;
        let mut due = Instant::now();
        loop {
            if !self.renew(&lease).await {
                memory = None; // what another node reads is not known here
                tokio::time::sleep(RENEW_EVERY).await;
                continue;
            }
            if Instant::now() >= due {
                let looked = self.look_and_renew(wanted, &lease, &mut memory).await;
                let pause = match looked {
                    Ok(Progress { failures: 0, is_behind: true }) => GO_ON_AFTER,
                    Ok(Progress { failures, .. }) => pause_after(every, failures),
                    Err(error) => {
                        // Our own database is away: the next look begins where this one did.
                        tracing::debug!(error = %error, "auth tables cannot be read now");
                        memory = None;
                        every
                    }
                };
                due = Instant::now() + pause;
            }
            let wait = due.saturating_duration_since(Instant::now());
            tokio::time::sleep(wait.min(RENEW_EVERY)).await;
        }
    }

    async fn look_and_renew(
        self: &Arc<Self>,
        wanted: &Supabase,
        lease: &str,
        memory: &mut Option<Memory>,
    ) -> Result<Progress, AppError> {
        let look = self.look_at_supabase(wanted, memory);
        tokio::pin!(look);
        loop {
            tokio::select! {
                looked = &mut look => return looked,
                () = tokio::time::sleep(RENEW_EVERY) => { self.renew(lease).await; }
            }
        }
    }

    /// Whether this node may look.
    async fn renew(&self, lease: &str) -> bool {
        let now = self.clock.now();
        self.store.hold_lease(lease, &self.hub.node, (now, now + LEASE_MS)).await.unwrap_or(false)
    }

    /// Looks once, and keeps how far it came.
    async fn look_at_supabase(
        self: &Arc<Self>,
        wanted: &Supabase,
        memory: &mut Option<Memory>,
    ) -> Result<Progress, AppError> {
        let Supabase { environment, source, .. } = wanted;
        let known = self.store.find_event_poller(environment, source).await?;
        let now = self.clock.now();
        let mut row = known.unwrap_or_else(|| Memory::beginning(environment, source, now));
        let here = memory.get_or_insert_with(|| Memory::of(&row, now));
        let looked =
            tokio::time::timeout(LOOK_WITHIN, self.read_supabase(wanted, &mut row, here)).await;
        let looked = looked.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", LOOK_WITHIN.as_secs());
            Err(Trouble::Theirs("away", message))
        });
        row.looked_at = self.clock.now();
        let is_behind = match looked {
            Ok(is_behind) => {
                (row.failures, row.good_at) = (0, Some(row.looked_at));
                is_behind
            }
            Err(Trouble::Ours(error)) => return Err(error),
            Err(Trouble::Theirs(state, message)) => {
                if row.failures == 0 {
                    tracing::warn!(source, "auth tables cannot be read: {message}");
                }
                row.failures += 1;
                (row.state, row.said) = (state.to_owned(), Some(message));
                row.good_at = None; // the last good one stays
                false
            }
        };
        self.store.keep_event_poller(&row).await?;
        Ok(Progress { failures: row.failures, is_behind })
    }
}

/// Ever longer, while nothing works.
fn pause_after(every: Duration, failures: u64) -> Duration {
    let doublings = u32::try_from(failures).unwrap_or(u32::MAX).min(DOUBLINGS_MAX);
    let pause = every.saturating_mul(2_u32.saturating_pow(doublings));
    pause.min(PAUSE_MAX.max(every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_and_has_an_end() {
        let pause = |failures| pause_after(Duration::from_secs(10), failures).as_secs();
        assert_eq!([pause(0), pause(1), pause(3), pause(60)], [10, 20, 80, 300]);
        let rare = Duration::from_hours(1);
        assert_eq!(pause_after(rare, 9), rare);
    }
}
