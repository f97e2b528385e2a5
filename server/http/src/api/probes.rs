//! Probes: what looks at components on a schedule, and what it found.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::Deserialize;
use switchback_app::AppError;
use switchback_app::probes::{ProbeDetail, ProbeSettings, ProbeView};
use switchback_store::ProbeResult;

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::PageQuery;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Probes":
        get "/api/v1/probes" list_probes "Probes, by component, with their last result and their days." => Vec<ProbeView>;
        get "/api/v1/probes/{probe}" get_probe "One probe and its results, the newest first.", query LimitQuery => ProbeDetail;
        put "/api/v1/probes/{probe}" put_probe "Make a probe or change it; it begins anew." body ProbeBody => ProbeView;
        delete "/api/v1/probes/{probe}" remove_probe "Remove a probe and its results.", query ReasonQuery;
        post "/api/v1/probes/{probe}/test" test_probe "Look once, now; nothing is kept and nothing moves." => ProbeResult;
    }
}

#[derive(Deserialize, JsonSchema)]
struct LimitQuery {
    /// Results, 1 to 500; 100 when not given.
    limit: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct ReasonQuery {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProbeBody {
    /// Its name must be that of the address.
    settings: ProbeSettings,
    #[serde(default)]
    reason: String,
}

async fn list_probes(app: Data<State>, caller: Caller) -> Answer<Vec<ProbeView>> {
    Ok(Json(app.list_probes(&caller.0).await?))
}

async fn get_probe(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<LimitQuery>,
) -> Answer<ProbeDetail> {
    let limit = PageQuery { limit: query.limit, ..PageQuery::default() }.limit()?;
    Ok(Json(app.get_probe(&caller.0, &path, limit).await?))
}

async fn put_probe(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ProbeBody>,
) -> Answer<ProbeView> {
    let ProbeBody { settings, reason } = body.into_inner();
    if settings.name != *path {
        let message = format!("`{}` is not the name in the address, `{path}`", settings.name);
        return Err(AppError::invalid("settings.name", message).into());
    }
    Ok(Json(app.put_probe(&caller.0, settings, &reason).await?))
}

async fn remove_probe(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReasonQuery>,
) -> Result<HttpResponse, Problem> {
    app.remove_probe(&caller.0, &path, &query.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn test_probe(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<ProbeResult> {
    Ok(Json(app.test_probe(&caller.0, &path).await?))
}
