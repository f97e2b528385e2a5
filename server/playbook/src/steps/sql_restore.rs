//! `sql.restore`: puts the rows that an earlier script changed back as they were.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sql_exec::{changed_rows, conflict, would_change};
use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Inverse, Overlay, Past, Ran, Resolved,
    StepError, StepKind, Undo,
};
use crate::ports::{PutBack, Side};

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    source: String,
    of: String,
    side: Side,
    force: bool,
}

impl Params {
    fn rows(&self, side: Side, is_forced: bool) -> PutBack {
        let (source, of) = (self.source.clone(), self.of.clone());
        PutBack { source, of, side, is_forced: self.force || is_forced }
    }

    fn other(&self) -> Side {
        if self.side == Side::Before { Side::After } else { Side::Before }
    }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "sql.restore"
    }

    fn about(&self) -> &'static str {
        "Puts the rows that an earlier sql.exec with a snapshot changed back as they were."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "source", about: "the data source's name; it must allow writing" },
            Field { name: "of", about: "the earlier script's key, as its run's log has it" },
            Field {
                name: "to",
                about: "before (default): as it was; after: as the script left it",
            },
            Field { name: "force", about: "true: also rows that somebody else has changed since" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params {
            source: fields.text("source", 60)?,
            of: fields.text("of", 200)?,
            side: fields.word("to", &[("before", Side::Before), ("after", Side::After)])?,
            force: fields.any("force").is_some() && fields.bool("force")?,
        };
        let when = if params.side == Side::Before { "before" } else { "after" };
        let of = params.of.trim_start_matches("sb-").trim_end_matches("-do");
        let of = match of.split_once('-') {
            Some((run, step)) => format!("step {step} of {run}"),
            None => of.to_owned(),
        };
        let does = format!("Put rows of `{}` back as they were {when} {of}", params.source);
        let undoes = format!("Put the rows of `{}` back as they are now", params.source);
        Ok(Resolved { undoes, timeout_ms: 60_000, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _so_far: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        match at.world.sources.rehearse_put_back(&params.rows(params.side, false)).await {
            Ok(changed) => would_change(changed.rows),
            Err(error) => {
                let change = Answer::Unknown("the rows could not be put back".to_owned());
                Effect { change, warnings: vec![error.to_string()], ..Effect::none() }
            }
        }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let rows = params.rows(params.side, at.forced);
        let done = at.world.sources.put_back(&at.key("do"), &rows).await;
        // Somebody else's rows do not become free by trying again.
        let done = done.map_err(|error| match conflict(error) {
            StepError::Conflict(message) => StepError::permanent(message),
            other => other,
        })?;
        Ok(Ran::Done(detail(&params, done.rows)))
    }

    async fn probe(&self, at: &At<'_>) -> Result<Option<Value>, StepError> {
        let params: Params = at.read()?;
        let found = at.world.sources.find(&at.key("do"), &params.source).await?;
        Ok(found.map(|done| detail(&params, done.rows)))
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        let params: Params = at.read()?;
        Ok(match at.world.sources.find(&at.key("do"), &params.source).await? {
            Some(done) => Check::Holds(changed_rows(&params.source, done.rows)),
            None => Check::Broken(format!("`{}` does not know of it", params.source)),
        })
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        if at.world.sources.find(&at.key("do"), &params.source).await?.is_none() {
            return Ok(Ran::Done(json!({"says": "it had not happened"})));
        }
        let rows = params.rows(params.other(), at.forced);
        let done = at.world.sources.put_back(&at.key("undo"), &rows).await.map_err(conflict)?;
        Ok(Ran::Done(detail(&params, done.rows)))
    }

    fn invert(&self, past: &Past<'_>) -> Inverse {
        let Ok(params) = Params::deserialize(past.params) else { return Inverse::Nothing };
        let to = if params.other() == Side::Before { "before" } else { "after" };
        Inverse::step("sql.restore", json!({"source": params.source, "of": params.of, "to": to}))
    }
}

fn detail(params: &Params, rows: u64) -> Value {
    json!({"says": changed_rows(&params.source, rows), "rows": rows})
}
