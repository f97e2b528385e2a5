//! The state for programs: our own short document, and the documents of Statuspage's public API (version 2).

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use switchback_store::{
    Component, ComponentGroup, ComponentStatus, IncidentStatus, PublicIncident, PublicUpdate,
};

use super::shelf::Rendered;
use super::view::Scene;
use crate::ui::assets;
use crate::ui::words::{format_at, iso, word};

/// Incidents of a list, at most, as Statuspage has it.
const LIST_MAX: usize = 50;

/// A document of Statuspage's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Everything that matters now.
    Summary,
    /// The sentence.
    Status,
    /// Components and groups.
    Components,
    /// Incidents, the newest first.
    Incidents,
    /// Those that are not over.
    Unresolved,
    /// Planned work, the newest first.
    Maintenances,
    /// What has not begun.
    Upcoming,
    /// What has begun and is not over.
    Active,
}

/// Every document with its name below `/api/v2/`.
pub const PARTS: [(&str, Part); 8] = [
    ("summary.json", Part::Summary),
    ("status.json", Part::Status),
    ("components.json", Part::Components),
    ("incidents.json", Part::Incidents),
    ("incidents/unresolved.json", Part::Unresolved),
    ("scheduled-maintenances.json", Part::Maintenances),
    ("scheduled-maintenances/upcoming.json", Part::Upcoming),
    ("scheduled-maintenances/active.json", Part::Active),
];

impl Part {
    /// The document.
    pub fn render(self, scene: &Scene<'_>) -> Rendered {
        let mut body = json!({"page": page(scene)});
        let mut put = |key: &str, value: Value| {
            if let Some(body) = body.as_object_mut() {
                body.insert(key.to_owned(), value);
            }
        };
        match self {
            Self::Summary => {
                put("status", status(scene));
                put("components", components(scene));
                put("incidents", incidents(scene, Self::Unresolved));
                let planned = |one: &PublicIncident| one.status.is_planned() && is_open(one);
                put("scheduled_maintenances", list(scene, planned));
            }
            Self::Status => put("status", status(scene)),
            Self::Components => put("components", components(scene)),
            Self::Incidents | Self::Unresolved => put("incidents", incidents(scene, self)),
            Self::Maintenances | Self::Upcoming | Self::Active => {
                put("scheduled_maintenances", incidents(scene, self));
            }
        }
        document(&body, scene)
    }

    fn has(self, one: &PublicIncident) -> bool {
        let planned = one.status.is_planned();
        match self {
            Self::Summary | Self::Status | Self::Components => false,
            Self::Incidents => !planned,
            Self::Unresolved => !planned && is_open(one),
            Self::Maintenances => planned,
            Self::Upcoming => one.status == IncidentStatus::Scheduled,
            Self::Active => planned && is_open(one) && one.status != IncidentStatus::Scheduled,
        }
    }
}

/// Our own short document.
pub fn short(scene: &Scene<'_>) -> Rendered {
    let board = scene.board;
    let overall = board.overall();
    let components = board.components.iter().map(
        |one| json!({"id": one.key, "name": one.name, "status": one.status, "group": one.group}),
    );
    let told = |incident: &PublicIncident| {
        json!({
            "id": incident.id, "name": incident.name, "status": incident.status,
            "impact": incident.impact, "created_at": iso(incident.created_at),
        })
    };
    let planned = board.planned().into_iter().map(|incident| {
        let mut told = told(incident);
        if let Some(told) = told.as_object_mut() {
            told.insert("scheduled_for".to_owned(), json!(incident.scheduled_for.map(iso)));
            told.insert("scheduled_until".to_owned(), json!(incident.scheduled_until.map(iso)));
        }
        told
    });
    let body = json!({
        "page": {"name": scene.look.title, "updated_at": iso(board.read_at)},
        "status": {"indicator": overall.indicator(), "description": overall.sentence()},
        "components": components.collect::<Vec<_>>(),
        "incidents": board.open().map(told).collect::<Vec<_>>(),
        "planned": planned.collect::<Vec<_>>(),
    });
    document(&body, scene)
}

fn document(body: &Value, scene: &Scene<'_>) -> Rendered {
    Rendered {
        kind: "application/json; charset=utf-8",
        text: body.to_string(),
        modified: scene.board.read_at,
    }
}

fn page_id(scene: &Scene<'_>) -> String {
    page_id_of(scene.public_url)
}

/// A page's id: a name that stays while its address does.
pub fn page_id_of(public_url: &str) -> String {
    let hash = Sha256::digest(public_url.as_bytes());
    assets::hex(hash.get(..6).unwrap_or_default())
}

fn page(scene: &Scene<'_>) -> Value {
    json!({
        "id": page_id(scene), "name": scene.look.title, "url": page_url(scene),
        "time_zone": "Etc/UTC", "updated_at": stamp(scene.board.read_at),
    })
}

fn page_url(scene: &Scene<'_>) -> String {
    let url = scene.public_url.trim_end_matches('/');
    if scene.place.is_files() { url.to_owned() } else { format!("{url}/status") }
}

fn status(scene: &Scene<'_>) -> Value {
    let overall = scene.board.overall();
    json!({"indicator": overall.indicator(), "description": overall.description()})
}

/// Components, and groups as components that hold others.
fn components(scene: &Scene<'_>) -> Value {
    let page = page_id(scene);
    let board = scene.board;
    let single = board.components.iter().map(|one| component(one, &page));
    let groups = board.groups.iter().map(|one| group(one, &board.components, &page));
    single.chain(groups).collect()
}

/// A component as Statuspage has it.
pub fn component(one: &Component, page: &str) -> Value {
    json!({
        "id": one.key, "name": one.name, "status": one.status,
        "created_at": stamp(one.created_at), "updated_at": stamp(one.updated_at),
        "position": one.position, "description": none_if_empty(&one.description), "showcase": false,
        "start_date": format_at(one.created_at, "%Y-%m-%d"),
        "group_id": one.group.as_deref().map(group_id), "page_id": page, "group": false,
        "only_show_if_degraded": one.only_show_if_degraded,
    })
}

/// The group that an id stands for.
pub fn group_of(id: &str) -> &str {
    id.strip_prefix("group:").unwrap_or(id)
}

/// A group's id; no component's key has a colon in it.
fn group_id(key: &str) -> String {
    format!("group:{key}")
}

/// A group as a component that holds others.
pub fn group(one: &ComponentGroup, components: &[Component], page: &str) -> Value {
    let inside =
        || components.iter().filter(|component| component.group.as_ref() == Some(&one.key));
    let worst = inside().map(|component| component.status).max();
    let created = inside().map(|component| component.created_at).min();
    let updated = inside().map(|component| component.updated_at).max();
    json!({
        "id": group_id(&one.key), "name": one.name,
        "status": worst.unwrap_or(ComponentStatus::Operational),
        "created_at": created.map(stamp), "updated_at": updated.map(stamp),
        "position": one.position, "description": none_if_empty(&one.description), "showcase": false,
        "start_date": null, "group_id": null, "page_id": page, "group": true,
        "only_show_if_degraded": false,
        "components": inside().map(|component| component.key.as_str()).collect::<Vec<_>>(),
    })
}

fn incidents(scene: &Scene<'_>, part: Part) -> Value {
    list(scene, |one| part.has(one))
}

fn list(scene: &Scene<'_>, has: impl Fn(&PublicIncident) -> bool) -> Value {
    let mut found: Vec<&PublicIncident> =
        scene.board.incidents.iter().filter(|one| has(one)).collect();
    found.sort_by_key(|one| std::cmp::Reverse((one.created_at, &one.id)));
    found.into_iter().take(LIST_MAX).map(|one| incident(one, scene)).collect()
}

fn is_open(one: &PublicIncident) -> bool {
    one.resolved_at.is_none()
}

fn incident(one: &PublicIncident, scene: &Scene<'_>) -> Value {
    let page = page_id(scene);
    let touched = one.components.keys().filter_map(|key| {
        let known = scene.board.components.iter().find(|component| component.key == *key)?;
        Some(component(known, &page))
    });
    let ending = if scene.place.is_files() { ".html" } else { "" };
    let mut told = json!({
        "id": one.id, "name": one.name, "status": one.status,
        "created_at": stamp(one.created_at), "updated_at": stamp(one.updated_at),
        "monitoring_at": one.monitoring_at.map(stamp), "resolved_at": one.resolved_at.map(stamp),
        "impact": one.impact, "shortlink": format!("{}/incidents/{}{ending}", page_url(scene), one.id),
        "started_at": stamp(one.started_at.unwrap_or(one.created_at)), "page_id": page,
        "incident_updates": one.updates.iter().map(|said| update(said, &one.id, scene)).collect::<Vec<_>>(),
        "components": touched.collect::<Vec<_>>(),
    });
    if one.status.is_planned()
        && let Some(told) = told.as_object_mut()
    {
        told.insert("scheduled_for".to_owned(), json!(one.scheduled_for.map(stamp)));
        told.insert("scheduled_until".to_owned(), json!(one.scheduled_until.map(stamp)));
    }
    told
}

fn update(said: &PublicUpdate, incident: &str, scene: &Scene<'_>) -> Value {
    let name = |key: &String| {
        let known = scene.board.components.iter().find(|component| component.key == *key);
        known.map_or_else(|| key.clone(), |component| component.name.clone())
    };
    let moved = said.moved.iter().map(|(key, (before, after))| {
        json!({"code": key, "name": name(key), "old_status": word(before), "new_status": word(after)})
    });
    let at = stamp(said.created_at);
    json!({
        "id": said.id, "incident_id": incident, "status": said.status, "body": said.body,
        "created_at": at, "updated_at": at, "display_at": at,
        "affected_components": moved.collect::<Vec<_>>(),
    })
}

fn none_if_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// `2025-03-11T00:52:20.000Z`.
pub fn stamp(at: i64) -> String {
    format_at(at, "%Y-%m-%dT%H:%M:%S.%3fZ")
}
