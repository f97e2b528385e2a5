//! Looking at a whole table: its keys with a hash of chosen columns, how many rows, a sum. Nothing is written, and one
//! snapshot sees one moment.
//!
//! PostgreSQL sends whole numbers and UUIDs of plain tables many in one value, and everything else by
//! `COPY … (FORMAT binary)`, whose layout is in its documentation. SQLite gives rows.

mod blocks;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{
    AssertSqlSafe, Executor as _, Postgres, Row as _, Transaction, TypeInfo as _, ValueRef as _,
};
use tokio::time::Instant;

use crate::connect::{Pool, Source};
use crate::error::SourceError;
use crate::keys::{Key, hash_of};
use crate::query::LOOK_EVERY;

/// Rows of a table that may be surveyed: their keys are held in memory meanwhile.
pub const ROWS_MAX: u64 = 5_000_000;
/// What every binary COPY begins with.
const COPY_MARK: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Which columns' values count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns<'c> {
    /// None: only keys.
    None,
    /// These.
    Some(&'c [String]),
    /// Every column of the table.
    All,
}

impl Source {
    /// Calls `each` with every row's key and a hash of its columns (0 without any). Returns the number of rows.
    ///
    /// # Errors
    /// The table or a column does not exist, a key is null, the table has over [`ROWS_MAX`] rows, or the source's limits.
    pub async fn survey(
        &self,
        table: &str,
        key: &[String],
        columns: Columns<'_>,
        each: &mut (dyn FnMut(Key<'_>, u64) + Send),
    ) -> Result<u64, SourceError> {
        let known = self.columns_of(table).await?;
        let wanted = match columns {
            Columns::Some(columns) => columns,
            Columns::None | Columns::All => &[],
        };
        for column in key.iter().chain(wanted) {
            if known.iter().all(|(name, _)| name != column) {
                let message = format!("table {table} has no column `{column}`");
                return Err(SourceError::Refused(message));
            }
        }
        let values: Vec<String> = match columns {
            Columns::All => known.iter().map(|(name, _)| quoted(name)).collect(),
            _ => wanted.iter().map(|name| quoted(name)).collect(),
        };
        match self.pool().await? {
            Pool::Postgres(pool) => {
                let (expression, form) = postgres_key(key, &known);
                let selected: Vec<String> = std::iter::once(expression).chain(values).collect();
                let text = format!(
                    "COPY (SELECT {} FROM {} LIMIT {}) TO STDOUT (FORMAT binary)",
                    selected.join(", "),
                    quoted(table),
                    ROWS_MAX + 1
                );
                let asked = async {
                    if let ([column], Columns::None) = (key, columns)
                        && let Some(read) = blocks::keys(&pool, table, (column, form), each).await?
                    {
                        return Ok(read);
                    }
                    let mut tx = pool.begin_with("BEGIN TRANSACTION READ ONLY").await?;
                    copy_rows(&mut tx, &text, form, each).await
                };
                let read = asked.await.map_err(|error| self.error(error))?;
                counted(table, &read)
            }
            Pool::Sqlite { read: pool, .. } => {
                let expression = match key {
                    [one] => quoted(one),
                    several => {
                        let parts: Vec<String> = several.iter().map(|name| quoted(name)).collect();
                        format!("json_array({})", parts.join(", "))
                    }
                };
                let selected: Vec<String> = std::iter::once(expression).chain(values).collect();
                let text = format!(
                    "SELECT {} FROM {} LIMIT {}",
                    selected.join(", "),
                    quoted(table),
                    ROWS_MAX + 1
                );
                let end = self.statement_end();
                let asked = async {
                    let mut connection = pool.acquire().await?;
                    let mut handle = connection.lock_handle().await?;
                    handle.set_progress_handler(LOOK_EVERY, move || Instant::now() < end);
                    drop(handle);
                    let read = sqlite_rows(&mut connection, text, each).await;
                    connection.lock_handle().await?.remove_progress_handler();
                    read
                };
                let read = asked.await.map_err(|error| self.error(error))?;
                counted(table, &read)
            }
        }
    }

    /// How many rows a table has.
    ///
    /// # Errors
    /// The table does not exist, or the source's limits.
    pub async fn count(&self, table: &str) -> Result<u64, SourceError> {
        self.columns_of(table).await?;
        let count =
            self.one_text(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM {}", quoted(table))).await?;
        count.parse().map_err(|_| SourceError::Refused(format!("`{count}` is not a count")))
    }

    /// The sum over a column, as the database writes it; `0` for an empty table.
    ///
    /// # Errors
    /// The table or the column does not exist or is no number, or the source's limits.
    pub async fn sum(&self, table: &str, column: &str) -> Result<String, SourceError> {
        if self.columns_of(table).await?.iter().all(|(name, _)| name != column) {
            return Err(SourceError::Refused(format!("table {table} has no column `{column}`")));
        }
        let (column, table) = (quoted(column), quoted(table));
        self.one_text(&format!("SELECT CAST(COALESCE(SUM({column}), 0) AS TEXT) FROM {table}"))
            .await
    }

    async fn one_text(&self, sql: &str) -> Result<String, SourceError> {
        let rows = self.query(sql, &[]).await?;
        let first = rows.first().and_then(|row| row.values().next());
        Ok(first.and_then(|value| value.as_str()).unwrap_or("0").to_owned())
    }

    /// A table's columns and their types, in order.
    pub(crate) async fn columns_of(
        &self,
        table: &str,
    ) -> Result<Vec<(String, String)>, SourceError> {
        let found: Result<Vec<(String, String)>, sqlx::Error> = match self.pool().await? {
            Pool::Postgres(pool) => {
                const ASK: &str = "SELECT a.attname::text, t.typname::text FROM pg_attribute a \
                                   JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = to_regclass($1) \
                                   AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
                sqlx::query_as(ASK).bind(quoted(table)).fetch_all(&pool).await
            }
            Pool::Sqlite { read: pool, .. } => {
                let name = table.rsplit('.').next().unwrap_or(table);
                let ask = "SELECT name, type FROM pragma_table_info($1) ORDER BY cid";
                sqlx::query_as(ask).bind(name).fetch_all(&pool).await
            }
        };
        let found = found.map_err(|error| self.error(error))?;
        if found.is_empty() {
            return Err(SourceError::Refused(format!(
                "there is no table {table}, or it may not be read"
            )));
        }
        Ok(found)
    }
}

fn counted(table: &str, read: &Read) -> Result<u64, SourceError> {
    match *read {
        Read::NullKey => Err(SourceError::Refused(format!("a key of table {table} is null"))),
        Read::Garbled => {
            Err(SourceError::Refused(format!("the rows of table {table} cannot be read")))
        }
        Read::Rows(rows) if rows > ROWS_MAX => Err(SourceError::TooManyRows(ROWS_MAX)),
        Read::Rows(rows) => Ok(rows),
    }
}

/// What came of reading a table.
enum Read {
    Rows(u64),
    NullKey,
    Garbled,
}

/// `schema.table` or a column, each part in quotes.
pub(crate) fn quoted(name: &str) -> String {
    let parts: Vec<String> =
        name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    parts.join(".")
}

/// How PostgreSQL sends a key.
#[derive(Clone, Copy)]
enum Form {
    Int,
    Uuid,
    Text,
}

fn postgres_key(key: &[String], known: &[(String, String)]) -> (String, Form) {
    let [one] = key else {
        let parts: Vec<String> = key.iter().map(|name| format!("{}::text", quoted(name))).collect();
        return (format!("jsonb_build_array({})::text", parts.join(", ")), Form::Text);
    };
    let kind = known.iter().find(|(name, _)| name == one).map_or("", |(_, kind)| kind.as_str());
    let column = quoted(one);
    match kind {
        "int8" => (column, Form::Int),
        "int2" | "int4" => (format!("{column}::int8"), Form::Int),
        "uuid" => (column, Form::Uuid),
        _ => (format!("{column}::text"), Form::Text),
    }
}

async fn copy_rows(
    tx: &mut Transaction<'static, Postgres>,
    text: &str,
    form: Form,
    each: &mut (dyn FnMut(Key<'_>, u64) + Send),
) -> Result<Read, sqlx::Error> {
    let mut rows = 0u64;
    let mut held: Vec<u8> = Vec::new();
    let mut is_open = false;
    // From the table's beginning, so that two looks give its rows in one order.
    tx.execute("SET LOCAL synchronize_seqscans = off").await?;
    let mut stream = tx.copy_out_raw(text).await?;
    while let Some(bytes) = stream.try_next().await? {
        // PostgreSQL sends a row a message; nothing promises that, so what is left over is kept.
        let whole: &[u8] = if held.is_empty() {
            &bytes
        } else {
            held.extend_from_slice(&bytes);
            &held
        };
        let mut rest = whole;
        if !is_open {
            match header(rest) {
                Some(after) => (rest, is_open) = (after, true),
                None if rest.len() > 1_000 => return Ok(Read::Garbled),
                None => {}
            }
        }
        loop {
            if !is_open {
                break;
            }
            match row(rest, form) {
                Row::Whole(Some(key), columns, after) => {
                    each(key, columns);
                    rows += 1;
                    rest = after;
                }
                Row::Whole(None, ..) => return Ok(Read::NullKey),
                Row::Half | Row::End => break,
                Row::Garbled => return Ok(Read::Garbled),
            }
        }
        held = rest.to_vec();
    }
    Ok(Read::Rows(rows))
}

/// What follows the header; `None` when it is not whole.
fn header(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(COPY_MARK)?;
    let (_flags, rest) = rest.split_at_checked(4)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?).map(|(_, rest)| rest)
}

enum Row<'b> {
    Whole(Option<Key<'b>>, u64, &'b [u8]),
    Half,
    End,
    Garbled,
}

fn row(bytes: &[u8], form: Form) -> Row<'_> {
    let Some((count, rest)) = bytes.split_first_chunk::<2>() else { return Row::Half };
    let fields = i16::from_be_bytes(*count);
    if fields < 0 {
        return Row::End;
    }
    let Ok((first, rest)) = field(rest) else { return Row::Half };
    // The columns' bytes lie together, with their lengths, so one hash takes them all.
    let mut after = rest;
    for _ in 1..fields {
        match field(after) {
            Ok((_, next)) => after = next,
            Err(()) => return Row::Half,
        }
    }
    let columns = match rest.get(..rest.len() - after.len()) {
        Some(bytes) if fields > 1 => hash_of(bytes),
        _ => 0,
    };
    let key = match (first, form) {
        (None, _) => return Row::Whole(None, 0, after),
        (Some(bytes), Form::Int) => {
            bytes.try_into().ok().map(|bytes| Key::Int(i64::from_be_bytes(bytes)))
        }
        (Some(bytes), Form::Uuid) => bytes.try_into().ok().map(Key::Uuid),
        (Some(bytes), Form::Text) => Some(Key::Text(bytes)),
    };
    if key.is_none() { Row::Garbled } else { Row::Whole(key, columns, after) }
}

/// A field and what follows it; `None` for null. The error: it is not whole.
type Field<'b> = Result<(Option<&'b [u8]>, &'b [u8]), ()>;

fn field(bytes: &[u8]) -> Field<'_> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(())?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Err(_) => Ok((None, rest)),
        Ok(length) => {
            rest.split_at_checked(length).map(|(field, rest)| (Some(field), rest)).ok_or(())
        }
    }
}

async fn sqlite_rows(
    connection: &mut sqlx::SqliteConnection,
    text: String,
    each: &mut (dyn FnMut(Key<'_>, u64) + Send),
) -> Result<Read, sqlx::Error> {
    let mut rows = 0u64;
    let mut values: Vec<u8> = Vec::new();
    let mut stream = sqlx::raw_sql(AssertSqlSafe(text)).fetch(connection);
    while let Some(row) = stream.try_next().await? {
        values.clear();
        for index in 1..row.len() {
            write_value(&row, index, &mut values)?;
        }
        let columns = if row.len() > 1 { hash_of(&values) } else { 0 };
        let raw = row.try_get_raw(0)?;
        if raw.is_null() {
            return Ok(Read::NullKey);
        }
        if raw.type_info().name() == "INTEGER" {
            each(Key::Int(row.try_get_unchecked(0)?), columns);
        } else if raw.type_info().name() == "REAL" {
            each(Key::Text(row.try_get_unchecked::<f64, _>(0)?.to_string().as_bytes()), columns);
        } else {
            each(Key::Text(row.try_get_unchecked::<&[u8], _>(0)?), columns);
        }
        rows += 1;
    }
    Ok(Read::Rows(rows))
}

/// Writes a value so that no two different ones look alike: its type, its length, its bytes.
fn write_value(row: &SqliteRow, index: usize, out: &mut Vec<u8>) -> Result<(), sqlx::Error> {
    let raw = row.try_get_raw(index)?;
    let kind = if raw.is_null() { "NULL".to_owned() } else { raw.type_info().name().to_owned() };
    match kind.as_str() {
        "NULL" => out.push(b'n'),
        "INTEGER" => {
            out.push(b'i');
            out.extend(row.try_get_unchecked::<i64, _>(index)?.to_le_bytes());
        }
        "REAL" => {
            out.push(b'r');
            out.extend(row.try_get_unchecked::<f64, _>(index)?.to_bits().to_le_bytes());
        }
        kind => {
            let bytes: &[u8] = row.try_get_unchecked(index)?;
            out.push(if kind == "BLOB" { b'b' } else { b't' });
            out.extend((bytes.len() as u64).to_le_bytes());
            out.extend(bytes);
        }
    }
    Ok(())
}
