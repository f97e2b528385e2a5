//! Taking a run's repairs back, newest first: only rows that are still as the run left them; the others are named and left.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AssertSqlSafe;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use super::images::{Stored, Table, read_sqlite_image};
use super::{JournalRow, Repairer, name_in};
use crate::connect::{Dialect, Source};
use crate::error::SourceError;
use crate::exec::{Tx, on};
use crate::survey::quoted;

/// A row of the journal: place, check, key, table, row, before, after.
type Found = (i64, String, String, String, String, Option<String>, Option<String>);

/// Conflicts that are named, at most.
const NAMED_MAX: usize = 100;

/// What taking back some of a run's repairs did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Keys whose rows are as they were before.
    pub keys: BTreeSet<String>,
    /// The first of the rows that were left alone, as somebody else has changed them since or a trigger keeps them: table and row.
    pub named: Vec<String>,
}

impl Source {
    /// The check of a run's newest journal row that was not taken back yet; `None` when nothing is left.
    ///
    /// # Errors
    /// The source cannot be written to or reached.
    pub async fn newest_left(&self, run: &str) -> Result<Option<String>, SourceError> {
        let mut tx = self.begin().await?;
        self.make_journal(&mut tx).await?;
        let text = name_in(
            "SELECT check_name FROM {repairs} WHERE run = $1 AND undone IS NULL ORDER BY seq DESC LIMIT 1",
            tx.dialect(),
        );
        let found = on!(&mut tx, tx => {
            sqlx::query_scalar::<_, String>(AssertSqlSafe(text)).bind(run).fetch_optional(&mut **tx).await
        });
        found.map_err(|error| self.error(error))
    }

    /// Leaves a run's newest journal row that was not taken back yet as it is: putting it back breaks a rule of the database.
    ///
    /// # Errors
    /// The source cannot be written to or reached.
    pub async fn leave_newest(&self, run: &str) -> Result<Option<String>, SourceError> {
        let mut tx = self.begin().await?;
        let text = name_in(
            "UPDATE {repairs} SET undone = 'conflict' WHERE run = $1 AND seq = (SELECT MAX(seq) FROM {repairs} \
             WHERE run = $1 AND undone IS NULL) RETURNING table_name || ' ' || row_id",
            tx.dialect(),
        );
        let found = on!(&mut tx, tx => {
            sqlx::query_scalar::<_, String>(AssertSqlSafe(text)).bind(run).fetch_optional(&mut **tx).await
        });
        let found = found.map_err(|error| self.error(error))?;
        on!(tx, tx => tx.commit().await).map_err(|error| self.error(error))?;
        Ok(found)
    }

    /// Takes back the newest journal rows of a run that were not taken back yet and are of this check, `limit` at most, in one
    /// transaction. It ends before a row that another check changed, and before a second change of the same row.
    ///
    /// # Errors
    /// The source cannot be written to or reached, or refuses; then nothing was changed.
    pub async fn undo_repairs(
        &self,
        repairer: &Repairer,
        run: &str,
        check: &str,
        limit: i64,
    ) -> Result<Undone, SourceError> {
        let mut tx = self.begin().await?;
        let dialect = tx.dialect();
        let text = name_in(
            "SELECT seq, check_name, key, table_name, row_id, before, after FROM {repairs} \
             WHERE run = $1 AND undone IS NULL ORDER BY seq DESC LIMIT $2",
            dialect,
        );
        let found = on!(&mut tx, tx => {
            let query = sqlx::query_as::<_, Found>(AssertSqlSafe(text));
            query.bind(run).bind(limit).fetch_all(&mut **tx).await
        });
        let found = found.map_err(|error| self.error(error))?;
        let mut undone = Undone::default();
        let mut met: BTreeSet<(String, String)> = BTreeSet::new();
        let rows: Vec<JournalRow> = found
            .into_iter()
            .take_while(|(_, of, _, table, row, ..)| {
                of == check && (table.is_empty() || met.insert((table.clone(), row.clone())))
            })
            .map(|(seq, _, key, table, row, before, after)| JournalRow {
                seq,
                check: check.to_owned(),
                key,
                table,
                row,
                is_healed: true,
                undone: None,
                before,
                after,
            })
            .collect();
        if rows.is_empty() {
            return Ok(undone);
        }
        let mut by_table: BTreeMap<&str, Vec<&JournalRow>> = BTreeMap::new();
        for row in rows.iter().filter(|row| !row.table.is_empty()) {
            by_table.entry(&row.table).or_default().push(row);
        }
        let known: BTreeSet<&str> =
            repairer.tables.iter().map(|table| table.name.as_str()).collect();
        if let Some(unknown) = by_table.keys().find(|name| !known.contains(*name)) {
            return Err(SourceError::Refused(format!(
                "the check's fix names table {unknown} no more, so its rows cannot be put back"
            )));
        }
        let mut conflicts: BTreeSet<i64> = BTreeSet::new();
        for table in &repairer.tables {
            let of_table = by_table.get(table.name.as_str()).map(Vec::as_slice).unwrap_or_default();
            conflicts.extend(self.conflicts_of(&mut tx, run, table, of_table).await?);
            conflicts.extend(self.referred_to(&mut tx, run, (table, &known), of_table).await?);
        }
        let clear = |rows: &[&JournalRow], keep: &dyn Fn(&JournalRow) -> bool| -> Vec<JournalRow> {
            let kept = rows.iter().filter(|row| !conflicts.contains(&row.seq) && keep(row));
            kept.map(|row| (*row).clone()).collect()
        };
        // What refers to others goes first when it goes, and comes last when it comes.
        for table in repairer.tables.iter().rev() {
            let of_table = by_table.get(table.name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let made = clear(of_table, &|row| row.before.is_none());
            self.take_out(&mut tx, run, table, &made).await?;
        }
        for table in &repairer.tables {
            let of_table = by_table.get(table.name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let changed = clear(of_table, &|row| row.before.is_some() && row.after.is_some());
            let removed = clear(of_table, &|row| row.before.is_some() && row.after.is_none());
            self.put_in_place(&mut tx, run, table, &changed).await?;
            self.put_in(&mut tx, run, table, &removed).await?;
        }
        // A trigger may have kept a row as the run left it.
        let mut kept: BTreeSet<i64> = BTreeSet::new();
        for table in &repairer.tables {
            let of_table = by_table.get(table.name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let moved = self.conflicts_of(&mut tx, run, table, of_table).await?;
            kept.extend(of_table.iter().map(|row| row.seq).filter(|seq| !moved.contains(seq)));
        }
        conflicts.extend(kept);
        for row in &rows {
            if conflicts.contains(&row.seq) {
                if undone.named.len() < NAMED_MAX {
                    undone.named.push(format!("{} {}", row.table, row.row));
                }
            } else {
                undone.keys.insert(row.key.clone());
            }
        }
        self.mark_undone(&mut tx, run, &rows, &conflicts).await?;
        match on!(tx, tx => tx.commit().await) {
            Ok(()) => Ok(undone),
            Err(error) => {
                self.forget().await;
                let why = self.error(error);
                Err(SourceError::Unreachable(format!("the commit was not answered: {why}")))
            }
        }
    }

    /// Rows that are not as the run left them.
    async fn conflicts_of(
        &self,
        tx: &mut Tx,
        run: &str,
        table: &Table,
        rows: &[&JournalRow],
    ) -> Result<BTreeSet<i64>, SourceError> {
        match tx {
            Tx::Postgres(tx) => {
                let (name, own) = (table.quoted(), same_row(table, "i", "t"));
                let text = format!(
                    "SELECT j.seq FROM switchback.repairs AS j \
                     CROSS JOIN LATERAL (SELECT (COALESCE(j.after, j.before)::{name}).*) AS i \
                     LEFT JOIN {name} AS t ON {own} \
                     WHERE j.run = $1 AND j.seq = ANY($2) AND t::text IS DISTINCT FROM j.after"
                );
                // A row that is not there is a row of nulls, whose text is not null.
                let text = text.replace(
                    "t::text IS DISTINCT",
                    &format!(
                        "CASE WHEN t.{} IS NULL THEN NULL ELSE t::text END IS DISTINCT",
                        first(table)
                    ),
                );
                let query =
                    sqlx::query_scalar::<_, i64>(AssertSqlSafe(text)).bind(run).bind(seqs(rows));
                let found = query.fetch_all(&mut **tx).await.map_err(|error| self.error(error))?;
                Ok(found.into_iter().collect())
            }
            Tx::Sqlite(_) => {
                let mut conflicts = BTreeSet::new();
                for row in rows {
                    let Some((known, own)) = sqlite_own(table, row) else {
                        conflicts.insert(row.seq);
                        continue;
                    };
                    let key = known.get(table.key_name()).cloned().unwrap_or(Stored::Null);
                    let list = key_list(&key);
                    let now = self.image(tx, table, (&[], &list), false).await?;
                    let is =
                        now.into_iter().find(|((_, id), _)| *id == row.row).map(|(_, image)| image);
                    let is = is.as_deref().map(read_sqlite_image);
                    let left = row.after.as_deref().map(read_sqlite_image);
                    if is != left || own.is_empty() {
                        conflicts.insert(row.seq);
                    }
                }
                Ok(conflicts)
            }
        }
    }

    /// Rows that the run made and that others refer to by now, so that deleting them would change theirs too.
    async fn referred_to(
        &self,
        tx: &mut Tx,
        run: &str,
        (table, known): (&Table, &BTreeSet<&str>),
        rows: &[&JournalRow],
    ) -> Result<BTreeSet<i64>, SourceError> {
        let made: Vec<&JournalRow> =
            rows.iter().copied().filter(|row| row.before.is_none()).collect();
        let mut found = BTreeSet::new();
        if made.is_empty() {
            return Ok(found);
        }
        let known: BTreeSet<String> = known.iter().map(|name| quoted(name)).collect();
        match tx {
            Tx::Postgres(tx) => {
                const ASK: &str = "SELECT c.conrelid::regclass::text, \
                     (SELECT string_agg('r.' || quote_ident(a.attname) || ' = i.' || quote_ident(b.attname), ' AND ') \
                      FROM unnest(c.conkey, c.confkey) AS k (own, theirs) \
                      JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.own \
                      JOIN pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = k.theirs) \
                     FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = to_regclass($1) \
                     AND c.confdeltype IN ('c', 'n', 'd') \
                     AND NOT (c.conrelid = ANY($2::text[]::regclass[]))";
                let name = table.quoted();
                let named: Vec<String> = known.into_iter().collect();
                let asked =
                    sqlx::query_as::<_, (String, Option<String>)>(ASK).bind(&name).bind(named);
                let keys = asked.fetch_all(&mut **tx).await.map_err(|error| self.error(error))?;
                for (other, pairs) in keys {
                    let Some(pairs) = pairs else { continue };
                    let text = format!(
                        "SELECT j.seq FROM switchback.repairs AS j \
                         CROSS JOIN LATERAL (SELECT (j.after::{name}).*) AS i \
                         WHERE j.run = $1 AND j.seq = ANY($2) AND EXISTS (SELECT 1 FROM {other} AS r WHERE {pairs})"
                    );
                    let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(text));
                    let seqs = query.bind(run).bind(seqs(&made)).fetch_all(&mut **tx).await;
                    found.extend(seqs.map_err(|error| self.error(error))?);
                }
            }
            Tx::Sqlite(_) => {
                const ASK: &str = "SELECT m.name, p.\"from\", COALESCE(p.\"to\", '') FROM sqlite_master m, \
                     pragma_foreign_key_list(m.name) p WHERE m.type = 'table' AND lower(p.\"table\") = lower($1) \
                     AND p.seq = 0 AND p.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT')";
                let keys: Vec<(String, String, String)> = match tx {
                    Tx::Sqlite(tx) => {
                        sqlx::query_as(ASK).bind(&table.name).fetch_all(&mut **tx).await
                    }
                    Tx::Postgres(_) => Ok(Vec::new()),
                }
                .map_err(|error| self.error(error))?;
                for (other, own, theirs) in keys {
                    if known.contains(&quoted(&other)) {
                        continue;
                    }
                    let theirs =
                        if theirs.is_empty() { table.primary.first() } else { Some(&theirs) };
                    let text = format!(
                        "UPDATE {0} SET {1} = {1} WHERE {1} = $1",
                        quoted(&other),
                        quoted(&own)
                    );
                    for row in &made {
                        let Some((image, _)) = sqlite_own(table, row) else { continue };
                        let value = theirs.and_then(|name| image.get(name)).cloned();
                        // Counting by an update that changes nothing keeps to one way of binding values.
                        let text = text.clone();
                        if self.sqlite_with(tx, text, vec![value.unwrap_or(Stored::Null)]).await?
                            > 0
                        {
                            found.insert(row.seq);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// Deletes rows that the run made.
    async fn take_out(
        &self,
        tx: &mut Tx,
        run: &str,
        table: &Table,
        rows: &[JournalRow],
    ) -> Result<(), SourceError> {
        let name = table.quoted();
        if let Tx::Postgres(_) = tx {
            let own = same_row(table, "i", "t");
            let text = format!(
                "DELETE FROM {name} AS t USING switchback.repairs AS j \
                 CROSS JOIN LATERAL (SELECT (j.after::{name}).*) AS i \
                 WHERE j.run = $1 AND j.seq = ANY($2) AND {own}"
            );
            return self.over_journal(tx, text, run, rows).await;
        }
        for row in rows {
            let Some((_, own)) = sqlite_own(table, row) else { continue };
            let text = format!("DELETE FROM {name} WHERE {}", places(&table.primary, 1, " AND "));
            self.sqlite_with(tx, text, own).await?;
        }
        Ok(())
    }

    /// Gives rows that are there their earlier values.
    async fn put_in_place(
        &self,
        tx: &mut Tx,
        run: &str,
        table: &Table,
        rows: &[JournalRow],
    ) -> Result<(), SourceError> {
        let name = table.quoted();
        if table.changeable.is_empty() {
            return Ok(());
        }
        if let Tx::Postgres(_) = tx {
            let set: Vec<String> = table
                .changeable
                .iter()
                .map(|column| format!("{0} = i.{0}", quoted(column)))
                .collect();
            let text = format!(
                "UPDATE {name} AS t SET {} FROM switchback.repairs AS j \
                 CROSS JOIN LATERAL (SELECT (j.before::{name}).*) AS i \
                 WHERE j.run = $1 AND j.seq = ANY($2) AND {}",
                set.join(", "),
                same_row(table, "i", "t")
            );
            return self.over_journal(tx, text, run, rows).await;
        }
        for row in rows {
            let Some((known, own)) = sqlite_own(table, row) else { continue };
            let set = places(&table.changeable, 1, ", ");
            let own_places = places(&table.primary, table.changeable.len() + 1, " AND ");
            let text = format!("UPDATE {name} SET {set} WHERE {own_places}");
            let value = |column: &String| known.get(column).cloned().unwrap_or(Stored::Null);
            let values = table.changeable.iter().map(value).chain(own).collect();
            self.sqlite_with(tx, text, values).await?;
        }
        Ok(())
    }

    /// Puts rows back that the run removed.
    async fn put_in(
        &self,
        tx: &mut Tx,
        run: &str,
        table: &Table,
        rows: &[JournalRow],
    ) -> Result<(), SourceError> {
        let name = table.quoted();
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
        let list = columns.join(", ");
        if let Tx::Postgres(_) = tx {
            let values: Vec<String> = columns.iter().map(|column| format!("i.{column}")).collect();
            let text = format!(
                "INSERT INTO {name} ({list}) OVERRIDING SYSTEM VALUE SELECT {} FROM switchback.repairs AS j \
                 CROSS JOIN LATERAL (SELECT (j.before::{name}).*) AS i WHERE j.run = $1 AND j.seq = ANY($2)",
                values.join(", ")
            );
            return self.over_journal(tx, text, run, rows).await;
        }
        for row in rows {
            let Some((known, _)) = sqlite_own(table, row) else { continue };
            let marks: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
            let text = format!("INSERT INTO {name} ({list}) VALUES ({})", marks.join(", "));
            let value = |column: &String| known.get(column).cloned().unwrap_or(Stored::Null);
            self.sqlite_with(tx, text, table.columns.iter().map(value).collect()).await?;
        }
        Ok(())
    }

    async fn over_journal(
        &self,
        tx: &mut Tx,
        text: String,
        run: &str,
        rows: &[JournalRow],
    ) -> Result<(), SourceError> {
        let Tx::Postgres(tx) = tx else { return Ok(()) };
        if rows.is_empty() {
            return Ok(());
        }
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        let done = sqlx::query(AssertSqlSafe(text)).bind(run).bind(seqs).execute(&mut **tx).await;
        done.map(drop).map_err(|error| self.error(error))
    }

    async fn sqlite_with(
        &self,
        tx: &mut Tx,
        text: String,
        values: Vec<Stored>,
    ) -> Result<u64, SourceError> {
        self.limit(tx).await?;
        let Tx::Sqlite(tx) = tx else { return Ok(0) };
        let mut query = sqlx::query(AssertSqlSafe(text));
        for value in values {
            query = bind(query, value);
        }
        let done = query.execute(&mut **tx).await;
        done.map(|done| done.rows_affected()).map_err(|error| self.error(error))
    }

    async fn mark_undone(
        &self,
        tx: &mut Tx,
        run: &str,
        rows: &[JournalRow],
        conflicts: &BTreeSet<i64>,
    ) -> Result<(), SourceError> {
        let (left, done): (Vec<i64>, Vec<i64>) =
            rows.iter().map(|row| row.seq).partition(|seq| conflicts.contains(seq));
        for (word, seqs) in [("conflict", left), ("undone", done)] {
            if seqs.is_empty() {
                continue;
            }
            let which = match tx.dialect() {
                Dialect::Postgres => "seq = ANY($3::text[]::bigint[])",
                Dialect::Sqlite => "seq IN (SELECT value FROM json_each($3))",
            };
            let text = name_in(
                &format!("UPDATE {{repairs}} SET undone = $2 WHERE run = $1 AND {which}"),
                tx.dialect(),
            );
            let done = match tx {
                Tx::Postgres(tx) => {
                    let seqs: Vec<String> = seqs.iter().map(ToString::to_string).collect();
                    let query = sqlx::query(AssertSqlSafe(text)).bind(run).bind(word).bind(seqs);
                    query.execute(&mut **tx).await.map(drop)
                }
                Tx::Sqlite(tx) => {
                    let seqs = serde_json::Value::from(seqs).to_string();
                    let query = sqlx::query(AssertSqlSafe(text)).bind(run).bind(word).bind(seqs);
                    query.execute(&mut **tx).await.map(drop)
                }
            };
            done.map_err(|error| self.error(error))?;
        }
        Ok(())
    }
}

fn first(table: &Table) -> String {
    table.primary.first().map(|name| quoted(name)).unwrap_or_default()
}

fn seqs(rows: &[&JournalRow]) -> Vec<i64> {
    rows.iter().map(|row| row.seq).collect()
}

/// `i.key = t.key AND …`.
fn same_row(table: &Table, left: &str, right: &str) -> String {
    let pairs = table.primary.iter().map(|name| {
        let name = quoted(name);
        format!("{left}.{name} = {right}.{name}")
    });
    pairs.collect::<Vec<_>>().join(" AND ")
}

/// `"a" = $1, "b" = $2`.
fn places(columns: &[String], from: usize, between: &str) -> String {
    let parts = columns.iter().enumerate();
    let parts = parts.map(|(index, name)| format!("{} = ${}", quoted(name), from + index));
    parts.collect::<Vec<_>>().join(between)
}

/// The columns of a journal row's image, and the row's primary key.
fn sqlite_own(table: &Table, row: &JournalRow) -> Option<(BTreeMap<String, Stored>, Vec<Stored>)> {
    let known = read_sqlite_image(row.before.as_deref().or(row.after.as_deref())?)?;
    let own = table.primary.iter().map(|name| known.get(name).cloned()).collect::<Option<_>>()?;
    Some((known, own))
}

/// A key as a JSON array of its own type.
fn key_list(value: &Stored) -> String {
    let value = match value {
        Stored::Null | Stored::Blob(_) => serde_json::Value::Null,
        Stored::Int(number) => (*number).into(),
        Stored::Real(number) => (*number).into(),
        Stored::Text(text) => text.as_str().into(),
    };
    serde_json::Value::from(vec![value]).to_string()
}

fn bind(
    query: Query<'_, Sqlite, SqliteArguments>,
    value: Stored,
) -> Query<'_, Sqlite, SqliteArguments> {
    match value {
        Stored::Null => query.bind(None::<String>),
        Stored::Int(number) => query.bind(number),
        Stored::Real(number) => query.bind(number),
        Stored::Text(text) => query.bind(text),
        Stored::Blob(bytes) => query.bind(bytes),
    }
}
