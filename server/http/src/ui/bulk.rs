//! Several flags at once: the panel that shows what would change, and doing it.

use actix_web::web::Path;
use serde_json::Value;
use switchback_app::AppError;
use switchback_app::bulk::{BulkAction, BulkLine, BulkOutcome, Effect};
use switchback_store::FlagRow;

use super::fields::{Faults, Fields};
use super::flags::{self, FlagLine};
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, unprocessable};

/// An undo carries every key in a cookie: longer lists have none, in bytes.
const UNDO_BYTES_MAX: usize = 1_500;

/// What is asked before it is done.
pub struct Bulk {
    pub action: BulkAction,
    pub lines: Vec<Line>,
    pub sentence: Words,
    pub reason: String,
    pub faults: Faults,
    changes: u64,
}

/// One flag of it.
pub struct Line {
    pub key: String,
    pub before: FlagLine,
    /// What its state would be.
    pub after: String,
    /// The pill's class.
    pub tone: &'static str,
    /// Why nothing happens to it, or what else to know.
    pub note: String,
}

fn action_of(fields: &Fields) -> Option<BulkAction> {
    serde_json::from_value(Value::String(fields.some("bulk")?)).ok()
}

/// The keys that were ticked, each once.
fn keys_of(fields: &Fields) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for key in fields.all("flag") {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

impl Bulk {
    /// When the query asks about some flags.
    pub async fn of(
        visit: &Visit,
        environment: &str,
        fields: &Fields,
    ) -> Result<Option<Self>, AppError> {
        let keys = keys_of(fields);
        let Some(action) = action_of(fields).filter(|_| !keys.is_empty()) else { return Ok(None) };
        let lines = visit.preview_bulk(&visit.who, environment, action, &keys).await?;
        let usage = visit.latest_usage(&visit.who, environment).await?;
        let now = visit.clock.now();
        let per_hour = |row: &FlagRow| usage.get(row.flag.key.as_str()).map_or(0, |used| used.1);
        let changes = lines
            .iter()
            .filter(|line| matches!(line.effect, Effect::Becomes(_) | Effect::Goes))
            .count() as u64;
        let environments = match action {
            BulkAction::Archive => visit.known_environments().into_iter().map(|e| e.key).collect(),
            _ => vec![environment.to_owned()],
        };
        let clients = environments.iter().map(|key| visit.hub.convergence(key, None).connected);
        let sentence = sentence(action, lines.len() as u64, changes, clients.sum());
        let reason = fields.some("reason").unwrap_or_else(|| match action {
            BulkAction::TurnOff => "Turned off from the console.".to_owned(),
            BulkAction::Kill => "Killed from the console.".to_owned(),
            _ => String::new(),
        });
        let lines = lines.iter().map(|line| Line::of(line, per_hour(&line.row), now)).collect();
        let faults = Faults::default();
        Ok(Some(Self { action, lines, sentence, reason, faults, changes }))
    }

    /// The word that the form sends.
    pub fn word(&self) -> String {
        words::word(&self.action)
    }

    /// `Turn off 3 flags`, as the head and the button say it.
    pub fn title(&self) -> String {
        let verb = match self.action {
            BulkAction::TurnOff => "Turn off",
            BulkAction::TurnOn => "Turn on",
            BulkAction::Kill => "Kill",
            BulkAction::Archive => "Archive",
        };
        format!("{verb} {}", words::count(self.changes, "flag"))
    }

    /// Whether there is anything to do.
    pub fn does_something(&self) -> bool {
        self.changes > 0
    }

    /// Whether it is done by holding the button.
    pub fn is_held(&self) -> bool {
        self.action == BulkAction::Kill
    }

    /// Whether a word must be typed.
    pub fn is_typed(&self) -> bool {
        self.action == BulkAction::Archive
    }
}

impl Line {
    fn of(line: &BulkLine, per_hour: u64, now: i64) -> Self {
        let before = FlagLine::of(&line.row, per_hour, now);
        let (after, tone, note) = match &line.effect {
            Effect::Becomes(state) => {
                let row = FlagRow { state: (**state).clone(), ..line.row.clone() };
                let after = FlagLine::of(&row, per_hour, now);
                let note = match after.state == before.state {
                    true if row.state.killed => "stays off while it is killed",
                    true => "nobody gets anything else",
                    false => "",
                };
                (after.state, after.tone, note.to_owned())
            }
            Effect::Goes => ("Archived".to_owned(), "", "in every environment".to_owned()),
            Effect::Nothing => (before.state.clone(), before.tone, "is so already".to_owned()),
            Effect::Refused(why) => (before.state.clone(), before.tone, format!("stays: {why}")),
        };
        Self { key: before.key.clone(), before, after, tone, note }
    }

    /// The note, in which backticks mark keys.
    pub fn note_words(&self) -> Words {
        Words::default().ticked(&self.note)
    }
}

fn sentence(action: BulkAction, all: u64, changes: u64, clients: u64) -> Words {
    let rest = all - changes;
    let words = match (changes, rest) {
        (0, _) => return Words::say("Nothing would change."),
        (_, 0) => Words::default(),
        (some, _) => Words::default()
            .strong(&format!("{} of {}", words::number(some), words::number(all)))
            .and(" would change; the rest is as it is. "),
    };
    let reach = match clients {
        0 => return words.and("No client is connected now; apps hear of it when they are."),
        some => words::count(some, "connected client"),
    };
    let words = match action {
        BulkAction::TurnOff => words.and("Everybody gets the off value, on "),
        BulkAction::TurnOn => words.and("Their rules decide from then on, on "),
        BulkAction::Kill => {
            words.and("Off for everybody until each kill is lifted, whatever the rules say, on ")
        }
        BulkAction::Archive => {
            words.and("Gone in every environment; apps fall back to their own default, on ")
        }
    };
    words.strong(&reach).and(" at once.")
}

/// `POST /ui/{environment}/bulk`.
pub async fn run(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let environment = path.into_inner();
    let keys = keys_of(&form);
    let Some(action) = action_of(&form) else {
        return Err(AppError::invalid("bulk", "choose what to do with the flags").into());
    };
    let outcome = if action == BulkAction::Archive && form.text("confirm") != "archive" {
        Err(AppError::invalid("confirm", "type archive to archive them"))
    } else {
        visit.run_bulk(&visit.who, &environment, action, &keys, form.text("reason")).await
    };
    let list = format!("/ui/{environment}/flags");
    match outcome {
        Ok(outcome) => Ok(Visit::done(&list, &toast(&environment, action, &outcome))),
        Err(error) => {
            let faults = Faults::of(error)?;
            let mut bulk = Bulk::of(&visit, &environment, &form).await?;
            if let Some(bulk) = &mut bulk {
                bulk.faults = faults;
                form.text("reason").clone_into(&mut bulk.reason);
            }
            unprocessable(&flags::list(&visit, &environment, &form, bulk).await?)
        }
    }
}

fn toast(environment: &str, action: BulkAction, outcome: &BulkOutcome) -> Toast {
    let done = match action {
        BulkAction::TurnOff => "turned off",
        BulkAction::TurnOn => "turned on",
        BulkAction::Kill => "killed",
        BulkAction::Archive => "archived",
    };
    let changed = words::count(outcome.changed.len() as u64, "flag");
    let mut text = match (outcome.changed.as_slice(), outcome.revision) {
        ([], _) => "Nothing changed.".to_owned(),
        (_, 0) => format!("{changed} {done}."),
        (_, revision) => format!("{changed} {done}: revision {revision}."),
    };
    if let Some((key, why)) = outcome.refused.first() {
        let more = match outcome.refused.len() {
            1 => String::new(),
            some => format!(" (and {} more)", some - 1),
        };
        text = format!("{text} Not {key}{more}: {}", super::error::sentence(why));
    }
    let toast = Toast::say(text);
    let back = match action {
        BulkAction::TurnOff => "turn_on",
        BulkAction::TurnOn => "turn_off",
        BulkAction::Kill | BulkAction::Archive => return toast,
    };
    let bytes: usize = outcome.changed.iter().map(String::len).sum();
    if outcome.changed.is_empty() || bytes > UNDO_BYTES_MAX {
        return toast;
    }
    let mut fields = vec![("bulk", back), ("reason", "Undo: switched a moment ago.")];
    fields.extend(outcome.changed.iter().map(|key| ("flag", key.as_str())));
    toast.undo(format!("/ui/{environment}/bulk"), &fields)
}
