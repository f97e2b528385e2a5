//! Incidents and components: what customers are told.

use std::collections::BTreeMap;

use actix_web::web::Path;
use askama::Template;
use serde::de::DeserializeOwned;
use serde_json::Value;
use switchback_app::AppError;
use switchback_store::{Audience, Component, ComponentStatus, Impact, Incident};

use super::fields::Fields;
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words, word};
use super::{Answer, ok};

/// States of a component, with their words.
pub const COMPONENT_STATES: [(&str, &str); 5] = [
    ("operational", "Operational"),
    ("degraded_performance", "Degraded performance"),
    ("partial_outage", "Partial outage"),
    ("major_outage", "Major outage"),
    ("under_maintenance", "Under maintenance"),
];
/// An incident, as lists and its page show it.
pub struct IncidentLine {
    pub id: String,
    pub name: String,
    pub status: String,
    pub tone: &'static str,
    pub impact: String,
    pub created_at: i64,
    pub created_by: String,
    pub resolved_at: Option<i64>,
    pub run_id: Option<String>,
    pub components: Vec<(String, String)>,
    pub updates: Vec<UpdateLine>,
    pub is_maintenance: bool,
    pub is_private: bool,
    pub handled_by: Option<String>,
    pub scheduled: Option<(i64, i64)>,
    pub support: Option<String>,
    pub postmortem: Option<String>,
    pub postmortem_at: Option<i64>,
}

pub struct UpdateLine {
    pub status: String,
    pub body: String,
    pub at: i64,
    pub by: String,
    pub is_announced: bool,
}

/// A component with its state.
pub struct ComponentLine {
    pub key: String,
    pub name: String,
    pub description: String,
    pub status: String,
    pub word: String,
    pub tone: &'static str,
}

#[derive(Template)]
#[template(path = "pages/incidents.html")]
struct IncidentsPage {
    frame: Frame,
    sentence: Words,
    tone: &'static str,
    open: Vec<IncidentLine>,
    past: Vec<IncidentLine>,
    components: Vec<ComponentLine>,
}

impl IncidentsPage {
    fn states(&self) -> &'static [(&'static str, &'static str)] {
        &COMPONENT_STATES
    }
}

/// A component in words.
pub fn component_line(component: &Component) -> ComponentLine {
    let (status, tone) = (word(&component.status), component_tone(component.status));
    ComponentLine {
        key: component.key.clone(),
        name: component.name.clone(),
        description: component.description.clone(),
        word: words::title(&status),
        status,
        tone,
    }
}

fn component_tone(status: ComponentStatus) -> &'static str {
    match status {
        ComponentStatus::Operational => "good",
        ComponentStatus::UnderMaintenance => "live-pill",
        ComponentStatus::DegradedPerformance => "warn",
        ComponentStatus::PartialOutage | ComponentStatus::MajorOutage => "bad",
    }
}

/// An incident in words.
pub fn incident_line(incident: &Incident) -> IncidentLine {
    let tone = match (incident.resolved_at, incident.impact) {
        (Some(_), _) => "good",
        (None, Impact::Major | Impact::Critical) => "bad",
        (None, _) => "warn",
    };
    let components = incident.components.iter();
    IncidentLine {
        id: incident.id.clone(),
        name: incident.name.clone(),
        status: words::title(&word(&incident.status)),
        tone,
        impact: words::title(&word(&incident.impact)),
        created_at: incident.created_at,
        created_by: words::actor(&incident.created_by),
        resolved_at: incident.resolved_at,
        run_id: incident.run_id.clone(),
        components: components
            .map(|(key, state)| (key.clone(), words::title(&word(state))))
            .collect(),
        updates: incident
            .updates
            .iter()
            .map(|update| UpdateLine {
                status: words::title(&word(&update.status)),
                body: update.body.clone(),
                at: update.created_at,
                by: words::actor(&update.created_by),
                is_announced: update.is_announced,
            })
            .collect(),
        is_maintenance: incident.scheduled_for.is_some(),
        is_private: incident.audience == Audience::Team,
        handled_by: incident.handled_by.clone(),
        scheduled: incident.scheduled_for.zip(incident.scheduled_until),
        support: incident.updates.iter().find_map(|update| update.support.clone()),
        postmortem: incident.postmortem.clone(),
        postmortem_at: incident.postmortem_at,
    }
}

/// `GET /ui/{environment}/incidents`.
pub async fn page(visit: Visit, path: Path<String>) -> Answer {
    let frame = visit.frame(&path, "incidents", "Incidents").await?;
    let all = visit.list_incidents(&visit.who, false, None, 100).await?;
    let components = visit.list_components(&visit.who).await?;
    let (open, past): (Vec<_>, Vec<_>) =
        all.iter().partition(|incident| incident.resolved_at.is_none());
    let (sentence, tone) = match open.as_slice() {
        [] => match past.iter().filter_map(|incident| incident.resolved_at).max() {
            Some(at) => (
                Words::say("No incident is open. The last one was resolved ")
                    .when(at, frame.now)
                    .and("."),
                "",
            ),
            None => (Words::say("No incident is open, and there never was one."), ""),
        },
        [one] => {
            let words = Words::default()
                .strong(&one.name)
                .and(", ")
                .lasting(one.created_at, frame.now)
                .and(".");
            (words, incident_line(one).tone)
        }
        some => {
            let words = Words::default().strong(&format!("{} incidents are open", some.len()));
            let worst = if some.iter().any(|incident| incident.impact >= Impact::Major) {
                "bad"
            } else {
                "warn"
            };
            (words.and(". Customers see them on the status page."), worst)
        }
    };
    let page = IncidentsPage {
        sentence,
        tone: if tone == "warn" { "attention" } else { tone },
        open: open.into_iter().map(incident_line).collect(),
        past: past.into_iter().map(incident_line).collect(),
        components: components.iter().map(component_line).collect(),
        frame,
    };
    ok(&page)
}

/// `POST /ui/{environment}/components/{component}`: outside an incident.
pub async fn set_component(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    let status: ComponentStatus = read(&form, "status")?;
    visit.set_component_status(&visit.who, &key, status, form.text("reason")).await?;
    let text = format!("{key}: {}.", words::title(&word(&status)).to_lowercase());
    Ok(Visit::done(&format!("/ui/{environment}/incidents"), &Toast::say(text)))
}

/// A word of a closed list in a form.
pub fn read<T: DeserializeOwned>(form: &Fields, field: &str) -> Result<T, AppError> {
    serde_json::from_value(Value::String(form.text(field).to_owned()))
        .map_err(|error| AppError::invalid(field, error.to_string()))
}

/// Components that a form moves.
pub fn components_of(form: &Fields) -> Result<BTreeMap<String, ComponentStatus>, AppError> {
    let mut found = BTreeMap::new();
    for (key, state) in form.under("components.").into_iter().filter(|(_, state)| !state.is_empty())
    {
        let field = format!("components.{key}");
        let state = serde_json::from_value(Value::String(state));
        found.insert(key, state.map_err(|error| AppError::invalid(&field, error.to_string()))?);
    }
    Ok(found)
}
