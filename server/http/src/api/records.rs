//! What is told about runs: reports, evidence, comparisons.

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{Data, Json, Path, Query, block};
use schemars::JsonSchema;
use serde::Deserialize;
use switchback_app::AppError;
use switchback_app::compare::Comparison;
use switchback_app::evidence::Evidence;
use switchback_app::report::Report;

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;
use crate::ui::report_text::markdown;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Playbooks":
        get "/api/v1/runs/{run}/report" get_run_report "What happened in a run, step by step, with who, why and when; `format=markdown` for people.", query ReportQuery => Report;
        get "/api/v1/runs/{run}/compare/{other}" compare_runs "Two runs side by side: steps, durations, inputs, plans." => Comparison;
        get "/api/v1/runs/{run}/evidence" get_run_evidence "One file that proves, without a server, what the log says of a run." => Evidence;
    }
}

#[derive(Deserialize, JsonSchema)]
struct ReportQuery {
    /// `json` (when not given) or `markdown`.
    format: Option<String>,
}

/// An answer that a browser keeps as a file.
fn file(name: &str, kind: &str, body: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")))
        .body(body)
}

async fn get_run_report(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReportQuery>,
) -> Result<HttpResponse, Problem> {
    let report = app.report_run(&caller.0, &path).await?;
    let name = format!("report-{}", report.id);
    match query.format.as_deref() {
        None | Some("json") => {
            let text = serde_json::to_string_pretty(&report)
                .map_err(|error| AppError::Internal(Box::new(error)))?;
            Ok(file(&format!("{name}.json"), "application/json", text))
        }
        Some("markdown") => {
            let kind = "text/markdown; charset=utf-8";
            Ok(file(&format!("{name}.md"), kind, markdown(&report)))
        }
        Some(other) => {
            let message = format!("`{other}` is no format; there are json and markdown");
            Err(AppError::invalid("format", message).into())
        }
    }
}

async fn get_run_evidence(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let evidence = app.run_evidence(&caller.0, &path).await?;
    let name = format!("evidence-{}.json", path.as_str());
    // It may be megabytes.
    let text = block(move || serde_json::to_string(&evidence)).await;
    let text = text
        .map_err(|error| AppError::Internal(Box::new(error)))?
        .map_err(|error| AppError::Internal(Box::new(error)))?;
    Ok(file(&name, "application/json", text))
}

async fn compare_runs(
    app: Data<State>,
    caller: Caller,
    path: Path<(String, String)>,
) -> Result<Json<Comparison>, Problem> {
    Ok(Json(app.compare_runs(&caller.0, &path.0, &path.1).await?))
}
