//! Incidents and components: what the status page tells.

use std::collections::BTreeMap;

use switchback_store::{
    Component, ComponentStatus, Impact, Incident, IncidentStatus, NewIncident, NewUpdate, Role,
};

use super::App;
use super::environments::check_key;
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::live::News;

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
}

const NAME_MAX: usize = 255;
const BODY_MAX: usize = 25_000;

impl App {
    /// Opens an incident; the public page shows it at once. The same `dedupe_key` opens it once.
    pub async fn open_incident(
        &self,
        who: &Who,
        draft: IncidentDraft,
        dedupe_key: Option<String>,
    ) -> Result<Incident, AppError> {
        who.must(Role::Operator, EVERYWHERE, "open incidents")?;
        check_text("name", &draft.name, NAME_MAX)?;
        check_text("body", &draft.body, BODY_MAX)?;
        let new = NewIncident {
            id: self.ids.next("inc"),
            name: draft.name.trim().to_owned(),
            status: draft.status,
            impact: draft.impact,
            components: draft.components,
            body: draft.body.trim().to_owned(),
            template: draft.template,
            run_id: who.run_id.clone(),
            dedupe_key,
        };
        let incident = self.store.open_incident(&new, &self.stamp(who, "")).await?;
        self.announce(News::Status).await;
        tracing::info!(incident.id = incident.id, "incident opened");
        Ok(incident)
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
        let update = NewUpdate {
            id: self.ids.next("upd"),
            status: draft.status,
            body: draft.body.trim().to_owned(),
            components: draft.components,
            dedupe_key,
        };
        let incident = self.store.update_incident(id, &update, &self.stamp(who, "")).await?;
        self.announce(News::Status).await;
        tracing::info!(incident.id = id, "incident updated");
        Ok(incident)
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
        Ok(self.store.list_incidents(only_open, before, limit).await?)
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

fn check_text(field: &str, text: &str, max: usize) -> Result<(), AppError> {
    let length = text.trim().chars().count();
    if length == 0 || length > max {
        let message = format!("say something, in at most {max} characters");
        return Err(AppError::invalid(field, message));
    }
    Ok(())
}
