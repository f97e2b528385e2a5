//! Incidents and components.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_app::incidents::{IncidentDraft, IncidentEdit, UpdateDraft};
use switchback_app::{AppError, Reach};
use switchback_playbook::ports::IncidentText;
use switchback_store::{
    Audience, Component, ComponentStatus, Impact, Incident, IncidentStatus, RemoteIncident,
};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery, page_of};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Incidents":
        get "/api/v1/incidents" list_incidents "Incidents with their updates, newest first.", query ListQuery => Page<Incident>;
        post "/api/v1/incidents" open_incident "Open an incident; the public page shows it at once." body IncidentBody => Incident;
        get "/api/v1/incidents/{incident}" get_incident "One incident." => Incident;
        patch "/api/v1/incidents/{incident}" edit_incident "Change an incident's name, impact, times, metadata or audience. Tells nobody."
            body EditBody => Incident;
        delete "/api/v1/incidents/{incident}" delete_incident "Take an incident off every list that was opened by mistake.";
        post "/api/v1/incidents/{incident}/updates" update_incident
            "Post an update. Resolving gives the components back." body UpdateBody => Incident;
        patch "/api/v1/incidents/{incident}/updates/{update}" edit_update
            "Correct an update's text or time. Tells nobody again." body CorrectionBody => Incident;
        get "/api/v1/incidents/{incident}/elsewhere" list_elsewhere
            "What the incident is on status pages elsewhere: what they were told, and what was read back." => Vec<RemoteIncident>;
        put "/api/v1/incidents/{incident}/handler" handle_incident "Say who takes care of an incident." body HandlerBody => Incident;
        get "/api/v1/incidents/{incident}/postmortem" draft_postmortem
            "The postmortem; none yet: one drafted from the time line of runs, changes and updates." => Postmortem;
        put "/api/v1/incidents/{incident}/postmortem" put_postmortem "Keep a postmortem, and publish it when told so." body PostmortemBody => Incident;
        delete "/api/v1/incidents/{incident}/postmortem" delete_postmortem "Remove a postmortem." => Incident;
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
    /// One line; taken from the template when absent.
    name: Option<String>,
    status: Option<IncidentStatus>,
    impact: Option<Impact>,
    #[serde(default)]
    components: BTreeMap<String, ComponentStatus>,
    /// The first update; taken from the template when absent.
    body: Option<String>,
    /// A template to take texts from.
    template: Option<String>,
    /// Values for the template's placeholders.
    #[serde(default)]
    vars: BTreeMap<String, Value>,
    #[serde(default)]
    audience: Audience,
    /// False: nobody is told, the page alone shows it.
    #[serde(default = "yes")]
    deliver: bool,
    /// Who is told: `subscribers`, `in_app`, kinds of channels or their keys; absent: everybody.
    #[serde(default)]
    notify: Vec<String>,
    /// Environments whose apps show the template's message.
    #[serde(default)]
    in_app: Vec<String>,
    /// When planned work begins, RFC 3339.
    scheduled_for: Option<Timestamp>,
    /// When it ends.
    scheduled_until: Option<Timestamp>,
    /// Planned work begins by itself.
    #[serde(default)]
    auto_begin: bool,
    /// Planned work is over by itself.
    #[serde(default)]
    auto_complete: bool,
    /// When it began, for an incident that is over and is written down afterwards.
    started_at: Option<Timestamp>,
    /// When that was over.
    ended_at: Option<Timestamp>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    /// The same key opens one incident.
    dedupe_key: Option<String>,
}

fn yes() -> bool {
    true
}

/// A moment, RFC 3339.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Timestamp(#[schemars(with = "String")] jiff::Timestamp);

fn pair(
    field: &str,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Option<(i64, i64)>, AppError> {
    match (from, until) {
        (None, None) => Ok(None),
        (Some(Timestamp(from)), Some(Timestamp(until))) => {
            Ok(Some((from.as_millisecond(), until.as_millisecond())))
        }
        _ => Err(AppError::invalid(field, "the beginning and the end belong together")),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UpdateBody {
    status: Option<IncidentStatus>,
    /// The text; taken from the template when absent.
    body: Option<String>,
    #[serde(default)]
    components: BTreeMap<String, ComponentStatus>,
    /// A template to take texts from.
    template: Option<String>,
    /// Values for the template's placeholders.
    #[serde(default)]
    vars: BTreeMap<String, Value>,
    /// False: nobody is told, the page alone shows it.
    #[serde(default = "yes")]
    deliver: bool,
    /// Who is told; absent: everybody.
    #[serde(default)]
    notify: Vec<String>,
    /// Environments whose apps show the template's message.
    #[serde(default)]
    in_app: Vec<String>,
    name: Option<String>,
    impact: Option<Impact>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EditBody {
    name: Option<String>,
    impact: Option<Impact>,
    scheduled_for: Option<Timestamp>,
    scheduled_until: Option<Timestamp>,
    auto_begin: Option<bool>,
    auto_complete: Option<bool>,
    metadata: Option<BTreeMap<String, Value>>,
    audience: Option<Audience>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CorrectionBody {
    body: Option<String>,
    /// When it was said, RFC 3339.
    at: Option<Timestamp>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HandlerBody {
    /// Who; null: nobody does.
    handled_by: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PostmortemBody {
    body: String,
    /// The status page shows it.
    #[serde(default)]
    publish: bool,
}

#[derive(Serialize, JsonSchema)]
struct Postmortem {
    body: String,
    /// Nobody has written it: it was drafted just now.
    is_draft: bool,
    /// When it was published, in UTC milliseconds.
    published_at: Option<i64>,
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
) -> Result<HttpResponse, Problem> {
    let body = body.into_inner();
    let text = match &body.template {
        Some(name) => Some(app.fill_template(&caller.0, name, &body.vars).await?),
        None => None,
    };
    let missing = |field: &str| AppError::invalid(field, "say something, or name a template");
    let name = body.name.or_else(|| text.as_ref().map(|text| text.title.clone()));
    let said = body.body.or_else(|| text.as_ref().map(|text| text.body.clone()));
    let status = match (body.status, &text) {
        (Some(status), _) => status,
        (None, Some(text)) => closed("status", &text.status)?,
        (None, None) => IncidentStatus::Investigating,
    };
    let impact = match (body.impact, &text) {
        (Some(impact), _) => impact,
        (None, Some(text)) => closed("impact", &text.impact)?,
        (None, None) => Impact::Minor,
    };
    let mut components = match &text {
        Some(text) => components_of(text)?,
        None => BTreeMap::new(),
    };
    components.extend(body.components);
    let name = name.ok_or_else(|| missing("name"))?;
    let said = said.ok_or_else(|| missing("body"))?;
    let draft = IncidentDraft {
        components,
        template: body.template,
        says: text.map(|text| text.says).unwrap_or_default(),
        audience: body.audience,
        reach: Reach {
            is_quiet: !body.deliver,
            only: body.notify,
            in_app: body.in_app,
            ..Reach::default()
        },
        scheduled: pair("scheduled_until", body.scheduled_for, body.scheduled_until)?,
        auto_begin: body.auto_begin,
        auto_complete: body.auto_complete,
        backfilled: pair("ended_at", body.started_at, body.ended_at)?,
        metadata: body.metadata,
        ..IncidentDraft::new(&name, status, impact, &said)
    };
    let key = body.dedupe_key.map(|key| format!("api {key}"));
    Ok(HttpResponse::Created().json(app.open_incident(&caller.0, draft, key).await?))
}

fn closed<T: serde::de::DeserializeOwned>(field: &str, word: &str) -> Result<T, AppError> {
    serde_json::from_value(Value::String(word.to_owned()))
        .map_err(|error| AppError::invalid(field, error.to_string()))
}

fn components_of(text: &IncidentText) -> Result<BTreeMap<String, ComponentStatus>, AppError> {
    text.components
        .iter()
        .map(|(key, word)| Ok((key.clone(), closed("components", word)?)))
        .collect()
}

async fn get_incident(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<Incident> {
    Ok(Json(app.get_incident(&caller.0, &path).await?))
}

async fn edit_incident(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<EditBody>,
) -> Answer<Incident> {
    let body = body.into_inner();
    let edit = IncidentEdit {
        name: body.name,
        impact: body.impact,
        scheduled: pair("scheduled_until", body.scheduled_for, body.scheduled_until)?,
        auto_begin: body.auto_begin,
        auto_complete: body.auto_complete,
        metadata: body.metadata,
        audience: body.audience,
    };
    Ok(Json(app.edit_incident(&caller.0, &path, edit).await?))
}

async fn delete_incident(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    app.withdraw_incident(&caller.0, &path).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn update_incident(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<UpdateBody>,
) -> Answer<Incident> {
    let body = body.into_inner();
    let text = match &body.template {
        Some(name) => Some(app.fill_template(&caller.0, name, &body.vars).await?),
        None => None,
    };
    let status = match (body.status, &text) {
        (Some(status), _) => status,
        (None, Some(text)) => closed("status", &text.status)?,
        (None, None) => {
            return Err(AppError::invalid("status", "say how it goes, or name a template").into());
        }
    };
    let said = body.body.or_else(|| text.as_ref().map(|text| text.body.clone()));
    let said =
        said.ok_or_else(|| AppError::invalid("body", "say something, or name a template"))?;
    let mut components = match &text {
        Some(text) if !status.is_over() => components_of(text)?,
        _ => BTreeMap::new(),
    };
    components.extend(body.components);
    let draft = UpdateDraft {
        components,
        says: text.map(|text| text.says).unwrap_or_default(),
        reach: Reach {
            is_quiet: !body.deliver,
            only: body.notify,
            in_app: body.in_app,
            ..Reach::default()
        },
        name: body.name,
        impact: body.impact,
        ..UpdateDraft::new(status, &said)
    };
    Ok(Json(app.update_incident(&caller.0, &path, draft, None).await?))
}

async fn edit_update(
    app: Data<State>,
    caller: Caller,
    path: Path<(String, String)>,
    body: Json<CorrectionBody>,
) -> Answer<Incident> {
    let (incident, update) = path.into_inner();
    let at = body.at.map(|Timestamp(at)| at.as_millisecond());
    Ok(Json(app.edit_update(&caller.0, &incident, &update, body.body.as_deref(), at).await?))
}

async fn list_elsewhere(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Vec<RemoteIncident>> {
    Ok(Json(app.list_remote_incidents(&caller.0, &path).await?))
}

async fn handle_incident(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<HandlerBody>,
) -> Answer<Incident> {
    Ok(Json(app.handle_incident(&caller.0, &path, body.handled_by.as_deref()).await?))
}

async fn draft_postmortem(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Postmortem> {
    let incident = app.get_incident(&caller.0, &path).await?;
    let published_at = incident.postmortem_at;
    let (body, is_draft) = match incident.postmortem {
        Some(body) => (body, false),
        None => (app.draft_postmortem(&caller.0, &path).await?, true),
    };
    Ok(Json(Postmortem { body, is_draft, published_at }))
}

async fn put_postmortem(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<PostmortemBody>,
) -> Answer<Incident> {
    let PostmortemBody { body, publish } = body.into_inner();
    Ok(Json(app.put_postmortem(&caller.0, &path, Some(&body), publish).await?))
}

async fn delete_postmortem(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Incident> {
    Ok(Json(app.put_postmortem(&caller.0, &path, None, false).await?))
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
) -> Result<HttpResponse, Problem> {
    app.set_component_status(&caller.0, &path, body.status, &body.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}
