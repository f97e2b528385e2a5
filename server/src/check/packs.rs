//! Packs: how they stand, looking, reports, lint, settings.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};
use switchback_playbook::units::duration_text;

use super::{FOUND, Form, LOOK_EVERY, duration, parts, percent, read, told};
use crate::client::{Client, table, text, when};
use crate::{Failure, Outcome, say};

pub(super) async fn list(client: &Client) -> Outcome {
    let health = client.get("/checks").await?;
    if client.json {
        say(health.to_string());
        return Ok(());
    }
    let row = |pack: &Value| {
        let mode = match text(pack, "/settings/paused") {
            paused if paused.is_empty() => text(pack, "/settings/mode"),
            _ => "paused".to_owned(),
        };
        let every = pack.pointer("/every_ms").and_then(Value::as_u64);
        vec![
            text(pack, "/name"),
            percent(pack, "/health"),
            text(pack, "/found"),
            text(pack, "/fixed_in_hour"),
            text(pack, "/settings/source"),
            mode,
            every.map(duration_text).unwrap_or_default(),
            text(pack, "/title"),
        ]
    };
    let packs = health.get("packs").and_then(Value::as_array).cloned().unwrap_or_default();
    let heads = ["PACK", "HEALTH", "FOUND", "FIXED 1H", "SOURCE", "MODE", "EVERY", "TITLE"];
    table(&heads, packs.iter().map(row));
    Ok(())
}

pub(super) async fn look(client: &Client, pack: &str, strict: bool) -> Outcome {
    let (pack, check) = parts(pack);
    let body = json!({"check": check});
    let view = client.send(Method::POST, &format!("/checks/{pack}/run"), Some(body)).await?;
    if client.json {
        say(view.to_string());
    } else {
        show(&view, check);
    }
    let checks = view.get("checks").and_then(Value::as_array).cloned().unwrap_or_default();
    let looked: Vec<&Value> =
        checks.iter().filter(|one| check.is_none_or(|name| text(one, "/name") == name)).collect();
    let errors = looked.iter().filter(|one| !text(one, "/state/error").is_empty()).count();
    if errors > 0 {
        return Err(Failure::new(format!("{errors} of {} checks could not look", looked.len())));
    }
    let bad = |one: &&&Value| {
        let grade = text(one, "/grade");
        grade == "fail" || strict && grade == "warn"
    };
    match looked.iter().filter(bad).count() {
        0 => Ok(()),
        count => Err(Failure::with_code(FOUND, format!("{count} of {} checks fail", looked.len()))),
    }
}

pub(super) fn show(view: &Value, only: Option<&str>) {
    say(format!("{}  health {}", text(view, "/title"), percent(view, "/health")));
    let checks = view.get("checks").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |one: &Value| {
        let took = one.pointer("/state/took_full_us").and_then(Value::as_f64).unwrap_or_default();
        vec![
            text(one, "/grade").to_uppercase(),
            text(one, "/name"),
            text(one, "/state/figures/found"),
            text(one, "/state/figures/population"),
            text(one, "/state/recent"),
            format!("{:.1} ms", took / 1000.0),
            match text(one, "/state/error") {
                error if error.is_empty() => text(one, "/state/held"),
                error => error,
            },
        ]
    };
    let shown = checks.iter().filter(|one| only.is_none_or(|name| text(one, "/name") == name));
    table(&["", "CHECK", "FOUND", "OF", "LAST 10 MIN", "TOOK", ""], shown.map(row));
}

pub(super) async fn recent(client: &Client, window: &str) -> Outcome {
    let window = duration("window", window)?;
    let found = client.get(&format!("/checks/recent-issues?window_ms={window}")).await?;
    let issues = found.as_array().cloned().unwrap_or_default();
    if client.json {
        say(found.to_string());
    } else {
        let row = |one: &Value| {
            let count = match text(one, "/count") {
                count if count.is_empty() => "-".to_owned(),
                count => count,
            };
            let names = ["/pack", "/check", "/severity"].map(|at| text(one, at));
            let mut cells = vec![count];
            cells.extend(names);
            cells.push(text(one, "/error"));
            cells
        };
        table(&["FOUND", "PACK", "CHECK", "SEVERITY", ""], issues.iter().map(row));
    }
    let errors = issues.iter().filter(|one| !text(one, "/error").is_empty()).count();
    if errors > 0 {
        return Err(Failure::new(format!("{errors} of {} checks could not look", issues.len())));
    }
    let matters = |one: &&Value| {
        text(one, "/severity") != "info" && one.get("count").and_then(Value::as_u64) > Some(0)
    };
    match issues.iter().filter(matters).count() {
        0 => Ok(()),
        count => Err(Failure::with_code(FOUND, format!("{count} checks found something new"))),
    }
}

pub(super) async fn watch(client: &Client, pack: &str) -> Outcome {
    let mut last = String::new();
    loop {
        let view = client.get(&format!("/checks/{pack}")).await?;
        let at = |name: &str| text(&view, &format!("/view{name}"));
        let line = format!(
            "{}  health {}  found {}  last 10 min {}  fixed in the last hour {}{}",
            when(&view, "/view/swept_at"),
            percent(&view, "/view/health"),
            at("/found"),
            at("/recent"),
            at("/fixed_in_hour"),
            match at("/settings/paused") {
                why if why.is_empty() => String::new(),
                why => format!("  {why}"),
            }
        );
        if line != last {
            say(&line);
            last = line;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(super) async fn verify(client: &Client, pack: &str) -> Outcome {
    let (pack, check) = parts(pack);
    let body = json!({"check": check});
    let view = client.send(Method::POST, &format!("/checks/{pack}/run"), Some(body)).await?;
    if client.json {
        say(view.to_string());
    }
    let checks = view.get("checks").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut failed = 0;
    for one in &checks {
        let name = text(one, "/name");
        if check.is_some_and(|check| check != name) || text(one, "/severity") == "info" {
            continue;
        }
        let (found, error) = (text(one, "/state/figures/found"), text(one, "/state/error"));
        let is_pass = found == "0" && error.is_empty();
        failed += u64::from(!is_pass);
        if !client.json {
            let word = if is_pass { "PASS" } else { "FAIL" };
            say(format!(
                "{word}  {name}: {found} found{}",
                if error.is_empty() { String::new() } else { format!(", {error}") }
            ));
        }
    }
    match failed {
        0 => Ok(()),
        count => Err(Failure::with_code(FOUND, format!("{count} checks still find something"))),
    }
}

pub(super) async fn report(client: &Client, pack: &str, form: Form) -> Outcome {
    let form = match form {
        Form::Text if !client.json => "text",
        Form::Html if !client.json => "html",
        _ => "json",
    };
    say(client.text(&format!("/checks/{pack}/report?format={form}")).await?.trim_end());
    Ok(())
}

pub(super) async fn lint(client: &Client, pack: &str) -> Outcome {
    let file = PathBuf::from(pack);
    if !file.is_file() {
        let remarks = client.send(Method::POST, &format!("/checks/{pack}/lint"), None).await?;
        let all = remarks.as_array().cloned().unwrap_or_default();
        if client.json {
            say(remarks.to_string());
        }
        for one in all.iter().filter(|_| !client.json) {
            let word =
                if one.get("is_error") == Some(&Value::Bool(true)) { "error" } else { "note" };
            say(format!("{word}: {}: {}", text(one, "/check"), text(one, "/message")));
        }
        let errors =
            all.iter().filter(|one| one.get("is_error") == Some(&Value::Bool(true))).count();
        return match errors {
            0 => Ok(()),
            count => Err(Failure::with_code(FOUND, format!("{count} checks cannot be used so"))),
        };
    }
    let body = json!({"source": read(&file)?});
    let problems = client.send(Method::POST, "/checks/validate", Some(body)).await?;
    let all = problems.as_array().cloned().unwrap_or_default();
    if client.json {
        say(problems.to_string());
    }
    for one in all.iter().filter(|_| !client.json) {
        let hint = match text(one, "/hint") {
            hint if hint.is_empty() => hint,
            hint => format!(" ({hint})"),
        };
        say(format!(
            "{}:{}:{}: {}: {}{hint}",
            file.display(),
            text(one, "/line"),
            text(one, "/column"),
            text(one, "/path"),
            text(one, "/message")
        ));
    }
    match all.len() {
        0 => Ok(()),
        count => Err(Failure::with_code(FOUND, format!("{count} problems"))),
    }
}

pub(super) async fn set(client: &Client, pack: &str, mut body: Value) -> Outcome {
    if let Some(map) = body.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    let path = format!("/checks/{pack}/settings");
    let done = client.send(Method::PATCH, &path, Some(body)).await?;
    told(client, &done, || {
        let at = |name: &str| text(&done, &format!("/settings/{name}"));
        match at("paused") {
            paused if paused.is_empty() => format!("{pack}: {} on `{}`", at("mode"), at("source")),
            paused => format!("{pack}: paused ({paused})"),
        }
    });
    Ok(())
}
