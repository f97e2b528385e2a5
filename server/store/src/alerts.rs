//! Alert rules that were written here, how each stands, the alerts that came of them, and silences.
//!
//! What a look changes (states, alerts and what is told of them) is one transaction, and every row names the version that
//! it was made from: of two nodes that looked at the same moment one only is heard.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params, sql};
use crate::error::{StoreError, not_found};
use crate::outbox::{NewMessage, send_in};
use crate::versions::{TemplateVersion, Versions, read_version};

sql! {
    NEWEST = "SELECT r.* FROM alert_rules r JOIN (SELECT name, MAX(version) AS newest FROM alert_rules GROUP BY name) n \
              ON n.name = r.name AND n.newest = r.version ORDER BY r.name";
    LAST = "SELECT MAX(version) AS version FROM alert_rules WHERE name = $1";
    INSERT_RULE = "INSERT INTO alert_rules (name, version, source, created_at, created_by) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name, version) DO NOTHING";
    STATES = "SELECT * FROM alert_states ORDER BY rule, environment";
    NEW_STATE = "INSERT INTO alert_states (rule, environment, state, version, at) VALUES ($1, $2, $3, 1, $4) \
                 ON CONFLICT (rule, environment) DO NOTHING";
    SAVE_STATE = "UPDATE alert_states SET state = $4, at = $5, version = version + 1 \
                  WHERE rule = $1 AND environment = $2 AND version = $3";
    NEW = "INSERT INTO alerts (id, mark, source, rule, environment, title, severity, labels, words, fired_at, resolved_at, \
           told_steps, was_told, quiet_why, acked_by, acked_until, version) \
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL, $11, $12, $13, NULL, NULL, 1) ON CONFLICT (mark) DO NOTHING";
    SAVE = "UPDATE alerts SET words = $3, resolved_at = $4, told_steps = $5, was_told = $6, quiet_why = $7, acked_by = $8, \
            acked_until = $9, version = version + 1 WHERE id = $1 AND version = $2";
    OUTSIDE_OVER = "UPDATE alerts SET resolved_at = $2, version = version + 1 WHERE mark = $1 AND resolved_at IS NULL";
    GET = "SELECT * FROM alerts WHERE id = $1";
    OPEN = "SELECT * FROM alerts WHERE resolved_at IS NULL AND (CAST($1 AS TEXT) IS NULL OR environment = $1) \
            ORDER BY fired_at DESC, id DESC LIMIT 1000";
    HISTORY = "SELECT * FROM alerts WHERE environment = $1 AND (CAST($2 AS BIGINT) IS NULL OR fired_at < $2) \
               ORDER BY fired_at DESC, id DESC LIMIT $3";
    FORGET = "DELETE FROM alerts WHERE resolved_at < $1";
    NEW_SILENCE = "INSERT INTO alert_silences (id, rule, environment, labels, starts_at, ends_at, created_by, comment) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    SILENCES = "SELECT * FROM alert_silences WHERE ends_at > $1 ORDER BY ends_at, id";
    END_SILENCE = "UPDATE alert_silences SET ends_at = $2 WHERE id = $1 AND ends_at > $2";
    FORGET_SILENCES = "DELETE FROM alert_silences WHERE ends_at < $1";
}

const OWN: Versions =
    Versions { last: LAST, insert: INSERT_RULE, kind: "alert rule", removed: "reset" };

/// How a rule stands in an environment.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertStateRow {
    /// The rule.
    pub rule: String,
    /// The environment.
    pub environment: String,
    /// What is remembered.
    pub state: Value,
    /// Goes up with each save; 0: never saved.
    pub version: u64,
    /// When it was saved, in UTC milliseconds.
    pub at: Millis,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct AlertRow {
    /// Its id.
    pub id: String,
    /// `switchback`, or `alertmanager` when it came from outside.
    pub source: String,
    /// The rule, or the alert's name outside.
    pub rule: String,
    /// The environment; empty when an alert from outside names none.
    pub environment: String,
    /// One line.
    pub title: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// What happened, in a sentence.
    pub words: String,
    /// When it fired, in UTC milliseconds.
    pub fired_at: Millis,
    /// When it was over.
    pub resolved_at: Option<Millis>,
    /// Steps of its escalation that were told.
    pub told_steps: u64,
    /// Whether anybody was told.
    pub was_told: bool,
    /// Why nobody is told.
    pub quiet_why: Option<String>,
    /// Who takes care of it.
    pub acked_by: Option<String>,
    /// Until when.
    pub acked_until: Option<Millis>,
    /// Goes up with each save; 0: not yet kept.
    pub version: u64,
}

/// An alert as a monitor outside reports it.
#[derive(Clone, Debug)]
pub struct OutsideAlert {
    /// The same for the same alert.
    pub mark: String,
    /// The alert, when it is new.
    pub row: AlertRow,
    /// Whether it goes on.
    pub is_firing: bool,
}

/// Makes some alerts quiet. What is not named matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// The rule.
    pub rule: Option<String>,
    /// The environment.
    pub environment: Option<String>,
    /// Labels that must be there, each with this value.
    pub labels: BTreeMap<String, String>,
    /// From when, in UTC milliseconds.
    pub starts_at: Millis,
    /// Until when.
    pub ends_at: Millis,
    /// Whose it is.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// What one look changes.
#[derive(Clone, Debug, Default)]
pub struct AlertBatch {
    /// States, with the versions that they were made from.
    pub states: Vec<AlertStateRow>,
    /// Alerts, with the versions that they were made from.
    pub alerts: Vec<AlertRow>,
    /// What is told.
    pub messages: Vec<NewMessage>,
    /// When.
    pub at: Millis,
}

impl Store {
    /// The newest version of each rule that was written here.
    pub async fn list_alert_rules(&self) -> Result<Vec<TemplateVersion>, StoreError> {
        self.db.all(NEWEST, vec![]).await?.iter().map(read_version).collect()
    }

    /// Keeps a new version of a rule; without a text the shipped one counts again. `expected`: the version that it was made
    /// from, 0 when there was none.
    ///
    /// # Errors
    /// Somebody else saved a version meanwhile.
    pub async fn put_alert_rule(
        &self,
        name: &str,
        expected: u64,
        source: Option<&str>,
        by: &Stamp,
    ) -> Result<u64, StoreError> {
        OWN.put(self, name, expected, source, by).await
    }

    /// How every rule stands.
    pub async fn list_alert_states(&self) -> Result<Vec<AlertStateRow>, StoreError> {
        let rows = self.db.all(STATES, vec![]).await?;
        rows.iter()
            .map(|row| {
                Ok(AlertStateRow {
                    rule: row.text("rule")?,
                    environment: row.text("environment")?,
                    state: row.json("state")?,
                    version: row.unsigned("version")?,
                    at: row.int("at")?,
                })
            })
            .collect()
    }

    /// Keeps what a look changed, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when somebody else saved one of them since.
    pub async fn save_alerts(&self, batch: &AlertBatch) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        for state in &batch.states {
            let AlertStateRow { rule, environment, state, version, at } = state;
            let text = json(state)?;
            let saved = if *version == 0 {
                tx.execute(NEW_STATE, params![rule, environment, text, *at]).await?
            } else {
                tx.execute(SAVE_STATE, params![rule, environment, *version, text, *at]).await?
            };
            if saved == 0 {
                return Err(StoreError::Stale { current: version + 1 });
            }
        }
        for alert in &batch.alerts {
            save(&mut tx, alert).await?;
        }
        for message in &batch.messages {
            send_in(&mut tx, message, batch.at).await?;
        }
        tx.commit().await
    }

    /// Keeps alerts from outside. One that came before changes nothing, but for its end.
    pub async fn note_outside_alerts(
        &self,
        alerts: &[OutsideAlert],
        at: Millis,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        for OutsideAlert { mark, row, is_firing } in alerts {
            insert(&mut tx, Some(mark), row).await?;
            if !is_firing {
                tx.execute(OUTSIDE_OVER, params![mark, at]).await?;
            }
        }
        tx.commit().await
    }

    /// An alert.
    pub async fn get_alert(&self, id: &str) -> Result<AlertRow, StoreError> {
        let row = self.db.one(GET, params![id]).await?;
        read(&row.ok_or_else(|| not_found("alert", id))?)
    }

    /// Alerts that are not over, the newest first, 1,000 at most; of every environment when none is named.
    pub async fn list_open_alerts(
        &self,
        environment: Option<&str>,
    ) -> Result<Vec<AlertRow>, StoreError> {
        self.db.all(OPEN, params![environment]).await?.iter().map(read).collect()
    }

    /// Alerts of an environment, the newest first; those that fired before a moment.
    pub async fn list_alerts(
        &self,
        environment: &str,
        before: Option<Millis>,
        limit: i64,
    ) -> Result<Vec<AlertRow>, StoreError> {
        self.db.all(HISTORY, params![environment, before, limit]).await?.iter().map(read).collect()
    }

    /// Saves what a person did to an alert, with its record.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when somebody else saved it since.
    pub async fn change_alert(
        &self,
        alert: &AlertRow,
        action: &str,
        message: Option<&NewMessage>,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        save(&mut tx, alert).await?;
        if let Some(message) = message {
            send_in(&mut tx, message, by.at).await?;
        }
        let entry = Entry {
            environment: Some(alert.environment.as_str()).filter(|key| !key.is_empty()),
            revision: None,
            kind: "alert",
            subject: &alert.id,
            action,
            before: None,
            after: Some(json(alert)?),
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// Forgets alerts and silences that were over before a moment.
    pub async fn forget_alerts(&self, before: Millis) -> Result<(), StoreError> {
        self.db.execute(FORGET, params![before]).await?;
        self.db.execute(FORGET_SILENCES, params![before]).await.map(drop)
    }

    /// Silences that are not over at a moment.
    pub async fn list_silences(&self, now: Millis) -> Result<Vec<Silence>, StoreError> {
        let rows = self.db.all(SILENCES, params![now]).await?;
        rows.iter()
            .map(|row| {
                Ok(Silence {
                    id: row.text("id")?,
                    rule: row.opt_text("rule")?,
                    environment: row.opt_text("environment")?,
                    labels: row.json("labels")?,
                    starts_at: row.int("starts_at")?,
                    ends_at: row.int("ends_at")?,
                    created_by: row.text("created_by")?,
                    comment: row.text("comment")?,
                })
            })
            .collect()
    }

    /// Makes a silence.
    pub async fn create_silence(&self, silence: &Silence, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let Silence { id, rule, environment, labels, starts_at, ends_at, created_by, comment } =
            silence;
        let labels = json(labels)?;
        let params =
            params![id, rule, environment, labels, *starts_at, *ends_at, created_by, comment];
        tx.execute(NEW_SILENCE, params).await?;
        log_silence(&mut tx, id, "create", Some(json(silence)?), by).await?;
        tx.commit().await
    }

    /// Ends a silence now.
    pub async fn end_silence(&self, id: &str, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if tx.execute(END_SILENCE, params![id, by.at]).await? == 0 {
            return Err(not_found("silence", id));
        }
        log_silence(&mut tx, id, "end", None, by).await?;
        tx.commit().await
    }
}

async fn save(tx: &mut Tx, alert: &AlertRow) -> Result<(), StoreError> {
    let saved = if alert.version == 0 {
        insert(tx, None, alert).await?
    } else {
        let params = params![
            &alert.id,
            alert.version,
            &alert.words,
            alert.resolved_at,
            alert.told_steps,
            alert.was_told,
            &alert.quiet_why,
            &alert.acked_by,
            alert.acked_until,
        ];
        tx.execute(SAVE, params).await?
    };
    if saved == 0 {
        return Err(StoreError::Stale { current: alert.version + 1 });
    }
    Ok(())
}

async fn insert(tx: &mut Tx, mark: Option<&str>, alert: &AlertRow) -> Result<u64, StoreError> {
    let AlertRow { id, source, rule, environment, title, severity, labels, words, .. } = alert;
    let params = params![
        id,
        mark,
        source,
        rule,
        environment,
        title,
        severity,
        json(labels)?,
        words,
        alert.fired_at,
        alert.told_steps,
        alert.was_told,
        &alert.quiet_why,
    ];
    tx.execute(NEW, params).await
}

async fn log_silence(
    tx: &mut Tx,
    id: &str,
    action: &str,
    after: Option<String>,
    by: &Stamp,
) -> Result<(), StoreError> {
    let entry = Entry {
        environment: None,
        revision: None,
        kind: "silence",
        subject: id,
        action,
        before: None,
        after,
    };
    tx.log(by, 0, entry).await
}

fn read(row: &Row) -> Result<AlertRow, StoreError> {
    Ok(AlertRow {
        id: row.text("id")?,
        source: row.text("source")?,
        rule: row.text("rule")?,
        environment: row.text("environment")?,
        title: row.text("title")?,
        severity: row.text("severity")?,
        labels: row.json("labels")?,
        words: row.text("words")?,
        fired_at: row.int("fired_at")?,
        resolved_at: row.opt_int("resolved_at")?,
        told_steps: row.unsigned("told_steps")?,
        was_told: row.bool("was_told")?,
        quiet_why: row.opt_text("quiet_why")?,
        acked_by: row.opt_text("acked_by")?,
        acked_until: row.opt_int("acked_until")?,
        version: row.unsigned("version")?,
    })
}
