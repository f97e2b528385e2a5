//! Treatment against control, looked at as often as one likes: a mixture over seven ratios.
//!
//! Each tick gives four counts of distinct users: seen and failed, with the new behaviour (treated) and
//! without (control). The null says that the treated fail at most `psi0` times as often. Against it stand
//! `psi = psi0 * r` for the seven [`RATIOS`]; a tick multiplies the wealth of each by
//!
//! ```text
//! q(psi) = psi n_T / (psi n_T + n_C)
//! e(psi) = (q(psi) / q(psi0))^y_T * ((1 - q(psi)) / (1 - q(psi0)))^y_C
//! ln e   = y_T ln r - (y_T + y_C) ln((psi n_T + n_C) / (psi0 n_T + n_C))
//! ```
//!
//! and the evidence is the mean `M` of the seven wealths. Why a look at every tick costs nothing: with
//! independent users, each with a risk of their own, `E e = prod(1 + p_i (a - 1)) * prod(1 + p_i (b - 1))`
//! for `a = q(psi)/q(psi0)` and `b = (1 - q(psi))/(1 - q(psi0))`, which `1 + x <= exp(x)` bounds by
//! `exp(n_T p_T (a - 1) + n_C p_C (b - 1))`, and that is at most 1 while `p_T <= psi0 p_C`. So `M` is a
//! non-negative supermartingale and by Ville's inequality `P(M ever reaches 1/alpha) <= alpha`, whatever
//! the base rate does and however the rollout's share moves from tick to tick.
//!
//! Related: Lindon, Sanden and Shirikian, "Rapid Regression Detection in Software Deployments through
//! Sequential Testing", KDD 2022; Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample
//! tests"; for the running restarts of [`Cusum`], Shin, Ramdas and Rinaldo, "E-detectors".

use serde::{Deserialize, Serialize};

use crate::maths::log_sum_exp;

/// The ratios that are tried, each times the tolerated one.
pub const RATIOS: [f64; 7] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0];

/// Ticks between false alarms of a [`Cusum`] at least, on average: 30 days of ticks of 5 seconds.
pub const ARL_TICKS: f64 = 518_400.0;

/// Above this share of failing control users, successes are what is counted: a rate of 40 % cannot triple.
const FLIP_ABOVE: f64 = 0.30;
/// Control users before that share means anything.
const FLIP_USERS: f64 = 20.0;
/// Control users after which half of them are forgotten, so that the share follows the service.
const FLIP_MEMORY: f64 = 100_000.0;

/// What one tick saw: distinct users, never requests.
///
/// A user who fails counts as failed once from the guard's start on; others may be seen in every tick. The proof
/// takes each failure as a draw of its own: with five requests of one user counted as five, nearly half of all healthy
/// rollouts would be taken back (`docs/statistics.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Users with the new behaviour.
    pub treated: u64,
    /// Those of them that failed.
    pub treated_bad: u64,
    /// Users without it.
    pub control: u64,
    /// Those of them that failed.
    pub control_bad: u64,
}

impl Tick {
    /// Whether no arm has more failures than users.
    pub fn is_sound(&self) -> bool {
        self.treated_bad <= self.treated && self.control_bad <= self.control
    }

    /// Whether nobody was seen.
    pub fn is_empty(&self) -> bool {
        self.treated == 0 && self.control == 0
    }

    /// Both counts together, as two nodes that saw different users add theirs up.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            treated: self.treated.saturating_add(other.treated),
            treated_bad: self.treated_bad.saturating_add(other.treated_bad),
            control: self.control.saturating_add(other.control),
            control_bad: self.control_bad.saturating_add(other.control_bad),
        }
    }

    /// The same tick with successes as the event: that the treated fail more is that control succeeds more.
    fn turned(&self) -> Self {
        Self {
            treated: self.control,
            treated_bad: self.control.saturating_sub(self.control_bad),
            control: self.treated,
            control_bad: self.treated.saturating_sub(self.treated_bad),
        }
    }
}

/// A tolerated ratio as the rules take it: 1 for what is no number, else from 0.1 to 100.
pub fn tolerated(psi0: f64) -> f64 {
    if psi0.is_finite() { psi0.clamp(0.1, 100.0) } else { 1.0 }
}

/// `ln e` of one tick for each ratio; nothing when the tick says nothing or cannot be true.
fn log_e(tick: &Tick, psi0: f64) -> Option<[f64; 7]> {
    if !tick.is_sound() || tick.treated == 0 || tick.control == 0 {
        return None;
    }
    let bad = tick.treated_bad as f64 + tick.control_bad as f64;
    let mut steps = denominators(tick.treated, tick.control, psi0);
    for (step, ratio) in steps.iter_mut().zip(RATIOS) {
        *step = tick.treated_bad as f64 * ratio.ln() - bad * *step;
    }
    Some(steps)
}

/// `ln((psi n_T + n_C) / (psi0 n_T + n_C))` for each ratio; nought for empty arms.
pub(crate) fn denominators(treated: u64, control: u64, psi0: f64) -> [f64; 7] {
    let (treated, control) = (treated as f64, control as f64);
    let under_null = psi0 * treated + control;
    if under_null <= 0.0 {
        return [0.0; 7];
    }
    RATIOS.map(|ratio| ((psi0 * ratio * treated + control) / under_null).ln())
}

/// Which event is counted, from the ticks before: choosing it from the tick itself would be cheating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Event {
    control: f64,
    bad: f64,
}

impl Event {
    /// The tick with the event that suits the base rate so far.
    ///
    /// Only for a tolerated ratio of 1: "the treated fail no more" and "control succeeds no more" are the
    /// same null then. With a margin they are not, and failures stay the event: valid at any rate, and
    /// slower at high ones.
    fn choose(&mut self, tick: &Tick, psi0: f64) -> Tick {
        let turn = (psi0 - 1.0).abs() < 1e-12
            && self.control >= FLIP_USERS
            && self.bad > FLIP_ABOVE * self.control;
        if tick.is_sound() {
            self.control += tick.control as f64;
            self.bad += tick.control_bad as f64;
        }
        if self.control > FLIP_MEMORY {
            let keep = FLIP_MEMORY / 2.0 / self.control;
            self.control *= keep;
            self.bad *= keep;
        }
        if turn { tick.turned() } else { *tick }
    }
}

/// The evidence since a moment, such as the start of a rollout's step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Log-wealth for each of [`RATIOS`].
    wealth: [f64; 7],
    /// The highest evidence so far.
    peak: f64,
    event: Event,
}

impl Grid {
    /// Takes one tick in. What cannot be true (more failures than users) changes nothing.
    pub fn observe(&mut self, tick: &Tick, psi0: f64) {
        let psi0 = tolerated(psi0);
        let tick = self.event.choose(tick, psi0);
        let Some(steps) = log_e(&tick, psi0) else { return };
        for (wealth, step) in self.wealth.iter_mut().zip(steps) {
            *wealth += step;
        }
        // The mean is not above the highest, so that most ticks need no exponentials.
        if self.wealth.iter().any(|wealth| *wealth > self.peak) {
            self.peak = self.peak.max(self.evidence());
        }
    }

    /// The natural logarithm of `M`; act at the first tick where it reaches `ln(1/alpha)`.
    pub fn evidence(&self) -> f64 {
        log_sum_exp(&self.wealth) - (RATIOS.len() as f64).ln()
    }

    /// The always-valid p-value, `1 / max M`: from 0 to 1, and never rising.
    pub fn p_value(&self) -> f64 {
        (-self.peak).exp().min(1.0)
    }
}

/// The evidence that something changed at some moment, when the moment is not known.
///
/// The wealth of each ratio begins anew from 1 whenever it would fall below; the alarm is at a mean of
/// [`ARL_TICKS`], and false alarms are then at least so many ticks apart on average.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cusum {
    /// Log-wealth for each of [`RATIOS`].
    wealth: [f64; 7],
    /// The counts since that wealth began anew: what the change looks like, should it be one.
    since: [Tick; 7],
    event: Event,
}

impl Cusum {
    /// Takes one tick in. What cannot be true changes nothing.
    pub fn observe(&mut self, tick: &Tick, psi0: f64) {
        let psi0 = tolerated(psi0);
        let chosen = self.event.choose(tick, psi0);
        let Some(steps) = log_e(&chosen, psi0) else { return };
        for ((wealth, since), step) in self.wealth.iter_mut().zip(&mut self.since).zip(steps) {
            if *wealth <= 0.0 {
                (*wealth, *since) = (0.0, Tick::default());
            }
            *wealth += step;
            *since = since.plus(tick);
        }
    }

    /// The natural logarithm of the mean wealth; alarm where it reaches the logarithm of the run length.
    pub fn evidence(&self) -> f64 {
        log_sum_exp(&self.wealth) - (RATIOS.len() as f64).ln()
    }

    /// The counts since the most likely moment of the change.
    pub fn since_change(&self) -> Tick {
        let pairs = self.wealth.iter().zip(self.since);
        pairs.max_by(|a, b| a.0.total_cmp(b.0)).map(|(_, since)| since).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Tick = Tick { treated: 20, treated_bad: 3, control: 20, control_bad: 0 };

    #[test]
    fn what_cannot_be_true_changes_nothing() {
        let mut grid = Grid::default();
        let before = grid.clone();

        grid.observe(&Tick { treated: 1, treated_bad: 9, control: 9, control_bad: 0 }, 1.0);
        grid.observe(&Tick::default(), 1.0);
        grid.observe(&Tick { treated: 50, treated_bad: 50, ..Tick::default() }, f64::NAN);

        assert_eq!(grid, before);
    }

    #[test]
    fn a_million_ticks_and_the_largest_counts_stay_numbers() {
        let (mut grid, mut cusum) = (Grid::default(), Cusum::default());
        let quiet = Tick { treated: 500, treated_bad: 10, control: 500, control_bad: 10 };
        for _ in 0..1_000_000 {
            grid.observe(&quiet, 1.0);
        }
        assert!(grid.evidence() < 0.0 && grid.evidence().is_finite());
        let most = u64::MAX;
        for tick in [
            Tick { treated: most, treated_bad: most, control: most, control_bad: 0 },
            Tick { treated: 1, treated_bad: 1, control: most, control_bad: most },
        ] {
            grid.observe(&tick, 1.0);
            cusum.observe(&tick, 1.0);
        }
        assert!(grid.evidence().is_finite() && cusum.evidence().is_finite());
        assert!((0.0..=1.0).contains(&grid.p_value()));
    }

    #[test]
    fn harm_that_begins_late_is_found_sooner_by_restarting() {
        let (mut grid, mut cusum) = (Grid::default(), Cusum::default());
        let quiet = Tick { treated: 50, treated_bad: 1, control: 50, control_bad: 1 };
        for _ in 0..1_000 {
            grid.observe(&quiet, 1.0);
            cusum.observe(&quiet, 1.0);
        }
        for _ in 0..10 {
            grid.observe(&BAD, 1.0);
            cusum.observe(&BAD, 1.0);
        }

        assert!(cusum.evidence() > ARL_TICKS.ln() && grid.evidence() < 0.0);
        assert_eq!(cusum.since_change().treated_bad, 30);
    }

    #[test]
    fn above_thirty_percent_successes_are_the_event() {
        let tick = Tick { treated: 20, treated_bad: 19, control: 20, control_bad: 12 };
        let (mut even, mut margin) = (Grid::default(), Grid::default());
        for _ in 0..20 {
            even.observe(&tick, 1.0);
            margin.observe(&tick, 1.000_001);
        }
        assert!(even.evidence() > margin.evidence() + 5.0);
    }
}
