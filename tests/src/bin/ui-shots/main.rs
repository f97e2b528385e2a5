//! Screenshots of the console and the status page, from a server with live clients, so that the
//! pictures in the documents never lie. `cargo xtask ui-shots [DIR]`

mod checks;
mod data;
mod status;
mod telling;

use std::path::{Path, PathBuf};

use serde_json::json;
use switchback_sdk::{Context, Switchback};
use switchback_tests::browser::{Browser, Look};
use switchback_tests::server::SERVER;
use switchback_tests::{Api, Backend, Server, eventually};

const APPS: [(&str, &str, &str); 5] = [
    ("shop-ios", "3.2.1", "ios"),
    ("shop-android", "3.2.0", "android"),
    ("shop-web", "2026.11.2", "web"),
    ("checkout", "1.8.0", "server"),
    ("accounts", "4.0.3", "server"),
];
const CLIENTS: usize = 60;
/// A desk and a phone, light and dark: the file's ending, width, height, dark.
const LOOKS: [(&str, u32, u32, bool); 4] = [
    ("light", 1280, 900, false),
    ("dark", 1280, 900, true),
    ("phone", 390, 844, false),
    ("phone-dark", 390, 844, true),
];
/// A playbook with a step that takes a second person.
const ASKED: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: session-reset, title: End the old sign-in, owner: team-auth, description: Takes the old sign-in away for good.}
spec:
  deadline: 10m
  steps:
    - id: off
      title: Take the new sign-in away
      danger: true
      approve: {roles: [admin], min: 1, timeout: 5m, on_timeout: stop, message: Take the new sign-in away from everybody?}
      flag.set: {key: auth_rollout, value: false}
    - id: told
      title: Every client knows
      flag.ack: {at_least: 99%, within: 10s}
";

#[tokio::main]
async fn main() {
    let folder =
        std::env::args().nth(1).map_or_else(|| PathBuf::from("docs/screenshots"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    let backend = Backend::sqlite();
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir(&runbooks).unwrap();
    std::fs::write(runbooks.join("session-reset.yaml"), ASKED).unwrap();
    std::fs::write(runbooks.join("cancel-unpaid.yaml"), data::PLAYBOOK).unwrap();
    let (runbooks, shop) = (runbooks.display().to_string(), backend.address());
    let variables = [("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()), ("SHOP_DATABASE_URL", &shop)];
    let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
    been_there(&backend).await;
    let clients = connect(&server).await;
    fill(&server.api()).await;
    for client in &clients {
        for user in 0..40 {
            let id = format!("user-{user}");
            let user = Context::new().user_id(id.as_str()).groups(["beta"]).platform("ios");
            client.auth_mode(&user);
            client.is_enabled("new_checkout", &user);
        }
    }

    let browser = Browser::start().await;
    browser.sign_in(&server).await;
    let calm = [
        ("overview", ""),
        ("flags", "/flags"),
        ("flags-bulk", "/flags?bulk=turn_off&flag=auth_rollout&flag=image_cdn"),
        ("flag", "/flags/new_checkout"),
        (
            "try",
            "/flags/new_checkout?tab=try&asked=1&user_id=user-7&platform=ios&groups=beta&scope=all",
        ),
        ("history", "/flags/auth_rollout?tab=history"),
        ("clients", "/clients"),
    ];
    let alarmed = [
        ("alerts", "/alerts"),
        ("alert-rule", "/alert-rules/login_failures"),
        ("playbooks", "/playbooks"),
        ("playbook", "/playbooks/auth-rollback"),
        ("watch", "/watch"),
        ("sessions", "/watch/sessions"),
        ("sessions-revoke", "/watch/sessions?platform=ios&revoke=yes"),
        ("log", "/log"),
        ("segment", "/segments/staff"),
    ];
    let address = |page: &str| format!("{}/ui/production{page}", server.url);
    for (name, page) in calm {
        shoot(&browser, &address(page), &folder, name).await;
    }
    data::alerts(&server).await;
    for (name, page) in alarmed {
        shoot(&browser, &address(page), &folder, name).await;
    }
    for page in ["tokens", "people", "projects", "environments"] {
        shoot(&browser, &format!("{}/ui/settings/{page}", server.url), &folder, page).await;
    }

    let seen = server.api().get("/api/v1/environments/production/clients?limit=1").await;
    let client = seen["items"][0]["id"].as_str().unwrap();
    shoot(&browser, &format!("{}/ui/production/clients/{client}", server.url), &folder, "client")
        .await;
    edit(&browser, &server, &folder).await;
    let body = json!({"environment": "production", "reason": "tokens of the old sign-in are out"});
    let run = server.api().post("/api/v1/playbooks/session-reset/runs", body).await;
    let url = format!("{}/ui/production/runs/{}", server.url, run["id"].as_str().unwrap());
    browser.open(&url).await;
    browser.see("#run-state", "Waits").await;
    shoot(&browser, &url, &folder, "approval").await;
    browser.hold_until("#cancel-hold", "/runs/").await;
    browser.open(&url).await;

    let body = json!({"environment": "production", "reason": "Sign-in fails for one user in three since 14:02"});
    let run = server.api().post("/api/v1/playbooks/auth-rollback/runs", body).await;
    let id = run["id"].as_str().unwrap().to_owned();
    eventually("the run ends", || async {
        let detail = server.api().get(&format!("/api/v1/runs/{id}")).await;
        detail["run"]["finished_at"].is_number().then_some(())
    })
    .await;
    shoot(&browser, &format!("{}/ui/production/runs/{id}", server.url), &folder, "run").await;
    shoot(&browser, &format!("{}/ui/production", server.url), &folder, "overview-incident").await;
    shoot(&browser, &format!("{}/ui/production/incidents", server.url), &folder, "incidents").await;
    shoot(&browser, &format!("{}/status", server.url), &folder, "status").await;
    data::pages(&browser, &server, &backend, &folder).await;
    checks::pages(&browser, &server, &backend, &folder).await;
    status::pages(&browser, &folder).await;
    telling::pages(&browser, &folder).await;
    browser.quit().await;
    drop(clients);
}

/// Makes the administrator one who was here three hours ago, before anybody changed anything.
async fn been_there(backend: &Backend) {
    for sql in [
        "UPDATE change_log SET at = at - 14400000",
        "INSERT INTO visits (user_id, environment, seen_at) SELECT id, 'production', created_at - 10800000 FROM users",
    ] {
        backend.tamper(sql).await;
    }
}

/// The rules with unsaved changes, tried on contexts that asked before.
async fn edit(browser: &Browser, server: &Server, folder: &Path) {
    let flag = "/api/v1/environments/production/flags/search_ranking";
    let seen = server.api().get(flag).await["revision"].clone();
    let variants = json!([
        {"name": "bought", "weight": 50, "overrides": [{"field": "user_id", "values": ["ada", "grace"]}]},
        {"name": "clicked", "weight": 50}]);
    let state = json!({"enabled": true, "variants": variants, "rules": [
        {"id": "web", "platforms": ["web"], "percent": 10}, {"id": "rest", "percent": 1}]});
    let body = json!({"state": state, "revision": seen, "reason": "a first look"});
    server.api().put(&format!("{flag}/state"), body).await;
    for n in 0..400 {
        let context = json!({"user_id": format!("user-{n}"), "platform": "web"});
        server.api().post(&format!("{flag}/explain"), context).await;
    }
    for (suffix, width, height, dark) in LOOKS {
        browser.look(Look { width, height, dark }).await;
        browser.open(&format!("{}/ui/production/flags/search_ranking", server.url)).await;
        browser.fill("#rule-0-percent", "50").await;
        browser.see("#moved", "would change").await;
        browser.shoot(&folder.join(format!("rules-{suffix}.png"))).await;
    }
}

async fn connect(server: &Server) -> Vec<Switchback> {
    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        let (app, version, platform) = APPS[index % APPS.len()];
        let client = Switchback::builder()
            .url(&server.url)
            .token(SERVER)
            .app(app)
            .app_version(version)
            .platform(platform)
            .instance(format!("{app}-{}", index / APPS.len()))
            .report_every(std::time::Duration::from_millis(300))
            .build();
        clients.push(client.await.unwrap());
    }
    clients
}

async fn fill(api: &Api) {
    let prod = "/api/v1/environments/production";
    let staff = json!({"key": "staff", "name": "Staff", "constraints": [
        {"field": "email", "operator": "STR_ENDS_WITH", "values": ["@example.com"], "case_insensitive": true}]});
    api.put(
        &format!("{prod}/segments/staff"),
        json!({"segment": staff, "revision": 0, "reason": "for dogfooding"}),
    )
    .await;
    for (key, kind, text) in [
        ("new_checkout", "release", "The checkout with saved addresses"),
        ("search_ranking", "experiment", "Ranks results by what people bought"),
        ("image_cdn", "operational", "Serves pictures from the second network"),
        ("refunds", "permission", "Who may refund without asking"),
    ] {
        api.post("/api/v1/flags", json!({"key": key, "kind": kind, "description": text, "owner": "team-shop", "tags": ["shop"]})).await;
    }
    let state = json!({"enabled": true, "rules": [
        {"id": "staff", "title": "Staff first", "segments": ["staff"]},
        {"id": "beta", "platforms": ["ios", "android"], "groups": ["beta"], "percent": 25}]});
    let seen = api.get(&format!("{prod}/flags/new_checkout")).await["revision"].clone();
    api.put(
        &format!("{prod}/flags/new_checkout/state"),
        json!({"state": state, "revision": seen, "reason": "a quarter of the testers"}),
    )
    .await;
    api.put(
        &format!("{prod}/flags/image_cdn/enabled"),
        json!({"enabled": true, "reason": "the second network is up"}),
    )
    .await;
    for percent in [1, 10, 25] {
        let body = json!({"percent": percent, "reason": format!("step to {percent} %")});
        api.put(&format!("{prod}/flags/auth_rollout/rollout"), body).await;
    }
}

async fn shoot(browser: &Browser, url: &str, folder: &Path, name: &str) {
    for (suffix, width, height, dark) in LOOKS {
        browser.look(Look { width, height, dark }).await;
        browser.open(url).await;
        browser.find("body").await;
        browser.shoot(&folder.join(format!("{name}-{suffix}.png"))).await;
    }
}
