//! A component's past as one bar a day: the worst of each day, and for how long it was down.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_store::ComponentStatus;

/// Days that the page shows, today included.
pub const DAYS: i64 = 90;
/// A day, in milliseconds.
pub const DAY_MS: Millis = 86_400_000;

/// One day of one component, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Day {
    /// Its first moment, in UTC milliseconds.
    pub at: Millis,
    /// The worst state of that day; nothing: the component was not known yet.
    pub worst: Option<ComponentStatus>,
    /// For how long of it there was an outage, in milliseconds.
    pub down_ms: Millis,
    /// For how long of it the component was known, in milliseconds.
    pub known_ms: Millis,
}

/// The last 90 days, oldest first, from the moments at which the component changed.
pub fn days_of(states: &[(Millis, ComponentStatus)], now: Millis) -> Vec<Day> {
    let first = now.div_euclid(DAY_MS) - (DAYS - 1);
    let mut days: Vec<Day> = (0..DAYS)
        .map(|index| Day { at: (first + index) * DAY_MS, worst: None, down_ms: 0, known_ms: 0 })
        .collect();
    for (index, (from, status)) in states.iter().enumerate() {
        let until = states.get(index + 1).map_or(now, |(next, _)| *next).min(now);
        let is_down =
            matches!(status, ComponentStatus::PartialOutage | ComponentStatus::MajorOutage);
        let skipped = (from.div_euclid(DAY_MS) - first).clamp(0, DAYS) as usize;
        for day in days.iter_mut().skip(skipped).take_while(|day| day.at < until) {
            let length = until.min(day.at + DAY_MS) - (*from).max(day.at);
            if length <= 0 {
                continue;
            }
            day.worst = day.worst.max(Some(*status));
            day.known_ms += length;
            day.down_ms += if is_down { length } else { 0 };
        }
    }
    days
}

/// For how long a component was up, and for how long it was known, in milliseconds.
pub fn uptime(days: &[Day]) -> (u64, u64) {
    let known: i64 = days.iter().map(|day| day.known_ms).sum();
    let down: i64 = days.iter().map(|day| day.down_ms).sum();
    ((known - down).max(0).cast_unsigned(), known.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ComponentStatus::{DegradedPerformance, MajorOutage, Operational, PartialOutage};

    const NOON: i64 = DAY_MS / 2;

    #[test]
    fn a_day_shows_its_worst_and_how_long_it_was_down() {
        let now = 1_000 * DAY_MS + NOON;
        let down = 998 * DAY_MS + NOON;
        let states =
            [(998 * DAY_MS, Operational), (down, MajorOutage), (down + 3_600_000, Operational)];

        let days = days_of(&states, now);

        assert_eq!(days.len(), 90);
        let last: Vec<_> = days.iter().rev().take(4).collect();
        assert_eq!((last[0].known_ms, last[0].worst), (NOON, Some(Operational)), "today so far");
        assert_eq!((last[2].worst, last[2].down_ms), (Some(MajorOutage), 3_600_000));
        assert_eq!((last[3].worst, last[3].known_ms), (None, 0), "it was not there yet");
        assert_eq!(
            uptime(&days),
            ((2 * DAY_MS + NOON - 3_600_000) as u64, (2 * DAY_MS + NOON) as u64)
        );
    }

    #[test]
    fn an_outage_over_midnight_is_on_both_days_and_slow_is_not_down() {
        let now = 500 * DAY_MS;
        let states = [
            (100 * DAY_MS, DegradedPerformance),
            (499 * DAY_MS - 60_000, PartialOutage),
            (499 * DAY_MS + 60_000, Operational),
        ];

        let days = days_of(&states, now);

        let of = |day: i64| days.iter().find(|one| one.at == day * DAY_MS).copied().unwrap();
        assert_eq!((of(498).down_ms, of(499).down_ms), (60_000, 60_000));
        assert_eq!((of(412).worst, of(412).down_ms), (Some(DegradedPerformance), 0));
        assert_eq!(of(499).worst, Some(PartialOutage));
    }
}
