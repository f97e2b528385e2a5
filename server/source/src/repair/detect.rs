//! A check's query as a sub-query: all of it, a window of it, what comes after a key, or given keys.

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _, Statement as _, TypeInfo as _};

use crate::connect::{Dialect, Pool, Source};
use crate::error::SourceError;
use crate::exec::Tx;
use crate::query::{Row, json_of, one_query, read_row};

/// How a key is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum KeyKind {
    /// A UUID of PostgreSQL.
    Uuid,
    /// A whole number.
    Int,
    /// A text.
    Text,
    /// Something else, which is compared as its text.
    Other,
}

/// Types whose JSON is not their text, by which keys are compared.
const OTHERS: [&str; 9] =
    ["NUMERIC", "FLOAT4", "FLOAT8", "JSON", "JSONB", "BYTEA", "BOOL", "TIMESTAMP", "TIMESTAMPTZ"];

/// What the column `since` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SinceKind {
    /// With a time zone.
    Zoned,
    /// Without one: UTC, as servers are set.
    Plain,
    /// SQLite: a text, or seconds or milliseconds since 1970.
    Loose,
}

/// A check's query that was looked over.
#[derive(Clone, Debug)]
pub struct Detector {
    sql: String,
    dialect: Dialect,
    key: KeyKind,
    since: Option<SinceKind>,
    has_class: bool,
    /// Its columns, in order.
    pub columns: Vec<String>,
}

/// Which of what a query finds.
#[derive(Clone, Copy, Debug)]
pub enum Pick<'p> {
    /// These keys.
    Keys(&'p [String]),
    /// The next ones in the order of keys.
    After {
        /// The key before; `None` from the start.
        cursor: Option<&'p str>,
        /// Rows at most.
        limit: u64,
        /// Only rows that came to be so long ago at most, in milliseconds.
        window_ms: Option<u64>,
    },
}

impl Source {
    /// Looks a check's query over without running it.
    ///
    /// # Errors
    /// Not one query, no column `key`, a `since` that is no time, or the database refuses it or cannot be reached.
    pub async fn detector(&self, sql: &str) -> Result<Detector, SourceError> {
        let sql = one_query(sql)?.to_owned();
        let text = AssertSqlSafe(format!("SELECT * FROM (\n{sql}\n) AS d")).into_sql_str();
        let (dialect, columns) = match self.pool().await? {
            Pool::Postgres(pool) => {
                let asked = async {
                    let mut connection = pool.acquire().await?;
                    let statement = connection.prepare(text).await?;
                    Ok(names_and_types(statement.columns()))
                };
                let columns = self.heard(asked.await.map_err(|error| self.error(error))).await?;
                (Dialect::Postgres, columns)
            }
            Pool::Sqlite { read: pool, .. } => {
                let asked = async {
                    let mut connection = pool.acquire().await?;
                    let statement = connection.prepare(text).await?;
                    Ok(names_and_types(statement.columns()))
                };
                let columns = self.heard(asked.await.map_err(|error| self.error(error))).await?;
                (Dialect::Sqlite, columns)
            }
        };
        let column = |name: &str| columns.iter().find(|(known, _)| known == name);
        let Some((_, key_type)) = column("key") else {
            let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!("the query gives no column `key`; it gives {}", names.join(", "));
            return Err(SourceError::Refused(message));
        };
        let key = match key_type.as_str() {
            "UUID" => KeyKind::Uuid,
            "INT2" | "INT4" | "INT8" => KeyKind::Int,
            "TEXT" | "VARCHAR" => KeyKind::Text,
            _ => KeyKind::Other,
        };
        if OTHERS.contains(&key_type.as_str()) {
            let message = format!(
                "the column `key` is {}, and a uuid, a whole number or a text is expected",
                key_type.to_lowercase()
            );
            return Err(SourceError::Refused(message));
        }
        let mut detector = Detector {
            dialect,
            key,
            since: match column("since").map(|(_, kind)| kind.as_str()) {
                None => None,
                Some(_) if dialect == Dialect::Sqlite => Some(SinceKind::Loose),
                Some("TIMESTAMPTZ") => Some(SinceKind::Zoned),
                Some("TIMESTAMP" | "DATE") => Some(SinceKind::Plain),
                Some(other) => {
                    let message = format!(
                        "the column `since` is {}, and a time is expected",
                        other.to_lowercase()
                    );
                    return Err(SourceError::Refused(message));
                }
            },
            has_class: column("class").is_some(),
            columns: columns.iter().map(|(name, _)| name.clone()).collect(),
            sql,
        };
        if dialect == Dialect::Sqlite {
            detector.key = self.probe_key(&detector).await?;
        }
        Ok(detector)
    }

    /// SQLite knows a value's type only when it has one.
    async fn probe_key(&self, detector: &Detector) -> Result<KeyKind, SourceError> {
        let text = format!(
            "SELECT typeof(d.key) AS kind FROM (\n{}\n) AS d WHERE d.key IS NOT NULL LIMIT 1",
            detector.sql
        );
        let rows = self.query(&text, &[]).await?;
        let kind = rows.first().and_then(|row| row.get("kind")).and_then(|kind| kind.as_str());
        match kind {
            Some("integer") => Ok(KeyKind::Int),
            Some("text") | None => Ok(KeyKind::Text),
            Some(other) => Err(SourceError::Refused(format!(
                "the column `key` is {other}, and a whole number or a text is expected"
            ))),
        }
    }

    /// What a query finds. The window is in milliseconds.
    ///
    /// # Errors
    /// As [`query`](Self::query); a key is null.
    pub async fn detect(
        &self,
        detector: &Detector,
        window_ms: Option<u64>,
        limit: u64,
    ) -> Result<Vec<Row>, SourceError> {
        let (condition, params) = detector.condition(None, window_ms);
        let text = format!("{} {condition} LIMIT {limit}", detector.head());
        self.query_within(&text, &params, limit, None).await
    }

    /// What a query finds of given keys.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn detect_keys(
        &self,
        detector: &Detector,
        keys: &[String],
    ) -> Result<Vec<Row>, SourceError> {
        let key = detector.key_column();
        let among = match detector.dialect {
            Dialect::Postgres => format!(
                "{key} = ANY(ARRAY(SELECT jsonb_array_elements_text($1::jsonb))::{}[])",
                detector.cast()
            ),
            Dialect::Sqlite => format!("{key} IN (SELECT value FROM json_each($1))"),
        };
        let (condition, _) = detector.condition(Some(among), None);
        let text = format!("{} {condition}", detector.head());
        // A query that gives a key twice is no reason to fail.
        let limit = (keys.len() as u64).saturating_mul(10);
        self.query_within(&text, &[detector.key_list(keys)], limit, None).await
    }

    /// How many rows a query finds. The window is in milliseconds.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn count_detected(
        &self,
        detector: &Detector,
        window_ms: Option<u64>,
    ) -> Result<u64, SourceError> {
        let (condition, params) = detector.condition(None, window_ms);
        let text = format!(
            "SELECT count(DISTINCT d.key) AS count FROM (\n{}\n) AS d {condition}",
            detector.sql
        );
        self.ask_number(&text, &params).await
    }

    /// The first number that a query gives.
    ///
    /// # Errors
    /// As [`query`](Self::query); it gives no number.
    pub async fn ask_number(&self, sql: &str, params: &[String]) -> Result<u64, SourceError> {
        let rows = self.query(sql, params).await?;
        let value = rows.first().and_then(|row| row.values().next());
        let number = value.and_then(|value| match value.as_str() {
            Some(text) => text.parse().ok(),
            None => value.as_u64(),
        });
        number.ok_or_else(|| {
            SourceError::Refused("the query gives no whole number in its first row".to_owned())
        })
    }

    /// The keys that a pick names and the query still finds, in their order.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn next_keys(
        &self,
        detector: &Detector,
        pick: Pick<'_>,
    ) -> Result<Vec<String>, SourceError> {
        let mut tx = self.begin().await?;
        let rows = self.pick_in(&mut tx, detector, pick).await?;
        let mut keys: Vec<String> = rows.iter().map(Detector::key_of).collect::<Result<_, _>>()?;
        keys.dedup();
        Ok(keys)
    }

    /// What a query finds, inside a transaction.
    pub(super) async fn pick_in(
        &self,
        tx: &mut Tx,
        detector: &Detector,
        pick: Pick<'_>,
    ) -> Result<Vec<Row>, SourceError> {
        let head = detector.head();
        let key = detector.key_column();
        self.limit(tx).await?;
        match (pick, tx) {
            (Pick::Keys(keys), Tx::Postgres(tx)) => {
                let (condition, _) = detector.condition(
                    Some(format!("{key} = ANY($1::text[]::{}[])", detector.cast())),
                    None,
                );
                let text = format!(
                    "SELECT to_json(q)::text FROM ({head} {condition} ORDER BY {key}) AS q"
                );
                let asked = sqlx::query_scalar::<_, String>(AssertSqlSafe(text)).bind(keys);
                let rows = asked.fetch_all(&mut **tx).await.map_err(|error| self.error(error))?;
                rows.iter().map(|text| read_row(text)).collect()
            }
            (Pick::Keys(keys), Tx::Sqlite(tx)) => {
                let (condition, _) = detector
                    .condition(Some(format!("{key} IN (SELECT value FROM json_each($1))")), None);
                let text = format!("{head} {condition} ORDER BY {key}");
                let asked = sqlx::query(AssertSqlSafe(text)).bind(detector.key_list(keys));
                let rows = asked.fetch_all(&mut **tx).await.map_err(|error| self.error(error))?;
                rows.iter().map(json_of).collect::<Result<_, _>>().map_err(|e| self.error(e))
            }
            (Pick::After { cursor, limit, window_ms }, tx) => {
                let after = cursor.map(|_| match detector.key {
                    KeyKind::Int if detector.dialect == Dialect::Sqlite => {
                        format!("{key} > CAST($1 AS INTEGER)")
                    }
                    _ if detector.dialect == Dialect::Sqlite => format!("{key} > $1"),
                    _ => format!("{key} > $1::{}", detector.cast()),
                });
                let is_first = after.is_none();
                let (condition, mut params) = detector.window(after, window_ms, !is_first);
                if let Some(cursor) = cursor {
                    params.insert(0, cursor.to_owned());
                }
                let text = format!("{head} {condition} ORDER BY {key} LIMIT {limit}");
                match tx {
                    Tx::Postgres(tx) => {
                        let text = format!("SELECT to_json(q)::text FROM ({text}) AS q");
                        let mut asked = sqlx::query_scalar::<_, String>(AssertSqlSafe(text));
                        for param in params {
                            asked = asked.bind(param);
                        }
                        let rows =
                            asked.fetch_all(&mut **tx).await.map_err(|error| self.error(error))?;
                        rows.iter().map(|text| read_row(text)).collect()
                    }
                    Tx::Sqlite(tx) => {
                        let mut asked = sqlx::query(AssertSqlSafe(text));
                        for param in params {
                            asked = asked.bind(param);
                        }
                        let rows =
                            asked.fetch_all(&mut **tx).await.map_err(|error| self.error(error))?;
                        let rows = rows.iter().map(json_of).collect::<Result<_, _>>();
                        rows.map_err(|error| self.error(error))
                    }
                }
            }
        }
    }
}

impl Detector {
    /// Whether it can be asked for a window.
    pub fn has_window(&self) -> bool {
        self.since.is_some()
    }

    /// The query as it is asked, to be explained.
    pub fn text(&self) -> String {
        format!("{} {}", self.head(), self.condition(None, None).0)
    }

    /// The key of a row, as text.
    ///
    /// # Errors
    /// It is null.
    pub fn key_of(row: &Row) -> Result<String, SourceError> {
        match row.get("key") {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            None | Some(serde_json::Value::Null) => Err(SourceError::Refused(
                "the query gives a row whose `key` is null; leave such rows out".to_owned(),
            )),
            Some(other) => Ok(other.to_string()),
        }
    }

    /// Keys as a JSON array, each of its kind.
    pub(super) fn key_list(&self, keys: &[String]) -> String {
        let value = |key: &String| match (self.key, key.parse::<i64>()) {
            (KeyKind::Int, Ok(number)) => serde_json::Value::from(number),
            _ => serde_json::Value::from(key.as_str()),
        };
        serde_json::Value::from(keys.iter().map(value).collect::<Vec<_>>()).to_string()
    }

    fn head(&self) -> String {
        format!("SELECT d.* FROM (\n{}\n) AS d", self.sql)
    }

    fn key_column(&self) -> &'static str {
        match (self.dialect, self.key) {
            (Dialect::Postgres, KeyKind::Other) => "d.key::text",
            _ => "d.key",
        }
    }

    fn cast(&self) -> &'static str {
        match self.key {
            KeyKind::Uuid => "uuid",
            KeyKind::Int => "bigint",
            KeyKind::Text | KeyKind::Other => "text",
        }
    }

    fn condition(&self, also: Option<String>, window_ms: Option<u64>) -> (String, Vec<String>) {
        self.window(also, window_ms, false)
    }

    /// `WHERE …`, with the parameters of the window. `is_second`: `$1` is taken.
    fn window(
        &self,
        also: Option<String>,
        window_ms: Option<u64>,
        is_second: bool,
    ) -> (String, Vec<String>) {
        let mut parts: Vec<String> = also.into_iter().collect();
        let mut params = Vec::new();
        if self.has_class {
            parts.push(match self.dialect {
                Dialect::Postgres => "d.class IS DISTINCT FROM 'healthy'".to_owned(),
                Dialect::Sqlite => "d.class IS NOT 'healthy'".to_owned(),
            });
        }
        if let (Some(window), Some(since)) = (window_ms, self.since) {
            let place = if is_second { "$2" } else { "$1" };
            let seconds = format!("CAST({place} AS DOUBLE PRECISION)");
            parts.push(match since {
                SinceKind::Zoned => format!("d.since > now() - make_interval(secs => {seconds})"),
                SinceKind::Plain => format!(
                    "d.since > (now() AT TIME ZONE 'UTC') - make_interval(secs => {seconds})"
                ),
                // The limit is milliseconds for large numbers: seconds reach it in the year 5138.
                SinceKind::Loose => format!(
                    "(CASE WHEN typeof(d.since) IN ('integer', 'real') THEN \
                     CASE WHEN d.since > 100000000000 THEN d.since / 1000.0 ELSE d.since END \
                     ELSE (julianday(d.since) - 2440587.5) * 86400.0 END) \
                     > (julianday('now') - 2440587.5) * 86400.0 - CAST({place} AS REAL)"
                ),
            });
            params.push(format!("{}.{:03}", window / 1000, window % 1000));
        }
        let text =
            if parts.is_empty() { String::new() } else { format!("WHERE {}", parts.join(" AND ")) };
        (text, params)
    }
}

fn names_and_types<C: sqlx::Column>(columns: &[C]) -> Vec<(String, String)> {
    columns
        .iter()
        .map(|column| (column.name().to_owned(), column.type_info().name().to_owned()))
        .collect()
}
