//! `switchback automation ...`: whether playbooks may start by themselves.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, text, when};
use super::{Outcome, say};

#[derive(Subcommand)]
pub enum Command {
    /// Nothing starts by itself any more; people still start what they want.
    Off {
        /// Why.
        #[arg(long, short)]
        reason: String,
    },
    /// What starts by itself may do so again.
    On {
        /// Why.
        #[arg(long, short)]
        reason: String,
    },
    /// Say which it is.
    Status,
}

pub async fn run(client: Client, command: Command) -> Outcome {
    let set = async |on: bool, reason: String| {
        let body = json!({"on": on, "reason": reason});
        client.send(Method::PUT, "/automation", Some(body)).await
    };
    let found = match command {
        Command::Off { reason } => set(false, reason).await?,
        Command::On { reason } => set(true, reason).await?,
        Command::Status => client.get("/automation").await?,
    };
    if client.json {
        say(found.to_string());
    } else if found.get("on") == Some(&Value::Bool(true)) {
        say("automation is on");
    } else {
        say(format!(
            "automation is off since {}: {} ({})",
            when(&found, "/off/at"),
            text(&found, "/off/reason"),
            text(&found, "/off/by")
        ));
    }
    Ok(())
}
