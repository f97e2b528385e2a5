//! What surrounds every request: an id, a log line, security headers, a count.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::{DefaultHeaders, Next};
use actix_web::{Error, web};
use switchback_app::metrics::StatusClass;
use tracing::Instrument as _;

use super::State;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives every request an id that its answer and its log lines carry. Query strings are not logged:
/// secrets may be in them.
pub async fn observe<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let Some(app) = request.app_data::<web::Data<State>>().cloned() else {
        return next.call(request).await;
    };
    let id = app.ids.next("req");
    let (method, path) = (request.method().clone(), shown(request.path()).to_owned());
    let span = tracing::info_span!("http", request.id = %id, %method, path);
    async {
        let began = app.clock.now();
        let mut response = next.call(request).await?;
        let status = response.status().as_u16();
        app.metrics.http.get_or_create(&class_of(status)).inc();
        tracing::debug!(
            status,
            duration_ms = app.clock.now() - began,
            "{method} answered {status}"
        );
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID.clone(), value);
        }
        Ok(response)
    }
    .instrument(span)
    .await
}

/// A path without the secret that it may be. An app may use its sessions' secrets as their ids, against all advice.
fn shown(path: &str) -> &str {
    if path.starts_with("/approve/") {
        return "/approve/…";
    }
    match path.strip_prefix("/api/v1/sessions/") {
        None | Some("login" | "logout" | "activity" | "revoked") => path,
        Some(_) => "/api/v1/sessions/…",
    }
}

/// Counts, and nothing else: for routes that fleets ask again and again.
pub async fn count<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let app = request.app_data::<web::Data<State>>().cloned();
    let response = next.call(request).await?;
    if let Some(app) = app {
        app.metrics.http.get_or_create(&class_of(response.status().as_u16())).inc();
    }
    Ok(response)
}

/// `2xx` and so on.
pub fn class_of(status: u16) -> StatusClass {
    let class = match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    StatusClass { class }
}

/// Headers of every answer. No inline script, nothing from elsewhere, no frame around us.
pub fn security_headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((
            "Content-Security-Policy",
            "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
        ))
        .add(("X-Content-Type-Options", "nosniff"))
        .add(("Referrer-Policy", "same-origin"))
        .add(("X-Frame-Options", "DENY"))
        .add(("Cross-Origin-Opener-Policy", "same-origin"))
}
