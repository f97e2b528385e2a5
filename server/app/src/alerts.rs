//! Alerts from outside, and the playbooks that they start: only where a playbook's own trigger says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_playbook::alerts::{Alert, Approve, Given};
use switchback_playbook::format::Playbook;
use switchback_store::{AlertRow, Once, OutsideAlert, Role};

use super::App;
use super::automation::Wish;
use super::error::AppError;
use super::ids;
use super::who::{EVERYWHERE, Who};

/// Alerts in one message.
const ALERTS_MAX: usize = 1_000;
/// Labels and annotations of an alert.
const LABELS_MAX: usize = 100;
/// A fingerprint or a time is no longer, in bytes.
const MARK_MAX: usize = 200;

/// A message, as Alertmanager's webhook sends it (version 4); Grafana's has the same shape. What else stands in it is left alone.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct AlertMessage {
    /// `4`; Grafana says `1`.
    pub version: String,
    /// What the sender calls the group.
    #[serde(rename = "groupKey", default)]
    pub group_key: String,
    /// `firing` or `resolved`.
    pub status: AlertStatus,
    /// The sender's name for us.
    #[serde(default)]
    pub receiver: String,
    /// The alerts of the group.
    pub alerts: Vec<AlertEvent>,
}

/// How an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertStatus {
    /// It goes on.
    Firing,
    /// It is over.
    Resolved,
}

/// One alert.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertEvent {
    /// How it stands.
    pub status: AlertStatus,
    /// What it is about, such as `alertname`.
    pub labels: BTreeMap<String, String>,
    /// What people are told.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Since when.
    pub starts_at: String,
    /// Until when.
    #[serde(default)]
    pub ends_at: String,
    /// Where it was made.
    #[serde(default, rename = "generatorURL")]
    pub generator_url: String,
    /// The same for the same labels.
    pub fingerprint: String,
}

/// What came of a message.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct AlertsTaken {
    /// Alerts in it.
    pub received: u64,
    /// Alerts that stand among ours now: where the token has the role operator.
    pub recorded: u64,
    /// Runs that they started, now or when they came before.
    pub started: Vec<AlertStart>,
    /// Starts that were refused, now or when they came before.
    pub refused: Vec<AlertRefusal>,
}

/// A run that an alert started.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AlertStart {
    /// The alert's fingerprint.
    pub fingerprint: String,
    /// The playbook.
    pub playbook: String,
    /// The environment.
    pub environment: String,
    /// The run.
    pub run: String,
}

/// A start that was refused.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AlertRefusal {
    /// The alert's fingerprint.
    pub fingerprint: String,
    /// The playbook.
    pub playbook: String,
    /// The environment.
    pub environment: String,
    /// Why.
    pub because: String,
}

impl AlertMessage {
    fn check(&self) -> Result<(), AppError> {
        if !["4", "1"].contains(&self.version.as_str()) {
            return Err(AppError::invalid("version", "version 4 is expected"));
        }
        if self.alerts.len() > ALERTS_MAX {
            return Err(AppError::invalid("alerts", format!("over {ALERTS_MAX} alerts")));
        }
        for (index, alert) in self.alerts.iter().enumerate() {
            let wrong = |field: &str, message: String| {
                Err(AppError::invalid(&format!("alerts[{index}].{field}"), message))
            };
            for (field, text) in
                [("fingerprint", &alert.fingerprint), ("startsAt", &alert.starts_at)]
            {
                if text.is_empty() || text.len() > MARK_MAX {
                    return wrong(field, format!("1 to {MARK_MAX} bytes are expected"));
                }
            }
            for (field, map) in [("labels", &alert.labels), ("annotations", &alert.annotations)] {
                if map.len() > LABELS_MAX {
                    return wrong(field, format!("over {LABELS_MAX} of them"));
                }
            }
        }
        Ok(())
    }
}

impl App {
    /// Takes alerts, and starts the playbooks whose triggers want them from this token. The same alert starts a playbook
    /// once, however often it comes; what is refused stays refused for it. A resolved alert starts nothing.
    ///
    /// # Errors
    /// The message's shape is wrong, or the database does not answer: then it is to be sent again.
    pub async fn alert_fired(
        self: &Arc<Self>,
        who: &Who,
        message: &AlertMessage,
    ) -> Result<AlertsTaken, AppError> {
        message.check()?;
        let mut taken =
            AlertsTaken { received: message.alerts.len() as u64, ..AlertsTaken::default() };
        let Some(token) = who.name.strip_prefix("token:").filter(|_| who.user_id.is_none()) else {
            return Ok(taken); // a trigger names a token, and people have none
        };
        for event in message.alerts.iter().filter(|one| one.status == AlertStatus::Firing) {
            self.start_wanted(who, token, event, &mut taken).await?;
        }
        taken.recorded = self.record_alerts(who, message).await?;
        tracing::info!(
            started = taken.started.len(),
            refused = taken.refused.len(),
            "{} alerts came from `{token}`",
            taken.received
        );
        Ok(taken)
    }

    /// Starts the playbooks that want an alert of our own rules: `source` stands where triggers name a token.
    pub(crate) async fn own_alert_fired(
        self: &Arc<Self>,
        source: &str,
        event: &AlertEvent,
    ) -> Result<(), AppError> {
        let who = Who::with_role(&format!("alert:{source}"), Role::Operator);
        self.start_wanted(&who, source, event, &mut AlertsTaken::default()).await
    }

    async fn start_wanted(
        self: &Arc<Self>,
        who: &Who,
        token: &str,
        event: &AlertEvent,
        taken: &mut AlertsTaken,
    ) -> Result<(), AppError> {
        let catalogue = self.catalogue.load_full();
        for playbook in catalogue.playbooks.values() {
            let own = playbook.triggers.alerts.iter();
            for trigger in own.filter(|alert| alert.matches(token, &event.labels)) {
                // An alert of our own says where it fires.
                let place = event.labels.get("environment").filter(|_| token == "switchback");
                if place.is_none_or(|place| *place == trigger.environment) {
                    self.start_for(who, token, playbook, trigger, event, taken).await?;
                }
            }
        }
        Ok(())
    }

    /// Keeps the alerts among ours, each once, where the token may. Returns how many.
    async fn record_alerts(&self, who: &Who, message: &AlertMessage) -> Result<u64, AppError> {
        let known = self.known_environments();
        let mut rows = Vec::new();
        for event in &message.alerts {
            let named = event.labels.get("environment").map(String::as_str).unwrap_or_default();
            let environment = known.iter().find(|one| one.key == named);
            let environment = environment.map(|one| one.key.clone()).unwrap_or_default();
            let place = if environment.is_empty() { EVERYWHERE } else { &environment };
            if who.can(Role::Operator, place) {
                rows.push(outside(self, environment, event));
            }
        }
        if !rows.is_empty() {
            self.store.note_outside_alerts(&rows, self.clock.now()).await?;
        }
        Ok(rows.len() as u64)
    }

    async fn start_for(
        self: &Arc<Self>,
        who: &Who,
        token: &str,
        playbook: &Playbook,
        trigger: &Alert,
        event: &AlertEvent,
        taken: &mut AlertsTaken,
    ) -> Result<(), AppError> {
        let (fingerprint, environment) = (event.fingerprint.clone(), trigger.environment.clone());
        let name = playbook.name.clone();
        let started = if who.can(Role::Operator, &environment) {
            self.start_by_itself(wish(token, playbook, trigger, event)).await
        } else {
            Err(AppError::Refused(format!("the token `{token}` may not run playbooks there")))
        };
        match started {
            Ok(run) => {
                taken.started.push(AlertStart { fingerprint, playbook: name, environment, run });
            }
            Err(error @ (AppError::Refused(_) | AppError::Invalid(_))) => {
                let because = error.to_string();
                let playbook = name;
                taken.refused.push(AlertRefusal { fingerprint, playbook, environment, because });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// An alert from outside as it stands among ours. Words are cut to what lists can show.
fn outside(app: &App, environment: String, event: &AlertEvent) -> OutsideAlert {
    let cut = |text: &str, most: usize| text.trim().chars().take(most).collect::<String>();
    let name = event.labels.get("alertname").map_or("alert", String::as_str);
    let told = ["summary", "description"].iter().find_map(|one| event.annotations.get(*one));
    let severity = match event.labels.get("severity").map(String::as_str) {
        Some("critical" | "page" | "error") => "critical",
        Some("info" | "none") => "info",
        _ => "warning",
    };
    let now = app.clock.now();
    let began = event.starts_at.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond);
    let row = AlertRow {
        id: app.ids.next("alr"),
        source: "alertmanager".to_owned(),
        rule: cut(name, 100),
        environment,
        title: cut(name, 100),
        severity: severity.to_owned(),
        labels: event
            .labels
            .iter()
            .map(|(name, value)| (cut(name, 100), cut(value, 500)))
            .collect(),
        words: cut(told.map(String::as_str).unwrap_or_default(), 1_000),
        fired_at: began.unwrap_or(now).clamp(0, now),
        resolved_at: None,
        told_steps: 0,
        was_told: false,
        quiet_why: None,
        acked_by: None,
        acked_until: None,
        version: 0,
    };
    let mark = ids::hash(&format!("{}\n{}", event.fingerprint, event.starts_at));
    OutsideAlert { mark, row, is_firing: event.status == AlertStatus::Firing }
}

fn wish(token: &str, playbook: &Playbook, trigger: &Alert, event: &AlertEvent) -> Wish {
    let seen = json!(event);
    let inputs: BTreeMap<String, Value> = trigger
        .inputs
        .iter()
        .filter_map(|(name, given)| {
            let value = match given {
                Given::Value(value) => value.clone(),
                Given::Pointer(at) => seen.pointer(at).filter(|value| value.is_string())?.clone(),
            };
            Some((name.clone(), value))
        })
        .collect();
    let called = event.labels.get("alertname").map_or("an alert", String::as_str);
    let reason = match inputs.get("reason") {
        Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
        _ => {
            let told =
                ["summary", "description"].iter().find_map(|one| event.annotations.get(*one));
            let told = told.map(|text| format!(": {}", text.trim())).unwrap_or_default();
            format!("the alert {called} is firing{told}")
        }
    };
    let ask = (trigger.approve == Approve::OneClick).then(|| {
        (format!("The alert {called} is firing. Run “{}”?", playbook.title), trigger.wait_ms)
    });
    Wish {
        playbook: playbook.name.clone(),
        environment: trigger.environment.clone(),
        trigger: "alert",
        by: format!("alert:{token}"),
        reason,
        inputs,
        ask,
        noted: json!({"alert": {
            "fingerprint": event.fingerprint, "labels": event.labels, "starts_at": event.starts_at,
            "generator_url": event.generator_url,
        }}),
        once: Some(Once {
            actor: format!("alert:{}/{}", playbook.name, trigger.environment),
            key: ids::hash(&format!("{}\n{}\nfiring", event.fingerprint, event.starts_at)),
            // Texts of the same alert may differ from message to message.
            fingerprint: event.fingerprint.clone(),
        }),
    }
}
