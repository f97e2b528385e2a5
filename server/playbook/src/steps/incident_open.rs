//! `incident.open`: opens an incident from a template.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Answer, At, Effect, Fault, Field, Fields, Inverse, Overlay, Past, Ran, Resolved, StepError,
    StepKind, Undo,
};
use crate::ports::IncidentText;
use crate::problem::suggest;
use crate::says::Says;
use crate::templates::COMPONENT_STATES;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
pub(super) struct Params {
    pub text: IncidentText,
}

/// Who can be told of an incident: the status page, the apps, subscribers and kinds of channels.
const NOTIFIED: [&str; 9] =
    ["page", "subscribers", "in_app", "email", "slack", "discord", "teams", "pagerduty", "webhook"];

/// Reads `template`, `vars` and `components`: what every incident step says.
pub(super) fn text(fields: &Fields<'_>) -> Result<IncidentText, Fault> {
    let name = fields.text("template", 60)?;
    let template =
        fields.templates.get(&name).map_err(|message| Fault::new("template", message))?;
    let vars = fields.map_of("vars")?.into_iter().collect();
    let mut text = template.render(&vars).map_err(|message| Fault::new("vars", message))?;
    for (component, state) in fields.texts("components")? {
        if !COMPONENT_STATES.contains(&state.as_str()) {
            let fault = Fault::new("components", format!("`{state}` is not a component's state"));
            return Err(fault.hint(suggest(&state, COMPONENT_STATES)));
        }
        text.components.insert(component, state);
    }
    text.notify = fields.list("notify")?;
    if let Some(unknown) = text.notify.iter().find(|word| !NOTIFIED.contains(&word.as_str())) {
        let fault = Fault::new("notify", format!("`{unknown}` is nobody who can be told"));
        return Err(fault.hint(suggest(unknown, NOTIFIED)));
    }
    Ok(text)
}

/// What is posted when an incident's announcement was taken back.
pub(super) fn withdrawn(opened: IncidentText) -> IncidentText {
    let works = |name: &String| (name.clone(), "operational".to_owned());
    IncidentText {
        title: String::new(),
        body: "This incident is withdrawn: the action that it announced was taken back.".to_owned(),
        status: "resolved".to_owned(),
        components: opened.components.keys().map(works).collect(),
        says: Says::default(),
        ..opened
    }
}

/// What an incident step would publish, and how many would be told.
pub(super) async fn published(at: &At<'_>) -> Effect {
    let mut shown = at.params.get("text").cloned().unwrap_or_default();
    let text = IncidentText::deserialize(&shown).ok();
    let reached = match &text {
        Some(text) => at.world.incidents.reached(text).await.ok(),
        None => None,
    };
    if let (Some(shown), Some(reached)) = (shown.as_object_mut(), reached) {
        shown.insert("subscribers_told".to_owned(), json!(reached));
    }
    let change = Answer::Known(Some((Value::Null, shown)));
    Effect { change, ..Effect::none() }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "incident.open"
    }

    fn about(&self) -> &'static str {
        "Opens an incident from a template; undo posts that it is withdrawn and resolves it."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "template", about: "the incident template's name" },
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
        let params = Params { text: text(fields)? };
        let does = format!("Open the incident \"{}\"", params.text.title);
        let undoes = "Post that the incident is withdrawn, and resolve it".to_owned();
        Ok(Resolved { undoes, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        published(at).await
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let id =
            at.world.incidents.open(&at.key("run"), &at.plan.environment, &params.text).await?;
        Ok(Ran::Done(json!({"incident": id})))
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let known = at.done.and_then(|done| done.get("incident")?.as_str().map(str::to_owned));
        let id = match known {
            Some(id) => Some(id),
            // The attempt left no outcome; the key tells whether it opened anything.
            None => at.world.incidents.find_by_key(&at.key("run")).await?,
        };
        let Some(id) = id else {
            return Ok(Ran::Done(json!({"nothing": "no incident was opened"})));
        };
        let opened: Params = at.read()?;
        at.world.incidents.update(&at.key("undo"), &id, &withdrawn(opened.text)).await?;
        Ok(Ran::Done(json!({"incident": id})))
    }

    fn invert(&self, past: &Past<'_>) -> Inverse {
        let Some(id) = past.done.get("incident") else { return Inverse::Nothing };
        let components: Vec<String> = Params::deserialize(past.params)
            .map(|params| params.text.components.into_keys().collect())
            .unwrap_or_default();
        Inverse::step("incident.withdraw", json!({"incident": id, "components": components}))
    }
}
