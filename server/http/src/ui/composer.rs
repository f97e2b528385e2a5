//! Opening an incident: from a template, with every channel's text in view, and who will be told.

use std::collections::BTreeMap;

use actix_web::web::Path;
use askama::Template;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use switchback_app::incidents::IncidentDraft;
use switchback_app::notify::Topic;
use switchback_app::{AppError, Reach, Wrong};
use switchback_playbook::ports::IncidentText;
use switchback_playbook::says::{EmailText, InAppText, Says};
use switchback_playbook::templates::IncidentTemplate;
use switchback_store::Audience;

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::incidents::{COMPONENT_STATES, ComponentLine, component_line, components_of, read};
use super::templates::fill;
use super::visit::{Toast, Visit};
use super::words;
use super::{Answer, UiError, ok, unprocessable};

/// How an incident may go.
pub const STATUSES: [(&str, &str); 4] = [
    ("investigating", "Investigating"),
    ("identified", "Identified"),
    ("monitoring", "Monitoring"),
    ("resolved", "Resolved"),
];
/// How planned work may go.
pub const MAINTENANCE: [(&str, &str); 4] = [
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

const SEVERITIES: [(&str, &str); 3] =
    [("info", "Information"), ("warning", "Warning"), ("critical", "Critical")];
/// Fields that show their own faults.
const FIELDS: [&str; 6] =
    ["name", "body", "scheduled_until", "scheduled_for", "ended_at", "in_app"];

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
    says: Says,
    chosen: BTreeMap<String, String>,
    told: Told,
}

/// Who would be told.
pub struct Told {
    /// Subscribers of any component.
    pub subscribers: u64,
    /// Names of channels that hear of incidents that customers see.
    pub channels: Vec<String>,
    /// Clients of the environment that are connected.
    pub clients: u64,
}

impl NewIncidentPage {
    fn states(&self) -> &'static [(&'static str, &'static str)] {
        &COMPONENT_STATES
    }

    fn impacts(&self) -> &'static [(&'static str, &'static str)] {
        &IMPACTS
    }

    fn severities(&self) -> &'static [(&'static str, &'static str)] {
        &SEVERITIES
    }

    fn statuses(&self) -> Vec<(&'static str, &'static str)> {
        STATUSES.iter().chain(&MAINTENANCE).copied().collect()
    }

    fn other_faults(&self) -> Vec<String> {
        self.faults.beside(&FIELDS)
    }

    fn chosen_state(&self, key: &str) -> String {
        let sent = self.form.text(&format!("components.{key}"));
        if sent.is_empty() {
            self.chosen.get(key).cloned().unwrap_or_default()
        } else {
            sent.to_owned()
        }
    }

    /// Whether a box is ticked: as it was sent, else as it begins.
    fn ticked(&self, name: &str, begins: bool) -> bool {
        if self.form.is("composed") { self.form.is(name) } else { begins }
    }

    fn email(&self) -> (String, String) {
        let email = self.says.email.as_ref();
        email.map(|email| (email.subject.clone(), email.text.clone())).unwrap_or_default()
    }

    fn in_app(&self) -> (String, String, String) {
        let in_app = self.says.in_app.as_ref();
        let own = in_app.map(|one| (one.title.clone(), one.message.clone(), one.severity.clone()));
        own.unwrap_or_else(|| (String::new(), String::new(), "warning".to_owned()))
    }
}

/// `GET /ui/{environment}/incidents/new?template=`.
pub async fn new_page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    ok(&composer(&visit, &path, query, Faults::default()).await?)
}

/// Who would be told of an incident.
pub async fn told(visit: &Visit, environment: &str) -> Result<Told, UiError> {
    let channels = visit.list_channels(&visit.who).await?.into_iter();
    let hears = |one: &switchback_app::channels::Channel| {
        one.topics.contains(&Topic::Incidents) && one.disabled_why.is_none()
    };
    let counts = visit.count_subscribers(&visit.who).await?;
    let active = counts.iter().filter(|one| one.state == switchback_store::SubscriberState::Active);
    Ok(Told {
        subscribers: active.map(|one| one.count).sum(),
        channels: channels.filter(hears).map(|one| one.name).collect(),
        clients: visit.hub.convergence(environment, None).connected,
    })
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
        says: says_of(&form, None),
        chosen: BTreeMap::new(),
        told: told(visit, environment).await?,
        faults: Faults::default(),
        form,
        frame,
    };
    if let Some(template) = template {
        let filled = fill(template, &page.form, &mut page.gaps);
        match filled {
            Ok(text) if !page.form.is("composed") => {
                (page.name, page.body, page.impact, page.status) =
                    (text.title, text.body, text.impact, text.status);
                (page.chosen, page.says) = (text.components, text.says);
            }
            Ok(_) => {}
            Err(why) => faults.0.push(Wrong { field: String::new(), message: why }),
        }
    }
    page.faults = faults;
    Ok(page)
}

/// The channels' own texts of a form; those left empty are the name and the body.
fn says_of(form: &Fields, text: Option<&IncidentText>) -> Says {
    let email = match (form.text("email_subject"), form.text("email_text")) {
        ("", "") => None,
        (subject, body) => {
            let subject = if subject.is_empty() { form.text("name") } else { subject };
            let body = if body.is_empty() { form.text("body") } else { body };
            // The template's HTML says what its text says; a text that was changed here has none.
            let kept = text.and_then(|text| text.says.email.as_ref());
            let kept = kept.filter(|kept| plain(&kept.text) == plain(body));
            let html = kept.and_then(|kept| kept.html.clone());
            Some(EmailText { subject: subject.to_owned(), text: body.to_owned(), html })
        }
    };
    let in_app = form.some("in_app_message").map(|message| InAppText {
        title: form.some("in_app_title").unwrap_or_else(|| form.text("name").to_owned()),
        message,
        severity: form.some("in_app_severity").unwrap_or_else(|| "warning".to_owned()),
    });
    Says { email, in_app, chat: form.some("chat"), support: form.some("support") }
}

/// A text whatever its line ends: browsers send them their own way.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A moment of a form, in UTC.
fn moment(form: &Fields, field: &str) -> Result<Option<i64>, AppError> {
    let Some(text) = form.some(field) else { return Ok(None) };
    let bad = || AppError::invalid(field, "a moment such as 2026-11-30T22:00 is expected, in UTC");
    let civil: DateTime = text.trim_end_matches('Z').parse().map_err(|_| bad())?;
    let zoned = civil.to_zoned(TimeZone::UTC).map_err(|_| bad())?;
    Ok(Some(zoned.timestamp().as_millisecond()))
}

fn times(form: &Fields, from: &str, until: &str) -> Result<Option<(i64, i64)>, AppError> {
    match (moment(form, from)?, moment(form, until)?) {
        (None, None) => Ok(None),
        (Some(from), Some(until)) => Ok(Some((from, until))),
        _ => Err(AppError::invalid(until, "the beginning and the end belong together")),
    }
}

/// Who is told, as the boxes of a form say.
pub fn reach_of(form: &Fields, environment: &str) -> Reach {
    Reach {
        is_quiet: false,
        only: Vec::new(),
        in_app: if form.is("tell_apps") { vec![environment.to_owned()] } else { Vec::new() },
        without_subscribers: !form.is("tell_subscribers"),
        without_channels: !form.is("tell_channels"),
    }
}

fn draft_of(visit: &Visit, form: &Fields, environment: &str) -> Result<IncidentDraft, AppError> {
    let catalogue = visit.catalogue.load();
    let template = catalogue.templates.iter().find(|one| one.name == form.text("template"));
    let text = template.and_then(|template| fill(template, form, &mut Vec::new()).ok());
    let (status, impact) = (read(form, "status")?, read(form, "impact")?);
    let is_private = form.is("team_only");
    Ok(IncidentDraft {
        components: components_of(form)?,
        template: form.some("template"),
        says: says_of(form, text.as_ref()),
        audience: if is_private { Audience::Team } else { Audience::Public },
        reach: reach_of(form, environment),
        scheduled: times(form, "scheduled_for", "scheduled_until")?,
        auto_begin: form.is("auto"),
        auto_complete: form.is("auto"),
        backfilled: times(form, "started_at", "ended_at")?,
        ..IncidentDraft::new(form.text("name"), status, impact, form.text("body"))
    })
}

/// `POST /ui/{environment}/incidents/new`.
pub async fn open(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let opened = match draft_of(&visit, &form, &path) {
        Ok(draft) => visit.open_incident(&visit.who, draft, None).await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(incident) => {
            let to = format!("/ui/{path}/incidents/{}", incident.id);
            let text = match (incident.audience, incident.resolved_at) {
                (Audience::Team, _) => "The incident is open; only the team sees it.",
                (_, Some(_)) => "It is written down; the status page shows it as past.",
                _ => "The incident is open; the status page shows it.",
            };
            Ok(Visit::done(&to, &Toast::say(text)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&composer(&visit, &path, form, faults).await?)
        }
    }
}

/// How many, in words, for who is told.
impl Told {
    /// `1 234 subscribers`.
    pub fn subscribers_words(&self) -> String {
        words::count(self.subscribers, "subscriber")
    }

    /// `2 channels: Ops, Pager`.
    pub fn channels_words(&self) -> String {
        match self.channels.as_slice() {
            [] => "no channel hears of incidents".to_owned(),
            some => format!("{}: {}", words::count(some.len() as u64, "channel"), some.join(", ")),
        }
    }

    /// `12 connected clients`.
    pub fn clients_words(&self) -> String {
        words::count(self.clients, "connected client")
    }
}
