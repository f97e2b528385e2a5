//! Unleash's client API: whole documents, deltas, a stream, registration, metrics, token checks.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytestring::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};
use switchback_app::live::client::Protocol;
use switchback_app::live::unleash::{Events, Place};
use switchback_app::live::{Client, Snapshot};
use switchback_formats::unleash::Feature;
use switchback_store::TokenKind;

use super::sse::{self, Event};
use super::{
    Guest, Refusal, SdkHeaders, header_text, is_known, json_bytes, metrics, not_modified, state,
};
use crate::observe::class_of;

const SERVER: &[TokenKind] = &[TokenKind::Server];
/// SDKs of this specification or a later one take segments apart from flags.
const SEGMENTS_SINCE: [u64; 3] = [4, 2, 0];
/// SDKs of this specification or a later one can be told to switch to the stream.
const STREAM_SINCE: [u64; 3] = [5, 2, 0];
/// Tokens that one request may ask about.
const TOKENS_MAX: usize = 100;

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/features/{name}", web::get().to(feature))
        .route("/delta", web::get().to(delta))
        .route("/streaming", web::get().to(streaming))
        .route("/register", web::post().to(register))
        .route("/metrics", web::post().to(metrics::report))
        .route("/metrics/bulk", web::post().to(metrics::report_bulk));
}

/// `GET /api/client/features`.
pub async fn features(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, SERVER).await?;
    let answer = features_for(&guest, &request).await?;
    guest.app.metrics.http.get_or_create(&class_of(answer.status().as_u16())).inc();
    Ok(answer)
}

async fn features_for(guest: &Guest, request: &HttpRequest) -> Result<HttpResponse, Refusal> {
    let spec = spec_of(request)?;
    let inline = spec.is_none_or(|spec| spec < SEGMENTS_SINCE);
    let snapshot = guest.feed.current();
    let rendered = snapshot.unleash();
    let filter = Filter::of(request.query_string());
    let place = &rendered.place;
    guest.note(request, Protocol::UnleashPolling, Some(place.revision));
    let etag = if filter.is_empty() {
        Cow::Borrowed(rendered.etag(inline))
    } else {
        Cow::Owned(format!("\"{place}:{}\"", filter.mark(inline)))
    };
    let mut answer = if is_known(request, &etag) {
        not_modified(&etag)
    } else if filter.is_empty() {
        json_bytes(&etag, rendered.features(&guest.feed.environment, inline).into_bytes())
    } else {
        let tagged = if filter.tags.is_empty() {
            None
        } else {
            Some(guest.app.list_tagged(&filter.tags).await?)
        };
        let wanted = |feature: &Feature| {
            filter.admits(feature)
                && tagged.as_ref().is_none_or(|keys| keys.contains(&feature.name))
        };
        let body = rendered.filtered(&guest.feed.environment, inline, wanted);
        json_bytes(&etag, body.into_bytes())
    };
    let may_stream = guest.app.config.compat.unleash_streaming
        && spec.is_some_and(|spec| spec >= STREAM_SINCE)
        && guest.app.hub.connected() < guest.app.hub.limits().clients_max;
    if may_stream {
        let name = header::HeaderName::from_static("fetch-mode");
        answer.headers_mut().insert(name, header::HeaderValue::from_static("streaming"));
    }
    Ok(answer)
}

/// `GET /api/client/features/{name}`.
async fn feature(request: HttpRequest, name: web::Path<String>) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, SERVER).await?;
    let snapshot = guest.feed.current();
    let rendered = snapshot.unleash();
    let Some(feature) = rendered.written.features.get(name.as_str()) else {
        let message = match rendered.written.left_out.get(name.as_str()) {
            Some(reason) => format!("Unleash's SDKs cannot be told the flag `{name}`: {reason}"),
            None => format!("there is no flag `{name}`"),
        };
        return Err(Refusal::new(StatusCode::NOT_FOUND, "FLAG_NOT_FOUND", message));
    };
    let etag = format!("\"{}\"", rendered.place);
    if is_known(&request, &etag) {
        return Ok(not_modified(&etag));
    }
    Ok(json_bytes(&etag, json!(feature).to_string()))
}

/// `GET /api/client/delta`.
async fn delta(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, SERVER).await?;
    let snapshot = guest.feed.current();
    let has = header_text(&request, "if-none-match").and_then(Place::parse);
    let place = &snapshot.unleash().place;
    guest.note(&request, Protocol::UnleashPolling, Some(place.revision));
    let etag = format!("\"{place}\"");
    Ok(match snapshot.unleash_events(has.as_ref()) {
        Events::Nothing => not_modified(&etag),
        Events::Hydration(events) | Events::Changes(events) => {
            json_bytes(&etag, events.into_bytes())
        }
    })
}

/// `GET /api/client/streaming`.
async fn streaming(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, SERVER).await?;
    let app = &guest.app;
    if !app.config.compat.unleash_streaming {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "GENERAL",
            "streaming is switched off here",
        ));
    }
    if app.hub.connected() >= app.hub.limits().clients_max {
        let message = "this node holds as many clients as it may; poll, or try another";
        return Err(Refusal::later(StatusCode::TOO_MANY_REQUESTS, 10, message));
    }
    let caller = SdkHeaders::of(&request);
    let text =
        |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
    let hello = switchback_core::wire::Hello {
        app: text(&caller.app),
        sdk: text(&caller.sdk),
        instance: text(&caller.instance),
        ..Default::default()
    };
    let now = app.clock.now();
    let client =
        Client::new(app.hub.next_client_id(), guest.token.id.clone(), "server", &hello, now)
            .speaking(Protocol::UnleashStreaming, 0);
    let member = guest.feed.join(client);
    if app.is_revoked(&guest.token.id) {
        return Err(switchback_app::AppError::Unauthorized.into());
    }
    let has = header_text(&request, "last-event-id").and_then(Place::parse);
    let protocol = UnleashStream { has, is_connected: false };
    Ok(sse::stream(Arc::clone(&app.0), member, protocol))
}

/// A client of the stream: where it is, and whether it was greeted.
struct UnleashStream {
    has: Option<Place>,
    is_connected: bool,
}

impl sse::Protocol for UnleashStream {
    const SPREADS: bool = false;

    fn next(&mut self, snapshot: &Snapshot) -> Option<Event> {
        let events = snapshot.unleash_events(self.has.as_ref());
        let place = snapshot.unleash().place.clone();
        let name = if self.is_connected { "unleash-updated" } else { "unleash-connected" };
        let (data, is_whole) = match events {
            Events::Nothing if self.is_connected => return None,
            Events::Nothing => (ByteString::from_static(r#"{"events":[]}"#), false),
            Events::Hydration(events) => (events, true),
            Events::Changes(events) => (events, false),
        };
        let bytes = sse::event(name, &place.to_string(), &data);
        self.is_connected = true;
        self.has = Some(place);
        Some(Event { bytes, is_whole })
    }
}

/// `POST /api/client/register`.
async fn register(request: HttpRequest, body: web::Json<Value>) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, SERVER).await?;
    if body.get("appName").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(Refusal::bad("GENERAL", "`appName` is missing"));
    }
    guest.note(&request, Protocol::UnleashPolling, None);
    Ok(HttpResponse::Accepted().finish())
}

#[derive(Deserialize)]
pub struct Tokens {
    tokens: Vec<String>,
}

/// `POST /edge/validate`: which of these tokens are good. An Edge asks it before it serves.
pub async fn validate(
    request: HttpRequest,
    body: web::Json<Tokens>,
) -> Result<HttpResponse, Refusal> {
    let app = state(&request)?;
    if body.tokens.len() > TOKENS_MAX {
        return Err(Refusal::bad("GENERAL", format!("at most {TOKENS_MAX} tokens at once")));
    }
    let mut good = Vec::new();
    for text in &body.tokens {
        match app.authenticate(text).await {
            Ok(token) if matches!(token.kind, TokenKind::Server | TokenKind::Browser) => {
                good.push(json!({
                    "token": text,
                    "type": if token.kind == TokenKind::Browser { "frontend" } else { "client" },
                    "environment": token.environment,
                    "projects": [token.project],
                }));
            }
            Ok(_) | Err(switchback_app::AppError::Unauthorized) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({"tokens": good})))
}

/// The specification that an SDK follows, when it says so.
fn spec_of(request: &HttpRequest) -> Result<Option<[u64; 3]>, Refusal> {
    let Some(text) = header_text(request, "unleash-client-spec") else { return Ok(None) };
    let wrong = || {
        Refusal::bad(
            "GENERAL",
            format!("`Unleash-Client-Spec: {text}` is not a version such as 5.2.0"),
        )
    };
    let numbers = text.split(['-', '+']).next().unwrap_or_default().split('.');
    let numbers: Vec<u64> =
        numbers.map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    numbers.try_into().map(Some).map_err(|_| wrong())
}

/// Which flags are asked for. The token's project has been taken already.
#[derive(Default)]
struct Filter {
    projects: Vec<String>,
    prefix: String,
    tags: Vec<String>,
}

impl Filter {
    fn of(query: &str) -> Self {
        let mut filter = Self::default();
        if query.is_empty() {
            return filter;
        }
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "project" | "project[]" => filter.projects.push(value.into_owned()),
                "tag" | "tag[]" => filter.tags.push(value.into_owned()),
                "namePrefix" => filter.prefix = value.into_owned(),
                _ => {}
            }
        }
        filter
    }

    fn is_empty(&self) -> bool {
        self.projects.is_empty() && self.prefix.is_empty() && self.tags.is_empty()
    }

    fn admits(&self, feature: &Feature) -> bool {
        (self.projects.is_empty() || self.projects.contains(&feature.project))
            && feature.name.starts_with(&self.prefix)
    }

    /// Tells answers to different questions apart.
    fn mark(&self, inline: bool) -> String {
        let asked = format!("{:?}{:?}{:?}", self.projects, self.prefix, self.tags);
        let mark = switchback_core::variant_point("query", &asked, 1 << 32);
        format!("{mark:x}{}", if inline { "i" } else { "" })
    }
}
