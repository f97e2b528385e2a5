//! What the public may see, read in one moment: components in groups, how they were, incidents meant for everybody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::components::{
    Component, ComponentGroup, ComponentMoves, ComponentStatus, component_of, group_of,
};
use crate::db::{Row, params, sql};
use crate::error::StoreError;
use crate::incidents::{Impact, IncidentStatus};

sql! {
    COMPONENTS = "SELECT * FROM components ORDER BY position, key";
    GROUPS = "SELECT * FROM component_groups ORDER BY position, key";
    STATES = "SELECT s.component, s.at, s.status FROM component_states s WHERE s.at >= $1 OR s.at = (SELECT MAX(b.at) \
              FROM component_states b WHERE b.component = s.component AND b.at < $1) ORDER BY s.component, s.at LIMIT $2";
    INCIDENTS = "SELECT * FROM incidents WHERE audience = 'public' AND withdrawn_at IS NULL \
                 ORDER BY CASE WHEN resolved_at IS NULL THEN 0 ELSE 1 END, created_at DESC, id DESC LIMIT $1";
    UPDATES = "SELECT u.* FROM incident_updates u JOIN incidents i ON i.id = u.incident_id \
               WHERE i.audience = 'public' AND i.withdrawn_at IS NULL ORDER BY u.created_at DESC, u.id DESC LIMIT $1";
    NEWEST = "SELECT id FROM change_log ORDER BY id DESC LIMIT 1";
}

/// Incidents that are read at most: all open ones first, then the newest.
const INCIDENTS_MAX: i64 = 500;
/// Their updates, at most.
const UPDATES_MAX: i64 = 10_000;
/// Changes of components, at most.
const STATES_MAX: i64 = 100_000;

/// Everything that the public page is made from, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct PublicBoard {
    /// Components, in their order.
    pub components: Vec<Component>,
    /// Their groups, in their order.
    pub groups: Vec<ComponentGroup>,
    /// Since when each component was how, oldest first: what was asked for, and the one before.
    pub states: BTreeMap<String, Vec<(Millis, ComponentStatus)>>,
    /// Incidents that everybody may see: open ones first, then the newest.
    pub incidents: Vec<PublicIncident>,
}

/// An incident as everybody may see it: without who wrote it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PublicIncident {
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
    /// When it was told, in UTC milliseconds.
    pub created_at: Millis,
    /// Its last change, in UTC milliseconds.
    pub updated_at: Millis,
    /// When it began, where that is another time, in UTC milliseconds.
    pub started_at: Option<Millis>,
    /// Since when its end is watched, in UTC milliseconds.
    pub monitoring_at: Option<Millis>,
    /// When it was over, in UTC milliseconds.
    pub resolved_at: Option<Millis>,
    /// When planned work begins, in UTC milliseconds.
    pub scheduled_for: Option<Millis>,
    /// When planned work ends, in UTC milliseconds.
    pub scheduled_until: Option<Millis>,
    /// What was learned, once that is published, and when it was.
    pub postmortem: Option<(String, Millis)>,
    /// What was said, newest first.
    pub updates: Vec<PublicUpdate>,
}

/// One thing said about an incident.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PublicUpdate {
    /// Its id.
    pub id: String,
    /// How the incident went then.
    pub status: IncidentStatus,
    /// The text.
    pub body: String,
    /// When, in UTC milliseconds.
    pub created_at: Millis,
    /// Components that changed with it: before and after.
    pub moved: ComponentMoves,
}

fn read_incident(row: &Row) -> Result<PublicIncident, StoreError> {
    let postmortem = row.opt_text("postmortem")?.zip(row.opt_int("postmortem_at")?);
    Ok(PublicIncident {
        id: row.text("id")?,
        name: row.text("name")?,
        status: row.word("status")?,
        impact: row.word("impact")?,
        components: row.json("components")?,
        created_at: row.int("created_at")?,
        updated_at: row.int("updated_at")?,
        started_at: row.opt_int("started_at")?,
        monitoring_at: row.opt_int("monitoring_at")?,
        resolved_at: row.opt_int("resolved_at")?,
        scheduled_for: row.opt_int("scheduled_for")?,
        scheduled_until: row.opt_int("scheduled_until")?,
        postmortem,
        updates: Vec::new(),
    })
}

fn read_update(row: &Row) -> Result<PublicUpdate, StoreError> {
    Ok(PublicUpdate {
        id: row.text("id")?,
        status: row.word("status")?,
        body: row.text("body")?,
        created_at: row.int("created_at")?,
        moved: row.json("moved").unwrap_or_default(),
    })
}

impl Store {
    /// Everything that the public page is made from; of components' pasts what is younger than `since`.
    pub async fn read_board(&self, since: Millis) -> Result<PublicBoard, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let components = tx.all(COMPONENTS, vec![]).await?;
        let groups = tx.all(GROUPS, vec![]).await?;
        let mut board = PublicBoard {
            components: components.iter().map(component_of).collect::<Result<_, _>>()?,
            groups: groups.iter().map(group_of).collect::<Result<_, _>>()?,
            ..PublicBoard::default()
        };
        for row in tx.all(STATES, params![since, STATES_MAX]).await? {
            let state = (row.int("at")?, row.word("status")?);
            board.states.entry(row.text("component")?).or_default().push(state);
        }
        let rows = tx.all(INCIDENTS, params![INCIDENTS_MAX]).await?;
        board.incidents = rows.iter().map(read_incident).collect::<Result<_, _>>()?;
        let places: BTreeMap<String, usize> =
            board.incidents.iter().enumerate().map(|(at, one)| (one.id.clone(), at)).collect();
        for row in tx.all(UPDATES, params![UPDATES_MAX]).await? {
            let place = places.get(&row.text("incident_id")?);
            if let Some(incident) = place.and_then(|at| board.incidents.get_mut(*at)) {
                incident.updates.push(read_update(&row)?);
            }
        }
        Ok(board)
    }

    /// The id of the newest row of the change log: while it stays, nobody changed anything.
    pub async fn newest_change(&self) -> Result<Option<String>, StoreError> {
        self.db.one(NEWEST, vec![]).await?.map(|row| row.text("id")).transpose()
    }
}
