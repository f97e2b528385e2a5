//! Guards and rollouts in steps.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_app::AppError;
use switchback_app::watch::guards::{GuardDetail, GuardRehearsal, GuardSettings, GuardView};
use switchback_app::watch::rollouts::{RolloutDraft, RolloutStep, RolloutView, StepForecast};
use switchback_store::ActRow;
use switchback_watch::rollout::Command;

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Watch":
        get "/api/v1/environments/{environment}/guards" list_guards "Guards, the newest first.", query FlagQuery => Vec<GuardView>;
        post "/api/v1/environments/{environment}/guards" create_guard "Make a guard and arm it." body GuardBody => GuardView;
        post "/api/v1/environments/{environment}/guards/rehearsal" rehearse_guard
            "Try a guard on the events of the last hours; nothing is kept." body RehearsalBody => GuardRehearsal;
        get "/api/v1/guards/{guard}" get_guard "A guard, and its line of the last day." => GuardDetail;
        delete "/api/v1/guards/{guard}" remove_guard "Remove a guard and its line.", query ReasonQuery;
        post "/api/v1/guards/{guard}/arm" arm_guard "Arm a guard again; it begins from nothing." body ReasonBody => GuardView;
        post "/api/v1/guards/{guard}/disarm" disarm_guard "Let a guard rest." body ReasonBody => GuardView;
        get "/api/v1/environments/{environment}/rollouts" list_rollouts "Rollouts, the newest first.", query FlagQuery => Vec<RolloutView>;
        post "/api/v1/environments/{environment}/rollouts" start_rollout
            "Start a rollout; its first step begins within seconds." body RolloutBody => RolloutView;
        post "/api/v1/environments/{environment}/rollouts/forecast" forecast_rollout
            "How long a threefold harm would take to see at each step, by the traffic of the last hour." body ForecastBody => Vec<StepForecast>;
        get "/api/v1/rollouts/{rollout}" get_rollout "A rollout." => RolloutView;
        post "/api/v1/rollouts/{rollout}/commands" steer_rollout "Pause, resume, skip, abort, or agree to a step." body SteerBody => RolloutView;
        get "/api/v1/environments/{environment}/acts" list_acts "What happened by itself in the last 30 days, and whether a freeze holds." => Happened;
        delete "/api/v1/environments/{environment}/freeze" end_freeze "Let things happen by themselves again.", query ReasonQuery;
    }
}

#[derive(Deserialize, JsonSchema)]
struct FlagQuery {
    /// Only those of this flag.
    flag: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct ReasonQuery {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GuardBody {
    /// What it watches and what it does.
    settings: GuardSettings,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RehearsalBody {
    /// What it would watch.
    settings: GuardSettings,
    /// How far back, 1 to 168 hours; 24 when not given.
    hours: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RolloutBody {
    /// What is rolled out, and how.
    rollout: RolloutDraft,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForecastBody {
    /// The steps; the usual ones when not given.
    steps: Option<Vec<RolloutStep>>,
}

/// What a person may say to a rollout.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Word {
    Pause,
    Resume,
    Skip,
    Abort,
    Approve,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SteerBody {
    /// `pause`, `resume`, `skip`, `abort` or `approve`.
    command: Word,
    /// With `approve`: the step that is agreed to, from 0.
    step: Option<usize>,
    #[serde(default)]
    reason: String,
}

/// What happened by itself.
#[derive(Serialize, JsonSchema)]
struct Happened {
    /// The newest first.
    acts: Vec<ActRow>,
    /// Since when nothing does any more, in UTC milliseconds.
    frozen_since: Option<i64>,
    /// Why.
    frozen_because: Option<String>,
}

async fn list_guards(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<FlagQuery>,
) -> Answer<Vec<GuardView>> {
    Ok(Json(app.list_guards(&caller.0, &path, query.flag.as_deref()).await?))
}

async fn create_guard(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<GuardBody>,
) -> Answer<GuardView> {
    let GuardBody { settings, reason } = body.into_inner();
    Ok(Json(app.create_guard(&caller.0, &path, settings, &reason).await?))
}

async fn rehearse_guard(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<RehearsalBody>,
) -> Answer<GuardRehearsal> {
    let hours = body.hours.unwrap_or(24);
    Ok(Json(app.rehearse_guard(&caller.0, &path, &body.settings, hours).await?))
}

async fn get_guard(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<GuardDetail> {
    Ok(Json(app.get_guard(&caller.0, &path).await?))
}

async fn remove_guard(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReasonQuery>,
) -> Result<HttpResponse, Problem> {
    app.remove_guard(&caller.0, &path, &query.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn arm_guard(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ReasonBody>,
) -> Answer<GuardView> {
    Ok(Json(app.arm_guard(&caller.0, &path, true, &body.reason).await?))
}

async fn disarm_guard(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ReasonBody>,
) -> Answer<GuardView> {
    Ok(Json(app.arm_guard(&caller.0, &path, false, &body.reason).await?))
}

async fn list_rollouts(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<FlagQuery>,
) -> Answer<Vec<RolloutView>> {
    Ok(Json(app.list_rollouts(&caller.0, &path, query.flag.as_deref()).await?))
}

async fn start_rollout(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<RolloutBody>,
) -> Answer<RolloutView> {
    let RolloutBody { rollout, reason } = body.into_inner();
    Ok(Json(app.start_rollout(&caller.0, &path, rollout, &reason).await?))
}

async fn forecast_rollout(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ForecastBody>,
) -> Answer<Vec<StepForecast>> {
    let steps =
        body.into_inner().steps.unwrap_or_else(switchback_app::watch::rollouts::usual_steps);
    Ok(Json(app.forecast_rollout(&caller.0, &path, &steps).await?))
}

async fn get_rollout(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<RolloutView> {
    Ok(Json(app.get_rollout(&caller.0, &path).await?))
}

async fn steer_rollout(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<SteerBody>,
) -> Answer<RolloutView> {
    let command = match (body.command, body.step) {
        (Word::Pause, _) => Command::Pause,
        (Word::Resume, _) => Command::Resume,
        (Word::Skip, _) => Command::Skip,
        (Word::Abort, _) => Command::Abort,
        (Word::Approve, Some(step)) => Command::Approve(step),
        (Word::Approve, None) => {
            return Err(AppError::invalid("step", "say which step is agreed to, from 0").into());
        }
    };
    Ok(Json(app.steer_rollout(&caller.0, &path, command, &body.reason).await?))
}

async fn list_acts(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<Happened> {
    let (acts, freeze) = app.list_acts(&caller.0, &path).await?;
    let (frozen_since, frozen_because) = freeze.unzip();
    Ok(Json(Happened { acts, frozen_since, frozen_because }))
}

async fn end_freeze(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReasonQuery>,
) -> Result<HttpResponse, Problem> {
    app.end_freeze(&caller.0, &path, &query.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}
