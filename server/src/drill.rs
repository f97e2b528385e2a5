//! `switchback drill ...`: the drill is watched to its end; the exit code says whether it passed.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, table, text, when};
use super::playbook::parse_inputs;
use super::{Failure, Outcome, say};

/// How often a drill is looked at while it goes on.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Rehearse a playbook for real: in a sandbox environment, against copies of its data sources. Exit code 4: it failed.
#[derive(clap::Args)]
pub struct Command {
    /// The playbook; without one, drills are listed.
    playbook: Option<String>,
    /// The environment whose flags the sandbox begins with.
    #[arg(long, short, default_value = "production")]
    env: String,
    /// A value for an input, as `name=value`; may be repeated. Others have samples.
    #[arg(long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
}

pub async fn run(client: Client, command: Command) -> Outcome {
    let Some(playbook) = command.playbook else { return list(&client).await };
    let body = json!({"environment": command.env, "inputs": parse_inputs(&command.inputs)?});
    let drill =
        client.send(Method::POST, &format!("/playbooks/{playbook}/drills"), Some(body)).await?;
    watch(&client, &text(&drill, "/id")).await
}

async fn list(client: &Client) -> Outcome {
    let found = client.get("/drills").await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let row = |drill: &Value| {
        vec![
            text(drill, "/playbook"),
            text(drill, "/state"),
            when(drill, "/started_at"),
            seconds(drill, "/took_ms"),
            text(drill, "/requested_by"),
            text(drill, "/message"),
        ]
    };
    let drills = found.as_array().cloned().unwrap_or_default();
    table(&["PLAYBOOK", "STATE", "STARTED", "TOOK", "BY", "WHY"], drills.iter().map(row));
    Ok(())
}

async fn watch(client: &Client, id: &str) -> Outcome {
    let mut said = String::new();
    loop {
        let drill = client.get(&format!("/drills/{id}")).await?;
        let state = text(&drill, "/state");
        if state != said && !client.json {
            match state.as_str() {
                "preparing" => say("copying flags and data sources"),
                "running" => say("running it in the sandbox"),
                "undoing" => say("taking it back"),
                _ => {}
            }
        }
        said.clone_from(&state);
        if drill.pointer("/finished_at").is_some_and(Value::is_number) {
            if client.json {
                say(drill.to_string());
            } else {
                steps(client, &drill).await?;
            }
            return if state == "passed" {
                if !client.json {
                    say(format!(
                        "passed: {} of the {} that it may take; taken back in {}, copied in {}",
                        seconds(&drill, "/took_ms"),
                        seconds(&drill, "/objective_ms"),
                        seconds(&drill, "/undo_ms"),
                        seconds(&drill, "/copy_ms")
                    ));
                }
                Ok(())
            } else {
                Err(Failure::with_code(
                    4,
                    format!("the drill failed: {}", text(&drill, "/message")),
                ))
            };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Each step with its time.
async fn steps(client: &Client, drill: &Value) -> Outcome {
    let run = text(drill, "/run_id");
    if run.is_empty() {
        return Ok(());
    }
    let detail = client.get(&format!("/runs/{run}")).await?;
    let list = |pointer: &str| {
        detail.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    for (step, seen) in list("/plan/steps").iter().zip(&list("/view/steps")) {
        let times = seen.pointer("/started_at").and_then(Value::as_i64);
        let took = times.zip(seen.pointer("/last_at").and_then(Value::as_i64));
        let took = took
            .map(|(from, to)| format!("{:.2} s", (to - from) as f64 / 1000.0))
            .unwrap_or_default();
        say(format!("  {took:>9}  {:<10} {}", text(seen, "/state"), text(step, "/title")));
    }
    Ok(())
}

fn seconds(value: &Value, pointer: &str) -> String {
    let ms = value.pointer(pointer).and_then(Value::as_i64);
    ms.map_or_else(|| "–".to_owned(), |ms| format!("{:.2} s", ms as f64 / 1000.0))
}
