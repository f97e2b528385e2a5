//! Projects, environments, their clients and convergence.

use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_app::AppError;
use switchback_app::environments::RestorePreview;
use switchback_app::live::{ClientView, Convergence};
use switchback_core::wire::Notice;
use switchback_store::{Environment, ImpactRow, NewEnvironment, Project};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Environments":
        get "/api/v1/projects" list_projects "Projects, by key.", query PageQuery => Page<Project>;
        post "/api/v1/projects" create_project "Make a project." body ProjectBody => Project;
        get "/api/v1/environments" list_environments "Environments, in their order.", query PageQuery => Page<Environment>;
        post "/api/v1/environments" create_environment "Make an environment; every boolean flag is off in it."
            body EnvironmentBody => Environment;
        get "/api/v1/environments/{environment}" get_environment "One environment." => Environment;
        put "/api/v1/environments/{environment}/protection" protect_environment
            "Say whether changes must be given a reason." body ProtectionBody => Environment;
        post "/api/v1/environments/{environment}/restore/preview" preview_restore
            "What putting every flag back to a moment would change. Changes nothing." body MomentBody => RestorePreview;
        post "/api/v1/environments/{environment}/restore" restore_environment
            "Put every flag back to a moment, in one revision." body RestoreBody => RestorePreview;
        get "/api/v1/environments/{environment}/convergence" get_convergence
            "How far a revision has come among the connected clients.", query RevisionQuery => Convergence;
        get "/api/v1/environments/{environment}/clients" list_clients
            "Clients connected to this node, longest silent first.", query ClientQuery => Page<ClientView>;
        get "/api/v1/environments/{environment}/impact-metrics" list_impact_metrics "Figures that apps report of themselves." => Vec<ImpactName>;
        get "/api/v1/environments/{environment}/impact-metrics/{name}" get_impact_metric "One figure by minute, oldest first.", query SinceQuery => Vec<ImpactRow>;
        get "/api/v1/environments/{environment}/notices" list_notices "In-app messages that still matter.", query PageQuery => Page<Notice>;
    }
}

/// A project to make.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectBody {
    key: String,
    name: String,
    #[serde(default)]
    description: String,
}

/// An environment to make.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EnvironmentBody {
    key: String,
    name: String,
    /// `development`, `staging`, `production` or a word of yours.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    protected: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProtectionBody {
    protected: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MomentBody {
    /// UTC milliseconds.
    at: i64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RestoreBody {
    /// UTC milliseconds.
    at: i64,
    /// The revision of the preview.
    revision: u64,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
struct RevisionQuery {
    /// The newest when not given.
    revision: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
struct ClientQuery {
    /// In app, instance or SDK.
    text: Option<String>,
    /// Only those that have not acknowledged the newest revision.
    #[serde(default)]
    stragglers: bool,
    /// A field's name to sort by.
    sort: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

async fn list_projects(
    app: Data<State>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<Project>> {
    Ok(Json(query.cut(app.list_projects(&caller.0).await?)?))
}

async fn create_project(
    app: Data<State>,
    caller: Caller,
    body: Json<ProjectBody>,
) -> Answer<Project> {
    let ProjectBody { key, name, description } = body.into_inner();
    Ok(Json(app.create_project(&caller.0, &key, &name, &description).await?))
}

async fn list_environments(
    app: Data<State>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<Environment>> {
    Ok(Json(query.cut(app.list_environments(&caller.0).await?)?))
}

async fn create_environment(
    app: Data<State>,
    caller: Caller,
    body: Json<EnvironmentBody>,
) -> Answer<Environment> {
    let EnvironmentBody { key, name, kind, protected } = body.into_inner();
    let position = app.known_environments().len() as i64;
    let new = NewEnvironment { key, name, kind, protected, position };
    Ok(Json(app.create_environment(&caller.0, new).await?))
}

async fn get_environment(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Environment> {
    let all = app.list_environments(&caller.0).await?;
    let key = path.into_inner();
    let found = all.into_iter().find(|environment| environment.key == key);
    Ok(Json(found.ok_or(AppError::NotFound { kind: "environment", key })?))
}

async fn protect_environment(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ProtectionBody>,
) -> Answer<Environment> {
    Ok(Json(app.protect_environment(&caller.0, &path, body.protected).await?))
}

async fn preview_restore(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<MomentBody>,
) -> Answer<RestorePreview> {
    Ok(Json(app.preview_restore(&caller.0, &path, body.at).await?))
}

async fn restore_environment(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<RestoreBody>,
) -> Answer<RestorePreview> {
    let RestoreBody { at, revision, reason } = body.into_inner();
    Ok(Json(app.restore_environment(&caller.0, &path, at, revision, &reason).await?))
}

async fn get_convergence(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<RevisionQuery>,
) -> Answer<Convergence> {
    Ok(Json(app.convergence(&caller.0, &path, query.revision).await?))
}

async fn list_clients(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ClientQuery>,
) -> Answer<Page<ClientView>> {
    let ClientQuery { text, stragglers, sort, limit, cursor } = query.into_inner();
    let all = app.list_clients(&caller.0, &path, text.as_deref(), stragglers).await?;
    Ok(Json(PageQuery { limit, cursor, sort, text: None }.cut(all)?))
}

async fn list_notices(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<PageQuery>,
) -> Answer<Page<Notice>> {
    Ok(Json(query.cut(app.list_notices(&caller.0, &path).await?)?))
}

/// A figure that apps report.
#[derive(Serialize, JsonSchema)]
struct ImpactName {
    name: String,
    /// `counter`, `gauge` or `histogram`.
    kind: String,
    /// The last minute with a report, in UTC milliseconds.
    last_minute: i64,
}

async fn list_impact_metrics(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Vec<ImpactName>> {
    let names = app.list_impact_names(&caller.0, &path).await?.into_iter();
    let named = |(name, kind, last_minute)| ImpactName { name, kind, last_minute };
    Ok(Json(names.map(named).collect()))
}

#[derive(Deserialize, JsonSchema)]
struct SinceQuery {
    /// Not older than this, in UTC milliseconds; the last hour when absent.
    since: Option<i64>,
}

async fn get_impact_metric(
    app: Data<State>,
    caller: Caller,
    path: Path<(String, String)>,
    query: Query<SinceQuery>,
) -> Answer<Vec<ImpactRow>> {
    let (environment, name) = path.into_inner();
    let since = query.since.unwrap_or_else(|| app.clock.now() - 3_600_000);
    Ok(Json(app.list_impact(&caller.0, &environment, &name, since).await?))
}
