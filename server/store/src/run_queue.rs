//! Runs that wait for another one with their key to end: whose turn comes, and when its time begins to count.

use switchback_core::model::Millis;

use crate::Store;
use crate::db::{params, sql};
use crate::error::StoreError;
use crate::rollback_log::{NewEntry, append_in};

sql! {
    NEXT = "SELECT q.id, q.environment FROM playbook_runs q WHERE q.queued_for IS NOT NULL AND q.finished_at IS NULL \
            AND NOT EXISTS (SELECT 1 FROM playbook_runs r WHERE r.concurrency_key = q.queued_for AND r.finished_at IS NULL) \
            AND NOT EXISTS (SELECT 1 FROM playbook_runs e WHERE e.queued_for = q.queued_for AND e.finished_at IS NULL AND e.id < q.id) \
            ORDER BY q.id";
    PROMOTE = "UPDATE playbook_runs SET concurrency_key = queued_for, queued_for = NULL, state = 'planned', begins_at = $2, \
               deadline_at = deadline_at + ($2 - created_at), expires_at = expires_at + ($2 - created_at) \
               WHERE id = $1 AND queued_for IS NOT NULL AND finished_at IS NULL";
}

impl Store {
    /// Runs in the queue whose turn has come: the first of each key that nobody holds. Each with its environment.
    pub async fn list_next_runs(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = self.db.all(NEXT, params![]).await?;
        rows.iter().map(|row| Ok((row.text("id")?, row.text("environment")?))).collect()
    }

    /// Lets a run begin, with the row that says so: from now on its time counts. `false` when another was quicker.
    pub async fn promote_run(
        &self,
        id: &str,
        at: Millis,
        row: NewEntry,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let moved = match tx.execute(PROMOTE, params![id, at]).await {
            Err(error) if error.is_duplicate() => return Ok(false),
            moved => moved?,
        };
        if moved == 0 {
            return Ok(false);
        }
        append_in(&mut tx, row, 0).await?;
        tx.commit().await?;
        Ok(true)
    }
}
