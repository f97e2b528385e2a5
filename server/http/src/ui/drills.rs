//! How a playbook stands with its drills, and starting one.

use actix_web::web::Path;
use switchback_app::drills::{DrillDraft, Freshness};
use switchback_playbook::format::Playbook;
use switchback_store::DrillRow;

use super::fields::Fields;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError};

/// Drills that a page lists.
const LISTED: i64 = 10;

/// How a playbook stands with its drills.
pub struct Drills {
    /// A word or two, and how loud: `good`, `warn` or empty.
    pub word: Words,
    pub tone: &'static str,
    pub lines: Vec<DrillLine>,
    pub is_under_way: bool,
}

/// One drill.
pub struct DrillLine {
    pub at: i64,
    pub state: String,
    pub tone: &'static str,
    pub took: String,
    pub undo: String,
    pub by: String,
    pub message: String,
    pub run: Option<String>,
}

impl Drills {
    /// Of one playbook.
    pub async fn of(visit: &Visit, playbook: &Playbook) -> Result<Self, UiError> {
        let (word, tone) = pill(visit, playbook).await?;
        let all = visit
            .store
            .list_drills(Some(&playbook.name), LISTED)
            .await
            .map_err(switchback_app::AppError::from)?;
        let is_under_way = all.iter().any(|drill| drill.finished_at.is_none());
        Ok(Self { word, tone, is_under_way, lines: all.into_iter().map(line).collect() })
    }
}

/// What a card says of a playbook's drills; empty where it asks for none.
pub async fn pill(visit: &Visit, playbook: &Playbook) -> Result<(Words, &'static str), UiError> {
    let now = visit.clock.now();
    Ok(match visit.freshness(&playbook.name, playbook.drill).await? {
        Freshness::NotAsked => (Words::default(), ""),
        Freshness::Fresh(at) => (Words::say("drilled ").when(at, now), "good"),
        Freshness::Stale(at) => (Words::say("last drilled ").when(at, now), "warn"),
        Freshness::Never => (Words::say("never drilled"), "warn"),
    })
}

fn line(drill: DrillRow) -> DrillLine {
    let tone = match drill.state.as_str() {
        "passed" => "good",
        "failed" => "bad",
        _ => "live-pill",
    };
    let took = |ms: Option<i64>| ms.map(words::duration).unwrap_or_default();
    DrillLine {
        at: drill.started_at,
        state: words::title(&drill.state),
        tone,
        took: took(drill.took_ms),
        undo: took(drill.undo_ms),
        by: words::actor(&drill.requested_by),
        message: drill.message,
        run: drill.run_id,
    }
}

/// `POST /ui/{environment}/playbooks/{playbook}/drill`.
pub async fn start(visit: Visit, path: Path<(String, String)>, _form: Fields) -> Answer {
    let (environment, playbook) = path.into_inner();
    let back = format!("/ui/{environment}/playbooks/{playbook}");
    let draft = DrillDraft { playbook, environment, inputs: std::collections::BTreeMap::new() };
    visit.start_drill(&visit.who, draft).await?;
    Ok(Visit::done(&back, &Toast::say("The drill is on the way, in the sandbox.")))
}
