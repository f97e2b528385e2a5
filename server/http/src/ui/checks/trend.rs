//! A pack's trend: what was found and fixed over time, as a small line or a chart with a table.

use std::collections::BTreeMap;

use switchback_app::checks::health::PackDetail;
use switchback_checks::Severity;
use switchback_store::CheckCell;

use crate::ui::charts::{Axis, Chart};
use crate::ui::sparks::polylines;
use crate::ui::words::number;

/// A cell of the trend, in milliseconds.
const CELL_MS: i64 = 300_000;
/// Points of the small line.
const SPARKS: i64 = 48;

/// How long a trend may be: its value in the address, its words, and milliseconds.
pub const WINDOWS: [(&str, &str, i64); 4] = [
    ("hour", "Hour", 3_600_000),
    ("day", "Day", 86_400_000),
    ("week", "Week", 7 * 86_400_000),
    ("month", "Month", 30 * 86_400_000),
];

/// A pack's trend as charts, and as a table for reading.
pub struct Trend {
    pub charts: Vec<Chart>,
    pub ticks: Vec<(f64, String)>,
    /// Time, found, fixed; the newest first.
    pub table: Vec<(String, String, String)>,
}

/// A line without scales, for a tile.
pub struct Spark {
    pub parts: Vec<String>,
    pub says: String,
}

/// What all checks together found and fixed, by cell; those that only inform left out.
fn cells(detail: &PackDetail) -> BTreeMap<i64, (u64, u64)> {
    let counts = |cell: &&CheckCell| {
        let check = detail.view.checks.iter().find(|check| check.name == cell.check);
        check.is_some_and(|check| check.severity != Severity::Info)
    };
    let mut all: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for cell in detail.trend.iter().filter(counts) {
        let (found, fixed) = all.entry(cell.at).or_default();
        *found += cell.found;
        *fixed += cell.fixed;
    }
    all
}

/// The most that was found, and all that was fixed, from one moment to another.
fn between(cells: &BTreeMap<i64, (u64, u64)>, from: i64, until: i64) -> (Option<u64>, u64) {
    let inside = || cells.range(from..until).map(|(_, cell)| *cell);
    (inside().map(|(found, _)| found).max(), inside().map(|(_, fixed)| fixed).sum())
}

impl Trend {
    /// Over a time that ends now.
    pub fn of(detail: &PackDetail, window_ms: i64, now: i64) -> Self {
        let cells = cells(detail);
        let last = now - now.rem_euclid(CELL_MS);
        let count = (window_ms / CELL_MS).max(1);
        let at: Vec<i64> = (0..count).rev().map(|back| last - back * CELL_MS).collect();
        let axis = Axis::of(&at, CELL_MS / 1000);
        let points: Vec<(Option<u64>, u64)> =
            axis.at.iter().map(|at| between(&cells, *at, at + axis.step_ms)).collect();
        let found = points.iter().map(|(found, _)| found.map(|found| found as f64)).collect();
        let fixed: Vec<u64> = points.iter().map(|(_, fixed)| *fixed).collect();
        let any_fixed = fixed.iter().any(|fixed| *fixed > 0);
        let mut charts =
            vec![Chart::lines("Found", &axis, &[(6, "found", found)], (4.0, ""), None)];
        if any_fixed {
            charts.push(Chart::stacked("Fixed", &axis, &[(0, "fixed", fixed)]));
        }
        let line = |(at, (found, fixed)): (&i64, &(Option<u64>, u64))| {
            found.map(|found| (axis.label(*at), number(found), number(*fixed)))
        };
        let table = axis.at.iter().zip(&points).rev().filter_map(line).collect();
        Self { charts, ticks: axis.ticks(), table }
    }
}

impl Spark {
    /// Of the last day.
    pub fn of(detail: &PackDetail, now: i64) -> Option<Self> {
        let cells = cells(detail);
        let step = WINDOWS.get(1).map_or(CELL_MS, |(_, _, ms)| ms / SPARKS);
        let start = now - step * SPARKS;
        let points: Vec<Option<u64>> = (0..SPARKS)
            .map(|place| between(&cells, start + place * step, start + (place + 1) * step).0)
            .collect();
        let most = points.iter().flatten().max().copied()?;
        let least = points.iter().flatten().min().copied()?;
        let found: Vec<Option<f64>> =
            points.iter().map(|found| found.map(|found| found as f64)).collect();
        Some(Self {
            parts: polylines(&found, most.max(1) as f64),
            says: match (least, most) {
                (0, 0) => "Nothing was found in the last day".to_owned(),
                (least, most) if least == most => {
                    format!("{} found, the same all day", number(most))
                }
                (least, most) => {
                    format!("Between {} and {} found in the last day", number(least), number(most))
                }
            },
        })
    }
}
