//! Who is broken: findings to filter, masked, a page at a time.

use actix_web::web::Path;
use askama::Template;
use switchback_app::checks::KnownPack;
use switchback_checks::finding::State;
use switchback_store::{FindingFilter, FindingRow};

use super::{query_of, says};
use crate::ui::fields::{Faults, Fields};
use crate::ui::frame::Frame;
use crate::ui::visit::Visit;
use crate::ui::words::{self, Words};
use crate::ui::{Answer, UiError, ok, unprocessable};

/// What can be asked for, beside the page.
const FILTERS: [&str; 7] = ["check", "state", "class", "country", "platform", "search", "run"];

#[derive(Template)]
#[template(path = "pages/findings.html")]
struct FindingsPage {
    frame: Frame,
    known: KnownPack,
    rows: Vec<FindingRow>,
    next: Option<(i64, String)>,
    form: Fields,
    faults: Faults,
}

impl FindingsPage {
    fn home(&self) -> String {
        format!("/ui/checks/{}", self.known.pack.name)
    }

    fn sentence(&self) -> Words {
        let is_filtered = FILTERS.iter().any(|field| !self.form.text(field).is_empty());
        match (self.rows.len() as u64, &self.next) {
            (0, _) if is_filtered => Words::say("Nothing is like that."),
            (0, _) => Words::say("Nothing was found yet."),
            (count, None) => Words::say(&format!("{}.", words::count(count, "finding"))),
            (count, Some(_)) => {
                Words::say(&format!("{} here, and more behind.", words::count(count, "finding")))
            }
        }
    }

    fn states(&self) -> Vec<&'static str> {
        State::WORDS.iter().map(|(word, _)| *word).collect()
    }

    fn is(&self, field: &str, value: &str) -> bool {
        self.form.text(field) == value
    }

    fn is_filtered(&self) -> bool {
        FILTERS.iter().any(|field| !self.form.text(field).is_empty())
    }

    fn title_of(&self, row: &FindingRow) -> String {
        let check = self.known.pack.check(&row.check);
        check.map_or_else(|| row.check.clone(), |check| check.title.clone())
    }

    fn tone(&self, row: &FindingRow) -> &'static str {
        says::state_tone(&row.state)
    }

    fn open(&self, row: &FindingRow) -> String {
        let which = query_of(&[("check", &row.check), ("key", &row.key)]);
        format!("{}/finding{which}", self.home())
    }

    /// Where the next page is.
    fn more(&self) -> String {
        let Some((before, after)) = &self.next else { return String::new() };
        let before = before.to_string();
        let mut fields: Vec<(&str, &str)> =
            FILTERS.iter().map(|field| (*field, self.form.text(field))).collect();
        fields.extend([("before", before.as_str()), ("after_key", after)]);
        format!("{}/findings{}", self.home(), query_of(&fields))
    }

    fn all_faults(&self) -> Vec<String> {
        self.faults.beside(&[])
    }
}

/// `GET /ui/checks/{pack}/findings?check=&state=&class=&country=&platform=&search=`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    let filter = FindingFilter {
        pack: Some(path.to_owned()),
        check: query.some("check"),
        state: query.some("state"),
        class: query.some("class"),
        country: query.some("country"),
        platform: query.some("platform"),
        run: query.some("run"),
        search: query.some("search"),
        label_hash: None,
        before: query.text("before").parse().ok(),
        after_key: query.some("after_key"),
    };
    match visit.list_findings(&visit.who, filter).await {
        Ok(found) => {
            let page = page_of(&visit, &path, query, found.findings, Faults::default()).await?;
            ok(&FindingsPage { next: found.next, ..page })
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &path, query, Vec::new(), faults).await?)
        }
    }
}

async fn page_of(
    visit: &Visit,
    pack: &str,
    form: Fields,
    rows: Vec<FindingRow>,
    faults: Faults,
) -> Result<FindingsPage, UiError> {
    let known = visit.get_check_pack(&visit.who, pack).await?;
    let frame = visit.frame_anywhere("checks", "Findings").await?;
    Ok(FindingsPage { frame, known, rows, next: None, form, faults })
}
