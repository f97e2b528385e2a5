//! A guard: what it watches, what it has seen, and where things stand.
//!
//! Two questions are asked of every metric at each tick: has the evidence since the start reached its bound
//! ([`crate::grid::Grid`]), and, once it has run for a while, did something change at some moment
//! ([`crate::grid::Cusum`]). Doubts about the data come first: nobody takes a flag back because the
//! counting broke, and nothing counted is never read as nothing wrong.

mod metric;
mod words;

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::grid::{Tick, tolerated};
use crate::sample_ratio;
use metric::Metric;

/// What happens when a guard finds harm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// People are told.
    Warn,
    /// The rollout goes no further.
    Hold,
    /// The flag goes back to what it was before the rollout's step.
    #[default]
    PutBack,
    /// A playbook is started.
    RunPlaybook {
        /// Its name.
        name: String,
        /// One person agrees first.
        approval: bool,
    },
}

/// A guard's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// What people know the change as, such as `the new login`; used in sentences.
    pub subject: String,
    /// The names of the metrics, each a share of users that failed. Each gets its part of the error rates.
    pub metrics: Vec<String>,
    /// How many times as often the treated may fail.
    pub tolerated: f64,
    /// The chance of ever acting on a harmless change.
    pub alpha_act: f64,
    /// The chance of ever warning of one.
    pub alpha_warn: f64,
    /// Users that each arm needs before a verdict.
    pub min_users: u64,
    /// What happens when harm is found.
    pub action: Action,
    /// After something was done to a flag by itself, nothing is for so long, in milliseconds.
    pub cool_down_ms: Millis,
    /// The length of a tick, in milliseconds.
    pub tick_ms: Millis,
    /// Without data for longer than this a rollout goes no further, in milliseconds.
    pub no_data_hold_ms: Millis,
    /// Without data for longer than this somebody is told, in milliseconds.
    pub no_data_page_ms: Millis,
    /// From this age on, late changes are looked for too, in milliseconds. Before, `alpha_act` holds alone.
    pub steady_ms: Millis,
    /// False alarms of that search are at least so far apart on average, in milliseconds.
    pub false_alarm_every_ms: Millis,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            subject: "the flag".to_owned(),
            metrics: vec!["failures".to_owned()],
            tolerated: 1.0,
            alpha_act: 1e-4,
            alpha_warn: 1e-2,
            min_users: 8,
            action: Action::default(),
            cool_down_ms: 6 * 3_600_000,
            tick_ms: 5_000,
            no_data_hold_ms: 15_000,
            no_data_page_ms: 60_000,
            steady_ms: 10 * 60_000,
            false_alarm_every_ms: 30 * 86_400_000,
        }
    }
}

impl Guard {
    /// What is wrong with the settings: the field, and what it takes.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut must = |holds: bool, field: &'static str, takes: &str| {
            if !holds {
                found.push((field, format!("`{field}` {takes}")));
            }
        };
        let chance = |alpha: f64| (1e-9..=0.2).contains(&alpha);
        must((1..=10).contains(&self.metrics.len()), "metrics", "names one to ten metrics");
        must((0.1..=100.0).contains(&self.tolerated), "tolerated", "is a ratio from 0.1 to 100");
        must(chance(self.alpha_act), "alpha_act", "is a chance from 1e-9 to 0.2");
        must(chance(self.alpha_warn), "alpha_warn", "is a chance from 1e-9 to 0.2");
        must(
            self.alpha_act <= self.alpha_warn,
            "alpha_act",
            "is not more than `alpha_warn`: a warning comes before an action",
        );
        must((1_000..=3_600_000).contains(&self.tick_ms), "tick_ms", "is from 1 s to 1 h");
        must(self.cool_down_ms >= 0, "cool_down_ms", "is not negative");
        must(
            self.no_data_hold_ms >= self.tick_ms,
            "no_data_hold_ms",
            "is at least one tick: data of this tick may still be on its way",
        );
        must(
            self.no_data_page_ms >= self.no_data_hold_ms,
            "no_data_page_ms",
            "is not less than `no_data_hold_ms`",
        );
        must(self.steady_ms >= 0, "steady_ms", "is not negative");
        must(self.false_alarm_every_ms >= 3_600_000, "false_alarm_every_ms", "is at least an hour");
        if let Action::RunPlaybook { name, .. } = &self.action {
            must(!name.trim().is_empty(), "action", "names the playbook to run");
        }
        found
    }

    /// The evidence at which a chance is reached: `ln(metrics / alpha)`.
    fn bound(&self, alpha: f64) -> f64 {
        let alpha = if alpha > 0.0 && alpha < 1.0 { alpha } else { 1e-4 };
        (self.metrics.len().max(1) as f64).ln() - alpha.ln()
    }
}

/// One metric's news of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The counts; nothing when the source did not answer. All noughts say that it answered and nobody came.
    pub tick: Option<Tick>,
    /// The service's usual failure rate, from 0 to 1, if that is known: see [`crate::baseline::usual`].
    pub usual: Option<f64>,
}

/// Users seen in an arm for the first time since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrivals {
    /// New ones with the new behaviour.
    pub treated: u64,
    /// New ones without it.
    pub control: u64,
    /// The share of all of them that should be treated, from 0 to 1.
    pub share: f64,
}

/// What a guard has seen since its start. Kept as JSON; one that does not parse is begun anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardState {
    since: Millis,
    now: Millis,
    tolerated: f64,
    metrics: Vec<Metric>,
    arrivals: Arrivals,
}

impl GuardState {
    /// Begins at the start of a rollout's step, or when a guard is armed.
    pub fn new(settings: &Guard, now: Millis) -> Self {
        Self {
            since: now,
            now,
            tolerated: tolerated(settings.tolerated),
            metrics: vec![Metric::default(); settings.metrics.len()],
            arrivals: Arrivals::default(),
        }
    }

    /// The state that was kept, or a new one when that cannot be read or belongs to other settings.
    pub fn read(text: &str, settings: &Guard, now: Millis) -> Self {
        let kept = serde_json::from_str(text).ok();
        kept.filter(|state: &Self| state.fits(settings)).unwrap_or_else(|| Self::new(settings, now))
    }

    fn fits(&self, settings: &Guard) -> bool {
        self.metrics.len() == settings.metrics.len()
            && (self.tolerated - tolerated(settings.tolerated)).abs() < 1e-12
    }

    /// The users that were counted, all metrics' least.
    pub fn users(&self) -> (u64, u64) {
        let totals = || self.metrics.iter().map(|metric| metric.totals);
        (
            totals().map(|tick| tick.treated).min().unwrap_or(0),
            totals().map(|tick| tick.control).min().unwrap_or(0),
        )
    }
}

/// Where things stand. The order is that of their weight: the first that holds is the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Users do not arrive as the rollout says: something measures wrongly. Holds, and never takes back.
    SampleRatio,
    /// Both arms fail far more than usual: something else is broken. Holds.
    NotThisFlag,
    /// The treated fail more.
    Bad,
    /// Nothing is known. Holds.
    NoData {
        /// Since when, in milliseconds before now.
        age_ms: Millis,
    },
    /// The treated may fail more.
    Warn,
    /// Too few users so far.
    Insufficient,
    /// Nothing is wrong.
    Ok,
}

impl Standing {
    /// The word for it, as in JSON and in cases.
    pub fn word(self) -> &'static str {
        match self {
            Self::SampleRatio => "sample_ratio",
            Self::NotThisFlag => "not_this_flag",
            Self::Bad => "bad",
            Self::NoData { .. } => "no_data",
            Self::Warn => "warn",
            Self::Insufficient => "insufficient",
            Self::Ok => "ok",
        }
    }

    fn weight(self) -> u8 {
        match self {
            Self::SampleRatio => 6,
            Self::NotThisFlag => 5,
            Self::Bad => 4,
            Self::NoData { .. } => 3,
            Self::Warn => 2,
            Self::Insufficient => 1,
            Self::Ok => 0,
        }
    }
}

/// What a guard says at a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Where things stand.
    pub standing: Standing,
    /// The metric that decides it.
    pub metric: String,
    /// The evidence, a natural logarithm.
    pub evidence: f64,
    /// The evidence at which something is done.
    pub bound: f64,
    /// How many times as often the treated fail; nothing while no control user failed.
    pub ratio: Option<f64>,
    /// How many times as often at least (95 %, at all looks at once); nothing while that is not over 1.
    pub ratio_at_least: Option<f64>,
    /// The p-value that is valid at every look, over all metrics.
    pub p_value: f64,
    /// Users counted with the new behaviour, of the metric that has the fewest.
    pub treated: u64,
    /// Users counted without it.
    pub control: u64,
    /// One sentence for people.
    pub words: String,
}

/// Takes a tick in and says where things stand. `readings` are in the order of the guard's metrics; one that is
/// missing is no data. A clock that goes back stands still.
pub fn observe(
    state: &mut GuardState,
    settings: &Guard,
    readings: &[Reading],
    arrivals: Option<Arrivals>,
    now: Millis,
) -> Verdict {
    if !state.fits(settings) {
        *state = GuardState::new(settings, now);
    }
    state.now = state.now.max(now);
    let now = state.now;
    let steady = now.saturating_sub(state.since) >= settings.steady_ms;
    let mut worst: Option<(Standing, usize)> = None;
    let mut p_value = 1.0_f64;
    for (index, metric) in state.metrics.iter_mut().enumerate() {
        let reading = readings.get(index).copied().unwrap_or_default();
        metric.take(&reading, state.tolerated, now);
        p_value = p_value.min(metric.grid.p_value());
        let standing = metric.standing(settings, &reading, state.since, now, steady);
        if worst.is_none_or(|(found, _)| standing.weight() > found.weight()) {
            worst = Some((standing, index));
        }
    }
    let (mut standing, index) = worst.unwrap_or((Standing::Insufficient, 0));
    if state.count_arrivals(arrivals) {
        standing = Standing::SampleRatio;
    }
    let fallback = Metric::default();
    let metric = state.metrics.get(index).unwrap_or(&fallback);
    let (treated, control) = state.users();
    let late = metric.is_late(settings, steady);
    let mut verdict = Verdict {
        standing,
        metric: settings.metrics.get(index).cloned().unwrap_or_default(),
        evidence: if late { metric.cusum.evidence() } else { metric.grid.evidence() },
        bound: if late { metric::late_bound(settings) } else { settings.bound(settings.alpha_act) },
        ratio: if late { metric.late_ratio() } else { metric.ratio.estimate() },
        ratio_at_least: metric.ratio.at_least(),
        p_value: (p_value * state.metrics.len().max(1) as f64).min(1.0),
        treated,
        control,
        words: String::new(),
    };
    verdict.words = words::sentence(settings, &verdict, state.arrivals);
    verdict
}

impl GuardState {
    /// Adds new users up and says whether their shares are wrong.
    fn count_arrivals(&mut self, news: Option<Arrivals>) -> bool {
        let all = &mut self.arrivals;
        if let Some(news) = news.filter(|news| news.share > 0.0 && news.share < 1.0) {
            if (all.share - news.share).abs() > 1e-9 {
                *all = Arrivals { share: news.share, ..Arrivals::default() };
            }
            all.treated = all.treated.saturating_add(news.treated);
            all.control = all.control.saturating_add(news.control);
        }
        let counts = [all.treated, all.control];
        let shares = [all.share, 1.0 - all.share];
        sample_ratio::mismatch(&counts, &shares, sample_ratio::ALPHA) == Some(true)
    }
}

#[cfg(test)]
mod tests;
