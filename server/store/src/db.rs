//! The two databases behind one small interface: statements with `$1` parameters, rows read by name.
//!
//! Columns are TEXT, BIGINT and BOOLEAN only, which is what keeps one text valid on both.

use std::sync::OnceLock;

use serde::de::DeserializeOwned;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Connection as _, Executor, Postgres, Row as _, SqlSafeStr, Sqlite, Transaction};

use crate::error::StoreError;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The embedded file.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

/// Connections to one database.
#[derive(Clone, Debug)]
pub enum Db {
    /// One writer, so that writes queue in our process instead of failing; readers apart.
    Sqlite {
        /// The only connection that writes.
        write: SqlitePool,
        /// Read-only connections.
        read: SqlitePool,
    },
    /// One pool.
    Postgres(PgPool),
}

/// A value for a `$n`.
#[derive(Clone, Debug)]
pub(crate) enum Param {
    Text(Option<String>),
    Int(Option<i64>),
    Bool(bool),
}

macro_rules! param_from {
    ($($from:ty => |$value:ident| $make:expr;)*) => {
        $(impl From<$from> for Param {
            fn from($value: $from) -> Self { $make }
        })*
    };
}

param_from! {
    &str => |v| Self::Text(Some(v.to_owned()));
    String => |v| Self::Text(Some(v));
    &String => |v| Self::Text(Some(v.clone()));
    Option<String> => |v| Self::Text(v);
    Option<&str> => |v| Self::Text(v.map(str::to_owned));
    &Option<String> => |v| Self::Text(v.clone());
    i64 => |v| Self::Int(Some(v));
    u64 => |v| Self::Int(Some(v.cast_signed()));
    Option<i64> => |v| Self::Int(v);
    Option<u64> => |v| Self::Int(v.map(u64::cast_signed));
    bool => |v| Self::Bool(v);
}

/// Builds a parameter list: `params![environment, key, 3_i64]`.
macro_rules! params {
    ($($value:expr),* $(,)?) => { vec![$($crate::db::Param::from($value)),*] };
}
pub(crate) use params;

/// Names a file's statements, and lists them for the test that prepares each on both databases.
macro_rules! sql {
    ($($name:ident = $text:expr;)*) => {
        $(const $name: &str = $text;)*
        pub(crate) const ALL: &[&str] = &[$($name),*];
    };
}
pub(crate) use sql;

macro_rules! bound {
    ($sql:expr, $params:expr) => {{
        let mut query = sqlx::query($sql);
        for param in $params {
            query = match param {
                Param::Text(value) => query.bind(value),
                Param::Int(value) => query.bind(value),
                Param::Bool(value) => query.bind(value),
            };
        }
        query
    }};
}

/// One row, read by column name.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! getter {
    ($name:ident, $type:ty) => {
        pub fn $name(&self, column: &'static str) -> Result<$type, StoreError> {
            match self {
                Self::Sqlite(row) => row.try_get::<$type, _>(column),
                Self::Postgres(row) => row.try_get::<$type, _>(column),
            }
            .map_err(|error| StoreError::Corrupt { column, source: Box::new(error) })
        }
    };
}

impl Row {
    getter!(text, String);
    getter!(opt_text, Option<String>);
    getter!(int, i64);
    getter!(opt_int, Option<i64>);
    getter!(bool, bool);

    pub fn unsigned(&self, column: &'static str) -> Result<u64, StoreError> {
        Ok(self.int(column)?.max(0).cast_unsigned())
    }

    pub fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?)
            .map_err(|error| StoreError::Corrupt { column, source: Box::new(error) })
    }

    pub fn opt_json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.opt_text(column)?
            .map(|text| {
                serde_json::from_str(&text)
                    .map_err(|error| StoreError::Corrupt { column, source: Box::new(error) })
            })
            .transpose()
    }

    /// A text that stands for one word of a closed list, such as a status.
    pub fn word<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_value(serde_json::Value::String(self.text(column)?))
            .map_err(|error| StoreError::Corrupt { column, source: Box::new(error) })
    }
}

/// A value as JSON text, for a column; the types of this crate always serialise.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Corrupt { column: "(written)", source: Box::new(error) })
}

/// The word that a closed-list value is stored as.
pub(crate) fn word<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        Ok(other) => Ok(other.to_string()),
        Err(error) => Err(StoreError::Corrupt { column: "(written)", source: Box::new(error) }),
    }
}

/// A statement that writes many rows at once: a head that ends with `VALUES`, the rows, a tail.
///
/// Texts exist for a few numbers of rows only, so that each is prepared once for each connection.
pub(crate) struct Bulk {
    head: &'static str,
    columns: usize,
    tail: &'static str,
    texts: OnceLock<Vec<(usize, String)>>,
}

/// Rows in one statement, the most first. SQLite takes 32,766 parameters in one, PostgreSQL 65,535.
const BULK_ROWS: [usize; 4] = [500, 60, 8, 1];

impl Bulk {
    pub const fn new(head: &'static str, columns: usize, tail: &'static str) -> Self {
        Self { head, columns, tail, texts: OnceLock::new() }
    }

    fn texts(&'static self) -> &'static [(usize, String)] {
        self.texts.get_or_init(|| BULK_ROWS.iter().map(|rows| (*rows, self.text(*rows))).collect())
    }

    fn text(&self, rows: usize) -> String {
        let row = |row: usize| {
            let places = (1..=self.columns).map(|place| format!("${}", row * self.columns + place));
            format!("({})", places.collect::<Vec<_>>().join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!("{} {} {}", self.head, rows.join(", "), self.tail)
    }

    /// The statement for one row, to be prepared by a test.
    pub fn one(&'static self) -> &'static str {
        self.texts().last().map_or("", |(_, text)| text)
    }

    /// Writes the rows. What the tail returns comes back.
    pub async fn write(
        &'static self,
        tx: &mut Tx,
        rows: impl ExactSizeIterator<Item = Vec<Param>>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut left = rows.len();
        let mut rows = rows.into_iter();
        let mut answers = Vec::new();
        while left > 0 {
            let fits = |(size, _): &&(usize, String)| *size <= left;
            let Some((size, text)) = self.texts().iter().find(fits) else { break };
            let params: Vec<Param> = rows.by_ref().take(*size).flatten().collect();
            answers.extend(tx.all(text, params).await?);
            left -= size;
        }
        Ok(answers)
    }
}

/// One open transaction; dropping it rolls back.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Db {
    /// Which database this is.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite { .. } => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Starts a write. `BEGIN IMMEDIATE` on SQLite: a read that turns into a write would fail at
    /// once under WAL, whatever the busy time-out.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        const IMMEDIATE: &str = "BEGIN IMMEDIATE";
        Ok(match self {
            Self::Sqlite { write, .. } => match write.begin_with(IMMEDIATE).await {
                // SQLite ended the transaction before by itself, as it does when its disk is full, and the driver still counts it:
                // such a connection is of no use any more.
                Err(sqlx::Error::InvalidSavePointStatement) => {
                    let broken = write.acquire().await?.detach();
                    broken.close().await?;
                    Tx::Sqlite(write.begin_with(IMMEDIATE).await?)
                }
                begun => Tx::Sqlite(begun?),
            },
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Starts a read that sees one moment, however many statements it takes.
    pub(crate) async fn snapshot(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Sqlite { read, .. } => Tx::Sqlite(read.begin().await?),
            Self::Postgres(pool) => Tx::Postgres(
                pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?,
            ),
        })
    }

    pub(crate) async fn all(
        &self,
        sql: &'static str,
        params: Vec<Param>,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite { read, .. } => {
                let rows = bound!(sql, params).fetch_all(read).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(pool) => {
                let rows = bound!(sql, params).fetch_all(pool).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    pub(crate) async fn one(
        &self,
        sql: &'static str,
        params: Vec<Param>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite { read, .. } => {
                bound!(sql, params).fetch_optional(read).await?.map(Row::Sqlite)
            }
            Self::Postgres(pool) => {
                bound!(sql, params).fetch_optional(pool).await?.map(Row::Postgres)
            }
        })
    }

    /// One statement that writes, on its own. Returns the rows affected.
    pub(crate) async fn execute(
        &self,
        sql: &'static str,
        params: Vec<Param>,
    ) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite { write, .. } => bound!(sql, params).execute(write).await?.rows_affected(),
            Self::Postgres(pool) => bound!(sql, params).execute(pool).await?.rows_affected(),
        })
    }

    pub(crate) async fn prepare(&self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite { write, .. } => {
                write.acquire().await?.prepare(sql.into_sql_str()).await?;
            }
            Self::Postgres(pool) => {
                pool.acquire().await?.prepare(sql.into_sql_str()).await?;
            }
        }
        Ok(())
    }
}

impl Tx {
    pub async fn all(
        &mut self,
        sql: &'static str,
        params: Vec<Param>,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => {
                let rows = bound!(sql, params).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                let rows = bound!(sql, params).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    pub async fn one(
        &mut self,
        sql: &'static str,
        params: Vec<Param>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => {
                bound!(sql, params).fetch_optional(&mut **tx).await?.map(Row::Sqlite)
            }
            Self::Postgres(tx) => {
                bound!(sql, params).fetch_optional(&mut **tx).await?.map(Row::Postgres)
            }
        })
    }

    pub async fn execute(
        &mut self,
        sql: &'static str,
        params: Vec<Param>,
    ) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => bound!(sql, params).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => bound!(sql, params).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Tells the other nodes, when this commits; on SQLite there are none.
    pub async fn announce(&mut self, news: &str) -> Result<(), StoreError> {
        if let Self::Postgres(tx) = self {
            sqlx::query("SELECT pg_notify('switchback', $1)").bind(news).execute(&mut **tx).await?;
        }
        Ok(())
    }

    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
