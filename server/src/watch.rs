//! `switchback guard|rollout|test ...`: what watches a change, from a terminal, and trying guards before they are armed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};
use switchback_watch::rehearsal::{Report, parse, run};

use super::client::{Client, table, text, when};
use super::{Failure, Outcome, say};

#[derive(Subcommand)]
pub enum GuardCommand {
    /// List guards of an environment and what they say.
    List {
        /// The environment.
        #[arg(long, default_value = "production")]
        env: String,
    },
    /// Arm a guard of a flag's logins.
    Arm {
        /// The flag.
        flag: String,
        /// The environment.
        #[arg(long, default_value = "production")]
        env: String,
        /// What it compares: login, refresh, check, signup or mfa; may be given several times.
        #[arg(long = "metric")]
        metrics: Vec<String>,
        /// What it does when it finds harm: put_back, hold or warn.
        #[arg(long = "do", default_value = "put_back")]
        action: String,
        /// The share in percent that the flag goes back to.
        #[arg(long, default_value_t = 0.0)]
        back_to: f64,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
        /// Only try it on the last hours: what it would have done.
        #[arg(long, value_name = "HOURS")]
        try_on: Option<i64>,
    },
    /// Let one rest.
    Disarm {
        /// Its id.
        guard: String,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Subcommand)]
pub enum RolloutCommand {
    /// List rollouts, the newest first.
    List {
        /// The environment.
        #[arg(long, default_value = "production")]
        env: String,
    },
    /// Roll a flag out in steps, with a guard.
    Start {
        /// The flag.
        flag: String,
        /// The environment.
        #[arg(long, default_value = "production")]
        env: String,
        /// The steps in percent.
        #[arg(long, value_delimiter = ',', default_value = "1,5,10,25,50,100")]
        steps: Vec<f64>,
        /// How long each lasts at least, in minutes.
        #[arg(long, default_value_t = 10)]
        soak: u32,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Stop for now.
    Pause {
        /// Its id.
        rollout: String,
    },
    /// Go on.
    Resume {
        /// Its id.
        rollout: String,
    },
    /// Wait no longer in this step; a guard that holds it still does.
    Skip {
        /// Its id.
        rollout: String,
    },
    /// End it and put the flag back.
    Abort {
        /// Its id.
        rollout: String,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Agree to a step, counted from 1.
    Approve {
        /// Its id.
        rollout: String,
        /// The step.
        step: usize,
    },
}

#[derive(Subcommand)]
pub enum TestCommand {
    /// Try guards on made-up or recorded series: every `*.yaml` of a folder says what must be found, and when.
    Guards {
        /// The folder, or one file.
        path: PathBuf,
        /// The reports as JSON.
        #[arg(long)]
        json: bool,
    },
}

pub async fn guard(client: Client, command: GuardCommand) -> Outcome {
    match command {
        GuardCommand::List { env } => {
            let all = client.get(&format!("/environments/{env}/guards")).await?;
            let rows = all.as_array().cloned().unwrap_or_default();
            list(&client, &rows, &["id", "flag", "phase", "since", "says"], |one| {
                vec![
                    text(one, "/id"),
                    text(one, "/settings/flag"),
                    text(one, "/phase"),
                    when(one, "/since"),
                    text(one, "/verdict/words"),
                ]
            });
            Ok(())
        }
        GuardCommand::Arm { flag, env, metrics, action, back_to, reason, try_on } => {
            let mut settings = Map::new();
            settings.insert("flag".to_owned(), json!(flag));
            settings.insert("back_to".to_owned(), json!(back_to));
            settings.insert("action".to_owned(), json!({"do": action}));
            if !metrics.is_empty() {
                settings.insert("metrics".to_owned(), json!(metrics));
            }
            let path = format!("/environments/{env}/guards");
            if let Some(hours) = try_on {
                let body = json!({"settings": settings, "hours": hours});
                let path = format!("{path}/rehearsal");
                let found = client.send(Method::POST, &path, Some(body)).await?;
                let (acts, warnings) = (text(&found, "/acts"), text(&found, "/warnings"));
                let line = format!(
                    "in {hours} h it would have acted {acts} times and warned {warnings} times"
                );
                say(if client.json { found.to_string() } else { line });
                return Ok(());
            }
            let body = json!({"settings": settings, "reason": reason});
            let made = client.send(Method::POST, &path, Some(body)).await?;
            let line = format!("{flag} is guarded by {}", text(&made, "/id"));
            say(if client.json { made.to_string() } else { line });
            Ok(())
        }
        GuardCommand::Disarm { guard, reason } => {
            let path = format!("/guards/{guard}/disarm");
            client.send(Method::POST, &path, Some(json!({"reason": reason}))).await?;
            say(format!("{guard} rests"));
            Ok(())
        }
    }
}

pub async fn rollout(client: Client, command: RolloutCommand) -> Outcome {
    let (rollout, body) = match command {
        RolloutCommand::List { env } => {
            let all = client.get(&format!("/environments/{env}/rollouts")).await?;
            let rows = all.as_array().cloned().unwrap_or_default();
            list(&client, &rows, &["id", "flag", "phase", "started", "says"], |one| {
                vec![
                    text(one, "/id"),
                    text(one, "/flag"),
                    text(one, "/phase"),
                    when(one, "/created_at"),
                    text(one, "/words"),
                ]
            });
            return Ok(());
        }
        RolloutCommand::Start { flag, env, steps, soak, reason } => {
            let step = |percent: f64| json!({"percent": percent, "soak_minutes": soak});
            let steps: Vec<Value> = steps.into_iter().map(step).collect();
            let body = json!({"rollout": {"flag": flag, "steps": steps}, "reason": reason});
            let path = format!("/environments/{env}/rollouts");
            let made = client.send(Method::POST, &path, Some(body)).await?;
            let line = format!("the rollout of {flag} begins: {}", text(&made, "/id"));
            say(if client.json { made.to_string() } else { line });
            return Ok(());
        }
        RolloutCommand::Pause { rollout } => (rollout, json!({"command": "pause"})),
        RolloutCommand::Resume { rollout } => (rollout, json!({"command": "resume"})),
        RolloutCommand::Skip { rollout } => (rollout, json!({"command": "skip"})),
        RolloutCommand::Abort { rollout, reason } => {
            (rollout, json!({"command": "abort", "reason": reason}))
        }
        RolloutCommand::Approve { rollout, step } => {
            (rollout, json!({"command": "approve", "step": step.saturating_sub(1)}))
        }
    };
    let path = format!("/rollouts/{rollout}/commands");
    let after = client.send(Method::POST, &path, Some(body)).await?;
    let line = format!("{rollout}: {}", text(&after, "/phase"));
    say(if client.json { after.to_string() } else { line });
    Ok(())
}

/// Ends with exit code 1 when something was not as expected, and with 2 when a file cannot be read.
pub fn test(command: &TestCommand) -> Outcome {
    let TestCommand::Guards { path, json } = command;
    let files = files(path)?;
    if files.is_empty() {
        return Err(Failure::with_code(2, format!("{} has no *.yaml", path.display())));
    }
    let mut reports = Vec::new();
    for file in &files {
        let unread =
            |error| Failure::with_code(2, format!("{} cannot be read: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(unread)?;
        let case = parse(&text).map_err(|problems| {
            let lines: Vec<String> =
                problems.iter().map(|problem| format!("{}:{problem}", file.display())).collect();
            Failure::with_code(2, lines.join("\n"))
        })?;
        reports.push(run(&case));
    }
    if *json {
        say(json!(reports).to_string());
    } else {
        reports.iter().for_each(tell);
    }
    let broken = reports.iter().filter(|report| !report.passed()).count();
    if broken > 0 {
        return Err(Failure::new(format!(
            "{broken} of {} cases did not go as expected",
            reports.len()
        )));
    }
    Ok(())
}

fn tell(report: &Report) {
    let mark = if report.passed() { "as expected" } else { "NOT as expected" };
    let mut line = format!("{}: {mark}", report.name);
    if let (Some(median), Some(p95)) = (report.median_ms, report.p95_ms) {
        let _ = write!(line, ", half within {} s, 95 % within {} s", median / 1000, p95 / 1000);
    }
    if report.false_alarms > 0 {
        let _ = write!(line, ", {} false alarms in {} runs", report.false_alarms, report.runs);
    }
    say(line);
    for sentence in &report.broken {
        say(format!("  {sentence}"));
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let unread =
        |error| Failure::with_code(2, format!("{} cannot be read: {error}", path.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unread)? {
        let file = entry.map_err(unread)?.path();
        if file.extension().is_some_and(|kind| kind == "yaml" || kind == "yml") {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

fn list(client: &Client, rows: &[Value], heads: &[&str], row: impl Fn(&Value) -> Vec<String>) {
    if client.json {
        say(json!(rows).to_string());
    } else {
        table(heads, rows.iter().map(row));
    }
}
