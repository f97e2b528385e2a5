//! Backups of data sources: which there are, taking one, proving the newest.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use switchback_app::backups::{BackupDraft, BackupView};

use super::playbooks::RunSummary;
use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Data sources":
        get "/api/v1/data-sources/{source}/backups" list_backups "Backups of a data source, newest first." => Vec<BackupView>;
        post "/api/v1/data-sources/{source}/backups" take_backup
            "Start a run that takes a backup." body TakeBody => RunSummary;
        post "/api/v1/data-sources/{source}/backups/verify" verify_backup
            "Start a run that restores the newest backup elsewhere." body VerifyBody => RunSummary;
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TakeBody {
    /// The environment that the run belongs to; `production`, or the first one, when not given.
    environment: Option<String>,
    #[serde(default)]
    reason: String,
    /// How long to keep it, such as `30d`.
    keep: Option<String>,
    /// Restore it elsewhere at once.
    #[serde(default)]
    verify: bool,
    /// `cli` or `api`; `api` when not given.
    trigger: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyBody {
    /// The environment that the run belongs to; `production`, or the first one, when not given.
    environment: Option<String>,
    #[serde(default)]
    reason: String,
    /// `cli` or `api`; `api` when not given.
    trigger: Option<String>,
}

fn draft(
    source: String,
    environment: Option<String>,
    reason: String,
    trigger: Option<&str>,
    inputs: BTreeMap<String, Value>,
) -> BackupDraft {
    let trigger = if trigger == Some("cli") { "cli" } else { "api" };
    BackupDraft { source, environment, reason, trigger, inputs }
}

async fn list_backups(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<Json<Vec<BackupView>>, Problem> {
    Ok(Json(app.list_backups(&caller.0, &path).await?))
}

async fn take_backup(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<TakeBody>,
) -> Result<HttpResponse, Problem> {
    let TakeBody { environment, reason, keep, verify, trigger } = body.into_inner();
    let mut inputs = BTreeMap::from([("verify".to_owned(), json!(verify))]);
    inputs.extend(keep.map(|keep| ("keep".to_owned(), json!(keep))));
    let draft = draft(path.into_inner(), environment, reason, trigger.as_deref(), inputs);
    let run = app.start_backup(&caller.0, draft).await?;
    Ok(HttpResponse::Created().json(RunSummary::from(run)))
}

async fn verify_backup(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<VerifyBody>,
) -> Result<HttpResponse, Problem> {
    let VerifyBody { environment, reason, trigger } = body.into_inner();
    let source = path.into_inner();
    let draft = draft(source, environment, reason, trigger.as_deref(), BTreeMap::new());
    let run = app.start_backup_verification(&caller.0, draft).await?;
    Ok(HttpResponse::Created().json(RunSummary::from(run)))
}
