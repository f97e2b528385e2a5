//! `POST /hooks/playbooks/{playbook}/{environment}`: signed calls that start playbooks.

use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::State;
use crate::app::AppError;
use crate::app::webhooks::Call;

/// Its URL.
pub fn routes(config: &mut web::ServiceConfig) {
    let hook = web::resource("/hooks/playbooks/{playbook}/{environment}");
    config.service(
        hook.route(web::post().to(call)).default_service(web::to(super::problem::wrong_method)),
    );
}

async fn call(
    app: Data<State>,
    request: HttpRequest,
    path: Path<(String, String)>,
    body: Bytes,
) -> Result<HttpResponse, AppError> {
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
