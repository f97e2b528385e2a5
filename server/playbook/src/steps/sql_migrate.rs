//! `sql.migrate`: takes a migration of a data source up or down, proved by its own queries, and back the other way.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sql_exec::{SQL_MAX, changed_rows, sql_of, would_change};
use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Inverse, Overlay, Past, Ran, Resolved,
    StepError, StepKind, Undo,
};
use crate::ports::{Changed, Direction, Migration, PortError};
use crate::read::is_name;

/// Rows that a script may change where the step does not say otherwise.
const ROWS_MAX: u64 = 1_000_000;
/// How long one attempt may take where the step does not say otherwise, in milliseconds.
const TIMEOUT_MS: u64 = 600_000;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(flatten)]
    migration: Migration,
    direction: Direction,
}

impl Params {
    /// What it is called to people: `names_split on app`.
    fn what(&self) -> String {
        format!("`{}` on `{}`", self.migration.name, self.migration.source)
    }

    fn says(&self, direction: Direction, done: Option<&Changed>) -> String {
        let name = &self.migration.name;
        match (direction, done) {
            (Direction::Up, Some(done)) => {
                let rows = changed_rows(&self.migration.source, done.rows);
                format!("`{name}` is applied and verified: {rows}")
            }
            (Direction::Down, Some(done)) => {
                let rows = changed_rows(&self.migration.source, done.rows);
                format!("`{name}` is taken back: {rows}")
            }
            (Direction::Up, None) => format!("`{name}` was applied already; nothing was done"),
            (Direction::Down, None) => format!("`{name}` was not applied; nothing was done"),
        }
    }

    fn detail(&self, direction: Direction, done: Option<&Changed>) -> Value {
        let says = self.says(direction, done);
        let rows = done.map_or(0, |done| done.rows);
        json!({"says": says, "rows": rows, "already": done.is_none()})
    }
}

/// The SQL of one part; all three are needed.
fn part(fields: &Fields<'_>, text: &str, file: &str, why: &str) -> Result<String, Fault> {
    let sql = sql_of(fields, text, file)?;
    let sql = sql.ok_or_else(|| Fault::new(file, format!("`{file}` is missing: {why}")))?;
    if sql.chars().count() > SQL_MAX {
        let message = format!("over {SQL_MAX} characters");
        return Err(Fault::new(file, message).hint("part it into several migrations"));
    }
    Ok(sql)
}

/// `sql/names_split_up.sql` is called `names_split`.
fn name_of(fields: &Fields<'_>) -> Result<String, Fault> {
    let given = fields.text_or_none("name", 60)?;
    let path = fields.text_or_none("up", 200)?.unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let stem = file.strip_suffix(".sql").unwrap_or(file);
    let name = given.unwrap_or_else(|| stem.strip_suffix("_up").unwrap_or(stem).to_owned());
    if name.is_empty() {
        return Err(Fault::new("name", "`name` is missing").hint("or name a file under `up`"));
    }
    if !is_name(&name) {
        return Err(Fault::new("name", format!("`{name}` is not a name")));
    }
    Ok(name)
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "sql.migrate"
    }

    fn about(&self) -> &'static str {
        "Takes a migration of a data source up or down in one transaction, once; its undo goes the other way."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "source", about: "the data source's name; it must allow writing" },
            Field { name: "up", about: "the file that applies it, such as sql/names_split_up.sql" },
            Field { name: "down", about: "the file that takes it back" },
            Field {
                name: "verify",
                about: "a file of queries that give no row while it is applied",
            },
            Field { name: "direction", about: "up (default) or down" },
            Field { name: "name", about: "its name in the ledger; default: up's file name" },
            Field { name: "up_sql", about: "the SQL itself instead of `up`" },
            Field { name: "down_sql", about: "the SQL itself instead of `down`" },
            Field { name: "verify_sql", about: "the SQL itself instead of `verify`" },
            Field { name: "max_rows", about: "more changed rows roll it back; default 1000000" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let words = [("up", Direction::Up), ("down", Direction::Down)];
        let migration = Migration {
            source: fields.text("source", 60)?,
            name: name_of(fields)?,
            up: part(fields, "up_sql", "up", "what applies it")?,
            down: part(fields, "down_sql", "down", "nothing would take it back")?,
            verify: part(fields, "verify_sql", "verify", "nothing would prove it")?,
            rows_max: fields.whole("max_rows", 0, 100_000_000, ROWS_MAX)?,
        };
        let params = Params { migration, direction: fields.word("direction", &words)? };
        let what = params.what();
        let (does, undoes) = match params.direction {
            Direction::Up => (format!("Apply migration {what}"), format!("Take {what} back")),
            Direction::Down => {
                (format!("Take migration {what} back"), format!("Apply {what} again"))
            }
        };
        Ok(Resolved { undoes, timeout_ms: TIMEOUT_MS, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _so_far: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        let sources = &at.world.sources;
        match sources.rehearse_migration(&params.migration, params.direction).await {
            Ok(rehearsed) => {
                Effect { warnings: rehearsed.warnings, ..would_change(rehearsed.rows) }
            }
            Err(error) => {
                let change = Answer::Unknown("the migration could not be tried".to_owned());
                Effect { change, warnings: vec![error.to_string()], ..Effect::none() }
            }
        }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let Params { migration, direction } = &params;
        let done = at.world.sources.migrate(&at.key("do"), migration, *direction).await?;
        Ok(Ran::Done(params.detail(*direction, done.as_ref())))
    }

    async fn probe(&self, at: &At<'_>) -> Result<Option<Value>, StepError> {
        let params: Params = at.read()?;
        let source = &params.migration.source;
        let found = at.world.sources.find_migrated(&at.key("do"), source).await?;
        Ok(found.map(|done| params.detail(params.direction, done.as_ref())))
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        let params: Params = at.read()?;
        let checked = at.world.sources.check_migration(&params.migration, params.direction).await;
        let stands = match params.direction {
            Direction::Up => "applied, and verified again",
            Direction::Down => "taken back, by the ledger",
        };
        match checked {
            Ok(None) => Ok(Check::Holds(format!("`{}` is {stands}", params.migration.name))),
            Ok(Some(why)) | Err(PortError::Refused(why)) => Ok(Check::Broken(why)),
            Err(error) => Err(error.into()),
        }
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let Params { migration, direction } = &params;
        let sources = &at.world.sources;
        match sources.find_migrated(&at.key("do"), &migration.source).await? {
            None => return Ok(Ran::Done(json!({"says": "it had not happened"}))),
            Some(None) => {
                return Ok(Ran::Done(
                    json!({"says": "nothing had been done, and nothing is undone"}),
                ));
            }
            Some(Some(_)) => {}
        }
        let back = direction.other();
        let done = sources.migrate(&at.key("undo"), migration, back).await?;
        Ok(Ran::Done(params.detail(back, done.as_ref())))
    }

    fn invert(&self, past: &Past<'_>) -> Inverse {
        let Ok(params) = Params::deserialize(past.params) else { return Inverse::Nothing };
        if past.done.get("already") == Some(&json!(true)) {
            return Inverse::Nothing;
        }
        // The texts that ran, not the files: those may say something else by now.
        let Params { migration: m, direction } = &params;
        let map = json!({
            "source": m.source, "name": m.name, "direction": direction.other(), "up_sql": m.up,
            "down_sql": m.down, "verify_sql": m.verify, "max_rows": m.rows_max,
        });
        Inverse::step("sql.migrate", map)
    }
}
