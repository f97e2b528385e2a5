//! Mirrors of flags in data sources: shown anew on every change, by whichever node is first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::Serialize;
use switchback_core::model::{Document, Flag, FlagEntry, Millis, Percent, Rule, Serve};
use switchback_source::{Dialect, MirroredFlag, Settings, Source, SourceError};

use super::App;
use super::error::AppError;
use crate::live::News;

/// How often mirrors are looked at without news.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a mirror is left alone after a failure.
const PAUSE_MS: i64 = 5_000;

/// How far a data source's mirror is, as this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct MirrorStatus {
    /// The environment that it shows.
    pub environment: String,
    /// The environment's revision that it shows.
    pub revision: u64,
    /// The environment's newest revision.
    pub newest: u64,
    /// When that was found out, in UTC milliseconds.
    pub at: Millis,
    /// Why it is not up to date.
    pub error: Option<String>,
}

/// For whom a flag is on, as far as that can be said without a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Nobody,
    Some,
    Everybody,
}

impl App {
    /// Keeps every mirror up to date.
    pub async fn keep_mirrors(self: Arc<Self>) {
        let mut news = self.hub.subscribe();
        loop {
            self.update_mirrors().await;
            self.update_copies().await;
            let moved = async {
                loop {
                    match news.recv().await {
                        Ok(News::Environment(_)) | Err(_) => return,
                        Ok(_) => {}
                    }
                }
            };
            let _ = tokio::time::timeout(LOOK_EVERY, moved).await;
        }
    }

    async fn update_mirrors(&self) {
        let Ok(rows) = self.store.list_data_sources().await else { return };
        for row in rows {
            let Ok(settings) = serde_json::from_value::<Settings>(row.body) else { continue };
            let known = self.mirror_of(&settings.name);
            let Some(environment) = settings.mirror else {
                self.note_mirror(&settings.name, None);
                continue;
            };
            let mut known = known.filter(|known| known.environment == environment);
            let resting =
                |one: &MirrorStatus| one.error.is_some() && self.clock.now() - one.at < PAUSE_MS;
            if known.as_ref().is_some_and(resting) {
                continue;
            }
            let Ok(document) = self.store.load_document(&environment).await else { continue };
            let status = known.get_or_insert_with(MirrorStatus::default);
            status.newest = document.revision;
            if status.error.is_some()
                || status.environment.is_empty()
                || status.revision < document.revision
            {
                let shown = match self.source(&settings.name).await {
                    Ok(source) => {
                        self.show(&source, &document).await.map_err(|error| error.to_string())
                    }
                    Err(error) => Err(error.to_string()),
                };
                if self.is_unmirrored(&settings.name).await {
                    // Somebody took it away while it was shown.
                    if let Err(error) = self.remove_mirror(&settings.name).await {
                        tracing::warn!(source = settings.name, "{error}");
                    }
                    continue;
                }
                status.at = self.clock.now();
                status.environment = environment;
                status.error = shown.as_ref().err().cloned();
                match shown {
                    Ok(revision) => status.revision = revision,
                    Err(error) => {
                        tracing::warn!(
                            source = settings.name,
                            "the mirror of flags is behind: {error}"
                        );
                    }
                }
            }
            let status = known.take();
            self.note_mirror(&settings.name, status);
        }
    }

    /// Whether a data source is known to show no flags now.
    async fn is_unmirrored(&self, name: &str) -> bool {
        let row = self.store.get_data_source(name).await;
        let settings = row.ok().and_then(|row| serde_json::from_value::<Settings>(row.body).ok());
        settings.is_some_and(|settings| settings.mirror.is_none())
    }

    /// Copies of data sources in drills follow the sandbox.
    async fn update_copies(&self) {
        let copies = self.mirrored_copies();
        if copies.is_empty() {
            return;
        }
        let Ok(document) = self.store.load_document(super::drills::SANDBOX).await else { return };
        for copy in copies {
            if let Err(error) = self.show(&copy, &document).await {
                tracing::warn!(
                    source = copy.settings().name,
                    "the mirror in a drill's copy is behind: {error}"
                );
            }
        }
    }

    /// Shows a document; returns the revision that the mirror shows then.
    async fn show(&self, source: &Source, document: &Document) -> Result<u64, SourceError> {
        if source.mirrored().await?.is_none() {
            source.run_script(&self.mirror_script(source, "install").await?).await?;
        }
        let flags: Vec<MirroredFlag> = document
            .flags
            .values()
            .filter_map(|entry| match entry {
                FlagEntry::Known(flag) => Some(mirrored(flag, document)),
                FlagEntry::Unreadable { .. } => None,
            })
            .collect();
        match source.mirror(&document.environment, document.revision, &flags).await {
            Ok(_) | Err(SourceError::Raced) => {} // raced: another node shows it at this moment
            Err(error) => return Err(error),
        }
        Ok(source.mirrored().await?.map_or(0, |found| found.revision))
    }

    async fn mirror_script(&self, source: &Source, what: &str) -> Result<String, SourceError> {
        let ending = if source.dialect().await? == Dialect::Sqlite { "_sqlite" } else { "" };
        let path = format!("sql/flag_mirror_{what}{ending}.sql");
        let catalogue = self.catalogue.load();
        catalogue.templates.script(&path).map(str::to_owned).map_err(SourceError::Refused)
    }

    /// Takes a data source's mirror away.
    pub(super) async fn remove_mirror(&self, name: &str) -> Result<(), AppError> {
        let source = self.source(name).await?;
        let removed = async {
            let script = self.mirror_script(&source, "remove").await?;
            source.run_script(&script).await
        };
        removed.await.map_err(|error| {
            AppError::Refused(format!(
                "the mirror of flags in `{name}` cannot be taken away: {error}"
            ))
        })?;
        self.note_mirror(name, None);
        Ok(())
    }

    /// How far a data source's mirror is.
    pub(super) fn mirror_of(&self, name: &str) -> Option<MirrorStatus> {
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn note_mirror(&self, name: &str, status: Option<MirrorStatus>) {
        let mut all = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        match status {
            Some(status) => drop(all.insert(name.to_owned(), status)),
            None => drop(all.remove(name)),
        }
    }
}

/// What this node knows of mirrors, by data source.
pub type Mirrors = std::sync::Mutex<BTreeMap<String, MirrorStatus>>;

fn mirrored(flag: &Flag, document: &Document) -> MirroredFlag {
    let reach = reach(flag, document, &mut BTreeSet::new());
    MirroredFlag {
        key: flag.key.as_str().to_owned(),
        enabled: reach == Reach::Everybody,
        reach: match reach {
            Reach::Nobody => "nobody",
            Reach::Some => "some",
            Reach::Everybody => "everybody",
        },
        expires_at: flag.state.expires_at,
    }
}

fn reach(flag: &Flag, document: &Document, seen: &mut BTreeSet<String>) -> Reach {
    let state = &flag.state;
    if !state.enabled || state.killed {
        return Reach::Nobody;
    }
    let own = match state.rules.first() {
        None => Reach::Everybody,
        Some(rule) if admits_all(rule) && rule.serve == Serve::On => Reach::Everybody,
        Some(rule) if admits_all(rule) => Reach::Nobody,
        Some(_) => Reach::Some,
    };
    if !seen.insert(flag.key.as_str().to_owned()) {
        return Reach::Some; // a circle is refused when it is written; nothing is said of one
    }
    state.prerequisites.iter().fold(own, |so_far, wanted| {
        let other = match document.flags.get(wanted.flag.as_str()) {
            Some(FlagEntry::Known(other)) if other.state.expires_at.is_none() => {
                reach(other, document, seen)
            }
            Some(_) => Reach::Some,
            None => Reach::Nobody,
        };
        let holds = match (other, wanted.enabled) {
            (Reach::Everybody, true) if wanted.variants.is_empty() => Reach::Everybody,
            (Reach::Nobody, false) => Reach::Everybody,
            (Reach::Nobody, true) | (Reach::Everybody, false) => Reach::Nobody,
            _ => Reach::Some,
        };
        match (so_far, holds) {
            (Reach::Nobody, _) | (_, Reach::Nobody) => Reach::Nobody,
            (Reach::Everybody, Reach::Everybody) => Reach::Everybody,
            _ => Reach::Some,
        }
    })
}

fn admits_all(rule: &Rule) -> bool {
    let free = rule.groups.is_empty()
        && rule.platforms.is_empty()
        && rule.constraints.is_empty()
        && rule.segments.is_empty();
    free && rule.percent == Percent::ALL
}
