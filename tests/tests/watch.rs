//! Auth events as apps send them: kept once, counted by what their users had, refused by name, never lost.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_sdk::{AuthEvent, AuthEventKind, Context, Switchback};
use switchback_tests::server::{EVENTS, SERVER};
use switchback_tests::{Api, Server, eventually, on_both};

const SUMMARY: &str = "/api/v1/environments/production/auth-summary";

fn event(id: impl std::fmt::Display, kind: &str, user: impl std::fmt::Display) -> Value {
    json!({"id": id.to_string(), "type": kind, "user_id": user.to_string()})
}

async fn send(api: &Api, events: Vec<Value>) -> Value {
    api.post("/api/v1/auth-events", json!({"events": events})).await
}

on_both! {
    async fn an_event_is_kept_once_and_counted_by_what_its_user_had(backend: Backend) {
        let server = Server::start(&backend);
        let (api, app) = (server.api(), Api::new(&server.url, EVENTS));
        let flag = "/api/v1/environments/production/flags/auth_rollout";
        let seen = api.get(flag).await["revision"].clone();
        let state = json!({"enabled": true, "rules": [{"id": "half", "percent": 50}]});
        api.put(&format!("{flag}/state"), json!({"state": state, "revision": seen, "reason": "try it"})).await;
        let batch: Vec<Value> = (0..400)
            .map(|n| {
                let mut one = event(format!("e{n}"), if n % 4 == 0 { "login_failure" } else { "login_success" }, n);
                one["latency_ms"] = json!(40);
                one["platform"] = json!("ios");
                if n % 4 == 0 {
                    one["error"] = json!("invalid_password");
                }
                one
            })
            .collect();

        let first = send(&app, batch.clone()).await;
        let (a, b) = tokio::join!(send(&app, batch.clone()), send(&app, batch.clone()));

        assert_eq!((&first["taken"], &first["duplicates"]), (&json!(400), &json!(0)));
        for again in [a, b] {
            assert_eq!((&again["taken"], &again["duplicates"]), (&json!(0), &json!(400)), "{again}");
        }
        let summary = api.get(SUMMARY).await;
        assert_eq!(summary["logins"], json!({"good": 300, "bad": 100, "failure": 0.25}));
        assert_eq!(summary["errors"], json!([["invalid_password", 100]]));
        assert_eq!(summary["platforms"][0]["value"], "ios");
        let p99 = summary["login_ms"]["p99"].as_f64().unwrap();
        assert!((38.0..42.0).contains(&p99), "{p99}");
        let halves = summary["flags"]["auth_rollout"].as_array().unwrap();
        let all: u64 = halves.iter().map(|half| half["logins"]["good"].as_u64().unwrap() + half["logins"]["bad"].as_u64().unwrap()).sum();
        assert_eq!((halves.len(), all), (2, 400), "{halves:?}");
        for half in halves {
            let n = half["logins"]["good"].as_u64().unwrap() + half["logins"]["bad"].as_u64().unwrap();
            assert!((150..250).contains(&n), "half of the users have it: {halves:?}");
        }
        let mine = api.get("/api/v1/environments/production/auth-events?user=7").await;
        assert_eq!((mine.as_array().unwrap().len(), &mine[0]["id"]), (1, &json!("e7")));
        let key = mine[0]["user_key"].as_str().unwrap();
        assert!(key.starts_with("u_") && key.len() == 34, "users are hashed: {key}");
    }

    async fn what_an_app_evaluated_itself_is_believed(backend: Backend) {
        let server = Server::start(&backend);
        let (api, app) = (server.api(), Api::new(&server.url, EVENTS));
        let mut one = event("e1", "login_failure", "ada");
        one["variants"] = json!({"new_login": true, "theme": "dark"});

        send(&app, vec![one]).await;

        let summary = api.get(SUMMARY).await;
        assert_eq!(summary["flags"]["new_login"][0]["value"], "on");
        assert_eq!(summary["flags"]["theme"][0]["value"], "dark");
    }

    async fn a_chart_has_a_line_for_each_kind_and_value(backend: Backend) {
        let server = Server::start(&backend);
        let (api, app) = (server.api(), Api::new(&server.url, EVENTS));
        let of = |id: &str, kind: &str, country: &str| {
            let mut one = event(id, kind, id);
            one["country"] = json!(country);
            one
        };
        let batch = vec![
            of("a", "login_success", "DE"),
            of("b", "login_success", "DE"),
            of("c", "login_failure", "DE"),
            of("d", "login_success", "FR"),
            of("e", "logout", "FR"),
            of("f", "login_success", "de"),
        ];
        send(&app, batch).await;
        let series = "/api/v1/environments/production/auth-series?dimension=country";
        let lines = async |query: &str| {
            let chart = api.get(&format!("{series}{query}")).await;
            let points = chart["at"].as_array().unwrap().len();
            let line = |line: &Value| {
                let counts: Vec<u64> = serde_json::from_value(line["n"].clone()).unwrap();
                assert_eq!(counts.len(), points);
                let of = |name: &str| line[name].as_str().unwrap().to_owned();
                (of("kind"), of("value"), counts.iter().sum::<u64>())
            };
            chart["counts"].as_array().unwrap().iter().map(line).collect::<Vec<_>>()
        };
        let line = |kind: &str, value: &str, n: u64| (kind.to_owned(), value.to_owned(), n);

        let mut logins = vec![line("login_failure", "DE", 1), line("login_success", "DE", 2), line("login_success", "FR", 1)];
        logins.push(line("login_success", "de", 1));
        assert_eq!(lines("&kinds=login_success,login_failure").await, logins);
        assert_eq!(lines("").await, [&logins[..], &[line("logout", "FR", 1)]].concat());
        let answer = api.send(Method::GET, &format!("{series}&kinds=login,logout"), None).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.body.to_string().contains("`login` is none; there are login_success"), "{}", answer.body);
    }

    async fn what_cannot_be_taken_is_named_and_the_rest_is_kept(backend: Backend) {
        let server = Server::start(&backend);
        let (api, app) = (server.api(), Api::new(&server.url, EVENTS));
        let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let mut future = event("future", "logout", "ada");
        future["at"] = json!(now + 3_600_000);
        let mut old = event("old", "logout", "ada");
        old["at"] = json!(now - 7 * 86_400_000);
        let batch = vec![
            event("good", "logout", "ada"),
            event("good", "logout", "ada"),
            event("long", "logout", "x".repeat(10_000)),
            json!({"type": "logout"}),
            event("odd", "log_out", "ada"),
            future,
            old,
            json!(7),
        ];

        let answer = send(&app, batch).await;

        assert_eq!((&answer["taken"], &answer["duplicates"], &answer["refused"]), (&json!(1), &json!(1), &json!(6)));
        let told: Vec<(u64, &str)> = answer["refusals"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["index"].as_u64().unwrap(), one["code"].as_str().unwrap()))
            .collect();
        assert_eq!(told, [(2, "invalid"), (3, "invalid"), (4, "invalid"), (5, "in_future"), (6, "too_old"), (7, "invalid")]);
        let sources = api.get("/api/v1/environments/production/auth-sources").await;
        assert_eq!((&sources[0]["taken"], &sources[0]["duplicates"], &sources[0]["refused"]), (&json!(1), &json!(0), &json!(6)));
        assert!(sources[0]["last_refusal"].as_str().unwrap().contains("object"), "{sources}");
    }

    async fn only_tokens_for_it_may_report(backend: Backend) {
        let server = Server::start(&backend);
        let body = json!({"events": [event("e", "logout", "ada")]});
        for (token, status) in [
            (switchback_tests::server::ADMIN, StatusCode::FORBIDDEN),
            (switchback_tests::server::BROWSER, StatusCode::FORBIDDEN),
            (switchback_tests::server::SERVER, StatusCode::OK),
            (EVENTS, StatusCode::OK),
            ("*:production.wrong-wrong", StatusCode::UNAUTHORIZED),
        ] {
            let answer = Api::new(&server.url, token).send(Method::POST, "/api/v1/auth-events", Some(body.clone())).await;
            assert_eq!(answer.status, status, "{token}: {}", answer.body);
        }
        let app = Api::new(&server.url, EVENTS);
        for path in ["/api/v1/flags", "/api/client/features", "/ofrep/v1/evaluate/flags/x"] {
            let answer = app.send(Method::GET, path, None).await;
            assert!(answer.status.is_client_error(), "an events token opens nothing else: {path} {}", answer.status);
        }
    }

    async fn the_flag_whose_users_fail_is_named_first(backend: Backend) {
        let server = Server::start(&backend);
        let (api, app) = (server.api(), Api::new(&server.url, EVENTS));
        let put = async |key: &str, reason: &str| {
            let flag = format!("/api/v1/environments/production/flags/{key}");
            let seen = api.get(&flag).await["revision"].clone();
            let state = json!({"enabled": true, "rules": [{"id": "half", "percent": 50}]});
            api.put(&format!("{flag}/state"), json!({"state": state, "revision": seen, "reason": reason})).await;
        };
        put("auth_rollout", "the new login").await;
        put("auth_enabled", "something else, later").await;
        api.send(Method::POST, "/api/v1/environments/production/deploys", Some(json!({"name": "shop 7.2"}))).await;
        let batch: Vec<Value> = (0..1_000)
            .map(|n| {
                let has = n % 2 == 0;
                let kind = if has && n % 8 == 0 || n % 100 == 1 { "login_failure" } else { "login_success" };
                let mut one = event(format!("e{n}"), kind, n);
                one["variants"] = json!({"auth_rollout": has, "auth_enabled": n % 3 == 0});
                one
            })
            .collect();
        send(&app, batch).await;

        let found = api.get("/api/v1/environments/production/what-changed").await;

        let first = &found[0];
        assert_eq!((&first["kind"], &first["subject"]), (&json!("flag"), &json!("auth_rollout")), "{found}");
        assert!(first["z"].as_f64().unwrap() > 4.0, "{first}");
        assert!(found.as_array().unwrap().iter().any(|one| one["kind"] == "deploy"), "{found}");
        let restore = json!({"revision": first["restore_revision"], "reason": "it hurts"});
        api.post("/api/v1/environments/production/flags/auth_rollout/restore", restore).await;
        let flag = api.get("/api/v1/environments/production/flags/auth_rollout").await;
        assert_ne!(flag["state"]["rules"][0]["percent"], 50, "{flag}");
    }

    async fn the_sdk_tells_and_never_waits(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let sdk = Switchback::builder().url(&server.url).token(SERVER).app("shop").build().await.unwrap();
        for n in 0..250 {
            let context = Context::new().user_id(format!("user{n}")).platform("ios");
            let kind = if n % 5 == 0 { AuthEventKind::LoginFailure } else { AuthEventKind::LoginSuccess };
            sdk.auth_event(AuthEvent::new(kind, &context).latency(Duration::from_millis(30)));
        }

        let summary = eventually("all events are kept", async || {
            let seen = api.get(SUMMARY).await;
            (seen["logins"]["good"] == 200).then_some(seen)
        }).await;

        assert_eq!((&summary["logins"]["bad"], &summary["login_ms"]["n"]), (&json!(50), &json!(200)));
        assert_eq!(summary["sources"][0]["source"], "sdk:shop");
        assert_eq!(sdk.status().dropped_events, 0);
    }

    async fn nobody_reporting_is_not_nought(backend: Backend) {
        let server = Server::start(&backend);
        let summary = server.api().get(SUMMARY).await;
        assert_eq!((&summary["is_reported"], &summary["logins"]["failure"]), (&json!(false), &Value::Null));
    }
}
