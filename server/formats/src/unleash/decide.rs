//! One decision on one of Unleash's documents: for `switchback evaluate`, and for proofs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use switchback_core::{Reason, Ruleset};

use super::context::{Peer, context_of};
use super::document::{Feature, Features, Payload, Segment};
use super::read::{Reading, read};

/// A document, ready for decisions.
#[derive(Debug, Default)]
pub struct Decider {
    reading: Reading,
    ruleset: Ruleset,
}

/// A variant as Unleash's SDKs give it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// Its name; `disabled` when there is none.
    pub name: String,
    /// Its value, as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// Whether there is one.
    pub enabled: bool,
    /// Whether the flag is on.
    pub feature_enabled: bool,
}

impl Decider {
    /// Reads `{"version": .., "features": [..], "segments": [..]}`, or the events of the delta API
    /// (`{"events": [..]}`), one after the other.
    pub fn new(state: &Value) -> Result<Self, String> {
        let features = match state.get("events") {
            Some(events) => replay(events)?,
            None if state.get("features").is_some_and(Value::is_array) => {
                Features::deserialize(state).map_err(|error| format!("the state: {error}"))?
            }
            None => return Err("the state needs a list `features` or `events`".to_owned()),
        };
        let reading = read(&features);
        Ok(Self { ruleset: Ruleset::compile(&reading.document), reading })
    }

    /// Whether a flag is on for a context; one that does not exist is not.
    pub fn is_enabled(&self, name: &str, context: &Map<String, Value>, peer: Peer<'_>) -> bool {
        self.ruleset.is_enabled(&Reading::key(name), &context_of(context, peer))
    }

    /// Which variant a context gets.
    pub fn variant(&self, name: &str, context: &Map<String, Value>, peer: Peer<'_>) -> Chosen {
        let key = Reading::key(name);
        let decision = self.ruleset.evaluate(&key, &context_of(context, peer));
        let rule = match decision.reason {
            Reason::Rule(id) => Some(id),
            _ => None,
        };
        match decision.variant {
            Some(variant) => Chosen {
                name: variant.to_owned(),
                payload: self.reading.payload(&key, rule, variant).cloned(),
                enabled: true,
                feature_enabled: decision.enabled,
            },
            None => Chosen {
                name: "disabled".to_owned(),
                payload: None,
                enabled: false,
                feature_enabled: decision.enabled,
            },
        }
    }
}

/// Applies the delta API's events; those of an unknown type are passed over, as SDKs do.
fn replay(events: &Value) -> Result<Features, String> {
    let events = events.as_array().ok_or("`events` is not a list")?;
    let mut state = Features::default();
    for (n, event) in events.iter().enumerate() {
        let wrong = |error: serde_json::Error| format!("events[{n}]: {error}");
        let part = |name: &str| event.get(name).unwrap_or(&Value::Null);
        match part("type").as_str().unwrap_or_default() {
            "hydration" => state = Features::deserialize(event).map_err(wrong)?,
            "feature-updated" => {
                let feature = Feature::deserialize(part("feature")).map_err(wrong)?;
                state.features.retain(|one| one.name != feature.name);
                state.features.push(feature);
            }
            "feature-removed" => {
                let name = part("featureName").as_str().unwrap_or_default();
                state.features.retain(|one| one.name != name);
            }
            "segment-updated" => {
                let segment = Segment::deserialize(part("segment")).map_err(wrong)?;
                state.segments.retain(|one| one.id != segment.id);
                state.segments.push(segment);
            }
            "segment-removed" => {
                let id = part("segmentId").as_i64();
                state.segments.retain(|one| Some(one.id) != id);
            }
            _ => {}
        }
    }
    Ok(state)
}
