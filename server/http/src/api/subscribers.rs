//! Subscribers of the status page.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::Deserialize;
use switchback_app::subscribers::Wish;
use switchback_store::{Subscriber, SubscriberCount, SubscriberMode, SubscriberState};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery, page_of};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Subscribers":
        get "/api/v1/subscribers" list_subscribers "Subscribers of the status page, newest first.", query ListQuery => Page<Subscriber>;
        post "/api/v1/subscribers" add_subscriber "Add a subscriber; it is asked to confirm unless told otherwise." body SubscriberBody => Subscriber;
        get "/api/v1/subscribers/counts" count_subscribers "How many there are, by mode and state." => Vec<SubscriberCount>;
        get "/api/v1/subscribers/{subscriber}" get_subscriber "One subscriber." => Subscriber;
        patch "/api/v1/subscribers/{subscriber}" change_subscriber "Set a subscriber's state or components." body ChangeBody => Subscriber;
        post "/api/v1/subscribers/{subscriber}/ask" ask_again "Ask a subscriber to confirm once more.";
    }
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    /// `pending`, `active`, `quarantined`, `unsubscribed` or `ended`.
    state: Option<SubscriberState>,
    /// Of one incident.
    incident: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SubscriberBody {
    mode: SubscriberMode,
    /// The e-mail address, or the URL.
    address: String,
    /// Components; none: all of them.
    #[serde(default)]
    components: Vec<String>,
    /// One incident alone.
    incident: Option<String>,
    /// True: it is not asked to confirm. You answer for it that the person agreed.
    #[serde(default)]
    skip_confirmation: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    state: Option<SubscriberState>,
    components: Option<Vec<String>>,
}

async fn list_subscribers(
    app: Data<State>,
    caller: Caller,
    query: Query<ListQuery>,
) -> Answer<Page<Subscriber>> {
    let ListQuery { state, incident, limit, cursor } = query.into_inner();
    let limit = PageQuery { limit, ..PageQuery::default() }.limit()?;
    let (incident, before) = (incident.as_deref(), cursor.as_deref());
    let rows = app.list_subscribers(&caller.0, state, incident, before, limit).await?;
    Ok(Json(page_of(rows, limit, |row| row.id.clone())))
}

async fn add_subscriber(
    app: Data<State>,
    caller: Caller,
    body: Json<SubscriberBody>,
) -> Result<HttpResponse, Problem> {
    let SubscriberBody { mode, address, components, incident, skip_confirmation } =
        body.into_inner();
    let wish = Wish { mode, address, components, incident };
    let added = app.add_subscriber(&caller.0, wish, !skip_confirmation).await?;
    Ok(HttpResponse::Created().json(added))
}

async fn count_subscribers(app: Data<State>, caller: Caller) -> Answer<Vec<SubscriberCount>> {
    Ok(Json(app.count_subscribers(&caller.0).await?))
}

async fn get_subscriber(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Subscriber> {
    Ok(Json(app.get_subscriber(&caller.0, &path).await?))
}

async fn change_subscriber(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ChangeBody>,
) -> Answer<Subscriber> {
    let ChangeBody { state, components } = body.into_inner();
    if let Some(components) = components {
        app.set_subscriber_components(&caller.0, &path, &components).await?;
    }
    if let Some(state) = state {
        app.set_subscriber_state(&caller.0, &path, state).await?;
    }
    Ok(Json(app.get_subscriber(&caller.0, &path).await?))
}

async fn ask_again(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    app.ask_again(&caller.0, &path).await?;
    Ok(HttpResponse::NoContent().finish())
}
