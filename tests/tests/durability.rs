//! The server killed at every row of a run's log: what comes after is as if nothing had happened.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchback_tests::{Api, Backend, Server, Sink, eventually, on_both};

/// Nine steps: flags, the app's database, another system, an incident, people, time. The last one may fail.
const NINE: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: nine, title: Nine steps, owner: team-shop}
spec:
  deadline: 5m
  inputs: {fail: {type: bool, default: false}}
  steps:
    - {id: open, flag.set: {key: auth_bypass, value: true}}
    - {id: shut, flag.kill: {key: auth_enabled, killed: true}}
    - {id: carts, sql.exec: {source: shop, sql: UPDATE carts SET n = n + 1 WHERE environment = $1, params: ['${{ environment }}'], undo: UPDATE carts SET n = n - 1 WHERE environment = $1}}
    - {id: queue, http.request: {url: 'SINK/${{ environment }}', body: {a: 1}, undo: {method: DELETE, url: 'SINK/${{ environment }}'}}}
    - {id: tell, incident.open: {template: auth_down}}
    - {id: pause, wait: {for: 1s}}
    - {id: some, flag.rollout: {key: auth_rollout, percent: 10%}, verify: {flag.ack: {at_least: 99%, within: 1s}}}
    - {id: notice, notify.in_app: {title: Please wait, message: Your cart is unchanged.}}
    - {id: end, if: inputs.fail, flag.set: {key: nowhere, value: true}}
";

/// From so many rows of an environment on, its log takes no more.
const TRAPS: &str = "CREATE TABLE traps (environment TEXT PRIMARY KEY, rows BIGINT NOT NULL)";
const SQLITE: &str = "CREATE TRIGGER trapped BEFORE INSERT ON rollback_log \
    WHEN (SELECT COUNT(*) FROM rollback_log WHERE environment = NEW.environment) \
    >= (SELECT rows FROM traps WHERE environment = NEW.environment) BEGIN SELECT RAISE(ABORT, 'trapped'); END";
const POSTGRES: [&str; 2] = [
    "CREATE FUNCTION trapped() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     IF (SELECT COUNT(*) FROM rollback_log WHERE environment = NEW.environment) \
     >= (SELECT rows FROM traps WHERE environment = NEW.environment) THEN RAISE EXCEPTION 'trapped'; END IF; \
     RETURN NEW; END $$",
    "CREATE TRIGGER trapped BEFORE INSERT ON rollback_log FOR EACH ROW EXECUTE FUNCTION trapped()",
];

struct Shop<'b> {
    backend: &'b Backend,
    sink: Sink,
    runbooks: String,
}

impl Shop<'_> {
    fn serve(&self) -> Server {
        let address = self.backend.address();
        let variables = [
            ("SWITCHBACK_RUNBOOKS_DIR", self.runbooks.as_str()),
            ("SHOP_DATABASE_URL", &address),
            ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8"),
            ("SWITCHBACK_LOG", "off"),
        ];
        Server::start_on(self.backend, "127.0.0.1:0", &variables)
    }
}

fn open(backend: &Backend) -> Shop<'_> {
    let sink = Sink::start(|_, _| Some(200));
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    std::fs::write(runbooks.join("nine.yaml"), NINE.replace("SINK", &sink.url)).unwrap();
    Shop { backend, sink, runbooks: runbooks.display().to_string() }
}

async fn start(api: &Api, environment: &str, fail: bool) -> String {
    let body = json!({"key": environment, "name": environment});
    api.post("/api/v1/environments", body).await;
    let body =
        json!({"environment": environment, "reason": "a test of deaths", "inputs": {"fail": fail}});
    let run = api.post("/api/v1/playbooks/nine/runs", body).await;
    run["id"].as_str().unwrap().to_owned()
}

/// What a run left behind in its environment, without times and ids.
async fn left(shop: &Shop<'_>, api: &Api, environment: &str, run: &str) -> Value {
    let mut flags = BTreeMap::new();
    for key in ["auth_bypass", "auth_enabled", "auth_rollout"] {
        let path = format!("/api/v1/environments/{environment}/flags/{key}");
        let mut state = api.get(&path).await["state"].clone();
        for rule in state["rules"].as_array_mut().into_iter().flatten() {
            rule["id"] = json!("");
        }
        flags.insert(key, state);
    }
    let changes = api.get(&format!("/api/v1/changes?run={run}&limit=200")).await;
    let written = |change: &&Value| change["change"]["subject_kind"] == json!("flag");
    let written = changes["items"].as_array().unwrap().iter().filter(written).count();
    let carts = format!("SELECT CAST(n AS TEXT) FROM carts WHERE environment = '{environment}'");
    // The other side does what it has not seen the key of.
    let mut keys: Vec<String> = Vec::new();
    for seen in shop.sink.seen() {
        let key = format!(
            "{} {}",
            seen.line.replace(environment, "E"),
            seen.headers["idempotency-key"].replace(run, "R")
        );
        if seen.line.ends_with(&format!("/{environment}")) && !keys.contains(&key) {
            keys.push(key);
        }
    }
    let detail = api.get(&format!("/api/v1/runs/{run}")).await;
    let mut incidents = Vec::new();
    for id in detail["incidents"].as_array().unwrap() {
        let incident = api.get(&format!("/api/v1/incidents/{}", id.as_str().unwrap())).await;
        incidents.push(incident["status"].clone());
    }
    json!({
        "state": detail["state"], "flags": flags, "flag writes": written, "requests": keys,
        "carts": shop.backend.ask(&carts).await, "incidents": incidents,
    })
}

/// One run goes through undisturbed; of each other one, the log ends at another row when the server is killed.
async fn killed_at_every_row(backend: &Backend, fail: bool, ending: &str, rows_min: usize) {
    let shop = open(backend);
    let server = shop.serve();
    let api = server.api();
    backend.tamper("CREATE TABLE carts (environment TEXT PRIMARY KEY, n BIGINT NOT NULL)").await;
    let settings =
        json!({"name": "shop", "credentials": "env:SHOP_DATABASE_URL", "access": "read_write"});
    api.put("/api/v1/data-sources/shop", json!({"settings": settings, "reason": "the shop's own"}))
        .await;
    backend.tamper("INSERT INTO carts VALUES ('calm', 0)").await;
    let calm = start(&api, "calm", fail).await;
    let rows = eventually("the calm run ends", || async {
        let detail = api.get(&format!("/api/v1/runs/{calm}")).await;
        let is_over = detail["run"]["finished_at"].is_number();
        is_over.then(|| detail["log"].as_array().unwrap().len())
    })
    .await;
    let expected = left(&shop, &api, "calm", &calm).await;
    assert_eq!(expected["state"], json!(ending), "{expected}");
    assert!(rows >= rows_min, "{rows} rows");

    backend.tamper(TRAPS).await;
    let triggers = if backend.database_url.is_empty() { &[SQLITE][..] } else { &POSTGRES[..] };
    for statement in triggers {
        backend.tamper(statement).await;
    }
    let mut runs = Vec::new();
    for row in 1..rows {
        let environment = format!("e{row}");
        backend.tamper(&format!("INSERT INTO traps VALUES ('{environment}', {row})")).await;
        backend.tamper(&format!("INSERT INTO carts VALUES ('{environment}', 0)")).await;
        let run = start(&api, &environment, fail).await;
        runs.push((environment, run));
    }
    // A higher epoch: the driver has failed at the next row, gave the run back, and took it again.
    let waiting = "SELECT CAST(COUNT(*) AS TEXT) FROM playbook_runs r JOIN traps t ON t.environment = r.environment \
        WHERE r.lease_epoch < 2 OR (SELECT COUNT(*) FROM rollback_log l WHERE l.environment = t.environment) < t.rows";
    eventually("every run stands at its row", || async {
        (backend.ask(waiting).await == "0").then_some(())
    })
    .await;
    server.kill();
    let drop = if backend.database_url.is_empty() {
        "DROP TRIGGER trapped"
    } else {
        "DROP TRIGGER trapped ON rollback_log"
    };
    backend.tamper(drop).await;

    let server = shop.serve();
    let api = server.api();
    eventually("all end", || async {
        let open = "SELECT CAST(COUNT(*) AS TEXT) FROM playbook_runs WHERE finished_at IS NULL";
        (backend.ask(open).await == "0").then_some(())
    })
    .await;
    for (environment, run) in &runs {
        assert_eq!(
            left(&shop, &api, environment, run).await,
            expected,
            "killed after the row of {environment}"
        );
    }
    assert_eq!(api.get("/api/v1/rollback-log/verify").await["ok"], json!(true));
}

on_both! {
    /// No flag is written twice, no row changed twice, nothing sent under a second key, nothing left open.
    async fn a_run_killed_at_any_row_ends_as_if_it_had_not_been(backend: Backend) {
        killed_at_every_row(&backend, false, "succeeded", 20).await;
    }

    /// Nor while it takes back what it did.
    async fn a_run_killed_while_it_unwinds_ends_as_if_it_had_not_been(backend: Backend) {
        killed_at_every_row(&backend, true, "compensated", 30).await;
    }
}
