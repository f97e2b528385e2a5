//! `flag.set`: turns a flag on or off, or gives it a value.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::{FlagState, Millis, ValueType};

use super::flags;
use super::{
    At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind, Undo,
};
use crate::ports::FlagSnapshot;
use crate::standing::Sight;
use crate::units::duration_text;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    key: String,
    value: Value,
    expires_ms: Option<u64>,
}

impl Params {
    fn change(&self, before: &FlagSnapshot, now: Millis) -> Result<FlagState, String> {
        let mut state = before.state.clone();
        match (&self.value, before.value_type) {
            (Value::Bool(on), _) => state.enabled = *on,
            (Value::String(_), ValueType::String)
            | (Value::Number(_), ValueType::Number)
            | (_, ValueType::Json) => {
                state.enabled = true;
                state.on_value = self.value.clone();
            }
            (value, kind) => {
                return Err(format!("`{}` holds {kind:?} values; `{value}` is none", self.key)
                    .to_lowercase());
            }
        }
        let on = state.enabled;
        if on && state.killed {
            return Err(format!("`{}` is killed; release it first, with flag.kill", self.key));
        }
        if let Some(expires) = self.expires_ms {
            state.expires_at = Some(now.saturating_add_unsigned(expires));
        } else if on && state.expires_at.is_some_and(|at| at <= now) {
            state.expires_at = None; // an expiry in the past would keep the flag off
        }
        Ok(state)
    }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "flag.set"
    }

    fn about(&self) -> &'static str {
        "Turns a flag on or off, or gives it a value; undo restores what it was."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "key", about: "the flag's key" },
            Field { name: "value", about: "true, false, or a value of the flag's type" },
            Field { name: "expires", about: "after this long the flag goes off by itself" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn commits_itself(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let key = fields.flag()?;
        let value = fields.any("value").ok_or_else(|| Fault::new("value", "`value` is missing"))?;
        let expires_ms = fields.duration_or_none("expires")?;
        if expires_ms.is_some() && *value == Value::Bool(false) {
            let fault =
                Fault::new("expires", "an expiry turns a flag off, and this step does so at once");
            return Err(fault.hint("leave `expires` out"));
        }
        let mut does = match value {
            Value::Bool(true) => format!("Turn flag `{key}` on"),
            Value::Bool(false) => format!("Turn flag `{key}` off"),
            other => format!("Turn flag `{key}` on with the value {other}"),
        };
        if let Some(ms) = expires_ms {
            does = format!("{does} for {}, then off by itself", duration_text(ms));
        }
        let undoes = format!("Give flag `{key}` back the state it had");
        let params = Params { key, value: value.clone(), expires_ms };
        Ok(Resolved { undoes, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, so_far: &mut Overlay) -> Effect {
        match at.read::<Params>() {
            Ok(params) => {
                flags::preview(at, so_far, &params.key, &|flag, now| params.change(flag, now)).await
            }
            Err(_) => Effect::none(),
        }
    }

    async fn sight(&self, at: &At<'_>) -> Option<Sight> {
        flags::sight(at).await
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        flags::change(at, &params.key, &|flag, now| params.change(flag, now)).await
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        flags::check(at, &at.read::<Params>()?.key).await
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        flags::restore(at).await
    }
}
