//! What is usual for this hour of the week, and how far from it the present is.
//!
//! Each of the 168 hours keeps its last eight weeks. A failure rate is compared with the median of the weekly rates by
//! the arcsine of [`crate::baseline`]; a volume by `2 sqrt(n + 3/8)`, which has a variance of 1 for a Poisson
//! count (Anscombe 1948), with the median deviation of the weeks where that is more: traffic varies more than Poisson does.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::baseline::{self, Count};
use crate::maths::median;

/// Weeks that are kept for each hour.
pub const WEEKS: usize = 8;
/// Weeks below which nothing is said.
pub const WEEKS_MIN: usize = 3;
/// The distance from the usual, in standard deviations, that is named.
pub const Z_NAMED: f64 = 5.0;

const HOUR_MS: Millis = 3_600_000;
const HOURS: usize = 168;

/// The hour of the week, from 0 (Monday, midnight) to 167, of a clock that is `offset_ms` ahead of UTC.
pub fn hour(at: Millis, offset_ms: Millis) -> usize {
    // 1 January 1970 was a Thursday: three days after a Monday.
    (number(at, offset_ms) + 72).rem_euclid(HOURS as Millis) as usize
}

fn number(at: Millis, offset_ms: Millis) -> Millis {
    at.saturating_add(offset_ms).div_euclid(HOUR_MS)
}

/// How far a finished hour is from the usual one, in standard deviations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// The rate of failures; nothing for fewer than 20 users.
    pub rate: Option<f64>,
    /// The number of users; nothing for fewer than three weeks.
    pub volume: Option<f64>,
}

/// The last weeks, hour by hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    hours: Vec<Vec<Count>>,
    /// The number of the last hour that was learned, so that none is learned twice.
    last: Option<Millis>,
}

impl Usual {
    /// Learns a finished hour. One that came before, or has more failures than users, is left out. Hours of an
    /// incident should not be learned: the caller knows which these are.
    pub fn learn(&mut self, at: Millis, offset_ms: Millis, count: Count) {
        let number = number(at, offset_ms);
        if self.last.is_some_and(|last| number <= last) || count.bad > count.users {
            return;
        }
        self.last = Some(number);
        self.hours.resize_with(HOURS, Vec::new);
        if let Some(weeks) = self.hours.get_mut(hour(at, offset_ms)) {
            weeks.push(count);
            let surplus = weeks.len().saturating_sub(WEEKS);
            weeks.drain(..surplus);
        }
    }

    fn weeks(&self, at: Millis, offset_ms: Millis) -> &[Count] {
        self.hours.get(hour(at, offset_ms)).map_or(&[], Vec::as_slice)
    }

    /// The usual rate of failures at this hour; nothing for fewer than three weeks with 20 users each.
    pub fn rate(&self, at: Millis, offset_ms: Millis) -> Option<f64> {
        let weeks = self.weeks(at, offset_ms);
        let enough = weeks.iter().filter(|week| week.users >= baseline::USERS_MIN).count();
        if enough < WEEKS_MIN { None } else { baseline::usual_of_weeks(weeks) }
    }

    /// The usual number of users in this hour; nothing for fewer than three weeks.
    pub fn volume(&self, at: Millis, offset_ms: Millis) -> Option<f64> {
        let weeks = self.weeks(at, offset_ms);
        if weeks.len() < WEEKS_MIN {
            return None;
        }
        median(weeks.iter().map(|week| week.users as f64))
    }

    /// How far a finished hour is from what is usual for it.
    pub fn distance(&self, at: Millis, offset_ms: Millis, count: Count) -> Distance {
        let weeks = self.weeks(at, offset_ms);
        let root = |count: &Count| 2.0 * (count.users as f64 + 0.375).sqrt();
        let volume = (weeks.len() >= WEEKS_MIN).then(|| {
            let centre = median(weeks.iter().map(root))?;
            let spread = median(weeks.iter().map(|week| (root(week) - centre).abs()))? * 1.4826;
            Some((root(&count) - centre) / spread.max(1.0))
        });
        let rate = self.rate(at, offset_ms).and_then(|usual| baseline::z(count, usual));
        Distance { rate, volume: volume.flatten() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Millis = 168 * HOUR_MS;

    #[test]
    fn the_week_begins_on_monday_at_midnight() {
        assert_eq!(hour(0, 0), 72); // Thursday, 1 January 1970
        assert_eq!(hour(4 * 24 * HOUR_MS, 0), 0);
        assert_eq!(hour(4 * 24 * HOUR_MS - 1, 0), 167);
        assert_eq!(hour(4 * 24 * HOUR_MS - HOUR_MS, HOUR_MS), 0);
        assert!(hour(Millis::MIN, Millis::MIN) < 168 && hour(Millis::MAX, Millis::MAX) < 168);
    }

    #[test]
    fn what_is_usual_at_night_is_not_an_anomaly_and_at_noon_it_is() {
        let mut usual = Usual::default();
        let (night, noon) = (3 * HOUR_MS, 12 * HOUR_MS);
        for week in 0..4 {
            usual.learn(week * WEEK + night, 0, Count { users: 40 + week as u64, bad: 8 });
            usual.learn(week * WEEK + noon, 0, Count { users: 4_000, bad: 40 });
        }
        let quiet = Count { users: 41, bad: 11 };

        let at_night = usual.distance(4 * WEEK + night, 0, quiet);
        let at_noon = usual.distance(4 * WEEK + noon, 0, quiet);

        assert!(at_night.rate.unwrap().abs() < 2.0 && at_night.volume.unwrap().abs() < 1.0);
        assert!(at_noon.rate.unwrap() > Z_NAMED && at_noon.volume.unwrap() < -Z_NAMED);
    }

    #[test]
    fn an_hour_is_learned_once_and_few_weeks_say_nothing() {
        let mut usual = Usual::default();
        for _ in 0..5 {
            usual.learn(0, 0, Count { users: 100, bad: 1 });
        }
        usual.learn(WEEK, 0, Count { users: 1, bad: 9 });
        let found = usual.distance(0, 0, Count { users: 100, bad: 90 });
        assert_eq!(found, Distance { rate: None, volume: None });

        for week in 0..30 {
            usual.learn(week * WEEK, 0, Count { users: 100, bad: 1 });
        }
        assert_eq!(usual.weeks(0, 0).len(), WEEKS);
        assert_eq!(usual.rate(0, 0), Some(0.01));
    }
}
