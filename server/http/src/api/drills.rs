//! Drills.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use switchback_app::drills::DrillDraft;
use switchback_store::DrillRow;

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

/// Drills in a list where nobody says how many.
const LIST: i64 = 50;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Playbooks":
        get "/api/v1/drills" list_drills "Drills, newest first.", query ListQuery => Vec<DrillRow>;
        get "/api/v1/drills/{drill}" get_drill "One drill." => DrillRow;
        post "/api/v1/playbooks/{playbook}/drills" start_drill
            "Run a playbook for real in a sandbox, against copies of its data sources, and take it back." body DrillBody => DrillRow;
    }
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    playbook: Option<String>,
    limit: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DrillBody {
    /// The environment whose flags the sandbox begins with.
    environment: String,
    /// Values for its inputs; others have samples.
    #[serde(default)]
    inputs: BTreeMap<String, Value>,
}

async fn list_drills(
    app: Data<State>,
    caller: Caller,
    query: Query<ListQuery>,
) -> Answer<Vec<DrillRow>> {
    let limit = query.limit.unwrap_or(LIST).clamp(1, 200);
    Ok(Json(app.list_drills(&caller.0, query.playbook.as_deref(), limit).await?))
}

async fn get_drill(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<DrillRow> {
    Ok(Json(app.get_drill(&caller.0, &path).await?))
}

async fn start_drill(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<DrillBody>,
) -> Result<HttpResponse, Problem> {
    let DrillBody { environment, inputs } = body.into_inner();
    let draft = DrillDraft { playbook: path.into_inner(), environment, inputs };
    Ok(HttpResponse::Created().json(app.start_drill(&caller.0, draft).await?))
}
