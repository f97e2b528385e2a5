//! Ory Kratos: its trace events (`x/events`), as an exporter writes them, as Ory's event streams send them, or as a webhook's
//! template spells them out.

use serde_json::{Map, Value};

use super::{Draft, Format, Found, Meaning, inner, missing, moment, text};
use crate::event::EventKind::{
    EmailVerified, LoginFailure, LoginSuccess, PasswordReset, SessionRevoked, SessionStart, Signup,
    SignupFailure, TokenCheck, TokenRefresh,
};

pub(super) fn meaning(name: &str) -> Option<Meaning> {
    Some(match name {
        "LoginSucceeded" => Meaning::Kind(LoginSuccess),
        "LoginFailed" => Meaning::Kind(LoginFailure),
        "RegistrationSucceeded" => Meaning::Kind(Signup),
        "RegistrationFailed" => Meaning::Kind(SignupFailure),
        "RecoverySucceeded" => Meaning::Kind(PasswordReset),
        "VerificationSucceeded" => Meaning::Kind(EmailVerified),
        "SessionIssued" => Meaning::Kind(SessionStart),
        "SessionRevoked" => Meaning::Kind(SessionRevoked),
        "SessionChecked" => Meaning::Kind(TokenCheck),
        "SessionLifespanExtended" | "SessionTokenizedAsJWT" => Meaning::Kind(TokenRefresh),
        "SessionChanged"
        | "LoginInitiated"
        | "RegistrationInitiated"
        | "RecoveryFailed"
        | "RecoveryInitiatedByAdmin"
        | "SettingsSucceeded"
        | "SettingsFailed"
        | "VerificationFailed"
        | "IdentityCreated"
        | "IdentityUpdated"
        | "IdentityDeleted"
        | "JsonnetMappingFailed"
        | "WebhookDelivered"
        | "WebhookSucceeded"
        | "WebhookFailed"
        | "CourierMessageAbandoned"
        | "CourierMessageDispatched" => Meaning::Other,
        _ => return None,
    })
}

pub(super) fn translate(object: &Map<String, Value>) -> Result<Found, Found> {
    let name = ["event", "name", "Name", "type"].into_iter().find_map(|key| text(object, key));
    let name = name.ok_or_else(|| missing("event"))?;
    let mut draft = Draft::new(Format::Kratos, &name)?;
    let said = attributes(object);
    let of = |keys: &[&str]| {
        keys.iter().find_map(|key| said.iter().find(|(k, _)| k == key)).map(|(_, v)| v.clone())
    };
    draft.set("user_id", of(&["identityid"]));
    draft.set("session_id", of(&["sessionid"]));
    draft.set("error", of(&["errorreason", "reason"]));
    draft.set("country", of(&["geolocationcountry", "country"]));
    let time = ["time", "Time", "timestamp", "occurred_at", "created_at"];
    draft.put("at", time.into_iter().find_map(|key| moment(object.get(key))));
    if !draft.fields.contains_key("at") {
        // OpenTelemetry's JSON has nanoseconds, as text.
        let nanos = text(object, "timeUnixNano").and_then(|text| text.parse::<i64>().ok());
        draft.put("at", nanos.map(|nanos| Value::from(nanos / 1_000_000)));
    }
    let id = text(object, "id").or_else(|| {
        // A flow ends well once; it may fail many times.
        let flow = of(&["flowid"]).filter(|_| name.ends_with("Succeeded"))?;
        Some(format!("{name}:{flow}"))
    });
    draft.named(id, object)
}

/// What is said of an event: beside its name, under `attributes` or `payload`, or as the pairs that exporters write. Names are
/// compared by their letters alone: `IdentityID` is `identity_id`.
fn attributes(object: &Map<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |key: &str, value: &Value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return,
        };
        let key: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
        found.push((key.to_ascii_lowercase(), text));
    };
    for key in ["attributes", "Attributes", "payload", "body"] {
        if let Some(inner) = inner(object, key) {
            inner.iter().for_each(|(key, value)| add(key, value));
        }
        for pair in object.get(key).and_then(Value::as_array).into_iter().flatten() {
            let name = pair.get("key").or_else(|| pair.get("Key")).and_then(Value::as_str);
            let value = pair.get("value").or_else(|| pair.get("Value"));
            let plain =
                value.and_then(|value| value.get("stringValue").or_else(|| value.get("Value")));
            if let (Some(name), Some(value)) = (name, plain.or(value)) {
                add(name, value);
            }
        }
    }
    object.iter().for_each(|(key, value)| add(key, value));
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_name_of_the_release_is_known() {
        let table = [
            ("LoginSucceeded", Some("login_success")),
            ("LoginFailed", Some("login_failure")),
            ("RegistrationSucceeded", Some("signup")),
            ("RegistrationFailed", Some("signup_failure")),
            ("RecoverySucceeded", Some("password_reset")),
            ("RecoveryFailed", None),
            ("SettingsSucceeded", None),
            ("SettingsFailed", None),
            ("VerificationSucceeded", Some("email_verified")),
            ("VerificationFailed", None),
            ("SessionIssued", Some("session_start")),
            ("SessionChanged", None),
            ("SessionChecked", Some("token_check")),
            ("SessionLifespanExtended", Some("token_refresh")),
            ("SessionRevoked", Some("session_revoked")),
            ("SessionTokenizedAsJWT", Some("token_refresh")),
            ("IdentityCreated", None),
        ];
        for (name, kind) in table {
            let found = match meaning(name) {
                Some(Meaning::Kind(kind)) => Some(kind.word()),
                Some(Meaning::Other) => None,
                None => panic!("{name} is not known"),
            };
            assert_eq!(found, kind, "{name}");
        }
        assert_eq!(meaning("LoginSuceeded"), None);
    }

    #[test]
    fn webhooks_exporters_and_opentelemetry_are_read_alike() {
        let webhook = json!({"event": "LoginFailed", "identity_id": "u1", "session_id": "s1", "reason": "bad password",
            "time": "2026-01-31T12:00:00Z"});
        let exporter = json!({"Name": "LoginFailed", "Time": "2026-01-31T12:00:00Z", "Attributes": [
            {"Key": "IdentityID", "Value": {"Type": "STRING", "Value": "u1"}},
            {"Key": "SessionID", "Value": {"Type": "STRING", "Value": "s1"}},
            {"Key": "ErrorReason", "Value": {"Type": "STRING", "Value": "bad password"}}]});
        let telemetry = json!({"name": "LoginFailed", "timeUnixNano": "1769860800000000000", "attributes": [
            {"key": "IdentityID", "value": {"stringValue": "u1"}}, {"key": "SessionID", "value": {"stringValue": "s1"}},
            {"key": "ErrorReason", "value": {"stringValue": "bad password"}}]});
        for one in [webhook, exporter, telemetry] {
            let Found::Event(ours) = Format::Kratos.translate(&one) else { panic!("{one}") };
            assert_eq!(ours["type"], "login_failure");
            assert_eq!((&ours["user_id"], &ours["session_id"]), (&json!("u1"), &json!("s1")));
            assert_eq!(
                (&ours["error"], &ours["at"]),
                (&json!("bad password"), &json!(1_769_860_800_000_i64))
            );
        }
    }

    #[test]
    fn a_flow_that_ended_well_needs_no_time() {
        let one = json!({"event": "LoginSucceeded", "identity_id": "u1", "flow_id": "f1"});
        let Found::Event(ours) = Format::Kratos.translate(&one) else { panic!("{one}") };
        assert_eq!(ours["id"], "kratos:LoginSucceeded:f1");
    }
}
