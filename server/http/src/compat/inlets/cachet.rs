//! Cachet v3's API for incidents and components, and the plain form `{title, status, message}`, both at `/api/incidents`.
//!
//! Source: Cachet's API reference, version 3. Reading is public, as there; what only the team sees is not in it. Ids are ours: texts.

use std::collections::BTreeMap;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use switchback_app::incidents::{IncidentDraft, UpdateDraft};
use switchback_app::status_page::Overall;
use switchback_app::{AppError, Reach, Who};
use switchback_store::{Audience, Component, ComponentStatus, Impact, Incident, IncidentStatus};

use crate::State;
use crate::auth::client_address;
use crate::compat::api_caller;
use crate::problem::{log_failure, status_of};
use crate::ui::fields::Fields;
use crate::ui::words::format_at;

/// A request's body at most, in bytes.
const BODY_BYTES_MAX: usize = 128 * 1024;
/// Incidents that a list looks at.
const LISTED_MAX: i64 = 500;
/// Reads a second that one address may make; Cachet allows five.
const READS_PER_SECOND: u32 = 10;
/// Items of a page, and at most.
const PER_PAGE: usize = 15;
const PER_PAGE_MAX: usize = 100;

/// Its URLs.
pub fn routes(config: &mut web::ServiceConfig) {
    for (path, part) in [
        ("/api/ping", "ping"),
        ("/api/version", "version"),
        ("/api/status", "status"),
        ("/api/incidents{tail:(/.*)?}", "incidents"),
        ("/api/components{tail:(/.*)?}", "components"),
        ("/api/component-groups", "component-groups"),
    ] {
        let serve = move |app: Data<State>,
                          request: HttpRequest,
                          path: Path<Tail>,
                          bytes: Bytes| async move {
            serve(&app, &request, part, &path.tail, &bytes).await
        };
        config.service(
            web::resource(path)
                .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
                .route(web::to(serve)),
        );
    }
}

#[derive(serde::Deserialize)]
struct Tail {
    #[serde(default)]
    tail: String,
}

type Answer = Result<(StatusCode, Value), AppError>;

async fn serve(
    app: &State,
    request: &HttpRequest,
    part: &str,
    tail: &str,
    bytes: &[u8],
) -> HttpResponse {
    match answer(app, request, part, tail, bytes).await {
        Ok((StatusCode::NO_CONTENT, _)) => HttpResponse::NoContent().finish(),
        Ok((status, body)) => HttpResponse::build(status)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(body),
        Err(error) => {
            log_failure(&error);
            let mut body = json!({"message": error.to_string()});
            if let (AppError::Invalid(wrong), Some(body)) = (&error, body.as_object_mut()) {
                let mut errors: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
                for one in wrong {
                    errors.entry(&one.field).or_default().push(&one.message);
                }
                body.insert("errors".to_owned(), json!(errors));
            }
            HttpResponse::build(status_of(&error))
                .insert_header((header::CACHE_CONTROL, "no-store"))
                .json(body)
        }
    }
}

async fn answer(
    app: &State,
    request: &HttpRequest,
    part: &str,
    tail: &str,
    bytes: &[u8],
) -> Answer {
    let query = Fields::parse(request.query_string().as_bytes());
    let rest: Vec<&str> = tail.split('/').filter(|step| !step.is_empty()).collect();
    let method = request.method().as_str();
    if method == "GET" {
        // Anybody may read, and some of it takes the database.
        let peer = client_address(request, &app.config.trusted_proxies);
        let now = app.clock.now();
        if !app.brake_of_browsers.admits("cachet", &peer, now, READS_PER_SECOND) {
            return Err(AppError::TooMany { seconds: 1 });
        }
    }
    match (part, method, rest.as_slice()) {
        ("ping", "GET", []) => return ok(json!({"data": "Pong!"})),
        ("version", "GET", []) => {
            return ok(json!({"data": {"version": "3.0", "server": env!("CARGO_PKG_VERSION")}}));
        }
        ("status", "GET", []) => return ok(status(app)),
        ("component-groups", "GET", []) => {
            let board = app.status.current();
            let groups = board.groups.iter().map(|one| {
                json!({"id": one.key, "type": "componentGroups", "attributes": {
                    "id": one.key, "name": one.name, "order": one.position, "visible": 1,
                }})
            });
            return ok(page(&query, groups.collect()));
        }
        ("components", "GET", []) => {
            let board = app.status.current();
            return ok(page(&query, board.components.iter().map(component_json).collect()));
        }
        ("components", "GET", [key]) => {
            let board = app.status.current();
            let found = board.components.iter().find(|one| one.key == *key);
            let missing = || AppError::NotFound { kind: "component", key: (*key).to_owned() };
            return ok(json!({"data": component_json(found.ok_or_else(missing)?)}));
        }
        ("incidents", "GET", rest) => return shown(app, &query, rest).await,
        _ => {}
    }
    let who = who(app, request).await?;
    let body: Value = if bytes.is_empty() {
        json!({})
    } else {
        let wrong = |error: serde_json::Error| {
            AppError::invalid("body", format!("the body cannot be read: {error}"))
        };
        serde_json::from_slice(bytes).map_err(wrong)?
    };
    match (part, method, rest.as_slice()) {
        ("incidents", "POST", []) if body.get("title").is_some() => plain(app, &who, &body).await,
        ("incidents", "POST", []) => open(app, &who, &body).await,
        ("incidents", "PUT" | "PATCH", [id]) => change(app, &who, id, &body).await,
        ("incidents", "POST", [id, "updates"]) => {
            let status = status_in(&body)?;
            let status = status.ok_or_else(|| AppError::invalid("status", "it is needed"))?;
            let message = needed(&body, "message")?;
            let draft = UpdateDraft::new(status, &message);
            let incident = app.update_incident(&who, id, draft, None).await?;
            let said = incident.updates.first().map(|said| update_json(&incident.id, said));
            created(json!({"data": said}))
        }
        ("incidents", "DELETE", [id]) => {
            app.withdraw_incident(&who, id).await?;
            Ok((StatusCode::NO_CONTENT, Value::Null))
        }
        ("components", "PUT" | "PATCH", [key]) => {
            let status = component_status(body.get("status"))?;
            if let Some(status) = status {
                app.set_component_status(&who, key, status, "by Cachet's API").await?;
            }
            let all = app.list_components(&who).await?;
            let found = all.iter().find(|one| one.key == *key);
            let missing = || AppError::NotFound { kind: "component", key: (*key).to_owned() };
            ok(json!({"data": component_json(found.ok_or_else(missing)?)}))
        }
        _ => Err(AppError::NotFound { kind: "address", key: "this one".to_owned() }),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the arms of a match read alike")]
fn ok(body: Value) -> Answer {
    Ok((StatusCode::OK, body))
}

#[expect(clippy::unnecessary_wraps, reason = "the arms of a match read alike")]
fn created(body: Value) -> Answer {
    Ok((StatusCode::CREATED, body))
}

async fn who(app: &State, request: &HttpRequest) -> Result<Who, AppError> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.map(|text| text.trim().strip_prefix("Bearer ").unwrap_or(text).trim());
    api_caller(app, token.ok_or(AppError::Unauthorized)?).await
}

fn needed(body: &Value, field: &str) -> Result<String, AppError> {
    let text = body.get(field).and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if text.is_empty() {
        return Err(AppError::invalid(field, "a text is needed"));
    }
    Ok(text.to_owned())
}

/// `{title, status, message}`: the smallest form there is.
async fn plain(app: &State, who: &Who, body: &Value) -> Answer {
    let (name, message) = (needed(body, "title")?, needed(body, "message")?);
    // Some callers say `in_progress` for what is merely being worked on; for planned work it needs a time.
    let status = match body.get("status").and_then(Value::as_str).unwrap_or("investigating") {
        "investigating" | "in_progress" | "open" => IncidentStatus::Investigating,
        "identified" => IncidentStatus::Identified,
        "monitoring" | "watching" => IncidentStatus::Monitoring,
        "resolved" | "fixed" | "closed" => IncidentStatus::Resolved,
        other => {
            let message = format!(
                "`{other}` is none of investigating, in_progress, identified, monitoring and resolved"
            );
            return Err(AppError::invalid("status", message));
        }
    };
    let draft = IncidentDraft::new(&name, status, Impact::Minor, &message);
    let incident = app.open_incident(who, draft, None).await?;
    created(json!({
        "id": incident.id, "title": incident.name, "status": incident.status, "message": message,
        "url": format!("{}/status/incidents/{}", app.public_url, incident.id),
        "created_at": format_at(incident.created_at, "%Y-%m-%dT%H:%M:%SZ"),
    }))
}

async fn open(app: &State, who: &Who, body: &Value) -> Answer {
    let name = needed(body, "name")?;
    let status = status_in(body)?.ok_or_else(|| AppError::invalid("status", "it is needed"))?;
    let template = body.get("template").and_then(Value::as_str);
    let text = match template {
        Some(template) => {
            let vars = body.get("template_vars").cloned().unwrap_or_else(|| json!({}));
            let vars = serde_json::from_value(vars)
                .map_err(|error| AppError::invalid("template_vars", error.to_string()))?;
            Some(app.fill_template(who, template, &vars).await?)
        }
        None => None,
    };
    let message = match &text {
        Some(text) => text.body.clone(),
        None => needed(body, "message")?,
    };
    let mut components = BTreeMap::new();
    let listed = body.get("components").and_then(Value::as_array);
    for one in listed.into_iter().flatten() {
        if let (Some(key), Some(status)) =
            (id_of(one.get("id")), component_status(one.get("status"))?)
        {
            components.insert(key, status);
        }
    }
    if let (Some(key), Some(status)) =
        (id_of(body.get("component_id")), component_status(body.get("component_status"))?)
    {
        components.insert(key, status);
    }
    let is_visible = body.get("visible").is_some_and(|value| value == true || value == 1);
    let tells = body.get("notifications").is_some_and(|value| value == true || value == 1);
    let impact = match components.values().max() {
        Some(ComponentStatus::MajorOutage) => Impact::Critical,
        Some(ComponentStatus::PartialOutage) => Impact::Major,
        _ => Impact::Minor,
    };
    let meta = body.get("meta").cloned().unwrap_or_else(|| json!({}));
    let metadata: BTreeMap<String, Value> =
        serde_json::from_value(meta).map_err(|e| AppError::invalid("meta", e.to_string()))?;
    let draft = IncidentDraft {
        components,
        template: template.map(str::to_owned),
        says: text.map(|text| text.says).unwrap_or_default(),
        audience: if is_visible { Audience::Public } else { Audience::Team },
        reach: Reach { is_quiet: !tells, ..Reach::default() },
        metadata,
        ..IncidentDraft::new(&name, status, impact, &message)
    };
    let incident = app.open_incident(who, draft, None).await?;
    created(json!({"data": incident_json(&incident)}))
}

async fn change(app: &State, who: &Who, id: &str, body: &Value) -> Answer {
    let before = app.get_incident(who, id).await?;
    let status = status_in(body)?.unwrap_or(before.status);
    let message = body.get("message").and_then(Value::as_str);
    let last = before.updates.first().map(|said| said.body.clone()).unwrap_or_default();
    let name = body.get("name").and_then(Value::as_str).map(str::to_owned);
    let text = message.map_or(last, str::to_owned);
    let draft = UpdateDraft { name, ..UpdateDraft::new(status, &text) };
    let incident = app.update_incident(who, id, draft, None).await?;
    ok(json!({"data": incident_json(&incident)}))
}

async fn shown(app: &State, query: &Fields, rest: &[&str]) -> Answer {
    let reader = Who::with_role("public", switchback_store::Role::Viewer);
    let missing = |id: &str| AppError::NotFound { kind: "incident", key: id.to_owned() };
    let find = async |id: &str| {
        let found = app.get_incident(&reader, id).await?;
        let is_public = found.audience == Audience::Public && found.withdrawn_at.is_none();
        if is_public { Ok(found) } else { Err(missing(id)) }
    };
    match rest {
        [] => {
            let all = app.list_incidents(&reader, false, None, LISTED_MAX).await?;
            let wanted = query.some("filter[status]");
            let has = |one: &&Incident| {
                let status =
                    wanted.as_ref().is_none_or(|text| *text == number(one.status).to_string());
                one.audience == Audience::Public && status
            };
            ok(page(query, all.iter().filter(has).map(incident_json).collect()))
        }
        [id] => ok(json!({"data": incident_json(&find(id).await?)})),
        [id, "updates"] => {
            let found = find(id).await?;
            let said = found.updates.iter().map(|said| update_json(id, said));
            ok(page(query, said.collect()))
        }
        _ => Err(AppError::NotFound { kind: "address", key: "this one".to_owned() }),
    }
}

fn page(query: &Fields, all: Vec<Value>) -> Value {
    let number = |name: &str| query.some(name).and_then(|text| text.parse::<usize>().ok());
    let per_page = number("per_page").unwrap_or(PER_PAGE).clamp(1, PER_PAGE_MAX);
    let at = number("page").unwrap_or(1).max(1);
    let total = all.len();
    let data: Vec<Value> =
        all.into_iter().skip((at - 1).saturating_mul(per_page)).take(per_page).collect();
    json!({
        "data": data,
        "links": {"first": null, "last": null, "prev": null, "next": null},
        "meta": {"current_page": at, "per_page": per_page, "total": total, "last_page": total.div_ceil(per_page).max(1)},
    })
}

fn status(app: &State) -> Value {
    let overall = app.status.current().overall();
    let word = match overall {
        Overall::Operational | Overall::Degraded => "operational",
        Overall::Maintenance => "under_maintenance",
        Overall::Partial => "partial_outage",
        Overall::Major => "major_outage",
    };
    json!({"data": {"status": word, "message": overall.sentence()}})
}

/// Ids are texts here; clients may send them as numbers.
fn id_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn status_in(body: &Value) -> Result<Option<IncidentStatus>, AppError> {
    let Some(value) = body.get("status") else { return Ok(None) };
    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    match number {
        Some(0 | 1) => Ok(Some(IncidentStatus::Investigating)),
        Some(2) => Ok(Some(IncidentStatus::Identified)),
        Some(3) => Ok(Some(IncidentStatus::Monitoring)),
        Some(4) => Ok(Some(IncidentStatus::Resolved)),
        _ => Err(AppError::invalid(
            "status",
            "0 to 4 is expected: unknown, investigating, identified, watching, fixed",
        )),
    }
}

fn number(status: IncidentStatus) -> u8 {
    match status {
        IncidentStatus::Investigating | IncidentStatus::Scheduled => 1,
        IncidentStatus::Identified | IncidentStatus::InProgress => 2,
        IncidentStatus::Monitoring | IncidentStatus::Verifying => 3,
        IncidentStatus::Resolved | IncidentStatus::Completed => 4,
    }
}

fn component_status(value: Option<&Value>) -> Result<Option<ComponentStatus>, AppError> {
    let Some(value) = value else { return Ok(None) };
    match value.as_i64().or_else(|| value.as_str()?.parse().ok()) {
        Some(1) => Ok(Some(ComponentStatus::Operational)),
        Some(2) => Ok(Some(ComponentStatus::DegradedPerformance)),
        Some(3) => Ok(Some(ComponentStatus::PartialOutage)),
        Some(4) => Ok(Some(ComponentStatus::MajorOutage)),
        Some(6) => Ok(Some(ComponentStatus::UnderMaintenance)),
        Some(5) => Ok(None), // unknown: it stays as it is
        _ => Err(AppError::invalid(
            "components.status",
            "1 to 6 is expected: operational, performance issues, \
                 partial outage, major outage, unknown, under maintenance",
        )),
    }
}

fn moment(at: i64) -> Value {
    json!({"human": format_at(at, "%Y-%m-%d %H:%M UTC"), "string": format_at(at, "%Y-%m-%d %H:%M:%S")})
}

fn human(status: IncidentStatus) -> &'static str {
    match number(status) {
        1 => "Investigating",
        2 => "Identified",
        3 => "Watching",
        _ => "Fixed",
    }
}

fn incident_json(one: &Incident) -> Value {
    let visible = u8::from(one.audience == Audience::Public);
    json!({
        "id": one.id, "type": "incidents", "attributes": {
            "id": one.id, "guid": one.id, "name": one.name,
            "message": one.updates.last().map(|said| &said.body),
            "visible": visible, "stickied": false, "notifications": one.updates.last().is_some_and(|said| said.is_announced),
            "meta": one.metadata, "status": {"human": human(one.status), "value": number(one.status)},
            "occurred": moment(one.began_at()), "published": moment(one.created_at),
            "created": moment(one.created_at), "updated": moment(one.updated_at),
        },
        "relationships": {"components": {"data": one.components.keys().map(|key| json!({"type": "components", "id": key})).collect::<Vec<_>>()}},
    })
}

fn update_json(incident: &str, said: &switchback_store::IncidentUpdate) -> Value {
    json!({
        "id": said.id, "type": "updates", "attributes": {
            "id": said.id, "incident_id": incident, "message": said.body,
            "status": {"human": human(said.status), "value": number(said.status)},
            "created": moment(said.created_at), "updated": moment(said.created_at),
        },
    })
}

fn component_json(one: &Component) -> Value {
    let (value, human) = match one.status {
        ComponentStatus::Operational => (1, "Operational"),
        ComponentStatus::DegradedPerformance => (2, "Performance issues"),
        ComponentStatus::PartialOutage => (3, "Partial outage"),
        ComponentStatus::MajorOutage => (4, "Major outage"),
        ComponentStatus::UnderMaintenance => (6, "Under maintenance"),
    };
    json!({
        "id": one.key, "type": "components", "attributes": {
            "id": one.key, "name": one.name, "description": one.description, "link": null, "order": one.position,
            "status": {"human": human, "value": value}, "enabled": true, "meta": {},
            "created": moment(one.created_at), "updated": moment(one.updated_at),
        },
    })
}
