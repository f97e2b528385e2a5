//! Events of other systems, in their own words and shape, as events of ours: Kratos, Keycloak, Rauthy, Supabase Auth.
//!
//! Every name that those systems have is known here: it is an event of ours, or it is nothing that the watch counts.
//! A name that is neither is refused by name, so that a new release of theirs does not go unnoticed.

mod keycloak;
mod kratos;
mod rauthy;
mod supabase;

use std::fmt::Write as _;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::event::EventKind;

/// Names of unknown events are cut here, in characters.
const NAME_CHARS_MAX: usize = 100;
/// Hex digits of a made-up id.
const HASH_DIGITS: usize = 32;

/// Whose events they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Ory Kratos.
    Kratos,
    /// Keycloak.
    Keycloak,
    /// Rauthy.
    Rauthy,
    /// Supabase Auth: rows of its audit table, and lines of its log.
    Supabase,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It is this event of ours, as [`crate::event::read`] takes it.
    Event(Value),
    /// Known, and nothing that the watch counts.
    Other,
    /// A name that this release does not know.
    Unknown(String),
    /// Not an event of that system: what is wrong with it.
    Unreadable(String),
}

/// What one name of theirs means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An event of ours.
    Kind(EventKind),
    /// Nothing that the watch counts.
    Other,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Kratos, Self::Keycloak, Self::Rauthy, Self::Supabase];

    /// Its name in the API and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kratos => "kratos",
            Self::Keycloak => "keycloak",
            Self::Rauthy => "rauthy",
            Self::Supabase => "supabase",
        }
    }

    /// The format of a name.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.word() == word)
    }

    /// What a name of that system means; none: the name is not known.
    pub fn meaning(self, name: &str) -> Option<Meaning> {
        match self {
            Self::Kratos => kratos::meaning(name),
            Self::Keycloak => keycloak::meaning(name),
            Self::Rauthy => rauthy::meaning(name),
            Self::Supabase => supabase::meaning(name),
        }
    }

    /// One event of that system as one of ours.
    pub fn translate(self, value: &Value) -> Found {
        let Value::Object(object) = value else {
            return Found::Unreadable(format!("an event of {} is an object", self.word()));
        };
        let outcome = match self {
            Self::Kratos => kratos::translate(object),
            Self::Keycloak => keycloak::translate(object),
            Self::Rauthy => rauthy::translate(object),
            Self::Supabase => supabase::translate(object),
        };
        outcome.unwrap_or_else(|found| found)
    }

    /// One line of that system's log; none when the line is no event at all, such as a start-up message.
    pub fn line(self, line: &str) -> Option<Value> {
        let line = line.trim();
        // Server-sent events, and prefixes that container runtimes put before JSON.
        let line = line.strip_prefix("data:").map_or(line, str::trim);
        if let Some(start) = line.find('{')
            && let Ok(value @ Value::Object(_)) =
                serde_json::from_str(line.get(start..).unwrap_or_default())
        {
            return Some(value);
        }
        match self {
            Self::Keycloak => keycloak::line(line),
            _ => None,
        }
    }

    /// Whether a message of this format comes of a place that never tells of failures: Supabase's audit table knows
    /// the logins that worked and no other.
    pub fn has_no_failures(self, value: &Value) -> bool {
        self == Self::Supabase && supabase::is_row(value)
    }
}

/// An event of ours in the making.
struct Draft {
    format: Format,
    fields: Map<String, Value>,
}

impl Draft {
    /// Looks a name up; ends with what the name is when it is no event of ours.
    fn new(format: Format, name: &str) -> Result<Self, Found> {
        match format.meaning(name) {
            Some(Meaning::Kind(kind)) => Ok(Self::of(format, kind)),
            Some(Meaning::Other) => Err(Found::Other),
            None => {
                let name = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX);
                Err(Found::Unknown(name.collect()))
            }
        }
    }

    fn of(format: Format, kind: EventKind) -> Self {
        let mut draft = Self { format, fields: Map::new() };
        draft.set("type", Some(kind.word()));
        draft
    }

    /// Sets a text, unless it says nothing.
    fn set(&mut self, key: &str, text: Option<impl Into<String>>) {
        if let Some(text) = text.map(Into::into).filter(|text| !text.is_empty() && text != "null") {
            self.fields.insert(key.to_owned(), Value::String(text));
        }
    }

    fn put(&mut self, key: &str, value: Option<Value>) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            self.fields.insert(key.to_owned(), value);
        }
    }

    /// Names the event: by its own id, else by what it holds. The same event is the same id, however often it comes.
    fn named(mut self, id: Option<String>, whole: &Map<String, Value>) -> Result<Found, Found> {
        let id = match id.filter(|id| !id.is_empty()) {
            Some(id) => id,
            None if self.fields.contains_key("at") => digest(whole),
            None => {
                let message = "it has neither an id nor a time: it could not be told from its like";
                return Err(Found::Unreadable(message.to_owned()));
            }
        };
        let id = format!("{}:{id}", self.format.word());
        self.fields.insert("id".to_owned(), Value::String(id));
        Ok(Found::Event(Value::Object(self.fields)))
    }
}

/// The beginning of the SHA-256 of what an event holds, in hex.
fn digest(whole: &Map<String, Value>) -> String {
    let text = Value::Object(whole.clone()).to_string();
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(HASH_DIGITS);
    hex
}

/// A text or a whole number, as text.
fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    match object.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

fn inner<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Map<String, Value>> {
    object.get(key)?.as_object()
}

/// A time as these systems write it: milliseconds, RFC 3339, or PostgreSQL's `2026-01-31 12:00:00.5+00`.
fn moment(value: Option<&Value>) -> Option<Value> {
    match value? {
        Value::Number(number) => number.as_i64().map(Value::from),
        Value::String(text) => {
            let at: jiff::Timestamp = text.trim().parse().ok()?;
            Some(Value::from(at.as_millisecond()))
        }
        _ => None,
    }
}

fn missing(what: &str) -> Found {
    Found::Unreadable(format!("`{what}` is missing"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::event;

    /// Any JSON, with the words that these systems use mixed in.
    fn any_json() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("type".to_owned()),
            Just("typ".to_owned()),
            Just("payload".to_owned()),
            Just("action".to_owned()),
            Just("event".to_owned()),
            Just("attributes".to_owned()),
            Just("record".to_owned()),
            Just("LOGIN".to_owned()),
            Just("login".to_owned()),
            Just("TokenIssued".to_owned()),
            Just("LoginSucceeded".to_owned()),
            Just("text".to_owned()),
            Just("msg".to_owned()),
            Just("message".to_owned()),
            Just("auth_audit_event".to_owned()),
            ".{0,12}",
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            word.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((word.clone(), inner), 0..6)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_and_no_line_panics(value in any_json(), line in ".{0,80}") {
            for format in Format::ALL {
                if let Found::Event(ours) = format.translate(&value) {
                    let _ = event::read(0, &ours, 1_790_000_000_000);
                }
                let _ = format.line(&line);
                let _ = format.line(&format!("type=\"LOGIN\", {line}"));
            }
        }
    }

    #[test]
    fn the_same_event_has_the_same_id_and_an_event_without_id_and_time_is_refused() {
        let at = |time: i64| json!({"type": "LOGIN", "userId": "u", "time": time});
        let id = |value: &Value| match Format::Keycloak.translate(value) {
            Found::Event(ours) => ours["id"].as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(id(&at(1)), id(&at(1)));
        assert_ne!(id(&at(1)), id(&at(2)));
        let found = Format::Keycloak.translate(&json!({"type": "LOGIN", "userId": "u"}));
        assert!(matches!(found, Found::Unreadable(_)), "{found:?}");
    }

    #[test]
    fn times_are_read_as_each_writes_them() {
        let ms = |text: &str| moment(Some(&json!(text))).unwrap();
        assert_eq!(ms("2026-01-31T12:00:00Z"), json!(1_769_860_800_000_i64));
        assert_eq!(ms("2026-01-31 12:00:00.5+00"), json!(1_769_860_800_500_i64));
        assert_eq!(ms("2026-01-31T13:00:00+01:00"), json!(1_769_860_800_000_i64));
        assert_eq!(moment(Some(&json!("yesterday"))), None);
    }
}
