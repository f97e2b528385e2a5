//! `switchback channel|message|subscriber|template ...`: where messages go, what became of them, and what they are made of.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::incident::pairs;
use super::{Failure, Outcome, say};

#[derive(Subcommand)]
pub enum ChannelCommand {
    /// List channels; their secrets are named, never shown.
    List,
    /// Set one up, or replace it, from a file as `/api/v1/channels` has it: name, to, topics.
    Put {
        /// Its permanent name.
        key: String,
        /// The file, JSON.
        file: PathBuf,
    },
    /// Send it a message that says it is a test.
    Test {
        /// The channel.
        key: String,
    },
    /// Remove it; what waits for it is given up.
    Remove {
        /// The channel.
        key: String,
    },
}

#[derive(Subcommand)]
pub enum MessageCommand {
    /// List what was sent to whom, newest first.
    List {
        /// waiting, sent or dead.
        #[arg(long)]
        state: Option<String>,
        /// One channel.
        #[arg(long)]
        channel: Option<String>,
        /// One incident.
        #[arg(long)]
        incident: Option<String>,
    },
    /// Send again what was given up.
    Resend {
        /// Its id.
        message: String,
    },
}

#[derive(Subcommand)]
pub enum SubscriberCommand {
    /// List subscribers of the status page, newest first.
    List {
        /// pending, active, quarantined or unsubscribed.
        #[arg(long)]
        state: Option<String>,
    },
    /// Add one; it is asked to confirm.
    Add {
        /// An e-mail address, or the URL of a webhook.
        address: String,
        /// Only about this component.
        #[arg(long = "component")]
        components: Vec<String>,
        /// The person has agreed already, and need not confirm.
        #[arg(long)]
        agreed: bool,
    },
    /// End its news.
    End {
        /// Its id.
        subscriber: String,
    },
}

#[derive(Subcommand)]
pub enum TemplateCommand {
    /// List incident templates.
    List,
    /// Print one's text.
    Show {
        /// Its name.
        name: String,
    },
    /// Save a file as the next version of the template that it names.
    Put {
        /// The file, YAML.
        file: PathBuf,
        /// The template's name.
        name: String,
    },
    /// Print what every channel would say.
    Preview {
        /// Its name.
        name: String,
        /// A value for one of its gaps.
        #[arg(long = "var", value_name = "NAME=VALUE")]
        vars: Vec<String>,
    },
    /// Remove what was written here; a shipped one of that name counts again.
    Remove {
        /// Its name.
        name: String,
    },
}

pub async fn channel(client: Client, command: ChannelCommand) -> Outcome {
    match command {
        ChannelCommand::List => {
            let row = |one: &Value| {
                let topics = one.get("topics").and_then(Value::as_array).into_iter().flatten();
                let topics: Vec<&str> = topics.filter_map(Value::as_str).collect();
                vec![
                    text(one, "/key"),
                    text(one, "/name"),
                    text(one, "/to/kind"),
                    topics.join(", "),
                    text(one, "/disabled_why"),
                ]
            };
            show(&client, "/channels", &["KEY", "NAME", "KIND", "HEARS OF", "OFF"], row).await
        }
        ChannelCommand::Put { key, file } => {
            let body: Value = serde_json::from_str(&read(&file)?)
                .map_err(|error| Failure::with_code(2, format!("{}: {error}", file.display())))?;
            let made = client.send(Method::PUT, &format!("/channels/{key}"), Some(body)).await?;
            done(&client, &made, &format!("{key} is set up; test it"));
            Ok(())
        }
        ChannelCommand::Test { key } => {
            let sent = client.send(Method::POST, &format!("/channels/{key}/test"), None).await?;
            done(&client, &sent, &format!("a test is on its way: {}", text(&sent, "/message")));
            Ok(())
        }
        ChannelCommand::Remove { key } => {
            client.send(Method::DELETE, &format!("/channels/{key}"), None).await?;
            done(&client, &Value::Null, &format!("{key} is gone"));
            Ok(())
        }
    }
}

pub async fn message(client: Client, command: MessageCommand) -> Outcome {
    match command {
        MessageCommand::List { state, channel, incident } => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in [("state", state), ("channel", channel), ("incident", incident)] {
                if let Some(value) = value {
                    query.append_pair(name, &value);
                }
            }
            let path = format!("/messages?{}", query.finish());
            let row = |one: &Value| {
                let to = Some(text(one, "/address")).filter(|to| !to.is_empty());
                vec![
                    text(one, "/id"),
                    to.unwrap_or_else(|| text(one, "/channel")),
                    text(one, "/state"),
                    text(one, "/attempts"),
                    text(one, "/error"),
                    when(one, "/at"),
                ]
            };
            show(&client, &path, &["ID", "TO", "STATE", "ATTEMPTS", "WHY", "SAID"], row).await
        }
        MessageCommand::Resend { message } => {
            client.send(Method::POST, &format!("/messages/{message}/resend"), None).await?;
            done(&client, &Value::Null, "it is on its way again");
            Ok(())
        }
    }
}

pub async fn subscriber(client: Client, command: SubscriberCommand) -> Outcome {
    match command {
        SubscriberCommand::List { state } => {
            let path = match state {
                Some(state) => format!("/subscribers?state={state}"),
                None => "/subscribers".to_owned(),
            };
            let row = |one: &Value| {
                vec![
                    text(one, "/id"),
                    text(one, "/address"),
                    text(one, "/mode"),
                    text(one, "/state"),
                    when(one, "/created_at"),
                ]
            };
            show(&client, &path, &["ID", "ADDRESS", "BY", "STATE", "ASKED"], row).await
        }
        SubscriberCommand::Add { address, components, agreed } => {
            let mode = if address.contains("://") { "webhook" } else { "email" };
            let body = json!({
                "mode": mode, "address": address, "components": components, "skip_confirmation": agreed,
            });
            let made = client.send(Method::POST, "/subscribers", Some(body)).await?;
            let what = if agreed { "gets news" } else { "is asked to confirm" };
            done(&client, &made, &format!("{address} {what}"));
            Ok(())
        }
        SubscriberCommand::End { subscriber } => {
            let body = Some(json!({"state": "unsubscribed"}));
            let path = format!("/subscribers/{subscriber}");
            let made = client.send(Method::PATCH, &path, body).await?;
            done(&client, &made, &format!("{} gets no more news", text(&made, "/address")));
            Ok(())
        }
    }
}

pub async fn template(client: Client, command: TemplateCommand) -> Outcome {
    match command {
        TemplateCommand::List => {
            let row = |one: &Value| {
                ["/name", "/title", "/status", "/impact", "/version"]
                    .map(|at| text(one, at))
                    .to_vec()
            };
            let heads = ["NAME", "SAYS", "BEGINS AS", "IMPACT", "VERSION"];
            show(&client, "/incident-templates", &heads, row).await
        }
        TemplateCommand::Show { name } => {
            let one = client.get(&format!("/incident-templates/{name}")).await?;
            done(&client, &one, text(&one, "/source").trim_end());
            Ok(())
        }
        TemplateCommand::Put { file, name } => {
            let body = Some(json!({"source": read(&file)?}));
            let path = format!("/incident-templates/{name}");
            let made = client.send(Method::PUT, &path, body).await?;
            done(
                &client,
                &made,
                &format!("{name} is saved as version {}", text(&made, "/version")),
            );
            Ok(())
        }
        TemplateCommand::Preview { name, vars } => {
            let body = Some(json!({"vars": pairs("--var", vars)?}));
            let path = format!("/incident-templates/{name}/preview");
            let shown = client.send(Method::POST, &path, body).await?;
            let says = [
                ("status page", "/title", "/body"),
                ("e-mail", "/says/email/subject", "/says/email/text"),
                ("in the app", "/says/in_app/title", "/says/in_app/message"),
                ("chat", "", "/says/chat"),
                ("support", "", "/says/support"),
            ];
            let parts = says.iter().filter(|(_, _, body)| !text(&shown, body).is_empty());
            let lines = parts.map(|(channel, title, body)| {
                let title = if title.is_empty() { String::new() } else { text(&shown, title) };
                format!("[{channel}] {title}\n{}\n", text(&shown, body).trim_end())
            });
            let lines: Vec<String> = lines.collect();
            done(&client, &shown, lines.join("\n").trim_end());
            Ok(())
        }
        TemplateCommand::Remove { name } => {
            client.send(Method::DELETE, &format!("/incident-templates/{name}"), None).await?;
            done(&client, &Value::Null, &format!("what was written here of {name} is gone"));
            Ok(())
        }
    }
}

async fn show(
    client: &Client,
    path: &str,
    heads: &[&'static str],
    row: impl Fn(&Value) -> Vec<String>,
) -> Outcome {
    let all = client.list(path).await?;
    if client.json {
        say(json!(all).to_string());
    } else {
        table(heads, all.iter().map(row));
    }
    Ok(())
}

fn done(client: &Client, made: &Value, line: &str) {
    say(if client.json && !made.is_null() { made.to_string() } else { line.to_owned() });
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::with_code(2, format!("{} cannot be read: {error}", file.display()))
    })
}
