//! One metric of a guard: its evidence, its last minute, and whether it is still being measured.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use super::{Guard, Reading, Standing};
use crate::baseline::{self, Count};
use crate::grid::{Cusum, Grid, Tick};
use crate::ratio::Ratio;

/// What counts as now when both arms are compared with the usual, in milliseconds.
const RECENT_MS: Millis = 60_000;
/// Ticks that are kept of it at most.
const RECENT_MAX: usize = 60;
/// Both arms fail at least so many times as often as usual before something else is blamed.
const FAR_ABOVE: f64 = 2.0;
/// Users of an arm from which the other arm's share of ticks can be told.
const SHARE_USERS: u64 = 20;
/// Users that should have come meanwhile before an arm counts as silent. Poisson's chance of none is one in a
/// million at 13.8; twice that, because users come in bursts.
const SILENT: f64 = 27.6;
/// Warnings of a late change come so many times as often as actions.
const WARN_OFTENER: f64 = 30.0;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Metric {
    pub(super) grid: Grid,
    pub(super) cusum: Cusum,
    pub(super) ratio: Ratio,
    pub(super) totals: Tick,
    last_data: Option<Millis>,
    last_treated: Option<Millis>,
    last_control: Option<Millis>,
    /// Users that should have come in an arm since its last one.
    missing_treated: f64,
    missing_control: f64,
    recent: VecDeque<(Millis, Tick)>,
}

impl Metric {
    pub(super) fn take(&mut self, reading: &Reading, psi0: f64, now: Millis) {
        // More failures than users is a fault of the counting: as good as no answer.
        let Some(tick) = reading.tick.filter(Tick::is_sound) else { return };
        self.last_data = Some(now);
        self.count_silence(&tick, now);
        self.grid.observe(&tick, psi0);
        self.cusum.observe(&tick, psi0);
        self.ratio.observe(&tick);
        self.totals = self.totals.plus(&tick);
        self.recent.push_back((now, tick));
        while self.recent.len() > RECENT_MAX
            || self.recent.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= RECENT_MS)
        {
            self.recent.pop_front();
        }
    }

    fn count_silence(&mut self, tick: &Tick, now: Millis) {
        let known = self.totals.treated >= SHARE_USERS && self.totals.control >= SHARE_USERS;
        let per_control =
            if known { self.totals.treated as f64 / self.totals.control as f64 } else { 0.0 };
        let per_treated =
            if known { self.totals.control as f64 / self.totals.treated as f64 } else { 0.0 };
        self.missing_treated += tick.control as f64 * per_control;
        self.missing_control += tick.treated as f64 * per_treated;
        if tick.treated > 0 {
            (self.last_treated, self.missing_treated) = (Some(now), 0.0);
        }
        if tick.control > 0 {
            (self.last_control, self.missing_control) = (Some(now), 0.0);
        }
    }

    /// Since when nothing is known, in milliseconds before now.
    fn silent_ms(&self, settings: &Guard, since: Millis, now: Millis) -> Option<Millis> {
        let age = |last: Option<Millis>| now.saturating_sub(last.unwrap_or(since)).max(0);
        let whole = age(self.last_data);
        if whole > settings.no_data_hold_ms {
            return Some(whole);
        }
        if self.missing_treated > SILENT {
            return Some(age(self.last_treated));
        }
        (self.missing_control > SILENT).then(|| age(self.last_control))
    }

    pub(super) fn standing(
        &self,
        settings: &Guard,
        reading: &Reading,
        since: Millis,
        now: Millis,
        steady: bool,
    ) -> Standing {
        if let Some(age_ms) = self.silent_ms(settings, since, now) {
            return Standing::NoData { age_ms };
        }
        if reading.usual.is_some_and(|usual| self.both_arms_bad(usual)) {
            return Standing::NotThisFlag;
        }
        if self.totals.treated < settings.min_users || self.totals.control < settings.min_users {
            return Standing::Insufficient;
        }
        let evidence = self.grid.evidence();
        let late = if steady { self.cusum.evidence() } else { f64::NEG_INFINITY };
        if evidence >= settings.bound(settings.alpha_act) || late >= late_bound(settings) {
            return Standing::Bad;
        }
        let warn_late = late_bound(settings) - WARN_OFTENER.ln();
        if evidence >= settings.bound(settings.alpha_warn) || late >= warn_late {
            return Standing::Warn;
        }
        Standing::Ok
    }

    /// Whether it is the late change that speaks, rather than the evidence since the start.
    pub(super) fn is_late(&self, settings: &Guard, steady: bool) -> bool {
        let start = settings.bound(settings.alpha_act) - self.grid.evidence();
        steady
            && self.cusum.evidence() >= late_bound(settings) - WARN_OFTENER.ln()
            && late_bound(settings) - self.cusum.evidence() < start
    }

    /// The ratio since the likely moment of the change.
    pub(super) fn late_ratio(&self) -> Option<f64> {
        let mut ratio = Ratio::default();
        ratio.observe(&self.cusum.since_change());
        ratio.estimate()
    }

    /// Whether both arms are far above the service's usual rate: then it is not what tells them apart.
    fn both_arms_bad(&self, usual: f64) -> bool {
        let sum = self.recent.iter().fold(Tick::default(), |sum, (_, tick)| sum.plus(tick));
        let treated = Count { users: sum.treated, bad: sum.treated_bad };
        let control = Count { users: sum.control, bad: sum.control_bad };
        [treated, control].into_iter().all(|arm| {
            baseline::z(arm, usual).is_some_and(|z| z > baseline::Z_ACT)
                && arm.rate().is_some_and(|rate| rate > FAR_ABOVE * usual)
        })
    }
}

/// The evidence of a late change at which something is done: the logarithm of the run length in ticks, times
/// the number of metrics.
pub(super) fn late_bound(settings: &Guard) -> f64 {
    let ticks = settings.false_alarm_every_ms.max(1) as f64 / settings.tick_ms.max(1) as f64;
    (ticks.max(1.0) * settings.metrics.len().max(1) as f64).ln()
}
