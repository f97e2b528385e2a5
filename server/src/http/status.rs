//! The public status page: for customers, from memory, one small request, whatever the database does.
#![expect(clippy::unused_self, reason = "templates reach helpers through their struct")]
#![expect(clippy::trivially_copy_pass_by_ref, reason = "templates pass references")]

use std::sync::LazyLock;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use base64::Engine as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use switchback_store::{Component, ComponentStatus, Impact, Incident};

use super::State;
use super::ui::assets;
use super::ui::words::{format_at, title, word};
use crate::app::status_page::{Board, Overall};

/// Its URLs.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/status", web::get().to(page))
        .route("/status.json", web::get().to(json_page))
        .route("/status/incidents/{incident}", web::get().to(incident));
}

/// The style travels inside the page, so that the page is one request; its hash lets it pass the
/// content security policy.
static STYLE: LazyLock<(String, String)> = LazyLock::new(|| {
    let style = assets::text("status.css");
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(style.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    (style, policy)
});

struct ComponentLine {
    name: String,
    description: String,
    word: String,
    class: &'static str,
}

struct Story {
    id: String,
    name: String,
    class: &'static str,
    impact: String,
    began: i64,
    ended: Option<i64>,
    components: String,
    updates: Vec<Chapter>,
}

struct Chapter {
    status: String,
    body: String,
    at: i64,
}

impl Story {
    fn iso(&self, at: &i64) -> String {
        format_at(*at, "%Y-%m-%dT%H:%M:%SZ")
    }

    fn stamp(&self, at: &i64) -> String {
        format_at(*at, "%Y-%m-%d %H:%M UTC")
    }
}

#[derive(Template)]
#[template(path = "status/page.html")]
struct StatusPage<'a> {
    style: &'a str,
    title: &'a str,
    support_url: &'a str,
    headline: &'static str,
    class: &'static str,
    components: Vec<ComponentLine>,
    open: Vec<Story>,
    months: Vec<(String, Vec<Story>)>,
    read_at: String,
    read_iso: String,
}

#[derive(Template)]
#[template(path = "status/incident.html")]
struct IncidentPage<'a> {
    style: &'a str,
    title: &'a str,
    support_url: &'a str,
    story: Story,
}

/// `GET /status`.
async fn page(app: Data<State>, request: HttpRequest) -> HttpResponse {
    let board = app.status.current();
    let settings = &app.status.settings;
    let open = board.open().map(|incident| story(incident, &board)).collect();
    let mut months: Vec<(String, Vec<Story>)> = Vec::new();
    for incident in board.incidents.iter().filter(|incident| incident.resolved_at.is_some()) {
        let month = format_at(incident.created_at, "%Y-%m");
        let told = story(incident, &board);
        match months.last_mut() {
            Some((name, list)) if *name == month => list.push(told),
            _ => months.push((month, vec![told])),
        }
    }
    let overall = board.overall();
    let page = StatusPage {
        style: &STYLE.0,
        title: &settings.title,
        support_url: &settings.support_url,
        headline: overall.sentence(),
        class: class_of(overall),
        components: board.components.iter().map(component_line).collect(),
        open,
        months,
        read_at: format_at(board.read_at, "%Y-%m-%d %H:%M UTC"),
        read_iso: format_at(board.read_at, "%Y-%m-%dT%H:%M:%SZ"),
    };
    answer(&request, StatusCode::OK, &page)
}

/// `GET /status/incidents/{incident}`.
async fn incident(app: Data<State>, request: HttpRequest, path: Path<String>) -> HttpResponse {
    let board = app.status.current();
    let settings = &app.status.settings;
    let Some(found) = board.incidents.iter().find(|incident| incident.id == *path) else {
        return HttpResponse::SeeOther().insert_header((header::LOCATION, "/status")).finish();
    };
    let page = IncidentPage {
        style: &STYLE.0,
        title: &settings.title,
        support_url: &settings.support_url,
        story: story(found, &board),
    };
    answer(&request, StatusCode::OK, &page)
}

/// `GET /status.json`: the same for programs.
async fn json_page(app: Data<State>) -> HttpResponse {
    let board = app.status.current();
    let overall = board.overall();
    let components = board.components.iter().map(|component| {
        json!({"id": component.key, "name": component.name, "status": component.status})
    });
    let incidents = board.open().map(|incident| {
        json!({
            "id": incident.id, "name": incident.name, "status": incident.status,
            "impact": incident.impact, "created_at": format_at(incident.created_at, "%Y-%m-%dT%H:%M:%SZ"),
        })
    });
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "public, max-age=5")).json(json!({
        "page": {
            "name": app.status.settings.title,
            "updated_at": format_at(board.read_at, "%Y-%m-%dT%H:%M:%SZ"),
        },
        "status": {"indicator": overall.indicator(), "description": overall.sentence()},
        "components": components.collect::<Vec<_>>(),
        "incidents": incidents.collect::<Vec<_>>(),
    }))
}

/// With an ETag over the text: a page that did not change costs a header.
fn answer(request: &HttpRequest, status: StatusCode, page: &impl Template) -> HttpResponse {
    let Ok(text) = page.render() else { return HttpResponse::InternalServerError().finish() };
    let digest = Sha256::digest(text.as_bytes());
    let tag = format!("\"{}\"", assets::hex(digest.get(..8).unwrap_or_default()));
    let seen = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = seen
        .is_some_and(|seen| seen.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut answer = HttpResponse::build(if is_known { StatusCode::NOT_MODIFIED } else { status });
    answer
        .insert_header((header::CACHE_CONTROL, "public, max-age=5"))
        .insert_header((header::ETAG, tag))
        .insert_header((header::CONTENT_SECURITY_POLICY, STYLE.1.as_str()));
    if is_known {
        return answer.finish();
    }
    answer.content_type("text/html; charset=utf-8").body(text)
}

fn component_line(component: &Component) -> ComponentLine {
    ComponentLine {
        name: component.name.clone(),
        description: component.description.clone(),
        word: title(&word(&component.status)),
        class: match component.status {
            ComponentStatus::Operational => "good",
            ComponentStatus::UnderMaintenance => "work",
            ComponentStatus::DegradedPerformance => "slow",
            ComponentStatus::PartialOutage | ComponentStatus::MajorOutage => "down",
        },
    }
}

fn story(incident: &Incident, board: &Board) -> Story {
    let name = |key: &String| {
        let known = board.components.iter().find(|component| component.key == *key);
        known.map_or_else(|| key.clone(), |component| component.name.clone())
    };
    let chapter = |update: &switchback_store::IncidentUpdate| Chapter {
        status: title(&word(&update.status)),
        body: update.body.clone(),
        at: update.created_at,
    };
    let mut updates: Vec<Chapter> = incident.updates.iter().map(chapter).collect();
    updates.sort_by_key(|update| std::cmp::Reverse(update.at));
    Story {
        id: incident.id.clone(),
        name: incident.name.clone(),
        class: match (incident.resolved_at, incident.impact) {
            (Some(_), _) => "good",
            (None, Impact::Major | Impact::Critical) => "down",
            (None, Impact::Maintenance) => "work",
            (None, _) => "slow",
        },
        impact: title(&word(&incident.impact)),
        began: incident.created_at,
        ended: incident.resolved_at,
        components: incident.components.keys().map(name).collect::<Vec<_>>().join(", "),
        updates,
    }
}

fn class_of(overall: Overall) -> &'static str {
    match overall {
        Overall::Operational => "good",
        Overall::Maintenance => "work",
        Overall::Degraded => "slow",
        Overall::Partial | Overall::Major => "down",
    }
}
