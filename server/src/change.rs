//! From what an environment should be to what has to be done, and doing it: shared by import and apply.

use std::collections::{BTreeMap, HashSet};

use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use switchback_app::diff::{Difference, diff};
use switchback_core::model::{FlagState, Segment};
use switchback_formats::native::FlagFile;
use switchback_store::{FlagRow, SegmentRow};

use super::client::Client;
use super::{Failure, say};

/// Lines that are shown of one change.
const LINES_MAX: usize = 20;

/// What an environment should be.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Segments.
    pub segments: Vec<Segment>,
    /// Flags.
    pub flags: Vec<FlagFile>,
}

/// What is there.
#[derive(Debug, Default)]
pub struct Present {
    /// Segments by key.
    pub segments: BTreeMap<String, SegmentRow>,
    /// Flags by key.
    pub flags: BTreeMap<String, FlagRow>,
}

/// How much of a flag is to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// State, and what people read about it.
    All,
    /// The state only, where the flag is there already.
    State,
}

/// What has to be done, in order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The environment.
    pub env: String,
    /// The changes.
    pub steps: Vec<Step>,
    /// Flags and segments that are as they should be.
    pub unchanged: usize,
    /// Flags of the same projects that nothing asks for.
    pub surplus: Vec<String>,
    /// Segments that nothing asks for.
    pub surplus_segments: Vec<String>,
    /// What cannot be done.
    pub refused: Vec<String>,
}

/// One change.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// `create`, `update`, `describe`, `archive`, `delete`.
    pub action: &'static str,
    /// `flag` or `segment`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// What differs.
    pub differences: Vec<Difference>,
    #[serde(skip)]
    work: Work,
}

#[derive(Clone, Debug)]
enum Work {
    Segment(Segment, u64),
    Create(Box<FlagFile>),
    State(Box<FlagState>, u64),
    Describe(Value),
    Archive,
    Delete,
}

/// Reads what is there.
pub async fn present(client: &Client, env: &str) -> Result<Present, Failure> {
    let mut present = Present::default();
    for row in client.list(&format!("/environments/{env}/flags?limit=500")).await? {
        let row: FlagRow = serde_json::from_value(row)?;
        present.flags.insert(row.flag.key.to_string(), row);
    }
    for row in client.list(&format!("/environments/{env}/segments?limit=500")).await? {
        let row: SegmentRow = serde_json::from_value(row)?;
        present.segments.insert(row.segment.key.to_string(), row);
    }
    Ok(present)
}

fn differences<T: Serialize>(before: Option<&T>, after: &T) -> Vec<Difference> {
    let before = before.and_then(|before| serde_json::to_value(before).ok());
    diff(before.as_ref(), serde_json::to_value(after).ok().as_ref())
}

/// Works out what has to be done.
pub fn plan(env: &str, wanted: &Wanted, present: &Present, scope: Scope) -> Plan {
    let mut plan = Plan { env: env.to_owned(), ..Plan::default() };
    for segment in &wanted.segments {
        let key = segment.key.to_string();
        let found = present.segments.get(&key);
        if found.is_some_and(|row| row.segment == *segment) {
            plan.unchanged += 1;
            continue;
        }
        plan.steps.push(Step {
            action: if found.is_some() { "update" } else { "create" },
            kind: "segment",
            key,
            differences: differences(found.map(|row| &row.segment), segment),
            work: Work::Segment(segment.clone(), found.map_or(0, |row| row.revision)),
        });
    }
    for flag in in_order(&wanted.flags) {
        match present.flags.get(flag.key.as_str()) {
            Some(row) => plan.compare(flag, row, scope),
            None => plan.steps.push(Step {
                action: "create",
                kind: "flag",
                key: flag.key.to_string(),
                differences: Vec::new(),
                work: Work::Create(Box::new(flag.clone())),
            }),
        }
    }
    let keys: HashSet<&str> = wanted.flags.iter().map(|flag| flag.key.as_str()).collect();
    let projects: HashSet<&str> = wanted.flags.iter().map(|flag| flag.project.as_str()).collect();
    let surplus = present.flags.values().filter(|row| {
        projects.contains(row.flag.project.as_str()) && !keys.contains(row.flag.key.as_str())
    });
    plan.surplus = surplus.map(|row| row.flag.key.to_string()).collect();
    let keys: HashSet<&str> = wanted.segments.iter().map(|one| one.key.as_str()).collect();
    let surplus = present.segments.keys().filter(|key| !keys.contains(key.as_str()));
    plan.surplus_segments = surplus.cloned().collect();
    plan
}

/// Keys of the segments that rules name when the wanted flags are there, and those that are archived are not.
fn used_segments<'a>(
    wanted: &'a Wanted,
    present: &'a Present,
    archived: &HashSet<String>,
) -> HashSet<&'a str> {
    let replaced: HashSet<&str> = wanted.flags.iter().map(|flag| flag.key.as_str()).collect();
    let others = present
        .flags
        .iter()
        .filter(|(key, _)| !replaced.contains(key.as_str()) && !archived.contains(key.as_str()));
    let states = others.map(|(_, row)| &row.state);
    let states = states.chain(wanted.flags.iter().map(|flag| &flag.state));
    let rules = states.flat_map(|state| &state.rules);
    rules.flat_map(|rule| &rule.segments).map(String::as_str).collect()
}

/// A flag that others need comes before them.
fn in_order(flags: &[FlagFile]) -> Vec<&FlagFile> {
    let mut left: Vec<&FlagFile> = flags.iter().collect();
    left.sort_by_key(|flag| &flag.key);
    let mut ordered: Vec<&FlagFile> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |flag: &&FlagFile| {
            let mut needs = flag.state.prerequisites.iter();
            needs.any(|one| left.iter().any(|other| other.key == one.flag && other.key != flag.key))
        };
        let (later, mut now): (Vec<_>, Vec<_>) = left.iter().partition(|flag| waits(flag));
        if now.is_empty() {
            ordered.extend(later); // they wait for each other: the server says so
            break;
        }
        ordered.append(&mut now);
        left = later;
    }
    ordered
}

impl Plan {
    fn compare(&mut self, flag: &FlagFile, row: &FlagRow, scope: Scope) {
        let key = flag.key.to_string();
        let own = &row.flag;
        let salt = flag.salt.as_deref().unwrap_or(flag.key.as_str());
        let mut refuse = |what: &str, here: String, there: String| {
            self.refused.push(format!(
                "`{key}` is {here} there and {there} here: {what} of a flag never changes; use another key"
            ));
        };
        if own.value_type != flag.value_type {
            refuse("the type", word(&own.value_type), word(&flag.value_type));
            return;
        }
        if own.project != flag.project {
            refuse(
                "the project",
                format!("of `{}`", own.project),
                format!("of `{}`", flag.project),
            );
            return;
        }
        let mut state = FlagState { killed: row.state.killed, ..flag.state.clone() };
        if own.salt != salt && scope == Scope::All {
            refuse("the salt", format!("salted `{}`", own.salt), format!("salted `{salt}`"));
            return;
        }
        if own.salt != salt {
            // Another salt is said rule by rule, so that nobody moves.
            for rule in &mut state.rules {
                rule.salt.get_or_insert_with(|| salt.to_owned());
            }
        }
        let mut is_same = true;
        if scope == Scope::All {
            let about = |kind: Value, description: &str, owner: &str, tags: &[String], days| json!({"kind": kind, "description": description, "owner": owner, "tags": tags, "lifetime_days": days});
            let before =
                about(json!(own.kind), &own.description, &own.owner, &own.tags, own.lifetime_days);
            let days = flag.lifetime_days;
            let after = about(json!(flag.kind), &flag.description, &flag.owner, &flag.tags, days);
            if before != after {
                is_same = false;
                self.steps.push(Step {
                    action: "describe",
                    kind: "flag",
                    key: key.clone(),
                    differences: differences(Some(&before), &after),
                    work: Work::Describe(after),
                });
            }
        }
        if state != row.state {
            is_same = false;
            self.steps.push(Step {
                action: "update",
                kind: "flag",
                key,
                differences: differences(Some(&row.state), &state),
                work: Work::State(Box::new(state), row.revision),
            });
        }
        self.unchanged += usize::from(is_same);
    }

    /// Adds what `--prune` does: flags first, so that nothing uses the segments any more. Segments that other flags
    /// use stay surplus.
    pub fn prune(&mut self, wanted: &Wanted, present: &Present) {
        let mut go = |action, kind, key: &str, work| {
            let (key, differences) = (key.to_owned(), Vec::new());
            self.steps.push(Step { action, kind, key, differences, work });
        };
        for key in &self.surplus {
            go("archive", "flag", key, Work::Archive);
        }
        let archived: HashSet<String> = std::mem::take(&mut self.surplus).into_iter().collect();
        let used = used_segments(wanted, present, &archived);
        let (stay, unused) = std::mem::take(&mut self.surplus_segments)
            .into_iter()
            .partition(|key| used.contains(key.as_str()));
        self.surplus_segments = stay;
        let unused: Vec<String> = unused;
        for key in &unused {
            go("delete", "segment", key, Work::Delete);
        }
    }

    /// Updates of what is there already.
    pub fn updates(&self) -> usize {
        self.steps.iter().filter(|step| step.action == "update").count()
    }

    /// In words.
    pub fn show(&self) {
        for step in &self.steps {
            let Step { action, kind, key, differences, .. } = step;
            let more = match *action {
                "archive" => ", in every environment",
                "delete" => ", as no flag uses it",
                _ => "",
            };
            say(format!("{action} {kind} {key}{more}"));
            for one in differences.iter().take(LINES_MAX) {
                let path = if one.path.is_empty() { "all of it" } else { &one.path };
                say(match (&one.before, &one.after) {
                    (None, Some(after)) => format!("    {path}: {} (new)", short(after)),
                    (Some(before), None) => format!("    {path}: {} (goes)", short(before)),
                    (before, after) => {
                        let text =
                            |value: &Option<Value>| value.as_ref().map(short).unwrap_or_default();
                        format!("    {path}: {} -> {}", text(before), text(after))
                    }
                });
            }
            if differences.len() > LINES_MAX {
                say(format!("    and {} more", differences.len() - LINES_MAX));
            }
        }
    }

    /// How much of what.
    pub fn summary(&self) -> String {
        let count = |action: &str| self.steps.iter().filter(|step| step.action == action).count();
        format!(
            "{}: {} to create, {} to update, {} to describe, {} to archive, {} to delete, {} unchanged",
            self.env,
            count("create"),
            count("update"),
            count("describe"),
            count("archive"),
            count("delete"),
            self.unchanged,
        )
    }

    /// Does it, step by step; what fails is named, and the rest goes on.
    pub async fn carry_out(&self, client: &Client, reason: &str) -> Result<Vec<Value>, Failure> {
        let mut done = Vec::new();
        let mut failed: Vec<String> = Vec::new();
        for step in &self.steps {
            let kind = step.kind;
            match self.step(client, step, reason).await {
                Ok(revision) => {
                    if !client.json {
                        let at = revision.map(|n| format!(", revision {n}")).unwrap_or_default();
                        say(format!("{}d {kind} {}{at}", step.action, step.key));
                    }
                    done.push(json!({"action": step.action, "kind": kind, "key": step.key, "revision": revision}));
                }
                Err(failure) => {
                    failed.push(format!("{kind} `{}`: {}", step.key, failure.message));
                    if failure.code == 3 {
                        break; // the server is gone
                    }
                }
            }
        }
        if failed.is_empty() {
            return Ok(done);
        }
        let (count, all) = (done.len(), self.steps.len());
        Err(Failure::new(format!("{count} of {all} changes were made; not {}", failed.join("; "))))
    }

    async fn step(
        &self,
        client: &Client,
        step: &Step,
        reason: &str,
    ) -> Result<Option<u64>, Failure> {
        let Self { env, .. } = self;
        let key = &step.key;
        let flag = format!("/environments/{env}/flags/{key}");
        let revision_of = |answer: &Value| answer.get("revision").and_then(Value::as_u64);
        match &step.work {
            Work::Segment(segment, revision) => {
                let body = json!({"segment": segment, "revision": revision, "reason": reason});
                let url = format!("/environments/{env}/segments/{key}");
                Ok(revision_of(&client.send(Method::PUT, &url, Some(body)).await?))
            }
            Work::Create(file) => {
                // Off everywhere; then its state in this environment only.
                let off = FlagState {
                    on_value: file.state.on_value.clone(),
                    off_value: file.state.off_value.clone(),
                    ..FlagState::default()
                };
                let body = json!({
                    "key": file.key, "project": file.project, "kind": file.kind,
                    "value_type": file.value_type, "description": file.description,
                    "owner": file.owner, "tags": file.tags, "lifetime_days": file.lifetime_days,
                    "salt": file.salt, "state": off, "reason": reason,
                });
                client.send(Method::POST, "/flags", Some(body)).await?;
                let made = client.get(&flag).await?;
                if file.state == off {
                    return Ok(revision_of(&made));
                }
                let revision = revision_of(&made).unwrap_or_default();
                let body = json!({"state": file.state, "revision": revision, "reason": reason});
                let url = format!("{flag}/state");
                Ok(revision_of(&client.send(Method::PUT, &url, Some(body)).await?))
            }
            Work::State(state, revision) => {
                let body = json!({"state": state, "revision": revision, "reason": reason});
                let url = format!("{flag}/state");
                Ok(revision_of(&client.send(Method::PUT, &url, Some(body)).await?))
            }
            Work::Describe(about) => {
                let mut body = about.clone();
                if let Some(object) = body.as_object_mut() {
                    object.insert("reason".to_owned(), json!(reason));
                }
                client.send(Method::PATCH, &format!("/flags/{key}"), Some(body)).await?;
                Ok(None)
            }
            Work::Archive => {
                client
                    .send(Method::DELETE, &because(&format!("/flags/{key}"), reason), None)
                    .await?;
                Ok(None)
            }
            Work::Delete => {
                let url = because(&format!("/environments/{env}/segments/{key}"), reason);
                Ok(revision_of(&client.send(Method::DELETE, &url, None).await?))
            }
        }
    }
}

/// The address of something that goes, with the reason.
fn because(url: &str, reason: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("reason", reason);
    format!("{url}?{}", query.finish())
}

fn word<T: Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 100 {
        return text;
    }
    format!("{}...", text.chars().take(97).collect::<String>())
}
