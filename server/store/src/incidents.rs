//! Incidents and their updates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::Millis;
use switchback_core::wire::Notice;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::components::{self, ComponentMoves, ComponentStatus};
use crate::db::{Row, Tx, json, params, sql, word};
use crate::error::{StoreError, not_found};
use crate::incident_moves;
use crate::notices;
use crate::outbox::{NewMessage, send_in};
use crate::subscribers;

sql! {
    INSERT = "INSERT INTO incidents (id, name, status, impact, components, template, run_id, dedupe_key, \
              created_at, created_by, updated_at, resolved_at, audience, started_at, scheduled_for, scheduled_until, \
              auto_begin, auto_complete, metadata, monitoring_at) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $9, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
              ON CONFLICT (dedupe_key) DO NOTHING";
    BY_DEDUPE = "SELECT * FROM incidents WHERE dedupe_key = $1";
    FREE_KEY = "UPDATE incidents SET dedupe_key = NULL WHERE dedupe_key = $1 AND resolved_at IS NOT NULL";
    FREE_UPDATE_KEY = "UPDATE incident_updates SET dedupe_key = NULL WHERE dedupe_key = $1 AND incident_id IN \
                       (SELECT id FROM incidents WHERE resolved_at IS NOT NULL)";
    FIND = "SELECT * FROM incidents WHERE id = $1";
    LIST = "SELECT * FROM incidents WHERE (NOT $1 OR resolved_at IS NULL) AND withdrawn_at IS NULL \
            AND (CAST($2 AS TEXT) IS NULL OR id < $2) AND (CAST($3 AS TEXT) IS NULL OR audience = $3) \
            ORDER BY id DESC LIMIT $4";
    OPEN_FROM = "SELECT * FROM incidents WHERE template = $1 AND resolved_at IS NULL AND withdrawn_at IS NULL \
                 ORDER BY id DESC LIMIT 1";
    BY_RUN = "SELECT * FROM incidents WHERE run_id = $1 ORDER BY id DESC";
    PLANNED = "SELECT * FROM incidents WHERE resolved_at IS NULL AND withdrawn_at IS NULL \
               AND scheduled_for IS NOT NULL AND ((auto_begin AND status = 'scheduled' AND scheduled_for <= $1) \
               OR (auto_complete AND status IN ('in_progress', 'verifying') AND scheduled_until <= $1)) ORDER BY id";
    SET_STATUS = "UPDATE incidents SET status = $2, updated_at = $3, resolved_at = $4, components = $5, impact = $6, \
                  name = $7, monitoring_at = CASE WHEN $2 = 'monitoring' THEN COALESCE(monitoring_at, $3) \
                  ELSE monitoring_at END WHERE id = $1";
    SET_DETAILS = "UPDATE incidents SET name = $2, impact = $3, scheduled_for = $4, scheduled_until = $5, \
                   auto_begin = $6, auto_complete = $7, metadata = $8, handled_by = $9, postmortem = $10, \
                   postmortem_at = $11, withdrawn_at = $12, audience = $13, updated_at = $14 WHERE id = $1";
    INSERT_UPDATE = "INSERT INTO incident_updates (id, incident_id, status, body, dedupe_key, created_at, created_by, \
                     moved, is_announced, support) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                     ON CONFLICT (dedupe_key) DO NOTHING";
    EDIT_UPDATE = "UPDATE incident_updates SET body = $3, created_at = $4 WHERE id = $1 AND incident_id = $2";
    UPDATE_BY_KEY = "SELECT id FROM incident_updates WHERE dedupe_key = $1";
    UPDATES = "SELECT * FROM incident_updates WHERE incident_id = $1 ORDER BY created_at DESC, id DESC";
    UPDATES_SINCE = "SELECT * FROM incident_updates WHERE created_at >= $1 ORDER BY id DESC";
}

/// Who is told of an incident.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The status page shows it, and subscribers are told.
    #[default]
    Public,
    /// Only the console and the team's channels.
    Team,
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

    /// Whether it is a word of planned work.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Scheduled | Self::InProgress | Self::Verifying | Self::Completed)
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
    /// Who is told.
    pub audience: Audience,
    /// Who takes care of it.
    pub handled_by: Option<String>,
    /// When it began, if that was not when it was opened.
    pub started_at: Option<Millis>,
    /// When it was put right and began to be watched.
    pub monitoring_at: Option<Millis>,
    /// When planned work begins; absent: it is not planned.
    pub scheduled_for: Option<Millis>,
    /// When planned work ends.
    pub scheduled_until: Option<Millis>,
    /// Planned work begins by itself at its time.
    pub auto_begin: bool,
    /// Planned work is over by itself at its time.
    pub auto_complete: bool,
    /// What other programs keep with it: objects by name.
    pub metadata: BTreeMap<String, Value>,
    /// What was learned, as text.
    pub postmortem: Option<String>,
    /// When that was published; absent: it is a draft.
    pub postmortem_at: Option<Millis>,
    /// When it was taken off every list.
    pub withdrawn_at: Option<Millis>,
    /// What was said, newest first.
    pub updates: Vec<IncidentUpdate>,
}

impl Incident {
    /// When it began, in UTC milliseconds.
    pub fn began_at(&self) -> Millis {
        self.scheduled_for.or(self.started_at).unwrap_or(self.created_at)
    }
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
    /// What became of components: before and after.
    pub moved: ComponentMoves,
    /// Whether channels and subscribers were told.
    pub is_announced: bool,
    /// What support answers to whoever asks.
    pub support: Option<String>,
}

/// What is sent along with an incident or an update, in the same transaction.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    /// To channels and subscribers.
    pub message: Option<NewMessage>,
    /// Inside the apps, by environment.
    pub notices: Vec<(String, Notice)>,
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
    /// What support answers to whoever asks.
    pub support: Option<String>,
    /// Opening it again under the same key gives the first one.
    pub dedupe_key: Option<String>,
    /// Who is told.
    pub audience: Audience,
    /// When it began, if that was before now.
    pub started_at: Option<Millis>,
    /// When it was over, for one that is written down afterwards.
    pub resolved_at: Option<Millis>,
    /// When planned work begins and ends.
    pub scheduled: Option<(Millis, Millis)>,
    /// Planned work begins by itself.
    pub auto_begin: bool,
    /// Planned work is over by itself.
    pub auto_complete: bool,
    /// What other programs keep with it.
    pub metadata: BTreeMap<String, Value>,
    /// Its components are moved as well: not for one that is written down afterwards, or planned for later.
    pub moves_components: bool,
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
    /// A new name for the incident.
    pub name: Option<String>,
    /// Another impact.
    pub impact: Option<Impact>,
    /// What support answers to whoever asks.
    pub support: Option<String>,
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
        audience: row.word("audience")?,
        handled_by: row.opt_text("handled_by")?,
        started_at: row.opt_int("started_at")?,
        monitoring_at: row.opt_int("monitoring_at")?,
        scheduled_for: row.opt_int("scheduled_for")?,
        scheduled_until: row.opt_int("scheduled_until")?,
        auto_begin: row.bool("auto_begin")?,
        auto_complete: row.bool("auto_complete")?,
        metadata: row.json("metadata")?,
        postmortem: row.opt_text("postmortem")?,
        postmortem_at: row.opt_int("postmortem_at")?,
        withdrawn_at: row.opt_int("withdrawn_at")?,
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
        moved: row.json("moved")?,
        is_announced: row.bool("is_announced")?,
        support: row.opt_text("support")?,
    })
}

async fn with_updates(tx: &mut Tx, row: &Row) -> Result<Incident, StoreError> {
    let mut incident = read_incident(row)?;
    let rows = tx.all(UPDATES, params![&incident.id]).await?;
    incident.updates = rows.iter().map(read_update).collect::<Result<_, _>>()?;
    Ok(incident)
}

async fn tell(tx: &mut Tx, telling: &Telling, by: &Stamp) -> Result<(), StoreError> {
    if let Some(message) = &telling.message {
        send_in(tx, message, by.at).await?;
    }
    for (n, (environment, notice)) in telling.notices.iter().enumerate() {
        notices::send_in(tx, environment, notice, by, n + 1).await?;
    }
    Ok(())
}

fn entry<'a>(
    id: &'a str,
    action: &'a str,
    before: Option<&Incident>,
    after: &Incident,
) -> Result<Entry<'a>, StoreError> {
    Ok(Entry {
        environment: None,
        revision: None,
        kind: "incident",
        subject: id,
        action,
        before: before.map(json).transpose()?,
        after: Some(json(after)?),
    })
}

impl Store {
    /// Opens an incident, with its first update, its components moved and everybody told, in one transaction.
    pub async fn open_incident(
        &self,
        new: &NewIncident,
        telling: &Telling,
        by: &Stamp,
    ) -> Result<Incident, StoreError> {
        let mut tx = self.db.begin().await?;
        let said_at = new.started_at.unwrap_or(by.at);
        let monitoring = new.status == IncidentStatus::Monitoring;
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
            new.resolved_at.or_else(|| new.status.is_over().then_some(by.at)),
            word(&new.audience)?,
            new.started_at,
            new.scheduled.map(|(from, _)| from),
            new.scheduled.map(|(_, until)| until),
            new.auto_begin,
            new.auto_complete,
            json(&new.metadata)?,
            monitoring.then_some(by.at),
        ];
        if tx.execute(INSERT, params).await? == 0 {
            let row = tx.one(BY_DEDUPE, params![&new.dedupe_key]).await?;
            let row = row.ok_or_else(|| not_found("incident", &new.id))?;
            return with_updates(&mut tx, &row).await;
        }
        let moved = if new.moves_components {
            components::move_in(&mut tx, &new.components, by.at).await?
        } else {
            components::must_exist(&mut tx, new.components.keys()).await?;
            ComponentMoves::new()
        };
        let update = params![
            format!("{}.0", new.id),
            &new.id,
            word(&new.status)?,
            &new.body,
            new.dedupe_key.as_ref().map(|key| format!("{key}.0")),
            said_at,
            &by.actor,
            json(&moved)?,
            telling.message.is_some(),
            &new.support,
        ];
        tx.execute(INSERT_UPDATE, update).await?;
        tell(&mut tx, telling, by).await?;
        let row = tx.one(FIND, params![&new.id]).await?;
        let row = row.ok_or_else(|| not_found("incident", &new.id))?;
        let incident = with_updates(&mut tx, &row).await?;
        tx.log(by, 0, entry(&new.id, "open", None, &incident)?).await?;
        tx.announce("status").await?;
        tx.commit().await?;
        Ok(incident)
    }

    /// Posts an update, which moves the components that it names; a resolved incident gives back those that it held.
    pub async fn update_incident(
        &self,
        id: &str,
        update: &NewUpdate,
        telling: &Telling,
        by: &Stamp,
    ) -> Result<Incident, StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND, params![id]).await?.ok_or_else(|| not_found("incident", id))?;
        let before = read_incident(&row)?;
        if let Some(key) = &update.dedupe_key
            && tx.one(UPDATE_BY_KEY, params![key]).await?.is_some()
        {
            return with_updates(&mut tx, &row).await;
        }
        let mut components = before.components.clone();
        components.extend(update.components.iter().map(|(key, status)| (key.clone(), *status)));
        let over = update.status.is_over();
        let resolved_at = over.then(|| before.resolved_at.unwrap_or(by.at));
        let name = update.name.as_ref().unwrap_or(&before.name);
        let status = word(&update.status)?;
        let impact = word(&update.impact.unwrap_or(before.impact))?;
        let params = params![id, &status, by.at, resolved_at, json(&components)?, impact, name];
        tx.execute(SET_STATUS, params).await?;
        let mut others = Vec::new();
        if over {
            for row in tx.all(LIST, params![true, None::<String>, None::<String>, 200_i64]).await? {
                let other = read_incident(&row)?;
                if other.status != IncidentStatus::Scheduled {
                    others.push(other.components);
                }
            }
        }
        let said = &update.components;
        let now = incident_moves::moves(before.status, update.status, said, components, &others);
        let moved = components::move_in(&mut tx, &now, by.at).await?;
        let (said, key) = (&update.body, &update.dedupe_key);
        let (moved, told) = (json(&moved)?, telling.message.is_some());
        let (by_whom, support) = (&by.actor, &update.support);
        let params =
            params![&update.id, id, &status, said, key, by.at, by_whom, moved, told, support];
        tx.execute(INSERT_UPDATE, params).await?;
        tell(&mut tx, telling, by).await?;
        if over {
            subscribers::end_in(&mut tx, id).await?; // after the last word was addressed to them
        }
        let row = tx.one(FIND, params![id]).await?.ok_or_else(|| not_found("incident", id))?;
        let incident = with_updates(&mut tx, &row).await?;
        let action = if over { "resolve" } else { "update" };
        tx.log(by, 0, entry(id, action, Some(&before), &incident)?).await?;
        tx.announce("status").await?;
        tx.commit().await?;
        Ok(incident)
    }

    /// Changes what is kept of an incident beside its updates: names, times, who takes care, what was learned.
    pub async fn edit_incident(
        &self,
        id: &str,
        action: &str,
        edit: impl FnOnce(&mut Incident),
        by: &Stamp,
    ) -> Result<Incident, StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND, params![id]).await?.ok_or_else(|| not_found("incident", id))?;
        let before = with_updates(&mut tx, &row).await?;
        let mut after = before.clone();
        edit(&mut after);
        let params = params![
            id,
            &after.name,
            word(&after.impact)?,
            after.scheduled_for,
            after.scheduled_until,
            after.auto_begin,
            after.auto_complete,
            json(&after.metadata)?,
            &after.handled_by,
            &after.postmortem,
            after.postmortem_at,
            after.withdrawn_at,
            word(&after.audience)?,
            by.at,
        ];
        tx.execute(SET_DETAILS, params).await?;
        after.updated_at = by.at;
        tx.log(by, 0, entry(id, action, Some(&before), &after)?).await?;
        tx.announce("status").await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Corrects the text or the time of an update that was posted.
    pub async fn edit_update(
        &self,
        incident: &str,
        update: &str,
        body: &str,
        at: Millis,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND, params![incident]).await?;
        let before =
            with_updates(&mut tx, &row.ok_or_else(|| not_found("incident", incident))?).await?;
        if tx.execute(EDIT_UPDATE, params![update, incident, body, at]).await? == 0 {
            return Err(not_found("update", update));
        }
        let row = tx.one(FIND, params![incident]).await?;
        let after =
            with_updates(&mut tx, &row.ok_or_else(|| not_found("incident", incident))?).await?;
        tx.log(by, 0, entry(incident, "edit update", Some(&before), &after)?).await?;
        tx.announce("status").await?;
        tx.commit().await
    }

    /// Planned work whose beginning or end has come and that moves by itself.
    pub async fn list_planned(&self, now: Millis) -> Result<Vec<Incident>, StoreError> {
        self.db.all(PLANNED, params![now]).await?.iter().map(read_incident).collect()
    }

    /// Incidents with their updates, newest first. `before` is the cursor of the page before.
    pub async fn list_incidents(
        &self,
        only_open: bool,
        audience: Option<Audience>,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Incident>, StoreError> {
        let audience = audience.as_ref().map(word).transpose()?;
        let mut tx = self.db.snapshot().await?;
        let rows = tx.all(LIST, params![only_open, before, audience, limit]).await?;
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

    /// Lets a key open another incident, when the one that it opened is over.
    pub async fn free_incident_key(&self, key: &str) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        tx.execute(FREE_UPDATE_KEY, params![format!("{key}.0")]).await?;
        tx.execute(FREE_KEY, params![key]).await?;
        tx.commit().await
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
