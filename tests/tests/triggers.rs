//! What may start a playbook: people with the roles it wants, signed calls within their limits, and the switch over all.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use switchback_tests::server::{ADMIN, EMAIL, PASSWORD, program};
use switchback_tests::{Api, Backend, Server, eventually, on_both};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const HOOKED: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: hooked, title: Called from outside, owner: team-shop}
spec:
  deadline: 1m
  inputs:
    reason: {type: string, min: 10, required: true}
    share: {type: percent, default: 10%}
  secrets: {deploys: env:HOOK_SECRET}
  triggers:
    - manual: {roles: [admin], confirm: type_name}
    - webhook: {token: deploys, inputs: {reason: /deploy/message, share: /share}}
  limits: {cooldown: 1h}
  steps:
    - id: ramp
      flag.rollout: {key: auth_rollout, percent: '${{ inputs.share }}'}
";
const CEILED: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: ceiled, title: Called twice an hour, owner: team-shop}
spec:
  deadline: 1m
  secrets: {deploys: env:HOOK_SECRET}
  triggers: [{webhook: {token: deploys}}]
  limits: {ceiling: {runs: 2, per: 1h}}
  steps: [{id: say, log: {message: called}}]
";
const DUE: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: due, title: Rehearse in staging, owner: team-shop}
spec:
  deadline: 1m
  inputs:
    reason: {type: string, min: 10, required: true}
    what: {type: string, required: true}
  triggers: [{schedule: {every: 30d, environment: staging, inputs: {what: this is due}}}]
  steps: [{id: say, log: {message: '${{ inputs.what }}'}}]
";
const REASON: &str = "the administrators are all on a plane";

fn serve(backend: &Backend) -> (Server, Api) {
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    std::fs::write(runbooks.join("hooked.yaml"), HOOKED).unwrap();
    std::fs::write(runbooks.join("ceiled.yaml"), CEILED).unwrap();
    std::fs::write(runbooks.join("due.yaml"), DUE).unwrap();
    let folder = runbooks.display().to_string();
    let variables = [("SWITCHBACK_RUNBOOKS_DIR", folder.as_str()), ("HOOK_SECRET", SECRET)];
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    (server, api)
}

#[expect(clippy::disallowed_methods, reason = "a caller signs the time that it has")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn sign(id: &str, at: u64, body: &Value) -> String {
    let secret = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    let mac = mac.chain_update(format!("{id}.{at}.{body}")).finalize();
    format!("v1,{}", STANDARD.encode(mac.into_bytes()))
}

/// Calls a playbook, signed as it must be.
async fn call(server: &Server, playbook: &str, id: &str, body: Value) -> (StatusCode, Value) {
    let at = now_s();
    let signature = sign(id, at, &body);
    call_as(server, playbook, id, at, &signature, body).await
}

async fn call_as(
    server: &Server,
    playbook: &str,
    id: &str,
    at: u64,
    signature: &str,
    body: Value,
) -> (StatusCode, Value) {
    let headers = [
        ("webhook-id", id),
        ("webhook-timestamp", &at.to_string()),
        ("webhook-signature", signature),
    ];
    let path = format!("/hooks/playbooks/{playbook}/production");
    let answer =
        Api::new(&server.url, "").send_with(Method::POST, &path, Some(body), &headers).await;
    (answer.status, answer.body)
}

async fn ended(api: &Api, run: &Value) -> Value {
    let id = run["run"].as_str().or(run["id"].as_str()).unwrap().to_owned();
    eventually("the run ends", || async {
        let detail = api.get(&format!("/api/v1/runs/{id}")).await;
        detail["run"]["finished_at"].is_number().then_some(detail)
    })
    .await
}

/// Starts that were refused, newest first.
async fn refused(api: &Api) -> Vec<Value> {
    let changes = api.get("/api/v1/changes?limit=200").await;
    let items = changes["items"].as_array().unwrap().iter();
    let refused = items.filter(|row| row["change"]["action"] == json!("refuse start"));
    refused.map(|row| row["change"].clone()).collect()
}

/// A browser that is signed in as the first administrator.
async fn browser(server: &Server) -> (reqwest::Client, String) {
    let policy = reqwest::redirect::Policy::none();
    let http = reqwest::Client::builder().no_proxy().redirect(policy).build().unwrap();
    let form =
        format!("email={}&password={}", EMAIL.replace('@', "%40"), PASSWORD.replace(' ', "+"));
    let answer = post(&http, server, "/sign-in", "", form).await;
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    (http, cookie)
}

async fn post(
    http: &reqwest::Client,
    server: &Server,
    path: &str,
    cookie: &str,
    form: String,
) -> reqwest::Response {
    let request =
        http.post(format!("{}{path}", server.url)).header("sec-fetch-site", "same-origin");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.header("cookie", cookie).body(form).send().await.unwrap()
}

on_both! {
    /// A signed call starts a run with what its body says; the same call again is the same run, even at the same moment.
    async fn a_signed_call_starts_one_run(backend: Backend) {
        let (server, api) = serve(&backend);
        let body = json!({"deploy": {"message": "deploy 812 broke sign-in"}, "share": "25%"});

        let calls = (0..5).map(|_| call(&server, "hooked", "msg_1", body.clone()));
        let answers = futures_util::future::join_all(calls).await;
        let again = call(&server, "hooked", "msg_1", body.clone()).await;
        for answer in &answers {
            assert_eq!(*answer, again, "the same answer for the same call");
        }
        assert_eq!(again.0, StatusCode::ACCEPTED, "{}", again.1);
        let detail = ended(&api, &again.1).await;

        assert_eq!(detail["state"], json!("succeeded"), "{detail}");
        let run = &detail["run"];
        assert_eq!(
            (&run["requested_by"], &run["trigger"], &run["reason"]),
            (&json!("webhook:deploys"), &json!("webhook"), &json!("deploy 812 broke sign-in"))
        );
        let flag = api.get("/api/v1/environments/production/flags/auth_rollout").await;
        assert_eq!(flag["state"]["rules"][0]["percent"], json!(25), "{flag}");
        assert_eq!(api.get("/api/v1/runs").await["items"].as_array().unwrap().len(), 1);
        let other = json!({"deploy": {"message": "something else entirely"}});
        let (status, answer) = call(&server, "hooked", "msg_1", other).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    }

    /// Wrong, old, missing and foreign signatures are refused alike, and start nothing.
    async fn only_signed_calls_are_heard(backend: Backend) {
        let (server, api) = serve(&backend);
        let body = json!({"deploy": {"message": "deploy 812 broke sign-in"}});
        let now = now_s();
        let good = sign("msg_1", now, &body);
        let (old, soon) = (sign("msg_1", now - 310, &body), sign("msg_1", now + 310, &body));

        for (playbook, id, at, signature) in [
            ("hooked", "msg_2", now, good.as_str()),
            ("hooked", "msg_1", now + 1, &good),
            ("hooked", "msg_1", now - 310, &old),
            ("hooked", "msg_1", now + 310, &soon),
            ("hooked", "msg_1", now, ""),
            ("hooked", "msg_1", now, "v1,AAAA v1a,BBBB"),
            ("hooked", "", now, &good),
            ("auth-rollback", "msg_1", now, &good), // it has no such trigger
            ("nope", "msg_1", now, &good),
        ] {
            let (status, answer) = call_as(&server, playbook, id, at, signature, body.clone()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{playbook} {id} {at}: {answer}");
        }
        assert_eq!(api.get("/api/v1/runs").await["items"], json!([]));
        assert!(!api.get("/api/v1/playbooks/hooked").await.to_string().contains("MfKQ"));
    }

    /// A cool-down and a ceiling hold for what starts by itself and not for people; a refused start stands on the log, once.
    async fn limits_hold_and_refusals_are_logged(backend: Backend) {
        let (server, api) = serve(&backend);
        let body = json!({"deploy": {"message": "deploy 812 broke sign-in"}});
        let (_, first) = call(&server, "hooked", "msg_1", body.clone()).await;
        ended(&api, &first).await;

        for _ in 0..2 {
            let (status, answer) = call(&server, "hooked", "msg_2", body.clone()).await;
            assert_eq!(status, StatusCode::CONFLICT);
            assert!(answer["detail"].as_str().unwrap().contains("its cool-down is 3600 s"), "{answer}");
        }
        let rows = refused(&api).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(
            (&rows[0]["subject"], &rows[0]["actor"], &rows[0]["environment"]),
            (&json!("hooked"), &json!("webhook:deploys"), &json!("production"))
        );
        let person = json!({"environment": "production", "reason": "a person wants it all the same"});
        ended(&api, &api.post("/api/v1/playbooks/hooked/runs", person).await).await;

        for id in ["a", "b"] {
            let (status, run) = call(&server, "ceiled", id, json!({})).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{run}");
            ended(&api, &run).await;
        }
        let (status, answer) = call(&server, "ceiled", "c", json!({})).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(answer["detail"].as_str().unwrap().contains("its ceiling is 2"), "{answer}");
        assert_eq!(refused(&api).await.len(), 2);
    }

    /// With automation off nothing starts by itself, every page says so, and people go on.
    async fn automation_is_switched_off_and_on(backend: Backend) {
        let (server, api) = serve(&backend);
        let switch = |word: &str| {
            let output = Command::new(program())
                .env_clear()
                .env("SWITCHBACK_URL", &server.url)
                .env("SWITCHBACK_TOKEN", ADMIN)
                .args(["automation", word, "--reason", "the deploy system runs wild"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let made = api.post("/api/v1/tokens", json!({"name": "oscar", "kind": "api", "role": "operator"})).await;
        let oscar = Api::new(&server.url, made["token"].as_str().unwrap());
        let body = json!({"on": false, "reason": "me too"});
        let denied = oscar.send(Method::PUT, "/api/v1/automation", Some(body)).await;
        assert_eq!(denied.status, StatusCode::FORBIDDEN);
        let unsaid = api.send(Method::PUT, "/api/v1/automation", Some(json!({"on": false}))).await;
        assert_eq!(unsaid.status, StatusCode::UNPROCESSABLE_ENTITY);

        switch("off");
        let (status, answer) = call(&server, "ceiled", "a", json!({})).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(answer["detail"].as_str().unwrap().contains("the deploy system runs wild"), "{answer}");
        assert_eq!(refused(&api).await.len(), 1);
        let person = json!({"environment": "production", "reason": "a person wants it"});
        ended(&api, &api.post("/api/v1/playbooks/ceiled/runs", person).await).await;
        let (http, cookie) = browser(&server).await;
        let page = async |path: &str| {
            let request = http.get(format!("{}{path}", server.url)).header("cookie", &cookie);
            request.send().await.unwrap().text().await.unwrap()
        };
        for path in ["/ui/production", "/ui/production/flags", "/ui/settings/people"] {
            let text = page(path).await;
            assert!(text.contains("automation-off") && text.contains("the deploy system runs wild"), "{path}: {text}");
        }

        let on = post(&http, &server, "/ui/settings/automation", &cookie, "off=no&reason=mended".to_owned()).await;
        assert_eq!(on.status(), StatusCode::SEE_OTHER);
        assert!(!page("/ui/production").await.contains("automation-off"));
        let (status, answer) = call(&server, "ceiled", "b", json!({})).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        switch("off");
        assert_eq!(api.get("/api/v1/automation").await["off"]["by"], json!("token:first admin token"));
    }

    /// A playbook that administrators start is not started by an operator, unless glass is broken, which is reviewed.
    async fn a_start_takes_the_roles_that_the_playbook_wants(backend: Backend) {
        let (server, api) = serve(&backend);
        let made = api.post("/api/v1/tokens", json!({"name": "oscar", "kind": "api", "role": "operator"})).await;
        let oscar = Api::new(&server.url, made["token"].as_str().unwrap());
        let url = "/api/v1/playbooks/hooked/runs";
        let start = |reason: &str, break_glass: bool| {
            Some(json!({"environment": "production", "reason": reason, "break_glass": break_glass}))
        };

        let denied = oscar.send(Method::POST, url, start(REASON, false)).await;
        assert_eq!(denied.status, StatusCode::CONFLICT);
        assert!(denied.body["detail"].as_str().unwrap().contains("started by admin"), "{}", denied.body);
        let short = oscar.send(Method::POST, url, start("quick, quick", true)).await;
        assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", short.body);
        let run = oscar.post(url, start(REASON, true).unwrap()).await;
        ended(&api, &run).await;

        let open = api.get("/api/v1/reviews?open=true").await;
        assert_eq!(
            (&open[0]["run_id"], &open[0]["step_id"], &open[0]["actor"]),
            (&run["id"], &json!(""), &json!("token:oscar"))
        );
        let changes = api.get(&format!("/api/v1/changes?run={}", run["id"].as_str().unwrap())).await;
        let items = changes["items"].as_array().unwrap();
        let marked = items.iter().any(|row| row["change"]["emergency"] == json!(true) && row["change"]["action"] == json!("break glass"));
        assert!(marked, "{changes}");
    }

    /// In the console the playbook's name is typed where it wants that.
    async fn the_console_asks_for_the_name(backend: Backend) {
        let (server, api) = serve(&backend);
        let (http, cookie) = browser(&server).await;
        let form = |confirm: &str| format!("do=run&inputs.reason=sign-in+fails+again&inputs.share=10%25&confirm={confirm}");
        let path = "/ui/production/playbooks/hooked";

        let without = post(&http, &server, path, &cookie, form("hooke")).await;
        assert_eq!(without.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert!(without.text().await.unwrap().contains("ype hooked to confirm."));
        assert_eq!(api.get("/api/v1/runs").await["items"], json!([]));
        let with = post(&http, &server, path, &cookie, form("hooked")).await;

        assert_eq!(with.status(), StatusCode::SEE_OTHER);
        assert_eq!(api.get("/api/v1/runs").await["items"].as_array().unwrap().len(), 1);
    }

    /// What the clock starts runs once for all the times that were missed, and not while automation is off.
    async fn a_schedule_starts_missed_times_once(backend: Backend) {
        let (server, api) = serve(&backend);
        let due = async || backend.ask("SELECT CAST(COALESCE(MAX(due_at), 0) AS TEXT) FROM schedules").await;
        let placed = eventually("it is known when it is due", || async {
            let at: u64 = due().await.parse().unwrap();
            (at > 0).then_some(at)
        })
        .await;
        assert!(placed > (now_s() + 29 * 86_400) * 1_000);
        assert_eq!(api.get("/api/v1/runs").await["items"], json!([]), "not at once");

        // It was due a hundred days ago, and three more times since.
        let missed = (now_s() - 100 * 86_400) * 1_000;
        backend.tamper(&format!("UPDATE schedules SET due_at = {missed}")).await;
        let moved = async |from: u64| {
            eventually("it moves on to the next time", || async {
                let at: u64 = due().await.parse().unwrap();
                (at != from).then_some(at)
            })
            .await
        };
        assert!(moved(missed).await > now_s() * 1_000);
        let runs = api.get("/api/v1/runs?playbook=due").await;
        let runs = runs["items"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{runs:?}");
        assert_eq!(
            (&runs[0]["trigger"], &runs[0]["environment"], &runs[0]["requested_by"]),
            (&json!("schedule"), &json!("staging"), &json!("schedule:due"))
        );
        let detail = ended(&api, &runs[0]).await;
        assert_eq!(detail["plan"]["inputs"]["what"], json!("this is due"));

        api.put("/api/v1/automation", json!({"on": false, "reason": "quiet, please"})).await;
        backend.tamper(&format!("UPDATE schedules SET due_at = {}", missed + 1)).await;
        moved(missed + 1).await;
        assert_eq!(api.get("/api/v1/runs").await["items"].as_array().unwrap().len(), 1);
        assert_eq!(refused(&api).await.len(), 1);
        drop(server);
    }
}

/// Two nodes see the same time; one run comes of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_of_two_starts_what_is_due() {
    let backend = Backend::postgres().await;
    let (_one, api) = serve(&backend);
    let folder = backend.folder.path().join("runbooks").display().to_string();
    let variables = [("SWITCHBACK_RUNBOOKS_DIR", folder.as_str()), ("HOOK_SECRET", SECRET)];
    let _two = Server::start_on(&backend, "127.0.0.1:0", &variables);
    let due =
        async || backend.ask("SELECT CAST(COALESCE(MAX(due_at), 0) AS TEXT) FROM schedules").await;
    eventually("it is known when it is due", || async { (due().await != "0").then_some(()) }).await;

    for n in 1..=5 {
        let missed = (now_s() - n * 86_400) * 1_000;
        backend.tamper(&format!("UPDATE schedules SET due_at = {missed}")).await;
        eventually("it moves on", || async { (due().await != missed.to_string()).then_some(()) })
            .await;
        let runs = api.get("/api/v1/runs?playbook=due").await;
        assert_eq!(runs["items"].as_array().unwrap().len() as u64, n, "{runs}");
        ended(&api, &runs["items"][0]).await;
    }
}
