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

/// What a column of a statement for many rows holds; each may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Text,
    Int,
}

/// A statement for many rows at once: a head that ends with `VALUES`, the rows, a tail that knows them as `column1` and so on.
///
/// PostgreSQL gets a list for each column, so that there is one text to parse and to plan, however many rows there are. SQLite
/// gets the rows; texts exist for a few numbers of them only, so that each is prepared once.
pub(crate) struct Bulk {
    head: &'static str,
    columns: &'static [Column],
    tail: &'static str,
    sqlite: OnceLock<Vec<(usize, String)>>,
    postgres: OnceLock<String>,
}

/// Rows in one statement of SQLite, the most first: any number below 1,000 is at most ten statements, and few of the short ones.
/// It takes 32,766 parameters in one.
const BULK_ROWS: [usize; 10] = [500, 250, 125, 60, 30, 15, 8, 4, 2, 1];

impl Bulk {
    pub const fn new(head: &'static str, columns: &'static [Column], tail: &'static str) -> Self {
        Self { head, columns, tail, sqlite: OnceLock::new(), postgres: OnceLock::new() }
    }

    fn sqlite(&'static self) -> &'static [(usize, String)] {
        // Not numbered: it would look each up in a list of all of them, once to prepare it and once to bind it.
        let row = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let text = |rows: usize| {
            format!("{} {} {}", self.head, vec![row.as_str(); rows].join(", "), self.tail)
        };
        self.sqlite.get_or_init(|| BULK_ROWS.iter().map(|rows| (*rows, text(*rows))).collect())
    }

    fn postgres(&'static self) -> &'static str {
        self.postgres.get_or_init(|| {
            let kind = |column: &Column| if *column == Column::Text { "text" } else { "bigint" };
            let numbered = || self.columns.iter().enumerate().map(|(at, column)| (at + 1, column));
            let lists: Vec<String> =
                numbered().map(|(place, column)| format!("${place}::{}[]", kind(column))).collect();
            let names: Vec<String> =
                numbered().map(|(place, _)| format!("column{place}")).collect();
            let rows =
                format!("SELECT * FROM UNNEST({}) AS u({})", lists.join(", "), names.join(", "));
            let head = self.head.strip_suffix("VALUES").unwrap_or(self.head);
            format!("{head}{rows} {}", self.tail)
        })
    }

    /// The statement for one row, to be prepared by a test.
    pub fn one(&'static self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite().last().map_or("", |(_, text)| text),
            Dialect::Postgres => self.postgres(),
        }
    }

    /// Writes the rows. What the tail returns comes back.
    pub async fn write(
        &'static self,
        tx: &mut Tx,
        rows: impl ExactSizeIterator<Item = Vec<Param>>,
    ) -> Result<Vec<Row>, StoreError> {
        if rows.len() == 0 {
            return Ok(Vec::new());
        }
        match tx {
            Tx::Sqlite(_) => {
                let (mut left, mut rows) = (rows.len(), rows);
                let mut answers = Vec::new();
                while left > 0 {
                    let fits = |(size, _): &&(usize, String)| *size <= left;
                    let Some((size, text)) = self.sqlite().iter().find(fits) else { break };
                    let params: Vec<Param> = rows.by_ref().take(*size).flatten().collect();
                    answers.extend(tx.all(text, params).await?);
                    left -= size;
                }
                Ok(answers)
            }
            Tx::Postgres(tx) => {
                let lists = self.lists(rows)?;
                let mut query = sqlx::query(self.postgres());
                for list in lists {
                    query = match list {
                        List::Text(values) => query.bind(values),
                        List::Int(values) => query.bind(values),
                    };
                }
                Ok(query.fetch_all(&mut **tx).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Rows as columns.
    fn lists(
        &self,
        rows: impl ExactSizeIterator<Item = Vec<Param>>,
    ) -> Result<Vec<List>, StoreError> {
        let size = rows.len();
        let empty = |column: &Column| match column {
            Column::Text => List::Text(Vec::with_capacity(size)),
            Column::Int => List::Int(Vec::with_capacity(size)),
        };
        let mut lists: Vec<List> = self.columns.iter().map(empty).collect();
        for row in rows {
            for (list, param) in lists.iter_mut().zip(row) {
                match (list, param) {
                    (List::Text(values), Param::Text(value)) => values.push(value),
                    (List::Int(values), Param::Int(value)) => values.push(value),
                    _ => {
                        let source = format!("a value of another kind in: {}", self.head).into();
                        return Err(StoreError::Corrupt { column: "(written)", source });
                    }
                }
            }
        }
        Ok(lists)
    }
}

/// The values of a column.
enum List {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
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
