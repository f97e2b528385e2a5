//! `page.component`: says on the status page how components are.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Answer, At, Effect, Fault, Field, Fields, Inverse, Overlay, Past, Ran, Resolved, StepError,
    StepKind, Undo,
};
use crate::problem::suggest;
use crate::templates::COMPONENT_STATES;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    components: BTreeMap<String, String>,
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "page.component"
    }

    fn about(&self) -> &'static str {
        "Says on the status page how components are; undo puts back what it said before."
    }

    fn fields(&self) -> &'static [Field] {
        &[Field { name: "components", about: "components and how they are" }]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let components = fields.texts("components")?;
        if components.is_empty() {
            let hint = "such as {auth: degraded_performance}";
            return Err(Fault::new("components", "at least one is expected").hint(hint));
        }
        for state in components.values() {
            if !COMPONENT_STATES.contains(&state.as_str()) {
                let fault =
                    Fault::new("components", format!("`{state}` is not a component's state"));
                return Err(fault.hint(suggest(state, COMPONENT_STATES)));
            }
        }
        let listed: Vec<String> = components
            .iter()
            .map(|(key, state)| format!("{key} as {}", state.replace('_', " ")))
            .collect();
        let does = format!("Show {} on the status page", listed.join(", "));
        let undoes = "Show the components as before".to_owned();
        Ok(Resolved { undoes, ..Resolved::new(&Params { components }, does) })
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        let mut effect = Effect::none();
        let Ok(params) = at.read::<Params>() else { return effect };
        match at.world.incidents.components().await {
            Ok(mut now) => {
                now.retain(|key, _| params.components.contains_key(key));
                for unknown in params.components.keys().filter(|key| !now.contains_key(*key)) {
                    effect.warnings.push(format!("there is no component `{unknown}`"));
                }
                effect.change = Answer::Known(Some((json!(now), json!(params.components))));
            }
            Err(error) => effect.change = Answer::Unknown(error.to_string()),
        }
        effect
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let before = at.world.incidents.set_components(&at.key("run"), &params.components).await?;
        Ok(Ran::Done(json!({"before": before})))
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let kept = at.done.and_then(|done| BTreeMap::deserialize(done.get("before")?).ok());
        let before: BTreeMap<String, String> = match kept {
            Some(before) => before,
            // The attempt left no outcome: doing it once more tells what was before the first time.
            None => at.world.incidents.set_components(&at.key("run"), &params.components).await?,
        };
        at.world.incidents.set_components(&at.key("undo"), &before).await?;
        Ok(Ran::Done(json!({"components": before})))
    }

    fn invert(&self, past: &Past<'_>) -> Inverse {
        match past.done.get("before") {
            Some(before) => Inverse::step("page.component", json!({"components": before})),
            None => Inverse::Nothing,
        }
    }
}
