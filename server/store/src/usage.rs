//! How often flags were evaluated, by minute and outcome.

use switchback_core::model::Millis;

use crate::Store;
use crate::db::{params, sql};
use crate::error::StoreError;

sql! {
    ADD = "INSERT INTO flag_usage (environment, flag, minute, outcome, evaluations) \
           VALUES ($1, $2, $3, $4, $5) ON CONFLICT (environment, flag, minute, outcome) \
           DO UPDATE SET evaluations = flag_usage.evaluations + excluded.evaluations";
    OF_FLAG = "SELECT flag, minute, outcome, evaluations FROM flag_usage \
               WHERE environment = $1 AND flag = $2 AND minute >= $3 ORDER BY minute, outcome";
    LATEST = "SELECT flag, MAX(minute) AS minute, CAST(SUM(CASE WHEN minute >= $2 THEN evaluations ELSE 0 END) AS BIGINT) AS evaluations \
              FROM flag_usage WHERE environment = $1 GROUP BY flag";
    FORGET = "DELETE FROM flag_usage WHERE minute < $1";
}

/// One count.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct UsageRow {
    /// The flag.
    pub flag: String,
    /// The minute's start, in UTC milliseconds.
    pub minute: Millis,
    /// `on`, `off`, or `variant:<name>`.
    pub outcome: String,
    /// Evaluations in it.
    pub evaluations: u64,
}

impl Store {
    /// Adds counts, all in one transaction.
    pub async fn add_usage(&self, environment: &str, rows: &[UsageRow]) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        for UsageRow { flag, minute, outcome, evaluations } in rows {
            tx.execute(ADD, params![environment, flag, *minute, outcome, *evaluations]).await?;
        }
        tx.commit().await
    }

    /// A flag's counts since a moment, oldest first.
    pub async fn list_usage(
        &self,
        environment: &str,
        flag: &str,
        since: Millis,
    ) -> Result<Vec<UsageRow>, StoreError> {
        let rows = self.db.all(OF_FLAG, params![environment, flag, since]).await?;
        rows.iter()
            .map(|row| {
                Ok(UsageRow {
                    flag: row.text("flag")?,
                    minute: row.int("minute")?,
                    outcome: row.text("outcome")?,
                    evaluations: row.unsigned("evaluations")?,
                })
            })
            .collect()
    }

    /// For each flag: its last minute with an evaluation, and how many there were since a moment.
    pub async fn latest_usage(
        &self,
        environment: &str,
        since: Millis,
    ) -> Result<Vec<(String, Millis, u64)>, StoreError> {
        let rows = self.db.all(LATEST, params![environment, since]).await?;
        rows.iter()
            .map(|row| Ok((row.text("flag")?, row.int("minute")?, row.unsigned("evaluations")?)))
            .collect()
    }

    /// Forgets counts older than a moment.
    pub async fn forget_usage(&self, before: Millis) -> Result<u64, StoreError> {
        self.db.execute(FORGET, params![before]).await
    }
}
