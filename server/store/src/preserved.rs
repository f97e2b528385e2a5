//! Keys of the app's tables as they were before a run: what its preserve rules are compared with.

use switchback_core::model::Millis;

use crate::Store;
use crate::db::{params, sql};
use crate::error::StoreError;
use crate::runs::{Lease, fence};

sql! {
    CLEAR = "DELETE FROM preserved WHERE run_id = $1 AND rule = $2";
    PUT = "INSERT INTO preserved (run_id, rule, chunk, body) VALUES ($1, $2, $3, $4)";
    GET = "SELECT body FROM preserved WHERE run_id = $1 AND rule = $2 AND chunk = $3";
    SWEEP = "DELETE FROM preserved WHERE run_id IN (SELECT id FROM playbook_runs WHERE finished_at < $1)";
}

impl Store {
    /// Keeps a rule's keys, in place of those kept before, if the lease is still ours.
    pub async fn put_preserved(
        &self,
        lease: &Lease,
        rule: &str,
        chunks: &[String],
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        fence(&mut tx, lease).await?;
        tx.execute(CLEAR, params![&lease.run_id, rule]).await?;
        for (number, chunk) in chunks.iter().enumerate() {
            tx.execute(PUT, params![&lease.run_id, rule, number as u64, chunk]).await?;
        }
        tx.commit().await
    }

    /// One chunk of a rule's keys, from 0 on; `None` after the last.
    pub async fn get_preserved(
        &self,
        run: &str,
        rule: &str,
        chunk: u64,
    ) -> Result<Option<String>, StoreError> {
        let row = self.db.one(GET, params![run, rule, chunk]).await?;
        row.map(|row| row.text("body")).transpose()
    }

    /// Forgets the keys of runs that ended before a moment.
    pub async fn sweep_preserved(&self, ended_before: Millis) -> Result<u64, StoreError> {
        self.db.execute(SWEEP, params![ended_before]).await
    }
}
