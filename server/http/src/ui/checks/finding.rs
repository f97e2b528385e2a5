//! One finding: masked until somebody who may reveals it, with the rows of its last fix; left alone with a reason.

use actix_web::web::Path;
use askama::Template;
use serde_json::{Map, Value};
use switchback_app::AppError;
use switchback_app::checks::KnownPack;
use switchback_app::checks::findings::Revealed;
use switchback_checks::Check;
use switchback_store::{FindingFilter, FindingRow};

use super::{query_of, says};
use crate::ui::fields::{Faults, Fields};
use crate::ui::frame::Frame;
use crate::ui::visit::{Toast, Visit};
use crate::ui::words::{self, Words};
use crate::ui::{Answer, UiError, ok, unprocessable};

/// A row that the last fix changed: where it is, what became of it, and columns before and after.
struct Changed {
    place: String,
    undone: &'static str,
    columns: Vec<(String, String, String)>,
}

#[derive(Template)]
#[template(path = "pages/finding.html")]
struct FindingPage {
    frame: Frame,
    known: KnownPack,
    row: FindingRow,
    revealed: Option<Revealed>,
    changes: Vec<Changed>,
    faults: Faults,
}

impl FindingPage {
    fn home(&self) -> String {
        format!("/ui/checks/{}", self.row.pack)
    }

    fn check(&self) -> Option<&Check> {
        self.known.pack.check(&self.row.check)
    }

    fn title(&self) -> String {
        self.check().map_or_else(|| self.row.check.clone(), |check| check.title.clone())
    }

    fn tone(&self) -> &'static str {
        says::state_tone(&self.row.state)
    }

    fn sentence(&self) -> Words {
        let now = self.frame.now;
        let words = match self.row.state.as_str() {
            "open" => Words::say("It is broken, seen last "),
            "stuck" => Words::say("Its fix does not last, so only a person mends it. Seen last "),
            "ignored" => Words::say("Somebody said that it is all right. Seen last "),
            "gone" => Words::say("It is no longer found, without us. Seen last "),
            _ => {
                return Words::say("It was fixed ")
                    .when(self.row.fixed_at, now)
                    .and(&format!(" by {}.", words::actor(&self.row.fixed_by)));
            }
        };
        words.when(self.row.last_seen, now).and(".")
    }

    fn about(&self) -> String {
        self.check().map(|check| check.about.clone()).unwrap_or_default()
    }

    fn can_ignore(&self) -> bool {
        matches!(self.row.state.as_str(), "open" | "stuck")
    }

    /// The query's other columns, as they were.
    fn details(&self) -> Vec<(String, String)> {
        let detail = self.revealed.as_ref().and_then(|revealed| revealed.detail.as_ref());
        let columns = detail.and_then(Value::as_object);
        let shown = |(name, value): (&String, &Value)| (name.clone(), shown(value));
        columns.map(|columns| columns.iter().map(shown).collect()).unwrap_or_default()
    }

    fn all_faults(&self) -> Vec<String> {
        self.faults.beside(&[])
    }
}

/// A column's value for reading.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The columns of a row as it was kept; `None` when it is kept as one text.
fn columns_of(image: Option<&str>) -> Option<Map<String, Value>> {
    let Some(image) = image else { return Some(Map::new()) };
    let kept: Map<String, Value> = serde_json::from_str(image).ok()?;
    // Kept with its type, so that it can be put back: the value is the second.
    let value = |(name, kept): (String, Value)| match kept {
        Value::Array(pair) => (name, pair.get(1).cloned().unwrap_or(Value::Null)),
        other => (name, other),
    };
    Some(kept.into_iter().map(value).collect())
}

fn changed_of(revealed: &Revealed) -> Vec<Changed> {
    let mut all = Vec::new();
    for change in revealed.changes.iter().filter(|change| !change.table.is_empty()) {
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        let columns = if let (Some(was), Some(is)) = (columns_of(before), columns_of(after)) {
            let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
            names.sort();
            names.dedup();
            let of = |row: &Map<String, Value>, name: &String, image: Option<&str>| match image {
                None => "no row".to_owned(),
                Some(_) => shown(row.get(name).unwrap_or(&Value::Null)),
            };
            let line = |name: &String| (name.clone(), of(&was, name, before), of(&is, name, after));
            names.into_iter().map(line).filter(|(_, was, is)| was != is).collect()
        } else {
            let of = |image: Option<&str>| image.unwrap_or("no row").to_owned();
            vec![("the row".to_owned(), of(before), of(after))]
        };
        all.push(Changed {
            place: format!("{} {}", change.table, change.row),
            undone: match change.undone.as_deref() {
                Some("undone") => "put back since",
                Some(_) => "changed by somebody since",
                None => "",
            },
            columns,
        });
    }
    all
}

/// `GET /ui/checks/{pack}/finding?check=&key=`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    let (check, key) = (query.text("check"), query.text("key"));
    ok(&page_of(&visit, (&path, check, key), None, Faults::default()).await?)
}

async fn page_of(
    visit: &Visit,
    (pack, check, key): (&str, &str, &str),
    revealed: Option<Revealed>,
    faults: Faults,
) -> Result<FindingPage, UiError> {
    let known = visit.get_check_pack(&visit.who, pack).await?;
    let frame = visit.frame_anywhere("checks", "Finding").await?;
    let filter = FindingFilter {
        pack: Some(pack.to_owned()),
        check: Some(check.to_owned()),
        search: Some(key.to_owned()),
        ..FindingFilter::default()
    };
    let found = visit.list_findings(&visit.who, filter).await?.findings;
    let row = found.into_iter().find(|row| row.key == key);
    let row = row.ok_or_else(|| AppError::NotFound { kind: "finding", key: key.to_owned() })?;
    let changes = revealed.as_ref().map(changed_of).unwrap_or_default();
    Ok(FindingPage { frame, known, row, revealed, changes, faults })
}

/// `POST /ui/checks/{pack}/finding`: `reveal`, `ignore` or `restore`.
pub async fn change(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let which = (path.as_str(), form.text("check"), form.text("key"));
    let reason = form.text("reason");
    let done = match form.text("command") {
        "reveal" if reason.is_empty() => {
            Err(AppError::invalid("", "say why you look; it is kept with your name"))
        }
        "reveal" => {
            let revealed = visit.reveal_finding(&visit.who, which, reason).await?;
            return ok(&page_of(&visit, which, Some(revealed), Faults::default()).await?);
        }
        "ignore" => visit.ignore_finding(&visit.who, which, true, reason).await,
        "restore" => visit.ignore_finding(&visit.who, which, false, reason).await,
        other => Err(AppError::invalid("command", format!("`{other}` is no command"))),
    };
    match done {
        Ok(row) => {
            let says = match row.state.as_str() {
                "ignored" => "It is left as it is.",
                _ => "It counts again.",
            };
            let query = query_of(&[("check", which.1), ("key", which.2)]);
            let to = format!("/ui/checks/{}/finding{query}", which.0);
            Ok(Visit::done(&to, &Toast::say(says)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, which, None, faults).await?)
        }
    }
}
