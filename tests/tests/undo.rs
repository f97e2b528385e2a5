//! Taking back what a run did: rows by their images, flags by their history, a whole finished run by a playbook of its own.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::server::{ADMIN, program};
use switchback_tests::{Api, Backend, Server, on_both, shop};

/// Changes, deletes and inserts rows of two tables, one referring to the other, and flags, one of them twice.
const CHANGE: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: change, title: Change the shop, owner: team-shop}
spec:
  deadline: 1m
  inputs:
    fail: {type: bool, default: false}
  preserve:
    - {id: people, source: shop, table: people, rule: gte, on_broken: warn}
  steps:
    - id: first
      flag.rollout: {key: auth_rollout, percent: 10%}
    - id: rows
      sql.exec:
        source: shop
        file: sql/change.sql
        max_rows: 100
        snapshot: [{table: people, key: id}, {table: carts, key: [owner, name]}]
    - id: second
      flag.rollout: {key: auth_rollout, percent: 50%}
    - id: bypass
      flag.set: {key: auth_bypass, value: true}
    - id: tell
      incident.open: {template: auth_down}
    - id: last
      if: inputs.fail
      flag.set: {key: nowhere, value: true}
";
const SQL: &str = "\
-- One of each: changed, gone, new.
UPDATE people SET name = 'Grace; and others', age = NULL WHERE id = 2;
DELETE FROM carts WHERE owner = 3;
DELETE FROM people WHERE id = 3;
INSERT INTO people (id, name, age) VALUES (4, 'Dan', 44);
INSERT INTO carts (owner, name, amount) VALUES (4, 'new', 9.5);
UPDATE carts SET amount = amount + 1 WHERE owner = 1;
";
const TABLES: [&str; 4] = [
    "CREATE TABLE people (id BIGINT PRIMARY KEY, name TEXT NOT NULL, age BIGINT)",
    "CREATE TABLE carts (owner BIGINT NOT NULL REFERENCES people (id), name TEXT NOT NULL, amount DOUBLE PRECISION, \
     PRIMARY KEY (owner, name))",
    "INSERT INTO people VALUES (1, 'Ada', 36), (2, 'Bob', 50), (3, 'Cyd', NULL)",
    "INSERT INTO carts VALUES (1, 'a', 1.5), (1, 'b', NULL), (3, 'c', 2.25)",
];

async fn serve(backend: &Backend) -> (Server, Api) {
    let files = [("change.yaml", CHANGE), ("sql/change.sql", SQL)];
    let opened = shop::open(backend, "shop", &files).await;
    for statement in TABLES {
        backend.tamper(statement).await;
    }
    opened
}

/// What a command prints.
fn cli(server: &Server, args: &[&str]) -> String {
    let mut command = std::process::Command::new(program());
    command
        .args(args)
        .env("SWITCHBACK_URL", format!("http://{}", server.address()))
        .env("SWITCHBACK_TOKEN", ADMIN);
    let done = command.output().unwrap();
    let (out, error) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    format!("{out}{error}")
}

async fn play(api: &Api, fail: bool) -> Value {
    shop::play(api, "change", &json!({"fail": fail})).await
}

async fn undo(api: &Api, run: &Value, force: bool) -> Value {
    let path = format!("/api/v1/runs/{}/undo", run["run"]["id"].as_str().unwrap());
    let started =
        api.post(&path, json!({"reason": "it was the wrong moment", "force": force})).await;
    shop::end_of(api, &started).await
}

/// Every row of both tables.
async fn rows(backend: &Backend) -> String {
    let list =
        if backend.database_url.is_empty() { "group_concat(q, '|')" } else { "string_agg(q, '|')" };
    let of = |select: &str| format!("SELECT COALESCE({list}, '') FROM (SELECT {select}) AS x");
    let text = |column: &str| format!("COALESCE(CAST({column} AS TEXT), '-')");
    let people =
        of(&format!("{} || name || {} AS q FROM people ORDER BY id", text("id"), text("age")));
    let carts = of(&format!(
        "{} || name || {} AS q FROM carts ORDER BY owner, name",
        text("owner"),
        text("amount")
    ));
    format!("{} {}", backend.ask(&people).await, backend.ask(&carts).await)
}

/// Every flag's state, without the revisions.
async fn flags(api: &Api) -> Vec<Value> {
    let page = api.get("/api/v1/environments/staging/flags?limit=100").await;
    let states = page["items"].as_array().unwrap().iter();
    states.map(|flag| json!([flag["key"], flag["state"]])).collect()
}

on_both! {
    async fn a_finished_run_is_taken_back_and_so_is_that(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let (rows_before, flags_before) = (rows(&backend).await, flags(&api).await);

        let done = play(&api, false).await;
        let (rows_after, flags_after) = (rows(&backend).await, flags(&api).await);
        let undone = undo(&api, &done, false).await;
        let (rows_back, flags_back) = (rows(&backend).await, flags(&api).await);
        let redone = undo(&api, &undone, false).await;

        assert_eq!(done["state"], "succeeded", "{done}");
        assert_eq!(undone["state"], "succeeded", "{undone}");
        assert_ne!(rows_before, rows_after);
        assert_ne!(flags_before, flags_after);
        assert_eq!((rows_back, flags_back), (rows_before, flags_before), "do, then undo, changes nothing");
        assert_eq!(redone["state"], "succeeded", "{redone}");
        assert_eq!((rows(&backend).await, flags(&api).await), (rows_after, flags_after), "an undo is a run like any other");
        let kinds: Vec<&str> = undone["plan"]["steps"].as_array().unwrap().iter().map(|step| step["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["incident.withdraw", "flag.restore", "sql.restore", "flag.restore", "flag.ack"]);
        let incident = done["incidents"][0].as_str().unwrap();
        assert_eq!(api.get(&format!("/api/v1/incidents/{incident}")).await["status"], "resolved");
    }

    async fn a_failed_run_puts_rows_back_by_itself(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let before = rows(&backend).await;

        let run = play(&api, true).await;

        assert_eq!(run["state"], "compensated", "{run}");
        assert_eq!(rows(&backend).await, before);
    }

    async fn what_somebody_changed_since_is_left_alone_unless_forced(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let before = rows(&backend).await;
        let done = play(&api, false).await;
        backend.tamper("UPDATE people SET age = 37 WHERE id = 2").await;
        backend.tamper("INSERT INTO people VALUES (3, 'Cyd the second', 1)").await;

        let preview = api.post(&format!("/api/v1/runs/{}/undo/preview", done["run"]["id"].as_str().unwrap()), json!({})).await;
        let refused = undo(&api, &done, false).await;
        let forced = undo(&api, &done, true).await;

        let warned = "2 rows were changed by somebody else since, and left alone: people 2; people 3";
        assert!(preview.to_string().contains(warned), "{preview}");
        assert_eq!(refused["state"], "compensated", "{refused}");
        assert!(refused.to_string().contains(warned), "{refused}");
        assert_eq!(forced["state"], "succeeded", "{forced}");
        assert_eq!(rows(&backend).await, before);
    }

    async fn a_flag_that_somebody_changed_since_is_left_alone(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let done = play(&api, false).await;
        let off = json!({"enabled": false, "reason": "a person did this"});
        api.put("/api/v1/environments/staging/flags/auth_rollout/enabled", off).await;

        let refused = undo(&api, &done, false).await;

        assert_eq!(refused["state"], "compensated", "{refused}");
        assert!(refused.to_string().contains("`auth_rollout` was changed by somebody else"), "{refused}");
    }

    /// A dry run really tries its scripts, and leaves neither a row nor a table nor a line in any log.
    async fn a_thousand_dry_runs_change_nothing(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let count = |table: &str| format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table}");
        let tables = if backend.database_url.is_empty() {
            "SELECT group_concat(name) FROM (SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name)"
        } else {
            "SELECT string_agg(schemaname || tablename, ',' ORDER BY schemaname, tablename) FROM pg_tables"
        };
        let state = async || {
            let mut seen = vec![rows(&backend).await, backend.ask(tables).await];
            for table in ["rollback_log", "change_log", "playbook_runs", "incidents", "notices", "preserved"] {
                seen.push(backend.ask(&count(table)).await);
            }
            (seen, flags(&api).await)
        };
        let before = state().await;

        for _ in 0..1_000 {
            let body = json!({"environment": "staging", "reason": "to see it", "inputs": {"fail": false}});
            let preview = api.post("/api/v1/playbooks/change/preview", body).await;
            assert!(preview.to_string().contains("7 rows would change"), "{preview}");
        }

        assert_eq!(state().await, before);
    }

    async fn the_inverse_is_a_file_that_people_can_keep(backend: Backend) {
        let (server, api) = serve(&backend).await;
        let early = api.send(Method::GET, "/api/v1/playbooks/change/inverse?environment=staging", None).await;
        assert_eq!(early.status, StatusCode::CONFLICT, "{}", early.body);
        let done = play(&api, false).await;
        let file = backend.folder.path().join("back.yaml");
        let path = file.display().to_string();

        let wrote = cli(&server, &["playbook", "invert", "change", "--env", "staging", "--out", &path]);
        let lint = cli(&server, &["playbook", "lint", &path]);
        let dry = cli(&server, &["playbook", "undo", done["run"]["id"].as_str().unwrap(), "--dry-run"]);
        let ran = cli(&server, &["playbook", "undo", done["run"]["id"].as_str().unwrap(), "--reason", "wrong moment"]);

        assert!(wrote.contains("takes back run run_"), "{wrote}");
        assert!(lint.contains("is good"), "{lint}");
        assert!(dry.contains("nothing is changed") && dry.contains("Give auth_rollout back the state it had"), "{dry}");
        assert!(ran.contains("succeeded in"), "{ran}");
    }
}
