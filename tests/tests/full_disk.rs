//! A disk that is full: every answer says so, what was acknowledged stays, a kill still works, and when there is room again everything
//! goes on. The disk is a small one in memory, mounted for the server alone.
#![cfg(target_os = "linux")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use switchback_tests::{Api, Backend, Server, eventually, shop};

const BACKUP: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: keep, title: Keep a copy, owner: shop}
spec:
  deadline: 1m
  steps:
    - {id: copy, backup.take: {source: shop}}
";
const DISK_MIB: u32 = 16;
const FLAG: &str = "/api/v1/environments/production/flags/auth_rollout";

/// Takes all the room that is left.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [65_536, 4_096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

async fn switch(api: &Api, on: bool) -> (u16, Value) {
    let answer = api
        .send(
            Method::PUT,
            &format!("{FLAG}/enabled"),
            Some(json!({"enabled": on, "reason": "a test"})),
        )
        .await;
    (answer.status.as_u16(), answer.body)
}

/// Whether anybody is let in, as a client is told.
async fn lets_in(api: &Api) -> bool {
    let decided =
        api.post("/api/v1/environments/production/evaluate", json!({"user_id": "ada"})).await;
    let one = decided.as_array().unwrap().iter().find(|one| one["key"] == "auth_enabled");
    one.unwrap_or_else(|| panic!("{decided}"))["enabled"] == json!(true)
}

#[tokio::test]
async fn a_full_disk_is_said_and_loses_nothing() {
    let backend = Backend::sqlite();
    let runbooks = tempfile::tempdir().unwrap();
    std::fs::write(runbooks.path().join("keep.yaml"), BACKUP).unwrap();
    let (runbooks, address) = (runbooks.path().display().to_string(), backend.address());
    let variables =
        [("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()), ("SHOP_DATABASE_URL", &address)];
    let server = Server::start_on_small_disk(&backend, DISK_MIB, &variables);
    let api = server.api();
    shop::connect(&api, "shop").await;
    api.put(
        "/api/v1/environments/production/flags/auth_enabled/enabled",
        json!({"enabled": true, "reason": "a test"}),
    )
    .await;
    let let_in = lets_in(&api).await;

    let filler = fill(&server.sees(backend.folder.path()));
    // Some writes still fit into what the database has already.
    let mut on = false;
    let mut acknowledged = api.get(FLAG).await["state"]["enabled"].as_bool().unwrap();
    let refused = loop {
        let answer = switch(&api, on).await;
        if answer.0 != 200 {
            break answer;
        }
        acknowledged = on;
        on = !on;
    };
    let kept = api.get(FLAG).await["state"]["enabled"].as_bool().unwrap();
    let body = json!({"environment": "staging", "reason": "to see what happens"});
    let run = api.send(Method::POST, "/api/v1/playbooks/keep/runs", Some(body.clone())).await;
    let kill = json!({"killed": true, "reason": "it hurts"});
    let killed = api
        .send(Method::PUT, "/api/v1/environments/production/flags/auth_enabled/killed", Some(kill))
        .await;
    let locked_out = !lets_in(&api).await;
    let still = api.get("/healthz").await;

    std::fs::remove_file(&filler).unwrap();
    eventually("the kill is in the database", || async {
        let flag = api.get("/api/v1/environments/production/flags/auth_enabled").await;
        (flag["state"]["killed"] == true).then_some(())
    })
    .await;
    let again = switch(&api, !acknowledged).await;
    let copied = shop::play(&api, "keep", &json!({})).await;

    assert_eq!(refused.0, 503, "{}", refused.1);
    assert!(refused.1.to_string().contains("the disk is full"), "{}", refused.1);
    assert_eq!(kept, acknowledged, "what was acknowledged stays");
    assert!(
        run.status.is_server_error() && run.body.to_string().contains("the disk is full"),
        "{}",
        run.body
    );
    assert!(let_in && killed.status.is_success() && locked_out, "a kill works: {}", killed.body);
    assert_ne!(still, Value::Null);
    assert_eq!(again.0, 200, "{}", again.1);
    assert_eq!(copied["state"], json!("succeeded"), "{copied}");
}

/// A backup that finds no room is a failed step that says so, and leaves no half of a file.
#[tokio::test]
async fn a_backup_that_finds_no_room_says_so() {
    let backend = Backend::sqlite();
    let runbooks = tempfile::tempdir().unwrap();
    std::fs::write(runbooks.path().join("keep.yaml"), BACKUP).unwrap();
    let shop_folder = tempfile::tempdir().unwrap();
    let big = shop_folder.path().join("shop.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&big).create_if_missing(true);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for statement in [
        "CREATE TABLE receipts (id INTEGER PRIMARY KEY, body BLOB)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO receipts SELECT i, randomblob(16000) FROM n",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    let (runbooks, address) =
        (runbooks.path().display().to_string(), format!("sqlite:{}", big.display()));
    let variables =
        [("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()), ("SHOP_DATABASE_URL", &address)];
    let server = Server::start_on_small_disk(&backend, DISK_MIB, &variables);
    let api = server.api();
    shop::connect(&api, "shop").await;

    let failed = shop::play(&api, "keep", &json!({})).await;

    assert_eq!(failed["state"], json!("compensated"), "{failed}");
    let why = failed["view"]["steps"][0]["because"].as_str().unwrap();
    assert!(why.contains("the data takes 31") && why.contains("MiB left"), "{why}");
    let left = std::fs::read_dir(server.sees(backend.folder.path()).join("backups"));
    let left: Vec<_> = left
        .map(|files| files.flatten().map(|file| file.file_name()).collect())
        .unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}
