//! What the console shows while the database is away: the flags from memory, and the way to kill them.

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use switchback_core::model::FlagEntry;
use switchback_store::Role;

use super::flags::is_on;
use super::visit::Toast;
use crate::{State, auth};

/// A flag as this node remembers it.
struct Line {
    key: String,
    state: &'static str,
    tone: &'static str,
    killed: bool,
}

#[derive(Template)]
#[template(path = "pages/outage.html")]
struct OutagePage {
    environment: String,
    name: String,
    revision: u64,
    clients: u64,
    flags: Vec<Line>,
    can_operate: bool,
    done: String,
}

/// The page, for somebody who is known and may look at the environment in the request's path.
pub async fn page(request: &HttpRequest) -> Option<HttpResponse> {
    let app = Arc::clone(request.app_data::<Data<State>>()?);
    let who = auth::caller(request).await.ok()?;
    let key = request.path().split('/').nth(2)?;
    let environment = app.known_environments().into_iter().find(|one| one.key == key)?;
    who.must(Role::Viewer, key, "look").ok()?;
    let document = app.hub.feed(key, None).await.ok()?.current().document.clone();
    let now = app.clock.now();
    let line = |entry: &FlagEntry| {
        let FlagEntry::Known(flag) = entry else { return None };
        let (state, tone) = match (flag.state.killed, is_on(&flag.state, now)) {
            (true, _) => ("Killed", "bad"),
            (false, true) => ("On", "good"),
            (false, false) => ("Off", ""),
        };
        Some(Line { key: flag.key.to_string(), state, tone, killed: flag.state.killed })
    };
    let page = OutagePage {
        name: environment.name,
        revision: document.revision,
        clients: app.hub.convergence(key, None).connected,
        flags: document.flags.values().filter_map(line).collect(),
        can_operate: who.can(Role::Operator, key),
        done: Toast::read(request).map(|toast| toast.text).unwrap_or_default(),
        environment: environment.key,
    };
    let text = page.render().ok()?;
    Some(
        HttpResponse::build(StatusCode::SERVICE_UNAVAILABLE)
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .content_type("text/html; charset=utf-8")
            .body(text),
    )
}
