//! Data sources: the app's databases, as people set them and playbooks ask them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::{Api, Backend, Server, eventually, on_both};

const PROBES: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: look, title: Look at the shop, owner: team-shop}
spec:
  deadline: 1m
  inputs:
    id: {type: string, default: '1'}
  steps:
    - id: one
      probe.sql: {source: shop, sql: 'SELECT key FROM environments WHERE key = $1', params: [production], expect: production}
    - id: counted
      probe.sql: {source: shop, sql: 'SELECT COUNT(*) AS n FROM environments', expect: 3}
    - id: none
      probe.sql: {source: shop, sql: SELECT 1 AS n FROM environments WHERE key = 'nope', max_rows: 0}
    - id: many
      on_error: continue
      probe.sql: {source: shop, sql: SELECT key FROM environments, max_rows: 1}
";

/// A repair that is taken back, since its last step fails.
const REPAIR: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: repair, title: Repair the shop, owner: team-shop}
spec:
  deadline: 1m
  inputs:
    to: {type: string, default: mended}
    last: {type: string, default: '1'}
  steps:
    - id: mend
      sql.exec:
        source: shop
        sql: UPDATE carts SET state = $1 WHERE state = 'broken'
        params: ['${{ inputs.to }}']
        undo: UPDATE carts SET state = 'broken' WHERE state = $1
      verify: {probe.sql: {source: shop, sql: SELECT 1 FROM carts WHERE state = 'broken', max_rows: 0}}
    - id: counted
      probe.sql: {source: shop, sql: 'SELECT COUNT(*) FROM carts', expect: '${{ inputs.last }}'}
";
const CARTS: &str = "CREATE TABLE carts (id BIGINT PRIMARY KEY, state TEXT NOT NULL)";

/// A server whose environment holds the address of a database: its own, which is as good as any to ask.
async fn serve(backend: &Backend) -> (Server, Api) {
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    std::fs::write(runbooks.join("look.yaml"), PROBES).unwrap();
    std::fs::write(runbooks.join("repair.yaml"), REPAIR).unwrap();
    let variables = [
        ("SWITCHBACK_RUNBOOKS_DIR", runbooks.display().to_string()),
        ("SHOP_DATABASE_URL", backend.address()),
        ("LOST_DATABASE_URL", "postgres://ada:hunter2@127.0.0.1:1/shop".to_owned()),
    ];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    let settings = json!({"name": "shop", "credentials": "env:SHOP_DATABASE_URL", "rows_max": 2,
        "access": "read_write"});
    api.put("/api/v1/data-sources/shop", json!({"settings": settings, "reason": "to look"})).await;
    (server, api)
}

async fn test(api: &Api, name: &str) -> Value {
    api.post(&format!("/api/v1/data-sources/{name}/test"), json!({})).await
}

/// Runs a playbook to its end.
async fn play(api: &Api, playbook: &str, body: Value) -> Value {
    let run = api.post(&format!("/api/v1/playbooks/{playbook}/runs"), body).await;
    let id = run["id"].as_str().unwrap().to_owned();
    eventually("the run ends", || async {
        let detail = api.get(&format!("/api/v1/runs/{id}")).await;
        detail["run"]["finished_at"].is_number().then_some(detail)
    })
    .await
}

on_both! {
    /// A source is set with where its credentials are; a test says whether it answers, and never what they are.
    async fn a_source_is_set_and_tested(backend: Backend) {
        let (server, api) = serve(&backend).await;
        for (name, credentials) in [("lost", "env:LOST_DATABASE_URL"), ("unset", "env:NOT_SET"), ("gone", "file:/no/such/file")] {
            let settings = json!({"name": name, "credentials": credentials});
            api.put(&format!("/api/v1/data-sources/{name}"), json!({"settings": settings})).await;
        }
        let given = json!({"settings": {"name": "bad", "credentials": "postgres://ada:hunter2@db/shop"}});
        let given = api.send(Method::PUT, "/api/v1/data-sources/bad", Some(given)).await;
        let wide = json!({"settings": {"name": "wide", "credentials": "env:A", "connections_max": 500}});
        let wide = api.send(Method::PUT, "/api/v1/data-sources/wide", Some(wide)).await;

        let shop = test(&api, "shop").await;
        let (lost, unset, gone) = (test(&api, "lost").await, test(&api, "unset").await, test(&api, "gone").await);
        let log = api.get("/api/v1/changes?limit=100").await.to_string();
        drop(server);

        assert_eq!(shop["ok"], json!(true), "{shop}");
        assert_eq!(lost["ok"], json!(false), "{lost}");
        assert_eq!(unset["message"], json!("its credentials: NOT_SET is not set"));
        assert!(gone["message"].as_str().unwrap().contains("/no/such/file"), "{gone}");
        assert_eq!((given.status, wide.status), (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::UNPROCESSABLE_ENTITY), "{} {}", given.body, wide.body);
        assert!(wide.body.to_string().contains("500 is not between 1 and 20"), "{}", wide.body);
        for text in [lost.to_string(), given.body.to_string(), log] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    /// A playbook asks a source: a value, a count, no row at all; too many rows fail the step, and a dry run says so first.
    async fn a_playbook_asks_a_source(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let body = json!({"environment": "production", "reason": "to see how the shop is"});

        let dry = api.post("/api/v1/playbooks/look/preview", body.clone()).await;
        let detail = play(&api, "look", body).await;

        assert!(dry.to_string().contains("it would not hold now"), "{dry}");
        let rows = detail["log"].as_array().unwrap();
        let says = |step: &str, phase: &str| -> String {
            let row = rows.iter().find(|row| row["step_id"] == json!(step) && row["phase"] == json!(phase));
            row.map(|row| row["detail"].to_string()).unwrap_or_default()
        };
        assert!(says("one", "done").contains("`production`"), "{detail}");
        assert!(says("counted", "done").contains("`3`"), "{detail}");
        assert!(says("none", "done").contains("0 rows"), "{detail}");
        assert!(says("many", "failed").contains("more than 2 rows"), "{detail}");
    }

    /// A script changes the app's data once, says so before, and is taken back when a later step fails.
    async fn a_script_is_run_once_and_taken_back(backend: Backend) {
        let (server, api) = serve(&backend).await;
        backend.tamper(CARTS).await;
        backend.tamper("INSERT INTO carts VALUES (1, 'broken'), (2, 'broken'), (3, 'sound')").await;
        let broken = async || {
            let look = "SELECT CAST(COUNT(*) AS TEXT) FROM carts WHERE state = 'broken'";
            backend.ask(look).await
        };
        let body = |last: &str| json!({"environment": "production", "reason": "two carts are broken", "inputs": {"last": last}});

        let dry = api.post("/api/v1/playbooks/repair/preview", body("3")).await;
        assert!(dry.to_string().contains("2 rows would change"), "{dry}");
        assert_eq!(broken().await, "2", "a dry run changes nothing");
        let good = play(&api, "repair", body("3")).await;
        assert_eq!(good["state"], json!("succeeded"), "{good}");
        assert_eq!(broken().await, "0");
        backend.tamper("UPDATE carts SET state = 'broken' WHERE id < 3").await;
        let bad = play(&api, "repair", body("4")).await;
        assert_eq!(bad["state"], json!("compensated"), "{bad}");
        assert_eq!(broken().await, "2", "what the first step mended was taken back");

        let settings = json!({"name": "shop", "credentials": "env:SHOP_DATABASE_URL"});
        api.put("/api/v1/data-sources/shop", json!({"settings": settings})).await;
        let refused = play(&api, "repair", body("3")).await;
        assert!(refused.to_string().contains("read-only"), "{refused}");
        assert_eq!(broken().await, "2");
        drop(server);
    }
}
