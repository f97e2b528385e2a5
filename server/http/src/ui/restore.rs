//! Putting a whole environment back to a moment: pick it, see what would change, confirm.

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_store::ChangeFilter;

use super::diff_lines::{DiffLine, lines};
use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::timeline::did;
use super::visit::{Toast, Visit};
use super::words::{Words, format_at, plain_stamp, read_moment};
use super::{Answer, UiError, ok, unprocessable};

/// Changes that are offered as moments.
const MOMENTS_MAX: i64 = 15;

struct Preview {
    stamp: String,
    revision: u64,
    flags: Vec<(String, Vec<DiffLine>)>,
    newer: Vec<String>,
    segments: Vec<String>,
}

struct Moment {
    at: i64,
    before: String,
    words: Words,
}

#[derive(Template)]
#[template(path = "pages/restore.html")]
struct RestorePage {
    frame: Frame,
    at: String,
    preview: Option<Preview>,
    moments: Vec<Moment>,
    reason: String,
    faults: Faults,
}

/// `GET /ui/{environment}/restore?at=`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    let page = page_of(&visit, &path, &query, Faults::default()).await?;
    if page.faults.none() { ok(&page) } else { unprocessable(&page) }
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    form: &Fields,
    mut faults: Faults,
) -> Result<RestorePage, UiError> {
    let frame = visit.frame(environment, "log", "Put back to a moment").await?;
    let mut preview = None;
    match (form.text("at"), read_moment(form.text("at"))) {
        ("", _) => {}
        (text, None) => {
            let wrong = AppError::invalid("at", format!("`{text}` is not a time"));
            faults.0.extend(Faults::of(wrong)?.0);
        }
        (_, Some(at)) => match visit.preview_restore(&visit.who, environment, at).await {
            Ok(found) => {
                preview = Some(Preview {
                    stamp: plain_stamp(at),
                    revision: found.revision,
                    flags: found
                        .flags
                        .iter()
                        .map(|one| (one.key.clone(), lines(&one.differences)))
                        .collect(),
                    newer: found.newer_flags,
                    segments: found.segments,
                });
            }
            Err(error) => faults.0.extend(Faults::of(error)?.0),
        },
    }
    let filter = ChangeFilter {
        environment: Some(environment.to_owned()),
        subject_kind: Some("flag".to_owned()),
        limit: MOMENTS_MAX,
        ..ChangeFilter::default()
    };
    let changes = visit.list_changes(&visit.who, &filter).await?;
    let base = frame.url("");
    let moment = |row: switchback_app::flags::HistoryRow| Moment {
        at: row.change.at,
        before: format_at(row.change.at - 1, "%Y-%m-%dT%H:%M:%S%.3f"),
        words: did(&row.change, &base),
    };
    Ok(RestorePage {
        at: form.text("at").to_owned(),
        preview,
        moments: changes.into_iter().map(moment).collect(),
        reason: form.text("reason").to_owned(),
        faults,
        frame,
    })
}

/// `POST /ui/{environment}/restore`.
pub async fn restore(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let at = read_moment(form.text("at"))
        .ok_or_else(|| AppError::invalid("at", "this is not a time"))?;
    let expected = form.number("revision")?;
    match visit.restore_environment(&visit.who, &path, at, expected, form.text("reason")).await {
        Ok(done) => {
            let count = super::words::count(done.flags.len() as u64, "flag");
            let text = format!("{count} put back: revision {}.", done.revision);
            Ok(Visit::done(&format!("/ui/{path}"), &Toast::say(text)))
        }
        Err(AppError::Conflict { current }) => {
            let message = format!(
                "somebody changed something meanwhile (revision {current}); look at the difference again"
            );
            let faults = Faults::of(AppError::invalid("", message))?;
            unprocessable(&page_of(&visit, &path, &form, faults).await?)
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &path, &form, faults).await?)
        }
    }
}
