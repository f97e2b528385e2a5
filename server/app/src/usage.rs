//! Evaluation counts: added up in memory, written once in a while, bounded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use switchback_core::model::Millis;
use switchback_core::wire::{Count, REPORT_ROWS_MAX};
use switchback_store::{Role, UsageRow};

use super::App;
use super::error::AppError;
use super::who::Who;

/// Rows kept in memory between two writes; more are dropped, with a counter.
const ROWS_MAX: usize = 50_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const KEEP_MS: i64 = 14 * DAY_MS;
/// How long alerts that are over are kept, in milliseconds.
const KEEP_ALERTS_MS: i64 = 400 * DAY_MS;

type Key = (String, String, Millis, String);

/// Counts that are not written yet.
#[derive(Default)]
pub(crate) struct Counts {
    rows: Mutex<BTreeMap<Key, u64>>,
}

impl App {
    /// Takes a client's report in. Counts of flags that do not exist are dropped. Returns the
    /// evaluations that counted.
    pub fn on_report(
        &self,
        environment: &str,
        counts: &[Count],
        known: impl Fn(&str) -> bool,
    ) -> u64 {
        let minute = self.clock.now() / MINUTE_MS * MINUTE_MS;
        let mut rows = self.usage.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        for count in counts.iter().take(REPORT_ROWS_MAX).filter(|count| known(&count.flag)) {
            let outcome = match &count.variant {
                Some(variant) => {
                    format!("variant:{}", variant.chars().take(100).collect::<String>())
                }
                None if count.enabled => "on".to_owned(),
                None => "off".to_owned(),
            };
            let key = (environment.to_owned(), count.flag.clone(), minute, outcome);
            if rows.len() >= ROWS_MAX && !rows.contains_key(&key) {
                self.metrics.dropped_counts.inc();
                continue;
            }
            let sum = rows.entry(key).or_insert(0);
            *sum = sum.saturating_add(count.count.min(1 << 40));
            total += count.count.min(1 << 40);
        }
        self.metrics.evaluations.inc_by(total);
        total
    }

    /// A flag's evaluations in the last day, oldest first, with what is not written yet.
    pub async fn flag_usage(
        &self,
        who: &Who,
        environment: &str,
        flag: &str,
    ) -> Result<Vec<UsageRow>, AppError> {
        who.must(Role::Viewer, environment, "look at flags")?;
        self.write_usage().await;
        Ok(self.store.list_usage(environment, flag, self.clock.now() - DAY_MS).await?)
    }

    /// For each flag: its last minute with an evaluation, and its evaluations in the last hour.
    pub async fn latest_usage(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<BTreeMap<String, (Millis, u64)>, AppError> {
        who.must(Role::Viewer, environment, "look at flags")?;
        let rows = self.store.latest_usage(environment, self.clock.now() - 60 * MINUTE_MS).await?;
        Ok(rows.into_iter().map(|(flag, minute, count)| (flag, (minute, count))).collect())
    }

    /// Writes what was counted. On an outage the counts are kept for the next time.
    pub async fn write_usage(&self) {
        let rows =
            std::mem::take(&mut *self.usage.rows.lock().unwrap_or_else(PoisonError::into_inner));
        let mut by_environment: BTreeMap<String, Vec<UsageRow>> = BTreeMap::new();
        for ((environment, flag, minute, outcome), evaluations) in rows {
            let row = UsageRow { flag, minute, outcome, evaluations };
            by_environment.entry(environment).or_default().push(row);
        }
        for (environment, rows) in by_environment {
            if let Err(error) = self.store.add_usage(&environment, &rows).await {
                tracing::warn!(error = %error, "evaluation counts could not be written; kept");
                let mut kept = self.usage.rows.lock().unwrap_or_else(PoisonError::into_inner);
                for UsageRow { flag, minute, outcome, evaluations } in rows {
                    let key = (environment.clone(), flag, minute, outcome);
                    *kept.entry(key).or_insert(0) += evaluations;
                }
            }
        }
    }

    /// Forgets what is older than it is of use: counts, ended sessions, old idempotency keys.
    pub async fn sweep(&self) {
        let now = self.clock.now();
        let swept = async {
            self.store.forget_usage(now - KEEP_MS).await?;
            self.store.forget_impact(now - KEEP_MS).await?;
            self.store.delete_expired_sessions(now).await?;
            self.store.sweep_preserved(now - KEEP_MS).await?;
            self.store.sweep_outbox(now - KEEP_MS).await?;
            self.store.sweep_subscribers(now - super::subscribers::PENDING_MS).await?;
            self.sweep_probes().await?;
            self.sweep_auth_events().await?;
            self.store.forget_alerts(now - KEEP_ALERTS_MS).await?;
            self.store.forget_keys(now - DAY_MS, now - 30 * DAY_MS).await
        };
        if let Err(error) = swept.await {
            tracing::warn!(error = %error, "old rows could not be swept; the next sweep will");
        }
        self.sweep_backups().await;
    }
}
