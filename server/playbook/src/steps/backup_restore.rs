//! `backup.restore`: puts a backup back into its data source, after taking one of what is there.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::backup_take::LIMIT_MS;
use super::backup_verify::{Of, look};
use super::{
    At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind, Undo,
};

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(flatten)]
    of: Of,
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "backup.restore"
    }

    fn about(&self) -> &'static str {
        "Puts a backup back in one transaction, after a backup of what is there now, which its undo puts back. Needs an approval."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field {
                name: "of",
                about: "a backup.take step before it, or `latest`: the newest that was verified",
            },
            Field { name: "source", about: "the data source, with `latest`" },
        ]
    }

    /// What the app has written since the first attempt would be lost by a second.
    fn idempotent(&self) -> bool {
        false
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params { of: Of::read(fields)? };
        let does = format!("Put back {}; what was written since is lost", params.of.says());
        let undoes = "Put back the backup that was taken just before".to_owned();
        let resolved = Resolved::new(&params, does);
        Ok(Resolved { undoes, danger: true, timeout_ms: LIMIT_MS, ..resolved })
    }

    async fn preview(&self, at: &At<'_>, _so_far: &mut Overlay) -> Effect {
        match at.read::<Params>() {
            Ok(params) => look(&params.of, at, true).await,
            Err(_) => Effect::none(),
        }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let Some(backup) = params.of.find(at, true).await? else {
            let message = format!("{} is not there, or was never verified", params.of.says());
            return Err(StepError::permanent(message));
        };
        if backup.verified_at.is_none() {
            let message = format!("{} was never verified: add backup.verify before", backup.file);
            return Err(StepError::permanent(message));
        }
        let backups = &at.world.backups;
        let before = backups.restore(&at.key("do"), &at.key("before"), &backup.id).await?;
        let says = format!(
            "`{}` is as in {}; as it was just before: {}",
            backup.source, backup.file, before.file
        );
        Ok(Ran::Done(json!({"says": says, "backup": backup.id, "before": before.id})))
    }

    async fn probe(&self, at: &At<'_>) -> Result<Option<Value>, StepError> {
        let Some(before) = at.world.backups.find(&at.key("before")).await? else {
            return Ok(None);
        };
        let done = at.world.backups.was_restored(&at.key("do"), &before.source).await?;
        let says = format!("it was restored; as it was just before: {}", before.file);
        Ok((done == Some(true)).then(|| json!({"says": says, "before": before.id})))
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        let backups = &at.world.backups;
        if let Some(before) = backups.find(&at.key("before")).await?
            && backups.was_restored(&at.key("do"), &before.source).await? == Some(true)
        {
            let says = format!("restored; as it was just before: {}", before.file);
            return Ok(Check::Holds(says));
        }
        Ok(Check::Broken("the data source does not know of it".to_owned()))
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let backups = &at.world.backups;
        let Some(before) = backups.find(&at.key("before")).await? else {
            return Ok(Ran::Done(json!({"says": "it had not begun"})));
        };
        match backups.was_restored(&at.key("do"), &before.source).await? {
            Some(true) => {}
            Some(false) => return Ok(Ran::Done(json!({"says": "it had not happened"}))),
            None if at.forced => {}
            None => {
                let message = format!(
                    "it was cut off and may have happened; {} is as it was just before",
                    before.file
                );
                return Err(StepError::Conflict(message));
            }
        }
        if backups.was_restored(&at.key("undo"), &before.source).await? != Some(true) {
            backups.restore(&at.key("undo"), &at.key("before-undo"), &before.id).await?;
        }
        Ok(Ran::Done(json!({"says": format!("{} is put back", before.file)})))
    }
}
