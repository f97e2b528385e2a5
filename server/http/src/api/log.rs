//! The change log and the rollback log.

use actix_web::web::{Data, Json, Query};
use schemars::JsonSchema;
use serde::Deserialize;
use switchback_app::AppError;
use switchback_app::flags::HistoryRow;
use switchback_app::playbooks::ChainReport;
use switchback_store::{ChangeFilter, LogEntry};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery, page_of};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Log":
        get "/api/v1/changes" list_changes "Who changed what from what to what, why, when; newest first.", query ChangeQuery => Page<HistoryRow>;
        get "/api/v1/rollback-log" list_rollback_log "Every move of every run, oldest first, with its chain.", query PageQuery => Page<LogEntry>;
        get "/api/v1/rollback-log/verify" verify_rollback_log "Check the chain; names the first broken row." => ChainReport;
    }
}

#[derive(Deserialize, JsonSchema)]
struct ChangeQuery {
    environment: Option<String>,
    /// `flag`, `segment`, `environment`, `token`, `user`, `incident`, `component`, `notice`.
    kind: Option<String>,
    subject: Option<String>,
    actor: Option<String>,
    /// In the subject or the reason.
    text: Option<String>,
    run: Option<String>,
    /// Not older than this, in UTC milliseconds.
    since: Option<i64>,
    limit: Option<i64>,
    cursor: Option<String>,
}

async fn list_changes(
    app: Data<State>,
    caller: Caller,
    query: Query<ChangeQuery>,
) -> Answer<Page<HistoryRow>> {
    let query = query.into_inner();
    let limit = PageQuery { limit: query.limit, ..PageQuery::default() }.limit()?;
    let filter = ChangeFilter {
        environment: query.environment,
        subject_kind: query.kind,
        subject: query.subject,
        actor: query.actor,
        before_id: query.cursor,
        since: query.since,
        run_id: query.run,
        text: query.text,
        limit,
    };
    let rows = app.list_changes(&caller.0, &filter).await?;
    Ok(Json(page_of(rows, limit, |row| row.change.id.clone())))
}

async fn list_rollback_log(
    app: Data<State>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<LogEntry>> {
    let limit = query.limit()?;
    let after = match query.cursor.as_deref() {
        None | Some("") => 0,
        Some(text) => text
            .parse()
            .map_err(|_| AppError::invalid("cursor", "use the `next` of the page before"))?,
    };
    let rows = app.list_rollback_log(&caller.0, after, limit).await?;
    Ok(Json(page_of(rows, limit, |row| row.seq.to_string())))
}

async fn verify_rollback_log(app: Data<State>, caller: Caller) -> Answer<ChainReport> {
    Ok(Json(app.verify_log(&caller.0).await?))
}
