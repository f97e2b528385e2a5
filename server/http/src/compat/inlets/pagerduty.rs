//! PagerDuty's Events API v2 as an inlet: what pages elsewhere opens, takes and closes an incident of the team here.
//!
//! The routing key is one of our API tokens. What is opened is for the team: a tool's alert is not yet a word to customers.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use switchback_app::incidents::{IncidentDraft, UpdateDraft};
use switchback_app::{App, AppError};
use switchback_store::{Audience, Impact, IncidentStatus};

use crate::State;
use crate::compat::api_caller;
use crate::problem::{log_failure, status_of};

/// An event's body at most, in bytes; what PagerDuty takes.
const BODY_BYTES_MAX: usize = 512 * 1024;
/// The longest key, in characters.
const KEY_MAX: usize = 255;

/// Its URL.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/v2/enqueue")
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .route(web::post().to(enqueue)),
    );
}

#[derive(Deserialize)]
struct Event {
    routing_key: String,
    #[serde(rename = "event_action")]
    action: String,
    dedup_key: Option<String>,
    payload: Option<Payload>,
}

#[derive(Deserialize)]
struct Payload {
    summary: String,
    source: String,
    severity: String,
    component: Option<String>,
    #[serde(default)]
    custom_details: Value,
}

async fn enqueue(app: Data<State>, bytes: Bytes) -> HttpResponse {
    let event: Event = match serde_json::from_slice(&bytes) {
        Ok(event) => event,
        Err(error) => return refused(&[error.to_string()]),
    };
    match take(&app, event).await {
        Ok(key) => HttpResponse::Accepted()
            .json(json!({"status": "success", "message": "Event processed", "dedup_key": key})),
        Err(AppError::Invalid(wrong)) => {
            let said: Vec<String> =
                wrong.iter().map(|one| format!("{}: {}", one.field, one.message)).collect();
            refused(&said)
        }
        Err(error) => {
            log_failure(&error);
            let status = match status_of(&error) {
                StatusCode::UNAUTHORIZED => StatusCode::BAD_REQUEST, // as PagerDuty answers a wrong key
                status => status,
            };
            let said = error.to_string();
            HttpResponse::build(status)
                .json(json!({"status": "invalid event", "message": said, "errors": [said]}))
        }
    }
}

fn refused(errors: &[String]) -> HttpResponse {
    let message = "Event object is invalid";
    HttpResponse::BadRequest()
        .json(json!({"status": "invalid event", "message": message, "errors": errors}))
}

async fn take(app: &App, event: Event) -> Result<String, AppError> {
    let who = api_caller(app, &event.routing_key).await?;
    let given = event.dedup_key.filter(|key| !key.is_empty());
    if given.as_ref().is_some_and(|key| key.chars().count() > KEY_MAX) {
        let message = format!("at most {KEY_MAX} characters");
        return Err(AppError::invalid("dedup_key", message));
    }
    let known = match &given {
        Some(key) => app.find_open_by_key(&kept_as(&who.name, key)).await?,
        None => None,
    };
    match (event.action.as_str(), known) {
        ("trigger", known) => {
            let missing = || AppError::invalid("payload", "it is needed to trigger");
            let payload = event.payload.ok_or_else(missing)?;
            let impact = match payload.severity.as_str() {
                "critical" => Impact::Critical,
                "error" => Impact::Major,
                "warning" => Impact::Minor,
                "info" => Impact::None,
                other => {
                    let message = format!("`{other}` is none of critical, error, warning and info");
                    return Err(AppError::invalid("payload.severity", message));
                }
            };
            let key = given.unwrap_or_else(|| app.ids.next("pd"));
            if known.is_some() {
                return Ok(key); // the same alert once more
            }
            let name: String = payload.summary.chars().take(255).collect();
            let body = format!("{}\nFrom {}.", payload.summary, payload.source);
            let mut kept = Map::new();
            kept.insert("source".to_owned(), json!(payload.source));
            kept.insert("component".to_owned(), json!(payload.component));
            if payload.custom_details.to_string().len() < 4_096 {
                kept.insert("details".to_owned(), payload.custom_details);
            }
            let draft = IncidentDraft {
                audience: Audience::Team,
                metadata: [("event".to_owned(), Value::Object(kept))].into(),
                ..IncidentDraft::new(&name, IncidentStatus::Investigating, impact, &body)
            };
            app.open_incident_again(&who, draft, &kept_as(&who.name, &key)).await?;
            Ok(key)
        }
        ("acknowledge" | "resolve", _) if given.is_none() => {
            Err(AppError::invalid("dedup_key", "it is needed to acknowledge or resolve"))
        }
        ("acknowledge", known) => {
            if let Some(incident) = known {
                app.handle_incident(&who, &incident.id, Some(&who.name)).await?;
            }
            Ok(given.unwrap_or_default())
        }
        ("resolve", known) => {
            if let Some(incident) = known {
                let text = "The alert that opened this is over.";
                let draft = UpdateDraft::new(IncidentStatus::Resolved, text);
                app.update_incident(&who, &incident.id, draft, None).await?;
            }
            Ok(given.unwrap_or_default())
        }
        (other, _) => {
            let message = format!("`{other}` is none of trigger, acknowledge and resolve");
            Err(AppError::invalid("event_action", message))
        }
    }
}

/// Keys are a sender's own.
fn kept_as(sender: &str, key: &str) -> String {
    format!("event {sender} {key}")
}
