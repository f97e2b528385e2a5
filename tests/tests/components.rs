//! Components, their groups, and the probes that look at them.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::browser::Browser;
use switchback_tests::server::{ADMIN, program};
use switchback_tests::{Api, Backend, Server, eventually, on_both};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const LOOPBACK: (&str, &str) = ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8");

/// A web site on loopback that can go down and come up again on the same port.
struct Site {
    address: String,
    serving: Mutex<Option<JoinHandle<()>>>,
    asked: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let site = Self {
            address,
            serving: Mutex::default(),
            asked: Arc::default(),
            bodies: Arc::default(),
        };
        site.serve(listener);
        site
    }

    fn serve(&self, listener: TcpListener) {
        let (asked, bodies) = (Arc::clone(&self.asked), Arc::clone(&self.bodies));
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 8192];
                let Ok(count @ 1..) = stream.read(&mut request).await else { continue };
                let text = String::from_utf8_lossy(&request[..count]).into_owned();
                asked.fetch_add(1, Ordering::SeqCst);
                bodies.lock().unwrap().push(text);
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 14\r\nconnection: close\r\n\r\nall well here\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        *self.serving.lock().unwrap() = Some(serving);
    }

    async fn down(&self) {
        let serving = self.serving.lock().unwrap().take().unwrap();
        serving.abort();
        let _ = serving.await;
    }

    async fn up(&self) {
        self.serve(TcpListener::bind(&self.address).await.unwrap());
    }

    fn url(&self) -> String {
        format!("http://{}/health", self.address)
    }
}

fn probe(name: &str, check: &Value) -> Value {
    json!({"settings": {"name": name, "component": "app", "check": check, "interval_s": 10,
        "timeout_ms": 2000, "failures": 2, "successes": 2}, "reason": "a test"})
}

async fn put(api: &Api, name: &str, check: Value) {
    api.put(&format!("/api/v1/probes/{name}"), probe(name, &check)).await;
}

async fn state_of(api: &Api, key: &str) -> String {
    let all = api.get("/api/v1/components").await;
    let found = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["key"] == json!(key))
        .unwrap()
        .clone();
    found["status"].as_str().unwrap().to_owned()
}

/// Makes every probe due now, again and again, until the component is so.
async fn until(backend: &Backend, api: &Api, key: &str, state: &str) {
    eventually(&format!("{key} is {state}"), || async {
        backend.tamper("UPDATE probes SET next_at = 0").await;
        (state_of(api, key).await == state).then_some(())
    })
    .await;
}

on_both! {
    /// Components are made, put in groups and in order, hidden, and removed when nothing needs them.
    async fn components_are_kept_in_groups(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let stray = api.send(Method::PUT, "/api/v1/components/web", Some(json!({"name": "Web", "group": "shop"}))).await;
        assert_eq!(stray.status, StatusCode::NOT_FOUND, "{}", stray.body);

        api.put("/api/v1/component-groups/shop", json!({"name": "The shop", "position": 2})).await;
        api.put("/api/v1/components/web", json!({"name": "Web", "group": "shop", "position": 5})).await;
        api.put("/api/v1/component-order", json!({"components": ["web", "app"]})).await;

        let all = api.get("/api/v1/components").await;
        let keys: Vec<&str> = all["items"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
        assert_eq!(keys, ["web", "app", "auth"]);
        for wrong in [json!(["nothing"]), json!(["web", "web"])] {
            let answer = api.send(Method::PUT, "/api/v1/component-order", Some(json!({"components": wrong}))).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.body);
        }
        let full = api.send(Method::DELETE, "/api/v1/component-groups/shop", None).await;
        assert_eq!(full.status, StatusCode::CONFLICT, "{}", full.body);
        let body = json!({"name": "Slow", "body": "Slow.", "components": {"web": "degraded_performance"}});
        let id = api.post("/api/v1/incidents", body).await["id"].as_str().unwrap().to_owned();
        let held = api.send(Method::DELETE, "/api/v1/components/web", None).await;
        assert_eq!(held.status, StatusCode::CONFLICT, "{}", held.body);
        api.post(&format!("/api/v1/incidents/{id}/updates"), json!({"status": "resolved", "body": "Done."})).await;
        for path in ["/api/v1/components/web?reason=gone", "/api/v1/component-groups/shop"] {
            assert_eq!(api.send(Method::DELETE, path, None).await.status, StatusCode::NO_CONTENT, "{path}");
            assert_eq!(api.send(Method::DELETE, path, None).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        let page = Api::new(&server.url, "").get(&format!("/status/incidents/{id}")).await;
        assert!(page.as_str().unwrap().contains("web"), "the past keeps its name: {page}");
        let made = api.post("/api/v1/tokens", json!({"name": "looker", "kind": "api", "environment": "*", "role": "operator"})).await;
        let looker = Api::new(&server.url, made["text"].as_str().or(made["token"].as_str()).unwrap());
        let refused = looker.send(Method::PUT, "/api/v1/component-groups/shop", Some(json!({"name": "x"}))).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    }

    /// A component goes down after so many failures in a row and comes back after so many successes, and the log says why.
    async fn a_probe_moves_its_component(backend: Backend) {
        let server = Server::start_on(&backend, "127.0.0.1:0", &[LOOPBACK]);
        let (api, site) = (server.api(), Site::start().await);
        put(&api, "shop", json!({"kind": "http", "url": site.url(), "text": "all well"})).await;
        eventually("the first look goes well", || async {
            let found = api.get("/api/v1/probes/shop").await;
            (found["results"][0]["is_good"] == json!(true)).then_some(())
        })
        .await;
        assert_eq!(state_of(&api, "app").await, "operational");

        site.down().await;
        until(&backend, &api, "app", "major_outage").await;

        let page = Api::new(&server.url, "").get("/status").await;
        assert!(page.as_str().unwrap().contains("Some systems are not working"), "{page}");
        let found = api.get("/api/v1/probes/shop").await;
        assert_eq!((&found["probe"]["is_down"], &found["results"][0]["said"]), (&json!(true), &json!("it cannot be reached")));
        assert!(found["probe"]["days"][0]["bad"].as_u64().unwrap() >= 2, "one failure is not enough: {found}");
        let changes = api.get("/api/v1/changes?subject=app&limit=1").await;
        assert_eq!(changes["items"][0]["change"]["actor"], json!("probe:shop"), "{changes}");
        let watched = api.send(Method::DELETE, "/api/v1/components/app", None).await;
        assert_eq!(watched.status, StatusCode::CONFLICT, "{}", watched.body);
        site.up().await;
        until(&backend, &api, "app", "operational").await;

        site.down().await;
        until(&backend, &api, "app", "major_outage").await;
        assert!(api.send(Method::DELETE, "/api/v1/probes/shop", None).await.status.is_success());
        assert_eq!(state_of(&api, "app").await, "operational", "what it did is taken back");
    }

    /// While an incident is open it says how its components are; afterwards the probe says it again.
    async fn an_open_incident_wins(backend: Backend) {
        let server = Server::start_on(&backend, "127.0.0.1:0", &[LOOPBACK]);
        let (api, site) = (server.api(), Site::start().await);
        site.down().await;
        let body = json!({"name": "Slow", "body": "Slow.", "components": {"app": "degraded_performance"}});
        let id = api.post("/api/v1/incidents", body).await["id"].as_str().unwrap().to_owned();
        put(&api, "shop", json!({"kind": "http", "url": site.url()})).await;
        eventually("the probe is down", || async {
            backend.tamper("UPDATE probes SET next_at = 0").await;
            (api.get("/api/v1/probes/shop").await["probe"]["is_down"] == json!(true)).then_some(())
        })
        .await;
        assert_eq!(state_of(&api, "app").await, "degraded_performance");

        api.post(&format!("/api/v1/incidents/{id}/updates"), json!({"status": "resolved", "body": "Done."})).await;

        until(&backend, &api, "app", "major_outage").await;
        site.up().await;
        until(&backend, &api, "app", "operational").await;
    }

    /// Ports, data sources and sign-ins are looked at as well; a password goes nowhere but to its address.
    async fn each_kind_looks(backend: Backend) {
        let (site, shop) = (Site::start().await, Backend::sqlite());
        std::fs::File::create(shop.folder.path().join("switchback.db")).unwrap();
        shop.tamper("CREATE TABLE orders (id INTEGER)").await;
        let database = shop.address();
        let variables = [LOOPBACK, ("SHOP_DATABASE_URL", database.as_str()), ("SHOP_PROBE", "probe@example.com:hunter2:3")];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let api = server.api();
        let settings = json!({"settings": {"name": "shop", "credentials": "env:SHOP_DATABASE_URL"}, "reason": "x"});
        api.put("/api/v1/data-sources/shop", settings).await;
        let login = json!({"kind": "login", "url": site.url(), "credentials": "env:SHOP_PROBE"});

        for (name, check, is_good) in [
            ("tcp", json!({"kind": "tcp", "address": site.address}), true),
            ("tcp-none", json!({"kind": "tcp", "address": "127.0.0.1:1"}), false),
            ("sql", json!({"kind": "sql", "source": "shop", "query": "SELECT count(*) FROM orders", "text": "0"}), true),
            ("sql-none", json!({"kind": "sql", "source": "shop", "query": "SELECT id FROM orders"}), false),
            ("sql-write", json!({"kind": "sql", "source": "shop", "query": "DELETE FROM orders"}), false),
            ("login", login.clone(), true),
            ("text", json!({"kind": "http", "url": site.url(), "text": "not there"}), false),
            ("status", json!({"kind": "http", "url": site.url(), "status": [204]}), false),
        ] {
            put(&api, name, check).await;
            let found = api.post(&format!("/api/v1/probes/{name}/test"), json!({})).await;
            assert_eq!(found["is_good"], json!(is_good), "{name}: {found}");
        }

        let posted = site.bodies.lock().unwrap().iter().any(|body| body.contains("\"password\":\"hunter2:3\"") && body.contains("probe@example.com"));
        assert!(posted, "it signed in");
        let (all, changes) = (api.get("/api/v1/probes").await, api.get("/api/v1/changes?limit=100").await);
        assert!(!all.to_string().contains("hunter2") && !changes.to_string().contains("hunter2"));
        for (wrong, field) in [
            (json!({"kind": "http", "url": "ftp://x.example"}), "check.url"),
            (json!({"kind": "http", "url": "https://ada:pw@x.example"}), "check.url"),
            (json!({"kind": "tcp", "address": "nowhere"}), "check.address"),
        ] {
            let answer = api.send(Method::PUT, "/api/v1/probes/wrong", Some(probe("wrong", &wrong))).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.body);
            assert!(answer.body["errors"].to_string().contains(field), "{}", answer.body);
        }
        let mut often = probe("often", &json!({"kind": "http", "url": site.url()}));
        often["settings"]["interval_s"] = json!(1);
        let answer = api.send(Method::PUT, "/api/v1/probes/often", Some(often)).await;
        assert!(answer.body["errors"].to_string().contains("interval_s"), "{}", answer.body);
    }
}

/// Private addresses are not looked at unless their network is allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_stays_off_private_networks() {
    let (backend, site) = (Backend::sqlite(), Site::start().await);
    let server = Server::start(&backend);
    let api = server.api();
    put(&api, "inside", json!({"kind": "http", "url": site.url()})).await;
    put(&api, "port", json!({"kind": "tcp", "address": site.address})).await;

    for name in ["inside", "port"] {
        let found = api.post(&format!("/api/v1/probes/{name}/test"), json!({})).await;
        assert!(found["said"].as_str().unwrap().contains("private address"), "{found}");
    }
    assert_eq!(site.asked.load(Ordering::SeqCst), 0);
}

/// Two servers look as often as one: each look belongs to one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_looks_at_a_time() {
    let (backend, site) = (Backend::postgres().await, Site::start().await);
    let first = Server::start_on(&backend, "127.0.0.1:0", &[LOOPBACK]);
    let second = Server::start_on(&backend, "127.0.0.1:0", &[LOOPBACK]);
    let api = first.api();
    put(&api, "shop", json!({"kind": "http", "url": site.url()})).await;

    let count = || async {
        let found = api.get("/api/v1/probes/shop?limit=500").await;
        found["results"].as_array().unwrap().len()
    };
    for round in 1..=4 {
        eventually("it looks", || async { (count().await >= round).then_some(()) }).await;
        assert_eq!((count().await, site.asked.load(Ordering::SeqCst)), (round, round));
        backend.tamper("UPDATE probes SET next_at = 0").await;
    }
    drop(second);
}

/// The command line does what the API does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn components_and_probes_have_commands() {
    let (backend, site) = (Backend::sqlite(), Site::start().await);
    let server = Server::start_on(&backend, "127.0.0.1:0", &[LOOPBACK]);
    let run = |words: &[&str]| {
        let output = Command::new(program())
            .env_clear()
            .env("SWITCHBACK_URL", &server.url)
            .env("SWITCHBACK_TOKEN", ADMIN)
            .args(words)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let url = site.url();

    assert!(run(&["component", "put-group", "shop", "--name", "The shop"]).0);
    assert!(run(&["component", "put", "web", "--name", "Web", "--group", "shop"]).0);
    assert!(run(&["component", "put", "web", "--description", "Where people buy."]).0);
    assert!(run(&["component", "set", "web", "partial_outage", "--reason", "slow"]).0);
    let (_, all, _) = run(&["component", "list"]);
    let line = all.lines().find(|line| line.contains("web")).unwrap();
    assert!(
        line.contains("Web") && line.contains("partial outage") && line.contains("shop"),
        "{all}"
    );
    assert!(run(&["component", "order", "web", "auth"]).1.lines().nth(1).unwrap().contains("web"));
    assert!(run(&["component", "groups"]).1.contains("The shop"));
    let (ok, said, error) =
        run(&["probe", "put", "up", "--component", "web", "--http", &url, "--text", "all well"]);
    assert!(ok, "{said}{error}");
    let (ok, said, _) = run(&["probe", "test", "up"]);
    assert!(ok && said.contains("with the text"), "{said}");
    assert!(run(&["probe", "list"]).1.contains("http"));
    site.down().await;
    let (ok, _, error) = run(&["probe", "test", "up"]);
    assert!(!ok && error.contains("it cannot be reached"), "{error}");
    assert!(run(&["probe", "remove", "up"]).0 && run(&["component", "remove", "web"]).0);
    assert!(run(&["component", "remove-group", "shop"]).0);
}

/// The console makes a group, a component in it, orders them, and sets a probe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_keeps_components_and_probes() {
    let (backend, site) = (Backend::sqlite(), Site::start().await);
    let server = Server::start_on(&backend, "127.0.0.1:0", &[LOOPBACK]);
    let browser = Browser::start().await;
    browser.sign_in(&server).await;

    browser.open(&format!("{}/ui/settings/components", server.url)).await;
    browser.fill("#set-group [name=group_key]", "shop").await;
    browser.fill("#set-group [name=group_name]", "The shop").await;
    browser.click("#set-group button").await;
    browser.see("main", "No component stands in it.").await;
    browser.fill("#set-component [name=key]", "web").await;
    browser.fill("#set-component [name=name]", "Web shop").await;
    browser.click("#set-component [name=group] option[value=shop]").await;
    browser.click("#set-component button").await;
    browser.see("main", "Web shop").await;
    browser.click("[action$='components/app/move'] [value=up]").await;
    browser.see("tbody tr:first-child", "App").await;
    let all = server.api().get("/api/v1/components").await;
    assert_eq!(
        (&all["items"][0]["key"], &all["items"][2]["group"]),
        (&json!("app"), &json!("shop"))
    );

    browser.open(&format!("{}/ui/settings/uptime", server.url)).await;
    browser.fill("#set-probe [name=name]", "web-up").await;
    browser.click("#set-probe [name=component] option[value=web]").await;
    browser.fill("#set-probe [name=target]", &site.url()).await;
    browser.click("#set-probe button").await;
    browser.see("#probes", "web-up").await;
    browser.click("#probes button").await;
    browser.see("#tested", "it answered 200").await;
    browser.open(&format!("{}/ui/settings/uptime/web-up", server.url)).await;
    browser.see("main", "One by one").await;
    assert_eq!(browser.violations().await, Vec::<String>::new());
    browser.quit().await;
}
