//! Drills: a playbook run for real in a sandbox environment, against copies of its data sources, timed, and taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use switchback_core::model::{FlagEntry, Millis};
use switchback_playbook::format::{Drill, Stale};
use switchback_playbook::invert::Which;
use switchback_playbook::{Plan, compile};
use switchback_source::Source;
use switchback_store::{Beside, DrillRow, NewEnvironment, RestoredFlag, Role, RunRow, StoreError};

use super::App;
use super::error::AppError;
use super::undo::UndoDraft;
use super::who::{EVERYWHERE, Who};

/// The environment in which drills run.
pub const SANDBOX: &str = "drill";
/// Behind every other environment in lists.
const SANDBOX_POSITION: i64 = 1_000;
/// How long a run may take, in milliseconds: the five minutes of the promise.
pub const OBJECTIVE_MS: i64 = 300_000;
/// How often the schedule is looked at.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// How often a run on the way is looked at.
const STEP_EVERY: Duration = Duration::from_millis(100);
/// A drill that is not over after so long was left by a server that died, in milliseconds.
const LEFT_MS: i64 = 3_600_000;
/// When this installation first knew of drills; what was never drilled counts from there.
const SINCE: &str = "drills_since";

/// Copies of data sources by drill, and by name.
pub type Copies = std::sync::Mutex<BTreeMap<String, BTreeMap<String, Arc<Source>>>>;

/// What to rehearse.
#[derive(Clone, Debug)]
pub struct DrillDraft {
    /// The playbook's name.
    pub playbook: String,
    /// The environment whose flags the sandbox begins with.
    pub environment: String,
    /// Values for its inputs; others have samples.
    pub inputs: BTreeMap<String, Value>,
}

/// How a playbook stands with its drills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It asks for none.
    NotAsked,
    /// The last good one is young enough: when it was.
    Fresh(Millis),
    /// It is too old.
    Stale(Millis),
    /// There was none.
    Never,
}

impl App {
    /// Drills, newest first.
    pub async fn list_drills(
        &self,
        who: &Who,
        playbook: Option<&str>,
        limit: i64,
    ) -> Result<Vec<DrillRow>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at drills")?;
        Ok(self.store.list_drills(playbook, limit).await?)
    }

    /// One drill.
    pub async fn get_drill(&self, who: &Who, id: &str) -> Result<DrillRow, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at drills")?;
        Ok(self.store.get_drill(id).await?)
    }

    /// How a playbook stands with its drills.
    pub async fn freshness(
        &self,
        playbook: &str,
        drill: Option<Drill>,
    ) -> Result<Freshness, AppError> {
        let Some(drill) = drill else { return Ok(Freshness::NotAsked) };
        let all = self.store.list_drills(Some(playbook), 50).await?;
        let good = all.iter().find(|one| one.state == "passed").and_then(|one| one.finished_at);
        Ok(match good {
            None => Freshness::Never,
            Some(at) if self.clock.now() - at > drill.every_ms.cast_signed() => {
                Freshness::Stale(at)
            }
            Some(at) => Freshness::Fresh(at),
        })
    }

    /// Refuses to run what must be drilled first and was not.
    pub(super) async fn must_be_drilled(&self, plan: &Plan) -> Result<(), AppError> {
        if plan.drill.is_none_or(|drill| drill.stale != Stale::Block) || plan.environment == SANDBOX
        {
            return Ok(());
        }
        match self.freshness(&plan.playbook, plan.drill).await? {
            Freshness::NotAsked | Freshness::Fresh(_) => Ok(()),
            Freshness::Stale(_) | Freshness::Never => Err(AppError::Refused(format!(
                "`{0}` was not drilled in time, and says that it must be: switchback drill {0}",
                plan.playbook
            ))),
        }
    }

    /// Starts a drill; it goes on beside everything else.
    pub async fn start_drill(
        self: &Arc<Self>,
        who: &Who,
        draft: DrillDraft,
    ) -> Result<DrillRow, AppError> {
        who.must(Role::Operator, &draft.environment, "start drills")?;
        self.get_environment(&draft.environment).await?;
        let plan = self.plan_drill(&draft)?;
        let drill = DrillRow {
            id: self.ids.next("drill"),
            playbook: draft.playbook.clone(),
            environment: draft.environment.clone(),
            state: "preparing".to_owned(),
            run_id: None,
            undo_run_id: None,
            requested_by: who.name.clone(),
            started_at: self.clock.now(),
            finished_at: None,
            copy_ms: None,
            took_ms: None,
            undo_ms: None,
            objective_ms: OBJECTIVE_MS,
            message: String::new(),
        };
        self.store.create_drill(&drill).await.map_err(|error| match error {
            StoreError::Exists { key, .. } => {
                AppError::Refused(format!("a drill of `{key}` is on the way; wait for it"))
            }
            error => error.into(),
        })?;
        let (app, row, who) = (Arc::clone(self), drill.clone(), who.clone());
        tokio::spawn(async move { app.carry_out(row, plan, who).await });
        Ok(drill)
    }

    /// The plan of a drill: in the sandbox, without anybody to ask.
    fn plan_drill(&self, draft: &DrillDraft) -> Result<Plan, AppError> {
        let catalogue = self.catalogue.load();
        let playbook = catalogue.get(&draft.playbook)?;
        let mut inputs = draft.inputs.clone();
        let reason = format!("a drill of {}", draft.playbook);
        for input in playbook.inputs.iter().filter(|input| input.required) {
            let sample = match input.accept(&json!(reason)) {
                Ok(reason) => reason,
                Err(_) => input.sample(),
            };
            inputs.entry(input.name.clone()).or_insert(sample);
        }
        let mut plan = compile(playbook, &catalogue.templates, SANDBOX, &inputs, &reason)?;
        for step in &mut plan.steps {
            step.approve = None; // nothing real is touched
        }
        Ok(plan)
    }

    async fn carry_out(self: Arc<Self>, mut drill: DrillRow, plan: Plan, who: Who) {
        let run = self.ids.next("run");
        let sources = sources_of(&plan);
        let outcome = self.rehearse(&mut drill, plan, &run, &sources, &who).await;
        drill.finished_at = Some(self.clock.now());
        (drill.state, drill.message) = match outcome {
            Ok(()) => ("passed".to_owned(), String::new()),
            Err(error) => ("failed".to_owned(), error.to_string()),
        };
        let word = if drill.state == "passed" { "passed" } else { "failed" };
        tracing::info!(
            drill.id = drill.id,
            playbook = drill.playbook,
            message = drill.message,
            "the drill {word}"
        );
        self.clear_up(&run, &sources).await;
        if let Err(error) = self.store.update_drill(&drill).await {
            tracing::error!(drill.id = drill.id, error = %error, "the drill's end was not written down");
        }
    }

    async fn rehearse(
        self: &Arc<Self>,
        drill: &mut DrillRow,
        plan: Plan,
        run: &str,
        sources: &BTreeSet<String>,
        who: &Who,
    ) -> Result<(), AppError> {
        self.fill_sandbox(&drill.environment).await?;
        let begun = self.clock.now();
        for name in sources {
            self.copy_for(run, name).await?;
        }
        drill.copy_ms = Some(self.clock.now() - begun);
        (drill.state, drill.run_id) = ("running".to_owned(), Some(run.to_owned()));
        self.store.update_drill(drill).await?;
        let limit = self.clock.now() + 2 * plan.deadline_ms.cast_signed() + 60_000;
        let (noted, id) = (json!({"drill": drill.id}), Some(run.to_owned()));
        self.start_plan(who, plan, "drill", noted, id, Beside::default()).await?;
        let ended = self.wait_for(who, run, limit).await?;
        drill.took_ms = ended.finished_at.map(|at| at - ended.created_at);
        if ended.state != "succeeded" {
            return Err(AppError::Refused(format!("the run ended as {}", ended.state)));
        }
        "undoing".clone_into(&mut drill.state);
        self.store.update_drill(drill).await?;
        let reason = format!("the end of a drill of {}", drill.playbook);
        let draft = UndoDraft { reason, force: false, which: Which::All, trigger: "drill" };
        match self.undo_run(who, run, draft).await {
            Ok(undo) => {
                drill.undo_run_id = Some(undo.id.clone());
                let undone =
                    self.wait_for(who, &undo.id, self.clock.now() + OBJECTIVE_MS * 2).await?;
                drill.undo_ms = undone.finished_at.map(|at| at - undone.created_at);
                if undone.state != "succeeded" {
                    let message = format!("taking it back ended as {}", undone.state);
                    return Err(AppError::Refused(message));
                }
            }
            Err(AppError::Refused(why)) if why.contains("nothing that can be taken back") => {}
            Err(error) => return Err(error),
        }
        match drill.took_ms {
            Some(took) if took > drill.objective_ms => Err(AppError::Refused(format!(
                "it took {} s, and {} s are the objective",
                took / 1_000,
                drill.objective_ms / 1_000
            ))),
            _ => Ok(()),
        }
    }

    /// Waits for a run's end. One that waits for a person is cancelled: in a drill nobody comes.
    async fn wait_for(&self, who: &Who, run: &str, limit: Millis) -> Result<RunRow, AppError> {
        let mut is_cancelled = false;
        loop {
            let row = self.store.get_run(run).await?;
            if row.finished_at.is_some() {
                return Ok(row);
            }
            let late = self.clock.now() > limit;
            if (late || row.state == "parked") && !is_cancelled {
                is_cancelled = true;
                self.cancel_run(who, run, "the drill cannot wait for a person").await?;
            } else if self.clock.now() > limit + OBJECTIVE_MS {
                return Err(AppError::Refused("the run did not end".to_owned()));
            }
            tokio::time::sleep(STEP_EVERY).await;
        }
    }

    /// Makes the sandbox where there is none, and gives its flags the state that they have in another environment.
    async fn fill_sandbox(&self, environment: &str) -> Result<(), AppError> {
        let system = Who::system();
        if self.store.get_environment(SANDBOX).await.is_err() {
            let new = NewEnvironment {
                key: SANDBOX.to_owned(),
                name: "Drill".to_owned(),
                kind: "sandbox".to_owned(),
                protected: false,
                position: SANDBOX_POSITION,
            };
            match self.create_environment(&system, new).await {
                Ok(_) | Err(AppError::Exists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let (from, to) = (
            self.store.load_document(environment).await?,
            self.store.load_document(SANDBOX).await?,
        );
        let known = |entry: &FlagEntry| match entry {
            FlagEntry::Known(flag) => Some(flag.clone()),
            FlagEntry::Unreadable { .. } => None,
        };
        let mut flags = Vec::new();
        for flag in from.flags.values().filter_map(known) {
            let now = to.flags.get(flag.key.as_str()).and_then(known);
            if now.is_some_and(|now| now.state != flag.state) {
                let (key, state) = (flag.key.as_str().to_owned(), flag.state.clone());
                flags.push(RestoredFlag { key, state });
            }
        }
        if !flags.is_empty() {
            let by = self.stamp(&system, &format!("a drill begins as {environment} is"));
            self.store.restore_flags(SANDBOX, &flags, to.revision, &by).await?;
            self.announce(crate::live::News::Environment(SANDBOX.to_owned())).await;
        }
        Ok(())
    }

    async fn copy_for(&self, run: &str, name: &str) -> Result<(), AppError> {
        let source = self.source(name).await?;
        let failed = |error: switchback_source::SourceError| {
            AppError::Refused(format!("data source `{name}` cannot be copied: {error}"))
        };
        let copy = source.copy_to_scratch(&self.shelf(), &scratch_id(run, name)).await;
        let copy = copy.map_err(failed)?;
        let mut all = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(run.to_owned()).or_default().insert(name.to_owned(), copy);
        Ok(())
    }

    /// The copy of a data source that a drill's runs use.
    pub(super) async fn copy_of(&self, run: &str, name: &str) -> Result<Arc<Source>, AppError> {
        let known = {
            let all = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(run).and_then(|copies| copies.get(name)).cloned()
        };
        if let Some(copy) = known {
            return Ok(copy);
        }
        // The server was started anew meanwhile, or another node drives.
        let source = self.source(name).await?;
        let copy =
            source.open_scratch(&self.shelf(), &scratch_id(run, name)).await.map_err(|error| {
                AppError::Refused(format!(
                    "the copy of data source `{name}` cannot be opened: {error}"
                ))
            })?;
        let mut all = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(run.to_owned()).or_default().insert(name.to_owned(), Arc::clone(&copy));
        Ok(copy)
    }

    /// Copies whose mirror of flags follows the sandbox.
    pub(super) fn mirrored_copies(&self) -> Vec<Arc<Source>> {
        let all = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let copies = all.values().flat_map(BTreeMap::values);
        copies.filter(|copy| copy.settings().mirror.is_some()).cloned().collect()
    }

    async fn clear_up(&self, run: &str, sources: &BTreeSet<String>) {
        let copies = {
            let mut all = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            all.remove(run).unwrap_or_default()
        };
        for copy in copies.values() {
            copy.close().await;
        }
        for name in sources {
            let Ok(source) = self.source(name).await else { continue };
            if let Err(error) = source.drop_scratch(&self.shelf(), &scratch_id(run, name)).await {
                tracing::warn!(source = name, error = %error, "a drill's copy could not be removed");
            }
        }
    }

    /// Starts what is due, and ends what a server that died has left.
    pub async fn schedule_drills(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let looked = async {
                self.end_left_drills().await?;
                if self.config.drills.automatic && self.automation_off().await?.is_none() {
                    self.start_due_drills().await?;
                }
                Ok::<(), AppError>(())
            };
            if let Err(error) = looked.await {
                tracing::warn!(error = %error, "drills could not be looked at; the next look will");
            }
        }
    }

    async fn end_left_drills(&self) -> Result<(), AppError> {
        for mut drill in self.store.list_open_drills(self.clock.now() - LEFT_MS).await? {
            if let Some(run) = &drill.run_id
                && let Ok(row) = self.store.get_run(run).await
                && let Ok(plan) = serde_json::from_str::<Plan>(&row.plan)
            {
                self.clear_up(run, &sources_of(&plan)).await;
            }
            drill.finished_at = Some(self.clock.now());
            "failed".clone_into(&mut drill.state);
            "the server was stopped meanwhile".clone_into(&mut drill.message);
            self.store.update_drill(&drill).await?;
        }
        Ok(())
    }

    async fn start_due_drills(self: &Arc<Self>) -> Result<(), AppError> {
        let now = self.clock.now();
        let known = self.store.find_meta(SINCE).await?;
        if known.is_none() {
            self.store.put_meta(SINCE, &now.to_string()).await?;
        }
        let since = known.and_then(|text| text.parse().ok()).unwrap_or(now);
        let asked: Vec<(String, Drill)> = {
            let catalogue = self.catalogue.load();
            let all = catalogue.playbooks.values();
            all.filter_map(|playbook| Some((playbook.name.clone(), playbook.drill?))).collect()
        };
        for (playbook, drill) in asked {
            let last = self.store.list_drills(Some(&playbook), 1).await?;
            let last = last.first().map_or(since, |one| one.started_at);
            if now - last < drill.every_ms.cast_signed() {
                continue;
            }
            let all = self.known_environments();
            let real = all.iter().filter(|one| one.key != SANDBOX);
            let Some(environment) = real.max_by_key(|one| one.protected).map(|one| one.key.clone())
            else {
                continue;
            };
            let draft =
                DrillDraft { playbook: playbook.clone(), environment, inputs: BTreeMap::new() };
            if let Err(error) = self.start_drill(&Who::system(), draft).await {
                tracing::warn!(playbook, error = %error, "a drill that is due could not be started");
            }
        }
        Ok(())
    }
}

/// The data sources that a plan names.
fn sources_of(plan: &Plan) -> BTreeSet<String> {
    let named = |params: &Value| params.get("source").and_then(Value::as_str).map(str::to_owned);
    let of_steps = plan.steps.iter().flat_map(|step| {
        let check = step.verify.as_ref().and_then(|check| named(&check.params));
        named(&step.params).into_iter().chain(check)
    });
    of_steps.chain(plan.preserve.iter().map(|rule| rule.source.clone())).collect()
}

/// The name of a drill's copy: a-z, 0-9 and _.
fn scratch_id(run: &str, name: &str) -> String {
    let text = format!("{run}_{name}").to_ascii_lowercase();
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
