//! The public status page: for customers, from memory, one small request, whatever the database does.

mod badge;
mod bars;
pub mod export;
mod feeds;
mod locale;
mod months;
mod place;
pub mod public_api;
mod shelf;
pub mod subscribe;
mod view;

use actix_web::http::header;
use actix_web::web::{self, Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse, Route, guard};
use serde::Deserialize;

pub use shelf::StatusPages;

use months::Month;
use public_api::PARTS;
use shelf::Page;

/// Its URLs. They stand alone, outside the scopes of the other pages: each scope around them would cost what they do
/// themselves.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/status", read().to(home))
        .route("/status.json", read().to(json))
        .route("/status/history", read().to(history))
        .route("/status/feed.atom", read().to(atom))
        .route("/status/feed.rss", read().to(rss))
        .route("/status/badge.svg", read().to(badge))
        .route("/status/board.json", read().to(board));
    for (name, part) in PARTS {
        let document = move |pages: Pages, request: HttpRequest| async move {
            pages.answer(&request, Page::Api(part))
        };
        config.route(&format!("{API}/{name}"), read().to(document));
    }
}

/// Those with a parameter. Each is a regular expression that whatever is registered later has to fail first.
pub fn rarer_routes(config: &mut web::ServiceConfig) {
    config
        .route("/status/incidents/{incident}", read().to(incident))
        .route("/status/badges/{component}.svg", read().to(component_badge))
        .service(web::scope(API).default_service(web::to(crate::problem::no_such_route)));
}

/// For `GET` and `HEAD`.
fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

type Pages = Data<StatusPages>;

/// Where Statuspage's public API is.
const API: &str = "/api/v2";

/// `GET /status`.
async fn home(pages: Pages, request: HttpRequest) -> HttpResponse {
    pages.answer(&request, Page::Home)
}

#[derive(Deserialize)]
struct HistoryQuery {
    month: Option<String>,
}

/// `GET /status/history?month=2026-10`; without a month, this one.
async fn history(pages: Pages, request: HttpRequest, query: Query<HistoryQuery>) -> HttpResponse {
    let month = match query.month.as_deref() {
        None | Some("") => Some(pages.this_month()),
        Some(text) => Month::read(text),
    };
    // A month that cannot be read is as unknown as one of long ago.
    pages.answer(&request, Page::Month(month.unwrap_or_else(Month::none)))
}

/// `GET /status/incidents/{incident}`.
async fn incident(pages: Pages, request: HttpRequest, path: Path<String>) -> HttpResponse {
    pages.answer(&request, Page::Incident(path.into_inner()))
}

/// `GET /status.json`: the same for programs.
async fn json(pages: Pages, request: HttpRequest) -> HttpResponse {
    pages.answer(&request, Page::Json)
}

/// `GET /status/feed.atom`.
async fn atom(pages: Pages, request: HttpRequest) -> HttpResponse {
    pages.answer(&request, Page::Atom)
}

/// `GET /status/feed.rss`.
async fn rss(pages: Pages, request: HttpRequest) -> HttpResponse {
    pages.answer(&request, Page::Rss)
}

/// `GET /status/badge.svg`.
async fn badge(pages: Pages, request: HttpRequest) -> HttpResponse {
    pages.answer(&request, Page::Badge(None))
}

/// `GET /status/badges/{component}.svg`.
async fn component_badge(pages: Pages, request: HttpRequest, path: Path<String>) -> HttpResponse {
    pages.answer(&request, Page::Badge(Some(path.into_inner())))
}

/// `GET /status/board.json`: everything that the pages are made from, for `switchback status export`.
async fn board(pages: Pages, request: HttpRequest) -> HttpResponse {
    pages.answer(&request, Page::Board)
}

/// What stands everywhere else while a server that was just started has no database.
pub async fn waiting(pages: Pages, request: HttpRequest) -> HttpResponse {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let mut answer = HttpResponse::ServiceUnavailable();
    answer
        .insert_header((header::RETRY_AFTER, "5"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        let (page, policy) = pages.waiting();
        return answer
            .insert_header((header::CONTENT_SECURITY_POLICY, policy))
            .content_type("text/html; charset=utf-8")
            .body(page);
    }
    let detail = "the database cannot be reached; the status page is served, everything else follows by itself";
    let status = actix_web::http::StatusCode::SERVICE_UNAVAILABLE;
    let problem = crate::problem::problem(status, "unavailable", detail);
    answer.content_type("application/problem+json").body(problem.to_string())
}
