//! `backup.verify`: restores a backup elsewhere, since one that was not restored is only a hope.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::backup_take::LIMIT_MS;
use super::{
    Answer, At, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind,
};
use crate::backups::{Backup, BackupCheck};
use crate::units::{bytes_text, duration_words};

const CHECKS_MAX: usize = 20;

/// The kind.
pub struct Kind;

/// Which backup a step means.
#[derive(Serialize, Deserialize)]
pub(super) struct Of {
    /// A step that takes one, or `latest`.
    of: String,
    /// With `latest`.
    source: Option<String>,
}

impl Of {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let of = fields.text("of", 60)?;
        let source = fields.text_or_none("source", 60)?;
        if of == "latest" {
            if source.is_none() {
                return Err(Fault::new("source", "`latest` goes with a `source`"));
            }
            return Ok(Self { of, source });
        }
        if source.is_some() {
            return Err(Fault::new("source", "the step in `of` says which source"));
        }
        if fields.earlier.iter().any(|(id, kind)| *id == of && kind == "backup.take") {
            return Ok(Self { of, source });
        }
        let message = format!("`{of}` is no earlier backup.take step");
        Err(Fault::new("of", message).hint("name one, or write `latest` with a `source`"))
    }

    /// In words.
    pub(super) fn says(&self) -> String {
        match &self.source {
            Some(source) => format!("the newest backup of `{source}`"),
            None => format!("the backup that `{}` took", self.of),
        }
    }

    /// The backup; `None` when it is still to be taken. `latest` means verified ones alone where `verified` is said.
    pub(super) async fn find(
        &self,
        at: &At<'_>,
        verified: bool,
    ) -> Result<Option<Backup>, StepError> {
        let backups = &at.world.backups;
        if let Some(source) = &self.source {
            return Ok(backups.latest(source, verified).await?);
        }
        let id = at.outputs.get(&self.of).and_then(|output| output.get("backup"));
        match id.and_then(Value::as_str) {
            Some(id) => Ok(Some(backups.get(id).await?)),
            None => Ok(None),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(flatten)]
    of: Of,
    checks: Vec<BackupCheck>,
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "backup.verify"
    }

    fn about(&self) -> &'static str {
        "Restores a backup into a database of its own, compares every table's rows, asks the checks there, and removes it."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "of", about: "a backup.take step before it, or `latest`" },
            Field { name: "source", about: "the data source, with `latest`" },
            Field { name: "checks", about: "a list of {sql, expect}, asked in the restored data" },
        ]
    }

    fn stoppable(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params { of: Of::read(fields)?, checks: checks(fields)? };
        let does = format!("Restore {} elsewhere and look at it", params.of.says());
        Ok(Resolved { timeout_ms: LIMIT_MS, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _so_far: &mut Overlay) -> Effect {
        match at.read::<Params>() {
            Ok(params) => look(&params.of, at, false).await,
            Err(_) => Effect::none(),
        }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let Some(backup) = params.of.find(at, false).await? else {
            return Err(StepError::permanent(format!("there is no {}", params.of.says())));
        };
        let seen = at.world.backups.verify(&backup.id, &params.checks).await?;
        let (took, age) = (duration_words(seen.restore_ms), duration_words(seen.age_ms));
        let says = format!(
            "{} restored in {took}: {} rows of {} tables as they were; it is {age} old",
            backup.file, seen.rows, seen.tables
        );
        Ok(Ran::Done(json!({
            "says": says, "backup": backup.id, "rto_ms": seen.restore_ms, "rpo_ms": seen.age_ms,
        })))
    }
}

/// What a dry run tells about the backup that a step means.
pub(super) async fn look(of: &Of, at: &At<'_>, verified: bool) -> Effect {
    let backup = match of.find(at, verified).await {
        Ok(Some(backup)) => backup,
        Ok(None) if of.source.is_none() => {
            let change = Answer::Unknown(format!("{} is not there yet", of.says()));
            return Effect { change, ..Effect::none() };
        }
        Ok(None) => {
            let why = if verified { " that was verified" } else { "" };
            let change = Answer::Unknown("there is no backup to use".to_owned());
            let warnings = vec![format!("{}{why} is not there", of.says())];
            return Effect { change, warnings, ..Effect::none() };
        }
        Err(error) => {
            let change = Answer::Unknown("backups could not be looked at".to_owned());
            return Effect { change, warnings: vec![error.to_string()], ..Effect::none() };
        }
    };
    let ago = |then: i64| duration_words(at.now().saturating_sub(then).max(0) as u64);
    let verified = match backup.verified_at {
        Some(then) => format!("verified {} ago", ago(then)),
        None => "never verified".to_owned(),
    };
    let (size, age) = (bytes_text(backup.bytes), ago(backup.created_at));
    let message = format!("{}, {size}, {age} old, {verified}", backup.file);
    let change = Answer::Known(Some((Value::Null, json!({"message": message}))));
    Effect { change, ..Effect::none() }
}

fn checks(fields: &Fields<'_>) -> Result<Vec<BackupCheck>, Fault> {
    let wrong = || Fault::new("checks", "a list of {sql, expect} is expected");
    let items = match fields.any("checks") {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= CHECKS_MAX => items,
        Some(Value::Array(_)) => {
            return Err(Fault::new("checks", format!("over {CHECKS_MAX} checks")));
        }
        Some(_) => return Err(wrong()),
    };
    let read = |item: &Value| {
        let sql = item.get("sql").and_then(Value::as_str).ok_or_else(wrong)?.to_owned();
        let expect = match item.get("expect").ok_or_else(wrong)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let known = item.as_object().is_some_and(|map| map.len() == 2);
        if known { Ok(BackupCheck { sql, expect }) } else { Err(wrong()) }
    };
    items.iter().map(read).collect()
}
