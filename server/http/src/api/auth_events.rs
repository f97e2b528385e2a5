//! Auth events: taken from apps and importers, read back as lists and as counts.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use switchback_app::AppError;
use switchback_app::watch::EventsTaken;
use switchback_app::watch::figures::{Series, SeriesWish, Summary};
use switchback_app::watch::pollers::PollerView;
use switchback_app::watch::suspects::Suspect;
use switchback_store::{AuthEventRow, SourceRow};
use switchback_watch::event::EventKind;
use switchback_watch::foreign::Format;

use crate::State;
use crate::auth::{Caller, Reporter};
use crate::endpoint::Endpoint;
use crate::page::PageQuery;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Watch":
        post "/api/v1/auth-events" post_auth_events
            "Report what happened to users' logins: up to 5,000 events, each kept once by its id. Takes an events token or a server token; gzip is read." body EventsBody, query TakeQuery => EventsTaken;
        get "/api/v1/environments/{environment}/auth-events" list_auth_events
            "Events of one user, or the latest of all; the newest first.", query EventsQuery => Vec<AuthEventRow>;
        get "/api/v1/environments/{environment}/auth-sources" list_auth_sources
            "Who sends auth events, when each did last, and what could not be taken." => Vec<SourceRow>;
        get "/api/v1/environments/{environment}/auth-pollers" list_auth_pollers
            "Databases whose auth tables are read, how far, and what is wrong with them." => Vec<PollerView>;
        get "/api/v1/environments/{environment}/auth-summary" get_auth_summary
            "Rates, latencies and shares of a window.", query WindowQuery => Summary;
        get "/api/v1/environments/{environment}/auth-series" get_auth_series
            "Counts by time, split by kind and by one dimension.", query SeriesQuery => Series;
        get "/api/v1/environments/{environment}/what-changed" what_changed
            "The changes of the two hours before a moment, the likeliest cause of failing logins first.", query AtQuery => Vec<Suspect>;
        post "/api/v1/environments/{environment}/deploys" note_deploy
            "Note that something was deployed, for the line of time and for what changed." body DeployBody;
    }
}

/// A batch: the events, alone or under `events`; or one event of another system, as it sends it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum EventsBody {
    Named { events: Vec<Value> },
    Bare(Vec<Value>),
    One(Map<String, Value>),
}

#[derive(Deserialize, JsonSchema)]
struct TakeQuery {
    /// Whose words and shape the events have: `kratos`, `keycloak`, `rauthy`, `supabase`; ours when not given.
    format: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct EventsQuery {
    /// The user's id as the app knows it, or the key under which they are kept.
    user: Option<String>,
    /// Events, 1 to 500; 100 when not given.
    limit: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct WindowQuery {
    /// From this moment, in UTC milliseconds; 15 minutes ago when not given.
    from: Option<i64>,
    /// Until before this one; now when not given.
    until: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct SeriesQuery {
    /// From this moment, in UTC milliseconds; 15 minutes ago when not given.
    from: Option<i64>,
    /// Until before this one; now when not given.
    until: Option<i64>,
    /// `all`, `error`, `platform`, `version`, `country`, or `flag:KEY`; `all` when not given.
    dimension: Option<String>,
    /// What happened, such as `login_success,login_failure`; everything when not given.
    kinds: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct AtQuery {
    /// The moment, in UTC milliseconds; now when not given.
    at: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeployBody {
    /// What was deployed, such as `shop 7.2.0`.
    name: String,
    #[serde(default)]
    reason: String,
}

async fn what_changed(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<AtQuery>,
) -> Answer<Vec<Suspect>> {
    let at = query.at.unwrap_or_else(|| app.clock.now());
    Ok(Json(app.what_changed(&caller.0, &path, at).await?))
}

async fn note_deploy(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<DeployBody>,
) -> Result<HttpResponse, Problem> {
    app.note_deploy(&caller.0, &path, &body.name, &body.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn post_auth_events(
    app: Data<State>,
    reporter: Reporter,
    query: Query<TakeQuery>,
    body: Json<EventsBody>,
) -> Answer<EventsTaken> {
    let token = reporter.0;
    if let Some(word) = &query.format {
        let format = Format::of(word).ok_or_else(|| {
            let all = Format::ALL.map(Format::word).join("`, `");
            AppError::invalid("format", format!("`{word}` is not known; there are `{all}`"))
        })?;
        let events = match body.into_inner() {
            EventsBody::Named { events } | EventsBody::Bare(events) => events,
            EventsBody::One(event) => vec![Value::Object(event)],
        };
        let taken = app.take_foreign_events(&token.environment, &token.name, format, events);
        return Ok(Json(taken.await?));
    }
    let events = match body.into_inner() {
        EventsBody::Named { events } | EventsBody::Bare(events) => events,
        EventsBody::One(_) => {
            let message = "send a list of events, or {\"events\": [...]}";
            return Err(AppError::invalid("events", message).into());
        }
    };
    let source = format!("token:{}", token.name);
    Ok(Json(app.take_auth_events(&token.environment, &source, events).await?))
}

async fn list_auth_events(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<EventsQuery>,
) -> Answer<Vec<AuthEventRow>> {
    let limit = PageQuery { limit: query.limit, ..PageQuery::default() }.limit()?;
    Ok(Json(match &query.user {
        Some(user) => app.list_auth_events_of_user(&caller.0, &path, user, limit).await?,
        None => app.list_latest_auth_events(&caller.0, &path, limit).await?,
    }))
}

async fn list_auth_sources(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Vec<SourceRow>> {
    Ok(Json(app.list_auth_sources(&caller.0, &path).await?))
}

async fn list_auth_pollers(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Vec<PollerView>> {
    Ok(Json(app.list_auth_pollers(&caller.0, &path).await?))
}

async fn get_auth_summary(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<WindowQuery>,
) -> Answer<Summary> {
    let window = app.window(query.from, query.until)?;
    Ok(Json(app.auth_summary(&caller.0, &path, window).await?))
}

async fn get_auth_series(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<SeriesQuery>,
) -> Answer<Series> {
    let SeriesQuery { from, until, dimension, kinds } = query.into_inner();
    let window = app.window(from, until)?;
    let dimension = dimension.unwrap_or_else(|| "all".to_owned());
    let kinds = kinds.unwrap_or_default();
    let kinds = kinds.split(',').filter(|word| !word.is_empty()).map(kind_of);
    let wish = SeriesWish { window, dimension, kinds: kinds.collect::<Result<_, _>>()? };
    Ok(Json(app.auth_series(&caller.0, &path, &wish).await?))
}

fn kind_of(word: &str) -> Result<EventKind, AppError> {
    EventKind::of(word).ok_or_else(|| {
        let all: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.word()).collect();
        AppError::invalid("kinds", format!("`{word}` is none; there are {}", all.join(", ")))
    })
}
