//! The archive of flags: a flag goes in every environment, and comes back as it was.

use switchback_playbook::archive::ArchiveState;
use switchback_store::{Role, StoreError};

use super::App;
use super::bulk::depends;
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::live::News;

impl App {
    /// Archives a flag everywhere. Refused while another flag depends on it.
    pub async fn archive_flag(&self, who: &Who, key: &str, reason: &str) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "archive flags")?;
        if let Some(child) = self.dependants_of(key).await?.first() {
            return Err(AppError::Refused(depends(child)));
        }
        self.store.set_flag_archived(key, true, &self.stamp(who, reason)).await?;
        self.flag_moved(key, "archived").await;
        Ok(())
    }

    /// Brings an archived flag back, in every environment as it was there. Refused while what its rules name is missing.
    pub async fn unarchive_flag(&self, who: &Who, key: &str, reason: &str) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "bring flags back")?;
        let found = self.look_at_archive(key).await?;
        if !found.is_archived {
            return Err(AppError::Refused(format!("`{key}` is not archived")));
        }
        if let Some(why) = found.obstacle {
            return Err(AppError::Refused(why));
        }
        self.store.set_flag_archived(key, false, &self.stamp(who, reason)).await?;
        self.flag_moved(key, "brought back").await;
        Ok(())
    }

    /// How a flag stands towards the archive, and what stands in the way.
    pub(super) async fn look_at_archive(&self, key: &str) -> Result<ArchiveState, AppError> {
        let mut is_archived = None;
        for environment in self.known_environments() {
            let row = match self.store.get_flag(&environment.key, key).await {
                Ok(row) => row,
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            is_archived = Some(row.flag.archived_at.is_some());
            if row.flag.archived_at.is_none() {
                break;
            }
            if let Err(error) = self.check_references(&environment.key, key, &row.state).await {
                let obstacle = Some(format!("in `{}`: {error}", environment.key));
                return Ok(ArchiveState { is_archived: true, obstacle });
            }
        }
        let missing = || AppError::NotFound { kind: "flag", key: key.to_owned() };
        let is_archived = is_archived.ok_or_else(missing)?;
        let needed = if is_archived { Vec::new() } else { self.dependants_of(key).await? };
        Ok(ArchiveState { is_archived, obstacle: needed.first().map(depends) })
    }

    /// Tells every environment's clients.
    pub(super) async fn flag_moved(&self, key: &str, how: &str) {
        for environment in self.known_environments() {
            self.announce(News::Environment(environment.key)).await;
        }
        tracing::info!(flag.key = key, "flag `{key}` {how}");
    }
}
