//! `switchback playbook report`, `evidence`, `compare`, and `switchback log verify FILE`: what is told about a run, and its proof.

use std::path::Path;

use serde_json::Value;
use switchback_app::evidence::{Broken, Evidence};

use super::client::{Client, table, text};
use super::{Failure, Outcome, say};

/// Prints a run's report: Markdown, or JSON.
pub async fn report(client: &Client, run: &str) -> Outcome {
    let path = format!("/runs/{run}/report");
    if client.json {
        let report = client.get(&path).await?;
        say(serde_json::to_string_pretty(&report)?);
    } else {
        say(client.text(&format!("{path}?format=markdown")).await?.trim_end());
    }
    Ok(())
}

/// Writes a run's evidence into a file, or prints it.
pub async fn evidence(client: &Client, run: &str, out: Option<&Path>) -> Outcome {
    let text = client.text(&format!("/runs/{run}/evidence")).await?;
    let Some(out) = out else {
        say(text);
        return Ok(());
    };
    let shown = out.display();
    std::fs::write(out, text)
        .map_err(|error| Failure::with_code(2, format!("{shown} cannot be written: {error}")))?;
    say(format!("{shown} is written; `switchback log verify {shown}` checks it without a server"));
    Ok(())
}

/// Checks an evidence file without a server.
pub fn verify(file: &Path, json: bool) -> Outcome {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::with_code(2, format!("{shown} cannot be read: {error}")))?;
    let proved = Evidence::read(&text).and_then(|evidence| evidence.check());
    let proved = proved.map_err(|broken| match broken {
        Broken::Unreadable(_) => Failure::with_code(2, format!("{shown}: {broken}")),
        _ => Failure::with_code(8, format!("{shown} was changed: {broken}")),
    })?;
    if json {
        say(serde_json::to_string(&proved)?);
        return Ok(());
    }
    say(format!(
        "run {}: {} rows and {} links, unbroken up to row {}; newest hash {}",
        proved.run, proved.rows, proved.links, proved.head_seq, proved.head_hash
    ));
    if !proved.report_compared {
        say("the report was made by another release and was not compared with the rows");
    }
    Ok(())
}

/// Prints two runs side by side.
pub async fn compare(client: &Client, run: &str, other: &str) -> Outcome {
    let found = client.get(&format!("/runs/{run}/compare/{other}")).await?;
    if client.json {
        say(serde_json::to_string_pretty(&found)?);
        return Ok(());
    }
    let took = |value: &Value, place: &str| {
        value.pointer(place).and_then(Value::as_i64).map(seconds).unwrap_or_default()
    };
    let row = |name: String, of: &Value, state: &str| {
        let cell = |side: &str| {
            let (state, took) =
                (text(of, &format!("/{side}/{state}")), took(of, &format!("/{side}/duration_ms")));
            format!("{state} {took}").trim().to_owned()
        };
        let longer = of.get("longer_ms").and_then(Value::as_i64);
        let sign = |ms: i64| if ms > 0 { "+" } else { "" };
        let longer = longer.map(|ms| format!("{}{}", sign(ms), seconds(ms))).unwrap_or_default();
        vec![name, cell("left"), cell("right"), longer]
    };
    let steps = found.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut rows = vec![row("the run".to_owned(), &found, "outcome")];
    rows.extend(steps.iter().map(|step| row(text(step, "/title"), step, "state")));
    table(&["STEP", run, other, "LONGER BY"], rows);
    let same = |name: &str| found.get(name) == Some(&Value::Bool(true));
    say(match (same("same_plan"), same("same_text")) {
        (true, _) => "the plans are the same, with the same hash",
        (false, true) => "the playbook is the same, its values differ",
        (false, false) => "the playbook was changed between them",
    });
    for part in ["inputs", "plan"] {
        for one in found.get(part).and_then(Value::as_array).into_iter().flatten() {
            let value = |side: &str| one.get(side).map_or("nothing".to_owned(), Value::to_string);
            let (path, before, after) = (text(one, "/path"), value("before"), value("after"));
            say(format!("{part} {path}: {before} -> {after}"));
        }
    }
    Ok(())
}

/// How long earlier runs took, from a forecast; nothing without any.
pub fn expected(found: &Value, place: &str) -> Option<String> {
    let forecast = found.pointer(place)?;
    let number = |name: &str| forecast.get(name).and_then(Value::as_i64);
    let (p50, p95) = (seconds(number("p50_ms")?), seconds(number("p95_ms")?));
    let runs = number("from_runs")?;
    Some(format!("usually {p50}, 95 % within {p95} (earlier runs: {runs})"))
}

/// How far a run is, in steps of ten percent: a mark that changes with each, and the line.
pub fn progress(detail: &Value) -> Option<(String, String)> {
    let progress = detail.get("progress")?;
    let number = |name: &str| progress.get(name).and_then(Value::as_i64);
    let (percent, left) = (number("percent")?, number("left_ms")?);
    let late = progress.get("exceeds_deadline") == Some(&Value::Bool(true));
    if percent >= 100 {
        return None;
    }
    let note = if late { ", after its deadline" } else { "" };
    let runs = number("from_runs")?;
    let line = format!("{percent} %, about {} left{note} (earlier runs: {runs})", seconds(left));
    Some((format!("{} {late}", percent / 10), line))
}

fn seconds(ms: i64) -> String {
    if ms.abs() < 100 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1_000.0) }
}
