//! `switchback component ...`

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::{Outcome, say};

#[derive(Subcommand)]
pub enum Command {
    /// List components, in their order.
    List,
    /// Make one, or change what is given of it.
    Put {
        /// Its permanent name: a-z, 0-9, - and _.
        key: String,
        /// What customers call it.
        #[arg(long)]
        name: Option<String>,
        /// What it is.
        #[arg(long)]
        description: Option<String>,
        /// The group that it stands in; empty: in none.
        #[arg(long)]
        group: Option<String>,
        /// The page shows it only while it is in trouble.
        #[arg(long, value_name = "true|false")]
        only_in_trouble: Option<bool>,
    },
    /// Say how one is, outside an incident.
    Set {
        /// The component.
        key: String,
        /// How it is now.
        #[arg(value_parser = ["operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"])]
        status: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
    /// Put components in an order; those not named follow.
    Order {
        /// Their keys, the first first.
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Remove one with its past.
    Remove {
        /// The component.
        key: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
    /// List groups.
    Groups,
    /// Make a group, or change what is given of it.
    PutGroup {
        /// Its permanent name.
        key: String,
        /// What customers call it.
        #[arg(long)]
        name: Option<String>,
        /// What it is.
        #[arg(long)]
        description: Option<String>,
        /// Where it stands among the groups.
        #[arg(long, allow_negative_numbers = true)]
        position: Option<i64>,
    },
    /// Remove a group that holds no component.
    RemoveGroup {
        /// The group.
        key: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List => list(&client).await,
        Command::Put { key, name, description, group, only_in_trouble } => {
            let all = client.list("/components").await?;
            let known = find(&all, &key);
            let group = match group {
                Some(group) => Some(group).filter(|group| !group.is_empty()),
                None => known.and_then(|one| one.get("group")?.as_str()).map(str::to_owned),
            };
            let position = known.and_then(|one| one.get("position")?.as_i64());
            let hides = known.and_then(|one| one.get("only_show_if_degraded")?.as_bool());
            let body = json!({
                "name": name.unwrap_or_else(|| or(known, "/name", &key)),
                "description": description.unwrap_or_else(|| or(known, "/description", "")),
                "position": position.unwrap_or(all.len() as i64),
                "group": group,
                "only_show_if_degraded": only_in_trouble.or(hides).unwrap_or(false),
            });
            let made = client.send(Method::PUT, &format!("/components/{key}"), Some(body)).await?;
            tell(&client, &made, &format!("{key} is on the status page"));
            Ok(())
        }
        Command::Set { key, status, reason } => {
            let body = json!({"status": status, "reason": reason});
            client.send(Method::PUT, &format!("/components/{key}/status"), Some(body)).await?;
            say(format!("{key} is {}", status.replace('_', " ")));
            Ok(())
        }
        Command::Order { keys } => {
            let body = json!({"components": keys});
            client.send(Method::PUT, "/component-order", Some(body)).await?;
            list(&client).await
        }
        Command::Remove { key, reason } => remove(&client, "components", &key, &reason).await,
        Command::Groups => {
            let all = client.list("/component-groups").await?;
            if client.json {
                say(json!(all).to_string());
                return Ok(());
            }
            let row = |one: &Value| {
                ["/key", "/name", "/position", "/description"].map(|at| text(one, at)).to_vec()
            };
            table(&["KEY", "NAME", "PLACE", "WHAT"], all.iter().map(row));
            Ok(())
        }
        Command::PutGroup { key, name, description, position } => {
            let all = client.list("/component-groups").await?;
            let known = find(&all, &key);
            let place = known.and_then(|one| one.get("position")?.as_i64());
            let body = json!({
                "name": name.unwrap_or_else(|| or(known, "/name", &key)),
                "description": description.unwrap_or_else(|| or(known, "/description", "")),
                "position": position.or(place).unwrap_or(all.len() as i64),
            });
            let path = format!("/component-groups/{key}");
            let made = client.send(Method::PUT, &path, Some(body)).await?;
            tell(&client, &made, &format!("the group {key} is kept"));
            Ok(())
        }
        Command::RemoveGroup { key, reason } => {
            remove(&client, "component-groups", &key, &reason).await
        }
    }
}

async fn list(client: &Client) -> Outcome {
    let all = client.list("/components").await?;
    if client.json {
        say(json!(all).to_string());
        return Ok(());
    }
    let row = |one: &Value| {
        vec![
            text(one, "/key"),
            text(one, "/name"),
            text(one, "/status").replace('_', " "),
            text(one, "/group"),
            when(one, "/updated_at"),
        ]
    };
    table(&["KEY", "NAME", "IS", "GROUP", "SINCE"], all.iter().map(row));
    Ok(())
}

async fn remove(client: &Client, kind: &str, key: &str, reason: &str) -> Outcome {
    let query =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("reason", reason).finish();
    client.send(Method::DELETE, &format!("/{kind}/{key}?{query}"), None).await?;
    say(format!("{key} is gone"));
    Ok(())
}

fn find<'a>(all: &'a [Value], key: &str) -> Option<&'a Value> {
    all.iter().find(|one| one.get("key").and_then(Value::as_str) == Some(key))
}

fn or(known: Option<&Value>, pointer: &str, otherwise: &str) -> String {
    known.map_or_else(|| otherwise.to_owned(), |one| text(one, pointer))
}

fn tell(client: &Client, made: &Value, line: &str) {
    say(if client.json { made.to_string() } else { line.to_owned() });
}
