//! Before and after images of the rows that a script changes, kept in the data source itself, and putting either back.
//!
//! Both images are tables beside the ledger, written in the script's own transaction: `…_b` holds changed and deleted rows
//! as they were, `…_a` changed and inserted rows as the script left them. Whichever way they are put back, a row that
//! somebody else has changed since is a conflict and stays as it is, unless a person says otherwise.

use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use crate::connect::{Dialect, Source};
use crate::error::SourceError;
use crate::exec::{Executed, Tx, on};
use crate::keys::hash_of;
use crate::survey::quoted;

/// Rows of a table that an image may begin with.
pub const SNAPSHOT_ROWS_MAX: u64 = 1_000_000;
/// Keys that a conflict names, at most.
const NAMED_MAX: usize = 5;
/// How long images are kept.
const KEEP_DAYS: u32 = 30;

/// A table whose rows are kept as they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The table, with its schema where it has one. Tables that others refer to come first.
    pub table: String,
    /// The columns by which its rows are known; together unique.
    pub key: Vec<String>,
    /// Only these rows: an SQL condition. Rows that the script inserts are then not taken out again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Which image is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The rows as they were before the script.
    Before,
    /// The rows as the script left them.
    After,
}

/// What the registry holds of a script's images: their tables and columns, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    table: String,
    key: Vec<String>,
    /// The columns that can be written.
    columns: Vec<String>,
    /// Those of them that can be changed in a row that is there.
    changeable: Vec<String>,
    /// The image's name without `_b` and `_a`, in quotes where needed.
    image: String,
}

/// A column as the database describes it.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    is_generated: bool,
    is_identity: bool,
}

impl Kept {
    /// `t.key = i.key AND …`.
    fn same_key(&self, left: &str, right: &str) -> String {
        let pairs = self.key.iter().map(|name| {
            let name = quoted(name);
            format!("{left}.{name} = {right}.{name}")
        });
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// Every column alike; a text stands for values of types that have no equality, such as `json`.
    fn same_row(&self, dialect: Dialect, left: &str, right: &str) -> String {
        let pairs = self.columns.iter().map(|name| {
            let name = quoted(name);
            match dialect {
                Dialect::Postgres => {
                    format!("{left}.{name}::text IS NOT DISTINCT FROM {right}.{name}::text")
                }
                Dialect::Sqlite => format!("{left}.{name} IS {right}.{name}"),
            }
        });
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    fn image(&self, side: Side) -> String {
        format!("{}{}", self.image, if side == Side::Before { "_b" } else { "_a" })
    }
}

impl Source {
    /// Keeps every table's rows as they are, before the script. Returns what [`end`](Self::end_snapshots) needs.
    pub(crate) async fn begin_snapshots(
        &self,
        tx: &mut Tx,
        key: &str,
        wanted: &[Snapshot],
    ) -> Result<Images, SourceError> {
        let dialect = tx.dialect();
        if !wanted.is_empty() {
            self.sweep_images(tx).await?;
        }
        let mut images = Vec::new();
        for (number, one) in wanted.iter().enumerate() {
            let columns = self.describe(tx, &one.table).await?;
            for name in &one.key {
                if columns.iter().all(|column| column.name != *name) {
                    let message = format!("table {} has no column `{name}`", one.table);
                    return Err(SourceError::Refused(message));
                }
            }
            let names = |keep: &dyn Fn(&Column) -> bool| {
                columns
                    .iter()
                    .filter(|column| keep(column))
                    .map(|column| column.name.clone())
                    .collect()
            };
            let id = format!("snap_{:016x}_{number}", hash_of(key.as_bytes()));
            let kept = Kept {
                table: one.table.clone(),
                key: one.key.clone(),
                columns: names(&|column| !column.is_generated),
                changeable: names(&|column| {
                    !column.is_generated && !column.is_identity && !one.key.contains(&column.name)
                }),
                image: match dialect {
                    Dialect::Postgres => format!("switchback.{id}"),
                    Dialect::Sqlite => format!("switchback_{id}"),
                },
            };
            let filter = one
                .filter
                .as_ref()
                .map(|filter| format!(" WHERE ({filter}\n)"))
                .unwrap_or_default();
            let (image, table) = (kept.image(Side::Before), quoted(&kept.table));
            self.run(
                tx,
                &format!(
                    "CREATE TABLE {image} AS SELECT * FROM {table}{filter} LIMIT {}",
                    SNAPSHOT_ROWS_MAX + 1
                ),
            )
            .await?;
            let rows = self.number(tx, &format!("SELECT COUNT(*) FROM {image}")).await?;
            if rows > SNAPSHOT_ROWS_MAX {
                return Err(SourceError::Refused(format!(
                    "table {} has over {SNAPSHOT_ROWS_MAX} rows to keep: narrow the snapshot with `where`, or take a backup",
                    kept.table
                )));
            }
            images.push((kept, one.filter.is_none()));
        }
        Ok(Images(images))
    }

    /// Keeps what the script left, and of what was there before only what it changed.
    pub(crate) async fn end_snapshots(
        &self,
        tx: &mut Tx,
        key: &str,
        images: Images,
    ) -> Result<(), SourceError> {
        if images.0.is_empty() {
            return Ok(());
        }
        let dialect = tx.dialect();
        for (kept, is_whole) in &images.0 {
            let (before, after) = (kept.image(Side::Before), kept.image(Side::After));
            let (table, same_key) = (quoted(&kept.table), kept.same_key("b", "t"));
            let same_row = kept.same_row(dialect, "b", "t");
            // Of a part of a table nobody knows which rows are new.
            let (join, new) = if *is_whole {
                (
                    "LEFT JOIN",
                    format!(
                        "b.{} IS NULL OR ",
                        kept.key.first().map(|name| quoted(name)).unwrap_or_default()
                    ),
                )
            } else {
                ("JOIN", String::new())
            };
            self.run(tx, &format!(
                "CREATE TABLE {after} AS SELECT t.* FROM {table} AS t {join} {before} AS b ON {same_key} WHERE {new}NOT ({same_row})"
            ))
            .await?;
            self.run(tx, &format!(
                "DELETE FROM {before} AS b WHERE EXISTS (SELECT 1 FROM {table} AS t WHERE {same_key} AND {same_row})"
            ))
            .await?;
        }
        let kept: Vec<&Kept> = images.0.iter().map(|(kept, _)| kept).collect();
        let detail = serde_json::to_string(&kept).unwrap_or_default();
        let insert = format!("INSERT INTO {} (key, detail) VALUES ($1, $2)", registry(dialect));
        on!(tx, tx => sqlx::query(AssertSqlSafe(insert)).bind(key).bind(detail).execute(&mut **tx).await.map(drop))
            .map_err(|error| self.error(error))
    }

    /// Puts the images of the script `of` back, in one transaction, once per `key`.
    ///
    /// # Errors
    /// There are no images; [`SourceError::Conflict`] when somebody else has changed such rows since and `is_forced` is not
    /// set; else as [`exec`](Self::exec).
    pub async fn put_back(
        &self,
        key: &str,
        of: &str,
        side: Side,
        is_forced: bool,
    ) -> Result<Executed, SourceError> {
        let mut tx = match self.begin_once_for(key).await? {
            Ok(tx) => tx,
            Err(earlier) => return Ok(earlier),
        };
        let executed = self.put_back_in(&mut tx, of, side, is_forced).await?;
        self.note_and_commit(tx, key, executed).await
    }

    /// What putting back would change; nothing is changed.
    ///
    /// # Errors
    /// As [`put_back`](Self::put_back).
    pub async fn rehearse_put_back(
        &self,
        of: &str,
        side: Side,
        is_forced: bool,
    ) -> Result<Executed, SourceError> {
        let mut tx = self.begin().await?;
        self.put_back_in(&mut tx, of, side, is_forced).await
    }

    async fn put_back_in(
        &self,
        tx: &mut Tx,
        of: &str,
        side: Side,
        is_forced: bool,
    ) -> Result<Executed, SourceError> {
        let dialect = tx.dialect();
        self.make_ledger(tx).await?;
        let select = format!("SELECT detail FROM {} WHERE key = $1", registry(dialect));
        let found = on!(tx, tx => {
            sqlx::query_scalar::<_, String>(AssertSqlSafe(select)).bind(of).fetch_optional(&mut **tx).await
        });
        let Some(detail) = found.map_err(|error| self.error(error))? else {
            let message = format!("no rows are kept for {of}; they are kept for {KEEP_DAYS} days");
            return Err(SourceError::Refused(message));
        };
        let all: Vec<Kept> = serde_json::from_str(&detail)
            .map_err(|_| SourceError::Refused(format!("what is kept for {of} cannot be read")))?;
        if !is_forced {
            self.refuse_conflicts(tx, &all, side).await?;
        }
        let other = if side == Side::Before { Side::After } else { Side::Before };
        let mut executed = Executed::default();
        let mut note = |rows: u64| {
            executed.rows += rows;
            executed.statements.push(rows);
        };
        // What refers to others goes first when it goes, and comes last when it comes.
        for kept in all.iter().rev() {
            let (wanted, left) = (kept.image(side), kept.image(other));
            let (by_left, by_wanted) = (kept.same_key("i", "t"), kept.same_key("w", "t"));
            note(self.run(tx, &format!(
                "DELETE FROM {} AS t WHERE EXISTS (SELECT 1 FROM {left} AS i WHERE {by_left}) \
                 AND NOT EXISTS (SELECT 1 FROM {wanted} AS w WHERE {by_wanted})",
                quoted(&kept.table)
            ))
            .await?);
        }
        for kept in &all {
            let wanted = kept.image(side);
            let by_wanted = kept.same_key("w", "t");
            if !kept.changeable.is_empty() {
                let set: Vec<String> = kept
                    .changeable
                    .iter()
                    .map(|name| format!("{} = w.{}", quoted(name), quoted(name)))
                    .collect();
                note(
                    self.run(
                        tx,
                        &format!(
                            "UPDATE {} AS t SET {} FROM {wanted} AS w WHERE {by_wanted}",
                            quoted(&kept.table),
                            set.join(", ")
                        ),
                    )
                    .await?,
                );
            }
            let columns: Vec<String> = kept.columns.iter().map(|name| quoted(name)).collect();
            let columns = columns.join(", ");
            let overriding =
                if dialect == Dialect::Postgres { " OVERRIDING SYSTEM VALUE" } else { "" };
            note(self.run(tx, &format!(
                "INSERT INTO {table} ({columns}){overriding} SELECT {columns} FROM {wanted} AS w \
                 WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {by_wanted})",
                table = quoted(&kept.table)
            ))
            .await?);
        }
        Ok(executed)
    }

    /// Rows that are no longer as the script (or its undo) left them belong to somebody else.
    async fn refuse_conflicts(
        &self,
        tx: &mut Tx,
        all: &[Kept],
        side: Side,
    ) -> Result<(), SourceError> {
        let dialect = tx.dialect();
        let mut named: Vec<String> = Vec::new();
        let mut count = 0;
        for kept in all {
            let other = if side == Side::Before { Side::After } else { Side::Before };
            let (wanted, left, table) = (kept.image(side), kept.image(other), quoted(&kept.table));
            let key: Vec<String> =
                kept.key.iter().map(|name| format!("CAST(i.{} AS TEXT)", quoted(name))).collect();
            let key = key.join(" || ', ' || ");
            let by_key = kept.same_key("i", "t");
            let same_row = kept.same_row(dialect, "i", "t");
            let in_left = kept.same_key("i", "l");
            // A row that the script left and that is different now; a row that it took away and that is there again.
            let conflicts = format!(
                "SELECT {key} FROM {left} AS i WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {by_key} AND {same_row}) \
                 UNION ALL SELECT {key} FROM {wanted} AS i WHERE NOT EXISTS (SELECT 1 FROM {left} AS l WHERE {in_left}) \
                 AND EXISTS (SELECT 1 FROM {table} AS t WHERE {by_key})"
            );
            count += self.number(tx, &format!("SELECT COUNT(*) FROM ({conflicts}) AS c")).await?;
            let room = NAMED_MAX - named.len().min(NAMED_MAX);
            let text = AssertSqlSafe(format!("{conflicts} LIMIT {room}"));
            let keys =
                on!(tx, tx => sqlx::query_scalar::<_, String>(text).fetch_all(&mut **tx).await);
            let keys = keys.map_err(|error| self.error(error))?;
            named.extend(keys.into_iter().map(|key| format!("{} {key}", kept.table)));
        }
        if count == 0 {
            return Ok(());
        }
        let (noun, more) = (
            if count == 1 { "row was" } else { "rows were" },
            if count > named.len() as u64 { ", …" } else { "" },
        );
        Err(SourceError::Conflict(format!(
            "{count} {noun} changed by somebody else since, and left alone: {}{more}",
            named.join("; ")
        )))
    }

    async fn describe(&self, tx: &mut Tx, table: &str) -> Result<Vec<Column>, SourceError> {
        let found = match tx {
            Tx::Postgres(tx) => {
                const ASK: &str = "SELECT attname::text AS name, attgenerated <> '' AS is_generated, \
                                   attidentity = 'a' AS is_identity FROM pg_attribute \
                                   WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
                sqlx::query_as(ASK).bind(quoted(table)).fetch_all(&mut **tx).await
            }
            Tx::Sqlite(tx) => {
                const ASK: &str = "SELECT name, hidden IN (2, 3) AS is_generated, 0 AS is_identity \
                                   FROM pragma_table_xinfo($1) WHERE hidden <> 1 ORDER BY cid";
                let name = table.rsplit('.').next().unwrap_or(table);
                sqlx::query_as(ASK).bind(name).fetch_all(&mut **tx).await
            }
        };
        let found: Vec<(String, bool, bool)> = found.map_err(|error| self.error(error))?;
        if found.is_empty() {
            return Err(SourceError::Refused(format!(
                "there is no table {table}, or it may not be read"
            )));
        }
        let column = |(name, is_generated, is_identity)| Column { name, is_generated, is_identity };
        Ok(found.into_iter().map(column).collect())
    }

    /// Forgets images that are past their time.
    async fn sweep_images(&self, tx: &mut Tx) -> Result<(), SourceError> {
        let dialect = tx.dialect();
        let old = match dialect {
            Dialect::Postgres => format!("at < now() - interval '{KEEP_DAYS} days'"),
            Dialect::Sqlite => format!("at < datetime('now', '-{KEEP_DAYS} days')"),
        };
        let registry = registry(dialect);
        let text = AssertSqlSafe(format!("SELECT detail FROM {registry} WHERE {old}"));
        let details =
            on!(tx, tx => sqlx::query_scalar::<_, String>(text).fetch_all(&mut **tx).await);
        let details = details.map_err(|error| self.error(error))?;
        for detail in &details {
            for kept in serde_json::from_str::<Vec<Kept>>(detail).unwrap_or_default() {
                for side in [Side::Before, Side::After] {
                    self.run(tx, &format!("DROP TABLE IF EXISTS {}", kept.image(side))).await?;
                }
            }
        }
        if !details.is_empty() {
            self.run(tx, &format!("DELETE FROM {registry} WHERE {old}")).await?;
        }
        Ok(())
    }

    /// Runs one statement of ours; how many rows it changed.
    async fn run(&self, tx: &mut Tx, sql: &str) -> Result<u64, SourceError> {
        self.limit(tx).await?;
        let text = AssertSqlSafe(sql.to_owned());
        on!(tx, tx => sqlx::query(text).execute(&mut **tx).await.map(|done| done.rows_affected()))
            .map_err(|error| self.error(error))
    }

    async fn number(&self, tx: &mut Tx, sql: &str) -> Result<u64, SourceError> {
        let text = AssertSqlSafe(sql.to_owned());
        let found = on!(tx, tx => sqlx::query_scalar::<_, i64>(text).fetch_one(&mut **tx).await);
        found.map(i64::cast_unsigned).map_err(|error| self.error(error))
    }
}

/// Images on their way, each with whether it holds a whole table.
pub(crate) struct Images(Vec<(Kept, bool)>);

fn registry(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "switchback.snapshots",
        Dialect::Sqlite => "switchback_snapshots",
    }
}
