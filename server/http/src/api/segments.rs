//! Segments.

use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_app::AppError;
use switchback_core::model::Segment;
use switchback_store::SegmentRow;

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;
type InEnvironment = Path<(String, String)>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Segments":
        get "/api/v1/environments/{environment}/segments" list_segments "Segments, by key.", query PageQuery => Page<SegmentRow>;
        get "/api/v1/environments/{environment}/segments/{segment}" get_segment "One segment." => SegmentRow;
        put "/api/v1/environments/{environment}/segments/{segment}" put_segment
            "Make or replace a segment. Name the revision that you saw; 0 for a new one." body SegmentBody => Saved;
        delete "/api/v1/environments/{environment}/segments/{segment}" delete_segment
            "Delete a segment that no rule names.", query ReasonQuery => Saved;
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SegmentBody {
    segment: Segment,
    revision: Option<u64>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
struct ReasonQuery {
    #[serde(default)]
    reason: String,
}

#[derive(Serialize, JsonSchema)]
struct Saved {
    /// The environment's revision now.
    revision: u64,
}

async fn list_segments(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<PageQuery>,
) -> Answer<Page<SegmentRow>> {
    Ok(Json(query.cut(app.list_segments(&caller.0, &path).await?)?))
}

async fn get_segment(app: Data<State>, caller: Caller, path: InEnvironment) -> Answer<SegmentRow> {
    Ok(Json(app.get_segment(&caller.0, &path.0, &path.1).await?))
}

async fn put_segment(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    body: Json<SegmentBody>,
) -> Answer<Saved> {
    let SegmentBody { segment, revision, reason } = body.into_inner();
    if segment.key.as_str() != path.1 {
        return Err(AppError::invalid("segment.key", "the key and the URL differ").into());
    }
    let revision = app.put_segment(&caller.0, &path.0, segment, revision, &reason).await?;
    Ok(Json(Saved { revision }))
}

async fn delete_segment(
    app: Data<State>,
    caller: Caller,
    path: InEnvironment,
    query: Query<ReasonQuery>,
) -> Answer<Saved> {
    let revision = app.delete_segment(&caller.0, &path.0, &path.1, &query.reason).await?;
    Ok(Json(Saved { revision }))
}
