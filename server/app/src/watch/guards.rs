//! Guards: made, armed, tried on the past, and what they found. What they do by themselves is in [`super::evaluator`].

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_core::model::{FlagState, Millis, Percent};
use switchback_store::{ActRow, GuardBeside, GuardRow, Role, StoreError};
use switchback_watch::guard::{Action, Guard, Reading};
use switchback_watch::once::Once;
use switchback_watch::rehearsal::{Sample, rehearse};

use super::ticks::{Metric, Ticked};
use crate::App;
use crate::error::{AppError, Wrong};
use crate::who::Who;

/// The length of a tick, in milliseconds.
pub const TICK_MS: Millis = 5_000;
/// Guards of one environment at most.
const GUARDS_MAX: usize = 1_000;
/// How far back a guard can be tried, in hours.
const REHEARSED_HOURS_MAX: i64 = 24 * 7;
/// How long acts are shown, in milliseconds.
const ACTS_SHOWN_MS: Millis = 30 * 86_400_000;

/// What a guard does when it finds harm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum GuardAction {
    /// People are told.
    Warn,
    /// The rollout goes no further.
    Hold,
    /// The flag goes back to `back_to`.
    #[default]
    PutBack,
    /// A playbook is started.
    RunPlaybook {
        /// Its name.
        name: String,
        /// One person agrees first.
        #[serde(default)]
        approval: bool,
    },
}

/// A guard of a flag.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardSettings {
    /// The flag.
    pub flag: String,
    /// The rule whose share goes back; the only one when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The variant that is watched: `on`, or a variant's name. Everybody else who could have it is compared with it.
    #[serde(default = "on")]
    pub treated: String,
    /// The share that the flag goes back to; 0 turns it off for all.
    #[serde(default = "nobody")]
    pub back_to: Percent,
    /// What is compared.
    #[serde(default = "logins")]
    pub metrics: Vec<Metric>,
    /// What happens when it finds harm.
    #[serde(default)]
    pub action: GuardAction,
    /// How many times as often the treated may fail: 1 is not at all more.
    #[serde(default = "one")]
    pub tolerated: f64,
    /// The chance of ever acting on a harmless change.
    #[serde(default = "act")]
    pub alpha_act: f64,
    /// The chance of ever warning of one.
    #[serde(default = "warn")]
    pub alpha_warn: f64,
    /// Users that each arm needs before a verdict.
    #[serde(default = "users")]
    pub min_users: u64,
    /// After something was done to the flag by itself, nothing is for so long, in minutes.
    #[serde(default = "cool_down")]
    pub cool_down_minutes: u32,
}

fn on() -> String {
    "on".to_owned()
}

fn nobody() -> Percent {
    Percent::NONE
}

fn logins() -> Vec<Metric> {
    vec![Metric::Login]
}

fn one() -> f64 {
    1.0
}

fn act() -> f64 {
    1e-4
}

fn warn() -> f64 {
    1e-2
}

fn users() -> u64 {
    8
}

fn cool_down() -> u32 {
    360
}

impl GuardSettings {
    /// A guard of a flag with what is usual.
    pub fn of(flag: &str) -> Self {
        Self {
            flag: flag.to_owned(),
            rule: None,
            treated: on(),
            back_to: nobody(),
            metrics: logins(),
            action: GuardAction::default(),
            tolerated: one(),
            alpha_act: act(),
            alpha_warn: warn(),
            min_users: users(),
            cool_down_minutes: cool_down(),
        }
    }

    /// The same for the arithmetic.
    pub fn guard(&self) -> Guard {
        Guard {
            subject: format!("`{}`", self.flag),
            metrics: self.metrics.iter().map(|metric| metric.word().to_owned()).collect(),
            tolerated: self.tolerated,
            alpha_act: self.alpha_act,
            alpha_warn: self.alpha_warn,
            min_users: self.min_users,
            action: match &self.action {
                GuardAction::Warn => Action::Warn,
                GuardAction::Hold => Action::Hold,
                GuardAction::PutBack => Action::PutBack,
                GuardAction::RunPlaybook { name, approval } => {
                    Action::RunPlaybook { name: name.clone(), approval: *approval }
                }
            },
            cool_down_ms: Millis::from(self.cool_down_minutes) * 60_000,
            tick_ms: TICK_MS,
            ..Guard::default()
        }
    }

    fn faults(&self) -> Vec<Wrong> {
        let mut found: Vec<Wrong> = self
            .guard()
            .problems()
            .into_iter()
            .map(|(field, message)| Wrong { field: field.to_owned(), message })
            .collect();
        let mut metrics = self.metrics.clone();
        metrics.sort_unstable();
        metrics.dedup();
        if metrics.len() < self.metrics.len() {
            let message = "each metric is named once".to_owned();
            found.push(Wrong { field: "metrics".to_owned(), message });
        }
        found
    }
}

/// A guard, for people.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct GuardView {
    /// Its id.
    pub id: String,
    /// The environment.
    pub environment: String,
    /// `armed`, `resting`, or `acted`: it rests until somebody arms it again.
    pub phase: String,
    /// What it watches and what it does.
    pub settings: GuardSettings,
    /// What it said last: `standing`, `words`, `evidence`, `bound`, `ratio` and more.
    pub verdict: Option<Value>,
    /// Since when it says so, in UTC milliseconds.
    pub standing_since: Millis,
    /// Since when it looks.
    pub since: Millis,
    /// When it was made.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
}

/// A guard with its line.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct GuardDetail {
    /// The guard.
    pub guard: GuardView,
    /// `at` in UTC milliseconds, `evidence`, `bound`, `treated`, `control`, `standing`; the oldest first.
    pub points: Vec<Value>,
}

/// What a guard would have done in the past.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct GuardRehearsal {
    /// Hours that were looked at.
    pub hours: i64,
    /// Users with the new behaviour that were counted, by tick.
    pub treated: u64,
    /// Users without it.
    pub control: u64,
    /// How often it would have acted.
    pub acts: u32,
    /// How often it would have warned.
    pub warnings: u32,
    /// How its standing would have changed: `at`, `standing`, `words`.
    pub events: Vec<Value>,
}

pub(super) fn settings_of(row: &GuardRow) -> Result<GuardSettings, AppError> {
    serde_json::from_value(row.settings.clone()).map_err(|error| AppError::Internal(error.into()))
}

pub(super) fn view(row: &GuardRow) -> Result<GuardView, AppError> {
    Ok(GuardView {
        id: row.id.clone(),
        environment: row.environment.clone(),
        phase: row.phase.clone(),
        settings: settings_of(row)?,
        verdict: row.verdict.clone(),
        standing_since: row.standing_since,
        since: row.since,
        created_at: row.created_at,
        created_by: row.created_by.clone(),
    })
}

impl App {
    /// Guards of an environment, or of one of its flags.
    pub async fn list_guards(
        &self,
        who: &Who,
        environment: &str,
        flag: Option<&str>,
    ) -> Result<Vec<GuardView>, AppError> {
        who.must(Role::Viewer, environment, "look at guards")?;
        self.get_environment(environment).await?;
        self.store.list_guards(environment, flag).await?.iter().map(view).collect()
    }

    /// A guard and its line of the last day.
    pub async fn get_guard(&self, who: &Who, id: &str) -> Result<GuardDetail, AppError> {
        let row = self.store.get_guard(id).await?;
        who.must(Role::Viewer, &row.environment, "look at guards")?;
        let since = self.clock.now() - 86_400_000;
        let point = |(at, mut point): (Millis, Value)| {
            if let Some(object) = point.as_object_mut() {
                object.insert("at".to_owned(), json!(at));
            }
            point
        };
        let points = self.store.list_guard_points(id, since).await?.into_iter().map(point);
        Ok(GuardDetail { guard: view(&row)?, points: points.collect() })
    }

    /// Makes a guard and arms it.
    pub async fn create_guard(
        &self,
        who: &Who,
        environment: &str,
        settings: GuardSettings,
        reason: &str,
    ) -> Result<GuardView, AppError> {
        who.must(Role::Operator, environment, "arm guards")?;
        let by = self.stamp_in(who, environment, reason).await?;
        let row = self.new_guard(who, environment, &settings).await?;
        self.store.create_guard(&row, &by).await?;
        view(&self.store.get_guard(&row.id).await?)
    }

    /// A guard that is checked, not kept yet.
    pub(super) async fn new_guard(
        &self,
        who: &Who,
        environment: &str,
        settings: &GuardSettings,
    ) -> Result<GuardRow, AppError> {
        self.check_guard(environment, settings).await?;
        let known = self.store.list_guards(environment, None).await?;
        if known.len() >= GUARDS_MAX {
            return Err(AppError::Refused(format!("there are {GUARDS_MAX} guards already")));
        }
        let twin = |row: &&GuardRow| row.flag == settings.flag && row.phase == "armed";
        if let Some(twin) = known.iter().find(twin) {
            let message = format!("`{}` is guarded already, by {}", settings.flag, twin.id);
            return Err(AppError::Refused(message));
        }
        let now = self.clock.now();
        Ok(GuardRow {
            id: self.ids.next("grd"),
            environment: environment.to_owned(),
            flag: settings.flag.clone(),
            phase: "armed".to_owned(),
            settings: json!(settings),
            state: None,
            verdict: None,
            standing_since: now,
            since: now,
            seen_until: now,
            version: 1,
            created_at: now,
            created_by: who.name.clone(),
        })
    }

    async fn check_guard(
        &self,
        environment: &str,
        settings: &GuardSettings,
    ) -> Result<(), AppError> {
        let wrong = settings.faults();
        if !wrong.is_empty() {
            return Err(AppError::Invalid(wrong));
        }
        let flag = self.store.get_flag(environment, &settings.flag).await?;
        lowered(&flag.state, settings.rule.as_deref(), settings.back_to)?;
        if let GuardAction::RunPlaybook { name, .. } = &settings.action {
            self.catalogue.load().get(name)?;
        }
        Ok(())
    }

    /// Arms a guard again, from nothing; or lets it rest.
    pub async fn arm_guard(
        &self,
        who: &Who,
        id: &str,
        armed: bool,
        reason: &str,
    ) -> Result<GuardView, AppError> {
        let mut row = self.store.get_guard(id).await?;
        who.must(Role::Operator, &row.environment, "arm guards")?;
        let by = self.stamp_in(who, &row.environment, reason).await?;
        let now = self.clock.now();
        if armed {
            self.check_guard(&row.environment, &settings_of(&row)?).await?;
            "armed".clone_into(&mut row.phase);
            (row.state, row.verdict) = (None, None);
            (row.since, row.seen_until, row.standing_since) = (now, now, now);
        } else {
            "resting".clone_into(&mut row.phase);
        }
        let action = if armed { "arm" } else { "disarm" };
        let beside = GuardBeside { log: Some((action, &by)), at: now, ..GuardBeside::default() };
        self.save_guard(&row, beside).await?;
        view(&self.store.get_guard(id).await?)
    }

    pub(super) async fn save_guard(
        &self,
        row: &GuardRow,
        beside: GuardBeside<'_>,
    ) -> Result<(), AppError> {
        self.store.save_guard(row, beside).await.map_err(|error| match error {
            StoreError::Stale { current } => AppError::Conflict { current },
            error => error.into(),
        })
    }

    /// Removes a guard and its line.
    pub async fn remove_guard(&self, who: &Who, id: &str, reason: &str) -> Result<(), AppError> {
        let row = self.store.get_guard(id).await?;
        who.must(Role::Operator, &row.environment, "remove guards")?;
        let by = self.stamp_in(who, &row.environment, reason).await?;
        Ok(self.store.remove_guard(&row, &by).await?)
    }

    /// Tries a guard on the events of the last hours: what it would have said, had it been armed.
    pub async fn rehearse_guard(
        &self,
        who: &Who,
        environment: &str,
        settings: &GuardSettings,
        hours: i64,
    ) -> Result<GuardRehearsal, AppError> {
        who.must(Role::Viewer, environment, "look at guards")?;
        if !(1..=REHEARSED_HOURS_MAX).contains(&hours) {
            let message = format!("1 to {REHEARSED_HOURS_MAX} hours can be looked at");
            return Err(AppError::invalid("hours", message));
        }
        self.check_guard(environment, settings).await?;
        let until = self.clock.now() / TICK_MS * TICK_MS;
        let mut samples = Vec::new();
        let mut all = switchback_watch::grid::Tick::default();
        let mut failed: HashMap<Metric, Once> = HashMap::new();
        let mut at = until - hours * 3_600_000;
        while at < until {
            // A minute at a time: a week of events does not fit in memory.
            let end = (at + 60_000).min(until);
            let events = self.events_between(environment, (at, end)).await?;
            for tick in 0..(end - at) / TICK_MS {
                let (from, to) = (at + tick * TICK_MS, at + (tick + 1) * TICK_MS);
                let inside = |row: &&switchback_store::AuthEventRow| {
                    row.received_at >= from && row.received_at < to
                };
                let rows: Vec<_> = events.iter().filter(inside).cloned().collect();
                let ticked = Ticked::of(&rows);
                let flags = ticked.by_flag();
                let readings = settings.metrics.iter().map(|metric| {
                    let failed = failed.entry(*metric).or_default();
                    let tick = flags.tick(&settings.flag, &settings.treated, *metric, failed);
                    all = all.plus(&tick);
                    Reading { tick: Some(tick), usual: None }
                });
                samples.push(Sample { at: to, readings: readings.collect(), arrivals: None });
            }
            at = end;
        }
        let guard = settings.guard();
        let found = tokio::task::spawn_blocking(move || rehearse(&guard, samples, None))
            .await
            .map_err(|error| AppError::Internal(error.into()))?;
        Ok(GuardRehearsal {
            hours,
            treated: all.treated,
            control: all.control,
            acts: found.false_alarms,
            warnings: found.false_warnings,
            events: found.events.iter().map(|event| json!(event)).collect(),
        })
    }

    /// Puts a flag back to a share, if it lets more in now. Never lets more in. False when there was nothing to do.
    pub(super) async fn put_flag_back(
        &self,
        who: &Who,
        environment: &str,
        settings: &GuardSettings,
        reason: &str,
    ) -> Result<bool, AppError> {
        let (rule, back) = (settings.rule.as_deref(), settings.back_to);
        let lower = |before: &FlagState| lowered(before, rule, back);
        self.lower_flag(who, environment, &settings.flag, reason, lower).await
    }

    /// What happened by itself in an environment in the last 30 days, and whether a freeze holds.
    pub async fn list_acts(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<(Vec<ActRow>, Option<(Millis, String)>), AppError> {
        who.must(Role::Viewer, environment, "look at guards")?;
        self.get_environment(environment).await?;
        let acts = self.store.list_acts(environment, self.clock.now() - ACTS_SHOWN_MS).await?;
        Ok((acts, self.store.find_freeze(environment).await?))
    }

    /// Lets things happen by themselves again.
    pub async fn end_freeze(
        &self,
        who: &Who,
        environment: &str,
        reason: &str,
    ) -> Result<(), AppError> {
        who.must(Role::Operator, environment, "end a freeze")?;
        let by = self.stamp_in(who, environment, reason).await?;
        Ok(self.store.end_freeze(environment, &by).await?)
    }
}

/// A state that lets in no more than a share by a rule, and never more than before; the same state when it already does.
///
/// # Errors
/// The rule is not there, or none is named and there are several.
pub(super) fn lowered(
    before: &FlagState,
    rule: Option<&str>,
    back: Percent,
) -> Result<FlagState, AppError> {
    if before.rules.is_empty() && rule.is_none() {
        // On for everybody or off: the share is all or nothing.
        if back.thousandths() == 0 {
            return Ok(FlagState { enabled: false, ..before.clone() });
        }
        return crate::flags::with_rollout(before, None, back);
    }
    let current = match rule {
        Some(id) => before.rules.iter().find(|one| one.id == id),
        None => before.rules.first(),
    };
    let least = current.map_or(back, |one| one.percent.min(back));
    crate::flags::with_rollout(before, rule, least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(thousandths: u32) -> Percent {
        Percent::from_thousandths(thousandths).unwrap()
    }

    #[test]
    fn going_back_never_lets_more_in() {
        let at = |share| FlagState {
            enabled: true,
            rules: vec![crate::flags::everybody(percent(share))],
            ..FlagState::default()
        };
        assert_eq!(lowered(&at(25_000), None, percent(5_000)).unwrap(), at(5_000));
        assert_eq!(lowered(&at(1_000), None, percent(5_000)).unwrap(), at(1_000));
        let all = FlagState { enabled: true, ..FlagState::default() };
        assert!(!lowered(&all, None, percent(0)).unwrap().enabled);
        assert!(lowered(&at(1_000), Some("other"), percent(0)).is_err());
    }
}
