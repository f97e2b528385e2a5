//! Runs that meet another one with their key: refused, queued, joined, superseding; and what follows every run: its report.

use reqwest::StatusCode;
use serde_json::{Value, json};
use switchback_tests::{Api, Backend, Server, eventually, on_both, shop};

/// Waits for ever, until somebody lets it go on.
fn playbook(name: &str, on_conflict: &str) -> String {
    format!(
        "apiVersion: switchback/v1\nkind: Playbook\nmetadata: {{name: {name}, title: Meet others, owner: shop}}\nspec:\n  deadline: 10m\n  \
         concurrency: {{key: one, on_conflict: {on_conflict}}}\n  always:\n    - report: {{to: [rollback_log, incident]}}\n  steps:\n    \
         - {{id: on, flag.set: {{key: auth_bypass, value: true}}}}\n    - {{id: tell, incident.open: {{template: auth_down}}}}\n    \
         - {{id: ask, approve: {{timeout: 5m}}, log: {{message: on we go}}}}\n"
    )
}

/// Whoever started it lets it go on.
const PAUSE: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: slowly, title: Slowly, owner: shop}
spec:
  deadline: 10m
  steps:
    - {id: look, pause: {message: 'Are the logins well?', timeout: 5m}}
    - {id: on, flag.set: {key: auth_bypass, value: true}}
";
/// Takes itself back, unless somebody renews it.
const BRIEF: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: brief, title: For a while, owner: shop}
spec:
  deadline: 1m
  steps:
    - {id: on, expires: 1h, sql.exec: {source: shop, sql: SELECT 1, undo: SELECT 1}}
";
/// Looks at what cannot be looked at.
const BLIND: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: blind, title: Blind, owner: shop}
spec:
  deadline: 1m
  require:
    - {id: few, expr: \"count('shop', 'SELECT COUNT(*) FROM nowhere') < 5\"}
  steps:
    - {id: note, log: {message: here}}
";
const ARCHIVE: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: tidy, title: Tidy up, owner: shop}
spec:
  deadline: 1m
  inputs:
    fail: {type: bool, default: false}
  steps:
    - {id: gone, flag.archive: {key: old}}
    - {id: last, if: inputs.fail, flag.set: {key: nowhere, value: true}}
";

async fn serve(backend: &Backend) -> (Server, Api) {
    let files = ["reject", "queue", "join", "supersede"]
        .map(|word| (format!("{word}.yaml"), playbook(word, word)));
    let mut files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files.extend([
        ("tidy.yaml", ARCHIVE),
        ("slowly.yaml", PAUSE),
        ("brief.yaml", BRIEF),
        ("blind.yaml", BLIND),
    ]);
    shop::open(backend, "shop", &files).await
}

async fn start(api: &Api, name: &str) -> Value {
    let body = json!({"environment": "production", "reason": "a test of meeting others"});
    api.post(&format!("/api/v1/playbooks/{name}/runs"), body).await
}

fn id_of(run: &Value) -> String {
    let id = run.get("id").or_else(|| run.pointer("/run/id")).and_then(Value::as_str);
    id.unwrap_or_else(|| panic!("{run}")).to_owned()
}

async fn until(api: &Api, id: &str, state: &str) -> Value {
    let path = format!("/api/v1/runs/{id}");
    eventually(&format!("the run is {state}"), || async {
        let run = api.get(&path).await;
        (run["state"] == state).then_some(run)
    })
    .await
}

on_both! {
    /// One is refused by name; one waits, begins when its turn comes, and has all of its time from then on; one that waits can be
    /// cancelled, and has done nothing.
    async fn a_second_run_is_refused_or_waits_for_its_turn(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let first = id_of(&start(&api, "reject").await);
        until(&api, &first, "waiting_approval").await;

        let body = json!({"environment": "production", "reason": "a test of meeting others"});
        let refused = api.send(reqwest::Method::POST, "/api/v1/playbooks/reject/runs", Some(body)).await;
        let second = id_of(&start(&api, "queue").await);
        let third = id_of(&start(&api, "queue").await);
        let waits = until(&api, &second, "queued").await;
        api.post(&format!("/api/v1/runs/{third}/cancel"), json!({"reason": "not needed"})).await;
        let never = until(&api, &third, "cancelled").await;
        let still = api.get(&format!("/api/v1/runs/{second}")).await;
        api.post(&format!("/api/v1/runs/{first}/cancel"), json!({"reason": "enough"})).await;
        until(&api, &first, "cancelled").await;
        let begun = until(&api, &second, "waiting_approval").await;

        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
        assert!(refused.body.to_string().contains(&first), "{}", refused.body);
        assert_eq!(waits["run"]["queued_for"], json!("one"), "{waits}");
        assert_eq!(still["state"], json!("queued"), "{still}");
        assert!(never["view"]["steps"].as_array().unwrap().iter().all(|step| step["attempts"] == 0), "{never}");
        let at = |name: &str| begun["run"][name].as_i64().unwrap();
        assert!(at("begins_at") > at("created_at"), "{begun}");
        assert_eq!(at("deadline_at") - at("begins_at"), 600_000, "{begun}");
    }

    /// Whoever joins is shown the run that goes on; one that supersedes takes back what the other did, and then runs.
    async fn a_second_run_joins_or_supersedes(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let first = id_of(&start(&api, "join").await);
        until(&api, &first, "waiting_approval").await;

        let joined = id_of(&start(&api, "join").await);
        let next = id_of(&start(&api, "supersede").await);
        let over = until(&api, &first, "cancelled").await;
        until(&api, &next, "waiting_approval").await;

        assert_eq!(joined, first);
        assert_ne!(next, first);
        let log = over["log"].to_string();
        assert!(log.contains("superseded by") && log.contains(&next), "{log}");
        assert_eq!(over["view"]["steps"][0]["state"], json!("undone"), "{over}");
    }

    /// What somebody renewed stays renewed when the server starts again.
    async fn a_renewal_survives_a_start(backend: Backend) {
        let (server, api) = serve(&backend).await;
        let id = id_of(&start(&api, "brief").await);
        until(&api, &id, "succeeded").await;
        let path = format!("/api/v1/runs/{id}");
        api.post(&format!("{path}/renew"), json!({"for": "6h", "reason": "it takes longer"})).await;
        let renewed = api.get(&path).await["run"]["expires_at"].clone();
        server.kill();

        let server = Server::start(&backend);
        let api = server.api();
        let next = id_of(&api.post("/api/v1/playbooks/rehearsal/runs", json!({"environment": "staging", "reason": "the runner is there"})).await);
        until(&api, &next, "succeeded").await;

        assert!(renewed.is_i64(), "{renewed}");
        assert_eq!(api.get(&path).await["run"]["expires_at"], renewed);
    }

    /// A precondition that cannot be looked at does not hold: the run ends, and says why.
    async fn what_cannot_be_looked_at_does_not_hold(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let id = id_of(&start(&api, "blind").await);
        let over = until(&api, &id, "failed").await;
        assert!(over["log"].to_string().contains("nowhere"), "{over}");
    }

    /// A pause is ended by whoever started the run; an approval is not.
    async fn a_pause_is_ended_by_whoever_started_the_run(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let asked = id_of(&start(&api, "join").await);
        until(&api, &asked, "waiting_approval").await;
        let paused = id_of(&start(&api, "slowly").await);
        until(&api, &paused, "waiting_approval").await;

        let say = async |run: &str, step: &str| {
            let path = format!("/api/v1/runs/{run}/steps/{step}/approval");
            api.send(reqwest::Method::POST, &path, Some(json!({"approve": true, "comment": "they are"}))).await
        };
        let own = say(&asked, "ask").await;
        let on = say(&paused, "look").await;
        let done = until(&api, &paused, "succeeded").await;

        assert!(own.status.is_client_error() && own.body.to_string().contains("somebody else"), "{}", own.body);
        assert!(on.status.is_success(), "{}", on.body);
        assert_eq!(done["view"]["steps"][1]["state"], json!("done"), "{done}");
    }

    /// However a run ends, the incident that it opened has its report as the draft of a postmortem.
    async fn the_report_reaches_the_incident(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let id = id_of(&start(&api, "reject").await);
        until(&api, &id, "waiting_approval").await;
        api.post(&format!("/api/v1/runs/{id}/cancel"), json!({"reason": "enough"})).await;
        let over = until(&api, &id, "cancelled").await;

        let incident = over["incidents"][0].as_str().unwrap().to_owned();
        let draft = eventually("the draft is there", || async {
            let incident = api.get(&format!("/api/v1/incidents/{incident}")).await;
            incident["postmortem"].as_str().map(str::to_owned)
        })
        .await;

        assert!(draft.contains("\"Meet others\" in production") && draft.contains(&id) && draft.contains("a test of meeting others"), "{draft}");
    }

    /// A playbook archives a flag everywhere; when a later step fails the flag is back as it was, and people can bring one back, too.
    async fn a_playbook_archives_a_flag_and_takes_it_back(backend: Backend) {
        let (_server, api) = serve(&backend).await;
        let flag = json!({"key": "old", "project": "auth", "kind": "release", "value_type": "boolean", "reason": "a test"});
        api.post("/api/v1/flags", flag).await;
        api.put("/api/v1/environments/production/flags/old/enabled", json!({"enabled": true, "reason": "a test"})).await;
        let path = "/api/v1/environments/production/flags/old";
        let before = api.get(path).await;
        let run = |fail: bool| {
            let body = json!({"environment": "production", "reason": "tidying up", "inputs": {"fail": fail}});
            let api = &api;
            async move { id_of(&api.post("/api/v1/playbooks/tidy/runs", body).await) }
        };

        let plan = api.post("/api/v1/playbooks/tidy/preview", json!({"environment": "production", "reason": "looking"})).await;
        until(&api, &run(true).await, "compensated").await;
        let back = api.get(path).await;
        until(&api, &run(false).await, "succeeded").await;
        let gone = api.get(path).await;
        let document = api.get("/api/v1/environments/production/flags").await;
        let answer = api.send(reqwest::Method::POST, "/api/v1/flags/old/unarchive", Some(json!({"reason": "needed"}))).await;
        let again = api.get(path).await;
        let twice = api.send(reqwest::Method::POST, "/api/v1/flags/old/unarchive", Some(json!({}))).await;

        assert!(plan.to_string().contains("every environment"), "{plan}");
        assert_eq!((&back["flag"]["archived_at"], &back["state"]), (&Value::Null, &before["state"]), "{back}");
        assert!(gone["flag"]["archived_at"].is_i64(), "{gone}");
        assert!(!document.to_string().contains("\"old\""), "{document}");
        assert!(answer.status.is_success(), "{}", answer.body);
        assert_eq!((&again["flag"]["archived_at"], &again["state"]), (&Value::Null, &before["state"]), "{again}");
        assert!(twice.status.is_client_error() && twice.body.to_string().contains("not archived"), "{}", twice.body);
    }
}
