//! The rules editor. The server holds the form: adding, moving and removing post it and get it back,
//! so that it works without a script and behaves the same with one.

use actix_web::web::Path;
use switchback_app::AppError;
use switchback_app::contexts::Moved;
use switchback_app::environments::difference_of;
use switchback_app::flags::{FlagFilter, StateWrite};
use switchback_core::model::{FlagState, ValueType};
use switchback_store::FlagRow;

use super::diff_lines::{DiffLine, OPERATORS, lines, rule_words};
use super::draft::{PLATFORMS, StateDraft};
use super::fields::{Faults, Fields};
use super::flag::{self, Tab};
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, unprocessable};

/// The editor's values.
pub struct Editor {
    pub draft: StateDraft,
    /// The revision that the person saw.
    pub revision: u64,
    pub reason: String,
    pub faults: Faults,
    /// What saving would change; `None` while the form does not make a state.
    pub differences: Option<Vec<DiffLine>>,
    /// What saving would do to the contexts seen last; `None` while there is nothing to save.
    pub moved: Option<Moved>,
    /// What others changed since the person looked.
    pub meanwhile: Vec<Meanwhile>,
    pub is_boolean: bool,
    pub segments: Vec<String>,
    pub flags: Vec<String>,
    pub json: String,
}

/// A change that somebody else made.
pub struct Meanwhile {
    pub revision: u64,
    pub actor: String,
    pub at: i64,
    pub lines: Vec<DiffLine>,
}

impl Editor {
    /// The editor on a flag as it is.
    pub async fn of(visit: &Visit, row: &FlagRow, environment: &str) -> Result<Self, AppError> {
        let draft = StateDraft::of(&row.state, row.flag.value_type);
        Self::new(visit, row, environment, draft).await
    }

    async fn new(
        visit: &Visit,
        row: &FlagRow,
        environment: &str,
        draft: StateDraft,
    ) -> Result<Self, AppError> {
        let segments = visit.list_segments(&visit.who, environment).await?;
        let flags = visit.list_flags(&visit.who, environment, &FlagFilter::default()).await?;
        let shown = FlagState { killed: false, ..row.state.clone() };
        Ok(Self {
            revision: row.revision,
            reason: String::new(),
            faults: Faults::default(),
            differences: Some(Vec::new()),
            moved: None,
            meanwhile: Vec::new(),
            is_boolean: row.flag.value_type == ValueType::Boolean,
            segments: segments.into_iter().map(|row| row.segment.key.to_string()).collect(),
            flags: flags
                .into_iter()
                .map(|other| other.flag.key.to_string())
                .filter(|key| key != row.flag.key.as_str())
                .collect(),
            json: serde_json::to_string_pretty(&shown).unwrap_or_default(),
            draft,
        })
    }

    /// A rule of the draft in words; empty while it makes none.
    pub fn words_of(&self, index: &usize) -> Words {
        let draft = StateDraft {
            rules: self.draft.rules.get(*index).cloned().into_iter().collect(),
            ..StateDraft::default()
        };
        match draft.to_state(ValueType::Json) {
            Ok(state) => state.rules.first().map(rule_words).unwrap_or_default(),
            Err(_) => Words::say("This rule is not complete yet."),
        }
    }

    /// Operators for the fields.
    pub fn operators(&self) -> &'static [(&'static str, &'static str)] {
        &OPERATORS
    }

    /// Platforms with boxes.
    pub fn platforms(&self) -> &'static [(&'static str, &'static str)] {
        &PLATFORMS
    }

    /// What is wrong with a field of the state; empty when nothing.
    pub fn fault(&self, field: &str) -> String {
        self.faults.on(field)
    }

    /// What is wrong with a rule's share, which is said beside its field.
    pub fn share_fault(&self, rule: &usize) -> String {
        self.faults.on(&format!("rules[{rule}].percent"))
    }

    /// What else is wrong anywhere in a rule.
    pub fn faults_below(&self, rule: &usize) -> Vec<String> {
        let part = format!("rules[{rule}]");
        let below = self.faults.0.iter().filter_map(|wrong| {
            Some((wrong, wrong.field.strip_prefix(&part)?.trim_start_matches('.')))
        });
        below
            .filter(|(_, field)| *field != "percent")
            .map(|(wrong, field)| super::error::sentence(&format!("{field}: {}", wrong.message)))
            .collect()
    }

    /// What is wrong and belongs to no part with a place of its own.
    pub fn faults_elsewhere(&self) -> Vec<String> {
        let inside =
            |field: &str| field.starts_with("rules[") || field == "reason" || field == "json";
        let rest = self.faults.0.iter().filter(|wrong| !inside(&wrong.field));
        rest.map(|wrong| match wrong.field.as_str() {
            "" => super::error::sentence(&wrong.message),
            field => {
                super::error::sentence(&format!("{}: {}", field.replace('_', " "), wrong.message))
            }
        })
        .collect()
    }

    /// What a save would do to the contexts seen last, in words.
    pub fn moved_words(&self, moved: &Moved) -> Words {
        if moved.of == 0 {
            return Words::say("No context was seen here lately to try this on.");
        }
        let of = match moved.of {
            1 => "the one context".to_owned(),
            more => format!("the last {} contexts", words::number(more)),
        };
        if moved.changed == 0 {
            return Words::say(&format!("None of {of} seen here would get anything else."));
        }
        let words = Words::default().strong(&words::number(moved.changed));
        let mut parts = Vec::new();
        if moved.to_on > 0 {
            parts.push(format!("{} on", words::number(moved.to_on)));
        }
        if moved.to_off > 0 {
            parts.push(format!("{} off", words::number(moved.to_off)));
        }
        let other = moved.changed - moved.to_on - moved.to_off;
        if other > 0 {
            parts.push(format!("{} another value", words::number(other)));
        }
        words.and(&format!(" of {of} seen here would change: {}.", words::list(&parts, "and")))
    }

    /// Whether there is anything to save.
    pub fn is_changed(&self) -> bool {
        self.differences.as_ref().is_none_or(|lines| !lines.is_empty())
    }
}

/// `POST /ui/{environment}/flags/{flag}/rules`: `do` says what.
pub async fn edit(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, key) = path.into_inner();
    let row = visit.get_flag(&visit.who, &environment, &key).await?;
    let mut draft = StateDraft::read(&form);
    let mut faults = Faults::default();
    let action = form.text("do");
    if action == "json" {
        match read_json(form.text("json")) {
            Ok(state) => draft = StateDraft::of(&state, row.flag.value_type),
            Err(error) => faults = Faults::of(error)?,
        }
    } else if !matches!(action, "save" | "review") {
        draft.apply(action);
    }
    let mut editor = Editor::new(&visit, &row, &environment, draft).await?;
    editor.revision = form.number("revision")?;
    editor.reason = form.text("reason").to_owned();
    editor.faults = faults;
    if action == "json" && !editor.faults.none() {
        editor.json = form.text("json").to_owned();
    }
    let state = match editor.draft.to_state(row.flag.value_type) {
        Ok(state) => FlagState { killed: row.state.killed, ..state },
        Err(error) => {
            editor.differences = None;
            if editor.faults.none() {
                editor.faults = Faults::of(error)?;
            }
            return show(&visit, &environment, &row, editor).await;
        }
    };
    if action == "save" {
        let revision = editor.revision;
        let write = StateWrite { state: state.clone(), revision, reason: editor.reason.clone() };
        match visit.set_flag_state(&visit.who, &environment, &key, write).await {
            Ok(changed) => {
                let to = format!("/ui/{environment}/flags/{key}");
                let before = changed.before_revision.to_string();
                let toast = Toast::say(format!("{key} saved as revision {}.", changed.revision))
                    .undo(
                        format!("{to}/restore"),
                        &[
                            ("revision", &before),
                            ("reason", "Undo: put back what stood a moment ago."),
                        ],
                    );
                return Ok(Visit::done(&to, &toast));
            }
            Err(AppError::Conflict { current }) => {
                editor.meanwhile = meanwhile(&visit, &environment, &key, revision).await?;
                editor.revision = current;
            }
            Err(error) => editor.faults = Faults::of(error)?,
        }
    } else if let Err(error) = visit.preview_flag(&visit.who, &environment, &key, &state).await {
        editor.faults.0.extend(Faults::of(error)?.0);
    }
    let differences = difference_of(&row.state, &state);
    if !differences.is_empty() && editor.faults.none() {
        editor.moved = Some(visit.try_on_recent(&visit.who, &environment, &key, &state).await?);
    }
    editor.differences = Some(lines(&differences));
    if editor.faults.none() || action != "json" {
        let shown = FlagState { killed: false, ..state };
        editor.json = serde_json::to_string_pretty(&shown).unwrap_or_default();
    }
    show(&visit, &environment, &row, editor).await
}

async fn show(visit: &Visit, environment: &str, row: &FlagRow, editor: Editor) -> Answer {
    let wrong = !editor.faults.none();
    let page = flag::page_of(visit, environment, row, Tab::Rules(Box::new(editor))).await?;
    if wrong { unprocessable(&page) } else { super::ok(&page) }
}

fn read_json(text: &str) -> Result<FlagState, AppError> {
    serde_json::from_str(text).map_err(|error| AppError::invalid("json", error.to_string()))
}

async fn meanwhile(
    visit: &Visit,
    environment: &str,
    key: &str,
    revision: u64,
) -> Result<Vec<Meanwhile>, AppError> {
    let history = visit.flag_history(&visit.who, environment, key, None, 20).await?;
    let newer =
        history.into_iter().filter(|row| row.change.revision.is_some_and(|own| own > revision));
    Ok(newer
        .map(|row| Meanwhile {
            revision: row.change.revision.unwrap_or_default(),
            actor: row.change.actor,
            at: row.change.at,
            lines: lines(&row.differences),
        })
        .collect())
}
