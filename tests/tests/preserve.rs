//! Rows that must not get lost: measured before a run, compared after it, named when they are gone.

use std::time::Duration;

use serde_json::{Value, json};
use switchback_tests::{Api, Backend, Server, on_both, shop};

/// Deletes what it is told, under the eyes of several rules.
const CLEAN: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: clean, title: Clean the shop, owner: team-shop}
spec:
  deadline: 1m
  inputs:
    from: {type: string, default: '5'}
    to: {type: string, default: '5'}
  preserve:
    - {id: kept, source: shop, table: receipts, key: id, rule: no_loss, also: {columns_unchanged: [amount], sum_unchanged: amount}}
    - {id: more, source: shop, table: receipts, rule: gte}
    - {id: about, source: shop, table: receipts, rule: delta, max_pct: 50%, on_broken: warn}
  steps:
    - id: other
      sql.exec: {source: shop, sql: DELETE FROM carts, undo: INSERT INTO carts VALUES ('cart')}
    - id: clean
      if: inputs.to != '0'
      sql.exec:
        source: shop
        sql: DELETE FROM receipts WHERE id >= CAST($1 AS BIGINT) AND id <= CAST($2 AS BIGINT)
        params: ['${{ inputs.from }}', '${{ inputs.to }}']
        undo: SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT)
";
const FILL: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
                    INSERT INTO receipts SELECT i, i * 2 FROM n";

async fn serve(backend: &Backend) -> (Server, Api) {
    let opened = shop::open(backend, "shop", &[("clean.yaml", CLEAN)]).await;
    for statement in [
        "CREATE TABLE receipts (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL)",
        "CREATE TABLE carts (name TEXT PRIMARY KEY)",
        "INSERT INTO carts VALUES ('cart')",
        FILL,
    ] {
        backend.tamper(statement).await;
    }
    opened
}

/// Has `sql` happen in the middle of the next run.
async fn meanwhile(backend: &Backend, sql: &str) {
    backend.tamper("DROP TABLE carts").await;
    backend.tamper("CREATE TABLE carts (name TEXT PRIMARY KEY)").await;
    backend.tamper("INSERT INTO carts VALUES ('cart')").await;
    if backend.database_url.is_empty() {
        backend
            .tamper(&format!("CREATE TRIGGER busy AFTER DELETE ON carts BEGIN {sql}; END"))
            .await;
        return;
    }
    let function = format!(
        "CREATE OR REPLACE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {sql}; RETURN NULL; END $$"
    );
    backend.tamper(&function).await;
    backend
        .tamper("CREATE TRIGGER busy AFTER DELETE ON carts FOR EACH ROW EXECUTE FUNCTION busy()")
        .await;
}

async fn play(api: &Api, from: &str, to: &str) -> Value {
    shop::play(api, "clean", &json!({"from": from, "to": to})).await
}

/// The rows of the log about one rule.
fn about<'r>(run: &'r Value, rule: &str) -> Vec<&'r Value> {
    let id = format!("preserve.{rule}");
    run["log"].as_array().unwrap().iter().filter(|row| row["step_id"] == json!(id)).collect()
}

on_both! {
    async fn rows_that_a_run_loses_are_named_and_the_rest_is_put_back(backend: Backend) {
        let (_server, api) = serve(&backend).await;

        let run = play(&api, "1001", "1003").await;

        assert_eq!(run["state"], "compensate_failed", "lost rows cannot be invented again");
        let looks = about(&run, "kept");
        let phases: Vec<&str> = looks.iter().map(|row| row["phase"].as_str().unwrap()).collect();
        assert_eq!(phases, ["done", "unverified", "unverified"]);
        assert_eq!(looks[0]["detail"]["rows"], 3_000);
        assert_eq!(looks[1]["detail"]["missing"], json!({"count": 3, "names": ["1001", "1002", "1003"]}));
        let says = looks[1]["detail"]["says"].as_str().unwrap();
        assert!(says.contains("3 rows are lost: 1001, 1002, 1003"), "{says}");
        assert!(says.contains("the sum of amount was 9003000 and is 8996988"), "{says}");
        assert_eq!(backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM carts").await, "1", "the other step was taken back");
    }

    async fn new_rows_are_no_loss_and_changed_ones_are(backend: Backend) {
        let (_server, api) = serve(&backend).await;

        let quiet = play(&api, "0", "0").await;
        // What happens when the step deletes the cart stands for people who go on working.
        meanwhile(&backend, "INSERT INTO receipts VALUES (9001, 0), (-5, 0)").await;
        let busy = play(&api, "0", "0").await;
        meanwhile(&backend, "UPDATE receipts SET amount = 7 WHERE id = 17").await;
        let changed = play(&api, "0", "0").await;

        assert_eq!(quiet["state"], "succeeded", "{quiet}");
        assert_eq!(busy["state"], "succeeded", "{busy}");
        assert_eq!(about(&busy, "kept")[1]["detail"]["rows"], 3_002);
        let says = about(&changed, "kept")[1]["detail"]["says"].as_str().unwrap().to_owned();
        assert!(says.contains("1 row is changed: 17"), "{says}");
    }

    async fn a_table_that_cannot_be_looked_at_stops_the_run_before_its_first_step(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        backend.tamper("DROP TABLE receipts").await;

        let run = play(&api, "1", "1").await;

        assert_eq!(run["state"], "failed");
        let error = about(&run, "kept")[0]["detail"]["error"].as_str().unwrap().to_owned();
        assert_eq!(error, "data source `shop`: there is no table receipts, or it may not be read");
        assert_eq!(backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM carts").await, "1", "no step was started");
    }
}

/// Deletes one row of each kind of table.
const KINDS: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: clean, title: Clean all of them, owner: team-shop}
spec:
  deadline: 1m
  preserve:
    - {id: smalls, source: shop, table: smalls, key: id, rule: no_loss}
    - {id: uuids, source: shop, table: other.uuids, key: id, rule: no_loss}
    - {id: parents, source: shop, table: parents, key: id, rule: no_loss}
    - {id: parts, source: shop, table: parts, key: id, rule: no_loss}
    - {id: seen, source: shop, table: seen, key: id, rule: no_loss}
    - {id: words, source: shop, table: words, key: id, rule: no_loss}
  steps:
    - {id: one, sql.exec: {source: shop, sql: DELETE FROM smalls WHERE id = 7, undo: SELECT 1}}
    - {id: two, sql.exec: {source: shop, sql: \"DELETE FROM other.uuids WHERE id = '00000000-0000-0000-0000-000000000007'\", undo: SELECT 1}}
    - {id: three, sql.exec: {source: shop, sql: DELETE FROM children WHERE id = 7, undo: SELECT 1}}
    - {id: four, sql.exec: {source: shop, sql: DELETE FROM parts WHERE id = 1007, undo: SELECT 1}}
    - {id: five, sql.exec: {source: shop, sql: DELETE FROM words WHERE id = 'w7', undo: SELECT 1}}
";

/// PostgreSQL has many kinds of tables and keys: each row counts in each of them, those on blocks behind a hole included.
#[tokio::test]
async fn rows_of_every_kind_of_table_are_known() {
    let backend = Backend::postgres().await;
    let (_server, api) = shop::open(&backend, "shop", &[("clean.yaml", KINDS)]).await;
    for statement in [
        "CREATE TABLE smalls (id SMALLINT PRIMARY KEY, filler TEXT NOT NULL)",
        "INSERT INTO smalls SELECT n, repeat('x', 2000) FROM generate_series(1, 9000) AS n",
        "DELETE FROM smalls WHERE id BETWEEN 100 AND 8000",
        "CREATE VIEW seen AS SELECT id FROM smalls",
        "CREATE SCHEMA other",
        "CREATE TABLE other.uuids (id UUID PRIMARY KEY)",
        "INSERT INTO other.uuids SELECT lpad(n::text, 32, '0')::uuid FROM generate_series(1, 3000) AS n",
        "CREATE TABLE parents (id INT PRIMARY KEY)",
        "CREATE TABLE children () INHERITS (parents)",
        "INSERT INTO parents SELECT generate_series(5000, 5010)",
        "INSERT INTO children SELECT generate_series(1, 3000)",
        "CREATE TABLE parts (id BIGINT PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (1000)",
        "CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (1000) TO (9000)",
        "INSERT INTO parts SELECT generate_series(1, 3000)",
        "CREATE TABLE words (id TEXT PRIMARY KEY)",
        "INSERT INTO words SELECT 'w' || n FROM generate_series(1, 3000) AS n",
    ] {
        backend.tamper(statement).await;
    }

    let run = shop::play(&api, "clean", &json!({})).await;

    for (rule, rows, lost) in [
        ("smalls", 1_099, "7"),
        ("uuids", 3_000, "00000000-0000-0000-0000-000000000007"),
        ("parents", 3_011, "7"),
        ("parts", 3_000, "1007"),
        ("seen", 1_099, "7"),
        ("words", 3_000, "w7"),
    ] {
        let looks = about(&run, rule);
        assert_eq!(looks[0]["detail"]["rows"], rows, "{rule}");
        assert_eq!(looks[1]["detail"]["missing"], json!({"count": 1, "names": [lost]}), "{rule}");
    }
}

/// A mistake in a rule is told with its place, before anybody needs it.
#[tokio::test]
async fn mistakes_in_rules_are_told() {
    let server = Server::start(&Backend::sqlite());
    let api = server.api();
    let lint = async |rule: &str| {
        let text = CLEAN.replace("{id: more, source: shop, table: receipts, rule: gte}", rule);
        let found = api.post("/api/v1/playbooks/lint", json!({"text": text})).await;
        let problems = found["problems"].as_array().unwrap().clone();
        problems.first().map(|one| {
            format!(
                "{}: {} ({})",
                one["line"],
                one["message"].as_str().unwrap(),
                one["hint"].as_str().unwrap_or_default()
            )
        })
    };

    assert_eq!(lint("{id: more, source: shop, table: receipts, rule: gte}").await, None);
    let missing = lint("{id: more, source: shop, table: receipts, rule: no_loss}").await.unwrap();
    assert!(missing.starts_with("11: `key` is missing"), "{missing}");
    let unknown =
        lint("{id: more, source: shop, table: receipts, rule: no_los, key: id}").await.unwrap();
    assert!(
        unknown.contains("`no_los` is not a choice here") && unknown.contains("no_loss"),
        "{unknown}"
    );
    let strange = lint("{id: more, source: shop, table: 'a;b.c.d', rule: gte}").await.unwrap();
    assert!(strange.contains("is not a table's name"), "{strange}");
    let foreign =
        lint("{id: more, source: shop, table: receipts, rule: gte, max_rows: 3}").await.unwrap();
    assert!(foreign.contains("`max_rows` belongs to the rule `delta`"), "{foreign}");
}

const MILLION: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: loses, title: Among a million, owner: team-shop}
spec:
  deadline: 5m
  preserve: [{id: kept, source: shop, table: receipts, key: id, rule: no_loss, also: {columns_unchanged: [amount]}}]
  steps:
    - id: some
      sql.exec: {source: shop, sql: 'DELETE FROM receipts WHERE id IN (IDS)', undo: SELECT 1}
";
const ROWS: u64 = 1_000_000;

/// Scattered keys, each once: an odd number times another, in 32 bits.
fn scattered(row: u64) -> u64 {
    (row * 2_654_435_761) % 4_294_967_296
}

async fn million(backend: &Backend, lost: &[u64]) -> (Server, Api) {
    let ids: Vec<String> = lost.iter().map(u64::to_string).collect();
    let text = MILLION.replace("IDS", &ids.join(", "));
    let files = [("loses.yaml", text.as_str())];
    let opened = shop::open(backend, "shop", &files).await;
    backend.tamper("CREATE TABLE receipts (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL)").await;
    let fill = format!(
        "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) \
         INSERT INTO receipts SELECT (i * 2654435761) % 4294967296, i FROM n"
    );
    backend.tamper(&fill).await;
    opened
}

/// Runs the playbook while others insert rows, below, between and above those that are there. Tells how many.
async fn amid_inserts(backend: &Backend, api: &Api) -> (Value, u64) {
    let body = json!({"environment": "staging", "reason": "rows come and go"});
    let run = api.post("/api/v1/playbooks/loses/runs", body).await;
    let path = format!("/api/v1/runs/{}", run["id"].as_str().unwrap());
    let mut row = 0;
    loop {
        for _ in 0..10 {
            row += 1;
            let id = match row % 3 {
                0 => format!("-{row}"),
                1 => (4_294_967_296 + row).to_string(),
                _ => scattered(ROWS + row).to_string(),
            };
            backend.tamper(&format!("INSERT INTO receipts VALUES ({id}, 0)")).await;
        }
        let detail = api.get(&path).await;
        if detail["run"]["finished_at"].is_number() {
            return (detail, row);
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // others have pauses too
    }
}

on_both! {
    /// Each of a handful of lost rows is named among a million while others insert, and none that is still there.
    async fn every_lost_row_of_a_million_is_named(backend: Backend) {
        let seed = u64::from(std::process::id());
        let mut lost: Vec<u64> =
            (0..40).map(|n| scattered(1 + (seed * 7_919 + n * 104_729 * (n + seed)) % ROWS)).collect();
        lost.sort_unstable();
        lost.dedup();
        let (_server, api) = million(&backend, &lost).await;

        let running = amid_inserts(&backend, &api);
        let running = tokio::time::timeout(Duration::from_mins(2), running).await;
        let (run, inserted) = running.expect("the run ends");

        assert!(inserted > 10, "rows were inserted meanwhile");
        assert_eq!(run["state"], "compensate_failed", "seed {seed}");
        let missing = &about(&run, "kept")[1]["detail"]["missing"];
        let mut named: Vec<u64> =
            missing["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().parse().unwrap()).collect();
        named.sort_unstable();
        assert_eq!(missing["count"], json!(lost.len()), "seed {seed}");
        assert_eq!(named, lost, "seed {seed}");
        assert!(about(&run, "kept")[0]["detail"]["rows"].as_u64().unwrap() >= ROWS);
    }
}
