//! Channels: where the team hears of things, and what each of them hears.

use serde::{Deserialize, Serialize};
use serde_json::json;
use switchback_core::model::Millis;
use switchback_store::{
    ChannelRow, DeliveryCount, DeliveryFilter, DeliveryRow, NewMessage, Recipients, Role,
    StoreError,
};

use super::App;
use super::environments::check_key;
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::notify::{Message, Severity, Target, Topic, email};

/// Channels at most.
const CHANNELS_MAX: usize = 100;
/// Mailboxes of one channel at most.
const MAILBOXES_MAX: usize = 20;
/// The event of a message that tries a channel.
pub(super) const TEST: &str = "test";
/// The key that stands for all subscribers.
const RESERVED: &str = "subscribers";

/// What is kept of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelSettings {
    /// What people call it.
    pub name: String,
    /// What it speaks, and where it is.
    pub to: Target,
    /// What it hears of: `incidents`, `team`, `runs`, `flags`, `alerts`.
    #[serde(default = "topics_default")]
    pub topics: Vec<Topic>,
    /// Messages a minute that one node sends it; absent: what its kind takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
}

fn topics_default() -> Vec<Topic> {
    vec![Topic::Incidents, Topic::Team]
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Channel {
    /// Its permanent name.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// What it speaks, and where it is.
    pub to: Target,
    /// What it hears of.
    pub topics: Vec<Topic>,
    /// Messages a minute; absent: what its kind takes.
    pub per_minute: Option<u32>,
    /// Why nothing is sent to it, when that is so.
    pub disabled_why: Option<String>,
    /// When it was changed last, in UTC milliseconds.
    pub updated_at: Millis,
}

impl Channel {
    fn read(row: ChannelRow) -> Result<Self, StoreError> {
        let settings: ChannelSettings = serde_json::from_value(row.settings)
            .map_err(|error| StoreError::Corrupt { column: "settings", source: Box::new(error) })?;
        let ChannelSettings { name, to, topics, per_minute } = settings;
        let ChannelRow { key, disabled_why, updated_at, .. } = row;
        Ok(Self { key, name, to, topics, per_minute, disabled_why, updated_at })
    }
}

impl ChannelSettings {
    fn check(&self) -> Result<(), AppError> {
        let length = self.name.trim().chars().count();
        if length == 0 || length > 100 {
            return Err(AppError::invalid("name", "a name has 1 to 100 characters".to_owned()));
        }
        if self.topics.contains(&Topic::Notes) {
            let message = "`notes` are for channels that are named; choose among incidents, team, runs, flags and alerts";
            return Err(AppError::invalid("topics", message.to_owned()));
        }
        if self.per_minute.is_some_and(|n| n == 0 || n > 100_000) {
            let message = "1 to 100,000 messages a minute; leave it out for what the kind takes";
            return Err(AppError::invalid("per_minute", message.to_owned()));
        }
        if self.to.is_page() && self.topics != [Topic::Incidents] {
            let message = "a status page elsewhere hears of `incidents`, and of nothing else";
            return Err(AppError::invalid("topics", message));
        }
        let bad_url = |field: &str, text: &str| match url::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
            _ => Err(AppError::invalid(
                field,
                "an address begins with https:// or http://".to_owned(),
            )),
        };
        match &self.to {
            Target::Webhook { url, .. } => bad_url("to.url", url),
            Target::Pagerduty { base_url, .. } | Target::Cachet { base_url, .. } => {
                bad_url("to.base_url", base_url)
            }
            Target::Statuspage { base_url, page, .. } | Target::Instatus { base_url, page, .. } => {
                if page.is_empty()
                    || !page.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
                {
                    return Err(AppError::invalid("to.page", "the page's id is expected"));
                }
                bad_url("to.base_url", base_url)
            }
            Target::Email { to } => {
                if to.is_empty() || to.len() > MAILBOXES_MAX {
                    let message = format!("1 to {MAILBOXES_MAX} addresses");
                    return Err(AppError::invalid("to.to", message));
                }
                for address in to {
                    email::address_of(address).map_err(|why| AppError::invalid("to.to", why))?;
                }
                Ok(())
            }
            Target::Slack { .. } | Target::Discord { .. } | Target::Teams { .. } => Ok(()),
        }
    }
}

impl App {
    /// Every channel, by key.
    pub async fn list_channels(&self, who: &Who) -> Result<Vec<Channel>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at channels")?;
        let rows = self.store.list_channels().await?;
        Ok(rows.into_iter().map(Channel::read).collect::<Result<_, _>>()?)
    }

    pub(super) async fn find_channel(&self, key: &str) -> Result<Option<Channel>, StoreError> {
        self.store.find_channel(key).await?.map(Channel::read).transpose()
    }

    /// One channel.
    pub async fn get_channel(&self, who: &Who, key: &str) -> Result<Channel, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at channels")?;
        let found = self.find_channel(key).await?;
        found.ok_or_else(|| AppError::NotFound { kind: "channel", key: key.to_owned() })
    }

    /// Makes a channel, or replaces its settings; one that was switched off for a fault is on again.
    pub async fn put_channel(
        &self,
        who: &Who,
        key: &str,
        settings: &ChannelSettings,
    ) -> Result<Channel, AppError> {
        who.must(Role::Admin, EVERYWHERE, "set up channels")?;
        check_key("key", key)?;
        if key == RESERVED || key.contains(',') {
            let message = format!("`{key}` stands for something else; choose another key");
            return Err(AppError::invalid("key", message));
        }
        settings.check()?;
        let known = self.store.list_channels().await?;
        if known.len() >= CHANNELS_MAX && !known.iter().any(|row| row.key == key) {
            return Err(AppError::Refused(format!(
                "there are {CHANNELS_MAX} channels, which is the most"
            )));
        }
        let kept = serde_json::to_value(settings).map_err(|e| AppError::Internal(Box::new(e)))?;
        let topics: Vec<String> =
            settings.topics.iter().map(|topic| topic.word().to_owned()).collect();
        let (kind, by) = (settings.to.kind(), self.stamp(who, ""));
        let row = self.store.put_channel(key, kind, &kept, &topics, &by).await?;
        Ok(Channel::read(row)?)
    }

    /// Removes a channel; what waits for it is given up.
    pub async fn delete_channel(&self, who: &Who, key: &str) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "remove channels")?;
        Ok(self.store.delete_channel(key, &self.stamp(who, "")).await?)
    }

    /// Sends a channel a message that says it is a test; a status page elsewhere is only read. Returns the delivery's id, by which its fate can be followed.
    pub async fn test_channel(&self, who: &Who, key: &str) -> Result<String, AppError> {
        who.must(Role::Operator, EVERYWHERE, "test channels")?;
        let channel = self.get_channel(who, key).await?;
        let message = Message {
            event: TEST.to_owned(),
            title: "A test from Switchback".to_owned(),
            text: format!(
                "{} asked for this. Messages for \"{}\" arrive here.",
                who.name, channel.name
            ),
            severity: Severity::Info,
            team_links: vec![("Open the console".to_owned(), self.public_url.clone())],
            at: self.clock.now(),
            ..Message::default()
        };
        let id = self.ids.next("msg");
        let new = NewMessage {
            id: id.clone(),
            topic: Topic::Notes.word().to_owned(),
            body: json!({"said": message}),
            incident_id: None,
            run_id: None,
            dedupe_key: None,
            to: Recipients::Channel(key.to_owned()),
        };
        self.store.send_message(&new, &self.stamp(who, "")).await?;
        self.outbox.wake();
        Ok(format!("{id}.{key}"))
    }

    /// Copies of messages, newest first: what was sent to whom, and what was not.
    pub async fn list_deliveries(
        &self,
        who: &Who,
        filter: &DeliveryFilter,
        limit: i64,
    ) -> Result<Vec<DeliveryRow>, AppError> {
        who.must(Role::Operator, EVERYWHERE, "look at messages")?;
        Ok(self.store.list_deliveries(filter, limit).await?)
    }

    /// How many copies stand where, by channel.
    pub async fn count_deliveries(&self, who: &Who) -> Result<Vec<DeliveryCount>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at messages")?;
        Ok(self.store.count_deliveries().await?)
    }

    /// The same for what an incident or a run said.
    pub async fn count_deliveries_of(
        &self,
        who: &Who,
        incident: Option<&str>,
        run: Option<&str>,
    ) -> Result<Vec<DeliveryCount>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at messages")?;
        Ok(self.store.count_deliveries_of(incident, run).await?)
    }

    /// Sends a copy again that was given up.
    pub async fn resend_delivery(&self, who: &Who, id: &str) -> Result<(), AppError> {
        who.must(Role::Operator, EVERYWHERE, "send messages again")?;
        self.store.resend_delivery(id, &self.stamp(who, "")).await?;
        self.outbox.wake();
        Ok(())
    }
}
