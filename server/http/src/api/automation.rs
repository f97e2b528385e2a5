//! The switch that stops everything that starts by itself.

use actix_web::web::{Data, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_store::AutomationOff;

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Playbooks":
        get "/api/v1/automation" get_automation "Whether playbooks may start by themselves." => Automation;
        put "/api/v1/automation" put_automation "Let playbooks start by themselves, or not." body AutomationBody => Automation;
    }
}

/// Whether playbooks may start by themselves.
#[derive(Serialize, JsonSchema)]
struct Automation {
    on: bool,
    /// Who switched it off, why and when.
    off: Option<AutomationOff>,
}

impl From<Option<AutomationOff>> for Automation {
    fn from(off: Option<AutomationOff>) -> Self {
        Self { on: off.is_none(), off }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AutomationBody {
    on: bool,
    /// Why.
    #[serde(default)]
    reason: String,
}

async fn get_automation(app: Data<State>, _caller: Caller) -> Answer<Automation> {
    Ok(Json(app.automation_off().await?.into()))
}

async fn put_automation(
    app: Data<State>,
    caller: Caller,
    body: Json<AutomationBody>,
) -> Answer<Automation> {
    let AutomationBody { on, reason } = body.into_inner();
    Ok(Json(app.set_automation(&caller.0, !on, &reason).await?.into()))
}
