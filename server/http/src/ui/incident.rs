//! One incident: what was said, to whom, what support answers, who takes care, what was learned.

use actix_web::web::Path;
use askama::Template;
use switchback_app::incidents::UpdateDraft;
use switchback_app::{AppError, Wrong};
use switchback_store::{DeliveryState, Impact, IncidentStatus, RemoteIncident};

use super::composer::{MAINTENANCE, STATUSES, Told, reach_of, told};
use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::incidents::{
    COMPONENT_STATES, ComponentLine, IncidentLine, component_line, components_of, incident_line,
    read,
};
use super::templates::fill;
use super::visit::{Toast, Visit};
use super::words::{self, Words, word};
use super::{Answer, UiError, ok, unprocessable};

/// How many copies to a channel stand where.
pub struct SentLine {
    /// The channel's key, or `subscribers`.
    pub channel: String,
    /// Taken.
    pub sent: u64,
    /// On their way.
    pub waiting: u64,
    /// Given up.
    pub dead: u64,
}

#[derive(Template)]
#[template(path = "pages/incident.html")]
struct IncidentPage {
    frame: Frame,
    incident: IncidentLine,
    sentence: Words,
    tone: &'static str,
    components: Vec<ComponentLine>,
    templates: Vec<(String, String)>,
    sent: Vec<SentLine>,
    elsewhere: Vec<(String, String, bool)>,
    told: Told,
    draft: Option<String>,
    form: Fields,
    faults: Faults,
    name: String,
    body: String,
    status: String,
    chat: String,
    support: String,
}

impl IncidentPage {
    fn states(&self) -> &'static [(&'static str, &'static str)] {
        &COMPONENT_STATES
    }

    fn statuses(&self) -> &'static [(&'static str, &'static str)] {
        if self.incident.is_maintenance { &MAINTENANCE } else { &STATUSES }
    }

    fn ticked(&self, name: &str) -> bool {
        !self.form.is("composed") || self.form.is(name)
    }

    fn stamp(&self, at: &i64) -> String {
        words::format_at(*at, "%Y-%m-%d %H:%M UTC")
    }
}

/// `GET /ui/{environment}/incidents/{incident}?template=&postmortem=draft`.
pub async fn one(visit: Visit, path: Path<(String, String)>, query: Fields) -> Answer {
    ok(&page_of(&visit, &path.0, &path.1, query, Faults::default()).await?)
}

/// What was sent, by channel.
pub async fn sent_of(
    visit: &Visit,
    incident: Option<&str>,
    run: Option<&str>,
) -> Result<Vec<SentLine>, UiError> {
    let counts = visit.count_deliveries_of(&visit.who, incident, run).await?;
    let mut lines: Vec<SentLine> = Vec::new();
    for count in counts {
        if lines.last().is_none_or(|line| line.channel != count.channel) {
            lines.push(SentLine { channel: count.channel, sent: 0, waiting: 0, dead: 0 });
        }
        if let Some(line) = lines.last_mut() {
            match count.state {
                DeliveryState::Sent => line.sent = count.count,
                DeliveryState::Waiting => line.waiting = count.count,
                DeliveryState::Dead => line.dead = count.count,
            }
        }
    }
    Ok(lines)
}

/// A page elsewhere: its channel, what is to be said of it, and whether it differs from what it was told.
fn elsewhere(remote: &RemoteIncident) -> (String, String, bool) {
    let told = words::title(&remote.told_status.replace('_', " "));
    let (says, differs) = match (&remote.seen_status, &remote.error) {
        (_, Some(why)) => (format!("told {told}; it could not be read back: {why}"), true),
        (Some(seen), None) if *seen != remote.told_status => {
            let seen = words::title(&seen.replace('_', " "));
            (format!("shows {seen}, and was told {told}"), true)
        }
        (Some(_), None) => (format!("shows {told}"), false),
        (None, None) => (format!("told {told}"), false),
    };
    (remote.channel.clone(), says, differs)
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    id: &str,
    form: Fields,
    mut faults: Faults,
) -> Result<IncidentPage, UiError> {
    let incident = visit.get_incident(&visit.who, id).await?;
    let components = visit.list_components(&visit.who).await?;
    let frame = visit.frame(environment, "incidents", incident.name.as_str()).await?;
    let now = frame.now;
    let seen = match incident.audience {
        switchback_store::Audience::Public => " Customers see it.",
        switchback_store::Audience::Team => " Only the team sees it.",
    };
    let (sentence, tone) = if let Some(at) = incident.resolved_at {
        let took = words::duration(at - incident.began_at());
        (Words::say("Over ").when(at, now).and(&format!(", after {took}.")), "")
    } else {
        let status = words::title(&word(&incident.status));
        let begun = Words::default().strong(&status);
        let words =
            match incident.scheduled_for.filter(|_| incident.status == IncidentStatus::Scheduled) {
                Some(at) => begun.and(": begins ").when(at, now),
                None => begun.and(", ").lasting(incident.began_at(), now),
            };
        let words = match &incident.handled_by {
            Some(who) => words.and(&format!(". {who} takes care of it.")),
            None => words.and(". Nobody has said that they take care of it."),
        };
        (words.and(seen), if incident.impact >= Impact::Major { "bad" } else { "attention" })
    };
    let (mut body, mut status) = (form.text("body").to_owned(), form.text("status").to_owned());
    let (mut chat, mut support) = (form.text("chat").to_owned(), form.text("support").to_owned());
    let catalogue = visit.catalogue.load();
    let chosen = catalogue.templates.iter().find(|one| one.name == form.text("template"));
    if let Some(template) = chosen.filter(|_| !form.is("composed")) {
        match fill(template, &form, &mut Vec::new()) {
            Ok(text) => {
                (body, status) = (text.body, text.status);
                chat = text.says.chat.unwrap_or_default();
                support = text.says.support.unwrap_or_default();
            }
            Err(why) => faults.0.push(Wrong { field: String::new(), message: why }),
        }
    }
    let draft = match (form.text("postmortem"), &incident.postmortem) {
        ("draft", None) => Some(visit.draft_postmortem(&visit.who, id).await?),
        ("edit", Some(text)) => Some(text.clone()),
        ("", _) => None,
        (sent, _) => Some(sent.to_owned()),
    };
    Ok(IncidentPage {
        sentence,
        tone,
        components: components.iter().map(component_line).collect(),
        templates: catalogue
            .templates
            .iter()
            .map(|one| (one.name.clone(), one.title.clone()))
            .collect(),
        sent: sent_of(visit, Some(id), None).await?,
        elsewhere: visit
            .list_remote_incidents(&visit.who, id)
            .await?
            .iter()
            .map(elsewhere)
            .collect(),
        told: told(visit, environment).await?,
        draft,
        name: visit.who.name.clone(),
        body,
        status,
        chat,
        support,
        incident: incident_line(&incident),
        frame,
        form,
        faults,
    })
}

/// `POST /ui/{environment}/incidents/{incident}`: an update; `resolved` ends it.
pub async fn update(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    let draft = || -> Result<UpdateDraft, AppError> {
        let status: IncidentStatus = read(&form, "status")?;
        let mut draft = UpdateDraft {
            components: components_of(&form)?,
            reach: reach_of(&form, &environment),
            ..UpdateDraft::new(status, form.text("body"))
        };
        draft.says.chat = form.some("chat");
        draft.says.support = form.some("support");
        Ok(draft)
    };
    let updated = match draft() {
        Ok(draft) => visit.update_incident(&visit.who, &id, draft, None).await,
        Err(error) => Err(error),
    };
    match updated {
        Ok(incident) => {
            let text =
                if incident.resolved_at.is_some() { "It is over." } else { "The update is out." };
            Ok(Visit::done(&format!("/ui/{environment}/incidents/{id}"), &Toast::say(text)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &environment, &id, form, faults).await?)
        }
    }
}

/// `POST /ui/{environment}/incidents/{incident}/handler`: `handled_by`; empty: nobody.
pub async fn handle(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    let by = form.some("handled_by");
    visit.handle_incident(&visit.who, &id, by.as_deref()).await?;
    let text = match by {
        Some(by) => format!("{by} takes care of it."),
        None => "Nobody takes care of it now.".to_owned(),
    };
    Ok(Visit::done(&format!("/ui/{environment}/incidents/{id}"), &Toast::say(text)))
}

/// `POST /ui/{environment}/incidents/{incident}/postmortem`: `keep`, `publish` or `remove`.
pub async fn postmortem(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    let text = form.text("postmortem");
    let (body, publish, says) = match form.text("do") {
        "remove" => (None, false, "The postmortem is removed."),
        "publish" => (Some(text), true, "The status page shows the postmortem."),
        _ => (Some(text), false, "The postmortem is kept as a draft."),
    };
    match visit.put_postmortem(&visit.who, &id, body, publish).await {
        Ok(_) => Ok(Visit::done(&format!("/ui/{environment}/incidents/{id}"), &Toast::say(says))),
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &environment, &id, form, faults).await?)
        }
    }
}

/// `POST /ui/{environment}/incidents/{incident}/remove`.
pub async fn remove(visit: Visit, path: Path<(String, String)>) -> Answer {
    let (environment, id) = path.into_inner();
    visit.withdraw_incident(&visit.who, &id).await?;
    let text = "It is off every list. The log keeps it.";
    Ok(Visit::done(&format!("/ui/{environment}/incidents"), &Toast::say(text)))
}
