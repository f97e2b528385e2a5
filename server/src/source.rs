//! `switchback source ...`

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::{Failure, Outcome, say};

#[derive(Subcommand)]
pub enum Command {
    /// List data sources, without their credentials.
    List,
    /// Connect to one and ask it one question; fails when it does not answer.
    Test {
        /// The data source.
        name: String,
    },
    /// Make or change one.
    Set(Box<Wanted>),
    /// Mirror an environment's flags into one, so that its SQL and its row-level-security policies can read them.
    Mirror {
        /// The data source; it must allow writing.
        name: String,
        /// The environment.
        #[arg(long, short, conflicts_with = "off", required_unless_present = "off")]
        env: Option<String>,
        /// Take the mirror away.
        #[arg(long)]
        off: bool,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
    /// Forget one; the database itself is not touched.
    Remove {
        /// The data source.
        name: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
}

#[derive(clap::Args)]
pub struct Wanted {
    /// Its name: a-z, 0-9, - and _.
    name: String,
    /// Where its address is: env:NAME, or file:/path.
    #[arg(long, value_name = "env:NAME|file:PATH")]
    credentials: String,
    /// What it is.
    #[arg(long, default_value = "")]
    description: String,
    /// It may be written to.
    #[arg(long)]
    write: bool,
    /// Connections at most.
    #[arg(long)]
    connections_max: Option<u32>,
    /// How long a statement may run, in milliseconds.
    #[arg(long)]
    statement_timeout_ms: Option<u64>,
    /// How long a statement may wait for a lock, in milliseconds.
    #[arg(long)]
    lock_timeout_ms: Option<u64>,
    /// Rows that a query may give.
    #[arg(long)]
    rows_max: Option<u64>,
    /// Where the address of another PostgreSQL server is whose databases prove backups.
    #[arg(long, value_name = "env:NAME|file:PATH")]
    scratch: Option<String>,
    /// Why.
    #[arg(long, short, default_value = "")]
    reason: String,
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List => list(&client).await,
        Command::Test { name } => test(&client, &name).await,
        Command::Set(wanted) => set(&client, *wanted).await,
        Command::Mirror { name, env, off: _, reason } => {
            let body = json!({"environment": env, "reason": reason});
            client.send(Method::PUT, &format!("/data-sources/{name}/mirror"), Some(body)).await?;
            say(match env {
                Some(env) => format!("the flags of {env} are mirrored into {name}"),
                None => format!("{name} holds no mirror of flags any more"),
            });
            Ok(())
        }
        Command::Remove { name, reason } => {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("reason", &reason)
                .finish();
            client.send(Method::DELETE, &format!("/data-sources/{name}?{query}"), None).await?;
            say(format!("{name} is forgotten; the database itself is as it was"));
            Ok(())
        }
    }
}

async fn list(client: &Client) -> Outcome {
    let found = client.get("/data-sources").await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let row = |source: &Value| {
        vec![
            text(source, "/settings/name"),
            text(source, "/settings/access").replace('_', "-"),
            text(source, "/settings/credentials"),
            text(source, "/settings/description"),
            when(source, "/updated_at"),
        ]
    };
    let sources = found.as_array().cloned().unwrap_or_default();
    table(&["NAME", "ACCESS", "CREDENTIALS", "WHAT", "CHANGED"], sources.iter().map(row));
    Ok(())
}

async fn test(client: &Client, name: &str) -> Outcome {
    let found =
        client.send(Method::POST, &format!("/data-sources/{name}/test"), Some(json!({}))).await?;
    if client.json {
        say(found.to_string());
    }
    if found.pointer("/ok") != Some(&json!(true)) {
        return Err(Failure::new(format!("{name} does not answer: {}", text(&found, "/message"))));
    }
    if !client.json {
        let (dialect, version) = (text(&found, "/tested/dialect"), text(&found, "/tested/version"));
        say(format!(
            "{name} answers: {dialect} {version}, in {} ms",
            text(&found, "/tested/took_ms")
        ));
        for warning in
            found.pointer("/tested/warnings").and_then(Value::as_array).into_iter().flatten()
        {
            say(format!("note: {}", warning.as_str().unwrap_or_default()));
        }
    }
    Ok(())
}

async fn set(client: &Client, wanted: Wanted) -> Outcome {
    let Wanted { name, credentials, description, write, reason, .. } = &wanted;
    let access = if *write { "read_write" } else { "read_only" };
    let mut settings = json!({"name": name, "credentials": credentials, "description": description, "access": access});
    let limits = [
        ("connections_max", wanted.connections_max.map(u64::from)),
        ("statement_timeout_ms", wanted.statement_timeout_ms),
        ("lock_timeout_ms", wanted.lock_timeout_ms),
        ("rows_max", wanted.rows_max),
    ];
    if let Some(object) = settings.as_object_mut() {
        let given = limits.into_iter().filter_map(|(field, value)| Some((field, value?)));
        object.extend(given.map(|(field, value)| (field.to_owned(), json!(value))));
        object.extend(wanted.scratch.as_ref().map(|place| ("scratch".to_owned(), json!(place))));
    }
    let body = json!({"settings": settings, "reason": reason});
    let made = client.send(Method::PUT, &format!("/data-sources/{name}"), Some(body)).await?;
    if client.json {
        say(made.to_string());
    } else {
        say(format!("{name} is set; try it with: switchback source test {name}"));
    }
    Ok(())
}
