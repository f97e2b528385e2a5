//! How long the steps of earlier runs took, from the log.

use std::collections::BTreeMap;

use crate::Store;
use crate::db::{params, sql};
use crate::error::StoreError;

sql! {
    RUNS = "SELECT id, plan, created_at, finished_at FROM playbook_runs WHERE playbook = $1 AND environment = $2 \
            AND state = 'succeeded' AND finished_at IS NOT NULL AND (CAST($3 AS TEXT) IS NULL OR id < $3) \
            ORDER BY id DESC LIMIT $4";
    STEPS = "SELECT run_id, step_id, MIN(at) AS first_at, MAX(at) AS last_at FROM rollback_log \
             WHERE run_id IN (SELECT id FROM playbook_runs WHERE playbook = $1 AND environment = $2 \
             AND state = 'succeeded' AND finished_at IS NOT NULL AND (CAST($3 AS TEXT) IS NULL OR id < $3) \
             ORDER BY id DESC LIMIT $4) AND step_id NOT LIKE 'preserve.%' \
             AND phase IN ('waiting', 'approved', 'intent', 'done', 'failed', 'unknown', 'verified', 'unverified') \
             GROUP BY run_id, step_id HAVING MAX(CASE WHEN phase = 'done' THEN 1 ELSE 0 END) = 1";
}

/// What one run's steps took.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTimes {
    /// Its frozen plan, as JSON.
    pub plan: String,
    /// From its start to its end, in milliseconds.
    pub took_ms: i64,
    /// Each step that was done, with its time from first row to last, in milliseconds; waits are in it.
    pub steps: BTreeMap<String, i64>,
}

impl Store {
    /// The newest runs that succeeded, before a run if one is given.
    pub async fn list_step_times(
        &self,
        playbook: &str,
        environment: &str,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<StepTimes>, StoreError> {
        let before = before.map(str::to_owned);
        let runs = self.db.all(RUNS, params![playbook, environment, &before, limit]).await?;
        let rows = self.db.all(STEPS, params![playbook, environment, &before, limit]).await?;
        let mut steps: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        for row in &rows {
            let took_ms = row.int("last_at")? - row.int("first_at")?;
            steps.entry(row.text("run_id")?).or_default().insert(row.text("step_id")?, took_ms);
        }
        runs.iter()
            .map(|row| {
                Ok(StepTimes {
                    plan: row.text("plan")?,
                    took_ms: row.opt_int("finished_at")?.unwrap_or_default()
                        - row.int("created_at")?,
                    steps: steps.remove(&row.text("id")?).unwrap_or_default(),
                })
            })
            .collect()
    }
}
