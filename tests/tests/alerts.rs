//! Alerts that start playbooks: those that a trigger names, by its token, once, and within the limits of everything that starts
//! by itself.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::{Api, Backend, Server, eventually, on_both};

const AUTO: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: auto, title: Less of the new checkout, owner: team-shop}
spec:
  deadline: 1m
  inputs:
    reason: {type: string, min: 10, required: true}
    share: {type: percent, required: true}
    service: {type: string, required: true}
  triggers:
    - alert:
        receiver_token: monitor
        match: {alertname: CheckoutErrors, severity: page}
        environment: production
        approve: none
        inputs: {reason: /annotations/summary, share: 25%, service: /labels/service}
  limits: {cooldown: 1h}
  steps:
    - {id: ramp, flag.rollout: {key: auth_rollout, percent: '${{ inputs.share }}'}}
    - {id: say, log: {message: '${{ inputs.service }}'}}
";
const ASKS: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: asks, title: Let everybody in, owner: team-auth}
spec:
  deadline: 30s
  triggers:
    - alert: {receiver_token: monitor, match: {alertname: AuthDown}, environment: production, wait: 10m}
    - alert: {receiver_token: monitor, match: {alertname: AuthDown}, environment: staging, wait: 10m}
  steps: [{id: open, flag.set: {key: auth_bypass, value: true}}]
";

fn serve(backend: &Backend) -> (Server, Api) {
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    std::fs::write(runbooks.join("auto.yaml"), AUTO).unwrap();
    std::fs::write(runbooks.join("asks.yaml"), ASKS).unwrap();
    let folder = runbooks.display().to_string();
    let variables = [("SWITCHBACK_RUNBOOKS_DIR", folder.as_str())];
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    (server, api)
}

async fn token(server: &Server, name: &str, environment: &str, role: &str) -> Api {
    let body = json!({"name": name, "kind": "api", "role": role, "environment": environment});
    let made = server.api().post("/api/v1/tokens", body).await;
    Api::new(&server.url, made["token"].as_str().unwrap())
}

/// As Alertmanager sends it, with what we do not know.
fn message(name: &str, fingerprint: &str, status: &str) -> Value {
    json!({
        "version": "4", "groupKey": "{}:{alertname=\"x\"}", "truncatedAlerts": 0, "status": status,
        "receiver": "switchback", "groupLabels": {"alertname": name}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://alerts.example.com",
        "alerts": [{
            "status": status,
            "labels": {"alertname": name, "severity": "page", "service": "checkout"},
            "annotations": {"summary": "5 % of checkouts fail"},
            "startsAt": "2026-02-03T04:05:06.789Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example.com/graph", "fingerprint": fingerprint, "valueString": "[]",
        }],
    })
}

async fn send(api: &Api, message: Value) -> (StatusCode, Value) {
    let answer = api.send(Method::POST, "/api/v1/alerts", Some(message)).await;
    (answer.status, answer.body)
}

async fn ended(api: &Api, run: &str) -> Value {
    eventually("the run ends", || async {
        let detail = api.get(&format!("/api/v1/runs/{run}")).await;
        detail["run"]["finished_at"].is_number().then_some(detail)
    })
    .await
}

on_both! {
    /// The same alert starts one run, whatever its texts say the next time; another one meets the cool-down.
    async fn an_alert_starts_its_playbook_once(backend: Backend) {
        let (server, api) = serve(&backend);
        let monitor = token(&server, "monitor", "*", "operator").await;

        let (status, first) = send(&monitor, message("CheckoutErrors", "f1", "firing")).await;
        let mut again = message("CheckoutErrors", "f1", "firing");
        again["alerts"][0]["annotations"]["summary"] = json!("6 % of checkouts fail");
        let (_, again) = send(&monitor, again).await;
        let (other_status, other) = send(&monitor, message("CheckoutErrors", "f2", "firing")).await;
        let (_, over) = send(&monitor, message("CheckoutErrors", "f1", "resolved")).await;

        assert_eq!((status, other_status), (StatusCode::OK, StatusCode::OK), "{first}");
        assert_eq!(first["started"], again["started"], "the same alert is the same run");
        let run = first["started"][0]["run"].as_str().unwrap();
        let detail = ended(&api, run).await;
        assert_eq!((&detail["state"], &detail["run"]["trigger"]), (&json!("succeeded"), &json!("alert")));
        assert_eq!(detail["run"]["reason"], json!("5 % of checkouts fail"));
        assert_eq!(detail["plan"]["inputs"]["service"], json!("checkout"));
        assert_eq!(detail["log"][0]["detail"]["alert"]["fingerprint"], json!("f1"));
        assert_eq!(other["started"], json!([]));
        assert!(other["refused"][0]["because"].as_str().unwrap().contains("cool-down"), "{other}");
        assert_eq!((&over["received"], &over["started"], &over["refused"]), (&json!(1), &json!([]), &json!([])));
        let runs = api.get("/api/v1/runs?playbook=auto").await;
        assert_eq!(runs["items"].as_array().unwrap().len(), 1);
    }

    /// Labels alone start nothing: the token must be the trigger's, and allowed to; the switch holds here too.
    async fn an_alert_starts_nothing_that_no_trigger_allows(backend: Backend) {
        let (server, api) = serve(&backend);
        let monitor = token(&server, "monitor", "*", "operator").await;
        let stranger = token(&server, "stranger", "*", "admin").await;
        let weak = token(&server, "monitor", "*", "viewer").await;
        let nobody = Api::new(&server.url, "*:*.nothing");

        let (_, strange) = send(&stranger, message("CheckoutErrors", "f1", "firing")).await;
        let (_, unknown) = send(&monitor, message("Disk", "f1", "firing")).await;
        let mut quiet = message("CheckoutErrors", "f1", "firing");
        quiet["alerts"][0]["labels"]["severity"] = json!("ticket");
        let (_, quiet) = send(&monitor, quiet).await;
        let (_, weak) = send(&weak, message("CheckoutErrors", "f1", "firing")).await;
        let (unauthorized, _) = send(&nobody, message("CheckoutErrors", "f1", "firing")).await;
        let mut shapeless = message("CheckoutErrors", "f1", "firing");
        shapeless["alerts"][0]["fingerprint"] = json!(7);
        let (shape, _) = send(&monitor, shapeless).await;
        let mut old = message("CheckoutErrors", "f1", "firing");
        old["version"] = json!("3");
        let (version, _) = send(&monitor, old).await;
        api.put("/api/v1/automation", json!({"on": false, "reason": "a quiet night"})).await;
        let (_, off) = send(&monitor, message("CheckoutErrors", "f1", "firing")).await;

        for nothing in [&strange, &unknown, &quiet] {
            assert_eq!((&nothing["started"], &nothing["refused"]), (&json!([]), &json!([])));
        }
        assert!(weak["refused"][0]["because"].as_str().unwrap().contains("may not run"), "{weak}");
        assert_eq!(unauthorized, StatusCode::UNAUTHORIZED);
        assert!(shape.is_client_error() && version.is_client_error(), "{shape} {version}");
        assert!(off["refused"][0]["because"].as_str().unwrap().contains("automation is off"), "{off}");
        assert_eq!(api.get("/api/v1/runs").await["items"], json!([]));
    }

    /// With `one_click` a run waits for one person, also for longer than its own deadline, and nothing has changed until then.
    async fn a_person_agrees_before_anything_happens(backend: Backend) {
        let (server, api) = serve(&backend);
        let monitor = token(&server, "monitor", "*", "operator").await;
        let flag = "/api/v1/environments/production/flags/auth_bypass";
        let before = api.get(flag).await["state"].clone();

        let (_, taken) = send(&monitor, message("AuthDown", "f1", "firing")).await;
        let runs: Vec<&Value> = taken["started"].as_array().unwrap().iter().collect();
        assert_eq!(runs.len(), 2, "both environments: {taken}");
        let run = runs.iter().find(|one| one["environment"] == json!("production")).unwrap();
        let run = run["run"].as_str().unwrap();
        let url = format!("/api/v1/runs/{run}");
        let waits = eventually("it waits for a person", || async {
            let detail = api.get(&url).await;
            (detail["state"] == json!("waiting_approval")).then_some(detail)
        })
        .await;
        assert_eq!(api.get(flag).await["state"], before);
        assert_eq!(waits["plan"]["deadline_ms"], json!(630_000));
        assert!(waits["plan"]["steps"][0]["approve"]["message"].as_str().unwrap().contains("AuthDown is firing"));

        api.post(&format!("{url}/steps/start/approval"), json!({"approve": true, "comment": "yes"})).await;

        assert_eq!(ended(&api, run).await["state"], json!("succeeded"));
        assert_eq!(api.get(flag).await["state"]["enabled"], json!(true));
    }
}
