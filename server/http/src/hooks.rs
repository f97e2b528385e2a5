//! Calls from other systems: `POST /hooks/playbooks/{playbook}/{environment}`, signed, and `POST /hooks/alertmanager`, with a token.

use actix_web::web::{self, Bytes, Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use switchback_app::alerts::{AlertMessage, AlertsTaken};
use switchback_app::webhooks::Call;

use super::State;
use super::auth::Caller;
use crate::problem::Problem;

/// Their URLs.
pub fn routes(config: &mut web::ServiceConfig) {
    let hook = web::resource("/hooks/playbooks/{playbook}/{environment}");
    config.service(
        hook.route(web::post().to(call)).default_service(web::to(super::problem::wrong_method)),
    );
    let alerts = web::resource("/hooks/alertmanager");
    config.service(
        alerts
            .route(web::post().to(alerts_of))
            .default_service(web::to(super::problem::wrong_method)),
    );
}

/// Answers once everything is kept, so that a sender who hears nothing may send again.
async fn alerts_of(
    app: Data<State>,
    caller: Caller,
    body: Json<AlertMessage>,
) -> Result<Json<AlertsTaken>, Problem> {
    Ok(Json(app.alert_fired(&caller.0, &body).await?))
}

async fn call(
    app: Data<State>,
    request: HttpRequest,
    path: Path<(String, String)>,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    let text = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    let call = Call {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
        body: &body,
    };
    let run = app.call_webhook(&path.0, &path.1, call).await?;
    Ok(HttpResponse::Accepted().json(json!({"run": run})))
}
