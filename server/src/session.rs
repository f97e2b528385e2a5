//! `switchback session ...`: who of the app's users is in, for how long, and ending it.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, table, text, when};
use super::{Failure, Outcome, say};

/// Which open sessions.
#[derive(Args)]
pub struct Which {
    /// Of this platform.
    #[arg(long)]
    platform: Option<String>,
    /// Of exactly this version of the app.
    #[arg(long)]
    app_version: Option<String>,
    /// Of versions of the app below this one.
    #[arg(long, value_name = "VERSION")]
    below_version: Option<String>,
    /// From this country.
    #[arg(long)]
    country: Option<String>,
    /// Began before this moment, RFC 3339.
    #[arg(long, value_name = "TIME")]
    started_before: Option<String>,
    /// Began at this moment or later, RFC 3339.
    #[arg(long, value_name = "TIME")]
    started_after: Option<String>,
    /// Without activity for so many minutes.
    #[arg(long, value_name = "MINUTES")]
    idle_minutes: Option<u32>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Who is in, those first who were active last.
    List {
        /// The environment.
        #[arg(long, default_value = "production")]
        env: String,
        #[command(flatten)]
        which: Which,
        /// At most so many, 1 to 500.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// A user's sessions, the newest first.
    History {
        /// The user as the app knows them, or the key that is kept.
        user: String,
        /// The environment.
        #[arg(long, default_value = "production")]
        env: String,
    },
    /// Sessions by day, and how long they were on average.
    Days {
        /// The environment.
        #[arg(long, default_value = "production")]
        env: String,
        /// So many days until today.
        #[arg(long, default_value_t = 30)]
        days: u32,
    },
    /// End sessions; says first how many, and asks.
    Revoke {
        /// The environment.
        #[arg(long, default_value = "production")]
        env: String,
        /// These sessions.
        ids: Vec<String>,
        /// All open ones of this user.
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        which: Which,
        /// Every open session.
        #[arg(long)]
        all: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Only say how many.
        #[arg(long)]
        dry_run: bool,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
}

impl Which {
    fn filter(&self) -> Result<Map<String, Value>, Failure> {
        let at = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => text
                .parse::<jiff::Timestamp>()
                .map(|at| Some(json!(at.as_millisecond())))
                .map_err(|_| {
                    Failure::with_code(
                        2,
                        format!("--{name} is `{text}`; use a time such as 2026-01-31T12:00:00Z"),
                    )
                }),
        };
        let all = [
            ("platform", self.platform.clone().map(Value::from)),
            ("app_version", self.app_version.clone().map(Value::from)),
            ("below_version", self.below_version.clone().map(Value::from)),
            ("country", self.country.clone().map(Value::from)),
            ("started_before", at("started-before", &self.started_before)?),
            ("started_after", at("started-after", &self.started_after)?),
            ("idle_minutes", self.idle_minutes.map(Value::from)),
        ];
        let given = all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Ok(given.collect())
    }
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List { env, which, limit } => list(&client, &env, &which, limit).await,
        Command::History { user, env } => history(&client, &env, &user).await,
        Command::Days { env, days } => by_day(&client, &env, days).await,
        Command::Revoke { env, ids, user, which, all, yes, dry_run, reason } => {
            let filter = which.filter()?;
            let body = match (ids.is_empty(), user, filter.is_empty(), all) {
                (false, None, true, false) => json!({"ids": ids}),
                (true, Some(user), true, false) => json!({"user": user}),
                (true, None, false, false) => json!({"filter": filter}),
                (true, None, true, true) => json!({"filter": {}}),
                _ => {
                    let message = "name sessions, or --user, or conditions, or --all: one of these";
                    return Err(Failure::with_code(2, message));
                }
            };
            let agreed = if dry_run { None } else { Some(yes) };
            revoke(&client, &env, body, agreed, &reason).await
        }
    }
}

async fn list(client: &Client, env: &str, which: &Which, limit: u32) -> Outcome {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    for (name, value) in which.filter()? {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        query.append_pair(&name, &value);
    }
    let path = format!("/environments/{env}/sessions");
    let page = client.get(&format!("{path}?{}", query.finish())).await?;
    let summary = client.get(&format!("{path}/summary")).await?;
    if client.json {
        say(json!({"summary": summary, "sessions": page.get("items"), "next": page.get("next")})
            .to_string());
        return Ok(());
    }
    show(page.get("items"));
    let [open, came] = ["/open", "/came"].map(|at| text(&summary, at));
    say(format!("{open} open in {env}; {came} began in the last 15 minutes"));
    Ok(())
}

async fn history(client: &Client, env: &str, user: &str) -> Outcome {
    let query =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("user", user).finish();
    let all = client.list(&format!("/environments/{env}/sessions?{query}")).await?;
    if client.json {
        say(json!(all).to_string());
        return Ok(());
    }
    show(Some(&json!(all)));
    Ok(())
}

fn show(sessions: Option<&Value>) {
    let row = |one: &Value| {
        let ended = match text(one, "/end_reason") {
            reason if reason.is_empty() => "open".to_owned(),
            reason => reason,
        };
        let names = ["/id", "/user_key", "/platform", "/app_version", "/country", "/device"];
        let mut cells: Vec<String> = names.iter().map(|at| text(one, at)).collect();
        cells.extend([when(one, "/started_at"), when(one, "/last_activity_at"), ended]);
        cells
    };
    let heads =
        ["SESSION", "USER", "PLATFORM", "VERSION", "FROM", "DEVICE", "BEGAN", "ACTIVE", "IS"];
    let all = sessions.and_then(Value::as_array).cloned().unwrap_or_default();
    table(&heads, all.iter().map(row));
}

async fn by_day(client: &Client, env: &str, days: u32) -> Outcome {
    let found = client.get(&format!("/environments/{env}/sessions/days?days={days}")).await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let row = |one: &Value| {
        let day = when(one, "/day");
        let average = one.get("average_seconds").and_then(Value::as_i64);
        let average = average.map_or_else(String::new, |seconds| {
            switchback_http::ui::words::duration(seconds * 1000)
        });
        let day = day.split(' ').next().unwrap_or_default().to_owned();
        vec![day, text(one, "/started"), text(one, "/ended"), average]
    };
    let all = found.as_array().cloned().unwrap_or_default();
    table(&["DAY (UTC)", "BEGAN", "ENDED", "AVERAGE"], all.iter().map(row));
    Ok(())
}

/// `agreed`: nothing is done but counted when absent; false asks.
async fn revoke(
    client: &Client,
    env: &str,
    mut body: Value,
    agreed: Option<bool>,
    reason: &str,
) -> Outcome {
    let path = format!("/environments/{env}/sessions/revoke");
    let mut dry = body.clone();
    put(&mut dry, "dry_run", json!(true));
    let preview = client.send(Method::POST, &path, Some(dry)).await?;
    let matching = preview.get("matching").and_then(Value::as_u64).unwrap_or(0);
    if matching == 0 || agreed.is_none() {
        say(if client.json {
            preview.to_string()
        } else {
            format!("{matching} open sessions in {env} match")
        });
        return Ok(());
    }
    if agreed == Some(false) && !agrees(matching, env)? {
        say("nothing was done");
        return Ok(());
    }
    put(&mut body, "reason", json!(reason));
    put(&mut body, "at_most", json!(matching));
    let mut done = 0;
    loop {
        let said = client.send(Method::POST, &path, Some(body.clone())).await?;
        let revoked = said.get("revoked").and_then(Value::as_u64).unwrap_or(0);
        let left = said.get("left").and_then(Value::as_u64).unwrap_or(0);
        done += revoked;
        if left == 0 || revoked == 0 {
            break;
        }
        if !client.json {
            say(format!("{done} revoked, {left} left"));
        }
    }
    say(if client.json {
        json!({"revoked": done}).to_string()
    } else {
        format!("{done} sessions revoked in {env}; the apps hear of it when they ask")
    });
    Ok(())
}

fn put(body: &mut Value, name: &str, value: Value) {
    if let Some(object) = body.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn agrees(count: u64, env: &str) -> Result<bool, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        let message =
            format!("{count} sessions match, and nobody can be asked here; --yes goes ahead");
        return Err(Failure::with_code(2, message));
    }
    say(format!("end {count} sessions in {env}? Type yes:"));
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}
