//! A failure rate against its own usual one, where there is no control group.
//!
//! The arcsine makes the spread of a rate nearly the same at every rate and every count (Anscombe 1948):
//!
//! ```text
//! z = 2 (asin(sqrt((y + 3/8) / (n + 3/4))) - asin(sqrt(p0))) sqrt(n + 1/2)
//! ```
//!
//! A raw rate against mean and deviation, or median and MAD, does not do: a few users a minute make
//! either of them alarm dozens of times a day on a healthy service.

use serde::{Deserialize, Serialize};

use crate::maths::median;

/// Users below which a window says nothing.
pub const USERS_MIN: u64 = 20;
/// The `z` from which a person is told.
pub const Z_PAGE: f64 = 4.0;
/// The `z` from which something is done by itself.
pub const Z_ACT: f64 = 5.0;

/// The share of minutes left out at either end of the last hour.
const TRIM: f64 = 0.1;

/// Failures among users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Users seen.
    pub users: u64,
    /// Those of them that failed.
    pub bad: u64,
}

impl Count {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            users: self.users.saturating_add(other.users),
            bad: self.bad.saturating_add(other.bad),
        }
    }

    /// The share that failed, from 0 to 1; nothing for no users or more failures than users.
    pub fn rate(self) -> Option<f64> {
        (self.users > 0 && self.bad <= self.users).then(|| self.bad as f64 / self.users as f64)
    }
}

/// How far a window's rate is above (or below) the usual one, in standard deviations.
///
/// Nothing below [`USERS_MIN`], for more failures than users, and without a usual rate from 0 to 1.
pub fn z(window: Count, usual: f64) -> Option<f64> {
    if window.users < USERS_MIN || window.bad > window.users || !(0.0..=1.0).contains(&usual) {
        return None;
    }
    let (n, y) = (window.users as f64, window.bad as f64);
    let share = ((y + 0.375) / (n + 0.75)).clamp(0.0, 1.0);
    Some(2.0 * (share.sqrt().asin() - usual.sqrt().asin()) * (n + 0.5).sqrt())
}

/// The usual rate from the last hour's minutes: a tenth of them, the best and the worst, are left out at either
/// end, and the rest is added up. A short outage in that hour does not become usual so.
///
/// Nothing when fewer than [`USERS_MIN`] users are left.
pub fn usual_of_hour(minutes: &[Count]) -> Option<f64> {
    let mut rated: Vec<(f64, Count)> =
        minutes.iter().filter_map(|count| Some((count.rate()?, *count))).collect();
    rated.sort_by(|a, b| a.0.total_cmp(&b.0));
    let cut = (rated.len() as f64 * TRIM) as usize;
    let kept = rated.get(cut..rated.len().saturating_sub(cut)).unwrap_or_default();
    let sum = kept.iter().fold(Count::default(), |sum, (_, count)| sum.plus(*count));
    if sum.users < USERS_MIN { None } else { sum.rate() }
}

/// The usual rate from the same time of the last weeks: the median of their rates. Weeks with fewer than
/// [`USERS_MIN`] users are left out.
pub fn usual_of_weeks(weeks: &[Count]) -> Option<f64> {
    let enough = weeks.iter().filter(|count| count.users >= USERS_MIN);
    median(enough.filter_map(|count| count.rate()))
}

/// The usual rate: from the weeks, where there are at least two, else from the last hour.
pub fn usual(weeks: &[Count], minutes: &[Count]) -> Option<f64> {
    let known = weeks.iter().filter(|count| count.users >= USERS_MIN && count.rate().is_some());
    let weekly = if known.count() >= 2 { usual_of_weeks(weeks) } else { None };
    weekly.or_else(|| usual_of_hour(minutes))
}

/// The higher `z` of the last minute and the last five: the first is quick where there are many users, the
/// second sees what the first misses where there are few.
pub fn highest_z(minute: Count, five_minutes: Count, usual: f64) -> Option<f64> {
    match (z(minute, usual), z(five_minutes, usual)) {
        (Some(short), Some(long)) => Some(short.max(long)),
        (short, long) => short.or(long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(users: u64, bad: u64) -> Count {
        Count { users, bad }
    }

    #[test]
    fn the_usual_rate_is_near_nought_and_harm_is_far() {
        assert!(z(count(1_000, 20), 0.02).unwrap().abs() < 0.2);
        assert!(z(count(240, 29), 0.02).unwrap() > Z_ACT);
        assert!(z(count(1_000, 0), 0.02).unwrap() < -Z_PAGE);
    }

    #[test]
    fn too_few_users_and_bad_input_say_nothing() {
        assert_eq!(z(count(19, 19), 0.02), None);
        assert_eq!(z(count(30, 31), 0.02), None);
        for usual in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            assert_eq!(z(count(100, 1), usual), None);
        }
        assert!(z(count(u64::MAX, u64::MAX), 0.0).unwrap().is_finite());
        assert_eq!(usual_of_hour(&[count(3, 9), count(0, 0)]), None);
    }

    #[test]
    fn a_short_outage_does_not_become_usual() {
        let mut minutes = vec![count(100, 2); 60];
        for minute in minutes.iter_mut().take(5) {
            *minute = count(100, 90);
        }
        assert!((usual_of_hour(&minutes).unwrap() - 0.02).abs() < 1e-9);
    }

    #[test]
    fn weeks_come_before_the_last_hour_and_missing_ones_do_not_count() {
        let weeks = [count(1_000, 50), count(0, 0), count(1_000, 70), count(1_000, 60)];
        let hour = [count(1_000, 10)];

        assert_eq!(usual(&weeks, &hour), Some(0.06));
        assert_eq!(usual(&weeks[..2], &hour), Some(0.01));
        assert_eq!(usual(&[], &[]), None);
    }
}
