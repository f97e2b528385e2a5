//! Incidents and components: what the status page tells.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchback_core::model::Millis;
use switchback_playbook::says::{Says, one_line};
use switchback_store::{
    Audience, Component, ComponentStatus, Impact, Incident, IncidentStatus, NewIncident,
    NewMessage, NewUpdate, Recipients, Role, Telling,
};

use super::App;
use super::announcements::{Reach, Update};
use super::environments::check_key;
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::live::News;
use crate::notify::{Message, Topic};

/// An incident to open.
#[derive(Clone, Debug)]
pub struct IncidentDraft {
    /// One line.
    pub name: String,
    /// How it goes.
    pub status: IncidentStatus,
    /// How bad it is.
    pub impact: Impact,
    /// Which components it touches, and how.
    pub components: BTreeMap<String, ComponentStatus>,
    /// The first update.
    pub body: String,
    /// The template that it was written from.
    pub template: Option<String>,
    /// What channels say instead of the body.
    pub says: Says,
    /// Who can see it.
    pub audience: Audience,
    /// Who is told now.
    pub reach: Reach,
    /// When planned work begins and ends, in UTC milliseconds.
    pub scheduled: Option<(Millis, Millis)>,
    /// Planned work begins by itself at its time.
    pub auto_begin: bool,
    /// Planned work is over by itself at its time.
    pub auto_complete: bool,
    /// When it began and was over, in UTC milliseconds, for one that is written down afterwards.
    pub backfilled: Option<(Millis, Millis)>,
    /// What other programs keep with it: objects by name.
    pub metadata: BTreeMap<String, Value>,
}

impl IncidentDraft {
    /// An incident that everybody is told of.
    pub fn new(name: &str, status: IncidentStatus, impact: Impact, body: &str) -> Self {
        Self {
            name: name.to_owned(),
            status,
            impact,
            components: BTreeMap::new(),
            body: body.to_owned(),
            template: None,
            says: Says::default(),
            audience: Audience::Public,
            reach: Reach::default(),
            scheduled: None,
            auto_begin: false,
            auto_complete: false,
            backfilled: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// An update to post.
#[derive(Clone, Debug)]
pub struct UpdateDraft {
    /// How the incident goes now.
    pub status: IncidentStatus,
    /// The text.
    pub body: String,
    /// Components whose state changes with it.
    pub components: BTreeMap<String, ComponentStatus>,
    /// What channels say instead of the body.
    pub says: Says,
    /// Who is told.
    pub reach: Reach,
    /// A new name for the incident.
    pub name: Option<String>,
    /// Another impact.
    pub impact: Option<Impact>,
}

impl UpdateDraft {
    /// An update that everybody is told of.
    pub fn new(status: IncidentStatus, body: &str) -> Self {
        Self {
            status,
            body: body.to_owned(),
            components: BTreeMap::new(),
            says: Says::default(),
            reach: Reach::default(),
            name: None,
            impact: None,
        }
    }
}

/// What of an incident is changed beside its updates; `None`: stays.
#[derive(Clone, Debug, Default)]
pub struct IncidentEdit {
    /// One line.
    pub name: Option<String>,
    /// How bad it is.
    pub impact: Option<Impact>,
    /// When planned work begins and ends, in UTC milliseconds.
    pub scheduled: Option<(Millis, Millis)>,
    /// Planned work begins by itself.
    pub auto_begin: Option<bool>,
    /// Planned work is over by itself.
    pub auto_complete: Option<bool>,
    /// What other programs keep with it.
    pub metadata: Option<BTreeMap<String, Value>>,
    /// Who can see it.
    pub audience: Option<Audience>,
}

const HOUR_MS: i64 = 60 * 60 * 1_000;
const YEAR_MS: i64 = 366 * 24 * HOUR_MS;
const NAME_MAX: usize = 255;
const BODY_MAX: usize = 25_000;
const POSTMORTEM_MAX: usize = 100_000;
const METADATA_BYTES_MAX: usize = 10 * 1_024;

impl App {
    /// Opens an incident; the public page shows it at once. The same `dedupe_key` opens it once.
    pub async fn open_incident(
        &self,
        who: &Who,
        draft: IncidentDraft,
        dedupe_key: Option<String>,
    ) -> Result<Incident, AppError> {
        who.must(Role::Operator, EVERYWHERE, "open incidents")?;
        let draft = self.check_draft(draft)?;
        let id = self.ids.next("inc");
        let (name, body) = (one_line(&draft.name), draft.body.trim().to_owned());
        let update = Update {
            incident: &id,
            id: "0",
            name: &name,
            status: draft.status,
            impact: draft.impact,
            audience: draft.audience,
            components: &draft.components,
            body: &body,
            says: &draft.says,
            run_id: who.run_id.as_deref(),
            scheduled: draft.scheduled,
            is_first: true,
        };
        let telling = match draft.backfilled {
            Some(_) => Telling::default(), // nobody is told of what is long over
            None => self.telling(&update, &draft.reach).await?,
        };
        let new = NewIncident {
            id: id.clone(),
            name: name.clone(),
            status: draft.status,
            impact: draft.impact,
            moves_components: draft.backfilled.is_none()
                && draft.status != IncidentStatus::Scheduled,
            components: draft.components,
            body: body.clone(),
            template: draft.template,
            run_id: who.run_id.clone(),
            support: draft.says.support.clone(),
            dedupe_key,
            audience: draft.audience,
            started_at: draft.backfilled.map(|(from, _)| from),
            resolved_at: draft.backfilled.map(|(_, until)| until),
            scheduled: draft.scheduled,
            auto_begin: draft.auto_begin,
            auto_complete: draft.auto_complete,
            metadata: draft.metadata,
        };
        let incident = self.store.open_incident(&new, &telling, &self.stamp(who, "")).await?;
        self.told(&telling).await;
        tracing::info!(incident.id = incident.id, "incident opened");
        Ok(incident)
    }

    /// The incident that was opened under a key and is not over.
    pub async fn find_open_by_key(&self, key: &str) -> Result<Option<Incident>, AppError> {
        let found = self.store.find_incident_by_key(key).await?;
        Ok(found.filter(|incident| incident.resolved_at.is_none()))
    }

    /// Opens an incident under a key that an incident which is over may have had: the key is free again then.
    pub async fn open_incident_again(
        &self,
        who: &Who,
        draft: IncidentDraft,
        key: &str,
    ) -> Result<Incident, AppError> {
        self.store.free_incident_key(key).await?;
        self.open_incident(who, draft, Some(key.to_owned())).await
    }

    /// Posts an update. Resolving gives the components back.
    pub async fn update_incident(
        &self,
        who: &Who,
        id: &str,
        draft: UpdateDraft,
        dedupe_key: Option<String>,
    ) -> Result<Incident, AppError> {
        who.must(Role::Operator, EVERYWHERE, "update incidents")?;
        check_text("body", &draft.body, BODY_MAX)?;
        if let Some(name) = &draft.name {
            check_text("name", name, NAME_MAX)?;
        }
        let before = self.store.get_incident(id).await?;
        let status = in_kind(draft.status, before.scheduled_for.is_some());
        let mut components = before.components.clone();
        components.extend(draft.components.clone());
        let update_id = self.ids.next("upd");
        let name = draft.name.as_deref().map(one_line);
        let body = draft.body.trim().to_owned();
        let update = Update {
            incident: id,
            id: &update_id,
            name: name.as_deref().unwrap_or(&before.name),
            status,
            impact: draft.impact.unwrap_or(before.impact),
            audience: before.audience,
            components: &components,
            body: &body,
            says: &draft.says,
            run_id: who.run_id.as_deref(),
            scheduled: before.scheduled_for.zip(before.scheduled_until),
            is_first: false,
        };
        let telling = self.telling(&update, &draft.reach).await?;
        let update = NewUpdate {
            id: update_id.clone(),
            status,
            body: body.clone(),
            components: draft.components,
            name: name.clone(),
            impact: draft.impact,
            support: draft.says.support.clone(),
            dedupe_key,
        };
        let by = self.stamp(who, "");
        let incident = self.store.update_incident(id, &update, &telling, &by).await?;
        self.told(&telling).await;
        tracing::info!(incident.id = id, "incident updated");
        Ok(incident)
    }

    /// Lets this node hear at once of what was committed; the others are told by the database.
    async fn told(&self, telling: &Telling) {
        self.outbox.wake();
        for (environment, _) in &telling.notices {
            self.announce(News::Notice(environment.clone())).await;
        }
        self.announce(News::Status).await;
    }

    fn check_draft(&self, mut draft: IncidentDraft) -> Result<IncidentDraft, AppError> {
        check_text("name", &draft.name, NAME_MAX)?;
        check_text("body", &draft.body, BODY_MAX)?;
        check_metadata(&draft.metadata)?;
        if draft.scheduled.is_some() && !draft.status.is_planned() {
            draft.status = IncidentStatus::Scheduled;
        }
        if draft.scheduled.is_some() || draft.status.is_planned() {
            draft.impact = Impact::Maintenance;
            // Announced without times: it begins now.
            let now = self.clock.now();
            let (from, until) = *draft.scheduled.get_or_insert((now, now + HOUR_MS));
            check_times("scheduled_until", from, until)?;
        }
        if let Some((from, until)) = draft.backfilled {
            check_times("ended_at", from, until)?;
            if until > self.clock.now() {
                return Err(AppError::invalid(
                    "ended_at",
                    "it has not ended yet: open it as it is now",
                ));
            }
            draft.status = IncidentStatus::Resolved;
            draft.scheduled = None;
        }
        for environment in &draft.reach.in_app {
            if !self.known_environments().iter().any(|known| known.key == *environment) {
                let message = format!("there is no environment `{environment}`");
                return Err(AppError::invalid("in_app", message));
            }
        }
        Ok(draft)
    }

    /// Changes what is kept of an incident beside its updates.
    pub async fn edit_incident(
        &self,
        who: &Who,
        id: &str,
        edit: IncidentEdit,
    ) -> Result<Incident, AppError> {
        who.must(Role::Operator, EVERYWHERE, "change incidents")?;
        if let Some(name) = &edit.name {
            check_text("name", name, NAME_MAX)?;
        }
        if let Some((from, until)) = edit.scheduled {
            check_times("scheduled_until", from, until)?;
            if self.store.get_incident(id).await?.scheduled_for.is_none() {
                return Err(AppError::invalid("scheduled_for", "only planned work has times"));
            }
        }
        check_metadata(edit.metadata.as_ref().unwrap_or(&BTreeMap::new()))?;
        let change = |incident: &mut Incident| {
            if let Some(name) = edit.name {
                incident.name = one_line(&name);
            }
            if let Some((from, until)) = edit.scheduled {
                (incident.scheduled_for, incident.scheduled_until) = (Some(from), Some(until));
            }
            incident.impact = edit.impact.unwrap_or(incident.impact);
            incident.auto_begin = edit.auto_begin.unwrap_or(incident.auto_begin);
            incident.auto_complete = edit.auto_complete.unwrap_or(incident.auto_complete);
            incident.audience = edit.audience.unwrap_or(incident.audience);
            if let Some(metadata) = edit.metadata {
                incident.metadata = metadata;
            }
        };
        self.edit(who, id, "edit", change).await
    }

    /// Says who takes care of an incident; `None`: nobody does.
    pub async fn handle_incident(
        &self,
        who: &Who,
        id: &str,
        by: Option<&str>,
    ) -> Result<Incident, AppError> {
        who.must(Role::Operator, EVERYWHERE, "take care of incidents")?;
        if let Some(name) = by {
            check_text("handled_by", name, NAME_MAX)?;
        }
        let by = by.map(one_line);
        let incident = self.edit(who, id, "handle", |incident| incident.handled_by = by).await?;
        self.acknowledge(&incident).await?;
        Ok(incident)
    }

    /// Tells pagers that somebody takes care.
    async fn acknowledge(&self, incident: &Incident) -> Result<(), AppError> {
        let Some(by) = incident.handled_by.as_ref().filter(|_| incident.resolved_at.is_none())
        else {
            return Ok(());
        };
        let message = Message {
            event: "incident.acknowledged".to_owned(),
            title: format!("{by} takes care of: {}", incident.name),
            thread: Some(format!("inc:{}", incident.id)),
            is_acknowledged: true,
            data: json!({"incident": {"id": incident.id, "name": incident.name}, "handled_by": by}),
            at: self.clock.now(),
            ..Message::default()
        };
        let topic = match incident.audience {
            Audience::Public => Topic::Incidents,
            Audience::Team => Topic::Team,
        };
        let new = NewMessage {
            id: self.ids.next("msg"),
            topic: topic.word().to_owned(),
            body: json!({"said": message}),
            incident_id: Some(incident.id.clone()),
            run_id: None,
            dedupe_key: None,
            to: Recipients::Everyone {
                channels: vec!["pagerduty".to_owned(), "webhook".to_owned()],
                subscribers: None,
            },
        };
        self.store.send_message(&new, &self.stamp(&Who::system(), "")).await?;
        self.outbox.wake();
        Ok(())
    }

    /// Keeps what was learned; published, the status page shows it. `None`: there is nothing any more.
    pub async fn put_postmortem(
        &self,
        who: &Who,
        id: &str,
        body: Option<&str>,
        publish: bool,
    ) -> Result<Incident, AppError> {
        who.must(Role::Operator, EVERYWHERE, "write postmortems")?;
        if let Some(body) = body {
            check_text("body", body, POSTMORTEM_MAX)?;
        }
        if publish && self.store.get_incident(id).await?.resolved_at.is_none() {
            let message = "the incident is not over; publish the postmortem when it is";
            return Err(AppError::Refused(message.to_owned()));
        }
        let now = self.clock.now();
        let text = body.map(|body| body.trim().to_owned());
        let change = |incident: &mut Incident| {
            incident.postmortem_at = match (&text, publish) {
                (Some(_), true) => incident.postmortem_at.or(Some(now)),
                _ => None,
            };
            incident.postmortem = text;
        };
        self.edit(who, id, "postmortem", change).await
    }

    /// Takes an incident off every list, for one that was opened by mistake. Its rows stay.
    pub async fn withdraw_incident(&self, who: &Who, id: &str) -> Result<Incident, AppError> {
        who.must(Role::Admin, EVERYWHERE, "remove incidents")?;
        let before = self.store.get_incident(id).await?;
        if before.resolved_at.is_none() {
            let status = if before.scheduled_for.is_some() {
                IncidentStatus::Completed
            } else {
                IncidentStatus::Resolved
            };
            let reach = Reach { is_quiet: true, ..Reach::default() };
            let last =
                UpdateDraft { reach, ..UpdateDraft::new(status, "This was opened by mistake.") };
            self.update_incident(who, id, last, None).await?;
        }
        let now = self.clock.now();
        self.edit(who, id, "remove", |incident| incident.withdrawn_at = Some(now)).await
    }

    /// Corrects the text, or the time, of an update that was posted. Nobody is told again.
    pub async fn edit_update(
        &self,
        who: &Who,
        incident: &str,
        update: &str,
        body: Option<&str>,
        at: Option<Millis>,
    ) -> Result<Incident, AppError> {
        who.must(Role::Operator, EVERYWHERE, "correct updates")?;
        let before = self.store.get_incident(incident).await?;
        let found = before.updates.iter().find(|known| known.id == update);
        let found =
            found.ok_or_else(|| AppError::NotFound { kind: "update", key: update.to_owned() })?;
        let body = body.unwrap_or(&found.body);
        check_text("body", body, BODY_MAX)?;
        let at = at.unwrap_or(found.created_at).min(self.clock.now());
        let by = self.stamp(who, "");
        self.store.edit_update(incident, update, body.trim(), at, &by).await?;
        self.announce(News::Status).await;
        Ok(self.store.get_incident(incident).await?)
    }

    pub(super) async fn edit(
        &self,
        who: &Who,
        id: &str,
        action: &str,
        change: impl FnOnce(&mut Incident),
    ) -> Result<Incident, AppError> {
        let incident = self.store.edit_incident(id, action, change, &self.stamp(who, "")).await?;
        self.announce(News::Status).await;
        Ok(incident)
    }

    /// Begins and ends planned work whose time has come, when it was set so.
    pub(super) async fn move_planned(&self) -> Result<(), AppError> {
        let now = self.clock.now();
        for planned in self.store.list_planned(now).await? {
            let (status, body) = if planned.status == IncidentStatus::Scheduled {
                (IncidentStatus::InProgress, "The planned work has begun.")
            } else {
                (IncidentStatus::Completed, "The planned work is complete.")
            };
            let word = super::announcements::in_words(&status);
            let key = format!("planned {} {word}", planned.id);
            let draft = UpdateDraft::new(status, body);
            self.update_incident(&Who::system(), &planned.id, draft, Some(key)).await?;
        }
        Ok(())
    }

    /// Incidents with their updates, newest first.
    pub async fn list_incidents(
        &self,
        who: &Who,
        only_open: bool,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Incident>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at incidents")?;
        Ok(self.store.list_incidents(only_open, None, before, limit).await?)
    }

    /// One incident.
    pub async fn get_incident(&self, who: &Who, id: &str) -> Result<Incident, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at incidents")?;
        Ok(self.store.get_incident(id).await?)
    }

    /// Components, in their order.
    pub async fn list_components(&self, who: &Who) -> Result<Vec<Component>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at components")?;
        Ok(self.store.list_components().await?)
    }

    /// Makes a component, or changes its texts.
    pub async fn put_component(&self, who: &Who, component: Component) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "make components")?;
        check_key("key", &component.key)?;
        check_text("name", &component.name, NAME_MAX)?;
        self.store.put_component(&component, &self.stamp(who, "")).await?;
        self.announce(News::Status).await;
        Ok(())
    }

    /// Says how a component is, outside an incident.
    pub async fn set_component_status(
        &self,
        who: &Who,
        key: &str,
        status: ComponentStatus,
        reason: &str,
    ) -> Result<(), AppError> {
        who.must(Role::Operator, EVERYWHERE, "change components")?;
        self.store.set_component_status(key, status, &self.stamp(who, reason)).await?;
        self.announce(News::Status).await;
        Ok(())
    }
}

/// The status that is meant for planned work, or for what was not planned: a playbook that ends what it opened need not know which.
fn in_kind(status: IncidentStatus, planned: bool) -> IncidentStatus {
    use IncidentStatus::{
        Completed, Identified, InProgress, Investigating, Monitoring, Resolved, Scheduled,
        Verifying,
    };
    match (status, planned) {
        (Investigating | Identified, true) => InProgress,
        (Monitoring, true) => Verifying,
        (Resolved, true) => Completed,
        (Scheduled | InProgress, false) => Investigating,
        (Verifying, false) => Monitoring,
        (Completed, false) => Resolved,
        (status, _) => status,
    }
}

fn check_times(field: &str, from: Millis, until: Millis) -> Result<(), AppError> {
    if until <= from || until - from > YEAR_MS {
        return Err(AppError::invalid(
            field,
            "the end is after the beginning, and within a year of it",
        ));
    }
    Ok(())
}

fn check_metadata(metadata: &BTreeMap<String, Value>) -> Result<(), AppError> {
    if let Some((name, _)) = metadata.iter().find(|(_, value)| !value.is_object()) {
        return Err(AppError::invalid(&format!("metadata.{name}"), "an object is expected"));
    }
    let size: usize =
        metadata.iter().map(|(name, value)| name.len() + value.to_string().len()).sum();
    if size > METADATA_BYTES_MAX {
        let message = format!("over {} kB", METADATA_BYTES_MAX / 1_024);
        return Err(AppError::invalid("metadata", message));
    }
    Ok(())
}

fn check_text(field: &str, text: &str, max: usize) -> Result<(), AppError> {
    let length = text.trim().chars().count();
    if length == 0 || length > max {
        let message = format!("say something, in at most {max} characters");
        return Err(AppError::invalid(field, message));
    }
    Ok(())
}
