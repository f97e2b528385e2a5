//! Statuspage's management API under `/v1`: scripts and tools that post to Statuspage post here with another base URL and key.
//!
//! Source: Statuspage's public REST description, version 1. Ids are ours; what has no counterpart here is accepted and ignored where it
//! is a wish (`auto_tweet_*`, reminders), and refused where it would be a promise (metrics, phone numbers).

mod body;
mod components;
mod incidents;
mod subscribers;

use actix_web::http::{Method, StatusCode, header};
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use switchback_app::{AppError, Who};

use crate::State;
use crate::problem::{log_failure, status_of};
use crate::status::public_api::page_id_of;
use crate::ui::fields::Fields;

/// A request's body at most, in bytes.
const BODY_BYTES_MAX: usize = 128 * 1024;
/// Items of a page of a list, and at most.
const PER_PAGE: usize = 100;

/// Its URLs.
pub fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/v1")
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .route("/pages{tail:.*}", web::to(serve)),
    );
}

/// A call that may be answered.
struct Call<'c> {
    app: &'c State,
    who: &'c Who,
    page: &'c str,
    query: &'c Fields,
    body: &'c Value,
}

impl Call<'_> {
    /// The object under a name, such as `incident`; clients also send its fields bare.
    fn object(&self, name: &str) -> Value {
        match self.body.get(name) {
            Some(inner) if inner.is_object() => inner.clone(),
            _ => self.body.clone(),
        }
    }

    /// One page of a list, as `page` and `limit` (or `per_page`) ask for it.
    fn cut(&self, all: Vec<Value>) -> Value {
        let number = |name: &str| self.query.some(name).and_then(|text| text.parse::<usize>().ok());
        let limit = number("limit").or(number("per_page")).unwrap_or(PER_PAGE).clamp(1, PER_PAGE);
        let skip = number("page").unwrap_or(1).saturating_sub(1).saturating_mul(limit);
        all.into_iter().skip(skip).take(limit).collect()
    }
}

/// What a call gives: a status and a body.
type Answer = Result<(StatusCode, Value), AppError>;

#[expect(clippy::unnecessary_wraps, reason = "the arms of a match read alike")]
fn ok(body: Value) -> Answer {
    Ok((StatusCode::OK, body))
}

#[expect(clippy::unnecessary_wraps, reason = "the arms of a match read alike")]
fn created(body: Value) -> Answer {
    Ok((StatusCode::CREATED, body))
}

fn nothing_there() -> AppError {
    AppError::NotFound { kind: "address", key: "this one".to_owned() }
}

async fn serve(
    app: Data<State>,
    request: HttpRequest,
    path: Path<String>,
    bytes: Bytes,
) -> HttpResponse {
    match answer(&app, &request, &path, &bytes).await {
        Ok((StatusCode::NO_CONTENT, _)) => HttpResponse::NoContent().finish(),
        Ok((status, body)) => HttpResponse::build(status)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(body),
        Err(error) => {
            log_failure(&error);
            let status = status_of(&error);
            HttpResponse::build(status)
                .insert_header((header::CACHE_CONTROL, "no-store"))
                .json(json!({"message": error.to_string(), "error": error.to_string()}))
        }
    }
}

async fn answer(app: &State, request: &HttpRequest, path: &str, bytes: &Bytes) -> Answer {
    let query = Fields::parse(request.query_string().as_bytes());
    let who = who(app, request, &query).await?;
    let page = page_id_of(&app.public_url);
    let body = body::read(request, bytes)?;
    let path = path.strip_suffix(".json").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let method = request.method();
    let call = Call { app, who: &who, page: &page, query: &query, body: &body };
    let Some((own, rest)) = parts.split_first() else {
        return match *method {
            Method::GET => ok(json!([page_json(&call)])),
            _ => Err(nothing_there()),
        };
    };
    if *own != page {
        return Err(AppError::NotFound { kind: "page", key: (*own).to_owned() });
    }
    match (method.as_str(), rest) {
        ("GET", []) => ok(page_json(&call)),
        ("PATCH" | "PUT", []) => {
            let message = "the page's name and links are set in switchback.toml, under [status]";
            Err(AppError::invalid("page", message))
        }
        (_, ["incidents", rest @ ..]) => incidents::answer(&call, method.as_str(), rest).await,
        (_, ["components" | "component-groups" | "incident_templates", ..]) => {
            components::answer(&call, method.as_str(), rest).await
        }
        (_, ["subscribers", rest @ ..]) => {
            subscribers::answer(&call, method.as_str(), None, rest).await
        }
        ("POST", ["metrics", ..]) => {
            Err(AppError::invalid("metrics", "this page shows no metrics of its own"))
        }
        _ => Err(nothing_there()),
    }
}

/// The key: `Authorization: OAuth <key>`, or `api_key` in the query.
async fn who(app: &State, request: &HttpRequest, query: &Fields) -> Result<Who, AppError> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = header.map(|text| {
        let text = text.trim();
        text.strip_prefix("OAuth ").or_else(|| text.strip_prefix("Bearer ")).unwrap_or(text).trim()
    });
    let asked = query.some("api_key");
    let key = key.or(asked.as_deref()).ok_or(AppError::Unauthorized)?;
    super::api_caller(app, key).await
}

fn page_json(call: &Call<'_>) -> Value {
    let look = &call.app.status.look;
    json!({
        "id": call.page, "name": look.title, "url": format!("{}/status", call.app.public_url),
        "support_url": look.support_url, "time_zone": "Etc/UTC", "allow_email_subscribers": call.app.sends_mail(),
        "allow_webhook_subscribers": true, "allow_sms_subscribers": false, "allow_rss_atom_feeds": true,
        "allow_incident_subscribers": true, "viewers_must_be_team_members": false,
    })
}
