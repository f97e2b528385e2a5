//! Kill without the database: it takes effect from memory, lies in a file on disk, and is written to
//! the database when that answers again. Off must always work.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use switchback_core::model::{FlagEntry, FlagState, Millis};
use switchback_store::{ChangedFlag, Stamp, StoreError};

use super::App;
use super::error::AppError;
use super::who::Who;

/// Room for a hundred kills.
const RESERVE_BYTES: usize = 65_536;

/// A kill that the database does not know yet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Kill {
    id: String,
    environment: String,
    flag: String,
    actor: String,
    reason: String,
    at: Millis,
}

/// Kills that wait for the database, in memory and in a file of one JSON object a line.
pub(crate) struct EmergencyJournal {
    file: PathBuf,
    /// Room that is given up when the disk is full: a kill must find some.
    reserve: PathBuf,
    pending: Mutex<Vec<Kill>>,
    /// One reconciliation at a time.
    turn: tokio::sync::Mutex<()>,
}

impl EmergencyJournal {
    /// Reads what an earlier process could not write to the database any more. A line that was cut off
    /// by a crash was never acknowledged and is passed over.
    pub fn open(data_dir: &Path) -> Self {
        let file = data_dir.join("emergency-kills.jsonl");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let pending = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let reserve = data_dir.join("emergency-kills.reserve");
        keep_room(&reserve);
        Self { file, reserve, pending: Mutex::new(pending), turn: tokio::sync::Mutex::new(()) }
    }

    fn pending(&self) -> Vec<Kill> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a kill; it is on disk when this returns.
    async fn keep(&self, kill: Kill) -> Result<(), AppError> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push(kill);
        self.write().await
    }

    async fn forget(&self, id: &str) -> Result<(), AppError> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).retain(|kill| kill.id != id);
        self.write().await
    }

    async fn write(&self) -> Result<(), AppError> {
        let (file, reserve, pending) = (self.file.clone(), self.reserve.clone(), self.pending());
        let written = tokio::task::spawn_blocking(move || match write_lines(&file, &pending) {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                let _ = std::fs::remove_file(&reserve); // it may be given up already
                write_lines(&file, &pending)
            }
            Ok(()) if pending.is_empty() => {
                keep_room(&reserve);
                Ok(())
            }
            written => written,
        });
        let written = written.await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(AppError::Internal(Box::new(error))),
            Err(error) => Err(AppError::Internal(Box::new(error))),
        }
    }
}

/// Takes the room that a full disk will not have; without it kills go on as long as the disk has room.
fn keep_room(reserve: &Path) {
    if reserve.metadata().is_ok_and(|file| file.len() == RESERVE_BYTES as u64) {
        return;
    }
    let made = reserve.parent().map_or(Ok(()), std::fs::create_dir_all);
    let made = made.and_then(|()| std::fs::write(reserve, vec![0; RESERVE_BYTES]));
    if let Err(error) = made {
        tracing::warn!(error = %error, "no room could be kept for kills on a full disk");
    }
}

/// Replaces the file as a whole, so that a crash leaves the old one or the new one.
fn write_lines(file: &Path, kills: &[Kill]) -> std::io::Result<()> {
    if kills.is_empty() {
        return match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension("new");
    let mut out = std::fs::File::create(&beside)?;
    for kill in kills {
        serde_json::to_writer(&mut out, kill)?;
        out.write_all(b"\n")?;
    }
    out.sync_all()?;
    std::fs::rename(beside, file)
}

impl App {
    /// Kills a flag for this node's clients while the database is away.
    pub(crate) async fn kill_from_memory(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        reason: &str,
    ) -> Result<ChangedFlag, AppError> {
        let snapshot = self.hub.feed(environment, None).await?.current();
        let Some(FlagEntry::Known(flag)) = snapshot.document.flags.get(key) else {
            return Err(AppError::NotFound { kind: "flag", key: key.to_owned() });
        };
        let Stamp { actor, reason, at, id, .. } = self.stamp(who, reason);
        let (environment, key) = (environment.to_owned(), key.to_owned());
        let kill = Kill { id: id.clone(), environment, flag: key, actor, reason, at };
        let (environment, key) = (kill.environment.clone(), kill.flag.clone());
        self.emergency.keep(kill).await?;
        self.hub.kill_in_memory(&environment, &key, &id);
        tracing::error!(
            flag.key = key,
            environment.key = environment,
            "flag `{key}` in `{environment}` was killed from memory: the database is away",
        );
        let before = flag.state.clone();
        let after = FlagState { killed: true, ..before.clone() };
        let revision = snapshot.document.revision;
        Ok(ChangedFlag {
            revision,
            changed: !before.killed,
            before,
            after,
            before_revision: revision,
        })
    }

    /// Writes what was killed from memory to the database, once it answers. Called before anything is
    /// read from it anew, so that no client ever sees the flag alive again in between.
    pub(crate) async fn reconcile_kills(&self) -> Result<(), StoreError> {
        if self.emergency.pending().is_empty() {
            return Ok(());
        }
        let _turn = self.emergency.turn.lock().await;
        for kill in self.emergency.pending() {
            let by = Stamp {
                actor: kill.actor.clone(),
                reason: kill.reason.clone(),
                at: self.clock.now(),
                emergency: true,
                run_id: None,
                id: self.ids.next("chg"),
            };
            let decide = |before: &FlagState, _| {
                Ok::<_, StoreError>(FlagState { killed: true, ..before.clone() })
            };
            let (environment, flag) = (kill.environment.as_str(), kill.flag.as_str());
            match self.store.change_flag(environment, flag, "kill", &by, decide).await {
                Ok(_) => {
                    tracing::info!(flag.key = flag, "the kill of `{flag}` is in the database now");
                }
                Err(StoreError::NotFound { .. }) => {
                    tracing::warn!(flag.key = flag, "`{flag}`, killed from memory, is gone");
                }
                Err(error) => return Err(error),
            }
            if let Err(error) = self.emergency.forget(&kill.id).await {
                tracing::error!(error = %error, "the file of emergency kills cannot be written");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_survives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let kill = Kill {
            id: "chg_1".to_owned(),
            environment: "production".to_owned(),
            flag: "auth_enabled".to_owned(),
            actor: "ada".to_owned(),
            reason: "it hurts".to_owned(),
            at: 7,
        };
        let file = folder.path().join("emergency-kills.jsonl");
        write_lines(&file, std::slice::from_ref(&kill)).unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(&file)
            .unwrap()
            .write_all(b"{\"id\":\"cut")
            .unwrap();

        let journal = EmergencyJournal::open(folder.path());

        assert_eq!(journal.pending(), [kill]);
    }
}
