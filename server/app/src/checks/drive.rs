//! Driving a run of repairs: batch by batch, from where its data source says that it is, and taking one back.
//!
//! A batch and the run's place are one transaction in the data source. What is kept here follows it: after a crash the journal
//! says what this side missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use switchback_checks::Check;
use switchback_checks::finding::State;
use switchback_core::model::Millis;
use switchback_source::{KeyDone, Pick, RepairWork, Repairer, Source, SourceError};
use switchback_store::{CheckBatch, CheckCell, CheckRunRow, FindingRow, StoreError};

use super::backfill::{CheckProgress, Progress, wanted};
use super::book::KnownPack;
use super::fixes::{fix_keys, patiently};
use super::memory::Memory;
use super::sweep::CELL_MS;
use crate::App;
use crate::error::AppError;
use crate::who::Who;

/// How long a run waits for a data source that is away, before it fails, in milliseconds.
const PATIENCE_MS: Millis = 600_000;
/// The first wait for it, and the longest.
const WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Journal rows that one transaction takes back.
const UNDO_ROWS: i64 = 500;
/// Refused keys and conflicts that are named.
const NAMED_MAX: usize = 100;
const DAY_MS: Millis = 86_400_000;
/// Journal rows that are read at once after a crash.
const GAP_ROWS: i64 = 5_000;

/// Why a run stops.
enum Stop {
    /// Somebody changed the run: cancelled, for example.
    Moved,
    /// It cannot go on.
    Failed(String),
    /// Trying again may help.
    Away(String),
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        let is_away = error.is_passing() || matches!(error, SourceError::Credentials(_));
        if is_away { Self::Away(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stale { .. } => Self::Moved,
            other => Self::Away(other.to_string()),
        }
    }
}

impl From<AppError> for Stop {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Unavailable(error) => Self::Away(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// What a batch did.
struct Batch {
    done: Vec<KeyDone>,
    refused: Vec<(String, String)>,
    last: String,
    seq: i64,
}

/// A run that is being driven.
struct Driven {
    run: CheckRunRow,
    progress: Progress,
    known: KnownPack,
    source: Arc<Source>,
}

impl App {
    /// Drives a run until it is over, somebody stops it, or its data source is away for too long.
    pub(super) async fn drive_check_run(&self, run: CheckRunRow, known: Option<KnownPack>) {
        let (first, longest) = WAIT;
        let (mut wait, mut begun) = (first, self.clock.now());
        let mut moved = run.version;
        let mut run = run;
        loop {
            let stop = match self.drive_once(&run, known.clone()).await {
                Ok(()) => return,
                Err(stop) => stop,
            };
            let (message, is_over) = match stop {
                Stop::Moved => {
                    self.settle(&run.id, known).await;
                    return;
                }
                Stop::Failed(message) => (message, true),
                Stop::Away(message) => (message, self.clock.now() - begun > PATIENCE_MS),
            };
            tracing::warn!(run.id = run.id, is_over, "a run of repairs waits or stops: {message}");
            // Its place is where it was; what is not known here is in the journal.
            let Ok(current) = self.store.get_check_run(&run.id).await else {
                tokio::time::sleep(wait).await;
                continue;
            };
            if !matches!(current.state.as_str(), "running" | "undoing") {
                return;
            }
            run = current;
            if run.version > moved {
                (wait, begun) = (first, self.clock.now()); // it got on since the last trouble
            }
            let mut progress = Progress::of(&run);
            progress.message = Some(message);
            run.body = json!(progress);
            if is_over {
                "failed".clone_into(&mut run.state);
                run.finished_at = Some(self.clock.now());
            }
            let batch = CheckBatch { runs: vec![run.clone()], ..CheckBatch::default() };
            match self.store.save_checks(&batch).await {
                Ok(()) if is_over => return,
                Ok(()) => run.version += 1,
                Err(_) => {}
            }
            moved = run.version;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    /// Somebody stopped the run in the middle of a batch: what that batch did is learned from the journal.
    async fn settle(&self, id: &str, known: Option<KnownPack>) {
        let settled = async {
            let run = self.store.get_check_run(id).await?;
            let Some(known) = known.filter(|_| run.state == "cancelled") else { return Ok(()) };
            let source = self.source(&known.settings.source).await?;
            let progress = Progress::of(&run);
            let mut driven = Driven { run, progress, known, source };
            self.catch_up(&mut driven).await
        };
        let settled: Result<(), Stop> = settled.await;
        if let Err(Stop::Failed(why) | Stop::Away(why)) = settled {
            tracing::warn!(run.id = id, "what a cancelled run did last is not known yet: {why}");
        }
    }

    async fn drive_once(&self, run: &CheckRunRow, known: Option<KnownPack>) -> Result<(), Stop> {
        let Some(known) = known else {
            return Err(Stop::Failed(format!("there is no pack `{}` any more", run.pack)));
        };
        let source = self.source(&known.settings.source).await?;
        let progress = Progress::of(run);
        if let Some(own) = progress.source.as_ref().filter(|own| **own != known.settings.source) {
            let now = &known.settings.source;
            let message = format!("the run is about `{own}`, and the pack is on `{now}` now");
            return Err(Stop::Failed(message));
        }
        let mut driven = Driven { run: run.clone(), progress, known, source };
        if driven.run.state == "undoing" {
            return self.drive_undo(&mut driven).await;
        }
        self.catch_up(&mut driven).await?;
        let names: Vec<String> = wanted(&driven.known, driven.progress.check.as_deref())?
            .into_iter()
            .map(|check| check.name.clone())
            .collect();
        for name in &names {
            if driven.progress.checks.get(name).is_some_and(|one| one.is_done) {
                continue;
            }
            self.drive_check(&mut driven, name).await?;
        }
        self.verify(&mut driven, &names).await?;
        "done".clone_into(&mut driven.run.state);
        driven.run.finished_at = Some(self.clock.now());
        driven.progress.message = None;
        self.keep_run(&mut driven, Vec::new(), Vec::new()).await
    }

    /// Learns from the journal what a node that died could not say.
    async fn catch_up(&self, driven: &mut Driven) -> Result<(), Stop> {
        let findings = self.read_on(driven).await?;
        if findings.is_empty() {
            return Ok(());
        }
        self.keep_run(driven, findings, Vec::new()).await
    }

    /// The same for what the monitor fixed yesterday and today, before it looks again.
    pub(super) async fn catch_up_monitor(
        &self,
        memory: &mut Memory,
        known: &KnownPack,
        source: &Arc<Source>,
    ) -> Result<(), AppError> {
        let now = self.clock.now();
        for at in [now - DAY_MS, now] {
            let run = self.monitor_run(known, at).await?;
            let progress = Progress::of(&run);
            let seq = progress.seq;
            let (known, source) = (known.clone(), Arc::clone(source));
            let mut driven = Driven { run, progress, known, source };
            let kept = async {
                let findings = self.read_on(&mut driven).await?;
                if driven.progress.seq == seq {
                    return Ok(());
                }
                tracing::info!(
                    run.id = driven.run.id,
                    "the journal knew of {} fixes",
                    findings.len()
                );
                self.keep_in(memory, &mut driven, findings, Vec::new()).await
            };
            match kept.await {
                Ok(()) => {}
                Err(Stop::Moved) => return Err(AppError::Conflict { current: 0 }),
                Err(Stop::Failed(why) | Stop::Away(why)) => {
                    return Err(AppError::Refused(format!("the journal of repairs: {why}")));
                }
            }
        }
        memory.is_behind = false;
        Ok(())
    }

    /// What the journal knows beyond the run's place: findings as it left them, and the run with them counted.
    async fn read_on(&self, driven: &mut Driven) -> Result<Vec<FindingRow>, Stop> {
        let Some(mark) = driven.source.run_mark(&driven.run.id).await? else {
            return Ok(Vec::new());
        };
        let mut rows: BTreeMap<(String, String), bool> = BTreeMap::new();
        while driven.progress.seq < mark.seq {
            let journal =
                driven.source.journal(&driven.run.id, driven.progress.seq, GAP_ROWS).await?;
            let Some(last) = journal.last() else { break };
            driven.progress.seq = last.seq;
            for line in journal.into_iter().filter(|line| line.undone.is_none()) {
                rows.insert((line.check, line.key), line.is_healed);
            }
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let mut findings = Vec::new();
        for ((name, key), is_healed) in rows {
            let Some(check) = driven.known.pack.check(&name).cloned() else { continue };
            let bare = switchback_source::Row::new();
            let earlier = self.store.find_finding(&driven.run.pack, &check.name, &key).await?;
            let is_known = earlier.as_ref().is_some_and(|row| {
                row.run_id.as_ref() == Some(&driven.run.id) && row.state == State::Fixed.word()
            });
            if is_known {
                continue;
            }
            let of_check = driven.progress.checks.entry(name).or_default();
            of_check.note(is_healed);
            let fresh = || {
                let keeps = driven.known.settings.keeps_labels;
                self.finding_of(&driven.run.pack, &check, keeps, (&key, &bare), now)
            };
            let row = earlier.unwrap_or_else(fresh);
            findings.push(repaired(row, &driven.run, is_healed, "", now));
        }
        driven.progress.cursor = Some((mark.check, mark.key));
        Ok(findings)
    }

    async fn drive_check(&self, driven: &mut Driven, name: &str) -> Result<(), Stop> {
        let Some(check) = driven.known.pack.check(name).cloned() else {
            return Err(Stop::Failed(format!("there is no check `{name}` any more")));
        };
        let repairer = self.repairer_of(driven, &check).await?;
        let window_ms = driven.progress.window_ms.filter(|_| repairer.detector().has_window());
        if !driven.progress.checks.contains_key(name) {
            let found = driven.source.count_detected(repairer.detector(), window_ms).await?;
            let progress = CheckProgress { found, ..CheckProgress::default() };
            driven.progress.checks.insert(name.to_owned(), progress);
        }
        loop {
            let room = match driven.progress.limit {
                Some(limit) => limit.saturating_sub(driven.progress.touched()),
                None => u64::MAX,
            };
            let limit = driven.progress.batch_size.min(room);
            let is_last = limit == 0 || self.drive_batch(driven, &check, &repairer, limit).await?;
            if is_last {
                break;
            }
        }
        driven.progress.checks.entry(name.to_owned()).or_default().is_done = true;
        driven.progress.cursor = None;
        self.keep_run(driven, Vec::new(), Vec::new()).await
    }

    /// One batch; whether it was the last one.
    async fn drive_batch(
        &self,
        driven: &mut Driven,
        check: &Check,
        repairer: &Repairer,
        limit: u64,
    ) -> Result<bool, Stop> {
        let cursor = driven.progress.cursor.clone().filter(|(name, _)| *name == check.name);
        let cursor = cursor.as_ref().map(|(_, key)| key.as_str());
        let window_ms = driven.progress.window_ms.filter(|_| repairer.detector().has_window());
        let pick = Pick::After { cursor, limit, window_ms };
        let id = driven.run.id.clone();
        let work = RepairWork { run: &id, check: &check.name };
        // No sweep looks at the pack between the fix and its record.
        let memory = self.checks.memory(&driven.run.pack);
        let mut memory = memory.lock().await;
        memory.load(self, &driven.run.pack).await?;
        let ignored = memory.ignored(&check.name);
        if !ignored.is_empty() {
            let keys = driven.source.next_keys(repairer.detector(), pick).await?;
            let Some(last) = keys.last().cloned() else { return Ok(true) };
            let keys: Vec<String> = keys.into_iter().filter(|key| !ignored.contains(key)).collect();
            let tried = fix_keys(&driven.source, repairer, work, &keys).await;
            if let Some(error) = tried.stopped {
                return Err(error.into());
            }
            let batch = Batch { done: tried.done, refused: tried.refused, last, seq: tried.seq };
            return self.keep_batch(driven, check, batch, &mut memory).await;
        }
        let (done, refused, last, seq) = match patiently(&driven.source, repairer, work, pick).await
        {
            Ok(repaired) => {
                let last = repaired.done.last().map(|one| one.key.clone());
                (repaired.done, Vec::new(), last, repaired.seq)
            }
            // One of the keys spoils the batch: which one is found by halving.
            Err(SourceError::Constraint(_)) => {
                let keys = driven.source.next_keys(repairer.detector(), pick).await?;
                let tried = fix_keys(&driven.source, repairer, work, &keys).await;
                if let Some(error) = tried.stopped {
                    return Err(error.into());
                }
                (tried.done, tried.refused, keys.last().cloned(), tried.seq)
            }
            Err(error) => return Err(error.into()),
        };
        let Some(last) = last else { return Ok(true) };
        let batch = Batch { done, refused, last, seq };
        self.keep_batch(driven, check, batch, &mut memory).await
    }

    /// Keeps what a batch did. It was not the last one: only an empty batch is, as a query that gives a key twice makes a batch
    /// smaller.
    async fn keep_batch(
        &self,
        driven: &mut Driven,
        check: &Check,
        Batch { done, refused, last, seq }: Batch,
        memory: &mut Memory,
    ) -> Result<bool, Stop> {
        driven.progress.seq = driven.progress.seq.max(seq);
        driven.progress.cursor = Some((check.name.clone(), last));
        driven.progress.message = None;
        let findings = self.follow_batch(driven, check, &done, &refused).await?;
        let healed = done.iter().filter(|one| one.is_healed).count() as u64;
        let now = self.clock.now();
        let cell = CheckCell {
            check: check.name.clone(),
            at: now - now.rem_euclid(CELL_MS),
            found: 0,
            population: None,
            fixed: healed,
        };
        let history = vec![(driven.run.pack.clone(), cell)];
        self.keep_in(memory, driven, findings, history).await?;
        Ok(false)
    }

    /// What a batch did, in the run and as findings.
    async fn follow_batch(
        &self,
        driven: &mut Driven,
        check: &Check,
        done: &[KeyDone],
        refused: &[(String, String)],
    ) -> Result<Vec<FindingRow>, Stop> {
        let now = self.clock.now();
        let keeps = driven.known.settings.keeps_labels;
        let of_check = driven.progress.checks.entry(check.name.clone()).or_default();
        let mut findings = Vec::with_capacity(done.len());
        for KeyDone { key, row, is_healed, .. } in done {
            of_check.note(*is_healed);
            let row = self.finding_of(&driven.run.pack, check, keeps, (key, row), now);
            let message = if *is_healed { "" } else { "The fix ran, and it is still found." };
            findings.push(repaired(row, &driven.run, *is_healed, message, now));
        }
        for (key, why) in refused {
            of_check.refused_count += 1;
            if of_check.refused.len() < NAMED_MAX {
                of_check.refused.push((key.clone(), why.clone()));
            }
            let bare = switchback_source::Row::new();
            let earlier = self.store.find_finding(&driven.run.pack, &check.name, key).await?;
            let fresh =
                || self.finding_of(&driven.run.pack, check, keeps, (key.as_str(), &bare), now);
            let row = earlier.unwrap_or_else(fresh);
            let message = format!("The fix was refused: {why}");
            findings.push(repaired(row, &driven.run, false, &message, now));
        }
        Ok(findings)
    }

    /// Asks every check again.
    async fn verify(&self, driven: &mut Driven, names: &[String]) -> Result<(), Stop> {
        for name in names {
            let Some(check) = driven.known.pack.check(name).cloned() else { continue };
            let detector = driven.source.detector(&check.detect).await?;
            let window_ms = driven.progress.window_ms.filter(|_| detector.has_window());
            let left = driven.source.count_detected(&detector, window_ms).await?;
            let ignored = self.ignored_of(&driven.run.pack, name).await?;
            let ignored: Vec<String> = ignored.into_iter().collect();
            let still = driven.source.detect_keys(&detector, &ignored).await?.len() as u64;
            let left = left.saturating_sub(still);
            driven.progress.checks.entry(name.clone()).or_default().left = Some(left);
        }
        Ok(())
    }

    /// Takes the run back, newest row first, whichever check changed it.
    async fn drive_undo(&self, driven: &mut Driven) -> Result<(), Stop> {
        let id = driven.run.id.clone();
        let mut limit = UNDO_ROWS;
        while let Some(name) = driven.source.newest_left(&id).await? {
            let Some(check) = driven.known.pack.check(&name).cloned() else {
                let message = format!(
                    "the pack has no check `{name}` any more, whose rows are to be put back"
                );
                return Err(Stop::Failed(message));
            };
            let repairer = self.repairer_of(driven, &check).await?;
            let undone = match driven.source.undo_repairs(&repairer, &id, &name, limit).await {
                Ok(undone) => undone,
                // One of the rows breaks a rule of the database: it is found by taking fewer, and left.
                Err(SourceError::Constraint(_)) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                Err(SourceError::Constraint(why)) => {
                    let left = driven.source.leave_newest(&id).await?;
                    let of_check = driven.progress.checks.entry(name.clone()).or_default();
                    if of_check.conflict_rows.len() < NAMED_MAX {
                        of_check.conflict_rows.push(format!("{}: {why}", left.unwrap_or_default()));
                    }
                    switchback_source::Undone::default()
                }
                Err(error) => return Err(error.into()),
            };
            limit = (limit * 2).min(UNDO_ROWS);
            let counts = driven.source.undo_counts(&id, &name).await?;
            let of_check = driven.progress.checks.entry(name.clone()).or_default();
            // Counted where it happened, so that a crash loses nothing.
            (of_check.restored, of_check.conflicts) = counts;
            let room = NAMED_MAX.saturating_sub(of_check.conflict_rows.len());
            of_check.conflict_rows.extend(undone.named.into_iter().take(room));
            let mut findings = Vec::new();
            for key in &undone.keys {
                let row = self.store.find_finding(&driven.run.pack, &name, key).await?;
                findings.extend(row.map(|row| FindingRow {
                    state: State::Open.word().to_owned(),
                    attempts: 0,
                    message: "Its repair was taken back.".to_owned(),
                    last_seen: self.clock.now(),
                    ..row
                }));
            }
            self.keep_run(driven, findings, Vec::new()).await?;
        }
        for of_check in driven.progress.checks.values_mut() {
            of_check.is_undone = true;
        }
        "undone".clone_into(&mut driven.run.state);
        driven.run.finished_at = Some(self.clock.now());
        self.keep_run(driven, Vec::new(), Vec::new()).await
    }

    async fn repairer_of(&self, driven: &Driven, check: &Check) -> Result<Repairer, Stop> {
        let Some(fix) = &check.fix else {
            return Err(Stop::Failed(format!("the check `{}` has no fix any more", check.name)));
        };
        let detector = driven.source.detector(&check.detect).await?;
        let tables = super::lint::tables_of(fix);
        let remedy = super::lint::remedy_of(fix, &tables);
        Ok(driven.source.repairer(detector, &remedy).await?)
    }

    /// Keeps where the run is. The pack's memory learns of the findings, so that the monitor does not take them for new.
    async fn keep_run(
        &self,
        driven: &mut Driven,
        findings: Vec<FindingRow>,
        history: Vec<(String, CheckCell)>,
    ) -> Result<(), Stop> {
        let memory = self.checks.memory(&driven.run.pack);
        let mut memory = memory.lock().await;
        self.keep_in(&mut memory, driven, findings, history).await
    }

    async fn keep_in(
        &self,
        memory: &mut Memory,
        driven: &mut Driven,
        findings: Vec<FindingRow>,
        history: Vec<(String, CheckCell)>,
    ) -> Result<(), Stop> {
        driven.run.body = json!(driven.progress);
        let mut batch = CheckBatch { history, ..CheckBatch::default() };
        if !findings.is_empty() {
            let subjects = findings.iter().map(|one| {
                json!({"check": one.check, "key": one.key, "subject": one.label, "state": one.state})
            });
            let after = json!({"run": driven.run.id, "touched": subjects.collect::<Vec<_>>()});
            let undone_by = driven.progress.undone_by.as_ref();
            let name = undone_by.unwrap_or(&driven.run.started_by).clone();
            let who = Who { name, ..Who::system() };
            let by = self.stamp(&who, &driven.run.reason);
            let verb = if driven.run.state == "undoing" { "undo" } else { "fix" };
            batch.log.push((by, driven.run.pack.clone(), verb.to_owned(), after));
        }
        batch.runs.push(driven.run.clone());
        batch.findings = findings;
        self.store.save_checks(&batch).await?;
        driven.run.version += 1;
        for row in batch.findings {
            memory.checks.entry(row.check.clone()).or_default().keep(row);
        }
        Ok(())
    }
}

/// A finding after a run's fix.
fn repaired(
    row: FindingRow,
    run: &CheckRunRow,
    is_healed: bool,
    message: &str,
    now: Millis,
) -> FindingRow {
    let state = if is_healed { State::Fixed } else { State::Open };
    FindingRow {
        state: state.word().to_owned(),
        last_seen: now,
        attempts: row.attempts + 1,
        fixed_at: now,
        fixed_by: run.started_by.clone(),
        run_id: Some(run.id.clone()),
        message: message.to_owned(),
        ..row
    }
}
