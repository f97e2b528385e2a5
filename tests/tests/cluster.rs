//! Two servers on one PostgreSQL, with nothing else between them.

use serde_json::{Value, json};
use switchback_sdk::{AuthMode, Context, Switchback};
use switchback_tests::server::SERVER;
use switchback_tests::{Backend, Server, eventually};

const PROD: &str = "/api/v1/environments/production";

async fn pair() -> (Backend, Server, Server) {
    let backend = Backend::postgres().await;
    let one = Server::start(&backend);
    let two = Server::start(&backend);
    (backend, one, two)
}

async fn sdk(server: &Server) -> Switchback {
    Switchback::builder().url(&server.url).token(SERVER).app("shop").build().await.unwrap()
}

async fn ended(server: &Server, run: &str) -> Value {
    eventually("the run ends", || async {
        let detail = server.api().get(&format!("/api/v1/runs/{run}")).await;
        detail["run"]["finished_at"].is_number().then_some(detail)
    })
    .await
}

/// A change made on one server reaches the other's clients, and each counts both servers' clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_on_one_node_reaches_the_clients_of_the_other() {
    let (_backend, one, two) = pair().await;
    let (here, there) = (sdk(&one).await, sdk(&two).await);

    let body = json!({"enabled": false, "reason": "test"});
    let off = one.api().put(&format!("{PROD}/flags/auth_enabled/enabled"), body).await;
    let revision = off["revision"].as_u64().unwrap();

    assert!(there.wait_for_revision(revision).await && here.wait_for_revision(revision).await);
    assert_eq!(there.auth_mode(&Context::new().user_id("u")), AuthMode::Anonymous);
    for server in [&one, &two] {
        eventually("both nodes count both clients", || async {
            let found = server.api().get(&format!("{PROD}/convergence?revision={revision}")).await;
            (found["connected"] == json!(2) && found["acked"] == json!(2)).then_some(())
        })
        .await;
    }
}

/// The node that drives a run dies; the other finishes it, nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_finishes_a_run() {
    let (_backend, one, two) = pair().await;
    let _client = sdk(&two).await;
    let body = json!({"environment": "production", "reason": "sign-in is broken"});
    let run = one.api().post("/api/v1/playbooks/auth-rollback/runs", body).await;
    let id = run["id"].as_str().unwrap().to_owned();
    one.kill();

    let detail = ended(&two, &id).await;

    assert_eq!(detail["state"], json!("succeeded"), "{detail}");
    let changes = two.api().get(&format!("/api/v1/changes?run={id}")).await;
    let flags = changes["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["change"]["subject_kind"] == json!("flag"));
    assert_eq!(flags.count(), 2, "{changes}");
    assert_eq!(two.api().get("/api/v1/rollback-log/verify").await["ok"], json!(true));
}

/// A node that hangs and wakes up late finds itself fenced: the run is not driven twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_wakes_up_late_is_fenced() {
    let (_backend, one, two) = pair().await;
    let body = json!({"environment": "production", "reason": "sign-in works again"});
    let run = one.api().post("/api/v1/playbooks/auth-restore/runs", body).await;
    let id = run["id"].as_str().unwrap().to_owned();
    eventually("the run waits between its shares", || async {
        let detail = one.api().get(&format!("/api/v1/runs/{id}")).await;
        detail["log"].to_string().contains("\"waiting\"").then_some(())
    })
    .await;
    one.freeze();

    let url = format!("/api/v1/runs/{id}/cancel");
    two.api().post(&url, json!({"reason": "the other node hangs"})).await;
    let detail = ended(&two, &id).await;
    one.thaw();

    assert_eq!(detail["state"], json!("cancelled"), "{detail}");
    let rows = detail["log"].as_array().unwrap().len();
    eventually("the late node answers again", || async {
        let again = one.api().get(&format!("/api/v1/runs/{id}")).await;
        (again["state"] == json!("cancelled") && again["log"].as_array().unwrap().len() == rows)
            .then_some(())
    })
    .await;
    assert_eq!(two.api().get("/api/v1/rollback-log/verify").await["ok"], json!(true));
}
