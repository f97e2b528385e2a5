//! Where messages go: chat rooms, pagers, webhooks and mailboxes of the team.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, json, params, sql};
use crate::error::{StoreError, not_found};

sql! {
    LIST = "SELECT * FROM channels ORDER BY key";
    FIND = "SELECT * FROM channels WHERE key = $1";
    PUT = "INSERT INTO channels (key, kind, settings, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) \
           ON CONFLICT (key) DO UPDATE SET kind = excluded.kind, settings = excluded.settings, \
           disabled_why = NULL, updated_at = excluded.updated_at";
    DISABLE = "UPDATE channels SET disabled_why = $2 WHERE key = $1";
    DELETE = "DELETE FROM channels WHERE key = $1";
    FORGET = "DELETE FROM channel_topics WHERE channel = $1";
    WANT = "INSERT INTO channel_topics (channel, topic) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    GIVE_UP = "UPDATE outbox SET state = 'dead', error = 'the channel was removed' \
               WHERE channel = $1 AND state = 'waiting'";
}

/// A channel as it is kept: no secret in it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct ChannelRow {
    /// Its permanent name.
    pub key: String,
    /// What it speaks, such as `slack`.
    pub kind: String,
    /// What the kind needs.
    pub settings: Value,
    /// Why nothing is sent to it, when that is so.
    pub disabled_why: Option<String>,
    /// Since when it is known, in UTC milliseconds.
    pub created_at: Millis,
    /// When it was changed last, in UTC milliseconds.
    pub updated_at: Millis,
}

fn read(row: &Row) -> Result<ChannelRow, StoreError> {
    Ok(ChannelRow {
        key: row.text("key")?,
        kind: row.text("kind")?,
        settings: row.json("settings")?,
        disabled_why: row.opt_text("disabled_why")?,
        created_at: row.int("created_at")?,
        updated_at: row.int("updated_at")?,
    })
}

fn entry<'a>(key: &'a str, action: &'a str, states: [Option<String>; 2]) -> Entry<'a> {
    let [before, after] = states;
    Entry {
        environment: None,
        revision: None,
        kind: "channel",
        subject: key,
        action,
        before,
        after,
    }
}

impl Store {
    /// Every channel, by key.
    pub async fn list_channels(&self) -> Result<Vec<ChannelRow>, StoreError> {
        self.db.all(LIST, vec![]).await?.iter().map(read).collect()
    }

    /// One channel.
    pub async fn find_channel(&self, key: &str) -> Result<Option<ChannelRow>, StoreError> {
        self.db.one(FIND, params![key]).await?.as_ref().map(read).transpose()
    }

    /// Makes a channel, or replaces its settings; one that was switched off for a fault is on again.
    pub async fn put_channel(
        &self,
        key: &str,
        kind: &str,
        settings: &Value,
        topics: &[String],
        by: &Stamp,
    ) -> Result<ChannelRow, StoreError> {
        let mut tx = self.db.begin().await?;
        let before = tx.one(FIND, params![key]).await?.as_ref().map(read).transpose()?;
        tx.execute(PUT, params![key, kind, json(settings)?, by.at]).await?;
        tx.execute(FORGET, params![key]).await?;
        for topic in topics {
            tx.execute(WANT, params![key, topic]).await?;
        }
        let row = tx.one(FIND, params![key]).await?.ok_or_else(|| not_found("channel", key))?;
        let after = read(&row)?;
        let states = [before.as_ref().map(json).transpose()?, Some(json(&after)?)];
        tx.log(by, 0, entry(key, "put", states)).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Switches a channel off, and says why; what waits for it is given up when its turn comes, and can be sent again.
    pub async fn disable_channel(
        &self,
        key: &str,
        why: &str,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if tx.execute(DISABLE, params![key, why]).await? == 0 {
            return Err(not_found("channel", key));
        }
        tx.log(by, 0, entry(key, "disable", [None, Some(json(&why)?)])).await?;
        tx.commit().await
    }

    /// Removes a channel; what waits for it is given up.
    pub async fn delete_channel(&self, key: &str, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND, params![key]).await?.ok_or_else(|| not_found("channel", key))?;
        let before = read(&row)?;
        tx.execute(FORGET, params![key]).await?;
        tx.execute(GIVE_UP, params![key]).await?;
        tx.execute(DELETE, params![key]).await?;
        tx.log(by, 0, entry(key, "delete", [Some(json(&before)?), None])).await?;
        tx.commit().await
    }
}
