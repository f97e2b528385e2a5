//! Two servers on one PostgreSQL, with nothing else between them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchback_sdk::{AuthMode, Context, Switchback};
use switchback_tests::server::SERVER;
use switchback_tests::{Backend, Server, Sink, eventually};

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

const SLOW: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: slow, title: Ask another system, owner: team-auth}
spec:
  deadline: 2m
  concurrency: {key: 'slow/${{ reason }}'}
  steps:
    - {id: before, flag.set: {key: auth_bypass, value: true}}
    - {id: ask, http.request: {url: 'SINK/${{ reason }}', body: {a: 1}, timeout: 60s, undo: {method: DELETE, url: 'SINK/jobs'}}}
    - {id: after, flag.rollout: {key: auth_rollout, percent: 10%}}
";

/// The node that drives a run is stopped for 15 s, in the middle of a request: within 10 s the other one has ended the run, and
/// what the first one still wants to write is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_is_replaced_within_ten_seconds() {
    let backend = Backend::postgres().await;
    // The first request is never answered; the same one again is.
    let sink = Sink::start(|line, nth| (nth > 1 || !line.ends_with("hangs")).then_some(200));
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    std::fs::write(runbooks.join("slow.yaml"), SLOW.replace("SINK", &sink.url)).unwrap();
    let runbooks = runbooks.display().to_string();
    let variables = [
        ("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()),
        ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8"),
    ];
    let one = Server::start_on(&backend, "127.0.0.1:0", &variables);
    let start = async |reason: &str| {
        let body = json!({"environment": "production", "reason": reason});
        let run = one.api().post("/api/v1/playbooks/slow/runs", body).await;
        run["id"].as_str().unwrap().to_owned()
    };
    let id = start("hangs").await;
    eventually("the request is under way", || async { (!sink.seen().is_empty()).then_some(()) })
        .await;
    // Only now, so that it cannot be the one that drives.
    let two = Server::start_on(&backend, "127.0.0.1:0", &variables);

    one.freeze();
    let frozen = Instant::now();
    let detail = ended(&two, &id).await;
    let took = frozen.elapsed();
    tokio::time::sleep_until((frozen + Duration::from_secs(15)).into()).await;
    one.thaw();

    assert_eq!(detail["state"], json!("succeeded"), "{detail}");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    // The late node works again, so that it has also tried to go on where it was.
    let other = start("works").await;
    assert_eq!(ended(&one, &other).await["state"], json!("succeeded"));
    let again = two.api().get(&format!("/api/v1/runs/{id}")).await;
    assert_eq!(again["log"], detail["log"]);
    let epochs: Vec<u64> =
        again["log"].as_array().unwrap().iter().map(|row| row["epoch"].as_u64().unwrap()).collect();
    assert!(epochs.is_sorted() && epochs.last() > epochs.get(1), "{epochs:?}");
    let seen = sink.seen();
    let keys: Vec<&str> = seen
        .iter()
        .filter(|one| one.line.ends_with("hangs"))
        .map(|one| one.headers["idempotency-key"].as_str())
        .collect();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
    let changes = two.api().get(&format!("/api/v1/changes?run={id}")).await;
    let flags = changes["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["change"]["subject_kind"] == json!("flag"));
    assert_eq!(flags.count(), 2, "{changes}");
    assert_eq!(two.api().get("/api/v1/rollback-log/verify").await["ok"], json!(true));
}
