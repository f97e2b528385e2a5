//! Backups of data sources: which there are, taking and proving them as runs of shipped playbooks, and the port of the steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_core::model::Millis;
use switchback_playbook::backups::{
    Backup, BackupCheck, BackupSpace, BackupWish, Backups, Verified,
};
use switchback_playbook::ports::PortError;
use switchback_source::{Dialect, Look, Proof, Scope, Shelf, SourceError, Taken, Work};
use switchback_store::{BackupRow, Role, RunRow};

use super::App;
use super::error::AppError;
use super::ids;
use super::playbooks::RunDraft;
use super::ports::{Ports, port_error, source_error};
use super::who::{EVERYWHERE, Who};

/// What a restore has replaced is kept for a day at least, so that it can be undone.
const UNDO_WITHIN_MS: i64 = 86_400_000;

/// A backup, for people.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct BackupView {
    /// Its id.
    pub id: String,
    /// The file's name in the folder of backups.
    pub file: String,
    /// When it was begun, in UTC milliseconds.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
    /// The run that took it.
    pub run_id: Option<String>,
    /// It is removed after this, in UTC milliseconds; the newest verified one stays.
    pub keep_until: Millis,
    /// What is in the file.
    pub taken: Taken,
    /// When restoring it worked; none when it was not tried, or did not work the last time.
    pub verified_at: Option<Millis>,
    /// How that went.
    pub proof: Option<Proof>,
    /// How old it was then, in milliseconds (RPO).
    pub age_ms: Option<u64>,
    /// Why it did not work.
    pub failure: Option<String>,
}

/// What the last try to restore a backup has shown.
#[derive(Default, Serialize, Deserialize)]
struct Verification {
    proof: Option<Proof>,
    age_ms: Option<u64>,
    failure: Option<String>,
}

/// What to do about a source's backups.
#[derive(Clone, Debug)]
pub struct BackupDraft {
    /// The data source.
    pub source: String,
    /// The environment that the run belongs to; `production`, or the first one, when not said.
    pub environment: Option<String>,
    /// Why.
    pub reason: String,
    /// `ui`, `cli`, `api`.
    pub trigger: &'static str,
    /// Values for the playbook's other inputs.
    pub inputs: BTreeMap<String, Value>,
}

impl BackupView {
    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.taken.counts.iter().map(|count| count.rows).sum()
    }
}

impl App {
    /// A data source's backups, newest first.
    pub async fn list_backups(&self, who: &Who, source: &str) -> Result<Vec<BackupView>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at backups")?;
        self.store.get_data_source(source).await?;
        self.store.list_backups(source).await?.into_iter().map(view).collect()
    }

    /// Starts a run that takes a backup.
    pub async fn start_backup(
        self: &Arc<Self>,
        who: &Who,
        draft: BackupDraft,
    ) -> Result<RunRow, AppError> {
        self.start_backup_run(who, "backup-take", draft).await
    }

    /// Starts a run that restores the newest backup elsewhere.
    pub async fn start_backup_verification(
        self: &Arc<Self>,
        who: &Who,
        draft: BackupDraft,
    ) -> Result<RunRow, AppError> {
        self.start_backup_run(who, "backup-verify", draft).await
    }

    async fn start_backup_run(
        self: &Arc<Self>,
        who: &Who,
        playbook: &str,
        draft: BackupDraft,
    ) -> Result<RunRow, AppError> {
        who.must(Role::Operator, EVERYWHERE, "back up data sources")?;
        self.store.get_data_source(&draft.source).await?;
        let BackupDraft { source, environment, reason, trigger, mut inputs } = draft;
        let environment = environment.unwrap_or_else(|| {
            let known = self.known_environments();
            let named = known.iter().find(|one| one.key == "production").or(known.first());
            named.map_or_else(|| "production".to_owned(), |one| one.key.clone())
        });
        inputs.insert("source".to_owned(), json!(source));
        let playbook = playbook.to_owned();
        self.start_run(
            who,
            RunDraft { playbook, environment, reason, inputs, trigger, break_glass: false },
        )
        .await
    }

    /// Where backups lie.
    pub(super) fn shelf(&self) -> Shelf {
        let backup = &self.config.backup;
        let folder = match &backup.dir {
            Some(folder) => folder.clone(),
            None => self.config.data_dir.join("backups"),
        };
        // SQLite's names of files and the programs' arguments need a whole path.
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        Shelf { folder, pg_bin_dir: backup.pg_bin_dir.clone() }
    }

    /// Removes what attempts have left that died, and backups past their time; a source's newest verified one stays.
    pub async fn sweep_backups(&self) {
        let shelf = self.shelf();
        if let Err(error) = shelf.sweep().await {
            tracing::warn!("unfinished backups could not be swept: {error}");
        }
        let expired = match self.store.list_expired_backups(self.clock.now()).await {
            Ok(expired) => expired,
            Err(error) => {
                tracing::warn!(error = %error, "old backups could not be looked up; the next sweep will");
                return;
            }
        };
        for row in expired {
            let removed = async {
                let newest = self.store.latest_backup(&row.source, true).await?;
                if newest.is_some_and(|newest| newest.id == row.id) {
                    return Ok(());
                }
                // The row first: a file without a row is waste, a row without a file a lie.
                self.store.delete_backup(&row.id).await?;
                shelf.remove(&row.file).await.map_err(|error| AppError::Refused(error.to_string()))
            };
            if let Err(error) = removed.await {
                tracing::warn!(error = %error, "the backup {} could not be removed", row.file);
            }
        }
    }
}

fn view(row: BackupRow) -> Result<BackupView, AppError> {
    let corrupt = |error: serde_json::Error| AppError::Internal(Box::new(error));
    let found = row.verification.map(serde_json::from_value::<Verification>);
    let Verification { proof, age_ms, failure } =
        found.transpose().map_err(corrupt)?.unwrap_or_default();
    Ok(BackupView {
        id: row.id,
        file: row.file,
        created_at: row.created_at,
        created_by: row.created_by,
        run_id: row.run_id,
        keep_until: row.keep_until,
        taken: serde_json::from_value(row.body).map_err(corrupt)?,
        verified_at: row.verified_at,
        proof,
        age_ms,
        failure,
    })
}

fn taken_of(row: &BackupRow) -> Result<Taken, PortError> {
    Taken::deserialize(&row.body)
        .map_err(|_| PortError::Refused(format!("what is known of {} cannot be read", row.file)))
}

fn backup(row: BackupRow) -> Result<Backup, PortError> {
    let taken = taken_of(&row)?;
    Ok(Backup {
        rows: taken.counts.iter().map(|count| count.rows).sum(),
        bytes: taken.bytes,
        id: row.id,
        source: row.source,
        file: row.file,
        created_at: row.created_at,
        verified_at: row.verified_at,
    })
}

fn scope(wish: &BackupWish) -> Scope {
    Scope { schemas: wish.schemas.clone(), tables: wish.tables.clone() }
}

#[async_trait]
impl Backups for Ports {
    async fn space(&self, wish: &BackupWish) -> Result<BackupSpace, PortError> {
        let source = self.source(&wish.source).await?;
        let space = source.space(&self.app.shelf(), &scope(wish)).await;
        let space = space.map_err(|error| source_error(&wish.source, &error))?;
        let switchback_source::Space { database_bytes, free_bytes } = space;
        Ok(BackupSpace { database_bytes, free_bytes })
    }

    async fn take(&self, key: &str, wish: &BackupWish) -> Result<Backup, PortError> {
        let store = &self.app.store;
        if let Some(row) = store.find_backup(key).await.map_err(port_error)? {
            return backup(row);
        }
        self.app.sweep_backups().await;
        let failed = |error: SourceError| source_error(&wish.source, &error);
        let source = self.source(&wish.source).await?;
        let ending = match source.dialect().await.map_err(failed)? {
            Dialect::Postgres => "dump",
            Dialect::Sqlite => "db",
        };
        let hash: String = ids::hash(key).chars().take(16).collect();
        let file = format!("{}-{hash}.{ending}", wish.source);
        let created_at = self.app.clock.now();
        let taken = source.take(&self.app.shelf(), &file, &scope(wish)).await.map_err(failed)?;
        let body = serde_json::to_value(&taken).unwrap_or_default();
        let row = BackupRow {
            id: self.app.ids.next("bak"),
            key: key.to_owned(),
            source: self.kept_as(&wish.source),
            file,
            body,
            created_at,
            created_by: self.who().name,
            run_id: self.run.as_ref().map(|run| run.id.clone()),
            keep_until: created_at.saturating_add_unsigned(wish.keep_ms),
            verified_at: None,
            verification: None,
        };
        store.put_backup(&row).await.map_err(port_error)?;
        tracing::info!(backup.id = row.id, "`{}` is backed up: {}", row.source, row.file);
        match store.find_backup(key).await.map_err(port_error)? {
            Some(row) => backup(row),
            None => Err(PortError::NotFound(format!("the backup {}", row.file))),
        }
    }

    async fn find(&self, key: &str) -> Result<Option<Backup>, PortError> {
        self.app.store.find_backup(key).await.map_err(port_error)?.map(backup).transpose()
    }

    async fn get(&self, id: &str) -> Result<Backup, PortError> {
        backup(self.app.store.get_backup(id).await.map_err(port_error)?)
    }

    async fn latest(&self, source: &str, verified: bool) -> Result<Option<Backup>, PortError> {
        let found = self
            .app
            .store
            .latest_backup(&self.kept_as(source), verified)
            .await
            .map_err(port_error)?;
        found.map(backup).transpose()
    }

    async fn verify(&self, id: &str, checks: &[BackupCheck]) -> Result<Verified, PortError> {
        let row = self.app.store.get_backup(id).await.map_err(port_error)?;
        let source = self.source(&row.source).await?;
        let looks: Vec<Look> = checks
            .iter()
            .map(|check| Look { sql: check.sql.clone(), expect: check.expect.clone() })
            .collect();
        let now = self.app.clock.now();
        let age_ms = now.saturating_sub(row.created_at).max(0) as u64;
        let taken = taken_of(&row)?;
        let proved = source.prove(&self.app.shelf(), &row.file, &taken, &looks, id).await;
        let (verified_at, noted) = match &proved {
            Ok(proof) => {
                let proof = Some(proof.clone());
                (Some(now), Verification { proof, age_ms: Some(age_ms), failure: None })
            }
            // A server that does not answer says nothing about the backup.
            Err(error) if error.is_passing() => return Err(source_error(&row.source, error)),
            Err(error) => {
                let failure = Some(error.to_string());
                (None, Verification { failure, ..Verification::default() })
            }
        };
        let noted = serde_json::to_value(noted).unwrap_or_default();
        let kept = self.app.store.note_verification(id, verified_at, &noted).await;
        kept.map_err(port_error)?;
        let Proof { restore_ms, tables, rows, .. } =
            proved.map_err(|error| source_error(&row.source, &error))?;
        Ok(Verified { restore_ms, age_ms, tables, rows })
    }

    async fn restore(&self, key: &str, before_key: &str, id: &str) -> Result<Backup, PortError> {
        let row = self.app.store.get_backup(id).await.map_err(port_error)?;
        let taken = taken_of(&row)?;
        let failed = |error: SourceError| source_error(&row.source, &error);
        let source = self.source(&row.source).await?;
        let Scope { schemas, tables } = taken.scope.clone();
        let keep_ms = (row.keep_until - row.created_at).max(UNDO_WITHIN_MS) as u64;
        let wish = BackupWish { source: row.source.clone(), schemas, tables, keep_ms };
        let before = self.take(before_key, &wish).await?;
        // The ledger of what scripts did also says what became of this: begun, failed, or done. It is made before, so that
        // what has happened can be noted.
        let nothing = Work { sql: "SELECT 1", params: &[], rows_max: 0, snapshots: &[] };
        let note = async |key: &str| source.exec(key, &nothing).await.map(drop);
        note(&begun(key)).await.map_err(failed)?;
        let restored = source.restore(&self.app.shelf(), &row.file, &taken).await;
        let noted = match &restored {
            Ok(()) => note(key).await,
            Err(error) if error.is_passing() => Ok(()), // it may have happened
            Err(_) => note(&not_done(key)).await,
        };
        // Never tried again by itself: what was written in between would be lost.
        restored.and(noted).map_err(|error| PortError::Refused(failed(error).to_string()))?;
        tracing::warn!(backup.id = id, "`{}` was put back to {}", row.source, row.file);
        Ok(before)
    }

    async fn was_restored(&self, key: &str, source: &str) -> Result<Option<bool>, PortError> {
        let connected = self.source(source).await?;
        for (key, answer) in
            [(key.to_owned(), Some(true)), (not_done(key), Some(false)), (begun(key), None)]
        {
            let found = connected.find(&key).await.map_err(|error| source_error(source, &error))?;
            if found.is_some() {
                return Ok(answer);
            }
        }
        Ok(Some(false))
    }
}

fn begun(key: &str) -> String {
    format!("{key}-begun")
}

fn not_done(key: &str) -> String {
    format!("{key}-failed")
}
