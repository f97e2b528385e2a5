//! `incident.resolve`: posts the last update and resolves an incident.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::json;

use super::incident_open::{published, text};
use super::incident_update::{Params, post, target};
use super::{At, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind, Undo};
use crate::ports::IncidentText;
use crate::says::Says;

/// The kind.
pub struct Kind;

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "incident.resolve"
    }

    fn about(&self) -> &'static str {
        "Resolves an open incident with a last update; undo opens it again."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "of", about: "the step that opened the incident, or its template" },
            Field { name: "template", about: "the template of the last update's text" },
            Field { name: "vars", about: "values for the template's placeholders" },
            Field { name: "components", about: "components and what becomes of them" },
            Field {
                name: "notify",
                about: "who is told: page, subscribers, in_app, email, slack, discord, pagerduty, webhook; default all",
            },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let mut params = Params { text: text(fields)?, of: target(fields)? };
        "resolved".clone_into(&mut params.text.status);
        let does = format!("Resolve the incident with \"{}\"", params.text.title);
        let undoes = "Post that the incident is being looked at again".to_owned();
        Ok(Resolved { undoes, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        published(at).await
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        post(at).await
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let id = at.done.and_then(|done| done.get("incident")?.as_str().map(str::to_owned));
        let Some(id) = id else {
            return Ok(Ran::Done(json!({"nothing": "no incident was resolved"})));
        };
        let params: Params = at.read()?;
        let again = IncidentText {
            title: String::new(),
            body: "We said too early that this is over, and are looking at it again.".to_owned(),
            status: "investigating".to_owned(),
            components: BTreeMap::new(),
            says: Says::default(),
            ..params.text
        };
        at.world.incidents.update(&at.key("undo"), &id, &again).await?;
        Ok(Ran::Done(json!({"incident": id})))
    }
}
