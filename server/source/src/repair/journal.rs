//! The journal of repairs in the data source: written in the fix's own transaction, read after a crash, by people, and to undo.

use serde::Serialize;
use sqlx::AssertSqlSafe;

use super::{KeyDone, Work, name_in};
use crate::connect::{Dialect, Pool, Source};
use crate::error::SourceError;
use crate::exec::{Tx, on};

/// How long a journal is kept, in days.
pub(super) const KEEP_DAYS: u32 = 30;

/// How far a run is, as its data source knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunMark {
    /// The check that it was at.
    pub check: String,
    /// The last key of the last batch.
    pub key: String,
    /// The journal's last row.
    pub seq: i64,
}

/// A row of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct JournalRow {
    /// Its place in the run, from 1.
    pub seq: i64,
    /// The check.
    pub check: String,
    /// The finding's key.
    pub key: String,
    /// The table that was changed; empty when the fix changed nothing for the key.
    pub table: String,
    /// The row's own primary key.
    pub row: String,
    /// Whether the key was healed.
    pub is_healed: bool,
    /// `undone`, or `conflict` when somebody else had changed the row since.
    pub undone: Option<String>,
    /// The row as it was, as the database writes it.
    pub before: Option<String>,
    /// The row as the fix left it.
    pub after: Option<String>,
}

type Tuple =
    (i64, String, String, String, String, bool, Option<String>, Option<String>, Option<String>);

fn row_of((seq, check, key, table, row, is_healed, undone, before, after): Tuple) -> JournalRow {
    JournalRow { seq, check, key, table, row, is_healed, undone, before, after }
}

impl Source {
    /// Notes what a batch did, and moves the run's place. Gives the journal's last row, and how many were written.
    pub(super) async fn note_repairs(
        &self,
        tx: &mut Tx,
        work: Work<'_>,
        done: &[KeyDone],
    ) -> Result<(i64, i64), SourceError> {
        let dialect = tx.dialect();
        let healed = done.iter().filter(|one| one.is_healed).count() as i64;
        let unhealed = done.len() as i64 - healed;
        let lines: Vec<Line<'_>> = done.iter().flat_map(lines_of).collect();
        let last = done.last().map(|one| one.key.as_str()).unwrap_or_default();
        let mark = name_in(
            "INSERT INTO {runs} (run, last_key, last_check, seq, healed, unhealed) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (run) DO UPDATE SET last_key = excluded.last_key, last_check = excluded.last_check, \
             seq = {runs}.seq + excluded.seq, healed = {runs}.healed + excluded.healed, \
             unhealed = {runs}.unhealed + excluded.unhealed RETURNING seq",
            dialect,
        )
        // The columns of the row that is there are named by the bare table.
        .replace("= switchback.repair_runs.", "= repair_runs.");
        let count = lines.len() as i64;
        let end = on!(tx, tx => {
            let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(mark));
            let query = query.bind(work.run).bind(last).bind(work.check).bind(count).bind(healed).bind(unhealed);
            query.fetch_one(&mut **tx).await
        });
        let end = end.map_err(|error| self.error(error))?;
        let first = end - count + 1;
        match tx {
            Tx::Postgres(tx) => {
                let text =
                    |pick: fn(&Line<'_>) -> String| lines.iter().map(pick).collect::<Vec<_>>();
                let image = |pick: fn(&Line<'_>) -> Option<String>| {
                    lines.iter().map(pick).collect::<Vec<Option<String>>>()
                };
                let insert = "INSERT INTO switchback.repairs (run, seq, check_name, key, table_name, row_id, before, after, is_healed) \
                     SELECT $1, $2 + l.place - 1, $3, l.key, l.tab, l.row_id, l.before, l.after, l.healed FROM \
                     unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::boolean[]) \
                     WITH ORDINALITY AS l (key, tab, row_id, before, after, healed, place)";
                sqlx::query(insert)
                    .bind(work.run)
                    .bind(first)
                    .bind(work.check)
                    .bind(text(|line| line.key.to_owned()))
                    .bind(text(|line| line.table.to_owned()))
                    .bind(text(|line| line.row.to_owned()))
                    .bind(image(|line| line.before.map(str::to_owned)))
                    .bind(image(|line| line.after.map(str::to_owned)))
                    .bind(lines.iter().map(|line| line.is_healed).collect::<Vec<bool>>())
                    .execute(&mut **tx)
                    .await
                    .map_err(|error| self.error(error))?;
            }
            Tx::Sqlite(tx) => {
                const INSERT: &str = "INSERT INTO switchback_repairs (run, seq, check_name, key, table_name, row_id, before, \
                                      after, is_healed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
                for (seq, line) in (first..).zip(&lines) {
                    sqlx::query(INSERT)
                        .bind(work.run)
                        .bind(seq)
                        .bind(work.check)
                        .bind(line.key)
                        .bind(line.table)
                        .bind(line.row)
                        .bind(line.before)
                        .bind(line.after)
                        .bind(line.is_healed)
                        .execute(&mut **tx)
                        .await
                        .map_err(|error| self.error(error))?;
                }
            }
        }
        Ok((end, count))
    }

    /// Rows of a run's check that were taken back, and rows that were left for somebody else had changed them.
    ///
    /// # Errors
    /// The source cannot be reached.
    pub async fn undo_counts(&self, run: &str, check: &str) -> Result<(u64, u64), SourceError> {
        let mut tx = self.begin().await?;
        let text = name_in(
            "SELECT undone, COUNT(*) FROM {repairs} WHERE run = $1 AND check_name = $2 AND table_name <> '' \
             AND undone IS NOT NULL GROUP BY undone",
            tx.dialect(),
        );
        let found = on!(&mut tx, tx => {
            let query = sqlx::query_as::<_, (String, i64)>(AssertSqlSafe(text));
            query.bind(run).bind(check).fetch_all(&mut **tx).await
        });
        let found = found.map_err(|error| self.error(error))?;
        let of = |word: &str| {
            let count = found.iter().find(|(is, _)| is == word).map_or(0, |(_, count)| *count);
            count.max(0).cast_unsigned()
        };
        Ok((of("undone"), of("conflict")))
    }

    /// How far a run is; `None` when it has changed nothing.
    ///
    /// # Errors
    /// The source cannot be reached.
    pub async fn run_mark(&self, run: &str) -> Result<Option<RunMark>, SourceError> {
        const MARK: &str = "SELECT last_check, last_key, seq FROM {runs} WHERE run = $1";
        macro_rules! read {
            ($pool:expr, $dialect:expr, $there:expr) => {{
                let asked = async {
                    if !sqlx::query_scalar::<_, bool>($there).fetch_one($pool).await? {
                        return Ok(None); // nothing was ever repaired here
                    }
                    let text = AssertSqlSafe(name_in(MARK, $dialect));
                    let query = sqlx::query_as::<_, (String, String, i64)>(text).bind(run);
                    query.fetch_optional($pool).await
                };
                asked.await
            }};
        }
        let found: Result<_, sqlx::Error> = match self.pool().await? {
            Pool::Postgres(pool) => {
                let there = "SELECT to_regclass('switchback.repair_runs') IS NOT NULL";
                read!(&pool, Dialect::Postgres, there)
            }
            Pool::Sqlite { read: pool, .. } => {
                let there =
                    "SELECT COUNT(*) > 0 FROM sqlite_master WHERE name = 'switchback_repair_runs'";
                read!(&pool, Dialect::Sqlite, there)
            }
        };
        let found = found.map_err(|error| self.error(error))?;
        Ok(found.map(|(check, key, seq)| RunMark { check, key, seq }))
    }

    /// Rows of a run's journal after a place, in order.
    ///
    /// # Errors
    /// There is no journal, or the source cannot be reached.
    pub async fn journal(
        &self,
        run: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<JournalRow>, SourceError> {
        self.read_journal("run = $1 AND seq > $2", (run, after), None, limit).await
    }

    /// What a run changed for one key of a check.
    ///
    /// # Errors
    /// As [`journal`](Self::journal).
    pub async fn journal_of_key(
        &self,
        run: &str,
        check: &str,
        key: &str,
    ) -> Result<Vec<JournalRow>, SourceError> {
        let which = "run = $1 AND seq > $2 AND check_name = $4 AND key = $5";
        self.read_journal(which, (run, 0), Some((check, key)), 100).await
    }

    async fn read_journal(
        &self,
        which: &str,
        (run, after): (&str, i64),
        key: Option<(&str, &str)>,
        limit: i64,
    ) -> Result<Vec<JournalRow>, SourceError> {
        let text = |dialect| {
            name_in(
                &format!(
                    "SELECT seq, check_name, key, table_name, row_id, is_healed, undone, before, after FROM {{repairs}} \
                     WHERE {which} ORDER BY seq LIMIT $3"
                ),
                dialect,
            )
        };
        macro_rules! read {
            ($pool:expr, $dialect:expr) => {{
                let text = AssertSqlSafe(text($dialect));
                let query = sqlx::query_as::<_, Tuple>(text).bind(run).bind(after).bind(limit);
                match key {
                    Some((check, key)) => query.bind(check).bind(key).fetch_all($pool).await,
                    None => query.fetch_all($pool).await,
                }
            }};
        }
        let found = match self.pool().await? {
            Pool::Postgres(pool) => read!(&pool, Dialect::Postgres),
            Pool::Sqlite { read: pool, .. } => read!(&pool, Dialect::Sqlite),
        };
        let found = found.map_err(|error| self.error(error))?;
        Ok(found.into_iter().map(row_of).collect())
    }

    /// Forgets journals that are past their time.
    ///
    /// # Errors
    /// The source cannot be written to or reached.
    pub async fn sweep_journal(&self) -> Result<(), SourceError> {
        let mut tx = self.begin().await?;
        self.make_journal(&mut tx).await?;
        let old = match tx.dialect() {
            Dialect::Postgres => format!("at < now() - interval '{KEEP_DAYS} days'"),
            Dialect::Sqlite => format!("at < datetime('now', '-{KEEP_DAYS} days')"),
        };
        for text in [
            format!("DELETE FROM {{repairs}} WHERE run IN (SELECT run FROM {{runs}} WHERE {old})"),
            format!("DELETE FROM {{runs}} WHERE {old}"),
        ] {
            let text = AssertSqlSafe(name_in(&text, tx.dialect()));
            let done = on!(&mut tx, tx => sqlx::query(text).execute(&mut **tx).await.map(drop));
            done.map_err(|error| self.error(error))?;
        }
        on!(tx, tx => tx.commit().await).map_err(|error| self.error(error))
    }
}

struct Line<'l> {
    key: &'l str,
    table: &'l str,
    row: &'l str,
    before: Option<&'l str>,
    after: Option<&'l str>,
    is_healed: bool,
}

/// A key whose fix changed nothing has a line as well: it was touched.
fn lines_of(one: &KeyDone) -> Vec<Line<'_>> {
    let line = |table, row, before, after| Line {
        key: &one.key,
        table,
        row,
        before,
        after,
        is_healed: one.is_healed,
    };
    if one.changes.is_empty() {
        return vec![line("", "", None, None)];
    }
    one.changes
        .iter()
        .map(|change| {
            line(&change.table, &change.row, change.before.as_deref(), change.after.as_deref())
        })
        .collect()
}
