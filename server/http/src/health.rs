//! Health, readiness and figures.

use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::State;

/// `GET /healthz`: the process answers.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).body("ok\n")
}

/// `GET /readyz`: ready for work; 503 with the part that is not.
pub async fn readyz(app: Data<State>) -> HttpResponse {
    let database = app.store.ping().await.is_ok();
    let stopping = app.stopping.load(std::sync::atomic::Ordering::Relaxed);
    let body = json!({
        "ready": database && !stopping,
        "database": if database { "up" } else { "down" },
        "stopping": stopping,
        "clients": app.hub.connected(),
        "tasks": app.tasks.states(),
    });
    let mut answer =
        if database && !stopping { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    answer.insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}

/// `GET /readyz` of a server that has no database yet.
pub async fn no_database() -> HttpResponse {
    HttpResponse::ServiceUnavailable()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({"ready": false, "database": "down", "stopping": false}))
}

/// `GET /metrics`, as Prometheus reads it.
pub async fn metrics(app: Data<State>, request: HttpRequest) -> HttpResponse {
    let text = app.metrics.render(&app);
    let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|types| types.contains("application/openmetrics-text")) {
        return HttpResponse::Ok()
            .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
            .body(text);
    }
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(switchback_app::metrics::plain(&text))
}
