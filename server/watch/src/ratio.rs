//! How many times as often the treated fail, and how many times at least.

use serde::{Deserialize, Serialize};

use crate::grid::Tick;
use crate::maths::log_sum_exp;

/// The chance that the bound is ever too high, however often it is looked at.
pub const BOUND_ALPHA: f64 = 0.05;

/// Ratios that are refused one after the other; the last is only an alternative to those before it.
const POINTS: [f64; 30] = [
    1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0,
    7.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 100.0, 200.0,
];

/// The ratio of failure rates, treated over control, since a moment.
///
/// The estimate is Mantel and Haenszel's, `sum(y_T n_C / n) / sum(y_C n_T / n)`, which neither a moving base
/// rate nor a moving share distorts. The bound: for each null `psi <= x` on a grid stands the mixture
/// of [`crate::grid`] over the points above `x` (every point's log-likelihood is kept, and the evidence
/// against `x` is the mean of `exp(L(psi) - L(x))`). It is the highest point up to which all nulls were
/// refused at [`BOUND_ALPHA`]. To be too high it would have to refuse a true null, so that
/// it holds at all ticks at once with a probability of 95 %.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    likelihood: [f64; 30],
    /// How many nulls were refused, from the lowest upwards.
    refused: usize,
    treated: f64,
    control: f64,
}

impl Ratio {
    /// Takes one tick in. What cannot be true changes nothing.
    pub fn observe(&mut self, tick: &Tick) {
        if !tick.is_sound() || tick.treated == 0 || tick.control == 0 {
            return;
        }
        let (treated, control) = (tick.treated as f64, tick.control as f64);
        let (treated_bad, control_bad) = (tick.treated_bad as f64, tick.control_bad as f64);
        let all = treated + control;
        self.treated += treated_bad * control / all;
        self.control += control_bad * treated / all;
        for (sum, psi) in self.likelihood.iter_mut().zip(POINTS) {
            *sum += treated_bad * psi.ln()
                - (treated_bad + control_bad) * ((psi * treated + control) / all).ln();
        }
        while self.refuses_next() {
            self.refused += 1;
        }
    }

    fn refuses_next(&self) -> bool {
        let Some((null, above)) =
            self.likelihood.get(self.refused..).and_then(<[f64]>::split_first)
        else {
            return false;
        };
        // The two highest points are alternatives only.
        above.len() >= 2
            && log_sum_exp(above) - (above.len() as f64).ln() - null >= -BOUND_ALPHA.ln()
    }

    /// How many times as often the treated fail; nothing while no control user has failed.
    pub fn estimate(&self) -> Option<f64> {
        let ratio = self.treated / self.control;
        (self.control > 0.0 && ratio.is_finite()).then_some(ratio)
    }

    /// How many times as often at least (95 %, at all ticks at once); nothing while that is not over 1.
    pub fn at_least(&self) -> Option<f64> {
        POINTS.get(self.refused.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_rises_towards_the_truth_and_stays_below() {
        let mut ratio = Ratio::default();
        let tick = Tick { treated: 100, treated_bad: 6, control: 100, control_bad: 2 };
        let mut bounds = Vec::new();
        for _ in 0..2_000 {
            ratio.observe(&tick);
            bounds.push(ratio.at_least().unwrap_or(0.0));
        }

        assert!((ratio.estimate().unwrap() - 3.0).abs() < 1e-9);
        assert!(bounds.is_sorted());
        assert_eq!(bounds.last(), Some(&2.75));
    }

    #[test]
    fn the_estimate_does_not_mind_a_moving_share() {
        let mut ratio = Ratio::default();
        ratio.observe(&Tick { treated: 10, treated_bad: 2, control: 990, control_bad: 99 });
        ratio.observe(&Tick { treated: 500, treated_bad: 10, control: 500, control_bad: 5 });

        assert!((ratio.estimate().unwrap() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn without_failures_there_is_no_ratio() {
        let mut ratio = Ratio::default();
        ratio.observe(&Tick { treated: 10, treated_bad: 2, control: 10, control_bad: 0 });
        assert_eq!(ratio.estimate(), None);
        assert_eq!(ratio.at_least(), None);
    }
}
