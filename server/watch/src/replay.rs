//! An alert rule shown the past: when it would have fired, and for how long, over the counts that are kept.
//!
//! Counts are by the minute for three days and by ten minutes before that; a reading holds until the next one. Conditions
//! whose past is not kept by time (sessions, components, values of others) cannot be tried.

use std::collections::BTreeMap;

use switchback_core::model::Millis;

use crate::alert::{Change, GAP_MS_MAX, Reading, State};
use crate::event::EventKind;
use crate::histogram::Histogram;
use crate::rule::{Condition, Of, Rule};

/// Who is silent for longer says nothing, in milliseconds, unless the window is longer.
const SILENT_MS: Millis = 120_000;
const HOUR_MS: Millis = 3_600_000;

/// Counts by cell, from a moment on without gaps.
#[derive(Clone, Debug)]
pub struct Cells {
    /// The width of a cell, in milliseconds: whole minutes.
    pub width_ms: Millis,
    /// When the first begins, in UTC milliseconds.
    pub from: Millis,
    /// How many cells there are.
    pub len: usize,
    /// What happened, by cell.
    pub counts: BTreeMap<EventKind, Vec<u64>>,
    /// How long what worked took, by cell.
    pub latencies: BTreeMap<EventKind, Vec<Histogram>>,
    /// Whether anybody who reports would tell of failures.
    pub tells_failures: bool,
}

/// One time that it would have fired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fired {
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// When it would have been over; none: not yet.
    pub until: Option<Millis>,
    /// The highest value meanwhile.
    pub highest: f64,
}

/// What a rule would have done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// Each time, the oldest first.
    pub fired: Vec<Fired>,
    /// How long nothing was known, in milliseconds.
    pub unknown_ms: Millis,
}

/// Whether a rule can be tried on cells of this width; else why not.
///
/// # Errors
/// What it looks at is not kept by time, or its window is shorter than a cell.
pub fn can_be_tried(when: &Condition, width_ms: Millis) -> Result<(), String> {
    match when {
        Condition::FailureRate { .. }
        | Condition::Count { .. }
        | Condition::Latency { .. }
        | Condition::Absence { .. }
            if when.window_ms() >= width_ms =>
        {
            Ok(())
        }
        Condition::FailureRate { .. }
        | Condition::Count { .. }
        | Condition::Latency { .. }
        | Condition::Absence { .. } => Err(format!(
            "its window is shorter than the {} minutes by which so long a past is kept; try fewer days",
            width_ms / 60_000
        )),
        _ => {
            Err("only failure_rate, latency, count and absence can be tried on the past".to_owned())
        }
    }
}

/// Shows a rule the cells from a moment on.
pub fn replay(rule: &Rule, cells: &Cells, from: Millis) -> Replay {
    let sums = Sums::of(cells);
    let mut found = Replay::default();
    let mut state = State::default();
    for place in 1..=cells.len {
        let end = cells.from + cells.width_ms * place as Millis;
        if end <= from {
            continue;
        }
        let reading = sums.reading(&rule.when, place, end);
        for minute in 0..cells.width_ms / GAP_MS_MAX {
            let now = end + minute * GAP_MS_MAX;
            let (next, change) = state.step(reading, rule, now);
            state = next;
            match change {
                Some(Change::Fired) => {
                    let highest = state.value.unwrap_or_default();
                    found.fired.push(Fired { at: now, until: None, highest });
                }
                Some(Change::Resolved) => {
                    if let Some(last) = found.fired.last_mut() {
                        last.until = Some(now);
                    }
                }
                None => {}
            }
        }
        match (reading, found.fired.last_mut()) {
            (Reading::NoData, _) => found.unknown_ms += cells.width_ms,
            (Reading::Value(value), Some(last)) if last.until.is_none() => {
                last.highest = last.highest.max(value);
            }
            _ => {}
        }
    }
    found
}

/// Sums from the first cell on, so that any window is a difference.
struct Sums<'c> {
    cells: &'c Cells,
    by_kind: BTreeMap<EventKind, Vec<u64>>,
    all: Vec<u64>,
}

impl<'c> Sums<'c> {
    fn of(cells: &'c Cells) -> Self {
        let running = |counts: &[u64]| {
            let mut sum = 0_u64;
            let mut all = vec![0];
            all.extend(counts.iter().take(cells.len).map(|n| {
                sum = sum.saturating_add(*n);
                sum
            }));
            all.resize(cells.len + 1, sum);
            all
        };
        let by_kind: BTreeMap<EventKind, Vec<u64>> =
            cells.counts.iter().map(|(kind, counts)| (*kind, running(counts))).collect();
        let mut all = vec![0_u64; cells.len + 1];
        for sums in by_kind.values() {
            for (total, n) in all.iter_mut().zip(sums) {
                *total = total.saturating_add(*n);
            }
        }
        Self { cells, by_kind, all }
    }

    /// Cells of a window that ends with the cells before `place`; at least one.
    fn first(&self, window_ms: Millis, place: usize) -> usize {
        let cells = (window_ms + self.cells.width_ms - 1) / self.cells.width_ms;
        place.saturating_sub(usize::try_from(cells.max(1)).unwrap_or(usize::MAX))
    }

    fn between(sums: &[u64], first: usize, place: usize) -> u64 {
        let at = |place: usize| sums.get(place).copied().unwrap_or(0);
        at(place).saturating_sub(at(first))
    }

    fn count(&self, kind: EventKind, first: usize, place: usize) -> u64 {
        self.by_kind.get(&kind).map_or(0, |sums| Self::between(sums, first, place))
    }

    fn reading(&self, when: &Condition, place: usize, end: Millis) -> Reading {
        if let Condition::Absence { of, .. } = when {
            return self.silence(*of, place, end);
        }
        let patience = when.window_ms().clamp(SILENT_MS, HOUR_MS);
        if Self::between(&self.all, self.first(patience, place), place) == 0 {
            return Reading::NoData;
        }
        let first = self.first(when.window_ms(), place);
        match when {
            Condition::FailureRate { of, min_events, .. } => {
                if !self.cells.tells_failures {
                    return Reading::NoData;
                }
                let (good, bad) = of.kinds();
                let failed = self.count(bad, first, place);
                let all = failed + self.count(good, first, place);
                if all < *min_events || all == 0 {
                    return Reading::Few;
                }
                Reading::Value(failed as f64 / all as f64)
            }
            Condition::Count { kind, .. } => Reading::Value(self.count(*kind, first, place) as f64),
            Condition::Latency { of, quantile, min_events, .. } => {
                let (good, _) = of.kinds();
                let mut all = Histogram::default();
                let cells = self.cells.latencies.get(&good).map(Vec::as_slice).unwrap_or_default();
                for one in cells.iter().take(place).skip(first) {
                    all.merge(one);
                }
                let found = all.quantile(*quantile).filter(|_| all.total() >= *min_events);
                found.map_or(Reading::Few, Reading::Value)
            }
            _ => Reading::NoData,
        }
    }

    /// How long nothing of the kind was seen; what was never seen is not silent.
    fn silence(&self, of: Of, place: usize, end: Millis) -> Reading {
        let (good, bad) = of.kinds();
        let seen = |place: usize| {
            [good, bad].into_iter().any(|kind| self.count(kind, place, place + 1) > 0)
        };
        match (0..place).rev().find(|place| seen(*place)) {
            None => Reading::NoData,
            Some(last) => {
                let last_end = self.cells.from + self.cells.width_ms * (last as Millis + 1);
                Reading::Value((end - last_end) as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = 60_000;

    fn rule(when: &str, more: &str) -> Rule {
        Rule::parse(&format!(
            "kind: AlertRule\nmetadata: {{name: one, title: One}}\nspec:\n  environments: [production]\n  severity: warning\n  when: {when}\n{more}"
        ))
        .unwrap()
    }

    fn cells(counts: &[(EventKind, Vec<u64>)]) -> Cells {
        Cells {
            width_ms: MINUTE,
            from: 0,
            len: counts.first().map_or(0, |(_, counts)| counts.len()),
            counts: counts.iter().cloned().collect(),
            latencies: BTreeMap::new(),
            tells_failures: true,
        }
    }

    #[test]
    fn an_outage_fires_once_and_ends() {
        let good: Vec<u64> =
            (0..120).map(|n| if (40..50).contains(&n) { 20 } else { 100 }).collect();
        let bad: Vec<u64> = (0..120).map(|n| if (40..50).contains(&n) { 80 } else { 0 }).collect();
        let cells = cells(&[(EventKind::LoginSuccess, good), (EventKind::LoginFailure, bad)]);
        let rule = rule(
            "{failure_rate: {of: login, above: 10%, window: 5m}}",
            "  for: 2m\n  keep_for: 10m\n",
        );

        let found = replay(&rule, &cells, 0);

        assert_eq!(found.fired.len(), 1, "{found:?}");
        let one = found.fired[0];
        assert_eq!((one.at, one.until), (43 * MINUTE, Some(65 * MINUTE)));
        assert!((one.highest - 0.8).abs() < 1e-9 && found.unknown_ms == 0);
        assert_eq!(
            replay(&rule, &Cells { tells_failures: false, ..cells }, 0).unknown_ms,
            120 * MINUTE
        );
    }

    #[test]
    fn silence_is_no_data_and_absence_is_silence() {
        let logins: Vec<u64> = (0..60).map(|n| u64::from(n < 10)).collect();
        let cells = cells(&[(EventKind::LoginSuccess, logins)]);
        let few = rule("{count: {type: login_failure, above: 0, window: 1m}}", "");
        assert_eq!(replay(&few, &cells, 0).unknown_ms, 49 * MINUTE);
        let absent = rule("{absence: {of: login, for: 20m}}", "");
        let found = replay(&absent, &cells, 0);
        assert_eq!(
            found.fired,
            [Fired { at: 31 * MINUTE, until: None, highest: 50.0 * MINUTE as f64 }]
        );
    }

    #[test]
    fn what_is_not_kept_by_time_cannot_be_tried() {
        let sessions = rule("{sessions: {at_once: 20, window: 1h}}", "");
        assert!(can_be_tried(&sessions.when, MINUTE).is_err());
        let short = rule("{failure_rate: {of: login, above: 10%, window: 5m}}", "");
        assert!(can_be_tried(&short.when, MINUTE).is_ok());
        assert!(can_be_tried(&short.when, 10 * MINUTE).unwrap_err().contains("fewer days"));
    }
}
