//! Counting decisions: atomics beside the ruleset, gathered into bounded reports.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use switchback_core::wire::{Count, REPORT_ROWS_MAX};
use switchback_core::{FlagIndex, Ruleset};

/// Rows that wait for a connection; more are dropped, and counted as such.
pub(crate) const PENDING_ROWS_MAX: usize = 10_000;

/// One counter for each outcome of each flag: off, on, and each variant.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Where each flag's counters start.
    starts: Box<[u32]>,
    cells: Box<[AtomicU64]>,
}

impl Counters {
    pub(crate) fn new(ruleset: &Ruleset) -> Self {
        let mut cells = 0_usize;
        let starts = (0..ruleset.keys().len())
            .filter_map(|n| ruleset.nth(n))
            .map(|flag| {
                let start = cells;
                cells += 2 + ruleset.variant_names(flag).len();
                start as u32
            })
            .collect();
        Self { starts, cells: (0..cells).map(|_| AtomicU64::new(0)).collect() }
    }

    #[inline]
    pub(crate) fn count(&self, flag: FlagIndex, outcome: usize) {
        let start = self.starts.get(flag.get()).map(|start| *start as usize);
        if let Some(cell) = start.and_then(|start| self.cells.get(start + outcome)) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Moves what was counted into `pending`.
    pub(crate) fn drain(&self, ruleset: &Ruleset, pending: &mut Pending) {
        for (key, flag) in ruleset.keys().zip((0..).filter_map(|n| ruleset.nth(n))) {
            let start = self.starts.get(flag.get()).map_or(0, |start| *start as usize);
            let outcomes = [(false, None), (true, None)].into_iter();
            let outcomes = outcomes.chain(ruleset.variant_names(flag).map(|v| (true, Some(v))));
            for ((enabled, variant), cell) in outcomes.zip(self.cells.iter().skip(start)) {
                match cell.swap(0, Ordering::Relaxed) {
                    0 => {}
                    count => pending.add(key, enabled, variant, count),
                }
            }
        }
    }
}

/// What was counted and not yet reported.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    rows: BTreeMap<(String, bool, Option<String>), u64>,
    dropped: u64,
}

impl Pending {
    fn add(&mut self, flag: &str, enabled: bool, variant: Option<&str>, count: u64) {
        let row = (flag.to_owned(), enabled, variant.map(str::to_owned));
        if self.rows.len() >= PENDING_ROWS_MAX && !self.rows.contains_key(&row) {
            self.dropped = self.dropped.saturating_add(count);
            return;
        }
        let sum = self.rows.entry(row).or_default();
        *sum = sum.saturating_add(count);
    }

    /// Takes the next rows to report, at most [`REPORT_ROWS_MAX`].
    pub(crate) fn take_batch(&mut self) -> Vec<Count> {
        let mut batch = Vec::new();
        while batch.len() < REPORT_ROWS_MAX {
            let Some(((flag, enabled, variant), count)) = self.rows.pop_first() else { break };
            batch.push(Count { flag, enabled, variant, count });
        }
        batch
    }

    /// Takes rows back that could not be sent.
    pub(crate) fn put_back(&mut self, batch: Vec<Count>) {
        for row in batch {
            self.add(&row.flag, row.enabled, row.variant.as_deref(), row.count);
        }
    }

    /// Decisions that were dropped, as too many rows were waiting.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_limit_are_dropped_and_counted() {
        let mut pending = Pending::default();
        for n in 0..PENDING_ROWS_MAX + 5 {
            pending.add(&format!("flag-{n:06}"), true, None, 2);
        }
        pending.add("flag-000000", true, None, 1);

        assert_eq!(pending.dropped(), 10);
        let batch = pending.take_batch();
        assert_eq!((batch.len(), batch[0].count), (REPORT_ROWS_MAX, 3));
        pending.put_back(batch);
        let all: usize =
            std::iter::from_fn(|| Some(pending.take_batch().len()).filter(|n| *n > 0)).sum();
        assert_eq!(all, PENDING_ROWS_MAX);
    }
}
