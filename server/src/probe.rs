//! `switchback probe ...`

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::{Failure, Outcome, say};

#[derive(Subcommand)]
pub enum Command {
    /// List probes with what they found last.
    List,
    /// What one found, the newest first.
    Results {
        /// The probe.
        name: String,
    },
    /// Look once, now; fails when something is wrong. Nothing is kept.
    Test {
        /// The probe.
        name: String,
    },
    /// Make or change one.
    Put(Box<Wanted>),
    /// Remove one with its results.
    Remove {
        /// The probe.
        name: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("check").required(true))]
pub struct Wanted {
    /// Its name: a-z, 0-9, - and _.
    name: String,
    /// The component that it looks at.
    #[arg(long)]
    component: String,
    /// Ask this address.
    #[arg(long, group = "check", value_name = "URL")]
    http: Option<String>,
    /// Open a connection.
    #[arg(long, group = "check", value_name = "HOST:PORT")]
    tcp: Option<String>,
    /// Ask this data source.
    #[arg(long, group = "check", value_name = "SOURCE", requires = "query")]
    sql: Option<String>,
    /// Sign in here.
    #[arg(long, group = "check", value_name = "URL", requires = "credentials")]
    login: Option<String>,
    /// Sign in by the steps of this file, a JSON list.
    #[arg(long, group = "check", value_name = "FILE")]
    login_flow: Option<std::path::PathBuf>,
    /// Sign-ins count among the logins of this environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    count_in: Option<String>,
    /// The query of --sql.
    #[arg(long)]
    query: Option<String>,
    /// Where name:password for --login and --login-flow is.
    #[arg(long, value_name = "env:NAME|file:PATH")]
    credentials: Option<String>,
    /// --login posts a form instead of JSON.
    #[arg(long)]
    form: bool,
    /// A status that is well; several times for several.
    #[arg(long)]
    status: Vec<u16>,
    /// A text that the answer holds.
    #[arg(long, default_value = "")]
    text: String,
    /// From one look to the next, in seconds.
    #[arg(long, default_value_t = 60)]
    interval: u64,
    /// How long a look may take, in milliseconds.
    #[arg(long, default_value_t = 5_000)]
    timeout_ms: u64,
    /// Failures in a row after which the component moves.
    #[arg(long, default_value_t = 3)]
    failures: u64,
    /// Successes in a row after which it moves back.
    #[arg(long, default_value_t = 2)]
    successes: u64,
    /// Where the component moves to.
    #[arg(long, default_value = "major_outage", value_parser = ["degraded_performance", "partial_outage", "major_outage"])]
    state: String,
    /// It does not look for now.
    #[arg(long)]
    off: bool,
    /// Why.
    #[arg(long, short, default_value = "")]
    reason: String,
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List => list(&client).await,
        Command::Results { name } => results(&client, &name).await,
        Command::Test { name } => {
            let path = format!("/probes/{name}/test");
            let found = client.send(Method::POST, &path, Some(json!({}))).await?;
            let line = format!("{}, in {} ms", text(&found, "/said"), text(&found, "/took_ms"));
            if client.json {
                say(found.to_string());
            }
            if found.get("is_good") != Some(&Value::Bool(true)) {
                return Err(Failure::new(format!("{name}: {line}")));
            }
            if !client.json {
                say(format!("{name}: {line}"));
            }
            Ok(())
        }
        Command::Put(wanted) => put(&client, *wanted).await,
        Command::Remove { name, reason } => {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("reason", &reason)
                .finish();
            client.send(Method::DELETE, &format!("/probes/{name}?{query}"), None).await?;
            say(format!("{name} is gone"));
            Ok(())
        }
    }
}

async fn put(client: &Client, wanted: Wanted) -> Outcome {
    let Wanted { name, status, text, .. } = &wanted;
    let mut check = if let Some(url) = &wanted.http {
        json!({"kind": "http", "url": url, "status": status})
    } else if let Some(address) = &wanted.tcp {
        json!({"kind": "tcp", "address": address})
    } else if let Some(source) = &wanted.sql {
        json!({"kind": "sql", "source": source, "query": wanted.query})
    } else if let Some(file) = &wanted.login_flow {
        let unread = |error: String| {
            Failure::with_code(2, format!("{} cannot be read: {error}", file.display()))
        };
        let text = std::fs::read_to_string(file).map_err(|error| unread(error.to_string()))?;
        let steps: Value =
            serde_json::from_str(&text).map_err(|error| unread(error.to_string()))?;
        json!({"kind": "login_flow", "steps": steps, "credentials": wanted.credentials})
    } else {
        json!({"kind": "login", "url": wanted.login, "credentials": wanted.credentials,
            "is_form": wanted.form, "status": status})
    };
    if let (Some(check), Some(environment)) = (check.as_object_mut(), &wanted.count_in) {
        check.insert("environment".to_owned(), json!(environment));
    }
    if let Some(check) = check.as_object_mut().filter(|_| !text.is_empty()) {
        check.insert("text".to_owned(), json!(text));
    }
    let settings = json!({
        "name": name, "component": wanted.component, "check": check, "interval_s": wanted.interval,
        "timeout_ms": wanted.timeout_ms, "failures": wanted.failures, "successes": wanted.successes,
        "state": wanted.state, "is_enabled": !wanted.off,
    });
    let body = json!({"settings": settings, "reason": wanted.reason});
    let made = client.send(Method::PUT, &format!("/probes/{name}"), Some(body)).await?;
    say(if client.json {
        made.to_string()
    } else {
        format!("{name} is set; try it with: switchback probe test {name}")
    });
    Ok(())
}

async fn list(client: &Client) -> Outcome {
    let found = client.get("/probes").await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let is = |one: &Value, at: &str| one.pointer(at) == Some(&Value::Bool(true));
    let row = |one: &Value| {
        let state = match (is(one, "/settings/is_enabled"), is(one, "/is_down")) {
            (false, _) => "off",
            (true, true) => "down",
            (true, false) => "up",
        };
        vec![
            text(one, "/settings/name"),
            text(one, "/settings/component"),
            text(one, "/settings/check/kind"),
            state.to_owned(),
            text(one, "/last/said"),
            when(one, "/last/at"),
        ]
    };
    let all = found.as_array().cloned().unwrap_or_default();
    table(&["NAME", "COMPONENT", "KIND", "IS", "SAID LAST", "AT"], all.iter().map(row));
    Ok(())
}

async fn results(client: &Client, name: &str) -> Outcome {
    let found = client.get(&format!("/probes/{name}")).await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let row = |one: &Value| {
        let is_good = one.get("is_good") == Some(&Value::Bool(true));
        let word = if is_good { "good" } else { "bad" };
        vec![when(one, "/at"), word.to_owned(), text(one, "/took_ms"), text(one, "/said")]
    };
    let all = found.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
    table(&["AT", "IS", "MS", "SAID"], all.iter().map(row));
    Ok(())
}
