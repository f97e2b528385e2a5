//! With a real Prometheus and a real Alertmanager: they read our figures, their alerts stand among ours, and our rules ask them.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use switchback_tests::server::ADMIN;
use switchback_tests::{Api, Server, eventually, on_both};

const PROD: &str = "/api/v1/environments/production";

/// A program of Prometheus's: on the path, or where `cargo xtask test` unpacked it.
fn tool(name: &str) -> PathBuf {
    let unpacked =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus/.tools/usr/bin").join(name);
    let on_path = ["/usr/bin", "/usr/local/bin"].map(|folder| Path::new(folder).join(name));
    on_path.into_iter().chain([unpacked]).find(|path| path.exists()).unwrap_or_else(|| {
        panic!("{name} is missing: run `cargo xtask test`, which gets it, or apt-get install prometheus prometheus-alertmanager")
    })
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Prometheus and Alertmanager beside a server, looking every second.
struct Monitoring {
    _prometheus: Running,
    _alertmanager: Running,
    url: String,
}

impl Monitoring {
    fn start(folder: &Path, server: &str, port: u16) -> Self {
        let folder = folder.join("monitoring");
        std::fs::create_dir_all(&folder).unwrap();
        let alertmanager = free_port();
        let address = server.trim_start_matches("http://");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rules}]\n\
            alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n\
            scrape_configs:\n- {{job_name: switchback, static_configs: [{{targets: ['{address}']}}]}}\n",
            rules = folder.join("rules.yml").display()
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        let rules = "groups:\n- name: shop\n  rules:\n  - alert: IncidentIsOpen\n    expr: switchback_incidents_open > 0\n    \
            labels: {environment: production, severity: critical}\n    annotations: {summary: 'an incident is open'}\n";
        std::fs::write(folder.join("rules.yml"), rules).unwrap();
        let routes = format!(
            "route: {{receiver: switchback, group_wait: 0s, group_interval: 1s}}\nreceivers:\n- name: switchback\n  webhook_configs:\n  \
            - url: {server}/hooks/alertmanager\n    http_config: {{authorization: {{credentials: '{ADMIN}'}}}}\n"
        );
        std::fs::write(folder.join("alertmanager.yml"), routes).unwrap();
        let spawn = |program: &str, arguments: &[String]| {
            let log = std::fs::File::create(folder.join(format!("{program}.log"))).unwrap();
            let mut command = Command::new(tool(program));
            command
                .args(arguments)
                .current_dir(&folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            Running(command.spawn().unwrap())
        };
        let flag = |name: &str, value: String| format!("--{name}={value}");
        let at = |name: &str| folder.join(name).display().to_string();
        let second = spawn(
            "prometheus-alertmanager",
            &[
                flag("config.file", at("alertmanager.yml")),
                flag("storage.path", at("alertmanager")),
                flag("web.listen-address", format!("127.0.0.1:{alertmanager}")),
                flag("cluster.listen-address", String::new()),
            ],
        );
        let first = spawn(
            "prometheus",
            &[
                flag("config.file", at("prometheus.yml")),
                flag("storage.tsdb.path", at("prometheus")),
                flag("web.listen-address", format!("127.0.0.1:{port}")),
            ],
        );
        Self { _prometheus: first, _alertmanager: second, url: format!("http://127.0.0.1:{port}") }
    }
}

async fn open(api: &Api, rule: &str) -> Option<Value> {
    let all = api.get(&format!("{PROD}/alerts?open=true")).await;
    all.as_array().unwrap().iter().find(|alert| alert["rule"] == rule).cloned()
}

on_both! {
    async fn promtool_finds_nothing_to_mend_in_our_figures(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let event = json!([{"id": "a", "type": "login_success"}, {"id": "b", "type": "odd"}]);
        Api::new(&server.url, switchback_tests::server::EVENTS).post("/api/v1/auth-events", event).await;
        let plain = api.get("/metrics").await.as_str().unwrap().to_owned();

        let mut promtool = Command::new(tool("promtool"))
            .args(["check", "metrics"])
            .stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
            .spawn().unwrap();
        promtool.stdin.take().unwrap().write_all(plain.as_bytes()).unwrap();
        let found = promtool.wait_with_output().unwrap();

        let said = String::from_utf8_lossy(&found.stderr) + String::from_utf8_lossy(&found.stdout);
        assert!(found.status.success() && said.is_empty(), "{said}\n{plain}");
        assert!(plain.contains("# TYPE switchback_auth_events_taken_total counter") && !plain.contains("# EOF"), "{plain}");
        let open = api.send_with(reqwest::Method::GET, "/metrics", None, &[("accept", "application/openmetrics-text;version=1.0.0")]).await;
        assert!(open.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
        assert!(open.body.as_str().unwrap().ends_with("# EOF\n"));
    }

    async fn a_rule_of_prometheus_reaches_us_through_alertmanager_and_ours_asks_it(backend: Backend) {
        let port = free_port();
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8")]);
        let api = server.api();
        let rule = format!("kind: AlertRule\nmetadata: {{name: asked, title: Asked}}\nspec:\n  environments: [production]\n  severity: warning\n  \
            keep_for: 0s\n  when: {{value: {{prometheus: 'http://127.0.0.1:{port}', query: switchback_incidents_open, above: 0}}}}\n");
        api.put("/api/v1/alert-rules/asked", json!({"source": rule})).await;
        let standing = async || {
            let all = api.get(&format!("{PROD}/alert-rules")).await;
            all.as_array().unwrap().iter().find(|one| one["name"] == "asked").unwrap().clone()
        };
        eventually("nobody answers: no data", async || standing().await["no_data_since"].is_number().then_some(())).await;

        let monitoring = Monitoring::start(backend.folder.path(), &server.url, port);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        eventually("our figures are scraped", async || {
            let found = http.get(format!("{}/api/v1/query?query=up", monitoring.url)).send().await.ok()?;
            let found: Value = serde_json::from_str(&found.text().await.ok()?).ok()?;
            (found.pointer("/data/result/0/value/1")? == "1").then_some(())
        }).await;
        let made = api.post("/api/v1/incidents", json!({"name": "Logins fail", "impact": "major", "body": "We look."})).await;

        let alert = eventually("the alert stands among ours", async || open(&api, "IncidentIsOpen").await).await;
        assert_eq!((&alert["source"], &alert["severity"]), (&json!("alertmanager"), &json!("critical")), "{alert}");
        eventually("our own rule fires", async || open(&api, "asked").await).await;

        let id = made["id"].as_str().unwrap();
        api.post(&format!("/api/v1/incidents/{id}/updates"), json!({"status": "resolved", "body": "It is over."})).await;
        eventually("the alert is over", async || open(&api, "IncidentIsOpen").await.is_none().then_some(())).await;
        eventually("our own rule is calm", async || open(&api, "asked").await.is_none().then_some(())).await;
        drop(monitoring);
    }
}
