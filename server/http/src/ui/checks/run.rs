//! A run of repairs: how far it is, whether it worked, and taking it back.

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_app::checks::{CheckProgress, KnownPack, RepairRun};

use super::repair;
use crate::ui::fields::{Faults, Fields};
use crate::ui::frame::Frame;
use crate::ui::visit::{Toast, Visit};
use crate::ui::words::{self, Words};
use crate::ui::{Answer, UiError, ok, unprocessable};

#[derive(Template)]
#[template(path = "pages/repair_run.html")]
struct RunPage {
    frame: Frame,
    run: RepairRun,
    /// `None` when the pack is not there any more.
    known: Option<KnownPack>,
    /// Whether the panel that asks before the undo is open.
    asks_undo: bool,
    faults: Faults,
}

/// How a run stands: its word and tone.
pub fn state_words(run: &RepairRun) -> (&'static str, &'static str) {
    match (run.state.as_str(), run.verdict) {
        ("open", _) => ("today", "plain"),
        ("running", _) => ("running", "live-pill"),
        ("undoing", _) => ("taking back", "live-pill"),
        ("done", Some("PASS")) => ("PASS", "good"),
        ("done", Some(_)) => ("FAIL", "bad"),
        ("failed", _) => ("stopped", "bad"),
        ("cancelled", _) => ("cancelled", "warn"),
        ("undone", _) => ("taken back", ""),
        _ => ("over", ""),
    }
}

impl RunPage {
    fn home(&self) -> String {
        format!("/ui/repairs/{}", self.run.id)
    }

    fn title(&self) -> String {
        let pack = self.known.as_ref().map_or(self.run.pack.as_str(), |known| &known.pack.title);
        match self.run.kind.as_str() {
            "monitor" => format!("Fixed by the monitor: {pack}"),
            _ => format!("Repair: {pack}"),
        }
    }

    fn pill(&self) -> (&'static str, &'static str) {
        state_words(&self.run)
    }

    fn is_live(&self) -> bool {
        matches!(self.run.state.as_str(), "running" | "undoing" | "open")
    }

    fn found(&self) -> u64 {
        self.run.progress.checks.values().map(|one| one.found).sum()
    }

    fn left(&self) -> u64 {
        self.run.progress.checks.values().filter_map(|one| one.left).sum()
    }

    fn restored(&self) -> u64 {
        self.run.progress.checks.values().map(|one| one.restored).sum()
    }

    fn conflicts(&self) -> u64 {
        self.run.progress.checks.values().map(|one| one.conflicts).sum()
    }

    fn sentence(&self) -> Words {
        let run = &self.run;
        let healed = words::number(run.progress.healed());
        let words = match (run.state.as_str(), run.verdict) {
            ("running", _) if run.progress.checks.is_empty() => {
                Words::default().strong("It begins.")
            }
            ("running", _) => Words::default()
                .strong(&format!("{healed} of {} healed", words::number(self.found())))
                .and(" so far."),
            ("open", _) => Words::default()
                .strong(&format!("{healed} healed"))
                .and(" so far today, as they were found."),
            ("undoing", _) => Words::default()
                .strong(&format!("{} put back", words::count(self.restored(), "row")))
                .and(" so far."),
            ("undone", _) => {
                let rows = words::count(self.restored(), "row");
                let words = Words::default().strong("It was taken back.");
                let words = words.and(&format!(" {rows} put back as they were"));
                match self.conflicts() {
                    0 => words.and("."),
                    left => words
                        .and("; ")
                        .strong(&words::count(left, "row"))
                        .and(" left, because somebody else had changed what was there since."),
                }
            }
            ("done", Some("PASS")) => Words::default()
                .strong("It worked.")
                .and(&format!(" {healed} healed; looked at again, nothing of it is found.")),
            ("done", Some(_)) => Words::default()
                .strong(&format!("{} still found.", words::number(self.left())))
                .and(&format!(" {healed} healed; what is left is named below.")),
            ("failed", _) => {
                Words::default().strong("It stopped.").and(&format!(" {healed} healed before."))
            }
            ("cancelled", _) => Words::default()
                .strong("It was cancelled.")
                .and(&format!(" {healed} healed before, and they stay healed.")),
            _ => Words::default().strong(&format!("{healed} healed.")),
        };
        let words = words
            .and(&format!(" {} began it ", words::actor(&run.started_by)))
            .when(run.started_at, self.frame.now)
            .and(".");
        match &run.progress.undone_by {
            Some(by) => words.and(&format!(" {} took it back.", words::actor(by))),
            None => words,
        }
    }

    fn sentence_class(&self) -> &'static str {
        match self.pill().1 {
            "bad" => "bad",
            "warn" => "attention",
            _ => "",
        }
    }

    /// How far it is, 0 to 100.
    fn percent(&self) -> f64 {
        let (done, all) = match self.run.state.as_str() {
            "undoing" => {
                let checks = self.run.progress.checks.values();
                let undone = checks.filter(|one| one.is_undone).count();
                (undone as u64, self.run.progress.checks.len() as u64)
            }
            _ => (self.run.progress.touched(), self.found()),
        };
        match (self.run.state.as_str(), all) {
            ("done" | "undone", _) => 100.0,
            (_, 0) => 0.0,
            _ => (done as f64 * 100.0 / all as f64).clamp(0.0, 100.0).floor(),
        }
    }

    /// How fast it is, and how long it still takes.
    fn speed(&self) -> String {
        let run = &self.run;
        let until = run.finished_at.unwrap_or(self.frame.now);
        let elapsed = (until - run.started_at).max(1);
        let took = words::duration(elapsed);
        if run.state != "running" {
            return if run.finished_at.is_some() { format!("in {took}") } else { String::new() };
        }
        let rate = run.progress.touched() as f64 * 1000.0 / elapsed as f64;
        let rate = match rate {
            10.0.. => format!("{} a second", words::number(rate as u64)),
            _ => format!("{rate:.1} a second"),
        };
        match run.left_ms {
            Some(left) => format!("{rate}, about {} left", words::duration(left)),
            None => format!("{rate}, for {took}"),
        }
    }

    fn number(&self, count: &u64) -> String {
        words::number(*count)
    }

    fn check_title(&self, name: &str) -> String {
        let check = self.known.as_ref().and_then(|known| known.pack.check(name));
        check.map_or_else(|| name.to_owned(), |check| check.title.clone())
    }

    /// A check's verdict: its word and tone.
    fn verdict(&self, progress: &CheckProgress) -> (&'static str, &'static str) {
        match progress.left {
            _ if progress.is_undone => ("taken back", ""),
            Some(0) => ("PASS", "good"),
            Some(_) => ("FAIL", "bad"),
            None if progress.is_done => ("fixed", "plain"),
            None if self.run.kind == "monitor" => ("fixed", "plain"),
            None => ("waits", ""),
        }
    }

    /// What it is limited to, in words; empty when it is to everything.
    fn limits(&self) -> String {
        let progress = &self.run.progress;
        if self.run.kind == "monitor" {
            return String::new();
        }
        let mut parts = vec![format!("{} at a time", words::number(progress.batch_size))];
        if let Some(check) = &progress.check {
            parts.insert(0, format!("only “{}”", self.check_title(check)));
        }
        if let Some(window) = progress.window_ms {
            parts.push(format!("of the last {}", words::duration(window.cast_signed())));
        }
        if let Some(limit) = progress.limit {
            parts.push(format!("at most {}", words::number(limit)));
        }
        parts.join(", ")
    }

    fn can_cancel(&self) -> bool {
        self.frame.can_tell && self.run.state == "running"
    }

    fn can_resume(&self) -> bool {
        let was_undoing = self.run.progress.undone_by.is_some();
        self.frame.can_tell
            && matches!(self.run.state.as_str(), "failed" | "cancelled")
            && !was_undoing
    }

    fn can_undo(&self) -> bool {
        let is_over = matches!(self.run.state.as_str(), "done" | "failed" | "cancelled" | "open");
        self.frame.can_tell && is_over && self.run.progress.touched() > 0
    }

    /// Whether something is left to repair again.
    fn left_over(&self) -> bool {
        self.frame.can_tell && self.left() > 0
    }

    fn again(&self) -> String {
        repair::address(&self.run.pack, self.run.progress.check.as_deref().unwrap_or_default())
    }

    fn all_faults(&self) -> Vec<String> {
        self.faults.beside(&[])
    }
}

/// `GET /ui/repairs/{run}?ask=undo`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    let asks_undo = query.text("ask") == "undo";
    ok(&page_of(&visit, &path, asks_undo, Faults::default()).await?)
}

async fn page_of(
    visit: &Visit,
    id: &str,
    asks_undo: bool,
    faults: Faults,
) -> Result<RunPage, UiError> {
    let run = visit.get_repair_run(&visit.who, id).await?;
    let known = match visit.get_check_pack(&visit.who, &run.pack).await {
        Ok(known) => Some(known),
        Err(AppError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let frame = visit.frame_anywhere("checks", "Repair").await?;
    Ok(RunPage { frame, run, known, asks_undo, faults })
}

/// `POST /ui/repairs/{run}`: `cancel`, `resume` or `undo`.
pub async fn steer(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let id = path.into_inner();
    let done = match form.text("command") {
        "cancel" => visit
            .cancel_repair(&visit.who, &id)
            .await
            .map(|_| "It stops after the batch that is under way."),
        "resume" => visit.resume_repair(&visit.who, &id).await.map(|_| "It goes on."),
        "undo" => visit
            .undo_repair(&visit.who, &id, form.text("reason"))
            .await
            .map(|_| "It is being taken back."),
        other => Err(AppError::invalid("command", format!("`{other}` is no command"))),
    };
    match done {
        Ok(says) => Ok(Visit::done(&format!("/ui/repairs/{id}"), &Toast::say(says))),
        // It moved on between the page and the button: the page shows how it is now.
        Err(AppError::Conflict { .. }) => {
            let toast = Toast::say("It has moved on meanwhile; look again.");
            Ok(Visit::done(&format!("/ui/repairs/{id}"), &toast))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &id, false, faults).await?)
        }
    }
}
