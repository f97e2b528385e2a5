//! Instatus's words and bodies: incidents and maintenances are two things there, with two addresses.
//!
//! A maintenance's id is kept as `maintenances/ID`, so that what is known of it leads to its address.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchback_core::model::Millis;

use super::page::text;

/// What is put before the id of a maintenance.
const MAINTENANCE: &str = "maintenances/";
/// Two incidents of one name that began so close together are the same one, in milliseconds: pages keep whole seconds.
const SAME_MS: i64 = 1_000;

/// Whether what is told is planned work.
pub fn is_planned(data: &Value) -> bool {
    data.pointer("/incident/scheduled_for").is_some_and(Value::is_string)
}

/// The collection that an incident, or planned work, stands in.
pub fn collection(page: &str, is_planned: bool) -> String {
    let noun = if is_planned { "maintenances" } else { "incidents" };
    format!("/v1/{page}/{noun}")
}

/// An id as it is kept.
pub fn kept_id(id: &str, is_planned: bool) -> String {
    if is_planned { format!("{MAINTENANCE}{id}") } else { id.to_owned() }
}

/// The address of an id that is kept.
pub fn path_of(page: &str, id: &str) -> String {
    match id.strip_prefix(MAINTENANCE) {
        Some(id) => format!("{}/{id}", collection(page, true)),
        None => format!("{}/{id}", collection(page, false)),
    }
}

/// Where updates of an id that is kept are posted.
pub fn updates_path(page: &str, id: &str) -> String {
    let noun = if id.starts_with(MAINTENANCE) { "maintenance-updates" } else { "incident-updates" };
    format!("{}/{noun}", path_of(page, id))
}

/// A status in its words.
pub fn status_word(status: &str) -> &'static str {
    match status {
        "investigating" => "INVESTIGATING",
        "identified" => "IDENTIFIED",
        "monitoring" => "MONITORING",
        "scheduled" => "NOTSTARTEDYET",
        "in_progress" => "INPROGRESS",
        "verifying" => "VERIFYING",
        "completed" => "COMPLETED",
        _ => "RESOLVED",
    }
}

fn component_word(status: &str) -> &'static str {
    match status {
        "under_maintenance" => "UNDERMAINTENANCE",
        "degraded_performance" => "DEGRADEDPERFORMANCE",
        "partial_outage" => "PARTIALOUTAGE",
        "major_outage" => "MAJOROUTAGE",
        _ => "OPERATIONAL",
    }
}

/// Components' ids, and what they are.
fn touched(components: &BTreeMap<String, String>) -> (Value, Value) {
    let ids: Vec<&String> = components.keys().collect();
    let states: Vec<Value> = components
        .iter()
        .map(|(id, status)| json!({"id": id, "status": component_word(status)}))
        .collect();
    (json!(ids), json!(states))
}

/// What opens an incident, or announces planned work. `began`: when it was opened here, in UTC milliseconds.
pub fn opening(data: &Value, components: &BTreeMap<String, String>, began: Millis) -> Value {
    let (ids, states) = touched(components);
    let (name, message) = (text(data, "/incident/name"), text(data, "/update/body"));
    let status = status_word(text(data, "/update/status"));
    if is_planned(data) {
        // This server begins and ends it, and says so then.
        return json!({
            "name": name, "message": message, "status": status, "components": ids, "statuses": states,
            "start": text(data, "/incident/scheduled_for"), "end": text(data, "/incident/scheduled_until"),
            "notify": true, "notifyStart": false, "notifyEnd": false, "notifyEarly": false,
            "autoStart": false, "autoEnd": false,
        });
    }
    json!({
        "name": name, "message": message, "status": status, "components": ids, "statuses": states,
        "started": super::page::iso(began), "notify": true, "shouldPublish": true,
    })
}

/// An update.
pub fn update(data: &Value, components: &BTreeMap<String, String>) -> Value {
    let (ids, states) = touched(components);
    json!({
        "message": text(data, "/update/body"), "status": status_word(text(data, "/update/status")),
        "components": ids, "statuses": states, "notify": true,
    })
}

/// Whether one that stands there is ours: of the same name, begun at the same moment. The page keeps nothing else of ours.
pub fn is_ours(one: &Value, data: &Value, began: Millis) -> bool {
    let moment =
        |text: &str| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    let (theirs, ours) = if is_planned(data) {
        (moment(text(one, "/start")), moment(text(data, "/incident/scheduled_for")))
    } else {
        (moment(text(one, "/started")), Some(began))
    };
    let is_near = theirs.zip(ours).is_some_and(|(theirs, ours)| (theirs - ours).abs() < SAME_MS);
    is_near && text(one, "/name") == text(data, "/incident/name")
}

/// The newest update of an incident, by when it was written there.
pub fn newest(incident: &Value) -> Option<&Value> {
    let all = incident.get("updates").and_then(Value::as_array)?;
    let at = |one: &Value| (text(one, "/started").to_owned(), text(one, "/createdAt").to_owned());
    all.iter().max_by_key(|one| at(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_at_another_time_is_another_incident() {
        let data = json!({"incident": {"name": "Cards fail", "scheduled_for": null}});
        let there = |name: &str, started: &str| json!({"name": name, "started": started});
        let began = 1_700_000_000_500;

        assert!(is_ours(&there("Cards fail", "2023-11-14T22:13:20.000Z"), &data, began));
        assert!(!is_ours(&there("Cards fail", "2023-11-14T22:13:22.000Z"), &data, began));
        assert!(!is_ours(&there("Cards", "2023-11-14T22:13:20.000Z"), &data, began));
        assert!(!is_ours(&there("Cards fail", "soon"), &data, began));
    }

    #[test]
    fn the_newest_update_is_found_in_any_order() {
        let one =
            |at: &str, message: &str| json!({"started": at, "createdAt": at, "message": message});
        let older = one("2026-01-01T00:00:00.000Z", "a");
        let newer = one("2026-01-01T00:00:01.000Z", "b");

        for updates in [json!([older, newer]), json!([newer, older])] {
            assert_eq!(text(newest(&json!({"updates": updates})).unwrap(), "/message"), "b");
        }
        assert_eq!(newest(&json!({})), None);
    }

    #[test]
    fn planned_work_has_an_address_of_its_own() {
        let id = kept_id("m1", true);

        assert_eq!(updates_path("p", &id), "/v1/p/maintenances/m1/maintenance-updates");
        assert_eq!(updates_path("p", &kept_id("i1", false)), "/v1/p/incidents/i1/incident-updates");
    }
}
