//! Alert rules, the alerts that came of them, and silences.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_app::watch::alerts::{RuleStanding, SilenceDraft};
use switchback_app::watch::rulebook::{KnownRule, RuleProblem};
use switchback_app::watch::trial::Trial;
use switchback_store::{AlertRow, Silence};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Watch":
        get "/api/v1/environments/{environment}/alerts" list_alerts
            "Alerts, the newest first: those that go on, or all.", query ListQuery => Vec<AlertRow>;
        get "/api/v1/alerts/{alert}" get_alert "An alert." => AlertRow;
        put "/api/v1/alerts/{alert}/ack" acknowledge_alert "Take care of an alert: nobody else is called for so long." body AckBody => AlertRow;
        delete "/api/v1/alerts/{alert}/ack" unacknowledge_alert "No longer take care of an alert." => AlertRow;
        get "/api/v1/environments/{environment}/alert-rules" list_alert_rules "Alert rules, and how they stand." => Vec<RuleStanding>;
        get "/api/v1/alert-rules/{rule}" get_alert_rule "An alert rule's text." => RuleText;
        put "/api/v1/alert-rules/{rule}" put_alert_rule "Keep a new version of an alert rule." body RuleBody => RuleText;
        delete "/api/v1/alert-rules/{rule}" reset_alert_rule "Remove what was written here; a shipped rule of the same name counts again.";
        post "/api/v1/alert-rules/check" check_alert_rule "What is wrong with an alert rule's text; nothing is kept." body CheckBody => Vec<RuleProblem>;
        post "/api/v1/environments/{environment}/alert-rules/trial" try_alert_rule
            "When a rule would have fired over the last days, by the counts that are kept; nobody is told." body TrialBody => Trial;
        get "/api/v1/silences" list_silences "Silences that hold, or will." => Vec<Silence>;
        post "/api/v1/silences" create_silence "Make some alerts quiet for a time." body SilenceDraft => Silence;
        delete "/api/v1/silences/{silence}" end_silence "End a silence.";
    }
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    /// Only those that go on.
    #[serde(default)]
    open: bool,
    /// Only those that fired before this moment, in UTC milliseconds.
    before: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AckBody {
    /// For how long; as long as the rule says when absent.
    minutes: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    /// The rule, in YAML.
    source: String,
    /// The version that it was made from; 0: none was written here.
    version: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    /// The rule, in YAML.
    source: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TrialBody {
    /// The rule, in YAML.
    source: String,
    /// How many days back, 1 to 30; 3 when not given. Up to 3 by the minute, beyond that by ten.
    days: Option<i64>,
}

/// A rule's text.
#[derive(Serialize, JsonSchema)]
struct RuleText {
    /// Its name.
    name: String,
    /// The rule, in YAML.
    source: String,
    /// The newest version that was written here; 0: none.
    version: u64,
    /// Whether it was written here.
    is_own: bool,
    /// When it was changed here, in UTC milliseconds.
    changed_at: Option<i64>,
    /// By whom.
    changed_by: Option<String>,
}

impl From<KnownRule> for RuleText {
    fn from(known: KnownRule) -> Self {
        let KnownRule { rule, source, version, is_own, changed } = known;
        let (changed_at, changed_by) = changed.unzip();
        Self { name: rule.name, source, version, is_own, changed_at, changed_by }
    }
}

async fn list_alerts(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    query: Query<ListQuery>,
) -> Answer<Vec<AlertRow>> {
    Ok(Json(app.list_alerts(&caller.0, &path, query.open, query.before).await?))
}

async fn get_alert(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<AlertRow> {
    Ok(Json(app.get_alert(&caller.0, &path).await?))
}

async fn acknowledge_alert(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<AckBody>,
) -> Answer<AlertRow> {
    Ok(Json(app.acknowledge_alert(&caller.0, &path, body.minutes).await?))
}

async fn unacknowledge_alert(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<AlertRow> {
    Ok(Json(app.unacknowledge_alert(&caller.0, &path).await?))
}

async fn list_alert_rules(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Answer<Vec<RuleStanding>> {
    Ok(Json(app.list_alert_rules(&caller.0, &path).await?))
}

async fn get_alert_rule(app: Data<State>, caller: Caller, path: Path<String>) -> Answer<RuleText> {
    Ok(Json(app.get_alert_rule(&caller.0, &path).await?.into()))
}

async fn put_alert_rule(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<RuleBody>,
) -> Answer<RuleText> {
    let RuleBody { source, version } = body.into_inner();
    Ok(Json(app.put_alert_rule(&caller.0, &path, &source, version).await?.into()))
}

async fn reset_alert_rule(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    app.reset_alert_rule(&caller.0, &path).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn check_alert_rule(
    app: Data<State>,
    caller: Caller,
    body: Json<CheckBody>,
) -> Answer<Vec<RuleProblem>> {
    Ok(Json(app.check_alert_rule(&caller.0, &body.source).await?))
}

async fn try_alert_rule(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
    body: Json<TrialBody>,
) -> Answer<Trial> {
    let days = body.days.unwrap_or(3);
    Ok(Json(app.try_alert_rule(&caller.0, &path, &body.source, days).await?))
}

async fn list_silences(app: Data<State>, caller: Caller) -> Answer<Vec<Silence>> {
    Ok(Json(app.list_silences(&caller.0).await?))
}

async fn create_silence(
    app: Data<State>,
    caller: Caller,
    body: Json<SilenceDraft>,
) -> Answer<Silence> {
    Ok(Json(app.create_silence(&caller.0, body.into_inner()).await?))
}

async fn end_silence(
    app: Data<State>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, Problem> {
    app.end_silence(&caller.0, &path).await?;
    Ok(HttpResponse::NoContent().finish())
}
