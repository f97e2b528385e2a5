//! Consistency checks: packs, how they stand, sweeps, repairs, findings, reports.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use askama::Template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_app::AppError;
use switchback_app::checks::findings::{FindingPage, Revealed};
use switchback_app::checks::health::{PackDetail, RecentIssue};
use switchback_app::checks::preview::Preview;
use switchback_app::checks::report::CheckReport;
use switchback_app::checks::settings::SettingsChange;
use switchback_app::checks::{
    BackfillWish, Health, KnownPack, PackProblem, PackView, Remark, RepairRun,
};
use switchback_store::{FindingFilter, FindingRow};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Checks":
        get "/api/v1/checks" get_health "Packs of checks and how they stand." => Health;
        get "/api/v1/checks/recent-issues" recent_issues "What came to be broken in the last minutes, asked for now.", query RecentQuery => Vec<RecentIssue>;
        post "/api/v1/checks/validate" validate_pack "What is wrong with a pack's text; nothing is kept." body TextBody => Vec<PackProblem>;
        get "/api/v1/checks/{pack}" get_pack "A pack: its text, how it stands, counts and trend.", query TrendQuery => PackDetail;
        put "/api/v1/checks/{pack}" put_pack "Keep a new version of a pack." body PackBody => KnownPack;
        delete "/api/v1/checks/{pack}" reset_pack "Remove what was written here; a shipped pack of the same name counts again.";
        post "/api/v1/checks/{pack}/lint" lint_pack "Let the pack's database look its queries over and rehearse its fixes." => Vec<Remark>;
        patch "/api/v1/checks/{pack}/settings" change_settings "Change how a pack is monitored." body SettingsChange => KnownPack;
        post "/api/v1/checks/{pack}/run" run_pack "Look now, without fixing." body RunBody => PackView;
        get "/api/v1/checks/{pack}/report" get_report "How a pack stands, with the first findings of each check.", query ReportQuery;
        post "/api/v1/checks/{pack}/preview" preview "What a repair would do: how many, and the first rows before and after." body BackfillWish => Preview;
        post "/api/v1/checks/{pack}/backfill" start_backfill "Repair what is found; `dry_run`, which is the default, only says what it would do." body BackfillBody => BackfillAnswer;
        get "/api/v1/repair-runs" list_runs "Runs of repairs, the newest first.", query RunsQuery => Vec<RepairRun>;
        get "/api/v1/repair-runs/{run}" get_run "A run of repairs." => RepairRun;
        post "/api/v1/repair-runs/{run}/cancel" cancel_run "Stop a run after the batch that is under way." => RepairRun;
        post "/api/v1/repair-runs/{run}/resume" resume_run "Go on with a run that failed or was cancelled." => RepairRun;
        post "/api/v1/repair-runs/{run}/undo" undo_run "Put back every row that is still as the run left it." body ReasonBody => RepairRun;
        get "/api/v1/findings" list_findings "Findings, those seen last first; who they are about is masked.", query FindingFilter => FindingPage;
        post "/api/v1/findings/reveal" reveal "A finding in full; that somebody looked is logged." body FindingBody => Revealed;
        post "/api/v1/findings/ignore" ignore "Leave a finding as it is, or no longer." body IgnoreBody => FindingRow;
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RecentQuery {
    /// The window in milliseconds; ten minutes when absent.
    window_ms: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TextBody {
    /// The pack, in YAML.
    source: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TrendQuery {
    /// How far back the trend goes, in milliseconds: an hour to 30 days; a day when absent.
    trend_ms: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReportQuery {
    /// `json`, `text` or `html`.
    #[serde(default)]
    format: ReportForm,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ReportForm {
    /// For programs.
    #[default]
    Json,
    /// For reading.
    Text,
    /// A page that stands alone.
    Html,
}

/// The report as a page that stands alone.
#[derive(Template)]
#[template(path = "parts/check_report.html")]
struct ReportPage<'r> {
    report: &'r CheckReport,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PackBody {
    /// The pack, in YAML.
    source: String,
    /// The version that it was made from; 0: none was written here.
    version: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunBody {
    /// Only this check.
    check: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BackfillBody {
    /// Only say what it would do. The default.
    #[serde(default = "yes")]
    dry_run: bool,
    /// Only this check.
    check: Option<String>,
    /// Only what came to be so long ago at most, in milliseconds.
    window_ms: Option<u64>,
    /// Keys of a batch: 1 to 5,000; 100 when absent.
    batch_size: Option<u64>,
    /// Keys at most.
    limit: Option<u64>,
    /// Why.
    #[serde(default)]
    reason: String,
}

fn yes() -> bool {
    true
}

/// The run that was started, or what it would do.
#[derive(Serialize, JsonSchema)]
struct BackfillAnswer {
    /// The run.
    run: Option<RepairRun>,
    /// What it would do.
    preview: Option<Preview>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunsQuery {
    /// Only of this pack.
    pack: Option<String>,
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
struct FindingBody {
    /// The pack.
    pack: String,
    /// The check.
    check: String,
    /// The key.
    key: String,
    /// Why.
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IgnoreBody {
    /// The pack.
    pack: String,
    /// The check.
    check: String,
    /// The key.
    key: String,
    /// False: no longer.
    #[serde(default = "yes")]
    ignored: bool,
    /// Why it is all right.
    #[serde(default)]
    reason: String,
}

async fn get_health(app: Data<State>, caller: Caller) -> Answer<Health> {
    Ok(Json(app.check_health(&caller.0).await?))
}

async fn recent_issues(
    app: Data<State>,
    caller: Caller,
    query: Query<RecentQuery>,
) -> Answer<Vec<RecentIssue>> {
    Ok(Json(app.check_recent_issues(&caller.0, query.window_ms).await?))
}

async fn validate_pack(
    app: Data<State>,
    caller: Caller,
    body: Json<TextBody>,
) -> Answer<Vec<PackProblem>> {
    Ok(Json(app.check_pack_text(&caller.0, &body.source)?))
}

async fn get_pack(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<TrendQuery>,
) -> Answer<PackDetail> {
    const DAY_MS: i64 = 86_400_000;
    let trend = query.trend_ms.unwrap_or(DAY_MS);
    Ok(Json(app.get_pack_detail(&caller.0, &path, trend).await?))
}

async fn put_pack(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<PackBody>,
) -> Answer<KnownPack> {
    Ok(Json(app.put_check_pack(&caller.0, &path, &body.source, body.version).await?))
}

async fn reset_pack(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    app.reset_check_pack(&caller.0, &path).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn lint_pack(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<Vec<Remark>> {
    Ok(Json(app.lint_check_pack(&caller.0, &path).await?))
}

async fn change_settings(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<SettingsChange>,
) -> Answer<KnownPack> {
    Ok(Json(app.change_check_settings(&caller.0, &path, body.into_inner()).await?))
}

async fn run_pack(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<RunBody>,
) -> Answer<PackView> {
    Ok(Json(app.run_checks_now(&caller.0, &path, body.check.as_deref()).await?))
}

async fn get_report(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReportQuery>,
) -> Result<HttpResponse, Problem> {
    let report = app.check_report(&caller.0, &path).await?;
    Ok(match query.format {
        ReportForm::Json => HttpResponse::Ok().json(report),
        ReportForm::Text => {
            HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(report.text())
        }
        ReportForm::Html => {
            let page = ReportPage { report: &report }.render();
            let page = page.map_err(|error| AppError::Internal(Box::new(error)))?;
            HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page)
        }
    })
}

async fn preview(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<BackfillWish>,
) -> Answer<Preview> {
    Ok(Json(app.preview_backfill(&caller.0, &path, &body).await?))
}

async fn start_backfill(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<BackfillBody>,
) -> Answer<BackfillAnswer> {
    let BackfillBody { dry_run, check, window_ms, batch_size, limit, reason } = body.into_inner();
    let wish = BackfillWish { check, window_ms, batch_size, limit, reason };
    Ok(Json(if dry_run {
        let preview = app.preview_backfill(&caller.0, &path, &wish).await?;
        BackfillAnswer { run: None, preview: Some(preview) }
    } else {
        let run = app.start_backfill(&caller.0, &path, wish).await?;
        BackfillAnswer { run: Some(run), preview: None }
    }))
}

async fn list_runs(
    app: Data<State>,
    caller: Caller,
    query: Query<RunsQuery>,
) -> Answer<Vec<RepairRun>> {
    Ok(Json(app.list_repair_runs(&caller.0, query.pack.as_deref()).await?))
}

async fn get_run(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<RepairRun> {
    Ok(Json(app.get_repair_run(&caller.0, &path).await?))
}

async fn cancel_run(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<RepairRun> {
    Ok(Json(app.cancel_repair(&caller.0, &path).await?))
}

async fn resume_run(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<RepairRun> {
    Ok(Json(app.resume_repair(&caller.0, &path).await?))
}

async fn undo_run(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ReasonBody>,
) -> Answer<RepairRun> {
    Ok(Json(app.undo_repair(&caller.0, &path, &body.reason).await?))
}

async fn list_findings(
    app: Data<State>,
    caller: Caller,
    query: Query<FindingFilter>,
) -> Answer<FindingPage> {
    Ok(Json(app.list_findings(&caller.0, query.into_inner()).await?))
}

async fn reveal(app: Data<State>, caller: Caller, body: Json<FindingBody>) -> Answer<Revealed> {
    let FindingBody { pack, check, key, reason } = body.into_inner();
    Ok(Json(app.reveal_finding(&caller.0, (&pack, &check, &key), &reason).await?))
}

async fn ignore(app: Data<State>, caller: Caller, body: Json<IgnoreBody>) -> Answer<FindingRow> {
    let IgnoreBody { pack, check, key, ignored, reason } = body.into_inner();
    let which = (pack.as_str(), check.as_str(), key.as_str());
    Ok(Json(app.ignore_finding(&caller.0, which, ignored, &reason).await?))
}
