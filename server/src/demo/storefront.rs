//! The demo's shop: ten phones, each showing what its user gets now. It is a server of its own, as it
//! would be in life, and knows nothing but what the SDK tells it.

use std::convert::Infallible;
use std::net::TcpListener;

use actix_web::dev::Server;
use actix_web::http::header;
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{Bytes, Data, Form, get, post};
use actix_web::{App, HttpResponse, HttpServer};
use askama::Template;
use futures_util::stream;
use serde::Deserialize;
use switchback_sdk::{AuthMode, Context};

use super::fleet::{Connected, Fleet};
use super::logins::Switch;

/// How many phones the page shows.
pub const PHONES: usize = 10;

const PEOPLE: [&str; PHONES] =
    ["Mara", "Jonas", "Aiko", "Sam", "Leila", "Piotr", "Grace", "Diego", "Ines", "Ravi"];
const STYLE: &str = include_str!("../../../templates/demo/demo.css");
const SCRIPT: &str = include_str!("../../../templates/demo/demo.js");

/// An open shop.
pub struct Shop {
    /// To be awaited.
    pub server: Server,
    /// Where it is.
    pub url: String,
}

/// Opens the shop on a free port of loopback.
pub fn open(fleet: Fleet, switch: Switch) -> std::io::Result<Shop> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(fleet.clone()))
            .app_data(Data::new(switch.clone()))
            .wrap(headers())
            .route("/", get().to(page))
            .route("/phones", get().to(phones))
            .route("/new-login", post().to(turn))
            .route("/events", get().to(events))
            .route("/demo.css", get().to(|| async { text("text/css; charset=utf-8", STYLE) }))
            .route(
                "/demo.js",
                get().to(|| async { text("text/javascript; charset=utf-8", SCRIPT) }),
            )
    })
    .workers(1)
    .disable_signals()
    .listen(listener)?
    .run();
    Ok(Shop { server, url })
}

fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((header::CACHE_CONTROL, "no-store"))
}

fn text(kind: &'static str, body: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type(kind).body(body)
}

#[derive(Template)]
#[template(path = "demo/storefront.html")]
struct Page {
    now: Now,
    is_broken: bool,
}

#[derive(Template)]
#[template(path = "demo/phones.html")]
struct Part {
    now: Now,
}

/// What the phones show.
struct Now {
    sentence: String,
    revision: u64,
    phones: Vec<Phone>,
}

struct Phone {
    person: &'static str,
    app: &'static str,
    version: &'static str,
    mode: Mode,
}

/// What a user gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Required,
    Guest,
    Bypassed,
}

impl Phone {
    fn of(number: usize, person: &'static str, connected: &Connected) -> Self {
        let id = format!("customer-{number}");
        let context =
            Context::new().user_id(&id).platform(connected.platform).app_version(connected.version);
        let mode = match connected.client.auth_mode(&context) {
            AuthMode::Enforced => Mode::Required,
            AuthMode::Anonymous => Mode::Guest,
            AuthMode::Bypass => Mode::Bypassed,
        };
        Self { person, app: connected.app, version: connected.version, mode }
    }

    fn class(&self) -> &'static str {
        match self.mode {
            Mode::Required => "required",
            Mode::Guest => "guest",
            Mode::Bypassed => "bypassed",
        }
    }
}

impl Now {
    fn of(fleet: &Fleet) -> Self {
        let apps = fleet.apps();
        let people = PEOPLE.iter().zip(&apps).enumerate();
        let phones: Vec<Phone> =
            people.map(|(n, (person, app))| Phone::of(n, person, app)).collect();
        let count = |mode| phones.iter().filter(|phone| phone.mode == mode).count();
        let sentence = sentence(count(Mode::Required), count(Mode::Guest), count(Mode::Bypassed));
        let revision = apps.first().map_or(0, |app| app.client.status().revision);
        Self { sentence, revision, phones }
    }
}

fn sentence(required: usize, guests: usize, bypassed: usize) -> String {
    let verb = |count, one, many| format!("{count} {}", if count == 1 { one } else { many });
    let must = verb(required, "customer must sign in", "customers must sign in");
    match (required, guests, bypassed) {
        (0, 0, 0) => "The phones are connecting.".to_owned(),
        (0, 0, _) => "Sign-in is unavailable. Everybody is let in without it.".to_owned(),
        (0, _, 0) => "Nobody is asked to sign in.".to_owned(),
        (_, 0, 0) => format!("Sign-in works. {must}."),
        (_, _, 0) => {
            format!(
                "Sign-in works. {must}, {}.",
                verb(guests, "goes on as a guest", "go on as guests")
            )
        }
        _ => {
            format!("The phones are being told: {bypassed} let in, {} not yet.", required + guests)
        }
    }
}

async fn page(fleet: Data<Fleet>, switch: Data<Switch>) -> HttpResponse {
    html(Page { now: Now::of(&fleet), is_broken: switch.is_broken() }.render())
}

#[derive(Deserialize)]
struct Turn {
    broken: bool,
}

/// The switch that breaks the new login for a share of those who have it, and mends it.
async fn turn(switch: Data<Switch>, form: Form<Turn>) -> HttpResponse {
    switch.set(form.broken);
    HttpResponse::SeeOther().insert_header((header::LOCATION, "/")).finish()
}

async fn phones(fleet: Data<Fleet>) -> HttpResponse {
    html(Part { now: Now::of(&fleet) }.render())
}

fn html(rendered: askama::Result<String>) -> HttpResponse {
    match rendered {
        Ok(body) => HttpResponse::Ok().content_type("text/html; charset=utf-8").body(body),
        Err(error) => {
            tracing::error!(error = %error, "the shop could not be shown");
            HttpResponse::InternalServerError().body("the shop could not be shown")
        }
    }
}

/// Says whenever the phones may show something else.
async fn events(fleet: Data<Fleet>) -> HttpResponse {
    let mut news = fleet.news();
    news.mark_changed();
    let lines = stream::unfold(news, |mut news| async move {
        news.changed().await.ok()?;
        let number = *news.borrow_and_update();
        Some((Ok::<_, Infallible>(Bytes::from(format!("data: {number}\n\n"))), news))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(lines)
}
