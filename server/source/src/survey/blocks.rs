//! Whole numbers and UUIDs that are keys of PostgreSQL's plain tables, some blocks at a time: one value holds the keys of all rows in
//! them, so that nothing is paid for each row on the way. Two connections read, in one snapshot.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Executor as _, PgPool, Postgres, Row as _, Transaction, ValueRef as _};
use tokio::time::timeout;

use super::{Form, ROWS_MAX, Read, quoted};
use crate::keys::Key;

/// Blocks whose keys come in one value: at 8 KiB a block no more than 300,000 rows, which are 5 MB.
const BLOCKS: i64 = 1_024;
/// So long a second connection is waited for.
const BESIDE_WITHIN: Duration = Duration::from_millis(500);
/// Whether blocks of a table can be read by their numbers, and are all there is: PostgreSQL reads ranges of them from version 14
/// on, a view has none, and a table that others inherit from shows rows of theirs.
const PLAIN: &str = "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_am a ON a.oid = c.relam \
                     WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'm') AND a.amname = 'heap' \
                     AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhparent = c.oid) \
                     AND current_setting('server_version_num')::int >= 140000)";
const MAY_EXPORT: &str =
    "SELECT has_function_privilege('pg_catalog.pg_export_snapshot()', 'EXECUTE')";
const SIZE: &str =
    "SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint";

/// Calls `each` with every key; `None` when the table is none that is read so.
pub(super) async fn keys(
    pool: &PgPool,
    table: &str,
    (column, form): (&str, Form),
    each: &mut (dyn FnMut(Key<'_>, u64) + Send),
) -> Result<Option<Read>, sqlx::Error> {
    let (table, column) = (quoted(table), quoted(column));
    let sent = match form {
        Form::Int => format!("int8send({column}::int8)"),
        Form::Uuid => format!("uuid_send({column})"),
        Form::Text => return Ok(None),
    };
    if !sqlx::query_scalar::<_, bool>(PLAIN).bind(&table).fetch_one(pool).await? {
        return Ok(None);
    }
    let mut tx =
        pool.begin_with("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // Before the snapshot: whoever rewrites a table makes it look empty to older ones.
    let lock = format!("LOCK TABLE {table} IN ACCESS SHARE MODE");
    tx.execute(sqlx::raw_sql(AssertSqlSafe(lock))).await?;
    let blocks: i64 = sqlx::query_scalar(SIZE).bind(&table).fetch_one(&mut *tx).await?;
    let mut beside = if blocks > BLOCKS { beside(pool, &mut tx).await? } else { None };
    let ask = |from: i64| {
        let to = from + BLOCKS;
        let text = format!(
            "SELECT string_agg({sent}, ''::bytea), count(*) FROM {table} \
             WHERE ctid >= '({from},0)'::tid AND ctid < '({to},0)'::tid"
        );
        sqlx::query(AssertSqlSafe(text)).persistent(false)
    };
    let mut rows = 0;
    let mut last: Vec<PgRow> = Vec::new();
    let mut from = 0;
    loop {
        // Asked first: PostgreSQL collects the next keys while these are taken.
        let asked = async {
            let mut found = Vec::new();
            if from < blocks {
                let one = ask(from).fetch_one(&mut *tx);
                match &mut beside {
                    Some(beside) if from + BLOCKS < blocks => {
                        let other = ask(from + BLOCKS).fetch_one(&mut **beside);
                        let (one, other) = tokio::try_join!(one, other)?;
                        found.extend([one, other]);
                    }
                    _ => found.push(one.await?),
                }
            }
            Ok::<_, sqlx::Error>(found)
        };
        let (next, taken) = tokio::join!(asked, async { take_all(&last, form, each) });
        let Some(found) = taken? else { return Ok(Some(Read::NullKey)) };
        rows += found;
        last = next?;
        if rows > ROWS_MAX || last.is_empty() {
            return Ok(Some(Read::Rows(rows)));
        }
        from += BLOCKS * last.len() as i64;
    }
}

/// A second connection that sees the same moment, so that two processes of the database collect; none where the source has no
/// connection to spare, or another server answers.
async fn beside(
    pool: &PgPool,
    tx: &mut Transaction<'static, Postgres>,
) -> Result<Option<Transaction<'static, Postgres>>, sqlx::Error> {
    let is_free = pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections();
    if !is_free {
        return Ok(None);
    }
    if !sqlx::query_scalar::<_, bool>(MAY_EXPORT).fetch_one(&mut **tx).await? {
        return Ok(None);
    }
    let asked = sqlx::query_scalar::<_, String>("SELECT pg_export_snapshot()");
    let name = asked.fetch_one(&mut **tx).await?;
    let asked = async {
        let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut other = pool.begin_with(begin).await?;
        let text = format!("SET TRANSACTION SNAPSHOT '{name}'");
        other.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
        Ok::<_, sqlx::Error>(other)
    };
    Ok(timeout(BESIDE_WITHIN, asked).await.ok().and_then(Result::ok))
}

fn take_all(
    found: &[PgRow],
    form: Form,
    each: &mut (dyn FnMut(Key<'_>, u64) + Send),
) -> Result<Option<u64>, sqlx::Error> {
    let mut rows = 0;
    for row in found {
        let Some(taken) = take(row, form, each)? else { return Ok(None) };
        rows += taken;
    }
    Ok(Some(rows))
}

/// How many keys a value has; `None` when a row of these blocks has none. The database leaves such rows out of the value and counts
/// them.
fn take(
    row: &PgRow,
    form: Form,
    each: &mut (dyn FnMut(Key<'_>, u64) + Send),
) -> Result<Option<u64>, sqlx::Error> {
    let rows = row.try_get::<i64, _>(1)?.cast_unsigned();
    let value = row.try_get_raw(0)?;
    if value.is_null() {
        return Ok((rows == 0).then_some(0));
    }
    let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
    let found = if matches!(form, Form::Uuid) {
        let (keys, _) = bytes.as_chunks::<16>();
        for key in keys {
            each(Key::Uuid(*key), 0);
        }
        keys.len() as u64
    } else {
        let (keys, _) = bytes.as_chunks::<8>();
        for key in keys {
            each(Key::Int(i64::from_be_bytes(*key)), 0);
        }
        keys.len() as u64
    };
    Ok((found == rows).then_some(found))
}
