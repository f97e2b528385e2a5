//! Two runs side by side, as a page.

use actix_web::web::Path;
use askama::Template;
use switchback_app::compare::{Comparison, Side, StepSide};

use super::diff_lines::{DiffLine, lines};
use super::fields::Fields;
use super::frame::Frame;
use super::playbooks::runs_of;
use super::run_view::state_words;
use super::visit::Visit;
use super::words::{self, Words, plain_stamp};
use super::{Answer, ok};

#[derive(Template)]
#[template(path = "pages/compare.html")]
struct ComparePage {
    frame: Frame,
    id: String,
    title: String,
    sentence: Words,
    others: Vec<Other>,
    found: Option<Found>,
}

/// A run to compare with.
struct Other {
    id: String,
    text: String,
    chosen: bool,
}

/// What the comparison found.
struct Found {
    sides: [SideLine; 2],
    steps: Vec<PairLine>,
    inputs: Vec<DiffLine>,
    plan: Vec<DiffLine>,
}

struct SideLine {
    name: &'static str,
    url: String,
    state: String,
    tone: &'static str,
    at: i64,
    took: String,
    by: String,
    reason: String,
    plan: String,
}

struct PairLine {
    id: String,
    title: Words,
    cells: [Cell; 2],
    longer: String,
}

struct Cell {
    name: &'static str,
    state: String,
    tone: &'static str,
    took: String,
    error: String,
}

/// How both are called.
const THIS: &str = "This run";
const OTHER: &str = "The other run";

/// `GET /ui/{environment}/runs/{run}/compare?with=RUN`.
pub async fn page(visit: Visit, path: Path<(String, String)>, query: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    let own = visit.get_run(&visit.who, &id).await?.run;
    let frame = visit.frame(&environment, "playbooks", "Two runs compared").await?;
    let mut runs = runs_of(&visit, &own.environment, Some(&own.playbook)).await?;
    runs.retain(|run| run.id != id);
    // Without a choice: the run before this one, else the newest of the others.
    let before = runs.iter().find(|run| run.id < id).or(runs.first()).map(|run| run.id.clone());
    let chosen = query.some("with").or(before);
    let others = runs.iter().map(|run| Other {
        text: format!("{}, {}", plain_stamp(run.created_at), state_words(&run.state).0),
        chosen: chosen.as_ref() == Some(&run.id),
        id: run.id.clone(),
    });
    let mut others: Vec<Other> = others.collect();
    let (sentence, found) = match &chosen {
        None => (Words::say("There is no other run of this playbook here to compare with."), None),
        Some(other) => {
            let found = visit.compare_runs(&visit.who, &id, other).await?;
            if !others.iter().any(|one| one.chosen) {
                let text =
                    format!("{}, {}", plain_stamp(found.right.started_at), found.right.title);
                others.push(Other { id: other.clone(), text, chosen: true });
            }
            (sentence(&found), Some(found_of(&found)))
        }
    };
    ok(&ComparePage { frame, id, title: own.title, sentence, others, found })
}

fn sentence(found: &Comparison) -> Words {
    let ended =
        if found.same_outcome { "Both ended the same way" } else { "They ended differently" };
    let running = [&found.left, &found.right].iter().any(|side| side.duration_ms.is_none());
    let words = match (running, found.longer_ms) {
        (false, Some(0)) => Words::default().strong(ended).and(", in the same time."),
        (false, Some(ms)) => {
            let than = if ms > 0 { "longer" } else { "less" };
            let by = words::duration(ms.abs());
            Words::default().strong(ended).and(&format!("; the other one took {by} {than}."))
        }
        _ => Words::default().strong("Not both are over."),
    };
    words.and(match (found.same_plan, found.same_text) {
        (true, _) => " The plan is the same, with the same hash.",
        (false, true) => " The playbook is the same, its values differ.",
        (false, false) => " The playbook was changed between them.",
    })
}

fn found_of(found: &Comparison) -> Found {
    let steps = found.steps.iter().map(|pair| PairLine {
        id: pair.id.clone(),
        title: Words::default().ticked(&pair.title),
        cells: [cell(THIS, pair.left.as_ref()), cell(OTHER, pair.right.as_ref())],
        longer: pair.longer_ms.map(signed).unwrap_or_default(),
    });
    Found {
        sides: [side(THIS, &found.left), side(OTHER, &found.right)],
        steps: steps.collect(),
        inputs: lines(&found.inputs),
        plan: lines(&found.plan),
    }
}

/// `+0.2 s`, `−40 ms`, `same`.
fn signed(ms: i64) -> String {
    match ms {
        0 => "same".to_owned(),
        1.. => format!("+{}", words::duration(ms)),
        _ => format!("−{}", words::duration(ms.saturating_abs())),
    }
}

fn side(name: &'static str, side: &Side) -> SideLine {
    let (state, tone) = state_words(&side.outcome);
    SideLine {
        name,
        url: format!("/ui/{}/runs/{}", side.environment, side.run),
        state,
        tone,
        at: side.started_at,
        took: side.duration_ms.map_or_else(|| "not over".to_owned(), words::duration),
        by: words::actor(&side.requested_by),
        reason: side.reason.clone(),
        plan: side.plan_sha256.chars().take(12).collect(),
    }
}

fn cell(name: &'static str, side: Option<&StepSide>) -> Cell {
    let Some(side) = side else {
        let state = "No such step".to_owned();
        return Cell { name, state, tone: "", took: String::new(), error: String::new() };
    };
    let tone = match side.state.as_str() {
        "done" | "verified" => "good",
        "failed" | "unverified" | "undo_failed" => "bad",
        "undone" | "unknown" | "waiting" => "warn",
        "intent" | "undo_intent" => "live-pill",
        _ => "",
    };
    let state = match side.state.as_str() {
        "pending" => "Not run".to_owned(),
        "undone" => "Taken back".to_owned(),
        "intent" => "Running".to_owned(),
        "undo_intent" => "Taking back".to_owned(),
        "undo_failed" => "Taking back failed".to_owned(),
        "skipped" => "Left out".to_owned(),
        other => words::title(other),
    };
    let took = side.duration_ms.map(words::duration).unwrap_or_default();
    Cell { name, state, tone, took, error: side.error.clone().unwrap_or_default() }
}
