//! Values that others know: a data source's, Prometheus's, or what apps report of themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchback_playbook::read::{Entries, Reader, join};
use switchback_playbook::yaml::Node;

use super::condition::window;
use crate::impact::Impact;

/// How far back reports of apps count unless the rule says otherwise, in milliseconds.
const WINDOW_MS: i64 = 300_000;
/// Labels of one value.
const LABELS_MAX: usize = 10;

/// Where a value outside is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A data source, by name; the query is SQL with one column, and its first row counts.
    Source(String),
    /// The base of a Prometheus server's address; of several series the worst counts.
    Prometheus(String),
    /// What apps report of themselves; there is no query.
    Impact(Impact),
}

/// A number that somebody else knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// Where it is asked for.
    pub origin: Origin,
    /// How.
    pub query: String,
    /// The value beyond which it is bad.
    pub bound: f64,
    /// Too low is bad, not too high.
    pub is_below: bool,
}

pub(super) fn read(reader: &mut Reader, node: &Node, path: &str) -> Option<Outside> {
    let keys =
        ["source", "prometheus", "query", "above", "below", "impact", "labels", "per", "window"];
    let map = reader.map(node, path, &keys)?;
    let origin = match (map.get("source"), map.get("prometheus"), map.get("impact")) {
        (Some(_), None, None) => reader.required(map, path, "source", 100).map(Origin::Source),
        (None, Some(_), None) => prometheus(reader, map, path).map(Origin::Prometheus),
        (None, None, Some(_)) => impact(reader, map, path).map(Origin::Impact),
        _ => {
            let message = "exactly one of `source`, `prometheus` and `impact` is expected";
            reader.fault(node, path, message, "");
            None
        }
    };
    let is_impact = map.get("impact").is_some();
    let strange: &[&str] = if is_impact { &["query"] } else { &["labels", "per", "window"] };
    for key in strange {
        if let Some(node) = map.get(key) {
            let message = format!("`{key}` does not go with it");
            reader.fault(
                node,
                &join(path, key),
                message,
                "`labels`, `per` and `window` go with `impact`",
            );
        }
    }
    let query =
        if is_impact { Some(String::new()) } else { reader.required(map, path, "query", 2_000) };
    let (is_below, key) = match (map.get("above"), map.get("below")) {
        (Some(_), None) => (false, "above"),
        (None, Some(_)) => (true, "below"),
        _ => {
            reader.fault(node, path, "exactly one of `above` and `below` is expected", "");
            return None;
        }
    };
    let place = map.get(key).unwrap_or(node);
    let bound = place.text().and_then(|text| text.parse::<f64>().ok());
    let bound = bound.filter(|bound| bound.is_finite());
    if bound.is_none() {
        reader.fault(place, &join(path, key), "a number is expected", "");
    }
    Some(Outside { origin: origin?, query: query?, bound: bound?, is_below })
}

/// The base of an address without anything that might be a secret.
fn prometheus(reader: &mut Reader, map: Entries<'_>, path: &str) -> Option<String> {
    let url = reader.required(map, path, "prometheus", 1_000)?;
    let url = url.trim_end_matches('/');
    let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let authority = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    if !authority.is_empty() && !authority.contains('@') && !url.contains(['?', '#']) {
        return Some(url.to_owned());
    }
    if let Some(node) = map.get("prometheus") {
        let message = "an address such as http://prometheus:9090 is expected, without a password";
        reader.fault(node, &join(path, "prometheus"), message, "");
    }
    None
}

/// A figure that apps report, and which of its series.
fn impact(reader: &mut Reader, map: Entries<'_>, path: &str) -> Option<Impact> {
    let name = reader.required(map, path, "impact", 100);
    let per = reader.optional(map, path, "per", 100);
    let window_ms = match map.get("window") {
        Some(_) => window(reader, map, path, "window")?,
        None => WINDOW_MS,
    };
    let mut labels = BTreeMap::new();
    if let Some(node) = map.get("labels") {
        let at = join(path, "labels");
        match node.pairs() {
            Some(pairs) if pairs.len() <= LABELS_MAX => {
                for (key, value) in pairs {
                    if let Some(text) = reader.text(value, &join(&at, &key.text), 100) {
                        labels.insert(key.text.clone(), text);
                    }
                }
            }
            Some(_) => reader.fault(node, &at, format!("over {LABELS_MAX} of them"), ""),
            None => {
                reader.fault(node, &at, format!("a map is expected, not {}", node.noun()), "");
            }
        }
    }
    // Reports come by the minute: a shorter window would be empty half the time.
    let window_ms = window_ms.max(60_000);
    Some(Impact { name: name?, labels, per, window_ms })
}
