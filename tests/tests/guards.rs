//! A harmful flag is seen in its users' logins and put back, at every client; a harmless one is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_core::Context;
use switchback_sdk::Switchback;
use switchback_tests::server::{EVENTS, SERVER};
use switchback_tests::{Api, Server, eventually, on_both};

/// Starts when a guard finds harm.
const TELL: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: tell, title: Tell the team, owner: shop}
spec:
  deadline: 1m
  inputs:
    reason: {type: string, required: true}
  triggers:
    - guard: {flag: auth_rollout, environment: production, approve: none}
  steps:
    - {id: note, log: {message: '${{ inputs.reason }}'}}
";
const PROD: &str = "/api/v1/environments/production";

/// An app with users who log in all the time; the flag does harm once `harm` is set.
struct App {
    harm: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl App {
    /// 40 users each second, 2 % of whose logins fail; with harm 50 % of those with the flag.
    async fn start(server: &Server) -> Self {
        let sdk =
            Switchback::builder().url(&server.url).token(SERVER).app("shop").build().await.unwrap();
        let api = Api::new(&server.url, EVENTS);
        let app = Self { harm: Arc::default(), stop: Arc::default(), sent: Arc::default() };
        let (harm, stop, sent) =
            (Arc::clone(&app.harm), Arc::clone(&app.stop), Arc::clone(&app.sent));
        tokio::spawn(async move {
            let mut n = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let batch: Vec<Value> = (0..40)
                    .map(|_| {
                        n += 1;
                        let user = format!("user{n}");
                        let has = sdk.is_enabled("auth_rollout", &Context::new().user_id(&user));
                        let share = if has && harm.load(Ordering::Relaxed) { 50 } else { 2 };
                        // Spread by a hash of its own, so that it does not follow the flag's.
                        let failed =
                            n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0x7f < share * 128 / 100;
                        let kind = if failed { "login_failure" } else { "login_success" };
                        json!({"id": format!("login{n}"), "type": kind, "user_id": user})
                    })
                    .collect();
                api.post("/api/v1/auth-events", json!(batch)).await;
                sent.fetch_add(40, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await; // the pace of the users
            }
        });
        app
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn set_share(api: &Api, percent: u32) {
    let flag = format!("{PROD}/flags/auth_rollout");
    let seen = api.get(&flag).await["revision"].clone();
    let state = json!({"enabled": true, "rules": [{"id": "everyone", "percent": percent}]});
    let body = json!({"state": state, "revision": seen, "reason": "a share of the users"});
    api.put(&format!("{flag}/state"), body).await;
}

async fn share(api: &Api) -> Value {
    api.get(&format!("{PROD}/flags/auth_rollout")).await["state"]["rules"][0]["percent"].clone()
}

on_both! {
    async fn harm_is_seen_and_put_back_at_every_client(backend: Backend) {
        let runbooks = tempfile::tempdir().unwrap();
        std::fs::write(runbooks.path().join("tell.yaml"), TELL).unwrap();
        let folder = runbooks.path().display().to_string();
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SWITCHBACK_RUNBOOKS_DIR", folder.as_str())]);
        let api = server.api();
        set_share(&api, 50).await;
        let sdk = Switchback::builder().url(&server.url).token(SERVER).app("shop").build().await.unwrap();
        let settings = json!({"flag": "auth_rollout", "min_users": 20});
        let guard = api.post(&format!("{PROD}/guards"), json!({"settings": settings, "reason": "watch the new login"})).await;
        let id = guard["id"].as_str().unwrap();
        let app = App::start(&server).await;
        let said = eventually("the guard has seen users", async || {
            let seen = api.get(&format!("/api/v1/guards/{id}")).await;
            (seen["guard"]["verdict"]["standing"] == "ok").then_some(seen)
        }).await;
        assert_eq!(share(&api).await, 50, "{said}");

        app.harm.store(true, Ordering::Relaxed);

        let acted = eventually("the guard puts the flag back", async || {
            let seen = api.get(&format!("/api/v1/guards/{id}")).await;
            (seen["guard"]["phase"] == "acted").then_some(seen)
        }).await;
        assert_eq!(share(&api).await, 0);
        eventually("every client has it off", async || {
            let on = |n: u32| sdk.is_enabled("auth_rollout", &Context::new().user_id(format!("u{n}")));
            (!(0..50).any(on)).then_some(())
        }).await;
        let verdict = &acted["guard"]["verdict"];
        assert_eq!(verdict["standing"], "bad");
        assert!(verdict["words"].as_str().unwrap().contains("times as often"), "{verdict}");
        assert!(verdict["ratio"].as_f64().unwrap() > 3.0, "{verdict}");
        let acts = api.get(&format!("{PROD}/acts")).await;
        assert_eq!((&acts["acts"][0]["act"], &acts["acts"][0]["flag"]), (&json!("put_back"), &json!("auth_rollout")));
        let run = eventually("the playbook that waits for the guard ran", async || {
            let runs = api.get("/api/v1/runs?playbook=tell").await;
            runs["items"].as_array()?.iter().find(|run| run["state"] == "succeeded").cloned()
        }).await;
        assert_eq!(run["requested_by"], json!(format!("guard:{id}")), "{run}");
        let history = api.get(&format!("{PROD}/flags/auth_rollout/history")).await;
        let newest = history["items"].get(0).or(history.get(0)).unwrap();
        assert!(newest.to_string().contains(&format!("guard:{id}")), "the guard stands on the record: {newest}");
    }

    async fn a_guard_is_checked_before_it_is_armed(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let path = format!("{PROD}/guards");
        for (settings, part) in [
            (json!({"flag": "nothing"}), "nothing"),
            (json!({"flag": "auth_rollout", "metrics": []}), "metrics"),
            (json!({"flag": "auth_rollout", "metrics": ["login", "login"]}), "once"),
            (json!({"flag": "auth_rollout", "alpha_act": 0.5}), "alpha_act"),
            (json!({"flag": "auth_rollout", "rule": "nothing"}), "rule"),
            (json!({"flag": "auth_rollout", "action": {"do": "run_playbook", "name": "nothing"}}), "nothing"),
        ] {
            let body = json!({"settings": settings, "reason": "try"});
            let answer = api.send(Method::POST, &path, Some(body)).await;
            assert!(answer.status.is_client_error() && answer.body.to_string().contains(part), "{settings}: {}", answer.body);
        }
        let body = json!({"settings": {"flag": "auth_rollout"}, "reason": "try"});
        let made = api.post(&path, body.clone()).await;
        let again = api.send(Method::POST, &path, Some(body)).await;
        assert_eq!(again.status, StatusCode::CONFLICT, "one guard for a flag: {}", again.body);
        let id = made["id"].as_str().unwrap();
        let rests = api.post(&format!("/api/v1/guards/{id}/disarm"), json!({"reason": "no"})).await;
        assert_eq!(rests["phase"], "resting");
        let tried = api.post(&format!("{path}/rehearsal"), json!({"settings": {"flag": "auth_rollout"}, "hours": 1})).await;
        assert_eq!((&tried["acts"], &tried["treated"]), (&json!(0), &json!(0)));
        let gone = api.send(Method::DELETE, &format!("/api/v1/guards/{id}?reason=no"), None).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
    }

    async fn a_rollout_climbs_while_its_users_are_well(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        set_share(&api, 1).await;
        let app = App::start(&server).await;
        let steps = json!([
            {"percent": 20, "soak_minutes": 0, "min_users": 10},
            {"percent": 50, "soak_minutes": 0, "min_users": 10},
            {"percent": 100, "soak_minutes": 0, "min_users": 0, "needs_approval": true},
        ]);
        let rollout = json!({"flag": "auth_rollout", "steps": steps});
        let made = api.post(&format!("{PROD}/rollouts"), json!({"rollout": rollout, "reason": "the new login"})).await;
        let path = format!("/api/v1/rollouts/{}", made["id"].as_str().unwrap());

        let asks = eventually("it asks before the last step", async || {
            let seen = api.get(&path).await;
            (seen["asks"] == true).then_some(seen)
        }).await;

        assert_eq!((&asks["step"], share(&api).await), (&json!(1), json!(50)), "{asks}");
        let own = api.send(Method::POST, &format!("{path}/commands"), Some(json!({"command": "approve", "step": 2}))).await;
        assert_eq!(own.status, StatusCode::CONFLICT, "not by who started it: {}", own.body);
        let body = json!({"name": "bob", "kind": "api", "role": "operator", "environment": "production"});
        let bob = api.post("/api/v1/tokens", body).await;
        let bob = Api::new(&server.url, bob["token"].as_str().unwrap());
        bob.post(&format!("{path}/commands"), json!({"command": "approve", "step": 2, "reason": "looks good"})).await;
        eventually("it is done", async || {
            (api.get(&path).await["phase"] == "done").then_some(())
        }).await;
        assert_eq!(share(&api).await, 100);
        assert!(app.sent.load(Ordering::Relaxed) > 0);
    }

    async fn a_change_by_hand_pauses_a_rollout_and_abort_puts_back(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        set_share(&api, 1).await;
        let steps = json!([{"percent": 20, "soak_minutes": 60}, {"percent": 50}]);
        let rollout = json!({"flag": "auth_rollout", "steps": steps, "guard": null});
        let made = api.post(&format!("{PROD}/rollouts"), json!({"rollout": rollout, "reason": "the new login"})).await;
        let path = format!("/api/v1/rollouts/{}", made["id"].as_str().unwrap());
        eventually("the first step", async || (share(&api).await == 20).then_some(())).await;

        set_share(&api, 5).await;

        eventually("it pauses", async || (api.get(&path).await["phase"] == "paused").then_some(())).await;
        api.post(&format!("{path}/commands"), json!({"command": "abort", "reason": "enough"})).await;
        eventually("it is put back", async || (api.get(&path).await["phase"] == "put_back").then_some(())).await;
        assert_eq!(share(&api).await, 1);
    }
}

#[test]
fn guards_are_tried_on_files() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = |path: &std::path::Path| {
        let program = switchback_tests::server::program();
        std::process::Command::new(program).args(["test", "guards"]).arg(path).output().unwrap()
    };

    let good = run(&root.join("examples/guards"));
    let healthy = std::fs::read_to_string(root.join("examples/guards/healthy-week.yaml")).unwrap();
    std::fs::write(
        folder.path().join("wrong.yaml"),
        healthy.replace("never: [bad]", "reaches: bad, within: 1m"),
    )
    .unwrap();
    let wrong = run(folder.path());
    std::fs::write(folder.path().join("wrong.yaml"), healthy.replace("users:", "usrs:")).unwrap();
    let unread = run(folder.path());

    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(good.status.success(), "{} {}", text(&good.stdout), text(&good.stderr));
    assert_eq!(text(&good.stdout).matches("as expected").count(), 3, "{}", text(&good.stdout));
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong.stdout));
    assert_eq!(unread.status.code(), Some(2));
    assert!(text(&unread.stderr).contains("usrs"), "{}", text(&unread.stderr));
}
