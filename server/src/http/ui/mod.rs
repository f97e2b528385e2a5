//! The console's pages: HTML first, forms that work without a script, parts that swap with one.

pub mod assets;
mod clients;
mod diff_lines;
mod docs;
mod draft;
mod error;
mod events;
mod fields;
mod flag;
mod flag_tabs;
mod flags;
mod frame;
mod home;
mod incidents;
mod live;
mod log;
mod overview;
mod playbooks;
mod restore;
mod rules;
mod run;
mod run_view;
mod segments;
mod settings;
mod sign_in;
mod timeline;
mod visit;
mod words;

use actix_web::middleware::from_fn;
use actix_web::web::{self, get, post};
use actix_web::{HttpResponse, http::StatusCode, http::header};
use askama::Template;

use error::UiError;

/// What every page handler answers.
type Answer = Result<HttpResponse, UiError>;

/// Its URLs.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", get().to(home::home))
        .route("/setup", get().to(sign_in::setup))
        .route("/setup", post().to(sign_in::set_up))
        .route("/sign-in", get().to(sign_in::page))
        .route("/sign-in", post().to(sign_in::sign_in))
        .route("/sign-out", post().to(sign_in::sign_out))
        .route("/assets/{hash}/{name}", get().to(assets::serve))
        .service(
            web::scope("/ui")
                .wrap(from_fn(visit::remember))
                .route("/events", get().to(events::events))
                .route("/search.json", get().to(home::search))
                .route("/theme", post().to(home::theme))
                .route("/parts/{environment}/convergence", get().to(live::convergence))
                .route("/parts/{environment}/pulse", get().to(live::pulse))
                .configure(settings_routes)
                .service(web::scope("/{environment}").configure(environment_routes))
                .default_service(web::to(error::no_such_page)),
        );
}

fn settings_routes(_config: &mut web::ServiceConfig) {}

fn environment_routes(config: &mut web::ServiceConfig) {
    config
        .route("", get().to(overview::page))
        .route("/flags", get().to(flags::page))
        .route("/flags/new", get().to(flags::new_page))
        .route("/flags/new", post().to(flags::create))
        .route("/flags/{flag}", get().to(flag::page))
        .route("/flags/{flag}/enabled", post().to(flag::set_enabled))
        .route("/flags/{flag}/killed", post().to(flag::set_killed))
        .route("/flags/{flag}/rules", post().to(rules::edit))
        .route("/flags/{flag}/restore", post().to(flag::restore))
        .route("/flags/{flag}/settings", post().to(flag::describe))
        .route("/flags/{flag}/archive", post().to(flag::archive))
        .default_service(web::to(error::no_such_page));
}

/// A page, or a part of one. Pages show who is signed in, so no cache may keep them.
fn html(status: StatusCode, page: &impl Template) -> Answer {
    let text = page.render().map_err(UiError::broken_page)?;
    Ok(HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::VARY, "Cookie"))
        .content_type("text/html; charset=utf-8")
        .body(text))
}

/// A page that is as it should be.
fn ok(page: &impl Template) -> Answer {
    html(StatusCode::OK, page)
}

/// A page that says what is wrong with what was sent.
fn unprocessable(page: &impl Template) -> Answer {
    html(StatusCode::UNPROCESSABLE_ENTITY, page)
}
