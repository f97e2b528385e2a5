//! Runs of repairs: all findings of a pack or a check, in batches, with a cursor; and taking one back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use switchback_checks::Check;
use switchback_checks::event_mode::Mode;
use switchback_core::model::Millis;
use switchback_store::{CheckBatch, CheckRunRow, Role, StoreError};

use super::book::KnownPack;
use crate::App;
use crate::error::AppError;
use crate::who::{EVERYWHERE, Who};

/// Keys of a batch, unless the wish says otherwise, and at most.
const BATCH: (u64, u64) = (100, 5_000);
/// The longest window, in milliseconds: a year.
const WINDOW_MS_MAX: u64 = 366 * 86_400_000;
/// How long journals are kept in the data source, in milliseconds: 30 days.
const JOURNAL_MS: Millis = 30 * 86_400_000;
/// Runs that are listed.
const RUNS_MAX: i64 = 100;

/// What somebody wants to be repaired.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackfillWish {
    /// Only this check.
    pub check: Option<String>,
    /// Only what came to be so long ago at most, in milliseconds.
    pub window_ms: Option<u64>,
    /// Keys of a batch: 1 to 5,000; 100 when absent.
    pub batch_size: Option<u64>,
    /// Keys at most.
    pub limit: Option<u64>,
    /// Why.
    pub reason: String,
}

/// How far a check is in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct CheckProgress {
    /// How many were found when its turn came.
    pub found: u64,
    /// How many were healed.
    pub healed: u64,
    /// How many a fix did not heal.
    pub unhealed: u64,
    /// Keys that the database refused to fix, the first of them with why.
    pub refused: Vec<(String, String)>,
    /// How many of those there are.
    pub refused_count: u64,
    /// Whether its turn is over.
    pub is_done: bool,
    /// How many are still found afterwards; `None` until it was asked.
    pub left: Option<u64>,
    /// Rows that an undo put back.
    pub restored: u64,
    /// Rows that an undo left, as somebody else had changed them since.
    pub conflicts: u64,
    /// The first of those.
    pub conflict_rows: Vec<String>,
    /// Whether all of it was taken back.
    pub is_undone: bool,
}

/// What a run is to do, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Progress {
    /// The data source, as the pack named it when the run began.
    pub source: Option<String>,
    /// Only this check.
    pub check: Option<String>,
    /// Only what came to be so long ago at most, in milliseconds.
    pub window_ms: Option<u64>,
    /// Keys of a batch.
    pub batch_size: u64,
    /// Keys at most.
    pub limit: Option<u64>,
    /// The check whose turn it is, and the last key that was touched.
    pub cursor: Option<(String, String)>,
    /// The last row of the journal in the data source that is known here.
    pub seq: i64,
    /// By check.
    pub checks: BTreeMap<String, CheckProgress>,
    /// What stops it, or why it waits.
    pub message: Option<String>,
    /// Who asked for it to be taken back.
    pub undone_by: Option<String>,
}

impl CheckProgress {
    /// Counts a key that a fix was tried on.
    pub(super) fn note(&mut self, is_healed: bool) {
        let counter = if is_healed { &mut self.healed } else { &mut self.unhealed };
        *counter += 1;
    }
}

impl Progress {
    pub(super) fn of(run: &CheckRunRow) -> Self {
        serde_json::from_value(run.body.clone()).unwrap_or_default()
    }

    /// Keys that were touched.
    pub fn touched(&self) -> u64 {
        self.checks.values().map(|one| one.healed + one.unhealed + one.refused_count).sum()
    }

    /// Keys that were healed.
    pub fn healed(&self) -> u64 {
        self.checks.values().map(|one| one.healed).sum()
    }
}

/// A run of repairs, for people.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct RepairRun {
    /// Its id.
    pub id: String,
    /// The pack.
    pub pack: String,
    /// `backfill`, or `monitor` for what the monitor fixed in a day.
    pub kind: String,
    /// `open` (the monitor's, today), `running`, `done`, `failed`, `cancelled`, `undoing` or `undone`.
    pub state: String,
    /// How far it is.
    pub progress: Progress,
    /// PASS when nothing of what it was to repair is found afterwards, otherwise FAIL; `None` while it runs.
    pub verdict: Option<&'static str>,
    /// How long it needs at this speed, in milliseconds; `None` when that is not known.
    pub left_ms: Option<Millis>,
    /// Why it was started.
    pub reason: String,
    /// By whom.
    pub started_by: String,
    /// When, in UTC milliseconds.
    pub started_at: Millis,
    /// When it was over.
    pub finished_at: Option<Millis>,
}

impl RepairRun {
    pub(super) fn of(run: &CheckRunRow, now: Millis) -> Self {
        let progress = Progress::of(run);
        let is_over = matches!(run.state.as_str(), "done" | "undone");
        let is_clean = progress.checks.values().all(|one| one.left == Some(0));
        let found: u64 = progress.checks.values().map(|one| one.found).sum();
        let touched = progress.touched();
        let left_ms = (run.state == "running" && touched > 0 && found > touched).then(|| {
            let elapsed = (now - run.started_at).max(1) as f64;
            (elapsed / touched as f64 * (found - touched) as f64) as Millis
        });
        let verdict = (run.kind == "backfill" && is_over && run.state == "done")
            .then_some(if is_clean { "PASS" } else { "FAIL" });
        Self {
            id: run.id.clone(),
            pack: run.pack.clone(),
            kind: run.kind.clone(),
            state: run.state.clone(),
            progress,
            verdict,
            left_ms,
            reason: run.reason.clone(),
            started_by: run.started_by.clone(),
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

/// The checks that a wish is about: those that have a fix, or the one that it names.
pub(super) fn wanted<'k>(
    known: &'k KnownPack,
    check: Option<&str>,
) -> Result<Vec<&'k Check>, AppError> {
    let pack = &known.pack;
    if let Some(name) = check {
        let Some(check) = pack.check(name) else {
            let near =
                crate::config::nearest(name, pack.checks.iter().map(|one| one.name.as_str()));
            return Err(AppError::NotFound { kind: "check", key: format!("{name}{near}") });
        };
        if check.fix.is_none() {
            let message = format!("the check `{name}` has no fix: it is for people to look at");
            return Err(AppError::Refused(message));
        }
        return Ok(vec![check]);
    }
    let checks: Vec<&Check> = pack.checks.iter().filter(|check| check.fix.is_some()).collect();
    if checks.is_empty() {
        let message = format!("no check of `{}` has a fix", pack.name);
        return Err(AppError::Refused(message));
    }
    Ok(checks)
}

impl App {
    /// Starts repairing what is found.
    ///
    /// # Errors
    /// A wish that cannot be, no data source, or another run of the pack goes on.
    pub async fn start_backfill(
        &self,
        who: &Who,
        pack: &str,
        wish: BackfillWish,
    ) -> Result<RepairRun, AppError> {
        let run = self.begin_backfill(who, pack, wish, self.ids.next("rep")).await?;
        Ok(RepairRun::of(&run, self.clock.now()))
    }

    /// The same under an id that the caller knows; when there is such a run, nothing is started.
    pub async fn start_backfill_as(
        &self,
        who: &Who,
        pack: &str,
        wish: BackfillWish,
        id: String,
    ) -> Result<(), AppError> {
        if self.find_repair_run(&id).await?.is_some() {
            return Ok(());
        }
        self.begin_backfill(who, pack, wish, id).await.map(drop)
    }

    async fn begin_backfill(
        &self,
        who: &Who,
        pack: &str,
        wish: BackfillWish,
        id: String,
    ) -> Result<CheckRunRow, AppError> {
        who.must(Role::Operator, EVERYWHERE, "repair findings")?;
        let known = self.get_check_pack(who, pack).await?;
        let (usual, most) = BATCH;
        let batch_size = wish.batch_size.unwrap_or(usual);
        if !(1..=most).contains(&batch_size) {
            return Err(AppError::invalid("batch_size", format!("1 to {most} keys are expected")));
        }
        if wish.window_ms.is_some_and(|window| window == 0 || window > WINDOW_MS_MAX) {
            return Err(AppError::invalid("window_ms", "a time of at most 366 days is expected"));
        }
        if wish.limit == Some(0) {
            return Err(AppError::invalid("limit", "at least 1 is expected"));
        }
        wanted(&known, wish.check.as_deref())?;
        if known.settings.source.is_empty() {
            return Err(AppError::Refused(format!("`{pack}` has no data source yet")));
        }
        let open = self.store.list_open_check_runs().await?;
        if let Some(other) = open.iter().find(|run| run.pack == pack) {
            return Err(AppError::Refused(format!("the run {} of this pack goes on", other.id)));
        }
        let progress = Progress {
            source: Some(known.settings.source.clone()),
            check: wish.check,
            window_ms: wish.window_ms,
            batch_size,
            limit: wish.limit,
            ..Progress::default()
        };
        let by = self.stamp(who, &wish.reason);
        let run = CheckRunRow {
            id,
            pack: pack.to_owned(),
            kind: "backfill".to_owned(),
            state: "running".to_owned(),
            body: json!(progress),
            reason: by.reason.clone(),
            started_by: who.name.clone(),
            started_at: by.at,
            finished_at: None,
            version: 0,
        };
        let log = (by, pack.to_owned(), "repair".to_owned(), json!({"run": run.id}));
        let batch = CheckBatch { runs: vec![run.clone()], log: vec![log], ..CheckBatch::default() };
        self.store.save_checks(&batch).await?;
        self.checks.wake.notify_one();
        Ok(run)
    }

    /// A run of repairs; `None` when there is none.
    pub async fn find_repair_run(&self, id: &str) -> Result<Option<RepairRun>, AppError> {
        match self.store.get_check_run(id).await {
            Ok(run) => Ok(Some(RepairRun::of(&run, self.clock.now()))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a run back; when that was asked for before, nothing more is done.
    pub async fn undo_repair_once(&self, who: &Who, id: &str) -> Result<(), AppError> {
        let found = self.find_repair_run(id).await?;
        let is_running = found.as_ref().is_some_and(|run| run.state == "running");
        if found.is_none_or(|run| matches!(run.state.as_str(), "undoing" | "undone")) {
            return Ok(());
        }
        if is_running {
            self.cancel_repair(who, id).await?;
        }
        self.undo_repair(who, id, "").await.map(drop)
    }

    /// Runs of repairs, the newest first.
    pub async fn list_repair_runs(
        &self,
        who: &Who,
        pack: Option<&str>,
    ) -> Result<Vec<RepairRun>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at repairs")?;
        let now = self.clock.now();
        let runs = self.store.list_check_runs(pack, RUNS_MAX).await?;
        Ok(runs.iter().map(|run| RepairRun::of(run, now)).collect())
    }

    /// A run of repairs.
    pub async fn get_repair_run(&self, who: &Who, id: &str) -> Result<RepairRun, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at repairs")?;
        Ok(RepairRun::of(&self.store.get_check_run(id).await?, self.clock.now()))
    }

    /// Stops a run after the batch that is under way. What was repaired stays repaired.
    pub async fn cancel_repair(&self, who: &Who, id: &str) -> Result<RepairRun, AppError> {
        self.move_repair(who, id, &["running"], "cancelled", "cancel repair").await
    }

    /// Goes on with a run that failed or was cancelled, where it stopped.
    pub async fn resume_repair(&self, who: &Who, id: &str) -> Result<RepairRun, AppError> {
        let run = self.get_repair_run(who, id).await?;
        // What was being taken back goes on being taken back.
        let to = if run.progress.undone_by.is_some() { "undoing" } else { "running" };
        self.move_repair(who, id, &["failed", "cancelled"], to, "resume repair").await
    }

    /// Takes a run back: every row that is still as the run left it is put back as it was.
    ///
    /// # Errors
    /// The run still goes on, or the monitor would fix the same rows again at once.
    pub async fn undo_repair(
        &self,
        who: &Who,
        id: &str,
        reason: &str,
    ) -> Result<RepairRun, AppError> {
        let run = self.get_repair_run(who, id).await?;
        if self.clock.now() - run.started_at > JOURNAL_MS {
            let message = "what it changed is kept for 30 days, which are over";
            return Err(AppError::Refused(message.to_owned()));
        }
        let known = self.get_check_pack(who, &run.pack).await?;
        if known.settings.mode == Mode::Fix && known.settings.paused.is_none() {
            let message = "the monitor would fix the same rows again at once: pause it first";
            return Err(AppError::Refused(message.to_owned()));
        }
        let who = Who { reason: who.reason_or(reason).to_owned(), ..who.clone() };
        let from = ["done", "failed", "cancelled", "open"];
        self.move_repair(&who, id, &from, "undoing", "undo repair").await
    }

    async fn move_repair(
        &self,
        who: &Who,
        id: &str,
        from: &[&str],
        to: &str,
        verb: &'static str,
    ) -> Result<RepairRun, AppError> {
        who.must(Role::Operator, EVERYWHERE, "change runs of repairs")?;
        let mut run = self.store.get_check_run(id).await?;
        if !from.contains(&run.state.as_str()) {
            let message = format!("the run is {}, so this cannot be done", run.state);
            return Err(AppError::Refused(message));
        }
        if to != "cancelled" {
            let open = self.store.list_open_check_runs().await?;
            if let Some(other) = open.iter().find(|one| one.pack == run.pack && one.id != run.id) {
                return Err(AppError::Refused(format!(
                    "the run {} of this pack goes on",
                    other.id
                )));
            }
        }
        let mut progress = Progress::of(&run);
        if to == "undoing" {
            progress.undone_by = Some(who.name.clone());
        }
        progress.message = None;
        to.clone_into(&mut run.state);
        run.body = json!(progress);
        run.finished_at = (to == "cancelled").then(|| self.clock.now());
        let log = (self.stamp(who, ""), run.pack.clone(), verb.to_owned(), json!({"run": id}));
        let batch = CheckBatch { runs: vec![run.clone()], log: vec![log], ..CheckBatch::default() };
        self.store.save_checks(&batch).await?;
        self.checks.wake.notify_one();
        self.get_repair_run(who, id).await
    }
}
