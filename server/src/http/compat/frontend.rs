//! Unleash's front-end API: this server evaluates, browsers and phones get the outcome and never a rule.

use std::io::Write as _;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};
use switchback_core::model::{FlagEntry, ValueType};
use switchback_core::{Context, Evaluation};
use switchback_store::TokenKind;

use super::{Guest, Refusal, is_known, json_bytes, metrics, not_modified};
use crate::app::ids::{self, random};
use crate::formats::unleash::{Peer, context_of, payload_of};
use crate::http::auth::client_address;
use crate::live::Snapshot;
use crate::live::client::Protocol;

const BROWSER: &[TokenKind] = &[TokenKind::Browser];
/// Room for one flag of an answer, in bytes, so that the answer rarely grows.
const FLAG_BYTES: usize = 160;

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("", web::get().to(enabled))
        .route("", web::post().to(enabled_posted))
        .route("/all", web::get().to(all))
        .route("/all", web::post().to(all_posted))
        .route("/features/{name}", web::get().to(one))
        .route("/features/{name}", web::post().to(one_posted))
        .route("/client/metrics", web::post().to(metrics::report_frontend))
        .route("/client/register", web::post().to(register));
}

async fn enabled(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    answer(&request, asked(&request), false).await
}

async fn enabled_posted(
    request: HttpRequest,
    body: web::Json<Value>,
) -> Result<HttpResponse, Refusal> {
    answer(&request, posted(body.into_inner())?, false).await
}

async fn all(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    answer(&request, asked(&request), true).await
}

async fn all_posted(request: HttpRequest, body: web::Json<Value>) -> Result<HttpResponse, Refusal> {
    answer(&request, posted(body.into_inner())?, true).await
}

async fn one(request: HttpRequest, name: web::Path<String>) -> Result<HttpResponse, Refusal> {
    answer_one(&request, asked(&request), &name).await
}

async fn one_posted(
    request: HttpRequest,
    name: web::Path<String>,
    body: web::Json<Value>,
) -> Result<HttpResponse, Refusal> {
    answer_one(&request, posted(body.into_inner())?, &name).await
}

/// `POST .../client/register`.
async fn register(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, BROWSER).await?;
    guest.slow_down(&request)?;
    guest.note(&request, Protocol::UnleashFrontend, None);
    Ok(HttpResponse::Ok().finish())
}

/// The context of a query: `userId=..&properties[plan]=pro`.
fn asked(request: &HttpRequest) -> Map<String, Value> {
    let mut context = Map::new();
    let mut properties = Map::new();
    for (name, value) in url::form_urlencoded::parse(request.query_string().as_bytes()) {
        let value = Value::String(value.into_owned());
        match name.strip_prefix("properties[").and_then(|rest| rest.strip_suffix(']')) {
            Some(property) => drop(properties.insert(property.to_owned(), value)),
            None => drop(context.insert(name.into_owned(), value)),
        }
    }
    if !properties.is_empty() {
        context.insert("properties".to_owned(), Value::Object(properties));
    }
    context
}

/// The context of a body: `{"context": {..}}`.
fn posted(mut body: Value) -> Result<Map<String, Value>, Refusal> {
    match body.get_mut("context").map(Value::take) {
        Some(Value::Object(context)) => Ok(context),
        None | Some(Value::Null) => Ok(Map::new()),
        Some(_) => Err(Refusal::bad("INVALID_CONTEXT", "`context` is not an object")),
    }
}

async fn answer(
    request: &HttpRequest,
    context: Map<String, Value>,
    also_off: bool,
) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(request, BROWSER).await?;
    guest.slow_down(request)?;
    let snapshot = guest.feed.current();
    guest.note(request, Protocol::UnleashFrontend, Some(snapshot.document.revision));
    let asker = Asker::of(&guest, request, &context);
    let body = render(&snapshot, &asker.context(&context), also_off);
    let etag = format!("\"{:016x}\"", super::digest(&body));
    if is_known(request, &etag) {
        return Ok(not_modified(&etag));
    }
    Ok(json_bytes(&etag, body))
}

async fn answer_one(
    request: &HttpRequest,
    context: Map<String, Value>,
    name: &str,
) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(request, BROWSER).await?;
    guest.slow_down(request)?;
    let snapshot = guest.feed.current();
    guest.note(request, Protocol::UnleashFrontend, Some(snapshot.document.revision));
    if snapshot.ruleset.index_of(name).is_none() {
        let message = format!("there is no flag `{name}`");
        return Err(Refusal::new(StatusCode::NOT_FOUND, "FLAG_NOT_FOUND", message));
    }
    let asker = Asker::of(&guest, request, &context);
    let evaluation = snapshot.ruleset.evaluate(name, &asker.context(&context));
    let mut body = Vec::with_capacity(FLAG_BYTES);
    write_flag(&mut body, &snapshot, name, evaluation);
    let etag = format!("\"{:016x}\"", super::digest(&body));
    if is_known(request, &etag) {
        return Ok(not_modified(&etag));
    }
    Ok(json_bytes(&etag, body))
}

/// What the server adds to a context.
struct Asker {
    address: String,
    /// For contexts without one, so that they too are spread over the buckets.
    session: Option<String>,
    now_ms: i64,
}

impl Asker {
    fn of(guest: &Guest, request: &HttpRequest, context: &Map<String, Value>) -> Self {
        let has_session =
            context.get("sessionId").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
        Self {
            address: client_address(request, &guest.app.config.trusted_proxies),
            session: (!has_session).then(ids::secret),
            now_ms: guest.app.clock.now(),
        }
    }

    fn context<'a>(&'a self, context: &'a Map<String, Value>) -> Context<'a> {
        let peer = Peer {
            remote_address: Some(&self.address),
            now_ms: self.now_ms,
            draw: u32::from_le_bytes(random()),
            fills: true,
        };
        let context = context_of(context, peer);
        match &self.session {
            Some(session) => context.session_id(session.as_str()),
            None => context,
        }
    }
}

fn render(snapshot: &Snapshot, context: &Context<'_>, also_off: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(snapshot.document.flags.len() * FLAG_BYTES + 32);
    body.extend_from_slice(b"{\"toggles\":[");
    let empty = body.len();
    snapshot.ruleset.evaluate_all(context, |key, evaluation| {
        if evaluation.enabled || also_off {
            if body.len() > empty {
                body.push(b',');
            }
            write_flag(&mut body, snapshot, key, evaluation);
        }
    });
    body.extend_from_slice(b"]}");
    body
}

/// Written by hand: keys need no escaping, and a browser's page waits for a thousand of these.
fn write_flag(body: &mut Vec<u8>, snapshot: &Snapshot, key: &str, evaluation: Evaluation<'_>) {
    let Evaluation { enabled, variant, value, .. } = evaluation;
    let impressions =
        snapshot.ruleset.index_of(key).is_some_and(|flag| snapshot.ruleset.wants_impressions(flag));
    body.extend_from_slice(b"{\"name\":\"");
    body.extend_from_slice(key.as_bytes());
    // Writing to a vector never fails.
    let _ = write!(
        body,
        "\",\"enabled\":{enabled},\"impressionData\":{impressions},\"impression_data\":{impressions},\"variant\":"
    );
    let value_type = match snapshot.document.flags.get(key) {
        Some(FlagEntry::Known(flag)) => flag.value_type,
        _ => ValueType::Boolean,
    };
    let payload = enabled.then(|| payload_of(value, value_type)).flatten();
    let name = match (variant, &payload) {
        (Some(name), _) => Some(name),
        (None, Some(_)) => Some("on"), // a value without variants: as the SDKs for servers are told
        (None, None) => None,
    };
    let Some(name) = name else {
        let _ = write!(
            body,
            "{{\"name\":\"disabled\",\"enabled\":false,\"feature_enabled\":{enabled},\"featureEnabled\":{enabled}}}}}"
        );
        return;
    };
    let _ = serde_json::to_writer(
        &mut *body,
        &json!({
            "name": name, "enabled": true, "payload": payload,
            "feature_enabled": enabled, "featureEnabled": enabled,
        }),
    );
    body.push(b'}');
}
