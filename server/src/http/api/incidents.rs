//! Incidents and components.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::Deserialize;
use switchback_store::{Component, ComponentStatus, Impact, Incident, IncidentStatus};

use crate::app::AppError;
use crate::app::incidents::{IncidentDraft, UpdateDraft};
use crate::http::State;
use crate::http::auth::Caller;
use crate::http::endpoint::Endpoint;
use crate::http::page::{Page, PageQuery, page_of};

type Answer<T> = Result<Json<T>, AppError>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::http::endpoint::endpoints! {"Incidents":
        get "/api/v1/incidents" list_incidents "Incidents with their updates, newest first.", query ListQuery => Page<Incident>;
        post "/api/v1/incidents" open_incident "Open an incident; the public page shows it at once." body IncidentBody => Incident;
        get "/api/v1/incidents/{incident}" get_incident "One incident." => Incident;
        post "/api/v1/incidents/{incident}/updates" update_incident
            "Post an update. Resolving gives the components back." body UpdateBody => Incident;
        get "/api/v1/components" list_components "Components, in their order.", query PageQuery => Page<Component>;
        put "/api/v1/components/{component}" put_component "Make a component, or change its texts." body ComponentBody => Component;
        put "/api/v1/components/{component}/status" set_component_status "Say how a component is." body StatusBody;
    }
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    /// Only those that are not over.
    #[serde(default)]
    open: bool,
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IncidentBody {
    name: String,
    #[serde(default = "investigating")]
    status: IncidentStatus,
    #[serde(default = "minor")]
    impact: Impact,
    #[serde(default)]
    components: BTreeMap<String, ComponentStatus>,
    body: String,
}

fn investigating() -> IncidentStatus {
    IncidentStatus::Investigating
}

fn minor() -> Impact {
    Impact::Minor
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UpdateBody {
    status: IncidentStatus,
    body: String,
    #[serde(default)]
    components: BTreeMap<String, ComponentStatus>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ComponentBody {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    position: i64,
    /// The group that it stands in.
    #[serde(default)]
    group: Option<String>,
    /// The status page shows it only while it is not operational.
    #[serde(default)]
    only_show_if_degraded: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StatusBody {
    status: ComponentStatus,
    #[serde(default)]
    reason: String,
}

async fn list_incidents(
    app: Data<State>,
    caller: Caller,
    query: Query<ListQuery>,
) -> Answer<Page<Incident>> {
    let ListQuery { open, limit, cursor } = query.into_inner();
    let limit = PageQuery { limit, ..PageQuery::default() }.limit()?;
    let rows = app.list_incidents(&caller.0, open, cursor.as_deref(), limit).await?;
    Ok(Json(page_of(rows, limit, |incident| incident.id.clone())))
}

async fn open_incident(
    app: Data<State>,
    caller: Caller,
    body: Json<IncidentBody>,
) -> Result<HttpResponse, AppError> {
    let IncidentBody { name, status, impact, components, body } = body.into_inner();
    let draft = IncidentDraft { name, status, impact, components, body, template: None };
    Ok(HttpResponse::Created().json(app.open_incident(&caller.0, draft, None).await?))
}

async fn get_incident(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<Incident> {
    Ok(Json(app.get_incident(&caller.0, &path).await?))
}

async fn update_incident(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<UpdateBody>,
) -> Answer<Incident> {
    let UpdateBody { status, body, components } = body.into_inner();
    let draft = UpdateDraft { status, body, components };
    Ok(Json(app.update_incident(&caller.0, &path, draft, None).await?))
}

async fn list_components(
    app: Data<State>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<Component>> {
    Ok(Json(query.cut(app.list_components(&caller.0).await?)?))
}

async fn put_component(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ComponentBody>,
) -> Answer<Component> {
    let ComponentBody { name, description, position, group, only_show_if_degraded } =
        body.into_inner();
    let now = app.clock.now();
    let component = Component {
        key: path.into_inner(),
        name,
        description,
        status: ComponentStatus::Operational,
        position,
        group,
        only_show_if_degraded,
        created_at: now,
        updated_at: now,
    };
    app.put_component(&caller.0, component.clone()).await?;
    let all = app.list_components(&caller.0).await?;
    Ok(Json(all.into_iter().find(|kept| kept.key == component.key).unwrap_or(component)))
}

async fn set_component_status(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<StatusBody>,
) -> Result<HttpResponse, AppError> {
    app.set_component_status(&caller.0, &path, body.status, &body.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}
