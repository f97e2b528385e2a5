//! Frames of the stream, as JSON texts over a WebSocket at `/api/v1/stream`.
//!
//! The client speaks first with `hello`. A server-token client is then sent a `full` document, or a
//! `delta` from the revision that it names; a browser-token client is sent `values` only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Document, FlagEntry, Millis, Revision, Segment};

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The whole document; replaces everything.
    Full(Document),
    /// What changed between two revisions.
    Delta(Delta),
    /// Evaluated values for a browser token's context; replaces everything.
    Values(Values),
    /// The server is there, and this is the newest revision.
    Heartbeat {
        /// The database's id.
        epoch: String,
        /// The newest revision.
        revision: Revision,
    },
    /// A message for the app's users.
    Notice(Notice),
    /// The server ends this connection; come back after the time given, plus jitter.
    Goodbye {
        /// `shutdown`, `revoked`, `too_many`, `bad_request`.
        reason: String,
        /// Milliseconds to wait at least; `None`: do not come back with this token.
        reconnect_after_ms: Option<u64>,
    },
}

impl ServerFrame {
    /// Reads a frame from JSON; a whole document by [`Document::read`].
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        if text.starts_with(r#"{"type":"full","#)
            && let Ok(document) = Document::read(text)
        {
            return Ok(Self::Full(document));
        }
        serde_json::from_str(text)
    }

    /// Epoch and revision that the frame leads to, or says are the newest.
    pub fn position(&self) -> Option<(&str, Revision)> {
        match self {
            Self::Full(document) => Some((&document.epoch, document.revision)),
            Self::Delta(delta) => Some((&delta.epoch, delta.to)),
            Self::Values(values) => Some((&values.epoch, values.revision)),
            Self::Heartbeat { epoch, revision } => Some((epoch, *revision)),
            Self::Notice(_) | Self::Goodbye { .. } => None,
        }
    }
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "one hello per connection, never kept")]
pub enum ClientFrame {
    /// Who is there and what it has.
    Hello(Hello),
    /// The revision that is now in force in this client.
    Ack {
        /// The database's id.
        epoch: String,
        /// The revision applied.
        revision: Revision,
    },
    /// Asks for a full document, after a gap.
    Ask,
    /// Evaluation counts since the last report.
    Report {
        /// One row per flag and outcome; at most [`REPORT_ROWS_MAX`].
        counts: Vec<Count>,
    },
    /// Auth events, as `POST /api/v1/auth-events` takes them; at most [`EVENTS_MAX`]. From server tokens only.
    Events {
        /// One object for each.
        events: Vec<Value>,
    },
}

/// Events that one `events` frame may hold; a client splits larger batches.
pub const EVENTS_MAX: usize = 100;

/// Rows that one `report` frame may hold; a client splits larger batches.
pub const REPORT_ROWS_MAX: usize = 500;

/// The first frame of a client. All texts are cut at 100 characters by the server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Hello {
    /// The app's name.
    pub app: String,
    /// The app's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    /// The SDK and its version, such as `switchback-rust/0.1.0`.
    #[serde(default)]
    pub sdk: String,
    /// One process or device.
    #[serde(default)]
    pub instance: String,
    /// The platform, such as `server` or `ios`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The epoch of what the client already has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// The revision that the client already has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// For browser tokens: the context that values are evaluated for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<crate::context::ContextBody>,
}

/// What changed between two revisions of one document.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Delta {
    /// The database's id.
    pub epoch: String,
    /// Applies to exactly this revision.
    pub from: Revision,
    /// Leads to this revision.
    pub to: Revision,
    /// Flags that are new or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<FlagEntry>,
    /// Keys of flags that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_flags: Vec<String>,
    /// Segments that are new or changed.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::model::lenient::segment_list"
    )]
    pub segments: Vec<Segment>,
    /// Keys of segments that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_segments: Vec<String>,
}

/// Values of all flags for one context.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Values {
    /// The database's id.
    pub epoch: String,
    /// The environment's revision that they come from.
    pub revision: Revision,
    /// One row per flag.
    pub values: Vec<FlagValue>,
}

/// One decision, as text for those who may not see rules.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FlagValue {
    /// The flag.
    pub key: String,
    /// On or off.
    pub enabled: bool,
    /// The variant, if one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The value.
    pub value: Value,
    /// Why, as [`crate::Reason`] prints it.
    pub reason: String,
}

/// A message for the app's users.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Notice {
    /// Unique; the same text sent again has the same id.
    pub id: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// One line.
    pub title: String,
    /// A few sentences.
    pub message: String,
    /// When it was sent.
    pub at: Millis,
    /// When it stops being of interest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
}

/// How often a flag gave an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Count {
    /// The flag.
    pub flag: String,
    /// On or off.
    pub enabled: bool,
    /// The variant, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Evaluations.
    pub count: u64,
}
