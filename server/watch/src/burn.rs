//! How fast an error budget burns, in a long and a short window at once.
//!
//! `burn(w) = error rate in w / (1 - objective)`; a pair fires while both windows are above its threshold
//! (Google, "The Site Reliability Workbook", chapter 5). The long window says that it matters, the short one
//! that it still goes on. `B = share of the budget * period / long window`, and after a step from no errors to a
//! rate of `e` a pair fires after `long * B * (1 - objective) / e`; never, when `e` is not above `B (1 - objective)`.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::baseline::Count;

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;

/// The period that the thresholds of [`STANDARD`] are for: 30 days, in milliseconds.
pub const PERIOD_MS: Millis = 30 * DAY;
/// Users in the short window below which nothing is said.
pub const USERS_MIN: u64 = 20;

/// What a pair is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody is woken.
    Page,
    /// Somebody looks at it on a working day.
    Ticket,
    /// Quick enough for a rollback within five minutes.
    Rollback,
}

/// A long and a short window with their threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// What it is for.
    pub severity: Severity,
    /// The long window, in milliseconds.
    pub long_ms: Millis,
    /// The short window, in milliseconds.
    pub short_ms: Millis,
    /// Both windows burn faster than this, in budgets a period.
    pub threshold: f64,
}

const fn pair(severity: Severity, long_ms: Millis, short_ms: Millis, threshold: f64) -> Pair {
    Pair { severity, long_ms, short_ms, threshold }
}

/// The four pairs of a 30-day budget: 2 % of it in an hour, 5 % in six, 10 % in a day, 10 % in three.
pub const STANDARD: [Pair; 4] = [
    pair(Severity::Page, HOUR, 5 * MINUTE, 14.4),
    pair(Severity::Page, 6 * HOUR, 30 * MINUTE, 6.0),
    pair(Severity::Ticket, DAY, 2 * HOUR, 3.0),
    pair(Severity::Ticket, 3 * DAY, 6 * HOUR, 1.0),
];

/// The threshold that spends a share of the budget in one long window: `share * period / long`.
///
/// Nothing for a share that is not from 0 to 1, or windows that are not positive.
pub fn threshold(budget_share: f64, period_ms: Millis, long_ms: Millis) -> Option<f64> {
    let sound = (0.0..=1.0).contains(&budget_share) && period_ms > 0 && long_ms > 0;
    sound.then(|| budget_share * period_ms as f64 / long_ms as f64)
}

/// The pair of 5 minutes and 30 seconds that fires `within_ms` after errors rise from none to `rate`:
/// `B = within * rate / (long * (1 - objective))`.
///
/// Nothing where no threshold does that: an objective that is not between 0 and 1, a rate that is not, or a time
/// longer than the long window.
pub fn rollback_pair(objective: f64, within_ms: Millis, rate: f64) -> Option<Pair> {
    const LONG: Millis = 5 * MINUTE;
    let sound = objective > 0.0
        && objective < 1.0
        && rate > 0.0
        && rate <= 1.0
        && within_ms > 0
        && within_ms < LONG;
    let threshold = within_ms as f64 * rate / (LONG as f64 * (1.0 - objective));
    sound.then(|| pair(Severity::Rollback, LONG, 30_000, threshold))
}

/// How fast a window burns; nothing without users or with an objective that is not between 0 and 1.
pub fn burn(window: Count, objective: f64) -> Option<f64> {
    let rate = window.rate()?;
    (objective > 0.0 && objective < 1.0).then(|| rate / (1.0 - objective))
}

impl Pair {
    /// Whether both windows burn too fast; nothing while the short one has fewer than [`USERS_MIN`] users.
    pub fn fires(&self, long: Count, short: Count, objective: f64) -> Option<bool> {
        if short.users < USERS_MIN {
            return None;
        }
        let (long, short) = (burn(long, objective)?, burn(short, objective)?);
        Some(long > self.threshold && short > self.threshold)
    }

    /// How long it takes to fire after errors rise from none to `rate`, in milliseconds; nothing when it never does.
    pub fn detection_ms(&self, objective: f64, rate: f64) -> Option<Millis> {
        let limit = self.threshold * (1.0 - objective);
        let fires = rate.is_finite() && rate > limit && limit > 0.0;
        fires.then(|| (self.long_ms as f64 * limit / rate).ceil() as Millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thresholds_are_those_of_the_budget_shares() {
        for (found, share) in STANDARD.iter().zip([0.02, 0.05, 0.1, 0.1]) {
            let expected = threshold(share, PERIOD_MS, found.long_ms).unwrap();
            assert!((found.threshold - expected).abs() < 1e-9);
        }
        assert_eq!(threshold(f64::NAN, 1, 1), None);
        assert_eq!(threshold(0.1, PERIOD_MS, 0), None);
    }

    #[test]
    fn detection_takes_as_long_as_the_workbook_says() {
        let [quick, ..] = STANDARD;
        let seconds = |objective, rate| quick.detection_ms(objective, rate).map(|ms| ms / 1_000);
        assert_eq!(seconds(0.99, 0.2), Some(2_592));
        assert_eq!(seconds(0.99, 0.5), Some(1_036));
        assert_eq!(seconds(0.99, 1.0), Some(518));
        assert_eq!(seconds(0.99, 0.1), None);
        assert_eq!(seconds(0.999, 1.0), Some(51));
        assert_eq!(seconds(f64::NAN, 1.0), None);
    }

    #[test]
    fn the_rollback_pair_is_solved_for_its_time() {
        let found = rollback_pair(0.99, 60_000, 0.2).unwrap();
        assert!((found.threshold - 4.0).abs() < 1e-9);
        assert!((60_000..=60_001).contains(&found.detection_ms(0.99, 0.2).unwrap()));
        for (objective, within, rate) in
            [(1.0, 60_000, 0.2), (0.99, 0, 0.2), (0.99, 300_000, 0.2), (0.99, 60_000, f64::NAN)]
        {
            assert_eq!(rollback_pair(objective, within, rate), None);
        }
    }

    #[test]
    fn both_windows_must_burn_and_few_users_say_nothing() {
        let [quick, ..] = STANDARD;
        let count = |users, bad| Count { users, bad };
        assert_eq!(quick.fires(count(1_000, 200), count(100, 20), 0.99), Some(true));
        assert_eq!(quick.fires(count(1_000, 200), count(100, 2), 0.99), Some(false));
        assert_eq!(quick.fires(count(1_000, 20), count(100, 90), 0.99), Some(false));
        assert_eq!(quick.fires(count(1_000, 200), count(19, 19), 0.99), None);
        assert_eq!(quick.fires(count(10, 20), count(100, 90), 0.99), None);
    }
}
