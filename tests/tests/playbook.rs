//! One-click rollback: a run from start to proof, through crashes, and the log that nobody can edit.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_core::wire::ServerFrame;
use switchback_sdk::{AuthMode, Context, Switchback};
use switchback_tests::server::{EVENTS, SERVER};
use switchback_tests::stream::hello;
use switchback_tests::{Api, Backend, Server, Stream, eventually, on_both};

const REASON: &str = "sign-in fails for everybody";

/// A playbook of the operator's own, with a step that takes a second person.
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
";

/// Two flags at the same time, and then another playbook's steps.
const TOGETHER: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: together, title: All at once, owner: team-auth}
spec:
  deadline: 2m
  steps:
    - id: both
      group:
        max: 2
        steps:
          - {id: open, flag.set: {key: auth_bypass, value: true}, verify: {flag.ack: {at_least: 99%, within: 5s}}}
          - {id: shut, flag.set: {key: auth_enabled, value: false}}
          - {id: tell, incident.open: {template: auth_down}}
    - id: then
      if: steps.both.open.ok and steps.both.shut.ok
      playbook.call: {playbook: said, with: {what: everybody is in}}
";
const SAID: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: said, title: Say it, owner: team-auth}
spec:
  deadline: 1m
  inputs: {what: {type: string, required: true}}
  vars: {mark: '!'}
  steps: [{id: say, log: {message: '${{ inputs.what }}${{ vars.mark }}'}}]
";

/// Every flag back to a moment.
const BACK: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: back, title: Back to then, owner: team-auth}
spec:
  deadline: 1m
  inputs: {at: {type: number, required: true}, fail: {type: bool, default: false}}
  steps:
    - {id: then, flag.snapshot_restore: {at: '${{ inputs.at }}'}}
    - {id: stop, if: inputs.fail, flag.set: {key: nowhere, value: true}}
";

async fn start(api: &Api, playbook: &str) -> String {
    let body = json!({"environment": "production", "reason": REASON});
    let run = api.post(&format!("/api/v1/playbooks/{playbook}/runs"), body).await;
    run["id"].as_str().unwrap().to_owned()
}

async fn ended(api: &Api, run: &str) -> Value {
    let over = ["succeeded", "failed", "compensated", "compensate_failed", "cancelled", "parked"];
    eventually("the run ends", || async {
        let detail = api.get(&format!("/api/v1/runs/{run}")).await;
        over.contains(&detail["state"].as_str().unwrap()).then_some(detail)
    })
    .await
}

async fn sdk(server: &Server) -> Switchback {
    Switchback::builder().url(&server.url).token(SERVER).app("shop").build().await.unwrap()
}

on_both! {
    /// The button: flags change, every client proves it, the incident is open, the apps are told, and
    /// restoring puts it all back.
    async fn a_rollback_is_proved_by_every_client(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(sdk(&server).await);
        }
        let mut watcher = Stream::connect(&server.url, SERVER, hello("watcher")).await;

        let run = start(&api, "auth-rollback").await;
        let detail = ended(&api, &run).await;

        assert_eq!(detail["state"], json!("succeeded"), "{detail}");
        let user = Context::new().user_id("u1");
        for client in &clients {
            assert_eq!(client.auth_mode(&user), AuthMode::Bypass);
        }
        let incidents = api.get("/api/v1/incidents?open=true").await;
        assert_eq!(incidents["items"][0]["components"]["auth"], json!("major_outage"));
        let mut told = false;
        while !told {
            told = matches!(watcher.news().await, ServerFrame::Notice(notice) if notice.title.contains("Sign-in"));
        }
        let bypass = api.get("/api/v1/environments/production/flags/auth_bypass").await;
        assert!(bypass["state"]["expires_at"].is_number(), "the bypass must not live on: {bypass}");
        let changes = api.get(&format!("/api/v1/changes?run={run}")).await;
        assert!(changes["items"].as_array().unwrap().len() >= 3);
        let report = api.get("/api/v1/rollback-log/verify").await;
        assert_eq!(report["ok"], json!(true), "{report}");
    }

    /// One run at a time for one target.
    async fn a_second_run_is_refused_while_the_first_goes_on(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let first = start(&api, "auth-restore").await; // it waits a minute between its steps

        let body = json!({"environment": "production", "reason": REASON});
        let second = api.send(Method::POST, "/api/v1/playbooks/auth-restore/runs", Some(body)).await;

        assert_eq!(second.status, StatusCode::CONFLICT);
        assert!(second.body["detail"].as_str().unwrap().contains(&first), "{}", second.body);
    }

    /// Cancelling puts back what was done, in reverse order.
    async fn a_cancelled_run_puts_everything_back(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let url = "/api/v1/environments/production/flags/auth_rollout";
        let before = api.get(url).await["state"].clone();
        let run = start(&api, "auth-restore").await;
        eventually("the first share is set", || async {
            (api.get(url).await["state"] != before).then_some(())
        })
        .await;

        api.post(&format!("/api/v1/runs/{run}/cancel"), json!({"reason": "not now"})).await;
        let detail = ended(&api, &run).await;

        assert_eq!(detail["state"], json!("cancelled"), "{detail}");
        assert_eq!(api.get(url).await["state"], before);
        assert_eq!(api.get("/api/v1/rollback-log/verify").await["ok"], json!(true));
    }

    /// A dry run changes nothing and says how many clients it would touch.
    async fn a_dry_run_changes_nothing(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let client = sdk(&server).await;
        let before = api.get("/api/v1/changes?limit=500").await;

        let body = json!({"environment": "production", "reason": REASON});
        let found = api.post("/api/v1/playbooks/auth-rollback/preview", body).await;

        assert_eq!(found["preview"]["clients"], json!({"known": 1}), "{}", found["preview"]);
        assert_eq!(before, api.get("/api/v1/changes?limit=500").await);
        client.shutdown().await;
    }

    /// What speaks for the rollback is looked at: not known while nobody reports, and then as it is.
    async fn what_speaks_for_a_rollback_is_looked_at(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let body = json!({"environment": "production", "reason": REASON});
        let fits = async || {
            let found = api.post("/api/v1/playbooks/auth-rollback/preview", body.clone()).await;
            found["decision"][0].clone()
        };
        let silent = fits().await;
        let logins = |mark: &str, failed: usize| {
            let kind = move |n: usize| if n < failed { "login_failure" } else { "login_success" };
            let one = |n: usize| json!({"id": format!("{mark}{n}"), "type": kind(n), "user_id": format!("u{n}")});
            json!((0..20).map(one).collect::<Vec<_>>())
        };
        let app = Api::new(&server.url, EVENTS);
        app.post("/api/v1/auth-events", logins("a", 10)).await;
        let failing = fits().await;
        app.post("/api/v1/auth-events", json!((0..1_000).map(|n| json!({"id": format!("b{n}"), "type": "login_success", "user_id": "u"})).collect::<Vec<_>>())).await;
        let well = fits().await;

        assert!(silent["holds"]["unknown"].as_str().unwrap().contains("no data"), "{silent}");
        assert_eq!(failing["holds"], json!({"known": true}), "{failing}");
        assert!(failing["says"].as_str().unwrap().contains("of login, 50.0 % failed in 2 min"), "{failing}");
        assert_eq!(well["holds"], json!({"known": false}), "{well}");
    }

    /// kill -9 in the middle of a run: the next start finishes it, nothing twice, the chain verifies.
    async fn a_killed_server_finishes_the_run_when_it_is_back(backend: Backend) {
        let server = Server::start_to_return(&backend);
        let address = server.address().to_owned();
        let run = start(&server.api(), "auth-rollback").await;
        server.kill();

        let again = Server::start_on(&backend, &address, &[]);
        let api = again.api();
        let detail = ended(&api, &run).await;

        assert_eq!(detail["state"], json!("succeeded"), "{detail}");
        let changes = api.get(&format!("/api/v1/changes?run={run}")).await;
        let count = |subject: &str| {
            changes["items"].as_array().unwrap().iter().filter(|row| row["change"]["subject"] == json!(subject)).count()
        };
        assert_eq!((count("auth_bypass"), count("auth_enabled")), (1, 1), "{changes}");
        let incidents = api.get("/api/v1/incidents").await;
        assert_eq!(incidents["items"].as_array().unwrap().len(), 1, "the incident was opened once");
        assert_eq!(api.get("/api/v1/rollback-log/verify").await["ok"], json!(true));
    }

    /// Killed again and again, each time a little further on: every run ends, nothing is done twice.
    async fn a_server_that_keeps_dying_loses_nothing(backend: Backend) {
        let mut server = Server::start_to_return(&backend);
        let address = server.address().to_owned();
        for rows in [2, 4, 6, 9] {
            let api = server.api();
            for (flag, on) in [("auth_bypass", false), ("auth_enabled", true)] {
                let url = format!("/api/v1/environments/production/flags/{flag}/enabled");
                api.put(&url, json!({"enabled": on, "reason": "as before"})).await;
            }
            let run = start(&api, "auth-rollback").await;
            eventually("the run has come that far", || async {
                let detail = api.get(&format!("/api/v1/runs/{run}")).await;
                (detail["log"].as_array().unwrap().len() >= rows).then_some(())
            })
            .await;
            server.kill();

            server = Server::start_on(&backend, &address, &[]);
            let api = server.api();
            let detail = ended(&api, &run).await;

            assert_eq!(detail["state"], json!("succeeded"), "{rows} rows: {detail}");
            let changes = api.get(&format!("/api/v1/changes?run={run}")).await;
            let flags = changes["items"].as_array().unwrap().iter().filter(|c| c["change"]["subject_kind"] == json!("flag"));
            assert_eq!(flags.count(), 2, "{rows} rows: {changes}");
            assert_eq!(api.get("/api/v1/rollback-log/verify").await["ok"], json!(true));
        }
    }

    /// A step that waits for people waits; who started the run has no vote; another's word starts it.
    async fn somebody_else_approves(backend: Backend) {
        let runbooks = backend.folder.path().join("runbooks");
        std::fs::create_dir(&runbooks).unwrap();
        std::fs::write(runbooks.join("asked.yaml"), ASKED).unwrap();
        let folder = runbooks.display().to_string();
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SWITCHBACK_RUNBOOKS_DIR", &folder)]);
        let api = server.api();
        let run = start(&api, "asked").await;
        eventually("the run waits for people", || async {
            let detail = api.get(&format!("/api/v1/runs/{run}")).await;
            (detail["state"] == json!("waiting_approval")).then_some(())
        })
        .await;

        let url = format!("/api/v1/runs/{run}/steps/off/approval");
        let own = api.send(Method::POST, &url, Some(json!({"approve": true}))).await;
        assert_eq!(own.status, StatusCode::CONFLICT, "{}", own.body);
        let made = api.post("/api/v1/tokens", json!({"name": "grace", "kind": "api", "role": "admin"})).await;
        let grace = Api::new(&server.url, made["token"].as_str().unwrap());
        let said = grace.send(Method::POST, &url, Some(json!({"approve": true, "comment": "go"}))).await;
        assert_eq!(said.status, StatusCode::ACCEPTED, "{}", said.body);

        let detail = ended(&api, &run).await;
        assert_eq!(detail["state"], json!("succeeded"), "{detail}");
        let flag = api.get("/api/v1/environments/production/flags/auth_rollout").await;
        assert_eq!(flag["state"]["enabled"], json!(false));
    }

    /// Whoever edits the log behind the server's back is found, with the row.
    async fn an_edited_log_is_found(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let run = start(&api, "auth-rollback").await;
        ended(&api, &run).await;
        assert_eq!(api.get("/api/v1/rollback-log/verify").await["ok"], json!(true));

        backend.tamper("UPDATE rollback_log SET reason = 'it was nobody' WHERE seq = 3").await;
        let report = api.get("/api/v1/rollback-log/verify").await;
        assert_eq!((&report["ok"], &report["broken_row"]), (&json!(false), &json!(3)), "{report}");

        backend.tamper("DELETE FROM rollback_log WHERE seq >= 3").await;
        let report = api.get("/api/v1/rollback-log/verify").await;
        assert_eq!((&report["ok"], &report["broken_row"]), (&json!(false), &json!(3)), "{report}");
    }

    /// Inputs that are wrong are named, and nothing starts.
    async fn wrong_inputs_start_nothing(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let body = json!({"environment": "production", "reason": "short", "inputs": {"etaa": "2h"}});

        let answer = api.send(Method::POST, "/api/v1/playbooks/auth-rollback/runs", Some(body)).await;

        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        let text = answer.body["detail"].as_str().unwrap();
        assert!(text.contains("etaa"), "{text}");
        assert_eq!(api.get("/api/v1/runs").await["items"], json!([]));
    }

    /// A status that says "all is well" a moment after the button would be a lie.
    async fn the_status_page_follows_the_run(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let calm = api.get("/status").await;
        assert!(calm.as_str().unwrap().contains("All systems operational"), "{calm}");

        let run = start(&api, "auth-rollback").await;
        ended(&api, &run).await;

        let page = api.get("/status").await;
        assert!(page.as_str().unwrap().contains("Sign-in is unavailable"), "{page}");
    }
}

/// With PostgreSQL gone the public page, the streams and the decisions go on; nobody is told 401.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_the_database_does_not_lose_the_clients() {
    let backend = Backend::postgres().await;
    let server = Server::start(&backend);
    let flags = sdk(&server).await;
    let api = server.api();
    api.get("/status").await;
    let name = backend.database_url.rsplit_once('/').unwrap().1.to_owned();

    // Another connection shuts everybody out of this database, ours too.
    let other = Backend::postgres().await;
    other.tamper(&format!("ALTER DATABASE \"{name}\" WITH ALLOW_CONNECTIONS false")).await;
    let cut =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    other.tamper(&cut).await;

    let refused = eventually("writes say that the database is away", || async {
        let body = json!({"enabled": false, "reason": "x"});
        let url = "/api/v1/environments/production/flags/auth_enabled/enabled";
        let answer = api.send(Method::PUT, url, Some(body)).await;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
    })
    .await;
    assert_eq!(refused.body["code"], json!("unavailable"));
    assert!(api.send(Method::GET, "/status", None).await.status.is_success());
    let stranger = Api::new(&server.url, "*:production.never-seen-before");
    let stranger = stranger.send(Method::GET, "/api/v1/stream", None).await;
    assert_eq!(
        stranger.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "an unknown token is not refused for good"
    );
    let newcomer = tokio::time::timeout(Duration::from_secs(10), sdk(&server)).await.unwrap();
    assert!(newcomer.status().live, "a known token connects from memory");
    assert!(flags.status().live);

    // Off works all the same, and the clients hear of it.
    let user = Context::new().user_id("u1");
    assert!(flags.is_enabled("auth_rollout", &user));
    let kill = "/api/v1/environments/production/flags/auth_rollout/killed";
    api.put(kill, json!({"killed": true, "reason": "it hurts, and the database is away"})).await;
    eventually("the kill reaches the client", || async {
        (!flags.is_enabled("auth_rollout", &user)).then_some(())
    })
    .await;

    other.tamper(&format!("ALTER DATABASE \"{name}\" WITH ALLOW_CONNECTIONS true")).await;
    let killed = eventually("the kill is in the database", || async {
        let changes =
            api.send(Method::GET, "/api/v1/changes?subject=auth_rollout&limit=1", None).await;
        let change = changes.body["items"][0]["change"].clone();
        (change["action"] == json!("kill")).then_some(change)
    })
    .await;
    assert_eq!(
        (&killed["emergency"], &killed["actor"]),
        (&json!(true), &json!("token:first admin token"))
    );
    assert!(!flags.is_enabled("auth_rollout", &user));
    let body = json!({"enabled": false, "reason": "x"});
    let url = "/api/v1/environments/production/flags/auth_enabled/enabled";
    let done = eventually("writes work again", || async {
        let answer = api.send(Method::PUT, url, Some(body.clone())).await;
        answer.status.is_success().then_some(answer.body)
    })
    .await;
    assert!(flags.wait_for_revision(done["revision"].as_u64().unwrap()).await);
}

on_both! {
    /// Steps of a group and of a called playbook are steps like any others: in the dry run, the log, the report and the undo.
    async fn groups_and_calls_run_as_one_plan(backend: Backend) {
        let runbooks = backend.folder.path().join("runbooks");
        std::fs::create_dir_all(&runbooks).unwrap();
        std::fs::write(runbooks.join("together.yaml"), TOGETHER).unwrap();
        std::fs::write(runbooks.join("said.yaml"), SAID).unwrap();
        let folder = runbooks.display().to_string();
        let variables = [("SWITCHBACK_RUNBOOKS_DIR", folder.as_str())];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let api = server.api();
        let client = sdk(&server).await;
        let user = Context::new().user_id("u1");
        let before = client.auth_mode(&user);

        let body = json!({"environment": "production", "reason": REASON});
        let preview = api.post("/api/v1/playbooks/together/preview", body).await;
        let within: Vec<&str> =
            preview["preview"]["steps"].as_array().unwrap().iter().map(|s| s["within"].as_str().unwrap()).collect();
        assert_eq!(within[0], "One of `both`, up to 2 at once");
        assert_eq!(within[3], "A step of the playbook `said`, called by `then`");
        let run = start(&api, "together").await;
        let detail = ended(&api, &run).await;
        assert_eq!(detail["state"], json!("succeeded"), "{detail}");
        assert_eq!(client.auth_mode(&user), AuthMode::Bypass);
        let report = api.get(&format!("/api/v1/runs/{run}/report")).await;
        let steps: Vec<(&str, &str)> = report["steps"].as_array().unwrap().iter()
            .map(|step| (step["id"].as_str().unwrap(), step["state"].as_str().unwrap())).collect();
        assert_eq!(steps, [("both.open", "verified"), ("both.shut", "done"), ("both.tell", "done"), ("then.say", "done")]);
        assert!(report["steps"][3]["does"].as_str().unwrap().contains("everybody is in!"), "{report}");

        let back = json!({"reason": "sign-in works again"});
        let undo = api.post(&format!("/api/v1/runs/{run}/undo"), back).await;
        let undone = ended(&api, undo["id"].as_str().unwrap()).await;
        assert_eq!(undone["state"], json!("succeeded"), "{undone}");
        eventually("the client is back", || async { (client.auth_mode(&user) == before).then_some(()) }).await;
        assert_eq!(api.get("/api/v1/rollback-log/verify").await["ok"], json!(true));
    }
}

on_both! {
    /// Several flags go back to a moment at once, and forth again: by the run's own unwinding, and by an undo afterwards.
    async fn every_flag_goes_back_to_a_moment(backend: Backend) {
        let runbooks = backend.folder.path().join("runbooks");
        std::fs::create_dir_all(&runbooks).unwrap();
        std::fs::write(runbooks.join("back.yaml"), BACK).unwrap();
        let folder = runbooks.display().to_string();
        let variables = [("SWITCHBACK_RUNBOOKS_DIR", folder.as_str())];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let api = server.api();
        let prod = "/api/v1/environments/production";
        let states = async || {
            let mut states = Vec::new();
            for key in ["auth_bypass", "auth_enabled", "auth_rollout"] {
                states.push(api.get(&format!("{prod}/flags/{key}")).await["state"].clone());
            }
            states
        };
        let set = async |key: &str, on: bool| {
            let body = json!({"enabled": on, "reason": "a test of moments"});
            api.put(&format!("{prod}/flags/{key}/enabled"), body).await;
        };
        set("auth_bypass", true).await;
        let then = states().await;
        let at = api.get("/api/v1/changes?limit=1").await["items"][0]["change"]["at"].clone();
        tokio::time::sleep(Duration::from_millis(5)).await; // later changes have a later time
        set("auth_bypass", false).await;
        set("auth_enabled", false).await;
        let now = states().await;
        let run = async |fail: bool| {
            let inputs = json!({"at": at, "fail": fail});
            let body = json!({"environment": "production", "reason": REASON, "inputs": inputs});
            let run = api.post("/api/v1/playbooks/back/runs", body).await;
            ended(&api, run["id"].as_str().unwrap()).await
        };

        let body = json!({"environment": "production", "reason": REASON, "inputs": {"at": at}});
        let dry = api.post("/api/v1/playbooks/back/preview", body).await;
        let change = &dry["preview"]["steps"][0]["effect"]["change"]["known"];
        let changed: Vec<&String> = change[1].as_object().unwrap().keys().collect();
        assert_eq!(changed, ["auth_bypass", "auth_enabled"], "{dry}");
        let failed = run(true).await;
        assert_eq!((&failed["state"], states().await), (&json!("compensated"), now.clone()), "{failed}");
        let good = run(false).await;
        assert_eq!((&good["state"], states().await), (&json!("succeeded"), then.clone()), "{good}");
        let id = good["run"]["id"].as_str().unwrap();
        let changes = api.get(&format!("/api/v1/changes?run={id}")).await;
        let revisions: Vec<&Value> = changes["items"].as_array().unwrap().iter()
            .filter(|row| row["change"]["subject_kind"] == json!("flag")).map(|row| &row["change"]["revision"]).collect();
        assert!(revisions.len() == 2 && revisions[0] == revisions[1], "one revision: {changes}");
        let report = api.get(&format!("/api/v1/runs/{id}/report")).await;
        assert!(!report["steps"][0]["changed"].as_array().unwrap().is_empty(), "{report}");

        let undo = api.post(&format!("/api/v1/runs/{id}/undo"), json!({"reason": "it was right"})).await;
        assert_eq!(ended(&api, undo["id"].as_str().unwrap()).await["state"], json!("succeeded"));
        assert_eq!(states().await, now);
    }
}
