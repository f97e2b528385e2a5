//! `sql.exec`: changes a data source by a script, in one transaction, once.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Inverse, Overlay, Past, Ran, Resolved,
    StepError, StepKind, Undo,
};
use crate::ports::{Changed, PortError, PutBack, Script, Side, Snapshot};
use crate::standing::Sight;

pub(super) const SQL_MAX: usize = 20_000;
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<Snapshot>,
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
        Script { source, sql, params, rows_max: self.max_rows, snapshots: self.snapshots.clone() }
    }

    fn images(&self, of: String, is_forced: bool) -> PutBack {
        PutBack { source: self.source.clone(), of, side: Side::Before, is_forced }
    }
}

/// The SQL under `text` or in the file under `file`; not both.
pub(super) fn sql_of(fields: &Fields<'_>, text: &str, file: &str) -> Result<Option<String>, Fault> {
    match (fields.text_or_none(text, SQL_MAX)?, fields.script_or_none(file)?) {
        (Some(_), Some(_)) => {
            Err(Fault::new(file, format!("`{text}` and `{file}` are both given")))
        }
        (given, found) => Ok(given.or(found)),
    }
}

/// One table, or a list of them.
fn snapshots_of(fields: &Fields<'_>) -> Result<Vec<Snapshot>, Fault> {
    let wrong = |message: String| {
        Fault::new("snapshot", message).hint("{table: auth.sessions, key: id}, or a list of such")
    };
    let one = |value: &Value| {
        let map =
            value.as_object().ok_or_else(|| wrong(format!("a map is expected, not `{value}`")))?;
        if let Some(name) =
            map.keys().find(|name| !["table", "key", "where"].contains(&name.as_str()))
        {
            return Err(wrong(format!("unknown key `{name}`")));
        }
        let text = |name: &str| map.get(name).and_then(Value::as_str).map(str::to_owned);
        let key = match map.get("key") {
            Some(Value::String(name)) => vec![name.clone()],
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        match text("table") {
            Some(table) if !key.is_empty() => Ok(Snapshot { table, key, filter: text("where") }),
            _ => Err(wrong("`table` and `key` are needed".to_owned())),
        }
    };
    match fields.any("snapshot") {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
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
                name: "file",
                about: "a file that holds them instead, such as sql/clear_sessions.sql",
            },
            Field {
                name: "params",
                about: "a list of texts for $1, $2, …; with one statement only",
            },
            Field { name: "undo", about: "the script that takes it back" },
            Field { name: "undo_file", about: "a file that holds it instead" },
            Field {
                name: "snapshot",
                about: "instead of a script: tables (table, key, where) whose changed rows are kept, and put back",
            },
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
        let sql = sql_of(fields, "sql", "file")?;
        let params = Params {
            source: fields.text("source", 60)?,
            sql: sql.ok_or_else(|| Fault::new("sql", "`sql` is missing").hint("or `file`"))?,
            values: fields.list("params")?,
            undo: sql_of(fields, "undo", "undo_file")?,
            max_rows: fields.whole("max_rows", 0, 100_000_000, ROWS_MAX)?,
            snapshots: snapshots_of(fields)?,
        };
        let irreversible = fields.any("irreversible").is_some() && fields.bool("irreversible")?;
        let ways = [irreversible, params.undo.is_some(), !params.snapshots.is_empty()];
        if ways.iter().filter(|way| **way).count() != 1 {
            let message = "say in one way how it is taken back: `undo`, `undo_file` or `snapshot`; or that nothing \
                           does (`irreversible: true`)";
            return Err(Fault::new("undo", message));
        }
        let source = &params.source;
        let does = format!("Run SQL on `{source}`: {}", first_line(&params.sql));
        let undoes = match &params.undo {
            Some(sql) => format!("Run SQL on `{source}`: {}", first_line(sql)),
            None if irreversible => String::new(),
            None => {
                let tables: Vec<&str> =
                    params.snapshots.iter().map(|one| one.table.as_str()).collect();
                format!("Put the rows of {} back as they were", tables.join(", "))
            }
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
                Effect { warnings: rehearsed.warnings, ..would_change(rows) }
            }
            Err(error) => {
                let change = Answer::Unknown("the script could not be tried".to_owned());
                Effect { change, warnings: vec![error.to_string()], ..Effect::none() }
            }
        }
    }

    async fn sight(&self, at: &At<'_>) -> Option<Sight> {
        let params: Params = at.read().ok()?;
        let rehearsed = at.world.sources.rehearse(&params.forward()).await.ok()?;
        Some(Sight::Rows { source: params.source, rows: rehearsed.rows })
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
        if sources.find(&at.key("do"), &params.source).await?.is_none() {
            return Ok(Ran::Done(json!({"says": "it had not happened"})));
        }
        let done = match params.back() {
            Some(back) => sources.exec(&at.key("undo"), &back).await?,
            None if params.snapshots.is_empty() => {
                return Err(StepError::permanent("nothing takes it back"));
            }
            None => {
                let rows = params.images(at.key("do"), at.forced);
                sources.put_back(&at.key("undo"), &rows).await.map_err(conflict)?
            }
        };
        Ok(Ran::Done(detail(&params, &done)))
    }

    fn invert(&self, past: &Past<'_>) -> Inverse {
        let Ok(params) = Params::deserialize(past.params) else { return Inverse::Nothing };
        let source = &params.source;
        let map = match &params.undo {
            Some(undo) => json!({
                "source": source, "sql": undo, "params": params.values, "undo": params.sql, "max_rows": params.max_rows,
            }),
            None if params.snapshots.is_empty() => {
                return Inverse::Impossible(format!("{} (nothing takes it back)", past.does));
            }
            None => {
                let of = past.key("do");
                return Inverse::step("sql.restore", json!({"source": source, "of": of}));
            }
        };
        Inverse::step("sql.exec", map)
    }
}

/// Rows that are somebody else's now: a person decides.
pub(super) fn conflict(error: PortError) -> StepError {
    match error {
        PortError::Conflict(message) => StepError::Conflict(message),
        other => other.into(),
    }
}

/// What a dry run says of changed rows.
pub(super) fn would_change(rows: u64) -> Effect {
    let message = format!("{rows} {} would change", if rows == 1 { "row" } else { "rows" });
    let change = Answer::Known(Some((Value::Null, json!({"message": message, "rows": rows}))));
    Effect { change, ..Effect::none() }
}

fn detail(params: &Params, done: &Changed) -> Value {
    json!({"says": says(params, done), "rows": done.rows, "statements": done.statements})
}

fn says(params: &Params, done: &Changed) -> String {
    changed_rows(&params.source, done.rows)
}

/// `12 rows of `shop` changed`.
pub(super) fn changed_rows(source: &str, rows: u64) -> String {
    format!("{rows} {} of `{source}` changed", if rows == 1 { "row" } else { "rows" })
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
