//! Finding broken rows and healing them: detect, before-images, fix, after-images and the check that it worked, in one
//! transaction with a journal in the data source itself, so that each key is touched once whatever crashes, and a run can be
//! undone exactly.

mod detect;
mod images;
mod journal;
mod undo;

use serde::Serialize;
use sqlx::AssertSqlSafe;

use crate::connect::{Dialect, Source};
use crate::error::SourceError;
use crate::exec::{Tx, on};
use crate::query::Row;
use crate::script::split;

pub use detect::{Detector, Pick};
pub use journal::{JournalRow, RunMark};
pub use undo::Undone;

use images::{Table, differences};

/// How rows are healed.
#[derive(Clone, Copy, Debug)]
pub struct Remedy<'r> {
    /// One statement; `$1` is the key as text, or all keys (`text[]`; on SQLite a JSON array).
    pub sql: &'r str,
    /// Whether it takes all keys at once.
    pub is_batch: bool,
    /// The tables that it changes, each with the column that holds the key.
    pub tables: &'r [(String, String)],
    /// More changed rows than this for each key roll the batch back.
    pub rows_per_key: u64,
}

/// A remedy that was looked over: what it changes is known, and the journal is there.
#[derive(Clone, Debug)]
pub struct Repairer {
    detector: Detector,
    sql: String,
    is_batch: bool,
    tables: Vec<Table>,
    rows_per_key: u64,
}

/// Whose work it is.
#[derive(Clone, Copy, Debug)]
pub struct Work<'w> {
    /// The run, by which the journal keeps it.
    pub run: &'w str,
    /// The check, for the journal.
    pub check: &'w str,
}

/// A row that a fix changed. Images are JSON in a rehearsal, and otherwise as the journal keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Change {
    /// The table.
    pub table: String,
    /// The row's own primary key, as text.
    pub row: String,
    /// The row as it was; `None`: the fix made it.
    pub before: Option<String>,
    /// The row as it is; `None`: the fix removed it.
    pub after: Option<String>,
}

/// What became of one key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyDone {
    /// The key.
    pub key: String,
    /// What detect gave for it.
    pub row: Row,
    /// Whether it is no longer detected.
    pub is_healed: bool,
    /// What was changed for it.
    pub changes: Vec<Change>,
}

/// What a batch did.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// Key by key, in the order of the keys.
    pub done: Vec<KeyDone>,
    /// Rows that were changed, by the database's count.
    pub rows: u64,
    /// The last row of the run's journal; 0 when nothing was done.
    pub seq: i64,
    /// Rows of the journal that this batch wrote.
    pub lines: i64,
    /// Tables that the fix wrote to and does not name; looked at in rehearsals on PostgreSQL only.
    pub unnamed: Vec<String>,
}

impl Source {
    /// Looks a remedy over: one statement, tables with primary keys that have the key's column; makes the journal.
    ///
    /// # Errors
    /// What is wrong with it, or the source cannot be written to or reached.
    pub async fn repairer(
        &self,
        detector: Detector,
        remedy: &Remedy<'_>,
    ) -> Result<Repairer, SourceError> {
        let statements = split(remedy.sql)?;
        let [statement] = statements.as_slice() else {
            let message = format!("a fix is one statement, and these are {}", statements.len());
            return Err(SourceError::Refused(message));
        };
        let mut tx = self.begin().await?;
        self.make_journal(&mut tx).await?;
        let mut tables = Vec::new();
        for (table, key) in remedy.tables {
            tables.push(self.look_at_table(&mut tx, table, key).await?);
        }
        on!(tx, tx => tx.commit().await).map_err(|error| self.error(error))?;
        Ok(Repairer {
            detector,
            sql: statement.text.clone(),
            is_batch: remedy.is_batch,
            tables,
            rows_per_key: remedy.rows_per_key,
        })
    }

    /// Heals what `pick` names and detect still finds, in one transaction with its journal and the run's place.
    ///
    /// # Errors
    /// Nothing was changed then, except that the commit of an unreachable source may have happened:
    /// [`run_mark`](Self::run_mark) tells.
    pub async fn repair(
        &self,
        repairer: &Repairer,
        work: Work<'_>,
        pick: Pick<'_>,
    ) -> Result<Repaired, SourceError> {
        let mut tx = self.begin().await?;
        self.take_turn(&mut tx).await?;
        let mut repaired = self.heal(&mut tx, repairer, pick, false).await?;
        if repaired.done.is_empty() {
            return Ok(repaired);
        }
        (repaired.seq, repaired.lines) = self.note_repairs(&mut tx, work, &repaired.done).await?;
        match on!(tx, tx => tx.commit().await) {
            Ok(()) => Ok(repaired),
            Err(error) => {
                self.forget().await;
                let why = self.error(error);
                Err(SourceError::Unreachable(format!("the commit was not answered: {why}")))
            }
        }
    }

    /// What [`repair`](Self::repair) would do; it is done and rolled back.
    ///
    /// # Errors
    /// As [`repair`](Self::repair).
    pub async fn rehearse_repair(
        &self,
        repairer: &Repairer,
        pick: Pick<'_>,
    ) -> Result<Repaired, SourceError> {
        let mut tx = self.begin().await?;
        let mut repaired = self.heal(&mut tx, repairer, pick, true).await?;
        repaired.unnamed = self.unnamed_tables(&mut tx, &repairer.tables).await?;
        Ok(repaired)
    }

    /// Repairs of one database come one after the other, also those of a node that does not know yet that another took over: what
    /// the one before healed is not picked again. Taken before the transaction's first look, which sees what was committed by then.
    async fn take_turn(&self, tx: &mut Tx) -> Result<(), SourceError> {
        const TURN: &str = "LOCK TABLE switchback.repair_runs IN SHARE ROW EXCLUSIVE MODE";
        let Tx::Postgres(tx) = tx else { return Ok(()) }; // SQLite has one writer anyway
        let taken = sqlx::query(TURN).execute(&mut **tx).await;
        taken.map(drop).map_err(|error| self.error(error))
    }

    async fn heal(
        &self,
        tx: &mut Tx,
        repairer: &Repairer,
        pick: Pick<'_>,
        is_rehearsal: bool,
    ) -> Result<Repaired, SourceError> {
        let Repairer { detector, tables, .. } = repairer;
        let found = self.pick_in(tx, detector, pick).await?;
        let mut rows: Vec<(String, Row)> = Vec::with_capacity(found.len());
        for row in found {
            let key = Detector::key_of(&row)?;
            // A query that gives a key twice is one finding.
            if rows.last().is_none_or(|(last, _)| *last != key) {
                rows.push((key, row));
            }
        }
        if rows.is_empty() {
            return Ok(Repaired::default());
        }
        let keys: Vec<String> = rows.iter().map(|(key, _)| key.clone()).collect();
        let list = detector.key_list(&keys);
        let named = (keys.as_slice(), list.as_str());
        let mut before = Vec::with_capacity(tables.len());
        for table in tables {
            before.push(self.image(tx, table, named, is_rehearsal).await?);
        }
        let changed = self.apply(tx, repairer, &keys).await?;
        let allowed = repairer.rows_per_key.saturating_mul(keys.len() as u64);
        if changed > allowed {
            return Err(SourceError::Overreach { changed, keys: keys.len() as u64, allowed });
        }
        let mut changes: Vec<(String, Change)> = Vec::new();
        for (table, before) in tables.iter().zip(before) {
            let after = self.image(tx, table, named, is_rehearsal).await?;
            changes.extend(differences(table, before, after));
        }
        let still = self.pick_in(tx, detector, Pick::Keys(&keys)).await?;
        let still: std::collections::BTreeSet<String> =
            still.iter().map(Detector::key_of).collect::<Result<_, _>>()?;
        let mut by_key: std::collections::BTreeMap<String, Vec<Change>> =
            std::collections::BTreeMap::new();
        for (key, change) in changes {
            by_key.entry(key).or_default().push(change);
        }
        // What a first statement of a WITH changes is not in the database's count.
        let seen = by_key.values().map(Vec::len).sum::<usize>() as u64;
        if seen > allowed {
            return Err(SourceError::Overreach { changed: seen, keys: keys.len() as u64, allowed });
        }
        if let Some(other) = by_key.keys().find(|key| !keys.contains(key)) {
            let message = format!("a row changed whose key is written otherwise: `{other}`");
            return Err(SourceError::Refused(message));
        }
        let done = rows.into_iter().map(|(key, row)| KeyDone {
            is_healed: !still.contains(&key),
            changes: by_key.remove(&key).unwrap_or_default(),
            key,
            row,
        });
        Ok(Repaired { done: done.collect(), rows: changed, ..Repaired::default() })
    }

    /// Runs the fix; how many rows it changed.
    async fn apply(
        &self,
        tx: &mut Tx,
        repairer: &Repairer,
        keys: &[String],
    ) -> Result<u64, SourceError> {
        let mut changed = 0;
        if repairer.is_batch {
            self.limit(tx).await?;
            let text = AssertSqlSafe(repairer.sql.clone());
            changed = match tx {
                Tx::Postgres(tx) => sqlx::query(text)
                    .bind(keys)
                    .execute(&mut **tx)
                    .await
                    .map(|done| done.rows_affected()),
                Tx::Sqlite(tx) => sqlx::query(text)
                    .bind(repairer.detector.key_list(keys))
                    .execute(&mut **tx)
                    .await
                    .map(|done| done.rows_affected()),
            }
            .map_err(|error| self.error(error))?;
            return Ok(changed);
        }
        for key in keys {
            self.limit(tx).await?;
            let text = AssertSqlSafe(repairer.sql.clone());
            let done = on!(tx, tx => {
                sqlx::query(text).bind(key).execute(&mut **tx).await.map(|done| done.rows_affected())
            });
            changed += done.map_err(|error| self.error(error))?;
        }
        Ok(changed)
    }

    /// Tables that this transaction wrote to beside the named ones: what a fix or a trigger does there is not undone.
    async fn unnamed_tables(
        &self,
        tx: &mut Tx,
        tables: &[Table],
    ) -> Result<Vec<String>, SourceError> {
        const ASK: &str = "SELECT DISTINCT l.relation::regclass::text FROM pg_locks l \
                           JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
                           WHERE l.pid = pg_backend_pid() AND l.mode = 'RowExclusiveLock' AND c.relkind IN ('r', 'p') \
                           AND n.nspname NOT IN ('switchback', 'pg_catalog') AND NOT (c.oid = ANY($1::text[]::regclass[])) \
                           ORDER BY 1";
        let Tx::Postgres(tx) = tx else { return Ok(Vec::new()) };
        let named: Vec<String> = tables.iter().map(Table::quoted).collect();
        let found = sqlx::query_scalar::<_, String>(ASK).bind(named).fetch_all(&mut **tx).await;
        found.map_err(|error| self.error(error))
    }
}

impl Repairer {
    /// What it detects.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }
}

/// The journal's names.
pub(crate) fn name_in(text: &str, dialect: Dialect) -> String {
    let (repairs, runs) = match dialect {
        Dialect::Postgres => ("switchback.repairs", "switchback.repair_runs"),
        Dialect::Sqlite => ("switchback_repairs", "switchback_repair_runs"),
    };
    text.replace("{repairs}", repairs).replace("{runs}", runs)
}
