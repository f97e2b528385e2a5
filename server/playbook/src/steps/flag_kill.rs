//! `flag.kill`: the switch above all rules.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use switchback_core::model::FlagState;

use super::flags;
use super::{
    At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind, Undo,
};
use crate::ports::FlagSnapshot;
use crate::standing::Sight;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    key: String,
    killed: bool,
}

impl Params {
    fn change(&self, before: &FlagSnapshot) -> FlagState {
        FlagState { killed: self.killed, ..before.state.clone() }
    }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "flag.kill"
    }

    fn about(&self) -> &'static str {
        "Kills a flag for everybody whatever its rules say, or releases it."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "key", about: "the flag's key" },
            Field { name: "killed", about: "true kills, false releases" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn commits_itself(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params { key: fields.flag()?, killed: fields.bool("killed")? };
        let key = &params.key;
        let does = if params.killed {
            format!("Kill flag `{key}` for everybody")
        } else {
            format!("Release flag `{key}`: its rules count again")
        };
        let undoes = format!("Give flag `{key}` back the state it had");
        Ok(Resolved { undoes, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, so_far: &mut Overlay) -> Effect {
        match at.read::<Params>() {
            Ok(params) => {
                flags::preview(at, so_far, &params.key, &|flag, _| Ok(params.change(flag))).await
            }
            Err(_) => Effect::none(),
        }
    }

    async fn sight(&self, at: &At<'_>) -> Option<Sight> {
        flags::sight(at).await
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        flags::change(at, &params.key, &|flag, _| Ok(params.change(flag))).await
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        flags::check(at, &at.read::<Params>()?.key).await
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        flags::restore(at).await
    }
}
