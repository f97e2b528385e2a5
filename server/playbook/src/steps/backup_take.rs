//! `backup.take`: a backup of a data source, once.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind,
};
use crate::backups::{Backup, BackupWish};
use crate::units::{bytes_text, duration_words};

const KEEP_MS: u64 = 30 * 86_400_000;
/// The limit of a backup or its restore where the step does not say otherwise.
pub(super) const LIMIT_MS: u64 = 3_600_000;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    source: String,
    schemas: Vec<String>,
    tables: Vec<String>,
    keep_ms: u64,
}

impl Params {
    fn wish(&self) -> BackupWish {
        let Self { source, schemas, tables, keep_ms } = self;
        let (source, schemas, tables) = (source.clone(), schemas.clone(), tables.clone());
        BackupWish { source, schemas, tables, keep_ms: *keep_ms }
    }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "backup.take"
    }

    fn about(&self) -> &'static str {
        "Takes a backup of a data source in one snapshot, once; backup.verify proves that it can be restored."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "source", about: "the data source's name" },
            Field { name: "tables", about: "a list: only these tables" },
            Field { name: "schemas", about: "a list: only these schemas; PostgreSQL only" },
            Field { name: "keep", about: "how long to keep it; default 30d" },
        ]
    }

    fn stoppable(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params {
            source: fields.text("source", 60)?,
            schemas: fields.list("schemas")?,
            tables: fields.list("tables")?,
            keep_ms: fields.duration_or_none("keep")?.unwrap_or(KEEP_MS),
        };
        if !params.schemas.is_empty() && !params.tables.is_empty() {
            return Err(Fault::new("schemas", "name tables or schemas, not both"));
        }
        let parts = [&params.schemas[..], &params.tables[..]].concat().join(", ");
        let what = if parts.is_empty() { String::new() } else { format!(" ({parts})") };
        let kept = duration_words(params.keep_ms);
        let does = format!("Back up `{}`{what}; kept for {kept}", params.source);
        Ok(Resolved { timeout_ms: LIMIT_MS, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _so_far: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        let mut warnings = Vec::new();
        let change = match at.world.backups.space(&params.wish()).await {
            Ok(space) => {
                let (data, free) = (bytes_text(space.database_bytes), bytes_text(space.free_bytes));
                if space.free_bytes < space.database_bytes {
                    warnings.push(format!("the data takes {data}, and {free} are free"));
                }
                let message = format!("a backup of {data} of data, with {free} free");
                Answer::Known(Some((Value::Null, json!({"message": message}))))
            }
            Err(error) => {
                warnings.push(error.to_string());
                Answer::Unknown("the data source could not be looked at".to_owned())
            }
        };
        Effect { change, warnings, ..Effect::none() }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let backup = at.world.backups.take(&at.key("do"), &params.wish()).await?;
        Ok(Ran::Done(detail(&backup)))
    }

    async fn probe(&self, at: &At<'_>) -> Result<Option<Value>, StepError> {
        Ok(at.world.backups.find(&at.key("do")).await?.map(|backup| detail(&backup)))
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        Ok(match at.world.backups.find(&at.key("do")).await? {
            Some(backup) => Check::Holds(says(&backup)),
            None => Check::Broken("there is no such backup".to_owned()),
        })
    }
}

fn detail(backup: &Backup) -> Value {
    json!({"says": says(backup), "backup": backup.id, "file": backup.file, "bytes": backup.bytes})
}

fn says(backup: &Backup) -> String {
    let Backup { file, bytes, rows, .. } = backup;
    format!("{file}: {rows} rows in {}", bytes_text(*bytes))
}
