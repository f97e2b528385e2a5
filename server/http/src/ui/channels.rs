//! Channels and what was sent to whom: set one up, test it, look at letters that were given up, send them again.

use std::collections::BTreeMap;

use actix_web::web::Path;
use askama::Template;
use serde_json::{Value, json};
use switchback_app::AppError;
use switchback_app::channels::{Channel, ChannelSettings};
use switchback_app::notify::{Target, Topic};
use switchback_store::{DeliveryCount, DeliveryFilter, DeliveryRow, DeliveryState};

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

/// Rows that a page of messages shows.
const MESSAGES_SHOWN: i64 = 100;
/// Kinds with their words, and what the address field asks for.
const KINDS: [(&str, &str, &str); 9] = [
    ("slack", "Slack", "env:SLACK_URL"),
    ("discord", "Discord", "env:DISCORD_URL"),
    ("teams", "Microsoft Teams", "env:TEAMS_URL"),
    ("pagerduty", "PagerDuty", "env:PAGERDUTY_KEY"),
    ("webhook", "Signed webhook", "env:HOOK_SECRET"),
    ("email", "E-mail to the team", ""),
    ("statuspage", "A page at Statuspage", "env:STATUSPAGE_KEY"),
    ("cachet", "A page of Cachet", "env:CACHET_TOKEN"),
    ("instatus", "A page at Instatus", "env:INSTATUS_KEY"),
];
const FIELDS: [&str; 9] =
    ["key", "name", "kind", "secret", "url", "to", "per_minute", "page", "ids"];

/// A channel with how its messages stand.
struct ChannelLine {
    channel: Channel,
    kind: &'static str,
    place: String,
    topics: String,
    waiting: u64,
    sent: u64,
    dead: u64,
}

#[derive(Template)]
#[template(path = "pages/channels.html")]
struct ChannelsPage {
    frame: Frame,
    sentence: Words,
    channels: Vec<ChannelLine>,
    edited: Option<Channel>,
    removed: Option<String>,
    form: Fields,
    faults: Faults,
}

impl ChannelsPage {
    fn kinds(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        &KINDS
    }

    fn topics(&self) -> &'static [(Topic, &'static str, &'static str)] {
        &Topic::ALL
    }

    fn wants(&self, topic: &Topic) -> bool {
        if self.form.is("sent") {
            return self.form.all("topic").iter().any(|word| word == topic.word());
        }
        match &self.edited {
            Some(channel) => channel.topics.contains(topic),
            None => matches!(topic, Topic::Incidents | Topic::Team),
        }
    }

    fn kind(&self) -> String {
        let sent = self.form.text("kind");
        match &self.edited {
            _ if !sent.is_empty() => sent.to_owned(),
            Some(channel) => channel.to.kind().to_owned(),
            None => "slack".to_owned(),
        }
    }

    /// What a field shows: what was sent, else what is set.
    fn value(&self, field: &str) -> String {
        if let Some(text) = self.form.some(field) {
            return text;
        }
        let Some(channel) = &self.edited else { return String::new() };
        let to = serde_json::to_value(&channel.to).unwrap_or_default();
        let text = |name: &str| to.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (field, &channel.to) {
            ("key", _) => channel.key.clone(),
            ("name", _) => channel.name.clone(),
            ("per_minute", _) => channel.per_minute.map(|n| n.to_string()).unwrap_or_default(),
            ("secret", Target::Slack { .. } | Target::Discord { .. } | Target::Teams { .. })
            | ("url", Target::Webhook { .. }) => text("url"),
            ("secret", Target::Pagerduty { .. }) => text("routing_key"),
            ("secret", Target::Statuspage { .. } | Target::Instatus { .. }) => text("api_key"),
            ("secret", Target::Cachet { .. }) => text("token"),
            ("page", Target::Statuspage { .. } | Target::Instatus { .. }) => text("page"),
            ("url", to) if to.is_page() => text("base_url"),
            (
                "ids",
                Target::Statuspage { components, .. }
                | Target::Cachet { components, .. }
                | Target::Instatus { components, .. },
            ) => {
                let pairs = components.iter().map(|(key, id)| format!("{key}={id}"));
                pairs.collect::<Vec<_>>().join(", ")
            }
            ("secret", _) => text("secret"),
            ("to", Target::Email { to }) => to.join(", "),
            ("cloudevents", _) if text("format") == "cloudevents" => "on".to_owned(),
            _ => String::new(),
        }
    }

    fn fault(&self, field: &str) -> String {
        let nested = format!("to.{field}");
        let found = self.faults.on(field);
        if found.is_empty() { self.faults.on(&nested) } else { found }
    }

    fn other_faults(&self) -> Vec<String> {
        let mut shown: Vec<String> = FIELDS.iter().map(|field| (*field).to_owned()).collect();
        shown.extend(FIELDS.iter().map(|field| format!("to.{field}")));
        self.faults.beside(&shown.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn place_of(to: &Target) -> String {
    match to {
        Target::Slack { url } | Target::Discord { url } | Target::Teams { url } => url.to_string(),
        Target::Pagerduty { routing_key, .. } => routing_key.to_string(),
        Target::Webhook { url, .. } => url.clone(),
        Target::Statuspage { base_url, page, .. } | Target::Instatus { base_url, page, .. } => {
            format!("{base_url}, page {page}")
        }
        Target::Cachet { base_url, .. } => base_url.clone(),
        Target::Email { to } => to.join(", "),
    }
}

fn kind_words(kind: &str) -> &'static str {
    KINDS.iter().find(|(word, ..)| *word == kind).map_or("", |(_, name, _)| name)
}

fn line(channel: Channel, counts: &[DeliveryCount]) -> ChannelLine {
    let count = |state| {
        let own = counts.iter().find(|one| one.channel == channel.key && one.state == state);
        own.map_or(0, |one| one.count)
    };
    let topics: Vec<&str> = channel.topics.iter().map(|topic| topic.word()).collect();
    ChannelLine {
        kind: kind_words(channel.to.kind()),
        place: place_of(&channel.to),
        topics: if topics.is_empty() { "only what names it".to_owned() } else { topics.join(", ") },
        waiting: count(DeliveryState::Waiting),
        sent: count(DeliveryState::Sent),
        dead: count(DeliveryState::Dead),
        channel,
    }
}

/// `GET /ui/settings/channels?edit=&remove=`.
pub async fn page(visit: Visit, query: Fields) -> Answer {
    ok(&page_of(&visit, query, Faults::default()).await?)
}

async fn page_of(visit: &Visit, form: Fields, faults: Faults) -> Result<ChannelsPage, UiError> {
    let frame = visit.frame_anywhere("settings", "Channels").await?;
    let all = visit.list_channels(&visit.who).await?;
    let counts = visit.count_deliveries(&visit.who).await?;
    let dead: u64 =
        counts.iter().filter(|one| one.state == DeliveryState::Dead).map(|one| one.count).sum();
    let sentence = match (all.len() as u64, dead) {
        (0, _) => Words::say("No channel yet: the team hears of nothing that it does not look at."),
        (count, 0) => Words::default()
            .strong(&words::count(count, "channel"))
            .and("; every message was taken or is on its way."),
        (count, dead) => Words::default()
            .strong(&words::count(count, "channel"))
            .and(&format!("; {} given up.", words::count(dead, "message"))),
    };
    let find = |key: Option<String>| all.iter().find(|one| Some(&one.key) == key.as_ref()).cloned();
    let (edited, removed) = (find(form.some("edit")), find(form.some("remove")));
    let removed = removed.map(|channel| channel.key);
    let channels = all.into_iter().map(|channel| line(channel, &counts)).collect();
    Ok(ChannelsPage { frame, sentence, channels, edited, removed, form, faults })
}

/// `auth=abc, app=def`: components and their ids elsewhere.
fn ids_of(form: &Fields) -> Result<BTreeMap<String, String>, AppError> {
    let pair = |text: String| match text.split_once('=') {
        Some((key, id)) => Ok((key.trim().to_owned(), id.trim().to_owned())),
        None => {
            Err(AppError::invalid("ids", "component=id pairs, with commas between, are expected"))
        }
    };
    form.list("ids").into_iter().map(pair).collect()
}

fn settings_of(form: &Fields) -> Result<ChannelSettings, AppError> {
    let kind = form.text("kind");
    let secret = form.text("secret");
    let to = match kind {
        "slack" | "discord" | "teams" => json!({"kind": kind, "url": secret}),
        "pagerduty" => json!({"kind": kind, "routing_key": secret}),
        "email" => json!({"kind": kind, "to": form.list("to")}),
        "statuspage" | "instatus" => {
            let mut to = json!({
                "kind": kind, "api_key": secret, "page": form.text("page"), "components": ids_of(form)?,
            });
            if let (Some(base), Some(to)) = (form.some("url"), to.as_object_mut()) {
                to.insert("base_url".to_owned(), json!(base)); // without one: where that kind is
            }
            to
        }
        "cachet" => {
            json!({"kind": kind, "token": secret, "base_url": form.text("url"), "components": ids_of(form)?})
        }
        _ => {
            let format = if form.is("cloudevents") { "cloudevents" } else { "standard" };
            json!({"kind": "webhook", "url": form.text("url"), "secret": secret, "format": format})
        }
    };
    let to: Target = serde_json::from_value(to)
        .map_err(|error| AppError::invalid("secret", error.to_string()))?;
    let is_meant = |word: &String| Topic::ALL.iter().find(|(_, known, _)| known == word);
    let topics = form.all("topic").iter().filter_map(is_meant).map(|(topic, ..)| *topic).collect();
    let per_minute = match form.some("per_minute") {
        Some(_) => Some(form.number("per_minute")?),
        None => None,
    };
    Ok(ChannelSettings { name: form.text("name").to_owned(), to, topics, per_minute })
}

/// `POST /ui/settings/channels`.
pub async fn put(visit: Visit, form: Fields) -> Answer {
    let made = match settings_of(&form) {
        Ok(settings) => visit.put_channel(&visit.who, form.text("key"), &settings).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(channel) => {
            let text = format!("{} is set up. Test it.", channel.name);
            Ok(Visit::done("/ui/settings/channels", &Toast::say(text)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, form, faults).await?)
        }
    }
}

/// `POST /ui/settings/channels/{channel}/test`.
pub async fn test(visit: Visit, path: Path<String>) -> Answer {
    visit.test_channel(&visit.who, &path).await?;
    let text = format!("A test is on its way to {path}.");
    Ok(Visit::done(&format!("/ui/settings/messages?channel={path}"), &Toast::say(text)))
}

/// `POST /ui/settings/channels/{channel}/remove`.
pub async fn remove(visit: Visit, path: Path<String>) -> Answer {
    visit.delete_channel(&visit.who, &path).await?;
    let text = format!("{path} is removed.");
    Ok(Visit::done("/ui/settings/channels", &Toast::say(text)))
}

/// A message's copy, for a list.
pub struct MessageLine {
    id: String,
    title: String,
    to: String,
    state: &'static str,
    tone: &'static str,
    note: String,
    attempts: u64,
    at: i64,
    next_at: Option<i64>,
    sent_at: Option<i64>,
    is_dead: bool,
}

/// A copy in words.
pub fn message_line(row: &DeliveryRow) -> MessageLine {
    let said = row.body.get("said");
    let title = said.and_then(|said| said.get("title")).and_then(Value::as_str);
    let title = title.map_or_else(
        || match row.topic.as_str() {
            "flags" => "A flag was changed".to_owned(),
            "runs" => "News of a run".to_owned(),
            other => words::title(other),
        },
        str::to_owned,
    );
    let (state, tone) = match row.state {
        DeliveryState::Sent => ("taken", "good"),
        DeliveryState::Dead => ("given up", "bad"),
        DeliveryState::Waiting if row.error.is_some() => ("trying again", "warn"),
        DeliveryState::Waiting => ("on its way", "live-pill"),
    };
    MessageLine {
        id: row.id.clone(),
        title,
        to: row.address.clone().unwrap_or_else(|| row.channel.clone()),
        state,
        tone,
        note: row.error.clone().unwrap_or_default(),
        attempts: row.attempts,
        at: row.at,
        next_at: (row.state == DeliveryState::Waiting && row.error.is_some())
            .then_some(row.next_at),
        sent_at: row.sent_at,
        is_dead: row.state == DeliveryState::Dead,
    }
}

#[derive(Template)]
#[template(path = "pages/messages.html")]
struct MessagesPage {
    frame: Frame,
    sentence: Words,
    messages: Vec<MessageLine>,
    state: String,
    channel: Option<String>,
    incident: Option<String>,
    run: Option<String>,
    next: Option<String>,
}

impl MessagesPage {
    fn states(&self) -> [(&'static str, &'static str); 4] {
        [("", "All"), ("waiting", "On their way"), ("sent", "Taken"), ("dead", "Given up")]
    }

    /// The address of the same list with another state.
    fn with_state(&self, state: &str) -> String {
        self.address(&[("state", Some(state.to_owned()))])
    }

    fn older(&self) -> Option<String> {
        let next = self.next.as_ref()?;
        Some(self.address(&[("state", Some(self.state.clone())), ("before", Some(next.clone()))]))
    }

    fn address(&self, more: &[(&str, Option<String>)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let own = [
            ("channel", self.channel.clone()),
            ("incident", self.incident.clone()),
            ("run", self.run.clone()),
        ];
        for (name, value) in own.iter().chain(more) {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                query.append_pair(name, value);
            }
        }
        format!("/ui/settings/messages?{}", query.finish())
    }
}

/// `GET /ui/settings/messages?state=&channel=&incident=&run=&before=`.
pub async fn messages(visit: Visit, query: Fields) -> Answer {
    let frame = visit.frame_anywhere("settings", "Messages").await?;
    let state = serde_json::from_value(json!(query.text("state"))).ok();
    let filter = DeliveryFilter {
        state,
        incident: query.some("incident"),
        run: query.some("run"),
        channel: query.some("channel"),
        before: query.some("before"),
    };
    let rows = visit.list_deliveries(&visit.who, &filter, MESSAGES_SHOWN).await?;
    let counts = visit.count_deliveries(&visit.who).await?;
    let sum = |state| -> u64 {
        counts.iter().filter(|one| one.state == state).map(|one| one.count).sum()
    };
    let (waiting, dead) = (sum(DeliveryState::Waiting), sum(DeliveryState::Dead));
    let sentence = match (waiting, dead) {
        (0, 0) => Words::say("Every message was taken."),
        (waiting, 0) => Words::default()
            .strong(&words::count(waiting, "message"))
            .and(" on the way; none was given up."),
        (waiting, dead) => Words::default()
            .strong(&format!("{} given up", words::count(dead, "message")))
            .and(&format!("; {waiting} on the way. Mend the cause, then send them again.")),
    };
    let is_full = rows.len() as i64 == MESSAGES_SHOWN;
    let page = MessagesPage {
        frame,
        sentence,
        next: rows.last().filter(|_| is_full).map(|row| row.id.clone()),
        messages: rows.iter().map(message_line).collect(),
        state: query.text("state").to_owned(),
        channel: filter.channel,
        incident: filter.incident,
        run: filter.run,
    };
    ok(&page)
}

/// `POST /ui/settings/messages/{message}/resend`.
pub async fn resend(visit: Visit, path: Path<String>) -> Answer {
    visit.resend_delivery(&visit.who, &path).await?;
    Ok(Visit::done("/ui/settings/messages?state=dead", &Toast::say("It is on its way again.")))
}
