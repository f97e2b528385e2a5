//! Events of other systems in their own words: over the API and from log files, each kept once, unknown names told.

use std::fmt::Write as _;
use std::process::{Command, Output, Stdio};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::server::{EVENTS, program};
use switchback_tests::{Api, Server, eventually, on_both};

const SUMMARY: &str = "/api/v1/environments/production/auth-summary";

fn now() -> i64 {
    i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

async fn import(server: &Server, format: &str, text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines.log");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(program());
    command.env_clear().env("SWITCHBACK_URL", &server.url).env("SWITCHBACK_TOKEN", EVENTS);
    command.args(["auth-events", "import", "--json", "--format", format]).arg(&file);
    command.stdin(Stdio::null()).current_dir(folder.path());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn figures(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

on_both! {
    async fn each_system_reports_in_its_own_words(backend: Backend) {
        let server = Server::start(&backend);
        let (api, app) = (server.api(), Api::new(&server.url, EVENTS));
        let (at, time) = (now() - 5_000, rfc3339(now() - 5_000));
        let keycloak = json!({"id": "k1", "time": at, "type": "LOGIN_ERROR", "realmId": "r", "clientId": "shop",
            "userId": "ada", "error": "invalid_user_credentials", "details": {"auth_method": "openid-connect"}});
        let kratos = json!([{"event": "LoginSucceeded", "identity_id": "ada", "flow_id": "f1", "time": time},
            {"event": "SettingsFailed", "identity_id": "ada", "time": time}]);
        let rauthy = json!({"id": "aB3dE6gH", "timestamp": at, "level": "info", "typ": "TokenIssued", "ip": null, "data": null,
            "text": "shop (authorization_code) ada@example.com"});
        let row = json!({"id": "r1", "payload": {"action": "login", "actor_id": "ada"}, "created_at": time, "ip_address": ""});
        let supabase = json!({"type": "INSERT", "schema": "auth", "table": "audit_log_entries", "record": row, "old_record": null});

        for (format, body, taken, ignored) in
            [("keycloak", keycloak, 1, 0), ("kratos", kratos, 1, 1), ("rauthy", rauthy, 1, 0), ("supabase", supabase, 1, 0)]
        {
            let path = format!("/api/v1/auth-events?format={format}");
            let first = app.post(&path, body.clone()).await;
            assert_eq!((&first["taken"], &first["ignored"], &first["refused"]), (&json!(taken), &json!(ignored), &json!(0)), "{format}: {first}");
            let again = app.post(&path, body).await;
            assert_eq!((&again["taken"], &again["duplicates"]), (&json!(0), &json!(taken)), "{format}: {again}");
        }

        let summary = api.get(SUMMARY).await;
        assert_eq!((&summary["logins"]["good"], &summary["logins"]["bad"]), (&json!(3), &json!(1)), "{summary}");
        assert_eq!(summary["errors"], json!([["invalid_user_credentials", 1]]));
        let senders: Vec<&str> =
            summary["sources"].as_array().unwrap().iter().map(|one| one["source"].as_str().unwrap()).collect();
        assert!(senders.iter().any(|one| one.ends_with("/keycloak")), "{senders:?}");
        assert!(senders.iter().any(|one| one.ends_with("/supabase-audit")), "{senders:?}");
        let mine = api.get("/api/v1/environments/production/auth-events?user=ada").await;
        assert_eq!(mine.as_array().unwrap().len(), 3, "one user, however they came: {mine}");
    }

    async fn a_name_that_is_not_known_is_refused_by_its_name(backend: Backend) {
        let server = Server::start(&backend);
        let (api, app) = (server.api(), Api::new(&server.url, EVENTS));
        let at = now();
        let one = |kind: &str, id: &str| json!({"id": id, "time": at, "type": kind, "userId": "ada"});
        let batch = json!([one("LOGIN", "a"), one("LOG_IN", "b"), one("IMPERSONATE", "c"), one("LOG_IN", "d"), "LOGIN", {"type": "LOGIN"},
            {"id": "old", "time": at - 7 * 86_400_000, "type": "LOGIN"}]);

        let said = app.post("/api/v1/auth-events?format=keycloak", batch).await;

        assert_eq!((&said["taken"], &said["ignored"], &said["refused"]), (&json!(1), &json!(1), &json!(5)), "{said}");
        assert_eq!(said["unknown"], json!({"LOG_IN": 2}));
        let told: Vec<(u64, &str)> = said["refusals"].as_array().unwrap().iter()
            .map(|one| (one["index"].as_u64().unwrap(), one["code"].as_str().unwrap()))
            .collect();
        assert_eq!(told, [(1, "unknown_event"), (3, "unknown_event"), (4, "invalid"), (5, "invalid"), (6, "too_old")]);
        let sources = api.get("/api/v1/environments/production/auth-sources").await;
        assert_eq!((&sources[0]["taken"], &sources[0]["refused"]), (&json!(1), &json!(5)), "{sources}");
        let odd = app.send(Method::POST, "/api/v1/auth-events?format=auth0", Some(json!([]))).await;
        assert_eq!((odd.status, &odd.body["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid")));
        let bare = app.send(Method::POST, "/api/v1/auth-events", Some(one("LOGIN", "e"))).await;
        assert_eq!(bare.status, StatusCode::UNPROCESSABLE_ENTITY, "a lone object is no batch of ours");
    }

    async fn a_log_may_be_read_again_and_counts_once(backend: Backend) {
        let server = Server::start(&backend);
        let stamp = |ms: i64| {
            let at = jiff::Timestamp::from_millisecond(ms).unwrap();
            at.strftime("%Y-%m-%d %H:%M:%S,%3f").to_string()
        };
        let mut text = String::from("no event at all\n");
        for n in 0..2_500_i64 {
            let kind = if n % 5 == 0 { "LOGIN_ERROR" } else { "LOGIN" };
            let _ = writeln!(text, "{} WARN  [org.keycloak.events] (executor-thread-1) type=\"{kind}\", realmId=\"r\", userId=\"u{n}\"", stamp(now() - 60_000 + n));
        }
        let _ = writeln!(text, "{} WARN  [org.keycloak.events] (e) type=\"BREAK_FAST\", userId=\"u\"", stamp(now()));
        text += &"x".repeat(300_000);
        text += "\n{\"broken\": ";

        let first = figures(&import(&server, "keycloak", &text).await);
        let again = figures(&import(&server, "keycloak", &text).await);

        let wanted = json!({"lines": 2_504, "taken": 2_500, "duplicates": 0, "ignored": 0, "refused": 1, "no_event": 2, "too_long": 1,
            "unknown": {"BREAK_FAST": 1}});
        assert_eq!(first, wanted);
        assert_eq!((&again["taken"], &again["duplicates"]), (&json!(0), &json!(2_500)));
        let summary = server.api().get(SUMMARY).await;
        assert_eq!((&summary["logins"]["good"], &summary["logins"]["bad"]), (&json!(2_000), &json!(500)));
    }

    async fn our_own_events_are_read_from_lines_and_failures_from_the_log_of_supabase(backend: Backend) {
        let server = Server::start(&backend);
        let at = now();
        let ours = format!("{{\"type\": \"login_success\", \"user_id\": \"ada\", \"at\": {at}}}\n\n{{\"id\": \"x\", \"type\": \"logout\"}}\nnonsense\n");
        let time = rfc3339(at);
        let log = [
            json!({"msg": "400: Invalid login credentials", "path": "/token", "grant_type": "password", "request_id": "q1", "time": time}),
            json!({"msg": "request completed", "path": "/token", "grant_type": "password", "status": 400, "request_id": "q1",
                "error_code": "invalid_credentials", "duration": 93_083_572, "time": time}),
            json!({"msg": "audit_event", "time": time, "auth_audit_event": {"action": "login", "actor_id": "ada",
                "audit_log_id": "r1", "request_id": "q2", "created_at": time}}),
            json!({"msg": "request completed", "path": "/token", "status": 200, "request_id": "q2", "time": time,
                "auth_event": {"action": "login", "actor_id": "ada"}}),
        ];
        let log = log.map(|line| line.to_string()).join("\n");

        let first = figures(&import(&server, "jsonl", &ours).await);
        let again = figures(&import(&server, "jsonl", &ours).await);
        let supabase = figures(&import(&server, "supabase", &log).await);

        assert_eq!((&first["taken"], &first["refused"], &first["no_event"]), (&json!(2), &json!(1), &json!(1)), "{first}");
        assert_eq!((&again["taken"], &again["duplicates"]), (&json!(0), &json!(2)), "{again}");
        assert_eq!((&supabase["taken"], &supabase["ignored"], &supabase["duplicates"]), (&json!(2), &json!(1), &json!(1)), "{supabase}");
        let summary = server.api().get(SUMMARY).await;
        assert_eq!((&summary["logins"]["good"], &summary["logins"]["bad"]), (&json!(2), &json!(1)), "{summary}");
    }

    async fn who_knows_only_what_worked_says_nothing_of_failures(backend: Backend) {
        let server = Server::start(&backend);
        let (api, app) = (server.api(), Api::new(&server.url, EVENTS));
        let rule = |name: &str, when: &str| format!("kind: AlertRule\nmetadata: {{name: {name}, title: T}}\nspec:\n  \
            environments: [production]\n  severity: warning\n  when: {when}\n");
        let worked = rule("worked", "{count: {type: login_success, above: 10, window: 5m}}");
        let failed = rule("failed", "{failure_rate: {of: login, above: 1%, window: 5m, min_events: 20}}");
        for (name, source) in [("worked", worked), ("failed", failed)] {
            api.put(&format!("/api/v1/alert-rules/{name}"), json!({"source": source})).await;
        }
        let rows: Vec<Value> = (0..50)
            .map(|n| json!({"id": format!("r{n}"), "payload": {"action": "login", "actor_id": format!("u{n}")}, "created_at": rfc3339(now()), "ip_address": ""}))
            .collect();
        app.post("/api/v1/auth-events?format=supabase", json!(rows)).await;

        let standing = |all: &Value, name: &str| -> Value {
            let found = all.as_array().unwrap().iter().find(|one| one["name"] == name);
            found.unwrap_or_else(|| panic!("{name} in {all}")).clone()
        };
        let rules = eventually("the count fires", async || {
            let all = api.get("/api/v1/environments/production/alert-rules").await;
            (standing(&all, "worked")["phase"] == "firing").then_some(all)
        })
        .await;
        assert!(standing(&rules, "failed")["no_data_since"].is_number(), "{rules}");
        let summary = api.get(SUMMARY).await;
        assert_eq!(summary["logins"], json!({"good": 50, "bad": 0, "failure": null}));
        assert_eq!((&summary["is_reported"], &summary["tells_failures"]), (&json!(true), &json!(false)));

        app.post("/api/v1/auth-events", json!([{"id": "f", "type": "login_failure", "user_id": "ada"}])).await;
        let summary = api.get(SUMMARY).await;
        assert_eq!((&summary["tells_failures"], &summary["logins"]["bad"]), (&json!(true), &json!(1)));
        assert!(summary["logins"]["failure"].is_number());
    }

    async fn no_character_spoils_a_batch(backend: Backend) {
        let server = Server::start(&backend);
        let app = Api::new(&server.url, EVENTS);
        let ours = json!([{"id": "a", "type": "login_success", "user_id": "ada", "variants": {"new\u{0}login": "o\u{0}n"}},
            {"id": "b", "type": "logout", "odd\u{0}": 1}, {"id": "c", "type": "logout", "error": "\u{0}\u{1f600}"}]);

        let said = app.post("/api/v1/auth-events", ours).await;
        let foreign = app.post("/api/v1/auth-events?format=keycloak", json!([{"id": "k\u{0}", "time": now(), "type": "LOGIN"},
            {"id": "l", "time": now(), "type": "LO\u{0}GIN", "userId": "\u{0}"}])).await;

        assert_eq!((&said["taken"], &said["refused"]), (&json!(2), &json!(1)), "{said}");
        assert_eq!((&foreign["taken"], &foreign["refused"]), (&json!(0), &json!(2)), "{foreign}");
        let summary = server.api().get(SUMMARY).await;
        assert_eq!(summary["flags"]["newlogin"][0]["value"], "on", "{summary}");
    }
}
