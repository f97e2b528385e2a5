//! Consistency checks: a pack that has found people, a repair before it starts, and one that is over.

use std::path::Path;

use serde_json::json;
use switchback_tests::browser::Browser;
use switchback_tests::{Backend, Server, eventually, people};

use crate::shoot;

/// The data source is there already: the shop's.
pub async fn pages(browser: &Browser, server: &Server, backend: &Backend, folder: &Path) {
    let api = server.api();
    people::make(backend, &api).await;
    people::set(&api, json!({"source": "shop", "mode": "observe"})).await;
    api.post("/api/v1/checks/people/run", json!({})).await;
    let base = format!("{}/ui/checks", server.url);
    shoot(browser, &base, folder, "checks").await;
    shoot(browser, &format!("{base}/people"), folder, "checks-pack").await;
    shoot(browser, &format!("{base}/people/findings"), folder, "findings").await;
    let one = format!("{base}/people/finding?check=profile_missing&key=3");
    shoot(browser, &one, folder, "finding").await;
    shoot(browser, &format!("{base}/people/repair"), folder, "repair").await;
    shoot(browser, &format!("{base}/people/text"), folder, "checks-text").await;
    let wish = json!({"dry_run": false, "reason": "the doors open at eight"});
    let answer = api.post("/api/v1/checks/people/backfill", wish).await;
    let id = answer["run"]["id"].as_str().unwrap();
    eventually("the repair is over", || async {
        let run = api.get(&format!("/api/v1/repair-runs/{id}")).await;
        run["finished_at"].is_number().then_some(())
    })
    .await;
    shoot(browser, &format!("{}/ui/repairs/{id}", server.url), folder, "repair-run").await;
}
