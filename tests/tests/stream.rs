//! The stream: full, delta, resume, acknowledgement, browser tokens, notices, revocation.

use reqwest::Method;
use serde_json::json;
use switchback_core::wire::{ClientFrame, Count, ServerFrame};
use switchback_sdk::{AuthMode, BuildError, Context, Switchback};
use switchback_tests::server::{BROWSER, SERVER};
use switchback_tests::stream::hello;
use switchback_tests::{Api, Backend, Server, Stream, eventually, on_both};

const PROD: &str = "/api/v1/environments/production";

async fn ramp(api: &Api, percent: u32) -> u64 {
    let body = json!({"percent": percent, "reason": "test"});
    api.put(&format!("{PROD}/flags/auth_rollout/rollout"), body).await["revision"].as_u64().unwrap()
}

async fn full(stream: &mut Stream) -> (String, u64) {
    match stream.news().await {
        ServerFrame::Full(document) => (document.epoch, document.revision),
        other => panic!("{other:?}"),
    }
}

on_both! {
    /// A client gets everything, then what changed; its word is counted.
    async fn a_change_reaches_the_client_and_is_proved(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let mut stream = Stream::connect(&server.url, SERVER, hello("shop")).await;
        let (epoch, first) = full(&mut stream).await;

        let revision = ramp(&api, 7).await;
        match stream.news().await {
            ServerFrame::Delta(delta) => {
                assert_eq!((delta.from, delta.to, delta.flags.len()), (first, revision, 1));
            }
            other => panic!("{other:?}"),
        }
        let behind = api.get(&format!("{PROD}/convergence")).await;
        assert_eq!((&behind["connected"], &behind["acked"]), (&json!(1), &json!(0)));
        assert_eq!(behind["stragglers"][0]["app"], json!("shop"));

        stream.send(ClientFrame::Ack { epoch, revision }).await;
        eventually("the acknowledgement counts", || async {
            let found = api.get(&format!("{PROD}/convergence?revision={revision}")).await;
            (found["acked"] == json!(1) && found["p99_ms"].is_number()).then_some(())
        })
        .await;
    }

    /// A client that comes back gets what it missed, not everything; one from another database does.
    async fn a_client_resumes_from_its_revision(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let mut stream = Stream::connect(&server.url, SERVER, hello("shop")).await;
        let (epoch, revision) = full(&mut stream).await;
        drop(stream);
        ramp(&api, 1).await;
        let newest = ramp(&api, 2).await;

        let mut back = hello("shop");
        (back.epoch, back.revision) = (Some(epoch), Some(revision));
        let mut resumed = Stream::connect(&server.url, SERVER, back.clone()).await;
        match resumed.news().await {
            ServerFrame::Delta(delta) => assert_eq!((delta.from, delta.to), (revision, newest)),
            other => panic!("{other:?}"),
        }
        back.epoch = Some("another".to_owned());
        let mut stranger = Stream::connect(&server.url, SERVER, back).await;
        assert_eq!(full(&mut stranger).await.1, newest);
    }

    /// Browsers see decisions and never rules.
    async fn a_browser_sees_values_only(backend: Backend) {
        let server = Server::start(&backend);
        let mut greeting = hello("web");
        greeting.context = Some(serde_json::from_value(json!({"user_id": "u1"})).unwrap());
        let mut stream = Stream::connect(&server.url, BROWSER, greeting).await;

        let first = stream.json().await;
        assert_eq!(first["type"], json!("values"));
        assert!(!first.to_string().contains("percent"), "{first}");
        server.api().put(&format!("{PROD}/flags/auth_enabled/killed"), json!({"killed": true, "reason": "x"})).await;
        let next = stream.json().await;
        let values = next["values"].as_array().unwrap();
        let killed = values.iter().find(|v| v["key"] == json!("auth_enabled")).unwrap();
        assert_eq!((&killed["enabled"], &killed["reason"]), (&json!(false), &json!("killed")));
    }

    /// A revoked token's sockets are closed, and it opens none.
    async fn a_revoked_token_is_cut_off(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let made = api.post("/api/v1/tokens", json!({"name": "app", "kind": "server", "environment": "production"})).await;
        let token = made["token"].as_str().unwrap();
        let mut stream = Stream::connect(&server.url, token, hello("shop")).await;
        full(&mut stream).await;

        let id = made["id"].as_str().unwrap();
        api.send(Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await;

        match stream.news().await {
            ServerFrame::Goodbye { reason, reconnect_after_ms } => {
                assert_eq!((reason.as_str(), reconnect_after_ms), ("revoked", None));
            }
            other => panic!("{other:?}"),
        }
        assert!(stream.text().await.is_none());
        assert!(Stream::open(&server.url, token).await.is_err());
    }

    /// A socket that was opened before its token was revoked, and says hello after, gets nothing.
    async fn a_late_hello_does_not_outlive_its_token(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let body = json!({"name": "app", "kind": "server", "environment": "production"});
        let made = api.post("/api/v1/tokens", body).await;
        let mut stream = Stream::open(&server.url, made["token"].as_str().unwrap()).await.unwrap();

        let id = made["id"].as_str().unwrap();
        api.send(Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await;
        stream.send(ClientFrame::Hello(hello("late"))).await;

        let answer = stream.news().await;
        assert!(matches!(answer, ServerFrame::Goodbye { ref reason, .. } if reason == "revoked"), "{answer:?}");
    }

    /// What a browser was told is taken back when a flag's time runs out.
    async fn a_browser_hears_of_an_expiry(backend: Backend) {
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SWITCHBACK_STREAM__HEARTBEAT_MS", "200")]);
        let api = server.api();
        let url = format!("{PROD}/flags/auth_bypass");
        let seen = api.get(&url).await["revision"].clone();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let at = i64::try_from(now).unwrap() + 1_500;
        let state = json!({"enabled": true, "expires_at": at});
        api.put(&format!("{url}/state"), json!({"state": state, "revision": seen, "reason": "for a moment"})).await;
        let mut stream = Stream::connect(&server.url, BROWSER, hello("web")).await;
        let mut reasons = Vec::new();

        while reasons.last() != Some(&json!("expired")) {
            let frame = stream.json().await;
            let values = frame["values"].as_array().cloned().unwrap_or_default();
            let bypass = values.iter().find(|value| value["key"] == json!("auth_bypass"));
            reasons.extend(bypass.map(|value| value["reason"].clone()));
        }

        assert_eq!(reasons, [json!("default"), json!("expired")]);
    }

    /// A token of one project sees that project's flags and nothing else.
    async fn a_scoped_token_sees_its_project(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        api.post("/api/v1/flags", json!({"key": "cart", "project": "default"})).await;
        let made = api.post("/api/v1/tokens", json!({"name": "app", "kind": "server", "project": "default", "environment": "production"})).await;
        let mut stream = Stream::connect(&server.url, made["token"].as_str().unwrap(), hello("shop")).await;
        match stream.news().await {
            ServerFrame::Full(document) => assert_eq!(document.flags.keys().collect::<Vec<_>>(), ["cart"]),
            other => panic!("{other:?}"),
        }

        let revision = ramp(&api, 3).await;

        match stream.news().await {
            ServerFrame::Delta(delta) => assert_eq!((delta.to, delta.flags.len()), (revision, 0)),
            other => panic!("{other:?}"),
        }
    }

    /// The real SDK decides by what the server says, within moments of a change, and reports.
    async fn the_sdk_follows_and_reports(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let flags = Switchback::builder()
            .url(&server.url)
            .token(SERVER)
            .app("shop")
            .report_every(std::time::Duration::from_millis(100))
            .build()
            .await
            .unwrap();
        let user = Context::new().user_id("u1");
        assert_eq!(flags.auth_mode(&user), AuthMode::Enforced);

        let off = api.put(&format!("{PROD}/flags/auth_enabled/enabled"), json!({"enabled": false, "reason": "x"})).await;
        assert!(flags.wait_for_revision(off["revision"].as_u64().unwrap()).await);
        assert_eq!(flags.auth_mode(&user), AuthMode::Anonymous);
        assert!(flags.is_enabled("auth_rollout", &user));

        eventually("the SDK's acknowledgement and counts", || async {
            let found = api.get(&format!("{PROD}/convergence")).await;
            let usage = api.get(&format!("{PROD}/flags/auth_rollout/usage")).await;
            let counted = usage.as_array().unwrap().iter().any(|row| row["outcome"] == json!("on"));
            (found["acked"] == json!(1) && counted).then_some(())
        })
        .await;
        flags.shutdown().await;
    }

    /// A flag that asks for impressions makes the SDK tell the app of each decision, and no other flag does.
    async fn the_sdk_tells_of_impressions(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let flags = Switchback::builder().url(&server.url).token(SERVER).app("shop").build().await.unwrap();
        let (heard, mut seen) = tokio::sync::mpsc::channel(8);
        let listener = flags.on_impression(move |impression| heard.try_send(impression.clone()).unwrap());
        let user = Context::new().user_id("u1");
        flags.is_enabled("auth_rollout", &user); // it does not ask yet

        let url = format!("{PROD}/flags/auth_rollout");
        let flag = api.get(&url).await;
        let mut state = flag["state"].clone();
        state["impressions"] = json!(true);
        let body = json!({"state": state, "revision": flag["revision"], "reason": "who sees it?"});
        let revision = api.put(&format!("{url}/state"), body).await["revision"].as_u64().unwrap();
        assert!(flags.wait_for_revision(revision).await);
        let on = flags.is_enabled("auth_rollout", &user);
        flags.is_enabled("auth_enabled", &user);
        let decision = flags.evaluation("auth_rollout", &Context::new().session_id("s1"));

        let first = seen.recv().await.unwrap();
        assert_eq!((first.flag.as_str(), first.unit.as_deref()), ("auth_rollout", Some("u1")));
        assert_eq!((first.enabled, first.revision), (on, revision));
        let second = seen.recv().await.unwrap();
        assert_eq!((second.unit.as_deref(), second.enabled), (Some("s1"), decision.enabled));
        assert_eq!((second.variant, second.reason), (decision.variant, decision.reason));
        drop(listener);
        assert!(seen.recv().await.is_none(), "nothing else was told");
    }

    /// An app that was given a browser's token hears which one it needs, at once.
    async fn the_sdk_names_the_token_that_it_needs(backend: Backend) {
        let server = Server::start(&backend);
        let build = Switchback::builder().url(&server.url).token(BROWSER).app("shop").build();
        let error = build.await.unwrap_err();
        assert_eq!(error, BuildError::BrowserToken);
        assert!(error.to_string().contains("is a browser token") && error.to_string().contains("needs a server token"), "{error}");
    }

    /// A server that was killed knows again who has what, without anything having changed.
    async fn a_restarted_server_is_told_what_its_clients_have(backend: Backend) {
        let server = Server::start_to_return(&backend);
        let address = server.address().to_owned();
        let flags = Switchback::builder().url(&server.url).token(SERVER).app("shop").build().await.unwrap();
        server.kill();

        let again = Server::start_on(&backend, &address, &[]);

        eventually("the client is counted again", || async {
            let found = again.api().get(&format!("{PROD}/convergence")).await;
            (found["connected"] == json!(1) && found["acked"] == json!(1)).then_some(())
        })
        .await;
        flags.shutdown().await;
    }

    /// A graceful end tells clients to come back, and the SDK does.
    async fn clients_survive_a_restart(backend: Backend) {
        let server = Server::start_to_return(&backend);
        let address = server.address().to_owned();
        let flags = Switchback::builder().url(&server.url).token(SERVER).app("shop").build().await.unwrap();
        assert!(flags.status().live);
        assert_eq!(server.terminate(), Some(0));
        assert_eq!(flags.auth_mode(&Context::new().user_id("u1")), AuthMode::Enforced);

        let again = Server::start_on(&backend, &address, &[]);
        let revision = ramp(&again.api(), 0).await;

        assert!(flags.wait_for_revision(revision).await);
        assert_eq!(flags.auth_mode(&Context::new().user_id("u1")), AuthMode::Anonymous);
    }
}

/// What a hostile client sends breaks its own socket at most.
#[tokio::test]
async fn nonsense_on_the_stream_harms_nobody() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let mut good = Stream::connect(&server.url, SERVER, hello("good")).await;
    let (epoch, revision) = full(&mut good).await;

    let mut bad = Stream::open(&server.url, SERVER).await.unwrap();
    bad.send(ClientFrame::Ask).await; // no hello
    assert!(matches!(bad.next().await, Some(ServerFrame::Goodbye { .. })));
    let mut liar = Stream::connect(&server.url, SERVER, hello("liar")).await;
    full(&mut liar).await;
    liar.send(ClientFrame::Ack { epoch: epoch.clone(), revision: revision + 1_000 }).await;
    let counts =
        vec![
            Count { flag: "ghost".to_owned(), enabled: true, variant: None, count: u64::MAX };
            10_000
        ];
    liar.send(ClientFrame::Report { counts }).await;

    let newest = ramp(&server.api(), 9).await;
    assert!(matches!(good.news().await, ServerFrame::Delta(delta) if delta.to == newest));
    let found = server.api().get(&format!("{PROD}/convergence")).await;
    assert_eq!(found["acked"], json!(0), "an acknowledgement of the future counts: {found}");
}
