//! Other systems' protocols, byte by byte: what a header asks for, what an answer says, what happens when it cannot be given.

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::server::{BROWSER, SERVER};
use switchback_tests::{Api, Server, eventually, on_both};

const PROD: &str = "/api/v1/environments/production";

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|_| panic!("{}: {}", self.status, self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(
    server: &Server,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Answer {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut request = Client::new().request(method, format!("{}{path}", server.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    Answer { status, headers, text: answer.text().await.unwrap() }
}

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(server, Method::GET, path, headers, None).await
}

async fn flag(api: &Api, key: &str, value_type: &str, state: Value) {
    let body = json!({"key": key, "project": "default", "value_type": value_type, "state": state});
    api.post("/api/v1/flags", body).await;
}

async fn switch(api: &Api, key: &str, enabled: bool) {
    let body = json!({"enabled": enabled, "reason": "test"});
    api.put(&format!("{PROD}/flags/{key}/enabled"), body).await;
}

on_both! {
    /// Whole documents: known ones are not sent again, old SDKs get segments written out, new ones hear of the stream.
    async fn features_are_sent_as_the_sdk_asks_for_them(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let segment = json!({"key": "pro", "constraints": [{"field": "plan", "operator": "IN", "values": ["pro"]}]});
        api.put(&format!("{PROD}/segments/pro"), json!({"segment": segment, "reason": "test"})).await;
        let rules = json!([{"id": "pro", "segments": ["pro"]}]);
        flag(&api, "cart.new", "boolean", json!({"enabled": false})).await;
        let revision = api.get(&format!("{PROD}/flags/cart.new")).await["revision"].clone();
        let state = json!({"state": {"enabled": true, "rules": rules}, "revision": revision, "reason": "test"});
        api.put(&format!("{PROD}/flags/cart.new/state"), state).await;
        let token = ("authorization", SERVER);

        let new = get(&server, "/api/client/features", &[token, ("unleash-client-spec", "5.2.0")]).await;
        assert_eq!(new.header("fetch-mode"), "streaming");
        assert_eq!(new.header("cache-control"), "no-cache");
        assert_eq!(new.json()["segments"][0]["name"], json!("pro"));
        let old = get(&server, "/api/client/features?namePrefix=cart", &[token, ("unleash-client-spec", "4.1.0")]).await;
        assert_eq!(old.header("fetch-mode"), "");
        let old = old.json();
        assert_eq!(old["features"].as_array().unwrap().len(), 1);
        assert_eq!(old["features"][0]["strategies"][0]["constraints"][0]["contextName"], json!("plan"));
        let known = get(&server, "/api/client/features", &[token, ("unleash-client-spec", "5.2.0"), ("if-none-match", new.header("etag"))]).await;
        assert_eq!((known.status, known.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
        let one = get(&server, "/api/client/features/cart.new", &[token]).await;
        assert_eq!(one.json()["name"], json!("cart.new"));
        let wrong = get(&server, "/api/client/features", &[token, ("unleash-client-spec", "new")]).await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    }

    /// Deltas lead from what the client has to what there is, and start over when they cannot.
    async fn deltas_lead_from_one_revision_to_the_next(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let token = ("authorization", SERVER);
        let first = get(&server, "/api/client/delta", &[token]).await;
        assert_eq!(first.json()["events"][0]["type"], json!("hydration"));
        let etag = first.header("etag").to_owned();
        let known = get(&server, "/api/client/delta", &[token, ("if-none-match", &etag)]).await;
        assert_eq!(known.status, StatusCode::NOT_MODIFIED);

        switch(&api, "auth_enabled", false).await;
        let next = get(&server, "/api/client/delta", &[token, ("if-none-match", &etag)]).await.json();
        assert_eq!(next["events"].as_array().unwrap().len(), 1);
        assert_eq!(next["events"][0]["type"], json!("feature-updated"));
        assert_eq!(next["events"][0]["feature"]["enabled"], json!(false));
        let stranger = get(&server, "/api/client/delta", &[token, ("if-none-match", "\"1-00000000\"")]).await;
        assert_eq!(stranger.json()["events"][0]["type"], json!("hydration"));
    }

    /// A token that is wrong is told so; one that cannot be checked never is.
    async fn tokens_are_refused_only_when_it_is_certain(backend: Backend) {
        let server = Server::start(&backend);
        for (path, token, status) in [
            ("/api/client/features", "*:production.unknown-token", StatusCode::UNAUTHORIZED),
            ("/api/client/features", BROWSER, StatusCode::FORBIDDEN),
            ("/api/frontend", SERVER, StatusCode::FORBIDDEN),
            ("/api/frontend", BROWSER, StatusCode::OK),
            ("/api/proxy", BROWSER, StatusCode::OK),
            ("/flagd/v1/flags.json", SERVER, StatusCode::OK),
        ] {
            let answer = get(&server, path, &[("authorization", token)]).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.text);
            if status.is_client_error() {
                assert!(answer.json()["message"].is_string());
            }
        }
        let api = server.api();
        let made = api.post("/api/v1/tokens", json!({"name": "app", "kind": "server", "environment": "production"})).await;
        let text = made["token"].as_str().unwrap().to_owned();
        let known = get(&server, "/api/client/features", &[("authorization", &text)]).await;
        assert_eq!(known.status, StatusCode::OK);
        let id = made["id"].as_str().unwrap();
        let path = format!("/api/v1/tokens/{id}");
        api.send(Method::DELETE, &path, None).await;
        let revoked = get(&server, "/api/client/features", &[("authorization", &text)]).await;
        assert_eq!(revoked.status, StatusCode::UNAUTHORIZED);
    }

    /// Browsers: CORS, a brake, only what is on, and everything when it is asked for.
    async fn front_ends_get_outcomes_and_no_rules(backend: Backend) {
        let limit = [("SWITCHBACK_COMPAT__BROWSER_REQUESTS_PER_SECOND", "5")];
        let server = Server::start_on(&backend, "127.0.0.1:0", &limit);
        let preflight = [
            ("origin", "https://shop.example"), ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization,unleash-appname"),
        ];
        let allowed = ask(&server, Method::OPTIONS, "/api/frontend", &preflight, None).await;
        assert_eq!(allowed.header("access-control-allow-origin"), "*");
        let token = ("authorization", BROWSER);
        let on = get(&server, "/api/frontend?userId=u1", &[token]).await.json();
        let names = |answer: &Value| -> Vec<String> {
            let toggles = answer["toggles"].as_array().unwrap();
            toggles.iter().map(|toggle| toggle["name"].as_str().unwrap().to_owned()).collect()
        };
        assert!(!names(&on).contains(&"auth_bypass".to_owned()));
        let body = json!({"context": {"userId": "u1", "properties": {"plan": "pro"}}});
        let all = ask(&server, Method::POST, "/api/frontend/all", &[token], Some(body)).await.json();
        assert!(names(&all).contains(&"auth_bypass".to_owned()));
        eventually("one address is slowed down", || async {
            let answer = get(&server, "/api/frontend?userId=u1", &[token]).await;
            let told = answer.header("retry-after") == "1";
            (answer.status == StatusCode::TOO_MANY_REQUESTS && told).then_some(())
        }).await;
    }

    /// Values keep their type, reasons are the protocol's, errors have its codes.
    async fn ofrep_answers_as_its_specification_says(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        flag(&api, "whole", "number", json!({"enabled": true, "on_value": 1, "off_value": 0})).await;
        flag(&api, "float", "number", json!({"enabled": true, "on_value": 1.0, "off_value": 0.5})).await;
        let half = json!({"enabled": true, "rules": [{"id": "half", "percent": 50}]});
        flag(&api, "half", "boolean", half).await;
        for key in ["whole", "float", "half"] {
            switch(&api, key, true).await;
        }
        let bearer = format!("Bearer {SERVER}");
        let token = [("authorization", bearer.as_str())];
        let evaluate = async |key: &str, context: Value| {
            let path = format!("/ofrep/v1/evaluate/flags/{key}");
            ask(&server, Method::POST, &path, &token, Some(json!({"context": context}))).await
        };
        let user = json!({"targetingKey": "u-1"});

        assert!(evaluate("whole", user.clone()).await.text.contains("\"value\":1,"));
        assert!(evaluate("float", user.clone()).await.text.contains("\"value\":1.0,"));
        assert_eq!(evaluate("whole", user.clone()).await.json()["reason"], json!("STATIC"));
        let split = evaluate("half", user.clone()).await.json();
        assert!(split["reason"] == json!("SPLIT") || split["reason"] == json!("DEFAULT"), "{split}");
        let unknown = evaluate("nowhere", user.clone()).await;
        assert_eq!((unknown.status, unknown.json()["errorCode"].clone()), (StatusCode::NOT_FOUND, json!("FLAG_NOT_FOUND")));
        let keyless = evaluate("half", json!({})).await;
        assert_eq!((keyless.status, keyless.json()["errorCode"].clone()), (StatusCode::BAD_REQUEST, json!("TARGETING_KEY_MISSING")));
        let wrong = evaluate("half", json!(7)).await;
        assert_eq!(wrong.json()["errorCode"], json!("INVALID_CONTEXT"));

        let all = "/ofrep/v1/evaluate/flags";
        let bulk = ask(&server, Method::POST, all, &token, Some(json!({"context": user}))).await;
        let etag = bulk.header("etag").to_owned();
        let known = [token[0], ("if-none-match", etag.as_str())];
        let same = ask(&server, Method::POST, all, &known, Some(json!({"context": user}))).await;
        assert_eq!(same.status, StatusCode::NOT_MODIFIED);
        let other = json!({"context": {"targetingKey": "u-2", "plan": "pro"}});
        let path = bulk.json()["eventStreams"][0]["endpoint"]["requestUri"].as_str().unwrap().to_owned();
        assert!(path.starts_with("/ofrep/v1/stream?ticket="));
        assert_eq!(ask(&server, Method::POST, all, &token, Some(other)).await.status, StatusCode::OK);
        let forged = format!("{path}x");
        assert_eq!(get(&server, &forged, &[]).await.status, StatusCode::UNAUTHORIZED);
    }

    /// What flagd cannot say defers to the caller; what it can is in its language.
    async fn flagd_gets_what_its_language_can_say(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        flag(&api, "half", "boolean", json!({"enabled": false})).await;
        let rules = json!([{"id": "half", "percent": 50}]);
        let revision = api.get(&format!("{PROD}/flags/half")).await["revision"].clone();
        let body = json!({"state": {"enabled": true, "rules": rules}, "revision": revision, "reason": "test"});
        api.put(&format!("{PROD}/flags/half/state"), body).await;

        let answer = get(&server, "/flagd/v1/flags.json", &[("authorization", SERVER)]).await;
        let told = answer.json();
        assert_eq!(told["flags"]["auth_enabled"]["defaultVariant"], json!("on"));
        assert_eq!(told["flags"]["half"]["defaultVariant"], Value::Null);
        let reason = told["flags"]["half"]["metadata"]["switchbackInexpressible"].as_str().unwrap();
        assert!(reason.contains("flagd"), "{reason}");
        let known = [("authorization", SERVER), ("if-none-match", answer.header("etag"))];
        assert_eq!(get(&server, "/flagd/v1/flags.json", &known).await.status, StatusCode::NOT_MODIFIED);
    }

    /// Figures that an app reports of itself are kept by the minute.
    async fn impact_metrics_are_kept(backend: Backend) {
        let server = Server::start(&backend);
        let report = json!({"appName": "shop", "bucket": null, "impactMetrics": [
            {"name": "purchases", "help": "", "type": "counter", "samples": [{"labels": {"appName": "shop"}, "value": 2}]},
            {"name": "rt", "help": "", "type": "histogram", "samples": [{"labels": {}, "count": 3, "sum": 1.5,
              "buckets": [{"le": 0.5, "count": 2}, {"le": "+Inf", "count": 3}]}]},
        ]});
        for _ in 0..2 {
            let path = "/api/client/metrics";
            let answer = ask(&server, Method::POST, path, &[("authorization", SERVER)], Some(report.clone())).await;
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        }

        let rows = server.api().get(&format!("{PROD}/impact-metrics/purchases")).await;
        let sum: i64 = rows.as_array().unwrap().iter().map(|row| row["sum_micros"].as_i64().unwrap()).sum();
        assert_eq!(sum, 4_000_000);
        let rows = server.api().get(&format!("{PROD}/impact-metrics/rt")).await.to_string();
        assert!(rows.contains("+Inf") && rows.contains("0.5"), "{rows}");
        let names = server.api().get(&format!("{PROD}/impact-metrics")).await;
        assert_eq!(names.as_array().unwrap().len(), 2);
    }
}
