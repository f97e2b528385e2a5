//! News by e-mail or webhook: ask for it, confirm it, choose components, end it. Plain forms, no script, no account.

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use switchback_app::AppError;
use switchback_app::subscribers::Wish;
use switchback_store::{Subscriber, SubscriberMode};

use super::StatusPages;
use super::view::Scene;
use crate::State;
use crate::auth::client_address;
use crate::ui::fields::{Faults, Fields};

/// Wishes that one address may send an hour: each may write to somebody who did not ask.
const WISHES_PER_HOUR: u32 = 30;
/// Seconds of an hour.
const HOUR_S: i64 = 3_600;

/// Its URLs.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/status/subscribe", web::get().to(form))
        .route("/status/subscribe", web::post().to(subscribe))
        .route("/status/confirm", web::get().to(ask))
        .route("/status/confirm", web::post().to(confirm))
        .route("/status/unsubscribe", web::get().to(manage))
        .route("/status/unsubscribe", web::post().to(end))
        .route("/status/subscription", web::post().to(choose));
}

/// A component to choose.
struct Choice {
    key: String,
    name: String,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "status/subscribe.html")]
struct SubscribePage<'a> {
    scene: Scene<'a>,
    has_mail: bool,
    is_webhook: bool,
    address: String,
    choices: Vec<Choice>,
    /// The one incident that is asked about: its id and its name.
    incident: Option<(String, String)>,
    faults: Vec<String>,
}

#[derive(Template)]
#[template(path = "status/subscription.html")]
struct SubscriptionPage<'a> {
    scene: Scene<'a>,
    token: String,
    address: String,
    choices: Vec<Choice>,
    /// The name of the one incident that it is about.
    incident: Option<String>,
    is_confirmed: bool,
    is_saved: bool,
    secret: Option<String>,
}

#[derive(Template)]
#[template(path = "status/says.html")]
struct SaysPage<'a> {
    scene: Scene<'a>,
    title: &'a str,
    text: String,
    /// A button: where it posts to, and its label.
    button: Option<(String, &'static str)>,
}

type Pages = Data<StatusPages>;

fn answer(
    pages: &Pages,
    status: StatusCode,
    draw: impl FnOnce(Scene<'_>) -> Result<String, askama::Error>,
) -> HttpResponse {
    let (text, policy) = pages.draw(draw);
    match text {
        Ok(text) => HttpResponse::build(status)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::CONTENT_SECURITY_POLICY, policy))
            .insert_header((header::REFERRER_POLICY, "no-referrer"))
            .content_type("text/html; charset=utf-8")
            .body(text),
        Err(error) => {
            tracing::error!(error = %error, "a page could not be written");
            HttpResponse::InternalServerError().finish()
        }
    }
}

fn says(
    pages: &Pages,
    status: StatusCode,
    title: &str,
    text: &str,
    button: Option<(String, &'static str)>,
) -> HttpResponse {
    answer(pages, status, |scene| SaysPage { scene, title, text: text.to_owned(), button }.render())
}

/// What went wrong, as a page for people.
fn failed(pages: &Pages, error: &AppError) -> HttpResponse {
    let (status, title) = match error {
        AppError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "Not now"),
        AppError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "That failed"),
        _ => (StatusCode::BAD_REQUEST, "That did not work"),
    };
    says(pages, status, title, &crate::ui::error::sentence(&error.to_string()), None)
}

fn choices(scene: Scene<'_>, chosen: &[String]) -> Vec<Choice> {
    let choice = |component: &switchback_store::Component| Choice {
        key: component.key.clone(),
        name: component.name.clone(),
        is_chosen: chosen.contains(&component.key),
    };
    scene.board.components.iter().map(choice).collect()
}

/// The name of an incident that everybody may see.
fn name_of(scene: Scene<'_>, id: &str) -> Option<String> {
    let found = scene.board.incidents.iter().find(|one| one.id == id)?;
    Some(found.name.clone())
}

fn query(request: &HttpRequest) -> Fields {
    Fields::parse(request.query_string().as_bytes())
}

/// `GET /status/subscribe?by=webhook&incident=`.
async fn form(app: Data<State>, pages: Pages, query: Fields) -> HttpResponse {
    draw_form(&app, &pages, StatusCode::OK, &query, Vec::new())
}

fn draw_form(
    app: &State,
    pages: &Pages,
    status: StatusCode,
    form: &Fields,
    faults: Vec<String>,
) -> HttpResponse {
    let has_mail = app.sends_mail();
    let is_webhook = form.text("by") == "webhook" || !has_mail;
    let chosen = form.all("component");
    answer(pages, status, |scene| {
        let incident = form.some("incident");
        let incident = incident.and_then(|id| name_of(scene, &id).map(|name| (id, name)));
        let choices = if incident.is_some() { Vec::new() } else { choices(scene, &chosen) };
        let address = form.text("address").to_owned();
        SubscribePage { scene, has_mail, is_webhook, address, choices, incident, faults }.render()
    })
}

/// `POST /status/subscribe`.
async fn subscribe(
    app: Data<State>,
    pages: Pages,
    request: HttpRequest,
    form: Fields,
) -> HttpResponse {
    let peer = client_address(&request, &app.config.trusted_proxies);
    // The brake counts by the second; an hour is one for it.
    let hour = app.clock.now() / HOUR_S;
    if !app.brake_of_wishes.admits("subscribe", &peer, hour, WISHES_PER_HOUR) {
        let text = "That was very often. Try again in an hour, or follow the feed.";
        return says(&pages, StatusCode::TOO_MANY_REQUESTS, "Slow down", text, None);
    }
    let mode =
        if form.text("by") == "webhook" { SubscriberMode::Webhook } else { SubscriberMode::Email };
    let wish = Wish {
        mode,
        address: form.text("address").to_owned(),
        components: form.all("component"),
        incident: form.some("incident"),
    };
    match app.subscribe(wish).await {
        Ok(()) => {
            let (title, text) = match mode {
                SubscriberMode::Email => (
                    "Look into your mailbox",
                    "If this address does not get news yet, a letter with a link is on its way to it. News begins when you have \
                     followed the link.",
                ),
                SubscriberMode::Webhook => (
                    "Look at what your endpoint got",
                    "A call with a link is on its way to it. News begins when you have followed the link.",
                ),
            };
            says(&pages, StatusCode::OK, title, text, None)
        }
        Err(error @ (AppError::Invalid(_) | AppError::Refused(_) | AppError::NotFound { .. })) => {
            let faults = Faults::of(error).map(|faults| {
                let own =
                    |wrong: &switchback_app::Wrong| crate::ui::error::sentence(&wrong.message);
                faults.0.iter().map(own).collect()
            });
            let faults = faults.unwrap_or_default();
            draw_form(&app, &pages, StatusCode::UNPROCESSABLE_ENTITY, &form, faults)
        }
        Err(error) => failed(&pages, &error),
    }
}

/// `GET /status/confirm?token=`: asks once more, since mail filters open links too.
async fn ask(app: Data<State>, pages: Pages, query: Fields) -> HttpResponse {
    let token = query.text("token");
    match app.open_confirmation(token).await {
        Ok(found) => {
            let about = match found.incident_id {
                Some(_) => "this incident",
                None => "these services",
            };
            let text = format!("News of {about} will be sent to {}.", found.address);
            let button = (format!("/status/confirm?token={token}"), "Yes, send me news");
            says(&pages, StatusCode::OK, "Confirm", &text, Some(button))
        }
        Err(error) => failed(&pages, &error),
    }
}

/// `POST /status/confirm?token=`.
async fn confirm(app: Data<State>, pages: Pages, request: HttpRequest) -> HttpResponse {
    let query = query(&request);
    let confirmed = async {
        let (subscriber, manage) = app.confirm_subscriber(query.text("token")).await?;
        let secret = match subscriber.mode {
            SubscriberMode::Webhook => Some(app.subscriber_secret(&subscriber.id).await?),
            SubscriberMode::Email => None,
        };
        Ok((subscriber, manage, secret))
    };
    match confirmed.await {
        Ok((subscriber, manage, secret)) => {
            draw_subscription(&pages, &subscriber, manage, true, false, secret)
        }
        Err(error) => failed(&pages, &error),
    }
}

fn draw_subscription(
    pages: &Pages,
    subscriber: &Subscriber,
    token: String,
    is_confirmed: bool,
    is_saved: bool,
    secret: Option<String>,
) -> HttpResponse {
    let address = subscriber.address.clone();
    answer(pages, StatusCode::OK, |scene| {
        let incident = subscriber.incident_id.as_deref();
        let incident = incident
            .map(|id| name_of(scene, id).unwrap_or_else(|| "an incident of the past".to_owned()));
        let choices =
            if incident.is_some() { Vec::new() } else { choices(scene, &subscriber.components) };
        SubscriptionPage {
            scene,
            token,
            address,
            choices,
            incident,
            is_confirmed,
            is_saved,
            secret,
        }
        .render()
    })
}

/// `GET /status/unsubscribe?token=`: choose, or end it.
async fn manage(app: Data<State>, pages: Pages, query: Fields) -> HttpResponse {
    let token = query.text("token");
    match app.open_subscription(token).await {
        Ok(found) => draw_subscription(&pages, &found, token.to_owned(), false, false, None),
        Err(error) => failed(&pages, &error),
    }
}

/// `POST /status/unsubscribe?token=`: also what mail programs send for one click (RFC 8058).
async fn end(app: Data<State>, pages: Pages, request: HttpRequest) -> HttpResponse {
    let query = query(&request);
    match app.unsubscribe(query.text("token")).await {
        Ok(()) => {
            let text =
                "You will get no more news. If that was a mistake, ask for it again on the page.";
            says(&pages, StatusCode::OK, "It has ended", text, None)
        }
        Err(error) => failed(&pages, &error),
    }
}

/// `POST /status/subscription?token=`: other components.
async fn choose(
    app: Data<State>,
    pages: Pages,
    request: HttpRequest,
    form: Fields,
) -> HttpResponse {
    let query = query(&request);
    let token = query.text("token");
    let chosen = async {
        app.choose_components(token, &form.all("component")).await?;
        app.open_subscription(token).await
    };
    match chosen.await {
        Ok(found) => draw_subscription(&pages, &found, token.to_owned(), false, true, None),
        Err(error) => failed(&pages, &error),
    }
}
