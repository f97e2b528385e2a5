//! How a pack is monitored: its data source, off, looking or fixing, the pause, and the event mode.

use serde::Deserialize;
use switchback_checks::event_mode::{Mode, Settings};
use switchback_store::Role;

use super::book::KnownPack;
use crate::App;
use crate::error::{AppError, Wrong};
use crate::who::{EVERYWHERE, Who};

/// The longest event mode by hand, in minutes.
const EVENT_MINUTES_MAX: i64 = 24 * 60;

/// What is to change about a pack's monitoring; what is not named stays.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsChange {
    /// The data source; empty: none.
    pub source: Option<String>,
    /// A replica of it; empty: none.
    pub replica: Option<String>,
    /// `off`, `observe` or `fix`.
    pub mode: Option<Mode>,
    /// Pause, or go on.
    pub paused: Option<bool>,
    /// Event mode by hand, for so many minutes; 0 ends it.
    pub event_minutes: Option<i64>,
    /// Events ahead; they replace those that were there.
    pub events: Option<Vec<switchback_checks::event_mode::Event>>,
    /// Whether labels are kept in full, for those who may reveal them.
    pub keeps_labels: Option<bool>,
    /// Fixes at once, without looking only for a time first.
    pub skip_observing: bool,
    /// Why.
    pub reason: String,
}

impl App {
    /// Changes how a pack is monitored. Turning monitoring on lets the database look the checks over first.
    ///
    /// # Errors
    /// A data source that is not there or refuses a check; each fault is named, and nothing is changed.
    pub async fn change_check_settings(
        &self,
        who: &Who,
        name: &str,
        change: SettingsChange,
    ) -> Result<KnownPack, AppError> {
        who.must(Role::Operator, EVERYWHERE, "change how checks are monitored")?;
        let known = self.get_check_pack(who, name).await?;
        let mut next = known.settings.clone();
        let now = self.clock.now();
        if change.source.is_some() || change.replica.is_some() || change.keeps_labels.is_some() {
            who.must(Role::Admin, EVERYWHERE, "change what checks may see")?;
        }
        if let Some(source) = change.source {
            next.source = source;
        }
        if let Some(replica) = change.replica {
            next.replica = Some(replica).filter(|name| !name.is_empty());
        }
        for (field, source) in [("source", Some(&next.source)), ("replica", next.replica.as_ref())]
        {
            let Some(source) = source.filter(|source| !source.is_empty()) else { continue };
            if self.store.get_data_source(source).await.is_err() {
                let message = format!("there is no data source `{source}`");
                return Err(AppError::invalid(field, message));
            }
        }
        next.keeps_labels = change.keeps_labels.unwrap_or(next.keeps_labels);
        next.events = change.events.unwrap_or(next.events);
        let mode = change.mode.unwrap_or(next.mode);
        if mode != next.mode {
            (next.mode, next.mode_since) = (mode, now);
        }
        if next.source != known.settings.source {
            next.mode_since = now; // it only looks at first, there too
        }
        if next.source.is_empty() && next.mode != Mode::Off {
            let message = "a pack needs a data source before it can be monitored";
            return Err(AppError::invalid("source", message));
        }
        if change.skip_observing {
            next.mode_since = 0;
        }
        match change.paused {
            Some(true) => {
                let why = Some(change.reason.trim()).filter(|why| !why.is_empty());
                next.paused = Some(format!("{} by {}", why.unwrap_or("Paused"), who.name));
            }
            Some(false) => next.paused = None,
            None => {}
        }
        match change.event_minutes {
            Some(minutes) if (0..=EVENT_MINUTES_MAX).contains(&minutes) => {
                next.event_until = (minutes > 0).then_some(now + minutes * 60_000);
            }
            Some(_) => {
                let message = format!("0 to {EVENT_MINUTES_MAX} minutes are expected");
                return Err(AppError::invalid("event_minutes", message));
            }
            None => {}
        }
        let faults = next.faults();
        if !faults.is_empty() {
            let wrong = faults.into_iter().map(|(field, message)| Wrong { field, message });
            return Err(AppError::Invalid(wrong.collect()));
        }
        if next.mode != Mode::Off
            && (known.settings.mode, &known.settings.source) != (next.mode, &next.source)
        {
            self.refuse_faults(&known, &next).await?;
        }
        let action = verb(&known.settings, &next);
        let body = serde_json::to_value(&next).map_err(|error| AppError::Internal(error.into()))?;
        let by = self.stamp(who, &change.reason);
        self.store.put_check_settings(name, known.settings_version, &body, action, &by).await?;
        if known.settings.keeps_labels && !next.keeps_labels {
            self.store.hide_labels(name).await?;
            let memory = self.checks.memory(name);
            memory.lock().await.forget_findings();
        }
        self.checks.wake.notify_one();
        Ok(KnownPack { settings: next, settings_version: known.settings_version + 1, ..known })
    }

    async fn refuse_faults(&self, known: &KnownPack, next: &Settings) -> Result<(), AppError> {
        let remarks = self.lint_pack(&known.pack, next).await?;
        let wrong: Vec<Wrong> = remarks
            .into_iter()
            .filter(|one| one.is_error)
            .map(|one| Wrong { field: one.check, message: one.message })
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(AppError::Invalid(wrong)) }
    }
}

/// What the log calls it.
fn verb(before: &Settings, after: &Settings) -> &'static str {
    match (before.paused.is_some(), after.paused.is_some()) {
        (false, true) => return "pause",
        (true, false) => return "go on",
        _ => {}
    }
    if before.mode != after.mode {
        return match after.mode {
            Mode::Off => "monitor off",
            Mode::Observe => "observe",
            Mode::Fix => "monitor and fix",
        };
    }
    match (before.event_until, after.event_until) {
        (before, Some(until)) if before != Some(until) => "event mode on",
        (Some(_), None) => "event mode off",
        _ => "settings",
    }
}
