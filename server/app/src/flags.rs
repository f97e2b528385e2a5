//! Flags: find, make, change, kill, restore, explain.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback_core::model::{
    FlagEntry, FlagKey, FlagKind, FlagState, Millis, Percent, Rule, ValueType,
};
use switchback_core::validate;
use switchback_store::{Change, ChangeFilter, ChangedFlag, FlagRecord, FlagRow, NewFlag, Role};

use super::App;
use super::diff::Difference;
use super::environments::{check_key, difference_of};
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::live::News;

/// A flag to make.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlagDraft {
    /// Its permanent name.
    pub key: FlagKey,
    /// Its project; `default` when not given.
    #[serde(default = "default_project")]
    pub project: String,
    /// What it is for.
    #[serde(default)]
    pub kind: FlagKind,
    /// The type of its values.
    #[serde(default)]
    pub value_type: ValueType,
    /// What it does, for people.
    #[serde(default)]
    pub description: String,
    /// Who answers for it.
    #[serde(default)]
    pub owner: String,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How long it is meant to live, in days.
    #[serde(default)]
    pub lifetime_days: Option<i64>,
    /// What its units are hashed with, for flags that come from elsewhere; the key when not given. It never
    /// changes.
    #[serde(default)]
    pub salt: Option<String>,
    /// Its first state everywhere; off when not given.
    #[serde(default)]
    pub state: Option<FlagState>,
}

fn default_project() -> String {
    "default".to_owned()
}

/// What people read about a flag; nothing of it evaluates.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlagDescription {
    /// What it is for.
    pub kind: FlagKind,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// Who answers for it.
    #[serde(default)]
    pub owner: String,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How long it is meant to live, in days.
    #[serde(default)]
    pub lifetime_days: Option<i64>,
}

/// Which flags to list, and how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct FlagFilter {
    /// In key, description, owner or tags; any case.
    pub text: Option<String>,
    /// One project.
    pub project: Option<String>,
    /// One kind.
    pub kind: Option<FlagKind>,
    /// `on`, `off`, `killed`, `expiring`, `stale`, `archived`.
    pub state: Option<String>,
    /// Only those that the caller made or changed last, here.
    pub mine: bool,
    /// `key` (default), `updated`, `-updated`, `kind`.
    pub sort: Option<String>,
}

/// One row of a flag's history.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct HistoryRow {
    /// The change.
    pub change: Change,
    /// What differs, line by line.
    pub differences: Vec<Difference>,
}

/// A state to put on a flag, with the revision that the writer saw.
#[derive(Clone, Debug)]
pub struct StateWrite {
    /// The state. `killed` is left as it is: that switch has its own way.
    pub state: FlagState,
    /// The flag's revision that the writer saw.
    pub revision: u64,
    /// Why.
    pub reason: String,
}

/// A flag's shown lifetime is over, or it has not moved for this long while fully on, in days.
const STALE_AFTER_DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;
/// How long a kill waits for the database before it acts from memory.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
const TEXT_MAX: usize = 2_000;
const SALT_CHARS_MAX: usize = 200;

/// What is done with a flag's switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    /// Whether it is on.
    pub enabled: bool,
    /// When it goes off by itself, in UTC milliseconds; `None` leaves what was set.
    pub expires_at: Option<Millis>,
}

impl Switch {
    /// On until somebody turns it off.
    pub const ON: Self = Self { enabled: true, expires_at: None };
    /// Off.
    pub const OFF: Self = Self { enabled: false, expires_at: None };
}

impl App {
    /// Flags of an environment that match, sorted.
    pub async fn list_flags(
        &self,
        who: &Who,
        environment: &str,
        filter: &FlagFilter,
    ) -> Result<Vec<FlagRow>, AppError> {
        who.must(Role::Viewer, environment, "look at flags")?;
        self.get_environment(environment).await?;
        let archived = filter.state.as_deref() == Some("archived");
        let now = self.clock.now();
        let mut rows = self.store.list_flags(environment, archived).await?;
        rows.retain(|row| matches(row, filter, now));
        if filter.mine {
            rows.retain(|row| row.updated_by == who.name || row.flag.created_by == who.name);
        }
        match filter.sort.as_deref() {
            None | Some("key") => {}
            Some("updated") => rows.sort_by_key(|row| row.updated_at),
            Some("-updated") => rows.sort_by_key(|row| std::cmp::Reverse(row.updated_at)),
            Some("kind") => rows.sort_by_key(|row| format!("{:?}", row.flag.kind)),
            Some(other) => {
                let message = format!("`{other}` is not a sort; use key, updated, -updated, kind");
                return Err(AppError::invalid("sort", message));
            }
        }
        Ok(rows)
    }

    /// One flag in one environment.
    pub async fn get_flag(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
    ) -> Result<FlagRow, AppError> {
        who.must(Role::Viewer, environment, "look at flags")?;
        Ok(self.store.get_flag(environment, key).await?)
    }

    /// Makes a flag in every environment.
    pub async fn create_flag(
        &self,
        who: &Who,
        draft: FlagDraft,
        reason: &str,
    ) -> Result<FlagRecord, AppError> {
        who.must(Role::Editor, EVERYWHERE, "make flags")?;
        check_key("project", &draft.project)?;
        let projects = self.store.list_projects().await?;
        if !projects.iter().any(|project| project.key == draft.project) {
            return Err(AppError::NotFound { kind: "project", key: draft.project });
        }
        let state = match draft.state {
            Some(state) => state,
            None if draft.value_type == ValueType::Boolean => FlagState::default(),
            None => {
                let message = "a flag that is not boolean needs `on_value` and `off_value`";
                return Err(AppError::invalid("state", message));
            }
        };
        let record = FlagRecord {
            salt: salt(draft.salt, &draft.key)?,
            key: draft.key,
            project: draft.project,
            kind: draft.kind,
            value_type: draft.value_type,
            description: cut(&draft.description),
            owner: cut(&draft.owner),
            tags: tags(draft.tags)?,
            lifetime_days: draft.lifetime_days,
            created_at: self.clock.now(),
            created_by: who.name.clone(),
            archived_at: None,
        };
        validate::validate_flag(record.value_type, &state, record.kind)?;
        for environment in self.known_environments() {
            self.check_references(&environment.key, record.key.as_str(), &state).await?;
        }
        let new = NewFlag { record, state };
        self.store.create_flag(&new, &self.stamp(who, reason)).await?;
        for environment in self.known_environments() {
            self.announce(News::Environment(environment.key)).await;
        }
        let key = new.record.key.as_str();
        tracing::info!(flag.key = key, "flag `{key}` made");
        Ok(new.record)
    }

    /// Changes what people read about a flag.
    pub async fn describe_flag(
        &self,
        who: &Who,
        key: &str,
        to: FlagDescription,
        reason: &str,
    ) -> Result<FlagRecord, AppError> {
        who.must(Role::Editor, EVERYWHERE, "describe flags")?;
        let any = self.known_environments().into_iter().next();
        let any = any.map_or_else(String::new, |environment| environment.key);
        let row = self.store.get_flag(&any, key).await?;
        let record = FlagRecord {
            kind: to.kind,
            description: cut(&to.description),
            owner: cut(&to.owner),
            tags: tags(to.tags)?,
            lifetime_days: to.lifetime_days,
            ..row.flag
        };
        self.store.update_flag(&record, &self.stamp(who, reason)).await?;
        Ok(record)
    }

    /// Replaces a flag's rules and settings. The writer names the revision that they saw.
    pub async fn set_flag_state(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        write: StateWrite,
    ) -> Result<ChangedFlag, AppError> {
        who.must(Role::Editor, environment, "change flags")?;
        let row = self.store.get_flag(environment, key).await?;
        validate::validate_flag(row.flag.value_type, &write.state, row.flag.kind)?;
        self.check_references(environment, key, &write.state).await?;
        let StateWrite { state, revision, reason } = write;
        self.change_flag(who, environment, key, "update", &reason, |before, current| {
            if current != revision {
                return Err(AppError::Conflict { current });
            }
            Ok(FlagState { killed: before.killed, ..state })
        })
        .await
    }

    /// Switches a flag on or off for everybody in an environment.
    pub async fn set_flag_enabled(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        switch: Switch,
        reason: &str,
    ) -> Result<ChangedFlag, AppError> {
        who.must(Role::Editor, environment, "switch flags")?;
        let (now, Switch { enabled, expires_at }) = (self.clock.now(), switch);
        if expires_at.is_some_and(|at| !enabled || at <= now) {
            let message = "a flag that is turned on may have an end, in the future";
            return Err(AppError::invalid("expires_at", message));
        }
        let action = if enabled { "turn on" } else { "turn off" };
        self.change_flag(who, environment, key, action, reason, |before, _| {
            // An end that is over would keep it off.
            let end = before.expires_at.filter(|at| !enabled || *at > now);
            Ok(FlagState { enabled, expires_at: expires_at.or(end), ..before.clone() })
        })
        .await
    }

    /// Kills a flag, or lifts the kill. Beats any concurrent edit; takes the operator's role.
    pub async fn set_flag_killed(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        killed: bool,
        reason: &str,
    ) -> Result<ChangedFlag, AppError> {
        who.must(Role::Operator, environment, "kill flags")?;
        let action = if killed { "kill" } else { "lift kill" };
        let decide = |before: &FlagState, _| Ok(FlagState { killed, ..before.clone() });
        if !killed {
            return self.change_flag(who, environment, key, action, reason, decide).await;
        }
        // Off must always work: a database that is away, or slow, does not stand in the way.
        if self.store_is_up() {
            let write = self.change_flag(who, environment, key, action, reason, decide);
            match tokio::time::timeout(KILL_PATIENCE, write).await {
                Ok(Err(AppError::Unavailable(_))) | Err(_) => {}
                Ok(done) => return done,
            }
        }
        self.stamp_in(who, environment, reason).await?;
        self.kill_from_memory(who, environment, key, reason).await
    }

    /// Sets the share of one rule (the only one, or a new one for everybody when there is none).
    pub async fn set_flag_rollout(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        (rule, percent): (Option<&str>, Percent),
        reason: &str,
    ) -> Result<ChangedFlag, AppError> {
        who.must(Role::Editor, environment, "ramp flags")?;
        self.change_flag(who, environment, key, "rollout", reason, |before, _| {
            with_rollout(before, rule, percent)
        })
        .await
    }

    /// A flag's revisions in an environment, newest first, each with its differences.
    pub async fn flag_history(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        before: Option<String>,
        limit: i64,
    ) -> Result<Vec<HistoryRow>, AppError> {
        who.must(Role::Viewer, environment, "look at flags")?;
        let filter = ChangeFilter {
            environment: Some(environment.to_owned()),
            subject_kind: Some("flag".to_owned()),
            subject: Some(key.to_owned()),
            before_id: before,
            limit,
            ..ChangeFilter::default()
        };
        let changes = self.store.list_changes(&filter).await?;
        Ok(changes.into_iter().map(HistoryRow::from).collect())
    }

    /// Puts a flag back to what it was at an earlier revision of the environment.
    pub async fn restore_flag(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        revision: u64,
        reason: &str,
    ) -> Result<ChangedFlag, AppError> {
        who.must(Role::Editor, environment, "restore flags")?;
        let row = self.store.get_flag(environment, key).await?;
        let then = self.store.find_change(environment, "flag", key, revision).await?;
        let then = then.and_then(|change| change.after).ok_or_else(|| {
            let what = format!("{key} at revision {revision}");
            AppError::NotFound { kind: "state of flag", key: what }
        })?;
        let state: FlagState =
            serde_json::from_value(then).map_err(|error| AppError::Internal(Box::new(error)))?;
        validate::validate_flag(row.flag.value_type, &state, row.flag.kind)?;
        self.check_references(environment, key, &state).await?;
        self.change_flag(who, environment, key, "restore", reason, |before, _| {
            Ok(FlagState { killed: before.killed, ..state })
        })
        .await
    }

    /// What a state would change, for the page to show before it is saved.
    pub async fn preview_flag(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        state: &FlagState,
    ) -> Result<Vec<Difference>, AppError> {
        let row = self.get_flag(who, environment, key).await?;
        validate::validate_flag(row.flag.value_type, state, row.flag.kind)?;
        self.check_references(environment, key, state).await?;
        Ok(difference_of(&row.state, state))
    }

    pub(crate) async fn change_flag(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        action: &str,
        reason: &str,
        decide: impl FnOnce(&FlagState, u64) -> Result<FlagState, AppError>,
    ) -> Result<ChangedFlag, AppError> {
        let by = self.stamp_in(who, environment, reason).await?;
        let changed = self.store.change_flag(environment, key, action, &by, decide).await?;
        if changed.changed {
            self.announce(News::Environment(environment.to_owned())).await;
            tracing::info!(
                flag.key = key,
                environment.key = environment,
                revision = changed.revision,
                "flag `{key}` in `{environment}`: {action}",
            );
        }
        Ok(changed)
    }

    /// Refuses what only the whole environment can tell: unknown segments and prerequisites, cycles.
    pub(super) async fn check_references(
        &self,
        environment: &str,
        key: &str,
        state: &FlagState,
    ) -> Result<(), AppError> {
        let names_others = !state.prerequisites.is_empty()
            || state.rules.iter().any(|rule| !rule.segments.is_empty());
        if !names_others {
            return Ok(());
        }
        let snapshot = self.hub.feed(environment, None).await?.current();
        let document = &snapshot.document;
        for (index, rule) in state.rules.iter().enumerate() {
            if let Some(unknown) =
                rule.segments.iter().find(|s| !document.segments.contains_key(*s))
            {
                let field = format!("rules[{index}].segments");
                return Err(AppError::invalid(
                    &field,
                    format!("segment `{unknown}` does not exist"),
                ));
            }
        }
        for (index, prerequisite) in state.prerequisites.iter().enumerate() {
            let parent = prerequisite.flag.as_str();
            if parent != key && !document.flags.contains_key(parent) {
                let field = format!("prerequisites[{index}].flag");
                return Err(AppError::invalid(&field, format!("flag `{parent}` does not exist")));
            }
        }
        let own = FlagKey::try_from(key).map_err(|e| AppError::invalid("key", e.to_string()))?;
        let needs_of = |key: &FlagKey| match document.flags.get(key.as_str())? {
            FlagEntry::Known(flag) => {
                Some(flag.state.prerequisites.iter().map(|p| p.flag.clone()).collect())
            }
            FlagEntry::Unreadable { .. } => None,
        };
        if let Some(cycle) = validate::find_cycle(&own, &state.prerequisites, needs_of) {
            let path = cycle.iter().map(FlagKey::as_str).collect::<Vec<_>>().join(" needs ");
            let message = format!("these flags would wait for each other: {path}");
            return Err(AppError::invalid("prerequisites", message));
        }
        Ok(())
    }
}

impl From<Change> for HistoryRow {
    fn from(change: Change) -> Self {
        let differences = super::diff::diff(change.before.as_ref(), change.after.as_ref());
        Self { change, differences }
    }
}

/// A state with one rule's share set. Shared with the playbook step `flag.rollout`.
pub fn with_rollout(
    before: &FlagState,
    rule: Option<&str>,
    percent: Percent,
) -> Result<FlagState, AppError> {
    let mut state = before.clone();
    match (rule, state.rules.as_mut_slice()) {
        (None, []) => state.rules.push(everybody(percent)),
        (None, [only]) => only.percent = percent,
        (None, _) => {
            let message = "the flag has several rules; name the one to change";
            return Err(AppError::invalid("rule", message));
        }
        (Some(id), rules) => match rules.iter_mut().find(|rule| rule.id == id) {
            Some(found) => found.percent = percent,
            None => return Err(AppError::invalid("rule", format!("there is no rule `{id}`"))),
        },
    }
    Ok(state)
}

impl App {
    /// Keys of flags that have one of these tags; `type:value` also finds the tag `value`.
    pub async fn list_tagged(&self, tags: &[String]) -> Result<BTreeSet<String>, AppError> {
        let has = |own: &String| {
            tags.iter()
                .any(|tag| tag == own || tag.split_once(':').is_some_and(|(_, tag)| tag == own))
        };
        let tagged = self.store.list_tags().await?.into_iter();
        Ok(tagged.filter(|(_, own)| own.iter().any(has)).map(|(key, _)| key).collect())
    }
}

/// A rule for everybody, by user.
pub fn everybody(percent: Percent) -> Rule {
    Rule { percent, ..Rule::everybody("everyone") }
}

/// Why a flag looks ready to be removed; `None` when it does not.
pub fn staleness(row: &FlagRow, now: i64) -> Option<String> {
    let age_days = (now - row.flag.created_at) / DAY_MS;
    if let Some(lifetime) = row.flag.lifetime_days.filter(|days| age_days > *days) {
        return Some(format!("meant to live {lifetime} days, is {age_days} days old"));
    }
    let quiet_days = (now - row.updated_at) / DAY_MS;
    let full = row.state.enabled && row.state.rules.iter().all(|r| r.percent == Percent::ALL);
    let is_release = matches!(row.flag.kind, FlagKind::Release | FlagKind::Experiment);
    (is_release && full && quiet_days > STALE_AFTER_DAYS)
        .then(|| format!("fully on and unchanged for {quiet_days} days"))
}

fn matches(row: &FlagRow, filter: &FlagFilter, now: i64) -> bool {
    let flag = &row.flag;
    let text_fits =
        filter.text.as_deref().map(str::trim).filter(|t| !t.is_empty()).is_none_or(|text| {
            let text = text.to_lowercase();
            let tags = flag.tags.join(" ");
            [flag.key.as_str(), &flag.description, &flag.owner, &tags]
                .iter()
                .any(|field| field.to_lowercase().contains(&text))
        });
    let state_fits = match filter.state.as_deref() {
        Some("on") => row.state.enabled && !row.state.killed,
        Some("off") => !row.state.enabled || row.state.killed,
        Some("killed") => row.state.killed,
        Some("expiring") => row.state.expires_at.is_some(),
        Some("stale") => staleness(row, now).is_some(),
        Some("archived") => flag.archived_at.is_some(),
        _ => true,
    };
    text_fits
        && state_fits
        && filter.project.as_ref().is_none_or(|project| *project == flag.project)
        && filter.kind.is_none_or(|kind| kind == flag.kind)
}

fn cut(text: &str) -> String {
    text.trim().chars().take(TEXT_MAX).collect()
}

fn salt(given: Option<String>, key: &FlagKey) -> Result<String, AppError> {
    let salt = given.unwrap_or_else(|| key.as_str().to_owned());
    if salt.is_empty() || salt.chars().count() > SALT_CHARS_MAX {
        let message = format!("a salt has 1 to {SALT_CHARS_MAX} characters");
        return Err(AppError::invalid("salt", message));
    }
    Ok(salt)
}

fn tags(tags: Vec<String>) -> Result<Vec<String>, AppError> {
    if tags.len() > 20 || tags.iter().any(|tag| tag.is_empty() || tag.len() > 50) {
        return Err(AppError::invalid("tags", "at most 20 tags of 1 to 50 characters"));
    }
    Ok(tags)
}
