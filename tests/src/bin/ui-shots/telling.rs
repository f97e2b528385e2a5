//! Pages about telling people: channels, messages, subscribers, templates, an incident and its composer, asking for news.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use switchback_tests::browser::Browser;
use switchback_tests::{Backend, MailSink, Server, Sink, eventually};

use super::shoot;

/// Takes them, from a server of their own whose outside world is on this machine.
pub async fn pages(browser: &Browser, folder: &Path) {
    let (sink, mail) = (Sink::start(|_, _| Some(200)), MailSink::start(Duration::ZERO));
    let backend = Backend::sqlite();
    let slack = format!("{}/slack", sink.url);
    let variables = [
        ("SLACK_URL", slack.as_str()),
        ("PAGERDUTY_KEY", "0123456789abcdef0123456789abcdef"),
        ("SWITCHBACK_MAIL__URL", &mail.url),
        ("SWITCHBACK_MAIL__FROM", "Shop status <status@shop.example>"),
        ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8"),
        ("SWITCHBACK_STATUS__TITLE", "Shop status"),
    ];
    let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
    let api = server.api();
    for (key, name, to, topics) in [
        (
            "ops",
            "Operations",
            json!({"kind": "slack", "url": "env:SLACK_URL"}),
            vec!["incidents", "team", "runs"],
        ),
        (
            "on-call",
            "On call",
            json!({"kind": "pagerduty", "routing_key": "env:PAGERDUTY_KEY", "base_url": sink.url}),
            vec!["incidents", "team"],
        ),
        (
            "desk",
            "Support desk",
            json!({"kind": "email", "to": ["desk@shop.example"]}),
            vec!["incidents"],
        ),
        ("audit", "Audit", json!({"kind": "slack", "url": "env:AUDIT_URL"}), vec!["flags"]),
    ] {
        let body = json!({"name": name, "to": to, "topics": topics});
        api.put(&format!("/api/v1/channels/{key}"), body).await;
    }
    for (name, components) in [("ann", vec![]), ("bob", vec!["auth"]), ("refused", vec![])] {
        let body = json!({
            "mode": "email", "address": format!("{name}@example.org"), "components": components, "skip_confirmation": true,
        });
        api.post("/api/v1/subscribers", body).await;
    }
    let asks = json!({"mode": "email", "address": "carl@example.org"});
    api.post("/api/v1/subscribers", asks).await;
    let body = json!({"template": "auth_down", "vars": {"estimated_time": "90m"}});
    let incident = api.post("/api/v1/incidents", body).await;
    let incident = incident["id"].as_str().unwrap();
    let update = json!({"status": "monitoring", "template": "auth_down_monitoring"});
    api.post(&format!("/api/v1/incidents/{incident}/updates"), update).await;
    let handler = json!({"handled_by": "Ada"});
    api.put(&format!("/api/v1/incidents/{incident}/handler"), handler).await;
    eventually("what can be sent is sent", || async {
        let counts = api.get("/api/v1/messages/counts").await;
        let waits = counts.as_array().unwrap().iter().any(|one| one["state"] == "waiting");
        (!waits).then_some(())
    })
    .await;

    browser.sign_in(&server).await;
    for (page, name) in [
        ("/ui/settings/channels", "channels"),
        ("/ui/settings/messages", "messages"),
        ("/ui/settings/subscribers", "subscribers"),
        ("/ui/settings/templates", "templates"),
        ("/ui/settings/templates/auth_down", "template"),
        ("/ui/production/incidents/new?template=auth_down", "incident-new"),
        (&format!("/ui/production/incidents/{incident}"), "incident"),
        ("/status/subscribe", "status-subscribe"),
    ] {
        shoot(browser, &format!("{}{page}", server.url), folder, name).await;
    }
}
