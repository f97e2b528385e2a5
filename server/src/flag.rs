//! `switchback flag ...`

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::{Failure, Outcome, say};

#[derive(Subcommand)]
pub enum Command {
    /// List flags.
    List {
        /// The environment.
        #[arg(long, short, default_value = "production")]
        env: String,
        /// In key, description, owner or tags.
        #[arg(long)]
        text: Option<String>,
        /// on, off, killed, expiring, stale or archived.
        #[arg(long)]
        state: Option<String>,
    },
    /// Show one flag's state as JSON.
    Get(Which),
    /// Switch a flag on for everybody whom its rules let in.
    On(Change),
    /// Switch a flag off for everybody.
    Off(Change),
    /// Kill a flag: off, whatever its rules say.
    Kill(Change),
    /// Lift a kill.
    Unkill(Change),
    /// Set the share of a rule.
    Rollout {
        #[command(flatten)]
        change: Change,
        /// 0 to 100, in steps of 0.001.
        percent: f64,
        /// The rule, when there are several.
        #[arg(long)]
        rule: Option<String>,
    },
    /// Archive a flag in every environment; apps that still ask for it get their own default.
    Archive(Everywhere),
    /// Bring an archived flag back, in every environment as it was there.
    Unarchive(Everywhere),
    /// Revisions, newest first.
    History(Which),
    /// Put a flag back to what it was at a revision.
    Restore {
        #[command(flatten)]
        change: Change,
        /// The environment's revision.
        #[arg(long)]
        revision: u64,
    },
}

#[derive(clap::Args)]
pub struct Which {
    /// The flag's key.
    key: String,
    /// The environment.
    #[arg(long, short, default_value = "production")]
    env: String,
}

#[derive(clap::Args)]
pub struct Everywhere {
    /// The flag's key.
    key: String,
    /// Why.
    #[arg(long, short, default_value = "")]
    reason: String,
}

#[derive(clap::Args)]
pub struct Change {
    #[command(flatten)]
    which: Which,
    /// Why; protected environments want to know.
    #[arg(long, short, default_value = "")]
    reason: String,
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List { env, text: filter, state } => list(&client, &env, filter, state).await,
        Command::Get(which) => {
            let flag = client.get(&path(&which, "")).await?;
            say(serde_json::to_string_pretty(&flag).unwrap_or_default());
            Ok(())
        }
        Command::On(change) => put(&client, &change, "enabled", json!({"enabled": true})).await,
        Command::Off(change) => put(&client, &change, "enabled", json!({"enabled": false})).await,
        Command::Kill(change) => put(&client, &change, "killed", json!({"killed": true})).await,
        Command::Unkill(change) => put(&client, &change, "killed", json!({"killed": false})).await,
        Command::Rollout { change, percent, rule } => {
            put(&client, &change, "rollout", json!({"percent": percent, "rule": rule})).await
        }
        Command::Archive(Everywhere { key, reason }) => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            let query = query.append_pair("reason", &reason).finish();
            client.send(Method::DELETE, &format!("/flags/{key}?{query}"), None).await?;
            say(format!("{key} is archived in every environment"));
            Ok(())
        }
        Command::Unarchive(Everywhere { key, reason }) => {
            let body = Some(json!({"reason": reason}));
            client.send(Method::POST, &format!("/flags/{key}/unarchive"), body).await?;
            say(format!("{key} is back in every environment, as it was"));
            Ok(())
        }
        Command::History(which) => history(&client, &which).await,
        Command::Restore { change, revision } => {
            let body = json!({"revision": revision, "reason": change.reason});
            let url = path(&change.which, "/restore");
            let done = client.send(Method::POST, &url, Some(body)).await?;
            receipt(&client, &change, &done).await
        }
    }
}

fn path(which: &Which, rest: &str) -> String {
    format!("/environments/{}/flags/{}{rest}", which.env, which.key)
}

async fn list(
    client: &Client,
    env: &str,
    filter: Option<String>,
    state: Option<String>,
) -> Outcome {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in [("text", filter), ("state", state)] {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    let query = query.finish();
    let flags = client.list(&format!("/environments/{env}/flags?{query}")).await?;
    if client.json {
        say(Value::Array(flags).to_string());
        return Ok(());
    }
    let row = |flag: &Value| {
        let is = |pointer: &str| flag.pointer(pointer) == Some(&Value::Bool(true));
        let state = match (is("/state/killed"), is("/state/enabled")) {
            (true, _) => "killed",
            (_, true) => "on",
            _ => "off",
        };
        vec![
            text(flag, "/flag/key"),
            state.to_owned(),
            text(flag, "/state/rules/0/percent"),
            text(flag, "/flag/kind"),
            text(flag, "/revision"),
            when(flag, "/updated_at"),
            text(flag, "/updated_by"),
        ]
    };
    let heads = ["FLAG", "STATE", "PERCENT", "KIND", "REVISION", "CHANGED", "BY"];
    table(&heads, flags.iter().map(row));
    Ok(())
}

async fn put(client: &Client, change: &Change, what: &str, mut body: Value) -> Outcome {
    if let Some(object) = body.as_object_mut() {
        object.insert("reason".to_owned(), json!(change.reason));
        object.retain(|_, value| !value.is_null());
    }
    let url = path(&change.which, &format!("/{what}"));
    let done = client.send(Method::PUT, &url, Some(body)).await?;
    receipt(client, change, &done).await
}

/// What was done, and how many clients have it after a moment.
async fn receipt(client: &Client, change: &Change, done: &Value) -> Outcome {
    let revision = done.get("revision").and_then(Value::as_u64).unwrap_or_default();
    let env = &change.which.env;
    let url = format!("/environments/{env}/convergence?revision={revision}");
    let mut found = client.get(&url).await?;
    for _ in 0..20 {
        let count = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or_default();
        if count("acked") >= count("connected") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        found = client.get(&url).await?;
    }
    if client.json {
        say(json!({"change": done, "convergence": found}).to_string());
        return Ok(());
    }
    let key = &change.which.key;
    let changed =
        if done.get("changed") == Some(&Value::Bool(false)) { "was so already" } else { "changed" };
    say(format!(
        "{key} in {env}: {changed}, revision {revision}; {} of {} clients have it",
        text(&found, "/acked"),
        text(&found, "/connected"),
    ));
    Ok(())
}

async fn history(client: &Client, which: &Which) -> Result<(), Failure> {
    let rows = client.list(&path(which, "/history")).await?;
    if client.json {
        say(Value::Array(rows).to_string());
        return Ok(());
    }
    for row in &rows {
        say(format!(
            "r{} {} {} by {} {}",
            text(row, "/change/revision"),
            when(row, "/change/at"),
            text(row, "/change/action"),
            text(row, "/change/actor"),
            text(row, "/change/reason"),
        ));
        for line in row.get("differences").and_then(Value::as_array).into_iter().flatten() {
            let (before, after) = (text(line, "/before"), text(line, "/after"));
            say(format!("    {}: {before} -> {after}", text(line, "/path")));
        }
    }
    Ok(())
}
