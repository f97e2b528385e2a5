//! People and their roles.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_app::users::{UserChange, UserDraft};
use switchback_store::{Role, UserRow};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"People":
        get "/api/v1/me" get_me "Who this token or session is." => Me;
        get "/api/v1/users" list_users "People, by e-mail.", query PageQuery => Page<User>;
        post "/api/v1/users" create_user "Add a person." body UserBody => User;
        patch "/api/v1/users/{user}" update_user "Change a person's roles or password, or lock them out." body ChangeBody => User;
    }
}

/// Who is asking.
#[derive(Serialize, JsonSchema)]
struct Me {
    name: String,
    roles: BTreeMap<String, Role>,
}

/// A person.
#[derive(Serialize, JsonSchema)]
struct User {
    id: String,
    email: String,
    name: String,
    roles: BTreeMap<String, Role>,
    created_at: i64,
    disabled_at: Option<i64>,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        let UserRow { id, email, name, roles, created_at, disabled_at, .. } = row;
        Self { id, email, name, roles, created_at, disabled_at }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserBody {
    email: String,
    #[serde(default)]
    name: String,
    /// At least 10 characters.
    password: String,
    /// A role per environment; `*` is every environment that is not named.
    roles: BTreeMap<String, Role>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    roles: Option<BTreeMap<String, Role>>,
    password: Option<String>,
    disabled: Option<bool>,
}

async fn get_me(caller: Caller) -> Json<Me> {
    Json(Me { name: caller.0.name, roles: caller.0.roles })
}

async fn list_users(
    app: Data<State>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<User>> {
    let all = app.list_users(&caller.0).await?;
    Ok(Json(query.cut(all.into_iter().map(User::from).collect())?))
}

async fn create_user(
    app: Data<State>,
    caller: Caller,
    body: Json<UserBody>,
) -> Result<HttpResponse, Problem> {
    let UserBody { email, name, password, roles } = body.into_inner();
    let draft = UserDraft { email, name, password, roles };
    Ok(HttpResponse::Created().json(User::from(app.create_user(&caller.0, draft).await?)))
}

async fn update_user(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ChangeBody>,
) -> Answer<User> {
    let ChangeBody { roles, password, disabled } = body.into_inner();
    let change = UserChange { roles, password, disabled };
    Ok(Json(app.update_user(&caller.0, &path, change).await?.into()))
}
