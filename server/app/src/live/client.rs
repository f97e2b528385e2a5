//! One connected client: who it is, and the newest revision that it proved to have.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use switchback_core::model::{Millis, Revision};
use switchback_core::wire::Hello;
use tokio::sync::Notify;

/// Texts that clients send about themselves are cut here, in characters.
const TEXT_MAX: usize = 100;

/// How a client is told of changes, and what proves that it has them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Our stream; the client acknowledges what it applied.
    #[default]
    Native,
    /// Unleash's server SDKs, asking again and again. What they were answered counts as theirs.
    UnleashPolling,
    /// Unleash's server SDKs on a stream. What their connection took counts as theirs.
    UnleashStreaming,
    /// Unleash's browser SDKs, asking again and again; evaluated here.
    UnleashFrontend,
    /// OpenFeature's browser providers: told to ask again, evaluated here.
    Ofrep,
    /// A flagd that asks again and again, for whoever asks it.
    Flagd,
}

impl Protocol {
    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Native => "Switchback",
            Self::UnleashPolling => "Unleash, polling",
            Self::UnleashStreaming => "Unleash, streaming",
            Self::UnleashFrontend => "Unleash, front end",
            Self::Ofrep => "OpenFeature (OFREP)",
            Self::Flagd => "flagd",
        }
    }
}

/// A connected client. Sessions write it, convergence reads it; nothing here locks.
#[derive(Debug)]
pub struct Client {
    /// Its number on this node.
    pub id: u64,
    /// The token that it came with.
    pub token_id: String,
    /// `server` or `browser`.
    pub kind: &'static str,
    /// The app's name.
    pub app: String,
    /// The app's version.
    pub app_version: String,
    /// The SDK and its version.
    pub sdk: String,
    /// One process or device.
    pub instance: String,
    /// Its platform.
    pub platform: String,
    /// How it is told of changes.
    pub protocol: Protocol,
    /// How often it asks, in milliseconds; 0: it is told at once.
    pub interval_ms: u64,
    /// Since when.
    pub connected_at: Millis,
    acked: AtomicU64,
    ack_delay_ms: AtomicI64,
    last_seen_at: AtomicI64,
    evaluations: AtomicU64,
    closing: AtomicBool,
    close: Notify,
}

impl Client {
    /// A client that has just said hello.
    pub fn new(id: u64, token_id: String, kind: &'static str, hello: &Hello, now: Millis) -> Self {
        Self {
            id,
            token_id,
            kind,
            app: cut(&hello.app),
            app_version: cut(hello.app_version.as_deref().unwrap_or_default()),
            sdk: cut(&hello.sdk),
            instance: cut(&hello.instance),
            platform: cut(hello.platform.as_deref().unwrap_or_default()),
            protocol: Protocol::Native,
            interval_ms: 0,
            connected_at: now,
            acked: AtomicU64::new(0),
            ack_delay_ms: AtomicI64::new(-1),
            last_seen_at: AtomicI64::new(now),
            evaluations: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            close: Notify::new(),
        }
    }

    /// As one that speaks another protocol than ours.
    #[must_use]
    pub fn speaking(mut self, protocol: Protocol, interval_ms: u64) -> Self {
        self.protocol = protocol;
        self.interval_ms = interval_ms;
        self
    }

    /// The client says that this revision is in force. `delay_ms`: since this node knew of it.
    pub fn on_ack(&self, revision: Revision, delay_ms: i64) {
        if self.acked.fetch_max(revision, Ordering::AcqRel) < revision {
            self.ack_delay_ms.store(delay_ms, Ordering::Release);
        }
    }

    /// The client said anything at all.
    pub fn on_sign_of_life(&self, now: Millis) {
        self.last_seen_at.store(now, Ordering::Relaxed);
    }

    /// The client reported evaluations.
    pub fn on_evaluations(&self, count: u64) {
        self.evaluations.fetch_add(count, Ordering::Relaxed);
    }

    /// The newest revision that it acknowledged; 0 before the first.
    pub fn acked(&self) -> Revision {
        self.acked.load(Ordering::Acquire)
    }

    /// How long the newest acknowledgement took, in milliseconds.
    pub fn ack_delay_ms(&self) -> Option<i64> {
        Some(self.ack_delay_ms.load(Ordering::Acquire)).filter(|delay| *delay >= 0)
    }

    /// When it was last heard.
    pub fn last_seen_at(&self) -> Millis {
        self.last_seen_at.load(Ordering::Relaxed)
    }

    /// Asks its session to end.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.close.notify_one();
    }

    /// Returns when the session shall end.
    pub async fn closed(&self) {
        while !self.closing.load(Ordering::Acquire) {
            self.close.notified().await;
        }
    }

    /// What pages and the API show.
    pub fn view(&self, node: &str) -> ClientView {
        ClientView {
            id: format!("{node}.{}", self.id),
            token_id: self.token_id.clone(),
            kind: self.kind.to_owned(),
            app: self.app.clone(),
            app_version: self.app_version.clone(),
            sdk: self.sdk.clone(),
            instance: self.instance.clone(),
            platform: self.platform.clone(),
            protocol: self.protocol,
            interval_ms: self.interval_ms,
            connected_at: self.connected_at,
            last_seen_at: self.last_seen_at(),
            acked_revision: self.acked(),
            ack_delay_ms: self.ack_delay_ms(),
            evaluations: self.evaluations.load(Ordering::Relaxed),
        }
    }
}

/// A client as others see it.
#[derive(Clone, Debug, Deserialize, Serialize, schemars::JsonSchema)]
pub struct ClientView {
    /// Node and number.
    pub id: String,
    /// The token that it came with.
    #[serde(default)]
    pub token_id: String,
    /// `server` or `browser`.
    pub kind: String,
    /// The app's name.
    pub app: String,
    /// The app's version.
    pub app_version: String,
    /// The SDK and its version.
    pub sdk: String,
    /// One process or device.
    pub instance: String,
    /// Its platform.
    pub platform: String,
    /// How it is told of changes.
    #[serde(default)]
    pub protocol: Protocol,
    /// How often it asks, in milliseconds, and so how stale it can be; 0: it is told at once.
    #[serde(default)]
    pub interval_ms: u64,
    /// Since when, in UTC milliseconds.
    pub connected_at: Millis,
    /// When it was last heard, in UTC milliseconds.
    pub last_seen_at: Millis,
    /// The newest revision that it acknowledged.
    pub acked_revision: Revision,
    /// How long that took, in milliseconds.
    pub ack_delay_ms: Option<i64>,
    /// Evaluations that it reported.
    pub evaluations: u64,
}

/// Reads an acknowledgement as SDKs write it, without a JSON value. One that is written otherwise is
/// none here, and is read as any other frame.
pub fn read_ack(text: &str) -> Option<(&str, Revision)> {
    let rest = text.strip_prefix(r#"{"type":"ack","epoch":""#)?;
    let (epoch, rest) = rest.split_once(r#"","revision":"#)?;
    let revision = rest.strip_suffix('}')?;
    let is_plain = !epoch.contains(['"', '\\']) && revision.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| Some((epoch, revision.parse().ok()?)))?
}

pub(super) fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use switchback_core::wire::ClientFrame;

    use super::*;

    #[test]
    fn an_acknowledgement_is_read_as_the_sdk_writes_it() {
        let ack = ClientFrame::Ack { epoch: "epoch_1".to_owned(), revision: 42 };
        assert_eq!(read_ack(&serde_json::to_string(&ack).unwrap()), Some(("epoch_1", 42)));
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_the_parser() {
        for text in [
            r#"{"type": "ack", "epoch": "e", "revision": 1}"#,
            r#"{"type":"ack","epoch":"a\\u0062","revision":1}"#,
            r#"{"type":"ack","epoch":"e","revision":-1}"#,
            r#"{"type":"ack","epoch":"e","revision":}"#,
            r#"{"type":"ack","epoch":"e","revision":1,"more":2}"#,
            r#"{"type":"ask"}"#,
        ] {
            assert_eq!(read_ack(text), None, "{text}");
        }
    }
}
