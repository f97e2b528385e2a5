//! What is told about runs: the report, the evidence that nobody changed it, how far they are, and
//! what differs between two.

use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::server::{ADMIN, program};
use switchback_tests::{Api, Backend, Server, eventually, on_both};

const REASON: &str = "sign-in fails | for *everybody*";

/// A playbook of the operator's own: a second person agrees, and the last step fails, so that all is taken back.
const ASKED: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: asked, title: Ask first, owner: team-auth}
spec:
  deadline: 2m
  inputs:
    broken: {type: bool, default: false, description: Ask a server that is not there}
  steps:
    - id: off
      title: Take the new sign-in away
      approve: {roles: [admin], min: 1, timeout: 60s, on_timeout: stop, message: Take the new sign-in away?}
      flag.set: {key: auth_rollout, value: false}
    - id: look
      if: inputs.broken
      probe.http: {url: \"http://127.0.0.1:1/health\", expect: 200, within: 1s}
";

/// A server with the playbook above.
fn server(backend: &Backend) -> Server {
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    std::fs::write(runbooks.join("asked.yaml"), ASKED).unwrap();
    let folder = runbooks.display().to_string();
    Server::start_on(backend, "127.0.0.1:0", &[("SWITCHBACK_RUNBOOKS_DIR", &folder)])
}

async fn start(api: &Api, playbook: &str, inputs: Value) -> String {
    let body = json!({"environment": "production", "reason": REASON, "inputs": inputs});
    let run = api.post(&format!("/api/v1/playbooks/{playbook}/runs"), body).await;
    run["id"].as_str().unwrap().to_owned()
}

async fn ended(api: &Api, run: &str) -> Value {
    let over = ["succeeded", "failed", "compensated", "compensate_failed", "cancelled", "parked"];
    eventually("the run ends", || async {
        let detail = api.get(&format!("/api/v1/runs/{run}")).await;
        over.contains(&detail["state"].as_str().unwrap()).then_some(detail)
    })
    .await
}

/// Another person says yes as soon as they are asked.
async fn approve(server: &Server, run: &str) {
    let api = server.api();
    let name = format!("grace-{run}");
    let made =
        api.post("/api/v1/tokens", json!({"name": name, "kind": "api", "role": "admin"})).await;
    let grace = Api::new(&server.url, made["token"].as_str().unwrap());
    eventually("the run waits for people", || async {
        let detail = api.get(&format!("/api/v1/runs/{run}")).await;
        (detail["state"] == json!("waiting_approval")).then_some(())
    })
    .await;
    let body = json!({"approve": true, "comment": "go"});
    grace.send(Method::POST, &format!("/api/v1/runs/{run}/steps/off/approval"), Some(body)).await;
}

/// Runs the program; its exit code, and what it wrote.
fn switchback(server: &Server, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(program());
    command.env_clear().current_dir(std::env::temp_dir()).args(arguments);
    command.env("SWITCHBACK_URL", &server.url).env("SWITCHBACK_TOKEN", ADMIN);
    let output = command.output().unwrap();
    let (out, error) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    (output.status.code().unwrap(), format!("{out}{error}"))
}

on_both! {
    /// Who, why, when, what was before and after, who agreed, who acknowledged, and every row in words.
    async fn a_report_tells_everything_about_a_run(backend: Backend) {
        let server = server(&backend);
        let api = server.api();
        let run = start(&api, "auth-rollback", json!({})).await;
        ended(&api, &run).await;

        let report = api.get(&format!("/api/v1/runs/{run}/report")).await;

        assert_eq!((&report["id"], &report["outcome"]), (&json!(run), &json!("succeeded")), "{report}");
        assert_eq!((&report["reason"], &report["trigger"]), (&json!(REASON), &json!("api")));
        assert_eq!((&report["executedBy"], &report["requested_by"]), (&json!("token:first admin token"), &report["executedBy"]));
        assert_eq!(report["actions"].as_array().unwrap().len(), 6, "{}", report["actions"]);
        assert!(report["timestamp"].as_str().unwrap().ends_with('Z'));
        let detail = api.get(&format!("/api/v1/runs/{run}")).await;
        assert_eq!(report["plan_sha256"], detail["run"]["plan_sha256"]);
        assert_eq!(report["finished_at"], detail["run"]["finished_at"]);
        let off = &report["steps"][1];
        assert_eq!((&off["before"]["enabled"], &off["after"]["enabled"]), (&json!(true), &json!(false)));
        assert_eq!(off["changed"][0]["path"], json!("enabled"));
        assert!(off["duration_ms"].is_number() && off["attempts"] == json!(1), "{off}");
        assert_eq!(report["convergence"][0]["connected"], json!(0), "{}", report["convergence"]);
        assert_eq!(report["incidents"], detail["incidents"]);
        assert_eq!(report["timeline"].as_array().unwrap().len(), detail["log"].as_array().unwrap().len());

        let text = api.get(&format!("/api/v1/runs/{run}/report?format=markdown")).await;
        let text = text.as_str().unwrap();
        assert!(text.starts_with("# Disable auth, enable bypass\n"), "{text}");
        assert!(text.contains("| Reason | sign-in fails \\| for \\*everybody\\* |"), "{text}");
        assert!(text.contains("- Switch: on → off"), "{text}");
        let (code, printed) = switchback(&server, &["playbook", "report", &run]);
        assert_eq!((code, printed.trim()), (0, text.trim()));
        let odd = api.send(Method::GET, &format!("/api/v1/runs/{run}/report?format=pdf"), None).await;
        assert_eq!(odd.status, StatusCode::UNPROCESSABLE_ENTITY);
    }

    /// An approval, a failure and what was taken back stand in the report with who and why.
    async fn a_report_tells_who_agreed_and_what_was_taken_back(backend: Backend) {
        let server = server(&backend);
        let api = server.api();
        let run = start(&api, "asked", json!({"broken": true})).await;
        approve(&server, &run).await;
        ended(&api, &run).await;

        let report = api.get(&format!("/api/v1/runs/{run}/report")).await;

        assert_eq!((&report["outcome"], &report["unwound_because"]), (&json!("compensated"), &json!("failure")), "{report}");
        let approval = &report["approvals"][0];
        assert_eq!((&approval["step"], &approval["granted"], &approval["comment"]), (&json!("off"), &json!(true), &json!("go")));
        let (off, look) = (&report["steps"][0], &report["steps"][1]);
        assert_eq!((&off["state"], &off["undo"]["state"]), (&json!("undone"), &json!("undone")), "{off}");
        assert!(look["state"] == json!("failed") && look["error"].is_string(), "{look}");
        let (_, text) = switchback(&server, &["playbook", "report", &run]);
        assert!(text.contains("approved `off`") && text.contains("### 1. Take the new sign-in away (undone)"), "{text}");
    }

    /// Rows about data that a run had to preserve are told by their verdict, whatever the rule.
    async fn a_report_tells_what_was_found_about_the_data(backend: Backend) {
        let server = server(&backend);
        let api = server.api();
        let run = start(&api, "rehearsal", json!({"pause": "50ms"})).await;
        ended(&api, &run).await;
        for (step, phase) in [("begin", "done"), ("pause", "done"), ("end", "done")] {
            let rule = match step { "begin" => "carts", "pause" => "orders", _ => "people" };
            let verdict = match step { "begin" => phase, "pause" => "verified", _ => "unverified" };
            backend
                .tamper(&format!(
                    "UPDATE rollback_log SET step_id = 'preserve.{rule}', phase = '{verdict}', detail = '{{\"says\":\"{rule}: 7 rows\"}}' \
                     WHERE run_id = '{run}' AND step_id = '{step}' AND phase = '{phase}'"
                ))
                .await;
        }

        let report = api.get(&format!("/api/v1/runs/{run}/report")).await;

        let found: Vec<(&str, &str, &str)> = report["data"].as_array().unwrap().iter()
            .map(|row| (row["rule"].as_str().unwrap(), row["verdict"].as_str().unwrap(), row["says"].as_str().unwrap()))
            .collect();
        let wanted = [("carts", "measured", "carts: 7 rows"), ("orders", "holds", "orders: 7 rows"), ("people", "broken", "people: 7 rows")];
        assert_eq!(found, wanted);
        let (_, text) = switchback(&server, &["playbook", "report", &run]);
        assert!(text.contains("## Data") && text.contains("| carts | Measured |"), "{text}");
    }

    /// The evidence of a run holds without a server, and whatever is changed in it is named.
    async fn evidence_is_checked_without_a_server(backend: Backend) {
        let server = server(&backend);
        let api = server.api();
        // A run that goes on meanwhile leaves rows of its own between.
        let other = start(&api, "asked", json!({})).await;
        let run = start(&api, "rehearsal", json!({"pause": "300ms"})).await;
        approve(&server, &other).await;
        ended(&api, &run).await;
        ended(&api, &other).await;
        let file = backend.folder.path().join("evidence.json");
        let shown = file.display().to_string();
        let (code, text) = switchback(&server, &["playbook", "evidence", &run, "--out", &shown]);
        assert!(code == 0 && text.contains("is written"), "{text}");
        let good: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert!(!good["links"].as_array().unwrap().is_empty(), "another run's rows lie between");
        server.terminate();

        let verify = |evidence: &Value| {
            std::fs::write(&file, evidence.to_string()).unwrap();
            let mut command = Command::new(program());
            command.env_clear().current_dir(std::env::temp_dir()).args(["log", "verify", &shown]);
            let output = command.output().unwrap();
            let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
            (output.status.code().unwrap(), text.concat())
        };
        let (code, text) = verify(&good);
        assert!(code == 0 && text.contains("unbroken up to row"), "{text}");
        let number = |row: &Value| row["seq"].as_u64().unwrap();
        let third = number(&good["rows"][2]);
        let link = number(&good["links"][0]);
        let is_named = |what: &str, change: &dyn Fn(&mut Value), name: String| {
            let mut bad = good.clone();
            change(&mut bad);
            let (code, text) = verify(&bad);
            assert!(code == 8 && text.contains(&name) && text.lines().count() == 1, "{what}: {code} {text}");
        };
        is_named("another actor", &|bad| bad["rows"][2]["actor"] = json!("nobody"), format!("row {third}: its content"));
        is_named("another detail", &|bad| bad["rows"][2]["detail"]["x"] = json!(1), format!("row {third}: its content"));
        is_named("another hash", &|bad| bad["rows"][2]["hash"] = json!("00"), format!("row {third}: its content"));
        is_named("a row less", &|bad| drop(bad["rows"].as_array_mut().unwrap().remove(2)), format!("row {third}: it is missing"));
        is_named("a link less", &|bad| drop(bad["links"].as_array_mut().unwrap().remove(0)), format!("row {link}: it is missing"));
        is_named("another link", &|bad| bad["links"][0]["prev_hash"] = json!("00"), format!("row {link}: it does not follow"));
        is_named("a row twice", &|bad| {
            let row = bad["rows"][2].clone();
            bad["rows"].as_array_mut().unwrap().push(row);
        }, format!("row {third}: it is there twice"));
        is_named("another head", &|bad| bad["head"]["hash"] = json!("00"), "the head is not".to_owned());
        is_named("a later head", &|bad| bad["head"]["seq"] = json!(9_999), "it is missing".to_owned());
        is_named("another plan", &|bad| bad["plan"]["deadline_ms"] = json!(1), "the plan was changed".to_owned());
        is_named("another report", &|bad| bad["report"]["outcome"] = json!("failed"), "`outcome`".to_owned());
        is_named("more in the report", &|bad| bad["report"]["approvals"] = json!([{"by": "Eve"}]), "the report was changed".to_owned());

        for odd in [json!([]), json!({"format": "other"}), json!({"format": "switchback-evidence", "version": 99})] {
            let (code, text) = verify(&odd);
            assert!(code == 2 && text.contains("no evidence file"), "{text}");
        }
        let (code, text) = verify(&json!({"format": "switchback-evidence", "version": 1, "made_at": 0, "report": {}, "plan": {}, "rows": [], "links": [], "head": {"seq": 0, "hash": ""}}));
        assert!(code == 2 && text.contains("it holds no row"), "{text}");
    }

    /// Earlier good runs tell how far a run is and how long it still takes; without any nobody pretends to know.
    async fn earlier_runs_tell_how_long_a_run_takes(backend: Backend) {
        let server = server(&backend);
        let api = server.api();
        let body = json!({"environment": "production", "reason": REASON, "inputs": {"pause": "60s"}});
        let preview = "/api/v1/playbooks/rehearsal/preview";
        let nothing = api.post(preview, body.clone()).await;
        assert_eq!((&nothing["expected"]["from_runs"], &nothing["expected"]["p50_ms"]), (&json!(0), &json!(null)), "{nothing}");
        let first = start(&api, "rehearsal", json!({"pause": "400ms"})).await;
        let detail = api.get(&format!("/api/v1/runs/{first}")).await;
        assert_eq!((&detail["progress"]["left_ms"], &detail["progress"]["from_runs"]), (&json!(null), &json!(0)), "{}", detail["progress"]);
        let detail = ended(&api, &first).await;
        assert_eq!((&detail["progress"]["percent"], &detail["progress"]["left_ms"]), (&json!(100), &json!(0)));

        // The wait of the earlier run is taken out, and the one that is wanted now is put in.
        let found = api.post(preview, body.clone()).await;
        let expected = &found["expected"];
        let (p50, p95) = (expected["p50_ms"].as_i64().unwrap(), expected["p95_ms"].as_i64().unwrap());
        assert!(expected["from_runs"] == json!(1) && (60_000..70_000).contains(&p50) && p95 >= p50, "{expected}");
        let pause = &expected["steps"][1];
        assert!(pause["id"] == json!("pause") && pause["p50_ms"].as_i64().unwrap() >= 60_000, "{pause}");
        assert_eq!(expected["exceeds_deadline"], json!(false));

        let run = start(&api, "rehearsal", json!({"pause": "60s"})).await;
        let progress = eventually("the run says how far it is", || async {
            let detail = api.get(&format!("/api/v1/runs/{run}")).await;
            let progress = detail["progress"].clone();
            (detail["view"]["steps"][1]["state"] == json!("waiting")).then_some(progress)
        })
        .await;
        let left = progress["left_ms"].as_i64().unwrap();
        assert!((30_000..=62_000).contains(&left), "{progress}");
        assert!(progress["percent"].as_i64().unwrap() < 60, "{progress}");
        let page = api.get(&format!("/ui/production/runs/{run}")).await;
        assert!(page.as_str().unwrap().contains("id=\"run-progress\""), "{page}");
        api.post(&format!("/api/v1/runs/{run}/cancel"), json!({"reason": "seen"})).await;
        ended(&api, &run).await;

        // Had it taken ten minutes, a dry run would warn of the five minutes that it may take.
        backend.tamper(&format!("UPDATE playbook_runs SET created_at = created_at - 600000 WHERE id = '{first}'")).await;
        let found = api.post(preview, body).await;
        assert_eq!(found["expected"]["exceeds_deadline"], json!(true), "{}", found["expected"]);
        let dry = ["playbook", "run", "rehearsal", "--dry-run", "--reason", REASON];
        let (code, text) = switchback(&server, &dry);
        assert!(code == 0 && text.contains("usually") && text.contains("would exceed the deadline"), "{text}");
        let page = api.get("/ui/production/playbooks/rehearsal").await;
        assert!(page.as_str().unwrap().contains("id=\"too-long\""), "{page}");
        let again = ["playbook", "run", "rehearsal", "--reason", REASON, "--input", "pause=1s"];
        let (code, text) = switchback(&server, &again);
        assert!(code == 0 && text.contains("left") && text.contains("(earlier runs: 1)"), "{text}");
    }

    /// Two runs side by side: what each step came to, what took longer, what was given and planned otherwise.
    async fn two_runs_are_compared(backend: Backend) {
        let server = server(&backend);
        let api = server.api();
        let quick = start(&api, "rehearsal", json!({"pause": "50ms"})).await;
        ended(&api, &quick).await;
        let slow = start(&api, "rehearsal", json!({"pause": "900ms"})).await;
        ended(&api, &slow).await;

        let found = api.get(&format!("/api/v1/runs/{quick}/compare/{slow}")).await;

        assert_eq!((&found["left"]["run"], &found["right"]["run"]), (&json!(quick), &json!(slow)), "{found}");
        assert_eq!((&found["same_plan"], &found["same_text"], &found["same_outcome"]), (&json!(false), &json!(true), &json!(true)));
        assert_eq!(found["inputs"], json!([{"path": "pause", "before": "50ms", "after": "900ms"}]));
        assert!(found["longer_ms"].as_i64().unwrap() > 300, "{}", found["longer_ms"]);
        let pause = &found["steps"][1];
        assert!(pause["longer_ms"].as_i64().unwrap() > 300, "{pause}");
        let steps = found["steps"].as_array().unwrap();
        assert_eq!((steps.len(), &steps[2]["left"]["state"]), (5, &json!("skipped")), "{}", steps[2]);
        let planned = found["plan"].as_array().unwrap();
        assert!(planned.iter().any(|one| one["path"] == json!("steps.pause.wait_ms")), "{planned:?}");
        let itself = api.get(&format!("/api/v1/runs/{quick}/compare/{quick}")).await;
        assert_eq!((&itself["same_plan"], &itself["plan"], &itself["longer_ms"]), (&json!(true), &json!([]), &json!(0)));
        let nobody = api.send(Method::GET, &format!("/api/v1/runs/{quick}/compare/run_x"), None).await;
        assert_eq!(nobody.status, StatusCode::NOT_FOUND);

        let (code, text) = switchback(&server, &["playbook", "compare", &quick, &slow]);
        assert!(code == 0 && text.contains("its values differ") && text.contains("inputs pause: \"50ms\" -> \"900ms\""), "{text}");
        let page = api.get(&format!("/ui/production/runs/{slow}/compare")).await;
        let page = page.as_str().unwrap();
        assert!(page.contains(&format!("<option value=\"{quick}\" selected>")) && page.contains("id=\"pair-pause\""), "{page}");
    }
}
