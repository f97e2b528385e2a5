//! Changing a data source: a script in one transaction, once per key, and the rehearsal that is rolled back.

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Postgres, Sqlite, Transaction};
use tokio::time::Instant;

use crate::connect::{Dialect, Source};
use crate::error::SourceError;
use crate::query::{LOOK_EVERY, first_word};
use crate::script::{Statement, split};
use crate::settings::Access;
use crate::snapshot::Snapshot;

/// What a script did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// Rows that its statements changed, together.
    pub rows: u64,
    /// Rows by statement.
    pub statements: Vec<u64>,
    /// Whether an earlier attempt had done it already.
    #[serde(default)]
    pub already: bool,
}

/// What a script would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rehearsed {
    /// What it would change.
    pub executed: Executed,
    /// What somebody should know: locks that keep others out, sequences that do not go back.
    pub warnings: Vec<String>,
}

/// A script and its limits.
#[derive(Clone, Copy, Debug)]
pub struct Work<'w> {
    /// Statements, parted by semicolons.
    pub sql: &'w str,
    /// `$1`, `$2`, …, as texts; with one statement only.
    pub params: &'w [String],
    /// More changed rows than this roll it back.
    pub rows_max: u64,
    /// Tables whose changed rows are kept as they were.
    pub snapshots: &'w [Snapshot],
}

/// One transaction in either database; dropping it rolls back.
pub(crate) enum Tx {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

macro_rules! on {
    ($tx:expr, $inner:ident => $body:expr) => {
        match $tx {
            $crate::exec::Tx::Postgres($inner) => $body,
            $crate::exec::Tx::Sqlite($inner) => $body,
        }
    };
}

pub(crate) use on;

impl Tx {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }
}

/// How statements begin whose rows count. (A WITH may change rows, so it counts.)
const CHANGING: [&str; 6] = ["INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH"];
/// Locks that stop nobody but other changes of the schema.
const QUIET_LOCKS: &str = "('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')";

impl Source {
    /// Runs a script once per key: a second call with the key does nothing and says what the first one did. The key is kept
    /// in the data source itself, in the script's transaction, so that it is true whatever crashes.
    ///
    /// # Errors
    /// The source is read-only, a statement fails, more than `rows_max` rows would change, or it cannot be reached; then nothing
    /// was changed, except that the commit of an unreachable one may have happened: ask again with the same key.
    pub async fn exec(&self, key: &str, work: &Work<'_>) -> Result<Executed, SourceError> {
        let statements = split(work.sql)?;
        let mut tx = match self.begin_once_for(key).await? {
            Ok(tx) => tx,
            Err(earlier) => return Ok(earlier),
        };
        let images = self.begin_snapshots(&mut tx, key, work.snapshots).await?;
        let executed = self.run_all(&mut tx, &statements, work).await?;
        self.end_snapshots(&mut tx, key, images).await?;
        self.note_and_commit(tx, key, executed).await
    }

    /// Begins a transaction that notes the key; the error is what an earlier one with the key did.
    pub(crate) async fn begin_once_for(
        &self,
        key: &str,
    ) -> Result<Result<Tx, Executed>, SourceError> {
        let mut tx = self.begin().await?;
        self.make_ledger(&mut tx).await?;
        let noted = on!(&mut tx, tx => {
            let insert = sqlx::query(AssertSqlSafe(ledger_sql(
                "INSERT INTO {ledger} (key, detail) VALUES ($1, '') ON CONFLICT (key) DO NOTHING",
                tx_dialect(tx),
            )));
            insert.bind(key).execute(&mut **tx).await.map(|done| done.rows_affected())
        });
        if noted.map_err(|error| self.error(error))? > 0 {
            return Ok(Ok(tx));
        }
        drop(tx);
        let gone =
            || SourceError::Unreachable("another attempt with this key is under way".to_owned());
        self.find(key).await?.map(Err).ok_or_else(gone)
    }

    pub(crate) async fn note_and_commit(
        &self,
        mut tx: Tx,
        key: &str,
        executed: Executed,
    ) -> Result<Executed, SourceError> {
        let detail = serde_json::to_string(&executed).unwrap_or_default();
        let kept = on!(&mut tx, tx => {
            let update = sqlx::query(AssertSqlSafe(
                ledger_sql("UPDATE {ledger} SET detail = $2 WHERE key = $1", tx_dialect(tx)),
            ));
            update.bind(key).bind(detail).execute(&mut **tx).await.map(drop)
        });
        kept.map_err(|error| self.error(error))?;
        let done = on!(tx, tx => tx.commit().await);
        match done {
            Ok(()) => Ok(executed),
            Err(error) => {
                self.forget().await;
                Err(SourceError::Unreachable(format!(
                    "the commit was not answered: {}",
                    self.error(error)
                )))
            }
        }
    }

    /// What a script with this key did; `None` when it did not.
    ///
    /// # Errors
    /// The source cannot be reached, or refuses.
    pub async fn find(&self, key: &str) -> Result<Option<Executed>, SourceError> {
        let mut tx = self.begin().await?;
        self.make_ledger(&mut tx).await?;
        let found = on!(&mut tx, tx => {
            let select = sqlx::query_scalar::<_, String>(AssertSqlSafe(
                ledger_sql("SELECT detail FROM {ledger} WHERE key = $1", tx_dialect(tx)),
            ));
            select.bind(key).fetch_optional(&mut **tx).await
        });
        let found = found.map_err(|error| self.error(error))?;
        let read = |detail: String| serde_json::from_str(&detail).unwrap_or_default();
        Ok(found.map(|detail| Executed { already: true, ..read(detail) }))
    }

    /// Runs a script in a transaction that is rolled back, with the source's limits.
    ///
    /// # Errors
    /// As [`exec`](Self::exec).
    pub async fn rehearse(&self, work: &Work<'_>) -> Result<Rehearsed, SourceError> {
        let statements = split(work.sql)?;
        let mut tx = self.begin().await?;
        self.make_ledger(&mut tx).await?;
        // Two rehearsals at a time must not make the same tables.
        let key = format!("rehearsal-{:?}", Instant::now());
        let images = self.begin_snapshots(&mut tx, &key, work.snapshots).await?;
        let executed = self.run_all(&mut tx, &statements, work).await?;
        self.end_snapshots(&mut tx, &key, images).await?;
        let mut warnings = self.locks(&mut tx).await?;
        warnings.extend(sequences(tx.dialect(), &statements));
        Ok(Rehearsed { executed, warnings })
    }

    /// The locks of this transaction that keep others out, in words. SQLite has one for all, which is no news.
    pub(crate) async fn locks(&self, tx: &mut Tx) -> Result<Vec<String>, SourceError> {
        let Tx::Postgres(tx) = tx else { return Ok(Vec::new()) };
        let text = format!(
            "SELECT DISTINCT relation::regclass::text, mode FROM pg_locks WHERE pid = pg_backend_pid() \
             AND locktype = 'relation' AND mode NOT IN {QUIET_LOCKS} \
             AND relation::regclass::text NOT LIKE 'switchback.%' ORDER BY 1"
        );
        let locks = sqlx::query_as::<_, (String, String)>(AssertSqlSafe(text));
        let locks = locks.fetch_all(&mut **tx).await.map_err(|error| self.error(error))?;
        let words = locks.into_iter().map(|(table, mode)| match mode.as_str() {
            "AccessExclusiveLock" => {
                format!("`{table}` is locked: nobody can read it meanwhile")
            }
            _ => format!("`{table}` is locked: nobody can change it meanwhile ({mode})"),
        });
        Ok(words.collect())
    }

    pub(crate) async fn run_all(
        &self,
        tx: &mut Tx,
        statements: &[Statement],
        work: &Work<'_>,
    ) -> Result<Executed, SourceError> {
        let (params, rows_max) = (work.params, work.rows_max);
        if !params.is_empty() && statements.len() > 1 {
            let message = "params go with one statement; part the script into steps";
            return Err(SourceError::Refused(message.to_owned()));
        }
        let mut executed = Executed::default();
        for (index, statement) in statements.iter().enumerate() {
            let text = AssertSqlSafe(statement.text.clone());
            self.limit(tx).await?; // PostgreSQL's connections carry their limit
            let done = on!(tx, tx => if params.is_empty() {
                sqlx::raw_sql(text).execute(&mut **tx).await.map(|done| done.rows_affected())
            } else {
                let mut query = sqlx::query(text);
                for param in params {
                    query = query.bind(param);
                }
                query.execute(&mut **tx).await.map(|done| done.rows_affected())
            });
            let rows = done.map_err(|error| match self.error(error) {
                SourceError::Refused(why) | SourceError::Constraint(why)
                    if statements.len() > 1 =>
                {
                    let place = format!("statement {} at line {}", index + 1, statement.line);
                    SourceError::Refused(format!("{place}: {why}"))
                }
                other => other,
            })?;
            // PostgreSQL counts the rows that a SELECT gives as well, and SQLite repeats the last count.
            let word = first_word(&statement.text).to_ascii_uppercase();
            let rows = if CHANGING.contains(&word.as_str()) { rows } else { 0 };
            executed.rows += rows;
            executed.statements.push(rows);
            if executed.rows > rows_max {
                return Err(SourceError::Refused(format!(
                    "it would change {} rows or more; {rows_max} are allowed",
                    executed.rows
                )));
            }
        }
        Ok(executed)
    }

    /// Gives the next statement of SQLite its time; later statements get theirs in its place.
    pub(crate) async fn limit(&self, tx: &mut Tx) -> Result<(), SourceError> {
        if let Tx::Sqlite(tx) = tx {
            let end = self.statement_end();
            let mut handle = tx.lock_handle().await.map_err(|error| self.error(error))?;
            handle.set_progress_handler(LOOK_EVERY, move || Instant::now() < end);
        }
        Ok(())
    }

    pub(crate) async fn begin(&self) -> Result<Tx, SourceError> {
        if self.settings().access == Access::ReadOnly {
            let message = "the data source is read-only; an administrator can let it be written to";
            return Err(SourceError::ReadOnly(message.to_owned()));
        }
        if let Ok(tx) = self.begin_once().await {
            return Ok(tx);
        }
        // SQLite ends a transaction by itself when a statement runs out of time or disk; such a connection, like a lost one, is
        // of no use any more, and a new one may be.
        self.forget().await;
        self.begin_once().await
    }

    async fn begin_once(&self) -> Result<Tx, SourceError> {
        let begun = match self.pool().await? {
            // One moment for the script and its images; who changed the same rows meanwhile makes it try again.
            crate::connect::Pool::Postgres(pool) => {
                pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.map(Tx::Postgres)
            }
            crate::connect::Pool::Sqlite { write, .. } => {
                write.begin_with("BEGIN IMMEDIATE").await.map(Tx::Sqlite)
            }
        };
        begun.map_err(|error| self.error(error))
    }

    pub(crate) async fn make_ledger(&self, tx: &mut Tx) -> Result<(), SourceError> {
        let made = match tx {
            Tx::Postgres(tx) => {
                // Looked at first: making what is there already still takes the right to make it.
                let there = sqlx::query_scalar::<_, bool>(
                    "SELECT to_regclass('switchback.ledger') IS NOT NULL AND to_regclass('switchback.snapshots') IS NOT NULL",
                );
                match there.fetch_one(&mut **tx).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {
                        let make = "CREATE SCHEMA IF NOT EXISTS switchback; CREATE TABLE IF NOT EXISTS switchback.ledger \
                                    (key TEXT PRIMARY KEY, detail TEXT NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT now()); \
                                    CREATE TABLE IF NOT EXISTS switchback.snapshots \
                                    (key TEXT PRIMARY KEY, detail TEXT NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT now())";
                        sqlx::raw_sql(make).execute(&mut **tx).await.map(drop)
                    }
                    Err(error) => Err(error),
                }
            }
            Tx::Sqlite(tx) => {
                let make = "CREATE TABLE IF NOT EXISTS switchback_ledger (key TEXT PRIMARY KEY, detail TEXT NOT NULL, \
                            at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP); \
                            CREATE TABLE IF NOT EXISTS switchback_snapshots (key TEXT PRIMARY KEY, detail TEXT NOT NULL, \
                            at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)";
                sqlx::raw_sql(make).execute(&mut **tx).await.map(drop)
            }
        };
        made.map_err(|error| match self.error(error) {
            SourceError::Refused(why) => SourceError::Refused(format!(
                "the table of what was done, switchback.ledger, cannot be made: {why}"
            )),
            other => other,
        })
    }
}

/// What a rehearsal does not put back.
pub(crate) fn sequences(dialect: Dialect, statements: &[Statement]) -> Option<String> {
    let inserts = |one: &Statement| first_word(&one.text).eq_ignore_ascii_case("INSERT");
    let used = dialect == Dialect::Postgres && statements.iter().any(inserts);
    used.then(|| "numbers that sequences gave in this dry run are used up".to_owned())
}

pub(crate) fn ledger_sql(text: &str, dialect: Dialect) -> String {
    let name = match dialect {
        Dialect::Postgres => "switchback.ledger",
        Dialect::Sqlite => "switchback_ledger",
    };
    text.replace("{ledger}", name)
}

trait HasDialect {
    const DIALECT: Dialect;
}

impl HasDialect for Transaction<'static, Postgres> {
    const DIALECT: Dialect = Dialect::Postgres;
}

impl HasDialect for Transaction<'static, Sqlite> {
    const DIALECT: Dialect = Dialect::Sqlite;
}

fn tx_dialect<T: HasDialect>(_: &T) -> Dialect {
    T::DIALECT
}
