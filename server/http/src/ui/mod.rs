//! The console's pages: HTML first, forms that work without a script, parts that swap with one.
#![expect(clippy::unused_self, reason = "templates reach helpers through their struct")]
#![expect(clippy::trivially_copy_pass_by_ref, reason = "templates pass references")]

mod alerts;
pub mod assets;
mod automation;
mod backups;
mod bulk;
mod channels;
mod charts;
mod checks;
mod clients;
mod compare;
mod components;
mod composer;
mod confirm;
mod diff_lines;
mod docs;
mod draft;
mod drills;
pub(crate) mod error;
mod events;
pub(crate) mod fields;
mod flag;
mod flag_tabs;
mod flags;
mod frame;
mod guards;
mod home;
mod incident;
mod incidents;
mod link;
mod live;
mod log;
mod logins;
mod outage;
mod overview;
mod playbook_lines;
mod playbooks;
mod probes;
mod projects;
pub(crate) mod report_text;
mod restore;
mod rules;
mod run;
mod run_data;
mod run_view;
mod segments;
mod settings;
mod sign_in;
mod since;
mod sources;
mod sparks;
mod subscribers;
mod templates;
mod timeline;
mod user_sessions;
mod visit;
mod watch;
pub mod words;

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
        .route("/approve/{token}", get().to(link::page))
        .route("/approve/{token}", post().to(link::answer))
        .route("/assets/{hash}/{name}", get().to(assets::serve))
        .route("/docs/errors", get().to(docs::errors))
        .route("/docs/api", get().to(docs::api))
        .service(
            web::scope("/ui")
                .wrap(from_fn(visit::remember))
                .route("/events", get().to(events::events))
                .route("/search.json", get().to(home::search))
                .route("/theme", post().to(home::theme))
                .route("/parts/{environment}/convergence", get().to(live::convergence))
                .route("/parts/{environment}/pulse", get().to(live::pulse))
                .route("/parts/{environment}/heat", get().to(watch::heat))
                .route("/parts/runs/{run}", get().to(run::part))
                .configure(settings_routes)
                .configure(checks::routes)
                .service(web::scope("/{environment}").configure(environment_routes))
                .default_service(web::to(error::no_such_page)),
        );
}

fn settings_routes(config: &mut web::ServiceConfig) {
    config
        .route("/settings", get().to(settings::home))
        .route("/settings/people", get().to(settings::people))
        .route("/settings/people", post().to(settings::add_person))
        .route("/settings/people/{user}", post().to(settings::change_person))
        .route("/settings/tokens", get().to(settings::tokens))
        .route("/settings/tokens", post().to(settings::make_token))
        .route("/settings/tokens/{token}/revoke", post().to(settings::revoke_token))
        .route("/settings/projects", get().to(projects::page))
        .route("/settings/projects", post().to(projects::make))
        .route("/settings/sources", get().to(sources::page))
        .route("/settings/sources", post().to(sources::put))
        .route("/settings/sources/{source}/test", post().to(sources::test))
        .route("/settings/sources/{source}/backups", get().to(backups::page))
        .route("/settings/sources/{source}/backups", post().to(backups::start))
        .route("/settings/sources/{source}/remove", post().to(sources::remove))
        .route("/settings/channels", get().to(channels::page))
        .route("/settings/channels", post().to(channels::put))
        .route("/settings/channels/{channel}/test", post().to(channels::test))
        .route("/settings/channels/{channel}/remove", post().to(channels::remove))
        .route("/settings/messages", get().to(channels::messages))
        .route("/settings/messages/{message}/resend", post().to(channels::resend))
        .route("/settings/subscribers", get().to(subscribers::page))
        .route("/settings/subscribers", post().to(subscribers::add))
        .route("/settings/subscribers/{subscriber}", post().to(subscribers::change))
        .route("/settings/templates", get().to(templates::page))
        .route("/settings/templates/{template}", get().to(templates::one))
        .route("/settings/templates/{template}", post().to(templates::save))
        .route("/settings/components", get().to(components::page))
        .route("/settings/components", post().to(components::put))
        .route("/settings/components/{component}/move", post().to(components::shift))
        .route("/settings/components/{component}/remove", post().to(components::remove))
        .route("/settings/component-groups", post().to(components::put_group))
        .route("/settings/component-groups/{group}/remove", post().to(components::remove_group))
        .route("/settings/uptime", get().to(probes::page))
        .route("/settings/uptime", post().to(probes::put))
        .route("/settings/uptime/{probe}", get().to(probes::one))
        .route("/settings/uptime/{probe}/test", post().to(probes::test))
        .route("/settings/uptime/{probe}/remove", post().to(probes::remove))
        .route("/settings/automation", get().to(automation::page))
        .route("/settings/automation", post().to(automation::set))
        .route("/settings/environments", get().to(settings::environments))
        .route("/settings/environments", post().to(settings::make_environment))
        .route("/settings/environments/{key}/protection", post().to(settings::protect));
}

fn environment_routes(config: &mut web::ServiceConfig) {
    config
        .route("", get().to(overview::page))
        .route("/rollback", post().to(playbooks::roll_back))
        .route("/flags", get().to(flags::page))
        .route("/bulk", post().to(bulk::run))
        .route("/flags/new", get().to(flags::new_page))
        .route("/flags/new", post().to(flags::create))
        .route("/flags/{flag}", get().to(flag::page))
        .route("/flags/{flag}/enabled", post().to(flag::set_enabled))
        .route("/flags/{flag}/killed", post().to(flag::set_killed))
        .route("/flags/{flag}/rules", post().to(rules::edit))
        .route("/flags/{flag}/restore", post().to(flag::restore))
        .route("/flags/{flag}/settings", post().to(flag::describe))
        .route("/flags/{flag}/archive", post().to(flag::archive))
        .route("/flags/{flag}/unarchive", post().to(flag::unarchive))
        .route("/segments", get().to(segments::page))
        .route("/segments/new", get().to(segments::new_page))
        .route("/segments/new", post().to(segments::edit_new))
        .route("/segments/{segment}", get().to(segments::one))
        .route("/segments/{segment}", post().to(segments::edit))
        .route("/segments/{segment}/delete", post().to(segments::delete))
        .route("/clients", get().to(clients::page))
        .route("/clients/{client}", get().to(clients::one))
        .route("/watch", get().to(watch::page))
        .route("/alerts", get().to(alerts::page))
        .route("/alerts/{alert}", post().to(alerts::take))
        .route("/alert-rules/{rule}", get().to(alerts::rule))
        .route("/alert-rules/{rule}", post().to(alerts::put_rule))
        .route("/silences", post().to(alerts::silence))
        .route("/silences/{silence}/end", post().to(alerts::end_silence))
        .route("/guards", post().to(guards::make))
        .route("/guards/{guard}", get().to(guards::page))
        .route("/guards/{guard}", post().to(guards::steer))
        .route("/rollouts", post().to(guards::start))
        .route("/rollouts/{rollout}", post().to(guards::steer_rollout))
        .route("/freeze", post().to(guards::thaw))
        .route("/playbooks", get().to(playbooks::page))
        .route("/playbooks/{playbook}", get().to(playbooks::one))
        .route("/playbooks/{playbook}", post().to(playbooks::start))
        .route("/playbooks/{playbook}/drill", post().to(drills::start))
        .route("/runs/{run}", get().to(run::page))
        .route("/runs/{run}/compare", get().to(compare::page))
        .route("/runs/{run}/cancel", post().to(run::cancel))
        .route("/runs/{run}/renew", post().to(run::renew))
        .route("/runs/{run}/undo", get().to(playbooks::undo))
        .route("/runs/{run}/undo", post().to(playbooks::start_undo))
        .route("/runs/{run}/approval", post().to(run::approve))
        .route("/runs/{run}/break-glass", post().to(run::break_glass))
        .route("/runs/{run}/decision", post().to(run::decide))
        .route("/reviews/{review}", post().to(run::review))
        .route("/incidents", get().to(incidents::page))
        .route("/incidents/new", get().to(composer::new_page))
        .route("/incidents/new", post().to(composer::open))
        .route("/incidents/{incident}", get().to(incident::one))
        .route("/incidents/{incident}", post().to(incident::update))
        .route("/incidents/{incident}/handler", post().to(incident::handle))
        .route("/incidents/{incident}/postmortem", post().to(incident::postmortem))
        .route("/incidents/{incident}/remove", post().to(incident::remove))
        .route("/components/{component}", post().to(incidents::set_component))
        .route("/watch/sessions", get().to(user_sessions::page))
        .route("/watch/sessions/revoke", post().to(user_sessions::revoke))
        .route("/log", get().to(log::page))
        .route("/log/verify", post().to(log::verify))
        .route("/restore", get().to(restore::page))
        .route("/restore", post().to(restore::restore))
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
