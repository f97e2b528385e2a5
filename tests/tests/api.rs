//! The management API, as a program uses it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::server::{ADMIN, SERVER};
use switchback_tests::{Api, Backend, Server, on_both};

const PROD: &str = "/api/v1/environments/production";

fn flag(key: &str) -> Value {
    json!({"key": key, "description": "made by a test"})
}

on_both! {
    /// A flag that is turned on may have an end; one in the past is refused, and one that is over does not keep it off.
    async fn a_flag_is_turned_on_for_a_while(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let path = format!("{PROD}/flags/auth_bypass");
        let switch = |body: Value| {
            let (api, path) = (server.api(), format!("{path}/enabled"));
            async move { api.send(Method::PUT, &path, Some(body)).await }
        };
        let year_2100 = 4_102_444_800_000_i64;

        let past = switch(json!({"enabled": true, "expires_at": 1_000, "reason": "sign-in fails"})).await;
        let off = switch(json!({"enabled": false, "expires_at": year_2100, "reason": "sign-in fails"})).await;
        let on = switch(json!({"enabled": true, "expires_at": year_2100, "reason": "sign-in fails"})).await;
        let state = api.get(&path).await["state"].clone();

        for refused in [&past, &off] {
            assert_eq!(refused.body["errors"][0]["field"], json!("expires_at"), "{}", refused.body);
        }
        assert!(on.status.is_success(), "{}", on.body);
        assert_eq!((&state["enabled"], &state["expires_at"]), (&json!(true), &json!(year_2100)), "{state}");
    }

    /// An empty database gets its flags; starting again changes nothing.
    async fn a_second_start_changes_nothing(backend: Backend) {
        let first = Server::start(&backend);
        let before = first.api().get("/api/v1/changes?limit=500").await;
        let keys = first.api().get(&format!("{PROD}/flags")).await;
        assert_eq!(first.terminate(), Some(0));

        let second = Server::start(&backend);
        let after = second.api().get("/api/v1/changes?limit=500").await;

        assert_eq!(before, after);
        let keys: Vec<_> = keys["items"].as_array().unwrap().iter().map(|f| f["flag"]["key"].clone()).collect();
        assert_eq!(keys, ["auth_bypass", "auth_enabled", "auth_rollout"]);
    }

    /// A flag is made, found, ramped and explained.
    async fn a_flag_is_made_ramped_and_explained(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();

        api.post("/api/v1/flags", flag("new_checkout")).await;
        let found = api.get(&format!("{PROD}/flags?text=CHECKOUT&state=off")).await;
        assert_eq!((&found["total"], &found["items"][0]["flag"]["key"]), (&json!(1), &json!("new_checkout")));

        let url = format!("{PROD}/flags/new_checkout");
        let seen = api.get(&url).await["revision"].clone();
        let rule = json!({"id": "beta", "platforms": ["ios"], "groups": ["beta"], "percent": 25.5});
        let state = json!({"enabled": true, "rules": [rule]});
        let saved = api.put(&format!("{url}/state"), json!({"state": state, "revision": seen, "reason": "ramp"})).await;
        assert_eq!(saved["changed"], json!(true));

        let context = json!({"user_id": "u1", "platform": "ios", "groups": ["beta"]});
        let why = api.post(&format!("{url}/explain"), context).await;
        let slot = why["rules"][0]["slot"].as_u64().unwrap();
        assert_eq!(why["enabled"], json!(slot < 25_500), "{why}");
        let outsider = api.post(&format!("{url}/explain"), json!({"user_id": "u1", "platform": "web"})).await;
        assert_eq!((&outsider["enabled"], &outsider["reason"]), (&json!(false), &json!("no_rule")));
    }

    /// A change is tried on the contexts that decisions were asked for lately; a context gets its decision of every flag.
    async fn a_change_is_tried_on_the_last_contexts(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let url = format!("{PROD}/flags/auth_rollout");
        let state = api.get(&url).await["state"].clone();
        let nobody = api.post(&format!("{url}/try"), state.clone()).await;
        assert_eq!(nobody, json!({"of": 0, "changed": 0, "to_on": 0, "to_off": 0}));

        for n in 0..40 {
            let context = json!({"user_id": format!("u{n}"), "platform": if n % 4 == 0 { "ios" } else { "web" }});
            api.post(&format!("{PROD}/evaluate"), context.clone()).await;
            let ofrep = json!({"context": {"targetingKey": format!("u{n}"), "platform": "web"}});
            Api::new(&server.url, SERVER).post("/ofrep/v1/evaluate/flags", ofrep).await;
        }
        let all = api.post(&format!("{PROD}/evaluate"), json!({"user_id": "u1", "platform": "web"})).await;
        let off = api.post(&format!("{url}/try"), json!({"enabled": false})).await;
        let same = api.post(&format!("{url}/try"), state).await;
        let wrong = api.send(Method::POST, &format!("{url}/try"), Some(json!({"rules": [{"id": ""}]}))).await;

        let keys: Vec<_> = all.as_array().unwrap().iter().map(|one| one["key"].clone()).collect();
        assert_eq!(keys, ["auth_bypass", "auth_enabled", "auth_rollout"]);
        assert_eq!((&off["of"], &same["changed"]), (&json!(80), &json!(0)), "the address makes OFREP's contexts others");
        assert_eq!(off["changed"], off["to_off"]);
        assert_eq!(off["to_off"].as_u64().unwrap() > 0, all[2]["enabled"] == json!(true), "{off} {all}");
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.body);
    }

    /// Bad input says what, where and what is allowed, and changes nothing.
    async fn bad_input_is_refused_precisely(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let before = api.get("/api/v1/changes?limit=1").await;

        let bad_key = api.send(Method::POST, "/api/v1/flags", Some(flag("no spaces"))).await;
        assert_eq!(bad_key.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(bad_key.body["detail"].as_str().unwrap().contains("` ` is not allowed"), "{}", bad_key.body);

        let constraint = json!({"field": "age", "operator": "NUM_GT", "values": ["old"]});
        let state = json!({"enabled": true, "rules": [{"id": "r", "constraints": [constraint]}]});
        let body = json!({"state": state, "revision": 1, "reason": "x"});
        let answer = api.send(Method::PUT, &format!("{PROD}/flags/auth_enabled/state"), Some(body)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let field = answer.body["errors"][0]["field"].as_str().unwrap();
        assert!(field.starts_with("rules[0].constraints[0].values"), "{}", answer.body);

        let body = json!({"percent": 10.0005, "reason": "x"});
        let answer = api.send(Method::PUT, &format!("{PROD}/flags/auth_rollout/rollout"), Some(body)).await;
        assert!(answer.body["detail"].as_str().unwrap().contains("steps of 0.001"), "{}", answer.body);

        let unknown = api.send(Method::GET, "/api/v1/nothing", None).await;
        assert_eq!((unknown.status, &unknown.body["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
        let wrong = api.send(Method::DELETE, "/api/v1/me", None).await;
        assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);

        assert_eq!(before, api.get("/api/v1/changes?limit=1").await);
    }

    /// A write that names an old revision is refused, with the newest.
    async fn a_write_on_an_old_revision_conflicts(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let url = format!("{PROD}/flags/auth_rollout");
        let seen = api.get(&url).await["revision"].as_u64().unwrap();
        api.put(&format!("{url}/rollout"), json!({"percent": 10, "reason": "first"})).await;

        let state = json!({"enabled": false});
        let body = json!({"state": state, "revision": seen, "reason": "second"});
        let late = api.send(Method::PUT, &format!("{url}/state"), Some(body)).await;

        assert_eq!((late.status, &late.body["code"]), (StatusCode::CONFLICT, &json!("conflict")));
        assert_eq!(late.body["current_revision"], json!(seen + 1));
    }

    /// An edit of someone who did not see the kill does not lift it.
    async fn a_kill_beats_a_concurrent_edit(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let url = format!("{PROD}/flags/auth_rollout");
        api.put(&format!("{url}/killed"), json!({"killed": true, "reason": "it hurts"})).await;
        let seen = api.get(&url).await["revision"].clone();

        let state = json!({"enabled": true, "killed": false});
        api.put(&format!("{url}/state"), json!({"state": state, "revision": seen, "reason": "edit"})).await;

        assert_eq!(api.get(&url).await["state"]["killed"], json!(true));
    }

    /// A protected environment wants to know why; others do not.
    async fn a_protected_environment_wants_a_reason(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();

        let silent = api.send(Method::PUT, &format!("{PROD}/flags/auth_rollout/enabled"), Some(json!({"enabled": false}))).await;
        assert_eq!(silent.body["errors"][0]["field"], json!("reason"));
        api.put("/api/v1/environments/staging/flags/auth_rollout/enabled", json!({"enabled": false})).await;
    }

    /// A reason that comes beside a request stands on the log, and satisfies a protected environment.
    async fn every_write_takes_a_reason(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let why = [("switchback-reason", "caf%C3%A9+bar %26 more")];

        let body = json!({"name": "app", "kind": "server", "environment": "staging"});
        let made = api.send_with(Method::POST, "/api/v1/tokens", Some(body), &why).await;
        let off = json!({"enabled": false});
        let url = format!("{PROD}/flags/auth_rollout/enabled");
        let switched = api.send_with(Method::PUT, &url, Some(off), &why).await;

        assert!(made.status.is_success() && switched.status.is_success(), "{}", switched.body);
        let rows = api.get("/api/v1/changes?limit=2").await;
        let reasons: Vec<_> = rows["items"].as_array().unwrap().iter().map(|r| r["change"]["reason"].clone()).collect();
        assert_eq!(reasons, ["café+bar & more", "café+bar & more"]);
    }

    /// The same write under the same key is done once and answered twice.
    async fn a_repeated_write_is_done_once(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let url = format!("{PROD}/flags/auth_rollout/rollout");
        let body = json!({"percent": 42, "reason": "once"});
        let key = [("idempotency-key", "k-1")];

        let first = api.send_with(Method::PUT, &url, Some(body.clone()), &key).await;
        api.put(&url, json!({"percent": 50, "reason": "in between"})).await;
        let again = api.send_with(Method::PUT, &url, Some(body), &key).await;
        let other = api.send_with(Method::PUT, &url, Some(json!({"percent": 1, "reason": "x"})), &key).await;

        assert_eq!(first.body, again.body);
        assert_eq!(again.headers["idempotency-replayed"], "true");
        assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
        let now = api.get(&format!("{PROD}/flags/auth_rollout")).await;
        assert_eq!(now["state"]["rules"][0]["percent"], json!(50));
    }

    /// History shows what differed; a flag and a whole environment can be put back.
    async fn a_flag_and_an_environment_are_put_back(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let url = format!("{PROD}/flags/auth_rollout");
        let ten = api.put(&format!("{url}/rollout"), json!({"percent": 10, "reason": "ten"})).await;
        let rows = api.get(&format!("{url}/history")).await;
        let at = rows["items"][0]["change"]["at"].as_i64().unwrap();
        api.put(&format!("{url}/rollout"), json!({"percent": 20, "reason": "twenty"})).await;

        let rows = api.get(&format!("{url}/history")).await;
        let difference = &rows["items"][0]["differences"][0];
        assert_eq!(difference, &json!({"path": "rules[0].percent", "before": 10, "after": 20}));

        let body = json!({"revision": ten["revision"], "reason": "back"});
        let back = api.post(&format!("{url}/restore"), body).await;
        assert_eq!(back["state"]["rules"][0]["percent"], json!(10));

        // Wait for the clock to pass the change that the environment is put back to.
        api.put(&format!("{PROD}/flags/auth_enabled/enabled"), json!({"enabled": false, "reason": "off"})).await;
        let preview = api.post(&format!("{PROD}/restore/preview"), json!({"at": at})).await;
        let flags: Vec<_> = preview["flags"].as_array().unwrap().iter().map(|f| f["key"].clone()).collect();
        assert!(flags.contains(&json!("auth_enabled")), "{preview}");
        let body = json!({"at": at, "revision": preview["revision"], "reason": "as it was"});
        let done = api.post(&format!("{PROD}/restore"), body.clone()).await;
        assert_eq!(done["revision"].as_u64(), preview["revision"].as_u64().map(|r| r + 1));
        let restored = api.get(&format!("{PROD}/flags/auth_enabled")).await;
        assert_eq!(restored["state"]["enabled"], json!(true));
        let stale = api.send(Method::POST, &format!("{PROD}/restore"), Some(body)).await;
        assert_eq!(stale.status, StatusCode::CONFLICT);
    }

    /// Flags that would wait for each other are refused; so are unknown segments.
    async fn circles_and_unknown_names_are_refused(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        api.post("/api/v1/flags", flag("child")).await;
        let put = async |key: &str, state: Value| {
            let url = format!("/api/v1/environments/staging/flags/{key}");
            let seen = api.get(&url).await["revision"].clone();
            api.send(Method::PUT, &format!("{url}/state"), Some(json!({"state": state, "revision": seen}))).await
        };

        let needs = |flag: &str| json!({"enabled": true, "prerequisites": [{"flag": flag}]});
        assert!(put("child", needs("auth_enabled")).await.status.is_success());
        let circle = put("auth_enabled", needs("child")).await;
        assert_eq!(circle.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(circle.body["detail"].as_str().unwrap().contains("wait for each other"), "{}", circle.body);
        let unknown = put("child", json!({"enabled": true, "rules": [{"id": "r", "segments": ["ghosts"]}]})).await;
        assert!(unknown.body["detail"].as_str().unwrap().contains("segment `ghosts`"), "{}", unknown.body);
    }

    /// A segment that a rule names cannot be deleted.
    async fn a_segment_in_use_stays(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let staff = json!({"key": "staff", "name": "Staff", "constraints": [
            {"field": "email", "operator": "STR_ENDS_WITH", "values": ["@example.com"]}]});
        api.put(&format!("{PROD}/segments/staff"), json!({"segment": staff, "revision": 0, "reason": "new"})).await;
        let url = format!("{PROD}/flags/auth_rollout");
        let seen = api.get(&url).await["revision"].clone();
        let state = json!({"enabled": true, "rules": [{"id": "staff", "segments": ["staff"]}]});
        api.put(&format!("{url}/state"), json!({"state": state, "revision": seen, "reason": "staff only"})).await;

        let refused = api.send(Method::DELETE, &format!("{PROD}/segments/staff?reason=x"), None).await;

        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(refused.body["detail"].as_str().unwrap().contains("auth_rollout"), "{}", refused.body);
    }

    /// Each token opens what it is for, and nothing after it is revoked.
    async fn tokens_open_only_what_they_are_for(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let made = api.post("/api/v1/tokens", json!({"name": "looker", "kind": "api", "environment": "staging", "role": "viewer"})).await;
        let looker = Api::new(&server.url, made["token"].as_str().unwrap());

        assert!(looker.send(Method::GET, "/api/v1/environments/staging/flags", None).await.status.is_success());
        let other = looker.send(Method::GET, &format!("{PROD}/flags"), None).await;
        assert_eq!((other.status, &other.body["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));
        let write = looker.send(Method::PUT, "/api/v1/environments/staging/flags/auth_rollout/enabled", Some(json!({"enabled": true}))).await;
        assert_eq!(write.status, StatusCode::FORBIDDEN);

        let id = made["id"].as_str().unwrap();
        assert!(api.send(Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await.status.is_success());
        let after = looker.send(Method::GET, "/api/v1/environments/staging/flags", None).await;
        assert_eq!(after.status, StatusCode::UNAUTHORIZED);

        let sdk = Api::new(&server.url, SERVER).send(Method::GET, "/api/v1/me", None).await;
        assert_eq!(sdk.status, StatusCode::FORBIDDEN, "an SDK token is not an API token: {}", sdk.body);
        let listed = api.get("/api/v1/tokens").await.to_string();
        assert!(!listed.contains("test-admin-token") && !listed.contains(ADMIN), "a secret is shown");
    }

    /// Lists are filtered, sorted and paged.
    async fn lists_are_filtered_sorted_and_paged(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        for name in ["apple", "pear", "pineapple"] {
            api.post("/api/v1/tokens", json!({"name": name, "kind": "server", "environment": "staging"})).await;
        }

        let page = api.get("/api/v1/tokens?text=APPLE&sort=name&limit=1").await;
        assert_eq!((&page["items"][0]["name"], &page["total"]), (&json!("apple"), &json!(2)));
        let next = page["next"].as_str().unwrap();
        let last = api.get(&format!("/api/v1/tokens?text=apple&sort=name&limit=1&cursor={next}")).await;
        assert_eq!((&last["items"][0]["name"], &last["next"]), (&json!("pineapple"), &Value::Null));
        let wrong = api.send(Method::GET, "/api/v1/tokens?sort=size", None).await;
        assert!(wrong.body["detail"].as_str().unwrap().contains("there are"), "{}", wrong.body);
    }

    /// People sign in through their roles; the last administrator stays.
    async fn the_last_administrator_stays(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let users = api.get("/api/v1/users").await;
        let id = users["items"][0]["id"].as_str().unwrap();

        let url = format!("/api/v1/users/{id}");
        let refused = api.send(Method::PATCH, &url, Some(json!({"disabled": true}))).await;

        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(!users.to_string().contains("argon2"), "a password hash is shown");
        let short = api.send(Method::POST, "/api/v1/users", Some(json!({"email": "b@x.io", "password": "short", "roles": {}}))).await;
        assert_eq!(short.body["errors"][0]["field"], json!("password"));
    }
}

/// The document names every endpoint once, with schemas that resolve.
#[tokio::test]
async fn the_openapi_document_is_whole() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);

    let document = server.api().get("/api/v1/openapi.json").await;

    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 30, "{}", paths.len());
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap().split('/').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "no schema {name}");
    }
}

/// Each path of the document is there, and what only looks like one is not.
#[tokio::test]
async fn every_documented_path_is_there() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let api = server.api();
    let document = api.get("/api/v1/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    let filled = paths.keys().map(|path| path.replace(['{', '}'], ""));
    let strange = [
        ("/api/v1/flagsy", StatusCode::NOT_FOUND),
        ("/api/v1/flags/", StatusCode::NOT_FOUND),
        ("/api/v1/environments/production/flags/a/b/c", StatusCode::NOT_FOUND),
        // Words beside a parameter are its values, too.
        ("/api/v1/checks/recent-issues/run", StatusCode::METHOD_NOT_ALLOWED),
        ("/api/v1/checks/packs/run/x", StatusCode::NOT_FOUND),
    ];
    let wanted = filled
        .map(|path| (path, StatusCode::METHOD_NOT_ALLOWED))
        .chain(strange.map(|(path, status)| (path.to_owned(), status)));

    for (path, status) in wanted {
        let answer = api.send(Method::TRACE, &path, None).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body["title"].is_string(), "{path}: {}", answer.body);
    }
}

/// Health, readiness and figures answer without a token.
#[tokio::test]
async fn health_and_figures_answer() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let nobody = Api::new(&server.url, "");

    assert!(nobody.send(Method::GET, "/healthz", None).await.status.is_success());
    assert_eq!(nobody.get("/readyz").await["database"], json!("up"));
    let figures = nobody.get("/metrics").await;
    let text = figures.as_str().unwrap();
    for name in
        ["switchback_clients_connected", "switchback_database_up 1", "switchback_frames_sent_total"]
    {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
    let refused = nobody.send(Method::GET, "/api/v1/me", None).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.headers.contains_key("x-request-id"));
}
