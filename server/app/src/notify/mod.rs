//! How messages are written for each channel, and how each channel is reached. What to say and when is decided elsewhere.

mod discord;
pub mod email;
mod instatus;
pub mod page;
mod pagerduty;
mod post;
mod slack;
mod teams;
pub mod text;
pub mod webhook;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::Millis;
use switchback_playbook::says::Says;
use switchback_source::Credentials;

pub use self::email::Mailer;
pub use self::post::Poster;

/// What a channel hears of.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Incidents that customers see.
    Incidents,
    /// Incidents that only the team sees.
    Team,
    /// Runs that end, fail, or wait for somebody.
    Runs,
    /// Changes of flags.
    Flags,
    /// Alerts, and what guards find and do.
    Alerts,
    /// What a playbook or a person says to the channel by name.
    Notes,
}

impl Topic {
    /// Every topic, with its word and what it is for people.
    pub const ALL: [(Self, &str, &str); 5] = [
        (Self::Incidents, "incidents", "Incidents that customers see"),
        (Self::Team, "team", "Incidents that only the team sees"),
        (Self::Runs, "runs", "Runs that end, fail or wait for somebody"),
        (Self::Flags, "flags", "Every change of a flag"),
        (Self::Alerts, "alerts", "Alerts, and what guards find and do"),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Incidents => "incidents",
            Self::Team => "team",
            Self::Runs => "runs",
            Self::Flags => "flags",
            Self::Alerts => "alerts",
            Self::Notes => "notes",
        }
    }
}

/// What a channel speaks, and where it is. Secrets are named, never given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A Slack incoming webhook.
    Slack {
        /// Where its secret URL is: `env:NAME` or `file:/path`.
        url: Credentials,
    },
    /// A Discord webhook.
    Discord {
        /// Where its secret URL is: `env:NAME` or `file:/path`.
        url: Credentials,
    },
    /// A webhook of Microsoft Teams's Workflows.
    Teams {
        /// Where its secret URL is: `env:NAME` or `file:/path`.
        url: Credentials,
    },
    /// PagerDuty's Events API v2.
    Pagerduty {
        /// Where the integration key is: `env:NAME` or `file:/path`.
        routing_key: Credentials,
        /// The base of its address.
        #[serde(default = "pagerduty_base")]
        base_url: String,
    },
    /// A signed call, as Standard Webhooks has it.
    Webhook {
        /// Where to.
        url: String,
        /// Where the secret is that signs, `whsec_...`: `env:NAME` or `file:/path`.
        secret: Credentials,
        /// The secret before, which signs as well while it is being replaced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old_secret: Option<Credentials>,
        /// How the body looks.
        #[serde(default)]
        format: Format,
    },
    /// A status page at Statuspage, or at what speaks like it: incidents that customers see are opened and moved there.
    Statuspage {
        /// The page's id there.
        page: String,
        /// Where its API key is: `env:NAME` or `file:/path`.
        api_key: Credentials,
        /// The base of its address.
        #[serde(default = "statuspage_base")]
        base_url: String,
        /// Our components' ids there; those without one are left out.
        #[serde(default)]
        components: BTreeMap<String, String>,
    },
    /// A status page of Cachet 3.
    Cachet {
        /// The base of its address.
        base_url: String,
        /// Where its token is: `env:NAME` or `file:/path`.
        token: Credentials,
        /// Our components' ids there; those without one are left out.
        #[serde(default)]
        components: BTreeMap<String, String>,
    },
    /// A status page at Instatus.
    Instatus {
        /// The page's id there.
        page: String,
        /// Where its API key is: `env:NAME` or `file:/path`.
        api_key: Credentials,
        /// The base of its address.
        #[serde(default = "instatus_base")]
        base_url: String,
        /// Our components' ids there; those without one are left out.
        #[serde(default)]
        components: BTreeMap<String, String>,
    },
    /// Mailboxes of the team.
    Email {
        /// 1 to 20 addresses.
        to: Vec<String>,
    },
}

/// How a webhook's body looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `{type, timestamp, data}`.
    #[default]
    Standard,
    /// A CloudEvent, structured.
    Cloudevents,
}

fn pagerduty_base() -> String {
    pagerduty::BASE.to_owned()
}

fn statuspage_base() -> String {
    "https://api.statuspage.io".to_owned()
}

fn instatus_base() -> String {
    "https://api.instatus.com".to_owned()
}

impl Target {
    /// Whether it is a status page elsewhere.
    pub fn is_page(&self) -> bool {
        matches!(self, Self::Statuspage { .. } | Self::Cachet { .. } | Self::Instatus { .. })
    }

    /// The page elsewhere that it is, with its key; nothing when it is none.
    ///
    /// # Errors
    /// The key cannot be read.
    pub async fn page(&self) -> Result<Option<page::Page<'_>>, Refusal> {
        Ok(match self {
            Self::Statuspage { page, api_key, base_url, components } => {
                let key = secret(api_key).await?;
                Some(page::Page::Statuspage { base: base_url, page, key, components })
            }
            Self::Cachet { base_url, token, components } => {
                let key = secret(token).await?;
                Some(page::Page::Cachet { base: base_url, key, components })
            }
            Self::Instatus { page, api_key, base_url, components } => {
                let key = secret(api_key).await?;
                Some(page::Page::Instatus { base: base_url, page, key, components })
            }
            _ => None,
        })
    }

    /// Its word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Slack { .. } => "slack",
            Self::Discord { .. } => "discord",
            Self::Teams { .. } => "teams",
            Self::Pagerduty { .. } => "pagerduty",
            Self::Webhook { .. } => "webhook",
            Self::Email { .. } => "email",
            Self::Statuspage { .. } => "statuspage",
            Self::Cachet { .. } => "cachet",
            Self::Instatus { .. } => "instatus",
        }
    }

    /// Messages a minute, unless the channel says otherwise: what the other side takes.
    pub fn per_minute_default(&self) -> u32 {
        match self {
            Self::Slack { .. }
            | Self::Teams { .. }
            | Self::Statuspage { .. }
            | Self::Instatus { .. } => 60,
            Self::Discord { .. } => 30,
            Self::Pagerduty { .. } => 120,
            Self::Webhook { .. } | Self::Email { .. } | Self::Cachet { .. } => 600,
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know, or good news.
    #[default]
    Info,
    /// Look at it.
    Warning,
    /// Look at it now.
    Critical,
}

/// A message before it is written for a channel.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Message {
    /// What happened, such as `incident.opened`.
    pub event: String,
    /// One line.
    pub title: String,
    /// Plain text.
    pub text: String,
    /// How bad it is.
    pub severity: Severity,
    /// Short facts: name and value.
    pub facts: Vec<(String, String)>,
    /// Where to look: label and URL.
    pub links: Vec<(String, String)>,
    /// The same for the team alone.
    pub team_links: Vec<(String, String)>,
    /// Texts of their own for some channels.
    pub says: Says,
    /// What it belongs to, such as an incident's id: later messages are put below the first.
    pub thread: Option<String>,
    /// The thread is over with it.
    pub is_over: bool,
    /// Somebody takes care of the thread.
    pub is_acknowledged: bool,
    /// For programs.
    pub data: Value,
    /// When it happened, in UTC milliseconds.
    pub at: Millis,
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It never will be.
    Never(String),
    /// The address is no longer there: nothing should be sent to it any more.
    Gone(String),
    /// Perhaps later; the other side may have said in how many milliseconds.
    Later(String, Option<i64>),
    /// Nothing was tried; in how many milliseconds it may be.
    NotNow(i64),
}

/// A delivery's names for itself.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'s> {
    /// The same at every attempt.
    pub id: &'s str,
    /// When this attempt is made, in UTC milliseconds.
    pub now: Millis,
    /// How people reach this server.
    pub public_url: &'s str,
}

/// Writes a message for a channel that is reached by HTTP, and sends it.
///
/// # Errors
/// Why it was not taken; no error holds a secret.
pub async fn send(
    poster: &Poster,
    to: &Target,
    message: &Message,
    stamp: Stamp<'_>,
) -> Result<(), Refusal> {
    match to {
        Target::Slack { url } => {
            let url = secret(url).await?;
            let answer = poster.post_json(&url, &slack::body(message)).await?;
            slack::judge(&answer)
        }
        Target::Discord { url } => {
            let url = discord::with_wait(&secret(url).await?)?;
            poster.post_json(&url, &discord::body(message)).await?.judge()
        }
        Target::Teams { url } => {
            let url = secret(url).await?;
            poster.post_json(&url, &teams::body(message)).await?.judge()
        }
        Target::Pagerduty { routing_key, base_url } => {
            let key = secret(routing_key).await?;
            let (path, body) = pagerduty::event(message, &key, stamp.public_url);
            let url = format!("{}{path}", base_url.trim_end_matches('/'));
            poster.post_json(&url, &body).await?.judge()
        }
        Target::Webhook { url, secret: new, old_secret, format } => {
            let mut keys = vec![webhook::key_of(&secret(new).await?)?];
            if let Some(old) = old_secret {
                keys.push(webhook::key_of(&secret(old).await?)?);
            }
            let (kind, body) = webhook::body(message, *format, stamp);
            let headers = webhook::headers(&keys, stamp, &body);
            poster.post(url, kind, headers, body).await?.judge()
        }
        Target::Email { .. } => {
            Err(Refusal::Never("a letter goes by the mail server, not by HTTP".to_owned()))
        }
        Target::Statuspage { .. } | Target::Cachet { .. } | Target::Instatus { .. } => {
            Err(Refusal::Never("a status page takes incidents, and this is none".to_owned()))
        }
    }
}

/// What is said when mail is to be sent and none is set up.
pub fn no_mail() -> Refusal {
    Refusal::Later("no mail server is set up: set `mail.url` and `mail.from`".to_owned(), None)
}

async fn secret(place: &Credentials) -> Result<String, Refusal> {
    place.read().await.map_err(|error| Refusal::Later(error.to_string(), None))
}

/// How long to wait after so many attempts, in milliseconds before jitter; `None`: no more.
///
/// The steps of Standard Webhooks, over three days for other people's systems; a message to the team is stale after a day.
pub fn wait_after(attempts: u64, is_webhook: bool) -> Option<i64> {
    const S: i64 = 1_000;
    const M: i64 = 60 * S;
    const H: i64 = 60 * M;
    let steps: &[i64] = if is_webhook {
        &[5 * S, 5 * M, 30 * M, 2 * H, 5 * H, 10 * H, 14 * H, 20 * H, 24 * H]
    } else {
        &[5 * S, 20 * S, M, 5 * M, 15 * M, H, 3 * H, 6 * H, 12 * H]
    };
    steps.get(usize::try_from(attempts).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        for is_webhook in [true, false] {
            let waits: Vec<i64> = (1..).map_while(|n| wait_after(n, is_webhook)).collect();

            assert!(waits.is_sorted(), "{waits:?}");
            assert_eq!(waits.len(), 9);
            assert_eq!(wait_after(10, is_webhook), None);
            assert_eq!(wait_after(0, is_webhook), None);
        }
    }

    #[test]
    fn a_secret_that_is_given_instead_of_named_is_refused_and_not_repeated() {
        let given = r#"{"kind": "slack", "url": "https://hooks.slack.com/services/T0/B0/secret"}"#;

        let error = serde_json::from_str::<Target>(given).unwrap_err().to_string();

        assert!(error.contains("env:NAME") && !error.contains("secret"), "{error}");
    }
}
