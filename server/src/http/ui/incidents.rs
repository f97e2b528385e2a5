//! Incidents and components: what customers are told.

use std::collections::BTreeMap;

use actix_web::web::Path;
use askama::Template;
use serde::de::DeserializeOwned;
use serde_json::Value;
use switchback_playbook::templates::IncidentTemplate;
use switchback_store::{Component, ComponentStatus, Impact, Incident, IncidentStatus};

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words, word};
use super::{Answer, UiError, ok, unprocessable};
use crate::app::AppError;
use crate::app::incidents::{IncidentDraft, UpdateDraft};

/// States of a component, with their words.
pub const COMPONENT_STATES: [(&str, &str); 5] = [
    ("operational", "Operational"),
    ("degraded_performance", "Degraded performance"),
    ("partial_outage", "Partial outage"),
    ("major_outage", "Major outage"),
    ("under_maintenance", "Under maintenance"),
];
const STATUSES: [(&str, &str); 4] = [
    ("investigating", "Investigating"),
    ("identified", "Identified"),
    ("monitoring", "Monitoring"),
    ("resolved", "Resolved"),
];
const MAINTENANCE: [(&str, &str); 4] = [
    ("scheduled", "Scheduled"),
    ("in_progress", "In progress"),
    ("verifying", "Verifying"),
    ("completed", "Completed"),
];
const IMPACTS: [(&str, &str); 5] = [
    ("none", "None"),
    ("minor", "Minor"),
    ("major", "Major"),
    ("critical", "Critical"),
    ("maintenance", "Maintenance"),
];

/// An incident, as lists and its page show it.
struct IncidentLine {
    id: String,
    name: String,
    status: String,
    tone: &'static str,
    impact: String,
    created_at: i64,
    created_by: String,
    resolved_at: Option<i64>,
    run_id: Option<String>,
    components: Vec<(String, String)>,
    updates: Vec<UpdateLine>,
    is_maintenance: bool,
}

struct UpdateLine {
    status: String,
    body: String,
    at: i64,
    by: String,
}

/// A component with its state.
struct ComponentLine {
    key: String,
    name: String,
    description: String,
    status: String,
    word: String,
    tone: &'static str,
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

#[derive(Template)]
#[template(path = "pages/incident_new.html")]
struct NewIncidentPage {
    frame: Frame,
    form: Fields,
    faults: Faults,
    templates: Vec<(String, String)>,
    components: Vec<ComponentLine>,
    gaps: Vec<(String, String)>,
    name: String,
    body: String,
    impact: String,
    status: String,
    chosen: BTreeMap<String, String>,
}

#[derive(Template)]
#[template(path = "pages/incident.html")]
struct IncidentPage {
    frame: Frame,
    incident: IncidentLine,
    sentence: Words,
    tone: &'static str,
    components: Vec<ComponentLine>,
    form: Fields,
    faults: Faults,
}

impl IncidentsPage {
    fn states(&self) -> &'static [(&'static str, &'static str)] {
        &COMPONENT_STATES
    }
}

impl NewIncidentPage {
    fn states(&self) -> &'static [(&'static str, &'static str)] {
        &COMPONENT_STATES
    }

    fn impacts(&self) -> &'static [(&'static str, &'static str)] {
        &IMPACTS
    }

    fn statuses(&self) -> Vec<(&'static str, &'static str)> {
        STATUSES.iter().chain(&MAINTENANCE).copied().collect()
    }

    fn chosen_state(&self, key: &str) -> String {
        let sent = self.form.text(&format!("components.{key}"));
        if sent.is_empty() {
            self.chosen.get(key).cloned().unwrap_or_default()
        } else {
            sent.to_owned()
        }
    }
}

impl IncidentPage {
    fn states(&self) -> &'static [(&'static str, &'static str)] {
        &COMPONENT_STATES
    }

    fn statuses(&self) -> &'static [(&'static str, &'static str)] {
        if self.incident.is_maintenance { &MAINTENANCE } else { &STATUSES }
    }
}

fn component_line(component: &Component) -> ComponentLine {
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

fn incident_line(incident: &Incident) -> IncidentLine {
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
        created_by: incident.created_by.clone(),
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
                by: update.created_by.clone(),
            })
            .collect(),
        is_maintenance: incident.impact == Impact::Maintenance,
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
                .and(", since ")
                .when(one.created_at, frame.now)
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

/// `GET /ui/{environment}/incidents/new?template=`.
pub async fn new_page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    ok(&composer(&visit, &path, query, Faults::default()).await?)
}

async fn composer(
    visit: &Visit,
    environment: &str,
    form: Fields,
    mut faults: Faults,
) -> Result<NewIncidentPage, UiError> {
    let frame = visit.frame(environment, "incidents", "Open an incident").await?;
    let components = visit.list_components(&visit.who).await?;
    let catalogue = visit.catalogue.load();
    let templates: Vec<&IncidentTemplate> = catalogue.templates.iter().collect();
    let template =
        templates.iter().find(|template| template.name == form.text("template")).copied();
    let mut page = NewIncidentPage {
        templates: templates
            .iter()
            .map(|template| (template.name.clone(), template.title.clone()))
            .collect(),
        components: components.iter().map(component_line).collect(),
        gaps: Vec::new(),
        name: form.text("name").to_owned(),
        body: form.text("body").to_owned(),
        impact: form.some("impact").unwrap_or_else(|| "minor".to_owned()),
        status: form.some("status").unwrap_or_else(|| "investigating".to_owned()),
        chosen: BTreeMap::new(),
        faults: Faults::default(),
        form,
        frame,
    };
    if let Some(template) = template.filter(|_| page.name.is_empty() && page.body.is_empty()) {
        let mut vars = BTreeMap::new();
        for gap in &template.placeholders {
            let sent =
                page.form.some(&format!("vars.{}", gap.name)).or_else(|| gap.default.clone());
            page.gaps.push((gap.name.clone(), sent.clone().unwrap_or_default()));
            vars.insert(
                gap.name.clone(),
                Value::String(sent.unwrap_or_else(|| format!("({})", gap.name))),
            );
        }
        match template.render(&vars) {
            Ok(text) => {
                (page.name, page.body, page.impact, page.status) =
                    (text.title, text.body, text.impact, text.status);
                page.chosen = text.components;
            }
            Err(why) => faults.0.push(crate::app::Wrong { field: String::new(), message: why }),
        }
    }
    page.faults = faults;
    Ok(page)
}

fn read<T: DeserializeOwned>(form: &Fields, field: &str) -> Result<T, AppError> {
    serde_json::from_value(Value::String(form.text(field).to_owned()))
        .map_err(|error| AppError::invalid(field, error.to_string()))
}

fn components_of(form: &Fields) -> Result<BTreeMap<String, ComponentStatus>, AppError> {
    let mut found = BTreeMap::new();
    for (key, state) in form.under("components.").into_iter().filter(|(_, state)| !state.is_empty())
    {
        let field = format!("components.{key}");
        let state = serde_json::from_value(Value::String(state));
        found.insert(key, state.map_err(|error| AppError::invalid(&field, error.to_string()))?);
    }
    Ok(found)
}

/// `POST /ui/{environment}/incidents/new`.
pub async fn open(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let draft = || -> Result<IncidentDraft, AppError> {
        let (status, impact) = (read(&form, "status")?, read(&form, "impact")?);
        Ok(IncidentDraft {
            components: components_of(&form)?,
            template: form.some("template"),
            ..IncidentDraft::new(form.text("name"), status, impact, form.text("body"))
        })
    };
    let opened = match draft() {
        Ok(draft) => visit.open_incident(&visit.who, draft, None).await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(incident) => {
            let to = format!("/ui/{path}/incidents/{}", incident.id);
            Ok(Visit::done(&to, &Toast::say("The incident is open; the status page shows it.")))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&composer(&visit, &path, form, faults).await?)
        }
    }
}

/// `GET /ui/{environment}/incidents/{incident}`.
pub async fn one(visit: Visit, path: Path<(String, String)>) -> Answer {
    ok(&page_of(&visit, &path.0, &path.1, Fields::default(), Faults::default()).await?)
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    id: &str,
    form: Fields,
    faults: Faults,
) -> Result<IncidentPage, UiError> {
    let incident = visit.get_incident(&visit.who, id).await?;
    let components = visit.list_components(&visit.who).await?;
    let frame = visit.frame(environment, "incidents", incident.name.as_str()).await?;
    let (sentence, tone) = if let Some(at) = incident.resolved_at {
        let took = words::duration(at - incident.created_at);
        (Words::say("Resolved ").when(at, frame.now).and(&format!(", after {took}.")), "")
    } else {
        let status = words::title(&word(&incident.status));
        let words = Words::default()
            .strong(&status)
            .and(", open since ")
            .when(incident.created_at, frame.now);
        (
            words.and(". Customers see it."),
            if incident.impact >= Impact::Major { "bad" } else { "attention" },
        )
    };
    let incident = incident_line(&incident);
    let components = components.iter().map(component_line).collect();
    Ok(IncidentPage { frame, incident, sentence, tone, components, form, faults })
}

/// `POST /ui/{environment}/incidents/{incident}`: an update; `resolved` ends it.
pub async fn update(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    let draft = || -> Result<UpdateDraft, AppError> {
        let status: IncidentStatus = read(&form, "status")?;
        let components = components_of(&form)?;
        Ok(UpdateDraft { components, ..UpdateDraft::new(status, form.text("body")) })
    };
    let updated = match draft() {
        Ok(draft) => visit.update_incident(&visit.who, &id, draft, None).await,
        Err(error) => Err(error),
    };
    match updated {
        Ok(incident) => {
            let text = if incident.resolved_at.is_some() {
                "Resolved."
            } else {
                "The update is on the status page."
            };
            Ok(Visit::done(&format!("/ui/{environment}/incidents/{id}"), &Toast::say(text)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &environment, &id, form, faults).await?)
        }
    }
}

/// `POST /ui/{environment}/components/{component}`: outside an incident.
pub async fn set_component(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    let status: ComponentStatus = read(&form, "status")?;
    visit.set_component_status(&visit.who, &key, status, form.text("reason")).await?;
    let text = format!("{key}: {}.", words::title(&word(&status)).to_lowercase());
    Ok(Visit::done(&format!("/ui/{environment}/incidents"), &Toast::say(text)))
}
