//! When people were last in an environment of the console.

use switchback_core::model::Millis;

use crate::Store;
use crate::db::{params, sql};
use crate::error::StoreError;

sql! {
    NOTE = "INSERT INTO visits (user_id, environment, seen_at) VALUES ($1, $2, $3) \
            ON CONFLICT (user_id, environment) DO UPDATE SET \
            previous_at = CASE WHEN excluded.seen_at - visits.seen_at > $4 THEN visits.seen_at \
                               ELSE visits.previous_at END, \
            seen_at = CASE WHEN excluded.seen_at > visits.seen_at THEN excluded.seen_at ELSE visits.seen_at END";
    PREVIOUS = "SELECT previous_at FROM visits WHERE user_id = $1 AND environment = $2";
}

impl Store {
    /// Notes that a person is there. A silence of more than `pause_ms` milliseconds ends a visit: what was the last sign of
    /// them then is when they were there before.
    pub async fn note_visit(
        &self,
        user_id: &str,
        environment: &str,
        now: Millis,
        pause_ms: i64,
    ) -> Result<(), StoreError> {
        self.db.execute(NOTE, params![user_id, environment, now, pause_ms]).await.map(drop)
    }

    /// When the visit before the present one ended; `None` during the first.
    pub async fn previous_visit(
        &self,
        user_id: &str,
        environment: &str,
    ) -> Result<Option<Millis>, StoreError> {
        let row = self.db.one(PREVIOUS, params![user_id, environment]).await?;
        row.map_or(Ok(None), |row| row.opt_int("previous_at"))
    }
}
