//! News of other nodes, over PostgreSQL's `NOTIFY`. It says *that* something moved; the rows say what.

use sqlx::postgres::PgListener;

use crate::Store;
use crate::db::Db;
use crate::error::StoreError;

/// A connection that hears what other nodes announce.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Store {
    /// Starts to listen; `None` on SQLite, where there is nobody else.
    pub async fn listen(&self) -> Result<Option<Listener>, StoreError> {
        let Db::Postgres(pool) = &self.db else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen("switchback").await?;
        Ok(Some(Listener(listener)))
    }
}

impl Listener {
    /// The next announcement; `None` after a gap, when something may have been missed. After an error
    /// take a new listener.
    pub async fn next(&mut self) -> Result<Option<String>, StoreError> {
        let heard = self.0.try_recv().await?; // `recv` would hide the gap
        Ok(heard.map(|notification| notification.payload().to_owned()))
    }
}
