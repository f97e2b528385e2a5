//! `incident.update`: posts an update to an incident.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::incident_open::{published, text};
use super::{At, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind, Undo};
use crate::ports::IncidentText;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
pub(super) struct Params {
    pub text: IncidentText,
    pub of: Target,
}

/// Which incident is meant.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    /// The one that an earlier step of this run opened.
    Step(String),
    /// The newest unresolved one of the environment that came from this template.
    Template(String),
}

/// Reads `of`: an earlier `incident.open` step, or a template.
pub(super) fn target(fields: &Fields<'_>) -> Result<Target, Fault> {
    let of = fields.text("of", 60)?;
    if fields.earlier.iter().any(|(id, kind)| *id == of && kind == "incident.open") {
        return Ok(Target::Step(of));
    }
    match fields.templates.get(&of) {
        Ok(_) => Ok(Target::Template(of)),
        Err(message) => {
            let fault = Fault::new(
                "of",
                format!("no earlier step opens an incident as `{of}`, and {message}"),
            );
            Err(fault)
        }
    }
}

/// The incident's id, if there is one.
pub(super) async fn find(at: &At<'_>, target: &Target) -> Result<Option<String>, StepError> {
    match target {
        Target::Step(step) => {
            let opened = at.outputs.get(step);
            Ok(opened.and_then(|out| out.get("incident")?.as_str().map(str::to_owned)))
        }
        Target::Template(template) => {
            Ok(at.world.incidents.find_open(&at.plan.environment, template).await?)
        }
    }
}

/// Posts to the incident that is meant, once; none at all is no fault, and is said.
pub(super) async fn post(at: &At<'_>) -> Result<Ran, StepError> {
    let params: Params = at.read()?;
    match find(at, &params.of).await? {
        Some(id) => {
            at.world.incidents.update(&at.key("run"), &id, &params.text).await?;
            Ok(Ran::Done(json!({"incident": id})))
        }
        None => {
            Ok(Ran::Done(json!({"says": "there is no such open incident, so nothing was posted"})))
        }
    }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "incident.update"
    }

    fn about(&self) -> &'static str {
        "Posts an update to an open incident; it cannot be unsent."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "of", about: "the step that opened the incident, or its template" },
            Field { name: "template", about: "the template of the update's text" },
            Field { name: "vars", about: "values for the template's placeholders" },
            Field { name: "components", about: "components and what becomes of them" },
            Field {
                name: "notify",
                about: "who is told: page, subscribers, in_app, email, slack, discord, pagerduty, webhook; default all",
            },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Impossible
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params { text: text(fields)?, of: target(fields)? };
        let does = format!("Post the update \"{}\"", params.text.title);
        Ok(Resolved::new(&params, does))
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        published(at).await
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        post(at).await
    }
}
