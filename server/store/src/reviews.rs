//! Uses of break-glass: what one person let through alone, and who looked at it afterwards.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params, sql};
use crate::error::{StoreError, not_found};
use crate::rollback_log::{LogEntry, NewEntry};
use crate::runs::say_in;

sql! {
    INSERT = "INSERT INTO reviews (id, environment, run_id, step_id, actor, reason, at, comment) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, '')";
    FIND = "SELECT * FROM reviews WHERE id = $1";
    LIST = "SELECT * FROM reviews WHERE (CAST($1 AS TEXT) IS NULL OR environment = $1) \
            AND (NOT $2 OR reviewed_at IS NULL) ORDER BY id DESC LIMIT $3";
    CLOSE = "UPDATE reviews SET reviewed_by = $2, reviewed_at = $3, comment = $4 \
             WHERE id = $1 AND reviewed_at IS NULL";
}

/// A use of break-glass.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Review {
    /// Its id.
    pub id: String,
    /// Where.
    pub environment: String,
    /// The run.
    pub run_id: String,
    /// The step that was let through; empty: the start of the run.
    pub step_id: String,
    /// Who did it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Millis,
    /// Who looked at it; nobody yet when absent.
    pub reviewed_by: Option<String>,
    /// When they did.
    pub reviewed_at: Option<Millis>,
    /// What they say about it.
    pub comment: String,
}

impl Review {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            environment: row.text("environment")?,
            run_id: row.text("run_id")?,
            step_id: row.text("step_id")?,
            actor: row.text("actor")?,
            reason: row.text("reason")?,
            at: row.int("at")?,
            reviewed_by: row.opt_text("reviewed_by")?,
            reviewed_at: row.opt_int("reviewed_at")?,
            comment: row.text("comment")?,
        })
    }
}

/// Notes a use of break-glass, with its row in the log of changes.
pub(crate) async fn insert_in(tx: &mut Tx, new: &Review, by: &Stamp) -> Result<(), StoreError> {
    let Review { id, environment, run_id, step_id, actor, reason, at, .. } = new;
    let params = params![id, environment, run_id, step_id, actor, reason, *at];
    tx.execute(INSERT, params).await?;
    let entry = entry(new, "break glass", None, Some(json(new)?));
    tx.log(by, 0, entry).await
}

fn entry<'a>(
    review: &'a Review,
    action: &'a str,
    before: Option<String>,
    after: Option<String>,
) -> Entry<'a> {
    let environment = Some(review.environment.as_str());
    let (kind, subject) = ("run", review.run_id.as_str());
    Entry { environment, revision: None, kind, subject, action, before, after }
}

impl Store {
    /// Lets a step of a run go on, and keeps that somebody else is to look at it, all at once.
    pub async fn break_glass(
        &self,
        said: NewEntry,
        review: &Review,
        by: &Stamp,
    ) -> Result<LogEntry, StoreError> {
        let mut tx = self.db.begin().await?;
        let entry = say_in(&mut tx, said).await?;
        insert_in(&mut tx, review, by).await?;
        tx.commit().await?;
        Ok(entry)
    }

    /// Uses of break-glass, newest first; all environments when none is named.
    pub async fn list_reviews(
        &self,
        environment: Option<&str>,
        only_open: bool,
        limit: i64,
    ) -> Result<Vec<Review>, StoreError> {
        let rows = self.db.all(LIST, params![environment, only_open, limit]).await?;
        rows.iter().map(Review::read).collect()
    }

    /// One use of break-glass.
    pub async fn get_review(&self, id: &str) -> Result<Review, StoreError> {
        let row = self.db.one(FIND, params![id]).await?;
        Review::read(&row.ok_or_else(|| not_found("review", id))?)
    }

    /// Notes that somebody has looked at it; refused when somebody had before.
    pub async fn close_review(
        &self,
        id: &str,
        comment: &str,
        by: &Stamp,
    ) -> Result<Review, StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND, params![id]).await?;
        let before = Review::read(&row.ok_or_else(|| not_found("review", id))?)?;
        if tx.execute(CLOSE, params![id, by.actor.as_str(), by.at, comment]).await? == 0 {
            let message = "somebody has reviewed this already";
            return Err(StoreError::Refused(message.to_owned()));
        }
        let after = Review {
            reviewed_by: Some(by.actor.clone()),
            reviewed_at: Some(by.at),
            comment: comment.to_owned(),
            ..before.clone()
        };
        let logged = entry(&before, "review", Some(json(&before)?), Some(json(&after)?));
        tx.log(by, 0, logged).await?;
        tx.commit().await?;
        Ok(after)
    }
}
