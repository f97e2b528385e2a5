//! Components of the status page: groups, order, taking one away.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::Deserialize;
use switchback_store::ComponentGroup;

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Components":
        delete "/api/v1/components/{component}" remove_component
            "Remove a component with its past; refused while an open incident names it.", query ReasonQuery;
        put "/api/v1/component-order" order_components
            "Put components in an order; those not named follow as they stood." body OrderBody;
        get "/api/v1/component-groups" list_component_groups "Groups of components, in their order.", query PageQuery => Page<ComponentGroup>;
        put "/api/v1/component-groups/{group}" put_component_group "Make a group or change it." body GroupBody => ComponentGroup;
        delete "/api/v1/component-groups/{group}" remove_component_group
            "Remove a group that holds no component.", query ReasonQuery;
    }
}

#[derive(Deserialize, JsonSchema)]
struct ReasonQuery {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    /// Keys of components, the first first.
    components: Vec<String>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GroupBody {
    name: String,
    #[serde(default)]
    description: String,
    /// Where it stands among the groups.
    #[serde(default)]
    position: i64,
    #[serde(default)]
    reason: String,
}

async fn remove_component(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReasonQuery>,
) -> Result<HttpResponse, Problem> {
    app.remove_component(&caller.0, &path, &query.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn order_components(
    app: Data<State>,
    caller: Caller,
    body: Json<OrderBody>,
) -> Result<HttpResponse, Problem> {
    app.order_components(&caller.0, &body.components, &body.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn list_component_groups(
    app: Data<State>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<ComponentGroup>> {
    Ok(Json(query.cut(app.list_component_groups(&caller.0).await?)?))
}

async fn put_component_group(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<GroupBody>,
) -> Answer<ComponentGroup> {
    let GroupBody { name, description, position, reason } = body.into_inner();
    let group = ComponentGroup { key: path.into_inner(), name, description, position };
    Ok(Json(app.put_component_group(&caller.0, group, &reason).await?))
}

async fn remove_component_group(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReasonQuery>,
) -> Result<HttpResponse, Problem> {
    app.remove_component_group(&caller.0, &path, &query.reason).await?;
    Ok(HttpResponse::NoContent().finish())
}
