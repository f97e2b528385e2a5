//! Answers to writes that named a key, so that a repeated request is answered and not done again.

use switchback_core::model::Millis;

use crate::Store;
use crate::db::{params, sql};
use crate::error::StoreError;

sql! {
    FIND = "SELECT fingerprint, status, body FROM idempotency_keys WHERE actor = $1 AND key = $2";
    CLAIM = "INSERT INTO idempotency_keys (actor, key, fingerprint, status, body, created_at) \
             VALUES ($1, $2, $3, 0, '', $4) ON CONFLICT (actor, key) DO NOTHING";
    FINISH = "UPDATE idempotency_keys SET status = $3, body = $4 WHERE actor = $1 AND key = $2";
    RELEASE = "DELETE FROM idempotency_keys WHERE actor = $1 AND key = $2 AND status = 0";
    FORGET = "DELETE FROM idempotency_keys WHERE created_at < $1 AND (actor NOT LIKE 'alert:%' OR created_at < $2)";
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// A hash of the request that used it first.
    pub fingerprint: String,
    /// The answer's status; 0 while the first request is still going on.
    pub status: u16,
    /// The answer's body.
    pub body: String,
}

impl Store {
    /// Takes a key for a request; `None` when it is this request's to use.
    pub async fn claim_key(
        &self,
        actor: &str,
        key: &str,
        fingerprint: &str,
        at: Millis,
    ) -> Result<Option<Remembered>, StoreError> {
        if self.db.execute(CLAIM, params![actor, key, fingerprint, at]).await? == 1 {
            return Ok(None);
        }
        self.find_key(actor, key).await
    }

    /// What is known of a key.
    pub async fn find_key(&self, actor: &str, key: &str) -> Result<Option<Remembered>, StoreError> {
        let row = self.db.one(FIND, params![actor, key]).await?;
        row.map(|row| {
            Ok(Remembered {
                fingerprint: row.text("fingerprint")?,
                status: u16::try_from(row.int("status")?).unwrap_or_default(),
                body: row.text("body")?,
            })
        })
        .transpose()
    }

    /// Keeps the answer.
    pub async fn finish_key(
        &self,
        actor: &str,
        key: &str,
        status: u16,
        body: &str,
    ) -> Result<(), StoreError> {
        self.db.execute(FINISH, params![actor, key, i64::from(status), body]).await.map(drop)
    }

    /// Gives a key back whose request changed nothing.
    pub async fn release_key(&self, actor: &str, key: &str) -> Result<(), StoreError> {
        self.db.execute(RELEASE, params![actor, key]).await.map(drop)
    }

    /// Forgets keys older than a moment, and those of alerts, which are sent again for as long as they fire, older than another.
    pub async fn forget_keys(&self, before: Millis, alerts: Millis) -> Result<u64, StoreError> {
        self.db.execute(FORGET, params![before, alerts]).await
    }
}
