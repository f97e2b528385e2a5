//! Clients of Statuspage, unmodified and in processes of their own, pointed at this server: one that manages incidents, one that reads
//! the public page for a monitoring system.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use switchback_tests::server::ADMIN;
use switchback_tests::{Api, Server, eventually, on_both};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("statuspage")
}

fn said_by(command: &mut Command) -> String {
    let output = command.output().expect(
        "clients of Statuspage: run the tests with `cargo xtask test`, which installs them",
    );
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// What the exporter makes of our page: its metrics, one a line.
fn export(server: &Server) -> Vec<String> {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let services =
        json!({"shop": {"name": "Shop", "url": format!("{}/api/v2/summary.json", server.url)}});
    std::fs::write(at("services.json"), services.to_string()).unwrap();
    said_by(
        Command::new(folder().join(".venv/bin/statuspage-prometheus-exporter"))
            .current_dir(place.path())
            .env("RUN_MODE", "once")
            .env("SERVICES_JSON_PATH", at("services.json"))
            .env("METRICS_TEXTFILE_PATH", at("shop.prom")),
    );
    let text = std::fs::read_to_string(at("shop.prom")).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

on_both! {
    /// A client of Statuspage's management API does here what it does there, and says so in its own words.
    async fn a_client_manages_incidents(backend: Backend) {
        let server = Server::start(&backend);
        let open = Api::new(&server.url, "");
        let page = open.get("/api/v2/status.json").await["page"]["id"].as_str().unwrap().to_owned();

        let said = said_by(Command::new(folder().join(".venv/bin/python"))
            .arg(folder().join("client.py"))
            .args([&server.url, &page, ADMIN]));
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));

        assert_eq!(said["page"], "Service status");
        assert_eq!((&said["component"]["status"], &said["component"]["description"]), (&json!("operational"), &json!("Cards and invoices")));
        assert_eq!((&said["group"]["name"], &said["group"]["components"]), (&json!("Money"), &json!([said["component"]["id"]])));
        let opened = &said["opened"];
        assert_eq!((&opened["status"], &opened["impact"], &opened["page_id"]), (&json!("investigating"), &json!("major"), &json!(page)));
        assert_eq!(opened["metadata"], json!({"ticket": {"id": "OPS-1"}}));
        assert_eq!((&said["unresolved"], &said["upcoming"]), (&json!(["Cards are declined"]), &json!(["New disks"])));
        assert_eq!((&said["moved"]["status"], said["moved"]["incident_updates"].as_array().unwrap().len()), (&json!("monitoring"), 2));
        assert_eq!(said["corrected"]["body"], "A mend is out everywhere.");
        assert_eq!((&said["planned"]["status"], &said["planned"]["impact"]), (&json!("scheduled"), &json!("maintenance")));
        assert_eq!(said["subscribers"], json!([["ann@shop.example", "email"]]));
        assert_eq!((&said["deleted"], &said["found"]), (&json!(200), &json!(["Cards are declined"])));
        assert_eq!((&said["wrong_status"][0], &said["wrong_status"][1]), (&json!("ResourceError"), &json!(422)));
        assert!(said["wrong_status"][2].as_str().unwrap().contains("investigating"), "{said}");
        assert_eq!((&said["unknown"][0], &said["unknown"][1]), (&json!("RequestError"), &json!(404)));
        let held = json!(["payments", "major_outage"]);
        assert!(said["components"].as_array().unwrap().contains(&held), "an update moves only what it names: {said}");
        assert_eq!(said["resolved"], "resolved");
        let api = server.api();
        let id = opened["id"].as_str().unwrap();
        let kept = api.get(&format!("/api/v1/incidents/{id}")).await;
        let bodies: Vec<&Value> = kept["updates"].as_array().unwrap().iter().map(|one| &one["body"]).collect();
        assert_eq!(bodies, ["Paid again.", "A mend is out everywhere.", "We look."]);
    }

    /// An exporter for Prometheus that knows Statuspage's public documents understands ours.
    async fn an_exporter_reads_the_public_page(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let calm = export(&server);
        let has = |lines: &[String], parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(has(&calm, &["statuspage_service_status{service_name=\"Shop\"} 1.0"]), "{calm:#?}");
        assert!(has(&calm, &["statuspage_probe_check", " 1.0"]));

        let opened = json!({"name": "Cards are declined", "status": "identified", "impact": "major", "body": "We mend it.", "components": {"app": "partial_outage"}});
        let incident = api.post("/api/v1/incidents", opened).await;
        let planned = json!({
            "name": "New disks", "status": "scheduled", "body": "Reads only.", "components": {"auth": "under_maintenance"},
            "scheduled_for": "2030-01-01T00:00:00Z", "scheduled_until": "2030-01-01T01:00:00Z",
        });
        api.post("/api/v1/incidents", planned).await;
        let open = Api::new(&server.url, "");
        eventually("the page has both", || async {
            let summary = open.get("/api/v2/summary.json").await;
            let count = |list: &str| summary[list].as_array().unwrap().len();
            (count("incidents") == 1 && count("scheduled_maintenances") == 1).then_some(())
        }).await;

        let down = export(&server);

        let id = incident["id"].as_str().unwrap();
        assert!(has(&down, &["statuspage_service_status{service_name=\"Shop\"} 0.0"]), "{down:#?}");
        let name = open.get("/api/v2/components.json").await["components"].as_array().unwrap().iter()
            .find(|one| one["id"] == "app").unwrap()["name"].as_str().unwrap().to_owned();
        let affected = format!("affected_components=\"{name}\"");
        assert!(has(&down, &["statuspage_incident_info", id, "Cards are declined", "impact=\"major\"", &affected, " 1.0"]), "{down:#?}");
        assert!(has(&down, &["statuspage_maintenance_info", "New disks", "2030-01-01T00:00:00", " 1.0"]), "{down:#?}");
        let state = |down: &[String]| has(down, &["statuspage_component_status", &format!("component_name=\"{name}\""), " 0.0"]);
        assert!(state(&down), "{down:#?}");
    }
}
