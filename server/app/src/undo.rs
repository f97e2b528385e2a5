//! Taking a finished run back: the playbook that does it, its dry run, and its run.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use switchback_playbook::format::Playbook;
use switchback_playbook::invert::{Inverted, Which, invert};
use switchback_playbook::journal::{Entry, Phase};
use switchback_playbook::{Plan, Preview, compile, dry_run, lint};
use switchback_store::{Beside, Role, RunFilter, RunRow};

use super::App;
use super::error::AppError;
use super::ports::world;
use super::who::Who;

/// Runs that are looked through for the newest good one of a playbook.
const LOOK_BACK: i64 = 200;

/// When taking back what expired is tried again, in milliseconds.
const EXPIRY_AGAIN_MS: i64 = 60_000;
/// The longest that somebody may let it stand on, in milliseconds.
const RENEW_MS_MAX: u64 = 7 * 86_400_000;

/// What somebody says who takes a run back.
#[derive(Clone, Debug)]
pub struct UndoDraft {
    /// Why.
    pub reason: String,
    /// Also what somebody else has changed since.
    pub force: bool,
    /// Which steps.
    pub which: Which,
    /// `ui`, `cli`, `api`, `expiry`.
    pub trigger: &'static str,
}

/// The shortest time after which a step of the plan is taken back by itself, in milliseconds.
pub(super) fn expires_ms(plan: &Plan) -> Option<u64> {
    plan.steps.iter().filter_map(|step| step.expires_ms).min()
}

impl App {
    /// The playbook that takes a finished run back.
    pub async fn invert_run(&self, who: &Who, id: &str) -> Result<(RunRow, Inverted), AppError> {
        self.invert_part(who, id, Which::All).await
    }

    /// What took a dangerous or expiring step back would, taken back itself, do that step again without its approval and its
    /// end. That is for the playbook, which has both.
    async fn must_not_reopen(&self, run: &RunRow) -> Result<(), AppError> {
        let Some(first) = &run.undoes else { return Ok(()) };
        let first = self.store.get_run(first).await?;
        let plan: Plan =
            serde_json::from_str(&first.plan).map_err(|e| AppError::Internal(Box::new(e)))?;
        if plan.steps.iter().any(|step| step.danger || step.expires_ms.is_some()) {
            return Err(AppError::Refused(format!(
                "this run took back dangerous or expiring steps; to do them again, run `{}`, with its approvals",
                first.playbook
            )));
        }
        Ok(())
    }

    async fn invert_part(
        &self,
        who: &Who,
        id: &str,
        which: Which,
    ) -> Result<(RunRow, Inverted), AppError> {
        let detail = self.get_run(who, id).await?;
        if !detail.state.is_over() {
            let message = "this run is not over; cancel it instead, which takes back what it did";
            return Err(AppError::Refused(message.to_owned()));
        }
        self.must_not_reopen(&detail.run).await?;
        let entries: Vec<Entry> = detail
            .log
            .iter()
            .filter_map(super::ports::to_entry)
            .filter(|entry| entry.row.phase != Phase::Note)
            .collect();
        let inverted = invert(id, &detail.plan, &entries, which).map_err(AppError::Refused)?;
        Ok((detail.run, inverted))
    }

    /// The playbook that takes the newest successful run of a playbook in an environment back.
    pub async fn invert_playbook(
        &self,
        who: &Who,
        playbook: &str,
        environment: &str,
    ) -> Result<(RunRow, Inverted), AppError> {
        self.catalogue.load().get(playbook)?;
        self.get_environment(environment).await?;
        let filter = RunFilter {
            playbook: Some(playbook.to_owned()),
            environment: Some(environment.to_owned()),
            limit: LOOK_BACK,
            ..RunFilter::default()
        };
        let runs = self.list_runs(who, &filter).await?;
        let found = runs.into_iter().find(|run| run.state == "succeeded").ok_or_else(|| {
            AppError::Refused(format!(
                "`{playbook}` has no successful run in {environment} whose state before could be put back"
            ))
        })?;
        self.invert_run(who, &found.id).await
    }

    async fn undo_plan(
        &self,
        who: &Who,
        id: &str,
        draft: &UndoDraft,
    ) -> Result<(Playbook, Plan, Inverted), AppError> {
        let (run, inverted) = self.invert_part(who, id, draft.which).await?;
        let catalogue = self.catalogue.load();
        let (playbook, _) = lint::load(&inverted.yaml, &catalogue.templates)?;
        let inputs: BTreeMap<String, Value> = [("force".to_owned(), json!(draft.force))].into();
        let plan = compile(
            &playbook,
            &catalogue.templates,
            &run.environment,
            &inputs,
            draft.reason.trim(),
        )?;
        Ok((playbook, plan, inverted))
    }

    /// What taking a run back would do. Changes nothing.
    pub async fn preview_undo(
        self: &Arc<Self>,
        who: &Who,
        id: &str,
        draft: &UndoDraft,
    ) -> Result<(Playbook, Plan, Preview, Inverted), AppError> {
        let (playbook, plan, inverted) = self.undo_plan(who, id, draft).await?;
        let preview = dry_run(&plan, &world(self, None)).await;
        Ok((playbook, plan, preview, inverted))
    }

    /// Takes a finished run back, by a run of its own.
    pub async fn undo_run(
        self: &Arc<Self>,
        who: &Who,
        id: &str,
        draft: UndoDraft,
    ) -> Result<RunRow, AppError> {
        let run = self.store.get_run(id).await?;
        who.must(Role::Operator, &run.environment, "run playbooks")?;
        let reason = self.reason_to_run(who, &run.environment, &draft.reason).await?;
        let draft = UndoDraft { reason, ..draft };
        let (_, plan, _) = self.undo_plan(who, id, &draft).await?;
        let noted = json!({"undoes": id});
        self.start_plan(who, plan, draft.trigger, noted, None, Beside::default()).await
    }

    /// When a run is over: the time after which its expiring steps are taken back begins.
    pub(super) async fn on_run_over(&self, id: &str) -> Result<(), AppError> {
        let detail = self.get_run(&Who::system(), id).await?;
        if detail.run.finished_at.is_some() {
            self.report_to_incidents(&detail).await?;
        }
        let (Some(finished_at), Some(_)) = (detail.run.finished_at, detail.run.expires_at) else {
            return Ok(());
        };
        let left = detail
            .plan
            .steps
            .iter()
            .zip(&detail.view.steps)
            .filter(|(_, seen)| seen.may_have_effect());
        let soonest = left.filter_map(|(step, _)| step.expires_ms).min();
        let at = soonest.map(|ms| finished_at.saturating_add_unsigned(ms));
        Ok(self.store.set_run_expiry(id, at).await?)
    }

    /// Takes back what has expired: by a run of its own, again and again until one succeeds.
    pub(super) async fn undo_expired(self: &Arc<Self>) {
        let Ok(expired) = self.store.list_expired_runs(self.clock.now()).await else { return };
        for id in expired {
            if let Err(error) = self.undo_one_expired(&id).await {
                tracing::error!(run.id = id, error = %error, "what has expired could not be taken back; it is tried again");
            }
        }
    }

    async fn undo_one_expired(self: &Arc<Self>, id: &str) -> Result<(), AppError> {
        let run = self.store.get_run(id).await?;
        let Some(due) = run.expires_at else { return Ok(()) };
        let again = self.clock.now() + EXPIRY_AGAIN_MS;
        if !self.store.move_run_expiry(id, due, Some(again)).await? {
            return Ok(()); // another node has it
        }
        let undoing = self.store.list_undoing(id).await?;
        if undoing.iter().any(|run| run.state == "succeeded") {
            return Ok(self.store.set_run_expiry(id, None).await?);
        }
        if run.finished_at.is_none() || undoing.iter().any(|run| run.finished_at.is_none()) {
            return Ok(()); // looked at again
        }
        let reason = format!("{} expired: nobody renewed it", run.title);
        let draft = UndoDraft { reason, force: false, which: Which::Expiring, trigger: "expiry" };
        match self.undo_run(&Who::system(), id, draft).await {
            Ok(_) => Ok(()),
            Err(AppError::Refused(why)) if why.contains("nothing that can be taken back") => {
                Ok(self.store.set_run_expiry(id, None).await?)
            }
            Err(error) => Err(error),
        }
    }

    /// Lets what a run did stand for longer; counts from now.
    pub async fn renew_run(
        &self,
        who: &Who,
        id: &str,
        longer: &str,
        reason: &str,
    ) -> Result<RunRow, AppError> {
        let run = self.store.get_run(id).await?;
        who.must(Role::Operator, &run.environment, "renew runs")?;
        let reason = self.reason_to_run(who, &run.environment, reason).await?;
        let ms = switchback_playbook::units::parse_duration(longer)
            .map_err(|message| AppError::invalid("for", message))?;
        if ms > RENEW_MS_MAX {
            return Err(AppError::invalid("for", "at most 7d"));
        }
        let Some(due) = run.expires_at else {
            return Err(AppError::Refused("nothing of this run expires by itself".to_owned()));
        };
        let at = self.clock.now().saturating_add_unsigned(ms);
        if !self.store.move_run_expiry(id, due, Some(at)).await? {
            return Err(AppError::Refused("somebody else has just changed that".to_owned()));
        }
        let stamp = self.stamp(who, &reason);
        self.store.log_change(&stamp, "run", id, &format!("renew for {longer}")).await?;
        self.hub.publish(crate::live::News::Run(id.to_owned()));
        Ok(self.store.get_run(id).await?)
    }
}
