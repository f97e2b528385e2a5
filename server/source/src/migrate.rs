//! Migrations of a data source: up or down in one transaction, once, proved by queries that must give no row.
//!
//! Which migrations are applied stands in the ledger under `migration/<name>`, beside the keys of what was done.

use sqlx::AssertSqlSafe;

use crate::error::SourceError;
use crate::exec::{Executed, Rehearsed, Tx, Work, ledger_sql, on, sequences};
use crate::query::one_query;
use crate::script::split;
use crate::{Source, Statement};

/// Which way a migration goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It is applied.
    Up,
    /// It is taken back.
    Down,
}

/// A migration: two scripts and the queries that prove it.
#[derive(Clone, Copy, Debug)]
pub struct Migration<'m> {
    /// Its name in the ledger.
    pub name: &'m str,
    /// The script that applies it.
    pub up: &'m str,
    /// The script that takes it back.
    pub down: &'m str,
    /// Queries that give no row while it is applied.
    pub verify: &'m str,
    /// More changed rows than this roll a script back.
    pub rows_max: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The script ran.
    Ran(Executed),
    /// It was so already; nothing was done.
    Already,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// A migration with its scripts cut into statements.
struct Cut<'m> {
    of: &'m Migration<'m>,
    up: Vec<Statement>,
    down: Vec<Statement>,
    verify: Vec<Statement>,
}

impl<'m> Cut<'m> {
    fn of(of: &'m Migration<'m>) -> Result<Self, SourceError> {
        let cut = |what: &str, text: &str| split(text).map_err(|error| within(what, error));
        let verify = cut("verify", of.verify)?;
        for query in &verify {
            one_query(&query.text)
                .map_err(|error| within(&format!("verify: line {}", query.line), error))?;
        }
        Ok(Self { of, up: cut("up", of.up)?, down: cut("down", of.down)?, verify })
    }

    fn script(&self, direction: Direction) -> (&[Statement], Work<'m>) {
        let Migration { up, down, rows_max, .. } = *self.of;
        let (statements, sql) = match direction {
            Direction::Up => (&self.up, up),
            Direction::Down => (&self.down, down),
        };
        (statements, Work { sql, params: &[], rows_max, snapshots: &[] })
    }

    fn key(&self) -> String {
        format!("migration/{}", self.of.name)
    }
}

impl Source {
    /// Takes a migration up or down once per key, in one transaction; up is proved by `verify` in it. What is so already is
    /// left alone: the ledger knows, and where it does not, a migration counts as applied when `verify` holds.
    ///
    /// # Errors
    /// As [`exec`](Source::exec); or `verify` does not hold after `up`, or for what the ledger calls applied. Then nothing was
    /// changed.
    pub async fn migrate(
        &self,
        key: &str,
        migration: &Migration<'_>,
        direction: Direction,
    ) -> Result<Migrated, SourceError> {
        let cut = Cut::of(migration)?;
        let mut tx = match self.begin_once_for(key).await? {
            Ok(tx) => tx,
            Err(earlier) => return Ok(told(earlier)),
        };
        let executed = if self.is_so(&mut tx, &cut, direction).await? {
            Executed::default()
        } else {
            let executed = self.run_one(&mut tx, &cut, direction).await?;
            self.note_direction(&mut tx, &cut, direction).await?;
            executed
        };
        Ok(told(self.note_and_commit(tx, key, executed).await?))
    }

    /// What [`migrate`](Self::migrate) with this key did; `None` when it did not happen.
    ///
    /// # Errors
    /// The source cannot be reached, or refuses.
    pub async fn find_migrated(&self, key: &str) -> Result<Option<Migrated>, SourceError> {
        Ok(self.find(key).await?.map(told))
    }

    /// Why a migration does not stand as it should after going in a direction; `None` when it does. A migration that was taken
    /// back is proved by the ledger alone: what its `verify` asks for may not even exist any more.
    ///
    /// # Errors
    /// The source cannot be reached, or refuses.
    pub async fn check_migration(
        &self,
        migration: &Migration<'_>,
        direction: Direction,
    ) -> Result<Option<String>, SourceError> {
        let cut = Cut::of(migration)?;
        let mut tx = self.begin().await?;
        self.make_ledger(&mut tx).await?;
        let noted = self.noted(&mut tx, &cut).await?;
        Ok(match (direction, noted) {
            (Direction::Down, Some(Direction::Up)) => Some("it was applied again".to_owned()),
            (Direction::Up, Some(Direction::Down)) => Some("it was taken back".to_owned()),
            (Direction::Down, _) => None,
            (Direction::Up, _) => self.broken(&mut tx, &cut).await?,
        })
    }

    /// Takes a migration in a direction and back in a transaction that is rolled back.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate), for either way.
    pub async fn rehearse_migration(
        &self,
        migration: &Migration<'_>,
        direction: Direction,
    ) -> Result<Rehearsed, SourceError> {
        let cut = Cut::of(migration)?;
        let mut tx = self.begin().await?;
        self.make_ledger(&mut tx).await?;
        if self.is_so(&mut tx, &cut, direction).await? {
            let message = match direction {
                Direction::Up => "it is applied already: nothing would be done",
                Direction::Down => "it is not applied: nothing would be done",
            };
            let warnings = vec![message.to_owned()];
            return Ok(Rehearsed { executed: Executed::default(), warnings });
        }
        let executed = self.run_one(&mut tx, &cut, direction).await?;
        let mut warnings = self.locks(&mut tx).await?;
        let proves_nothing = direction == Direction::Down && self.holds(&mut tx, &cut).await?;
        self.run_one(&mut tx, &cut, direction.other()).await?;
        if proves_nothing || direction == Direction::Up && self.holds(&mut tx, &cut).await? {
            let message = "`verify` holds without the migration too: it does not prove it";
            warnings.push(message.to_owned());
        }
        let dialect = tx.dialect();
        warnings.extend(sequences(dialect, &cut.up).or_else(|| sequences(dialect, &cut.down)));
        Ok(Rehearsed { executed, warnings })
    }

    /// Runs one script, and `verify` after `up`.
    async fn run_one(
        &self,
        tx: &mut Tx,
        cut: &Cut<'_>,
        direction: Direction,
    ) -> Result<Executed, SourceError> {
        let (statements, work) = cut.script(direction);
        let done = self.run_all(tx, statements, &work).await;
        let executed = done.map_err(|error| within(direction.word(), error))?;
        if direction == Direction::Up
            && let Some(why) = self.broken(tx, cut).await?
        {
            return Err(SourceError::Refused(format!("after `up`, {why}")));
        }
        Ok(executed)
    }

    /// Whether the migration stands already where the direction leads.
    async fn is_so(
        &self,
        tx: &mut Tx,
        cut: &Cut<'_>,
        direction: Direction,
    ) -> Result<bool, SourceError> {
        match (direction, self.noted(tx, cut).await?) {
            (Direction::Up, Some(Direction::Up)) => match self.broken(tx, cut).await? {
                None => Ok(true),
                // After a restore, say: running it again would be a guess.
                Some(why) => Err(SourceError::Refused(format!(
                    "the ledger says that `{}` is applied, and {why}; if it is not, remove `{}` from the ledger",
                    cut.of.name,
                    cut.key()
                ))),
            },
            (Direction::Down, Some(Direction::Down)) => Ok(true),
            // Applied by other means, or not at all.
            (Direction::Down, None) => Ok(!self.holds(tx, cut).await?),
            (Direction::Up, _) | (Direction::Down, Some(Direction::Up)) => Ok(false),
        }
    }

    /// Which way the migration went last, by the ledger.
    async fn noted(&self, tx: &mut Tx, cut: &Cut<'_>) -> Result<Option<Direction>, SourceError> {
        let text = ledger_sql("SELECT detail FROM {ledger} WHERE key = $1", tx.dialect());
        let found = on!(tx, tx => {
            let select = sqlx::query_scalar::<_, String>(AssertSqlSafe(text));
            select.bind(cut.key()).fetch_optional(&mut **tx).await
        });
        let found = found.map_err(|error| self.error(error))?;
        Ok(found.map(|word| if word == "up" { Direction::Up } else { Direction::Down }))
    }

    async fn note_direction(
        &self,
        tx: &mut Tx,
        cut: &Cut<'_>,
        direction: Direction,
    ) -> Result<(), SourceError> {
        let text = "INSERT INTO {ledger} (key, detail) VALUES ($1, $2) \
                    ON CONFLICT (key) DO UPDATE SET detail = excluded.detail";
        let text = ledger_sql(text, tx.dialect());
        let noted = on!(tx, tx => {
            let upsert = sqlx::query(AssertSqlSafe(text)).bind(cut.key()).bind(direction.word());
            upsert.execute(&mut **tx).await.map(drop)
        });
        noted.map_err(|error| self.error(error))
    }

    /// The first query that gives a row, in words; `None` when none does.
    async fn broken(&self, tx: &mut Tx, cut: &Cut<'_>) -> Result<Option<String>, SourceError> {
        for query in &cut.verify {
            let line = query.line;
            let text = one_query(&query.text)?;
            let text = AssertSqlSafe(format!("SELECT COUNT(*) FROM (\n{text}\n) AS q"));
            self.limit(tx).await?;
            let counted = on!(tx, tx => {
                sqlx::query_scalar::<_, i64>(text).fetch_one(&mut **tx).await
            });
            let rows = counted
                .map_err(|error| within(&format!("verify: line {line}"), self.error(error)))?;
            if rows > 0 {
                let what = if rows == 1 { "1 row" } else { &format!("{rows} rows") };
                let message = format!("verify: the query at line {line} gives {what}");
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Whether `verify` can be asked and gives no row. What a refused query does to the transaction is taken back.
    async fn holds(&self, tx: &mut Tx, cut: &Cut<'_>) -> Result<bool, SourceError> {
        self.say(tx, "SAVEPOINT switchback_verify").await?;
        let found = self.broken(tx, cut).await;
        self.say(tx, "ROLLBACK TO SAVEPOINT switchback_verify").await?;
        match found {
            Ok(why) => Ok(why.is_none()),
            Err(SourceError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn say(&self, tx: &mut Tx, text: &'static str) -> Result<(), SourceError> {
        let said = on!(tx, tx => sqlx::raw_sql(text).execute(&mut **tx).await.map(drop));
        said.map_err(|error| self.error(error))
    }
}

/// A script that ran has a statement; where there was nothing to do, the ledger keeps none.
fn told(executed: Executed) -> Migrated {
    if executed.statements.is_empty() { Migrated::Already } else { Migrated::Ran(executed) }
}

/// Says which of a migration's scripts it was.
fn within(what: &str, error: SourceError) -> SourceError {
    match error {
        SourceError::Refused(why) | SourceError::Constraint(why) => {
            SourceError::Refused(format!("{what}: {why}"))
        }
        other => other,
    }
}
