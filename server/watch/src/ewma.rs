//! A smoothed mean against its limits, for latencies: `z_t = l x + (1 - l) z_(t-1)` on logarithms.
//!
//! Limits `mean +- L s sqrt(l / (2 - l) (1 - (1 - l)^(2t)))` with `l = 0.2` and `L = 4` (Roberts 1959; Lucas and
//! Saccucci 1990). Logarithms, because latencies have a long upper tail and change by factors.

use serde::{Deserialize, Serialize};

use crate::maths::median;

const WEIGHT: f64 = 0.2;
const LIMIT: f64 = 4.0;
/// Values below which there is no usual.
const USUAL_MIN: usize = 20;
/// The least spread of logarithms: 5 %. Latencies that never moved so far would else alarm at a hair.
const SPREAD_MIN: f64 = 0.05;

/// What is usual: centre and spread of the logarithms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    /// The median of the logarithms.
    pub centre: f64,
    /// Their median deviation, times 1.4826 so that it is a standard deviation for a bell curve; at least 0.05.
    pub spread: f64,
}

impl Usual {
    /// From earlier values, such as one median latency a minute over the last hours. Nothing for fewer
    /// than 20 positive ones.
    pub fn of(values: &[f64]) -> Option<Self> {
        let good = values.iter().copied().filter(|value| value.is_finite() && *value > 0.0);
        let logs: Vec<f64> = good.map(f64::ln).collect();
        if logs.len() < USUAL_MIN {
            return None;
        }
        let centre = median(logs.iter().copied())?;
        let deviation = median(logs.iter().map(|log| (log - centre).abs()))?;
        Some(Self { centre, spread: (deviation * 1.4826).max(SPREAD_MIN) })
    }
}

/// The smoothed mean so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ewma {
    /// The smoothed distance from the centre, in spreads.
    level: f64,
    seen: u32,
}

impl Ewma {
    /// Takes one value in, such as the median latency of a tick, and says how far the mean is beyond its limits: over
    /// 1 is too high, under -1 too low. Nothing, and no change, for what is not a positive number.
    pub fn observe(&mut self, value: f64, usual: &Usual) -> Option<f64> {
        let distance = (value.ln() - usual.centre) / usual.spread;
        if !distance.is_finite() {
            return None;
        }
        self.level = WEIGHT * distance + (1.0 - WEIGHT) * self.level;
        self.seen = self.seen.saturating_add(1);
        let settled = 1.0 - (1.0 - WEIGHT).powi(self.seen.saturating_mul(2).min(10_000) as i32);
        Some(self.level / (LIMIT * (WEIGHT / (2.0 - WEIGHT) * settled).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Usual {
        let values: Vec<f64> = (0..60).map(|n| 100.0 + f64::from(n % 7) * 5.0).collect();
        Usual::of(&values).unwrap()
    }

    #[test]
    fn a_doubled_latency_is_beyond_the_limit_and_the_usual_one_is_not() {
        let mut steady = Ewma::default();
        for n in 0..1_000 {
            let found = steady.observe(100.0 + f64::from(n % 7) * 5.0, &usual()).unwrap();
            assert!(found.abs() < 1.0, "{n}: {found}");
        }
        let mut risen = steady;
        assert!((0..3).any(|_| risen.observe(230.0, &usual()).unwrap() > 1.0));
    }

    #[test]
    fn what_is_no_latency_changes_nothing() {
        let mut ewma = Ewma::default();
        for value in [f64::NAN, f64::INFINITY, 0.0, -3.0] {
            assert_eq!(ewma.observe(value, &usual()), None);
        }
        assert_eq!(ewma, Ewma::default());
        assert_eq!(Usual::of(&[f64::NAN; 100]), None);
        assert!((Usual::of(&[100.0; 30]).unwrap().spread - SPREAD_MIN).abs() < 1e-12);
    }
}
