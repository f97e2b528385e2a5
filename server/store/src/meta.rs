//! Facts about the database itself: its epoch, the set-up link, whether seeding is done.

use crate::Store;
use crate::db::{Tx, params, sql};
use crate::error::StoreError;

sql! {
    FIND = "SELECT value FROM meta WHERE key = $1";
    PUT = "INSERT INTO meta (key, value) VALUES ($1, $2) \
           ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    PUT_ONCE = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    DELETE = "DELETE FROM meta WHERE key = $1 AND value = $2";
}

impl Store {
    /// A fact by its name.
    pub async fn find_meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.db.one(FIND, params![key]).await?.map(|row| row.text("value")).transpose()
    }

    /// Writes a fact.
    pub async fn put_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.db.execute(PUT, params![key, value]).await.map(drop)
    }

    /// A fact, which is this value if there was none: all nodes agree on the first.
    pub async fn meta_or_put(&self, key: &str, value: &str) -> Result<String, StoreError> {
        self.db.execute(PUT_ONCE, params![key, value]).await?;
        Ok(self.find_meta(key).await?.unwrap_or_else(|| value.to_owned()))
    }

    /// Deletes a fact if it still has this value; true when this call did it, so that a one-time
    /// secret is spent once.
    pub async fn take_meta(&self, key: &str, value: &str) -> Result<bool, StoreError> {
        Ok(self.db.execute(DELETE, params![key, value]).await? == 1)
    }
}

pub(crate) async fn put_in(tx: &mut Tx, key: &str, value: &str) -> Result<(), StoreError> {
    tx.execute(PUT, params![key, value]).await.map(drop)
}
