//! `switchback backup ...`: a backup and its proof are runs, shown live.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::{Outcome, playbook, say};

#[derive(Subcommand)]
pub enum Command {
    /// List a data source's backups, newest first.
    List {
        /// The data source.
        source: String,
    },
    /// Take a backup and watch it. Exit codes are those of `playbook run`.
    Take {
        /// The data source.
        source: String,
        /// How long to keep it, such as 30d.
        #[arg(long)]
        keep: Option<String>,
        /// Restore it elsewhere at once.
        #[arg(long)]
        verify: bool,
        #[command(flatten)]
        run: RunOptions,
    },
    /// Restore the newest backup elsewhere, and watch it.
    Verify {
        /// The data source.
        source: String,
        #[command(flatten)]
        run: RunOptions,
    },
}

#[derive(clap::Args)]
pub struct RunOptions {
    /// The environment that the run belongs to; production, or the first one, when not given.
    #[arg(long, short)]
    env: Option<String>,
    /// Why.
    #[arg(long, short, default_value = "")]
    reason: String,
    /// Print the run's id and return at once.
    #[arg(long)]
    detach: bool,
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List { source } => list(&client, &source).await,
        Command::Take { source, keep, verify, run } => {
            let body = json!({"keep": keep, "verify": verify});
            start(&client, &format!("/data-sources/{source}/backups"), body, run).await
        }
        Command::Verify { source, run } => {
            start(&client, &format!("/data-sources/{source}/backups/verify"), json!({}), run).await
        }
    }
}

async fn start(client: &Client, url: &str, mut body: Value, options: RunOptions) -> Outcome {
    let RunOptions { env, reason, detach } = options;
    if let Some(object) = body.as_object_mut() {
        object.insert("environment".to_owned(), json!(env));
        object.insert("reason".to_owned(), json!(reason));
        object.insert("trigger".to_owned(), json!("cli"));
    }
    let run = client.send(Method::POST, url, Some(body)).await?;
    let id = text(&run, "/id");
    if detach {
        say(id);
        return Ok(());
    }
    playbook::watch(client, &id).await
}

async fn list(client: &Client, source: &str) -> Outcome {
    let found = client.get(&format!("/data-sources/{source}/backups")).await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let row = |backup: &Value| {
        let failure = text(backup, "/failure");
        let verified = if failure.is_empty() { when(backup, "/verified_at") } else { failure };
        vec![
            text(backup, "/file"),
            when(backup, "/created_at"),
            text(backup, "/taken/bytes"),
            verified,
            text(backup, "/proof/restore_ms"),
        ]
    };
    let backups = found.as_array().cloned().unwrap_or_default();
    table(&["FILE", "TAKEN", "BYTES", "VERIFIED", "RESTORE MS"], backups.iter().map(row));
    Ok(())
}
