//! How much may be fixed now: for each sweep, for each minute, for each key, and nothing at all when too much is broken.

use std::collections::{BTreeMap, VecDeque};

use crate::finding::Standing;
use crate::pack::Pace;

/// Over how long `fixes_per_minute` counts, in milliseconds.
const MINUTE_MS: i64 = 60_000;
/// Failed sweeps in a row after which a pack rests.
const FAILURES: u32 = 3;
/// How long it rests at first, and at most, in milliseconds.
const REST_MS: (i64, i64) = (5_000, 300_000);

/// What was fixed in the last minute.
#[derive(Clone, Debug, Default)]
pub struct Spent(VecDeque<(i64, u64)>);

impl Spent {
    /// Notes keys that were fixed.
    pub fn note(&mut self, now: i64, keys: u64) {
        if keys > 0 {
            self.0.push_back((now, keys));
        }
    }

    /// Keys fixed in the minute before a moment.
    pub fn in_minute(&mut self, now: i64) -> u64 {
        while self.0.front().is_some_and(|(at, _)| now - at >= MINUTE_MS) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, keys)| keys).sum()
    }
}

/// Why nothing more is fixed in a sweep, though there is something to fix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Held {
    /// So large a share of the population is broken.
    Share(f64),
    /// The sweep has done what it may.
    Sweep,
    /// The minute has.
    Minute,
}

/// Which keys a sweep fixes, the ones that rested longest first, and what holds the others back.
pub fn choose(
    present: &BTreeMap<String, Standing>,
    pace: &Pace,
    (found, population): (u64, Option<u64>),
    already: u64,
    spent: &mut Spent,
    now: i64,
) -> (Vec<String>, Option<Held>) {
    let mut wanted: Vec<(&String, &Standing)> =
        present.iter().filter(|(_, one)| one.may_be_fixed(pace, now)).collect();
    if wanted.is_empty() {
        return (Vec::new(), None);
    }
    // A look keeps some of many: how many were found counts, too.
    let known = present.values().filter(|one| one.state.is_present()).count() as u64;
    let broken = known.max(found) as f64;
    // A handful is never "the whole table", however small the table is.
    if let Some(all) = population.filter(|all| *all > 0)
        && broken > 10.0
        && broken / all as f64 > pace.share_max
    {
        return (Vec::new(), Some(Held::Share((broken / all as f64).min(1.0))));
    }
    wanted.sort_by_key(|(_, one)| one.fixed_at);
    let of_minute = pace.fixes_per_minute.saturating_sub(spent.in_minute(now) + already);
    let of_sweep = pace.fixes_per_sweep.saturating_sub(already);
    let room = usize::try_from(of_minute.min(of_sweep)).unwrap_or(usize::MAX);
    let held = (wanted.len() > room).then_some(if of_minute < of_sweep {
        Held::Minute
    } else {
        Held::Sweep
    });
    (wanted.into_iter().take(room).map(|(key, _)| key.clone()).collect(), held)
}

/// Lets a pack rest whose sweeps fail, longer each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    until: i64,
}

impl Breaker {
    /// Until when it rests, in UTC milliseconds; `None` when it does not.
    pub fn rests_until(&self, now: i64) -> Option<i64> {
        (now < self.until).then_some(self.until)
    }

    /// Notes a sweep that went well.
    pub fn well(&mut self) {
        *self = Self::default();
    }

    /// Notes a sweep that failed.
    pub fn failed(&mut self, now: i64) {
        let (first, most) = REST_MS;
        self.failures = self.failures.saturating_add(1);
        if let Some(over) = self.failures.checked_sub(FAILURES) {
            self.until = now + first.saturating_mul(1 << over.min(10)).min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::finding::State;

    fn open(count: usize) -> BTreeMap<String, Standing> {
        (0..count).map(|number| (number.to_string(), Standing::default())).collect()
    }

    #[test]
    fn too_large_a_share_is_left_to_a_person() {
        let pace = Pace::default();
        let chosen =
            |count, all| choose(&open(count), &pace, (0, all), 0, &mut Spent::default(), 0);
        let cut_short = choose(&open(40), &pace, (900, Some(1_000)), 0, &mut Spent::default(), 0);

        assert_eq!(chosen(60, Some(1_000)), (vec![], Some(Held::Share(0.06))));
        assert_eq!(chosen(40, Some(1_000)).0.len(), 40);
        assert_eq!(chosen(9, Some(10)).0.len(), 9, "a handful");
        assert_eq!(chosen(150, None).1, Some(Held::Sweep));
        assert_eq!(cut_short.1, Some(Held::Share(0.9)), "a look keeps some of many");
    }

    #[test]
    fn a_breaker_rests_longer_each_time_and_forgets_when_it_is_well() {
        let mut breaker = Breaker::default();
        breaker.failed(0);
        breaker.failed(0);
        assert_eq!(breaker.rests_until(0), None);
        breaker.failed(0);
        assert_eq!(breaker.rests_until(0), Some(5_000));
        (0..90).for_each(|_| breaker.failed(0));
        assert_eq!(breaker.rests_until(0), Some(300_000));
        breaker.well();
        assert_eq!(breaker.rests_until(0), None);
    }

    proptest! {
        /// Whatever happens, no minute and no sweep fixes more than it may, and only keys that may be fixed.
        #[test]
        fn limits_hold(
            sweeps in prop::collection::vec((0i64..5_000, 0usize..300), 1..60),
            per_sweep in 1u64..50, per_minute in 1u64..200,
        ) {
            let pace = Pace { fixes_per_sweep: per_sweep, fixes_per_minute: per_minute, ..Pace::default() };
            let (mut spent, mut now, mut log) = (Spent::default(), 0, Vec::new());
            for (step, count) in sweeps {
                now += step;
                let mut present = open(count);
                if let Some(one) = present.values_mut().next() {
                    one.state = State::Ignored;
                }
                let (keys, held) = choose(&present, &pace, (0, None), 0, &mut spent, now);
                prop_assert!(keys.len() as u64 <= per_sweep);
                prop_assert_eq!(held.is_some(), keys.len() < count.saturating_sub(1));
                prop_assert!(keys.iter().all(|key| present[key].state == State::Open));
                spent.note(now, keys.len() as u64);
                log.push((now, keys.len() as u64));
                let minute: u64 = log.iter().filter(|(at, _)| now - at < MINUTE_MS).map(|(_, n)| n).sum();
                prop_assert!(minute <= per_minute);
            }
        }
    }
}
