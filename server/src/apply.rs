//! `switchback apply`: makes an environment what a folder of files says.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use switchback_formats::native;

use super::change::{Scope, Wanted, plan, present};
use super::client::Client;
use super::{Failure, Outcome, say};

#[derive(Args)]
pub struct Options {
    /// The folder that `switchback export` writes: `flags/*.yaml`, `segments/*.yaml`.
    folder: PathBuf,
    /// The environment.
    #[arg(long, short)]
    env: String,
    /// Archive flags of the same projects that have no file: in every environment, and their keys are never
    /// used again. Delete segments of this environment that have no file and that no flag uses any more.
    #[arg(long)]
    prune: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Why; protected environments want to know.
    #[arg(long, short, default_value = "")]
    reason: String,
    /// Show the plan; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: end with exit code 2 when there is something to change.
    #[arg(long, requires = "dry_run")]
    exit_code: bool,
}

pub async fn run(client: Client, options: Options) -> Outcome {
    let wanted = read(&options.folder)?;
    let there = present(&client, &options.env).await?;
    let mut plan = plan(&options.env, &wanted, &there, Scope::All);
    if options.prune {
        plan.prune(&wanted, &there);
    }
    if client.json && options.dry_run {
        let found = json!({"steps": plan.steps, "unchanged": plan.unchanged,
            "surplus": plan.surplus, "surplus_segments": plan.surplus_segments,
            "refused": plan.refused});
        say(found.to_string());
    } else if !client.json {
        plan.show();
        for key in &plan.surplus {
            say(format!("flag {key} has no file; it stays (--prune archives it)"));
        }
        for key in &plan.surplus_segments {
            say(format!(
                "segment {key} has no file; it stays (--prune deletes those that no flag uses)"
            ));
        }
        say(plan.summary());
    }
    if !plan.refused.is_empty() {
        return Err(Failure::new(format!("nothing was changed: {}", plan.refused.join("; "))));
    }
    if options.dry_run {
        return match (options.exit_code, plan.steps.len()) {
            (true, count @ 1..) => Err(Failure::with_code(2, format!("{count} changes to make"))),
            _ => Ok(()),
        };
    }
    if plan.steps.is_empty() {
        if client.json {
            say(json!({"done": []}).to_string());
        }
        return Ok(());
    }
    if !options.yes && !agrees(plan.steps.len(), &options.env)? {
        return Err(Failure::new("nothing was changed"));
    }
    let done = plan.carry_out(&client, &options.reason).await?;
    if client.json {
        say(json!({"done": done}).to_string());
    } else {
        say(format!("{} changes made in {}", done.len(), options.env));
    }
    Ok(())
}

fn agrees(count: usize, env: &str) -> Result<bool, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::with_code(2, "nobody can be asked here; --yes goes ahead"));
    }
    say(format!("make {count} changes in {env}? Type yes:"));
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}

/// Every file, or everything that is wrong with them.
fn read(folder: &Path) -> Result<Wanted, Failure> {
    let mut wanted = Wanted::default();
    let mut wrong = Vec::new();
    for (path, name, text) in files(&folder.join("segments"))? {
        match native::read_segment(&text) {
            Ok(segment) if segment.key.as_str() == name => wanted.segments.push(segment),
            Ok(segment) => wrong.push(misnamed(&path, segment.key.as_str())),
            Err(message) => wrong.push(format!("{path}:{message}")),
        }
    }
    for (path, name, text) in files(&folder.join("flags"))? {
        match native::read_flag(&text) {
            Ok(flag) if flag.key.as_str() == name => wanted.flags.push(flag),
            Ok(flag) => wrong.push(misnamed(&path, flag.key.as_str())),
            Err(message) => wrong.push(format!("{path}:{message}")),
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::new(format!("nothing was changed: {}", wrong.join("; "))));
    }
    if wanted.flags.is_empty() && wanted.segments.is_empty() {
        let message =
            format!("{} holds neither flags/*.yaml nor segments/*.yaml", folder.display());
        return Err(Failure::new(message));
    }
    Ok(wanted)
}

fn misnamed(path: &str, key: &str) -> String {
    format!("{path}:1:1: key: is `{key}`; the file must be called {key}.yaml")
}

/// Path, name without ending, and text of the YAML files in a folder, by name; a missing folder has none.
fn files(folder: &Path) -> Result<Vec<(String, String, String)>, Failure> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => {
            let message = format!("{} cannot be read: {error}", folder.display());
            return Err(Failure::new(message));
        }
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name.as_deref().and_then(|name| name.strip_suffix(".yaml")) else {
            continue;
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))?;
        found.push((path.display().to_string(), name.to_owned(), text));
    }
    found.sort();
    Ok(found)
}
