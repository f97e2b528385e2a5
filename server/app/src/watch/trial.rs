//! Trying an alert rule on the past, before anybody is called by it.

use std::collections::BTreeMap;

use serde::Serialize;
use switchback_core::model::Millis;
use switchback_store::{CountFilter, Role};
use switchback_watch::event::EventKind;
use switchback_watch::histogram::Histogram;
use switchback_watch::replay::{Cells, can_be_tried, replay};
use switchback_watch::rollup::floor;
use switchback_watch::rule::{Condition, Rule};

use super::figures::failures_heard_at;
use crate::App;
use crate::error::AppError;
use crate::who::Who;

const DAY_MS: Millis = 86_400_000;
/// Days that a rule may be tried on.
const DAYS_MAX: i64 = 30;
/// So many days back counts are kept by the minute.
const BY_MINUTE_DAYS: i64 = 3;
/// The widest cells that are used before those days, in seconds.
const WIDE_S: i64 = 600;

/// What a rule would have done.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Trial {
    /// From this moment, in UTC milliseconds.
    pub from: Millis,
    /// Until before this one.
    pub until: Millis,
    /// By cells of so many seconds.
    pub width_s: i64,
    /// Each time that it would have fired, the oldest first.
    pub fired: Vec<TrialFiring>,
    /// How long nothing was known, in milliseconds.
    pub unknown_ms: Millis,
}

/// One time that a rule would have fired.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct TrialFiring {
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// When it would have been over; none: it still would fire.
    pub until: Option<Millis>,
    /// What people would have been told of the worst of it.
    pub words: String,
}

impl App {
    /// When a rule would have fired in an environment over the last days, by the counts that are kept. Nothing is kept
    /// of it, and nobody is told.
    pub async fn try_alert_rule(
        &self,
        who: &Who,
        environment: &str,
        source: &str,
        days: i64,
    ) -> Result<Trial, AppError> {
        who.must(Role::Viewer, environment, "try alert rules")?;
        self.get_environment(environment).await?;
        let rule = Rule::parse(source)?;
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(AppError::invalid("days", format!("1 to {DAYS_MAX} days")));
        }
        let width_s = if days <= BY_MINUTE_DAYS { 60 } else { WIDE_S };
        can_be_tried(&rule.when, width_s * 1_000)
            .map_err(|why| AppError::invalid("spec.when", why))?;
        // The newest cell is not full yet, and cells of a minute are gone after three days.
        let until = floor(self.clock.now(), width_s);
        let from = until - days * DAY_MS + if days == BY_MINUTE_DAYS { 3_600_000 } else { 0 };
        let first = floor(from - rule.when.window_ms().min(DAY_MS), width_s);
        let filter = CountFilter { environment, width_s, dimension: "all", from: first, until };
        let mut cells = Cells {
            width_ms: width_s * 1_000,
            from: first,
            len: usize::try_from((until - first) / (width_s * 1_000)).unwrap_or(0),
            counts: BTreeMap::new(),
            latencies: BTreeMap::new(),
            tells_failures: false,
        };
        let sources = self.store.list_auth_sources(environment).await?;
        cells.tells_failures = failures_heard_at(&sources).is_some_and(|at| at >= from);
        let place = |at: Millis| usize::try_from((at - first) / (width_s * 1_000)).ok();
        for (at, kind, _, n) in self.store.list_auth_counts(&filter).await? {
            let Some((kind, place)) = EventKind::of(&kind).zip(place(at)) else { continue };
            let len = cells.len;
            let counts = cells.counts.entry(kind).or_insert_with(|| vec![0; len]);
            if let Some(count) = counts.get_mut(place) {
                *count += n;
            }
        }
        if let Condition::Latency { of, .. } = &rule.when {
            let (good, _) = of.kinds();
            let filter = CountFilter { dimension: "latency", ..filter };
            let mut all = vec![Histogram::default(); cells.len];
            for (at, kind, bucket, n) in self.store.list_auth_counts(&filter).await? {
                if kind == good.word()
                    && let Some(one) = place(at).and_then(|place| all.get_mut(place))
                    && let Ok(bucket) = bucket.parse()
                {
                    one.add(bucket, n);
                }
            }
            cells.latencies.insert(good, all);
        }
        let tried = rule.clone();
        let found = tokio::task::spawn_blocking(move || replay(&tried, &cells, from))
            .await
            .map_err(|error| AppError::Internal(error.into()))?;
        let fired = found.fired.into_iter().map(|one| TrialFiring {
            at: one.at,
            until: one.until,
            words: rule.words(Some(one.highest), environment),
        });
        let (fired, unknown_ms) = (fired.collect(), found.unknown_ms);
        Ok(Trial { from, until, width_s, fired, unknown_ms })
    }
}
