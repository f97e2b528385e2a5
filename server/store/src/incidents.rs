//! Incidents and their updates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::components::{self, ComponentStatus};
use crate::db::{Row, Tx, json, params, sql, word};
use crate::error::{StoreError, not_found};

sql! {
    INSERT = "INSERT INTO incidents (id, name, status, impact, components, template, run_id, dedupe_key, \
              created_at, created_by, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $9) \
              ON CONFLICT (dedupe_key) DO NOTHING";
    BY_DEDUPE = "SELECT * FROM incidents WHERE dedupe_key = $1";
    FIND = "SELECT * FROM incidents WHERE id = $1";
    LIST = "SELECT * FROM incidents WHERE (NOT $1 OR resolved_at IS NULL) \
            AND (CAST($2 AS TEXT) IS NULL OR id < $2) ORDER BY id DESC LIMIT $3";
    OPEN_FROM = "SELECT * FROM incidents WHERE template = $1 AND resolved_at IS NULL ORDER BY id DESC LIMIT 1";
    BY_RUN = "SELECT * FROM incidents WHERE run_id = $1 ORDER BY id DESC";
    SET_STATUS = "UPDATE incidents SET status = $2, updated_at = $3, resolved_at = $4, components = $5, \
                  impact = $6 WHERE id = $1";
    INSERT_UPDATE = "INSERT INTO incident_updates (id, incident_id, status, body, dedupe_key, created_at, created_by) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (dedupe_key) DO NOTHING";
    UPDATES = "SELECT * FROM incident_updates WHERE incident_id = $1 ORDER BY id DESC";
    UPDATES_SINCE = "SELECT * FROM incident_updates WHERE created_at >= $1 ORDER BY id DESC";
}

/// How an incident goes, as Statuspage names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentStatus {
    /// Nobody knows why yet.
    Investigating,
    /// The cause is known.
    Identified,
    /// It is put right and watched.
    Monitoring,
    /// It is over.
    Resolved,
    /// Maintenance that is announced.
    Scheduled,
    /// Maintenance that has begun.
    InProgress,
    /// Maintenance whose result is being looked at.
    Verifying,
    /// Maintenance that is over.
    Completed,
}

impl IncidentStatus {
    /// Whether nothing more is to come.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Resolved | Self::Completed)
    }
}

/// How bad an incident is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Nobody notices.
    None,
    /// Announced work.
    Maintenance,
    /// Some notice.
    Minor,
    /// Many cannot work.
    Major,
    /// Nobody can.
    Critical,
}

/// An incident with all its updates, newest first.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Incident {
    /// Its id.
    pub id: String,
    /// One line.
    pub name: String,
    /// How it goes.
    pub status: IncidentStatus,
    /// How bad it is.
    pub impact: Impact,
    /// Which components it touches, and how.
    pub components: BTreeMap<String, ComponentStatus>,
    /// The template that it was written from.
    pub template: Option<String>,
    /// The run that opened it.
    pub run_id: Option<String>,
    /// When it was opened.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
    /// Its last update.
    pub updated_at: Millis,
    /// When it was over.
    pub resolved_at: Option<Millis>,
    /// What was said, newest first.
    pub updates: Vec<IncidentUpdate>,
}

/// One thing said about an incident.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct IncidentUpdate {
    /// Its id.
    pub id: String,
    /// How the incident went then.
    pub status: IncidentStatus,
    /// The text.
    pub body: String,
    /// When.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
}

/// An incident to open.
#[derive(Clone, Debug)]
pub struct NewIncident {
    /// Its id.
    pub id: String,
    /// One line.
    pub name: String,
    /// How it goes.
    pub status: IncidentStatus,
    /// How bad it is.
    pub impact: Impact,
    /// Which components it touches, and how.
    pub components: BTreeMap<String, ComponentStatus>,
    /// The first update.
    pub body: String,
    /// The template that it was written from.
    pub template: Option<String>,
    /// The run that opens it.
    pub run_id: Option<String>,
    /// Opening it again under the same key gives the first one.
    pub dedupe_key: Option<String>,
}

/// An update to post.
#[derive(Clone, Debug)]
pub struct NewUpdate {
    /// Its id.
    pub id: String,
    /// How the incident goes now; resolving gives its components back as operational.
    pub status: IncidentStatus,
    /// The text.
    pub body: String,
    /// Components whose state changes with it.
    pub components: BTreeMap<String, ComponentStatus>,
    /// Posting it again under the same key does nothing.
    pub dedupe_key: Option<String>,
}

fn read_incident(row: &Row) -> Result<Incident, StoreError> {
    Ok(Incident {
        id: row.text("id")?,
        name: row.text("name")?,
        status: row.word("status")?,
        impact: row.word("impact")?,
        components: row.json("components")?,
        template: row.opt_text("template")?,
        run_id: row.opt_text("run_id")?,
        created_at: row.int("created_at")?,
        created_by: row.text("created_by")?,
        updated_at: row.int("updated_at")?,
        resolved_at: row.opt_int("resolved_at")?,
        updates: Vec::new(),
    })
}

fn read_update(row: &Row) -> Result<IncidentUpdate, StoreError> {
    Ok(IncidentUpdate {
        id: row.text("id")?,
        status: row.word("status")?,
        body: row.text("body")?,
        created_at: row.int("created_at")?,
        created_by: row.text("created_by")?,
    })
}

async fn with_updates(tx: &mut Tx, row: &Row) -> Result<Incident, StoreError> {
    let mut incident = read_incident(row)?;
    let rows = tx.all(UPDATES, params![&incident.id]).await?;
    incident.updates = rows.iter().map(read_update).collect::<Result<_, _>>()?;
    Ok(incident)
}

impl Store {
    /// Opens an incident, with its first update and its components moved, in one transaction.
    pub async fn open_incident(
        &self,
        new: &NewIncident,
        by: &Stamp,
    ) -> Result<Incident, StoreError> {
        let mut tx = self.db.begin().await?;
        let params = params![
            &new.id,
            &new.name,
            word(&new.status)?,
            word(&new.impact)?,
            json(&new.components)?,
            &new.template,
            &new.run_id,
            &new.dedupe_key,
            by.at,
            &by.actor,
        ];
        if tx.execute(INSERT, params).await? == 0 {
            let row = tx.one(BY_DEDUPE, params![&new.dedupe_key]).await?;
            let row = row.ok_or_else(|| not_found("incident", &new.id))?;
            return with_updates(&mut tx, &row).await;
        }
        let update = params![
            format!("{}.0", new.id),
            &new.id,
            word(&new.status)?,
            &new.body,
            new.dedupe_key.as_ref().map(|key| format!("{key}.0")),
            by.at,
            &by.actor,
        ];
        tx.execute(INSERT_UPDATE, update).await?;
        components::move_in(&mut tx, &new.components, by.at).await?;
        let row = tx.one(FIND, params![&new.id]).await?;
        let row = row.ok_or_else(|| not_found("incident", &new.id))?;
        let incident = with_updates(&mut tx, &row).await?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "incident",
            subject: &new.id,
            action: "open",
            before: None,
            after: Some(json(&incident)?),
        };
        tx.log(by, 0, entry).await?;
        tx.announce("status").await?;
        tx.commit().await?;
        Ok(incident)
    }

    /// Posts an update; a resolved incident gives its components back, unless another open incident
    /// still holds them.
    pub async fn update_incident(
        &self,
        id: &str,
        update: &NewUpdate,
        by: &Stamp,
    ) -> Result<Incident, StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND, params![id]).await?.ok_or_else(|| not_found("incident", id))?;
        let before = read_incident(&row)?;
        let status = word(&update.status)?;
        let params =
            params![&update.id, id, &status, &update.body, &update.dedupe_key, by.at, &by.actor,];
        if tx.execute(INSERT_UPDATE, params).await? == 0 {
            return with_updates(&mut tx, &row).await;
        }
        let mut components = before.components.clone();
        components.extend(update.components.iter().map(|(key, status)| (key.clone(), *status)));
        let resolved = update.status.is_over();
        let resolved_at = resolved.then_some(by.at);
        let params =
            params![id, &status, by.at, resolved_at, json(&components)?, word(&before.impact)?,];
        tx.execute(SET_STATUS, params).await?;
        let mut now = components;
        if resolved {
            for status in now.values_mut() {
                *status = ComponentStatus::Operational;
            }
            for row in tx.all(LIST, params![true, None::<String>, 200_i64]).await? {
                for (key, status) in read_incident(&row)?.components {
                    if let Some(mine) = now.get_mut(&key) {
                        *mine = status.max(*mine);
                    }
                }
            }
        }
        components::move_in(&mut tx, &now, by.at).await?;
        let row = tx.one(FIND, params![id]).await?.ok_or_else(|| not_found("incident", id))?;
        let incident = with_updates(&mut tx, &row).await?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "incident",
            subject: id,
            action: if resolved { "resolve" } else { "update" },
            before: Some(json(&before)?),
            after: Some(json(&incident)?),
        };
        tx.log(by, 0, entry).await?;
        tx.announce("status").await?;
        tx.commit().await?;
        Ok(incident)
    }

    /// Incidents with their updates, newest first. `before` is the cursor of the page before.
    pub async fn list_incidents(
        &self,
        only_open: bool,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Incident>, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let rows = tx.all(LIST, params![only_open, before, limit]).await?;
        let mut incidents = Vec::with_capacity(rows.len());
        for row in &rows {
            incidents.push(with_updates(&mut tx, row).await?);
        }
        Ok(incidents)
    }

    /// One incident.
    pub async fn get_incident(&self, id: &str) -> Result<Incident, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let row = tx.one(FIND, params![id]).await?.ok_or_else(|| not_found("incident", id))?;
        with_updates(&mut tx, &row).await
    }

    /// The incident that was opened under a key.
    pub async fn find_incident_by_key(&self, key: &str) -> Result<Option<Incident>, StoreError> {
        self.db.one(BY_DEDUPE, params![key]).await?.as_ref().map(read_incident).transpose()
    }

    /// The newest open incident that came from a template.
    pub async fn find_open_incident(&self, template: &str) -> Result<Option<Incident>, StoreError> {
        self.db.one(OPEN_FROM, params![template]).await?.as_ref().map(read_incident).transpose()
    }

    /// Incidents that a run opened.
    pub async fn list_incidents_of_run(&self, run: &str) -> Result<Vec<Incident>, StoreError> {
        let rows = self.db.all(BY_RUN, params![run]).await?;
        rows.iter().map(read_incident).collect()
    }

    /// Everything said about incidents since a moment, newest first.
    pub async fn list_incident_updates(
        &self,
        since: Millis,
    ) -> Result<Vec<IncidentUpdate>, StoreError> {
        self.db.all(UPDATES_SINCE, params![since]).await?.iter().map(read_update).collect()
    }
}
