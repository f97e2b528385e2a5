//! `switchback playbook report`, `evidence`, and `switchback log verify FILE`: what is told about a run, and its proof.

use std::path::Path;

use super::client::Client;
use super::{Failure, Outcome, say};
use crate::app::evidence::{Broken, Evidence};

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
