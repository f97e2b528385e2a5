//! `switchback token ...`

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::{Outcome, say};

#[derive(Subcommand)]
pub enum Command {
    /// List tokens, without their texts.
    List,
    /// Make a token; its text is printed once.
    Create {
        /// What it is for.
        name: String,
        /// server, browser or api.
        #[arg(long, default_value = "server")]
        kind: String,
        /// The environment; API tokens may leave it out.
        #[arg(long, short)]
        env: Option<String>,
        /// Only this project.
        #[arg(long)]
        project: Option<String>,
        /// For API tokens: viewer, editor, operator or admin.
        #[arg(long, default_value = "viewer")]
        role: String,
    },
    /// Revoke a token at once.
    Revoke {
        /// The token's id.
        id: String,
    },
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List => {
            let tokens = client.list("/tokens").await?;
            if client.json {
                say(Value::Array(tokens).to_string());
                return Ok(());
            }
            let row = |token: &Value| {
                let revoked = when(token, "/revoked_at");
                vec![
                    text(token, "/id"),
                    text(token, "/name"),
                    text(token, "/kind"),
                    text(token, "/hint"),
                    when(token, "/last_used_at"),
                    if revoked.is_empty() { "active".to_owned() } else { "revoked".to_owned() },
                ]
            };
            table(&["ID", "NAME", "KIND", "TOKEN", "LAST USED", "STATE"], tokens.iter().map(row));
            Ok(())
        }
        Command::Create { name, kind, env, project, role } => {
            let mut body = json!({"name": name, "kind": kind, "environment": env, "project": project, "role": role});
            if let Some(object) = body.as_object_mut() {
                object.retain(|_, value| !value.is_null());
            }
            let made = client.send(Method::POST, "/tokens", Some(body)).await?;
            if client.json {
                say(made.to_string());
            } else {
                say(text(&made, "/token"));
            }
            Ok(())
        }
        Command::Revoke { id } => {
            client.send(Method::DELETE, &format!("/tokens/{id}"), None).await?;
            say(format!("{id} is revoked; its sockets are closed"));
            Ok(())
        }
    }
}
