//! Whole numbers that are keys of PostgreSQL's plain tables, some blocks at a time: one array holds the keys of all rows in them, so
//! that nothing is paid for each row on the way. Every block is read in one snapshot. UUIDs are quicker by COPY: an array of them is
//! copied more often.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Executor as _, PgPool, Row as _, ValueRef as _};

use super::{ROWS_MAX, Read, quoted};
use crate::keys::Key;

/// Blocks whose keys come in one value: at 8 KiB a block no more than 300,000 rows, which are 4 MB.
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
    each: &mut (dyn FnMut(Key<'_>, u64) + Send),
) -> Result<Option<Read>, sqlx::Error> {
    let (table, column) = (quoted(table), quoted(column));
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
    let mut last: Option<PgRow> = None;
    for from in (0..blocks).step_by(BLOCKS as usize) {
        let to = from + BLOCKS;
        let text = format!(
            "SELECT array_agg({column}::int8) FROM {table} WHERE ctid >= '({from},0)'::tid AND ctid < '({to},0)'::tid"
        );
        let ask = sqlx::query(AssertSqlSafe(text)).persistent(false).fetch_one(&mut *tx);
        // Asked first: PostgreSQL collects the next keys while these are taken.
        let (next, taken) =
            tokio::join!(ask, async { last.as_ref().map_or(Ok(Some(0)), |row| take(row, each)) });
        let Some(found) = taken? else { return Ok(Some(Read::NullKey)) };
        rows += found;
        if rows > ROWS_MAX {
            return Ok(Some(Read::Rows(rows)));
        }
        last = Some(next?);
    }
    match last.map_or(Ok(Some(0)), |row| take(&row, each))? {
        Some(found) => Ok(Some(Read::Rows(rows + found))),
        None => Ok(Some(Read::NullKey)),
    }
}

/// How many keys an array has; `None` when one of them is null. An array is sent as: dimensions, whether there are nulls, the
/// elements' type, their number, the first index, each a 32-bit number, and then each element behind its length (`array_send`).
fn take(
    row: &PgRow,
    each: &mut (dyn FnMut(Key<'_>, u64) + Send),
) -> Result<Option<u64>, sqlx::Error> {
    let value = row.try_get_raw(0)?;
    if value.is_null() {
        return Ok(Some(0)); // no row in these blocks
    }
    let bytes = value.as_bytes().map_err(sqlx::Error::Decode)?;
    let garbled = || sqlx::Error::Decode("the array of keys cannot be read".into());
    let (_, elements) = bytes.split_at_checked(20).ok_or_else(garbled)?;
    let (elements, rest) = elements.as_chunks::<12>();
    for [_, _, _, length, key @ ..] in elements {
        if *length != 8 {
            return Ok(None);
        }
        each(Key::Int(i64::from_be_bytes(*key)), 0);
    }
    Ok(rest.is_empty().then_some(elements.len() as u64))
}
