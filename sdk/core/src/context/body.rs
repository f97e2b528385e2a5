//! A context as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, Property};
use crate::model::Millis;

/// A context as JSON: from the API, the tester page, or a browser's `hello`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

impl ContextBody {
    /// The context that this describes, at a time and with a random number.
    pub fn to_context(&self, now_ms: Millis, draw: u32) -> Context<'_> {
        Context::from(self).now_ms(now_ms).draw(draw)
    }
}

/// Without a time and a draw; see [`ContextBody::to_context`]. Properties that are neither text,
/// number, boolean nor a list of those are left out.
impl<'a> From<&'a ContextBody> for Context<'a> {
    fn from(body: &'a ContextBody) -> Self {
        let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
        let mut context = Context::new()
            .user_id(text(&body.user_id))
            .session_id(text(&body.session_id))
            .groups(body.groups.iter().map(String::as_str))
            .platform(text(&body.platform))
            .app_version(text(&body.app_version))
            .country(text(&body.country))
            .remote_address(text(&body.remote_address))
            .app_name(text(&body.app_name));
        for (name, value) in &body.properties {
            if let Some(property) = property(value) {
                context = context.property(name.as_str(), property);
            }
        }
        context
    }
}

fn property(value: &Value) -> Option<Property<'_>> {
    match value {
        Value::String(text) => Some(Property::from(text.as_str())),
        Value::Bool(value) => Some(Property::Bool(*value)),
        Value::Number(_) => {
            Some(Property::Number { value: value.as_f64()?, text: element(value)?.into() })
        }
        Value::Array(list) => Some(Property::List(list.iter().filter_map(element).collect())),
        Value::Null | Value::Object(_) => None,
    }
}

fn element(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        // Whole numbers keep all their digits; 1.0 is written `1`, as JavaScript does.
        Value::Number(number) if number.is_f64() => Some(Cow::Owned(number.as_f64()?.to_string())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
