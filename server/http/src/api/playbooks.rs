//! Playbooks and their runs.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_app::approvals::Answer as Given;
use switchback_app::playbooks::RunDraft;
use switchback_playbook::format::Criterion;
use switchback_playbook::journal::Decision;
use switchback_store::{RunFilter, RunRow};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery, page_of};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Playbooks":
        get "/api/v1/playbooks" list_playbooks "Playbooks with their inputs and steps.", query PageQuery => Page<Playbook>;
        get "/api/v1/playbooks/{playbook}" get_playbook "One playbook." => Playbook;
        post "/api/v1/playbooks/lint" lint_playbook "What is wrong with a playbook's text, with line and column." body LintBody => Value;
        post "/api/v1/playbooks/{playbook}/preview" preview_run "What each step would do. Changes nothing." body RunBody => Value;
        post "/api/v1/playbooks/{playbook}/runs" start_run "Start a run." body RunBody => RunSummary;
        get "/api/v1/runs" list_runs "Runs, newest first.", query ListQuery => Page<RunSummary>;
        get "/api/v1/runs/{run}" get_run "One run: its plan, its steps, its rows in the log, and how far it is." => Value;
        post "/api/v1/runs/{run}/cancel" cancel_run "Stop a run and put back what it did." body CommentBody;
        post "/api/v1/runs/{run}/steps/{step}/approval" approve_step "Say yes or no to a step that waits for people." body ApprovalBody;
        post "/api/v1/runs/{run}/decision" decide_run "Decide about a parked run: was_done, redo or undo." body DecisionBody;
    }
}

/// A playbook.
#[derive(Serialize, JsonSchema)]
struct Playbook {
    name: String,
    title: String,
    description: String,
    owner: String,
    deadline_ms: u64,
    /// What speaks for running it.
    decision: Vec<Criterion>,
    inputs: Value,
    /// Who and what may start it.
    triggers: Value,
    /// How often it may start by itself.
    limits: Value,
    /// Step ids and kinds, in order.
    steps: Vec<StepSummary>,
}

#[derive(Serialize, JsonSchema)]
struct StepSummary {
    id: String,
    kind: String,
}

impl From<&switchback_playbook::format::Playbook> for Playbook {
    fn from(playbook: &switchback_playbook::format::Playbook) -> Self {
        Self {
            name: playbook.name.clone(),
            title: playbook.title.clone(),
            description: playbook.description.clone(),
            owner: playbook.owner.clone(),
            deadline_ms: playbook.deadline_ms,
            decision: playbook.decision.clone(),
            inputs: json!(playbook.inputs),
            triggers: json!(playbook.triggers),
            limits: json!(playbook.limits),
            steps: playbook
                .steps
                .iter()
                .map(|step| StepSummary { id: step.id.clone(), kind: step.call.kind.clone() })
                .collect(),
        }
    }
}

/// A run without its plan.
#[derive(Serialize, JsonSchema)]
pub(super) struct RunSummary {
    id: String,
    playbook: String,
    title: String,
    environment: String,
    state: String,
    reason: String,
    requested_by: String,
    trigger: String,
    plan_sha256: String,
    created_at: i64,
    /// When its time began to count: when it was asked for, or when its turn came.
    begins_at: i64,
    /// The key that it waits for while another run has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_for: Option<String>,
    deadline_at: i64,
    finished_at: Option<i64>,
    /// The run that it takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    undoes: Option<String>,
    /// When it is taken back by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

impl From<RunRow> for RunSummary {
    fn from(run: RunRow) -> Self {
        Self {
            id: run.id,
            playbook: run.playbook,
            title: run.title,
            environment: run.environment,
            state: run.state,
            reason: run.reason,
            requested_by: run.requested_by,
            trigger: run.trigger,
            plan_sha256: run.plan_sha256,
            created_at: run.created_at,
            begins_at: run.begins_at,
            queued_for: run.queued_for,
            deadline_at: run.deadline_at,
            finished_at: run.finished_at,
            undoes: run.undoes,
            expires_at: run.expires_at,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunBody {
    environment: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    inputs: BTreeMap<String, Value>,
    /// `cli` or `api`; `api` when not given.
    trigger: Option<String>,
    /// Start it without the role that the playbook wants, in an emergency; the reason then has at least 20 characters.
    #[serde(default)]
    break_glass: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LintBody {
    text: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CommentBody {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApprovalBody {
    approve: bool,
    #[serde(default)]
    comment: String,
    /// The plan that was looked at: its SHA-256, or at least its first 8 digits. Another one is refused.
    plan_sha256: Option<String>,
    /// `view.steps[].asked` of the run that was looked at. When people were asked again since, it is refused.
    asked: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DecisionBody {
    /// The parked step; empty for the run itself.
    #[serde(default)]
    step: String,
    /// `was_done`, `redo` or `undo`.
    #[schemars(with = "String")]
    decision: Decision,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    playbook: Option<String>,
    environment: Option<String>,
    /// Only those that are not over.
    #[serde(default)]
    active: bool,
    limit: Option<i64>,
    cursor: Option<String>,
}

impl RunBody {
    fn draft(self, playbook: &str) -> RunDraft {
        let Self { environment, reason, inputs, trigger, break_glass } = self;
        let trigger = if trigger.as_deref() == Some("cli") { "cli" } else { "api" };
        RunDraft {
            playbook: playbook.to_owned(),
            environment,
            reason,
            inputs,
            trigger,
            break_glass,
        }
    }
}

async fn list_playbooks(
    app: Data<State>,
    _caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<Playbook>> {
    let catalogue = app.catalogue.load();
    Ok(Json(query.cut(catalogue.playbooks.values().map(Playbook::from).collect())?))
}

async fn get_playbook(app: Data<State>, _caller: Caller, path: Path<String>) -> Answer<Playbook> {
    Ok(Json(app.catalogue.load().get(&path)?.into()))
}

async fn lint_playbook(app: Data<State>, _caller: Caller, body: Json<LintBody>) -> Json<Value> {
    Json(json!({"problems": app.lint_playbook(&body.text)}))
}

async fn preview_run(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<RunBody>,
) -> Answer<Value> {
    let draft = body.into_inner().draft(&path);
    let (plan, preview) = app.preview_run(&caller.0, &draft).await?;
    let expected = app.forecast(&caller.0, &plan, None).await?;
    let playbook = app.catalogue.load().get(&draft.playbook)?.clone();
    let decision = app.criteria(&playbook, &plan).await;
    Ok(Json(json!({"plan": plan, "preview": preview, "expected": expected, "decision": decision})))
}

async fn start_run(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<RunBody>,
) -> Result<HttpResponse, Problem> {
    let draft = body.into_inner().draft(&path);
    let run = app.start_run(&caller.0, draft).await?;
    Ok(HttpResponse::Created().json(RunSummary::from(run)))
}

async fn list_runs(
    app: Data<State>,
    caller: Caller,
    query: Query<ListQuery>,
) -> Answer<Page<RunSummary>> {
    let ListQuery { playbook, environment, active, limit, cursor } = query.into_inner();
    let limit = PageQuery { limit, ..PageQuery::default() }.limit()?;
    let filter = RunFilter { playbook, environment, before_id: cursor, active, limit };
    let rows = app.list_runs(&caller.0, &filter).await?;
    let rows = rows.into_iter().map(RunSummary::from).collect();
    Ok(Json(page_of(rows, limit, |run: &RunSummary| run.id.clone())))
}

async fn get_run(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<Value> {
    let detail = app.get_run(&caller.0, &path).await?;
    let progress = app.progress_of(&caller.0, &detail).await?;
    Ok(Json(json!({
        "progress": progress,
        "run": RunSummary::from(detail.run),
        "state": detail.state,
        "plan": detail.plan,
        "view": detail.view,
        "log": detail.log,
        "incidents": detail.incidents,
    })))
}

async fn cancel_run(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<CommentBody>,
) -> Result<HttpResponse, Problem> {
    app.cancel_run(&caller.0, &path, &body.reason).await?;
    Ok(HttpResponse::Accepted().finish())
}

async fn approve_step(
    app: Data<State>,
    caller: Caller,
    path: Path<(String, String)>,
    body: Json<ApprovalBody>,
) -> Result<HttpResponse, Problem> {
    let ApprovalBody { approve: granted, comment, plan_sha256, asked } = body.into_inner();
    let answer = Given { granted, comment, plan_sha256, asked, link: None };
    app.approve_step(&caller.0, &path.0, &path.1, answer).await?;
    Ok(HttpResponse::Accepted().finish())
}

async fn decide_run(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<DecisionBody>,
) -> Result<HttpResponse, Problem> {
    let DecisionBody { step, decision, comment } = body.into_inner();
    app.decide_run(&caller.0, &path, &step, decision, &comment).await?;
    Ok(HttpResponse::Accepted().finish())
}
