//! Findings: listed masked, revealed on the record.

use reqwest::Method;
use serde_json::{Value, json};

use super::{both, parts};
use crate::client::{Client, table, text, when};
use crate::{Outcome, say};

pub(super) async fn findings(
    client: &Client,
    pack: &str,
    state: Option<String>,
    search: Option<String>,
) -> Outcome {
    let (pack, check) = parts(pack);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("pack", pack);
    for (name, value) in
        [("check", check), ("state", state.as_deref()), ("search", search.as_deref())]
    {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let page = client.get(&format!("/findings?{}", query.finish())).await?;
    if client.json {
        say(page.to_string());
        return Ok(());
    }
    let rows = page.get("findings").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |one: &Value| {
        let names = ["/state", "/check", "/key", "/label", "/class", "/country"];
        let mut cells: Vec<String> = names.iter().map(|at| text(one, at)).collect();
        cells.extend([when(one, "/first_seen"), text(one, "/attempts"), text(one, "/message")]);
        cells
    };
    let heads = ["STATE", "CHECK", "KEY", "WHO", "CLASS", "COUNTRY", "SINCE", "FIXES", ""];
    table(&heads, rows.iter().map(row));
    Ok(())
}

pub(super) async fn reveal(client: &Client, check: &str, key: &str, reason: &str) -> Outcome {
    let (pack, check) = both(check)?;
    let body = json!({"pack": pack, "check": check, "key": key, "reason": reason});
    let found = client.send(Method::POST, "/findings/reveal", Some(body)).await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let label = match text(&found, "/label") {
        label if label.is_empty() => format!("{} (kept masked)", text(&found, "/finding/label")),
        label => label,
    };
    say(format!("{key}  {label}  {}", text(&found, "/finding/state")));
    for change in found.get("changes").and_then(Value::as_array).into_iter().flatten() {
        say(format!("  {} {}", text(change, "/table"), text(change, "/row")));
        say(format!("    before {}", text(change, "/before")));
        say(format!("    after  {}", text(change, "/after")));
    }
    Ok(())
}
