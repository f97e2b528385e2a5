//! The rows of the rollback log, in words.

use serde_json::Value;
use switchback_store::LogEntry;

/// How the steps begin whose rows are about data that a run has to preserve.
pub const DATA: &str = "preserve.";
/// How the steps begin whose rows are about what must hold first.
pub const REQUIRE: &str = "require.";
/// How the steps begin whose rows are about conditions that look at the world.
pub const CONDITION: &str = switchback_playbook::state::CONDITION;

/// What happened, in a sentence without its full stop. `title` is the step's.
pub fn says(row: &LogEntry, title: &str) -> String {
    let more = told(&row.detail);
    let with = |text: String| match &more {
        Some(more) => format!("{text}: {more}"),
        None => text,
    };
    if let Some(rule) = row.step_id.strip_prefix(DATA).filter(|_| !is_said(row)) {
        return with(match verdict(&row.phase) {
            "measured" => format!("The data rule `{rule}` was measured before"),
            "holds" => format!("The data rule `{rule}` holds"),
            "broken" => format!("The data rule `{rule}` is broken"),
            other => format!("The data rule `{rule}`, {}", other.replace('_', " ")),
        });
    }
    if let Some(id) = row.step_id.strip_prefix(REQUIRE).filter(|_| !is_said(row)) {
        let holds = if row.phase == "verified" { "holds" } else { "does not hold" };
        return with(format!("The precondition `{id}` {holds}"));
    }
    if let Some(id) = row.step_id.strip_prefix(CONDITION) {
        let holds = match row.phase.as_str() {
            "verified" => "holds",
            "unverified" => "does not hold",
            _ => "has no answer",
        };
        return with(format!("The condition of `{id}` {holds}"));
    }
    let attempt =
        if row.attempt > 1 { format!(" (attempt {})", row.attempt) } else { String::new() };
    let took = row.duration_ms.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
    let by = &row.actor;
    match row.phase.as_str() {
        "note" if row.detail.get("break_glass").is_some() => {
            format!("{by} started the run alone (break-glass): {}", row.reason)
        }
        "note" if row.detail.get("plan_sha256").is_some() => {
            format!("{by} started the run ({})", field(&row.detail, "trigger"))
        }
        "note" if row.detail.get("progress").is_some() => with(format!("“{title}” goes on")),
        "intent" => format!("“{title}” starts{attempt}"),
        "done" => with(format!("“{title}” is done{took}")),
        "failed" => with(format!("“{title}” failed{took}")),
        "unknown" => with(format!("Nobody knows whether “{title}” happened")),
        "verified" => with(format!("“{title}” was checked and holds")),
        "unverified" => with(format!("“{title}” was checked and does not hold")),
        "undo_intent" => format!("“{title}” is being taken back{attempt}"),
        "undone" => with(format!("“{title}” is taken back{took}")),
        "undo_failed" => with(format!("Taking “{title}” back failed{took}")),
        "skipped" => with(format!("“{title}” is left out")),
        "waiting" if field(&row.detail, "for") == "approval" => {
            format!("“{title}” waits for somebody to approve")
        }
        "waiting" => format!("“{title}” waits for its time"),
        "approved" => with(format!("{by} approved “{title}”")),
        "voided" => with(format!("What people said to “{title}” is void; they are asked again")),
        "broke_glass" => with(format!("{by} let “{title}” go on alone (break-glass)")),
        "note" if row.detail.get("link").is_some() => with(format!("{by}, about “{title}”")),
        "refused" => with(format!("{by} refused “{title}”")),
        "decided" => {
            let decision = match field(&row.detail, "decision") {
                "was_done" => "it was done",
                "redo" => "do it again",
                _ => "take everything back",
            };
            with(format!("{by} decided: {decision}"))
        }
        "cancel_requested" => with(format!("{by} cancelled the run")),
        "compensating" => with("The run takes back what it did".to_owned()),
        "parked" => with("The run waits for a person's decision".to_owned()),
        "finished" => {
            let ending = field(&row.detail, "ending").replace('_', " ");
            format!("The run is over{took}: {ending}")
        }
        other => with(format!("{} {title}", other.replace('_', " ")).trim().to_owned()),
    }
}

/// Whether a row asks a person or holds what one said, rather than what was found.
pub fn is_said(row: &LogEntry) -> bool {
    matches!(row.phase.as_str(), "parked" | "decided")
}

/// What a row's detail tells people: what it says, its error, its reason, or what was made.
pub fn told(detail: &Value) -> Option<String> {
    for key in ["says", "error", "because", "nothing", "message", "comment", "reason"] {
        match detail.get(key) {
            Some(Value::String(text)) if !text.is_empty() => return Some(text.clone()),
            Some(Value::Array(texts)) => {
                let texts: Vec<&str> =
                    texts.iter().filter_map(Value::as_str).filter(|t| !t.is_empty()).collect();
                if !texts.is_empty() {
                    return Some(texts.join("; "));
                }
            }
            _ => {}
        }
    }
    let flag = field(detail, "flag");
    match (flag, detail.get("revision").and_then(Value::as_u64)) {
        ("", _) => {}
        (flag, Some(revision)) => return Some(format!("`{flag}` changed in revision {revision}")),
        (flag, None) => return Some(format!("`{flag}` was like this already")),
    }
    ["incident", "notice"].iter().find_map(|key| match field(detail, key) {
        "" => None,
        id => Some(format!("{key} {id}")),
    })
}

/// What a row about data says of its rule: `measured`, `holds` or `broken`; else the phase itself.
pub fn verdict(phase: &str) -> &str {
    match phase {
        "done" => "measured",
        "verified" => "holds",
        "unverified" => "broken",
        other => other,
    }
}

/// The word that an enum has in JSON.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

fn field<'v>(detail: &'v Value, key: &str) -> &'v str {
    detail.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(step: &str, phase: &str, detail: Value) -> LogEntry {
        LogEntry {
            seq: 1,
            run_id: "run_1".to_owned(),
            environment: "production".to_owned(),
            step_id: step.to_owned(),
            attempt: 1,
            phase: phase.to_owned(),
            epoch: 1,
            actor: "Ada".to_owned(),
            reason: String::new(),
            before: None,
            after: None,
            duration_ms: None,
            detail,
            at: 0,
            prev_hash: String::new(),
            hash: String::new(),
        }
    }

    #[test]
    fn rows_about_data_are_told_by_their_verdict() {
        let detail = json!({"says": "10 carts"});

        let text = |phase| says(&row("preserve.carts", phase, detail.clone()), "preserve.carts");

        assert_eq!(text("done"), "The data rule `carts` was measured before: 10 carts");
        assert_eq!(text("verified"), "The data rule `carts` holds: 10 carts");
        assert_eq!(text("unverified"), "The data rule `carts` is broken: 10 carts");
    }

    #[test]
    fn a_row_of_a_later_release_is_told_too() {
        assert_eq!(says(&row("off", "looked_at", json!({})), "Off"), "looked at Off");
        assert_eq!(says(&row("", "finished", json!(7)), ""), "The run is over: ");
    }
}
