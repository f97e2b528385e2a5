//! `flag.snapshot_restore`: gives every flag of the environment back the state that it had at a moment, in one revision.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use switchback_core::model::{FlagState, Millis};

use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind,
    Undo,
};
use crate::journal::Phase;
use crate::ports::{FlagSnapshot, FlagsWrite, PortError};
use crate::units::{duration_text, duration_words};

/// How often a change is tried against people who edit flags at the same moment.
const RACES_MAX: u32 = 8;
/// Flags that a sentence names.
const NAMES_MAX: usize = 5;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Moment {
    /// A moment, in UTC milliseconds.
    At(Millis),
    /// So many milliseconds before the step.
    Ago(u64),
}

#[derive(Serialize, Deserialize)]
struct Params {
    to: Moment,
}

impl Params {
    fn moment(&self, now: Millis) -> Millis {
        match self.to {
            Moment::At(at) => at,
            Moment::Ago(ms) => now.saturating_sub_unsigned(ms),
        }
    }
}

/// A flag that differs: as it is, and as it was.
type Differing = BTreeMap<String, (FlagSnapshot, FlagState)>;

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "flag.snapshot_restore"
    }

    fn about(&self) -> &'static str {
        "Gives every flag of the environment back the state that it had at a moment, all at once; flags that came later stay."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field {
                name: "at",
                about: "a moment, such as 2026-02-03T04:05:06Z, or UTC milliseconds",
            },
            Field { name: "ago", about: "or so long before the step, such as 30m" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn commits_itself(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let at = match fields.any("at") {
            Some(Value::Number(ms)) => {
                ms.as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok())
            }
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        if let Some(given) = fields.any("at").filter(|_| at.is_none()) {
            let fault = Fault::new("at", format!("`{given}` is not a moment"));
            return Err(fault.hint("such as 2026-02-03T04:05:06Z, or UTC milliseconds"));
        }
        let (to, when) = match (at, fields.duration_or_none("ago")?) {
            (Some(at), None) => (Moment::At(at.as_millisecond()), format!("at {at}")),
            (None, Some(ms)) => (Moment::Ago(ms), format!("{} earlier", duration_words(ms))),
            _ => {
                let fault = Fault::new("", "either `at` or `ago` is expected");
                return Err(fault.hint("{at: 2026-02-03T04:05:06Z} or {ago: 30m}"));
            }
        };
        let does = format!("Give every flag back the state that it had {when}");
        let undoes = "Give those flags back the state they have now".to_owned();
        Ok(Resolved { undoes, ..Resolved::new(&Params { to }, does) })
    }

    async fn preview(&self, at: &At<'_>, so_far: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        let found = match differing(at, &params, &so_far.flags).await {
            Ok((_, found)) => found,
            Err(error) => {
                let why = error.to_string();
                return Effect {
                    change: Answer::Unknown(why.clone()),
                    clients: Answer::Unknown(why.clone()),
                    warnings: vec![format!("the step would fail: {why}")],
                };
            }
        };
        if found.is_empty() {
            let warnings = vec!["nothing differs from that moment".to_owned()];
            return Effect { warnings, ..Effect::none() };
        }
        let mut warnings = Vec::new();
        if let Moment::Ago(ms) = params.to {
            warnings.push(format!(
                "seen from now; a run looks {} back from its own",
                duration_text(ms)
            ));
        }
        let (mut before, mut after) = (Map::new(), Map::new());
        for (key, (mut now, then)) in found {
            before.insert(key.clone(), json!(now.state));
            after.insert(key.clone(), json!(then));
            now.state = then;
            so_far.flags.insert(key, now);
        }
        let clients = match at.world.convergence.status(&at.plan.environment, None).await {
            Ok(status) => Answer::Known(status.connected),
            Err(error) => Answer::Unknown(error.to_string()),
        };
        let change = Answer::Known(Some((Value::Object(before), Value::Object(after))));
        Effect { change, clients, warnings }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let moment = params.moment(at.now());
        if moment > at.now() {
            return Err(StepError::permanent("that moment has not come yet"));
        }
        for _ in 0..RACES_MAX {
            let (revision, found) = differing(at, &params, &BTreeMap::new()).await?;
            if found.is_empty() {
                let says = "every flag is as it was then";
                return Ok(Ran::Done(json!({"flags": {}, "at": moment, "says": says})));
            }
            let says = format!("as they were then: {}", names(found.keys()));
            let flags: Map<String, Value> = found
                .iter()
                .map(|(key, (now, then))| {
                    (key.clone(), json!({"before": now.state, "after": then}))
                })
                .collect();
            let states = found.into_iter().map(|(key, (_, then))| (key, then)).collect();
            let reason =
                format!("playbook {}, step {}: {}", at.plan.playbook, at.step.id, at.plan.reason);
            let detail = json!({"flags": flags, "at": moment, "says": says});
            if let Some(ran) = apply(at, revision, states, reason, Phase::Done, detail).await? {
                return Ok(ran);
            }
        }
        Err(StepError::passing("others keep changing flags"))
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        let left = at.done.map(left_by).unwrap_or_default();
        let (_, flags) = at.world.flags.read_all(&at.plan.environment).await?;
        let moved = left
            .iter()
            .filter(|(key, (_, after))| flags.get(*key).is_none_or(|flag| flag.state != *after));
        let moved: Vec<&String> = moved.map(|(key, _)| key).collect();
        Ok(if moved.is_empty() {
            Check::Holds("the flags are as the step left them".to_owned())
        } else {
            Check::Broken(format!("changed after the step: {}", names(moved.into_iter())))
        })
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        // Effect and `done` row are one transaction: without the row there was no effect.
        let left = at.done.map(left_by).unwrap_or_default();
        for _ in 0..RACES_MAX {
            let (revision, flags) = at.world.flags.read_all(&at.plan.environment).await?;
            let (mut states, mut taken) = (BTreeMap::new(), Vec::new());
            let mut detail = Map::new();
            for (key, (before, after)) in &left {
                let Some(now) = flags.get(key) else {
                    taken.push(key);
                    continue;
                };
                if now.state == *before {
                    continue;
                }
                let ours = at.revisions.contains(&now.revision) && now.state == *after;
                if !ours && !at.forced {
                    taken.push(key);
                }
                detail.insert(key.clone(), json!({"before": now.state, "after": before}));
                states.insert(key.clone(), before.clone());
            }
            if !taken.is_empty() && !at.forced {
                return Err(StepError::Conflict(format!(
                    "changed by somebody else after this step, so nothing was put back: {}",
                    names(taken.into_iter())
                )));
            }
            if states.is_empty() {
                return Ok(Ran::Done(json!({"nothing": "the flags are as they were before"})));
            }
            let reason = format!("undo of playbook {}, step {}", at.plan.playbook, at.step.id);
            let says = format!("put back: {}", names(states.keys()));
            let detail = json!({"flags": detail, "says": says});
            if let Some(ran) = apply(at, revision, states, reason, Phase::Undone, detail).await? {
                return Ok(ran);
            }
        }
        Err(StepError::passing("others keep changing flags"))
    }
}

/// The environment's revision, and every flag that differs from what it was.
async fn differing(
    at: &At<'_>,
    params: &Params,
    so_far: &BTreeMap<String, FlagSnapshot>,
) -> Result<(u64, Differing), PortError> {
    let (environment, flags) = (&at.plan.environment, &at.world.flags);
    let (revision, mut now) = flags.read_all(environment).await?;
    now.extend(so_far.iter().map(|(key, flag)| (key.clone(), flag.clone())));
    let then = flags.read_all_at(environment, params.moment(at.now())).await?;
    let found = then.into_iter().filter_map(|(key, then)| {
        let now = now.remove(&key).filter(|now| now.state != then)?;
        Some((key, (now, then)))
    });
    Ok((revision, found.collect()))
}

/// `None`: somebody was quicker.
async fn apply(
    at: &At<'_>,
    expected_revision: u64,
    states: BTreeMap<String, FlagState>,
    reason: String,
    phase: Phase,
    detail: Value,
) -> Result<Option<Ran>, StepError> {
    let environment = at.plan.environment.clone();
    let write = FlagsWrite { environment, expected_revision, states, reason };
    match at.world.flags.apply_all(at.lease, write, at.entry(phase, detail)).await {
        Ok(_) => Ok(Some(Ran::Committed)),
        Err(PortError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the step found and left, by flag.
fn left_by(done: &Value) -> BTreeMap<String, (FlagState, FlagState)> {
    let flags = done.get("flags").and_then(Value::as_object).into_iter().flatten();
    let read = flags.filter_map(|(key, states)| {
        let state = |name: &str| FlagState::deserialize(states.get(name)?).ok();
        Some((key.clone(), (state("before")?, state("after")?)))
    });
    read.collect()
}

/// The first few, and how many more.
fn names<'n>(keys: impl ExactSizeIterator<Item = &'n String>) -> String {
    let count = keys.len();
    let text = keys.take(NAMES_MAX).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    if count > NAMES_MAX {
        return format!("{text} and {} more", count - NAMES_MAX);
    }
    text
}
