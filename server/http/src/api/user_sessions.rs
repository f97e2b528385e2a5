//! Sessions of the app's users: the app reports them with an events or server token, people look at them and end them.

use actix_web::http::header;
use actix_web::web::{Data, Json, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchback_app::AppError;
use switchback_app::user_sessions::{
    Activity, DayOfSessions, LoggedIn, LoginDraft, Revoke, Revoked, RevokedPage, SessionState,
    SessionSummary, SessionWish, cursor_of, id_of_key,
};
use switchback_core::model::Millis;
use switchback_store::UserSession;

use crate::State;
use crate::auth::{Caller, Reporter};
use crate::endpoint::Endpoint;
use crate::page::{Page, PageQuery, page_of};
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

/// Days when nothing is asked for.
const DAYS: u32 = 30;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Sessions":
        post "/api/v1/sessions/login" log_user_in "A user of the app came in; the same session twice is one. Takes an events or server token." body LoginBody => LoginAnswer;
        post "/api/v1/sessions/logout" log_user_out "A user left: all of their open sessions end, or the one that is named." body LogoutBody => LogoutAnswer;
        post "/api/v1/sessions/activity" touch_sessions "Users are active; says which of these sessions are over." body ActivityBody => Activity;
        get "/api/v1/sessions/revoked" list_revoked_sessions "Sessions that were revoked after a place in their list, for the app to poll; answers with an ETag.", query RevokedQuery => RevokedPage;
        get "/api/v1/sessions/{session}" get_session_state "Whether a session goes on, for the app." => SessionState;
        get "/api/v1/environments/{environment}/sessions" list_user_sessions "Who is in: open sessions, those first that were active last; with `user`, that user's sessions.", query ListQuery => Page<UserSession>;
        get "/api/v1/environments/{environment}/sessions/days" list_session_days "Sessions by day, and how long they were on average.", query DaysQuery => Vec<DayOfSessions>;
        get "/api/v1/environments/{environment}/sessions/summary" summarize_sessions "Who is in, in figures." => SessionSummary;
        post "/api/v1/environments/{environment}/sessions/revoke" revoke_sessions "End sessions by id, of a user, or by filter; `dry_run` says how many. At most 20,000 a request: `left` says whether to ask again." body RevokeBody => Revoked;
    }
}

/// A moment: RFC 3339, or UTC milliseconds.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Moment {
    Millis(i64),
    Text(String),
}

/// An id: a text or a whole number.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Ident {
    Number(i64),
    Text(String),
}

impl Ident {
    fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    /// The user as the app knows them; hashed before it is kept.
    user_id: Ident,
    /// The session's id, never its secret; one id is one session. Without it, one is made: of the `Idempotency-Key`, if there is one.
    #[serde(alias = "id")]
    session_id: Option<String>,
    /// The session in whose place this one is; it ends when it is the same user's.
    replaces: Option<String>,
    /// Such as `ios`.
    platform: Option<String>,
    /// The app's version.
    app_version: Option<String>,
    /// The country.
    country: Option<String>,
    /// The device, in the app's words.
    device: Option<String>,
    /// When; now when not given, and at most 7 days ago.
    at: Option<Moment>,
}

#[derive(Serialize, JsonSchema)]
struct LoginAnswer {
    /// False: the database does not answer, and it is written when it does. The login itself is well.
    recorded: bool,
    /// The session.
    session: UserSession,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogoutBody {
    /// All open sessions of this user,
    user_id: Option<Ident>,
    /// or this one.
    session_id: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct LogoutAnswer {
    /// False: the database does not answer, and it is written when it does.
    recorded: bool,
    /// Sessions that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ActivityBody {
    /// 1 to 500 sessions.
    session_ids: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
struct RevokedQuery {
    /// The `next` of the answer before; 0 when not given: from the oldest that is kept.
    since: Option<u64>,
    /// Items, 1 to 500; 100 when not given.
    limit: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    /// This user's sessions, ended ones too: the id that the app knows, or the key that is kept.
    user: Option<String>,
    platform: Option<String>,
    /// Exactly this version of the app.
    app_version: Option<String>,
    /// Versions of the app below this one.
    below_version: Option<String>,
    country: Option<String>,
    /// Began before this moment, in UTC milliseconds.
    started_before: Option<Millis>,
    /// Began at this moment or later, in UTC milliseconds.
    started_after: Option<Millis>,
    /// Without activity for so many minutes.
    idle_minutes: Option<u32>,
    limit: Option<i64>,
    cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct DaysQuery {
    /// 1 to 3660 days until today; 30 when not given.
    days: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    /// These sessions, at most 500,
    ids: Option<Vec<String>>,
    /// or all open ones of this user,
    user: Option<Ident>,
    /// or all open ones that match; `{}` is every one.
    filter: Option<SessionWish>,
    /// Only say how many match.
    #[serde(default)]
    dry_run: bool,
    /// Refuse when more match.
    at_most: Option<u64>,
    /// Why.
    #[serde(default)]
    reason: String,
}

impl RevokeBody {
    fn what(&self) -> Result<Revoke, AppError> {
        match (&self.ids, &self.user, &self.filter) {
            (Some(ids), None, None) => Ok(Revoke::Ids(ids.clone())),
            (None, Some(Ident::Text(user)), None) => Ok(Revoke::User(user.clone())),
            (None, Some(Ident::Number(user)), None) => Ok(Revoke::User(user.to_string())),
            (None, None, Some(wish)) => Ok(Revoke::Matching(wish.clone())),
            _ => Err(AppError::invalid("", "name one of `ids`, `user` and `filter`")),
        }
    }
}

fn moment(at: Option<Moment>) -> Result<Option<Millis>, AppError> {
    match at {
        None => Ok(None),
        Some(Moment::Millis(at)) => Ok(Some(at)),
        Some(Moment::Text(text)) => {
            let at: Result<jiff::Timestamp, _> = text.parse();
            let wrong = |_| {
                let message = "use a time such as 2026-01-31T12:00:00Z, or milliseconds since 1970";
                AppError::invalid("at", message)
            };
            Ok(Some(at.map_err(wrong)?.as_millisecond()))
        }
    }
}

async fn log_user_in(
    app: Data<State>,
    reporter: Reporter,
    request: HttpRequest,
    body: Json<LoginBody>,
) -> Result<HttpResponse, Problem> {
    let body = body.into_inner();
    let environment = &reporter.0.environment;
    let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
    let key = key.filter(|key| !key.is_empty()).map(|key| id_of_key(environment, key));
    let draft = LoginDraft {
        user: body.user_id.into_text(),
        id: body.session_id.or(key),
        replaces: body.replaces,
        platform: body.platform,
        app_version: body.app_version,
        country: body.country,
        device: body.device,
        at: moment(body.at)?,
    };
    let (mut answer, recorded, session) = match app.log_user_in(environment, draft).await? {
        LoggedIn::New(session) => (HttpResponse::Created(), true, session),
        LoggedIn::Known(session) => (HttpResponse::Ok(), true, session),
        LoggedIn::NotYet(session) => (HttpResponse::Accepted(), false, session),
    };
    Ok(answer.json(LoginAnswer { recorded, session }))
}

async fn log_user_out(
    app: Data<State>,
    reporter: Reporter,
    body: Json<LogoutBody>,
) -> Result<HttpResponse, Problem> {
    let LogoutBody { user_id, session_id } = body.into_inner();
    let user = user_id.map(Ident::into_text);
    let ended = app.log_user_out(&reporter.0.environment, user, session_id).await?;
    let recorded = ended.is_some();
    let mut answer = if recorded { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(answer.json(LogoutAnswer { recorded, ended }))
}

async fn touch_sessions(
    app: Data<State>,
    reporter: Reporter,
    body: Json<ActivityBody>,
) -> Result<HttpResponse, Problem> {
    let said = app.touch_sessions(&reporter.0.environment, body.into_inner().session_ids).await?;
    let mut answer = if said.recorded { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(answer.json(said))
}

async fn list_revoked_sessions(
    app: Data<State>,
    reporter: Reporter,
    request: HttpRequest,
    query: Query<RevokedQuery>,
) -> Result<HttpResponse, Problem> {
    let environment = &reporter.0.environment;
    let limit = PageQuery { limit: query.limit, ..PageQuery::default() }.limit()?;
    let since = query.since.unwrap_or(0);
    if since > i64::MAX.cast_unsigned() {
        return Err(AppError::invalid("since", "use the `next` of the answer before").into());
    }
    // The newest place says it all: what came before it never changes.
    let etag = format!("\"{}-{since}-{limit}\"", app.last_revoked(environment).await?);
    let known = request.headers().get(header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, etag)).finish());
    }
    let page = app.revoked_sessions(environment, since, limit).await?;
    Ok(HttpResponse::Ok()
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .json(page))
}

async fn get_session_state(
    app: Data<State>,
    reporter: Reporter,
    path: Path<String>,
) -> Answer<SessionState> {
    Ok(Json(app.session_state(&reporter.0.environment, &path).await?))
}

async fn list_user_sessions(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ListQuery>,
) -> Answer<Page<UserSession>> {
    let query = query.into_inner();
    let limit = PageQuery { limit: query.limit, ..PageQuery::default() }.limit()?;
    let wish = SessionWish {
        platform: query.platform,
        app_version: query.app_version,
        below_version: query.below_version,
        country: query.country,
        started_before: query.started_before,
        started_after: query.started_after,
        idle_minutes: query.idle_minutes,
    };
    let cursor = query.cursor.as_deref();
    if let Some(user) = query.user.filter(|user| !user.is_empty()) {
        if !wish.is_everybody() {
            let message = "a user's sessions are listed whole; leave the other conditions out";
            return Err(AppError::invalid("user", message).into());
        }
        let rows = app.list_sessions_of_user(&caller.0, &path, &user, cursor, limit).await?;
        return Ok(Json(page_of(rows, limit, |one| cursor_of(one.started_at, &one.id))));
    }
    let rows = app.list_open_sessions(&caller.0, &path, &wish, cursor, limit).await?;
    Ok(Json(page_of(rows, limit, |one| cursor_of(one.last_activity_at, &one.id))))
}

async fn list_session_days(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<DaysQuery>,
) -> Answer<Vec<DayOfSessions>> {
    Ok(Json(app.list_session_days(&caller.0, &path, query.days.unwrap_or(DAYS)).await?))
}

async fn summarize_sessions(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<SessionSummary> {
    Ok(Json(app.summarize_sessions(&caller.0, &path).await?))
}

async fn revoke_sessions(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<RevokeBody>,
) -> Result<HttpResponse, Problem> {
    let what = body.what()?;
    let revoked = if body.dry_run {
        let matching = app.preview_revoke(&caller.0, &path, &what).await?;
        Revoked { matching, revoked: 0, left: matching }
    } else {
        app.revoke_sessions(&caller.0, &path, &what, body.at_most, &body.reason).await?
    };
    Ok(HttpResponse::Ok().json(json!(revoked)))
}
