//! The engine's ports to people: incidents, the status page's components, messages in the apps and to channels.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use switchback_core::wire;
use switchback_playbook::ports::{
    Announcement, IncidentText, Incidents, Notice, Notices, PortError,
};
use switchback_store::{Audience, NewMessage, Recipients};

use super::{Ports, app_error, port_error};
use crate::announcements::Reach;
use crate::incidents::{IncidentDraft, UpdateDraft};
use crate::live::News;
use crate::notify::{Message, Severity, Topic};

/// The incident that a drill opens: none, since the status page is real.
const NO_INCIDENT: &str = "drill";

fn word<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, PortError> {
    serde_json::from_value(Value::String(text.to_owned()))
        .map_err(|_| PortError::Refused(format!("`{text}` is not a {what}")))
}

fn words<T: DeserializeOwned>(
    what: &str,
    texts: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, T>, PortError> {
    texts.iter().map(|(key, text)| Ok((key.clone(), word(what, text)?))).collect()
}

fn reach(text: &IncidentText, environment: &str) -> Reach {
    Reach { only: text.notify.clone(), in_app: vec![environment.to_owned()], ..Reach::default() }
}

/// Without the status page among those who are told, only the team sees it.
fn audience(text: &IncidentText) -> Audience {
    let is_public = text.notify.is_empty() || text.notify.iter().any(|word| word == "page");
    if is_public { Audience::Public } else { Audience::Team }
}

#[async_trait]
impl Incidents for Ports {
    async fn open(
        &self,
        key: &str,
        environment: &str,
        text: &IncidentText,
    ) -> Result<String, PortError> {
        if self.drill().is_some() {
            return Ok(NO_INCIDENT.to_owned());
        }
        let (status, impact) = (word("status", &text.status)?, word("impact", &text.impact)?);
        let draft = IncidentDraft {
            components: words("component status", &text.components)?,
            template: Some(text.template.clone()),
            says: text.says.clone(),
            audience: audience(text),
            reach: reach(text, environment),
            ..IncidentDraft::new(&text.title, status, impact, &text.body)
        };
        let opened = self.app.open_incident(&self.who(), draft, Some(key.to_owned())).await;
        Ok(opened.map_err(app_error)?.id)
    }

    async fn find_by_key(&self, key: &str) -> Result<Option<String>, PortError> {
        let found = self.app.store.find_incident_by_key(key).await.map_err(port_error)?;
        Ok(found.map(|incident| incident.id))
    }

    async fn find_open(
        &self,
        _environment: &str,
        template: &str,
    ) -> Result<Option<String>, PortError> {
        if self.drill().is_some() {
            return Ok(Some(NO_INCIDENT.to_owned()));
        }
        let found = self.app.store.find_open_incident(template).await.map_err(port_error)?;
        Ok(found.map(|incident| incident.id))
    }

    async fn update(&self, key: &str, id: &str, text: &IncidentText) -> Result<(), PortError> {
        if self.drill().is_some() {
            return Ok(());
        }
        let environment = self.run.as_ref().map_or("", |run| run.environment.as_str());
        let draft = UpdateDraft {
            components: words("component status", &text.components)?,
            says: text.says.clone(),
            reach: reach(text, environment),
            ..UpdateDraft::new(word("status", &text.status)?, &text.body)
        };
        let updated = self.app.update_incident(&self.who(), id, draft, Some(key.to_owned())).await;
        updated.map(drop).map_err(app_error)
    }

    async fn set_components(
        &self,
        key: &str,
        components: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, PortError> {
        if self.drill().is_some() {
            return self.components().await; // the status page is real
        }
        let wanted = words("component status", components)?;
        let by = self.app.stamp(&self.who(), "");
        let before = self.app.store.move_components_once(key, &wanted, &by).await;
        let before = before.map_err(port_error)?;
        self.app.announce(News::Status).await;
        Ok(before.iter().map(|(key, status)| (key.clone(), plain(status))).collect())
    }

    async fn components(&self) -> Result<BTreeMap<String, String>, PortError> {
        let known = self.app.store.list_components().await.map_err(port_error)?;
        Ok(known.into_iter().map(|found| (found.key, plain(&found.status))).collect())
    }

    async fn reached(&self, text: &IncidentText) -> Result<u64, PortError> {
        let is_told = |word: &String| word == "subscribers" || word == "email";
        let tells = text.notify.is_empty() || text.notify.iter().any(is_told);
        if audience(text) == Audience::Team || !tells {
            return Ok(0);
        }
        let components: Vec<String> = text.components.keys().cloned().collect();
        self.app.store.count_reached(&components).await.map_err(port_error)
    }
}

/// A word of a closed list as the wire has it.
fn plain<T: serde::Serialize>(value: &T) -> String {
    let word = serde_json::to_value(value).ok();
    word.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[async_trait]
impl Notices for Ports {
    async fn post(&self, key: &str, environment: &str, notice: &Notice) -> Result<(), PortError> {
        let notice = wire::Notice {
            id: key.to_owned(),
            severity: notice.severity.clone(),
            title: notice.title.clone(),
            message: notice.message.clone(),
            at: self.app.clock.now(),
            expires_at: Some(notice.expires_at),
        };
        let by = self.app.stamp(&self.who(), "");
        self.app.store.send_notice(environment, &notice, &by).await.map_err(port_error)?;
        self.app.announce(News::Notice(environment.to_owned())).await;
        Ok(())
    }

    async fn announce(&self, key: &str, said: &Announcement) -> Result<Vec<String>, PortError> {
        let channels = self.recipients(said).await?;
        if self.drill().is_some() {
            return Ok(Vec::new()); // the team's channels are real
        }
        let run = self.run.as_ref();
        let severity = match said.severity.as_str() {
            "critical" => Severity::Critical,
            "warning" => Severity::Warning,
            _ => Severity::Info,
        };
        let links = run.map(|run| {
            let url = format!("{}/ui/{}/runs/{}", self.app.public_url, run.environment, run.id);
            ("Open the run".to_owned(), url)
        });
        let message = Message {
            event: "playbook.message".to_owned(),
            title: said.title.clone(),
            text: said.message.clone(),
            severity,
            team_links: links.into_iter().collect(),
            // A pager needs something that it can be told is over; the run's own end does that.
            thread: run.map(|run| format!("run:{}", run.id)),
            data: json!({
                "title": said.title, "message": said.message, "severity": said.severity,
                "run": run.map(|run| &run.id), "playbook": run.map(|run| &run.playbook),
                "environment": run.map(|run| &run.environment),
            }),
            at: self.app.clock.now(),
            ..Message::default()
        };
        for channel in &channels {
            let new = NewMessage {
                id: format!("{key}.{channel}"),
                topic: Topic::Notes.word().to_owned(),
                body: json!({"said": message}),
                incident_id: None,
                run_id: run.map(|run| run.id.clone()),
                dedupe_key: Some(format!("{key}.{channel}")),
                to: Recipients::Channel(channel.clone()),
            };
            let by = self.app.stamp(&self.who(), "");
            self.app.store.send_message(&new, &by).await.map_err(port_error)?;
        }
        self.app.outbox.wake();
        Ok(channels)
    }

    async fn recipients(&self, said: &Announcement) -> Result<Vec<String>, PortError> {
        let known = self.app.store.list_channels().await.map_err(port_error)?;
        let mut found: Vec<String> = Vec::new();
        for row in known {
            let is_meant = said.channel.as_ref().is_none_or(|key| *key == row.key);
            if row.kind == said.kind && is_meant && row.disabled_why.is_none() {
                found.push(row.key);
            }
        }
        if found.is_empty() {
            let kind = &said.kind;
            let message = match &said.channel {
                Some(key) => format!("{kind} channel `{key}`"),
                None => format!("{kind} channel that is on"),
            };
            return Err(PortError::NotFound(message));
        }
        Ok(found)
    }
}
