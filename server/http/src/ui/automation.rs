//! Settings: whether playbooks may start by themselves.

use askama::Template;
use switchback_playbook::format::Playbook;
use switchback_playbook::schedule::Schedule;
use switchback_store::AutomationOff;

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

#[derive(Template)]
#[template(path = "pages/automation.html")]
struct AutomationPage {
    frame: Frame,
    sentence: Words,
    is_off: bool,
    /// Playbooks that may start by themselves.
    playbooks: Vec<(String, String, String)>,
    faults: Faults,
}

async fn page_of(visit: &Visit, faults: Faults) -> Result<AutomationPage, UiError> {
    let frame = visit.frame_anywhere("settings", "Automation").await?;
    let off = visit.automation_off().await?;
    let catalogue = visit.catalogue.load();
    let how = |one: &Playbook| {
        let webhook =
            one.triggers.webhook.as_ref().map(|hook| format!("by webhook {}", hook.token));
        let schedule = one.triggers.schedule.as_ref().map(Schedule::text);
        let alerts = one.triggers.alerts.iter().map(|alert| {
            let labels = alert.labels.iter().map(|(name, value)| format!("{name}={value}"));
            let labels = labels.collect::<Vec<_>>().join(", ");
            format!("by alerts {labels} in {}", alert.environment)
        });
        let all = webhook.into_iter().chain(schedule).chain(alerts);
        words::list(&all.collect::<Vec<_>>(), "and")
    };
    let triggered = catalogue.playbooks.values().filter(|one| one.triggers.starts_by_itself());
    let playbooks: Vec<_> =
        triggered.map(|one| (one.name.clone(), one.title.clone(), how(one))).collect();
    let sentence = match &off {
        Some(AutomationOff { by, reason, at }) => Words::default()
            .strong("Nothing starts by itself.")
            .and(&format!(" {} switched it off ", words::actor(by)))
            .when(*at, frame.now)
            .and(&format!(": {reason}")),
        None => Words::say("Playbooks may start by themselves: ")
            .strong(&words::count(playbooks.len() as u64, "playbook"))
            .and(" can."),
    };
    Ok(AutomationPage { frame, sentence, is_off: off.is_some(), playbooks, faults })
}

/// `GET /ui/settings/automation`.
pub async fn page(visit: Visit) -> Answer {
    ok(&page_of(&visit, Faults::default()).await?)
}

/// `POST /ui/settings/automation`: `off=yes` or `no`.
pub async fn set(visit: Visit, form: Fields) -> Answer {
    let off = form.is("off");
    match visit.set_automation(&visit.who, off, form.text("reason")).await {
        Ok(_) => {
            let text = if off { "Nothing starts by itself now." } else { "Automation is on." };
            Ok(Visit::done("/ui/settings/automation", &Toast::say(text)))
        }
        Err(error) => unprocessable(&page_of(&visit, Faults::of(error)?).await?),
    }
}
