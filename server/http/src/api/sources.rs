//! Data sources: the app's databases that playbooks may touch.

use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::Deserialize;
use switchback_app::AppError;
use switchback_app::sources::{SourceTest, SourceView};
use switchback_source::Settings;

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Data sources":
        get "/api/v1/data-sources" list_sources "Data sources, by name; never their credentials." => Vec<SourceView>;
        put "/api/v1/data-sources/{source}" put_source "Make or change a data source." body SourceBody => SourceView;
        delete "/api/v1/data-sources/{source}" delete_source
            "Forget a data source; the database is not touched.", query ReasonQuery;
        put "/api/v1/data-sources/{source}/mirror" mirror_flags
            "Mirror an environment's flags into a data source; without an environment, no longer." body MirrorBody => SourceView;
        post "/api/v1/data-sources/{source}/test" test_source "Connect anew and ask one question." => SourceTest;
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SourceBody {
    /// Its name must be that of the address.
    settings: Settings,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MirrorBody {
    /// The environment; `null` takes the mirror away.
    environment: Option<String>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
struct ReasonQuery {
    #[serde(default)]
    reason: String,
}

async fn list_sources(app: Data<State>, caller: Caller) -> Answer<Vec<SourceView>> {
    Ok(Json(app.list_sources(&caller.0).await?))
}

async fn put_source(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<SourceBody>,
) -> Answer<SourceView> {
    let SourceBody { settings, reason } = body.into_inner();
    if settings.name != *path {
        let message = format!("`{}` is not the name in the address, `{path}`", settings.name);
        return Err(AppError::invalid("settings.name", message).into());
    }
    Ok(Json(app.put_source(&caller.0, settings, &reason).await?))
}

async fn mirror_flags(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<MirrorBody>,
) -> Answer<SourceView> {
    let MirrorBody { environment, reason } = body.into_inner();
    Ok(Json(app.mirror_flags(&caller.0, &path, environment, &reason).await?))
}

async fn delete_source(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReasonQuery>,
) -> Result<actix_web::HttpResponse, Problem> {
    app.delete_source(&caller.0, &path, &query.reason).await?;
    Ok(actix_web::HttpResponse::NoContent().finish())
}

async fn test_source(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<SourceTest> {
    Ok(Json(app.test_source(&caller.0, &path).await?))
}
