//! `switchback status`: what is on, who is connected, what is open.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, text};
use super::{Outcome, say};

#[derive(Args)]
pub struct Query {
    /// The environment.
    #[arg(long, short, default_value = "production")]
    env: String,
}

#[derive(Subcommand)]
pub enum Command {
    /// Write the public status page as plain files, for any host that serves files. Takes no token.
    Export(super::status_export::Options),
}

pub async fn run(client: Client, query: Query) -> Outcome {
    let env = &query.env;
    let found = client.get(&format!("/environments/{env}/convergence")).await?;
    let flags = client.list(&format!("/environments/{env}/flags?project=auth")).await?;
    let incidents = client.list("/incidents?open=true").await?;
    let runs = client.list(&format!("/runs?active=true&environment={env}")).await?;
    if client.json {
        say(json!({"convergence": found, "auth": flags, "incidents": incidents, "runs": runs})
            .to_string());
        return Ok(());
    }
    say(format!(
        "{env} is at revision {}; {} of {} clients have it",
        text(&found, "/revision"),
        text(&found, "/acked"),
        text(&found, "/connected"),
    ));
    for flag in &flags {
        let is = |pointer: &str| flag.pointer(pointer) == Some(&Value::Bool(true));
        let state = match (is("/state/killed"), is("/state/enabled")) {
            (true, _) => "killed".to_owned(),
            (_, false) => "off".to_owned(),
            _ => match text(flag, "/state/rules/0/percent") {
                share if share.is_empty() => "on".to_owned(),
                share => format!("on for {share} %"),
            },
        };
        say(format!("  {} is {state}", text(flag, "/flag/key")));
    }
    for incident in &incidents {
        say(format!("  incident {}: {}", text(incident, "/status"), text(incident, "/name")));
    }
    for run in &runs {
        say(format!(
            "  run {} of {} is {}",
            text(run, "/id"),
            text(run, "/playbook"),
            text(run, "/state")
        ));
    }
    Ok(())
}
