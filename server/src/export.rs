//! `switchback export`: an environment as files that two people can compare, or in another system's language.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use switchback_core::model::{Document, Flag, FlagEntry, FlagState};
use switchback_formats::export::Selection;
use switchback_formats::native::{self, FlagFile};
use switchback_formats::{flagd_definition, unleash};

use super::change::{Present, present};
use super::client::Client;
use super::{Failure, Outcome, remark, say};

/// The language that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A folder of files that `switchback apply` takes.
    Yaml,
    /// A features document, as /api/client/features answers it.
    Unleash,
    /// A flag definition file.
    Flagd,
}

#[derive(Args)]
pub struct Options {
    /// The environment.
    #[arg(long, short)]
    env: String,
    /// Only this project's flags, and the segments that they name.
    #[arg(long, short)]
    project: Option<String>,
    /// The language. In another one than `yaml`, a flag that it cannot say exactly is refused.
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
    /// Leave out and name flags that the language cannot say exactly, instead of writing nothing.
    #[arg(long)]
    skip_unsupported: bool,
    /// The folder, or with another format than `yaml` the file; `-` writes to the standard output.
    #[arg(default_value = "-")]
    to: PathBuf,
}

pub async fn run(client: Client, options: Options) -> Outcome {
    let there = present(&client, &options.env).await?;
    if options.format != Format::Yaml {
        return translate(there, &options);
    }
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
    if options.to.as_os_str() == "-" {
        for (name, text) in &files {
            say(format!("--- # {name}\n{text}").trim_end());
        }
        return Ok(());
    }
    write(&options.to, &files)
}

/// One file in another system's language.
fn translate(there: Present, options: &Options) -> Outcome {
    let mut document = Document { environment: options.env.clone(), ..Document::default() };
    let mut descriptions = BTreeMap::new();
    for (key, row) in there.flags {
        let flag = Flag {
            key: row.flag.key,
            project: row.flag.project,
            kind: row.flag.kind,
            value_type: row.flag.value_type,
            salt: row.flag.salt,
            state: row.state,
        };
        descriptions.insert(key.clone(), row.flag.description);
        document.flags.insert(key, FlagEntry::Known(Box::new(flag)));
    }
    let segments = there.segments.into_iter().map(|(key, row)| (key, row.segment));
    document.segments = segments.collect();
    let selection = Selection {
        document: &document,
        project: options.project.as_deref(),
        descriptions: &descriptions,
    };
    let (exported, system) = match options.format {
        Format::Unleash => (unleash::file_of(&selection), "Unleash"),
        Format::Yaml | Format::Flagd => (flagd_definition::file_of(&selection), "flagd"),
    };
    let refused = exported.refused.iter().map(|(key, reason)| format!("flag `{key}` {reason}"));
    let refused: Vec<String> = refused.collect();
    if !refused.is_empty() && !options.skip_unsupported {
        return Err(Failure::new(format!(
            "nothing was written: {system} cannot say {} of the flags exactly (--skip-unsupported leaves them out): {}",
            refused.len(),
            refused.join("; ")
        )));
    }
    for line in &refused {
        remark(format!("left out: {line}"));
    }
    for (key, note) in &exported.notes {
        remark(format!("note: flag `{key}` {note}"));
    }
    if options.to.as_os_str() == "-" {
        say(exported.text.trim_end());
        return Ok(());
    }
    std::fs::write(&options.to, &exported.text).map_err(|error| {
        Failure::new(format!("{} cannot be written: {error}", options.to.display()))
    })?;
    say(format!("{} flags in {}", exported.flags, options.to.display()));
    Ok(())
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
