//! Reference pages: the API from its own document, and the stable words of errors.

use actix_web::HttpRequest;
use askama::Template;
use serde_json::Value;

use super::visit::theme_of;
use super::words::title;
use super::{Answer, ok};
use crate::openapi;

struct Operation {
    method: String,
    path: String,
    id: String,
    summary: String,
    parameters: Vec<(String, String, bool)>,
    body: Vec<Property>,
}

struct Property {
    name: String,
    kind: String,
    about: String,
    required: bool,
}

#[derive(Template)]
#[template(path = "pages/docs_api.html")]
struct ApiPage {
    theme: &'static str,
    version: String,
    groups: Vec<(String, Vec<Operation>)>,
    count: usize,
}

/// A word that programs match on: status, code, what it means, what to do.
type ErrorWord = (u16, &'static str, &'static str, &'static str);

#[derive(Template)]
#[template(path = "pages/docs_errors.html")]
struct ErrorsPage {
    theme: &'static str,
    errors: [ErrorWord; 10],
}

const ERRORS: [ErrorWord; 10] = [
    (
        401,
        "unauthorized",
        "Nobody is signed in, or the token is not known or was revoked.",
        "Sign in, or send another token. An SDK must not give up: the server answers 503, not 401, when it cannot tell.",
    ),
    (
        403,
        "forbidden",
        "The role is too low for this in this environment.",
        "Ask an administrator for the role that the message names.",
    ),
    (
        404,
        "not_found",
        "The thing named does not exist, or was archived.",
        "Check the key; the message names the nearest one where there is one.",
    ),
    (409, "exists", "The key is taken.", "Choose another. Keys of flags are never used twice."),
    (
        409,
        "conflict",
        "Somebody changed it after you looked.",
        "Read it again (current_revision says where it is), decide anew, and send the new revision.",
    ),
    (
        409,
        "refused",
        "The request is right, but not now: something else must be done first.",
        "The message says what. Do that, then try again.",
    ),
    (
        422,
        "invalid",
        "A field is wrong; nothing was changed.",
        "errors lists each field with what is allowed.",
    ),
    (429, "too_many", "Too many attempts.", "Wait for the seconds in Retry-After."),
    (
        500,
        "internal",
        "The server failed: a defect.",
        "Report it with the X-Request-Id of the answer.",
    ),
    (
        503,
        "unavailable",
        "The database does not answer. Nothing was changed; apps keep their last known flags.",
        "Try again after the seconds in Retry-After. A request with an Idempotency-Key can be repeated safely.",
    ),
];

/// `GET /docs/errors`.
pub async fn errors(request: HttpRequest) -> Answer {
    ok(&ErrorsPage { theme: theme_of(&request), errors: ERRORS })
}

/// `GET /docs/api`.
pub async fn api(request: HttpRequest) -> Answer {
    let document = openapi::document();
    let mut groups: Vec<(String, Vec<Operation>)> = Vec::new();
    let paths = document.get("paths").and_then(Value::as_object);
    for (path, methods) in paths.into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let tag = operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or("Other");
            let one = operation_of(&document, method, path, operation);
            match groups.iter_mut().find(|(name, _)| name == tag) {
                Some((_, list)) => list.push(one),
                None => groups.push((tag.to_owned(), vec![one])),
            }
        }
    }
    let count = groups.iter().map(|(_, list)| list.len()).sum();
    let version = text(document.pointer("/info/version"));
    ok(&ApiPage { theme: theme_of(&request), version, groups, count })
}

fn operation_of(document: &Value, method: &str, path: &str, operation: &Value) -> Operation {
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let parameters = parameters.into_iter().flatten().filter(|one| text(one.get("in")) != "header");
    let schema = operation.pointer("/requestBody/content/application~1json/schema");
    Operation {
        method: method.to_uppercase(),
        path: path.to_owned(),
        id: text(operation.get("operationId")),
        summary: text(operation.get("summary")),
        parameters: parameters
            .map(|one| {
                (
                    text(one.get("name")),
                    text(one.get("in")),
                    one.get("required") == Some(&Value::Bool(true)),
                )
            })
            .collect(),
        body: schema.map(|schema| properties(document, schema)).unwrap_or_default(),
    }
}

fn properties(document: &Value, schema: &Value) -> Vec<Property> {
    let schema = resolve(document, schema);
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
    let all = schema.get("properties").and_then(Value::as_object);
    all.into_iter()
        .flatten()
        .map(|(name, inner)| Property {
            required: is_required(name),
            kind: kind_of(inner),
            about: text(inner.get("description")),
            name: name.clone(),
        })
        .collect()
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
    target.and_then(|path| document.pointer(path)).unwrap_or(schema)
}

fn kind_of(schema: &Value) -> String {
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        return path.rsplit('/').next().unwrap_or_default().to_owned();
    }
    match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let names: Vec<&str> =
                names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect();
            names.join(" or ")
        }
        _ => match schema.get("anyOf").and_then(Value::as_array).and_then(|all| all.first()) {
            Some(first) => kind_of(first),
            None => title("any"),
        },
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}
