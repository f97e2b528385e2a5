//! Incidents and planned work, their updates and postmortems, as Statuspage's API has them.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use serde_json::{Value, json};
use switchback_app::incidents::{IncidentDraft, IncidentEdit, UpdateDraft};
use switchback_app::{AppError, Reach};
use switchback_store::{Audience, Component, ComponentStatus, Impact, Incident, IncidentStatus};

use super::body::{flag, list, moment, text, word};
use super::{Answer, Call, created, nothing_there, ok, subscribers};
use crate::status::public_api::{self, stamp};

/// Incidents that a list looks at.
const LISTED_MAX: i64 = 500;
/// Planned work without times takes this long, in milliseconds.
const WORK_MS: i64 = 60 * 60 * 1_000;

/// Answers what begins with `/incidents`.
pub async fn answer(call: &Call<'_>, method: &str, rest: &[&str]) -> Answer {
    match (method, rest) {
        ("GET", []) => listed(call, |_| true).await,
        ("GET", ["unresolved"]) => {
            listed(call, |one| one.resolved_at.is_none() && one.scheduled_for.is_none()).await
        }
        ("GET", ["scheduled"]) => listed(call, |one| one.scheduled_for.is_some()).await,
        ("GET", ["upcoming"]) => listed(call, |one| one.status == IncidentStatus::Scheduled).await,
        ("GET", ["active_maintenance"]) => {
            let active = [IncidentStatus::InProgress, IncidentStatus::Verifying];
            listed(call, move |one| active.contains(&one.status)).await
        }
        ("POST", []) => open(call).await,
        ("GET", [id]) => {
            let incident = call.app.get_incident(call.who, id).await?;
            one(call, &incident).await
        }
        ("PATCH" | "PUT", [id]) => change(call, id).await,
        ("DELETE", [id]) => {
            let incident = call.app.withdraw_incident(call.who, id).await?;
            one(call, &incident).await
        }
        ("PATCH" | "PUT", [id, "incident_updates", update]) => {
            let object = call.object("incident_update");
            let (body, at) = (text(&object, "body"), moment(&object, "display_at")?);
            let changed = call.app.edit_update(call.who, id, update, body.as_deref(), at).await?;
            let found = changed.updates.iter().find(|one| one.id == *update);
            let names = names_of(&components(call).await?);
            ok(found.map_or(Value::Null, |found| update_json(id, found, &names)))
        }
        (_, [id, "subscribers", rest @ ..]) => {
            subscribers::answer(call, method, Some(id), rest).await
        }
        (_, [id, "postmortem", rest @ ..]) => postmortem(call, method, id, rest).await,
        _ => Err(nothing_there()),
    }
}

async fn components(call: &Call<'_>) -> Result<Vec<Component>, AppError> {
    call.app.list_components(call.who).await
}

fn names_of(components: &[Component]) -> BTreeMap<String, String> {
    components.iter().map(|one| (one.key.clone(), one.name.clone())).collect()
}

async fn one(call: &Call<'_>, incident: &Incident) -> Answer {
    ok(incident_json(call, incident, &components(call).await?))
}

async fn listed(call: &Call<'_>, has: impl Fn(&Incident) -> bool) -> Answer {
    let all = call.app.list_incidents(call.who, false, None, LISTED_MAX).await?;
    let components = components(call).await?;
    let wanted = call.query.some("q").map(|text| text.to_lowercase());
    let is_wanted = |one: &&Incident| {
        let named = wanted.as_ref().is_none_or(|text| one.name.to_lowercase().contains(text));
        one.audience == Audience::Public && named && has(one)
    };
    let found = all.iter().filter(is_wanted);
    ok(call.cut(found.map(|one| incident_json(call, one, &components)).collect()))
}

/// The components of a body: a map to states, and a list of those that are merely touched.
fn touched(object: &Value) -> Result<BTreeMap<String, ComponentStatus>, AppError> {
    let mut found = BTreeMap::new();
    if let Some(map) = object.get("components").and_then(Value::as_object) {
        for key in map.keys() {
            // An empty text changes nothing.
            if let Some(status) = word(object.get("components").unwrap_or(&Value::Null), key)? {
                found.insert(key.clone(), status);
            }
        }
    }
    Ok(found)
}

async fn open(call: &Call<'_>) -> Answer {
    let object = call.object("incident");
    let name = text(&object, "name");
    let name = name.ok_or_else(|| AppError::invalid("incident.name", "a name is needed"))?;
    let planned = match (moment(&object, "scheduled_for")?, moment(&object, "scheduled_until")?) {
        (None, None) => None,
        (Some(from), until) => Some((from, until.unwrap_or(from + WORK_MS))),
        (None, Some(_)) => {
            return Err(AppError::invalid("incident.scheduled_for", "when it begins is needed"));
        }
    };
    let status = match word(&object, "status")? {
        Some(status) => status,
        None if planned.is_some() => IncidentStatus::Scheduled,
        None => IncidentStatus::Investigating,
    };
    let mut touched = touched(&object)?;
    let known = components(call).await?;
    for key in list(&object, "component_ids").unwrap_or_default() {
        // Named without a state: it stays as it is.
        let now = known.iter().find(|one| one.key == key).map(|one| one.status);
        let now = now.ok_or_else(|| AppError::NotFound { kind: "component", key: key.clone() })?;
        touched.entry(key).or_insert(now);
    }
    let impact = word(&object, "impact_override")?.unwrap_or_else(|| impact_of(&touched));
    let body = text(&object, "body").unwrap_or_else(|| said(status).to_owned());
    let backfilled = flag(&object, "backfilled").unwrap_or(false);
    let began = moment(&object, "backfill_date")?;
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    let metadata = serde_json::from_value(metadata);
    let is_auto = |name: &str| flag(&object, name).unwrap_or(false);
    let moves = is_auto("auto_transition_to_maintenance_state");
    if moves && planned.is_some() {
        for state in touched.values_mut() {
            *state = ComponentStatus::UnderMaintenance;
        }
    }
    let draft = IncidentDraft {
        components: touched,
        reach: reach(&object),
        scheduled: planned,
        auto_begin: is_auto("scheduled_auto_in_progress") || moves,
        auto_complete: is_auto("scheduled_auto_completed")
            || is_auto("auto_transition_to_operational_state"),
        backfilled: backfilled.then(|| {
            let now = call.app.clock.now();
            let from = began.unwrap_or(now).min(now - 1);
            (from, now.min(from + WORK_MS))
        }),
        metadata: metadata.map_err(|e| AppError::invalid("incident.metadata", e.to_string()))?,
        ..IncidentDraft::new(&name, status, impact, &body)
    };
    let incident = call.app.open_incident(call.who, draft, None).await?;
    created(incident_json(call, &incident, &components(call).await?))
}

fn reach(object: &Value) -> Reach {
    let tells = flag(object, "deliver_notifications").unwrap_or(true);
    Reach { is_quiet: !tells, ..Reach::default() }
}

/// An impact for the worst of the components, as Statuspage reckons it when none is given.
fn impact_of(touched: &BTreeMap<String, ComponentStatus>) -> Impact {
    match touched.values().max() {
        Some(ComponentStatus::MajorOutage) => Impact::Critical,
        Some(ComponentStatus::PartialOutage) => Impact::Major,
        Some(ComponentStatus::DegradedPerformance) => Impact::Minor,
        _ => Impact::None,
    }
}

/// What is said when a client says nothing.
fn said(status: IncidentStatus) -> &'static str {
    match status {
        IncidentStatus::Investigating => "We are looking for the cause.",
        IncidentStatus::Identified => "We know the cause and are working on it.",
        IncidentStatus::Monitoring => "It is put right, and we are watching it.",
        IncidentStatus::Resolved => "This is over.",
        IncidentStatus::Scheduled => "Work is planned.",
        IncidentStatus::InProgress => "The planned work has begun.",
        IncidentStatus::Verifying => "The work is done, and we are checking it.",
        IncidentStatus::Completed => "The planned work is complete.",
    }
}

async fn change(call: &Call<'_>, id: &str) -> Answer {
    let object = call.object("incident");
    let before = call.app.get_incident(call.who, id).await?;
    let (status, body) = (word(&object, "status")?, text(&object, "body"));
    let (touched, name) = (touched(&object)?, text(&object, "name"));
    let impact: Option<Impact> = word(&object, "impact_override")?;
    let status_now = status.unwrap_or(before.status);
    if status_now != before.status || body.is_some() || !touched.is_empty() {
        let text = body.unwrap_or_else(|| said(status_now).to_owned());
        let (components, reach) = (touched, reach(&object));
        let draft =
            UpdateDraft { components, reach, name, impact, ..UpdateDraft::new(status_now, &text) };
        call.app.update_incident(call.who, id, draft, None).await?;
    } else if name.is_some() || impact.is_some() {
        let edit = IncidentEdit { name, impact, ..IncidentEdit::default() };
        call.app.edit_incident(call.who, id, edit).await?;
    }
    let times = (moment(&object, "scheduled_for")?, moment(&object, "scheduled_until")?);
    let metadata = object.get("metadata").cloned().map(serde_json::from_value).transpose();
    let edit = IncidentEdit {
        scheduled: match times {
            (None, None) => None,
            (from, until) => {
                let from = from.or(before.scheduled_for).unwrap_or_default();
                Some((from, until.or(before.scheduled_until).unwrap_or(from + WORK_MS)))
            }
        },
        auto_begin: flag(&object, "scheduled_auto_in_progress"),
        auto_complete: flag(&object, "scheduled_auto_completed"),
        metadata: metadata.map_err(|e| AppError::invalid("incident.metadata", e.to_string()))?,
        ..IncidentEdit::default()
    };
    let edits = edit.scheduled.is_some()
        || edit.auto_begin.is_some()
        || edit.auto_complete.is_some()
        || edit.metadata.is_some();
    if edits {
        call.app.edit_incident(call.who, id, edit).await?;
    }
    let incident = call.app.get_incident(call.who, id).await?;
    one(call, &incident).await
}

async fn postmortem(call: &Call<'_>, method: &str, id: &str, rest: &[&str]) -> Answer {
    let before = call.app.get_incident(call.who, id).await?;
    let (kept, published) = (before.postmortem.as_deref(), before.postmortem_at.is_some());
    let now = match (method, rest) {
        ("GET", []) => before,
        ("PUT" | "PATCH", []) => {
            let object = call.object("postmortem");
            let body = text(&object, "body_draft").or_else(|| text(&object, "body"));
            let body =
                body.ok_or_else(|| AppError::invalid("postmortem.body_draft", "a text is needed"))?;
            call.app.put_postmortem(call.who, id, Some(&body), published).await?
        }
        ("PUT", [word @ ("publish" | "revert")]) => {
            let none = || AppError::NotFound { kind: "postmortem of", key: id.to_owned() };
            let body = kept.ok_or_else(none)?;
            call.app.put_postmortem(call.who, id, Some(body), *word == "publish").await?
        }
        ("DELETE", []) => {
            call.app.put_postmortem(call.who, id, None, false).await?;
            return Ok((StatusCode::NO_CONTENT, Value::Null));
        }
        _ => return Err(nothing_there()),
    };
    let is_published = now.postmortem_at.is_some();
    ok(json!({
        "preview_key": null, "body": now.postmortem.as_ref().filter(|_| is_published),
        "body_updated_at": stamp(now.updated_at), "body_draft": now.postmortem,
        "body_draft_updated_at": stamp(now.updated_at), "published_at": now.postmortem_at.map(stamp),
        "notify_subscribers": false, "notify_twitter": false, "custom_tweet": null,
    }))
}

fn update_json(
    incident: &str,
    said: &switchback_store::IncidentUpdate,
    names: &BTreeMap<String, String>,
) -> Value {
    let moved = said.moved.iter().map(|(key, (was, is))| {
        let name = names.get(key).unwrap_or(key);
        json!({"code": key, "name": name, "old_status": was, "new_status": is})
    });
    let at = stamp(said.created_at);
    json!({
        "id": said.id, "incident_id": incident, "status": said.status, "body": said.body,
        "created_at": at, "updated_at": at, "display_at": at, "deliver_notifications": said.is_announced,
        "affected_components": moved.collect::<Vec<_>>(), "custom_tweet": null, "tweet_id": null,
        "wants_twitter_update": false,
    })
}

fn incident_json(call: &Call<'_>, one: &Incident, components: &[Component]) -> Value {
    let names = names_of(components);
    let own = components.iter().filter(|component| one.components.contains_key(&component.key));
    let own: Vec<Value> =
        own.map(|component| public_api::component(component, call.page)).collect();
    let updates = one.updates.iter().map(|said| update_json(&one.id, said, &names));
    let published = one.postmortem.as_ref().filter(|_| one.postmortem_at.is_some());
    json!({
        "id": one.id, "page_id": call.page, "name": one.name, "status": one.status, "impact": one.impact,
        "impact_override": one.impact, "created_at": stamp(one.created_at), "updated_at": stamp(one.updated_at),
        "started_at": stamp(one.began_at()), "monitoring_at": one.monitoring_at.map(stamp),
        "resolved_at": one.resolved_at.map(stamp),
        "shortlink": format!("{}/status/incidents/{}", call.app.public_url, one.id),
        "scheduled_for": one.scheduled_for.map(stamp), "scheduled_until": one.scheduled_until.map(stamp),
        "scheduled_remind_prior": false, "scheduled_reminded_at": null,
        "scheduled_auto_in_progress": one.auto_begin, "scheduled_auto_completed": one.auto_complete,
        "auto_transition_to_maintenance_state": one.auto_begin,
        "auto_transition_to_operational_state": one.auto_complete,
        "metadata": one.metadata, "reminder_intervals": null,
        "postmortem_body": published, "postmortem_body_last_updated_at": one.postmortem_at.map(stamp),
        "postmortem_ignored": false, "postmortem_notified_subscribers": false,
        "postmortem_notified_twitter": false, "postmortem_published_at": one.postmortem_at.map(stamp),
        "components": own, "incident_updates": updates.collect::<Vec<_>>(),
    })
}
