//! Playbooks: the catalogue, starting a run, driving it, what people say to it, its record.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use switchback_core::model::Millis;
use switchback_playbook::format::{OnConflict, Playbook};
use switchback_playbook::journal::{Decision, Entry, Lease, NewEntry, Person, Phase};
use switchback_playbook::preview::{CriterionPreview, criteria};
use switchback_playbook::{
    DriveError, Plan, Preview, Problem, RunState, RunView, compile, drive, dry_run, lint,
};
use switchback_store::{
    Beside, ChainHead, ChainProblem, LogEntry, NewRun, Role, RunFilter, RunRow, StoreError, Waits,
    verify_rows,
};

use super::App;
use super::automation::start_error;
use super::error::{AppError, Wrong};
use super::ports::{to_entry, world};
use super::undo::expires_ms;
use super::who::{EVERYWHERE, Who, role_name};
use crate::live::News;
use crate::metrics::Outcome;

/// How long a driver may be silent before another node takes over, in milliseconds.
pub const LEASE_TTL_MS: u64 = 5_000;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Rows of the log that are checked at a time.
const VERIFY_PAGE: i64 = 1_000;

/// A run with everything about it.
#[derive(Clone, Debug, Serialize)]
pub struct RunDetail {
    /// Its row; the plan is apart.
    pub run: RunRow,
    /// What it set out to do.
    pub plan: Plan,
    /// What its rows add up to.
    pub view: RunView,
    /// Its state now.
    pub state: RunState,
    /// Its rows in the log.
    pub log: Vec<LogEntry>,
    /// Incidents that it opened.
    pub incidents: Vec<String>,
}

/// What to run, where and why.
#[derive(Clone, Debug)]
pub struct RunDraft {
    /// The playbook's name.
    pub playbook: String,
    /// The environment.
    pub environment: String,
    /// Why.
    pub reason: String,
    /// Values for its inputs.
    pub inputs: BTreeMap<String, Value>,
    /// `ui`, `cli`, `api`, `webhook`, `schedule`, `alert`.
    pub trigger: &'static str,
    /// Without the role that the playbook wants, in an emergency.
    pub break_glass: bool,
}

/// What a check of the chain found.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct ChainReport {
    /// Rows that were checked.
    pub rows: u64,
    /// Whether all of them hold.
    pub ok: bool,
    /// The first broken row.
    pub broken_row: Option<u64>,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// The newest row's hash: keep a copy elsewhere to prove that nothing was cut off.
    pub head_hash: String,
}

/// What the last look at the whole chain found.
#[derive(Clone, Debug)]
pub struct Verified {
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// What it found.
    pub report: ChainReport,
}

impl App {
    /// Fills a playbook in for an environment.
    pub fn plan_run(&self, draft: &RunDraft) -> Result<Plan, AppError> {
        let catalogue = self.catalogue.load();
        let playbook = catalogue.get(&draft.playbook)?;
        let mut inputs = draft.inputs.clone();
        if playbook.inputs.iter().any(|input| input.name == "reason") {
            inputs.entry("reason".to_owned()).or_insert_with(|| json!(draft.reason.trim()));
        }
        let reason = draft.reason.trim();
        Ok(compile(playbook, &catalogue.templates, &draft.environment, &inputs, reason)?)
    }

    /// What a run would do, step by step. Changes nothing.
    pub async fn preview_run(
        self: &Arc<Self>,
        who: &Who,
        draft: &RunDraft,
    ) -> Result<(Plan, Preview), AppError> {
        who.must(Role::Viewer, &draft.environment, "look at playbooks")?;
        self.get_environment(&draft.environment).await?;
        let plan = self.plan_run(draft)?;
        let preview = dry_run(&plan, &world(self, None)).await;
        Ok((plan, preview))
    }

    /// What speaks for running a playbook, as it is now.
    pub async fn criteria(
        self: &Arc<Self>,
        playbook: &Playbook,
        plan: &Plan,
    ) -> Vec<CriterionPreview> {
        criteria(playbook, plan, &world(self, None)).await
    }

    /// Starts a run: its plan is frozen and committed, and this node drives it at once.
    pub async fn start_run(
        self: &Arc<Self>,
        who: &Who,
        draft: RunDraft,
    ) -> Result<RunRow, AppError> {
        who.must(Role::Operator, &draft.environment, "run playbooks")?;
        let reason = self.reason_to_run(who, &draft.environment, &draft.reason).await?;
        let draft = RunDraft { reason, ..draft };
        let plan = self.plan_run(&draft)?;
        let blocked = match self.may_start(who, &plan).await {
            Err(AppError::Refused(why)) => Some(why),
            other => other.map(|()| None)?,
        };
        let trigger = draft.trigger;
        let Some(why) = blocked else {
            let beside = Beside::default();
            return self.start_plan(who, plan, trigger, json!({}), None, beside).await;
        };
        if !draft.break_glass {
            return Err(AppError::Refused(why));
        }
        let id = self.ids.next("run");
        let (review, stamp) = self.review_of(who, &draft.environment, &id, "", &draft.reason)?;
        let beside = Beside { review: Some((&review, &stamp)), ..Beside::default() };
        let noted = json!({"break_glass": why});
        let run = self.start_plan(who, plan, trigger, noted, Some(id), beside).await?;
        self.tell_of_break_glass(&review, &run.title).await;
        Ok(run)
    }

    /// Refuses a start that takes another role or a drill; breaking glass passes both.
    async fn may_start(&self, who: &Who, plan: &Plan) -> Result<(), AppError> {
        let roles = self.catalogue.load().get(&plan.playbook)?.triggers.manual.roles.clone();
        if !who.has_one_of(&roles, &plan.environment) {
            let message = format!(
                "this playbook is started by {}; in an emergency break glass, which somebody else reviews",
                roles.join(" or ")
            );
            return Err(AppError::Refused(message));
        }
        self.must_be_drilled(plan).await
    }

    /// Why somebody runs something, cut to what is kept; a protected environment needs it.
    pub(super) async fn reason_to_run(
        &self,
        who: &Who,
        environment: &str,
        reason: &str,
    ) -> Result<String, AppError> {
        let environment = self.get_environment(environment).await?;
        let reason: String = who.reason_or(reason).trim().chars().take(1_000).collect();
        if reason.is_empty() && environment.protected {
            let message = format!("{} is protected: say why", environment.name);
            return Err(AppError::invalid("reason", message));
        }
        Ok(reason)
    }

    /// Commits a run of a plan with its first row, in which `noted` stands too, and drives it.
    pub(super) async fn start_plan(
        self: &Arc<Self>,
        who: &Who,
        plan: Plan,
        trigger: &str,
        noted: Value,
        id: Option<String>,
        beside: Beside<'_>,
    ) -> Result<RunRow, AppError> {
        let sha256 = plan.sha256();
        let now = self.clock.now();
        let run = NewRun {
            id: id.unwrap_or_else(|| self.ids.next("run")),
            playbook: plan.playbook.clone(),
            title: plan.title.clone(),
            environment: plan.environment.clone(),
            concurrency_key: plan.concurrency_key.clone(),
            on_conflict: None,
            plan: serde_json::to_string(&plan).map_err(|e| AppError::Internal(Box::new(e)))?,
            plan_sha256: sha256.clone(),
            reason: plan.reason.clone(),
            trigger: trigger.to_owned(),
            requested_by: who.name.clone(),
            created_at: now,
            deadline_at: now + plan.deadline_ms.cast_signed(),
            undoes: noted.get("undoes").and_then(Value::as_str).map(str::to_owned),
            // Late enough for the run itself; its end brings it forward.
            expires_at: expires_ms(&plan).map(|ms| {
                now.saturating_add_unsigned(ms.saturating_add(plan.deadline_ms.saturating_mul(2)))
            }),
        };
        let run = NewRun { on_conflict: self.waits(&run, who, plan.on_conflict), ..run };
        let mut detail = json!({
            "playbook": run.playbook, "plan_sha256": sha256, "trigger": run.trigger,
            "inputs": plan.inputs,
        });
        if let (Value::Object(detail), Value::Object(noted)) = (&mut detail, noted) {
            detail.extend(noted);
        }
        let first =
            self.person_row(&run.id, &run.environment, who, &run.reason, Phase::Note, detail);
        match self.store.create_run(&run, first, beside).await {
            Ok(()) => {}
            // Whoever comes second is shown the one that goes on.
            Err(StoreError::Exists { key, .. }) if plan.on_conflict == OnConflict::Join => {
                return self.store.get_run(&key).await.map_err(start_error);
            }
            Err(error) => return Err(start_error(error)),
        }
        tracing::info!(
            run.id = run.id,
            environment.key = run.environment,
            "run of `{}` started",
            run.playbook
        );
        self.drive_if_free(&run.id).await;
        Ok(self.store.get_run(&run.id).await?)
    }

    /// What a new run does when another has its key.
    fn waits(&self, run: &NewRun, who: &Who, choice: OnConflict) -> Option<Waits> {
        match choice {
            OnConflict::Reject | OnConflict::Join => None,
            OnConflict::Queue => Some(Waits::Queue),
            OnConflict::Supersede => {
                let reason = format!("superseded by {}: {}", run.id, run.reason);
                let detail = json!({"superseded_by": run.id, "by": who.name});
                let phase = Phase::CancelRequested;
                let row = self.person_row("", &run.environment, who, &reason, phase, detail);
                Some(Waits::Supersede(Box::new(row)))
            }
        }
    }

    /// Lets runs begin whose turn has come.
    async fn promote_runs(&self) {
        let Ok(next) = self.store.list_next_runs().await else { return };
        for (id, environment) in next {
            let who = Who::system();
            let detail = json!({"says": "its turn has come"});
            let row = self.person_row(&id, &environment, &who, "", Phase::Note, detail);
            match self.store.promote_run(&id, self.clock.now(), row).await {
                Ok(is_next) => tracing::debug!(run.id = id, is_next, "a run's turn came"),
                Err(error) => tracing::warn!(run.id = id, error = %error, "a run still waits"),
            }
        }
    }

    pub(super) fn person_row(
        &self,
        run: &str,
        environment: &str,
        who: &Who,
        reason: &str,
        phase: Phase,
        detail: Value,
    ) -> switchback_store::NewEntry {
        switchback_store::NewEntry {
            run_id: run.to_owned(),
            environment: environment.to_owned(),
            step_id: String::new(),
            attempt: 0,
            phase: phase.as_str().to_owned(),
            actor: who.name.clone(),
            reason: reason.to_owned(),
            before: None,
            after: None,
            duration_ms: None,
            detail,
            at: self.clock.now(),
        }
    }

    /// Takes a run that nobody drives, and drives it beside everything else.
    async fn drive_if_free(self: &Arc<Self>, id: &str) {
        let is_new =
            self.driving.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        if !is_new {
            return;
        }
        let now = self.clock.now();
        let ttl = LEASE_TTL_MS.cast_signed();
        let claimed = self.store.claim_run(id, &self.hub.node, now, ttl).await;
        let Ok(Some(lease)) = claimed else {
            self.driving.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
            return;
        };
        let app = Arc::clone(self);
        tokio::spawn(async move {
            let id = lease.run_id.clone();
            app.drive_to_the_end(lease).await;
            app.driving.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
    }

    async fn drive_to_the_end(self: &Arc<Self>, fence: switchback_store::Lease) {
        let id = fence.run_id.clone();
        let Ok(row) = self.store.get_run(&id).await else { return };
        let _ = self.store.set_run_state(&fence, RunState::Running.as_str()).await;
        let lease = Lease {
            run_id: id.clone(),
            owner: self.hub.node.clone(),
            epoch: fence.epoch,
            ttl_ms: LEASE_TTL_MS,
        };
        let playbook = row.playbook.clone();
        match drive(&id, &lease, &world(self, Some(row))).await {
            Ok(ending) => {
                let outcome = RunState::from(ending).as_str().to_owned();
                tracing::info!(run.id = id, "run of `{playbook}` ended: {outcome}");
                self.metrics.runs.get_or_create(&Outcome { playbook, outcome }).inc();
                if let Err(error) = self.on_run_over(&id).await {
                    tracing::error!(run.id = id, error = %error, "what follows the run is not arranged; the next look will");
                }
            }
            Err(DriveError::Fenced) => {
                tracing::warn!(run.id = id, "another node drives this run now");
            }
            Err(error) => {
                tracing::error!(run.id = id, error = ?error, "the run stopped; it will be taken up again");
                let _ = self.store.release_lease(&fence).await;
            }
        }
        self.hub.publish(News::Run(id));
        self.runner.notify_one(); // another one may wait for its turn
    }

    /// Drives runs that nobody drives: after a crash, a lost lease, a person's decision.
    pub async fn run_playbooks(self: Arc<Self>) {
        self.report_lately().await;
        loop {
            self.promote_runs().await;
            match self.store.list_due_runs(self.clock.now()).await {
                Ok(due) => {
                    for id in due {
                        self.drive_if_free(&id).await;
                    }
                }
                Err(error) => tracing::debug!(error = %error, "runs cannot be looked up"),
            }
            self.undo_expired().await;
            tokio::select! {
                () = self.runner.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Runs, newest first.
    pub async fn list_runs(&self, who: &Who, filter: &RunFilter) -> Result<Vec<RunRow>, AppError> {
        let environment = filter.environment.as_deref().unwrap_or(EVERYWHERE);
        who.must(Role::Viewer, environment, "look at runs")?;
        Ok(self.store.list_runs(filter).await?)
    }

    /// One run, with its plan, its rows and what they add up to.
    pub async fn get_run(&self, who: &Who, id: &str) -> Result<RunDetail, AppError> {
        let run = self.store.get_run(id).await?;
        who.must(Role::Viewer, &run.environment, "look at runs")?;
        let plan: Plan =
            serde_json::from_str(&run.plan).map_err(|e| AppError::Internal(Box::new(e)))?;
        let log = self.store.list_entries(id).await?;
        let entries: Vec<Entry> = log
            .iter()
            .filter_map(to_entry)
            .filter(|entry| entry.row.phase != Phase::Note)
            .collect();
        let view = RunView::of(&plan, &entries);
        let is_queued = run.queued_for.is_some() && run.finished_at.is_none();
        let state = if is_queued { RunState::Queued } else { view.state(&plan) };
        // The run may have ended between the two reads; its last row and its end are one transaction.
        let run = if state.is_over() && run.finished_at.is_none() {
            self.store.get_run(id).await?
        } else {
            run
        };
        let incidents = self.store.list_incidents_of_run(id).await?;
        let incidents = incidents.into_iter().map(|incident| incident.id).collect();
        Ok(RunDetail { run, plan, view, state, log, incidents })
    }

    /// Asks a run to stop and put back what it did.
    pub async fn cancel_run(&self, who: &Who, id: &str, reason: &str) -> Result<(), AppError> {
        self.say_to_run(who, id, reason, |person, at| NewEntry::cancel(id, at, person)).await
    }

    /// Decides about a parked run: it was done, do it again, or undo.
    pub async fn decide_run(
        &self,
        who: &Who,
        id: &str,
        step: &str,
        decision: Decision,
        comment: &str,
    ) -> Result<(), AppError> {
        if self.store.get_run(id).await?.state != RunState::Parked.as_str() {
            return Err(AppError::Refused("this run waits for no decision".to_owned()));
        }
        self.say_to_run(who, id, comment, |person, at| {
            NewEntry::decision(id, step, at, decision, person)
        })
        .await
    }

    pub(super) async fn say_to_run(
        &self,
        who: &Who,
        id: &str,
        comment: &str,
        entry: impl FnOnce(&Person, i64) -> NewEntry,
    ) -> Result<(), AppError> {
        let run = self.store.get_run(id).await?;
        let row = self.said_of(who, &run, comment, entry)?;
        self.store.append_by_person(row).await?;
        self.announce(News::Run(id.to_owned())).await;
        Ok(())
    }

    /// The row in which somebody who may steer a run says something about it.
    pub(super) fn said_of(
        &self,
        who: &Who,
        run: &RunRow,
        comment: &str,
        entry: impl FnOnce(&Person, i64) -> NewEntry,
    ) -> Result<switchback_store::NewEntry, AppError> {
        who.must(Role::Operator, &run.environment, "steer runs")?;
        let comment = comment.trim().chars().take(1_000).collect();
        let roles = who.roles_in(&run.environment);
        let roles = roles.into_iter().map(|role| role_name(role).to_owned()).collect();
        let person = Person { name: who.name.clone(), roles, comment };
        let entry = entry(&person, self.clock.now());
        let mut row = self.person_row(
            &run.id,
            &run.environment,
            who,
            &person.comment,
            entry.phase,
            entry.detail,
        );
        row.step_id = entry.step_id;
        Ok(row)
    }

    /// Checks the whole chain of the log, and names the first broken row.
    pub async fn verify_log(&self, who: &Who) -> Result<ChainReport, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "verify the log")?;
        self.check_chain().await
    }

    /// What the last look at the chain found, whoever asked for it; every node looks once an hour by itself.
    pub fn last_verified(&self) -> Option<Verified> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the whole chain, and remembers what was found.
    pub(crate) async fn check_chain(&self) -> Result<ChainReport, AppError> {
        let report = self.read_chain().await?;
        let verified = Verified { at: self.clock.now(), report: report.clone() };
        *self.verified.lock().unwrap_or_else(PoisonError::into_inner) = Some(verified);
        Ok(report)
    }

    async fn read_chain(&self) -> Result<ChainReport, AppError> {
        let mut head = ChainHead { seq: 0, hash: String::new() };
        loop {
            let rows = self.store.page_entries(head.seq, VERIFY_PAGE).await?;
            if rows.is_empty() {
                break;
            }
            match verify_rows(head.clone(), &rows) {
                Ok(next) => head = next,
                Err(problem) => return Ok(broken(problem, &head)),
            }
        }
        let expected = self.store.chain_head().await?;
        if expected.seq > head.seq || (expected.seq == head.seq && expected.hash != head.hash) {
            let what = "the newest rows are missing: the chain should end later".to_owned();
            return Ok(broken(ChainProblem { seq: head.seq + 1, what }, &head));
        }
        let (rows, head_hash) = (head.seq, head.hash);
        Ok(ChainReport { rows, ok: true, broken_row: None, problem: None, head_hash })
    }

    /// Lints a playbook's text against the templates that this server knows.
    pub fn lint_playbook(&self, text: &str) -> Vec<Problem> {
        lint::lint(text, &self.catalogue.load().templates)
    }
}

fn broken(problem: ChainProblem, head: &ChainHead) -> ChainReport {
    ChainReport {
        rows: head.seq,
        ok: false,
        broken_row: Some(problem.seq),
        problem: Some(problem.what),
        head_hash: head.hash.clone(),
    }
}

impl From<Problem> for Wrong {
    fn from(problem: Problem) -> Self {
        Self { field: problem.path, message: problem.message }
    }
}
