//! `switchback playbook ...`: the run is shown live, step by step; the exit code says how it ended.

use std::time::Duration;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, table, text, when};
use super::{Failure, Outcome, approval, preview, record, say};

/// How often the run is looked at while it goes on.
const LOOK_EVERY: Duration = Duration::from_millis(150);

#[derive(Subcommand)]
pub enum Command {
    /// List playbooks.
    List,
    /// Check a file: every problem with line and column.
    Lint {
        /// The YAML file.
        file: std::path::PathBuf,
    },
    /// Run a playbook and watch it. Exit code 0: succeeded; 4: failed, and everything was put back;
    /// 5: failed, and not everything was; 6: cancelled; 7: it waits for a person.
    Run {
        /// The playbook.
        name: String,
        /// The environment.
        #[arg(long, short, default_value = "production")]
        env: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
        /// A value for an input, as `name=value`; may be repeated.
        #[arg(long = "input", value_name = "NAME=VALUE")]
        inputs: Vec<String>,
        /// Show what each step would do and how many clients it would touch; change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Print the run's id and return at once.
        #[arg(long)]
        detach: bool,
        /// Start it without the role that it wants, in an emergency: somebody else reviews it.
        #[arg(long)]
        break_glass: bool,
    },
    /// List runs, newest first.
    Runs {
        /// Only this environment.
        #[arg(long, short)]
        env: Option<String>,
        /// Only those that are not over.
        #[arg(long)]
        active: bool,
    },
    /// Show one run.
    Show {
        /// The run's id.
        run: String,
    },
    /// Print what happened in a run, as Markdown (with --json as JSON).
    Report {
        /// The run's id.
        run: String,
    },
    /// Write what proves, without a server, what the log says of a run: see `switchback log verify FILE`.
    Evidence {
        /// The run's id.
        run: String,
        /// Where to; it is printed when not given.
        #[arg(long, value_name = "FILE")]
        out: Option<std::path::PathBuf>,
    },
    /// Show two runs side by side: steps, durations, what differs.
    Compare {
        /// The run's id.
        run: String,
        /// The other run's id.
        other: String,
    },
    /// Stop a run and put back what it did.
    Cancel {
        /// The run's id.
        run: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
    /// Take a finished run back, by a run of its own, and watch it. Exit codes are those of `run`.
    Undo {
        /// The run's id.
        run: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
        /// Also what somebody else has changed since.
        #[arg(long)]
        force: bool,
        /// Show what each step would do; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Let what a run did stand for longer before it is taken back by itself.
    Renew {
        /// The run's id.
        run: String,
        /// How long from now, such as 2h.
        #[arg(long = "for", value_name = "DURATION")]
        longer: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
    /// Write the playbook that puts back what the newest successful run of this one changed.
    Invert {
        /// The playbook.
        name: String,
        /// The environment.
        #[arg(long, short, default_value = "production")]
        env: String,
        /// This run rather than the newest.
        #[arg(long)]
        run: Option<String>,
        /// Where to write it; standard output when not given.
        #[arg(long, short)]
        out: Option<std::path::PathBuf>,
    },
    /// Say yes (or, with --refuse, no) to a step that waits for people.
    Approve {
        /// The run's id.
        run: String,
        /// The step.
        step: String,
        /// Say no.
        #[arg(long)]
        refuse: bool,
        /// What you want to add.
        #[arg(long, short, default_value = "")]
        comment: String,
    },
    /// Make a link by which a person says yes or no, once, without signing in.
    Link {
        /// The run's id.
        run: String,
        /// The step.
        step: String,
        /// The e-mail by which the person signs in.
        #[arg(long = "for", value_name = "EMAIL")]
        person: String,
    },
    /// Let a step that waits for people go on alone. It stands on the log, and somebody else reviews it.
    BreakGlass {
        /// The run's id.
        run: String,
        /// The step.
        step: String,
        /// Why, in at least 20 characters.
        #[arg(long, short)]
        reason: String,
    },
    /// List uses of break-glass, or say that you have looked at one.
    Reviews {
        /// The use that you have looked at.
        review: Option<String>,
        /// What you found.
        #[arg(long, short, default_value = "", requires = "review")]
        comment: String,
        /// Also those that somebody has looked at.
        #[arg(long)]
        all: bool,
    },
    /// Decide about a parked run.
    Decide {
        /// The run's id.
        run: String,
        /// was_done, redo or undo.
        decision: String,
        /// The parked step.
        #[arg(long, default_value = "")]
        step: String,
        /// What you want to add.
        #[arg(long, short, default_value = "")]
        comment: String,
    },
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List => list(&client).await,
        Command::Lint { file } => lint(&client, &file).await,
        Command::Run { name, env, reason, inputs, dry_run, detach, break_glass } => {
            let inputs = parse_inputs(&inputs)?;
            let body = json!({
                "environment": env, "reason": reason, "inputs": inputs, "trigger": "cli",
                "break_glass": break_glass,
            });
            if dry_run {
                return preview::show(&client, &format!("/playbooks/{name}/preview"), body).await;
            }
            let url = format!("/playbooks/{name}/runs");
            let run = client.send(Method::POST, &url, Some(body)).await?;
            let id = text(&run, "/id");
            if detach {
                say(id);
                return Ok(());
            }
            watch(&client, &id).await
        }
        Command::Runs { env, active } => runs(&client, env, active).await,
        Command::Show { run } => {
            let detail = client.get(&format!("/runs/{run}")).await?;
            if client.json {
                say(serde_json::to_string_pretty(&detail).unwrap_or_default());
                return Ok(());
            }
            say(format!("plan {}", plan_of(&detail)));
            steps_of(&detail).iter().for_each(say);
            outcome(&detail)
        }
        Command::Report { run } => record::report(&client, &run).await,
        Command::Evidence { run, out } => record::evidence(&client, &run, out.as_deref()).await,
        Command::Compare { run, other } => record::compare(&client, &run, &other).await,
        Command::Cancel { run, reason } => {
            let url = format!("/runs/{run}/cancel");
            client.send(Method::POST, &url, Some(json!({"reason": reason}))).await?;
            watch(&client, &run).await.or_else(|failure| match failure.code {
                6 => Ok(()), // cancelled is what was asked for
                _ => Err(failure),
            })
        }
        Command::Undo { run, reason, force, dry_run } => {
            let body = json!({"reason": reason, "force": force, "trigger": "cli"});
            if dry_run {
                return preview::show(&client, &format!("/runs/{run}/undo/preview"), body).await;
            }
            let started =
                client.send(Method::POST, &format!("/runs/{run}/undo"), Some(body)).await?;
            watch(&client, &text(&started, "/id")).await
        }
        Command::Renew { run, longer, reason } => {
            let body = json!({"for": longer, "reason": reason});
            let run = client.send(Method::POST, &format!("/runs/{run}/renew"), Some(body)).await?;
            say(format!("it is taken back by itself {}", when(&run, "/expires_at")));
            Ok(())
        }
        Command::Invert { name, env, run, out } => {
            let url = match run {
                Some(run) => format!("/runs/{run}/inverse"),
                None => format!("/playbooks/{name}/inverse?environment={env}"),
            };
            invert(&client, &url, out).await
        }
        Command::Approve { run, step, refuse, comment } => {
            let body = json!({"approve": !refuse, "comment": comment});
            let url = format!("/runs/{run}/steps/{step}/approval");
            client.send(Method::POST, &url, Some(body)).await.map(drop)
        }
        Command::Link { run, step, person } => approval::link(&client, &run, &step, &person).await,
        Command::BreakGlass { run, step, reason } => {
            approval::break_glass(&client, &run, &step, &reason).await
        }
        Command::Reviews { review: Some(id), comment, .. } => {
            approval::review(&client, &id, &comment).await
        }
        Command::Reviews { review: None, all, .. } => approval::reviews(&client, all).await,
        Command::Decide { run, decision, step, comment } => {
            let body = json!({"decision": decision, "step": step, "comment": comment});
            client.send(Method::POST, &format!("/runs/{run}/decision"), Some(body)).await?;
            watch(&client, &run).await
        }
    }
}

pub(super) fn parse_inputs(inputs: &[String]) -> Result<Map<String, Value>, Failure> {
    inputs
        .iter()
        .map(|input| match input.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), json!(value))),
            None => Err(Failure::with_code(2, format!("`{input}` is not NAME=VALUE"))),
        })
        .collect()
}

async fn list(client: &Client) -> Outcome {
    let playbooks = client.list("/playbooks").await?;
    if client.json {
        say(Value::Array(playbooks).to_string());
        return Ok(());
    }
    let row = |one: &Value| vec![text(one, "/name"), text(one, "/title"), text(one, "/owner")];
    table(&["PLAYBOOK", "WHAT IT DOES", "OWNER"], playbooks.iter().map(row));
    Ok(())
}

async fn lint(client: &Client, file: &std::path::Path) -> Outcome {
    let shown = file.display();
    let source = std::fs::read_to_string(file)
        .map_err(|error| Failure::with_code(2, format!("{shown} cannot be read: {error}")))?;
    let url = "/playbooks/lint";
    let found = client.send(Method::POST, url, Some(json!({"text": source}))).await?;
    let problems = found.get("problems").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut errors = 0;
    for problem in &problems {
        let (line, column) = (text(problem, "/line"), text(problem, "/column"));
        let (severity, path) = (text(problem, "/severity"), text(problem, "/path"));
        errors += usize::from(severity == "error");
        let hint = text(problem, "/hint");
        let hint = if hint.is_empty() { hint } else { format!(" ({hint})") };
        say(format!(
            "{shown}:{line}:{column}: {severity}: {path}: {}{hint}",
            text(problem, "/message")
        ));
    }
    if errors > 0 {
        return Err(Failure::new(format!("{shown} is refused")));
    }
    say(format!("{shown} is good"));
    Ok(())
}

/// Prints or writes the playbook that takes a run back, and says what it cannot take back.
async fn invert(client: &Client, url: &str, out: Option<std::path::PathBuf>) -> Outcome {
    let found = client.get(url).await?;
    if client.json {
        say(found.to_string());
        return Ok(());
    }
    let yaml = text(&found, "/yaml");
    let Some(path) = out else {
        say(yaml.trim_end());
        return Ok(());
    };
    std::fs::write(&path, yaml).map_err(|error| {
        Failure::with_code(2, format!("{} cannot be written: {error}", path.display()))
    })?;
    say(format!("{} takes back run {}", path.display(), text(&found, "/run")));
    for what in found.get("left").and_then(Value::as_array).into_iter().flatten() {
        say(format!("  cannot be taken back: {}", what.as_str().unwrap_or_default()));
    }
    Ok(())
}

async fn runs(client: &Client, env: Option<String>, active: bool) -> Outcome {
    let mut path = format!("/runs?active={active}");
    if let Some(env) = env {
        path = format!("{path}&environment={env}");
    }
    let page = client.get(&format!("{path}&limit=50")).await?;
    if client.json {
        say(page.to_string());
        return Ok(());
    }
    let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |run: &Value| {
        vec![
            text(run, "/id"),
            text(run, "/playbook"),
            text(run, "/environment"),
            text(run, "/state"),
            when(run, "/created_at"),
            text(run, "/requested_by"),
        ]
    };
    table(&["RUN", "PLAYBOOK", "ENVIRONMENT", "STATE", "STARTED", "BY"], items.iter().map(row));
    Ok(())
}

/// How the plan's hash begins, as the console shows it.
fn plan_of(detail: &Value) -> String {
    text(detail, "/run/plan_sha256").chars().take(12).collect()
}

/// Lines that say how each step stands.
fn steps_of(detail: &Value) -> Vec<String> {
    let plan = detail.pointer("/plan/steps").and_then(Value::as_array).cloned().unwrap_or_default();
    let view = detail.pointer("/view/steps").and_then(Value::as_array).cloned().unwrap_or_default();
    plan.iter()
        .zip(&view)
        .map(|(step, view)| {
            let because = text(view, "/because");
            let because = if because.is_empty() { because } else { format!("  ({because})") };
            format!("{:<14} {}{because}", text(view, "/state"), text(step, "/title"))
        })
        .collect()
}

/// Follows a run to its end, printing each step's state when it changes.
pub async fn watch(client: &Client, id: &str) -> Outcome {
    let mut seen: Vec<String> = Vec::new();
    let mut outages = 0;
    let mut share = String::new();
    let mut told = String::new();
    let mut asked = false;
    say(format!("run {id}"));
    loop {
        let detail = match client.get(&format!("/runs/{id}")).await {
            Ok(detail) => detail,
            // The server may be starting again; the run goes on with it.
            Err(failure) if failure.code == 3 && outages < 200 => {
                outages += 1;
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        outages = 0;
        let lines = steps_of(&detail);
        for (index, line) in lines.iter().enumerate() {
            if seen.get(index) != Some(line) && !line.starts_with("pending") {
                say(format!("  {line}"));
            }
        }
        seen = lines;
        if is_waiting_for_clients(&detail)
            && let Some(line) = acknowledged(client, &text(&detail, "/run/environment")).await
            && share != line
        {
            say(format!("                 {line}"));
            share = line;
        }
        if let Some((mark, line)) = record::progress(&detail)
            && told != mark
        {
            say(format!("                 {line}"));
            told = mark;
        }
        let state = text(&detail, "/state");
        if state == "waiting_approval" && !asked {
            let plan = plan_of(&detail);
            say(format!("  plan {plan} waits for approval: switchback playbook approve {id} STEP"));
        }
        asked = state == "waiting_approval";
        if state == "queued" && told != state {
            say("  it waits for its turn: another run with its key goes on");
            told.clone_from(&state);
        }
        let over =
            ["succeeded", "failed", "compensated", "compensate_failed", "cancelled", "parked"];
        if over.contains(&state.as_str()) {
            if client.json {
                say(detail.to_string());
            }
            return outcome(&detail);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a step that waits for acknowledgements is under way.
fn is_waiting_for_clients(detail: &Value) -> bool {
    let steps = |pointer: &str| detail.pointer(pointer).and_then(Value::as_array);
    let (Some(plan), Some(view)) = (steps("/plan/steps"), steps("/view/steps")) else {
        return false;
    };
    plan.iter().zip(view).any(|(step, view)| {
        let state = text(view, "/state");
        text(step, "/kind") == "flag.ack" && (state == "waiting" || state == "intent")
    })
}

/// `99.1 % of 1,000 clients have acknowledged revision 12`; nothing when the server does not say.
async fn acknowledged(client: &Client, environment: &str) -> Option<String> {
    let path = format!("/environments/{environment}/convergence");
    let found = client.get(&path).await.ok()?;
    let number = |name: &str| found.get(name).and_then(Value::as_u64);
    let (connected, acked) = (number("connected")?, number("acked")?);
    let percent = acked.saturating_mul(1_000).checked_div(connected).unwrap_or(1_000) as f64 / 10.0;
    let revision = number("revision")?;
    Some(format!("{percent} % of {connected} clients have acknowledged revision {revision}"))
}

fn outcome(detail: &Value) -> Outcome {
    let state = text(detail, "/state");
    let times = detail.pointer("/run/created_at").and_then(Value::as_i64);
    let ended = detail.pointer("/run/finished_at").and_then(Value::as_i64);
    let took =
        times.zip(ended).map(|(from, to)| format!(" in {:.2} s", (to - from) as f64 / 1000.0));
    let took = took.unwrap_or_default();
    match state.as_str() {
        "succeeded" => {
            say(format!("{}: succeeded{took}", text(detail, "/run/playbook")));
            Ok(())
        }
        "failed" | "compensated" => Err(Failure::with_code(
            4,
            format!("the run failed{took}; everything it did is put back"),
        )),
        "compensate_failed" => Err(Failure::with_code(
            5,
            format!("the run failed{took}, and not everything could be put back: look at it"),
        )),
        "cancelled" => {
            Err(Failure::with_code(6, format!("the run was cancelled{took} and put back")))
        }
        "parked" => Err(Failure::with_code(
            7,
            "the run waits for a person: see `switchback playbook decide`",
        )),
        _ => {
            say(format!("the run is {state}"));
            Ok(())
        }
    }
}
