//! Subscribers of the status page: how many, who, adding one, ending one.

use actix_web::web::Path;
use askama::Template;
use serde_json::json;
use switchback_app::subscribers::Wish;
use switchback_store::{Subscriber, SubscriberMode, SubscriberState};

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words, word};
use super::{Answer, UiError, ok, unprocessable};

/// Rows that a page shows.
const SHOWN: i64 = 100;

struct SubscriberLine {
    id: String,
    address: String,
    mode: &'static str,
    state: String,
    tone: &'static str,
    wants: String,
    at: i64,
    is_active: bool,
    is_pending: bool,
    is_over: bool,
}

#[derive(Template)]
#[template(path = "pages/subscribers.html")]
struct SubscribersPage {
    frame: Frame,
    sentence: Words,
    subscribers: Vec<SubscriberLine>,
    components: Vec<(String, String)>,
    state: String,
    next: Option<String>,
    form: Fields,
    faults: Faults,
}

impl SubscribersPage {
    fn states(&self) -> [(&'static str, &'static str); 6] {
        [
            ("", "All"),
            ("active", "Get news"),
            ("pending", "Not confirmed"),
            ("quarantined", "Not reached"),
            ("unsubscribed", "Ended"),
            ("ended", "Incident over"),
        ]
    }
}

fn line(subscriber: &Subscriber) -> SubscriberLine {
    let (state, tone) = match subscriber.state {
        SubscriberState::Active => ("gets news", "good"),
        SubscriberState::Pending => ("not confirmed", "warn"),
        SubscriberState::Quarantined => ("could not be reached", "bad"),
        SubscriberState::Unsubscribed => ("ended", ""),
        SubscriberState::Ended => ("incident over", ""),
    };
    SubscriberLine {
        id: subscriber.id.clone(),
        address: subscriber.address.clone(),
        mode: match subscriber.mode {
            SubscriberMode::Email => "E-mail",
            SubscriberMode::Webhook => "Webhook",
        },
        state: state.to_owned(),
        tone,
        wants: match (&subscriber.incident_id, subscriber.components.as_slice()) {
            (Some(_), _) => "one incident".to_owned(),
            (None, []) => "everything".to_owned(),
            (None, some) => some.join(", "),
        },
        at: subscriber.created_at,
        is_active: subscriber.state == SubscriberState::Active,
        is_pending: subscriber.state == SubscriberState::Pending,
        is_over: subscriber.state == SubscriberState::Ended,
    }
}

/// `GET /ui/settings/subscribers?state=&before=`.
pub async fn page(visit: Visit, query: Fields) -> Answer {
    ok(&page_of(&visit, query, Faults::default()).await?)
}

async fn page_of(visit: &Visit, form: Fields, faults: Faults) -> Result<SubscribersPage, UiError> {
    let frame = visit.frame_anywhere("settings", "Subscribers").await?;
    let state: Option<SubscriberState> = serde_json::from_value(json!(form.text("state"))).ok();
    let before = form.some("before");
    let rows = visit.list_subscribers(&visit.who, state, None, before.as_deref(), SHOWN).await?;
    let counts = visit.count_subscribers(&visit.who).await?;
    let sum = |state| -> u64 {
        counts.iter().filter(|one| one.state == state).map(|one| one.count).sum()
    };
    let (active, pending) = (sum(SubscriberState::Active), sum(SubscriberState::Pending));
    let lost = sum(SubscriberState::Quarantined);
    let mut sentence = match active {
        0 => Words::say("Nobody gets news of incidents yet."),
        active => Words::default()
            .strong(&words::count(active, "subscriber"))
            .and(if active == 1 { " gets news of incidents." } else { " get news of incidents." }),
    };
    if pending > 0 {
        sentence = sentence.and(&format!(" {pending} did not confirm yet."));
    }
    if lost > 0 {
        sentence = sentence.and(&format!(" {lost} could not be reached several times in a row."));
    }
    let components = visit.list_components(&visit.who).await?;
    let is_full = rows.len() as i64 == SHOWN;
    Ok(SubscribersPage {
        frame,
        sentence,
        next: rows.last().filter(|_| is_full).map(|row| row.id.clone()),
        subscribers: rows.iter().map(line).collect(),
        components: components.into_iter().map(|one| (one.key, one.name)).collect(),
        state: state.as_ref().map(word).unwrap_or_default(),
        form,
        faults,
    })
}

/// `POST /ui/settings/subscribers`.
pub async fn add(visit: Visit, form: Fields) -> Answer {
    let mode = if form.text("mode") == "webhook" {
        SubscriberMode::Webhook
    } else {
        SubscriberMode::Email
    };
    let wish = Wish {
        mode,
        address: form.text("address").to_owned(),
        components: form.all("component"),
        incident: None,
    };
    match visit.add_subscriber(&visit.who, wish, !form.is("agreed")).await {
        Ok(added) => {
            let text = match added.state {
                SubscriberState::Active => format!("{} gets news.", added.address),
                _ => format!("{} is asked to confirm.", added.address),
            };
            Ok(Visit::done("/ui/settings/subscribers", &Toast::say(text)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, form, faults).await?)
        }
    }
}

/// `POST /ui/settings/subscribers/{subscriber}`: `end`, `begin` or `ask`.
pub async fn change(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let text = match form.text("do") {
        "ask" => {
            visit.ask_again(&visit.who, &path).await?;
            "It is asked once more."
        }
        "begin" => {
            visit.set_subscriber_state(&visit.who, &path, SubscriberState::Active).await?;
            "It gets news again."
        }
        _ => {
            visit.set_subscriber_state(&visit.who, &path, SubscriberState::Unsubscribed).await?;
            "It gets no more news."
        }
    };
    Ok(Visit::done("/ui/settings/subscribers", &Toast::say(text)))
}
