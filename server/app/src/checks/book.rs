//! Which packs of checks there are: shipped ones, those of the operator's folder, and those that were written here, which win.

use std::collections::BTreeMap;

use serde::Serialize;
use switchback_checks::Pack;
use switchback_checks::event_mode::Settings;
use switchback_core::model::Millis;
use switchback_store::{Role, StoreError, TemplateVersion};

use crate::App;
use crate::error::{AppError, Wrong};
use crate::watch::rulebook::RuleProblem;
use crate::who::{EVERYWHERE, Who};

/// Packs that may be written here at most.
const PACKS_MAX: usize = 100;

/// What is wrong with a pack's text.
pub type PackProblem = RuleProblem;

/// A pack with where it comes from and how it is monitored.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct KnownPack {
    /// What it says.
    pub pack: Pack,
    /// Its text.
    pub source: String,
    /// The newest version that was written here; 0: none.
    pub version: u64,
    /// Whether it was written here; otherwise it is shipped, or lies in the operator's folder.
    pub is_own: bool,
    /// When it was changed here, in UTC milliseconds, and by whom.
    pub changed: Option<(Millis, String)>,
    /// How it is monitored.
    pub settings: Settings,
    /// Goes up with each change of the settings; 0: never set.
    pub settings_version: u64,
}

impl App {
    /// Every pack by name, as the database and the files have them now.
    pub(super) async fn check_book(&self) -> Result<BTreeMap<String, KnownPack>, StoreError> {
        let own = self.store.list_check_packs().await?;
        let catalogue = self.catalogue.load();
        let mut packs: BTreeMap<String, KnownPack> = BTreeMap::new();
        let known = |pack: Pack, source: String, version: Option<&TemplateVersion>, is_own| {
            let changed = version.map(|one| (one.created_at, one.created_by.clone()));
            KnownPack {
                pack,
                source,
                version: version.map_or(0, |one| one.version),
                is_own,
                changed,
                settings: Settings::default(),
                settings_version: 0,
            }
        };
        for (name, (pack, source)) in &catalogue.check_packs {
            let version = own.iter().find(|version| version.name == *name);
            packs.insert(name.clone(), known(pack.clone(), source.clone(), version, false));
        }
        for version in &own {
            let Some(source) = version.source.clone() else { continue };
            match Pack::parse(&source) {
                Ok(pack) => {
                    packs.insert(version.name.clone(), known(pack, source, Some(version), true));
                }
                Err(problems) => {
                    let first = problems.first().map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(pack = version.name, "a pack of checks cannot be read: {first}");
                }
            }
        }
        for row in self.store.list_check_settings().await? {
            if let Some(pack) = packs.get_mut(&row.pack) {
                // What another release wrote and this one cannot read is not monitored.
                pack.settings = serde_json::from_value(row.settings).unwrap_or_default();
                pack.settings_version = row.version;
            }
        }
        Ok(packs)
    }

    /// One pack.
    pub async fn get_check_pack(&self, who: &Who, name: &str) -> Result<KnownPack, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at checks")?;
        let mut book = self.check_book().await?;
        book.remove(name).ok_or_else(|| {
            let near = crate::config::nearest(name, book.keys().map(String::as_str));
            AppError::NotFound { kind: "pack of checks", key: format!("{name}{near}") }
        })
    }

    /// What is wrong with a pack's text; nothing when it may be kept.
    pub fn check_pack_text(&self, who: &Who, source: &str) -> Result<Vec<PackProblem>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "check packs")?;
        let found = Pack::parse(source).err().unwrap_or_default();
        Ok(found.into_iter().map(PackProblem::from).collect())
    }

    /// Keeps a new version of a pack. `expected`: the version that it was made from. Where it has a data source, that one looks
    /// it over first.
    ///
    /// # Errors
    /// The text is no pack, or its database refuses it: every fault; or somebody else saved meanwhile.
    pub async fn put_check_pack(
        &self,
        who: &Who,
        name: &str,
        source: &str,
        expected: Option<u64>,
    ) -> Result<KnownPack, AppError> {
        // It is SQL that runs in the app's databases.
        who.must(Role::Admin, EVERYWHERE, "write packs of checks")?;
        let pack = Pack::parse(source).map_err(|problems| {
            let wrong = problems.into_iter();
            let wrong =
                wrong.map(|one| Wrong { field: "source".to_owned(), message: one.to_string() });
            AppError::Invalid(wrong.collect())
        })?;
        if pack.name != name {
            let message = format!("the text names another pack, and this is `{name}`");
            return Err(AppError::invalid("source", message));
        }
        if let Ok(known) = self.get_check_pack(who, name).await
            && !known.settings.source.is_empty()
        {
            let faults = self.lint_pack(&pack, &known.settings).await?;
            let wrong: Vec<Wrong> = faults
                .into_iter()
                .filter(|one| one.is_error)
                .map(|one| Wrong { field: one.check, message: one.message })
                .collect();
            if !wrong.is_empty() {
                return Err(AppError::Invalid(wrong));
            }
        }
        let own = self.store.list_check_packs().await?;
        let last = own.iter().find(|version| version.name == name);
        if last.is_none() && own.len() >= PACKS_MAX {
            let message = format!("there are {PACKS_MAX} packs of your own, which is the most");
            return Err(AppError::Refused(message));
        }
        let expected = expected.unwrap_or(last.map_or(0, |version| version.version));
        self.store.put_check_pack(name, expected, Some(source), &self.stamp(who, "")).await?;
        self.checks.wake.notify_one();
        self.get_check_pack(who, name).await
    }

    /// Removes what was written here; a shipped pack of the same name counts again.
    pub async fn reset_check_pack(&self, who: &Who, name: &str) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "remove packs of checks")?;
        let known = self.get_check_pack(who, name).await?;
        if !known.is_own {
            let message = format!("`{name}` was not written here, so it cannot be removed here");
            return Err(AppError::Refused(message));
        }
        let by = self.stamp(who, "");
        Ok(self.store.put_check_pack(name, known.version, None, &by).await.map(drop)?)
    }
}
