//! `switchback incident ...`: what customers and the team are told, from a terminal.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::{Failure, Outcome, say};

/// What an incident or an update says.
#[derive(Args)]
pub struct Words {
    /// A template to take texts from.
    #[arg(long)]
    template: Option<String>,
    /// A value for one of its gaps.
    #[arg(long = "var", value_name = "NAME=VALUE")]
    vars: Vec<String>,
    /// How it goes, such as identified; taken from the template when not given.
    #[arg(long)]
    status: Option<String>,
    /// The text; taken from the template when not given.
    #[arg(long)]
    body: Option<String>,
    /// A component and how it is.
    #[arg(long = "component", value_name = "KEY=STATUS")]
    components: Vec<String>,
    /// Environments whose apps show the template's message.
    #[arg(long)]
    in_app: Vec<String>,
    /// Nobody is told; the page alone shows it.
    #[arg(long)]
    quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// List incidents, newest first.
    List {
        /// Only those that are not over.
        #[arg(long)]
        open: bool,
    },
    /// Show one with everything that was said.
    Show {
        /// Its id.
        incident: String,
    },
    /// Open one; the status page shows it at once.
    Open {
        /// One line; taken from the template when not given.
        name: Option<String>,
        #[command(flatten)]
        words: Words,
        /// none, maintenance, minor, major or critical.
        #[arg(long)]
        impact: Option<String>,
        /// Neither the status page nor subscribers.
        #[arg(long)]
        team_only: bool,
        /// Planned work: when it begins, RFC 3339.
        #[arg(long, requires = "until")]
        from: Option<String>,
        /// When it ends; it then begins and ends by itself.
        #[arg(long, requires = "from")]
        until: Option<String>,
    },
    /// Post an update; resolved ends it and gives the components back.
    Update {
        /// Its id.
        incident: String,
        #[command(flatten)]
        words: Words,
    },
    /// Say who takes care of it; without a name, nobody does.
    Handle {
        /// Its id.
        incident: String,
        /// Who.
        name: Option<String>,
    },
    /// Print its postmortem, or one drafted from the record.
    Postmortem {
        /// Its id.
        incident: String,
    },
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List { open } => {
            let all = client.list(&format!("/incidents?open={open}")).await?;
            if client.json {
                say(json!(all).to_string());
                return Ok(());
            }
            let row = |one: &Value| {
                vec![
                    text(one, "/id"),
                    text(one, "/name"),
                    text(one, "/status").replace('_', " "),
                    text(one, "/impact"),
                    text(one, "/handled_by"),
                    when(one, "/created_at"),
                ]
            };
            table(&["ID", "NAME", "STATUS", "IMPACT", "TAKEN BY", "OPENED"], all.iter().map(row));
            Ok(())
        }
        Command::Show { incident } => {
            let one = client.get(&format!("/incidents/{incident}")).await?;
            if client.json {
                say(one.to_string());
                return Ok(());
            }
            say(format!("{}: {}", text(&one, "/name"), text(&one, "/status").replace('_', " ")));
            let updates = one.get("updates").and_then(Value::as_array);
            for update in updates.into_iter().flatten() {
                let status = text(update, "/status").replace('_', " ");
                say(format!(
                    "\n{} {status}, {}",
                    when(update, "/created_at"),
                    text(update, "/created_by")
                ));
                say(text(update, "/body"));
            }
            Ok(())
        }
        Command::Open { name, words, impact, team_only, from, until } => {
            let mut body = words.body()?;
            body.insert("name".to_owned(), json!(name));
            body.insert("impact".to_owned(), json!(impact));
            body.insert("audience".to_owned(), json!(if team_only { "team" } else { "public" }));
            if from.is_some() {
                body.insert("auto_begin".to_owned(), json!(true));
                body.insert("auto_complete".to_owned(), json!(true));
            }
            body.insert("scheduled_for".to_owned(), json!(from));
            body.insert("scheduled_until".to_owned(), json!(until));
            let made = client.send(Method::POST, "/incidents", Some(json!(body))).await?;
            told(&client, &made, "is open");
            Ok(())
        }
        Command::Update { incident, words } => {
            let body = json!(words.body()?);
            let path = format!("/incidents/{incident}/updates");
            let made = client.send(Method::POST, &path, Some(body)).await?;
            told(&client, &made, "is updated");
            Ok(())
        }
        Command::Handle { incident, name } => {
            let path = format!("/incidents/{incident}/handler");
            let body = json!({"handled_by": name});
            let made = client.send(Method::PUT, &path, Some(body)).await?;
            told(&client, &made, if name.is_some() { "is taken care of" } else { "is free" });
            Ok(())
        }
        Command::Postmortem { incident } => {
            let found = client.get(&format!("/incidents/{incident}/postmortem")).await?;
            say(if client.json { found.to_string() } else { text(&found, "/body") });
            Ok(())
        }
    }
}

impl Words {
    fn body(self) -> Result<serde_json::Map<String, Value>, Failure> {
        let body = json!({
            "template": self.template, "vars": pairs("--var", self.vars)?, "status": self.status, "body": self.body,
            "components": pairs("--component", self.components)?, "in_app": self.in_app, "deliver": !self.quiet,
        });
        Ok(body.as_object().cloned().unwrap_or_default())
    }
}

/// `a=b` pairs of an argument.
pub fn pairs(argument: &str, given: Vec<String>) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: String| match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err(Failure::with_code(2, format!("{argument} {text}: NAME=VALUE is expected"))),
    };
    given.into_iter().map(pair).collect()
}

fn told(client: &Client, made: &Value, what: &str) {
    let line = format!("{} {what}: {}", text(made, "/id"), text(made, "/name"));
    say(if client.json { made.to_string() } else { line });
}
