//! Rollouts in steps: started, steered, and what each step waits for.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_core::model::{FlagEntry, FlagState, Millis, Percent};
use switchback_store::{CountFilter, Role, RolloutRow, StoreError};
use switchback_watch::rollout::{
    Command, Estimate, Phase, Plan, RolloutState, Step, Traffic, detection_time,
};
use switchback_watch::rollup::floor;

use super::figures::{Window, width_for};
use super::guards::{GuardSettings, TICK_MS};
use super::ticks::Metric;
use crate::App;
use crate::error::{AppError, Wrong};
use crate::flags::with_rollout;
use crate::who::Who;

/// The harm of which is said how long it takes to see.
const HARM: f64 = 3.0;

/// A step of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutStep {
    /// The share of users that get the flag.
    pub percent: Percent,
    /// How long it lasts at least, in minutes; time in which it is held or paused does not count.
    #[serde(default = "ten")]
    pub soak_minutes: u32,
    /// Users with the flag that are counted in it at least.
    #[serde(default = "hundred")]
    pub min_users: u64,
    /// Somebody agrees before it begins.
    #[serde(default)]
    pub needs_approval: bool,
}

fn ten() -> u32 {
    10
}

fn hundred() -> u64 {
    100
}

/// A rollout to be started.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutDraft {
    /// The flag.
    pub flag: String,
    /// The rule whose share goes up; the only one when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The steps; 1, 5, 10, 25, 50 and 100 % when not given.
    #[serde(default = "usual_steps")]
    pub steps: Vec<RolloutStep>,
    /// What watches it: logins, putting the flag back, when not given. `null`: nothing does.
    #[serde(default = "Guarding::default")]
    pub guard: Guarding,
}

/// What watches a rollout.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Guarding {
    /// This; its flag, its rule and the share to go back to are the rollout's.
    By(Box<GuardSettings>),
    /// Nothing.
    Nobody,
}

impl Default for Guarding {
    fn default() -> Self {
        Self::By(Box::new(GuardSettings::of("")))
    }
}

/// The steps that are taken when none are named.
pub fn usual_steps() -> Vec<RolloutStep> {
    let step = |step: Step| RolloutStep {
        percent: step.percent,
        soak_minutes: u32::try_from(step.soak_ms / 60_000).unwrap_or(10),
        min_users: step.min_users,
        needs_approval: step.needs_approval,
    };
    Plan::default().steps.into_iter().map(step).collect()
}

/// What is kept of a rollout's plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Kept {
    pub rule: Option<String>,
    pub steps: Vec<RolloutStep>,
    /// The share before it began.
    pub before: Percent,
}

impl Kept {
    pub fn plan(&self) -> Plan {
        plan_of(&self.steps)
    }
}

fn plan_of(steps: &[RolloutStep]) -> Plan {
    let step = |step: &RolloutStep| Step {
        percent: step.percent,
        soak_ms: Millis::from(step.soak_minutes) * 60_000,
        min_users: step.min_users,
        needs_approval: step.needs_approval,
    };
    Plan { steps: steps.iter().map(step).collect() }
}

/// A rollout, for people.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RolloutView {
    /// Its id.
    pub id: String,
    /// The environment.
    pub environment: String,
    /// The flag.
    pub flag: String,
    /// The guard that watches it.
    pub guard: Option<String>,
    /// `running`, `paused`, `aborting`, `put_back` or `done`.
    pub phase: String,
    /// The steps.
    pub steps: Vec<RolloutStep>,
    /// The step that is in force, from 0; none before the first.
    pub step: Option<usize>,
    /// The share before it began.
    pub before: Percent,
    /// What it does or waits for, in a sentence.
    pub words: String,
    /// Whether somebody must agree to the next step.
    pub asks: bool,
    /// When it was started, in UTC milliseconds.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
    /// When it ended.
    pub ended_at: Option<Millis>,
}

/// How long a threefold harm would take to see, step by step.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StepForecast {
    /// The step's share.
    pub percent: Percent,
    /// Seconds in half of all cases; none when it would not be seen.
    pub median_s: Option<u64>,
    /// Seconds in 95 of 100 cases.
    pub p95_s: Option<u64>,
}

/// What a rollout's words are, from what it does.
fn words(next: Option<&Value>, phase: &str) -> String {
    let said = |name: &str| next?.get(name)?.get("why")?.as_str().map(str::to_owned);
    if let Some(why) = said("wait").or_else(|| said("hold")).or_else(|| said("put_back")) {
        return why;
    }
    if let Some(percent) = next.and_then(|next| next.get("ask_approval")?.get("percent")) {
        return format!("Somebody must agree to {percent} %.");
    }
    match phase {
        "done" => "Every step is done.".to_owned(),
        "put_back" => "The flag was put back.".to_owned(),
        "paused" => "Somebody paused the rollout.".to_owned(),
        _ => "The next step begins in a moment.".to_owned(),
    }
}

pub(super) fn kept_of(row: &RolloutRow) -> Result<Kept, AppError> {
    serde_json::from_value(row.settings.clone()).map_err(|error| AppError::Internal(error.into()))
}

pub(super) fn state_of(row: &RolloutRow) -> RolloutState {
    serde_json::from_value(row.state.clone()).unwrap_or_default()
}

/// The word of a phase.
pub(super) fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::Aborting => "aborting",
        Phase::PutBack => "put_back",
        Phase::Done => "done",
    }
}

fn view(row: &RolloutRow) -> Result<RolloutView, AppError> {
    let kept = kept_of(row)?;
    Ok(RolloutView {
        id: row.id.clone(),
        environment: row.environment.clone(),
        flag: row.flag.clone(),
        guard: row.guard.clone(),
        phase: row.phase.clone(),
        step: state_of(row).step,
        words: words(row.next.as_ref(), &row.phase),
        asks: row.ended_at.is_none()
            && row.next.as_ref().is_some_and(|next| next.get("ask_approval").is_some()),
        steps: kept.steps,
        before: kept.before,
        created_at: row.created_at,
        created_by: row.created_by.clone(),
        ended_at: row.ended_at,
    })
}

impl App {
    /// Rollouts of an environment, or of one of its flags; the newest first.
    pub async fn list_rollouts(
        &self,
        who: &Who,
        environment: &str,
        flag: Option<&str>,
    ) -> Result<Vec<RolloutView>, AppError> {
        who.must(Role::Viewer, environment, "look at rollouts")?;
        self.get_environment(environment).await?;
        self.store.list_rollouts(environment, flag).await?.iter().map(view).collect()
    }

    /// A rollout.
    pub async fn get_rollout(&self, who: &Who, id: &str) -> Result<RolloutView, AppError> {
        let row = self.store.get_rollout(id).await?;
        who.must(Role::Viewer, &row.environment, "look at rollouts")?;
        view(&row)
    }

    /// Starts a rollout: its first step begins within seconds.
    pub async fn start_rollout(
        &self,
        who: &Who,
        environment: &str,
        draft: RolloutDraft,
        reason: &str,
    ) -> Result<RolloutView, AppError> {
        who.must(Role::Editor, environment, "start rollouts")?;
        let by = self.stamp_in(who, environment, reason).await?;
        let RolloutDraft { flag, rule, steps, guard } = draft;
        let wrong: Vec<Wrong> = plan_of(&steps)
            .problems()
            .into_iter()
            .map(|(field, message)| Wrong { field, message })
            .collect();
        if !wrong.is_empty() {
            return Err(AppError::Invalid(wrong));
        }
        let row = self.store.get_flag(environment, &flag).await?;
        let first = steps.first().map_or(Percent::ALL, |step| step.percent);
        with_rollout(&row.state, rule.as_deref(), first)?;
        if row.state.killed {
            let message = format!("`{flag}` is killed; lift the kill first");
            return Err(AppError::Refused(message));
        }
        let open = self.store.list_rollouts(environment, Some(&flag)).await?;
        if let Some(other) = open.iter().find(|row| row.ended_at.is_none()) {
            let message = format!("`{flag}` is being rolled out already, by {}", other.id);
            return Err(AppError::Refused(message));
        }
        let before = share_of(&row.state, rule.as_deref()).unwrap_or_default();
        if before >= first {
            let message = format!("the flag is at {before} % already; begin above that");
            return Err(AppError::invalid("steps[0].percent", message));
        }
        let guard = match guard {
            Guarding::By(settings) => {
                let settings = GuardSettings {
                    flag: flag.clone(),
                    rule: rule.clone(),
                    back_to: before,
                    ..*settings
                };
                // Arming one with a rollout needs no more than the rollout itself.
                Some(self.new_guard(who, environment, &settings).await?)
            }
            Guarding::Nobody => None,
        };
        let now = self.clock.now();
        let row = RolloutRow {
            id: self.ids.next("rol"),
            environment: environment.to_owned(),
            flag,
            guard: guard.as_ref().map(|guard| guard.id.clone()),
            phase: "running".to_owned(),
            settings: json!(Kept { rule, steps, before }),
            state: json!(RolloutState::default()),
            next: None,
            version: 1,
            created_at: now,
            created_by: who.name.clone(),
            ended_at: None,
        };
        self.store.create_rollout(&row, guard.as_ref(), &by).await?;
        view(&row)
    }

    /// Steers a rollout.
    pub async fn steer_rollout(
        &self,
        who: &Who,
        id: &str,
        command: Command,
        reason: &str,
    ) -> Result<RolloutView, AppError> {
        let mut row = self.store.get_rollout(id).await?;
        let (role, action) = match command {
            Command::Approve(_) => (Role::Operator, "approve steps of rollouts"),
            _ => (Role::Editor, "steer rollouts"),
        };
        who.must(role, &row.environment, action)?;
        if matches!(command, Command::Approve(_)) && row.created_by == who.name {
            let message = "somebody else than who started the rollout agrees to its steps";
            return Err(AppError::Refused(message.to_owned()));
        }
        let by = self.stamp_in(who, &row.environment, reason).await?;
        let now = self.clock.now();
        let plan = kept_of(&row)?.plan();
        let state = state_of(&row)
            .command(&plan, command, now)
            .map_err(|refusal| AppError::Refused(refusal.to_string()))?;
        phase_word(state.phase).clone_into(&mut row.phase);
        row.state = json!(state);
        row.next = None;
        let word = match command {
            Command::Pause => "pause",
            Command::Resume => "resume",
            Command::Skip => "skip",
            Command::Abort => "abort",
            Command::Approve(_) => "approve",
        };
        self.store.save_rollout(&row, Some((word, &by)), None, now).await.map_err(|error| {
            match error {
                StoreError::Stale { current } => AppError::Conflict { current },
                error => error.into(),
            }
        })?;
        view(&row)
    }

    /// How long a threefold harm would take to see at each step, by the traffic of the last hour.
    pub async fn forecast_rollout(
        &self,
        who: &Who,
        environment: &str,
        steps: &[RolloutStep],
    ) -> Result<Vec<StepForecast>, AppError> {
        who.must(Role::Viewer, environment, "look at rollouts")?;
        let now = self.clock.now();
        let hour = Window { from: now - 3_600_000, until: now };
        let (users, bad) = self.attempts(environment, Metric::Login, hour).await?;
        #[expect(clippy::cast_precision_loss, reason = "counts of events stay below 2^52")]
        let traffic = Traffic {
            users_per_tick: users as f64 / 720.0,
            tick_ms: TICK_MS,
            base_rate: if users == 0 { 0.0 } else { bad as f64 / users as f64 },
        };
        let percents: Vec<Percent> = steps.iter().map(|step| step.percent).collect();
        let forecast = move || -> Vec<StepForecast> {
            let one = |percent: Percent| {
                let Estimate { median_s, p95_s } = detection_time(percent, &traffic, HARM, 1e-4);
                StepForecast { percent, median_s, p95_s }
            };
            percents.into_iter().map(one).collect()
        };
        let found = tokio::task::spawn_blocking(forecast).await;
        found.map_err(|error| AppError::Internal(error.into()))
    }

    /// Attempts of a window, and how many of them failed.
    pub(super) async fn attempts(
        &self,
        environment: &str,
        metric: Metric,
        window: Window,
    ) -> Result<(u64, u64), StoreError> {
        let (good, bad) = metric.kinds();
        let width_s = width_for(window, self.clock.now());
        let filter = CountFilter {
            environment,
            width_s,
            dimension: "all",
            from: floor(window.from, width_s),
            until: window.until,
        };
        let counts: HashMap<String, u64> = self
            .store
            .sum_auth_counts(&filter)
            .await?
            .into_iter()
            .map(|(kind, _, n)| (kind, n))
            .collect();
        let count = |kind: switchback_watch::event::EventKind| {
            counts.get(kind.word()).copied().unwrap_or(0)
        };
        Ok((count(good) + count(bad), count(bad)))
    }

    /// The share that a flag lets in now by a rule, by what this node knows.
    pub(super) async fn current_share(
        &self,
        environment: &str,
        flag: &str,
        rule: Option<&str>,
    ) -> Result<Option<Percent>, StoreError> {
        let snapshot = self.hub.feed(environment, None).await?.current();
        Ok(match snapshot.document.flags.get(flag) {
            Some(FlagEntry::Known(flag)) => share_of(&flag.state, rule),
            _ => None,
        })
    }
}

/// The share that a state lets in by a rule; none when there is no such rule.
pub(super) fn share_of(state: &FlagState, rule: Option<&str>) -> Option<Percent> {
    if !state.enabled || state.killed {
        return Some(Percent::NONE);
    }
    match rule {
        Some(id) => state.rules.iter().find(|one| one.id == id).map(|one| one.percent),
        None => Some(state.rules.first().map_or(Percent::ALL, |one| one.percent)),
    }
}
