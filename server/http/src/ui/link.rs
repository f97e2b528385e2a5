//! The page behind a link to approve by. Opening it changes nothing; only its buttons do.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Path};
use askama::Template;
use switchback_app::AppError;
use switchback_app::links::Opened;

use super::error::sentence;
use super::fields::Fields;
use super::run_view::{said_once, short, wanted};
use super::words::{self, When, Words};
use super::{Answer, UiError};
use crate::State;

/// A step that would follow.
struct Line {
    title: String,
    does: Words,
    danger: bool,
    undoes: Words,
}

/// What is asked.
struct Ask {
    title: String,
    playbook: String,
    environment: String,
    by: String,
    reason: String,
    message: String,
    wanted: String,
    plan: String,
    person: String,
    until: When,
    voided: Words,
    steps: Vec<Line>,
}

#[derive(Template)]
#[template(path = "pages/approve.html")]
struct LinkPage {
    ask: Option<Ask>,
    headline: &'static str,
    says: String,
}

fn ask(opened: &Opened, environment: String, now: i64) -> Ask {
    let question = &opened.question;
    let steps = question.plan.steps.iter().skip(question.index);
    let steps = steps.map(|step| Line {
        title: step.title.clone(),
        does: said_once(&step.title, &step.does),
        danger: step.danger,
        undoes: Words::default().ticked(&step.undoes),
    });
    Ask {
        title: question.run.title.clone(),
        playbook: question.run.playbook.clone(),
        environment,
        by: words::actor(&question.run.requested_by),
        reason: question.run.reason.clone(),
        message: question.approval.message.clone(),
        wanted: wanted(&question.approval),
        plan: short(&question.run.plan_sha256),
        person: opened.person.clone(),
        until: When { at: opened.until, now },
        voided: Words::default().ticked(question.seen.voided.as_deref().unwrap_or_default()),
        steps: steps.collect(),
    }
}

fn show(status: StatusCode, page: &LinkPage) -> Answer {
    let text = page.render().map_err(UiError::broken_page)?;
    Ok(HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .content_type("text/html; charset=utf-8")
        .body(text))
}

/// A link that does not work is no failure of the server, and no reason for alarm.
fn calm(error: AppError) -> Answer {
    match error {
        AppError::Refused(_) | AppError::Forbidden { .. } | AppError::NotFound { .. } => {
            let says = sentence(&error.to_string());
            show(
                StatusCode::GONE,
                &LinkPage { ask: None, headline: "This link does nothing", says },
            )
        }
        error => Err(error.into()),
    }
}

/// `GET /approve/{token}`.
pub async fn page(app: Data<State>, path: Path<String>) -> Answer {
    match app.open_link(&path).await {
        Ok(opened) => {
            let environment = app.get_environment(&opened.question.run.environment).await?.name;
            let ask = Some(ask(&opened, environment, app.clock.now()));
            show(StatusCode::OK, &LinkPage { ask, headline: "", says: String::new() })
        }
        Err(error) => calm(error),
    }
}

/// `POST /approve/{token}`: `approve=yes` or `no`.
pub async fn answer(app: Data<State>, path: Path<String>, form: Fields) -> Answer {
    let granted = match form.text("approve") {
        "yes" => true,
        "no" => false,
        _ => return Err(AppError::invalid("approve", "yes or no").into()),
    };
    match app.answer_link(&path, granted, form.text("comment")).await {
        Ok(()) => {
            let headline = if granted { "Approved" } else { "Refused" };
            let says = if granted {
                "The step goes on when everybody who is needed has agreed."
            } else {
                "The step does not start. The run’s owner sees what you wrote."
            };
            show(StatusCode::OK, &LinkPage { ask: None, headline, says: says.to_owned() })
        }
        Err(error) => calm(error),
    }
}
