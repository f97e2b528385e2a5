//! Components: the parts of the app that people know by name, in groups, and how each was over time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params, sql, word};
use crate::error::{StoreError, not_found};

sql! {
    LIST = "SELECT * FROM components ORDER BY position, key";
    FIND = "SELECT * FROM components WHERE key = $1";
    PUT = "INSERT INTO components (key, name, description, status, position, group_key, only_show_if_degraded, \
           created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (key) DO UPDATE SET \
           name = excluded.name, description = excluded.description, position = excluded.position, \
           group_key = excluded.group_key, only_show_if_degraded = excluded.only_show_if_degraded";
    SET_STATUS = "UPDATE components SET status = $2, updated_at = $3 WHERE key = $1";
    ONCE_BEFORE = "SELECT body FROM idempotency_keys WHERE actor = $1 AND key = $2";
    ONCE_KEEP = "INSERT INTO idempotency_keys (actor, key, fingerprint, status, body, created_at) \
                 VALUES ($1, $2, '', 200, $3, $4)";
    REMOVE = "DELETE FROM components WHERE key = $1";
    PLACE = "UPDATE components SET position = $2 WHERE key = $1 AND position <> $2";
    WATCHED = "SELECT COUNT(*) AS n FROM probes WHERE component = $1";
    FORGET = "DELETE FROM component_states WHERE component = $1";
    LOCK = "UPDATE components SET position = position WHERE key = $1";
    HELD = "SELECT components FROM incidents WHERE resolved_at IS NULL";
    LIST_GROUPS = "SELECT * FROM component_groups ORDER BY position, key";
    FIND_GROUP = "SELECT * FROM component_groups WHERE key = $1";
    PUT_GROUP = "INSERT INTO component_groups (key, name, description, position) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (key) DO UPDATE SET name = excluded.name, description = excluded.description, \
                 position = excluded.position";
    REMOVE_GROUP = "DELETE FROM component_groups WHERE key = $1";
    IN_GROUP = "SELECT COUNT(*) AS n FROM components WHERE group_key = $1";
    REMEMBER = "INSERT INTO component_states (component, at, status) VALUES ($1, $2, $3) \
                ON CONFLICT (component, at) DO UPDATE SET status = excluded.status";
}

/// Under whose name such moves stand among what is done once.
const ONCE_ACTOR: &str = "page.component";

/// How a component is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ComponentStatus {
    /// As it should be.
    Operational,
    /// Being worked on, as announced.
    UnderMaintenance,
    /// Slow or flaky.
    DegradedPerformance,
    /// Some of it does not work.
    PartialOutage,
    /// It does not work.
    MajorOutage,
}

impl ComponentStatus {
    /// Whether it does not work, in part or at all.
    pub fn is_outage(self) -> bool {
        matches!(self, Self::PartialOutage | Self::MajorOutage)
    }
}

/// A part of the app that people know by name.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Component {
    /// Its permanent name.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub description: String,
    /// How it is.
    pub status: ComponentStatus,
    /// Where it stands in lists.
    pub position: i64,
    /// The group that it stands in.
    pub group: Option<String>,
    /// The status page shows it only while it is not operational.
    pub only_show_if_degraded: bool,
    /// Since when it is known, in UTC milliseconds.
    pub created_at: Millis,
    /// Since when its status is so, in UTC milliseconds.
    pub updated_at: Millis,
}

/// Components that stand together under one name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct ComponentGroup {
    /// Its permanent name.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Where it stands among the groups.
    pub position: i64,
}

/// What became of a component in one update: before and after.
pub type ComponentMoves = BTreeMap<String, (ComponentStatus, ComponentStatus)>;

/// A group from its row.
pub(crate) fn group_of(row: &Row) -> Result<ComponentGroup, StoreError> {
    Ok(ComponentGroup {
        key: row.text("key")?,
        name: row.text("name")?,
        description: row.text("description")?,
        position: row.int("position")?,
    })
}

/// A component from its row.
pub(crate) fn component_of(row: &Row) -> Result<Component, StoreError> {
    Ok(Component {
        key: row.text("key")?,
        name: row.text("name")?,
        description: row.text("description")?,
        status: row.word("status")?,
        position: row.int("position")?,
        group: row.opt_text("group_key")?,
        only_show_if_degraded: row.bool("only_show_if_degraded")?,
        created_at: row.int("created_at")?,
        updated_at: row.int("updated_at")?,
    })
}

/// Moves components, and remembers since when; those that are so already keep their time. Returns which moved.
pub(crate) async fn move_in(
    tx: &mut Tx,
    components: &BTreeMap<String, ComponentStatus>,
    at: Millis,
) -> Result<ComponentMoves, StoreError> {
    let mut moved = ComponentMoves::new();
    for (key, status) in components {
        let row = tx.one(FIND, params![key]).await?;
        let before = component_of(&row.ok_or_else(|| not_found("component", key))?)?.status;
        if before != *status {
            if tx.execute(SET_STATUS, params![key, word(status)?, at]).await? == 0 {
                return Err(not_found("component", key)); // removed meanwhile
            }
            tx.execute(REMEMBER, params![key, at, word(status)?]).await?;
            moved.insert(key.clone(), (before, *status));
        }
    }
    Ok(moved)
}

/// Refuses when one of the components is not known.
pub(crate) async fn must_exist<'k>(
    tx: &mut Tx,
    keys: impl Iterator<Item = &'k String>,
) -> Result<(), StoreError> {
    for key in keys {
        tx.one(FIND, params![key]).await?.ok_or_else(|| not_found("component", key))?;
    }
    Ok(())
}

/// How a component is; nothing when there is none.
pub(crate) async fn status_in(
    tx: &mut Tx,
    key: &str,
) -> Result<Option<ComponentStatus>, StoreError> {
    let row = tx.one(FIND, params![key]).await?;
    Ok(row.as_ref().map(component_of).transpose()?.map(|component| component.status))
}

impl Store {
    /// All components, in their order.
    pub async fn list_components(&self) -> Result<Vec<Component>, StoreError> {
        self.db.all(LIST, vec![]).await?.iter().map(component_of).collect()
    }

    /// Makes a component or changes its texts and place; its status stays.
    pub async fn put_component(&self, component: &Component, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let Component { key, name, description, status, position, group, .. } = component;
        if let Some(group) = group
            && tx.one(FIND_GROUP, params![group]).await?.is_none()
        {
            return Err(not_found("component group", group));
        }
        let before = tx.one(FIND, params![key]).await?.as_ref().map(component_of).transpose()?;
        let hides = component.only_show_if_degraded;
        let params = params![key, name, description, word(status)?, *position, group, hides, by.at];
        tx.execute(PUT, params).await?;
        if before.is_none() {
            tx.execute(REMEMBER, params![key, by.at, word(status)?]).await?;
        }
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "component",
            subject: key,
            action: "put",
            before: before.as_ref().map(json).transpose()?,
            after: Some(json(component)?),
        };
        tx.log(by, 0, entry).await?;
        tx.announce("status").await?;
        tx.commit().await
    }

    /// Says how components are, once per key. Returns what they were before the first time.
    pub async fn move_components_once(
        &self,
        key: &str,
        components: &BTreeMap<String, ComponentStatus>,
        by: &Stamp,
    ) -> Result<BTreeMap<String, ComponentStatus>, StoreError> {
        let mut tx = self.db.begin().await?;
        if let Some(row) = tx.one(ONCE_BEFORE, params![ONCE_ACTOR, key]).await? {
            return row.json("body");
        }
        let mut before = BTreeMap::new();
        for component in components.keys() {
            let row = tx.one(FIND, params![component]).await?;
            let known = component_of(&row.ok_or_else(|| not_found("component", component))?)?;
            before.insert(component.clone(), known.status);
        }
        move_in(&mut tx, components, by.at).await?;
        let body = json(&before)?;
        tx.execute(ONCE_KEEP, params![ONCE_ACTOR, key, &body, by.at]).await?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "component",
            subject: &components.keys().cloned().collect::<Vec<_>>().join(", "),
            action: "status",
            before: Some(body),
            after: Some(json(components)?),
        };
        tx.log(by, 0, entry).await?;
        tx.announce("status").await?;
        tx.commit().await?;
        Ok(before)
    }

    /// Says how a component is, outside an incident.
    pub async fn set_component_status(
        &self,
        key: &str,
        status: ComponentStatus,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let one = BTreeMap::from([(key.to_owned(), status)]);
        let moved = move_in(&mut tx, &one, by.at).await?;
        let before = moved.iter().map(|(key, (was, _))| (key, was)).collect::<BTreeMap<_, _>>();
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "component",
            subject: key,
            action: "status",
            before: Some(json(&before)?),
            after: Some(json(&one)?),
        };
        tx.log(by, 0, entry).await?;
        tx.announce("status").await?;
        tx.commit().await
    }

    /// Removes a component and its past. Refused while an open incident holds it.
    pub async fn remove_component(&self, key: &str, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        tx.execute(LOCK, params![key]).await?; // an incident that moves it waits
        let row = tx.one(FIND, params![key]).await?.ok_or_else(|| not_found("component", key))?;
        let before = component_of(&row)?;
        for row in tx.all(HELD, vec![]).await? {
            let held: BTreeMap<String, ComponentStatus> = row.json("components")?;
            if held.contains_key(key) {
                let message = format!("an open incident names `{key}`; resolve it first");
                return Err(StoreError::Refused(message));
            }
        }
        let probes = tx.one(WATCHED, params![key]).await?.map_or(Ok(0), |row| row.int("n"))?;
        if probes > 0 {
            let message = format!("{probes} probes watch `{key}`; remove them first");
            return Err(StoreError::Refused(message));
        }
        tx.execute(FORGET, params![key]).await?;
        tx.execute(REMOVE, params![key]).await?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "component",
            subject: key,
            action: "remove",
            before: Some(json(&before)?),
            after: None,
        };
        tx.log(by, 0, entry).await?;
        tx.announce("status").await?;
        tx.commit().await
    }

    /// Puts components in an order: their places are counted from 0.
    pub async fn order_components(&self, keys: &[String], by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let rows = tx.all(LIST, vec![]).await?;
        let before: Vec<String> =
            rows.iter().map(|row| row.text("key")).collect::<Result<_, _>>()?;
        for (position, key) in keys.iter().enumerate() {
            tx.execute(PLACE, params![key, position as i64]).await?;
        }
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "component",
            subject: "order",
            action: "order",
            before: Some(json(&before)?),
            after: Some(json(&keys)?),
        };
        tx.log(by, 0, entry).await?;
        tx.announce("status").await?;
        tx.commit().await
    }

    /// All groups, in their order.
    pub async fn list_component_groups(&self) -> Result<Vec<ComponentGroup>, StoreError> {
        self.db.all(LIST_GROUPS, vec![]).await?.iter().map(group_of).collect()
    }

    /// Makes a group or changes it.
    pub async fn put_component_group(
        &self,
        group: &ComponentGroup,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let ComponentGroup { key, name, description, position } = group;
        let before = tx.one(FIND_GROUP, params![key]).await?.as_ref().map(group_of).transpose()?;
        tx.execute(PUT_GROUP, params![key, name, description, *position]).await?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "component_group",
            subject: key,
            action: "put",
            before: before.as_ref().map(json).transpose()?,
            after: Some(json(group)?),
        };
        tx.log(by, 0, entry).await?;
        tx.announce("status").await?;
        tx.commit().await
    }

    /// Removes a group. Refused while components stand in it.
    pub async fn remove_component_group(&self, key: &str, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND_GROUP, params![key]).await?;
        let before = group_of(&row.ok_or_else(|| not_found("component group", key))?)?;
        let inside = tx.one(IN_GROUP, params![key]).await?.map_or(Ok(0), |row| row.int("n"))?;
        if inside > 0 {
            let message = format!("{inside} components stand in `{key}`; move them first");
            return Err(StoreError::Refused(message));
        }
        tx.execute(REMOVE_GROUP, params![key]).await?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "component_group",
            subject: key,
            action: "remove",
            before: Some(json(&before)?),
            after: None,
        };
        tx.log(by, 0, entry).await?;
        tx.announce("status").await?;
        tx.commit().await
    }
}
