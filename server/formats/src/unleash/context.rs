//! Unleash's context as ours.

use jiff::Timestamp;
use serde_json::{Map, Value};
use switchback_core::context::Moment;
use switchback_core::{Context, Property};

/// What the server adds to a context that came over the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// The peer's address, for contexts without one.
    pub remote_address: Option<&'a str>,
    /// Now, for contexts without a time.
    pub now_ms: i64,
    /// A random number, for the stickiness `random`.
    pub draw: u32,
    /// Whether the properties `platform`, `appVersion`, `country` and `groups` also fill our fields of that name.
    pub fills: bool,
}

/// Reads `{"userId": .., "properties": {..}}`. Values that are not text are written as text, lists as the texts parted
/// by commas are only read for `groups`. Fields that Unleash does not know count as properties.
pub fn context_of<'a>(body: &'a Map<String, Value>, peer: Peer<'a>) -> Context<'a> {
    let mut context = Context::new();
    let mut moment = Moment { now_ms: Some(peer.now_ms), draw: peer.draw, stale_for_ms: 0 };
    let mut has_address = false;
    for (name, value) in body {
        let text = || text_of(value).unwrap_or_default();
        context = match name.as_str() {
            "userId" => context.user_id(text()),
            "sessionId" => context.session_id(text()),
            "appName" => context.app_name(text()),
            "environment" => context.environment(text()),
            "remoteAddress" => {
                has_address |= !text().is_empty();
                context.remote_address(text())
            }
            "currentTime" => {
                moment.now_ms = time_of(value).or(moment.now_ms);
                context
            }
            "properties" => match value {
                Value::Object(properties) => properties
                    .iter()
                    .fold(context, |context, (name, value)| property(context, name, value, peer)),
                _ => context,
            },
            other => property(context, other, value, peer),
        };
    }
    if let Some(address) = peer.remote_address.filter(|_| !has_address) {
        context = context.remote_address(address);
    }
    if let Some(now_ms) = moment.now_ms {
        context = context.now_ms(now_ms);
    }
    context.draw(moment.draw)
}

fn property<'a>(
    mut context: Context<'a>,
    name: &'a str,
    value: &'a Value,
    peer: Peer<'_>,
) -> Context<'a> {
    if let Value::Array(list) = value {
        let texts: Vec<_> = list.iter().filter_map(text_of).collect();
        return match name {
            "groups" if peer.fills => context.groups(texts),
            _ => context.property(name, Property::List(texts)),
        };
    }
    let Some(text) = text_of(value) else { return context };
    if peer.fills {
        context = match name {
            "platform" => context.platform(text.clone()),
            "appVersion" | "app_version" => context.app_version(text.clone()),
            "country" => context.country(text.clone()),
            "groups" => {
                let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                context.groups(names.map(str::to_owned))
            }
            _ => context,
        };
    }
    context.property(name, Property::Text(text))
}

fn text_of(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Bool(value) => Some(value.to_string().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// RFC 3339, or UTC milliseconds.
fn time_of(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.trim().parse::<Timestamp>().ok().map(Timestamp::as_millisecond),
        value => value.as_i64(),
    }
}
