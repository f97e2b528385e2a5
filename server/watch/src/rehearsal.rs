//! A guard tried on the past, or on a service that was made up: what it would have said, and when.

mod case;
mod series;

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

pub use case::{Case, Expect, parse};
pub use series::{Outage, Recorded, Series, Synthetic};

use crate::guard::{Arrivals, Guard, GuardState, Reading, Standing, observe};

/// Changes of a guard's standing that are kept of a run.
pub const EVENTS_MAX: usize = 200;

/// What a guard was shown at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When, in milliseconds.
    pub at: Millis,
    /// The metrics' news, in the guard's order.
    pub readings: Vec<Reading>,
    /// New users, where they are counted.
    #[serde(default)]
    pub arrivals: Option<Arrivals>,
}

/// A change of standing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds.
    pub at: Millis,
    /// What it is from then on.
    pub standing: Standing,
    /// The guard's sentence.
    pub words: String,
}

/// What a guard would have done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// How often it would have acted before the harm; ever, where there is none.
    pub false_alarms: u32,
    /// How often it would have warned then.
    pub false_warnings: u32,
    /// Milliseconds from the harm until it would have acted; nothing when it would not have.
    pub detected_after_ms: Option<Millis>,
    /// The changes of standing, the first 200.
    pub events: Vec<Event>,
}

impl Rehearsal {
    /// The first time from `from` on at which it stood like that, in milliseconds.
    fn reached(&self, wanted: &str, from: Millis) -> Option<Millis> {
        let before = self.events.iter().rev().find(|event| event.at < from);
        if before.is_some_and(|event| event.standing.word() == wanted) {
            return Some(from);
        }
        let after = |event: &&Event| event.at >= from && event.standing.word() == wanted;
        self.events.iter().find(after).map(|event| event.at)
    }
}

/// Shows a guard one sample after the other. After a false alarm it begins anew, as it would with a flag that was
/// put back and rolled out again; what follows the first alarm after `harm_from` is not looked at.
///
/// This computes: a server calls it where it may block.
pub fn rehearse(
    settings: &Guard,
    samples: impl IntoIterator<Item = Sample>,
    harm_from: Option<Millis>,
) -> Rehearsal {
    let mut found = Rehearsal::default();
    let mut state: Option<GuardState> = None;
    let mut last: Option<Standing> = None;
    for sample in samples {
        let tick_ms = settings.tick_ms.max(1);
        let state = state
            .get_or_insert_with(|| GuardState::new(settings, sample.at.saturating_sub(tick_ms)));
        let verdict = observe(state, settings, &sample.readings, sample.arrivals, sample.at);
        let changed = last.is_none_or(|last| last.word() != verdict.standing.word());
        last = Some(verdict.standing);
        if changed && found.events.len() < EVENTS_MAX {
            let (at, standing, words) = (sample.at, verdict.standing, verdict.words);
            found.events.push(Event { at, standing, words });
        }
        let harmed = harm_from.is_some_and(|from| sample.at > from);
        match verdict.standing {
            Standing::Bad if harmed => {
                found.detected_after_ms = harm_from.map(|from| sample.at.saturating_sub(from));
                return found;
            }
            Standing::Bad => {
                found.false_alarms += 1;
                *state = GuardState::new(settings, sample.at);
            }
            Standing::Warn if changed && !harmed => found.false_warnings += 1,
            _ => {}
        }
    }
    found
}

/// What came of a case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The case's name.
    pub name: String,
    /// How many runs there were.
    pub runs: u64,
    /// Runs in which the guard would have acted before the harm; at all, where there is none.
    pub false_alarms: u64,
    /// Runs that reached what was expected, in time.
    pub reached: u64,
    /// The median time to what was expected, in milliseconds.
    pub median_ms: Option<Millis>,
    /// The time that 95 of 100 runs did not exceed, in milliseconds.
    pub p95_ms: Option<Millis>,
    /// What the first run said, change by change.
    pub events: Vec<Event>,
    /// What was expected and did not come true, in sentences; empty when all did.
    pub broken: Vec<String>,
}

impl Report {
    /// Whether everything came true.
    pub fn passed(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Runs a case. Computes for up to some seconds: a server calls it where it may block.
pub fn run(case: &Case) -> Report {
    let expect = &case.expect;
    let from = case.series.counted_from();
    let mut report =
        Report { name: case.name.clone(), runs: case.series.runs(), ..Report::default() };
    let mut times = Vec::new();
    // For each standing that may not come: in how many runs it did, and the first of them.
    let mut came: Vec<Option<(u64, (u64, Millis))>> = vec![None; expect.never.len()];
    for index in 0..report.runs {
        let samples = case.series.samples(&case.guard, index);
        let found = rehearse(&case.guard, samples, case.series.harm_from());
        report.false_alarms += u64::from(found.false_alarms > 0);
        let reached = expect.reaches.as_deref().and_then(|wanted| found.reached(wanted, from));
        times.extend(reached.map(|at| at.saturating_sub(from)));
        for (wrong, came) in expect.never.iter().zip(&mut came) {
            if let Some(at) = found.reached(wrong, Millis::MIN) {
                let (runs, _) = came.get_or_insert((0, (index + 1, at)));
                *runs += 1;
            }
        }
        if index == 0 {
            report.events = found.events;
        }
    }
    times.sort_unstable();
    let rank = |share: f64| (times.len() as f64 * share).ceil() as usize;
    let at = |share: f64| times.get(rank(share).saturating_sub(1)).copied();
    (report.median_ms, report.p95_ms) = (at(0.5), at(0.95));
    report.reached = times.iter().filter(|time| **time <= expect.within_ms).count() as u64;
    if let Some(wanted) = &expect.reaches {
        let needed = (report.runs as f64 * expect.share - 1e-9).ceil() as u64;
        if report.reached < needed {
            let (reached, runs) = (report.reached, report.runs);
            let within = match expect.within_ms {
                Millis::MAX => String::new(),
                ms => format!(" within {}", at_text(ms)),
            };
            let message =
                format!("`{wanted}`{within} in {reached} of {runs} runs; {needed} are expected");
            report.broken.push(message);
        }
    }
    if let Some(most) = expect.false_alarms
        && report.false_alarms > most
    {
        let found = report.false_alarms;
        report.broken.push(format!("false alarms in {found} runs; at most {most} are expected"));
    }
    for (wrong, came) in expect.never.iter().zip(came) {
        if let Some((runs, (run, at))) = came {
            let (all, at) = (report.runs, at_text(at));
            let message =
                format!("`{wrong}` in {runs} of {all} runs, first in run {run} after {at}");
            report.broken.push(message);
        }
    }
    report
}

fn at_text(ms: Millis) -> String {
    switchback_playbook::units::duration_text(ms.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests;
