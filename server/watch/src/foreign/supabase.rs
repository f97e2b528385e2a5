//! Supabase Auth: rows of `auth.audit_log_entries`, also as a database webhook sends them, and lines of its log.
//!
//! The table knows what worked. A login that failed is in the log alone, as a request that was completed with an error.

use serde_json::{Map, Value};

use super::{Draft, Format, Found, Meaning, inner, missing, moment, text};
use crate::event::EventKind::{
    self, LoginFailure, LoginSuccess, Logout, MfaChallenge, MfaFailure, PasswordReset, Signup,
    SignupFailure, TokenRefresh, TokenRefreshFailure,
};

pub(super) fn meaning(action: &str) -> Option<Meaning> {
    Some(match action {
        "login" => Meaning::Kind(LoginSuccess),
        "logout" => Meaning::Kind(Logout),
        "user_signedup" | "invite_accepted" => Meaning::Kind(Signup),
        "user_repeated_signup" => Meaning::Kind(SignupFailure),
        "token_refreshed" => Meaning::Kind(TokenRefresh),
        "challenge_created" => Meaning::Kind(MfaChallenge),
        "user_updated_password" => Meaning::Kind(PasswordReset),
        // Every renewal revokes the token before it: `token_revoked` comes with each `token_refreshed`.
        "token_revoked"
        | "user_invited"
        | "user_deleted"
        | "user_modified"
        | "user_recovery_requested"
        | "user_reauthenticate_requested"
        | "user_confirmation_requested"
        | "generate_recovery_codes"
        | "recovery_codes_deleted"
        | "factor_in_progress"
        | "factor_unenrolled"
        | "factor_deleted"
        | "factor_updated"
        | "verification_attempted"
        | "mfa_code_login"
        | "identity_unlinked"
        | "passkey_created"
        | "passkey_updated"
        | "passkey_deleted" => Meaning::Other,
        _ => return None,
    })
}

/// Whether it is a row of the table.
pub(super) fn is_row(value: &Value) -> bool {
    value.get("payload").is_some() || value.get("record").is_some()
}

pub(super) fn translate(object: &Map<String, Value>) -> Result<Found, Found> {
    // A database webhook: {"type": "INSERT", "table": "audit_log_entries", "record": {...}}.
    if let Some(record) = inner(object, "record") {
        let is_audit = text(object, "table").is_none_or(|table| table == "audit_log_entries");
        let is_new = text(object, "type").is_none_or(|kind| kind == "INSERT");
        return if is_audit && is_new { row(record) } else { Err(Found::Other) };
    }
    if object.contains_key("payload") {
        return row(object);
    }
    // The log, as the dashboard gives it.
    if let Some(Value::Object(line)) = text(object, "event_message")
        .and_then(|message| serde_json::from_str::<Value>(&message).ok())
    {
        return if line.contains_key("event_message") { Err(Found::Other) } else { logged(&line) };
    }
    logged(object)
}

fn row(row: &Map<String, Value>) -> Result<Found, Found> {
    let payload = match row.get("payload") {
        Some(Value::Object(payload)) => payload.clone(),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Object(payload)) => payload,
            _ => return Err(Found::Unreadable("`payload` is no JSON object".to_owned())),
        },
        _ => return Err(missing("payload")),
    };
    let mut draft = acted(&payload)?;
    draft.put("at", moment(row.get("created_at")));
    draft.named(text(row, "id"), row)
}

/// What the payload says: the action and who did it.
fn acted(payload: &Map<String, Value>) -> Result<Draft, Found> {
    let action = text(payload, "action").ok_or_else(|| missing("action"))?;
    let mut draft = Draft::new(Format::Supabase, &action)?;
    draft.set("user_id", text(payload, "actor_id"));
    if action == "user_repeated_signup" {
        draft.set("error", Some(action));
    }
    Ok(draft)
}

fn logged(line: &Map<String, Value>) -> Result<Found, Found> {
    let request = text(line, "request_id");
    if let Some(audit) = inner(line, "auth_audit_event") {
        let mut draft = acted(audit)?;
        draft.put("at", moment(audit.get("created_at").or_else(|| line.get("time"))));
        let request = text(audit, "request_id").or(request);
        return draft.named(id(request, audit).or_else(|| text(audit, "audit_log_id")), line);
    }
    if text(line, "msg").as_deref() != Some("request completed") {
        return Err(Found::Other);
    }
    let took = line.get("duration").and_then(Value::as_u64);
    let status = line.get("status").and_then(Value::as_u64).unwrap_or(0);
    let code = text(line, "error_code").or_else(|| text(line, "error"));
    let failed = status >= 400 || code.is_some();
    if let (false, Some(event)) = (failed, inner(line, "auth_event")) {
        // Releases that write no line for each event say it here; an id of the request keeps both from counting twice.
        let mut draft = acted(event)?;
        draft.put("at", moment(line.get("time")));
        draft.put("latency_ms", took.map(milliseconds));
        return draft.named(id(request, event), line);
    }
    let kind = failure_of(line).filter(|_| failed).ok_or(Found::Other)?;
    let mut draft = Draft::of(Format::Supabase, kind);
    draft.set("error", code.or_else(|| Some(format!("status {status}"))));
    draft.put("at", moment(line.get("time")));
    draft.put("latency_ms", took.map(milliseconds));
    draft.named(request.map(|request| format!("{request}:failed")), line)
}

fn id(request: Option<String>, event: &Map<String, Value>) -> Option<String> {
    Some(format!("{}:{}", request?, text(event, "action")?))
}

/// Its log has nanoseconds.
fn milliseconds(nanos: u64) -> Value {
    Value::from(nanos / 1_000_000)
}

/// What did not work when a request to this path failed.
fn failure_of(line: &Map<String, Value>) -> Option<EventKind> {
    let path = text(line, "path")?;
    let path = path.trim_end_matches('/');
    Some(match path.rsplit('/').next()? {
        "token" if text(line, "grant_type").as_deref() == Some("refresh_token") => {
            TokenRefreshFailure
        }
        "token" => LoginFailure,
        "signup" => SignupFailure,
        "verify" if path.contains("/factors/") => MfaFailure,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_action_of_the_release_is_known() {
        let table = [
            ("login", "login_success"),
            ("logout", "logout"),
            ("invite_accepted", "signup"),
            ("user_signedup", "signup"),
            ("user_repeated_signup", "signup_failure"),
            ("token_refreshed", "token_refresh"),
            ("token_revoked", ""),
            ("user_updated_password", "password_reset"),
            ("challenge_created", "mfa_challenge"),
            ("verification_attempted", ""),
            ("user_invited", ""),
            ("user_deleted", ""),
            ("user_modified", ""),
            ("user_recovery_requested", ""),
            ("factor_in_progress", ""),
            ("mfa_code_login", ""),
            ("passkey_created", ""),
        ];
        for (action, kind) in table {
            let found = match meaning(action) {
                Some(Meaning::Kind(kind)) => kind.word(),
                Some(Meaning::Other) => "",
                None => panic!("{action} is not known"),
            };
            assert_eq!(found, kind, "{action}");
        }
        assert_eq!(meaning("login_failed"), None);
    }

    #[test]
    fn a_row_is_read_as_it_lies_there_and_as_a_webhook_sends_it() {
        let payload = json!({"action": "login", "actor_id": "u1", "actor_username": "ada@example.com", "actor_via_sso": false,
            "log_type": "account", "traits": {"provider": "email"}});
        let row = json!({"instance_id": "0", "id": "r1", "payload": payload, "created_at": "2026-01-31T12:00:00.5+00:00",
            "ip_address": ""});
        let mut quoted = row.clone();
        quoted["payload"] = json!(payload.to_string());
        quoted["created_at"] = json!("2026-01-31 12:00:00.5+00");
        let webhook = json!({"type": "INSERT", "schema": "auth", "table": "audit_log_entries", "record": row, "old_record": null});
        for one in [row, quoted, webhook] {
            let Found::Event(ours) = Format::Supabase.translate(&one) else { panic!("{one}") };
            let wanted = json!({"id": "supabase:r1", "type": "login_success", "user_id": "u1", "at": 1_769_860_800_500_i64});
            assert_eq!(ours, wanted);
            assert!(Format::Supabase.has_no_failures(&one));
        }
    }

    #[test]
    fn failures_come_from_the_log() {
        let line = |more: Value| {
            let mut line = json!({"component": "api", "duration": 93_083_572, "level": "info", "method": "POST",
                "msg": "request completed", "path": "/token", "request_id": "q1", "time": "2026-01-31T12:00:00Z"});
            line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Format::Supabase.translate(&line)
        };
        let Found::Event(login) = line(
            json!({"grant_type": "password", "status": 400, "error_code": "invalid_credentials"}),
        ) else {
            panic!()
        };
        assert_eq!(
            (&login["type"], &login["error"]),
            (&json!("login_failure"), &json!("invalid_credentials"))
        );
        assert_eq!(
            (&login["latency_ms"], &login["id"]),
            (&json!(93), &json!("supabase:q1:failed"))
        );
        let Found::Event(refresh) = line(json!({"grant_type": "refresh_token", "status": 400}))
        else {
            panic!()
        };
        assert_eq!(refresh["type"], "token_refresh_failure");
        let Found::Event(factor) = line(json!({"path": "/factors/f1/verify", "status": 422}))
        else {
            panic!()
        };
        assert_eq!(factor["type"], "mfa_failure");
        assert_eq!(line(json!({"grant_type": "password", "status": 200})), Found::Other);
        assert_eq!(line(json!({"path": "/user", "status": 401})), Found::Other);
        // The line before it says the same error; it is one failure.
        assert_eq!(
            line(json!({"msg": "400: Invalid login credentials", "status": null})),
            Found::Other
        );
    }

    #[test]
    fn both_lines_of_a_login_are_one_event() {
        let audit = json!({"level": "info", "msg": "audit_event", "time": "2026-01-31T12:00:00Z", "auth_audit_event": {
            "action": "login", "actor_id": "u1", "audit_log_id": "r1", "request_id": "q1", "created_at": "2026-01-31T12:00:00Z"}});
        let request = json!({"msg": "request completed", "status": 200, "path": "/token", "request_id": "q1",
            "time": "2026-01-31T12:00:00Z", "auth_event": {"action": "login", "actor_id": "u1"}});
        let ids = [audit, request].map(|one| match Format::Supabase.translate(&one) {
            Found::Event(ours) => ours["id"].clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(ids[0], ids[1]);
    }
}
