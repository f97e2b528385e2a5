//! Messages and the outbox: what is said, once, and a row for each recipient that it goes to.
//!
//! Both are written in the transaction that caused them. A sender leases rows, sends, and notes how it went; one that
//! dies lets its lease run out, and the row is sent again under the same id.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params, sql, word};
use crate::error::{StoreError, not_found};

sql! {
    INSERT = "INSERT INTO messages (id, topic, body, incident_id, run_id, dedupe_key, at) \
              VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (dedupe_key) DO NOTHING";
    // The same, when somebody listens; nothing otherwise.
    INSERT_IF_WANTED = "INSERT INTO messages (id, topic, body, incident_id, run_id, dedupe_key, at) \
              SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), \
              CAST($6 AS TEXT), CAST($7 AS BIGINT) WHERE EXISTS (SELECT 1 FROM channel_topics WHERE topic = $2) \
              ON CONFLICT (dedupe_key) DO NOTHING";
    TOUCHES = "INSERT INTO message_components (message_id, component) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    TO_CHANNELS = "INSERT INTO outbox (id, message_id, channel, state, attempts, next_at, leased_until, created_at) \
                   SELECT CAST($1 AS TEXT) || '.' || c.key, $1, c.key, 'waiting', 0, CAST($2 AS BIGINT), 0, \
                   CAST($2 AS BIGINT) FROM channels c JOIN channel_topics t ON t.channel = c.key \
                   WHERE t.topic = $3 AND c.disabled_why IS NULL \
                   AND (CAST($4 AS TEXT) = '' OR $4 LIKE '%,' || c.kind || ',%' OR $4 LIKE '%,' || c.key || ',%')";
    TO_CHANNEL = "INSERT INTO outbox (id, message_id, channel, state, attempts, next_at, leased_until, created_at) \
                  VALUES (CAST($1 AS TEXT) || '.' || $2, $1, $2, 'waiting', 0, $3, 0, $3)";
    TO_SUBSCRIBER = "INSERT INTO outbox (id, message_id, channel, subscriber_id, state, attempts, next_at, \
                     leased_until, created_at) \
                     VALUES (CAST($1 AS TEXT) || '.' || $2, $1, 'subscribers', $2, 'waiting', 0, $3, 0, $3)";
    TO_SUBSCRIBERS = "INSERT INTO outbox (id, message_id, channel, subscriber_id, state, attempts, next_at, \
                      leased_until, created_at) \
                      SELECT CAST($1 AS TEXT) || '.' || s.id, $1, 'subscribers', s.id, 'waiting', 0, \
                      CAST($2 AS BIGINT), 0, CAST($2 AS BIGINT) FROM subscribers s WHERE s.state = 'active' \
                      AND ((s.incident_id = $3 AND NOT EXISTS (SELECT 1 FROM subscribers p WHERE p.mode = s.mode \
                      AND p.address = s.address AND COALESCE(p.incident_id, '') = '' AND p.state = 'active' \
                      AND (p.is_global OR EXISTS (SELECT 1 FROM subscriber_components c JOIN message_components m \
                      ON m.component = c.component WHERE c.subscriber_id = p.id AND m.message_id = $1)))) \
                      OR (s.incident_id IS NULL AND (s.is_global \
                      OR EXISTS (SELECT 1 FROM subscriber_components c JOIN message_components m \
                      ON m.component = c.component WHERE c.subscriber_id = s.id AND m.message_id = $1))))";
    CLAIM = "UPDATE outbox SET leased_until = $2, attempts = attempts + 1 WHERE id IN (SELECT id FROM outbox \
             WHERE state = 'waiting' AND next_at <= $1 AND leased_until <= $1 ORDER BY next_at, id LIMIT $3) \
             AND state = 'waiting' AND leased_until <= $1 RETURNING *";
    RELEASE = "UPDATE outbox SET leased_until = 0 WHERE state = 'waiting' AND leased_until > 0";
    NEXT = "SELECT MIN(CASE WHEN leased_until > next_at THEN leased_until ELSE next_at END) AS at FROM outbox \
            WHERE state = 'waiting'";
    SENT = "UPDATE outbox SET state = 'sent', sent_at = $2, error = $3 WHERE id = $1";
    LATER = "UPDATE outbox SET next_at = $2, error = $3, leased_until = 0 WHERE id = $1 AND state = 'waiting'";
    POSTPONE = "UPDATE outbox SET next_at = $2, leased_until = 0, attempts = attempts - 1 \
                WHERE id = $1 AND state = 'waiting'";
    DEAD = "UPDATE outbox SET state = 'dead', error = $2, leased_until = 0 WHERE id = $1 AND state = 'waiting'";
    FORGET = "DELETE FROM outbox WHERE id = $1 AND state = 'waiting'";
    BESIDE_OF_INCIDENT = "SELECT m.id, m.at, o.state, o.error, o.leased_until, o.next_at FROM messages m JOIN outbox o \
                          ON o.id = m.id || '.' || $2 WHERE m.incident_id = $3 AND m.id <> $1";
    BESIDE_OF_RUN = "SELECT m.id, m.at, o.state, o.error, o.leased_until, o.next_at FROM messages m JOIN outbox o \
                     ON o.id = m.id || '.' || $2 WHERE m.run_id = $3 AND m.incident_id IS NULL AND m.id <> $1";
    AGAIN = "UPDATE outbox SET state = 'waiting', next_at = $2, leased_until = 0, attempts = 0 \
             WHERE id = $1 AND state = 'dead'";
    MESSAGE = "SELECT * FROM messages WHERE id = $1";
    BY_KEY = "SELECT * FROM messages WHERE dedupe_key = $1";
    LIST = "SELECT o.*, m.topic, m.body, m.incident_id, m.run_id, m.at, s.address FROM outbox o \
            JOIN messages m ON m.id = o.message_id LEFT JOIN subscribers s ON s.id = o.subscriber_id \
            WHERE (CAST($1 AS TEXT) IS NULL OR o.state = $1) AND (CAST($2 AS TEXT) IS NULL OR m.incident_id = $2) \
            AND (CAST($3 AS TEXT) IS NULL OR m.run_id = $3) AND (CAST($4 AS TEXT) IS NULL OR o.channel = $4) \
            AND (CAST($5 AS TEXT) IS NULL OR o.id < $5) ORDER BY o.id DESC LIMIT $6";
    COUNTS = "SELECT channel, state, COUNT(*) AS n FROM outbox GROUP BY channel, state";
    COUNT_BY_MESSAGE = "SELECT o.channel, o.state, COUNT(*) AS n FROM outbox o JOIN messages m ON m.id = o.message_id \
                        WHERE m.incident_id = $1 OR m.run_id = $2 GROUP BY o.channel, o.state ORDER BY o.channel";
    SWEEP = "DELETE FROM outbox WHERE state <> 'waiting' AND created_at < $1";
    SWEEP_COMPONENTS = "DELETE FROM message_components WHERE message_id IN (SELECT id FROM messages WHERE at < $1 \
                        AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.message_id = messages.id))";
    SWEEP_MESSAGES = "DELETE FROM messages WHERE at < $1 \
                      AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.message_id = messages.id)";
}

/// What is said.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its id; every recipient's copy is known by it.
    pub id: String,
    /// What it is about; channels choose by it.
    pub topic: String,
    /// What is said, or what it is to be made of.
    pub body: Value,
    /// The incident that it is about.
    pub incident_id: Option<String>,
    /// The run that it is about, or that said it.
    pub run_id: Option<String>,
    /// Saying it again under the same key does nothing.
    pub dedupe_key: Option<String>,
    /// Who gets it.
    pub to: Recipients,
}

/// Who gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// Channels that want its topic, of these kinds or keys (all when empty); and subscribers of these components.
    Everyone {
        /// Kinds of channels, or their keys.
        channels: Vec<String>,
        /// Components, when subscribers are told as well.
        subscribers: Option<Vec<String>>,
    },
    /// One channel.
    Channel(String),
    /// One subscriber.
    Subscriber(String),
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRow {
    /// Its id.
    pub id: String,
    /// What it is about.
    pub topic: String,
    /// What is said, or what it is to be made of.
    pub body: Value,
    /// The incident that it is about.
    pub incident_id: Option<String>,
    /// The run that it is about, or that said it.
    pub run_id: Option<String>,
    /// When it was said, in UTC milliseconds.
    pub at: Millis,
}

/// Where a copy of a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It will be sent, perhaps again.
    Waiting,
    /// The other side took it.
    Sent,
    /// It was given up.
    Dead,
}

/// A recipient's copy of a message, leased to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its id, the same at every attempt.
    pub id: String,
    /// The message.
    pub message_id: String,
    /// The channel's key; `subscribers` when it goes to one.
    pub channel: String,
    /// The subscriber.
    pub subscriber_id: Option<String>,
    /// Attempts, with this one.
    pub attempts: u64,
}

/// What else a channel, or a subscriber, is told of the same incident or run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// It was said before.
    pub is_earlier: bool,
    /// Where it stands.
    pub state: DeliveryState,
    /// It failed, and waits before it is tried again.
    pub is_put_off: bool,
    /// When it is tried next, in UTC milliseconds.
    pub next_at: Millis,
}

/// A recipient's copy of a message, as lists show it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct DeliveryRow {
    /// Its id.
    pub id: String,
    /// The message.
    pub message_id: String,
    /// What the message is about.
    pub topic: String,
    /// The channel's key; `subscribers` when it goes to one.
    pub channel: String,
    /// The subscriber's address.
    pub address: Option<String>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u64,
    /// When it is tried next, in UTC milliseconds.
    pub next_at: Millis,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was taken, in UTC milliseconds.
    pub sent_at: Option<Millis>,
    /// When it was said, in UTC milliseconds.
    pub at: Millis,
    /// The incident that it is about.
    pub incident_id: Option<String>,
    /// The run that it is about, or that said it.
    pub run_id: Option<String>,
    /// What is said, or what it is made of.
    #[serde(skip)]
    pub body: Value,
}

/// Which copies to list; `None` does not narrow.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Where they stand.
    pub state: Option<DeliveryState>,
    /// One incident.
    pub incident: Option<String>,
    /// One run.
    pub run: Option<String>,
    /// One channel.
    pub channel: Option<String>,
    /// The cursor of the page before.
    pub before: Option<String>,
}

/// How many copies of a channel stand where.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct DeliveryCount {
    /// The channel's key; `subscribers` for all of them.
    pub channel: String,
    /// Where they stand.
    pub state: DeliveryState,
    /// How many.
    pub count: u64,
}

/// How an attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The other side took it; some of several recipients may have refused it, and why.
    Sent(Option<String>),
    /// Not now; when it is tried again, and why.
    Later(Millis, String),
    /// Nothing was tried; when it will be.
    Postponed(Millis),
    /// It will never be taken; why.
    Dead(String),
    /// There is nothing to say to this recipient after all.
    Moot,
}

/// Keeps a message and a copy for each of its recipients, in the transaction that causes it. False when it was said before.
pub(crate) async fn send_in(
    tx: &mut Tx,
    message: &NewMessage,
    at: Millis,
) -> Result<bool, StoreError> {
    let NewMessage { id, topic, body, incident_id, run_id, dedupe_key, to } = message;
    let params = params![id, topic, json(body)?, incident_id, run_id, dedupe_key, at];
    if tx.execute(INSERT, params).await? == 0 {
        return Ok(false);
    }
    match to {
        Recipients::Everyone { channels, subscribers } => {
            tx.execute(TO_CHANNELS, params![id, at, topic, listed(channels)]).await?;
            if let Some(components) = subscribers {
                for component in components {
                    tx.execute(TOUCHES, params![id, component]).await?;
                }
                tx.execute(TO_SUBSCRIBERS, params![id, at, incident_id]).await?;
            }
        }
        Recipients::Channel(key) => {
            tx.execute(TO_CHANNEL, params![id, key, at]).await?;
        }
        Recipients::Subscriber(subscriber) => {
            tx.execute(TO_SUBSCRIBER, params![id, subscriber, at]).await?;
        }
    }
    Ok(true)
}

/// Tells the channels that want a topic of something that happened; without any, it costs one statement.
pub(crate) async fn tell_in(
    tx: &mut Tx,
    topic: &str,
    id: &str,
    body: &Value,
    run_id: Option<&str>,
    at: Millis,
) -> Result<(), StoreError> {
    let none = None::<String>;
    let params = params![id, topic, json(body)?, &none, run_id, &none, at];
    if tx.execute(INSERT_IF_WANTED, params).await? == 1 {
        tx.execute(TO_CHANNELS, params![id, at, topic, ""]).await?;
    }
    Ok(())
}

/// `,a,b,`: what a statement can search for `,a,`.
fn listed(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!(",{},", words.join(",")) }
}

fn read_message(row: &Row) -> Result<MessageRow, StoreError> {
    Ok(MessageRow {
        id: row.text("id")?,
        topic: row.text("topic")?,
        body: row.json("body")?,
        incident_id: row.opt_text("incident_id")?,
        run_id: row.opt_text("run_id")?,
        at: row.int("at")?,
    })
}

fn read_count(row: &Row) -> Result<DeliveryCount, StoreError> {
    Ok(DeliveryCount {
        channel: row.text("channel")?,
        state: row.word("state")?,
        count: row.unsigned("n")?,
    })
}

impl Store {
    /// Keeps a message that nothing else causes, such as a test. False when it was said before.
    pub async fn send_message(&self, message: &NewMessage, by: &Stamp) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let is_new = send_in(&mut tx, message, by.at).await?;
        if is_new {
            let entry = Entry {
                environment: None,
                revision: None,
                kind: "message",
                subject: &message.id,
                action: "send",
                before: None,
                after: Some(json(&message.body)?),
            };
            tx.log(by, 0, entry).await?;
        }
        tx.commit().await?;
        Ok(is_new)
    }

    /// Leases copies that are due, oldest first, until a moment. Two senders never hold the same one.
    pub async fn claim_deliveries(
        &self,
        now: Millis,
        until: Millis,
        limit: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut tx = self.db.begin().await?;
        let rows = tx.all(CLAIM, params![now, until, limit]).await?;
        tx.commit().await?;
        let read = |row: &Row| {
            Ok(Delivery {
                id: row.text("id")?,
                message_id: row.text("message_id")?,
                channel: row.text("channel")?,
                subscriber_id: row.opt_text("subscriber_id")?,
                attempts: row.unsigned("attempts")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// What else a channel, or a subscriber, is told of the incident, or of the run, that a message is about.
    pub async fn list_beside(
        &self,
        message: &MessageRow,
        recipient: &str,
        now: Millis,
    ) -> Result<Vec<Neighbour>, StoreError> {
        let MessageRow { id, at, incident_id, run_id, .. } = message;
        let (statement, thread) = match (incident_id, run_id) {
            (Some(incident), _) => (BESIDE_OF_INCIDENT, incident),
            (None, Some(run)) => (BESIDE_OF_RUN, run),
            (None, None) => return Ok(Vec::new()),
        };
        let rows = self.db.all(statement, params![id, recipient, thread]).await?;
        let read = |row: &Row| {
            Ok(Neighbour {
                is_earlier: (row.int("at")?, &row.text("id")?) < (*at, id),
                state: row.word("state")?,
                is_put_off: row.opt_text("error")?.is_some() && row.int("leased_until")? <= now,
                next_at: row.int("next_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Takes every lease back: whoever held them is dead.
    pub async fn release_deliveries(&self) -> Result<(), StoreError> {
        self.db.execute(RELEASE, vec![]).await.map(drop)
    }

    /// When the next copy is due, in UTC milliseconds.
    pub async fn next_delivery_at(&self) -> Result<Option<Millis>, StoreError> {
        let row = self.db.one(NEXT, vec![]).await?;
        Ok(row.map(|row| row.opt_int("at")).transpose()?.flatten())
    }

    /// Notes how an attempt went.
    pub async fn note_delivery(
        &self,
        id: &str,
        attempt: &Attempt,
        now: Millis,
    ) -> Result<(), StoreError> {
        match attempt {
            Attempt::Sent(but) => self.db.execute(SENT, params![id, now, but]).await,
            Attempt::Later(at, why) => self.db.execute(LATER, params![id, *at, why]).await,
            Attempt::Postponed(at) => self.db.execute(POSTPONE, params![id, *at]).await,
            Attempt::Dead(why) => self.db.execute(DEAD, params![id, why]).await,
            Attempt::Moot => self.db.execute(FORGET, params![id]).await,
        }
        .map(drop)
    }

    /// Sends a copy again that was given up.
    pub async fn resend_delivery(&self, id: &str, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if tx.execute(AGAIN, params![id, by.at]).await? == 0 {
            return Err(not_found("message that was given up", id));
        }
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "message",
            subject: id,
            action: "resend",
            before: None,
            after: None,
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// One message.
    pub async fn get_message(&self, id: &str) -> Result<MessageRow, StoreError> {
        let row = self.db.one(MESSAGE, params![id]).await?;
        read_message(&row.ok_or_else(|| not_found("message", id))?)
    }

    /// The message that was said under a key.
    pub async fn find_message_by_key(&self, key: &str) -> Result<Option<MessageRow>, StoreError> {
        self.db.one(BY_KEY, params![key]).await?.as_ref().map(read_message).transpose()
    }

    /// Copies of messages, newest first.
    pub async fn list_deliveries(
        &self,
        filter: &DeliveryFilter,
        limit: i64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let state = filter.state.as_ref().map(word).transpose()?;
        let DeliveryFilter { incident, run, channel, before, .. } = filter;
        let rows = self.db.all(LIST, params![state, incident, run, channel, before, limit]).await?;
        let read = |row: &Row| {
            Ok(DeliveryRow {
                id: row.text("id")?,
                message_id: row.text("message_id")?,
                topic: row.text("topic")?,
                channel: row.text("channel")?,
                address: row.opt_text("address")?,
                state: row.word("state")?,
                attempts: row.unsigned("attempts")?,
                next_at: row.int("next_at")?,
                error: row.opt_text("error")?,
                sent_at: row.opt_int("sent_at")?,
                at: row.int("at")?,
                incident_id: row.opt_text("incident_id")?,
                run_id: row.opt_text("run_id")?,
                body: row.json("body")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// How many copies stand where, by channel.
    pub async fn count_deliveries(&self) -> Result<Vec<DeliveryCount>, StoreError> {
        self.db.all(COUNTS, vec![]).await?.iter().map(read_count).collect()
    }

    /// The same for what an incident or a run said.
    pub async fn count_deliveries_of(
        &self,
        incident: Option<&str>,
        run: Option<&str>,
    ) -> Result<Vec<DeliveryCount>, StoreError> {
        let rows = self.db.all(COUNT_BY_MESSAGE, params![incident, run]).await?;
        rows.iter().map(read_count).collect()
    }

    /// Forgets what was sent or given up before a moment. Returns how many copies that were.
    pub async fn sweep_outbox(&self, before: Millis) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let swept = tx.execute(SWEEP, params![before]).await?;
        tx.execute(SWEEP_COMPONENTS, params![before]).await?;
        tx.execute(SWEEP_MESSAGES, params![before]).await?;
        tx.commit().await?;
        Ok(swept)
    }
}
