//! Keycloak: its user events, as the admin API and HTTP listeners send them, and as the listener `jboss-logging` writes them.

use serde_json::{Map, Value};

use super::{Draft, Format, Found, Meaning, inner, missing, moment, text};
use crate::event::EventKind::{
    AccountLocked, EmailVerified, LoginFailure, LoginSuccess, Logout, PasswordReset, SessionStart,
    Signup, SignupFailure, TokenCheck, TokenCheckFailure, TokenRefresh, TokenRefreshFailure,
};

/// Names that say nothing of a user's login, each also with `_ERROR`.
const OTHERS: &[&str] = &[
    "CLIENT_LOGIN",
    "FEDERATED_IDENTITY_LINK",
    "FEDERATED_IDENTITY_OVERRIDE_LINK",
    "REMOVE_FEDERATED_IDENTITY",
    "UPDATE_EMAIL",
    "UPDATE_PROFILE",
    "UPDATE_PASSWORD",
    "UPDATE_TOTP",
    "UPDATE_CREDENTIAL",
    "REMOVE_CREDENTIAL",
    "VERIFY_PROFILE",
    "REMOVE_TOTP",
    "GRANT_CONSENT",
    "UPDATE_CONSENT",
    "REVOKE_GRANT",
    "SEND_VERIFY_EMAIL",
    "SEND_RESET_PASSWORD",
    "SEND_IDENTITY_PROVIDER_LINK",
    "RESTART_AUTHENTICATION",
    "INVALID_SIGNATURE",
    "REGISTER_NODE",
    "UNREGISTER_NODE",
    "IDENTITY_PROVIDER_LINK_ACCOUNT",
    "IDENTITY_PROVIDER_FIRST_LOGIN",
    "IDENTITY_PROVIDER_POST_LOGIN",
    "IDENTITY_PROVIDER_RESPONSE",
    "IDENTITY_PROVIDER_RETRIEVE_TOKEN",
    "IMPERSONATE",
    "CUSTOM_REQUIRED_ACTION",
    "EXECUTE_ACTIONS",
    "EXECUTE_ACTION_TOKEN",
    "CLIENT_INFO",
    "CLIENT_REGISTER",
    "CLIENT_UPDATE",
    "CLIENT_DELETE",
    "CLIENT_INITIATED_ACCOUNT_LINKING",
    "TOKEN_EXCHANGE",
    "OAUTH2_DEVICE_AUTH",
    "OAUTH2_DEVICE_VERIFY_USER_CODE",
    "OAUTH2_DEVICE_CODE_TO_TOKEN",
    "OAUTH2_EXTENSION_GRANT",
    "AUTHREQID_TO_TOKEN",
    "PERMISSION_TOKEN",
    "DELETE_ACCOUNT",
    "PUSHED_AUTHORIZATION_REQUEST",
    "INVITE_ORG",
    "USER_SESSION_DELETED",
    "JWT_BEARER",
    "JWT_AUTHORIZATION_GRANT",
];

pub(super) fn meaning(name: &str) -> Option<Meaning> {
    Some(Meaning::Kind(match name {
        "LOGIN" => LoginSuccess,
        // The login at another provider is followed by one of its own when it works, and by nothing when it does not. And
        // where a code gives no token the password was right, and yet the user does not get into the app.
        "LOGIN_ERROR" | "IDENTITY_PROVIDER_LOGIN_ERROR" | "CODE_TO_TOKEN_ERROR" => LoginFailure,
        "REGISTER" => Signup,
        "REGISTER_ERROR" => SignupFailure,
        "LOGOUT" => Logout,
        "CODE_TO_TOKEN" => SessionStart,
        "REFRESH_TOKEN" => TokenRefresh,
        "REFRESH_TOKEN_ERROR" => TokenRefreshFailure,
        "INTROSPECT_TOKEN" | "VALIDATE_ACCESS_TOKEN" | "USER_INFO_REQUEST" => TokenCheck,
        "INTROSPECT_TOKEN_ERROR" | "VALIDATE_ACCESS_TOKEN_ERROR" | "USER_INFO_REQUEST_ERROR" => {
            TokenCheckFailure
        }
        "VERIFY_EMAIL" => EmailVerified,
        "RESET_PASSWORD" => PasswordReset,
        "USER_DISABLED_BY_PERMANENT_LOCKOUT" | "USER_DISABLED_BY_TEMPORARY_LOCKOUT" => {
            AccountLocked
        }
        "IDENTITY_PROVIDER_LOGIN"
        | "LOGOUT_ERROR"
        | "VERIFY_EMAIL_ERROR"
        | "RESET_PASSWORD_ERROR"
        | "USER_DISABLED_BY_PERMANENT_LOCKOUT_ERROR"
        | "USER_DISABLED_BY_TEMPORARY_LOCKOUT_ERROR" => return Some(Meaning::Other),
        other => {
            let base = other.strip_suffix("_ERROR").unwrap_or(other);
            return OTHERS.contains(&base).then_some(Meaning::Other);
        }
    }))
}

pub(super) fn translate(object: &Map<String, Value>) -> Result<Found, Found> {
    // A line of the log in JSON: the event is its message.
    if let (None, Some(message)) = (text(object, "type"), text(object, "message")) {
        if text(object, "loggerName").is_some_and(|name| name != "org.keycloak.events") {
            return Err(Found::Other);
        }
        let mut event = pairs(&message).ok_or(Found::Other)?;
        if let Some(at) = object.get("timestamp") {
            event.insert("time".to_owned(), at.clone());
        }
        return translate(&event);
    }
    if text(object, "operationType").is_some() {
        return Err(Found::Other); // what an administrator did
    }
    let name = text(object, "type").ok_or_else(|| missing("type"))?;
    if name.starts_with("admin.") {
        return Err(Found::Other);
    }
    let mut draft = Draft::new(Format::Keycloak, name.strip_prefix("access.").unwrap_or(&name))?;
    let auth = inner(object, "authDetails");
    let of = |key: &str| text(object, key).or_else(|| text(auth?, key));
    let detail = |key: &str| of(key).or_else(|| text(inner(object, "details")?, key));
    draft.set("user_id", of("userId").or_else(|| detail("username")).filter(|id| id != "null"));
    draft.set("session_id", of("sessionId").or_else(|| detail("code_id")));
    draft.set("platform", of("clientId"));
    draft.set("error", of("error"));
    draft.put("at", moment(object.get("time")));
    draft.named(text(object, "id").or_else(|| text(object, "uid")), object)
}

/// A line such as `2026-01-31 12:00:00,123 WARN  [org.keycloak.events] (executor-thread-1) type="LOGIN_ERROR", ...`. Its time
/// is the server's own; Keycloak's containers run in UTC.
pub(super) fn line(line: &str) -> Option<Value> {
    let mut event = pairs(line.get(line.find("type=")?..)?)?;
    let stamp: String = line.chars().take(23).map(|c| if c == ',' { '.' } else { c }).collect();
    event.insert("time".to_owned(), Value::String(format!("{stamp}Z")));
    Some(Value::Object(event))
}

/// `type="LOGIN", realmId="r", ...`, with double quotes, single quotes or none, as releases differ.
fn pairs(message: &str) -> Option<Map<String, Value>> {
    let mut found = Map::new();
    let mut rest = message.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, next) = match quote {
            Some(quote) => {
                let inside = after.get(1..).unwrap_or_default();
                inside.split_once(quote).unwrap_or((inside, ""))
            }
            None => after.split_once(", ").unwrap_or((after, "")),
        };
        let key = key.trim_matches([',', ' ']);
        found.insert(key.to_owned(), Value::String(value.trim().to_owned()));
        rest = next.trim_start_matches([',', ' ']);
    }
    found.contains_key("type").then_some(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_name_of_the_release_is_known() {
        let table = [
            ("LOGIN", "login_success"),
            ("LOGIN_ERROR", "login_failure"),
            ("REGISTER", "signup"),
            ("REGISTER_ERROR", "signup_failure"),
            ("LOGOUT", "logout"),
            ("LOGOUT_ERROR", ""),
            ("CODE_TO_TOKEN", "session_start"),
            ("CODE_TO_TOKEN_ERROR", "login_failure"),
            ("CLIENT_LOGIN", ""),
            ("CLIENT_LOGIN_ERROR", ""),
            ("REFRESH_TOKEN", "token_refresh"),
            ("REFRESH_TOKEN_ERROR", "token_refresh_failure"),
            ("INTROSPECT_TOKEN", "token_check"),
            ("INTROSPECT_TOKEN_ERROR", "token_check_failure"),
            ("USER_INFO_REQUEST", "token_check"),
            ("VERIFY_EMAIL", "email_verified"),
            ("RESET_PASSWORD", "password_reset"),
            ("UPDATE_PASSWORD", ""),
            ("IDENTITY_PROVIDER_LOGIN", ""),
            ("IDENTITY_PROVIDER_LOGIN_ERROR", "login_failure"),
            ("USER_DISABLED_BY_PERMANENT_LOCKOUT", "account_locked"),
            ("USER_DISABLED_BY_TEMPORARY_LOCKOUT", "account_locked"),
            ("IMPERSONATE", ""),
            ("TOKEN_EXCHANGE_ERROR", ""),
        ];
        for (name, kind) in table {
            let found = match meaning(name) {
                Some(Meaning::Kind(kind)) => kind.word(),
                Some(Meaning::Other) => "",
                None => panic!("{name} is not known"),
            };
            assert_eq!(found, kind, "{name}");
        }
        for base in OTHERS {
            assert_eq!(meaning(&format!("{base}_ERROR")), Some(Meaning::Other), "{base}");
        }
        assert_eq!((meaning("LOG_IN"), meaning("_ERROR"), meaning("")), (None, None, None));
    }

    #[test]
    fn the_api_a_listener_and_the_log_are_read_alike() {
        let api = json!({"id": "e1", "time": 1_769_860_800_000_i64, "type": "LOGIN_ERROR", "realmId": "r", "clientId": "shop",
            "userId": "u1", "sessionId": "s1", "ipAddress": "192.0.2.1", "error": "invalid_user_credentials"});
        let listener = json!({"uid": "e1", "time": 1_769_860_800_000_i64, "type": "access.LOGIN_ERROR",
            "authDetails": {"clientId": "shop", "userId": "u1", "sessionId": "s1"}, "error": "invalid_user_credentials"});
        let text = "2026-01-31 12:00:00,000 WARN  [org.keycloak.events] (executor-thread-1) type=\"LOGIN_ERROR\", \
            realmId=\"r\", clientId=\"shop\", userId=\"u1\", sessionId=\"s1\", ipAddress=\"192.0.2.1\", \
            error=\"invalid_user_credentials\", auth_method=\"openid-connect\"";
        let old = text.replace('"', "");
        let logged = json!({"timestamp": "2026-01-31T12:00:00Z", "loggerName": "org.keycloak.events",
            "message": text.split_once(") ").unwrap().1});
        let lines = [text, old.as_str()].map(|text| Format::Keycloak.line(text).unwrap());
        for one in [api, listener, logged].into_iter().chain(lines) {
            let Found::Event(ours) = Format::Keycloak.translate(&one) else { panic!("{one}") };
            assert_eq!(ours["type"], "login_failure");
            assert_eq!(ours["user_id"], "u1");
            assert_eq!((&ours["session_id"], &ours["platform"]), (&json!("s1"), &json!("shop")));
            assert_eq!(ours["error"], "invalid_user_credentials");
            assert_eq!(ours["at"], 1_769_860_800_000_i64);
        }
    }

    #[test]
    fn nobody_known_is_nobody_and_administrators_are_not_users() {
        let line = Format::Keycloak
            .line("2026-01-31 12:00:00,000 WARN [org.keycloak.events] (e) type=\"LOGIN_ERROR\", userId=\"null\", error=\"ssl_required\"")
            .unwrap();
        let Found::Event(ours) = Format::Keycloak.translate(&line) else { panic!("{line}") };
        assert_eq!(ours.get("user_id"), None);
        let admin =
            json!({"operationType": "CREATE", "realmId": "r", "resourceType": "USER", "time": 1});
        assert_eq!(Format::Keycloak.translate(&admin), Found::Other);
        assert_eq!(
            Format::Keycloak.line("2026-01-31 12:00:00,000 INFO  [io.quarkus] (main) started"),
            None
        );
    }
}
