//! `switchback playbook report`: what is told about a run.

use super::client::Client;
use super::{Outcome, say};

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
