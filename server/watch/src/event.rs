//! An auth event: one thing that happened to one user's login, as apps and importers report it.
//!
//! [`read`] takes one element of a batch and says exactly what is wrong with it, so that a sender can mend that one
//! and the rest is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
pub use switchback_core::AuthEventKind as EventKind;
use switchback_core::model::Millis;

/// Events in one batch at most.
pub const BATCH_MAX: usize = 5_000;
/// How far ahead of our clock an event may lie, in milliseconds.
pub const AHEAD_MS_MAX: Millis = 60_000;
/// How old an event may be when it arrives, in milliseconds.
pub const AGE_MS_MAX: Millis = 86_400_000;
/// The longest id of an event, a session or a user, in bytes.
pub const ID_BYTES_MAX: usize = 200;
/// The longest word (platform, version, error ...), in characters; longer ones are cut.
pub const WORD_CHARS_MAX: usize = 100;
/// The longest duration that is believed, in milliseconds.
pub const LATENCY_MS_MAX: f64 = 3_600_000.0;
/// Flags of which one event may name the variant.
pub const VARIANTS_MAX: usize = 50;

/// An event that may be kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Event {
    /// The sender's id; one id is one event, however often it is sent.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// The user as the app knows them; hashed before it is kept.
    #[serde(default)]
    pub user: Option<String>,
    /// The app's session.
    #[serde(default)]
    pub session: Option<String>,
    /// Such as `ios`.
    #[serde(default)]
    pub platform: Option<String>,
    /// The app's version.
    #[serde(default)]
    pub app_version: Option<String>,
    /// Two letters of a country, or what the app has.
    #[serde(default)]
    pub country: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub latency_ms: Option<u32>,
    /// What kind of error it was, such as `invalid_password`.
    #[serde(default)]
    pub error: Option<String>,
    /// The variant of each flag that the user had, as the app evaluated them; filled in by the server where absent.
    #[serde(default)]
    pub variants: BTreeMap<String, String>,
    /// The groups that the user is a member of.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What else rules may look at.
    #[serde(default)]
    pub properties: BTreeMap<String, Value>,
}

/// Why one event of a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A stable word: `invalid`, `in_future`, `too_old`.
    pub code: &'static str,
    /// What is wrong, where, and what is allowed.
    pub detail: String,
}

/// Reads one element of a batch that arrived at `now`.
pub fn read(index: usize, value: &Value, now: Millis) -> Result<Event, Refused> {
    let Some(object) = value.as_object() else {
        return Err(Refused {
            index,
            id: None,
            code: "invalid",
            detail: format!("an event is an object, not {}", noun(value)),
        });
    };
    let id = object.get("id").and_then(Value::as_str).map(|id| cut(id, WORD_CHARS_MAX));
    let refused = |(code, detail)| Refused { index, id: id.clone(), code, detail };
    fields(object, now).map_err(refused)
}

type Fault = (&'static str, String);

const KEYS: &[&str] = &[
    "id",
    "type",
    "at",
    "user_id",
    "session_id",
    "platform",
    "app_version",
    "country",
    "latency_ms",
    "error",
    "variants",
    "groups",
    "groups",
    "properties",
];

fn fields(object: &Map<String, Value>, now: Millis) -> Result<Event, Fault> {
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let key = cut(key, WORD_CHARS_MAX);
        return Err(invalid(format!(
            "`{key}` is not a field of an event; there are {}",
            KEYS.join(", ")
        )));
    }
    let id = ident(object, "id")?.ok_or_else(|| invalid("`id` is missing: one id is one event"))?;
    let word = object.get("type").and_then(Value::as_str);
    let word = word.ok_or_else(|| invalid("`type` is missing, such as `login_failure`"))?;
    let kind = EventKind::of(word).ok_or_else(|| {
        let all: Vec<_> = EventKind::ALL.iter().map(|kind| kind.word()).collect();
        invalid(format!("`type` is `{}`; there are {}", cut(word, WORD_CHARS_MAX), all.join(", ")))
    })?;
    Ok(Event {
        id,
        kind,
        at: moment(object, now)?,
        user: ident(object, "user_id")?,
        session: ident(object, "session_id")?,
        platform: short(object, "platform")?,
        app_version: short(object, "app_version")?,
        country: short(object, "country")?,
        latency_ms: latency(object)?,
        error: short(object, "error")?,
        variants: variants(object)?,
        groups: groups(object)?,
        properties: properties(object)?,
    })
}

fn invalid(detail: impl Into<String>) -> Fault {
    ("invalid", detail.into())
}

fn moment(object: &Map<String, Value>, now: Millis) -> Result<Millis, Fault> {
    let wrong =
        || invalid("`at` is a time such as `2026-01-31T12:00:00Z`, or milliseconds since 1970");
    let at = match object.get("at") {
        None | Some(Value::Null) => return Ok(now),
        Some(Value::String(text)) => {
            text.parse::<jiff::Timestamp>().map_err(|_| wrong())?.as_millisecond()
        }
        Some(Value::Number(number)) => number.as_i64().ok_or_else(wrong)?,
        Some(_) => return Err(wrong()),
    };
    if at > now.saturating_add(AHEAD_MS_MAX) {
        let ahead = at.saturating_sub(now) / 1000;
        return Err((
            "in_future",
            format!("`at` is {ahead} s ahead of this server's clock; 60 s are allowed"),
        ));
    }
    if at < now.saturating_sub(AGE_MS_MAX) {
        let hours = now.saturating_sub(at) / 3_600_000;
        return Err(("too_old", format!("`at` is {hours} h ago; events are taken for 24 h")));
    }
    Ok(at)
}

/// An id: a text or an integer.
fn ident(object: &Map<String, Value>, key: &str) -> Result<Option<String>, Fault> {
    let text = match object.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
        Some(other) => return Err(invalid(format!("`{key}` is a text, not {}", noun(other)))),
    };
    if text.is_empty() {
        return if key == "id" { Err(invalid("`id` is empty")) } else { Ok(None) };
    }
    if text.len() > ID_BYTES_MAX {
        return Err(invalid(format!(
            "`{key}` has {} bytes; {ID_BYTES_MAX} are allowed",
            text.len()
        )));
    }
    if text.contains('\0') {
        return Err(invalid(format!("`{key}` holds a zero byte")));
    }
    Ok(Some(text))
}

fn short(object: &Map<String, Value>, key: &str) -> Result<Option<String>, Fault> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(word(text)),
        Some(other) => Err(invalid(format!("`{key}` is a text, not {}", noun(other)))),
    }
}

/// A word for a chart: trimmed, cut, without control characters; none when nothing is left.
fn word(text: &str) -> Option<String> {
    let clean: String =
        text.trim().chars().filter(|c| !c.is_control()).take(WORD_CHARS_MAX).collect();
    (!clean.is_empty()).then_some(clean)
}

fn latency(object: &Map<String, Value>) -> Result<Option<u32>, Fault> {
    let given = match object.get("latency_ms") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_f64(),
    };
    match given {
        Some(ms) if (0.0..=LATENCY_MS_MAX).contains(&ms) =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "within the range above"
            )]
            Ok(Some(ms.round() as u32))
        }
        _ => Err(invalid("`latency_ms` is a number from 0 to 3600000")),
    }
}

fn variants(object: &Map<String, Value>) -> Result<BTreeMap<String, String>, Fault> {
    let wrong =
        || invalid("`variants` is an object of flag to variant, such as {\"new_login\": \"on\"}");
    let given = match object.get("variants") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(wrong()),
    };
    if given.len() > VARIANTS_MAX {
        return Err(invalid(format!(
            "`variants` names {} flags; {VARIANTS_MAX} are allowed",
            given.len()
        )));
    }
    let pair = |(flag, variant): (&String, &Value)| match variant {
        Value::Bool(on) => {
            Ok((cut(flag, WORD_CHARS_MAX), if *on { "on" } else { "off" }.to_owned()))
        }
        Value::String(text) => Ok((cut(flag, WORD_CHARS_MAX), cut(text, WORD_CHARS_MAX))),
        _ => Err(wrong()),
    };
    given.iter().map(pair).collect()
}

fn groups(object: &Map<String, Value>) -> Result<Vec<String>, Fault> {
    let wrong = || invalid(format!("`groups` is a list of at most {VARIANTS_MAX} texts"));
    match object.get("groups") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(given)) if given.len() <= VARIANTS_MAX => given
            .iter()
            .map(|one| one.as_str().map(|text| cut(text, WORD_CHARS_MAX)).ok_or_else(wrong))
            .collect(),
        Some(_) => Err(wrong()),
    }
}

fn properties(object: &Map<String, Value>) -> Result<BTreeMap<String, Value>, Fault> {
    match object.get("properties") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(given)) if given.len() <= VARIANTS_MAX => {
            Ok(given.iter().map(|(key, value)| (cut(key, WORD_CHARS_MAX), value.clone())).collect())
        }
        Some(_) => {
            Err(invalid(format!("`properties` is an object of at most {VARIANTS_MAX} values")))
        }
    }
}

/// The beginning of a text, without control characters: PostgreSQL takes no zero byte, and would refuse everybody's events
/// that are written together with it.
fn cut(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

fn noun(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Millis = 1_790_000_000_000;

    fn code(value: &Value) -> &'static str {
        read(3, value, NOW).expect_err("is refused").code
    }

    #[test]
    fn a_whole_event_is_read() {
        let given = json!({"id": "e1", "type": "login_failure", "at": NOW - 5, "user_id": 7, "session_id": "s",
            "platform": " ios ", "app_version": "1.2", "country": "DE", "latency_ms": 12.6, "error": "bad\u{7}",
            "variants": {"new_login": true, "theme": "dark"}, "properties": {"plan": "pro"}});
        let event = read(0, &given, NOW).unwrap();
        assert_eq!(
            (event.kind, event.at, event.user.as_deref()),
            (EventKind::LoginFailure, NOW - 5, Some("7"))
        );
        assert_eq!((event.platform.as_deref(), event.latency_ms), (Some("ios"), Some(13)));
        assert_eq!(
            (event.error.as_deref(), event.variants["new_login"].as_str()),
            (Some("bad"), "on")
        );
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        assert_eq!(code(&json!({"type": "login_success"})), "invalid");
        assert_eq!(code(&json!({"id": "e", "type": "login"})), "invalid");
        assert_eq!(code(&json!({"id": "e", "type": "logout", "at": NOW + 61_000})), "in_future");
        assert_eq!(
            code(&json!({"id": "e", "type": "logout", "at": NOW - 7 * 86_400_000})),
            "too_old"
        );
        assert_eq!(
            code(&json!({"id": "e", "type": "logout", "user_id": "u".repeat(10_000)})),
            "invalid"
        );
        assert_eq!(code(&json!({"id": "e", "type": "logout", "latency_ms": -1})), "invalid");
        assert_eq!(code(&json!({"id": "e", "type": "logout", "usr": "x"})), "invalid");
        assert_eq!(code(&json!([])), "invalid");
        let refused = read(3, &json!({"id": "e9", "type": "x"}), NOW).unwrap_err();
        assert_eq!((refused.index, refused.id.as_deref()), (3, Some("e9")));
    }

    #[test]
    fn no_zero_byte_gets_into_what_is_kept() {
        let given = json!({"id": "e", "type": "logout", "variants": {"a\0b": "o\0n"}});
        let event = read(0, &given, NOW).unwrap();
        assert_eq!(event.variants["ab"], "on");
        for odd in [json!({"id": "e", "k\0": 1}), json!({"id": "e", "type": "x\0"})] {
            assert!(!read(0, &odd, NOW).unwrap_err().detail.contains('\0'));
        }
    }

    #[test]
    fn every_kind_has_one_word() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::of(kind.word()), Some(*kind));
            assert_eq!(json!(kind), json!(kind.word()));
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in ".{0,60}", number in any::<f64>(), whole in any::<i64>()) {
            for key in KEYS {
                for value in [json!(text), json!(number), json!(whole), json!([text]), json!({&*text: number})] {
                    let _ = read(0, &json!({"id": "e", "type": "logout", *key: value}), NOW);
                }
            }
        }
    }
}
