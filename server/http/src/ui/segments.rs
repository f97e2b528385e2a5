//! Segments: shared lists of constraints.

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_core::model::{FlagKey, Segment};

use super::diff_lines::OPERATORS;
use super::draft::ConstraintDraft;
use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

struct Line {
    key: String,
    name: String,
    words: Words,
    used_by: Vec<String>,
    updated_at: i64,
    updated_by: String,
}

#[derive(Template)]
#[template(path = "pages/segments.html")]
struct SegmentsPage {
    frame: Frame,
    sentence: Words,
    rows: Vec<Line>,
}

#[derive(Template)]
#[template(path = "pages/segment.html")]
struct SegmentPage {
    frame: Frame,
    sentence: Words,
    editor: SegmentEditor,
    used_by: Vec<String>,
}

/// The form's values.
struct SegmentEditor {
    is_new: bool,
    key: String,
    name: String,
    revision: u64,
    reason: String,
    constraints: Vec<ConstraintDraft>,
    faults: Faults,
    focus: String,
}

impl SegmentEditor {
    fn operators(&self) -> &'static [(&'static str, &'static str)] {
        &OPERATORS
    }

    fn action(&self, frame: &Frame) -> String {
        if self.is_new {
            frame.url("segments/new")
        } else {
            frame.url(&format!("segments/{}", self.key))
        }
    }

    fn read(form: &Fields, key: Option<&str>) -> Self {
        Self {
            is_new: key.is_none(),
            key: key.map_or_else(|| form.text("key").to_owned(), str::to_owned),
            name: form.text("name").to_owned(),
            revision: form.text("revision").parse().unwrap_or_default(),
            reason: form.text("reason").to_owned(),
            constraints: ConstraintDraft::read(form, "constraints"),
            faults: Faults::default(),
            focus: String::new(),
        }
    }

    fn apply(&mut self, action: &str) {
        if action == "constraint.add" {
            self.focus = format!("constraint-{}", self.constraints.len());
            self.constraints
                .push(ConstraintDraft { operator: "IN".to_owned(), ..ConstraintDraft::default() });
        } else if let Some(index) =
            action.strip_prefix("constraint.remove.").and_then(|n| n.parse().ok())
        {
            if index < self.constraints.len() {
                self.constraints.remove(index);
            }
            "constraint-add".clone_into(&mut self.focus);
        }
    }

    fn to_segment(&self) -> Result<Segment, AppError> {
        let key = FlagKey::try_from(self.key.as_str())
            .map_err(|e| AppError::invalid("key", e.to_string()))?;
        let mut wrong = Vec::new();
        let drafts = self.constraints.iter().enumerate();
        let constraints = drafts
            .filter_map(|(n, one)| one.to_constraint(&format!("constraints[{n}]"), &mut wrong))
            .collect();
        if !wrong.is_empty() {
            return Err(AppError::Invalid(wrong));
        }
        Ok(Segment { key, name: self.name.clone(), constraints })
    }
}

fn segment_words(segment: &Segment) -> Words {
    if segment.constraints.is_empty() {
        return Words::say("everybody");
    }
    let mut words = Words::default();
    for (index, constraint) in segment.constraints.iter().enumerate() {
        let and = if index > 0 { " and " } else { "" };
        let not = if constraint.inverted { "not " } else { "" };
        words = words.and(and).and(not).code(&constraint.field);
        words = words.and(&format!(" {} ", super::diff_lines::operator_words(constraint.operator)));
        let shown: Vec<String> = constraint.values.iter().take(5).cloned().collect();
        words = words.strong(&words::list(&shown, "or"));
        if constraint.values.len() > 5 {
            words = words.and(&format!(" and {} more", constraint.values.len() - 5));
        }
    }
    words
}

/// `GET /ui/{environment}/segments`.
pub async fn page(visit: Visit, path: Path<String>) -> Answer {
    let frame = visit.frame(&path, "segments", "Segments").await?;
    let mut rows = Vec::new();
    for row in visit.list_segments(&visit.who, &path).await? {
        let key = row.segment.key.to_string();
        rows.push(Line {
            words: segment_words(&row.segment),
            used_by: visit.flags_using_segment(&path, &key).await?,
            name: row.segment.name,
            updated_at: row.updated_at,
            updated_by: words::actor(&row.updated_by),
            key,
        });
    }
    let unused = rows.iter().filter(|row| row.used_by.is_empty()).count() as u64;
    let mut sentence = Words::say(&format!("{} has ", frame.name))
        .strong(&words::count(rows.len() as u64, "segment"))
        .and(".");
    if unused > 0 {
        sentence = sentence.and(&format!(
            " {} used by no flag.",
            if unused == 1 { "1 is".to_owned() } else { format!("{unused} are") }
        ));
    }
    ok(&SegmentsPage { frame, sentence, rows })
}

/// `GET /ui/{environment}/segments/new`.
pub async fn new_page(visit: Visit, path: Path<String>) -> Answer {
    let mut editor = SegmentEditor::read(&Fields::default(), None);
    editor.apply("constraint.add");
    editor.focus = String::new();
    ok(&page_of(&visit, &path, editor).await?)
}

/// `GET /ui/{environment}/segments/{segment}`.
pub async fn one(visit: Visit, path: Path<(String, String)>) -> Answer {
    let (environment, key) = path.into_inner();
    let row = visit.get_segment(&visit.who, &environment, &key).await?;
    let editor = SegmentEditor {
        is_new: false,
        key,
        name: row.segment.name.clone(),
        revision: row.revision,
        reason: String::new(),
        constraints: row.segment.constraints.iter().map(ConstraintDraft::of).collect(),
        faults: Faults::default(),
        focus: String::new(),
    };
    ok(&page_of(&visit, &environment, editor).await?)
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    editor: SegmentEditor,
) -> Result<SegmentPage, UiError> {
    let title = if editor.is_new { "New segment" } else { editor.key.as_str() };
    let frame = visit.frame(environment, "segments", title).await?;
    let used_by = if editor.is_new {
        Vec::new()
    } else {
        visit.flags_using_segment(environment, &editor.key).await?
    };
    let sentence = match editor.to_segment() {
        Ok(segment) if !editor.is_new => {
            let words = Words::say("Holds for ").join(&segment_words(&segment)).and(". ");
            match used_by.len() as u64 {
                0 => words.and("No flag uses it."),
                count => words.and(&format!(
                    "{} with it.",
                    words::count(count, "flag changes").replace("changess", "change")
                )),
            }
        }
        _ => Words::say("A segment is a list of conditions with a name; all of them must hold."),
    };
    Ok(SegmentPage { frame, sentence, editor, used_by })
}

/// `POST /ui/{environment}/segments/new`.
pub async fn edit_new(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    edit_any(visit, path.into_inner(), None, form).await
}

/// `POST /ui/{environment}/segments/{segment}`.
pub async fn edit(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    edit_any(visit, environment, Some(key), form).await
}

async fn edit_any(visit: Visit, environment: String, key: Option<String>, form: Fields) -> Answer {
    let mut editor = SegmentEditor::read(&form, key.as_deref());
    if form.text("do") != "save" {
        editor.apply(form.text("do"));
        return ok(&page_of(&visit, &environment, editor).await?);
    }
    let expected = Some(if editor.is_new { 0 } else { editor.revision });
    let saved = match editor.to_segment() {
        Ok(segment) => {
            visit.put_segment(&visit.who, &environment, segment, expected, &editor.reason).await
        }
        Err(error) => Err(error),
    };
    match saved {
        Ok(revision) => {
            let text = format!("{} saved as revision {revision}.", editor.key);
            Ok(Visit::done(
                &format!("/ui/{environment}/segments/{}", editor.key),
                &Toast::say(text),
            ))
        }
        Err(AppError::Conflict { current }) if !editor.is_new => {
            editor.revision = current;
            let message =
                "somebody changed it before you; saving again puts your version over theirs";
            editor.faults = Faults::of(AppError::invalid("", message))?;
            unprocessable(&page_of(&visit, &environment, editor).await?)
        }
        Err(AppError::Conflict { .. }) => {
            editor.faults = Faults::of(AppError::invalid("key", "this key is taken"))?;
            unprocessable(&page_of(&visit, &environment, editor).await?)
        }
        Err(error) => {
            editor.faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &environment, editor).await?)
        }
    }
}

/// `POST /ui/{environment}/segments/{segment}/delete`.
pub async fn delete(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    visit.delete_segment(&visit.who, &environment, &key, form.text("reason")).await?;
    Ok(Visit::done(&format!("/ui/{environment}/segments"), &Toast::say(format!("{key} deleted."))))
}
