//! Signed calls that start playbooks, as Standard Webhooks has them: HMAC-SHA256 over id, time and body.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use switchback_core::model::Millis;
use switchback_playbook::format::Playbook;
use switchback_playbook::triggers::Webhook;
use switchback_source::Credentials;
use switchback_store::Once;

use super::App;
use super::automation::Wish;
use super::error::AppError;
use super::ids;

/// How far a call's time may be from ours, in seconds.
const TOLERANCE_S: i64 = 300;
/// Ids of calls are no longer, in bytes.
const ID_MAX: usize = 200;
/// Shorter secrets are refused, in bytes.
const SECRET_BYTES_MIN: usize = 16;

/// A call as it came.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// `webhook-id`.
    pub id: &'c str,
    /// `webhook-timestamp`: UTC seconds.
    pub timestamp: &'c str,
    /// `webhook-signature`: one or several, separated by spaces.
    pub signature: &'c str,
    /// The body's bytes.
    pub body: &'c [u8],
}

impl Call<'_> {
    /// Whether one of its signatures is that of the secret, and its time is near. Compares in constant time.
    pub fn is_signed(&self, secret: &[u8], now: Millis) -> bool {
        let near = self
            .timestamp
            .parse::<i64>()
            .is_ok_and(|at| at.abs_diff(now / 1_000) <= TOLERANCE_S.unsigned_abs());
        if !near || self.id.is_empty() || self.id.len() > ID_MAX {
            return false;
        }
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
        let mac = mac
            .chain_update(self.id)
            .chain_update(".")
            .chain_update(self.timestamp)
            .chain_update(".")
            .chain_update(self.body);
        let given = self.signature.split(' ').filter_map(|one| one.strip_prefix("v1,"));
        let given = given.filter_map(|one| STANDARD.decode(one).ok());
        given.into_iter().any(|one| mac.clone().verify_slice(&one).is_ok())
    }
}

/// The bytes of a secret such as `whsec_MfKQ…`; the prefix may be absent.
fn secret_bytes(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let bytes = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok()?;
    (bytes.len() >= SECRET_BYTES_MIN).then_some(bytes)
}

impl App {
    /// Starts a run for a signed call. Returns the run's id: the same for the same call, however often it comes.
    ///
    /// An unknown playbook, one without this trigger and a wrong signature look the same from outside.
    pub async fn call_webhook(
        self: &Arc<Self>,
        playbook: &str,
        environment: &str,
        call: Call<'_>,
    ) -> Result<String, AppError> {
        let found = self.catalogue.load().playbooks.get(playbook).cloned();
        let found = found.ok_or(AppError::Unauthorized)?;
        let webhook = found.triggers.webhook.clone().ok_or(AppError::Unauthorized)?;
        let secret = self.webhook_secret(&found, &webhook).await.map_err(|why| {
            tracing::error!(playbook, "a webhook's secret cannot be used: {why}");
            AppError::Unauthorized
        })?;
        if !call.is_signed(&secret, self.clock.now()) {
            return Err(AppError::Unauthorized);
        }
        self.get_environment(environment).await?;
        let body: Value = match call.body {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes)
                .map_err(|error| AppError::invalid("", format!("the body is not JSON: {error}")))?,
        };
        let mut inputs: BTreeMap<String, Value> = BTreeMap::new();
        for (name, pointer) in &webhook.inputs {
            match body.pointer(pointer) {
                None | Some(Value::Null) => {}
                Some(Value::Array(_) | Value::Object(_)) => {
                    let message = format!("{pointer} is not a text, a number, true or false");
                    return Err(AppError::invalid(&format!("inputs.{name}"), message));
                }
                Some(value) => {
                    inputs.insert(name.clone(), value.clone());
                }
            }
        }
        let reason = match inputs.get("reason") {
            Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
            _ => format!("called by the webhook `{}` ({})", webhook.token, call.id),
        };
        let wish = Wish {
            playbook: playbook.to_owned(),
            environment: environment.to_owned(),
            trigger: "webhook",
            by: format!("webhook:{}", webhook.token),
            reason,
            inputs,
            ask: None,
            noted: json!({"webhook_id": call.id}),
            once: Some(Once {
                actor: format!("webhook:{playbook}/{environment}"),
                key: call.id.to_owned(),
                fingerprint: ids::hash(&String::from_utf8_lossy(call.body)),
            }),
        };
        self.start_by_itself(wish).await
    }

    async fn webhook_secret(
        &self,
        playbook: &Playbook,
        webhook: &Webhook,
    ) -> Result<Vec<u8>, String> {
        let reference = playbook.secrets.get(&webhook.token).cloned().unwrap_or_default();
        let credentials = Credentials::try_from(reference)?;
        let text = credentials.read().await.map_err(|error| error.to_string())?;
        secret_bytes(&text).ok_or_else(|| {
            format!("{credentials} does not hold base64 of at least {SECRET_BYTES_MIN} bytes")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const AT: Millis = 1_614_265_330_000;

    fn call<'c>(signature: &'c str, body: &'c str) -> Call<'c> {
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        Call { id, timestamp: "1614265330", signature, body: body.as_bytes() }
    }

    #[test]
    fn the_published_vector_is_signed_so() {
        let secret = secret_bytes(SECRET).unwrap();
        let (good, body) =
            ("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "{\"test\": 2432232314}");
        let several = format!("v1,AAAA v2,xyz {good}");

        assert!(call(good, body).is_signed(&secret, AT));
        assert!(call(&several, body).is_signed(&secret, AT), "secrets may be rotated");
        assert!(call(good, body).is_signed(&secret, AT + 300_000));
        assert!(!call(good, body).is_signed(&secret, AT + 301_000), "too old");
        assert!(!call(good, body).is_signed(&secret, AT - 301_000), "from the future");
        assert!(!call(good, "{\"test\": 2432232315}").is_signed(&secret, AT));
        for wrong in ["", "v1,", "v1", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,AAAA"] {
            assert!(!call(wrong, body).is_signed(&secret, AT), "{wrong}");
        }
        assert!(!Call { timestamp: "soon", ..call(good, body) }.is_signed(&secret, AT));
    }

    #[test]
    fn short_secrets_are_refused() {
        assert!(secret_bytes("whsec_AAAA").is_none() && secret_bytes("not base64!").is_none());
        assert_eq!(secret_bytes(SECRET), secret_bytes(SECRET.trim_start_matches("whsec_")));
    }
}
