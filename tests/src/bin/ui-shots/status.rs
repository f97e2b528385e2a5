//! The status page of a shop with a past: groups, planned work, an incident that is open and one that taught something.

use std::path::Path;

use serde_json::json;
use switchback_tests::browser::{Browser, Look};
use switchback_tests::{Backend, Server};

use super::{LOOKS, shoot};

const DAY_MS: i64 = 86_400_000;
/// Days ago, hours that it took, the component, how it was.
const PAST: [(i64, i64, &str, &str); 9] = [
    (71, 2, "web", "degraded_performance"),
    (64, 1, "payments", "partial_outage"),
    (52, 3, "web", "under_maintenance"),
    (40, 1, "api", "degraded_performance"),
    (33, 4, "payments", "major_outage"),
    (32, 1, "payments", "degraded_performance"),
    (18, 1, "auth", "partial_outage"),
    (9, 2, "web", "partial_outage"),
    (3, 1, "api", "degraded_performance"),
];

/// Fills a server of its own, and takes pictures of its pages from top to bottom.
pub async fn pages(browser: &Browser, folder: &Path) {
    let backend = Backend::sqlite();
    let variables = [
        ("SWITCHBACK_STATUS__TITLE", "Northwind"),
        ("SWITCHBACK_STATUS__LINKS", "Docs=https://docs.example.com,Shop=https://example.com"),
        ("SWITCHBACK_STATUS__SUPPORT_URL", "https://example.com/help"),
        ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8"),
    ];
    let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
    let (past, open) = fill(&server, &backend).await;
    let base = format!("{}/status", server.url);
    let pages = [
        (base.clone(), "status-page", 1_900),
        (format!("{base}/incidents/{open}"), "status-incident", 700),
        (format!("{base}/incidents/{past}"), "status-learned", 900),
        (format!("{base}/history"), "status-history", 1_200),
    ];
    for (url, name, height) in pages {
        for (suffix, width, _, dark) in LOOKS {
            let height = if width < 600 { height + height / 3 } else { height };
            browser.look(Look { width, height, dark }).await;
            browser.open(&url).await;
            browser.find("main").await;
            browser.shoot(&folder.join(format!("{name}-{suffix}.png"))).await;
        }
    }
    browser.look(switchback_tests::browser::WIDE).await;
    browser.sign_in(&server).await;
    for name in ["components", "uptime"] {
        shoot(browser, &format!("{}/ui/settings/{name}", server.url), folder, name).await;
    }
}

async fn fill(server: &Server, backend: &Backend) -> (String, String) {
    let api = server.api();
    for (key, name, position) in [("shop", "Shop", 0), ("platform", "Platform", 1)] {
        api.put(
            &format!("/api/v1/component-groups/{key}"),
            json!({"name": name, "position": position}),
        )
        .await;
    }
    for (key, name, group, what) in [
        ("app", "Mobile apps", "shop", ""),
        ("web", "Web shop", "shop", ""),
        ("payments", "Payments", "shop", "Cards, invoices and refunds."),
        ("api", "API", "platform", "api.northwind.example"),
    ] {
        let body = json!({"name": name, "group": group, "description": what, "position": 3});
        api.put(&format!("/api/v1/components/{key}"), body).await;
    }
    let now = api.get("/status/board.json").await["board"]["read_at"].as_i64().unwrap();
    backend.tamper("DELETE FROM component_states").await;
    let remember = async |component: &str, at: i64, state: &str| {
        let row = format!("('{component}', {at}, '{state}')");
        backend
            .tamper(&format!("INSERT INTO component_states (component, at, status) VALUES {row}"))
            .await;
    };
    for (component, days) in
        [("auth", 120), ("app", 120), ("web", 120), ("payments", 120), ("api", 75)]
    {
        remember(component, now - days * DAY_MS, "operational").await;
    }
    for (days, hours, component, state) in PAST {
        let at = now - days * DAY_MS;
        remember(component, at, state).await;
        remember(component, at + hours * 3_600_000, "operational").await;
    }
    let over = json!({"name": "Search was slow", "impact": "minor", "body": "Searches take up to ten seconds. We are looking into it."});
    let past = api.post("/api/v1/incidents", over).await["id"].as_str().unwrap().to_owned();
    let body = json!({"status": "resolved", "body": "An index was missing after the release of this morning. It is back, and searches take 40 ms again."});
    api.post(&format!("/api/v1/incidents/{past}/updates"), body).await;
    let body = json!({"publish": true, "body": "A migration dropped an index that the search needs, and no test asked for it.\n\nThe plans of the ten busiest queries are now compared before each release."});
    api.put(&format!("/api/v1/incidents/{past}/postmortem"), body).await;
    let yesterday = now - DAY_MS;
    backend
        .tamper(&format!(
            "UPDATE incidents SET created_at = {yesterday}, resolved_at = {} WHERE id = '{past}'",
            yesterday + 2_400_000
        ))
        .await;
    let planned = json!({"name": "Database upgrade", "impact": "maintenance", "status": "scheduled", "body": "We move to a newer database. You may have to sign in again once."});
    let planned = api.post("/api/v1/incidents", planned).await["id"].as_str().unwrap().to_owned();
    let (from, until) = (now + 2 * DAY_MS, now + 2 * DAY_MS + 7_200_000);
    backend
        .tamper(&format!("UPDATE incidents SET scheduled_for = {from}, scheduled_until = {until} WHERE id = '{planned}'"))
        .await;
    let open = json!({"name": "Payments fail for some cards", "impact": "major", "components": {"payments": "partial_outage"},
        "body": "About one payment in five fails. Nobody is charged twice.\nWe write again within 20 minutes."});
    let open = api.post("/api/v1/incidents", open).await["id"].as_str().unwrap().to_owned();
    let body = json!({"status": "identified", "body": "The cause is at our card processor. Payments go through a second one now."});
    api.post(&format!("/api/v1/incidents/{open}/updates"), body).await;
    let probe = |name: &str, component: &str, check: serde_json::Value| json!({"settings": {"name": name, "component": component, "check": check}});
    let own = json!({"kind": "http", "url": format!("{}/healthz", server.url), "text": "ok"});
    let port = json!({"kind": "tcp", "address": server.address()});
    api.put("/api/v1/probes/shop-front", probe("shop-front", "web", own)).await;
    api.put("/api/v1/probes/api-port", probe("api-port", "api", port)).await;
    (past, open)
}
