//! A shop's database, for the pages that are about data: a run that loses rows, one that is taken back, drills, backups.

use std::path::Path;

use serde_json::{Value, json};
use switchback_tests::browser::Browser;
use switchback_tests::server::EVENTS;
use switchback_tests::{Api, Backend, Server, eventually};

use crate::shoot;

/// Cancels orders that were never paid, for a while.
pub const PLAYBOOK: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata:
  name: cancel-unpaid
  title: Cancel orders that were never paid
  owner: team-shop
  description: Unpaid orders hold stock back. Cancels them for two hours, and loses nobody's receipt.
spec:
  deadline: 5m
  drill: {every: 30d, stale: warn}
  inputs:
    lossy: {type: bool, default: false, description: Lose receipts as well}
  preserve:
    - {id: receipts, source: shop, table: receipts, key: id, also: {sum_unchanged: amount}}
    - {id: orders, source: shop, table: orders, rule: gte}
  steps:
    - id: banner
      title: Show the maintenance banner
      flag.set: {key: image_cdn, value: false}
    - id: cancel
      title: Cancel unpaid orders
      expires: 2h
      sql.exec: {source: shop, sql: UPDATE orders SET state = 'cancelled' WHERE state = 'unpaid', snapshot: {table: orders, key: id}}
    - id: lose
      title: Lose receipts
      if: inputs.lossy
      sql.exec: {source: shop, sql: DELETE FROM receipts WHERE id > 1197, undo: SELECT 1}
    - id: known
      title: Wait until the apps have it
      flag.ack: {at_least: 95%, within: 5s, on_timeout: continue}
";

async fn run(api: &Api, lossy: bool) -> Value {
    let body = json!({"environment": "production", "reason": "unpaid orders hold the stock back", "inputs": {"lossy": lossy}});
    let run = api.post("/api/v1/playbooks/cancel-unpaid/runs", body).await;
    let path = format!("/api/v1/runs/{}", run["id"].as_str().unwrap());
    eventually("the run ends", || async {
        let detail = api.get(&path).await;
        detail["run"]["finished_at"].is_number().then_some(detail)
    })
    .await
}

pub async fn pages(browser: &Browser, server: &Server, backend: &Backend, folder: &Path) {
    let api = server.api();
    for statement in [
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, state TEXT NOT NULL)",
        "CREATE TABLE receipts (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) INSERT INTO receipts SELECT i, i FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
         INSERT INTO orders SELECT i, CASE WHEN i % 7 = 0 THEN 'unpaid' ELSE 'paid' END FROM n",
    ] {
        backend.tamper(statement).await;
    }
    let settings = json!({"name": "shop", "credentials": "env:SHOP_DATABASE_URL", "access": "read_write",
        "description": "Orders and receipts", "mirror": "production"});
    api.put("/api/v1/data-sources/shop", json!({"settings": settings})).await;
    let drill = api
        .post("/api/v1/playbooks/cancel-unpaid/drills", json!({"environment": "production"}))
        .await;
    let path = format!("/api/v1/drills/{}", drill["id"].as_str().unwrap());
    eventually("the drill is over", || async {
        api.get(&path).await["finished_at"].is_number().then_some(())
    })
    .await;
    let good = run(&api, false).await;
    let good = good["run"]["id"].as_str().unwrap();
    let base = format!("{}/ui/production", server.url);
    shoot(browser, &format!("{base}/runs/{good}"), folder, "run-data").await;
    shoot(browser, &format!("{base}/runs/{good}/undo"), folder, "undo").await;
    shoot(browser, &format!("{base}/playbooks/cancel-unpaid"), folder, "drills").await;
    let bad = run(&api, true).await;
    let bad = bad["run"]["id"].as_str().unwrap();
    shoot(browser, &format!("{base}/runs/{bad}"), folder, "run-lost").await;
    shoot(browser, &format!("{base}/runs/{bad}/compare?with={good}"), folder, "compare").await;
    let body = json!({"environment": "production", "reason": "before the sale", "inputs": {"source": "shop"}});
    let backup = api.post("/api/v1/playbooks/backup-take/runs", body).await;
    let path = format!("/api/v1/runs/{}", backup["id"].as_str().unwrap());
    eventually("the backup is taken", || async {
        api.get(&path).await["run"]["finished_at"].is_number().then_some(())
    })
    .await;
    let settings = format!("{}/ui/settings/sources", server.url);
    shoot(browser, &settings, folder, "sources").await;
    shoot(browser, &format!("{settings}/shop/backups"), folder, "backups").await;
}

/// A rule that fires, an alert from outside, and a silence.
pub async fn alerts(server: &Server) {
    let api = server.api();
    let prod = "/api/v1/environments/production";
    let source = "kind: AlertRule\nmetadata: {name: renewals, title: Token renewals fail, owner: auth}\nspec:\n  \
                  environments: [production]\n  severity: critical\n  labels: {component: auth}\n  \
                  when: {failure_rate: {of: refresh, above: 10%, window: 5m}}\n  playbook: auth-rollback\n";
    api.put("/api/v1/alert-rules/renewals", json!({"source": source})).await;
    let kind = |n: u32| if n < 14 { "token_refresh_failure" } else { "token_refresh" };
    let batch: Vec<Value> = (0..80)
        .map(|n| json!({"id": format!("shot{n}"), "type": kind(n), "user_id": format!("u{n}")}))
        .collect();
    Api::new(&server.url, EVENTS).post("/api/v1/auth-events", json!(batch)).await;
    eventually("the rule fires", || async {
        let open = api.get(&format!("{prod}/alerts?open=true")).await;
        (!open.as_array()?.is_empty()).then_some(())
    })
    .await;
    let labels =
        json!({"alertname": "DiskFull", "environment": "production", "severity": "warning"});
    let alert = json!({"status": "firing", "labels": labels, "annotations": {"summary": "92 % of /data is used."},
        "startsAt": "2026-02-03T04:05:06Z", "fingerprint": "f1"});
    let message = json!({"version": "4", "status": "firing", "alerts": [alert]});
    api.post("/api/v1/alerts", message).await;
    let silence =
        json!({"rule": "rls_violations", "minutes": 480, "comment": "The new policy is known"});
    api.post("/api/v1/silences", silence).await;
}
