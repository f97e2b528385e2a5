//! How long a harm would take to see at a step, by a small seeded simulation.

use serde::{Deserialize, Serialize};
use switchback_core::model::{Millis, Percent};

use crate::draw::{Binomial, Draw};
use crate::grid::{RATIOS, denominators};
use crate::maths::log_sum_exp;

const RUNS: u64 = 300;
/// Ticks of one run: with the runs, the bound of the work.
const TICKS: u64 = 1_500;
/// Ticks that are taken together at most, where a tick has hardly a treated user.
const TOGETHER_MAX: u64 = 256;
const SEED: u64 = 0x5eed;

/// What a service is like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Distinct users in a tick, of both arms.
    pub users_per_tick: f64,
    /// The length of a tick, in milliseconds.
    pub tick_ms: Millis,
    /// The usual share of them that fails, from 0 to 1.
    pub base_rate: f64,
}

/// How long a harm takes to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Seconds in half of all cases; nothing when that is longer than 1,500 ticks (of at least one treated user).
    pub median_s: Option<u64>,
    /// Seconds in 95 of 100 cases; nothing when that is longer.
    pub p95_s: Option<u64>,
}

/// How long a harm would take to see at a step, where the treated fail `harm_ratio` times as often, at a
/// promise of `alpha`. The same arguments give the same answer; it takes a few ten milliseconds at most, so that a server
/// calls it where it may block.
///
/// Nothing can be seen without users, without failures, at 100 % (nobody is left to compare with), or for a
/// harm that is none.
pub fn detection_time(
    percent: Percent,
    traffic: &Traffic,
    harm_ratio: f64,
    alpha: f64,
) -> Estimate {
    let share = percent.as_f64() / 100.0;
    let base = traffic.base_rate;
    let sound = base > 0.0
        && base < 1.0
        && share > 0.0
        && share < 1.0
        && harm_ratio > 1.0
        && alpha > 0.0
        && alpha < 1.0
        && traffic.users_per_tick > 0.0
        && traffic.users_per_tick.is_finite()
        && traffic.tick_ms > 0;
    if !sound {
        return Estimate::default();
    }
    let users = traffic.users_per_tick.min(1e9);
    let mut together = 1;
    while users * share * (together as f64) < 1.0 && together < TOGETHER_MAX {
        together *= 2;
    }
    let users = users * together as f64;
    let harmed = (base * harm_ratio).min(1.0);
    // Above 30 % the guard counts successes; the arms change places then.
    let arms = if base > 0.3 {
        [(users * (1.0 - share), 1.0 - base), (users * share, 1.0 - harmed)]
    } else {
        [(users * share, harmed), (users * (1.0 - share), base)]
    };
    let mut ticks = simulate(arms, -alpha.ln());
    ticks.sort_unstable();
    let seconds = |rank: f64| {
        let ticks = ticks.get((RUNS as f64 * rank).ceil() as usize - 1).filter(|n| **n <= TICKS)?;
        let ms = traffic.tick_ms.unsigned_abs().saturating_mul(together);
        Some(ticks.saturating_mul(ms) / 1_000)
    };
    Estimate { median_s: seconds(0.5), p95_s: seconds(0.95) }
}

/// The tick at which each run saw it; one after the last for runs that did not.
fn simulate(arms: [(f64, f64); 2], bound: f64) -> Vec<u64> {
    let [treated, control] = arms.map(Arm::new);
    let logs = RATIOS.map(f64::ln);
    // An arm has one of two sizes in a tick, so that four tables serve all of them.
    let table = |t: usize, c: usize| denominators(treated.size(t), control.size(c), 1.0);
    let tables = [table(0, 0), table(0, 1), table(1, 0), table(1, 1)];
    let mut draw = Draw::new(SEED);
    let mut run = || {
        let (mut wealth, mut owed) = ([0.0_f64; 7], (0.0, 0.0));
        for tick in 1..=TICKS {
            let (more_treated, treated_bad) = treated.tick(&mut owed.0, &mut draw);
            let (more_control, control_bad) = control.tick(&mut owed.1, &mut draw);
            let index = usize::from(more_treated) * 2 + usize::from(more_control);
            let Some(table) = tables.get(index) else { continue };
            let (y, m) = (treated_bad as f64, (treated_bad + control_bad) as f64);
            let mut top = f64::NEG_INFINITY;
            for ((wealth, log), denominator) in wealth.iter_mut().zip(logs).zip(table) {
                *wealth += y * log - m * denominator;
                top = top.max(*wealth);
            }
            // The mean is not above the highest.
            if top >= bound && log_sum_exp(&wealth) - (RATIOS.len() as f64).ln() >= bound {
                return tick;
            }
        }
        TICKS + 1
    };
    (0..RUNS).map(|_| run()).collect()
}

/// An arm whose users come in two numbers a tick, the whole ones below and above the mean.
struct Arm {
    mean: f64,
    low: u64,
    sizes: [Binomial; 2],
}

impl Arm {
    fn new((mean, chance): (f64, f64)) -> Self {
        let low = mean.floor() as u64;
        Self { mean, low, sizes: [Binomial::new(low, chance), Binomial::new(low + 1, chance)] }
    }

    fn size(&self, more: usize) -> u64 {
        self.low + more as u64
    }

    /// Whether the higher number comes, and how many of them have the event.
    fn tick(&self, owed: &mut f64, draw: &mut Draw) -> (bool, u64) {
        *owed += self.mean - self.low as f64;
        let more = *owed >= 1.0;
        if more {
            *owed -= 1.0;
        }
        let [low, high] = &self.sizes;
        (more, draw.binomial(if more { high } else { low }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(percent: f64, users: f64, base: f64, harm: f64) -> Estimate {
        let traffic = Traffic { users_per_tick: users, tick_ms: 5_000, base_rate: base };
        detection_time(Percent::try_from(percent).unwrap(), &traffic, harm, 1e-4)
    }

    #[test]
    fn more_users_and_more_harm_are_seen_sooner() {
        let few = time(5.0, 40.0, 0.02, 3.0).median_s.unwrap();
        let many = time(50.0, 40.0, 0.02, 3.0).median_s.unwrap();
        let worse = time(50.0, 40.0, 0.02, 6.0);

        assert!(few > many && many > worse.median_s.unwrap());
        // The design's figure for 20 + 20 users at 1e-4.
        assert!((55..=75).contains(&worse.median_s.unwrap()), "{worse:?}");
        assert!((105..=140).contains(&worse.p95_s.unwrap()), "{worse:?}");
    }

    #[test]
    fn what_cannot_be_seen_has_no_time() {
        for (percent, users, base, harm) in [
            (100.0, 40.0, 0.02, 3.0),
            (0.0, 40.0, 0.02, 3.0),
            (5.0, 0.0, 0.02, 3.0),
            (5.0, f64::NAN, 0.02, 3.0),
            (5.0, 40.0, 0.0, 3.0),
            (5.0, 40.0, 0.02, 1.0),
            (5.0, 40.0, f64::NAN, 3.0),
            (0.001, 0.01, 0.001, 1.01),
        ] {
            assert_eq!(time(percent, users, base, harm), Estimate::default());
        }
        assert!(time(1.0, 1e300, 0.5, 1e300).median_s.is_some());
    }

    #[test]
    fn high_rates_are_seen_by_their_successes() {
        assert!(time(50.0, 40.0, 0.7, 3.0).median_s.unwrap() <= 60);
    }
}
