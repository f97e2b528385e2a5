//! Sessions of the app's users: begun once, ended by whom and when they should, and known to the app.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_app::ids::{Clock as _, SystemClock};
use switchback_tests::link::Link;
use switchback_tests::server::{ADMIN, BROWSER, EVENTS, SERVER, program};
use switchback_tests::{Api, Backend, Server, eventually, on_both};

const PRODUCTION: &str = "/api/v1/environments/production/sessions";
const HOUR_MS: i64 = 3_600_000;

const OUT: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: out, title: Old apps out, owner: team-auth}
spec:
  deadline: 2m
  steps:
    - id: out
      approve: {roles: [admin], timeout: 60s}
      session.revoke: {platform: ios, below_version: '2.4'}
";

fn app(server: &Server) -> Api {
    Api::new(&server.url, EVENTS)
}

fn now() -> i64 {
    SystemClock.now()
}

async fn log_in(app: &Api, user: &str, id: &str, more: Value) -> Value {
    let mut body = json!({"user_id": user, "session_id": id});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    app.post("/api/v1/sessions/login", body).await["session"].clone()
}

async fn send(api: &Api, path: &str, body: Value) -> (StatusCode, Value) {
    let answer = api.send(Method::POST, path, Some(body)).await;
    (answer.status, answer.body)
}

async fn state(app: &Api, id: &str) -> Value {
    app.get(&format!("/api/v1/sessions/{id}")).await
}

async fn ends(app: &Api, id: &str, reason: &str) -> Value {
    eventually(&format!("{id} is {reason}"), || async {
        let found = state(app, id).await;
        (found["session"]["end_reason"] == json!(reason)).then_some(found)
    })
    .await
}

async fn somebody(server: &Server, role: &str) -> Api {
    let body = json!({"name": role, "kind": "api", "role": role});
    let made = server.api().post("/api/v1/tokens", body).await;
    Api::new(&server.url, made["token"].as_str().unwrap())
}

on_both! {
    /// However often and however quickly a login is sent, it is one session.
    async fn duplicate_calls_make_one_session(backend: Backend) {
        let server = Server::start(&backend);
        let calls = (0..20).map(|_| {
            let app = app(&server);
            tokio::spawn(async move {
                let body = json!({"user_id": "ada", "session_id": "s1", "platform": "ios"});
                send(&app, "/api/v1/sessions/login", body).await
            })
        });
        let mut statuses = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            let (status, body) = call.await.unwrap();
            assert_eq!((&body["recorded"], &body["session"]["id"]), (&json!(true), &json!("s1")), "{body}");
            statuses.push(status);
        }
        assert_eq!(statuses.iter().filter(|status| **status == StatusCode::CREATED).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(StatusCode::is_success), "{statuses:?}");

        let app = app(&server);
        let keyed = |key: &'static str| {
            let app = app.clone();
            async move {
                let body = Some(json!({"user_id": 7}));
                let answer = app.send_with(Method::POST, "/api/v1/sessions/login", body, &[("idempotency-key", key)]).await;
                (answer.status, answer.body["session"]["id"].as_str().unwrap().to_owned())
            }
        };
        let (first, id) = keyed("k1").await;
        assert_eq!(keyed("k1").await, (StatusCode::OK, id.clone()));
        let (other, another) = keyed("k2").await;
        assert_eq!((first, other), (StatusCode::CREATED, StatusCode::CREATED));
        assert_ne!(id, another);

        let (status, body) = send(&app, "/api/v1/sessions/login", json!({"user_id": "eve", "session_id": "s1"})).await;
        assert_eq!(status, StatusCode::CONFLICT, "{body}");
        let summary = server.api().get(&format!("{PRODUCTION}/summary")).await;
        assert_eq!((&summary["open"], &summary["came"], &summary["today"]), (&json!(3), &json!(3), &json!(3)), "{summary}");
        let told = backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM user_auth_log WHERE kind = 'session_start'").await;
        let counted = backend.ask("SELECT CAST(SUM(n) AS TEXT) FROM auth_counts WHERE kind = 'session_start' AND width_s = 10 AND dimension = 'all'").await;
        assert_eq!((told.as_str(), counted.as_str()), ("3", "3"));
    }

    /// A logout ends every open session of the user, and nobody else's; averages and the history say so.
    async fn a_logout_ends_all(backend: Backend) {
        let server = Server::start(&backend);
        let (app, api) = (app(&server), server.api());
        let at = now() - 2 * HOUR_MS;
        for id in ["a1", "a2", "a3"] {
            log_in(&app, "ada", id, json!({"at": at, "app_version": "2.3.1", "country": "DE", "device": "phone"})).await;
        }
        log_in(&app, "bob", "b1", json!({})).await;

        let (status, body) = send(&app, "/api/v1/sessions/logout", json!({"session_id": "a1"})).await;
        assert_eq!((status, &body["ended"]), (StatusCode::OK, &json!(1)));
        let (_, body) = send(&app, "/api/v1/sessions/logout", json!({"user_id": "ada"})).await;
        assert_eq!(body, json!({"recorded": true, "ended": 2}));
        let (_, body) = send(&app, "/api/v1/sessions/logout", json!({"user_id": "ada"})).await;
        assert_eq!(body["ended"], json!(0));

        let past = api.get(&format!("{PRODUCTION}?user=ada&limit=2")).await;
        assert_eq!(past["items"].as_array().unwrap().len(), 2);
        let rest = api.get(&format!("{PRODUCTION}?user=ada&limit=2&cursor={}", past["next"].as_str().unwrap())).await;
        assert_eq!(rest["items"].as_array().unwrap().len(), 1);
        for one in past["items"].as_array().unwrap() {
            let (reason, seconds) = (&one["end_reason"], one["session_duration_seconds"].as_i64().unwrap());
            assert!(*reason == json!("logout") && (7_200..7_260).contains(&seconds), "{one}");
            assert!(one["user_key"].as_str().unwrap().starts_with("u_"), "a user's id is not kept: {one}");
        }
        let same = api.get(&format!("{PRODUCTION}?user={}", past["items"][0]["user_key"].as_str().unwrap())).await;
        assert_eq!(same["items"].as_array().unwrap().len(), 3, "the key that is kept is understood, too");
        let open = api.get(PRODUCTION).await;
        assert_eq!((open["items"].as_array().unwrap().len(), &open["items"][0]["id"]), (1, &json!("b1")));
        let days = api.get(&format!("{PRODUCTION}/days?days=3")).await;
        let today = days[2].clone();
        assert_eq!(today["ended"], json!(3), "{days}");
        assert!((7_200..7_260).contains(&today["average_seconds"].as_i64().unwrap()), "{days}");
        let body = json!({"user_id": "bob", "session_id": "b2", "replaces": "b1"});
        assert_eq!(send(&app, "/api/v1/sessions/login", body).await.0, StatusCode::CREATED);
        assert_eq!(state(&app, "b1").await["session"]["end_reason"], json!("replaced"));
    }

    /// A session without activity ends by itself, and counts until its last activity; who is active stays.
    async fn idle_sessions_expire(backend: Backend) {
        let server = Server::start(&backend);
        let app = app(&server);
        log_in(&app, "ada", "old", json!({"at": now() - 25 * HOUR_MS})).await;
        log_in(&app, "ada", "young", json!({"at": now() - 23 * HOUR_MS})).await;

        let old = ends(&app, "old", "expired").await;
        let young = state(&app, "young").await;

        assert_eq!((&old["is_open"], &old["session"]["session_duration_seconds"]), (&json!(false), &json!(0)), "{old}");
        assert_eq!(young["is_open"], json!(true), "{young}");
        let said = app.post("/api/v1/sessions/activity", json!({"session_ids": ["old", "young", "never"]})).await;
        assert_eq!(said, json!({"recorded": true, "open": 1, "ended": ["old"], "unknown": ["never"]}));
        eventually("the activity is kept", || async {
            let active = state(&app, "young").await["session"]["last_activity_at"].as_i64().unwrap();
            (active > now() - 60_000).then_some(())
        })
        .await;
    }

    /// What is revoked reaches the app: by its list, by the session itself and by its next activity.
    async fn revoked_sessions_reach_the_app(backend: Backend) {
        let server = Server::start(&backend);
        let (app, api) = (app(&server), server.api());
        for (user, id, platform, version) in [("ada", "a", "ios", "2.3.9"), ("bob", "b", "ios", "2.10.0"), ("eve", "e", "android", "1.0")] {
            log_in(&app, user, id, json!({"platform": platform, "app_version": version})).await;
        }
        let feed = app.send(Method::GET, "/api/v1/sessions/revoked", None).await;
        let etag = feed.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(feed.body, json!({"items": [], "next": 0, "more": false}));
        let url = format!("{PRODUCTION}/revoke");
        let filter = json!({"platform": "ios", "below_version": "2.4"});

        let dry = api.post(&url, json!({"filter": filter, "dry_run": true})).await;
        assert_eq!(dry, json!({"matching": 1, "revoked": 0, "left": 1}));
        assert_eq!(send(&api, &url, json!({"filter": filter})).await.0, StatusCode::UNPROCESSABLE_ENTITY, "a reason is needed");
        let more = json!({"filter": {}, "at_most": 2, "reason": "a leak"});
        assert_eq!(send(&api, &url, more).await.0, StatusCode::CONFLICT, "more match than were seen");
        let known = app.send_with(Method::GET, "/api/v1/sessions/revoked", None, &[("if-none-match", &etag)]).await;
        assert_eq!(known.status, StatusCode::NOT_MODIFIED, "nothing was revoked so far");
        let done = api.post(&url, json!({"filter": filter, "reason": "a leak in 2.3"})).await;
        assert_eq!(done, json!({"matching": 1, "revoked": 1, "left": 0}));

        let known = app.send_with(Method::GET, "/api/v1/sessions/revoked", None, &[("if-none-match", &etag)]).await;
        assert_eq!((known.status, &known.body["items"][0]["id"]), (StatusCode::OK, &json!("a")));
        assert!(known.body["items"][0]["user_key"].as_str().unwrap().starts_with("u_"));
        let one = state(&app, "a").await;
        assert_eq!((&one["is_open"], &one["session"]["end_reason"]), (&json!(false), &json!("revoked")));
        let said = app.post("/api/v1/sessions/activity", json!({"session_ids": ["a", "b"]})).await;
        assert_eq!((&said["open"], &said["ended"]), (&json!(1), &json!(["a"])));
        let next = known.body["next"].as_u64().unwrap();
        api.post(&url, json!({"user": "bob", "reason": "asked for it"})).await;
        api.post(&url, json!({"ids": ["e", "e", "never"], "reason": "a test"})).await;
        let later = app.get(&format!("/api/v1/sessions/revoked?since={next}")).await;
        let ids: Vec<&str> = later["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["b", "e"]);
        let log = api.get("/api/v1/changes?kind=session").await;
        let first = log["items"].as_array().unwrap().last().unwrap()["change"].clone();
        assert_eq!((&first["reason"], &first["action"]), (&json!("a leak in 2.3"), &json!("revoke")), "{log}");
        assert!(!log.to_string().contains("bob"), "{log}");
        let told = backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM user_auth_log WHERE kind = 'session_revoked'").await;
        assert_eq!(told, "3");
    }

    /// Sessions are forgotten when they have ended and are older than is set; open ones never.
    async fn old_sessions_are_forgotten(backend: Backend) {
        let settings = [("SWITCHBACK_WATCH__SESSIONS_DAYS", "1"), ("SWITCHBACK_WATCH__SESSION_IDLE_HOURS", "100")];
        let server = Server::start_on(&backend, "127.0.0.1:0", &settings);
        let app = app(&server);
        for id in ["ended", "open"] {
            log_in(&app, id, id, json!({"at": now() - 48 * HOUR_MS})).await;
        }
        app.post("/api/v1/sessions/logout", json!({"session_id": "ended"})).await;

        eventually("the ended session is forgotten", || async {
            let found = app.send(Method::GET, "/api/v1/sessions/ended", None).await;
            (found.status == StatusCode::NOT_FOUND).then_some(())
        })
        .await;
        assert_eq!(state(&app, "open").await["is_open"], json!(true));
        let summary = server.api().get(&format!("{PRODUCTION}/summary")).await;
        assert_eq!(summary["open"], json!(1), "what is forgotten is not counted as open");
    }

    /// Bad input changes nothing and says what is wrong; each door takes its own tokens.
    async fn bad_input_and_wrong_tokens_are_refused(backend: Backend) {
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SWITCHBACK_WATCH__USER_IDS", "plain")]);
        let (app, api) = (app(&server), server.api());
        for body in [
            json!({}), json!({"user_id": ""}), json!({"user_id": "a\u{0}b"}), json!({"user_id": "u".repeat(201)}),
            json!({"user_id": "u", "session_id": ""}), json!({"user_id": "u", "at": now() + 120_000}),
            json!({"user_id": "u", "at": 5}), json!({"user_id": "u", "at": "yesterday"}), json!({"user_id": "u", "at": i64::MIN}),
            json!({"user_id": "u", "colour": "red"}), json!({"user_id": ["u"]}), json!([]),
        ] {
            let (status, answer) = send(&app, "/api/v1/sessions/login", body.clone()).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {answer}");
        }
        for body in [json!({}), json!({"user_id": "u", "session_id": "s"})] {
            let (status, answer) = send(&app, "/api/v1/sessions/logout", body.clone()).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {answer}");
        }
        for ids in [json!([]), json!(vec!["s"; 501])] {
            let (status, answer) = send(&app, "/api/v1/sessions/activity", json!({"session_ids": ids})).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        }
        for query in ["?limit=0", "?cursor=x", "?below_version=new", "?user=u&platform=ios", "/days?days=0", "?started_before=x", "?idle_minutes=-1"] {
            let answer = api.send(Method::GET, &format!("{PRODUCTION}{query}"), None).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}: {}", answer.body);
        }
        let open = api.get(&format!("{PRODUCTION}/summary")).await;
        assert_eq!(open["open"], json!(0), "nothing was kept");

        let long = "w".repeat(300);
        let made = log_in(&app, "ada", "s", json!({"platform": format!(" {long}\u{7}"), "country": " "})).await;
        assert_eq!((made["user_key"].as_str(), made["platform"].as_str().map(str::len)), (Some("ada"), Some(100)), "plain ids are kept");
        assert_eq!(made["country"], Value::Null);
        let server_token = Api::new(&server.url, SERVER);
        assert_eq!(state(&server_token, "s").await["is_open"], json!(true));
        for token in [BROWSER, ADMIN, "*:production.nonsense", ""] {
            let other = Api::new(&server.url, token);
            let (status, _) = send(&other, "/api/v1/sessions/login", json!({"user_id": "u"})).await;
            assert!(matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED), "{token}: {status}");
        }
        assert_eq!(app.send(Method::GET, PRODUCTION, None).await.status, StatusCode::FORBIDDEN);
        let viewer = somebody(&server, "viewer").await;
        viewer.get(PRODUCTION).await;
        let body = json!({"filter": {}, "reason": "for fun"});
        assert_eq!(send(&viewer, &format!("{PRODUCTION}/revoke"), body.clone()).await.0, StatusCode::FORBIDDEN);
        let operator = somebody(&server, "operator").await;
        assert_eq!(send(&operator, &format!("{PRODUCTION}/revoke"), body).await.1["revoked"], json!(1));
        let other = server.api().send(Method::GET, "/api/v1/environments/nowhere/sessions", None).await;
        assert_eq!(other.status, StatusCode::NOT_FOUND);
    }

    /// The step counts in a dry run, ends those that match after somebody agreed, and proves it.
    async fn a_playbook_revokes_sessions(backend: Backend) {
        let runbooks = backend.folder.path().join("runbooks");
        std::fs::create_dir_all(&runbooks).unwrap();
        std::fs::write(runbooks.join("out.yaml"), OUT).unwrap();
        let folder = runbooks.display().to_string();
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SWITCHBACK_RUNBOOKS_DIR", &folder)]);
        let (app, api) = (app(&server), server.api());
        for n in 0..3 {
            log_in(&app, &format!("u{n}"), &format!("old{n}"), json!({"platform": "ios", "app_version": "2.3"})).await;
        }
        log_in(&app, "new", "new", json!({"platform": "ios", "app_version": "2.4"})).await;
        let body = json!({"environment": "production", "reason": "2.3 leaks its tokens"});
        let dry = api.post("/api/v1/playbooks/out/preview", body.clone()).await;
        assert!(dry.to_string().contains("3 sessions end; nothing brings them back"), "{dry}");

        let run = api.post("/api/v1/playbooks/out/runs", body).await["id"].as_str().unwrap().to_owned();
        eventually("the run asks", || async {
            let detail = api.get(&format!("/api/v1/runs/{run}")).await;
            (detail["state"] == json!("waiting_approval")).then_some(())
        })
        .await;
        let grace = somebody(&server, "admin").await;
        grace.post(&format!("/api/v1/runs/{run}/steps/out/approval"), json!({"approve": true})).await;

        eventually("the run ends", || async {
            let detail = api.get(&format!("/api/v1/runs/{run}")).await;
            assert_ne!(detail["state"], json!("failed"), "{detail}");
            (detail["state"] == json!("succeeded")).then_some(())
        })
        .await;
        assert_eq!(state(&app, "old2").await["session"]["end_reason"], json!("revoked"));
        assert_eq!(state(&app, "new").await["is_open"], json!(true));
        let log = api.get(&format!("/api/v1/changes?kind=session&run={run}")).await;
        assert_eq!(log["items"].as_array().unwrap().len(), 1, "{log}");
    }

    /// The commands list, tell the past and the days, and end nothing that was not agreed to.
    async fn sessions_from_a_terminal(backend: Backend) {
        let server = Server::start(&backend);
        let app = app(&server);
        log_in(&app, "ada", "first", json!({"platform": "ios", "app_version": "2.3"})).await;
        log_in(&app, "bob", "second", json!({"platform": "web"})).await;
        let run = |arguments: &[&str]| -> Output {
            let mut command = Command::new(program());
            command.env_clear().current_dir(std::env::temp_dir()).stdin(std::process::Stdio::null());
            command.env("SWITCHBACK_URL", &server.url).env("SWITCHBACK_TOKEN", ADMIN);
            command.arg("session").args(arguments).output().unwrap()
        };
        let good = |arguments: &[&str]| {
            let output = run(arguments);
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };

        let list = good(&["list", "--platform", "ios"]);
        assert!(list.contains("first") && !list.contains("second") && list.contains("2 open in production"), "{list}");
        assert!(good(&["revoke", "--platform", "ios", "--dry-run"]).contains("1 open sessions in production match"));
        let asked = run(&["revoke", "--platform", "ios", "--reason", "a leak"]);
        assert_eq!(asked.status.code(), Some(2), "nobody can be asked");
        assert_eq!(run(&["revoke", "--reason", "all?"]).status.code(), Some(2), "everybody is asked for by name");
        assert_eq!(state(&app, "first").await["is_open"], json!(true));
        let done = good(&["revoke", "--platform", "ios", "--reason", "a leak", "--yes"]);
        assert!(done.contains("1 sessions revoked in production"), "{done}");
        let history = good(&["history", "ada"]);
        assert!(history.contains("first") && history.contains("revoked"), "{history}");
        assert_eq!(good(&["days", "--days", "2"]).lines().count(), 3);
    }
}

/// Two nodes that hear of one login at once make one session, and one ending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_make_one_session() {
    let backend = Backend::postgres().await;
    let second = Backend { database_url: backend.database_url.clone(), ..Backend::sqlite() };
    let nodes = [Server::start(&backend), Server::start(&second)];
    let mut calls = Vec::new();
    for round in 0..20 {
        for node in &nodes {
            let app = app(node);
            calls.push(tokio::spawn(async move {
                let body = json!({"user_id": round, "session_id": format!("s{round}")});
                send(&app, "/api/v1/sessions/login", body).await.0
            }));
        }
    }
    let mut made = 0;
    for call in calls {
        let status = call.await.unwrap();
        assert!(matches!(status, StatusCode::CREATED | StatusCode::OK), "{status}");
        made += usize::from(status == StatusCode::CREATED);
    }
    assert_eq!(made, 20);

    let url = format!("{PRODUCTION}/revoke");
    let body = json!({"filter": {}, "reason": "everybody out"});
    let [one, two] = [nodes[0].api(), nodes[1].api()];
    let (one, two) = tokio::join!(send(&one, &url, body.clone()), send(&two, &url, body));
    let ended = one.1["revoked"].as_u64().unwrap() + two.1["revoked"].as_u64().unwrap();
    assert_eq!(ended, 20, "{one:?} {two:?}");
    let days = nodes[1].api().get(&format!("{PRODUCTION}/days?days=1")).await;
    assert_eq!((&days[0]["started"], &days[0]["ended"]), (&json!(20), &json!(20)), "{days}");
    let feed = app(&nodes[0]).get("/api/v1/sessions/revoked").await;
    assert_eq!(feed["items"].as_array().unwrap().len(), 20);
}

/// A login needs no database: it is answered in time, and written when the database is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_never_fails_for_want_of_a_database() {
    let mut backend = Backend::postgres().await;
    let (user, rest) = backend.database_url.split_once('@').unwrap();
    let (host, name) = rest.split_once('/').unwrap();
    let link = Link::to(host).await;
    backend.database_url = format!("{user}@{}/{name}", link.address);
    let server = Server::start(&backend);
    let app = app(&server);
    log_in(&app, "ada", "before", json!({})).await;

    link.cut();
    for n in 0..5 {
        let began = Instant::now();
        let body = json!({"user_id": format!("u{n}"), "session_id": format!("during{n}")});
        let (status, answer) = send(&app, "/api/v1/sessions/login", body).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(
            (status, &answer["recorded"]),
            (StatusCode::ACCEPTED, &json!(false)),
            "{answer}"
        );
    }
    let (status, answer) = send(&app, "/api/v1/sessions/logout", json!({"user_id": "ada"})).await;
    assert_eq!((status, &answer["recorded"]), (StatusCode::ACCEPTED, &json!(false)), "{answer}");
    let (status, answer) =
        send(&app, "/api/v1/sessions/activity", json!({"session_ids": ["before"]})).await;
    assert_eq!((status, &answer["recorded"]), (StatusCode::ACCEPTED, &json!(false)), "{answer}");
    let figures = app.get("/metrics").await.as_str().unwrap().to_owned();
    assert!(figures.contains("switchback_session_writes_waiting 7"), "{figures}");
    link.mend();

    let told = |id: &'static str| {
        let app = app.clone();
        async move { app.send(Method::GET, &format!("/api/v1/sessions/{id}"), None).await }
    };
    eventually("what was kept is written", || async {
        let found = told("during4").await;
        (found.status == StatusCode::OK).then_some(())
    })
    .await;
    eventually("the logout is written, too", || async {
        let found = told("before").await;
        (found.body["session"]["end_reason"] == json!("logout")).then_some(())
    })
    .await;
    let figures = app.get("/metrics").await.as_str().unwrap().to_owned();
    assert!(figures.contains("switchback_session_writes_dropped_total 0"), "{figures}");
}
