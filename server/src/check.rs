//! `switchback check ...`: packs of consistency checks, findings, repairs.
//!
//! Exit codes for cron and CI: 0 when what was asked for passes, 4 when it does not, others as everywhere.

mod findings;
mod packs;
mod repairs;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};
use switchback_checks::health::words;
use switchback_playbook::units::parse_duration;

use super::client::{Client, text};
use findings::{findings, reveal};
use packs::{lint, list, look, recent, report, set, verify, watch};
use repairs::{backfill, follow, runs, undo};

use super::{Failure, Outcome, say};

/// Findings that should not be there.
const FOUND: u8 = 4;
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A report's form.
#[derive(Clone, Copy, ValueEnum)]
pub enum Form {
    /// For reading.
    Text,
    /// For programs.
    Json,
    /// A page that stands alone.
    Html,
}

/// What is to be repaired.
#[derive(Args)]
pub struct Wish {
    /// The pack, or one of its checks as PACK/CHECK.
    pack: String,
    /// Only what came to be so long ago at most, such as 10m.
    #[arg(long, value_name = "DURATION")]
    window: Option<String>,
    /// Keys of a batch, 1 to 5,000.
    #[arg(long, default_value_t = 100)]
    batch_size: u64,
    /// Keys at most.
    #[arg(long)]
    limit: Option<u64>,
    /// Why.
    #[arg(long, short, default_value = "")]
    reason: String,
}

#[derive(Subcommand)]
pub enum Command {
    /// Packs and how they stand.
    List,
    /// Look at a pack now, without fixing; exit code 4 when a check fails.
    Run {
        /// The pack, or one of its checks as PACK/CHECK.
        pack: String,
        /// A warning is a failure too.
        #[arg(long)]
        strict: bool,
    },
    /// What came to be broken in the last minutes, in every pack in use; exit code 4 when something did.
    Recent {
        /// How far back.
        #[arg(long, default_value = "10m", value_name = "DURATION")]
        window: String,
    },
    /// Follow how a pack stands, until interrupted.
    Watch {
        /// The pack.
        pack: String,
    },
    /// Repair what is found: says first what it would do, and asks.
    Backfill {
        #[command(flatten)]
        wish: Wish,
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Look again, and say PASS or FAIL for each check; exit code 4 on FAIL.
    Verify {
        /// The pack, or one of its checks as PACK/CHECK.
        pack: String,
    },
    /// A pack's report of the last look.
    Report {
        /// The pack.
        pack: String,
        /// Its form.
        #[arg(long, value_enum, default_value = "text")]
        format: Form,
    },
    /// Findings, masked.
    Findings {
        /// The pack, or one of its checks as PACK/CHECK.
        pack: String,
        /// open, fixed, gone, stuck or ignored.
        #[arg(long)]
        state: Option<String>,
        /// A key, or a label as it is.
        #[arg(long)]
        search: Option<String>,
    },
    /// A finding in full; that somebody looked is logged.
    Reveal {
        /// The check, as PACK/CHECK.
        check: String,
        /// The key.
        key: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
    /// Leave a finding as it is: it no longer counts, and nobody fixes it.
    Ignore {
        /// The check, as PACK/CHECK.
        check: String,
        /// The key.
        key: String,
        /// Why it is all right.
        #[arg(long, short)]
        reason: String,
        /// No longer.
        #[arg(long)]
        end: bool,
    },
    /// Runs of repairs.
    Runs {
        /// Only of this pack.
        #[arg(long)]
        pack: Option<String>,
    },
    /// Stop a run of repairs after the batch that is under way.
    Cancel {
        /// The run.
        run: String,
    },
    /// Go on with a run that failed or was cancelled.
    Resume {
        /// The run.
        run: String,
    },
    /// Put back every row that is still as a run left it.
    Undo {
        /// The run.
        run: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Say what is wrong with a pack's text; nothing is kept.
    Lint {
        /// The file; or a pack that has a data source, whose database looks it over.
        pack: String,
    },
    /// Print a pack's text.
    Show {
        /// The pack.
        pack: String,
    },
    /// Keep a pack's text as its newest version.
    Put {
        /// The pack.
        pack: String,
        /// The file.
        file: PathBuf,
    },
    /// Remove what was written here; a shipped pack of the same name counts again.
    Reset {
        /// The pack.
        pack: String,
    },
    /// Change how a pack is monitored.
    Set {
        /// The pack.
        pack: String,
        /// The data source.
        #[arg(long)]
        source: Option<String>,
        /// A replica of it, which is asked in its place; empty: none.
        #[arg(long)]
        replica: Option<String>,
        /// off, observe or fix.
        #[arg(long)]
        mode: Option<String>,
        /// Fix at once, without looking only for a time first.
        #[arg(long)]
        skip_observing: bool,
        /// Keep labels in full, for those who may reveal them.
        #[arg(long)]
        keep_labels: Option<bool>,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
    /// Pause a pack's monitor.
    Pause {
        /// The pack.
        pack: String,
        /// Why.
        #[arg(long, short, default_value = "")]
        reason: String,
    },
    /// Let a paused monitor go on.
    GoOn {
        /// The pack.
        pack: String,
    },
    /// Event mode: sweep as often as the pack says for events.
    Event {
        /// The pack.
        pack: String,
        /// For so many minutes; 0 ends it.
        #[arg(long, default_value_t = 240)]
        minutes: i64,
    },
}

pub async fn run(client: Client, command: Command) -> Outcome {
    match command {
        Command::List => list(&client).await,
        Command::Run { pack, strict } => look(&client, &pack, strict).await,
        Command::Recent { window } => recent(&client, &window).await,
        Command::Watch { pack } => watch(&client, &pack).await,
        Command::Backfill { wish, dry_run, yes } => backfill(&client, wish, dry_run, yes).await,
        Command::Verify { pack } => verify(&client, &pack).await,
        Command::Report { pack, format } => report(&client, &pack, format).await,
        Command::Findings { pack, state, search } => findings(&client, &pack, state, search).await,
        Command::Reveal { check, key, reason } => reveal(&client, &check, &key, &reason).await,
        Command::Ignore { check, key, reason, end } => {
            let (pack, check) = both(&check)?;
            let body = json!({"pack": pack, "check": check, "key": key, "ignored": !end, "reason": reason});
            let done = client.send(Method::POST, "/findings/ignore", Some(body)).await?;
            told(&client, &done, || format!("{key} is {}", text(&done, "/state")));
            Ok(())
        }
        Command::Runs { pack } => runs(&client, pack.as_deref()).await,
        Command::Cancel { run } => moved(&client, &run, "cancel").await,
        Command::Resume { run } => {
            client.send(Method::POST, &format!("/repair-runs/{run}/resume"), None).await?;
            follow(&client, &run).await
        }
        Command::Undo { run, reason, yes } => undo(&client, &run, &reason, yes).await,
        Command::Lint { pack } => lint(&client, &pack).await,
        Command::Show { pack } => {
            let found = client.get(&format!("/checks/{pack}")).await?;
            told(&client, &found, || text(&found, "/source").trim_end().to_owned());
            Ok(())
        }
        Command::Put { pack, file } => {
            let body = json!({"source": read(&file)?});
            let kept = client.send(Method::PUT, &format!("/checks/{pack}"), Some(body)).await?;
            told(&client, &kept, || format!("{pack} is at version {}", text(&kept, "/version")));
            Ok(())
        }
        Command::Reset { pack } => {
            client.send(Method::DELETE, &format!("/checks/{pack}"), None).await?;
            say(format!("what was written of {pack} here is gone"));
            Ok(())
        }
        Command::Set { pack, source, replica, mode, skip_observing, keep_labels, reason } => {
            let body = json!({"source": source, "replica": replica, "mode": mode,
                "skip_observing": skip_observing, "keeps_labels": keep_labels, "reason": reason});
            set(&client, &pack, body).await
        }
        Command::Pause { pack, reason } => {
            set(&client, &pack, json!({"paused": true, "reason": reason})).await
        }
        Command::GoOn { pack } => set(&client, &pack, json!({"paused": false})).await,
        Command::Event { pack, minutes } => {
            set(&client, &pack, json!({"event_minutes": minutes})).await
        }
    }
}

async fn moved(client: &Client, run: &str, verb: &str) -> Outcome {
    let done = client.send(Method::POST, &format!("/repair-runs/{run}/{verb}"), None).await?;
    told(client, &done, || format!("{run} is {}", text(&done, "/state")));
    Ok(())
}

fn told(client: &Client, value: &Value, words: impl FnOnce() -> String) {
    say(if client.json { value.to_string() } else { words() });
}

/// `PACK` or `PACK/CHECK`.
fn parts(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((pack, check)) => (pack, Some(check)),
        None => (text, None),
    }
}

fn both(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('/')
        .ok_or_else(|| Failure::with_code(2, format!("`{text}` is not of the form PACK/CHECK")))
}

fn duration(name: &str, text: &str) -> Result<u64, Failure> {
    parse_duration(text).map_err(|why| Failure::with_code(2, format!("--{name}: {why}")))
}

fn percent(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), words)
}

fn read(file: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))
}
