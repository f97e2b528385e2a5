//! Links to approve by, break-glass, and its reviews.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::Deserialize;
use switchback_app::links::Link;
use switchback_store::Review;

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Playbooks":
        post "/api/v1/runs/{run}/steps/{step}/link" make_link
            "Make a link by which a person answers, once, without signing in." body LinkBody => Link;
        post "/api/v1/runs/{run}/steps/{step}/break-glass" break_glass
            "Let a step that waits for people go on alone, in an emergency." body BreakGlassBody => Review;
        get "/api/v1/reviews" list_reviews "Uses of break-glass, newest first.", query ReviewQuery => Vec<Review>;
        post "/api/v1/reviews/{review}" close_review "Say that you have looked at a use of break-glass." body ReviewBody => Review;
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LinkBody {
    /// The e-mail by which the person signs in.
    r#for: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BreakGlassBody {
    /// Why, in at least 20 characters.
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
struct ReviewQuery {
    environment: Option<String>,
    /// Only those that nobody has looked at.
    #[serde(default)]
    open: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReviewBody {
    /// What was found.
    comment: String,
}

async fn make_link(
    app: Data<State>,
    caller: Caller,
    path: Path<(String, String)>,
    body: Json<LinkBody>,
) -> Result<HttpResponse, Problem> {
    let link = app.make_link(&caller.0, &path.0, &path.1, &body.r#for).await?;
    Ok(HttpResponse::Created().json(link))
}

async fn break_glass(
    app: Data<State>,
    caller: Caller,
    path: Path<(String, String)>,
    body: Json<BreakGlassBody>,
) -> Result<HttpResponse, Problem> {
    let review = app.break_glass(&caller.0, &path.0, &path.1, &body.reason).await?;
    Ok(HttpResponse::Accepted().json(review))
}

async fn list_reviews(
    app: Data<State>,
    caller: Caller,
    query: Query<ReviewQuery>,
) -> Answer<Vec<Review>> {
    let ReviewQuery { environment, open } = query.into_inner();
    Ok(Json(app.list_reviews(&caller.0, environment.as_deref(), open).await?))
}

async fn close_review(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<ReviewBody>,
) -> Answer<Review> {
    Ok(Json(app.close_review(&caller.0, &path, &body.comment).await?))
}
