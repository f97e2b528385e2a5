//! The playbook that takes a finished run back, written from what the run's log holds.
//!
//! It is a file like any other: it can be read, linted, dry-run, changed and kept. Every flag goes back once, to the state
//! before the run's first change of it, unless somebody has changed it after the run's last one. Steps come in reverse order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::journal::{Entry, Phase};
use crate::plan::Plan;
use crate::preserve::{OnBroken, Preserve, Rule};
use crate::state::{RunView, StepState};
use crate::steps::{self, Inverse, Past};
use crate::units::{duration_text, percent_text};

/// The least time that taking back gets, in milliseconds.
const DEADLINE_MS_MIN: u64 = 300_000;
/// A name in a file has up to 60 characters; some are left to tell names apart.
const ID_MAX: usize = 56;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inverted {
    /// The playbook's name: `undo-<playbook>`.
    pub name: String,
    /// The file.
    pub yaml: String,
    /// What cannot be taken back, in words.
    pub left: Vec<String>,
    /// How many steps it has beside the wait for the apps.
    pub steps: usize,
}

/// One step of the file.
struct Back {
    id: String,
    title: String,
    kind: &'static str,
    params: Value,
}

/// Which steps are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those that expire.
    Expiring,
}

/// Writes the playbook that takes a run back.
///
/// # Errors
/// A sentence: the run changed nothing that can be taken back, or holds a text that a playbook cannot say.
pub fn invert(
    run_id: &str,
    plan: &Plan,
    entries: &[Entry],
    which: Which,
) -> Result<Inverted, String> {
    let view = RunView::of(plan, entries);
    let flags = flags_of(entries);
    let mut backs: Vec<Back> = Vec::new();
    let mut left: Vec<String> = Vec::new();
    for (step, seen) in plan.steps.iter().zip(&view.steps) {
        let left_it = matches!(
            seen.state,
            StepState::Done | StepState::Verified | StepState::Unverified | StepState::UndoFailed
        );
        if which == Which::Expiring && step.expires_ms.is_none() {
            continue;
        }
        let Some(done) = seen.output.as_ref().filter(|_| left_it) else { continue };
        for (key, (first, last)) in flags.iter().filter(|(_, (first, _))| first.step_id == step.id)
        {
            let params = json!({
                "key": key, "before_revision": first.revision, "unless_changed_since": last.revision,
                "force": "${{ inputs.force }}",
            });
            let title = format!("Give {key} back the state it had");
            backs.push(Back {
                id: format!("undo_{}", step.id),
                title,
                kind: "flag.restore",
                params,
            });
        }
        if step.kind.starts_with("flag.") {
            continue; // a later change of a flag that goes back already, or a wait
        }
        let past = Past { run_id, step_id: &step.id, does: &step.does, params: &step.params, done };
        match steps::find(&step.kind).map_or(Inverse::Nothing, |kind| kind.invert(&past)) {
            Inverse::Nothing => {}
            Inverse::Impossible(what) => left.push(what),
            Inverse::Step { kind, mut params } => {
                if says_expression(&params) {
                    let message =
                        format!("step `{}` holds `${{{{`, which a playbook would fill in", step.id);
                    return Err(message);
                }
                if kind == "sql.restore"
                    && let Value::Object(map) = &mut params
                {
                    map.insert("force".to_owned(), json!("${{ inputs.force }}"));
                }
                let title = format!("Take back: {}", step.title);
                let title = title.chars().take(120).collect();
                backs.push(Back { id: format!("undo_{}", step.id), title, kind, params });
            }
        }
    }
    name_apart(&mut backs);
    if backs.is_empty() {
        return Err("this run changed nothing that can be taken back".to_owned());
    }
    backs.reverse();
    let name: String = format!("undo-{}", plan.playbook).chars().take(60).collect();
    let has_flags = backs.iter().any(|back| back.kind == "flag.restore");
    let yaml = file(run_id, plan, &name, &backs, has_flags, &left);
    Ok(Inverted { name, yaml, left, steps: backs.len() })
}

/// Steps of groups and calls have dots in their names, which names in a file have not; and no two become the same.
fn name_apart(backs: &mut [Back]) {
    let mut taken = BTreeSet::new();
    for back in backs {
        let plain: String = back.id.replace('.', "_").chars().take(ID_MAX).collect();
        let mut id = plain.clone();
        let mut number = 2;
        while !taken.insert(id.clone()) {
            id = format!("{plain}_{number}");
            number += 1;
        }
        back.id = id;
    }
}

/// A change that the run made.
struct Made {
    step_id: String,
    revision: u64,
}

/// The first and the last change of every flag that the run left changed.
fn flags_of(entries: &[Entry]) -> BTreeMap<String, (Made, Made)> {
    let mut found: BTreeMap<String, (Made, Made)> = BTreeMap::new();
    for row in entries.iter().map(|entry| &entry.row) {
        let Some(revision) = row.detail.get("revision").and_then(Value::as_u64) else { continue };
        let one = row.detail.get("flag").and_then(Value::as_str).map(str::to_owned);
        let several = row.detail.get("flags").and_then(Value::as_object);
        let made = || Made { step_id: row.step_id.clone(), revision };
        for flag in one.into_iter().chain(several.into_iter().flat_map(|map| map.keys().cloned())) {
            match row.phase {
                Phase::Done => {
                    found
                        .entry(flag)
                        .and_modify(|(_, last)| *last = made())
                        .or_insert_with(|| (made(), made()));
                }
                // The run itself took it back.
                Phase::Undone => {
                    let own =
                        found.get(&flag).is_some_and(|(first, _)| first.step_id == row.step_id);
                    if own {
                        found.remove(&flag);
                    } else if let Some((_, last)) = found.get_mut(&flag) {
                        *last = made();
                    }
                }
                _ => {}
            }
        }
    }
    found
}

fn says_expression(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${{"),
        Value::Array(items) => items.iter().any(says_expression),
        Value::Object(map) => map.values().any(says_expression),
        _ => false,
    }
}

fn file(
    run_id: &str,
    plan: &Plan,
    name: &str,
    backs: &[Back],
    has_flags: bool,
    left: &[String],
) -> String {
    let title: String = format!("Undo: {}", plan.title).chars().take(120).collect();
    let mut lines = vec![format!(
        "# Takes back run {run_id} of {} in {}. Written from its log.",
        plan.playbook, plan.environment
    )];
    let said =
        |what: &String| format!("# Cannot be taken back: {}", what.replace(['\n', '\r'], " "));
    lines.extend(left.iter().map(said));
    lines.extend([
        "apiVersion: switchback/v1".to_owned(),
        "kind: Playbook".to_owned(),
        "metadata:".to_owned(),
        format!("  name: {name}"),
        format!("  title: {}", json!(title)),
        format!("  labels: {{undoes: {}}}", json!(run_id)),
        "spec:".to_owned(),
        format!("  deadline: {}", duration_text(plan.deadline_ms.max(DEADLINE_MS_MIN))),
        format!("  concurrency: {{key: {}}}", json!(plan.concurrency_key)),
        "  inputs:".to_owned(),
        "    force: {type: bool, default: false, description: Also what somebody has changed since}"
            .to_owned(),
    ]);
    if !plan.preserve.is_empty() {
        lines.push("  preserve:".to_owned());
        lines.extend(plan.preserve.iter().map(|rule| format!("    - {}", preserve(rule))));
    }
    lines.push("  steps:".to_owned());
    for back in backs {
        lines.push(format!("    - id: {}", back.id));
        lines.push(format!("      title: {}", json!(back.title)));
        if back.kind == "incident.withdraw" {
            lines.push("      on_error: continue".to_owned());
        }
        lines.push(format!("      {}: {}", back.kind, back.params));
    }
    if has_flags {
        lines.push("    - id: everybody_has_it".to_owned());
        lines.push("      title: Wait until the apps have it".to_owned());
        lines.push("      on_error: continue".to_owned());
        lines.push("      flag.ack: {at_least: 99%, within: 10s, on_timeout: continue}".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A rule as its own file has it.
fn preserve(rule: &Preserve) -> String {
    let mut map = serde_json::Map::new();
    map.insert("id".into(), json!(rule.id.replace('.', "_")));
    map.insert("source".into(), json!(rule.source));
    map.insert("table".into(), json!(rule.table));
    if !rule.key.is_empty() {
        map.insert("key".into(), json!(rule.key));
    }
    let mut also = serde_json::Map::new();
    for (index, one) in rule.rules.iter().enumerate() {
        let word = match one {
            Rule::NoLoss => "no_loss",
            Rule::Equal => "equal",
            Rule::Gte => "gte",
            Rule::Delta { percent_milli, rows } => {
                let share = percent_milli.map(|share| json!(percent_text(share)));
                map.extend(share.map(|share| ("max_pct".to_owned(), share)));
                map.extend(rows.map(|rows| ("max_rows".to_owned(), json!(rows))));
                "delta"
            }
            Rule::ColumnsUnchanged(columns) if index > 0 => {
                also.insert("columns_unchanged".into(), json!(columns));
                continue;
            }
            Rule::SumUnchanged(column) if index > 0 => {
                also.insert("sum_unchanged".into(), json!(column));
                continue;
            }
            Rule::ColumnsUnchanged(columns) => {
                map.insert("columns".into(), json!(columns));
                "columns_unchanged"
            }
            Rule::SumUnchanged(column) => {
                map.insert("column".into(), json!(column));
                "sum_unchanged"
            }
        };
        map.insert("rule".into(), json!(word));
    }
    if !also.is_empty() {
        map.insert("also".into(), Value::Object(also));
    }
    if rule.pii {
        map.insert("pii".into(), json!(true));
    }
    if rule.on_broken == OnBroken::Warn {
        map.insert("on_broken".into(), json!("warn"));
    }
    Value::Object(map).to_string()
}
