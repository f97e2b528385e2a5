//! Taking finished runs back.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_app::undo::UndoDraft;
use switchback_playbook::invert::{Inverted, Which};
use switchback_store::RunRow;

use super::playbooks::RunSummary;
use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Playbooks":
        get "/api/v1/playbooks/{playbook}/inverse" invert_playbook
            "The playbook that takes the newest successful run of this one back, as YAML.", query EnvironmentQuery => Inverse;
        get "/api/v1/runs/{run}/inverse" invert_run "The playbook that takes a finished run back, as YAML." => Inverse;
        post "/api/v1/runs/{run}/undo" undo_run "Take a finished run back, by a run of its own." body UndoBody => RunSummary;
        post "/api/v1/runs/{run}/renew" renew_run "Let what a run did stand for longer before it is taken back by itself." body RenewBody => RunSummary;
        post "/api/v1/runs/{run}/undo/preview" preview_undo "What taking a run back would do. Changes nothing." body UndoBody => Value;
    }
}

/// A playbook that takes a run back.
#[derive(Serialize, JsonSchema)]
struct Inverse {
    /// The run that it takes back.
    run: String,
    /// Its name.
    name: String,
    /// The file.
    yaml: String,
    /// What cannot be taken back, in words.
    left: Vec<String>,
}

impl From<(RunRow, Inverted)> for Inverse {
    fn from((run, inverted): (RunRow, Inverted)) -> Self {
        let Inverted { name, yaml, left, .. } = inverted;
        Self { run: run.id, name, yaml, left }
    }
}

#[derive(Deserialize, JsonSchema)]
struct EnvironmentQuery {
    environment: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UndoBody {
    #[serde(default)]
    reason: String,
    /// Also what somebody else has changed since.
    #[serde(default)]
    force: bool,
    /// `cli` or `api`; `api` when not given.
    trigger: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RenewBody {
    /// How long from now, such as `2h`; at most `7d`.
    r#for: String,
    #[serde(default)]
    reason: String,
}

impl UndoBody {
    fn draft(self) -> UndoDraft {
        let trigger = if self.trigger.as_deref() == Some("cli") { "cli" } else { "api" };
        UndoDraft { reason: self.reason, force: self.force, which: Which::All, trigger }
    }
}

async fn invert_playbook(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<EnvironmentQuery>,
) -> Answer<Inverse> {
    Ok(Json(app.invert_playbook(&caller.0, &path, &query.environment).await?.into()))
}

async fn invert_run(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<Inverse> {
    Ok(Json(app.invert_run(&caller.0, &path).await?.into()))
}

async fn undo_run(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<UndoBody>,
) -> Result<HttpResponse, Problem> {
    let run = app.undo_run(&caller.0, &path, body.into_inner().draft()).await?;
    Ok(HttpResponse::Created().json(RunSummary::from(run)))
}

async fn renew_run(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<RenewBody>,
) -> Answer<RunSummary> {
    let run = app.renew_run(&caller.0, &path, &body.r#for, &body.reason).await?;
    Ok(Json(run.into()))
}

async fn preview_undo(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<UndoBody>,
) -> Answer<Value> {
    let draft = body.into_inner().draft();
    let (_, plan, preview, inverted) = app.preview_undo(&caller.0, &path, &draft).await?;
    Ok(Json(json!({"plan": plan, "preview": preview, "left": inverted.left})))
}
