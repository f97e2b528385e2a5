//! The log: everything that was changed, by whom and why; and whether the chain of runs holds.

use actix_web::web::Path;
use askama::Template;
use switchback_app::flags::HistoryRow;
use switchback_app::playbooks::ChainReport;
use switchback_store::ChangeFilter;

use super::diff_lines::{DiffLine, lines};
use super::fields::Fields;
use super::frame::Frame;
use super::timeline::did;
use super::visit::Visit;
use super::words::{self, Words};
use super::{Answer, UiError, ok};

/// Rows on a page.
const PAGE: i64 = 100;

struct Row {
    id: String,
    revision: Option<u64>,
    words: Words,
    /// The same without links: the row itself opens.
    plain: Words,
    kind: String,
    at: i64,
    reason: String,
    emergency: bool,
    run_id: Option<String>,
    lines: Vec<DiffLine>,
}

#[derive(Template)]
#[template(path = "pages/log.html")]
struct LogPage {
    frame: Frame,
    sentence: Words,
    tone: &'static str,
    rows: Vec<Row>,
    query: Fields,
    next: Option<String>,
    report: Option<ChainReport>,
    /// How far the chain was verified last, and whether it was whole.
    chain: Words,
    is_whole: bool,
}

impl LogPage {
    /// This page's filters with another cursor.
    fn older(&self, id: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new("?".to_owned());
        for name in ["kind", "text", "actor", "everywhere"] {
            if let Some(text) = self.query.some(name) {
                query.append_pair(name, &text);
            }
        }
        query.append_pair("before", id).finish()
    }

    fn short(&self, hash: &str) -> String {
        hash.chars().take(16).collect()
    }
}

/// `GET /ui/{environment}/log?kind=&text=&actor=&before=`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    ok(&page_of(&visit, &path, query, None).await?)
}

/// `POST /ui/{environment}/log/verify`: checks the whole chain.
pub async fn verify(visit: Visit, path: Path<String>) -> Answer {
    let report = visit.verify_log(&visit.who).await?;
    ok(&page_of(&visit, &path, Fields::default(), Some(report)).await?)
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    query: Fields,
    report: Option<ChainReport>,
) -> Result<LogPage, UiError> {
    let frame = visit.frame(environment, "log", "Log").await?;
    let filter = ChangeFilter {
        environment: (!query.is("everywhere")).then(|| environment.to_owned()),
        subject_kind: query.some("kind"),
        actor: query.some("actor"),
        before_id: query.some("before"),
        text: query.some("text"),
        limit: PAGE,
        ..ChangeFilter::default()
    };
    let found = visit.list_changes(&visit.who, &filter).await?;
    let next = found.last().filter(|_| found.len() as i64 == PAGE).map(|row| row.change.id.clone());
    let base = frame.url("");
    let rows: Vec<Row> = found.into_iter().map(|row| row_of(row, &base)).collect();
    let (sentence, tone) = match &report {
        Some(report) if report.ok => {
            let words = Words::default()
                .strong(&format!("Verified to row {}:", words::number(report.rows)));
            (words.and(" no row of the rollback log was changed, moved or left out."), "")
        }
        Some(report) => {
            let row = report.broken_row.unwrap_or_default();
            let why = report.problem.clone().unwrap_or_default();
            (
                Words::default()
                    .strong(&format!("The chain is broken at row {row}:"))
                    .and(&format!(" {why}.")),
                "bad",
            )
        }
        None => match rows.first() {
            Some(row) => {
                let words = Words::say("The last change: ")
                    .join(&row.words)
                    .and(" ")
                    .when(row.at, frame.now);
                (words.and("."), "")
            }
            None => (Words::say("No change matches."), ""),
        },
    };
    let verified = visit.last_verified();
    let is_whole = verified.as_ref().is_none_or(|last| last.report.ok);
    let chain = match verified {
        None => Words::say("The chain of the rollback log was not verified yet."),
        Some(last) if last.report.ok && last.report.rows == 0 => {
            Words::say("The rollback log is empty: no playbook has run.")
        }
        Some(last) if last.report.ok => Words::say("Rollback log: verified to row ")
            .strong(&words::number(last.report.rows))
            .and(", ")
            .when(last.at, frame.now)
            .and("."),
        Some(last) => {
            let row = words::number(last.report.broken_row.unwrap_or_default());
            Words::say("Rollback log: ")
                .strong(&format!("broken at row {row}"))
                .and(", seen ")
                .when(last.at, frame.now)
                .and(".")
        }
    };
    Ok(LogPage { frame, sentence, tone, rows, query, next, report, chain, is_whole })
}

fn row_of(row: HistoryRow, base: &str) -> Row {
    let change = row.change;
    let words = did(&change, base);
    Row {
        plain: words.unlinked(),
        words,
        lines: lines(&row.differences),
        kind: change.subject_kind,
        id: change.id,
        revision: change.revision,
        at: change.at,
        reason: change.reason,
        emergency: change.emergency,
        run_id: change.run_id,
    }
}
