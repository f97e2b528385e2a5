//! A run, step by step, as its page shows it.

use serde_json::Value;
use switchback_app::forecast::Progress;
use switchback_app::moments::REQUIRE;
use switchback_app::playbooks::RunDetail;
use switchback_playbook::RunState;
use switchback_playbook::plan::{Approval as Wanted, Condition, PlannedStep};
use switchback_playbook::state::{StepState, StepView};
use switchback_store::LogEntry;

use super::live::Converged;
use super::run_data::DataLine;
use super::words::{self, Words};

/// Everything that the part shows.
pub struct RunPart {
    pub id: String,
    pub title: String,
    pub playbook: String,
    /// How the plan's SHA-256 begins.
    pub plan: String,
    pub state: String,
    pub state_word: String,
    pub tone: &'static str,
    pub reason: String,
    pub by: String,
    pub at: i64,
    pub is_over: bool,
    pub elapsed: String,
    pub deadline: String,
    /// The share of the deadline that is used up, 0 to 100.
    pub used: f64,
    pub late: bool,
    /// How far it is; absent when it is over, and when nobody can say.
    pub progress: Option<ProgressLine>,
    pub steps: Vec<StepLine>,
    pub receipt: Option<String>,
    pub converged: Option<Converged>,
    pub incidents: Vec<String>,
    pub log: Vec<LogLine>,
    pub unwinding: Option<String>,
    /// It waits for a decision about itself (empty), or about this precondition.
    pub parked_at: Option<String>,
    /// When it is taken back by itself.
    pub expires_at: Option<i64>,
    /// The run that it takes back.
    pub undoes: Option<String>,
    /// What must not get lost.
    pub data: Vec<DataLine>,
}

/// How far a run is, as earlier ones let one expect.
pub struct ProgressLine {
    pub percent: u64,
    /// When it will be over, in UTC milliseconds, for the script to count down.
    pub until: Option<i64>,
    pub left: String,
    pub from: String,
    pub late: bool,
}

/// One step.
pub struct StepLine {
    pub id: String,
    pub title: Words,
    pub does: Words,
    /// The group or call that it stands in.
    pub within: Words,
    pub state: &'static str,
    pub word: String,
    /// `step-good`, `step-now`, `step-warn`, `step-bad` or empty.
    pub class: &'static str,
    pub icon: &'static str,
    pub took: String,
    /// Since when it runs, for the script to count.
    pub since: Option<i64>,
    pub output: String,
    pub because: Words,
    pub verify: String,
    pub note: String,
    pub approval: Option<Approval>,
    pub parked: bool,
}

/// A step that waits for people.
pub struct Approval {
    pub message: String,
    pub until: Option<i64>,
    pub given: String,
    /// How many of whom.
    pub wanted: String,
    /// The row of the log that asks.
    pub asked: u64,
    /// Why people are asked again.
    pub voided: Words,
    /// Whether whoever started the run may answer.
    pub own: bool,
}

/// One row of the log.
pub struct LogLine {
    pub seq: u64,
    pub phase: String,
    pub step: String,
    pub at: i64,
    pub actor: String,
    pub took: String,
    pub hash: String,
    /// Shown in red.
    pub emergency: bool,
}

/// Whom a step waits for.
pub fn wanted(approve: &Wanted) -> String {
    let roles = match approve.roles.as_slice() {
        [] => "operator".to_owned(),
        some => words::list(some, "or"),
    };
    match approve.min {
        0 | 1 => format!("one {roles}"),
        more => format!("{more} people, each {roles}"),
    }
}

/// How a plan's hash is shown: its first twelve digits.
pub fn short(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}

/// A run's state in a word, and its pill's class.
pub fn state_words(state: &str) -> (String, &'static str) {
    let tone = match state {
        "succeeded" => "good",
        "failed" | "compensate_failed" => "bad",
        "queued" | "parked" | "waiting_approval" | "compensating" | "compensated" | "cancelled" => {
            "warn"
        }
        _ => "live-pill",
    };
    let word = match state {
        "compensated" => "Taken back".to_owned(),
        "compensating" => "Taking back".to_owned(),
        "compensate_failed" => "Taking back failed".to_owned(),
        "waiting_approval" => "Waits for approval".to_owned(),
        "parked" => "Waits for a decision".to_owned(),
        "queued" => "Waits for its turn".to_owned(),
        other => words::title(other),
    };
    (word, tone)
}

impl RunPart {
    /// From everything about the run.
    pub fn of(
        detail: &RunDetail,
        progress: Option<Progress>,
        converged: impl Fn(u64) -> Converged,
        now: i64,
    ) -> Self {
        let (run, plan, view) = (&detail.run, &detail.plan, &detail.view);
        let state = detail.state.as_str();
        let (state_word, tone) = state_words(state);
        let is_over = detail.state.is_over();
        let until = run.finished_at.unwrap_or(now);
        let total = (run.deadline_at - run.created_at).max(1);
        let revision = view.revisions.iter().next_back().copied();
        let parked = view.parked.as_deref();
        let steps = plan.steps.iter().zip(&view.steps);
        let converged = revision.map(converged);
        Self {
            id: run.id.clone(),
            title: run.title.clone(),
            playbook: run.playbook.clone(),
            plan: short(&run.plan_sha256),
            state: state.to_owned(),
            state_word,
            tone,
            reason: run.reason.clone(),
            by: run.requested_by.clone(),
            at: run.created_at,
            is_over,
            elapsed: words::duration(until - run.created_at),
            deadline: words::duration(total),
            used: ((until - run.created_at) as f64 * 100.0 / total as f64).clamp(0.0, 100.0),
            late: until > run.deadline_at,
            progress: progress.filter(|_| !is_over).map(|found| progress_line(&found, now)),
            steps: steps
                .map(|(step, view)| StepLine {
                    within: Words::default().ticked(&plan.place_of(step)),
                    ..step_line(step, view, parked, is_over, now)
                })
                .collect(),
            receipt: is_over.then(|| receipt(detail, converged.as_ref(), until - run.created_at)),
            converged,
            incidents: detail.incidents.clone(),
            log: detail.log.iter().map(log_line).collect(),
            unwinding: view.compensating.map(|(_, cause)| words::word(&cause)),
            parked_at: parked
                .filter(|id| id.is_empty() || id.starts_with(REQUIRE))
                .map(str::to_owned),
            expires_at: run.expires_at.filter(|_| is_over),
            undoes: run.undoes.clone(),
            data: super::run_data::lines(detail),
        }
    }

    /// Whether there is something that a person could want taken back.
    pub fn can_undo(&self) -> bool {
        let left_something = matches!(self.state.as_str(), "succeeded" | "compensate_failed");
        left_something && self.steps.iter().any(|step| step.class == "step-good")
    }

    /// Since when the clock runs, for the script; empty when it has stopped.
    pub fn since(&self) -> String {
        if self.is_over { String::new() } else { self.at.to_string() }
    }
}

fn progress_line(found: &Progress, now: i64) -> ProgressLine {
    let from = match found.from_runs {
        0 => "There is no earlier run to tell how long it takes.".to_owned(),
        some => format!("As {} took", words::count(some, "earlier run")),
    };
    ProgressLine {
        percent: found.percent,
        until: found.left_ms.map(|ms| now + ms),
        left: found.left_ms.map(words::duration).unwrap_or_default(),
        from,
        late: found.exceeds_deadline,
    }
}

fn step_line(
    step: &PlannedStep,
    view: &StepView,
    parked: Option<&str>,
    over: bool,
    now: i64,
) -> StepLine {
    let (word, class, icon) = match view.state {
        StepState::Pending if over => ("Not run", "", ""),
        StepState::Pending => ("", "", ""),
        StepState::Waiting => ("Waiting", "step-warn", "clock"),
        StepState::Intent => ("Running", "step-now", ""),
        StepState::Done if view.recovered() => ("Done, after a failure", "step-good", "check"),
        StepState::Done => ("Done", "step-good", "check"),
        StepState::Verified => ("Done and verified", "step-good", "check"),
        StepState::Failed => ("Failed", "step-bad", "cross"),
        StepState::Unknown => ("Nobody knows whether it happened", "step-warn", "alert"),
        StepState::Unverified => ("Done, but the check failed", "step-bad", "alert"),
        StepState::UndoIntent => ("Taking it back", "step-now", "back"),
        StepState::Undone => ("Taken back", "step-warn", "back"),
        StepState::UndoFailed => ("Taking it back failed", "step-bad", "cross"),
        StepState::Skipped => ("Left out", "", ""),
    };
    let running = matches!(view.state, StepState::Intent | StepState::UndoIntent);
    let took =
        view.started_at.filter(|_| !running).map(|from| words::duration(view.last_at - from));
    let waits = view.state == StepState::Waiting && view.approval_until.is_some();
    let approval = step.approve.as_ref().filter(|_| waits).map(|approve| Approval {
        message: approve.message.clone(),
        until: view.approval_until,
        given: view.approvals.iter().cloned().collect::<Vec<_>>().join(", "),
        wanted: wanted(approve),
        asked: view.asked,
        voided: Words::default().ticked(view.voided.as_deref().unwrap_or_default()),
        own: approve.own,
    });
    let note = match (&step.condition, view.wait_until.filter(|_| view.state == StepState::Waiting))
    {
        (_, Some(until)) => format!("goes on {}", words::relative(until, now)),
        (Condition::Never, _) => "left out with these inputs".to_owned(),
        (Condition::When(text), _) => format!("if {text}"),
        _ => String::new(),
    };
    let note = match &view.broke_glass {
        Some(who) => format!("{} let it go on alone: break-glass", words::actor(who)),
        None => note,
    };
    StepLine {
        id: step.id.clone(),
        title: Words::default().ticked(&step.title),
        does: said_once(&step.title, &step.does),
        within: Words::default(),
        state: state_key(view.state),
        word: word.to_owned(),
        class,
        icon,
        took: took.filter(|_| view.attempts > 0).unwrap_or_default(),
        since: view.started_at.filter(|_| running),
        output: view.output.as_ref().map(output).unwrap_or_default(),
        because: Words::default().ticked(view.because.as_deref().unwrap_or_default()),
        verify: step.verify.as_ref().map(|check| check.does.clone()).unwrap_or_default(),
        note,
        approval,
        parked: parked == Some(step.id.as_str()),
    }
}

fn state_key(state: StepState) -> &'static str {
    match state {
        StepState::Pending => "pending",
        StepState::Waiting => "waiting",
        StepState::Intent => "running",
        StepState::Done => "done",
        StepState::Verified => "verified",
        StepState::Failed => "failed",
        StepState::Unknown => "unknown",
        StepState::Unverified => "unverified",
        StepState::UndoIntent => "undoing",
        StepState::Undone => "undone",
        StepState::UndoFailed => "undo_failed",
        StepState::Skipped => "skipped",
    }
}

/// What a step does, unless its title says it already.
pub fn said_once(title: &str, does: &str) -> Words {
    if title == does { Words::default() } else { Words::default().ticked(does) }
}

/// What a step left behind, in words: the values that a person can use.
fn output(detail: &Value) -> String {
    let Value::Object(map) = detail else { return String::new() };
    let mut parts = Vec::new();
    let number = |key: &str| map.get(key).and_then(Value::as_u64);
    if let Some(revision) = number("revision") {
        parts.push(format!("revision {revision}"));
    }
    if let (Some(acked), Some(connected)) = (number("acked"), number("connected")) {
        parts.push(format!("{} of {} clients", words::number(acked), words::number(connected)));
    }
    for key in ["incident", "id", "status", "notice"] {
        match map.get(key) {
            // The incident itself is linked below the steps.
            Some(Value::String(text)) if text.starts_with("inc_") => {}
            Some(Value::String(text)) => parts.push(text.clone()),
            Some(Value::Number(count)) => parts.push(format!("{key} {count}")),
            _ => {}
        }
    }
    if let (true, Some(says)) = (parts.is_empty(), map.get("says").and_then(Value::as_str)) {
        parts.push(says.replace('`', ""));
    }
    parts.join(" · ")
}

/// One line to paste into a chat.
fn receipt(detail: &RunDetail, converged: Option<&Converged>, took: i64) -> String {
    let verb = match detail.state {
        RunState::Succeeded => "Done",
        RunState::Failed => "Failed before the first step",
        RunState::Compensated => "Taken back",
        RunState::Cancelled => "Cancelled and taken back",
        _ => "Needs somebody to look",
    };
    let run = &detail.run;
    let is_untouched = |state: StepState| matches!(state, StepState::Pending | StepState::Skipped);
    let place = format!("{} ({} in {})", run.title, run.playbook, run.environment);
    if detail.state == RunState::Succeeded
        && detail.view.steps.iter().all(|step| is_untouched(step.state))
    {
        return format!("{place}: nothing to do, and nothing was changed.");
    }
    let verb = if run.playbook == super::frame::ROLLBACK && detail.state == RunState::Succeeded {
        "Rolled back"
    } else {
        verb
    };
    let mut parts = vec![format!("{verb} in {}", words::duration(took))];
    if let Some(converged) = converged {
        parts.push(match converged.connected {
            0 => "no client was connected".to_owned(),
            all => {
                format!("{}/{} clients proved", words::number(converged.acked), words::number(all))
            }
        });
    }
    let failed =
        detail.view.steps.iter().filter(|step| step.state == StepState::Failed).count() as u64;
    if failed > 0 {
        parts.push(format!("{} failed", words::count(failed, "step")));
    }
    if !detail.incidents.is_empty() {
        parts.push("incident open".to_owned());
    }
    format!("{place}: {}.", parts.join(", "))
}

fn log_line(entry: &LogEntry) -> LogLine {
    LogLine {
        seq: entry.seq,
        phase: entry.phase.replace('_', " "),
        step: entry.step_id.clone(),
        at: entry.at,
        actor: entry.actor.clone(),
        took: entry.duration_ms.map(words::duration).unwrap_or_default(),
        hash: entry.hash.chars().take(10).collect(),
        emergency: entry.phase == "broke_glass",
    }
}
