//! `switchback alert ...`

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::{Failure, Outcome, say};

#[derive(Subcommand)]
pub enum Command {
    /// List alerts that go on, or all.
    List {
        /// The environment.
        environment: String,
        /// Those that are over, too.
        #[arg(long)]
        all: bool,
    },
    /// Take care of an alert: nobody else is called for so long.
    Ack {
        /// The alert's id.
        alert: String,
        /// For how many minutes; as long as the rule says when not given.
        #[arg(long)]
        minutes: Option<i64>,
    },
    /// No longer take care of an alert.
    Unack {
        /// The alert's id.
        alert: String,
    },
    /// List rules, and how they stand.
    Rules {
        /// The environment.
        environment: String,
    },
    /// Print a rule's text.
    ShowRule {
        /// The rule.
        rule: String,
    },
    /// Keep a rule's text as its newest version.
    PutRule {
        /// The rule.
        rule: String,
        /// The file.
        file: PathBuf,
    },
    /// Remove what was written here; a shipped rule of the same name counts again.
    ResetRule {
        /// The rule.
        rule: String,
    },
    /// Say what is wrong with a rule's text; nothing is kept.
    CheckRule {
        /// The file.
        file: PathBuf,
    },
    /// Say when a rule would have fired over the last days; nothing is kept and nobody is told.
    TryRule {
        /// The file.
        file: PathBuf,
        /// The environment.
        #[arg(long, default_value = "production")]
        environment: String,
        /// How many days back, 1 to 30.
        #[arg(long, default_value_t = 3)]
        days: i64,
    },
    /// Make some alerts quiet for a time.
    Silence {
        /// For how many minutes.
        #[arg(long)]
        minutes: i64,
        /// Why.
        #[arg(long, short)]
        comment: String,
        /// Only this rule.
        #[arg(long)]
        rule: Option<String>,
        /// Only in this environment.
        #[arg(long)]
        environment: Option<String>,
        /// Only rules with this label; several times for several.
        #[arg(long, value_name = "NAME=VALUE")]
        label: Vec<String>,
    },
    /// List silences that hold, or will.
    Silences,
    /// End a silence.
    EndSilence {
        /// The silence's id.
        silence: String,
    },
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List { environment, all } => list(&client, &environment, all).await,
        Command::Ack { alert, minutes } => {
            let path = format!("/alerts/{alert}/ack");
            let body = json!({"minutes": minutes});
            let done = client.send(Method::PUT, &path, Some(body)).await?;
            told(&client, &done, || {
                format!("{} is yours until {}", text(&done, "/title"), when(&done, "/acked_until"))
            });
            Ok(())
        }
        Command::Unack { alert } => {
            let done = client.send(Method::DELETE, &format!("/alerts/{alert}/ack"), None).await?;
            told(&client, &done, || format!("{} waits for somebody", text(&done, "/title")));
            Ok(())
        }
        Command::TryRule { file, environment, days } => {
            let path = format!("/environments/{environment}/alert-rules/trial");
            let body = json!({"source": source(&file)?, "days": days});
            let found = client.send(Method::POST, &path, Some(body)).await?;
            let all = found.get("fired").and_then(Value::as_array).cloned().unwrap_or_default();
            if client.json || all.is_empty() {
                told(&client, &found, || format!("in {days} days it would not have fired"));
                return Ok(());
            }
            let row =
                |one: &Value| vec![when(one, "/at"), when(one, "/until"), text(one, "/words")];
            table(&["FIRED", "OVER", "SAYS"], all.iter().map(row));
            Ok(())
        }
        Command::Rules { environment } => rules(&client, &environment).await,
        Command::ShowRule { rule } => {
            let found = client.get(&format!("/alert-rules/{rule}")).await?;
            told(&client, &found, || text(&found, "/source").trim_end().to_owned());
            Ok(())
        }
        Command::PutRule { rule, file } => {
            let body = json!({"source": source(&file)?});
            let path = format!("/alert-rules/{rule}");
            let kept = client.send(Method::PUT, &path, Some(body)).await?;
            told(&client, &kept, || format!("{rule} is at version {}", text(&kept, "/version")));
            Ok(())
        }
        Command::ResetRule { rule } => {
            client.send(Method::DELETE, &format!("/alert-rules/{rule}"), None).await?;
            say(format!("what was written of {rule} here is gone"));
            Ok(())
        }
        Command::CheckRule { file } => check(&client, &file).await,
        Command::Silence { minutes, comment, rule, environment, label } => {
            let mut labels = serde_json::Map::new();
            for one in &label {
                let pair = one.split_once('=');
                let (name, value) = pair.ok_or_else(|| {
                    Failure::new(format!("`{one}` is not of the form NAME=VALUE"))
                })?;
                labels.insert(name.to_owned(), json!(value));
            }
            let body = json!({"minutes": minutes, "comment": comment, "rule": rule,
                "environment": environment, "labels": labels});
            let made = client.send(Method::POST, "/silences", Some(body)).await?;
            told(&client, &made, || {
                format!("{} holds until {}", text(&made, "/id"), when(&made, "/ends_at"))
            });
            Ok(())
        }
        Command::Silences => silences(&client).await,
        Command::EndSilence { silence } => {
            client.send(Method::DELETE, &format!("/silences/{silence}"), None).await?;
            say(format!("{silence} is over"));
            Ok(())
        }
    }
}

fn told(client: &Client, found: &Value, words: impl FnOnce() -> String) {
    say(if client.json { found.to_string() } else { words() });
}

fn source(file: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))
}

async fn list(client: &Client, environment: &str, all: bool) -> Outcome {
    let found = client.get(&format!("/environments/{environment}/alerts?open={}", !all)).await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let row = |one: &Value| {
        let is_over = one.get("resolved_at").is_some_and(Value::is_number);
        let state = match (is_over, text(one, "/acked_by"), text(one, "/quiet_why")) {
            (true, ..) => "over".to_owned(),
            (false, by, _) if !by.is_empty() => format!("{by} takes care"),
            (false, _, quiet) if !quiet.is_empty() => "quiet".to_owned(),
            _ => "firing".to_owned(),
        };
        vec![
            text(one, "/id"),
            text(one, "/severity"),
            text(one, "/title"),
            state,
            when(one, "/fired_at"),
            text(one, "/words"),
        ]
    };
    let alerts = found.as_array().cloned().unwrap_or_default();
    table(&["ID", "SEVERITY", "ALERT", "IS", "SINCE", "SAYS"], alerts.iter().map(row));
    Ok(())
}

async fn rules(client: &Client, environment: &str) -> Outcome {
    let found = client.get(&format!("/environments/{environment}/alert-rules")).await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let row = |one: &Value| {
        let is = |key: &str| one.get(key) == Some(&Value::Bool(true));
        let state = match (is("enabled"), is("holds_here"), text(one, "/no_data_since")) {
            (false, ..) => "off".to_owned(),
            (true, false, _) => "elsewhere".to_owned(),
            (true, true, since) if !since.is_empty() => {
                format!("{}, no data", text(one, "/phase"))
            }
            _ => text(one, "/phase"),
        };
        vec![
            text(one, "/name"),
            text(one, "/severity"),
            state,
            text(one, "/value_words"),
            when(one, "/since"),
            text(one, "/title"),
        ]
    };
    let all = found.as_array().cloned().unwrap_or_default();
    table(&["RULE", "SEVERITY", "IS", "VALUE", "SINCE", "TITLE"], all.iter().map(row));
    Ok(())
}

async fn silences(client: &Client) -> Outcome {
    let found = client.get("/silences").await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let row = |one: &Value| {
        vec![
            text(one, "/id"),
            text(one, "/rule"),
            text(one, "/environment"),
            when(one, "/ends_at"),
            text(one, "/created_by"),
            text(one, "/comment"),
        ]
    };
    let all = found.as_array().cloned().unwrap_or_default();
    table(&["ID", "RULE", "ENVIRONMENT", "UNTIL", "BY", "WHY"], all.iter().map(row));
    Ok(())
}

async fn check(client: &Client, file: &PathBuf) -> Outcome {
    let body = json!({"source": source(file)?});
    let found = client.send(Method::POST, "/alert-rules/check", Some(body)).await?;
    let problems = found.as_array().cloned().unwrap_or_default();
    if client.json {
        say(found.to_string());
    }
    if problems.is_empty() {
        if !client.json {
            say(format!("{} is a rule", file.display()));
        }
        return Ok(());
    }
    let line = |one: &Value| {
        let place = match text(one, "/line") {
            line if line.is_empty() => String::new(),
            line => format!("{line}:{}: ", text(one, "/column")),
        };
        format!("{place}{}: {}", text(one, "/path"), text(one, "/message"))
    };
    Err(Failure::new(problems.iter().map(line).collect::<Vec<_>>().join("\n")))
}
