//! Errors as pages: what happened, what it means, what to do.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use askama::Template;
use switchback_app::AppError;

use crate::problem::{log_failure, status_of};

/// What went wrong on the way to a page.
#[derive(Debug)]
pub struct UiError {
    error: AppError,
    /// Where someone who is not signed in wanted to go.
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "pages/error.html")]
struct ErrorPage<'a> {
    status: u16,
    headline: &'a str,
    message: &'a str,
    advice: &'a str,
    code: &'a str,
}

impl UiError {
    /// With the page that was asked for, so that signing in leads back there.
    pub fn at(error: AppError, request: &HttpRequest) -> Self {
        let next = request.uri().path_and_query().map(|path| path.as_str().to_owned());
        Self { error, next: next.filter(|_| request.method().is_safe()) }
    }

    /// A template that failed: a defect.
    pub fn broken_page(error: askama::Error) -> Self {
        AppError::Internal(Box::new(error)).into()
    }
}

impl From<AppError> for UiError {
    fn from(error: AppError) -> Self {
        Self { error, next: None }
    }
}

impl std::fmt::Display for UiError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(out)
    }
}

impl ResponseError for UiError {
    fn status_code(&self) -> StatusCode {
        match self.error {
            AppError::Unauthorized => StatusCode::SEE_OTHER,
            ref error => status_of(error),
        }
    }

    fn error_response(&self) -> HttpResponse {
        log_failure(&self.error);
        if matches!(self.error, AppError::Unauthorized) {
            let next = self.next.as_deref().filter(|next| *next != "/").unwrap_or_default();
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("next", next)
                .finish();
            let place =
                if next.is_empty() { "/sign-in".to_owned() } else { format!("/sign-in?{query}") };
            return HttpResponse::SeeOther().insert_header((header::LOCATION, place)).finish();
        }
        let (headline, advice) = words_of(&self.error);
        let message = sentence(&self.error.to_string());
        let status = status_of(&self.error);
        let page = ErrorPage {
            status: status.as_u16(),
            headline,
            message: &message,
            advice,
            code: self.error.code(),
        };
        answer(status, &page)
    }
}

fn answer(status: StatusCode, page: &ErrorPage<'_>) -> HttpResponse {
    let text = page.render().unwrap_or_else(|_| page.message.to_owned());
    HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("text/html; charset=utf-8")
        .body(text)
}

/// What a person reads first, and what they can do.
fn words_of(error: &AppError) -> (&'static str, &'static str) {
    match error {
        AppError::NotFound { .. } => (
            "There is nothing here",
            "It may have been archived or renamed. The log knows what became of it.",
        ),
        AppError::Exists { .. } => {
            ("That key is taken", "Choose another; keys are never used twice.")
        }
        AppError::Unauthorized => ("You are not signed in", "Sign in and try again."),
        AppError::Forbidden { .. } => (
            "This takes another role",
            "Ask an administrator; Settings, People shows who has which role.",
        ),
        AppError::WrongToken(_) => ("This takes another token", "Nothing was changed."),
        AppError::Conflict { .. } => (
            "Somebody was quicker",
            "Nothing was changed. Open the page again to see what it is now.",
        ),
        AppError::Invalid(_) => {
            ("That cannot be done", "Nothing was changed. Go back and correct it.")
        }
        AppError::Refused(_) => ("Not now", "Nothing was changed."),
        AppError::TooMany { .. } => {
            ("Too many attempts", "Wait for the time given, then try again.")
        }
        AppError::Unavailable(_) => (
            "The database does not answer",
            "Apps keep their last known flags, and the status page is still served. Try again in a moment.",
        ),
        AppError::Internal(_) => {
            ("The server failed", "Try again; if it stays so, look into the server's log.")
        }
    }
}

/// An error's text as a sentence: a capital at its start, a stop at its end.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if text.ends_with(['.', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// No such page.
pub async fn no_such_page(request: HttpRequest) -> HttpResponse {
    let message = format!("There is no page at {}.", request.path());
    let (headline, advice) =
        ("There is nothing here", "Check the address, or begin at the overview.");
    let page = ErrorPage { status: 404, headline, message: &message, advice, code: "not_found" };
    answer(StatusCode::NOT_FOUND, &page)
}
