//! Unleash's front-end API: this server evaluates, browsers and phones get the outcome and never a rule.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value};
use switchback_app::ids::{self, random};
use switchback_app::live::client::Protocol;
use switchback_core::Context;
use switchback_formats::unleash::{Peer, context_of};
use switchback_store::TokenKind;

use super::{Guest, Refusal, is_known, json_bytes, metrics, not_modified};
use crate::auth::client_address;

const BROWSER: &[TokenKind] = &[TokenKind::Browser];
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
    let decided = snapshot.decide_front(&asker.context(&guest, &context), also_off);
    let etag = format!("\"{:016x}\"", decided.digest);
    if is_known(request, &etag) {
        return Ok(not_modified(&etag));
    }
    Ok(json_bytes(&etag, decided.write()))
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
    let asker = Asker::of(&guest, request, &context);
    let Some(body) = snapshot.front_flag(name, &asker.context(&guest, &context)) else {
        let message = format!("there is no flag `{name}`");
        return Err(Refusal::new(StatusCode::NOT_FOUND, "FLAG_NOT_FOUND", message));
    };
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

    fn context<'a>(&'a self, guest: &Guest, context: &'a Map<String, Value>) -> Context<'a> {
        let peer = Peer {
            remote_address: Some(&self.address),
            now_ms: self.now_ms,
            draw: u32::from_le_bytes(random()),
            fills: true,
        };
        let context = context_of(context, peer);
        guest.see(&context);
        match &self.session {
            Some(session) => context.session_id(session.as_str()),
            None => context,
        }
    }
}
