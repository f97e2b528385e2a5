//! `flag.rollout`: sets the share of a flag's rule, or of the flag when it has no rule.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchback_core::model::{FlagState, Percent, Rule};

use super::flags;
use super::{
    At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind, Undo,
};
use crate::ports::FlagSnapshot;
use crate::standing::Sight;
use crate::units::percent_text;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    key: String,
    thousandths: u32,
    rule: Option<String>,
}

impl Params {
    fn change(&self, before: &FlagSnapshot) -> Result<FlagState, String> {
        let mut state = before.state.clone();
        let percent =
            Percent::from_thousandths(self.thousandths).map_err(|error| error.to_string())?;
        let wanted = self.rule.as_deref();
        let found = match state.rules.as_mut_slice() {
            [] if wanted.is_none() => {
                // A flag without rules admits everybody; a share of everybody needs a rule.
                let rule: Rule =
                    serde_json::from_value(json!({"id": "rollout", "percent": percent}))
                        .map_err(|error| error.to_string())?;
                state.rules.push(rule);
                return Ok(state);
            }
            [only] if wanted.is_none() => Some(only),
            rules => rules.iter_mut().find(|rule| Some(rule.id.as_str()) == wanted),
        };
        match (found, wanted) {
            (Some(rule), _) => rule.percent = percent,
            (None, Some(wanted)) => return Err(format!("`{}` has no rule `{wanted}`", self.key)),
            (None, None) => {
                return Err(format!("`{}` has several rules; say which, with `rule`", self.key));
            }
        }
        Ok(state)
    }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "flag.rollout"
    }

    fn about(&self) -> &'static str {
        "Sets the share of users that a flag's rule lets in; undo restores what it was."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "key", about: "the flag's key" },
            Field { name: "percent", about: "the share, such as 10%" },
            Field { name: "rule", about: "the rule's id; needed when the flag has several" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn commits_itself(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params {
            key: fields.flag()?,
            thousandths: fields.percent("percent")?,
            rule: fields.text_or_none("rule", 60)?,
        };
        let (key, share) = (&params.key, percent_text(params.thousandths));
        let does = match &params.rule {
            Some(rule) => format!("Set rule `{rule}` of flag `{key}` to {share}"),
            None => format!("Set flag `{key}` to {share}"),
        };
        let undoes = format!("Give flag `{key}` back the state it had");
        Ok(Resolved { undoes, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, so_far: &mut Overlay) -> Effect {
        match at.read::<Params>() {
            Ok(params) => {
                flags::preview(at, so_far, &params.key, &|flag, _| params.change(flag)).await
            }
            Err(_) => Effect::none(),
        }
    }

    async fn sight(&self, at: &At<'_>) -> Option<Sight> {
        flags::sight(at).await
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        flags::change(at, &params.key, &|flag, _| params.change(flag)).await
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        flags::check(at, &at.read::<Params>()?.key).await
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        flags::restore(at).await
    }
}
