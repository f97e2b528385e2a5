//! What happened: changes in words, and the last day on one line.

use serde_json::Value;
use switchback_app::AppError;
use switchback_app::diff::diff;
use switchback_store::{Change, ChangeFilter, Incident, RunFilter, RunRow};

use super::visit::Visit;
use super::words::{self, Words, format_at};

const DAY_MS: i64 = 86_400_000;
/// Rows that are read for the line.
const CHANGES_MAX: i64 = 300;
/// Rows that are listed below it.
const LISTED_MAX: usize = 12;
/// The line's width in its own units.
const WIDTH: f64 = 1000.0;

/// The last day.
pub struct Timeline {
    pub marks: Vec<Mark>,
    pub hours: Vec<String>,
    pub events: Vec<Event>,
    pub summary: String,
}

/// A mark on the line.
pub struct Mark {
    pub x: f64,
    pub width: f64,
    /// Which of the three lanes, from above.
    pub y: i64,
    pub class: &'static str,
    pub label: String,
}

/// A row below the line.
pub struct Event {
    pub at: i64,
    pub kind: &'static str,
    pub tone: &'static str,
    pub words: Words,
    pub reason: String,
}

/// What somebody did, in words.
pub fn did(change: &Change, base: &str) -> Words {
    let words = Words::say(&words::capital(&words::actor(&change.actor)));
    let subject = |words: Words| match change.subject_kind.as_str() {
        "flag" => words.link(&format!("{base}/flags/{}", change.subject), &change.subject),
        "segment" => words
            .and("segment ")
            .link(&format!("{base}/segments/{}", change.subject), &change.subject),
        "incident" => words
            .and("incident ")
            .link(&format!("{base}/incidents/{}", change.subject), &name_of(change)),
        "user" | "token" | "notice" => {
            words.and(&format!("{} ", change.subject_kind)).strong(&name_of(change))
        }
        "automation" => words.strong("everything that starts by itself"),
        "guard" => words.and("the ").link(
            &format!("{base}/guards/{}", change.subject),
            &format!("guard of {}", name_of(change)),
        ),
        "rollout" => words.and("the rollout of ").strong(&name_of(change)),
        "deploy" => words.strong(&change.subject),
        kind => words.and(&format!("{kind} ")).strong(&change.subject),
    };
    if change.subject_kind == "flag"
        && matches!(change.action.as_str(), "rollout" | "playbook" | "update" | "restore")
    {
        let differences = diff(change.before.as_ref(), change.after.as_ref());
        let percent = differences.iter().find(|one| one.path.ends_with(".percent"));
        if let (1, Some(one)) = (differences.len(), percent) {
            let read =
                |value: &Option<Value>| value.as_ref().and_then(Value::as_f64).unwrap_or_default();
            let (from, to) = (read(&one.before), read(&one.after));
            let verb = if to > from { " raised " } else { " lowered " };
            let shares = format!(" from {} to {}", words::percent(from), words::percent(to));
            return subject(words.and(verb)).and(&shares);
        }
        let switch = differences.iter().find(|one| one.path == "enabled");
        if let Some(one) = switch.filter(|_| change.action != "restore") {
            let on = one.after == Some(Value::Bool(true));
            return subject(words.and(if on { " turned on " } else { " turned off " }));
        }
    }
    let verb = match (change.subject_kind.as_str(), change.action.as_str()) {
        ("deploy", _) => "deployed",
        (_, "create") => "made",
        ("incident", "open") => "opened",
        ("incident", "resolve") => "resolved",
        ("flag" | "automation", "turn on") => "turned on",
        ("flag" | "automation", "turn off") => "turned off",
        ("flag", "kill") => "killed",
        ("flag", "lift kill") => "lifted the kill of",
        ("flag", "rollout") => "set the share of",
        (_, "restore") => "restored",
        (_, "archive") => "archived",
        (_, "describe") => "described",
        (_, "delete") => "deleted",
        (_, "revoke") => "revoked",
        ("playbook", "refuse start") => "could not start",
        ("run", "break glass") => "broke glass in",
        ("run", "review") => "reviewed the break-glass in",
        (_, "protect") => "protected",
        (_, "unprotect") => "took the protection off",
        (_, "send") => "sent",
        (_, "status") => "changed the status of",
        _ => "changed",
    };
    subject(words.and(&format!(" {verb} ")))
}

/// What people call a subject whose key is a number.
fn name_of(change: &Change) -> String {
    let find = |value: &Option<Value>| {
        let value = value.as_ref()?;
        let known = ["/name", "/email", "/title", "/flag", "/settings/flag"];
        let text = known.iter().find_map(|place| value.pointer(place))?;
        text.as_str().map(str::to_owned)
    };
    find(&change.after).or_else(|| find(&change.before)).unwrap_or_else(|| change.subject.clone())
}

impl Event {
    /// A change, as a row.
    pub fn of_change(change: &Change, base: &str) -> Self {
        let tone = if change.emergency { "bad" } else { "plain" };
        let (at, reason) = (change.at, change.reason.clone());
        Self { at, kind: "Change", tone, words: did(change, base), reason }
    }

    /// A run, as a row.
    pub fn of_run(run: &RunRow, base: &str) -> Self {
        let words = Words::say(&format!("{} ran ", words::actor(&run.requested_by)))
            .link(&format!("{base}/runs/{}", run.id), &run.title)
            .and(&format!(": {}", words::title(&run.state).to_lowercase()));
        Self { at: run.created_at, kind: "Run", tone: "warn", words, reason: run.reason.clone() }
    }

    /// An incident's beginning, as a row.
    pub fn of_incident(incident: &Incident, base: &str) -> Self {
        let link = format!("{base}/incidents/{}", incident.id);
        let words = Words::say("Opened: ").link(&link, &incident.name);
        let tone = if incident.resolved_at.is_none() { "bad" } else { "plain" };
        Self { at: incident.created_at, kind: "Incident", tone, words, reason: String::new() }
    }
}

impl Timeline {
    /// Reads the last day of an environment.
    pub async fn of(visit: &Visit, environment: &str) -> Result<Self, AppError> {
        let now = visit.clock.now();
        let since = now - DAY_MS;
        let filter = ChangeFilter {
            environment: Some(environment.to_owned()),
            since: Some(since),
            limit: CHANGES_MAX,
            ..ChangeFilter::default()
        };
        let changes = visit.list_changes(&visit.who, &filter).await?;
        let filter = RunFilter {
            environment: Some(environment.to_owned()),
            limit: 50,
            ..RunFilter::default()
        };
        let mut runs = visit.list_runs(&visit.who, &filter).await?;
        runs.retain(|run| run.created_at >= since);
        let mut incidents = if_allowed(visit.list_incidents(&visit.who, false, None, 50).await)?;
        incidents.retain(|incident| incident.resolved_at.is_none_or(|at| at >= since));
        let base = format!("/ui/{environment}");
        let changes: Vec<Change> = changes.into_iter().map(|row| row.change).collect();
        Ok(Self::build(&changes, &runs, &incidents, &base, now))
    }

    fn build(
        changes: &[Change],
        runs: &[RunRow],
        incidents: &[Incident],
        base: &str,
        now: i64,
    ) -> Self {
        let x = |at: i64| {
            ((at - (now - DAY_MS)) as f64 / DAY_MS as f64 * WIDTH).clamp(0.0, WIDTH - 4.0)
        };
        let at_text = |at: i64| format_at(at, "%H:%M UTC");
        let mut marks = Vec::new();
        let mut events = Vec::new();
        for change in changes {
            let class = if change.emergency { "emergency" } else { "change" };
            let label = format!(
                "{} {}: {} {}",
                at_text(change.at),
                change.actor,
                change.action,
                change.subject
            );
            marks.push(Mark { x: x(change.at), width: 3.0, y: 6, class, label });
            events.push(Event::of_change(change, base));
        }
        for run in runs {
            let (from, until) = (x(run.created_at), x(run.finished_at.unwrap_or(now)));
            let label =
                format!("{} {}: {}", at_text(run.created_at), run.title, words::title(&run.state));
            marks.push(Mark {
                x: from,
                width: (until - from).max(3.0),
                y: 36,
                class: "run",
                label,
            });
            events.push(Event::of_run(run, base));
        }
        for incident in incidents {
            let (from, until) = (x(incident.created_at), x(incident.resolved_at.unwrap_or(now)));
            let label = format!("{} {}", at_text(incident.created_at), incident.name);
            marks.push(Mark {
                x: from,
                width: (until - from).max(3.0),
                y: 66,
                class: "incident",
                label,
            });
            if incident.created_at >= now - DAY_MS {
                events.push(Event::of_incident(incident, base));
            }
        }
        events.sort_by_key(|event| std::cmp::Reverse(event.at));
        events.truncate(LISTED_MAX);
        let hours = (0..=4).map(|n| format_at(now - DAY_MS + n * DAY_MS / 4, "%H:%M")).collect();
        let summary = format!(
            "In the last 24 hours: {}, {}, {}.",
            words::count(changes.len() as u64, "change"),
            words::count(runs.len() as u64, "run"),
            words::count(incidents.len() as u64, "incident"),
        );
        Self { marks, hours, events, summary }
    }
}

/// What somebody may not see is left out of a page that shows much else.
pub fn if_allowed<T: Default>(result: Result<T, AppError>) -> Result<T, AppError> {
    match result {
        Err(AppError::Forbidden { .. }) => Ok(T::default()),
        other => other,
    }
}
