//! One look of a pack: what each check finds, what that changes, and what is fixed of it within the limits.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchback_checks::finding::{State, compare};
use switchback_checks::health::Figures;
use switchback_checks::limits::{Held, choose};
use switchback_checks::{Check, Pace};
use switchback_core::model::Millis;
use switchback_source::{Detector, KeyDone, RepairWork, Row, Source, SourceError};
use switchback_store::{CheckBatch, CheckCell, CheckRunRow, FindingRow, StoreError};

use super::backfill::Progress;
use super::book::KnownPack;
use super::fixes::{Tried, fix_keys};
use super::memory::{Memory, OfCheck};
use crate::App;
use crate::error::AppError;
use crate::who::Who;

/// Findings of one check that a look keeps; of more, only the number is known.
pub const FINDINGS_MAX: u64 = 10_000;
/// What counts as recent, in milliseconds.
pub const RECENT_MS: u64 = 600_000;
/// How often a population is counted, in milliseconds.
const POPULATION_MS: Millis = 60_000;
/// How late a replica may be: what was fixed so shortly before may still be found there, in milliseconds.
const REPLICA_LATE_MS: Millis = 10_000;
/// Known findings that a look at what came to be lately asks for again.
const ASKED_AGAIN: usize = 1_000;
/// How often is written that a finding is still there, in milliseconds.
const TOUCH_MS: Millis = 60_000;
/// How often states are saved when only their times change, in milliseconds.
const SAVE_MS: Millis = 5_000;
/// Cells of the trend, in milliseconds.
pub(super) const CELL_MS: Millis = 300_000;
/// Keys that one transaction fixes.
const BATCH: usize = 100;
/// Who fixed it, where nobody in particular did.
pub(super) const MONITOR: &str = "monitor";

/// What a sweep is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep<'s> {
    /// Only this check.
    pub only: Option<&'s str>,
    /// Whether every check looks at everything. Otherwise one does whose turn it is, and the others look at what came to be
    /// lately and at what is known to be broken.
    pub is_full: bool,
    /// Whether it fixes.
    pub fixes: bool,
}

/// Where a sweep asks.
#[derive(Clone, Copy)]
pub(super) struct Places<'p> {
    /// Where it fixes.
    pub pool: &'p Source,
    /// Where it looks for what is new: statements end before the next sweep.
    pub replica: &'p Source,
    /// Where it looks at everything, with the limits of the data source.
    pub wide: &'p Source,
}

/// What a query gave.
enum Found {
    /// It was not asked: it cannot tell what is new, and a full look is not due.
    Nothing,
    /// Rows by key, and whether every known finding that is not among them is over.
    Rows(Vec<(String, Row)>, bool),
}

/// What the look at one check came to.
#[derive(Default)]
struct Looked {
    changed: Vec<FindingRow>,
    fixed: Vec<Fixed>,
    wrote: Wrote,
    is_touched: bool,
}

/// What fixes wrote to the journal in the data source.
#[derive(Clone, Copy, Default)]
struct Wrote {
    /// Its last row.
    seq: i64,
    /// How many rows.
    lines: i64,
}

impl Wrote {
    fn add(&mut self, other: Self) {
        self.seq = self.seq.max(other.seq);
        self.lines += other.lines;
    }
}

/// A key that was fixed, for the log: who, as far as may be shown.
struct Fixed {
    check: String,
    key: String,
    label: String,
    is_healed: bool,
    message: String,
}

impl App {
    /// Looks at the checks of a pack whose memory is loaded.
    pub(super) async fn sweep_checks(
        &self,
        memory: &mut Memory,
        known: &KnownPack,
        places: Places<'_>,
        sweep: Sweep<'_>,
    ) -> Result<(), AppError> {
        let pack = known.pack.name.as_str();
        let now = self.clock.now();
        let names: Vec<&str> = known.pack.checks.iter().map(|check| check.name.as_str()).collect();
        memory.checks.retain(|name, _| names.contains(&name.as_str()));
        let mut batch = CheckBatch::default();
        let mut fixed: Vec<Fixed> = Vec::new();
        let mut wrote = Wrote::default();
        let mut away = None;
        // Of those whose time it is, the one that has waited longest.
        let full_ms = known.pack.pace.full_ms.cast_signed();
        let turn = known
            .pack
            .checks
            .iter()
            .map(|check| (memory.checks.get(&check.name).map_or(0, |one| one.full_at), &check.name))
            .filter(|(at, _)| now - at >= full_ms)
            .min()
            .map(|(_, name)| name);
        for check in &known.pack.checks {
            if sweep.only.is_some_and(|only| only != check.name) {
                continue;
            }
            let of_check = memory.checks.entry(check.name.clone()).or_default();
            let is_full =
                sweep.is_full || of_check.state.figures.is_none() || turn == Some(&check.name);
            let one = Sweep { is_full, ..sweep };
            let already = fixed.len() as u64;
            let looked = self.look_at_check(memory, known, check, places, one, already).await;
            match looked {
                Ok(looked) => {
                    batch.findings.extend(looked.changed);
                    if looked.is_touched {
                        batch.seen.push((pack.to_owned(), check.name.clone(), now));
                    }
                    fixed.extend(looked.fixed);
                    wrote.add(looked.wrote);
                }
                Err(error) => {
                    let of_check = memory.checks.entry(check.name.clone()).or_default();
                    of_check.state.error = Some(error.to_string());
                    let is_away =
                        matches!(error, SourceError::Unreachable(_) | SourceError::Credentials(_));
                    if is_away {
                        away = Some(error);
                        break;
                    }
                }
            }
        }
        let healed = fixed.iter().filter(|one| one.is_healed).count() as u64;
        memory.spent.note(now, fixed.len() as u64);
        memory.swept_at = now;
        if !fixed.is_empty() {
            let (run, is_whole) = self.note_monitor_run(known, &fixed, wrote, now).await?;
            if !is_whole {
                memory.forget_findings(); // another node fixed as well: the next sweep reads the journal
            }
            for row in &mut batch.findings {
                if row.fixed_at >= now && row.run_id.is_none() {
                    row.run_id = Some(run.id.clone());
                }
            }
            batch.runs.push(run);
            batch.log.push((
                self.stamp(&monitor(), ""),
                pack.to_owned(),
                "fix".to_owned(),
                log_of(&fixed),
            ));
        }
        let is_time = now - memory.saved_at >= SAVE_MS;
        let is_news = !(batch.findings.is_empty() && batch.seen.is_empty());
        if is_time || is_news || away.is_some() {
            for check in &known.pack.checks {
                let Some(of_check) = memory.checks.get(&check.name) else { continue };
                let Some(figures) = of_check.state.figures else { continue };
                let mine = |one: &&Fixed| one.check == check.name && one.is_healed;
                let cell = CheckCell {
                    check: check.name.clone(),
                    at: now - now.rem_euclid(CELL_MS),
                    found: figures.found,
                    population: figures.population,
                    fixed: fixed.iter().filter(mine).count() as u64,
                };
                batch.history.push((pack.to_owned(), cell));
            }
            batch.states = memory.states(pack, now);
            self.store.save_checks(&batch).await?;
            memory.saved_at = now;
        }
        tracing::debug!(pack, healed, "swept");
        match away {
            Some(error) => Err(AppError::Refused(format!("the data source: {error}"))),
            None => Ok(()),
        }
    }

    async fn look_at_check(
        &self,
        memory: &mut Memory,
        known: &KnownPack,
        check: &Check,
        places: Places<'_>,
        sweep: Sweep<'_>,
        already: u64,
    ) -> Result<Looked, SourceError> {
        let pace = &known.pack.pace;
        let now = self.clock.now();
        let mut of_check = memory.checks.remove(&check.name).unwrap_or_default();
        let place = if sweep.is_full { places.wide } else { places.replica };
        let found = self.detect(&mut of_check, check, place, sweep.is_full).await;
        let looked = match found {
            Err(error) => Err(error),
            Ok(Found::Nothing) => Ok(Looked::default()),
            Ok(Found::Rows(rows, is_complete)) => {
                let (mut changed, is_touched) =
                    self.follow_look(&mut of_check, known, check, &rows, is_complete);
                let (mut fixed, mut wrote) = (Vec::new(), Wrote::default());
                of_check.state.held = None;
                let wanted = sweep.fixes.then_some(check.fix.as_ref()).flatten();
                if wanted.is_some() {
                    // After a restart the last known population counts until it is asked for.
                    let figures = of_check.state.figures.unwrap_or_default();
                    let population =
                        of_check.population.map(|(_, count)| count).or(figures.population);
                    let many = (figures.found, population);
                    let (keys, held) =
                        choose(&of_check.standings, pace, many, already, &mut memory.spent, now);
                    of_check.state.held = held.map(held_words);
                    if !keys.is_empty() {
                        // Who is about to be touched is on record first: after a crash the journal says what became of them.
                        let noted =
                            CheckBatch { findings: changed.clone(), ..CheckBatch::default() };
                        match self.store.save_checks(&noted).await {
                            Ok(()) => {
                                let rows;
                                (rows, fixed, wrote) = self
                                    .fix_found(
                                        &mut of_check,
                                        known,
                                        check,
                                        places.pool,
                                        &keys,
                                        pace,
                                    )
                                    .await;
                                changed.extend(rows);
                            }
                            Err(error) => {
                                let why = format!("What is found cannot be kept: {error}");
                                of_check.state.held = Some(why);
                            }
                        }
                    }
                }
                of_check.count(rows.len() as u64, is_complete);
                Ok(Looked { changed: newest(changed), fixed, wrote, is_touched })
            }
        };
        memory.checks.insert(check.name.clone(), of_check);
        looked
    }

    /// Asks a check's query: all of it, or what came to be lately and what is known to be broken.
    async fn detect(
        &self,
        of_check: &mut OfCheck,
        check: &Check,
        replica: &Source,
        is_full: bool,
    ) -> Result<Found, SourceError> {
        let detector = of_check.detector(replica, check).await?;
        if !is_full && !detector.has_window() {
            return Ok(Found::Nothing);
        }
        let window_ms = (!is_full).then_some(RECENT_MS);
        if is_full {
            // Also where it fails: the others have their turn.
            of_check.full_at = self.clock.now();
        }
        let begun = tokio::time::Instant::now();
        let found = replica.detect(&detector, window_ms, FINDINGS_MAX + 1).await?;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let is_whole = found.len() as u64 <= FINDINGS_MAX;
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        for row in found {
            rows.insert(Detector::key_of(&row)?, row);
        }
        let recent = rows.len() as u64;
        let mut is_complete = is_whole;
        if is_full {
            self.count_all(of_check, check, replica, (&detector, is_whole, recent)).await?;
            of_check.state.took_full_us = took;
        } else {
            of_check.state.took_us = took;
            of_check.state.recent = Some(recent);
            let known = of_check.standings.iter().filter(|(_, one)| one.state.is_present());
            let again: Vec<String> =
                known.map(|(key, _)| key.clone()).filter(|key| !rows.contains_key(key)).collect();
            is_complete = is_complete && again.len() <= ASKED_AGAIN;
            if is_complete && !again.is_empty() {
                for row in replica.detect_keys(&detector, &again).await? {
                    rows.insert(Detector::key_of(&row)?, row);
                }
            }
        }
        of_check.state.looked_at = self.clock.now();
        of_check.state.error = None;
        Ok(Found::Rows(rows.into_iter().collect(), is_complete))
    }

    /// How many there are, where that is more than a look keeps; how many are new; and the population now and then.
    async fn count_all(
        &self,
        of_check: &mut OfCheck,
        check: &Check,
        replica: &Source,
        (detector, is_whole, rows): (&Detector, bool, u64),
    ) -> Result<(), SourceError> {
        let found = if is_whole { rows } else { replica.count_detected(detector, None).await? };
        let now = self.clock.now();
        let is_old = of_check.population.is_none_or(|(at, _)| now - at >= POPULATION_MS);
        if let Some(population) = check.population.as_ref().filter(|_| is_old) {
            of_check.population = Some((now, replica.ask_number(population, &[]).await?));
        }
        let population = of_check.population.map(|(_, count)| count);
        of_check.state.figures = Some(Figures { found, population });
        of_check.state.recent = match detector.has_window() {
            true if found == 0 => Some(0),
            true => Some(replica.count_detected(detector, Some(RECENT_MS)).await?),
            false => None,
        };
        Ok(())
    }

    /// What appeared and what vanished, as rows to keep; and whether it is time to note that the others are still there.
    fn follow_look(
        &self,
        of_check: &mut OfCheck,
        known: &KnownPack,
        check: &Check,
        rows: &[(String, Row)],
        is_complete: bool,
    ) -> (Vec<FindingRow>, bool) {
        let now = self.clock.now();
        let keeps = known.settings.keeps_labels;
        let pace = &known.pack.pace;
        let pack = known.pack.name.as_str();
        let keys = rows.iter().map(|(key, _)| key.as_str());
        let changes = compare(&of_check.standings, keys, is_complete);
        let by_key: BTreeMap<&str, &Row> =
            rows.iter().map(|(key, row)| (key.as_str(), row)).collect();
        let (mut changed, mut is_touched) = (Vec::new(), false);
        for key in &changes.appeared {
            let Some(row) = by_key.get(key.as_str()) else { continue };
            let standing = of_check.standings.get(key).copied().unwrap_or_default().detected(pace);
            let earlier = of_check.rows.get(key);
            let is_late = known.settings.replica.is_some()
                && standing.attempts > 0
                && now - standing.fixed_at < REPLICA_LATE_MS;
            if is_late {
                continue; // the replica has not heard of the fix yet
            }
            let mut finding = self.finding_of(pack, check, keeps, (key, row), now);
            if let Some(earlier) = earlier {
                finding.first_seen = earlier.first_seen;
                finding.fixed_by.clone_from(&earlier.fixed_by);
                finding.run_id.clone_from(&earlier.run_id);
            }
            (finding.attempts, finding.fixed_at) = (standing.attempts, standing.fixed_at);
            standing.state.word().clone_into(&mut finding.state);
            if standing.state == State::Stuck {
                finding.message = format!("It came back after {} fixes.", standing.attempts);
            }
            changed.push(finding.clone());
            of_check.standings.insert(key.clone(), standing);
            of_check.rows.insert(key.clone(), finding);
        }
        for key in &changes.vanished {
            let standing = of_check.standings.get(key).copied().unwrap_or_default().missed();
            of_check.standings.insert(key.clone(), standing);
            if let Some(row) = of_check.rows.get_mut(key) {
                standing.state.word().clone_into(&mut row.state);
                row.last_seen = now;
                changed.push(row.clone());
            }
        }
        if now - of_check.touched_at >= TOUCH_MS {
            of_check.touched_at = now;
            of_check.tidy(now);
            is_touched = is_complete;
        }
        (changed, is_touched)
    }

    /// Fixes some keys, and says what became of each.
    async fn fix_found(
        &self,
        of_check: &mut OfCheck,
        known: &KnownPack,
        check: &Check,
        pool: &Source,
        keys: &[String],
        pace: &Pace,
    ) -> (Vec<FindingRow>, Vec<Fixed>, Wrote) {
        let (mut rows, mut fixed, mut wrote) = (Vec::new(), Vec::new(), Wrote::default());
        let repairer = match of_check.repairer(pool, check).await {
            Ok(Some(repairer)) => repairer,
            Ok(None) => return (rows, fixed, wrote),
            Err(error) => {
                of_check.state.held = Some(format!("The fix cannot be used: {error}"));
                return (rows, fixed, wrote);
            }
        };
        let run = monitor_run_id(&known.pack.name, self.clock.now());
        for part in keys.chunks(BATCH) {
            let work = RepairWork { run: &run, check: &check.name };
            let tried = fix_keys(pool, &repairer, work, part).await;
            let Tried { done, refused, seq, lines, stopped } = tried;
            wrote.add(Wrote { seq, lines });
            let now = self.clock.now();
            for KeyDone { key, is_healed, .. } in done {
                let message = if is_healed { "" } else { "The fix ran, and it is still found." };
                fixed.extend(of_check.tried(&key, is_healed, message, pace, now, &mut rows));
            }
            for (key, why) in refused {
                let message = format!("The fix was refused: {why}");
                fixed.extend(of_check.tried(&key, false, &message, pace, now, &mut rows));
            }
            if let Some(error) = stopped {
                of_check.state.held = Some(format!("The fix stopped: {error}"));
                break;
            }
        }
        of_check.state.fixed += fixed.iter().filter(|one| one.is_healed).count() as u64;
        (rows, fixed, wrote)
    }

    /// The run in which the monitor's fixes of a day are kept, with these added; and whether the journal has no others.
    async fn note_monitor_run(
        &self,
        known: &KnownPack,
        fixed: &[Fixed],
        wrote: Wrote,
        now: Millis,
    ) -> Result<(CheckRunRow, bool), AppError> {
        let mut run = self.monitor_run(known, now).await?;
        let mut progress = Progress::of(&run);
        let is_whole = progress.seq + wrote.lines == wrote.seq;
        if is_whole {
            progress.seq = wrote.seq;
        }
        // One that was taken back goes on with what is fixed from now on.
        if run.state != "undoing" {
            "open".clone_into(&mut run.state);
            run.finished_at = None;
        }
        for one in fixed {
            let of_check = progress.checks.entry(one.check.clone()).or_default();
            of_check.note(one.is_healed);
            of_check.is_undone = false;
        }
        run.body = json!(progress);
        Ok((run, is_whole))
    }

    /// The run in which the monitor's fixes of a day are kept.
    pub(super) async fn monitor_run(
        &self,
        known: &KnownPack,
        at: Millis,
    ) -> Result<CheckRunRow, StoreError> {
        let id = monitor_run_id(&known.pack.name, at);
        match self.store.get_check_run(&id).await {
            Err(StoreError::NotFound { .. }) => Ok(CheckRunRow {
                id,
                pack: known.pack.name.clone(),
                kind: MONITOR.to_owned(),
                state: "open".to_owned(),
                body: json!(Progress {
                    source: Some(known.settings.source.clone()),
                    ..Progress::default()
                }),
                reason: String::new(),
                started_by: MONITOR.to_owned(),
                started_at: at,
                finished_at: None,
                version: 0,
            }),
            found => found,
        }
    }
}

impl OfCheck {
    /// Counts what is left.
    fn count(&mut self, rows: u64, is_complete: bool) {
        let count =
            |state: State| self.standings.values().filter(|one| one.state == state).count() as u64;
        let (open, stuck, ignored) =
            (count(State::Open), count(State::Stuck), count(State::Ignored));
        (self.state.stuck, self.state.ignored) = (stuck, ignored);
        if let Some(figures) = &mut self.state.figures {
            // A partial look knows no more than what it keeps.
            if is_complete || rows <= FINDINGS_MAX && figures.found <= FINDINGS_MAX {
                figures.found = open + stuck;
            }
        }
    }

    /// Notes that a key was tried, and gives what the log says of it.
    fn tried(
        &mut self,
        key: &str,
        is_healed: bool,
        message: &str,
        pace: &Pace,
        now: Millis,
        changed: &mut Vec<FindingRow>,
    ) -> Option<Fixed> {
        let standing = self.standings.get(key).copied().unwrap_or_default();
        let standing = standing.tried(is_healed, pace, now);
        self.standings.insert(key.to_owned(), standing);
        let row = self.rows.get_mut(key)?;
        standing.state.word().clone_into(&mut row.state);
        (row.attempts, row.fixed_at, row.last_seen) = (standing.attempts, now, now);
        MONITOR.clone_into(&mut row.fixed_by);
        row.run_id = None;
        message.clone_into(&mut row.message);
        changed.push(row.clone());
        Some(Fixed {
            check: row.check.clone(),
            key: key.to_owned(),
            label: row.label.clone(),
            is_healed,
            message: message.to_owned(),
        })
    }
}

/// Of several states of a finding the last one counts; a statement cannot write a row twice.
fn newest(rows: Vec<FindingRow>) -> Vec<FindingRow> {
    let mut by_key: BTreeMap<(String, String), FindingRow> = BTreeMap::new();
    for row in rows {
        by_key.insert((row.check.clone(), row.key.clone()), row);
    }
    by_key.into_values().collect()
}

fn log_of(fixed: &[Fixed]) -> Value {
    let one = |one: &Fixed| json!({"check": one.check, "key": one.key, "subject": one.label, "healed": one.is_healed, "message": one.message});
    json!({"fixed": fixed.iter().map(one).collect::<Vec<_>>()})
}

fn held_words(held: Held) -> String {
    match held {
        Held::Share(share) => format!(
            "{:.1} % of all are found, which is more than the monitor fixes by itself: look at them, and start a repair",
            share * 100.0
        ),
        Held::Sweep => "A sweep may fix no more; the next one goes on.".to_owned(),
        Held::Minute => "A minute may fix no more; the next one goes on.".to_owned(),
    }
}

/// The server's monitor, as the log knows it.
fn monitor() -> Who {
    Who { name: MONITOR.to_owned(), ..Who::system() }
}

/// One run for each day (UTC), so that a day's fixes can be listed and taken back.
fn monitor_run_id(pack: &str, now: Millis) -> String {
    format!("{MONITOR}-{pack}-{}", super::report::day_of(now))
}
