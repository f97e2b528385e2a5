//! How a run meets others, and what is left to do when it is over: `concurrency:` and `always:`.

use serde::{Deserialize, Serialize};

use crate::problem::suggest;
use crate::read::Reader;
use crate::yaml::Node;

/// What happens to a run that meets another one with its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// It is refused.
    #[default]
    Reject,
    /// It waits until the other is over.
    Queue,
    /// Whoever starts it is shown the other one.
    Join,
    /// The other is cancelled, and this one waits until that is done.
    Supersede,
}

impl OnConflict {
    /// The usual choice, which plans do not write down.
    pub fn is_reject(&self) -> bool {
        *self == Self::Reject
    }
}

/// Where a run's report goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportTo {
    /// The log of all runs, where each of its moves stands anyway.
    RollbackLog,
    /// The incidents that it opened: as the draft of a postmortem where nobody has begun one.
    Incident,
}

/// The key, and what happens to a run that meets another with it.
pub(super) fn concurrency(reader: &mut Reader, node: &Node) -> (Option<Node>, OnConflict) {
    let choices = [
        ("reject", OnConflict::Reject),
        ("queue", OnConflict::Queue),
        ("join", OnConflict::Join),
        ("supersede", OnConflict::Supersede),
    ];
    let Some(map) = reader.map(node, "spec.concurrency", &["key", "on_conflict"]) else {
        return (None, OnConflict::Reject);
    };
    let choice = reader.word(map, "spec.concurrency", "on_conflict", &choices).unwrap_or_default();
    // Without a key of its own it is the playbook's in its environment.
    let key =
        map.get("key").filter(|_| reader.required(map, "spec.concurrency", "key", 200).is_some());
    (key.cloned(), choice)
}

/// Where a run's report goes.
pub(super) fn always(reader: &mut Reader, node: &Node) -> Vec<ReportTo> {
    let targets = [("rollback_log", ReportTo::RollbackLog), ("incident", ReportTo::Incident)];
    let mut found = Vec::new();
    for (index, item) in reader.list(node, "spec.always").iter().enumerate() {
        let path = format!("spec.always[{index}]");
        let Some(map) = reader.map(item, &path, &["report"]) else { continue };
        let Some(report) = map.get("report") else {
            reader.fault(item, &path, "`report` is expected", "such as `report: {to: [incident]}`");
            continue;
        };
        let path = format!("{path}.report");
        let Some(map) = reader.map(report, &path, &["to"]) else { continue };
        let Some(to) = map.get("to") else {
            reader.fault(report, &path, "`to` is missing", "rollback_log, incident or both");
            continue;
        };
        let path = format!("{path}.to");
        for (index, item) in reader.list(to, &path).iter().enumerate() {
            let path = format!("{path}[{index}]");
            let word = item.text().unwrap_or_default();
            if let Some((_, target)) = targets.iter().find(|(name, _)| *name == word) {
                found.push(*target);
                continue;
            }
            let hint = suggest(word, targets.iter().map(|(name, _)| *name));
            let message = format!("`{word}` is no place for a report: rollback_log or incident");
            reader.fault(item, &path, message, hint);
        }
    }
    found
}
