//! Errors as HTTP problem details (RFC 9457): what, where, what is allowed.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, ResponseError, error, web};
use serde_json::json;
use switchback_app::AppError;

/// The status that goes with an error.
pub fn status_of(error: &AppError) -> StatusCode {
    match error {
        AppError::NotFound { .. } => StatusCode::NOT_FOUND,
        AppError::Exists { .. } | AppError::Conflict { .. } | AppError::Refused(_) => {
            StatusCode::CONFLICT
        }
        AppError::Unauthorized => StatusCode::UNAUTHORIZED,
        AppError::Forbidden { .. } | AppError::WrongToken(_) => StatusCode::FORBIDDEN,
        AppError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        AppError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        AppError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        AppError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Logs what nobody else will: the cause of a failure that the caller cannot see.
pub fn log_failure(error: &AppError) {
    match error {
        AppError::Internal(source) => tracing::error!(error = ?source, "a request failed"),
        AppError::Unavailable(source) => {
            tracing::warn!(error = ?source, "the database did not answer a request");
        }
        _ => {}
    }
}

/// An error on its way to whoever asked.
#[derive(Debug)]
pub struct Problem(pub AppError);

impl<E: Into<AppError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        status_of(&self.0)
    }

    fn error_response(&self) -> HttpResponse {
        let error = &self.0;
        log_failure(error);
        let status = status_of(error);
        let mut body = problem(status, error.code(), &error.to_string());
        if let (AppError::Invalid(wrong), Some(object)) = (error, body.as_object_mut()) {
            object.insert("errors".to_owned(), json!(wrong));
        }
        if let (AppError::Conflict { current }, Some(object)) = (error, body.as_object_mut()) {
            object.insert("current_revision".to_owned(), json!(current));
        }
        let mut answer = HttpResponse::build(status);
        answer.content_type("application/problem+json");
        match error {
            AppError::TooMany { seconds } => {
                answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
            }
            AppError::Unavailable(_) => {
                answer.insert_header((header::RETRY_AFTER, "2"));
            }
            AppError::Unauthorized => {
                answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            _ => {}
        }
        answer.body(body.to_string())
    }
}

/// A problem's body. The type is a stable word, explained in the API's documentation.
pub fn problem(status: StatusCode, code: &str, detail: &str) -> serde_json::Value {
    json!({
        "type": format!("/docs/errors#{code}"),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    })
}

fn answer(status: StatusCode, code: &str, detail: &str) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("application/problem+json")
        .body(problem(status, code, detail).to_string())
}

/// JSON bodies: what is wrong and where.
pub fn json_config() -> web::JsonConfig {
    web::JsonConfig::default()
        .limit(super::BODY_BYTES_MAX)
        .content_type_required(false)
        .error_handler(|error, _| {
            let (status, detail) = match &error {
                error::JsonPayloadError::Overflow { limit }
                | error::JsonPayloadError::OverflowKnownLength { limit, .. } => {
                    (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {limit} bytes"))
                }
                error::JsonPayloadError::Deserialize(inner) => {
                    (StatusCode::UNPROCESSABLE_ENTITY, format!("the body cannot be read: {inner}"))
                }
                other => (StatusCode::BAD_REQUEST, format!("the body cannot be read: {other}")),
            };
            let response = answer(status, "invalid", &detail);
            error::InternalError::from_response(error, response).into()
        })
}

/// Path parameters that do not parse name nothing that exists.
pub fn path_config() -> web::PathConfig {
    web::PathConfig::default().error_handler(|error, _| {
        let response = answer(StatusCode::NOT_FOUND, "not_found", &error.to_string());
        error::InternalError::from_response(error, response).into()
    })
}

/// Query parameters: what is wrong.
pub fn query_config() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|error, _| {
        let response = answer(StatusCode::UNPROCESSABLE_ENTITY, "invalid", &error.to_string());
        error::InternalError::from_response(error, response).into()
    })
}

/// No such URL at all: a page for people, a problem for programs.
pub async fn no_such_address(request: HttpRequest) -> HttpResponse {
    if asks_for_a_page(&request) {
        return crate::ui::error::no_such_page(request).await;
    }
    no_such_route(request).await
}

/// Browsers name HTML when they open an address; programs and `*/*` do not.
fn asks_for_a_page(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    accept.and_then(|types| types.to_str().ok()).is_some_and(|types| types.contains("text/html"))
}

/// No such URL in the API.
pub async fn no_such_route(request: HttpRequest) -> HttpResponse {
    let detail = format!("there is nothing at {}", request.path());
    answer(StatusCode::NOT_FOUND, "not_found", &detail)
}

/// The URL exists, for other methods.
pub async fn wrong_method(request: HttpRequest) -> HttpResponse {
    let detail = format!("{} takes other methods than {}", request.path(), request.method());
    answer(StatusCode::METHOD_NOT_ALLOWED, "invalid", &detail)
}
