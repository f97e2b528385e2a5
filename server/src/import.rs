//! `switchback import`: what another system's file would become here, and making it so.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use switchback_core::model::{FlagKey, FlagState};
use switchback_formats::drift::{self, Report, Source};
use switchback_formats::native::FlagFile;
use switchback_formats::{
    Imported, ImportedFlag, Weight, flagd, flagsmith, growthbook, launchdarkly, unleash,
};

use super::change::{Scope, Wanted, plan, present};
use super::client::{Client, table};
use super::{Failure, Outcome, say};

/// Whose file it is.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum System {
    /// The answer of /api/client/features, or an export of the admin interface.
    Unleash,
    /// A flag definition file.
    Flagd,
    /// Flag data as SDKs read it: `{"flags": ..., "segments": ...}`.
    Launchdarkly,
    /// The answer of /api/features/<key>.
    Growthbook,
    /// The answer of /api/v1/environment-document/.
    Flagsmith,
}

#[derive(Args)]
pub struct Options {
    /// The system that the file is from.
    system: System,
    /// The file; `-` reads the standard input.
    file: PathBuf,
    /// The project that new flags belong to.
    #[arg(long, short, default_value = "default")]
    project: String,
    /// The environment.
    #[arg(long, short)]
    env: String,
    /// Do it. Without this nothing is changed.
    #[arg(long)]
    apply: bool,
    /// Also change flags and segments that are there already and differ.
    #[arg(long)]
    overwrite: bool,
    /// Why; protected environments want to know.
    #[arg(long, short, default_value = "")]
    reason: String,
    /// Compare the other system's decisions with ours over this many made-up users (100000 when no number is
    /// given). With --apply nothing is done if anybody would move.
    #[arg(long, value_name = "USERS", num_args = 0..=1, default_missing_value = "100000")]
    drift: Option<usize>,
}

pub async fn run(client: Client, options: Options) -> Outcome {
    let shown = options.file.display().to_string();
    let text = read(&options.file)?;
    let imported = read_system(options.system, &text)
        .map_err(|message| Failure::new(format!("{shown} {message}")))?;
    let report = match options.drift {
        Some(users) => Some(drift_of(options.system, &text, &imported, users)?),
        None => None,
    };
    let wanted = Wanted {
        segments: imported.segments.clone(),
        flags: imported.flags.iter().filter_map(|flag| file_of(flag, &options.project)).collect(),
    };
    let there = present(&client, &options.env).await?;
    let mut plan = plan(&options.env, &wanted, &there, Scope::State);
    // A flag may be in another project here: that is no reason to leave it alone.
    plan.surplus.clear();
    plan.surplus_segments.clear();
    if client.json && !options.apply {
        say(document(&imported, &plan, report.as_ref()).to_string());
    } else if !client.json {
        show(&imported, report.as_ref());
        plan.show();
        plan.refused.iter().for_each(|line| say(format!("refused: {line}")));
        say(plan.summary());
    }
    if !options.apply {
        if !client.json {
            say("nothing is changed; --apply does it");
        }
        return Ok(());
    }
    if !plan.refused.is_empty() {
        let message = format!("nothing was changed: {}", plan.refused.join("; "));
        return Err(Failure::new(message));
    }
    if let Some(moved) = report.as_ref().map(Report::moved).filter(|moved| *moved > 0) {
        return Err(Failure::new(format!("nothing was changed: {moved} decisions would differ")));
    }
    if plan.updates() > 0 && !options.overwrite {
        let message = format!(
            "nothing was changed: {} of the keys exist with another meaning; --overwrite changes them",
            plan.updates()
        );
        return Err(Failure::new(message));
    }
    let done = plan.carry_out(&client, &options.reason).await?;
    if client.json {
        let mut all = document(&imported, &plan, report.as_ref());
        if let Some(object) = all.as_object_mut() {
            object.insert("done".to_owned(), Value::Array(done));
        }
        say(all.to_string());
    } else {
        say(format!("{} changes made in {}", done.len(), options.env));
    }
    Ok(())
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    if file.as_os_str() == "-" {
        return Ok(std::io::read_to_string(std::io::stdin())?);
    }
    std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))
}

fn read_system(system: System, text: &str) -> Result<Imported, String> {
    match system {
        System::Unleash => unleash::import(text),
        System::Flagd => flagd::import(text),
        System::Launchdarkly => launchdarkly::import(text),
        System::Growthbook => growthbook::import(text),
        System::Flagsmith => flagsmith::import(text),
    }
}

fn drift_of(
    system: System,
    text: &str,
    imported: &Imported,
    users: usize,
) -> Result<Report, Failure> {
    let mut source: Box<dyn Source> = match system {
        System::Unleash => Box::new(unleash::Source::new(text).map_err(Failure::new)?),
        System::Flagd => Box::new(flagd::Source::new(text).map_err(Failure::new)?),
        System::Launchdarkly => Box::new(launchdarkly::Source::new(text).map_err(Failure::new)?),
        System::Growthbook => Box::new(growthbook::Source::new(text).map_err(Failure::new)?),
        System::Flagsmith => Box::new(flagsmith::Source::new(text).map_err(Failure::new)?),
    };
    let now = jiff::Timestamp::now().as_millisecond();
    Ok(drift::report(imported, &mut *source, users, now))
}

fn file_of(flag: &ImportedFlag, project: &str) -> Option<FlagFile> {
    Some(FlagFile {
        key: FlagKey::try_from(flag.key.as_str()).ok()?,
        project: project.to_owned(),
        kind: flag.kind,
        value_type: flag.value_type,
        salt: Some(flag.salt.clone()),
        description: flag.description.clone(),
        owner: String::new(),
        tags: Vec::new(),
        lifetime_days: None,
        state: flag.state.clone(),
    })
}

/// A state in a few words.
pub fn words(state: &FlagState) -> String {
    let rules = state.rules.len();
    let splits = state.rules.iter().filter(|rule| rule.percent.thousandths() < 100_000).count();
    match (state.enabled, rules) {
        (false, _) => "off".to_owned(),
        (true, 0) => "on for everybody".to_owned(),
        (true, 1) => "on by 1 rule".to_owned(),
        (true, rules) if splits > 0 => format!("on by {rules} rules, {splits} of them shares"),
        (true, rules) => format!("on by {rules} rules"),
    }
}

fn show(imported: &Imported, report: Option<&Report>) {
    let moved = |key: &str| {
        let found = report.and_then(|report| report.flags.iter().find(|one| one.flag == key));
        found.map_or_else(|| "-".to_owned(), |one| one.moved.to_string())
    };
    let row = |flag: &ImportedFlag| {
        let kind = serde_json::to_value(flag.value_type).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default().to_owned();
        vec![flag.key.clone(), kind, words(&flag.state), moved(&flag.key)]
    };
    table(&["FLAG", "TYPE", "STATE", "USERS MOVED"], imported.flags.iter().map(row));
    for note in &imported.notes {
        let weight = match note.weight {
            Weight::Info => "note",
            Weight::Differs => "differs",
            Weight::LeftOut => "left out",
        };
        let place = if note.path.is_empty() { String::new() } else { format!(" {}", note.path) };
        say(format!("{weight}: {}{place}: {}", note.about, note.message));
    }
    if let Some(report) = report {
        let (moved, users) = (report.moved(), report.users);
        say(format!(
            "drift: {moved} of {} decisions differ, over {users} users",
            users * report.flags.len()
        ));
        for flag in report.flags.iter().filter(|flag| flag.moved > 0) {
            flag.users.iter().for_each(|who| say(format!("    {}: {who}", flag.flag)));
        }
    }
}

fn document(imported: &Imported, plan: &super::change::Plan, report: Option<&Report>) -> Value {
    let flags = imported.flags.iter().map(|flag| {
        json!({"key": flag.key, "value_type": flag.value_type, "salt": flag.salt,
            "words": words(&flag.state), "state": flag.state})
    });
    json!({
        "flags": flags.collect::<Vec<_>>(),
        "segments": imported.segments,
        "notes": imported.notes,
        "drift": report,
        "steps": plan.steps,
        "unchanged": plan.unchanged,
        "refused": plan.refused,
    })
}
