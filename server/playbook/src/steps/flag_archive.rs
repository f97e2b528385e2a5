//! `flag.archive`: takes a flag away in every environment; the undo brings it back as it was.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Answer, At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind,
    Undo,
};
use crate::journal::Phase;
use crate::ports::PortError;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    key: String,
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "flag.archive"
    }

    fn about(&self) -> &'static str {
        "Archives a flag in every environment: apps that still ask for it get their own default."
    }

    fn fields(&self) -> &'static [Field] {
        &[Field { name: "key", about: "the flag's key" }]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn commits_itself(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params { key: fields.flag()? };
        let does = format!("Archive flag `{}` in every environment", params.key);
        let undoes = format!("Bring flag `{}` back as it was", params.key);
        Ok(Resolved { undoes, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        let Ok(Params { key }) = at.read() else { return Effect::none() };
        let found = match at.world.archive.look(&key).await {
            Ok(found) => found,
            Err(error) => {
                let warnings = vec![format!("the step would fail: {error}")];
                let change = Answer::Unknown(error.to_string());
                return Effect { change, warnings, ..Effect::none() };
            }
        };
        if found.is_archived {
            let warnings = vec![format!("`{key}` is archived already")];
            return Effect { warnings, ..Effect::none() };
        }
        let clients = match at.world.convergence.status(&at.plan.environment, None).await {
            Ok(status) => Answer::Known(status.connected),
            Err(error) => Answer::Unknown(error.to_string()),
        };
        let warnings = match found.obstacle {
            Some(why) => vec![format!("the step would fail: {why}")],
            None => vec!["it goes in every environment, not in this one only".to_owned()],
        };
        let change = Answer::Known(Some((json!({"archived": false}), json!({"archived": true}))));
        Effect { change, clients, warnings }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        move_to(at, true, Phase::Done).await
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        let Params { key } = at.read()?;
        Ok(if at.world.archive.look(&key).await?.is_archived {
            Check::Holds(format!("`{key}` is archived"))
        } else {
            Check::Broken(format!("`{key}` is not archived any more"))
        })
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        // Effect and `done` row are one transaction: without the row there was no effect.
        let was_moved = at.done.is_some_and(|done| done.get("unchanged").is_none());
        if !was_moved {
            return Ok(Ran::Done(json!({"nothing": "it had not changed"})));
        }
        move_to(at, false, Phase::Undone).await
    }
}

/// Moves the flag to the archive or back, with the row that says so.
async fn move_to(at: &At<'_>, archived: bool, phase: Phase) -> Result<Ran, StepError> {
    let Params { key } = at.read()?;
    let found = at.world.archive.look(&key).await?;
    if found.is_archived == archived {
        return Ok(Ran::Done(unchanged(&key, archived)));
    }
    if let Some(why) = found.obstacle {
        return Err(StepError::permanent(why));
    }
    let (plan, step) = (&at.plan.playbook, &at.step.id);
    let reason = format!("playbook {plan}, step {step}: {}", at.plan.reason);
    let detail = json!({"flag": key, "archived": archived});
    match at.world.archive.set(at.lease, &key, archived, &reason, at.entry(phase, detail)).await {
        Ok(()) => Ok(Ran::Committed),
        // Somebody else was quicker.
        Err(PortError::NotFound(_)) => Ok(Ran::Done(unchanged(&key, archived))),
        Err(error) => Err(error.into()),
    }
}

fn unchanged(key: &str, archived: bool) -> Value {
    json!({"flag": key, "archived": archived, "unchanged": true})
}
