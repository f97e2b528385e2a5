//! Alerts and silences for people: lists, acknowledging, silencing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_store::{AlertRow, Role, Silence};
use switchback_watch::alert::State;
use switchback_watch::rule::Rule;

use super::rulebook::KnownRule;
use super::telling::{News, Said};
use crate::App;
use crate::error::AppError;
use crate::who::{EVERYWHERE, Who};

/// How long an acknowledgement of an alert from outside holds, unless it is said, in milliseconds.
const ACKNOWLEDGED_MS: Millis = 1_800_000;
/// The longest acknowledgement and the longest silence, in milliseconds.
const ACKNOWLEDGED_MS_MAX: Millis = 7 * 86_400_000;
const SILENCED_MS_MAX: Millis = 90 * 86_400_000;
/// Alerts of one list.
const LISTED_MAX: i64 = 500;
const COMMENT_MAX: usize = 500;

/// A rule, and how it stands in an environment.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RuleStanding {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Who minds it.
    pub owner: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What silences may name.
    pub labels: BTreeMap<String, String>,
    /// The playbook that may help.
    pub playbook: Option<String>,
    /// Whether it is looked at.
    pub enabled: bool,
    /// Whether it holds in this environment.
    pub holds_here: bool,
    /// `ok`, `pending` or `firing`.
    pub phase: String,
    /// Since when, in UTC milliseconds; none: it was not looked at yet.
    pub since: Option<Millis>,
    /// The last known value.
    pub value: Option<f64>,
    /// The same for people.
    pub value_words: Option<String>,
    /// The value above which it fires.
    pub threshold: f64,
    /// Since when nobody reports.
    pub no_data_since: Option<Millis>,
    /// The newest version that was written here; 0: none.
    pub version: u64,
    /// Whether it was written here.
    pub is_own: bool,
}

/// A silence as a person wants it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SilenceDraft {
    /// The rule; every one when absent.
    pub rule: Option<String>,
    /// The environment; every one when absent.
    pub environment: Option<String>,
    /// Labels that a rule must have, each with this value.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// From when, in UTC milliseconds; now when absent.
    pub starts_at: Option<Millis>,
    /// For how many minutes.
    pub minutes: i64,
    /// Why.
    pub comment: String,
}

impl App {
    /// Rules with how they stand in an environment, by name.
    pub async fn list_alert_rules(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<Vec<RuleStanding>, AppError> {
        who.must(Role::Viewer, environment, "look at alert rules")?;
        self.get_environment(environment).await?;
        let mut states: BTreeMap<String, State> = self
            .store
            .list_alert_states()
            .await?
            .into_iter()
            .filter(|row| row.environment == environment)
            .map(|row| (row.rule, serde_json::from_value(row.state).unwrap_or_default()))
            .collect();
        let book = self.rule_book().await?;
        let standing = |known: KnownRule| {
            let state = states.remove(&known.rule.name);
            standing(known, state, environment)
        };
        Ok(book.into_values().map(standing).collect())
    }

    /// Alerts of an environment, the newest first: those that go on (with those from outside that name no environment), or
    /// all that fired before a moment.
    pub async fn list_alerts(
        &self,
        who: &Who,
        environment: &str,
        is_open: bool,
        before: Option<Millis>,
    ) -> Result<Vec<AlertRow>, AppError> {
        who.must(Role::Viewer, environment, "look at alerts")?;
        self.get_environment(environment).await?;
        if !is_open {
            return Ok(self.store.list_alerts(environment, before, LISTED_MAX).await?);
        }
        let mut open = self.store.list_open_alerts(None).await?;
        open.retain(|alert| alert.environment == environment || alert.environment.is_empty());
        Ok(open)
    }

    /// One alert.
    pub async fn get_alert(&self, who: &Who, id: &str) -> Result<AlertRow, AppError> {
        let alert = self.store.get_alert(id).await?;
        who.must(Role::Viewer, place(&alert), "look at alerts")?;
        Ok(alert)
    }

    /// Takes care of an alert: nobody else is called for so long.
    ///
    /// # Errors
    /// It is over already, or the time is none.
    pub async fn acknowledge_alert(
        &self,
        who: &Who,
        id: &str,
        minutes: Option<i64>,
    ) -> Result<AlertRow, AppError> {
        let mut alert = self.open_alert(who, id).await?;
        let known = self.rule_book().await?.remove(&alert.rule);
        let usual = known.as_ref().map_or(ACKNOWLEDGED_MS, |known| known.rule.acknowledge_ms);
        let for_ms = minutes.map_or(usual, |minutes| minutes.saturating_mul(60_000));
        if !(1..=ACKNOWLEDGED_MS_MAX).contains(&for_ms) {
            return Err(AppError::invalid("minutes", "1 minute to 7 days are expected"));
        }
        let by = self.stamp(who, "");
        alert.acked_by = Some(who.name.clone());
        alert.acked_until = Some(by.at + for_ms);
        let rule = known.as_ref().map(|known| &known.rule);
        let news = [News { alert: alert.clone(), rule, said: Said::Acknowledged }];
        let message = alert.was_told.then(|| self.alert_messages(&alert.environment, &news, &[]));
        let message = message.unwrap_or_default().pop();
        self.store.change_alert(&alert, "acknowledge", message.as_ref(), &by).await?;
        self.get_alert(who, id).await
    }

    /// No longer takes care of an alert; its escalation goes on.
    pub async fn unacknowledge_alert(&self, who: &Who, id: &str) -> Result<AlertRow, AppError> {
        let mut alert = self.open_alert(who, id).await?;
        (alert.acked_by, alert.acked_until) = (None, None);
        let by = self.stamp(who, "");
        self.store.change_alert(&alert, "unacknowledge", None, &by).await?;
        self.get_alert(who, id).await
    }

    async fn open_alert(&self, who: &Who, id: &str) -> Result<AlertRow, AppError> {
        let alert = self.store.get_alert(id).await?;
        who.must(Role::Operator, place(&alert), "take care of alerts")?;
        if alert.resolved_at.is_some() {
            return Err(AppError::Refused("the alert is over already".to_owned()));
        }
        Ok(alert)
    }

    /// Silences that hold, or will.
    pub async fn list_silences(&self, who: &Who) -> Result<Vec<Silence>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at silences")?;
        Ok(self.store.list_silences(self.clock.now()).await?)
    }

    /// Makes some alerts quiet for a time.
    pub async fn create_silence(
        &self,
        who: &Who,
        draft: SilenceDraft,
    ) -> Result<Silence, AppError> {
        let place = draft.environment.as_deref().unwrap_or(EVERYWHERE);
        who.must(Role::Operator, place, "silence alerts")?;
        if let Some(environment) = &draft.environment {
            self.get_environment(environment).await?;
        }
        if let Some(rule) = &draft.rule {
            self.get_alert_rule(&Who::system(), rule).await?;
        }
        let comment = draft.comment.trim();
        if comment.is_empty() || comment.chars().count() > COMMENT_MAX {
            let message = format!("say why, in at most {COMMENT_MAX} characters");
            return Err(AppError::invalid("comment", message));
        }
        if draft.labels.len() > 20 {
            return Err(AppError::invalid("labels", "over 20 of them"));
        }
        let for_ms = draft.minutes.saturating_mul(60_000);
        if !(1..=SILENCED_MS_MAX).contains(&for_ms) {
            return Err(AppError::invalid("minutes", "1 minute to 90 days are expected"));
        }
        let by = self.stamp(who, comment);
        let starts_at = draft.starts_at.unwrap_or(by.at);
        if !(by.at - 60_000..=by.at + SILENCED_MS_MAX).contains(&starts_at) {
            return Err(AppError::invalid("starts_at", "now, or within 90 days"));
        }
        let silence = Silence {
            id: self.ids.next("sil"),
            rule: draft.rule,
            environment: draft.environment,
            labels: draft.labels,
            starts_at,
            ends_at: starts_at + for_ms,
            created_by: who.name.clone(),
            comment: comment.to_owned(),
        };
        self.store.create_silence(&silence, &by).await?;
        Ok(silence)
    }

    /// Ends a silence now.
    pub async fn end_silence(&self, who: &Who, id: &str) -> Result<(), AppError> {
        let known = self.store.list_silences(self.clock.now()).await?;
        let found = known.iter().find(|one| one.id == id);
        let found =
            found.ok_or_else(|| AppError::NotFound { kind: "silence", key: id.to_owned() })?;
        let place = found.environment.as_deref().unwrap_or(EVERYWHERE);
        who.must(Role::Operator, place, "end silences")?;
        Ok(self.store.end_silence(id, &self.stamp(who, "")).await?)
    }
}

/// Where rights to an alert are looked for.
fn place(alert: &AlertRow) -> &str {
    if alert.environment.is_empty() { EVERYWHERE } else { &alert.environment }
}

fn standing(known: KnownRule, state: Option<State>, environment: &str) -> RuleStanding {
    let KnownRule { rule, version, is_own, .. } = known;
    let threshold = rule.threshold();
    let holds_here = rule.environments.iter().any(|key| key == environment);
    let shown = state.filter(|_| rule.enabled && holds_here);
    let value = shown.and_then(|state| state.value);
    let value_words = value.map(|value| rule.when.value_words(value));
    let Rule { name, title, owner, severity, labels, playbook, enabled, .. } = rule;
    RuleStanding {
        name,
        title,
        owner,
        severity: severity.word().to_owned(),
        labels,
        playbook,
        enabled,
        holds_here,
        phase: shown.unwrap_or_default().phase.word().to_owned(),
        since: shown.map(|state| state.since),
        value,
        value_words,
        threshold,
        no_data_since: shown.and_then(|state| state.no_data_since),
        version,
        is_own,
    }
}
