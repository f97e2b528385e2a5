//! `sql.exec`: changes a data source by a script, in one transaction, once.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind,
    Undo,
};
use crate::ports::{Changed, Script};

const SQL_MAX: usize = 20_000;
/// Rows that a script may change where it does not say otherwise.
const ROWS_MAX: u64 = 1_000;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    source: String,
    sql: String,
    values: Vec<String>,
    undo: Option<String>,
    max_rows: u64,
}

impl Params {
    fn forward(&self) -> Script {
        self.script(&self.sql, self.values.clone())
    }

    fn back(&self) -> Option<Script> {
        self.undo.as_ref().map(|sql| self.script(sql, self.values.clone()))
    }

    fn script(&self, sql: &str, params: Vec<String>) -> Script {
        let (source, sql) = (self.source.clone(), sql.to_owned());
        Script { source, sql, params, rows_max: self.max_rows }
    }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "sql.exec"
    }

    fn about(&self) -> &'static str {
        "Runs a script on a data source in one transaction, once; says how it is undone, or that it cannot be."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "source", about: "the data source's name; it must allow writing" },
            Field { name: "sql", about: "statements parted by semicolons" },
            Field {
                name: "params",
                about: "a list of texts for $1, $2, …; with one statement only",
            },
            Field { name: "undo", about: "the script that takes it back" },
            Field {
                name: "irreversible",
                about: "true: nothing takes it back; it then needs an approval",
            },
            Field { name: "max_rows", about: "more changed rows roll it back; default 1000" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params {
            source: fields.text("source", 60)?,
            sql: fields.text("sql", SQL_MAX)?,
            values: fields.list("params")?,
            undo: fields.text_or_none("undo", SQL_MAX)?,
            max_rows: fields.whole("max_rows", 0, 100_000_000, ROWS_MAX)?,
        };
        let irreversible = fields.any("irreversible").is_some() && fields.bool("irreversible")?;
        if irreversible == params.undo.is_some() {
            let message =
                "say how it is taken back (`undo`), or that nothing does (`irreversible: true`)";
            return Err(Fault::new("undo", message));
        }
        let source = &params.source;
        let does = format!("Run SQL on `{source}`: {}", first_line(&params.sql));
        let undoes = match &params.undo {
            Some(sql) => format!("Run SQL on `{source}`: {}", first_line(sql)),
            None => String::new(),
        };
        let undo = irreversible.then_some(Undo::Impossible);
        let resolved = Resolved::new(&params, does);
        Ok(Resolved { undoes, undo, danger: irreversible, timeout_ms: 60_000, ..resolved })
    }

    async fn preview(&self, at: &At<'_>, _so_far: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        match at.world.sources.rehearse(&params.forward()).await {
            Ok(rehearsed) => {
                let rows = rehearsed.rows;
                let message =
                    format!("{rows} {} would change", if rows == 1 { "row" } else { "rows" });
                let change =
                    Answer::Known(Some((Value::Null, json!({"message": message, "rows": rows}))));
                Effect { change, warnings: rehearsed.warnings, ..Effect::none() }
            }
            Err(error) => {
                let change = Answer::Unknown("the script could not be tried".to_owned());
                Effect { change, warnings: vec![error.to_string()], ..Effect::none() }
            }
        }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let done = at.world.sources.exec(&at.key("do"), &params.forward()).await?;
        Ok(Ran::Done(detail(&params, &done)))
    }

    async fn probe(&self, at: &At<'_>) -> Result<Option<Value>, StepError> {
        let params: Params = at.read()?;
        let found = at.world.sources.find(&at.key("do"), &params.source).await?;
        Ok(found.map(|done| detail(&params, &done)))
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        let params: Params = at.read()?;
        Ok(match at.world.sources.find(&at.key("do"), &params.source).await? {
            Some(done) => Check::Holds(says(&params, &done)),
            None => Check::Broken(format!("`{}` does not know of it", params.source)),
        })
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let sources = &at.world.sources;
        let Some(back) = params.back() else {
            return Err(StepError::permanent("nothing takes it back"));
        };
        if sources.find(&at.key("do"), &params.source).await?.is_none() {
            return Ok(Ran::Done(json!({"says": "it had not happened"})));
        }
        let done = sources.exec(&at.key("undo"), &back).await?;
        Ok(Ran::Done(detail(&params, &done)))
    }
}

fn detail(params: &Params, done: &Changed) -> Value {
    json!({"says": says(params, done), "rows": done.rows, "statements": done.statements})
}

fn says(params: &Params, done: &Changed) -> String {
    let rows = done.rows;
    format!("{rows} {} of `{}` changed", if rows == 1 { "row" } else { "rows" }, params.source)
}

/// What people see of a script: its first line that says anything.
fn first_line(sql: &str) -> String {
    let mut lines = sql.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with("--")).unwrap_or_default();
    match first.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", first.get(..at).unwrap_or_default()),
        None => first.to_owned(),
    }
}
