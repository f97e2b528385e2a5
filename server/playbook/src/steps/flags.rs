//! What the flag kinds share: change with compare-and-set, restore, look again, preview.

use serde::Deserialize;
use serde_json::{Value, json};
use switchback_core::model::{FlagState, Millis};

use super::{Answer, At, Check, Effect, Overlay, Ran, StepError};
use crate::journal::Phase;
use crate::ports::{FlagSnapshot, FlagWrite, PortError};
use crate::standing::Sight;

/// How often a change is tried against people who edit the flag at the same moment.
const RACES_MAX: u32 = 8;

/// The revision of the flag that a step changes.
pub async fn sight(at: &At<'_>) -> Option<Sight> {
    let key = at.params.get("key").and_then(Value::as_str)?;
    let found = at.world.flags.read(&at.plan.environment, key).await.ok()?;
    Some(Sight::Flag { key: key.to_owned(), revision: found.revision })
}

/// Computes what a flag becomes; the error is a sentence.
pub type Change<'c> = &'c (dyn Fn(&FlagSnapshot, Millis) -> Result<FlagState, String> + Sync);

/// Whether a flag is on for those whom its rules admit.
pub fn is_on(state: &FlagState, now: Millis) -> bool {
    state.enabled && !state.killed && state.expires_at.is_none_or(|at| now < at)
}

/// Reads the flag, changes it, and commits change and `done` row together. The detail holds `flag`,
/// `before`, `after`, `revision` (from the transaction), or `unchanged: true`.
pub async fn change(at: &At<'_>, flag: &str, change: Change<'_>) -> Result<Ran, StepError> {
    for _ in 0..RACES_MAX {
        let before = at.world.flags.read(&at.plan.environment, flag).await?;
        let after = change(&before, at.now()).map_err(StepError::permanent)?;
        if after == before.state {
            return Ok(Ran::Done(json!({
                "flag": flag, "before": after, "after": after, "unchanged": true,
            })));
        }
        let detail = json!({"flag": flag, "before": before.state, "after": after});
        let write = FlagWrite {
            environment: at.plan.environment.clone(),
            flag: flag.to_owned(),
            expected_revision: before.revision,
            state: after,
            reason: format!(
                "playbook {}, step {}: {}",
                at.plan.playbook, at.step.id, at.plan.reason
            ),
        };
        match at.world.flags.apply(at.lease, write, at.entry(Phase::Done, detail)).await {
            Ok(_) => return Ok(Ran::Committed),
            Err(PortError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StepError::passing(format!("others keep changing `{flag}`")))
}

/// Gives the flag back the state that the step found, unless somebody has changed it since.
pub async fn restore(at: &At<'_>) -> Result<Ran, StepError> {
    // Effect and `done` row are one transaction: without the row there was no effect.
    let Some(done) = at.done else {
        return Ok(Ran::Done(json!({"nothing": "it had not changed"})));
    };
    if done.get("unchanged").is_some() {
        return Ok(Ran::Done(json!({"nothing": "it had not changed"})));
    }
    let missing = || StepError::permanent("the journal does not hold the state before");
    let flag = done.get("flag").and_then(Value::as_str).ok_or_else(missing)?;
    let state = |name: &str| FlagState::deserialize(done.get(name)?).ok();
    let before = state("before").ok_or_else(missing)?;
    let after = state("after").ok_or_else(missing)?;

    for _ in 0..RACES_MAX {
        let now = at.world.flags.read(&at.plan.environment, flag).await?;
        if now.state == before {
            return Ok(Ran::Done(json!({"nothing": "it already is as it was before"})));
        }
        // A later step of this run may have changed the flag too, and was undone before this one: then
        // the revision is the run's own, and the state is what this step left.
        let ours = at.revisions.contains(&now.revision) && now.state == after;
        if !ours && !at.forced {
            return Err(StepError::Conflict(format!(
                "`{flag}` was changed by somebody else (revision {}) after this step; it was left alone",
                now.revision
            )));
        }
        let write = FlagWrite {
            environment: at.plan.environment.clone(),
            flag: flag.to_owned(),
            expected_revision: now.revision,
            state: before.clone(),
            reason: format!("undo of playbook {}, step {}", at.plan.playbook, at.step.id),
        };
        let detail = json!({"flag": flag, "before": now.state, "after": before});
        match at.world.flags.apply(at.lease, write, at.entry(Phase::Undone, detail)).await {
            Ok(_) => return Ok(Ran::Committed),
            Err(PortError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StepError::passing(format!("others keep changing `{flag}`")))
}

/// Reads the flag again and compares it with what the step left.
pub async fn check(at: &At<'_>, flag: &str) -> Result<Check, StepError> {
    let now = at.world.flags.read(&at.plan.environment, flag).await?;
    let after = at.done.and_then(|done| done.get("after"));
    Ok(if after == Some(&json!(now.state)) {
        Check::Holds(format!("`{flag}` is as the step left it"))
    } else {
        Check::Broken(format!("`{flag}` was changed after the step"))
    })
}

/// What the change would do to the flag as the steps before would leave it.
pub async fn preview(at: &At<'_>, so_far: &mut Overlay, flag: &str, change: Change<'_>) -> Effect {
    let environment = &at.plan.environment;
    let before = match so_far.flags.get(flag) {
        Some(before) => Ok(before.clone()),
        None => at.world.flags.read(environment, flag).await,
    };
    let mut before = match before {
        Ok(before) => before,
        Err(error) => return unknown(&error.to_string()),
    };
    let after = match change(&before, at.now()) {
        Ok(after) => after,
        Err(message) => return unknown(&message),
    };
    let differs = after != before.state;
    let values = differs.then(|| (json!(before.state), json!(after)));
    before.state = after;
    so_far.flags.insert(flag.to_owned(), before);
    let clients = match at.world.convergence.status(environment, None).await {
        Ok(status) if differs => Answer::Known(status.connected),
        Ok(_) => Answer::Known(0),
        Err(error) => Answer::Unknown(error.to_string()),
    };
    let warnings = if differs { vec![] } else { vec![format!("`{flag}` is like this already")] };
    Effect { change: Answer::Known(values), clients, warnings }
}

fn unknown(why: &str) -> Effect {
    Effect {
        change: Answer::Unknown(why.to_owned()),
        clients: Answer::Unknown(why.to_owned()),
        warnings: vec![format!("the step would fail: {why}")],
    }
}
