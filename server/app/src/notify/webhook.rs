//! Signed webhooks, as Standard Webhooks 1.0 has them: `webhook-id`, `webhook-timestamp`, `webhook-signature`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use super::text::cut;
use super::{Format, Message, Refusal, Stamp};

/// Shorter keys are refused, in bytes.
const KEY_BYTES_MIN: usize = 24;
/// Longer texts are cut, in characters, so that a body stays small.
const TEXT_MAX: usize = 10_000;

/// The bytes of a secret such as `whsec_MfKQ…`.
///
/// # Errors
/// It is no base64, or too short; the message does not hold it.
pub fn key_of(secret: &str) -> Result<Vec<u8>, Refusal> {
    let text = secret.trim();
    let bytes = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text));
    bytes.ok().filter(|bytes| bytes.len() >= KEY_BYTES_MIN).ok_or_else(|| {
        let what =
            format!("a webhook's secret is `whsec_` and base64 of {KEY_BYTES_MIN} bytes or more");
        Refusal::Never(what)
    })
}

/// The content type and the body for a message.
pub fn body(message: &Message, format: Format, stamp: Stamp<'_>) -> (&'static str, Vec<u8>) {
    let at = jiff::Timestamp::from_millisecond(message.at).map(|at| at.to_string());
    let at = at.unwrap_or_default();
    let data = if message.data.is_null() {
        json!({
            "title": message.title,
            "text": cut(&message.text, TEXT_MAX),
            "severity": message.severity,
            "links": message.links.iter().map(|(text, url)| json!({"text": text, "url": url})).collect::<Vec<_>>(),
        })
    } else {
        message.data.clone()
    };
    match format {
        Format::Standard => {
            let body = json!({"type": message.event, "timestamp": at, "data": data});
            ("application/json", body.to_string().into_bytes())
        }
        Format::Cloudevents => {
            let body = json!({
                "specversion": "1.0", "id": stamp.id, "source": stamp.public_url,
                "type": format!("dev.switchback.{}", message.event), "time": at,
                "datacontenttype": "application/json", "data": data,
            });
            ("application/cloudevents+json", body.to_string().into_bytes())
        }
    }
}

/// The headers that name and sign a body; each key gives a signature.
pub fn headers(keys: &[Vec<u8>], stamp: Stamp<'_>, body: &[u8]) -> Vec<(&'static str, String)> {
    let seconds = stamp.now.div_euclid(1_000).to_string();
    let sign = |key: &Vec<u8>| {
        let mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        let mac = mac.chain_update(stamp.id).chain_update(".").chain_update(&seconds);
        let mac = mac.chain_update(".").chain_update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    let signatures: Vec<String> = keys.iter().filter_map(sign).collect();
    vec![
        ("webhook-id", stamp.id.to_owned()),
        ("webhook-timestamp", seconds),
        ("webhook-signature", signatures.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_signs_id_time_and_body() {
        let key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let stamp =
            Stamp { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", now: 1_614_265_330_000, public_url: "" };

        let headers = headers(&[key.clone(), key], stamp, br#"{"test": 2432232314}"#);

        // The example of the specification's own libraries.
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(headers[1].1, "1614265330");
        assert_eq!(headers[2].1, format!("{one} {one}"));
        assert!(key_of("whsec_c2hvcnQ=").is_err());
    }
}
