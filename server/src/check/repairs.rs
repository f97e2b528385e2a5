//! Repairs: what they would do, following them, taking them back.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use reqwest::Method;
use serde_json::{Value, json};
use switchback_playbook::units::duration_text;

use super::{FOUND, LOOK_EVERY, Wish, duration, parts};
use crate::client::{Client, table, text, when};
use crate::{Failure, Outcome, say};

pub(super) async fn backfill(client: &Client, wish: Wish, dry_run: bool, yes: bool) -> Outcome {
    let (pack, check) = parts(&wish.pack);
    let window = wish.window.as_deref().map(|text| duration("window", text)).transpose()?;
    let body = |dry_run: bool| {
        json!({"dry_run": dry_run, "check": check, "window_ms": window,
            "batch_size": wish.batch_size, "limit": wish.limit, "reason": wish.reason})
    };
    let path = format!("/checks/{pack}/backfill");
    let answer = client.send(Method::POST, &path, Some(body(true))).await?;
    let preview = answer.get("preview").cloned().unwrap_or_default();
    if dry_run && client.json {
        say(preview.to_string());
        return Ok(());
    }
    if !client.json {
        show_preview(&preview);
    }
    let count = preview.get("would_repair").and_then(Value::as_u64).unwrap_or(0);
    let checks = preview.get("checks").and_then(Value::as_array).cloned().unwrap_or_default();
    let errors = checks.iter().filter(|one| !text(one, "/error").is_empty()).count();
    if errors > 0 {
        return Err(Failure::new(format!("{errors} of {} checks cannot be tried", checks.len())));
    }
    if dry_run || count == 0 {
        return Ok(());
    }
    if !yes && !agreed(&format!("Repair {count}?"))? {
        say("nothing was changed");
        return Ok(());
    }
    let answer = client.send(Method::POST, &path, Some(body(false))).await?;
    follow(client, &text(&answer, "/run/id")).await
}

pub(super) fn show_preview(preview: &Value) {
    for check in preview.get("checks").and_then(Value::as_array).into_iter().flatten() {
        say(format!("{}: {} found", text(check, "/check"), text(check, "/found")));
        if let Some(error) = check.get("error").and_then(Value::as_str) {
            say(format!("  cannot be tried: {error}"));
        }
        for table in check.get("unnamed").and_then(Value::as_array).into_iter().flatten() {
            let table = table.as_str().unwrap_or_default();
            say(format!("  also writes to {table}, which an undo leaves as it is"));
        }
        for key in check.get("keys").and_then(Value::as_array).into_iter().flatten().take(5) {
            for row in key.get("rows").and_then(Value::as_array).into_iter().flatten() {
                say(format!(
                    "  {}  {} {} {}",
                    text(key, "/key"),
                    text(row, "/action"),
                    text(row, "/table"),
                    changes(row)
                ));
            }
        }
    }
    say(format!("would repair {}", text(preview, "/would_repair")));
}

pub(super) fn changes(row: &Value) -> String {
    let columns = row.get("columns").and_then(Value::as_object).cloned().unwrap_or_default();
    let one = |(name, pair): (&String, &Value)| {
        let (before, after) =
            (pair.get(0).unwrap_or(&Value::Null), pair.get(1).unwrap_or(&Value::Null));
        match before {
            Value::Null => format!("{name}: {after}"),
            before => format!("{name}: {before} -> {after}"),
        }
    };
    columns.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Shows a run until it is over.
pub(super) async fn follow(client: &Client, id: &str) -> Outcome {
    let is_live = std::io::stderr().is_terminal() && !client.json;
    loop {
        let run = client.get(&format!("/repair-runs/{id}")).await?;
        let state = text(&run, "/state");
        let checks = run.pointer("/progress/checks").and_then(Value::as_object).cloned();
        let checks = checks.unwrap_or_default();
        let sum = |name: &str| -> u64 {
            checks.values().filter_map(|one| one.get(name).and_then(Value::as_u64)).sum()
        };
        if is_live {
            let left = run.get("left_ms").and_then(Value::as_u64);
            let left = left.map(|ms| format!(", {} left", duration_text(ms / 1000 * 1000)));
            let mut out = std::io::stderr();
            let _ = write!(
                out,
                "\r\x1b[K{} of {} repaired{}  {}",
                sum("healed"),
                sum("found"),
                left.unwrap_or_default(),
                text(&run, "/progress/message")
            );
            let _ = out.flush();
        }
        if matches!(state.as_str(), "running" | "undoing") {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        if is_live {
            let _ = writeln!(std::io::stderr());
        }
        if client.json {
            say(run.to_string());
        } else {
            for (name, one) in &checks {
                say(outcome_line(name, one, &state));
            }
            say(format!("run {id}: {state}, {} repaired", sum("healed")));
        }
        return match (state.as_str(), text(&run, "/verdict").as_str()) {
            ("done", "FAIL") => Err(Failure::with_code(FOUND, "some are still found")),
            ("failed", _) => Err(Failure::new(text(&run, "/progress/message"))),
            _ => Ok(()),
        };
    }
}

pub(super) fn outcome_line(name: &str, one: &Value, state: &str) -> String {
    let at = |pointer: &str| text(one, pointer);
    if state == "undone" {
        return format!(
            "{name}: {} rows put back, {} left as they are",
            at("/restored"),
            at("/conflicts")
        );
    }
    let verdict = match one.get("left").and_then(Value::as_u64) {
        Some(0) => "PASS",
        Some(_) => "FAIL",
        None => "----",
    };
    let left = match at("/left") {
        left if left.is_empty() || left == "0" => String::new(),
        left => format!(", {left} still found"),
    };
    let refused = match at("/refused_count") {
        count if count == "0" || count.is_empty() => String::new(),
        count => format!(", {count} refused"),
    };
    format!("{verdict}  {name}: {} of {} repaired{refused}{left}", at("/healed"), at("/found"))
}

pub(super) async fn runs(client: &Client, pack: Option<&str>) -> Outcome {
    let path = match pack {
        Some(pack) => format!("/repair-runs?pack={pack}"),
        None => "/repair-runs".to_owned(),
    };
    let found = client.get(&path).await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let row = |one: &Value| {
        let checks = one.pointer("/progress/checks").and_then(Value::as_object);
        let healed: u64 = checks
            .into_iter()
            .flat_map(|all| all.values())
            .filter_map(|one| one.get("healed").and_then(Value::as_u64))
            .sum();
        let mut cells: Vec<String> = ["/id", "/pack", "/kind", "/state", "/verdict"]
            .iter()
            .map(|at| text(one, at))
            .collect();
        cells.extend([healed.to_string(), when(one, "/started_at"), text(one, "/started_by")]);
        cells
    };
    let all = found.as_array().cloned().unwrap_or_default();
    let heads = ["RUN", "PACK", "KIND", "STATE", "", "REPAIRED", "STARTED", "BY"];
    table(&heads, all.iter().map(row));
    Ok(())
}

pub(super) async fn undo(client: &Client, run: &str, reason: &str, yes: bool) -> Outcome {
    let found = client.get(&format!("/repair-runs/{run}")).await?;
    let checks = found.pointer("/progress/checks").and_then(Value::as_object).cloned();
    let healed: u64 = checks
        .unwrap_or_default()
        .values()
        .filter_map(|one| one.get("healed").and_then(Value::as_u64))
        .sum();
    if !yes && !agreed(&format!("Take back what {run} repaired ({healed})?"))? {
        say("nothing was changed");
        return Ok(());
    }
    let body = json!({"reason": reason});
    client.send(Method::POST, &format!("/repair-runs/{run}/undo"), Some(body)).await?;
    follow(client, run).await
}

pub(super) fn agreed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::with_code(2, "nobody is there to ask; say --yes"));
    }
    let mut out = std::io::stderr();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
