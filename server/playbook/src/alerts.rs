//! `alert`: alerts that start a playbook, and what they look like.
//!
//! ```yaml
//! triggers:
//!   - alert:
//!       receiver_token: alertmanager      # the API token by which they come
//!       match: {alertname: AuthFailureHigh, severity: page}   # each of these labels, exactly
//!       environment: production
//!       approve: one_click                # none | one_click: one person says yes first
//!       wait: 15m                         # for them
//!       inputs: {reason: /annotations/summary, share: 10%}    # JSON pointers into the alert, or values
//! ```

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::inputs::Input;
use crate::plan::{Approval, Condition, OnTimeout, Plan, PlannedStep};
use crate::read::{Entries, Reader, join};
use crate::triggers;
use crate::units::duration_words;
use crate::yaml::Node;

/// How long one person is waited for, in milliseconds, unless the trigger says so.
const WAIT_MS: u64 = 900_000;
/// The longest such wait, in milliseconds.
const WAIT_MS_MAX: u64 = 86_400_000;

/// Whether a person says yes before anything happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Approve {
    /// Nobody is asked.
    None,
    /// One person is.
    OneClick,
}

/// A value for an input.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Given {
    /// What stands at this JSON pointer in the alert.
    Pointer(String),
    /// This.
    Value(Value),
}

/// Alerts that start a playbook.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// The name of the API token by which they come.
    pub receiver_token: String,
    /// Labels that they must have, each with this value.
    #[serde(rename = "match")]
    pub labels: BTreeMap<String, String>,
    /// The environment's key.
    pub environment: String,
    /// Whether a person says yes first.
    pub approve: Approve,
    /// How long that person is waited for, in milliseconds.
    pub wait_ms: u64,
    /// Values for inputs.
    pub inputs: BTreeMap<String, Given>,
}

impl Alert {
    /// Whether an alert with these labels, by this token, is one of them.
    pub fn matches(&self, token: &str, labels: &BTreeMap<String, String>) -> bool {
        self.receiver_token == token
            && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// Reads `alert`.
pub(crate) fn parse(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    inputs: &[Input],
) -> Option<Alert> {
    let keys = ["receiver_token", "match", "environment", "approve", "wait", "inputs"];
    let map = reader.map(node, path, &keys)?;
    let receiver_token = reader.required(map, path, "receiver_token", 100);
    let labels = map.get("match").map(|node| labels(reader, node, &join(path, "match")));
    if labels.as_ref().is_none_or(BTreeMap::is_empty) {
        let hint = "such as {alertname: AuthFailureHigh}";
        reader.fault(node, path, "`match` names at least one label", hint);
    }
    let (approve, wait_ms) = asked(reader, map, path);
    let given = triggers::given(reader, map, path, inputs, true);
    triggers::all_given(reader, node, path, inputs, &given);
    Some(Alert {
        approve,
        wait_ms,
        labels: labels.unwrap_or_default(),
        inputs: given,
        environment: reader.name(map, path, "environment")?,
        receiver_token: receiver_token?,
    })
}

/// Whether a person says yes first, and how long they are waited for, in milliseconds.
pub(crate) fn asked(reader: &mut Reader, map: Entries<'_>, path: &str) -> (Approve, u64) {
    let words = [("none", Approve::None), ("one_click", Approve::OneClick)];
    let wait = reader.duration(map, path, "wait");
    if let Some(node) = map.get("wait")
        && wait.is_some_and(|ms| ms > WAIT_MS_MAX)
    {
        reader.fault(node, &join(path, "wait"), "longer than 1d", "");
    }
    let approve = reader.word(map, path, "approve", &words).unwrap_or(Approve::OneClick);
    (approve, wait.unwrap_or(WAIT_MS))
}

fn labels(reader: &mut Reader, node: &Node, path: &str) -> BTreeMap<String, String> {
    let Some(pairs) = node.pairs() else {
        reader.fault(node, path, format!("a map is expected, not {}", node.noun()), "");
        return BTreeMap::new();
    };
    let read = pairs.iter().filter_map(|(key, value)| {
        let text = reader.text(value, &join(path, &key.text), 500)?;
        Some((key.text.clone(), text))
    });
    read.collect()
}

impl Plan {
    /// The same plan, with one person to say yes before its first step. Its deadline gets their time besides.
    #[must_use]
    pub fn asked_first(mut self, question: &str, wait_ms: u64) -> Self {
        let mut id = "start".to_owned();
        while self.steps.iter().any(|step| step.id == id) || self.block(&id).is_some() {
            id.push('_');
        }
        self.deadline_ms = self.deadline_ms.saturating_add(wait_ms);
        let approve = Approval {
            roles: Vec::new(),
            min: 1,
            timeout_ms: wait_ms,
            on_timeout: OnTimeout::Stop,
            message: question.to_owned(),
            own: false,
        };
        let step = PlannedStep {
            id,
            title: "Somebody agrees".to_owned(),
            kind: "approve".to_owned(),
            params: serde_json::json!({}),
            does: format!("Wait up to {} for one person to agree", duration_words(wait_ms)),
            undoes: String::new(),
            condition: Condition::Always,
            approve: Some(approve),
            wait_ms: 0,
            timeout_ms: 10_000,
            retry: crate::format::Retry::default(),
            on_error: crate::format::OnError::Stop,
            danger: false,
            idempotent: true,
            undo: crate::steps::Undo::NotNeeded,
            verify: None,
            expires_ms: None,
            block: None,
        };
        self.steps.insert(0, step);
        self
    }
}
