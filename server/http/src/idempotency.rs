//! `Idempotency-Key` on writes: a request that is sent again is answered again, and not done again.

use actix_web::body::{BoxBody, MessageBody, to_bytes_limited};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};
use switchback_app::{AppError, ids};

use super::State;
use super::auth::caller;
use crate::problem::Problem;

const KEY_MAX: usize = 200;
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What apps report here happens once by its own ids, and must not need the database to be answered.
const ONCE_BY_THEMSELVES: &str = "/api/v1/sessions/";

/// Looks at the key, if there is one; the answer to the first request is kept for a day.
pub async fn remember<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let key = request.headers().get("idempotency-key").and_then(|value| value.to_str().ok());
    let is_ours = !request.method().is_safe() && !request.path().starts_with(ONCE_BY_THEMSELVES);
    let Some(key) = key.map(str::to_owned).filter(|_| is_ours) else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    if key.is_empty() || key.len() > KEY_MAX {
        let message = format!("a key has 1 to {KEY_MAX} characters");
        return Err(Problem(AppError::invalid("Idempotency-Key", message)).into());
    }
    let app = request.app_data::<web::Data<State>>().cloned();
    let app =
        app.ok_or_else(|| Problem(AppError::Internal("the application is not attached".into())))?;
    let who = caller(request.request()).await.map_err(Problem)?;
    let body = request.extract::<web::Bytes>().await?;
    let fingerprint =
        ids::hash(&format!("{} {} {}", request.method(), request.path(), hex_of(&body)));
    request.set_payload(body.into());

    let known = app.store.claim_key(&who.name, &key, &fingerprint, app.clock.now()).await;
    match known.map_err(Problem::from)? {
        Some(known) if known.fingerprint != fingerprint => {
            let message = "this key was used for another request";
            return Err(Problem(AppError::invalid("Idempotency-Key", message)).into());
        }
        Some(known) if known.status == 0 => {
            let message = "the first request with this key has not been answered: look whether it \
                           was done before you send it under a new key";
            return Err(Problem(AppError::Refused(message.to_owned())).into());
        }
        Some(known) => {
            let status = StatusCode::from_u16(known.status).unwrap_or(StatusCode::OK);
            let answer = HttpResponse::build(status)
                .insert_header((header::CONTENT_TYPE, "application/json"))
                .insert_header(("idempotency-replayed", "true"))
                .body(known.body);
            return Ok(request.into_response(answer));
        }
        None => {}
    }

    let response = match next.call(request).await {
        Ok(response) => response.map_into_boxed_body(),
        Err(error) => {
            let _ = app.store.release_key(&who.name, &key).await;
            return Err(error);
        }
    };
    if !response.status().is_success() {
        let _ = app.store.release_key(&who.name, &key).await; // nothing was changed
        return Ok(response);
    }
    let (request, response) = response.into_parts();
    let (head, body) = response.into_parts();
    let Ok(Ok(bytes)) = to_bytes_limited(body, ANSWER_BYTES_MAX).await else {
        return Err(Problem(AppError::Internal("the answer is too long to be kept".into())).into());
    };
    let text = String::from_utf8_lossy(&bytes);
    let kept = app.store.finish_key(&who.name, &key, head.status().as_u16(), &text).await;
    if let Err(error) = kept {
        tracing::warn!(error = %error, "an answer could not be kept for its idempotency key");
    }
    Ok(ServiceResponse::new(request, head.set_body(BoxBody::new(bytes))))
}

fn hex_of(body: &[u8]) -> String {
    ids::hash(&String::from_utf8_lossy(body))
}
