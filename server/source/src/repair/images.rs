//! The rows of a fix's tables as they were and as they are, exactly: PostgreSQL's own text of a row, which reads back as the
//! same row; on SQLite every value with its type.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use super::Change;
use crate::connect::{Dialect, Source};
use crate::error::SourceError;
use crate::exec::{Tx, on};
use crate::survey::quoted;

/// A table whose rows a fix changes.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub name: String,
    /// The column with the finding's key.
    key: String,
    /// The type of that column, on PostgreSQL.
    key_type: String,
    /// By what its rows are known.
    pub primary: Vec<String>,
    /// Columns that can be written.
    pub columns: Vec<String>,
    /// Those of them that can be changed in a row that is there.
    pub changeable: Vec<String>,
}

/// A column: name, type, generated, identity, place in the primary key (0: not in it).
type Column = (String, String, bool, bool, i32);

/// Rows by finding's key and their own: their images.
pub(super) type Image = BTreeMap<(String, String), String>;

impl Table {
    pub fn quoted(&self) -> String {
        quoted(&self.name)
    }

    pub fn key_name(&self) -> &str {
        &self.key
    }
}

/// What is different, with the key of the finding.
pub(super) fn differences(table: &Table, mut before: Image, after: Image) -> Vec<(String, Change)> {
    let mut found = Vec::new();
    let name = &table.name;
    for ((key, row), now) in after {
        let was = before.remove(&(key.clone(), row.clone()));
        if was.as_ref() != Some(&now) {
            let change = Change { table: name.clone(), row, before: was, after: Some(now) };
            found.push((key, change));
        }
    }
    for ((key, row), was) in before {
        found.push((key, Change { table: name.clone(), row, before: Some(was), after: None }));
    }
    found
}

impl Source {
    pub(super) async fn look_at_table(
        &self,
        tx: &mut Tx,
        table: &str,
        key: &str,
    ) -> Result<Table, SourceError> {
        let found: Result<Vec<Column>, sqlx::Error> = match tx {
            Tx::Postgres(tx) => {
                const ASK: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '', \
                     a.attidentity = 'a', COALESCE(array_position(i.indkey::int2[], a.attnum), -1) + 1 FROM pg_attribute a \
                     LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary \
                     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
                sqlx::query_as(ASK).bind(quoted(table)).fetch_all(&mut **tx).await
            }
            Tx::Sqlite(tx) => {
                const ASK: &str = "SELECT name, type, hidden IN (2, 3), 0, pk FROM pragma_table_xinfo($1) \
                                   WHERE hidden <> 1 ORDER BY cid";
                sqlx::query_as(ASK).bind(table).fetch_all(&mut **tx).await
            }
        };
        let found = found.map_err(|error| self.error(error))?;
        if found.is_empty() {
            let message = format!("there is no table {table}, or it may not be read");
            return Err(SourceError::Refused(message));
        }
        let Some((_, key_type, ..)) = found.iter().find(|(name, ..)| name == key) else {
            return Err(SourceError::Refused(format!("table {table} has no column `{key}`")));
        };
        let mut primary: Vec<(i32, String)> = found
            .iter()
            .filter(|(.., place)| *place > 0)
            .map(|(name, .., place)| (*place, name.clone()))
            .collect();
        primary.sort();
        let primary: Vec<String> = primary.into_iter().map(|(_, name)| name).collect();
        if primary.is_empty() {
            return Err(SourceError::Refused(format!(
                "table {table} has no primary key, by which a changed row could be put back"
            )));
        }
        let names = |keep: &dyn Fn(&Column) -> bool| {
            found.iter().filter(|one| keep(one)).map(|(name, ..)| name.clone()).collect()
        };
        Ok(Table {
            name: table.to_owned(),
            key: key.to_owned(),
            key_type: key_type.clone(),
            columns: names(&|(_, _, is_generated, ..)| !is_generated),
            changeable: names(&|(name, _, is_generated, is_identity, _)| {
                !is_generated && !is_identity && !primary.contains(name)
            }),
            primary,
        })
    }

    /// The rows of some keys, which are given as texts and as a JSON array of their own types. As JSON for people when `is_shown`.
    pub(super) async fn image(
        &self,
        tx: &mut Tx,
        table: &Table,
        (keys, list): (&[String], &str),
        is_shown: bool,
    ) -> Result<Image, SourceError> {
        let (name, key) = (table.quoted(), quoted(&table.key));
        let primary = |wrap: &dyn Fn(String) -> String| -> String {
            let parts: Vec<String> =
                table.primary.iter().map(|name| wrap(format!("t.{}", quoted(name)))).collect();
            parts.join(" || ', ' || ")
        };
        let row = primary(&|column| format!("CAST({column} AS TEXT)"));
        self.limit(tx).await?;
        let found: Result<Vec<(String, String, String)>, sqlx::Error> = match tx {
            Tx::Postgres(tx) => {
                let image = if is_shown { "to_jsonb(t)::text" } else { "t::text" };
                let text = format!(
                    "SELECT t.{key}::text, {row}, {image} FROM {name} AS t \
                     WHERE t.{key} = ANY($1::text[]::{}[])",
                    table.key_type
                );
                sqlx::query_as(AssertSqlSafe(text)).bind(keys).fetch_all(&mut **tx).await
            }
            Tx::Sqlite(tx) => {
                let pairs: Vec<String> =
                    table.columns.iter().map(|name| sqlite_pair(name, is_shown)).collect();
                let text = format!(
                    "SELECT CAST(t.{key} AS TEXT), {row}, json_object({}) FROM {name} AS t \
                     WHERE t.{key} IN (SELECT value FROM json_each($1))",
                    pairs.join(", ")
                );
                sqlx::query_as(AssertSqlSafe(text)).bind(list).fetch_all(&mut **tx).await
            }
        };
        let found = found.map_err(|error| self.error(error))?;
        Ok(found.into_iter().map(|(key, row, image)| ((key, row), image)).collect())
    }
}

/// A column for `json_object`: its name, and its value (with its type where it is to be put back).
fn sqlite_pair(name: &str, is_shown: bool) -> String {
    let (text, column) = (name.replace('\'', "''"), format!("t.{}", quoted(name)));
    if is_shown {
        return format!(
            "'{text}', CASE typeof({column}) WHEN 'blob' THEN hex({column}) ELSE {column} END"
        );
    }
    format!(
        "'{text}', json_array(typeof({column}), CASE typeof({column}) WHEN 'blob' THEN hex({column}) \
         WHEN 'real' THEN printf('%!.17g', {column}) ELSE CAST({column} AS TEXT) END)"
    )
}

/// A value of SQLite as an image holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// The columns of an image of SQLite.
pub(super) fn read_sqlite_image(image: &str) -> Option<BTreeMap<String, Stored>> {
    let map: BTreeMap<String, (String, Option<String>)> = serde_json::from_str(image).ok()?;
    let value = |(kind, text): (String, Option<String>)| {
        Some(match (kind.as_str(), text) {
            ("null", _) => Stored::Null,
            ("integer", Some(text)) => Stored::Int(text.parse().ok()?),
            ("real", Some(text)) => Stored::Real(text.parse().ok()?),
            ("text", Some(text)) => Stored::Text(text),
            ("blob", Some(text)) => Stored::Blob(from_hex(&text)?),
            _ => return None,
        })
    };
    map.into_iter().map(|(name, stored)| Some((name, value(stored)?))).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// How the journal makes its tables.
pub(super) fn journal_tables(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "CREATE SCHEMA IF NOT EXISTS switchback; \
             CREATE TABLE IF NOT EXISTS switchback.repair_runs (run TEXT PRIMARY KEY, last_key TEXT NOT NULL, \
             last_check TEXT NOT NULL, seq BIGINT NOT NULL, healed BIGINT NOT NULL, unhealed BIGINT NOT NULL, \
             at TIMESTAMPTZ NOT NULL DEFAULT now()); \
             CREATE TABLE IF NOT EXISTS switchback.repairs (run TEXT NOT NULL, seq BIGINT NOT NULL, check_name TEXT NOT NULL, \
             key TEXT NOT NULL, table_name TEXT NOT NULL, row_id TEXT NOT NULL, before TEXT, after TEXT, \
             is_healed BOOLEAN NOT NULL, undone TEXT, PRIMARY KEY (run, seq))"
        }
        Dialect::Sqlite => {
            "CREATE TABLE IF NOT EXISTS switchback_repair_runs (run TEXT PRIMARY KEY, last_key TEXT NOT NULL, \
             last_check TEXT NOT NULL, seq BIGINT NOT NULL, healed BIGINT NOT NULL, unhealed BIGINT NOT NULL, \
             at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP); \
             CREATE TABLE IF NOT EXISTS switchback_repairs (run TEXT NOT NULL, seq BIGINT NOT NULL, check_name TEXT NOT NULL, \
             key TEXT NOT NULL, table_name TEXT NOT NULL, row_id TEXT NOT NULL, before TEXT, after TEXT, \
             is_healed BOOLEAN NOT NULL, undone TEXT, PRIMARY KEY (run, seq))"
        }
    }
}

impl Source {
    pub(super) async fn make_journal(&self, tx: &mut Tx) -> Result<(), SourceError> {
        if let Tx::Postgres(tx) = tx {
            // Looked at first: making what is there already still takes the right to make it.
            let there = "SELECT to_regclass('switchback.repairs') IS NOT NULL";
            let there = sqlx::query_scalar::<_, bool>(there).fetch_one(&mut **tx).await;
            if there.map_err(|error| self.error(error))? {
                return Ok(());
            }
        }
        let text = journal_tables(tx.dialect());
        let made = on!(tx, tx => sqlx::raw_sql(text).execute(&mut **tx).await.map(drop));
        made.map_err(|error| match self.error(error) {
            SourceError::Refused(why) => SourceError::Refused(format!(
                "the journal of repairs, switchback.repairs, cannot be made: {why}"
            )),
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_sqlite_are_read_back_with_their_types() {
        let image = r#"{"a": ["integer", "-5"], "b": ["real", "0.10000000000000001"], "c": ["null", null],
                        "d": ["text", "it's"], "e": ["blob", "00FF"]}"#;
        let read = read_sqlite_image(image).unwrap();
        assert_eq!(read["a"], Stored::Int(-5));
        assert_eq!(read["b"], Stored::Real(0.1));
        assert_eq!((&read["c"], &read["d"]), (&Stored::Null, &Stored::Text("it's".to_owned())));
        assert_eq!(read["e"], Stored::Blob(vec![0, 255]));
        for wrong in ["", "{}x", r#"{"a": ["integer", "x"]}"#, r#"{"a": ["blob", "0"]}"#, "[]"] {
            assert_eq!(read_sqlite_image(wrong), None, "{wrong}");
        }
    }
}
