//! What the caller knows about whom it asks for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A context as JSON: from the API, the tester page, or a browser's `hello`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContextBody {
    /// The user.
    pub user_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// The groups that the user is a member of.
    pub groups: Vec<String>,
    /// `ios`, `android`, `web`, `server`, or the app's own word.
    pub platform: Option<String>,
    /// The app's version.
    pub app_version: Option<String>,
    /// ISO 3166 code.
    pub country: Option<String>,
    /// IPv4 or IPv6.
    pub remote_address: Option<String>,
    /// The app's name.
    pub app_name: Option<String>,
    /// Anything else: texts, numbers, booleans and lists of texts.
    pub properties: BTreeMap<String, Value>,
}
