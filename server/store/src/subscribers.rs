//! Who asked for news of incidents, by e-mail or webhook, and confirmed it.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params, sql, word};
use crate::error::{StoreError, not_found};
use crate::outbox::{NewMessage, send_in};

sql! {
    INSERT = "INSERT INTO subscribers (id, mode, address, state, is_global, incident_id, created_at, confirmed_at) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    FIND = "SELECT * FROM subscribers WHERE id = $1";
    BY_ADDRESS = "SELECT * FROM subscribers WHERE mode = $1 AND address = $2 AND COALESCE(incident_id, '') = $3";
    COMPONENTS = "SELECT component FROM subscriber_components WHERE subscriber_id = $1 ORDER BY component";
    LIST = "SELECT * FROM subscribers WHERE (CAST($1 AS TEXT) IS NULL OR state = $1) \
            AND (CAST($2 AS TEXT) IS NULL OR incident_id = $2) AND (CAST($3 AS TEXT) IS NULL OR id < $3) \
            ORDER BY id DESC LIMIT $4";
    COUNT = "SELECT mode, state, COUNT(*) AS n FROM subscribers GROUP BY mode, state ORDER BY mode, state";
    COUNT_REACHED = "SELECT COUNT(*) AS n FROM subscribers s WHERE s.state = 'active' AND s.incident_id IS NULL \
                     AND (s.is_global OR EXISTS (SELECT 1 FROM subscriber_components c WHERE c.subscriber_id = s.id \
                     AND $1 LIKE '%,' || c.component || ',%'))";
    SET_STATE = "UPDATE subscribers SET state = $2, confirmed_at = COALESCE($3, confirmed_at), failures = 0 \
                 WHERE id = $1";
    SET_SCOPE = "UPDATE subscribers SET is_global = $2 WHERE id = $1";
    ASKED = "UPDATE subscribers SET asked_at = $2 WHERE id = $1";
    FAILED = "UPDATE subscribers SET failures = failures + 1, state = CASE WHEN failures + 1 >= $2 \
              AND state <> 'ended' THEN 'quarantined' ELSE state END WHERE id = $1";
    WORKED = "UPDATE subscribers SET failures = 0 WHERE id = $1 AND failures > 0";
    FORGET = "DELETE FROM subscriber_components WHERE subscriber_id = $1";
    WANT = "INSERT INTO subscriber_components (subscriber_id, component) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    SWEEP_WANTS = "DELETE FROM subscriber_components WHERE subscriber_id IN (SELECT id FROM subscribers \
                   WHERE state = 'pending' AND created_at < $1)";
    SWEEP = "DELETE FROM subscribers WHERE state = 'pending' AND created_at < $1";
    END = "UPDATE subscribers SET state = 'ended' WHERE incident_id = $1 AND state <> 'unsubscribed'";
    SWEEP_ENDED = "DELETE FROM subscribers WHERE state = 'ended' \
                   AND incident_id IN (SELECT id FROM incidents WHERE resolved_at < $1)";
}

/// How a subscriber is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriberMode {
    /// By e-mail.
    Email,
    /// By a signed HTTP call.
    Webhook,
}

/// Whether a subscriber gets news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriberState {
    /// Has not confirmed yet.
    Pending,
    /// Gets news.
    Active,
    /// Could not be reached several times in a row, and gets none.
    Quarantined,
    /// Wants none any more.
    Unsubscribed,
    /// Wanted news of one incident, which is over: what was said of it until then is still sent.
    Ended,
}

/// Somebody who asked for news.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Subscriber {
    /// Its id.
    pub id: String,
    /// How it is reached.
    pub mode: SubscriberMode,
    /// The e-mail address, or the URL.
    pub address: String,
    /// Whether it gets news.
    pub state: SubscriberState,
    /// The components that it wants news of; empty: all of them.
    pub components: Vec<String>,
    /// The one incident that it wants news of.
    pub incident_id: Option<String>,
    /// When it asked, in UTC milliseconds.
    pub created_at: Millis,
    /// When it confirmed, in UTC milliseconds.
    pub confirmed_at: Option<Millis>,
    /// When it was asked to confirm last, in UTC milliseconds.
    #[serde(skip)]
    pub asked_at: Option<Millis>,
}

/// How many subscribers of a mode are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct SubscriberCount {
    /// How they are reached.
    pub mode: SubscriberMode,
    /// Whether they get news.
    pub state: SubscriberState,
    /// How many.
    pub count: u64,
}

async fn read(tx: &mut Tx, row: &Row) -> Result<Subscriber, StoreError> {
    let id = row.text("id")?;
    let wants = tx.all(COMPONENTS, params![&id]).await?;
    Ok(Subscriber {
        components: wants.iter().map(|row| row.text("component")).collect::<Result<_, _>>()?,
        id,
        mode: row.word("mode")?,
        address: row.text("address")?,
        state: row.word("state")?,
        incident_id: row.opt_text("incident_id")?,
        created_at: row.int("created_at")?,
        confirmed_at: row.opt_int("confirmed_at")?,
        asked_at: row.opt_int("asked_at")?,
    })
}

async fn want(tx: &mut Tx, id: &str, components: &[String]) -> Result<(), StoreError> {
    tx.execute(FORGET, params![id]).await?;
    for component in components {
        tx.execute(WANT, params![id, component]).await?;
    }
    tx.execute(SET_SCOPE, params![id, components.is_empty()]).await.map(drop)
}

/// Ends the news of one incident, which is over.
pub(crate) async fn end_in(tx: &mut Tx, incident: &str) -> Result<(), StoreError> {
    tx.execute(END, params![incident]).await.map(drop)
}

async fn log(
    tx: &mut Tx,
    by: &Stamp,
    id: &str,
    action: &str,
    after: &impl Serialize,
) -> Result<(), StoreError> {
    let entry = Entry {
        environment: None,
        revision: None,
        kind: "subscriber",
        subject: id,
        action,
        before: None,
        after: Some(json(after)?),
    };
    tx.log(by, 0, entry).await
}

impl Store {
    /// Adds a subscriber with the message that asks to confirm, in one transaction.
    ///
    /// # Errors
    /// The address is known already for this scope.
    pub async fn create_subscriber(
        &self,
        new: &Subscriber,
        asks: Option<&NewMessage>,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let Subscriber { id, mode, address, state, components, incident_id, confirmed_at, .. } =
            new;
        let scope = incident_id.as_deref().unwrap_or_default();
        if tx.one(BY_ADDRESS, params![word(mode)?, address, scope]).await?.is_some() {
            return Err(StoreError::Exists { kind: "subscriber", key: address.clone() });
        }
        let (mode, state, all) = (word(mode)?, word(state)?, components.is_empty());
        let params = params![id, &mode, address, state, all, incident_id, by.at, *confirmed_at];
        tx.execute(INSERT, params).await?;
        want(&mut tx, id, components).await?;
        if let Some(message) = asks {
            send_in(&mut tx, message, by.at).await?;
            tx.execute(ASKED, params![id, by.at]).await?;
        }
        // The address is personal: the log names the subscriber, not the person.
        log(&mut tx, by, id, "subscribe", &(mode, components)).await?;
        tx.commit().await
    }

    /// Asks a subscriber to confirm once more.
    pub async fn ask_subscriber(
        &self,
        id: &str,
        components: &[String],
        asks: &NewMessage,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        want(&mut tx, id, components).await?;
        tx.execute(SET_STATE, params![id, "pending", None::<i64>]).await?;
        tx.execute(ASKED, params![id, by.at]).await?;
        send_in(&mut tx, asks, by.at).await?;
        tx.commit().await
    }

    /// Sets whether a subscriber gets news.
    pub async fn set_subscriber_state(
        &self,
        id: &str,
        state: SubscriberState,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let confirmed = (state == SubscriberState::Active).then_some(by.at);
        if tx.execute(SET_STATE, params![id, word(&state)?, confirmed]).await? == 0 {
            return Err(not_found("subscriber", id));
        }
        log(&mut tx, by, id, "state", &state).await?;
        tx.commit().await
    }

    /// Sets which components a subscriber wants news of; none: all.
    pub async fn set_subscriber_components(
        &self,
        id: &str,
        components: &[String],
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        want(&mut tx, id, components).await?;
        log(&mut tx, by, id, "components", &components).await?;
        tx.commit().await
    }

    /// Notes that a subscriber was reached, or that it refused; so many refusals in a row end its news.
    pub async fn note_subscriber(
        &self,
        id: &str,
        worked: bool,
        failures_max: i64,
    ) -> Result<(), StoreError> {
        if worked {
            return self.db.execute(WORKED, params![id]).await.map(drop);
        }
        self.db.execute(FAILED, params![id, failures_max]).await.map(drop)
    }

    /// One subscriber.
    pub async fn find_subscriber(&self, id: &str) -> Result<Option<Subscriber>, StoreError> {
        let mut tx = self.db.snapshot().await?;
        match tx.one(FIND, params![id]).await? {
            Some(row) => read(&mut tx, &row).await.map(Some),
            None => Ok(None),
        }
    }

    /// The subscriber with an address; for one incident, or for the page.
    pub async fn find_subscriber_at(
        &self,
        mode: SubscriberMode,
        address: &str,
        incident: Option<&str>,
    ) -> Result<Option<Subscriber>, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let params = params![word(&mode)?, address, incident.unwrap_or_default()];
        match tx.one(BY_ADDRESS, params).await? {
            Some(row) => read(&mut tx, &row).await.map(Some),
            None => Ok(None),
        }
    }

    /// Subscribers, newest first.
    pub async fn list_subscribers(
        &self,
        state: Option<SubscriberState>,
        incident: Option<&str>,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Subscriber>, StoreError> {
        let state = state.as_ref().map(word).transpose()?;
        let mut tx = self.db.snapshot().await?;
        let rows = tx.all(LIST, params![state, incident, before, limit]).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push(read(&mut tx, row).await?);
        }
        Ok(found)
    }

    /// How many subscribers there are, by mode and state.
    pub async fn count_subscribers(&self) -> Result<Vec<SubscriberCount>, StoreError> {
        let rows = self.db.all(COUNT, vec![]).await?;
        let read = |row: &Row| {
            Ok(SubscriberCount {
                mode: row.word("mode")?,
                state: row.word("state")?,
                count: row.unsigned("n")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// How many would be told of something that touches these components.
    pub async fn count_reached(&self, components: &[String]) -> Result<u64, StoreError> {
        let listed = format!(",{},", components.join(","));
        let row = self.db.one(COUNT_REACHED, params![listed]).await?;
        row.map_or(Ok(0), |row| row.unsigned("n"))
    }

    /// Forgets who asked before a moment and never confirmed, and who wanted news of an incident that was over before it.
    pub async fn sweep_subscribers(&self, before: Millis) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        tx.execute(SWEEP_WANTS, params![before]).await?;
        tx.execute(SWEEP, params![before]).await?;
        tx.execute(SWEEP_ENDED, params![before]).await?;
        tx.commit().await
    }
}
