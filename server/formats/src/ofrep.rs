//! OFREP (OpenFeature Remote Evaluation Protocol, OpenAPI 0.3.0): contexts in, decisions out.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use switchback_core::model::{Document, FlagEntry, Percent, Stickiness};
use switchback_core::{Context, Evaluation, FlagIndex, Property, Reason, Ruleset};

/// Reads `{"context": {"targetingKey": .., ..}}`; a body without a context has an empty one.
pub fn context_of<'a>(
    body: &'a Value,
    remote_address: Option<&'a str>,
    now_ms: i64,
    draw: u32,
) -> Result<Context<'a>, String> {
    let mut context = Context::new().now_ms(now_ms).draw(draw);
    let fields = match body.get("context") {
        Some(Value::Object(fields)) => fields,
        None | Some(Value::Null) => return Ok(context),
        Some(_) => return Err("`context` is not an object".to_owned()),
    };
    if fields.get("targetingKey").is_some_and(|key| !key.is_string() && !key.is_null()) {
        return Err("`context.targetingKey` is not a text".to_owned());
    }
    for (name, value) in fields {
        let text = || text_of(value).unwrap_or_default();
        context = match name.as_str() {
            "targetingKey" => context.user_id(text()),
            "userId" | "user_id" if !fields.contains_key("targetingKey") => context.user_id(text()),
            "sessionId" | "session_id" => context.session_id(text()),
            "platform" => context.platform(text()),
            "appVersion" | "app_version" => context.app_version(text()),
            "country" => context.country(text()),
            "remoteAddress" | "remote_address" => context.remote_address(text()),
            "appName" | "app_name" => context.app_name(text()),
            "environment" => context.environment(text()),
            "groups" => context.groups(groups_of(value)),
            _ => match property(value) {
                Some(property) => context.property(name.as_str(), property),
                None => context,
            },
        };
    }
    let has_address =
        ["remoteAddress", "remote_address"].iter().any(|name| fields.contains_key(*name));
    if let Some(address) = remote_address.filter(|_| !has_address) {
        context = context.remote_address(address);
    }
    Ok(context)
}

/// A list, or one text parted by commas.
fn groups_of(value: &Value) -> Vec<String> {
    if let Value::Array(list) = value {
        return list.iter().filter_map(text_of).map(Cow::into_owned).collect();
    }
    let text = text_of(value).unwrap_or_default();
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Bool(value) => Some(value.to_string().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn property(value: &Value) -> Option<Property<'_>> {
    match value {
        Value::String(text) => Some(Property::from(text.as_str())),
        Value::Bool(value) => Some(Property::Bool(*value)),
        Value::Number(number) => {
            Some(Property::Number { value: number.as_f64()?, text: number.to_string().into() })
        }
        Value::Array(list) => Some(Property::List(list.iter().filter_map(text_of).collect())),
        Value::Null | Value::Object(_) => None,
    }
}

/// A decision as OFREP tells it, or why there is none.
pub fn answer(
    (document, ruleset): (&Document, &Ruleset),
    flag: FlagIndex,
    key: &str,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let evaluation = ruleset.evaluate_index(flag, context, context.moment());
    let reason = match evaluation.reason {
        Reason::Error => {
            return Err(Failure {
                code: "GENERAL",
                details: "this server cannot understand the flag".to_owned(),
            });
        }
        Reason::UnknownFlag => {
            return Err(Failure {
                code: "FLAG_NOT_FOUND",
                details: format!("there is no flag `{key}`"),
            });
        }
        Reason::NoRule if needs_key(document, key, context) => {
            let details = "a rule of this flag needs `targetingKey`".to_owned();
            return Err(Failure { code: "TARGETING_KEY_MISSING", details });
        }
        Reason::Rule(_) if evaluation.slot.is_some() || is_split(ruleset, flag, &evaluation) => {
            "SPLIT"
        }
        Reason::Default if is_split(ruleset, flag, &evaluation) => "SPLIT",
        Reason::Rule(_) => "TARGETING_MATCH",
        Reason::Default => "STATIC",
        Reason::NoRule => "DEFAULT",
        Reason::Disabled | Reason::Killed | Reason::Prerequisite(_) | Reason::Expired => "DISABLED",
        Reason::Stale => "UNKNOWN",
    };
    let variant = evaluation.variant.unwrap_or(if evaluation.enabled { "on" } else { "off" });
    let mut told = Map::new();
    told.insert("key".to_owned(), json!(key));
    // Without a value the caller takes the default that is in its code.
    if !evaluation.value.is_null() {
        told.insert("value".to_owned(), evaluation.value.clone());
    }
    told.insert("reason".to_owned(), json!(reason));
    told.insert("variant".to_owned(), json!(variant));
    let mut metadata = json!({
        "flagSetId": document.environment,
        "version": document.revision.to_string(),
        "enabled": evaluation.enabled,
        "switchbackReason": evaluation.reason.to_string(),
    });
    if let Some(FlagEntry::Known(flag)) = document.flags.get(key)
        && let (Some(ms), Some(metadata)) = (flag.state.max_staleness_ms, metadata.as_object_mut())
    {
        metadata.insert("maxAgeSec".to_owned(), json!(ms / 1_000));
    }
    told.insert("metadata".to_owned(), metadata);
    Ok(Value::Object(told))
}

/// Why a flag has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The protocol's code.
    pub code: &'static str,
    /// For people.
    pub details: String,
}

/// Whether which variant it is was a matter of the unit.
fn is_split(ruleset: &Ruleset, flag: FlagIndex, evaluation: &Evaluation<'_>) -> bool {
    evaluation.variant.is_some() && ruleset.variant_names(flag).len() > 1
}

/// Nobody was let in, and a rule would have had to look at a unit that the context lacks.
fn needs_key(document: &Document, key: &str, context: &Context<'_>) -> bool {
    let Some(FlagEntry::Known(flag)) = document.flags.get(key) else { return false };
    !context.has_unit()
        && flag.state.rules.iter().any(|rule| {
            rule.stickiness == Stickiness::Default
                && rule.percent > Percent::NONE
                && rule.percent < Percent::ALL
        })
}
