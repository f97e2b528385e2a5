//! Who must agree: approvals that hold only for what people saw, links to approve by, and break-glass.

use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::server::{ADMIN, EMAIL, program};
use switchback_tests::{Api, Backend, Server, eventually, on_both};

/// Waits for an administrator, then changes a flag, and after it rows of the shop.
const ASKED: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: asked, title: Ask first, owner: team-auth}
spec:
  deadline: 2m
  steps:
    - id: off
      approve: {roles: [admin], min: 1, timeout: 60s, on_timeout: stop, message: Take the new sign-in away?}
      flag.set: {key: auth_rollout, value: false}
    - id: mend
      sql.exec: {source: shop, sql: UPDATE carts SET state = 'sound' WHERE state = 'broken', undo: SELECT 1}
";
/// Waits for two, or for one operator for a moment.
const TWO: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: two, title: Ask two, owner: team-auth}
spec:
  deadline: 2m
  steps:
    - id: off
      approve: {roles: [operator], min: 2, timeout: 60s}
      flag.set: {key: auth_rollout, value: false}
";
const MOMENT: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: moment, title: Ask for a moment, owner: team-auth}
spec:
  deadline: 2m
  steps:
    - id: off
      approve: {roles: [operator], timeout: 1500ms, on_timeout: skip}
      flag.set: {key: auth_rollout, value: false}
";
const REASON: &str = "sign-in fails, and nobody else answers";

async fn serve(backend: &Backend) -> (Server, Api, Api) {
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    for (name, text) in [("asked", ASKED), ("two", TWO), ("moment", MOMENT)] {
        std::fs::write(runbooks.join(format!("{name}.yaml")), text).unwrap();
    }
    let (folder, shop) = (runbooks.display().to_string(), backend.address());
    let variables = [("SWITCHBACK_RUNBOOKS_DIR", folder.as_str()), ("SHOP", shop.as_str())];
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    let settings = json!({"name": "shop", "credentials": "env:SHOP", "access": "read_write"});
    api.put("/api/v1/data-sources/shop", json!({"settings": settings})).await;
    backend.tamper("CREATE TABLE carts (id BIGINT PRIMARY KEY, state TEXT NOT NULL)").await;
    let carts: Vec<String> = (0..10).map(|n| format!("({n}, 'broken')")).collect();
    backend.tamper(&format!("INSERT INTO carts VALUES {}", carts.join(", "))).await;
    let grace = somebody(&server, "grace", "admin").await;
    (server, api, grace)
}

/// Somebody with a token of their own.
async fn somebody(server: &Server, name: &str, role: &str) -> Api {
    let body = json!({"name": name, "kind": "api", "role": role});
    let made = server.api().post("/api/v1/tokens", body).await;
    Api::new(&server.url, made["token"].as_str().unwrap())
}

/// Starts a run and waits until it asks: its id.
async fn ask(api: &Api, playbook: &str) -> String {
    let body = json!({"environment": "production", "reason": REASON});
    let run = api.post(&format!("/api/v1/playbooks/{playbook}/runs"), body).await;
    let run = run["id"].as_str().unwrap().to_owned();
    until(api, &run, "waiting_approval").await;
    run
}

async fn until(api: &Api, run: &str, state: &str) -> Value {
    eventually(&format!("the run is {state}"), || async {
        let detail = api.get(&format!("/api/v1/runs/{run}")).await;
        (detail["state"] == json!(state)).then_some(detail)
    })
    .await
}

/// Waits until people are asked again: why.
async fn asked_again(api: &Api, run: &str) -> String {
    eventually("people are asked again", || async {
        let detail = api.get(&format!("/api/v1/runs/{run}")).await;
        detail["view"]["steps"][0]["voided"].as_str().map(str::to_owned)
    })
    .await
}

fn approval(run: &str) -> String {
    format!("/api/v1/runs/{run}/steps/off/approval")
}

/// The path of a link to approve by.
async fn link(maker: &Api, run: &str, person: &str) -> String {
    let made =
        maker.post(&format!("/api/v1/runs/{run}/steps/off/link"), json!({"for": person})).await;
    let url = made["url"].as_str().unwrap();
    url.get(url.find("/approve/").unwrap()..).unwrap().to_owned()
}

/// Presses a button behind a link, as a browser that is not signed in.
async fn press(server: &Server, path: &str, approve: &str) -> (StatusCode, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(format!("{}{path}", server.url));
    let form = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = form.body(format!("approve={approve}&comment=seen")).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

on_both! {
    /// A flag that the step changes was changed meanwhile: the approval is void, and the next one counts.
    async fn an_approval_is_void_when_a_flag_has_moved(backend: Backend) {
        let (_server, api, grace) = serve(&backend).await;
        let run = ask(&api, "asked").await;
        let detail = api.get(&format!("/api/v1/runs/{run}")).await;
        let (plan, asked) = (&detail["run"]["plan_sha256"], &detail["view"]["steps"][0]["asked"]);

        let other = json!({"approve": true, "plan_sha256": "0123456789abcdef"});
        let other = grace.send(Method::POST, &approval(&run), Some(other)).await;
        assert_eq!(other.status, StatusCode::CONFLICT, "{}", other.body);
        let share = json!({"percent": 20, "reason": "somebody else goes on"});
        api.put("/api/v1/environments/production/flags/auth_rollout/rollout", share).await;
        let yes = json!({"approve": true, "plan_sha256": plan, "asked": asked});
        grace.send(Method::POST, &approval(&run), Some(yes.clone())).await;
        let why = asked_again(&api, &run).await;
        assert!(why.contains("`auth_rollout` was changed meanwhile"), "{why}");
        let late = grace.send(Method::POST, &approval(&run), Some(yes)).await;
        assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.body);
        let state = &api.get(&format!("/api/v1/runs/{run}")).await["state"];
        assert_eq!(state, &json!("waiting_approval"));

        let yes = json!({"approve": true, "plan_sha256": plan});
        grace.send(Method::POST, &approval(&run), Some(yes)).await;
        let done = until(&api, &run, "succeeded").await;
        let rows = done["log"].as_array().unwrap();
        let given: Vec<&Value> = rows.iter().filter(|row| row["phase"] == json!("approved")).collect();
        assert_eq!(given.len(), 2);
        assert!(given.iter().all(|row| row["detail"]["plan_sha256"] == *plan), "{given:?}");
        assert_eq!(api.get("/api/v1/rollback-log/verify").await["ok"], json!(true));
    }

    /// A script of a later step would change over a fifth more rows than when people were asked.
    async fn an_approval_is_void_when_a_rehearsal_differs(backend: Backend) {
        let (_server, api, grace) = serve(&backend).await;
        let run = ask(&api, "asked").await;

        backend.tamper("INSERT INTO carts VALUES (10, 'broken'), (11, 'broken'), (12, 'broken')").await;
        grace.send(Method::POST, &approval(&run), Some(json!({"approve": true}))).await;
        let why = asked_again(&api, &run).await;
        assert!(why.contains("would now change 13 rows of `shop`, it was 10"), "{why}");
        backend.tamper("DELETE FROM carts WHERE id = 12").await; // a twelfth less is the same
        grace.send(Method::POST, &approval(&run), Some(json!({"approve": true}))).await;

        until(&api, &run, "succeeded").await;
        assert_eq!(backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM carts WHERE state = 'sound'").await, "12");
    }

    /// A link shows what would happen to whoever opens it, acts only when a button is pressed, and works once.
    async fn a_link_is_answered_once(backend: Backend) {
        let (server, api, grace) = serve(&backend).await;
        let run = ask(&api, "asked").await;
        let path = link(&grace, &run, EMAIL).await;
        let anyone = Api::new(&server.url, "");

        for _ in 0..3 {
            let page = anyone.send(Method::GET, &path, None).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.body);
            let text = page.body.as_str().unwrap().to_owned();
            assert!(text.contains("Take the new sign-in away?") && text.contains("carts"), "{text}");
        }
        assert_eq!(api.get(&format!("/api/v1/runs/{run}")).await["state"], json!("waiting_approval"), "opening does nothing");
        let cut = anyone.send(Method::GET, &path[..path.len() - 3], None).await;
        assert_eq!(cut.status, StatusCode::GONE);
        assert!(cut.body.as_str().unwrap().contains("not one of ours"), "{}", cut.body);
        let (status, text) = press(&server, &path, "yes").await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let (status, text) = press(&server, &path, "yes").await;
        assert_eq!(status, StatusCode::GONE);
        assert!(text.contains("works once"), "{text}");

        let done = until(&api, &run, "succeeded").await;
        let rows = done["log"].as_array().unwrap();
        let given = rows.iter().find(|row| row["phase"] == json!("approved")).unwrap();
        assert_eq!((&given["actor"], &given["detail"]["link_by"]), (&json!(EMAIL), &json!("token:grace")));
        let anything = format!("{}{done}", api.get("/api/v1/changes?limit=100").await);
        assert!(!anything.contains(path.trim_start_matches("/approve/")), "the link itself is a secret");
    }

    /// A link gives nothing that its maker could not give, and dies with the question that it was made for.
    async fn a_link_gives_no_more_than_its_maker_has(backend: Backend) {
        let (server, api, grace) = serve(&backend).await;
        let oscar = somebody(&server, "oscar", "operator").await;
        let run = ask(&api, "asked").await;
        let url = format!("/api/v1/runs/{run}/steps/off/link");
        for (maker, person) in [(&api, EMAIL), (&oscar, EMAIL), (&grace, "nobody@example.com")] {
            let made = maker.send(Method::POST, &url, Some(json!({"for": person}))).await;
            assert!(made.status.is_client_error(), "{}", made.body);
        }
        let path = link(&grace, &run, EMAIL).await;
        let share = json!({"percent": 30, "reason": "somebody else goes on"});
        api.put("/api/v1/environments/production/flags/auth_rollout/rollout", share).await;
        grace.send(Method::POST, &approval(&run), Some(json!({"approve": true}))).await;
        asked_again(&api, &run).await;

        let (status, text) = press(&server, &path, "yes").await;

        assert_eq!(status, StatusCode::GONE);
        assert!(text.contains("has changed since"), "{text}");
        let path = link(&grace, &run, EMAIL).await;
        assert_eq!(press(&server, &path, "no").await.0, StatusCode::OK);
        let detail = until(&api, &run, "compensated").await;
        assert!(detail.to_string().contains(&format!("refused by {EMAIL}")), "{detail}");
    }

    /// A link ends with the wait.
    async fn a_link_ends_with_the_wait(backend: Backend) {
        let (server, api, grace) = serve(&backend).await;
        let run = ask(&api, "moment").await;
        let path = link(&grace, &run, EMAIL).await;
        until(&api, &run, "succeeded").await;

        let (status, text) = press(&server, &path, "yes").await;

        assert_eq!(status, StatusCode::GONE);
        assert!(text.contains("has ended with the wait"), "{text}");
    }

    /// Break-glass: one person goes on alone with a good reason; it stands on the log as such, and another reviews it.
    async fn breaking_glass_is_logged_and_reviewed(backend: Backend) {
        let (server, api, grace) = serve(&backend).await;
        let run = ask(&api, "two").await;
        let url = format!("/api/v1/runs/{run}/steps/off/break-glass");

        let short = api.send(Method::POST, &url, Some(json!({"reason": "it burns"}))).await;
        assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", short.body);
        let token = ADMIN;
        let output = Command::new(program())
            .env_clear()
            .env("SWITCHBACK_URL", &server.url)
            .env("SWITCHBACK_TOKEN", token)
            .args(["playbook", "break-glass", &run, "off", "--reason", REASON])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        until(&api, &run, "succeeded").await;

        let changes = api.get(&format!("/api/v1/changes?run={run}")).await;
        let items = changes["items"].as_array().unwrap();
        let row = items.iter().find(|row| row["change"]["action"] == json!("break glass")).unwrap();
        assert_eq!((&row["change"]["emergency"], &row["change"]["reason"]), (&json!(true), &json!(REASON)));
        let report = api.get(&format!("/api/v1/runs/{run}/report")).await;
        assert_eq!(report["decisions"][0]["decision"], json!("break_glass"), "{report}");
        let open = api.get("/api/v1/reviews?open=true").await;
        let id = open[0]["id"].as_str().unwrap();
        let incidents = api.get("/api/v1/incidents?open=true").await;
        assert_eq!(incidents["items"][0]["audience"], json!("team"), "{incidents}");
        assert!(incidents["items"][0]["updates"][0]["body"].as_str().unwrap().contains(REASON));
        let found = Some(json!({"comment": "it was right: everybody else was on the same call"}));
        let own = api.send(Method::POST, &format!("/api/v1/reviews/{id}"), found.clone()).await;
        assert_eq!(own.status, StatusCode::CONFLICT, "{}", own.body);
        let other = grace.send(Method::POST, &format!("/api/v1/reviews/{id}"), found.clone()).await;
        assert_eq!(other.body["reviewed_by"], json!("token:grace"), "{}", other.body);
        let again = grace.send(Method::POST, &format!("/api/v1/reviews/{id}"), found).await;
        assert_eq!(again.status, StatusCode::CONFLICT);
        assert_eq!(api.get("/api/v1/reviews?open=true").await, json!([]));
        assert_eq!(api.get("/api/v1/incidents?open=true").await["items"], json!([]), "reviewed, it is over");
    }
}
