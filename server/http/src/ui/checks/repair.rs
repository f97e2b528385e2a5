//! A repair before it starts: what it would do, row by row, and with which limits.

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_app::checks::preview::{Preview, RowPreview};
use switchback_app::checks::{BackfillWish, KnownPack};

use super::finding::shown;
use super::query_of;
use crate::ui::fields::{Faults, Fields};
use crate::ui::frame::Frame;
use crate::ui::visit::{Toast, Visit};
use crate::ui::words::{self, Words};
use crate::ui::{Answer, UiError, ok, unprocessable};

/// How far back a repair may look: minutes, and how that is called.
const WINDOWS: [(&str, &str); 5] = [
    ("", "everything"),
    ("10", "the last 10 minutes"),
    ("60", "the last hour"),
    ("1440", "the last day"),
    ("10080", "the last week"),
];
/// What a wish is made of, in the address and in the form.
const WISHED: [&str; 4] = ["check", "window", "batch", "limit"];

#[derive(Template)]
#[template(path = "pages/repair.html")]
struct RepairPage {
    frame: Frame,
    known: KnownPack,
    preview: Option<Preview>,
    form: Fields,
    faults: Faults,
}

impl RepairPage {
    fn home(&self) -> String {
        format!("/ui/checks/{}", self.known.pack.name)
    }

    fn sentence(&self) -> Words {
        match &self.preview {
            None => Words::say("Nothing can be tried so."),
            Some(preview) if preview.would_repair == 0 => {
                Words::default().strong("There is nothing to repair.")
            }
            Some(preview) => Words::say("It would repair ")
                .strong(&words::count(preview.would_repair, "finding"))
                .and(". The rows below were tried and rolled back; nothing was changed."),
        }
    }

    /// Checks that have a fix: name and title.
    fn fixable(&self) -> Vec<(&str, &str)> {
        let with_fix = self.known.pack.checks.iter().filter(|check| check.fix.is_some());
        with_fix.map(|check| (check.name.as_str(), check.title.as_str())).collect()
    }

    fn windows(&self) -> &'static [(&'static str, &'static str)] {
        &WINDOWS
    }

    fn is(&self, field: &str, value: &str) -> bool {
        self.form.text(field) == value
    }

    /// What was tried, so that just that is started.
    fn wished(&self) -> Vec<(&'static str, &str)> {
        WISHED.iter().map(|field| (*field, self.form.text(field))).collect()
    }

    fn would(&self) -> u64 {
        self.preview.as_ref().map_or(0, |preview| preview.would_repair)
    }

    fn number(&self, count: &u64) -> String {
        words::number(*count)
    }

    fn findings(&self) -> String {
        words::count(self.would(), "finding")
    }

    fn columns(&self, row: &RowPreview) -> Vec<(String, String, String)> {
        let line = |(name, (before, after)): (&String, &(serde_json::Value, serde_json::Value))| {
            let before = if row.action == "insert" { String::new() } else { shown(before) };
            let after = if row.action == "delete" { String::new() } else { shown(after) };
            (name.clone(), before, after)
        };
        row.columns.iter().map(line).collect()
    }

    fn all_faults(&self) -> Vec<String> {
        self.faults.beside(&[])
    }
}

fn wish_of(form: &Fields) -> Result<BackfillWish, AppError> {
    let number = |field: &str| match form.text(field) {
        "" => Ok(None),
        _ => form.number::<u64>(field).map(Some),
    };
    Ok(BackfillWish {
        check: form.some("check"),
        window_ms: number("window")?.map(|minutes| minutes.saturating_mul(60_000)),
        batch_size: number("batch")?,
        limit: number("limit")?,
        reason: form.text("reason").to_owned(),
    })
}

/// `GET /ui/checks/{pack}/repair?check=&window=&batch=&limit=`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    ok(&page_of(&visit, &path, query, Faults::default()).await?)
}

async fn page_of(
    visit: &Visit,
    pack: &str,
    form: Fields,
    mut faults: Faults,
) -> Result<RepairPage, UiError> {
    let known = visit.get_check_pack(&visit.who, pack).await?;
    let frame = visit.frame_anywhere("checks", "Repair").await?;
    let previewed = match wish_of(&form) {
        Ok(wish) => visit.preview_backfill(&visit.who, pack, &wish).await,
        Err(error) => Err(error),
    };
    let preview = match previewed {
        Ok(preview) => Some(preview),
        Err(error) => {
            let wrong = Faults::of(error)?;
            if faults.none() {
                faults = wrong;
            }
            None
        }
    };
    Ok(RepairPage { frame, known, preview, form, faults })
}

/// `POST /ui/checks/{pack}/repair`.
pub async fn start(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let started = match wish_of(&form) {
        Ok(wish) => visit.start_backfill(&visit.who, &path, wish).await,
        Err(error) => Err(error),
    };
    match started {
        Ok(run) => {
            let to = format!("/ui/repairs/{}", run.id);
            Ok(Visit::done(&to, &Toast::say("The repair is under way.")))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &path, form, faults).await?)
        }
    }
}

/// Where the preview of one check is.
pub fn address(pack: &str, check: &str) -> String {
    format!("/ui/checks/{pack}/repair{}", query_of(&[("check", check)]))
}
