//! `incident.withdraw`: says that an incident's announcement was taken back, and resolves it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::incident_open::withdrawn;
use super::{At, Fault, Field, Fields, Ran, Resolved, StepError, StepKind, Undo};
use crate::ports::IncidentText;
use crate::says::Says;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    incident: String,
    components: Vec<String>,
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "incident.withdraw"
    }

    fn about(&self) -> &'static str {
        "Posts that an incident is withdrawn and resolves it; it cannot be unsent."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "incident", about: "the incident's id" },
            Field { name: "components", about: "a list of components that work again" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Impossible
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params {
            incident: fields.text("incident", 100)?,
            components: fields.list("components")?,
        };
        let does = format!("Post that incident {} is withdrawn, and resolve it", params.incident);
        Ok(Resolved::new(&params, does))
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let text = withdrawn(IncidentText {
            template: String::new(),
            title: String::new(),
            body: String::new(),
            impact: "none".to_owned(),
            status: String::new(),
            components: params
                .components
                .iter()
                .map(|name| (name.clone(), String::new()))
                .collect(),
            says: Says::default(),
            notify: Vec::new(),
        });
        at.world.incidents.update(&at.key("run"), &params.incident, &text).await?;
        Ok(Ran::Done(json!({"incident": params.incident})))
    }
}
