//! The one node that sweeps: each pack at its pace, never two sweeps of one pack at a time; and the runs of repairs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use switchback_checks::event_mode::Mode;
use switchback_core::model::Millis;

use super::book::KnownPack;
use super::health::pack_view;
use super::memory::Memory;
use super::sweep::{Places, Sweep};
use crate::App;
use crate::error::AppError;

const TICK: Duration = Duration::from_millis(100);
const LEASE: &str = "checks";
const LEASE_MS: Millis = 10_000;
/// How often the lease is held anew, in milliseconds.
const HOLD_MS: Millis = 2_000;
/// How often packs and runs are read, in milliseconds, unless something wakes the loop.
const READ_MS: Millis = 1_000;
/// How often old findings are forgotten, in milliseconds.
const FORGET_MS: Millis = 3_600_000;
/// How long the trend is kept, in milliseconds: 30 days.
const HISTORY_MS: Millis = 30 * 86_400_000;
/// How long findings that are over are kept, in milliseconds: 90 days.
const FINDINGS_MS: Millis = 90 * 86_400_000;

impl App {
    /// Looks once, and keeps what that changed. A check that fails has its error in its state; the others go on.
    ///
    /// # Errors
    /// The database of ours, or the data source as a whole, does not answer.
    pub(super) async fn sweep_pack(
        &self,
        memory: &mut Memory,
        known: &KnownPack,
        places: Places<'_>,
        sweep: Sweep<'_>,
    ) -> Result<(), AppError> {
        memory.load(self, &known.pack.name).await?;
        memory.is_underway = true;
        let swept = self.sweep_checks(memory, known, places, sweep).await;
        memory.is_underway = false;
        swept
    }

    /// Sweeps, for the life of the server, while this node holds the lease.
    pub(crate) async fn run_checks(self: Arc<Self>) {
        let mut book: BTreeMap<String, KnownPack> = BTreeMap::new();
        let mut due: BTreeMap<String, Millis> = BTreeMap::new();
        let (mut held_at, mut read_at, mut forgot_at) = (0, 0, self.clock.now());
        let mut is_holder = false;
        loop {
            let is_woken = tokio::time::timeout(TICK, self.checks.wake.notified()).await.is_ok();
            let now = self.clock.now();
            if now - held_at >= HOLD_MS {
                let node = self.hub.node.as_str();
                match self.store.hold_lease(LEASE, node, (now, now + LEASE_MS)).await {
                    Ok(holds) => {
                        if holds && !is_holder {
                            self.checks.forget();
                        }
                        if is_holder && !holds {
                            self.metrics.checks.clear();
                        }
                        (is_holder, held_at) = (holds, now);
                    }
                    Err(error) => {
                        tracing::debug!(error = %error, "checks cannot be swept");
                        is_holder = is_holder && now - held_at < LEASE_MS;
                    }
                }
            }
            if !is_holder {
                continue;
            }
            if is_woken || now - read_at >= READ_MS {
                match self.check_book().await {
                    Ok(found) => {
                        (book, read_at) = (found, now);
                        self.drive_open_runs(&book).await;
                    }
                    Err(error) => tracing::debug!(error = %error, "packs cannot be read"),
                }
            }
            for (name, known) in &book {
                let Some(every) = known.settings.every_ms(&known.pack.pace, now) else {
                    due.remove(name);
                    continue;
                };
                let every = every.cast_signed();
                // When event mode begins, nobody waits for the end of a long interval.
                let at = due.entry(name.clone()).or_insert(now);
                *at = (*at).min(now + every);
                if *at > now {
                    continue;
                }
                *at = now + every;
                let (app, known) = (Arc::clone(&self), known.clone());
                tokio::spawn(async move { app.sweep_if_free(&known, every).await });
            }
            if now - forgot_at >= FORGET_MS {
                forgot_at = now;
                self.forget_old_checks(&book, now).await;
            }
        }
    }

    /// One sweep by the monitor; skipped while the one before still works.
    async fn sweep_if_free(&self, known: &KnownPack, every: Millis) {
        let memory = self.checks.memory(&known.pack.name);
        // A batch of repairs is waited for; another sweep that still works is not overlapped.
        let wait = Duration::from_millis(every.cast_unsigned());
        let Ok(mut memory) = tokio::time::timeout(wait, memory.lock()).await else { return };
        let now = self.clock.now();
        if memory.breaker.rests_until(now).is_some() {
            return;
        }
        let settings = &known.settings;
        let pace = &known.pack.pace;
        let fixes = settings.mode == Mode::Fix && settings.observes_until(pace, now).is_none();
        let swept = async {
            let (pool, replica) = memory.pools(self, settings, every.cast_unsigned()).await?;
            let (_, wide) = self.sources_of(known).await?;
            memory.load(self, &known.pack.name).await?;
            if memory.is_behind && has_fixes(known) {
                self.catch_up_monitor(&mut memory, known, &pool).await?;
            }
            let places = Places { pool: &pool, replica: &replica, wide: &wide };
            let sweep = Sweep { only: None, is_full: false, fixes };
            self.sweep_pack(&mut memory, known, places, sweep).await
        };
        match swept.await {
            Ok(()) => {
                memory.breaker.well();
                self.metrics.checks.set(&pack_view(
                    known,
                    &memory.all_states(&known.pack.name),
                    0,
                    now,
                ));
            }
            // Somebody else wrote the same run: the next sweep reads it again.
            Err(AppError::Conflict { .. }) => memory.forget_findings(),
            Err(error) => {
                tracing::warn!(pack = known.pack.name, error = %error, "a sweep failed; the next one goes on");
                memory.forget_queries();
                memory.forget_findings(); // what was fixed may not be on record
                memory.breaker.failed(now);
            }
        }
    }

    /// Drives every run of repairs that nobody on this node drives yet.
    async fn drive_open_runs(self: &Arc<Self>, book: &BTreeMap<String, KnownPack>) {
        let Ok(runs) = self.store.list_open_check_runs().await else { return };
        for run in runs {
            {
                let mut driven = self.checks.driven.lock().unwrap_or_else(PoisonError::into_inner);
                if !driven.insert(run.id.clone()) {
                    continue;
                }
            }
            let (app, known) = (Arc::clone(self), book.get(&run.pack).cloned());
            tokio::spawn(async move {
                let id = run.id.clone();
                app.drive_check_run(run, known).await;
                let mut driven = app.checks.driven.lock().unwrap_or_else(PoisonError::into_inner);
                driven.remove(&id);
            });
        }
    }

    async fn forget_old_checks(&self, book: &BTreeMap<String, KnownPack>, now: Millis) {
        let sources: BTreeSet<&str> = book
            .values()
            .filter(|known| has_fixes(known))
            .map(|known| known.settings.source.as_str())
            .filter(|name| !name.is_empty())
            .collect();
        for name in sources {
            let Ok(source) = self.source(name).await else { continue };
            if let Err(error) = source.sweep_journal().await {
                tracing::debug!(source = name, error = %error, "old journals could not be forgotten");
            }
        }
        let forgotten = async {
            self.store.forget_check_history(now - HISTORY_MS).await?;
            self.store.forget_findings(now - FINDINGS_MS).await
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(error = %error, "old findings could not be forgotten");
        }
    }
}

fn has_fixes(known: &KnownPack) -> bool {
    known.pack.checks.iter().any(|check| check.fix.is_some())
}
