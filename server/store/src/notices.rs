//! Messages to the users of the apps, sent down the same stream as flags.

use switchback_core::model::Millis;
use switchback_core::wire::Notice;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Tx, json, params, sql};
use crate::error::StoreError;

sql! {
    INSERT = "INSERT INTO notices (id, environment, body, at, expires_at) VALUES ($1, $2, $3, $4, $5) \
              ON CONFLICT (id) DO NOTHING";
    LIST = "SELECT body FROM notices WHERE environment = $1 AND (expires_at IS NULL OR expires_at > $2) \
            AND at >= $3 ORDER BY at DESC, id DESC LIMIT $4";
}

/// Keeps a notice and tells the nodes. The same id again does nothing. `n` tells rows of one transaction apart.
pub(crate) async fn send_in(
    tx: &mut Tx,
    environment: &str,
    notice: &Notice,
    by: &Stamp,
    n: usize,
) -> Result<bool, StoreError> {
    let body = json(notice)?;
    let params = params![&notice.id, environment, &body, notice.at, notice.expires_at];
    let sent = tx.execute(INSERT, params).await? == 1;
    if sent {
        let entry = Entry {
            environment: Some(environment),
            revision: None,
            kind: "notice",
            subject: &notice.id,
            action: "send",
            before: None,
            after: Some(body),
        };
        tx.log(by, n, entry).await?;
        tx.announce(&format!("notice:{environment}")).await?;
    }
    Ok(sent)
}

impl Store {
    /// Keeps a notice and tells the nodes. The same id again does nothing.
    pub async fn send_notice(
        &self,
        environment: &str,
        notice: &Notice,
        by: &Stamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let sent = send_in(&mut tx, environment, notice, by, 0).await?;
        tx.commit().await?;
        Ok(sent)
    }

    /// Notices of an environment that still matter, newest first.
    pub async fn list_notices(
        &self,
        environment: &str,
        now: Millis,
        since: Millis,
        limit: i64,
    ) -> Result<Vec<Notice>, StoreError> {
        let rows = self.db.all(LIST, params![environment, now, since, limit]).await?;
        rows.iter().map(|row| row.json("body")).collect()
    }
}
