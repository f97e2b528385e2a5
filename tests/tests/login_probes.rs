//! Probes that really sign in: step by step, with cookies and tokens carried over; how it went counts among the logins.

use std::sync::{Arc, Mutex};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::server::{ADMIN, program};
use switchback_tests::{Server, eventually, on_both};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SUMMARY: &str = "/api/v1/environments/production/auth-summary";

/// A site that lets in who comes in its own way: a flow with a cookie, a password, a token.
struct Site {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 16_384];
                let Ok(count @ 1..) = stream.read(&mut request).await else { continue };
                let text = String::from_utf8_lossy(&request[..count]).into_owned();
                let answer = answer(&text);
                seen.lock().unwrap().push(text);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, requests }
    }

    fn steps(&self, wanted: &Value) -> Value {
        let at = |path: &str| format!("http://{}{path}", self.address);
        json!([
            {"url": at("/flow"), "keep": {"flow": "/id"}},
            {"method": "POST", "url": at("/login?flow=${flow}"), "json": {"email": "${name}", "password": "${password}"},
                "status": [200], "keep": {"token": "/access_token"}},
            {"url": at("/me"), "headers": {"authorization": "Bearer ${token}"}, "expect": {"/user/active": wanted}},
        ])
    }
}

fn answer(request: &str) -> String {
    let line = request.lines().next().unwrap_or_default();
    let has = |text: &str| request.to_lowercase().contains(text);
    let (status, cookie, body) = if line.starts_with("GET /flow ") {
        ("200 OK", "set-cookie: csrf=c00k1e; Path=/; HttpOnly\r\n", json!({"id": "f 1&2"}))
    } else if line.starts_with("POST /login?flow=f+1%262 ")
        && has("cookie: csrf=c00k1e")
        && has("\"password\":\"hunter2\"")
    {
        ("200 OK", "", json!({"access_token": "t0ken"}))
    } else if line.starts_with("GET /me ") && has("authorization: bearer t0ken") {
        ("200 OK", "", json!({"user": {"active": true}}))
    } else {
        ("401 Unauthorized", "", json!({"error": "hunter2 is wrong"}))
    };
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{cookie}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn probe(name: &str, check: &Value) -> Value {
    json!({"settings": {"name": name, "component": "auth", "check": check, "interval_s": 10, "timeout_ms": 4000}, "reason": "a test"})
}

on_both! {
    async fn a_probe_signs_in_and_counts_among_the_logins(backend: Backend) {
        let site = Site::start().await;
        let variables = [("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8"), ("GOOD", "probe@example.com:hunter2"), ("BAD", "probe@example.com:hunter3")];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let api = server.api();
        let flow = |credentials: &str, wanted: Value| {
            json!({"kind": "login_flow", "credentials": credentials, "environment": "production", "steps": site.steps(&wanted)})
        };

        api.put("/api/v1/probes/good", probe("good", &flow("env:GOOD", json!(true)))).await;
        let one = eventually("a login is counted", async || {
            let seen = api.get(SUMMARY).await;
            (seen["logins"]["good"].as_u64().unwrap() >= 1).then_some(seen)
        }).await;
        assert_eq!((&one["logins"]["bad"], &one["sources"][0]["source"]), (&json!(0), &json!("probe:good")));
        assert!(one["login_ms"]["n"].as_u64().unwrap() >= 1, "with how long it took: {one}");
        for (name, credentials, wanted, said) in [
            ("password", "env:BAD", json!(true), "step 2: it answered 401"),
            ("inactive", "env:GOOD", json!(false), "step 3: `/user/active` is not as expected"),
        ] {
            api.put(&format!("/api/v1/probes/{name}"), probe(name, &flow(credentials, wanted))).await;
            eventually("the failure is counted", async || {
                let seen = api.get(SUMMARY).await;
                seen["errors"].as_array().unwrap().iter().any(|one| one[0] == said).then_some(())
            }).await;
        }

        let events = api.get("/api/v1/environments/production/auth-events").await;
        let all = events.as_array().unwrap();
        assert!(all.iter().all(|one| one["variants"].is_null() && one["user_key"].is_null()), "it is no user of a flag: {events}");
        let (probes, changes) = (api.get("/api/v1/probes").await, api.get("/api/v1/changes?limit=100").await);
        for text in [&probes, &changes, &events] {
            assert!(!text.to_string().contains("hunter") && !text.to_string().contains("t0ken"), "{text}");
        }
        let asked = site.requests.lock().unwrap().iter().filter(|one| one.starts_with("GET /me")).count();
        assert!(asked >= 1);
    }

    async fn a_sign_in_that_cannot_be_is_refused(backend: Backend) {
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("GOOD", "a:b")]);
        let api = server.api();
        for (check, field) in [
            (json!({"kind": "login_flow", "steps": []}), "check.steps"),
            (json!({"kind": "login_flow", "steps": [{"url": "https://a.example/${token}"}]}), "check.steps"),
            (json!({"kind": "login_flow", "credentials": "env:GOOD", "steps": [{"url": "https://a.example/?p=${password}"}]}), "check.steps"),
        ] {
            let answer = api.send(Method::PUT, "/api/v1/probes/odd", Some(probe("odd", &check))).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.body);
            assert!(answer.body["errors"].to_string().contains(field), "{}", answer.body);
        }
        let check = json!({"kind": "login_flow", "environment": "nowhere", "steps": [{"url": "https://a.example/"}]});
        let answer = api.send(Method::PUT, "/api/v1/probes/odd", Some(probe("odd", &check))).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.body);

        let file = backend.folder.path().join("steps.json");
        std::fs::write(&file, json!([{"url": "https://shop.example.com/health"}]).to_string()).unwrap();
        let mut command = std::process::Command::new(program());
        command.env_clear().env("SWITCHBACK_URL", &server.url).env("SWITCHBACK_TOKEN", ADMIN);
        command.args(["probe", "put", "flow", "--component", "auth", "--off", "--count-in", "production", "--login-flow"]).arg(&file);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found = api.get("/api/v1/probes/flow").await;
        assert_eq!(found["probe"]["settings"]["check"]["environment"], "production", "{found}");
    }
}
