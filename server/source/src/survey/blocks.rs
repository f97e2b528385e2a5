//! Keys of PostgreSQL's plain tables, some blocks at a time: one value holds the keys of all rows in them, so that nothing is
//! paid for each row on the way. Every block is read in one snapshot.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Executor as _, PgPool, Row as _};

use super::{Form, ROWS_MAX, Read, quoted};
use crate::keys::Key;

/// Blocks whose keys come in one value: at 8 KiB a block no more than 300,000 rows, which are 5 MB of UUIDs.
const BLOCKS: i64 = 1_024;
/// Whether blocks of a table can be read by their numbers, and are all there is: PostgreSQL reads ranges of them from version 14
/// on, a view has none, and a table that others inherit from shows rows of theirs.
const PLAIN: &str = "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_am a ON a.oid = c.relam \
                     WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'm') AND a.amname = 'heap' \
                     AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhparent = c.oid) \
                     AND current_setting('server_version_num')::int >= 140000)";
const SIZE: &str =
    "SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint";

/// Calls `each` with every key; `None` when the table is none that is read so.
pub(super) async fn keys(
    pool: &PgPool,
    table: &str,
    column: &str,
    form: Form,
    each: &mut (dyn FnMut(Key<'_>, u64) + Send),
) -> Result<Option<Read>, sqlx::Error> {
    let (table, column) = (quoted(table), quoted(column));
    let send = match form {
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
    let mut rows = 0;
    for from in (0..blocks).step_by(BLOCKS as usize) {
        let to = from + BLOCKS;
        let text = format!(
            "SELECT COUNT(*), COALESCE(string_agg({send}, ''::bytea), ''::bytea) FROM {table} \
             WHERE ctid >= '({from},0)'::tid AND ctid < '({to},0)'::tid"
        );
        let row = sqlx::query(AssertSqlSafe(text)).persistent(false).fetch_one(&mut *tx).await?;
        let Some(found) = take(&row, form, each)? else { return Ok(Some(Read::NullKey)) };
        rows += found;
        if rows > ROWS_MAX {
            break;
        }
    }
    Ok(Some(Read::Rows(rows)))
}

/// How many keys a value has; `None` when some are null, which the value leaves out.
fn take(
    row: &PgRow,
    form: Form,
    each: &mut (dyn FnMut(Key<'_>, u64) + Send),
) -> Result<Option<u64>, sqlx::Error> {
    let count = row.try_get::<i64, _>(0)?.cast_unsigned();
    let bytes: &[u8] = row.try_get(1)?;
    let read = if form == Form::Uuid {
        let (keys, _) = bytes.as_chunks::<16>();
        for key in keys {
            each(Key::Uuid(*key), 0);
        }
        keys.len()
    } else {
        let (keys, _) = bytes.as_chunks::<8>();
        for key in keys {
            each(Key::Int(i64::from_be_bytes(*key)), 0);
        }
        keys.len()
    };
    Ok((read as u64 == count).then_some(count))
}
