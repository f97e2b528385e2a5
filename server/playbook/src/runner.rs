//! Drives a run: a loop around [`next_move`], with the lease renewed beside it.

use std::future::Future;

use serde_json::{Value, json};
use switchback_core::model::Millis;

use crate::flights::Flights;
use crate::format::OnDeadline;
use crate::journal::{Lease, NewEntry, Phase, RunRecord};
use crate::live;
use crate::next_move::{Move, next_move};
use crate::plan::{PLAN_VERSION, PlannedStep};
use crate::ports::{PortError, World};
use crate::require;
use crate::standing::Standing;
use crate::state::{CONDITION, Ending, RunState, RunView};
use crate::steps::{self, At, Check, Ran, StepError, StepKind};

/// How often the lease is renewed, in milliseconds; it lives for 5,000.
pub const RENEW_EVERY_MS: u64 = 1_000;
/// How often people's rows (approval, cancel) are looked for while a run waits, in milliseconds.
pub const LOOK_EVERY_MS: u64 = 250;
/// The most moves in one drive: a plan of 50 steps with all its retries stays far below.
const MOVES_MAX: u32 = 100_000;

/// Why driving stopped before the run ended. The run itself is unharmed: drive it again.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// Another node has the run: nothing to do.
    #[error("another node has taken this run over")]
    Fenced,
    /// The lease could not be renewed in time, so somebody else may take the run.
    #[error("the lease could not be renewed")]
    LeaseLost(#[source] PortError),
    /// The journal did not answer: try again soon.
    #[error("the journal did not answer")]
    Journal(#[source] PortError),
    /// The plan was made by another release and is not understood.
    #[error("the plan has version {found}; this release runs version {PLAN_VERSION}")]
    PlanVersion {
        /// The plan's version.
        found: u32,
    },
    /// A fault of ours: the run does not come to an end.
    #[error("the run made {MOVES_MAX} moves without ending")]
    Endless,
}

/// Drives a run until it ends or needs a person, and may be called again at any time: after a crash,
/// after a person's decision, on another node with a newer lease.
pub async fn drive(run_id: &str, lease: &Lease, world: &World) -> Result<Ending, DriveError> {
    let driver = Driver { run_id, lease, world };
    tokio::select! {
        biased;
        error = keep_lease(lease, world) => Err(error),
        ended = driver.work() => ended,
    }
}

/// Renews the lease until that fails for as long as it lives.
async fn keep_lease(lease: &Lease, world: &World) -> DriveError {
    let mut renewed_at = world.clock.now_ms();
    loop {
        let asked_at = world.clock.now_ms();
        world.clock.sleep_until(asked_at.saturating_add_unsigned(RENEW_EVERY_MS)).await;
        let asked_at = world.clock.now_ms();
        match world.journal.renew(lease).await {
            Ok(()) => renewed_at = asked_at,
            Err(PortError::Fenced) => return DriveError::Fenced,
            Err(error) => {
                let lost_at = renewed_at.saturating_add_unsigned(lease.ttl_ms);
                if world.clock.now_ms().saturating_add_unsigned(RENEW_EVERY_MS) >= lost_at {
                    return DriveError::LeaseLost(error);
                }
                tracing::warn!(run.id = %lease.run_id, error = %error, "the lease was not renewed");
            }
        }
    }
}

struct Driver<'d> {
    run_id: &'d str,
    lease: &'d Lease,
    world: &'d World,
}

impl Driver<'_> {
    async fn work(&self) -> Result<Ending, DriveError> {
        let mut flights = Flights::default();
        for _ in 0..MOVES_MAX {
            let record = self.world.journal.load(self.run_id).await.map_err(journal_error)?;
            if record.plan.version > PLAN_VERSION {
                return Err(DriveError::PlanVersion { found: record.plan.version });
            }
            let now = self.world.clock.now_ms();
            let (plan, entries) = (&record.plan, &record.entries);
            let chosen = next_move(plan, entries, record.started_at, now, &flights.busy);
            let grouped =
                |index: usize| plan.steps.get(index).is_some_and(|s| plan.group_of(s).is_some());
            match chosen {
                Move::RunStep(index, _) | Move::Verify(index) if grouped(index) => {
                    flights.begin(index, async move {
                        self.make(&record, chosen, now).await.map(|_| ())
                    });
                }
                Move::Join(until) => {
                    let look = now.saturating_add_unsigned(LOOK_EVERY_MS);
                    let until =
                        self.world.clock.sleep_until(until.unwrap_or(Millis::MAX).min(look));
                    tokio::select! {
                        biased;
                        landed = flights.land() => landed?,
                        () = until => {}
                    }
                }
                chosen => {
                    if let Some(ending) = self.make(&record, chosen, now).await? {
                        return Ok(ending);
                    }
                }
            }
        }
        Err(DriveError::Endless)
    }

    async fn make(
        &self,
        record: &RunRecord,
        chosen: Move,
        now: Millis,
    ) -> Result<Option<Ending>, DriveError> {
        let step = |index: usize| record.plan.steps.get(index);
        match chosen {
            Move::Finish(ending) => return self.finish(record, ending).await.map(Some),
            Move::Park(id, why) => return self.park(record, &id, &why).await.map(Some),
            Move::Join(_) => {}
            Move::WaitUntil(at) | Move::AwaitApproval(_, at) => {
                let look = now.saturating_add_unsigned(LOOK_EVERY_MS);
                self.world.clock.sleep_until(at.min(look)).await;
            }
            Move::Compensate(cause, why) => {
                tracing::warn!(run.id = self.run_id, because = %why, "the run unwinds: {why}");
                let detail = json!({"cause": cause, "because": why});
                self.append("", 0, Phase::Compensating, detail).await?;
            }
            Move::Require(index) => self.require(record, index).await?,
            Move::Measure(index) | Move::Compare(index) => self.look(record, index).await?,
            Move::Unmeasured(index, because) => {
                if let Some(rule) = record.plan.preserve.get(index) {
                    let detail = json!({"because": because});
                    self.append(&rule.row_id(), 0, Phase::Skipped, detail).await?;
                }
            }
            Move::Look(id, expression, values) => {
                let environment = &record.plan.environment;
                let found =
                    match live::holds(&expression, &values, environment, self.world, None).await {
                        Ok(found) => found,
                        Err(error @ (PortError::NotFound(_) | PortError::Refused(_))) => {
                            Err(error.to_string())
                        }
                        Err(error) => return Err(journal_error(error)),
                    };
                let (phase, detail) = match found {
                    Ok((true, says)) => (Phase::Verified, json!({"says": says})),
                    Ok((false, says)) => (Phase::Unverified, json!({"says": says, "error": says})),
                    Err(why) => (Phase::Failed, json!({"error": why})),
                };
                self.append(&format!("{CONDITION}{id}"), 0, phase, detail).await?;
            }
            Move::Skip(index, because) => {
                self.about(record, index, Phase::Skipped, json!({"because": because})).await?;
            }
            Move::Fail(index, error) => {
                self.about(record, index, Phase::Failed, json!({"error": error, "retry": false}))
                    .await?;
            }
            Move::Pause { step, until, approval } => {
                let detail = if approval {
                    let seen = Standing::look(&record.plan, step, self.lease, self.world).await;
                    json!({"until": until, "for": "approval", "seen": seen})
                } else {
                    json!({"until": until, "for": "time"})
                };
                self.about(record, step, Phase::Waiting, detail).await?;
            }
            Move::RunStep(index, attempt) => {
                if let Some(step) = step(index) {
                    self.run(record, index, step, attempt).await?;
                }
            }
            Move::ProbeUnknown(index) => {
                if let Some(step) = step(index) {
                    self.probe(record, index, step).await?;
                }
            }
            Move::Verify(index) => {
                if let Some(step) = step(index) {
                    self.verify(record, index, step).await?;
                }
            }
            Move::Undo(index, attempt) => {
                if let Some(step) = step(index) {
                    self.undo(record, index, step, attempt).await?;
                }
            }
        }
        Ok(None)
    }

    async fn require(&self, record: &RunRecord, index: usize) -> Result<(), DriveError> {
        let Some(require) = record.plan.require.get(index) else { return Ok(()) };
        let (phase, says) = match require::look(require, &record.plan, self.world, None).await {
            Ok((true, says)) => (Phase::Verified, says),
            Ok((false, says)) => (Phase::Unverified, says),
            // What nobody can look at does not hold: looking again would not help.
            Err(error @ (PortError::NotFound(_) | PortError::Refused(_))) => {
                (Phase::Unverified, error.to_string())
            }
            Err(error) => return Err(journal_error(error)),
        };
        let id = format!("require.{}", require.id);
        self.append(&id, 0, phase, json!({"says": says, "error": says})).await
    }

    /// Looks at what must not get lost: the first time to know it, later to compare.
    async fn look(&self, record: &RunRecord, index: usize) -> Result<(), DriveError> {
        let Some(rule) = record.plan.preserve.get(index) else { return Ok(()) };
        let view = RunView::of(&record.plan, &record.entries);
        let before = view.preserve.get(&rule.id).and_then(|seen| seen.before.as_ref());
        let looked = match before {
            None => self.world.preservation.measure(self.lease, rule).await,
            Some(before) => self.world.preservation.compare(self.run_id, rule, before).await,
        };
        let (phase, detail) = match looked {
            Ok(look) => {
                let phase = match (before, look.holds) {
                    (None, _) => Phase::Done,
                    (Some(_), true) => Phase::Verified,
                    (Some(_), false) => Phase::Unverified,
                };
                let mut detail = look.detail;
                detail.insert("says".to_owned(), json!(look.says));
                (phase, Value::Object(detail))
            }
            Err(PortError::Fenced) => return Err(DriveError::Fenced),
            Err(error) => {
                let retry = matches!(error, PortError::Unavailable(_) | PortError::Conflict(_));
                (Phase::Failed, json!({"error": error.to_string(), "retry": retry}))
            }
        };
        self.append(&rule.row_id(), 0, phase, detail).await
    }

    async fn run(
        &self,
        record: &RunRecord,
        index: usize,
        step: &PlannedStep,
        attempt: u32,
    ) -> Result<(), DriveError> {
        let scene = Scene::of(record, index);
        if self.asks_again(record, &scene, step).await? {
            return Ok(());
        }
        self.append(&step.id, attempt, Phase::Intent, json!({"does": step.does})).await?;
        let at = scene.at(self, record, step, &step.params, attempt);
        let Some(kind) = steps::find(&step.kind) else {
            let detail = json!({"error": format!("no kind `{}`", step.kind), "retry": false});
            return self.append(&step.id, attempt, Phase::Failed, detail).await;
        };
        let ran = match self.limited(record, kind, step.timeout_ms, kind.run(&at)).await? {
            Some(ran) => ran,
            None if kind.idempotent() && step.idempotent => {
                Err(StepError::passing("it did not end within its time"))
            }
            None => {
                let detail = json!({"because": "it did not end within its time"});
                return self.append(&step.id, attempt, Phase::Unknown, detail).await;
            }
        };
        match ran {
            Ok(Ran::Committed) => {
                self.world.progress.moved(self.run_id);
                Ok(())
            }
            Ok(Ran::Done(detail)) => self.append(&step.id, attempt, Phase::Done, detail).await,
            Err(StepError::Fenced) => Err(DriveError::Fenced),
            Err(_) if self.was_committed(kind, step, attempt, Phase::Done).await? => Ok(()),
            Err(error) => {
                let retry = matches!(error, StepError::Failed { retry: true, .. });
                let detail = json!({"error": error.to_string(), "retry": retry});
                self.append(&step.id, attempt, Phase::Failed, detail).await
            }
        }
    }

    /// An approval is given to what people saw: when that has moved by the time the step would start, it is void.
    async fn asks_again(
        &self,
        record: &RunRecord,
        scene: &Scene,
        step: &PlannedStep,
    ) -> Result<bool, DriveError> {
        let Some((approval, seen)) = step.approve.as_ref().zip(scene.view.steps.get(scene.index))
        else {
            return Ok(false);
        };
        let agreed = seen.approvals.len() as u64 >= u64::from(approval.min);
        if seen.attempts > 0 || seen.broke_glass.is_some() || !agreed || seen.standing.0.is_empty()
        {
            return Ok(false);
        }
        let now = Standing::look(&record.plan, scene.index, self.lease, self.world).await;
        let Some(because) = seen.standing.moved(&now) else { return Ok(false) };
        tracing::warn!(run.id = self.run_id, step = step.id, "approvals are void: {because}");
        let until = self.world.clock.now_ms().saturating_add_unsigned(approval.timeout_ms);
        let detail = json!({"until": until, "for": "approval", "because": because, "seen": now});
        self.append(&step.id, 0, Phase::Voided, detail).await.map(|()| true)
    }

    async fn probe(
        &self,
        record: &RunRecord,
        index: usize,
        step: &PlannedStep,
    ) -> Result<(), DriveError> {
        let scene = Scene::of(record, index);
        let attempt = scene.view.steps.get(index).map_or(1, |seen| seen.attempts);
        let at = scene.at(self, record, step, &step.params, attempt);
        let found = match steps::find(&step.kind) {
            Some(kind) => kind.probe(&at).await.unwrap_or(None),
            None => None,
        };
        let because = "the driver stopped between intent and outcome";
        self.append(&step.id, attempt, Phase::Unknown, json!({"because": because})).await?;
        match found {
            Some(detail) => self.append(&step.id, attempt, Phase::Done, detail).await,
            None => Ok(()),
        }
    }

    async fn verify(
        &self,
        record: &RunRecord,
        index: usize,
        step: &PlannedStep,
    ) -> Result<(), DriveError> {
        let scene = Scene::of(record, index);
        let attempt = scene.view.steps.get(index).map_or(1, |seen| seen.attempts);
        let mut calls = vec![(step.kind.as_str(), &step.params, step.timeout_ms)];
        calls.extend(step.verify.as_ref().map(|c| (c.kind.as_str(), &c.params, c.timeout_ms)));
        let mut seen = Vec::new();
        for (name, params, timeout_ms) in calls {
            let Some(kind) = steps::find(name) else { continue };
            let at = scene.at(self, record, step, params, attempt);
            let check = self.limited(record, kind, timeout_ms, kind.verify(&at)).await?;
            match check {
                Some(Ok(Check::Holds(says))) => seen.push(says),
                Some(Err(StepError::Fenced)) => return Err(DriveError::Fenced),
                other => {
                    let error = match other {
                        Some(Ok(Check::Broken(says))) => says,
                        Some(Err(error)) => error.to_string(),
                        _ => "it did not end within its time".to_owned(),
                    };
                    let detail = json!({"error": error});
                    return self.append(&step.id, attempt, Phase::Unverified, detail).await;
                }
            }
        }
        self.append(&step.id, attempt, Phase::Verified, json!({"says": seen})).await
    }

    async fn undo(
        &self,
        record: &RunRecord,
        index: usize,
        step: &PlannedStep,
        attempt: u32,
    ) -> Result<(), DriveError> {
        self.append(&step.id, attempt, Phase::UndoIntent, json!({"does": step.undoes})).await?;
        let scene = Scene::of(record, index);
        let at = scene.at(self, record, step, &step.params, attempt);
        let Some(kind) = steps::find(&step.kind) else {
            let detail = json!({"error": format!("no kind `{}`", step.kind), "conflict": false});
            return self.append(&step.id, attempt, Phase::UndoFailed, detail).await;
        };
        let limit = step.timeout_ms.max(10_000);
        let undone = self.within(kind, limit, kind.undo(&at)).await;
        let undone =
            undone.unwrap_or_else(|| Err(StepError::passing("it did not end within its time")));
        match undone {
            Ok(Ran::Committed) => {
                self.world.progress.moved(self.run_id);
                Ok(())
            }
            Ok(Ran::Done(detail)) => self.append(&step.id, attempt, Phase::Undone, detail).await,
            Err(StepError::Fenced) => Err(DriveError::Fenced),
            Err(_) if self.was_committed(kind, step, attempt, Phase::Undone).await? => Ok(()),
            Err(error) => {
                let conflict = matches!(error, StepError::Conflict(_));
                let detail = json!({"error": error.to_string(), "conflict": conflict});
                self.append(&step.id, attempt, Phase::UndoFailed, detail).await
            }
        }
    }

    /// Whether an effect that failed is in the journal all the same: what commits its own outcome may lose the answer to the commit.
    async fn was_committed(
        &self,
        kind: &dyn StepKind,
        step: &PlannedStep,
        attempt: u32,
        phase: Phase,
    ) -> Result<bool, DriveError> {
        if !kind.commits_itself() {
            return Ok(false);
        }
        let record = self.world.journal.load(self.run_id).await.map_err(journal_error)?;
        let is_it =
            |row: &NewEntry| row.step_id == step.id && row.attempt == attempt && row.phase == phase;
        Ok(record.entries.iter().any(|entry| is_it(&entry.row)))
    }

    /// Runs a forward effect within its time and the run's; one that may be cut off also ends with a cancel.
    async fn limited<T>(
        &self,
        record: &RunRecord,
        kind: &dyn StepKind,
        timeout_ms: u64,
        effect: impl Future<Output = Result<T, StepError>>,
    ) -> Result<Option<Result<T, StepError>>, DriveError> {
        let now = self.world.clock.now_ms();
        let deadline = record.started_at.saturating_add_unsigned(record.plan.deadline_ms);
        let left = match record.plan.on_deadline {
            OnDeadline::Compensate => deadline.saturating_sub(now).max(1) as u64,
            OnDeadline::Pause | OnDeadline::Continue => u64::MAX,
        };
        let limit = timeout_ms.min(left);
        if !kind.stoppable() {
            return Ok(self.within(kind, limit, effect).await);
        }
        tokio::select! {
            biased;
            ended = self.within(kind, limit, effect) => Ok(ended),
            stopped = self.until_cancelled() => {
                stopped.map(|()| Some(Err(StepError::permanent("the run was cancelled"))))
            }
        }
    }

    /// What commits its own outcome is never cut off: the outcome might be on its way.
    async fn within<T>(
        &self,
        kind: &dyn StepKind,
        limit_ms: u64,
        effect: impl Future<Output = T>,
    ) -> Option<T> {
        if kind.commits_itself() {
            return Some(effect.await);
        }
        let end = self.world.clock.now_ms().saturating_add_unsigned(limit_ms);
        tokio::select! {
            biased;
            ended = effect => Some(ended),
            () = self.world.clock.sleep_until(end) => None,
        }
    }

    async fn until_cancelled(&self) -> Result<(), DriveError> {
        loop {
            let look = self.world.clock.now_ms().saturating_add_unsigned(LOOK_EVERY_MS);
            self.world.clock.sleep_until(look).await;
            let record = self.world.journal.load(self.run_id).await.map_err(journal_error)?;
            if record.entries.iter().any(|entry| entry.row.phase == Phase::CancelRequested) {
                return Ok(());
            }
        }
    }

    async fn finish(&self, record: &RunRecord, ending: Ending) -> Result<Ending, DriveError> {
        if record.entries.iter().any(|entry| entry.row.phase == Phase::Finished) {
            return Ok(ending);
        }
        tracing::info!(run.id = self.run_id, ending = ?ending, "the run is over");
        let entry = self.entry("", 0, Phase::Finished, json!({"ending": ending}));
        self.close(ending.into(), entry).await.map(|()| ending)
    }

    async fn park(
        &self,
        record: &RunRecord,
        step_id: &str,
        why: &str,
    ) -> Result<Ending, DriveError> {
        if RunView::of(&record.plan, &record.entries).parked.is_none() {
            tracing::error!(run.id = self.run_id, step = step_id, "the run needs a person: {why}");
            let entry = self.entry(step_id, 0, Phase::Parked, json!({"because": why}));
            self.close(RunState::Parked, entry).await?;
        }
        Ok(Ending::Parked)
    }

    async fn close(&self, state: RunState, entry: NewEntry) -> Result<(), DriveError> {
        self.world.journal.finish(self.lease, state, entry).await.map_err(journal_error)?;
        self.world.progress.moved(self.run_id);
        Ok(())
    }

    async fn about(
        &self,
        record: &RunRecord,
        index: usize,
        phase: Phase,
        detail: Value,
    ) -> Result<(), DriveError> {
        let id = record.plan.steps.get(index).map_or("", |step| &step.id);
        self.append(id, 0, phase, detail).await
    }

    async fn append(
        &self,
        step_id: &str,
        attempt: u32,
        phase: Phase,
        detail: Value,
    ) -> Result<(), DriveError> {
        let entry = self.entry(step_id, attempt, phase, detail);
        self.world.journal.append(self.lease, entry).await.map_err(journal_error)?;
        self.world.progress.moved(self.run_id);
        Ok(())
    }

    fn entry(&self, step_id: &str, attempt: u32, phase: Phase, detail: Value) -> NewEntry {
        let (run_id, step_id) = (self.run_id.to_owned(), step_id.to_owned());
        NewEntry { run_id, step_id, attempt, phase, at: self.world.clock.now_ms(), detail }
    }
}

/// What a step is shown of its run.
struct Scene {
    view: RunView,
    outputs: std::collections::BTreeMap<String, Value>,
    index: usize,
}

impl Scene {
    fn of(record: &RunRecord, index: usize) -> Self {
        let view = RunView::of(&record.plan, &record.entries);
        Self { outputs: view.outputs(&record.plan), view, index }
    }

    fn at<'a>(
        &'a self,
        driver: &Driver<'a>,
        record: &'a RunRecord,
        step: &'a PlannedStep,
        params: &'a Value,
        attempt: u32,
    ) -> At<'a> {
        let seen = self.view.steps.get(self.index);
        At {
            plan: &record.plan,
            step,
            params,
            lease: driver.lease,
            attempt,
            done: seen.and_then(|seen| seen.output.as_ref()),
            outputs: &self.outputs,
            revisions: &self.view.revisions,
            forced: seen.is_some_and(|seen| seen.forced),
            world: driver.world,
        }
    }
}

fn journal_error(error: PortError) -> DriveError {
    match error {
        PortError::Fenced => DriveError::Fenced,
        other => DriveError::Journal(other),
    }
}
