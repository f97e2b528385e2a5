//! Tokens of programs.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_app::EVERYWHERE;
use switchback_app::tokens::TokenDraft;
use switchback_store::{Role, TokenKind, TokenRow};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Tokens":
        get "/api/v1/tokens" list_tokens "Tokens, newest first, without their texts.", query PageQuery => Page<TokenRow>;
        post "/api/v1/tokens" create_token "Make a token. Its text is in this answer and nowhere else." body TokenBody => NewToken;
        delete "/api/v1/tokens/{token}" revoke_token "Revoke a token at once; its sockets are closed.", query ReasonQuery => TokenRow;
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    name: String,
    kind: TokenKind,
    /// A project's key; every project when not given.
    project: Option<String>,
    /// An environment's key; API tokens may leave it out and act in every one.
    environment: Option<String>,
    /// For API tokens.
    #[serde(default)]
    role: Role,
}

#[derive(Serialize, JsonSchema)]
struct NewToken {
    /// Shown once.
    token: String,
    #[serde(flatten)]
    row: TokenRow,
}

#[derive(Deserialize, JsonSchema)]
struct ReasonQuery {
    #[serde(default)]
    reason: String,
}

async fn list_tokens(
    app: Data<State>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Answer<Page<TokenRow>> {
    Ok(Json(query.cut(app.list_tokens(&caller.0).await?)?))
}

async fn create_token(
    app: Data<State>,
    caller: Caller,
    body: Json<TokenBody>,
) -> Result<HttpResponse, Problem> {
    let TokenBody { name, kind, project, environment, role } = body.into_inner();
    let everywhere = || EVERYWHERE.to_owned();
    let project = project.unwrap_or_else(everywhere);
    let environment = environment.unwrap_or_else(everywhere);
    let draft = TokenDraft { name, kind, project, environment, role };
    let (row, token) = app.create_token(&caller.0, draft).await?;
    Ok(HttpResponse::Created().json(NewToken { token, row }))
}

async fn revoke_token(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ReasonQuery>,
) -> Answer<TokenRow> {
    Ok(Json(app.revoke_token(&caller.0, &path, &query.reason).await?))
}
