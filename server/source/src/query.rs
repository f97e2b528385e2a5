//! Asking a data source: one query, rows as JSON, nothing changed; and what the database thinks that it will cost.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Column as _, Executor as _, Row as _, TypeInfo as _, ValueRef as _};
use tokio::time::Instant;

use crate::connect::{Pool, Source};
use crate::error::SourceError;
use crate::script::without_comments;

/// A row: columns by name, in their order.
pub type Row = Map<String, Value>;

/// Opcodes of SQLite between two looks at the clock.
pub(crate) const LOOK_EVERY: i32 = 10_000;
/// A sequential scan of more rows than this is worth a warning.
const SCAN_ROWS: f64 = 100_000.0;

/// What a query will cost, by the database's own estimate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Plan {
    /// Rows that it expects to give; `None` where the database does not say.
    pub rows: Option<f64>,
    /// What is expensive, in words; empty when nothing is.
    pub warnings: Vec<String>,
}

impl Source {
    /// Asks one query in a transaction that cannot write. `$1`, `$2`, … are texts.
    ///
    /// # Errors
    /// Not one query, more rows than the source may give, too long, or the database refuses or cannot be reached.
    pub async fn query(&self, sql: &str, params: &[String]) -> Result<Vec<Row>, SourceError> {
        self.query_within(sql, params, self.settings().rows_max, None).await
    }

    /// The same with a limit of time of the caller's own, in milliseconds; the source's counts where it is shorter.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn query_for(
        &self,
        sql: &str,
        params: &[String],
        most_ms: u64,
    ) -> Result<Vec<Row>, SourceError> {
        let most_ms = most_ms.clamp(1, self.settings().statement_timeout_ms);
        self.query_within(sql, params, self.settings().rows_max, Some(most_ms)).await
    }

    /// The same with a limit of rows of the caller's own.
    pub(crate) async fn query_within(
        &self,
        sql: &str,
        params: &[String],
        limit: u64,
        most_ms: Option<u64>,
    ) -> Result<Vec<Row>, SourceError> {
        let sql = one_query(sql)?;
        let rows = match self.pool().await? {
            Pool::Postgres(pool) => {
                // As a sub-query it can neither write nor be two statements.
                let text = format!(
                    "SELECT to_json(q)::text FROM (\n{sql}\n) AS q LIMIT {}",
                    limit.saturating_add(1)
                );
                let mut query = sqlx::query_scalar::<_, String>(AssertSqlSafe(text));
                for param in params {
                    query = query.bind(param);
                }
                let asked = async {
                    let mut tx = pool.begin_with("BEGIN TRANSACTION READ ONLY").await?;
                    if let Some(most) = most_ms {
                        let text = format!("SET LOCAL statement_timeout = {most}");
                        tx.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
                    }
                    query.fetch_all(&mut *tx).await
                };
                let rows = asked.await.map_err(|error| self.error(error));
                let rows = self.heard(rows).await?;
                rows.iter().map(|text| read_row(text)).collect::<Result<Vec<_>, _>>()?
            }
            Pool::Sqlite { read: pool, .. } => {
                let text = format!("SELECT * FROM (\n{sql}\n) LIMIT {}", limit.saturating_add(1));
                let mut query = sqlx::query(AssertSqlSafe(text));
                for param in params {
                    query = query.bind(param);
                }
                let end = match most_ms {
                    Some(most) => Instant::now() + Duration::from_millis(most),
                    None => self.statement_end(),
                };
                let asked = async {
                    let mut connection = pool.acquire().await?;
                    let mut handle = connection.lock_handle().await?;
                    handle.set_progress_handler(LOOK_EVERY, move || Instant::now() < end);
                    drop(handle);
                    let rows = query.fetch_all(&mut *connection).await;
                    connection.lock_handle().await?.remove_progress_handler();
                    rows
                };
                let rows = asked.await.map_err(|error| self.error(error));
                let rows = self.heard(rows).await?;
                rows.iter()
                    .map(json_of)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| self.error(e))?
            }
        };
        if rows.len() as u64 > limit {
            return Err(SourceError::TooManyRows(limit));
        }
        Ok(rows)
    }

    /// What the database expects a query to cost. The query is not run.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn explain(&self, sql: &str, params: &[String]) -> Result<Plan, SourceError> {
        let sql = one_query(sql)?;
        match self.pool().await? {
            Pool::Postgres(pool) => {
                let text = format!("EXPLAIN (FORMAT JSON, GENERIC_PLAN) {sql}");
                let plain = format!("EXPLAIN (FORMAT JSON) {sql}");
                // Parameters need a generic plan (PostgreSQL 16); without any, every version explains.
                let text = if params.is_empty() { plain } else { text };
                let asked = sqlx::raw_sql(AssertSqlSafe(text)).fetch_one(&pool).await;
                let row = self.heard(asked.map_err(|error| self.error(error))).await?;
                // Told as text here, whatever its type is called.
                let text: String = row.try_get_unchecked(0).map_err(|error| self.error(error))?;
                Ok(read_plan(&serde_json::from_str(&text).unwrap_or_default()))
            }
            Pool::Sqlite { read: pool, .. } => {
                let text = format!("EXPLAIN QUERY PLAN {sql}");
                let mut query = sqlx::query(AssertSqlSafe(text));
                for param in params {
                    query = query.bind(param);
                }
                let asked = query.fetch_all(&pool).await.map_err(|error| self.error(error));
                let rows = self.heard(asked).await?;
                let details = rows.iter().filter_map(|row| row.try_get::<String, _>("detail").ok());
                let scans =
                    details.filter(|text| text.starts_with("SCAN ") && !text.contains("INDEX"));
                let whole = scans.filter_map(|text| {
                    Some(format!("reads the whole of {}", text.strip_prefix("SCAN ")?))
                });
                Ok(Plan { rows: None, warnings: whole.collect() })
            }
        }
    }

    /// When a statement that begins now must have ended.
    pub(crate) fn statement_end(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.settings().statement_timeout_ms)
    }

    /// A source that could not be reached is connected anew the next time, with credentials read again.
    pub(crate) async fn heard<T>(&self, answer: Result<T, SourceError>) -> Result<T, SourceError> {
        if let Err(SourceError::Unreachable(_) | SourceError::Credentials(_)) = &answer {
            self.forget().await;
        }
        answer
    }
}

/// The text of one query, without the semicolon at its end.
pub(crate) fn one_query(sql: &str) -> Result<&str, SourceError> {
    let text = sql.trim().trim_end_matches(';').trim_end();
    if is_query(text) {
        return Ok(text);
    }
    let first = first_word(text);
    let message = format!("`{first}` is not a query: it starts with SELECT, WITH, VALUES or TABLE");
    Err(SourceError::Refused(message))
}

/// Whether a statement begins as queries do.
fn is_query(text: &str) -> bool {
    let first = first_word(text);
    ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| first.eq_ignore_ascii_case(word))
}

/// A statement's first word.
pub(crate) fn first_word(text: &str) -> &str {
    let bare = without_comments(text);
    bare.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default()
}

pub(crate) fn read_row(text: &str) -> Result<Row, SourceError> {
    serde_json::from_str(text).map_err(|_| SourceError::Refused("a row is not readable".to_owned()))
}

pub(crate) fn json_of(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let mut columns = Row::new();
    for (index, column) in row.columns().iter().enumerate() {
        let raw = row.try_get_raw(index)?;
        // A NULL calls itself by the column's type.
        let kind =
            if raw.is_null() { "NULL".to_owned() } else { raw.type_info().name().to_owned() };
        let value = match kind.as_str() {
            "NULL" => Value::Null,
            "INTEGER" | "BOOLEAN" => Value::from(row.try_get_unchecked::<i64, _>(index)?),
            "REAL" => Value::from(row.try_get_unchecked::<f64, _>(index)?),
            "BLOB" => {
                let bytes = row.try_get_unchecked::<Vec<u8>, _>(index)?;
                Value::from(format!("{} bytes", bytes.len()))
            }
            _ => Value::from(row.try_get_unchecked::<String, _>(index)?),
        };
        columns.insert(column.name().to_owned(), value);
    }
    Ok(columns)
}

/// PostgreSQL's plan: how many rows, and which large tables are read from end to end.
fn read_plan(plan: &Value) -> Plan {
    let root = plan.pointer("/0/Plan").unwrap_or(&Value::Null);
    let mut found = Plan { rows: number(root, "Plan Rows"), warnings: Vec::new() };
    let mut nodes = vec![root];
    while let Some(node) = nodes.pop() {
        let rows = number(node, "Plan Rows").unwrap_or_default();
        let whole = text(node, "Node Type").contains("Seq Scan");
        if whole && rows > SCAN_ROWS {
            let table = text(node, "Relation Name");
            found.warnings.push(format!(
                "reads the whole of {table}, about {rows:.0} rows: an index would help"
            ));
        }
        nodes.extend(node.get("Plans").and_then(Value::as_array).into_iter().flatten());
    }
    found
}

fn number(node: &Value, field: &str) -> Option<f64> {
    node.get(field).and_then(Value::as_f64)
}

fn text<'n>(node: &'n Value, field: &str) -> &'n str {
    node.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exec::Work;
    use crate::settings::{Access, Credentials, Settings};

    #[test]
    fn only_a_query_is_a_query() {
        assert_eq!(one_query(" SELECT 1 ; ").unwrap(), "SELECT 1");
        assert_eq!(one_query("-- why\n/* how */ with x as (select 1) table x").unwrap().len(), 45);
        for wrong in ["DELETE FROM a", "", "-- SELECT", "UPDATE a SET b = 1", "(SELECT 1)"] {
            assert!(one_query(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_large_scan_is_named() {
        let scan = json!({"Node Type": "Seq Scan", "Relation Name": "users", "Plan Rows": 2e6});
        let plan = read_plan(
            &json!([{"Plan": {"Node Type": "Aggregate", "Plan Rows": 1, "Plans": [scan]}}]),
        );

        assert_eq!(plan.rows, Some(1.0));
        assert!(plan.warnings[0].contains("users"), "{plan:?}");
    }

    /// SQLite end to end; PostgreSQL is tested where there is one.
    #[tokio::test]
    async fn a_file_is_asked_and_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.db");
        let made = sqlx::SqlitePool::connect_with(
            sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true),
        );
        let made = made.await.unwrap();
        sqlx::raw_sql("CREATE TABLE users (id INTEGER, name TEXT); INSERT INTO users VALUES (1, 'ada'), (2, NULL)")
            .execute(&made)
            .await
            .unwrap();
        let secret = folder.path().join("address");
        std::fs::write(&secret, format!("sqlite:{}\n", file.display())).unwrap();
        let credentials = Credentials::try_from(format!("file:{}", secret.display())).unwrap();
        let mut settings: Settings =
            serde_json::from_value(json!({"name": "app", "credentials": credentials})).unwrap();
        let source = Source::new(settings.clone());

        let tested = source.test().await.unwrap();
        let rows = source.query("SELECT * FROM users ORDER BY id", &[]).await.unwrap();
        let one =
            source.query("SELECT name FROM users WHERE id = $1", &["1".to_owned()]).await.unwrap();
        let wrote = source.query("SELECT 1) ; DELETE FROM users; --", &[]).await;
        let plan = source.explain("SELECT * FROM users WHERE name = 'ada'", &[]).await.unwrap();
        settings.rows_max = 1;
        settings.statement_timeout_ms = 50;
        let narrow = Source::new(settings.clone());
        let many = narrow.query("SELECT * FROM users", &[]).await;
        let long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";
        let slow_query = narrow.query(long, &[]).await;
        settings.access = Access::ReadWrite;
        let writable = Source::new(settings);
        let slow = format!("CREATE TABLE slow AS {long}");
        let work = |sql| Work { sql, params: &[], rows_max: 10, snapshots: &[] };
        let slow_script = writable.exec("k", &work(&slow)).await;
        let quick = writable.exec("k", &work("UPDATE users SET name = 'bob' WHERE id = 1")).await;

        assert!(tested.version.starts_with('3'), "{tested:?}");
        assert_eq!(Value::from(rows[1].clone()), json!({"id": 2, "name": null}));
        assert_eq!(one[0]["name"], json!("ada"));
        assert!(matches!(wrote, Err(SourceError::ReadOnly(_))), "{wrote:?}");
        assert_eq!(plan.warnings, ["reads the whole of users"]);
        assert!(matches!(many, Err(SourceError::TooManyRows(1))), "{many:?}");
        assert!(matches!(slow_query, Err(SourceError::TimedOut(50))), "{slow_query:?}");
        assert!(matches!(slow_script, Err(SourceError::TimedOut(50))), "{slow_script:?}");
        assert_eq!(quick.unwrap().rows, 1, "the slow one left nothing behind, its key neither");
        assert_eq!(source.query("SELECT * FROM users", &[]).await.unwrap().len(), 2);
    }
}
