//! The other rules, and those that people use instead, on simulated services.

use std::collections::VecDeque;

use switchback_watch::baseline::{self, Count};
use switchback_watch::draw::{Binomial, Draw};
use switchback_watch::grid::{Cusum, Grid, Tick};
use switchback_watch::ratio::Ratio;
use switchback_watch::sample_ratio;

use crate::scenarios::{Null, Source, TICK_S, TICKS, percentiles};

/// A rule as people write it: looks at every tick, remembers what it likes.
pub type Rule = fn(&mut Naive, &Tick) -> bool;

/// What such a rule remembers.
#[derive(Default)]
pub struct Naive {
    sum: Tick,
    bad_ticks: u32,
}

/// More than 10 % of the treated failed in this tick.
pub fn fixed(_: &mut Naive, tick: &Tick) -> bool {
    tick.treated_bad * 10 > tick.treated
}

/// The same in more than three ticks of the run.
pub fn fixed_thrice(state: &mut Naive, tick: &Tick) -> bool {
    state.bad_ticks += u32::from(tick.treated_bad * 10 > tick.treated);
    state.bad_ticks > 3
}

/// The pooled z-test of two shares, one-sided at 1 %, looked at in each tick.
pub fn z_each_tick(state: &mut Naive, tick: &Tick) -> bool {
    state.sum = state.sum.plus(tick);
    let sum = &state.sum;
    let (n, m) = (sum.treated as f64, sum.control as f64);
    let pooled = (sum.treated_bad + sum.control_bad) as f64 / (n + m);
    let spread = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    let z = (sum.treated_bad as f64 / n - sum.control_bad as f64 / m) / spread;
    n * pooled >= 5.0 && m * pooled >= 5.0 && z > 2.326_348
}

/// The share of healthy runs that such a rule takes back within an hour.
pub fn naive_alarms(null: &Null, runs: u64, rule: Rule) -> f64 {
    let source = Source::new(null.parts, TICKS);
    let alarms = (0..runs).filter(|run| {
        let (mut draw, mut state) = (Draw::new(1_000_003 * run), Naive::default());
        (0..TICKS).any(|tick| rule(&mut state, &source.tick(tick, &mut draw)))
    });
    alarms.count() as f64 / runs as f64
}

/// A way of counting: how often one failing user counts.
#[derive(Clone, Copy)]
pub struct Repeats {
    /// Ticks in which the user counts.
    pub times: usize,
    /// Ticks from one of them to the next.
    pub apart: usize,
    /// Counts in each of them.
    pub weight: u64,
}

/// The shares of healthy runs taken back at 1 % and at 0.01 % when failing users count like that: what becomes of the
/// promise when users are not counted once. The rate of failures is 2 % in all of them.
pub fn repeated_alarms(runs: u64, repeats: Repeats) -> [f64; 2] {
    let chance = Binomial::new(20, 0.02 / repeats.times as f64);
    let kept = (repeats.times - 1) * repeats.apart + 1;
    let p_values = (0..runs).map(|run| {
        let (mut draw, mut grid) = (Draw::new(1_000_003 * run), Grid::default());
        let mut news: VecDeque<(u64, u64)> = VecDeque::new();
        for tick in 0..TICKS as usize + kept {
            news.push_front((draw.binomial(&chance), draw.binomial(&chance)));
            news.truncate(kept);
            if tick < kept {
                continue; // users who began to fail before the guard was armed
            }
            let again = news.iter().step_by(repeats.apart);
            let (treated, control) = again.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let users = 20 * repeats.weight;
            grid.observe(
                &Tick {
                    treated: users,
                    treated_bad: (treated * repeats.weight).min(users),
                    control: users,
                    control_bad: (control * repeats.weight).min(users),
                },
                1.0,
            );
        }
        grid.p_value()
    });
    let p_values: Vec<f64> = p_values.collect();
    [0.01, 1e-4].map(|alpha| p_values.iter().filter(|p| **p <= alpha).count() as f64 / runs as f64)
}

/// The mean number of ticks to the first false alarm; runs end at `most`.
pub fn run_length(runs: u64, threshold: f64, most: u64) -> f64 {
    let of = Binomial::new(20, 0.02);
    let lengths = (0..runs).map(|run| {
        let (mut draw, mut cusum) = (Draw::new(3_000_017 * run), Cusum::default());
        let alarm = (0..most).find(|_| {
            let (treated_bad, control_bad) = (draw.binomial(&of), draw.binomial(&of));
            cusum.observe(&Tick { treated: 20, treated_bad, control: 20, control_bad }, 1.0);
            cusum.evidence() >= threshold.ln()
        });
        alarm.map_or(most, |tick| tick + 1) as f64
    });
    lengths.sum::<f64>() / runs as f64
}

/// The tick at which the sample ratio alarms, of 40 new users a tick.
fn ratio_alarm(run: u64, real: f64, meant: f64, ticks: u64) -> Option<u64> {
    let (mut draw, of) = (Draw::new(5_000_011 * run), Binomial::new(40, real));
    let mut counts = [0, 0];
    (0..ticks).find(|_| {
        let treated = draw.binomial(&of);
        counts = [counts[0] + treated, counts[1] + 40 - treated];
        sample_ratio::mismatch(&counts, &[meant, 1.0 - meant], sample_ratio::ALPHA) == Some(true)
    })
}

/// Runs of an hour in which the sample ratio alarmed.
pub fn ratio_alarms(runs: u64, real: f64, meant: f64) -> u64 {
    (0..runs).filter(|run| ratio_alarm(*run, real, meant, TICKS).is_some()).count() as u64
}

/// The median of the seconds to the alarm.
pub fn ratio_delay(runs: u64, real: f64, meant: f64) -> f64 {
    let ticks = 4 * TICKS;
    let delay = |run| (ratio_alarm(run, real, meant, ticks).unwrap_or(ticks) + 1) as f64 * TICK_S;
    percentiles((0..runs).map(delay).collect()).0
}

/// False alarms a day of `z > limit` on minutes of so many users, against the trimmed rate of the hour before.
pub fn bucket_alarms(days: u64, users: u64, rate: f64, limit: f64) -> f64 {
    let (mut draw, of) =
        (Draw::new(users * 31 + (rate * 1_000.0) as u64), Binomial::new(users, rate));
    let mut hour: VecDeque<Count> = VecDeque::new();
    let mut alarms = 0_u64;
    for _ in 0..days * 1_440 {
        let minute = Count { users, bad: draw.binomial(&of) };
        let usual = baseline::usual_of_hour(hour.make_contiguous());
        let z = usual.and_then(|usual| baseline::z(minute, usual));
        alarms += u64::from(z.is_some_and(|z| z > limit));
        hour.push_back(minute);
        if hour.len() > 60 {
            hour.pop_front();
        }
    }
    alarms as f64 / days as f64
}

/// Episodes a day of `z > limit` on a window of so many ticks that is looked at in every tick, the usual rate being known.
pub fn sliding_episodes(days: u64, users: u64, rate: f64, ticks: usize, limit: f64) -> f64 {
    let (mut draw, of) = (Draw::new(users * 37 + ticks as u64), Binomial::new(users, rate));
    let (mut window, mut bad) = (VecDeque::new(), 0);
    let (mut inside, mut episodes) = (false, 0_u64);
    for _ in 0..days * 17_280 {
        let count = draw.binomial(&of);
        window.push_back(count);
        bad += count;
        if window.len() > ticks {
            bad -= window.pop_front().unwrap_or(0);
        }
        let seen = Count { users: users * window.len() as u64, bad };
        let over = baseline::z(seen, rate).is_some_and(|z| z > limit);
        episodes += u64::from(over && !inside);
        inside = over;
    }
    episodes as f64 / days as f64
}

/// Seconds from a rise of the failure rate until `z > 4`, for so many users a tick and a window of so many ticks.
pub fn baseline_delays(runs: u64, users: u64, from: f64, to: f64, ticks: usize) -> (f64, f64) {
    let (healthy, harmed) = (Binomial::new(users, from), Binomial::new(users, to));
    let delay = |run: u64| {
        let mut draw = Draw::new(11_000_027 * run);
        let mut window: VecDeque<u64> = (0..ticks).map(|_| draw.binomial(&healthy)).collect();
        let seen = (1..4 * TICKS).find(|_| {
            window.pop_front();
            window.push_back(draw.binomial(&harmed));
            let count = Count { users: users * ticks as u64, bad: window.iter().sum() };
            baseline::z(count, from).is_some_and(|z| z > baseline::Z_PAGE)
        });
        seen.unwrap_or(4 * TICKS) as f64 * TICK_S
    };
    percentiles((0..runs).map(delay).collect())
}

/// Runs of an hour in which the bound of the ratio was ever above the truth, 1.5.
pub fn bound_too_high(runs: u64) -> u64 {
    let (treated, control) = (Binomial::new(50, 0.06), Binomial::new(50, 0.04));
    let wrong = (0..runs).filter(|run| {
        let (mut draw, mut ratio) = (Draw::new(13_000_027 * run), Ratio::default());
        for _ in 0..TICKS {
            let (treated_bad, control_bad) = (draw.binomial(&treated), draw.binomial(&control));
            ratio.observe(&Tick { treated: 50, treated_bad, control: 50, control_bad });
        }
        ratio.at_least().is_some_and(|bound| bound >= 1.5)
    });
    wrong.count() as u64
}
