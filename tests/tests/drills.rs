//! Drills: a playbook run for real in a sandbox, against copies of its data sources, timed, taken back, and cleared away.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::{Api, Backend, Server, eventually, on_both, shop};

const CLEAR: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: clear, title: Clear the carts, owner: team-shop}
spec:
  deadline: 1m
  drill: {every: 30d, stale: block}
  inputs:
    reason: {type: string, min: 10, required: true}
  preserve:
    - {id: people, source: shop, table: people, key: id}
  steps:
    - id: off
      flag.set: {key: auth_enabled, value: false}
    - id: tell
      incident.open: {template: auth_down}
    - id: carts
      danger: true
      approve: {roles: [admin], timeout: 10m, on_timeout: stop}
      sql.exec: {source: shop, sql: DELETE FROM carts, max_rows: 10, snapshot: {table: carts, key: name}}
    - id: gone
      probe.sql: {source: shop, sql: SELECT name FROM carts, max_rows: 0}
";
/// Fails in the sandbox as it would outside.
const WRONG: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: wrong, title: Wrong, owner: team-shop}
spec:
  deadline: 1m
  drill: {every: 30d, stale: warn}
  steps:
    - id: carts
      sql.exec: {source: shop, sql: DELETE FROM cart, irreversible: true}
      danger: true
      approve: {roles: [admin]}
";

async fn serve(backend: &Backend) -> (Server, Api) {
    let opened = shop::open(backend, "shop", &[("clear.yaml", CLEAR), ("wrong.yaml", WRONG)]).await;
    for statement in [
        "CREATE TABLE people (id BIGINT PRIMARY KEY)",
        "INSERT INTO people VALUES (1), (2)",
        "CREATE TABLE carts (name TEXT PRIMARY KEY)",
        "INSERT INTO carts VALUES ('a'), ('b')",
    ] {
        backend.tamper(statement).await;
    }
    opened
}

async fn drill(api: &Api, playbook: &str) -> Value {
    let body = json!({"environment": "staging"});
    let drill = api.post(&format!("/api/v1/playbooks/{playbook}/drills"), body).await;
    let path = format!("/api/v1/drills/{}", drill["id"].as_str().unwrap());
    eventually("the drill is over", || async {
        let drill = api.get(&path).await;
        drill["finished_at"].is_number().then_some(drill)
    })
    .await
}

/// What is left of a drill's scratch databases and files.
async fn left_over(backend: &Backend, drill: &Value) -> Vec<String> {
    if backend.database_url.is_empty() {
        let folder = std::fs::read_dir(backend.folder.path().join("backups"));
        let names = folder.map(|all| {
            all.map(|one| one.unwrap().file_name().to_string_lossy().into_owned()).collect()
        });
        return names.unwrap_or_default();
    }
    let run = drill["run_id"].as_str().unwrap_or("none").to_lowercase();
    let text = format!(
        "SELECT COALESCE(string_agg(datname, ','), '') FROM pg_database WHERE datname LIKE '%{run}%'"
    );
    let found = backend.ask(&text).await;
    found.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

on_both! {
    async fn a_drill_runs_for_real_and_touches_nothing_real(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let body = json!({"environment": "staging", "reason": "the carts are wrong"});
        let early = api.send(Method::POST, "/api/v1/playbooks/clear/runs", Some(body.clone())).await;
        assert_eq!(early.status, StatusCode::CONFLICT, "it says that it must be drilled first: {}", early.body);

        let done = drill(&api, "clear").await;

        assert_eq!(done["state"], "passed", "{done}");
        let run = api.get(&format!("/api/v1/runs/{}", done["run_id"].as_str().unwrap())).await;
        assert_eq!((&run["run"]["environment"], &run["run"]["trigger"]), (&json!("drill"), &json!("drill")));
        assert!(run.to_string().contains("2 rows of `shop` changed"), "{run}");
        assert!(run.to_string().contains("people: no row is lost (2 before, 2 now)"), "{run}");
        assert!(done["undo_run_id"].is_string() && done["took_ms"].is_number(), "{done}");
        assert_eq!(backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM carts").await, "2", "only the copy was touched");
        let flag = api.get("/api/v1/environments/staging/flags/auth_enabled").await;
        assert_eq!(flag["state"]["enabled"], api.get("/api/v1/environments/drill/flags/auth_enabled").await["state"]["enabled"]);
        assert_eq!(api.get("/api/v1/incidents").await["items"], json!([]), "nobody was told");
        assert_eq!(left_over(&backend, &done).await, Vec::<String>::new(), "the copies are gone");

        // Drilled, it may run; it waits for its approval as ever.
        let run = api.post("/api/v1/playbooks/clear/runs", body).await;
        assert_eq!(run["environment"], "staging");
    }

    async fn a_drill_that_fails_says_why(backend: Backend) {
        let (_server, api) = serve(&backend).await;

        let failed = drill(&api, "wrong").await;

        assert_eq!(failed["state"], "failed");
        assert_eq!(failed["message"], "the run ended as compensated");
        let listed = api.get("/api/v1/drills?playbook=wrong").await;
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(left_over(&backend, &failed).await, Vec::<String>::new());
    }
}
