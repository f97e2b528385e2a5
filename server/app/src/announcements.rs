//! What is said about incidents, flags and runs, before a channel writes it in its own way.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchback_core::model::Millis;
use switchback_core::wire::Notice;
use switchback_playbook::says::Says;
use switchback_store::{
    Audience, Change, ComponentStatus, Impact, IncidentStatus, LogEntry, MessageRow, NewMessage,
    Recipients, StoreError, Telling,
};

use super::App;
use crate::notify::{Message, Severity, Topic};

/// How long a message inside the apps is shown while an incident is open, in milliseconds.
const NOTICE_MS: i64 = 12 * 60 * 60 * 1_000;
/// The same for the last one.
const LAST_NOTICE_MS: i64 = 60 * 60 * 1_000;

/// Who is told of an incident's update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Nobody is: the page alone shows it.
    pub is_quiet: bool,
    /// `subscribers`, `in_app`, kinds of channels or their keys; empty: everybody.
    pub only: Vec<String>,
    /// Environments whose apps show a message.
    pub in_app: Vec<String>,
    /// Not subscribers, whatever else is said.
    pub without_subscribers: bool,
    /// Not the team's channels, whatever else is said.
    pub without_channels: bool,
}

impl Reach {
    fn includes(&self, words: &[&str]) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| words.contains(&word.as_str()))
    }
}

/// An update of an incident, to be told.
pub(super) struct Update<'u> {
    pub incident: &'u str,
    pub id: &'u str,
    pub name: &'u str,
    pub status: IncidentStatus,
    pub impact: Impact,
    pub audience: Audience,
    pub components: &'u BTreeMap<String, ComponentStatus>,
    pub body: &'u str,
    pub says: &'u Says,
    pub run_id: Option<&'u str>,
    pub scheduled: Option<(Millis, Millis)>,
    pub is_first: bool,
}

/// A status, an impact, a component's state, in words.
pub(super) fn in_words<T: serde::Serialize>(value: &T) -> String {
    let word = serde_json::to_value(value).ok();
    let word = word.as_ref().and_then(Value::as_str).unwrap_or_default().replace('_', " ");
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

impl App {
    /// What goes out with an update, to be kept in the same transaction.
    pub(super) async fn telling(
        &self,
        update: &Update<'_>,
        reach: &Reach,
    ) -> Result<Telling, StoreError> {
        if reach.is_quiet {
            return Ok(Telling::default());
        }
        let message = self.incident_message(update).await?;
        let is_public = update.audience == Audience::Public;
        let subscribers =
            (is_public && !reach.without_subscribers && reach.includes(&["subscribers", "email"]))
                .then(|| update.components.keys().cloned().collect());
        let topic = if is_public { Topic::Incidents } else { Topic::Team };
        let others = ["page", "subscribers", "in_app"];
        let named = reach.only.iter().filter(|word| !others.contains(&word.as_str()));
        if subscribers.is_none() && reach.without_channels {
            return Ok(Telling { message: None, notices: self.notices(update, reach) });
        }
        let mut channels: Vec<String> = named.cloned().collect();
        if reach.without_channels || (channels.is_empty() && !reach.only.is_empty()) {
            channels.clear();
            channels.push("(none)".to_owned()); // no channel was named, so none is meant
        }
        let notices = self.notices(update, reach);
        let message = NewMessage {
            id: format!("{}.{}", update.incident, update.id),
            topic: topic.word().to_owned(),
            body: json!({"said": message}),
            incident_id: Some(update.incident.to_owned()),
            run_id: update.run_id.map(str::to_owned),
            dedupe_key: None,
            to: Recipients::Everyone { channels, subscribers },
        };
        Ok(Telling { message: Some(message), notices })
    }

    /// The same without keeping it: what channels would be sent.
    pub(super) async fn incident_message(
        &self,
        update: &Update<'_>,
    ) -> Result<Message, StoreError> {
        let names: BTreeMap<String, String> =
            self.store.list_components().await?.into_iter().map(|c| (c.key, c.name)).collect();
        let over = update.status.is_over();
        let severity = match update.impact {
            _ if over => Severity::Info,
            Impact::Major | Impact::Critical => Severity::Critical,
            Impact::Minor => Severity::Warning,
            Impact::None | Impact::Maintenance => Severity::Info,
        };
        let status = in_words(&update.status);
        let mut facts = vec![("Status".to_owned(), status.clone())];
        if !update.components.is_empty() {
            let listed = update.components.iter().map(|(key, state)| {
                let name = names.get(key).unwrap_or(key);
                if over {
                    name.clone()
                } else {
                    format!("{name}: {}", in_words(state).to_lowercase())
                }
            });
            facts.push(("Components".to_owned(), listed.collect::<Vec<_>>().join(", ")));
        }
        if let Some((from, until)) = update.scheduled {
            facts.push(("Planned".to_owned(), format!("{} to {}", utc(from), utc(until))));
        }
        let base = &self.public_url;
        let links = match update.audience {
            Audience::Public => {
                vec![(
                    "Status page".to_owned(),
                    format!("{base}/status/incidents/{}", update.incident),
                )]
            }
            Audience::Team => Vec::new(),
        };
        let event = match (update.is_first, over) {
            (true, _) => "incident.opened",
            (false, true) => "incident.resolved",
            (false, false) => "incident.updated",
        };
        let mut says = update.says.clone();
        if says.email.is_none() {
            says.email = Some(switchback_playbook::says::EmailText {
                subject: format!("{status}: {}", update.name),
                text: update.body.to_owned(),
                html: None,
            });
        }
        Ok(Message {
            event: event.to_owned(),
            title: update.name.to_owned(),
            text: update.body.to_owned(),
            severity,
            facts,
            links,
            team_links: vec![(
                "Open in the console".to_owned(),
                self.console_url("incidents", update.incident),
            )],
            says,
            thread: Some(format!("inc:{}", update.incident)),
            is_over: over,
            is_acknowledged: false,
            data: json!({
                "incident": {
                    "id": update.incident, "name": update.name, "status": update.status,
                    "impact": update.impact, "components": update.components, "audience": update.audience,
                    "scheduled_for": update.scheduled.map(|(from, _)| iso(from)),
                    "scheduled_until": update.scheduled.map(|(_, until)| iso(until)),
                },
                "update": {"id": update.id, "status": update.status, "body": update.body},
            }),
            at: self.clock.now(),
        })
    }

    fn notices(&self, update: &Update<'_>, reach: &Reach) -> Vec<(String, Notice)> {
        let Some(in_app) = update.says.in_app.as_ref().filter(|_| reach.includes(&["in_app"]))
        else {
            return Vec::new();
        };
        let now = self.clock.now();
        let lasts = if update.status.is_over() { LAST_NOTICE_MS } else { NOTICE_MS };
        let notice = |environment: &String| {
            let notice = Notice {
                id: format!("{}.{}.{environment}", update.incident, update.id),
                severity: in_app.severity.clone(),
                title: in_app.title.clone(),
                message: in_app.message.clone(),
                at: now,
                expires_at: Some(now + lasts),
            };
            (environment.clone(), notice)
        };
        reach.in_app.iter().map(notice).collect()
    }

    /// What a kept message says; `None`: nothing after all.
    pub(super) async fn write_message(
        &self,
        row: &MessageRow,
    ) -> Result<Option<Message>, StoreError> {
        if let Some(said) = row.body.get("said") {
            return Ok(serde_json::from_value(said.clone()).ok());
        }
        if let Some(id) = row.body.get("change").and_then(Value::as_str) {
            let change = self.store.find_change_by_id(id).await?;
            return Ok(change.map(|change| self.flag_message(&change)));
        }
        if let Some(seq) = row.body.get("log").and_then(Value::as_u64) {
            let Some(entry) = self.store.find_entry(seq).await? else { return Ok(None) };
            return self.run_message(&entry).await;
        }
        Ok(None)
    }

    fn flag_message(&self, change: &Change) -> Message {
        let environment = change.environment.as_deref().unwrap_or("every environment");
        let mut facts = vec![
            ("Environment".to_owned(), environment.to_owned()),
            ("By".to_owned(), change.actor.clone()),
        ];
        if let Some(revision) = change.revision {
            facts.push(("Revision".to_owned(), revision.to_string()));
        }
        let state =
            change.after.as_ref().and_then(|after| after.get("enabled")).and_then(Value::as_bool);
        let what = match (change.action.as_str(), state) {
            ("kill", _) => "killed".to_owned(),
            (action, Some(true)) => format!("{action}, now on"),
            (action, Some(false)) => format!("{action}, now off"),
            (action, None) => action.to_owned(),
        };
        let key = &change.subject;
        let path = format!("{}/ui/{environment}/flags/{key}", self.public_url);
        Message {
            event: "flag.changed".to_owned(),
            title: format!("{key} in {environment}: {what}"),
            text: change.reason.clone(),
            severity: if change.emergency { Severity::Warning } else { Severity::Info },
            facts,
            team_links: vec![("Open the flag".to_owned(), path)],
            data: json!({
                "flag": key, "environment": change.environment, "revision": change.revision,
                "action": change.action, "actor": change.actor, "reason": change.reason,
                "emergency": change.emergency, "run": change.run_id,
                "before": change.before, "after": change.after,
            }),
            at: change.at,
            ..Message::default()
        }
    }

    async fn run_message(&self, entry: &LogEntry) -> Result<Option<Message>, StoreError> {
        let run = self.store.get_run(&entry.run_id).await?;
        if run.trigger == "drill" {
            return Ok(None); // told by its own page: nothing real has happened
        }
        let ending = entry.detail.get("ending").and_then(Value::as_str).unwrap_or_default();
        let because = entry.detail.get("because").and_then(Value::as_str).unwrap_or_default();
        let title = &run.title;
        let (event, says, severity) = match entry.phase.as_str() {
            "finished" => {
                let (how, severity) = match ending {
                    "succeeded" => ("done", Severity::Info),
                    "nothing_to_do" => ("there was nothing to do", Severity::Info),
                    "cancelled" => ("cancelled, and taken back", Severity::Warning),
                    "compensated" => ("it failed, and was taken back", Severity::Critical),
                    "failed" => {
                        ("not started, since a precondition did not hold", Severity::Critical)
                    }
                    _ => ("it failed, and taking it back failed too", Severity::Critical),
                };
                ("run.finished", format!("{title}: {how}"), severity)
            }
            "parked" => ("run.parked", format!("{title} needs a decision"), Severity::Critical),
            "compensating" => {
                ("run.unwinding", format!("{title} is being taken back"), Severity::Warning)
            }
            "broke_glass" => (
                "run.broke_glass",
                format!("{title}: {} passed a protection alone", entry.actor),
                Severity::Warning,
            ),
            _ => ("run.asks", format!("{title} waits for an approval"), Severity::Warning),
        };
        // A run that failed stays somebody's business, also when what it did was taken back.
        let is_over = entry.phase == "finished" && severity != Severity::Critical;
        let environment = &run.environment;
        let url = format!("{}/ui/{environment}/runs/{}", self.public_url, run.id);
        let label =
            if event == "run.asks" { "Look at the plan and approve" } else { "Open the run" };
        let mut facts = vec![
            ("Environment".to_owned(), environment.clone()),
            ("Started by".to_owned(), run.requested_by.clone()),
        ];
        if !entry.step_id.is_empty() {
            facts.push(("Step".to_owned(), entry.step_id.clone()));
        }
        let text = if because.is_empty() {
            run.reason.clone()
        } else {
            format!("{because}\n{}", run.reason)
        };
        // What went well and asked nobody is news, not an alert.
        let is_alert =
            severity != Severity::Info || event != "run.finished" || self.was_told(&run.id).await?;
        Ok(Some(Message {
            event: event.to_owned(),
            title: says,
            text,
            severity,
            facts,
            team_links: vec![(label.to_owned(), url)],
            thread: is_alert.then(|| format!("run:{}", run.id)),
            is_over,
            data: json!({
                "run": run.id, "playbook": run.playbook, "environment": environment, "phase": entry.phase,
                "ending": ending, "step": entry.step_id, "because": because,
                "started_by": run.requested_by, "reason": run.reason,
            }),
            at: entry.at,
            ..Message::default()
        }))
    }

    /// Whether a run was alerted about before, so that its end closes the alert.
    async fn was_told(&self, run: &str) -> Result<bool, StoreError> {
        let rows = self.store.list_entries(run).await?;
        let alerting = ["parked", "compensating", "broke_glass", "waiting", "voided"];
        Ok(rows.iter().any(|row| {
            let asks = row.detail.get("for").is_some_and(|what| what == "approval");
            alerting.contains(&row.phase.as_str()) && (row.phase != "waiting" || asks)
        }))
    }

    /// A page of the console about something that belongs to no environment.
    pub(super) fn console_url(&self, part: &str, id: &str) -> String {
        let known = self.known_environments();
        let production = known.iter().find(|environment| environment.protected).or(known.first());
        let environment = production.map_or("production", |environment| environment.key.as_str());
        format!("{}/ui/{environment}/{part}/{id}", self.public_url)
    }
}

fn iso(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).map(|at| at.to_string()).unwrap_or_default()
}

fn utc(at: Millis) -> String {
    let text = jiff::Timestamp::from_millisecond(at)
        .map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
    text.unwrap_or_default()
}
