//! Bodies as Statuspage's clients send them: JSON, or a form with names such as `incident[components][]`.

use actix_web::HttpRequest;
use actix_web::http::header;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use switchback_app::AppError;

/// Names within names at most.
const DEPTH_MAX: usize = 6;
/// Fields of a form at most.
const FIELDS_MAX: usize = 1_000;

/// Reads a body; none at all is an empty object.
///
/// # Errors
/// It is neither JSON nor a form.
pub fn read(request: &HttpRequest, bytes: &[u8]) -> Result<Value, AppError> {
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        return Ok(nested(bytes));
    }
    let read: Result<Value, _> = serde_json::from_slice(bytes);
    let wrong = |why: String| AppError::invalid("", format!("the body cannot be read: {why}"));
    match read {
        Ok(body) if body.is_object() => Ok(body),
        Ok(_) => Err(wrong("an object is expected".to_owned())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// `incident[name]=x` as `{"incident": {"name": "x"}}`, and `ids[]=a` as `{"ids": ["a"]}`.
fn nested(form: &[u8]) -> Value {
    let mut root = Value::Object(Map::new());
    for (key, value) in url::form_urlencoded::parse(form).into_owned().take(FIELDS_MAX) {
        let (first, rest) = key.split_once('[').unwrap_or((&key, ""));
        let mut path = vec![first];
        path.extend(
            rest.split('[').filter(|_| !rest.is_empty()).map(|part| part.trim_end_matches(']')),
        );
        // A list needs a name.
        if path.len() <= DEPTH_MAX && !first.is_empty() {
            insert(&mut root, &path, &value);
        }
    }
    root
}

fn insert(into: &mut Value, path: &[&str], value: &str) {
    let Some((first, rest)) = path.split_first() else {
        *into = Value::String(value.to_owned());
        return;
    };
    if first.is_empty() {
        if !into.is_array() {
            *into = Value::Array(Vec::new());
        }
        if let Value::Array(items) = into {
            items.push(Value::String(value.to_owned()));
        }
        return;
    }
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(map) = into {
        insert(map.entry((*first).to_owned()).or_insert(Value::Null), rest, value);
    }
}

/// A text field; empty is absent.
pub fn text(object: &Value, name: &str) -> Option<String> {
    let text = object.get(name)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// `true`, or the words that forms have for it.
pub fn flag(object: &Value, name: &str) -> Option<bool> {
    match object.get(name)? {
        Value::Bool(value) => Some(*value),
        Value::String(text) => match text.as_str() {
            "true" | "1" | "on" => Some(true),
            "false" | "0" | "off" | "" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A word of a closed list.
///
/// # Errors
/// It is none of them: says which there are.
pub fn word<T: DeserializeOwned>(object: &Value, name: &str) -> Result<Option<T>, AppError> {
    let Some(text) = text(object, name) else { return Ok(None) };
    let read = serde_json::from_value(Value::String(text));
    read.map(Some).map_err(|error| AppError::invalid(name, error.to_string()))
}

/// A moment, RFC 3339, in UTC milliseconds.
///
/// # Errors
/// It cannot be read.
pub fn moment(object: &Value, name: &str) -> Result<Option<i64>, AppError> {
    let Some(text) = text(object, name) else { return Ok(None) };
    let read = text.parse::<jiff::Timestamp>();
    let wrong = |_| AppError::invalid(name, "a moment such as 2026-11-30T22:00:00Z is expected");
    read.map(|at| Some(at.as_millisecond())).map_err(wrong)
}

/// A list of texts.
pub fn list(object: &Value, name: &str) -> Option<Vec<String>> {
    let items = object.get(name)?.as_array()?;
    Some(
        items
            .iter()
            .filter_map(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_form_nests_as_its_names_say() {
        let form = b"incident%5Bname%5D=Down&incident[components][auth]=major_outage&incident[component_ids][]=a&incident[component_ids][]=b&x=1";

        let read = nested(form);

        let incident = json!({"name": "Down", "components": {"auth": "major_outage"}, "component_ids": ["a", "b"]});
        assert_eq!(read, json!({"incident": incident, "x": "1"}));
    }

    #[test]
    fn names_that_contradict_each_other_do_no_harm() {
        for form in ["a=1&a[b]=2&a[]=3", "[]=1", "a[[[=1", "a]=1", "a[b][c][d][e][f][g][h]=1"] {
            assert!(nested(form.as_bytes()).is_object(), "{form}");
        }
    }
}
