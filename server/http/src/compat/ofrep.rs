//! OFREP: one flag, all flags, and a stream that says when to ask again.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};
use switchback_app::AppError;
use switchback_app::ids::random;
use switchback_app::live::client::Protocol;
use switchback_app::live::unleash::Place;
use switchback_app::live::{Client, Snapshot};
use switchback_formats::ofrep::{answer, context_of};
use switchback_store::TokenKind;

use super::sse::{self, Event};
use super::{Guest, Refusal, is_known, not_modified, state};
use crate::auth::client_address;

const KINDS: &[TokenKind] = &[TokenKind::Server, TokenKind::Browser];
/// A provider closes its stream when the page was not looked at for so long, in seconds.
const INACTIVITY_SECONDS: u64 = 120;
/// How long an answer may wait for news that another node had already told of.
const CATCH_UP: Duration = Duration::from_secs(2);

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/evaluate/flags/{key}", web::post().to(evaluate))
        .route("/evaluate/flags", web::post().to(evaluate_all))
        .route("/configuration", web::get().to(configuration))
        .route("/stream", web::get().to(stream));
}

/// `POST /ofrep/v1/evaluate/flags/{key}`.
async fn evaluate(
    request: HttpRequest,
    key: web::Path<String>,
    body: web::Json<Value>,
) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, KINDS).await?;
    guest.slow_down(&request)?;
    let snapshot = guest.feed.current();
    guest.note(&request, Protocol::Ofrep, Some(snapshot.document.revision));
    let address = client_address(&request, &guest.app.config.trusted_proxies);
    let draw = u32::from_le_bytes(random());
    let context = context_of(&body, Some(&address), guest.app.clock.now(), draw)
        .map_err(|message| Refusal::bad("INVALID_CONTEXT", message).about(&key))?;
    guest.see(&context);
    let Some(flag) = snapshot.ruleset.index_of(&key) else {
        let message = format!("there is no flag `{key}`");
        return Err(Refusal::new(StatusCode::NOT_FOUND, "FLAG_NOT_FOUND", message).about(&key));
    };
    match answer((&snapshot.document, &snapshot.ruleset), flag, &key, &context) {
        Ok(told) => {
            Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(told))
        }
        Err(failure) => Err(Refusal::bad(failure.code, failure.details).about(&key)),
    }
}

#[derive(Deserialize)]
struct Freshness {
    #[serde(rename = "flagConfigEtag")]
    flag_config_etag: Option<String>,
}

/// `POST /ofrep/v1/evaluate/flags`.
async fn evaluate_all(
    request: HttpRequest,
    query: web::Query<Freshness>,
    body: web::Json<Value>,
) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, KINDS).await?;
    guest.slow_down(&request)?;
    if let Some(wanted) = query.flag_config_etag.as_deref().and_then(Place::parse) {
        catch_up(&guest, &wanted).await?;
    }
    let snapshot = guest.feed.current();
    guest.note(&request, Protocol::Ofrep, Some(snapshot.document.revision));
    let address = client_address(&request, &guest.app.config.trusted_proxies);
    let draw = u32::from_le_bytes(random());
    let context = context_of(&body, Some(&address), guest.app.clock.now(), draw)
        .map_err(|message| Refusal::bad("INVALID_CONTEXT", message))?;
    guest.see(&context);
    let ruleset = &snapshot.ruleset;
    let flags: Vec<Value> = ruleset
        .keys()
        .enumerate()
        .filter_map(|(position, key)| Some((ruleset.nth(position)?, key)))
        .map(|(flag, key)| {
            match answer((&snapshot.document, &snapshot.ruleset), flag, key, &context) {
                Ok(told) => told,
                Err(failure) => {
                    json!({"key": key, "errorCode": failure.code, "errorDetails": failure.details})
                }
            }
        })
        .collect();
    let flags = json!(flags).to_string();
    let etag =
        format!("\"{}:{:016x}\"", Place::of(&snapshot.document), super::digest(flags.as_bytes()));
    if is_known(&request, &etag) {
        return Ok(not_modified(&etag));
    }
    let ticket = guest.app.stream_ticket(&guest.token);
    let rest = json!({
        "metadata": {"flagSetId": guest.feed.environment, "version": snapshot.document.revision.to_string()},
        "eventStreams": [{
            "type": "sse",
            "endpoint": {"requestUri": format!("/ofrep/v1/stream?ticket={ticket}")},
            "inactivityDelaySec": INACTIVITY_SECONDS,
        }],
    });
    let rest = rest.to_string();
    let body = format!("{{\"flags\":{flags},{}", rest.get(1..).unwrap_or_default());
    Ok(super::json_bytes(&etag, body))
}

/// A node that hears late must not answer a client that heard early with what was before.
async fn catch_up(guest: &Guest, wanted: &Place) -> Result<(), Refusal> {
    let is_there = || {
        let here = Place::of(&guest.feed.current().document);
        here.revision >= wanted.revision || !here.is_of(wanted)
    };
    let mut wake = guest.feed.subscribe();
    let waiting = async {
        while !is_there() {
            if wake.changed().await.is_err() {
                break;
            }
        }
    };
    if tokio::time::timeout(CATCH_UP, waiting).await.is_err() {
        let message = "this node has not heard of that change yet; ask again";
        return Err(Refusal::later(StatusCode::SERVICE_UNAVAILABLE, 1, message));
    }
    Ok(())
}

/// `GET /ofrep/v1/configuration`: gone from the protocol, still asked for by older providers.
async fn configuration(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    Guest::of(&request, KINDS).await?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-cache")).json(json!({
        "name": "Switchback",
        "capabilities": {"cacheInvalidation": {"polling": {"enabled": true, "minPollingIntervalMs": 1_000}}},
    })))
}

#[derive(Deserialize)]
struct Ticket {
    ticket: Option<String>,
}

/// `GET /ofrep/v1/stream`: browsers cannot send headers here, so a short-lived ticket stands for the token.
async fn stream(request: HttpRequest, query: web::Query<Ticket>) -> Result<HttpResponse, Refusal> {
    let app = state(&request)?;
    let guest = match &query.ticket {
        Some(ticket) => {
            let token = app.open_ticket(ticket).await?;
            Guest::with(app, token, KINDS).await?
        }
        None => Guest::of(&request, KINDS).await?,
    };
    let app = &guest.app;
    if app.hub.connected() >= app.hub.limits().clients_max {
        let message = "this node holds as many clients as it may; try another";
        return Err(Refusal::later(StatusCode::TOO_MANY_REQUESTS, 10, message));
    }
    let hello = switchback_core::wire::Hello {
        sdk: super::header_text(&request, "user-agent").unwrap_or_default().to_owned(),
        ..Default::default()
    };
    let kind = if guest.token.kind == TokenKind::Browser { "browser" } else { "server" };
    let now = app.clock.now();
    let client = Client::new(app.hub.next_client_id(), guest.token.id.clone(), kind, &hello, now)
        .speaking(Protocol::Ofrep, 0);
    let member = guest.feed.join(client);
    if app.is_revoked(&guest.token.id) {
        return Err(AppError::Unauthorized.into());
    }
    let has = super::header_text(&request, "last-event-id").and_then(Place::parse);
    let has = has.or_else(|| Some(Place::of(&guest.feed.current().document)));
    Ok(sse::stream(Arc::clone(&app.0), member, Notifier { has }))
}

/// Tells a provider to ask again.
struct Notifier {
    has: Option<Place>,
}

impl sse::Protocol for Notifier {
    const SPREADS: bool = true;

    fn next(&mut self, snapshot: &Snapshot) -> Option<Event> {
        let place = Place::of(&snapshot.document);
        if self.has.as_ref() == Some(&place) {
            return None;
        }
        let data = json!({
            "type": "refetchEvaluation",
            "etag": format!("\"{place}\""),
            "lastModified": snapshot.known_at / 1_000,
        });
        let bytes = sse::event("message", &place.to_string(), &data.to_string());
        self.has = Some(place);
        Some(Event { bytes, is_whole: false })
    }
}
