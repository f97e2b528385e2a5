//! The mirror of flags in a data source: what SQL and row-level-security policies read. Its tables are made by the scripts of
//! the runbooks' folder.

use sqlx::AssertSqlSafe;

use crate::connect::{Dialect, Source};
use crate::error::SourceError;
use crate::exec::{Tx, Work, on};

/// A flag as the mirror has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirroredFlag {
    /// Its key.
    pub key: String,
    /// On for everybody.
    pub enabled: bool,
    /// `everybody`, `some` or `nobody`.
    pub reach: &'static str,
    /// Off from then on, in UTC milliseconds.
    pub expires_at: Option<i64>,
}

/// How far a mirror is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// The environment that it shows; empty before the first time.
    pub environment: String,
    /// The environment's revision that it shows.
    pub revision: u64,
}

struct Names {
    flags: &'static str,
    mirror: &'static str,
    /// Milliseconds to what the column holds.
    moment: &'static str,
    now: &'static str,
}

fn names(dialect: Dialect) -> Names {
    match dialect {
        Dialect::Postgres => Names {
            flags: "switchback.flags",
            mirror: "switchback.mirror",
            moment: "to_timestamp(CAST($4 AS BIGINT) / 1000.0)",
            now: "now()",
        },
        Dialect::Sqlite => Names {
            flags: "switchback_flags",
            mirror: "switchback_mirror",
            moment: "datetime(CAST($4 AS BIGINT) / 1000, 'unixepoch')",
            now: "CURRENT_TIMESTAMP",
        },
    }
}

impl Source {
    /// Runs a script of ours in one transaction.
    ///
    /// # Errors
    /// As [`exec`](Self::exec).
    pub async fn run_script(&self, sql: &str) -> Result<(), SourceError> {
        let statements = crate::script::split(sql)?;
        let mut tx = self.begin().await?;
        let work = Work { sql, params: &[], rows_max: u64::MAX, snapshots: &[] };
        self.run_all(&mut tx, &statements, &work).await?;
        on!(tx, tx => tx.commit().await).map_err(|error| self.error(error))
    }

    /// How far the mirror is; `None` when there is none.
    ///
    /// # Errors
    /// The source cannot be reached or written to.
    pub async fn mirrored(&self) -> Result<Option<Mirrored>, SourceError> {
        let mut tx = self.begin().await?;
        let there = match &mut tx {
            Tx::Postgres(tx) => {
                let ask = "SELECT to_regclass('switchback.mirror') IS NOT NULL";
                sqlx::query_scalar::<_, bool>(ask).fetch_one(&mut **tx).await
            }
            Tx::Sqlite(tx) => {
                let ask = "SELECT COUNT(*) > 0 FROM sqlite_master WHERE name = 'switchback_mirror'";
                sqlx::query_scalar::<_, bool>(ask).fetch_one(&mut **tx).await
            }
        };
        if !there.map_err(|error| self.error(error))? {
            return Ok(None);
        }
        let text = format!("SELECT environment, revision FROM {}", names(tx.dialect()).mirror);
        let row = on!(&mut tx, tx => {
            sqlx::query_as::<_, (String, i64)>(AssertSqlSafe(text)).fetch_optional(&mut **tx).await
        });
        let found = row.map_err(|error| self.error(error))?;
        Ok(found.map(|(environment, revision)| Mirrored {
            environment,
            revision: revision.cast_unsigned(),
        }))
    }

    /// Shows an environment's flags at a revision, all at once. `false` when the mirror shows that or a later one already.
    ///
    /// # Errors
    /// There is no mirror, or the source cannot be reached or written to; then it shows what it showed.
    pub async fn mirror(
        &self,
        environment: &str,
        revision: u64,
        flags: &[MirroredFlag],
    ) -> Result<bool, SourceError> {
        let mut tx = self.begin().await?;
        let Names { flags: table, mirror, moment, now } = names(tx.dialect());
        let claim = format!(
            "UPDATE {mirror} SET environment = $1, revision = $2, updated_at = {now} \
             WHERE environment <> $1 OR revision < $2"
        );
        let claimed = on!(&mut tx, tx => {
            let update = sqlx::query(AssertSqlSafe(claim)).bind(environment).bind(revision.cast_signed());
            update.execute(&mut **tx).await.map(|done| done.rows_affected())
        });
        if claimed.map_err(|error| self.error(error))? == 0 {
            return Ok(false);
        }
        let clear = format!("DELETE FROM {table}");
        on!(&mut tx, tx => sqlx::query(AssertSqlSafe(clear)).execute(&mut **tx).await.map(drop))
            .map_err(|error| self.error(error))?;
        let insert = format!(
            "INSERT INTO {table} (key, enabled, reach, expires_at, revision) VALUES ($1, $2, $3, {moment}, $5)"
        );
        for flag in flags {
            let put = on!(&mut tx, tx => {
                let query = sqlx::query(AssertSqlSafe(insert.clone())).bind(&flag.key).bind(flag.enabled);
                let query = query.bind(flag.reach).bind(flag.expires_at).bind(revision.cast_signed());
                query.execute(&mut **tx).await.map(drop)
            });
            put.map_err(|error| self.error(error))?;
        }
        on!(tx, tx => tx.commit().await).map_err(|error| self.error(error))?;
        Ok(true)
    }
}
