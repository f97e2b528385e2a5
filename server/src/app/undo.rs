//! Taking a finished run back: the playbook that does it, its dry run, and its run.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use switchback_playbook::format::Playbook;
use switchback_playbook::invert::{Inverted, invert};
use switchback_playbook::journal::{Entry, Phase};
use switchback_playbook::{Plan, Preview, compile, dry_run, lint};
use switchback_store::{Role, RunFilter, RunRow};

use super::App;
use super::error::AppError;
use super::ports::world;
use super::who::Who;

/// Runs that are looked through for the newest good one of a playbook.
const LOOK_BACK: i64 = 200;

/// What somebody says who takes a run back.
#[derive(Clone, Debug, Default)]
pub struct UndoDraft {
    /// Why.
    pub reason: String,
    /// Also what somebody else has changed since.
    pub force: bool,
    /// `ui`, `cli`, `api`.
    pub trigger: &'static str,
}

impl App {
    /// The playbook that takes a finished run back.
    pub async fn invert_run(&self, who: &Who, id: &str) -> Result<(RunRow, Inverted), AppError> {
        let detail = self.get_run(who, id).await?;
        if !detail.state.is_over() {
            let message = "this run is not over; cancel it instead, which takes back what it did";
            return Err(AppError::Refused(message.to_owned()));
        }
        let entries: Vec<Entry> = detail
            .log
            .iter()
            .filter_map(super::ports::to_entry)
            .filter(|entry| entry.row.phase != Phase::Note)
            .collect();
        let inverted = invert(id, &detail.plan, &entries).map_err(AppError::Refused)?;
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
        let (run, inverted) = self.invert_run(who, id).await?;
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
        self.start_plan(who, plan, draft.trigger, json!({"undoes": id})).await
    }
}
