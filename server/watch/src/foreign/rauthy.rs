//! Rauthy: its events, as the admin API and its stream of server-sent events give them.

use serde_json::{Map, Value};

use super::{Draft, Format, Found, Meaning, missing, moment, text};
use crate::event::EventKind::{
    LoginFailure, LoginSuccess, PasswordReset, SessionRevoked, Signup, TokenRefresh,
};

pub(super) fn meaning(name: &str) -> Option<Meaning> {
    Some(match name {
        "InvalidLogins" => Meaning::Kind(LoginFailure),
        "NewUserRegistered" => Meaning::Kind(Signup),
        "UserPasswordReset" => Meaning::Kind(PasswordReset),
        "ForcedLogout" | "UserLoginRevoke" => Meaning::Kind(SessionRevoked),
        // By its flow; see `translate`.
        "TokenIssued" => Meaning::Kind(LoginSuccess),
        "IpBlacklisted"
        | "IpBlacklistRemoved"
        | "CredentialStuffing"
        | "PossibleBruteForce"
        | "LoginNewLocation"
        | "BackchannelLogoutFailed"
        | "ScimTaskFailed"
        | "SuspiciousApiScan"
        | "EmailSendError"
        | "JwksRotated"
        | "NewRauthyAdmin"
        | "NewRauthyVersion"
        | "RauthyStarted"
        | "RauthyRestarted"
        | "RauthyHealthy"
        | "RauthyUnhealthy"
        | "SecretsMigrated"
        | "UserEmailChange"
        | "Test"
        | "TEST" => Meaning::Other,
        _ => return None,
    })
}

pub(super) fn translate(object: &Map<String, Value>) -> Result<Found, Found> {
    let name =
        text(object, "typ").or_else(|| text(object, "type")).ok_or_else(|| missing("typ"))?;
    let mut draft = Draft::new(Format::Rauthy, &name)?;
    let said = text(object, "text");
    match name.as_str() {
        "TokenIssued" => {
            let (flow, user) = issued(said.as_deref().unwrap_or_default());
            draft = match flow {
                "authorization_code" | "password" | "device_code" => draft,
                flow if flow.ends_with(":device_code") => draft,
                "refresh_token" => Draft::of(Format::Rauthy, TokenRefresh),
                _ => return Err(Found::Other), // a program's own token, or one for another
            };
            draft.set("user_id", user);
        }
        "NewUserRegistered" | "UserPasswordReset" | "ForcedLogout" => draft.set("user_id", said),
        "UserLoginRevoke" => {
            // "User `ada@example.com` revoked illegal login from ..."
            draft.set("user_id", said.as_deref().and_then(|text| text.split('`').nth(1)));
        }
        _ => {}
    }
    let at = object.get("timestamp").filter(|at| at.is_number());
    draft.put("at", moment(at));
    // Rauthy's ids are unique within their millisecond.
    let id = text(object, "id").zip(text(object, "timestamp"));
    draft.named(id.map(|(id, at)| format!("{id}:{at}")), object)
}

/// `shop (authorization_code) ada@example.com`: the flow and the user.
fn issued(text: &str) -> (&str, Option<&str>) {
    let Some((_, rest)) = text.split_once('(') else { return ("", None) };
    let Some((flow, user)) = rest.split_once(')') else { return ("", None) };
    (flow.trim(), Some(user.trim()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_name_of_the_release_is_known() {
        let table = [
            ("InvalidLogins", "login_failure"),
            ("IpBlacklisted", ""),
            ("CredentialStuffing", ""),
            ("ForcedLogout", "session_revoked"),
            ("LoginNewLocation", ""),
            ("TokenIssued", "login_success"),
            ("BackchannelLogoutFailed", ""),
            ("NewUserRegistered", "signup"),
            ("UserPasswordReset", "password_reset"),
            ("UserLoginRevoke", "session_revoked"),
            ("RauthyStarted", ""),
        ];
        for (name, kind) in table {
            let found = match meaning(name) {
                Some(Meaning::Kind(kind)) => kind.word(),
                Some(Meaning::Other) => "",
                None => panic!("{name} is not known"),
            };
            assert_eq!(found, kind, "{name}");
        }
        assert_eq!(meaning("InvalidLogin"), None);
    }

    #[test]
    fn a_token_is_a_login_or_a_renewal_by_its_flow() {
        let issued = |text: &str| {
            let one = json!({"id": "aB3dE6gH", "timestamp": 1_769_860_800_000_i64, "level": "info", "typ": "TokenIssued",
                "ip": null, "data": null, "text": text});
            Format::Rauthy.translate(&one)
        };
        let Found::Event(login) = issued("shop (authorization_code) ada@example.com") else {
            panic!()
        };
        assert_eq!(
            (&login["type"], &login["user_id"]),
            (&json!("login_success"), &json!("ada@example.com"))
        );
        assert_eq!(login["id"], "rauthy:aB3dE6gH:1769860800000");
        let Found::Event(renewal) = issued("shop (refresh_token) ada@example.com") else {
            panic!()
        };
        assert_eq!(renewal["type"], "token_refresh");
        assert_eq!(issued("job (client_credentials) "), Found::Other);
        assert_eq!(issued("nonsense"), Found::Other);
    }

    #[test]
    fn a_line_of_its_stream_is_read() {
        let line = "data: {\"id\":\"x\",\"timestamp\":1769860800000,\"level\":\"notice\",\"typ\":\"InvalidLogins\",\"ip\":\"192.0.2.1\",\"data\":3}";
        let value = Format::Rauthy.line(line).unwrap();
        let Found::Event(ours) = Format::Rauthy.translate(&value) else { panic!("{value}") };
        assert_eq!((&ours["type"], ours.get("user_id")), (&json!("login_failure"), None));
    }
}
