//! Backups of the app's databases: taken, proved, put back, and what is said when that does not work.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sqlx::Connection as _;
use switchback_tests::server::{ADMIN, program};
use switchback_tests::{Api, Backend, Server, eventually, on_both};

/// Puts the newest backup back; taken back itself when the last step does not find what it expects.
const BACK: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: put-back, title: Put the shop back, owner: team-shop}
spec:
  deadline: 2m
  inputs:
    carts: {type: string, default: '3'}
  require:
    - {id: fresh, check: backup.age, source: shop, max: 24h, else: fail}
  steps:
    - id: back
      approve: {roles: [admin], min: 1, timeout: 1s, on_timeout: proceed, message: Put it back?}
      backup.restore: {of: latest, source: shop}
    - id: counted
      probe.sql: {source: shop, sql: 'SELECT COUNT(*) FROM carts', expect: '${{ inputs.carts }}'}
";
/// Only one table, asked after the restore.
const PART: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: part, title: Back up the carts, owner: team-shop}
spec:
  deadline: 2m
  inputs:
    carts: {type: string, default: '3'}
  steps:
    - id: take
      backup.take: {source: shop, tables: [carts], keep: 1d}
    - id: prove
      backup.verify:
        of: take
        checks:
          - {sql: SELECT COUNT(*) FROM carts, expect: '${{ inputs.carts }}'}
";
const DIGEST: &str = "SELECT string_agg(CAST(id AS TEXT) || ':' || state, ',' ORDER BY id) || '/' || \
    (SELECT CAST(COUNT(*) AS TEXT) FROM owners) FROM carts";

/// The app's own database, beside the server's.
async fn shop(backend: &Backend) -> Backend {
    let app = if backend.database_url.is_empty() {
        let app = Backend::sqlite();
        std::fs::write(app.folder.path().join("switchback.db"), "").unwrap();
        app
    } else {
        Backend::postgres().await
    };
    app.tamper("CREATE TABLE owners (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE)").await;
    app.tamper("CREATE TABLE carts (id BIGINT PRIMARY KEY, state TEXT NOT NULL, owner BIGINT REFERENCES owners (id))")
        .await;
    app.tamper("CREATE INDEX carts_by_state ON carts (state)").await;
    app.tamper("CREATE VIEW open_carts AS SELECT id FROM carts WHERE state = 'open'").await;
    app.tamper("INSERT INTO owners VALUES (1, 'ada'), (2, 'it''s bob')").await;
    app.tamper("INSERT INTO carts VALUES (1, 'open', 1), (2, 'paid', 2), (3, 'open', NULL)").await;
    app
}

async fn serve(backend: &Backend, address: &str, more: &[(&str, &str)]) -> (Server, Api) {
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    std::fs::write(runbooks.join("back.yaml"), BACK).unwrap();
    std::fs::write(runbooks.join("part.yaml"), PART).unwrap();
    let runbooks = runbooks.display().to_string();
    let variables =
        [("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()), ("SHOP_DATABASE_URL", address)];
    let server = Server::start_on(backend, "127.0.0.1:0", &[&variables, more].concat());
    let api = server.api();
    let settings = json!({"name": "shop", "credentials": "env:SHOP_DATABASE_URL", "access": "read_write",
        "lock_timeout_ms": 60_000});
    api.put("/api/v1/data-sources/shop", json!({"settings": settings})).await;
    (server, api)
}

async fn ended(api: &Api, id: &str) -> Value {
    eventually("the run ends", || async {
        let detail = api.get(&format!("/api/v1/runs/{id}")).await;
        let parked = detail["state"] == json!("parked");
        (parked || detail["run"]["finished_at"].is_number()).then_some(detail)
    })
    .await
}

async fn play(api: &Api, playbook: &str, inputs: Value) -> Value {
    let body =
        json!({"environment": "production", "reason": "a test of backups", "inputs": inputs});
    let run = api.post(&format!("/api/v1/playbooks/{playbook}/runs"), body).await;
    ended(api, run["id"].as_str().unwrap()).await
}

/// Starts what the address says and waits for its end.
async fn ask(api: &Api, rest: &str, body: Value) -> Value {
    let mut given = json!({"reason": "a test of backups"});
    given.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let run = api.post(&format!("/api/v1/data-sources/shop/{rest}"), given).await;
    ended(api, run["id"].as_str().unwrap()).await
}

async fn backups(api: &Api) -> Vec<Value> {
    api.get("/api/v1/data-sources/shop/backups").await.as_array().unwrap().clone()
}

fn folder(backend: &Backend) -> PathBuf {
    backend.folder.path().join("backups")
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

on_both! {
    /// What is lost comes back: taken, proved elsewhere, damaged, put back. Putting it back can itself be undone.
    async fn a_backup_brings_back_what_was_lost(backend: Backend) {
        let app = shop(&backend).await;
        let (server, api) = serve(&backend, &app.address(), &[]).await;
        let before = app.ask(DIGEST).await;

        let early = play(&api, "put-back", json!({})).await;
        let taken = ask(&api, "backups", json!({"verify": true})).await;
        let listed = backups(&api).await;
        app.tamper("DELETE FROM carts WHERE id > 1").await;
        app.tamper("UPDATE owners SET name = 'eve' WHERE id = 1").await;
        app.tamper("ALTER TABLE owners ADD COLUMN note TEXT").await;
        app.tamper("CREATE TABLE later (id BIGINT)").await;
        let damaged = app.ask(DIGEST).await;
        let undone = play(&api, "put-back", json!({"carts": "4"})).await;
        let after_undo = app.ask(DIGEST).await;
        app.tamper("DROP VIEW open_carts").await;
        let back = play(&api, "put-back", json!({})).await;
        let after = app.ask(DIGEST).await;
        let view = app.ask("SELECT CAST(COUNT(*) AS TEXT) FROM open_carts").await;
        let later = app.ask("SELECT CAST(COUNT(*) AS TEXT) FROM later").await;

        assert_eq!(early["state"], json!("failed"), "no backup was proved yet: {early}");
        assert_eq!(taken["state"], json!("succeeded"), "{taken}");
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert!(listed[0]["verified_at"].is_number() && listed[0]["proof"]["rows"] == json!(5), "{listed:?}");
        assert_eq!(undone["state"], json!("compensated"), "{undone}");
        assert_eq!(after_undo, damaged, "the backup of just before was put back");
        assert_eq!(back["state"], json!("succeeded"), "{back}");
        assert_eq!((after, view.as_str(), later.as_str()), (before, "2", "0"));
        for file in files(&folder(&backend)) {
            let mode = std::fs::metadata(folder(&backend).join(&file)).unwrap().permissions().mode();
            assert!(!file.starts_with('.') && mode & 0o777 == 0o600, "{file} {mode:o}");
        }
        drop(server);
    }

    /// A table alone; a check that does not hold says what it found, and the backup does not count as proved.
    async fn a_check_in_the_restored_data_must_hold(backend: Backend) {
        let app = shop(&backend).await;
        let (server, api) = serve(&backend, &app.address(), &[]).await;

        let dry = api.post("/api/v1/playbooks/part/preview", json!({"environment": "production", "reason": "a look"})).await;
        let good = play(&api, "part", json!({})).await;
        let bad = play(&api, "part", json!({"carts": "7"})).await;
        let listed = backups(&api).await;

        assert!(dry.to_string().contains("a backup of"), "{dry}");
        assert_eq!(good["state"], json!("succeeded"), "{good}");
        assert!(bad.to_string().contains("gives `3`, not `7`"), "{bad}");
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert_eq!(listed[0]["verified_at"], Value::Null, "{listed:?}");
        assert!(listed[1]["verified_at"].is_number() && listed[1]["proof"]["tables"] == json!(1), "{listed:?}");
        drop(server);
    }

    /// A file that rots on its shelf is found by proving it, and is said wherever backups are listed.
    async fn a_damaged_file_is_found(backend: Backend) {
        let app = shop(&backend).await;
        let (server, api) = serve(&backend, &app.address(), &[]).await;
        let taken = ask(&api, "backups", json!({})).await;
        assert_eq!(taken["state"], json!("succeeded"), "{taken}");
        let file = folder(&backend).join(backups(&api).await[0]["file"].as_str().unwrap());
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();

        let proved = ask(&api, "backups/verify", json!({})).await;
        let listed = backups(&api).await;
        let shown = Command::new(program())
            .env_clear()
            .args(["backup", "list", "shop", "--url", &server.url, "--token", ADMIN])
            .output()
            .unwrap();

        assert_eq!(proved["state"], json!("compensated"), "{proved}");
        assert!(proved.to_string().contains("is damaged"), "{proved}");
        assert_eq!(listed[0]["verified_at"], Value::Null);
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("is damaged"), "{shown}");
    }

    /// A backup past its time goes with its file when the next one is taken; the newest proved one stays.
    async fn old_backups_are_removed(backend: Backend) {
        let app = shop(&backend).await;
        let (server, api) = serve(&backend, &app.address(), &[]).await;

        for verify in [true, false, false] {
            let taken = ask(&api, "backups", json!({"keep": "1ms", "verify": verify})).await;
            assert_eq!(taken["state"], json!("succeeded"), "{taken}");
        }
        let listed = backups(&api).await;
        drop(server);

        let proved: Vec<bool> = listed.iter().map(|one| one["verified_at"].is_number()).collect();
        assert_eq!(proved, [false, true], "{listed:?}");
        assert_eq!(files(&folder(&backend)).len(), 2);
    }
}

/// SIGKILL while pg_dump runs: nothing half is ever listed, and the run goes on when the server is back.
#[tokio::test]
async fn a_backup_goes_on_after_a_crash() {
    let (backend, app) = (Backend::sqlite(), Backend::postgres().await);
    app.tamper("CREATE TABLE carts (id BIGINT PRIMARY KEY)").await;
    let (server, api) = serve(&backend, &app.address(), &[]).await;
    let mut holder = sqlx::PgConnection::connect(&app.database_url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE carts").execute(&mut holder).await.unwrap();
    let run = api.post("/api/v1/data-sources/shop/backups", json!({"reason": "a test"})).await;
    let run = run["id"].as_str().unwrap().to_owned();
    let dumps = "SELECT COUNT(*)::text FROM pg_stat_activity WHERE application_name = 'pg_dump' \
                 AND datname = current_database() AND wait_event_type = 'Lock'";
    eventually("pg_dump waits", || async { (app.ask(dumps).await != "0").then_some(()) }).await;

    server.kill();
    let left = files(&folder(&backend));
    let (server, api) = serve(&backend, &app.address(), &[]).await;
    let listed = backups(&api).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    let detail = ended(&api, &run).await;

    assert!(left.iter().all(|file| file.starts_with(".partial-")), "{left:?}");
    assert_eq!(listed, Vec::<Value>::new());
    assert_eq!(detail["state"], json!("succeeded"), "{detail}");
    let listed = backups(&api).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(files(&folder(&backend)), [listed[0]["file"].as_str().unwrap()]);
    drop(server);
}

/// What is missing or wrong is said in a sentence that helps, and never with the password.
#[tokio::test]
async fn a_backup_that_cannot_be_says_why() {
    let app = Backend::postgres().await;
    let empty = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let script = old.path().join("pg_dump");
    std::fs::write(&script, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.1'\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (_, rest) = app.database_url.split_once('@').unwrap();
    let stranger = format!("postgres://stranger:hunter2@{rest}");
    let shown = empty.path().display().to_string();
    let cases = [
        (app.address(), shown.clone(), format!("pg_dump is not in {shown}")),
        (
            app.address(),
            old.path().display().to_string(),
            "pg_dump 9.6.1 is older than the database, ".to_owned(),
        ),
        (stranger, shown.clone(), "refuses this user or password".to_owned()),
    ];
    for (address, programs, says) in cases {
        let backend = Backend::sqlite();
        let more = [("SWITCHBACK_BACKUP__PG_BIN_DIR", programs.as_str())];
        let (server, api) = serve(&backend, &address, &more).await;

        let detail = ask(&api, "backups", json!({})).await.to_string();

        assert!(detail.contains(&says) && !detail.contains("hunter2"), "{says}: {detail}");
        assert_eq!(backups(&api).await, Vec::<Value>::new());
        drop(server);
    }
}
