//! Requests of playbooks to other systems: sent with a key, taken back, never with a secret where people can read it.

use serde_json::{Value, json};
use switchback_tests::sink::Seen;
use switchback_tests::{Api, Backend, Server, Sink, eventually, on_both};

const CALL: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: call, title: Call, owner: team-app}
spec:
  deadline: 1m
  inputs:
    fail: {type: bool, default: false}
    path: {type: string, default: jobs}
    note: {type: string, default: plain}
  steps:
    - id: job
      retry: {times: 6, backoff: 1ms}
      http.request:
        url: 'SINK/${{ inputs.path }}?trace=hidden-query'
        headers: {Authorization: {secret: env:JOBS_TOKEN}, X-Tenant-Token: {secret: 'file:FILE'}, X-Plain: yes-please}
        body: {note: '${{ inputs.note }}', count: 3}
        timeout: 20s
        undo: {method: DELETE, url: 'SINK/jobs'}
    - id: stop
      if: inputs.fail
      http.request: {method: GET, url: 'SINK/missing'}
";
/// One that a dry run may send, and one that nothing takes back.
const LOOK: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: look, title: Look, owner: team-app}
spec:
  deadline: 1m
  steps:
    - id: ping
      http.request: {method: GET, url: 'SINK/ping', safe_in_dry_run: true}
    - id: probe
      probe.http: {url: 'SINK/ping', within: 5s}
    - id: gone
      approve: {roles: [admin], min: 1, timeout: 1s, on_timeout: proceed, message: Send it?}
      http.request: {url: 'SINK/mail', body: hello, irreversible: true, headers: {X-Key: {secret: env:NOT_SET}}}
";

/// Two secrets that must never be read anywhere.
const SECRETS: [&str; 2] = ["Bearer hunter2", "hunter3"];

fn answer(line: &str, nth: usize) -> Option<u16> {
    match line.split('?').next().unwrap_or_default() {
        "POST /flaky" if nth == 1 => Some(503),
        "POST /down" => Some(503),
        "POST /hang" if nth == 1 => None,
        "GET /missing" => Some(404),
        "POST /moved" => Some(302),
        _ => Some(200),
    }
}

fn serve(backend: &Backend, sink: &Sink, networks: &str) -> (Server, Api) {
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    let secret = backend.folder.path().join("tenant");
    std::fs::write(&secret, format!("{}\n", SECRETS[1])).unwrap();
    for (name, text) in [("call.yaml", CALL), ("look.yaml", LOOK)] {
        let text = text.replace("SINK", &sink.url).replace("FILE", &secret.display().to_string());
        std::fs::write(runbooks.join(name), text).unwrap();
    }
    let runbooks = runbooks.display().to_string();
    let variables = [
        ("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()),
        ("JOBS_TOKEN", SECRETS[0]),
        ("SWITCHBACK_OUTGOING__NETWORKS", networks),
    ];
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    (server, api)
}

async fn start(api: &Api, playbook: &str, inputs: Value) -> String {
    let body =
        json!({"environment": "production", "reason": "a test of requests", "inputs": inputs});
    let run = api.post(&format!("/api/v1/playbooks/{playbook}/runs"), body).await;
    run["id"].as_str().unwrap().to_owned()
}

async fn ended(api: &Api, id: &str) -> Value {
    eventually("the run ends", || async {
        let detail = api.get(&format!("/api/v1/runs/{id}")).await;
        detail["run"]["finished_at"].is_number().then_some(detail)
    })
    .await
}

async fn play(api: &Api, playbook: &str, inputs: Value) -> Value {
    let id = start(api, playbook, inputs).await;
    ended(api, &id).await
}

fn keys(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|one| one.headers["idempotency-key"].as_str()).collect()
}

/// What the log says that a step did.
fn says(run: &Value, step: &str, phase: &str) -> String {
    let rows = run["log"].as_array().unwrap().iter();
    let mut found =
        rows.filter(|row| row["step_id"] == json!(step) && row["phase"] == json!(phase));
    found.next_back().map(|row| row["detail"].to_string()).unwrap_or_default()
}

on_both! {
    /// Sent with its secrets and a key that every attempt shares; taken back when the run fails; told without a secret.
    async fn a_request_is_sent_once_and_taken_back(backend: Backend) {
        let sink = Sink::start(answer);
        let (_server, api) = serve(&backend, &sink, "127.0.0.0/8");
        let about = json!({"environment": "production", "reason": "a test of requests"});

        let dry = api.post("/api/v1/playbooks/call/preview", about).await;
        assert_eq!(sink.seen().len(), 0, "a dry run sends nothing");
        let run = play(&api, "call", json!({"path": "flaky", "fail": true, "note": "a\"b"})).await;
        let seen = sink.seen();
        let report = api.get(&format!("/api/v1/runs/{}/report", run["run"]["id"].as_str().unwrap())).await;
        let good = play(&api, "call", json!({})).await;
        let id = good["run"]["id"].as_str().unwrap();
        let back = api.post(&format!("/api/v1/runs/{id}/undo"), json!({"reason": "not needed any more"})).await;
        let back = ended(&api, back["id"].as_str().unwrap()).await;

        let dry = dry.to_string();
        assert!(dry.contains("POST ") && dry.contains("/jobs would be sent, with authorization"), "{dry}");
        assert!(dry.contains(r#"{\"note\":\"…\",\"count\":\"…\"}"#), "{dry}");
        assert_eq!(run["state"], json!("compensated"), "{run}");
        let lines: Vec<&str> = seen.iter().map(|one| one.line.as_str()).collect();
        let flaky = "POST /flaky?trace=hidden-query";
        assert_eq!(lines, [flaky, flaky, "GET /missing", "DELETE /jobs"]);
        let keys = keys(&seen);
        assert!(keys[0] == keys[1] && keys[0].ends_with("-job-do") && keys[3].ends_with("-job-undo"), "{keys:?}");
        for request in [&seen[0], &seen[3]] {
            assert_eq!(request.headers["authorization"], SECRETS[0]);
            assert_eq!(request.headers["x-tenant-token"], SECRETS[1]);
        }
        assert_eq!(seen[0].headers["content-type"], "application/json");
        assert_eq!(serde_json::from_str::<Value>(&seen[0].body).unwrap(), json!({"note": "a\"b", "count": 3}));
        assert_eq!(back["state"], json!("succeeded"), "{back}");
        assert_eq!(sink.seen().last().unwrap().line, "DELETE /jobs");
        for told in [dry, run["log"].to_string(), run.to_string(), report.to_string(), back.to_string()] {
            assert!(SECRETS.iter().all(|secret| !told.contains(secret)), "{told}");
        }
        assert!(!run["log"].to_string().contains("hidden-query"), "{run}");
    }

    /// SIGKILL while the other side works: it is asked again, with the same key.
    async fn a_request_that_nobody_heard_the_end_of_is_repeated_with_its_key(backend: Backend) {
        let sink = Sink::start(answer);
        let (server, api) = serve(&backend, &sink, "127.0.0.0/8");

        let id = start(&api, "call", json!({"path": "hang"})).await;
        eventually("it was sent", || async { (!sink.seen().is_empty()).then_some(()) }).await;
        server.kill();
        let (_server, api) = serve(&backend, &sink, "127.0.0.0/8");
        let run = ended(&api, &id).await;

        assert_eq!(run["state"], json!("succeeded"), "{run}");
        let seen = sink.seen();
        let keys = keys(&seen);
        assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
    }
}

/// A host that fails five times in a row is left alone; its undo is tried all the same.
#[tokio::test]
async fn a_host_that_fails_is_left_alone() {
    let (backend, sink) = (Backend::sqlite(), Sink::start(answer));
    let (_server, api) = serve(&backend, &sink, "127.0.0.1/32");

    let moved = play(&api, "call", json!({"path": "moved"})).await;
    let down = play(&api, "call", json!({"path": "down"})).await;

    assert!(says(&moved, "job", "failed").contains("answered 302"), "{moved}");
    assert!(says(&down, "job", "failed").contains("is left alone for"), "{down}");
    let seen = sink.seen();
    assert_eq!(seen.iter().filter(|one| one.line.starts_with("POST /moved")).count(), 1);
    assert_eq!(seen.iter().filter(|one| one.line.starts_with("POST /down")).count(), 5);
    assert_eq!(seen.last().unwrap().line, "DELETE /jobs");
    assert_eq!(down["state"], json!("compensated"), "{down}");
}

/// Other systems are real: a drill says what it would have sent, and neither that nor its undo is sent.
#[tokio::test]
async fn a_drill_sends_nothing() {
    let (backend, sink) = (Backend::sqlite(), Sink::start(answer));
    let (_server, api) = serve(&backend, &sink, "127.0.0.0/8");

    let body = json!({"environment": "staging"});
    let drill = api.post("/api/v1/playbooks/call/drills", body).await;
    let path = format!("/api/v1/drills/{}", drill["id"].as_str().unwrap());
    let drill = eventually("the drill is over", || async {
        let drill = api.get(&path).await;
        drill["finished_at"].is_number().then_some(drill)
    })
    .await;
    let run = api.get(&format!("/api/v1/runs/{}", drill["run_id"].as_str().unwrap())).await;

    assert!(says(&run, "job", "done").contains("was not sent: this is a drill"), "{drill} {run}");
    assert_eq!(sink.seen().len(), 0, "{drill}");
}

/// Nothing is asked at a private address that the configuration does not name: neither by a step nor by a dry run.
#[tokio::test]
async fn private_addresses_are_asked_only_when_they_are_allowed() {
    let (backend, sink) = (Backend::sqlite(), Sink::start(answer));
    let (server, api) = serve(&backend, &sink, "10.0.0.0/8");
    let about = json!({"environment": "production", "reason": "a test of requests"});

    let dry = api.post("/api/v1/playbooks/look/preview", about.clone()).await;
    let call = play(&api, "call", json!({})).await;
    let sent = sink.seen().len();
    drop(server);
    let (_server, api) = serve(&backend, &sink, "127.0.0.0/8");
    let allowed = api.post("/api/v1/playbooks/look/preview", about).await;
    let run = play(&api, "look", json!({})).await;

    let why = "is at the private address 127.0.0.1, which `outgoing.networks` does not allow";
    assert!(dry.to_string().contains(why), "{dry}");
    assert!(says(&call, "job", "failed").contains(why), "{call}");
    assert_eq!(call["state"], json!("compensated"), "what could not be sent needs no undo: {call}");
    assert_eq!(sent, 0);
    assert!(allowed.to_string().contains("/ping answered 200 in this dry run"), "{allowed}");
    assert!(allowed.to_string().contains("a secret: NOT_SET is not set"), "{allowed}");
    assert!(says(&run, "gone", "failed").contains("a secret: NOT_SET is not set"), "{run}");
}

/// What would tell a secret, or let whoever starts a run choose where it goes, is refused with its place.
#[tokio::test]
async fn mistakes_in_requests_are_told() {
    let server = Server::start(&Backend::sqlite());
    let api = server.api();
    let lint = async |step: &str| {
        let head = CALL.split("    - id: job").next().unwrap();
        let text = format!("{head}    - id: job\n      http.request: {step}\n");
        let found = api.post("/api/v1/playbooks/lint", json!({"text": text})).await;
        found["problems"].as_array().unwrap().iter().map(Value::to_string).collect::<String>()
    };

    let good = lint("{method: PUT, url: 'https://a.test/${{ inputs.path }}', body: [1], undo: {method: DELETE, url: 'https://a.test/'}}").await;
    assert_eq!(good, "");
    for (step, why) in [
        (
            "{url: 'https://${{ inputs.path }}/', irreversible: true}",
            "a value does not name a host",
        ),
        (
            "{url: 'https://a${{ inputs.path }}', irreversible: true}",
            "a value does not name a host",
        ),
        (
            "{url: 'https://a.test?x=${{ inputs.path }}', method: GET}",
            "a value does not name a host",
        ),
        (
            "{method: GET, url: 'https://a.test/', headers: {X: {secret: 'env:${{ inputs.path }}'}}}",
            "a value does not name a secret",
        ),
        (
            "{method: GET, url: 'https://a.test/', headers: {X: {secret: hunter2}}}",
            "a secret is named, not given",
        ),
        (
            "{method: GET, url: 'https://a.test/', headers: {X: {secret: env:SWITCHBACK_DATABASE_URL}}}",
            "this server's own settings are not sent",
        ),
        (
            "{method: GET, url: 'https://a.test/', headers: {Authorization: Basic abc}}",
            "is a secret, and this file is read by many",
        ),
        (
            "{method: GET, url: 'https://a.test/', headers: {Idempotency-Key: a}}",
            "is set by the server",
        ),
        ("{method: GET, url: 'https://a.test/', headers: {X: a, x: b}}", "given twice"),
        ("{url: 'https://u:p@a.test/', irreversible: true}", "must not hold a user or a password"),
        ("{url: 'ftp://a.test/', irreversible: true}", "starts with http:// or https://"),
        ("{url: 'https://a.test/'}", "say in one way how it is taken back"),
        (
            "{url: 'https://a.test/', undo: {url: 'https://a.test/', retry: 3}}",
            "retry: unknown key `retry`",
        ),
        ("{url: 'https://a.test/', irreversible: true}", "a dangerous step needs an approval"),
        ("{method: GET, url: 'https://a.test/', body: a}", "GET has no body"),
        ("{method: TRACE, url: 'https://a.test/', irreversible: true}", "TRACE"),
    ] {
        let found = lint(step).await;
        assert!(found.contains(why) && !found.contains("hunter2"), "{step}: {found}");
    }
}
