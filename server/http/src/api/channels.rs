//! Channels, what was sent to whom, and incident templates.

use switchback_app::AppError;
use switchback_app::channels::{Channel, ChannelSettings};
use switchback_app::incident_templates::{KnownTemplate, parse_template};

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use switchback_playbook::ports::IncidentText;
use switchback_playbook::says::Says;
use switchback_store::{
    DeliveryCount, DeliveryFilter, DeliveryRow, DeliveryState, TemplateVersion,
};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery, page_of};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Channels":
        get "/api/v1/channels" list_channels "Channels, by key. Their secrets are named, never shown.", query PageQuery => Page<Channel>;
        get "/api/v1/channels/{channel}" get_channel "One channel." => Channel;
        put "/api/v1/channels/{channel}" put_channel "Set up a channel, or change it." body ChannelSettings => Channel;
        delete "/api/v1/channels/{channel}" delete_channel "Remove a channel; what waits for it is given up.";
        post "/api/v1/channels/{channel}/test" test_channel "Send a channel a test message; a status page elsewhere is only read." => TestAnswer;
        get "/api/v1/messages" list_messages "What was sent to whom, newest first.", query MessageQuery => Page<DeliveryRow>;
        get "/api/v1/messages/counts" count_messages "How many messages stand where, by channel." => Vec<DeliveryCount>;
        post "/api/v1/messages/{message}/resend" resend_message "Send a message again that was given up.";
        get "/api/v1/incident-templates" list_templates "Incident templates, by name.", query PageQuery => Page<TemplateAnswer>;
        get "/api/v1/incident-templates/{template}" get_template "One incident template with its text." => TemplateAnswer;
        put "/api/v1/incident-templates/{template}" put_template "Write a template, as a new version." body TemplateBody => TemplateAnswer;
        delete "/api/v1/incident-templates/{template}" delete_template "Remove what was written here; a shipped template of that name counts again.";
        get "/api/v1/incident-templates/{template}/versions" list_versions "Every version that was written here, newest first." => Vec<TemplateVersion>;
        post "/api/v1/incident-templates/{template}/preview" preview_template
            "What every channel would say. `source` previews a text that is not kept yet." body PreviewBody => PreviewAnswer;
    }
}

async fn list_channels(
    app: Data<State>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<Channel>> {
    Ok(Json(query.cut(app.list_channels(&caller.0).await?)?))
}

async fn get_channel(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<Channel> {
    Ok(Json(app.get_channel(&caller.0, &path).await?))
}

async fn put_channel(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ChannelSettings>,
) -> Answer<Channel> {
    Ok(Json(app.put_channel(&caller.0, &path, &body).await?))
}

async fn delete_channel(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    app.delete_channel(&caller.0, &path).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Serialize, JsonSchema)]
struct TestAnswer {
    /// The message's id in `/api/v1/messages`, where its fate can be followed.
    message: String,
}

async fn test_channel(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    let message = app.test_channel(&caller.0, &path).await?;
    Ok(HttpResponse::Accepted().json(TestAnswer { message }))
}

#[derive(Deserialize, JsonSchema)]
struct MessageQuery {
    /// `waiting`, `sent` or `dead`.
    state: Option<DeliveryState>,
    incident: Option<String>,
    run: Option<String>,
    channel: Option<String>,
    limit: Option<i64>,
    cursor: Option<String>,
}

async fn list_messages(
    app: Data<State>,
    caller: Caller,
    query: Query<MessageQuery>,
) -> Answer<Page<DeliveryRow>> {
    let MessageQuery { state, incident, run, channel, limit, cursor } = query.into_inner();
    let limit = PageQuery { limit, ..PageQuery::default() }.limit()?;
    let filter = DeliveryFilter { state, incident, run, channel, before: cursor };
    let rows = app.list_deliveries(&caller.0, &filter, limit).await?;
    Ok(Json(page_of(rows, limit, |row| row.id.clone())))
}

async fn count_messages(app: Data<State>, caller: Caller) -> Answer<Vec<DeliveryCount>> {
    Ok(Json(app.count_deliveries(&caller.0).await?))
}

async fn resend_message(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    app.resend_delivery(&caller.0, &path).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A template with its text.
#[derive(Serialize, JsonSchema)]
struct TemplateAnswer {
    name: String,
    title: String,
    impact: String,
    status: String,
    /// The placeholders with their defaults.
    placeholders: BTreeMap<String, Option<String>>,
    /// The newest version that was written here; 0: none.
    version: u64,
    /// Whether it was written here; otherwise it is shipped, or lies in the operator's folder.
    is_own: bool,
    /// Its text, YAML.
    source: String,
}

impl TemplateAnswer {
    fn of(known: KnownTemplate) -> Self {
        let KnownTemplate { template, source, version, is_own, .. } = known;
        let placeholders = template.placeholders.into_iter().map(|gap| (gap.name, gap.default));
        Self {
            name: template.name,
            title: template.title,
            impact: template.impact,
            status: template.status,
            placeholders: placeholders.collect(),
            version,
            is_own,
            source,
        }
    }
}

async fn list_templates(
    app: Data<State>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<TemplateAnswer>> {
    let all = app.list_incident_templates(&caller.0).await?;
    Ok(Json(query.cut(all.into_iter().map(TemplateAnswer::of).collect())?))
}

async fn get_template(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<TemplateAnswer> {
    Ok(Json(TemplateAnswer::of(app.get_incident_template(&caller.0, &path).await?)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TemplateBody {
    /// The template's text, YAML.
    source: String,
    /// The version that it was made from; somebody else's save meanwhile is then refused.
    expected_version: Option<u64>,
}

async fn put_template(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<TemplateBody>,
) -> Answer<TemplateAnswer> {
    let TemplateBody { source, expected_version } = body.into_inner();
    let kept = app.put_incident_template(&caller.0, &path, &source, expected_version).await?;
    Ok(Json(TemplateAnswer::of(kept)))
}

async fn delete_template(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    app.delete_incident_template(&caller.0, &path).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn list_versions(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Vec<TemplateVersion>> {
    Ok(Json(app.list_template_versions(&caller.0, &path).await?))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PreviewBody {
    /// Values for the placeholders.
    #[serde(default)]
    vars: BTreeMap<String, Value>,
    /// A text that is not kept yet.
    source: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct PreviewAnswer {
    title: String,
    body: String,
    impact: String,
    status: String,
    components: BTreeMap<String, String>,
    says: Says,
}

async fn preview_template(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<PreviewBody>,
) -> Answer<PreviewAnswer> {
    let PreviewBody { vars, source } = body.into_inner();
    let template = match source {
        Some(source) => parse_template(&source)?,
        None => app.get_incident_template(&caller.0, &path).await?.template,
    };
    let text = template.render(&vars).map_err(|why| AppError::invalid("vars", why))?;
    let IncidentText { title, body, impact, status, components, says, .. } = text;
    Ok(Json(PreviewAnswer { title, body, impact, status, components, says }))
}
