//! Flags.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_app::contexts::{Decided, Moved};
use switchback_app::diff::Difference;
use switchback_app::flags::{
    FlagDescription, FlagDraft, FlagFilter, HistoryRow, StateWrite, Switch,
};
use switchback_core::context::ContextBody;
use switchback_core::model::{FlagState, Millis, Percent};
use switchback_store::{ChangedFlag, FlagRecord, FlagRow, UsageRow};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery, page_of};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;
type InEnvironment = Path<(String, String)>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Flags":
        get "/api/v1/environments/{environment}/flags" list_flags "Flags, filtered and sorted.", query ListQuery => Page<FlagRow>;
        post "/api/v1/flags" create_flag "Make a flag in every environment." body CreateBody => FlagRecord;
        patch "/api/v1/flags/{flag}" describe_flag "Change what people read about a flag." body DescribeBody => FlagRecord;
        delete "/api/v1/flags/{flag}" archive_flag "Archive a flag everywhere; its key is never used for another.", query ReasonQuery;
        post "/api/v1/flags/{flag}/unarchive" unarchive_flag "Bring an archived flag back, in every environment as it was there." body ReasonBody;
        get "/api/v1/environments/{environment}/flags/{flag}" get_flag "One flag." => FlagRow;
        put "/api/v1/environments/{environment}/flags/{flag}/state" set_flag_state
            "Replace a flag's rules and settings. Name the flag's revision that you saw." body StateBody => Changed;
        put "/api/v1/environments/{environment}/flags/{flag}/enabled" set_flag_enabled
            "Switch a flag on or off for everybody." body EnabledBody => Changed;
        put "/api/v1/environments/{environment}/flags/{flag}/killed" set_flag_killed
            "Kill a flag, or lift the kill. Beats any concurrent edit." body KilledBody => Changed;
        put "/api/v1/environments/{environment}/flags/{flag}/rollout" set_flag_rollout
            "Set the share of one rule." body RolloutBody => Changed;
        get "/api/v1/environments/{environment}/flags/{flag}/history" flag_history
            "Revisions, newest first, each with its differences.", query PageQuery => Page<HistoryRow>;
        post "/api/v1/environments/{environment}/flags/{flag}/restore" restore_flag
            "Put a flag back to what it was at a revision." body RestoreBody => Changed;
        post "/api/v1/environments/{environment}/flags/{flag}/preview" preview_flag
            "What a state would change. Changes nothing." body FlagState => Vec<Difference>;
        post "/api/v1/environments/{environment}/flags/{flag}/explain" explain_flag
            "Why a context gets what it gets, rule by rule." body ContextBody => switchback_core::Explanation;
        post "/api/v1/environments/{environment}/flags/{flag}/try" try_flag
            "What a state would change for the contexts that this node saw last. Changes nothing." body FlagState => Moved;
        post "/api/v1/environments/{environment}/evaluate" decide_all
            "What a context gets from every flag." body ContextBody => Vec<Decided>;
        get "/api/v1/environments/{environment}/flags/{flag}/usage" flag_usage
            "Evaluations by minute and outcome, for the last day." => Vec<UsageRow>;
    }
}

/// What a change did.
#[derive(Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the field's name in JSON")]
struct Changed {
    /// The environment's revision now.
    revision: u64,
    /// False when it was so already.
    changed: bool,
    state: FlagState,
}

impl From<ChangedFlag> for Changed {
    fn from(change: ChangedFlag) -> Self {
        Self { revision: change.revision, changed: change.changed, state: change.after }
    }
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    /// In key, description, owner or tags.
    text: Option<String>,
    project: Option<String>,
    kind: Option<switchback_core::model::FlagKind>,
    /// `on`, `off`, `killed`, `expiring`, `stale`, `archived`.
    state: Option<String>,
    /// Only those that the caller made or changed last, here.
    #[serde(default)]
    mine: bool,
    /// `key`, `updated`, `-updated`, `kind`.
    sort: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct CreateBody {
    #[serde(default)]
    reason: String,
    #[serde(flatten)]
    flag: FlagDraft,
}

#[derive(Deserialize, JsonSchema)]
struct DescribeBody {
    #[serde(default)]
    reason: String,
    #[serde(flatten)]
    to: FlagDescription,
}

#[derive(Deserialize, JsonSchema)]
struct ReasonQuery {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    /// Why.
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StateBody {
    state: FlagState,
    /// The flag's revision that you saw.
    revision: u64,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EnabledBody {
    enabled: bool,
    /// When it goes off by itself, in UTC milliseconds.
    #[serde(default)]
    expires_at: Option<Millis>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KilledBody {
    killed: bool,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RolloutBody {
    /// 0 to 100, in steps of 0.001.
    percent: Percent,
    /// The rule's id; not needed when there is one rule at most.
    rule: Option<String>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RestoreBody {
    /// The environment's revision to go back to.
    revision: u64,
    #[serde(default)]
    reason: String,
}

async fn list_flags(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ListQuery>,
) -> Answer<Page<FlagRow>> {
    let ListQuery { text, project, kind, state, mine, sort, limit, cursor } = query.into_inner();
    let filter = FlagFilter { text, project, kind, state, mine, sort };
    let all = app.list_flags(&caller.0, &path, &filter).await?;
    Ok(Json(PageQuery { limit, cursor, ..PageQuery::default() }.cut(all)?))
}

async fn create_flag(
    app: Data<State>,
    caller: Caller,
    body: Json<CreateBody>,
) -> Result<HttpResponse, Problem> {
    let CreateBody { reason, flag } = body.into_inner();
    Ok(HttpResponse::Created().json(app.create_flag(&caller.0, flag, &reason).await?))
}

async fn describe_flag(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<DescribeBody>,
) -> Answer<FlagRecord> {
    let DescribeBody { reason, to } = body.into_inner();
    Ok(Json(app.describe_flag(&caller.0, &path, to, &reason).await?))
}

async fn archive_flag(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReasonQuery>,
) -> Result<HttpResponse, Problem> {
    app.archive_flag(&caller.0, &path, &query.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn unarchive_flag(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ReasonBody>,
) -> Result<HttpResponse, Problem> {
    app.unarchive_flag(&caller.0, &path, &body.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn get_flag(app: Data<State>, caller: Caller, path: InEnvironment) -> Answer<FlagRow> {
    Ok(Json(app.get_flag(&caller.0, &path.0, &path.1).await?))
}

async fn set_flag_state(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    body: Json<StateBody>,
) -> Answer<Changed> {
    let StateBody { state, revision, reason } = body.into_inner();
    let write = StateWrite { state, revision, reason };
    Ok(Json(app.set_flag_state(&caller.0, &path.0, &path.1, write).await?.into()))
}

async fn set_flag_enabled(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    body: Json<EnabledBody>,
) -> Answer<Changed> {
    let EnabledBody { enabled, expires_at, reason } = body.into_inner();
    let switch = Switch { enabled, expires_at };
    let changed = app.set_flag_enabled(&caller.0, &path.0, &path.1, switch, &reason).await?;
    Ok(Json(changed.into()))
}

async fn set_flag_killed(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    body: Json<KilledBody>,
) -> Answer<Changed> {
    let KilledBody { killed, reason } = body.into_inner();
    let changed = app.set_flag_killed(&caller.0, &path.0, &path.1, killed, &reason).await?;
    Ok(Json(changed.into()))
}

async fn set_flag_rollout(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    body: Json<RolloutBody>,
) -> Answer<Changed> {
    let RolloutBody { percent, rule, reason } = body.into_inner();
    let share = (rule.as_deref(), percent);
    let changed = app.set_flag_rollout(&caller.0, &path.0, &path.1, share, &reason).await?;
    Ok(Json(changed.into()))
}

async fn flag_history(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    query: Query<PageQuery>,
) -> Answer<Page<HistoryRow>> {
    let limit = query.limit()?;
    let cursor = query.into_inner().cursor;
    let rows = app.flag_history(&caller.0, &path.0, &path.1, cursor, limit).await?;
    Ok(Json(page_of(rows, limit, |row| row.change.id.clone())))
}

async fn restore_flag(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    body: Json<RestoreBody>,
) -> Answer<Changed> {
    let RestoreBody { revision, reason } = body.into_inner();
    let changed = app.restore_flag(&caller.0, &path.0, &path.1, revision, &reason).await?;
    Ok(Json(changed.into()))
}

async fn preview_flag(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    body: Json<FlagState>,
) -> Answer<Vec<Difference>> {
    Ok(Json(app.preview_flag(&caller.0, &path.0, &path.1, &body).await?))
}

async fn explain_flag(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    body: Json<ContextBody>,
) -> Answer<switchback_core::Explanation> {
    Ok(Json(app.explain_flag(&caller.0, &path.0, &path.1, &body).await?))
}

async fn try_flag(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    body: Json<FlagState>,
) -> Answer<Moved> {
    app.preview_flag(&caller.0, &path.0, &path.1, &body).await?;
    Ok(Json(app.try_on_recent(&caller.0, &path.0, &path.1, &body).await?))
}

async fn decide_all(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ContextBody>,
) -> Answer<Vec<Decided>> {
    Ok(Json(app.decide_all(&caller.0, &path, &body).await?))
}

async fn flag_usage(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
) -> Answer<Vec<UsageRow>> {
    Ok(Json(app.flag_usage(&caller.0, &path.0, &path.1).await?))
}
