//! What a dry run says: which steps would run, what each would change, and how many clients it would reach.

use reqwest::Method;
use serde_json::Value;
use switchback_app::diff::diff;

use super::client::{Client, text};
use super::{Outcome, record, say};

/// Changes of a step that are written out; of more, only the number is said.
const CHANGES_MAX: usize = 8;

/// Asks the server what a run would do, and prints it.
pub async fn show(client: &Client, url: &str, body: Value) -> Outcome {
    let found = client.send(Method::POST, url, Some(body)).await?;
    if client.json {
        say(serde_json::to_string_pretty(&found).unwrap_or_default());
        return Ok(());
    }
    say(format!(
        "Dry run of {} in {}: nothing is changed.",
        text(&found, "/plan/playbook"),
        text(&found, "/plan/environment")
    ));
    for one in list(&found, "/decision") {
        let now = holds(one).map(|now| format!(" Now: {now}.")).unwrap_or_default();
        say(format!("  it fits when: {}{now}", text(one, "/text")));
    }
    for one in list(&found, "/preview/require") {
        let now = holds(one).unwrap_or_default();
        say(format!("  condition {}: {now}", text(one, "/id")));
    }
    let steps = list(&found, "/preview/steps").zip(list(&found, "/plan/steps"));
    for (index, (step, planned)) in steps.enumerate() {
        let (title, does) = (text(planned, "/title"), text(planned, "/does"));
        let does = if does == title { String::new() } else { format!(": {does}") };
        say(format!("  {}. {title}{does}", index + 1));
        let expected = record::expected(&found, &format!("/expected/steps/{index}"));
        for line in lines(step).into_iter().chain(expected) {
            say(format!("       {line}"));
        }
        for warning in list(step, "/effect/warnings") {
            say(format!("       note: {}", warning.as_str().unwrap_or_default()));
        }
    }
    let plan: String = text(&found, "/preview/plan_sha256").chars().take(12).collect();
    say(format!("  plan {plan}"));
    let clients = match known(&found, "/preview/clients") {
        Ok(Some(count)) => count.to_string(),
        Ok(None) => "none".to_owned(),
        Err(why) => format!("not known: {why}"),
    };
    let deadline = found.pointer("/preview/deadline_ms").and_then(Value::as_u64);
    say(format!(
        "  connected clients: {clients}; deadline {} s",
        deadline.unwrap_or_default() / 1000
    ));
    if let Some(line) = record::expected(&found, "/expected") {
        say(format!("  {line}"));
    }
    if found.pointer("/expected/exceeds_deadline") == Some(&Value::Bool(true)) {
        say("  note: a slow run would exceed the deadline");
    }
    Ok(())
}

/// What is to be known of a step beside its title.
fn lines(step: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let within = text(step, "/within");
    if !within.is_empty() {
        lines.push(within.replace('`', ""));
    }
    match known(step, "/runs") {
        Ok(Some(Value::Bool(false))) => {
            lines.push("left out with these inputs".to_owned());
            return lines;
        }
        Ok(_) => {}
        Err(why) => lines.push(format!("runs or not: {why}")),
    }
    match known(step, "/effect/change") {
        Ok(Some(change)) => lines.extend(changes(change)),
        Ok(None) => {}
        Err(why) => lines.push(format!("what changes is not known before: {why}")),
    }
    match known(step, "/effect/clients") {
        Ok(Some(count)) if count.as_u64() != Some(0) => {
            lines.push(format!("connected clients that it reaches: {count}"));
        }
        Ok(_) => {}
        Err(why) => lines.push(format!("how many clients it reaches is not known: {why}")),
    }
    lines
}

/// What a step would change, a line for each place. What it makes is said by its title.
fn changes(change: &Value) -> Vec<String> {
    let (before, after) = (change.get(0), change.get(1));
    if before.is_none_or(Value::is_null) {
        return Vec::new();
    }
    let all = diff(before, after);
    let said = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "nothing".to_owned(),
    };
    // Moments are of the run, not of this look.
    let told = all.iter().filter(|one| !one.path.ends_with("_at"));
    let mut lines: Vec<String> = told
        .take(CHANGES_MAX)
        .map(|one| {
            format!("{}: {} -> {}", one.path, said(one.before.as_ref()), said(one.after.as_ref()))
        })
        .collect();
    if all.len() > CHANGES_MAX {
        lines.push(format!("changes in all: {}", all.len()));
    }
    lines
}

/// Whether a condition holds now; `None` when only a person can tell.
fn holds(one: &Value) -> Option<String> {
    one.get("holds").filter(|holds| !holds.is_null())?;
    Some(match known(one, "/holds") {
        Ok(Some(Value::Bool(true))) => "it holds".to_owned(),
        Ok(_) => "it does not hold".to_owned(),
        Err(why) => format!("not known yet: {why}"),
    })
}

/// A value of a dry run, or why it is not known.
fn known<'v>(value: &'v Value, pointer: &str) -> Result<Option<&'v Value>, &'v str> {
    let Some(found) = value.pointer(pointer) else { return Ok(None) };
    match found.get("unknown") {
        Some(why) => Err(why.as_str().unwrap_or_default()),
        None => Ok(found.get("known").filter(|known| !known.is_null())),
    }
}

fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}
