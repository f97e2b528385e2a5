//! A context as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, Property};
use crate::model::Millis;

/// A context as JSON: from the API, the tester page, or a browser's `hello`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
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

/// A copy to keep: without the time, the draw and the environment.
impl From<&Context<'_>> for ContextBody {
    fn from(context: &Context<'_>) -> Self {
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        let properties = context.properties.iter();
        Self {
            user_id: text(&context.user_id),
            session_id: text(&context.session_id),
            groups: context.groups.iter().map(ToString::to_string).collect(),
            platform: text(&context.platform),
            app_version: context.app_version.as_ref().map(|version| version.text().to_owned()),
            country: text(&context.country),
            remote_address: context.remote_address.as_ref().map(|own| own.text.to_string()),
            app_name: text(&context.app_name),
            properties: properties.map(|(name, value)| (name.to_string(), json(value))).collect(),
        }
    }
}

fn json(property: &Property<'_>) -> Value {
    match property {
        Property::Text(text) => Value::from(text.as_ref()),
        Property::Bool(value) => Value::Bool(*value),
        Property::Number { value, text } => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::from(*value))
        }
        Property::List(list) => list.iter().map(|text| Value::from(text.as_ref())).collect(),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_context_that_was_kept_is_the_same_again() {
        let body: ContextBody = serde_json::from_value(json!({
            "user_id": "u1", "groups": ["beta", "staff"], "app_version": "3.2", "remote_address": "10.0.0.7",
            "properties": {"plan": "gold", "age": 41, "share": 0.5, "paid": true, "tags": ["a", "b"]},
        }))
        .unwrap();

        assert_eq!(ContextBody::from(&Context::from(&body)), body);
    }
}
