//! `switchback export`: an environment as files that two people can compare.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use switchback_core::model::FlagState;

use super::change::present;
use super::client::Client;
use super::{Failure, Outcome, say};
use crate::formats::native::{self, FlagFile};

#[derive(Args)]
pub struct Options {
    /// The environment.
    #[arg(long, short)]
    env: String,
    /// Only this project's flags, and the segments that they name.
    #[arg(long, short)]
    project: Option<String>,
    /// The folder; `-` writes everything to the standard output.
    #[arg(default_value = "-")]
    folder: PathBuf,
}

pub async fn run(client: Client, options: Options) -> Outcome {
    let there = present(&client, &options.env).await?;
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut named = BTreeSet::new();
    for row in there.flags.values() {
        let flag = &row.flag;
        if options.project.as_ref().is_some_and(|project| *project != flag.project) {
            continue;
        }
        named.extend(row.state.rules.iter().flat_map(|rule| rule.segments.clone()));
        let file = FlagFile {
            key: flag.key.clone(),
            project: flag.project.clone(),
            kind: flag.kind,
            value_type: flag.value_type,
            salt: Some(flag.salt.clone()),
            description: flag.description.clone(),
            owner: flag.owner.clone(),
            tags: flag.tags.clone(),
            lifetime_days: flag.lifetime_days,
            state: FlagState { killed: false, ..row.state.clone() },
        };
        files.insert(format!("flags/{}.yaml", flag.key), native::write(&file));
    }
    for row in there.segments.values() {
        let key = row.segment.key.as_str();
        if options.project.is_none() || named.contains(key) {
            files.insert(format!("segments/{key}.yaml"), native::write(&row.segment));
        }
    }
    if options.folder.as_os_str() == "-" {
        for (name, text) in &files {
            say(format!("--- # {name}\n{text}").trim_end());
        }
        return Ok(());
    }
    write(&options.folder, &files)
}

fn write(folder: &Path, files: &BTreeMap<String, String>) -> Outcome {
    let refuse = |path: &Path, error: std::io::Error| {
        Failure::new(format!("{} cannot be written: {error}", path.display()))
    };
    let mut changed = 0;
    for kind in ["flags", "segments"] {
        let inner = folder.join(kind);
        std::fs::create_dir_all(&inner).map_err(|error| refuse(&inner, error))?;
        for entry in std::fs::read_dir(&inner).map_err(|error| refuse(&inner, error))? {
            let path = entry?.path();
            let is_yaml = path.extension().is_some_and(|ending| ending == "yaml");
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_yaml && !files.contains_key(&format!("{kind}/{name}")) {
                say(format!(
                    "{kind}/{name} is not in the environment; delete it, or `apply` makes it again"
                ));
            }
        }
    }
    for (name, text) in files {
        let path = folder.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|before| before == *text) {
            continue;
        }
        std::fs::write(&path, text).map_err(|error| refuse(&path, error))?;
        changed += 1;
    }
    say(format!("{} files in {}, {changed} of them changed", files.len(), folder.display()));
    Ok(())
}
