//! Other status pages' ways in: Statuspage's management API, Cachet's, the plain form, PagerDuty's events; and people who
//! ask for news on the page itself.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use switchback_tests::server::ADMIN;
use switchback_tests::{Api, Instatus, MailSink, Server, Sink, eventually, instatus, on_both};

/// A client without a token of its own: these dialects send theirs elsewhere.
fn bare(server: &Server) -> Api {
    Api::new(&server.url, "")
}

async fn oauth(api: &Api, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let key = format!("OAuth {ADMIN}");
    let answer = api.send_with(method, path, body, &[("authorization", &key)]).await;
    (answer.status, answer.body)
}

/// A page as a browser without a script has it: the text, and where its form goes.
async fn form(url: &str, fields: &[(&str, &str)]) -> (StatusCode, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body: String =
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request =
        client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

on_both! {
    /// A script that posts to Statuspage posts here with another base URL and key.
    async fn statuspage_clients_manage_incidents(backend: Backend) {
        let server = Server::start(&backend);
        let api = bare(&server);
        let (status, pages) = oauth(&api, Method::GET, "/v1/pages.json", None).await;
        assert_eq!(status, StatusCode::OK, "{pages}");
        let page = pages[0]["id"].as_str().unwrap();
        assert_eq!(api.get("/api/v2/status.json").await["page"]["id"], page);
        let at = |rest: &str| format!("/v1/pages/{page}/{rest}");

        let body = json!({"component": {"name": "Payments", "status": "operational"}});
        let (status, made) = oauth(&api, Method::POST, &at("components"), Some(body)).await;
        assert_eq!((status, made["id"].as_str().unwrap()), (StatusCode::CREATED, "payments"), "{made}");
        let group = json!({"component_group": {"name": "Money", "components": ["payments"]}});
        let (_, group) = oauth(&api, Method::POST, &at("component-groups"), Some(group)).await;
        let public = api.get("/api/v2/components.json").await;
        let same = public["components"].as_array().unwrap().iter().any(|one| one["id"] == group["id"]);
        assert!(same, "a group has one id in both APIs: {group}");
        let (status, found) = oauth(&api, Method::GET, &at(&format!("component-groups/{}", group["id"].as_str().unwrap())), None).await;
        assert_eq!((status, &found["components"]), (StatusCode::OK, &json!(["payments"])));
        let body = json!({"incident": {
            "name": "Payments fail", "status": "investigating", "body": "We look.", "components": {"payments": "major_outage"},
            "metadata": {"jira": {"id": "OPS-1"}}, "wants_twitter_update": false, "reminder_intervals": "[1,2]",
        }});
        let (status, incident) = oauth(&api, Method::POST, &at("incidents.json"), Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{incident}");
        let id = incident["id"].as_str().unwrap();
        assert_eq!((&incident["impact"], &incident["page_id"]), (&json!("critical"), &json!(page)));
        assert_eq!(incident["incident_updates"][0]["affected_components"][0]["new_status"], "major_outage");
        let summary = api.get("/api/v2/summary.json").await;
        assert_eq!(summary["incidents"][0]["id"], id);

        let form_body = "incident%5Bstatus%5D=resolved&incident[body]=Paid+again";
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client
            .patch(format!("{}{}?api_key={ADMIN}", server.url, at(&format!("incidents/{id}"))))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form_body).send().await.unwrap();
        let resolved: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!((&resolved["status"], &resolved["incident_updates"][0]["body"]), (&json!("resolved"), &json!("Paid again")));
        assert_eq!(resolved["components"][0]["status"], "operational", "the component is given back");

        let draft = json!({"postmortem": {"body_draft": "A certificate ran out."}});
        oauth(&api, Method::PUT, &at(&format!("incidents/{id}/postmortem")), Some(draft)).await;
        let (_, told) = oauth(&api, Method::PUT, &at(&format!("incidents/{id}/postmortem/publish")), Some(json!({}))).await;
        assert_eq!(told["body"], "A certificate ran out.");
        let planned = json!({"incident": {
            "name": "Upgrade", "scheduled_for": "2030-01-01T00:00:00Z", "scheduled_until": "2030-01-01T01:00:00Z",
            "scheduled_auto_in_progress": true, "component_ids": ["payments"],
        }});
        let (status, planned) = oauth(&api, Method::POST, &at("incidents"), Some(planned)).await;
        assert_eq!((status, &planned["status"]), (StatusCode::CREATED, &json!("scheduled")), "{planned}");
        let (_, upcoming) = oauth(&api, Method::GET, &at("incidents/upcoming"), None).await;
        assert_eq!((upcoming.as_array().unwrap().len(), &upcoming[0]["id"]), (1, &planned["id"]));
        let subscriber = json!({"subscriber": {"email": "ann@shop.example", "component_ids": ["payments"], "skip_confirmation_notification": true}});
        let (status, added) = oauth(&api, Method::POST, &at("subscribers"), Some(subscriber.clone())).await;
        assert_eq!((status, &added["mode"], &added["components"]), (StatusCode::CREATED, &json!("email"), &json!(["payments"])));
        let (status, twice) = oauth(&api, Method::POST, &at("subscribers"), Some(subscriber)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{twice}");
        let template = json!({"template": {"name": "Card trouble", "title": "Cards {fail}", "body": "We look."}});
        let (status, kept) = oauth(&api, Method::POST, &at("incident_templates"), Some(template)).await;
        assert_eq!((status, &kept["id"]), (StatusCode::CREATED, &json!("card-trouble")), "{kept}");

        let wrong = json!({"incident": {"name": "x", "status": "broken"}});
        let (status, said) = oauth(&api, Method::POST, &at("incidents"), Some(wrong)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(said["message"].as_str().unwrap().contains("investigating"), "{said}");
        let (status, _) = oauth(&api, Method::GET, "/v1/pages/other/incidents", None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let nobody = api.send(Method::GET, "/v1/pages", None).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    }

    /// Cachet's clients, and those that know no more than a title, a status and a message.
    async fn cachet_and_plain_clients_post_incidents(backend: Backend) {
        let server = Server::start(&backend);
        let (api, open) = (server.api(), bare(&server));
        let plain = json!({"title": "Sign-in fails", "status": "in_progress", "message": "We look."});
        let answer = api.send(Method::POST, "/api/incidents", Some(plain)).await;
        assert_eq!((answer.status, &answer.body["status"]), (StatusCode::CREATED, &json!("investigating")), "{}", answer.body);
        let body = json!({
            "name": "App slow", "status": 2, "message": "Known.", "visible": true, "components": [{"id": "app", "status": 3}],
        });
        let answer = api.send(Method::POST, "/api/incidents", Some(body)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        let id = answer.body["data"]["id"].as_str().unwrap();
        let hidden = json!({"name": "Not for all", "status": 1, "message": "Quiet."});
        api.post("/api/incidents", hidden).await;

        let shown = open.get("/api/incidents?per_page=10").await;
        let names: Vec<&Value> = shown["data"].as_array().unwrap().iter().map(|one| &one["attributes"]["name"]).collect();
        assert_eq!(names, ["App slow", "Sign-in fails"], "what is not visible is not read");
        let component = open.get("/api/components/app").await;
        assert_eq!(component["data"]["attributes"]["status"]["value"], 3);
        let update = json!({"status": 4, "message": "Quick again."});
        api.post(&format!("/api/incidents/{id}/updates"), update).await;
        assert_eq!(open.get(&format!("/api/incidents/{id}")).await["data"]["attributes"]["status"], json!({"human": "Fixed", "value": 4}));
        assert_eq!(open.get("/api/ping").await["data"], "Pong!");
        assert_eq!(open.get("/api/status").await["data"]["status"], "operational");
        let refused = open.send(Method::POST, "/api/incidents", Some(json!({"name": "x", "status": 1, "message": "y"}))).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        let wrong = api.send(Method::POST, "/api/incidents", Some(json!({"name": "x", "status": 9, "message": "y"}))).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.body);
    }

    /// What pages elsewhere opens, takes and closes an incident of the team, under one key, again and again.
    async fn events_open_take_and_close_incidents(backend: Backend) {
        let server = Server::start(&backend);
        let (api, open) = (server.api(), bare(&server));
        let event = |action: &str| json!({
            "routing_key": ADMIN, "event_action": action, "dedup_key": "db-1",
            "payload": {"summary": "Disk is full", "source": "db1", "severity": "critical"},
        });
        for _ in 0..2 {
            let answer = open.send(Method::POST, "/v2/enqueue", Some(event("trigger"))).await;
            assert_eq!((answer.status, &answer.body["dedup_key"]), (StatusCode::ACCEPTED, &json!("db-1")), "{}", answer.body);
        }
        let listed = async || api.get("/api/v1/incidents").await["items"].as_array().unwrap().clone();
        let first = listed().await;
        assert_eq!((first.len(), &first[0]["audience"], &first[0]["impact"]), (1, &json!("team"), &json!("critical")));
        open.post("/v2/enqueue", event("acknowledge")).await;
        assert!(listed().await[0]["handled_by"].is_string());
        open.post("/v2/enqueue", event("resolve")).await;
        open.post("/v2/enqueue", event("trigger")).await;
        let both = listed().await;
        assert_eq!(both.len(), 2, "after it was over, the same key opens another");
        assert_eq!((&both[0]["status"], &both[1]["status"]), (&json!("investigating"), &json!("resolved")));
        assert_eq!(both[0]["updates"].as_array().unwrap().len(), 1);
        let mut wrong = event("trigger");
        wrong["payload"]["severity"] = json!("loud");
        let answer = open.send(Method::POST, "/v2/enqueue", Some(wrong)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.body["errors"][0].as_str().unwrap().contains("critical, error, warning"), "{}", answer.body);
    }

    /// An incident is opened, moved and ended on pages elsewhere, once each, and what stands there is read back. The pages
    /// elsewhere are another server of ours, which speaks both dialects.
    async fn pages_elsewhere_follow_and_are_read_back(backend: Backend) {
        let far = switchback_tests::Backend::sqlite();
        let far_server = Server::start(&far);
        let (far_api, open) = (far_server.api(), bare(&far_server));
        let page = open.get("/api/v2/status.json").await["page"]["id"].as_str().unwrap().to_owned();
        let variables = [("FAR_KEY", ADMIN), ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8")];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let api = server.api();
        let statuspage = json!({"kind": "statuspage", "page": page, "api_key": "env:FAR_KEY", "base_url": far_server.url, "components": {"auth": "auth"}});
        let cachet = json!({"kind": "cachet", "token": "env:FAR_KEY", "base_url": far_server.url, "components": {"auth": "app"}});
        for (key, to) in [("atlas", statuspage), ("cachet", cachet)] {
            api.put(&format!("/api/v1/channels/{key}"), json!({"name": key, "to": to, "topics": ["incidents"]})).await;
        }
        let elsewhere = async |id: &str| api.get(&format!("/api/v1/incidents/{id}/elsewhere")).await;

        let incident = api.post("/api/v1/incidents", json!({"template": "auth_down"})).await;
        let id = incident["id"].as_str().unwrap();
        eventually("both pages have it", || async {
            let there = elsewhere(id).await;
            (there.as_array().unwrap().len() == 2).then_some(())
        }).await;
        let far_open = far_api.get("/api/v1/incidents?open=true").await;
        let names: Vec<&Value> = far_open["items"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names, [&incident["name"]; 2], "one by each channel");
        let components = far_api.get("/api/v1/components").await;
        let down = components["items"].as_array().unwrap().iter().filter(|one| one["status"] == "major_outage").count();
        assert_eq!(down, 2, "each channel has its own map of components");
        api.put(&format!("/api/v1/incidents/{id}/handler"), json!({"handled_by": "Ada"})).await;
        api.post(&format!("/api/v1/incidents/{id}/updates"), json!({"status": "monitoring", "body": "Better."})).await;
        eventually("both pages follow", || async {
            let all = far_api.get("/api/v1/incidents?open=true").await;
            all["items"].as_array().unwrap().iter().all(|one| one["status"] == "monitoring").then_some(())
        }).await;
        let there = eventually("both are read back", || async {
            let there = elsewhere(id).await;
            there.as_array().unwrap().iter().all(|one| one["seen_at"].is_number()).then_some(there)
        }).await;
        let remote = there.as_array().unwrap().iter().find(|one| one["channel"] == "atlas").unwrap()["remote_id"].clone();
        let remote = remote.as_str().unwrap();
        let said = far_api.get(&format!("/api/v1/incidents/{remote}")).await["updates"].as_array().unwrap().len();
        assert_eq!(said, 2, "nothing is said twice, and who takes care is nothing for customers");

        far_api.post(&format!("/api/v1/incidents/{remote}/updates"), json!({"status": "identified", "body": "By hand."})).await;
        backend.tamper("UPDATE remote_incidents SET seen_at = NULL").await;
        eventually("the difference is seen", || async {
            let there = elsewhere(id).await;
            let atlas = there.as_array().unwrap().iter().find(|one| one["channel"] == "atlas").cloned().unwrap();
            (atlas["seen_status"] == "identified" && atlas["told_status"] == "monitoring").then_some(())
        }).await;
        api.post(&format!("/api/v1/incidents/{id}/updates"), json!({"status": "resolved", "body": "Over."})).await;
        eventually("both pages are calm again", || async {
            let all = far_api.get("/api/v1/incidents?open=true").await;
            all["items"].as_array().unwrap().is_empty().then_some(())
        }).await;
    }

    /// At Instatus incidents and planned work are opened, moved and ended, once each though the line is cut, and a difference is seen.
    async fn a_page_at_instatus_follows_and_is_read_back(backend: Backend) {
        let far = Instatus::start(1);
        let variables = [("FAR_KEY", instatus::KEY), ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8")];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let api = server.api();
        let to = json!({"kind": "instatus", "page": instatus::PAGE, "api_key": "env:FAR_KEY", "base_url": far.url, "components": {"auth": "c1"}});
        api.put("/api/v1/channels/far", json!({"name": "Far", "to": to, "topics": ["incidents"]})).await;
        let elsewhere = async |id: &str| api.get(&format!("/api/v1/incidents/{id}/elsewhere")).await;
        let tried = api.send(Method::POST, "/api/v1/channels/far/test", None).await;
        assert_eq!(tried.status, StatusCode::ACCEPTED, "{}", tried.body);
        eventually("the test says that the page answers", || async {
            (api.get("/api/v1/messages").await["items"][0]["state"] == "sent").then_some(())
        }).await;
        assert!(far.incidents().is_empty(), "a test is nothing for customers");

        let incident = api.post("/api/v1/incidents", json!({"template": "auth_down"})).await;
        let id = incident["id"].as_str().unwrap();
        let there = eventually("it is known there", || async {
            let there = elsewhere(id).await;
            there[0]["seen_at"].is_number().then_some(there)
        }).await;
        assert_eq!((&there[0]["told_status"], &there[0]["seen_status"]), (&json!("IDENTIFIED"), &json!("IDENTIFIED")));
        let made = far.incidents();
        assert_eq!(made.len(), 1, "the first call was cut off, and the second found what it had made: {made:?}");
        assert_eq!((&made[0]["name"], &made[0]["components"]), (&incident["name"], &json!([{"id": "c1", "status": "MAJOROUTAGE"}])));
        assert_eq!(made[0]["updates"].as_array().unwrap().len(), 1, "nothing is said twice");

        far.move_by_hand(0, "RESOLVED");
        backend.tamper("UPDATE remote_incidents SET seen_at = NULL").await;
        eventually("the difference is seen", || async {
            let there = elsewhere(id).await;
            (there[0]["seen_status"] == "RESOLVED" && there[0]["told_status"] == "IDENTIFIED").then_some(())
        }).await;
        api.post(&format!("/api/v1/incidents/{id}/updates"), json!({"status": "resolved", "body": "Over."})).await;
        let over = eventually("it is over there", || async {
            let one = far.incidents()[0].clone();
            (one["updates"].as_array().unwrap().len() == 2).then_some(one)
        }).await;
        assert_eq!((&over["status"], &over["updates"][1]["message"]), (&json!("RESOLVED"), &json!("Over.")));
        assert_eq!(over["components"], json!([{"id": "c1", "status": "OPERATIONAL"}]));

        let planned = json!({
            "name": "New disks", "status": "scheduled", "body": "Reads only.", "components": {"auth": "under_maintenance"},
            "scheduled_for": "2030-01-01T00:00:00Z", "scheduled_until": "2030-01-01T01:00:00Z",
        });
        let planned = api.post("/api/v1/incidents", planned).await;
        let id = planned["id"].as_str().unwrap();
        for (status, body) in [("in_progress", "We begin."), ("completed", "Done.")] {
            eventually("the page has what was said", || async {
                elsewhere(id).await[0]["told_status"].is_string().then_some(())
            }).await;
            api.post(&format!("/api/v1/incidents/{id}/updates"), json!({"status": status, "body": body})).await;
        }
        let done = eventually("the work is done there", || async {
            let one = far.maintenances().first().cloned()?;
            (one["updates"].as_array().unwrap().len() == 3).then_some(one)
        }).await;
        assert_eq!((&done["status"], &done["start"]), (&json!("COMPLETED"), &json!("2030-01-01T00:00:00Z")));
        assert_eq!((far.incidents().len(), far.maintenances().len()), (1, 1));
        let shown = format!("{:?} {:?}", api.get("/api/v1/messages").await, api.get("/api/v1/channels").await);
        assert!(!shown.contains(instatus::KEY), "{shown}");
    }

    /// A program asks for news too: its endpoint confirms, and every call is signed with the secret that it got then.
    async fn a_program_asks_and_is_called(backend: Backend) {
        let sink = Sink::start(|_, _| Some(200));
        let variables = [("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8")];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let (api, endpoint) = (server.api(), format!("{}/news", sink.url));
        let ask = format!("{}/status/subscribe", server.url);
        let call = async |nth: usize| eventually("the endpoint is called", || async { sink.seen().get(nth).cloned() }).await;

        let (status, said) = form(&ask, &[("by", "webhook"), ("address", &endpoint)]).await;
        assert_eq!(status, StatusCode::OK, "{said}");
        let asked: Value = serde_json::from_str(&call(0).await.body).unwrap();
        assert_eq!(asked["type"], "subscriber.confirm");
        let (_, page) = form(asked["data"]["confirm_url"].as_str().unwrap(), &[]).await;
        let secret = page.split("whsec_").nth(1).unwrap().split('<').next().unwrap();
        api.post("/api/v1/incidents", json!({"template": "auth_down"})).await;

        let told = call(1).await;
        let key = STANDARD.decode(secret.replace("&#43;", "+").replace("&#61;", "=")).unwrap();
        let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let (id, at) = (&told.headers["webhook-id"], &told.headers["webhook-timestamp"]);
        let mac = mac.chain_update(format!("{id}.{at}.{}", told.body)).finalize().into_bytes();
        assert_eq!(told.headers["webhook-signature"], format!("v1,{}", STANDARD.encode(mac)));
        let told: Value = serde_json::from_str(&told.body).unwrap();
        assert_eq!(told["type"], "incident.opened");
        assert!(!told.to_string().contains("/ui/"), "customers get no link of the team's: {told}");
    }

    /// Ask, follow the link, choose, end with one click: and only whoever has the letter can.
    async fn people_ask_confirm_choose_and_end(backend: Backend) {
        let mail = MailSink::start(Duration::ZERO);
        let variables = [("SWITCHBACK_MAIL__URL", mail.url.as_str()), ("SWITCHBACK_MAIL__FROM", "status@shop.example")];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let api = server.api();
        let ask = format!("{}/status/subscribe", server.url);
        let letters = async |count: usize| {
            eventually("the letter is out", || async { (mail.mails().len() >= count).then(|| mail.mails()) }).await
        };

        let (status, text) = form(&ask, &[("address", "nobody\r\nBcc: x@y.example")]).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
        let (status, said) = form(&ask, &[("address", "ann@shop.example"), ("component", "auth")]).await;
        assert_eq!(status, StatusCode::OK, "{said}");
        let (_, again) = form(&ask, &[("address", "ann@shop.example")]).await;
        assert_eq!(said, again, "what is answered does not tell whether an address is known");
        let plain = letters(1).await[0].data.replace("=\r\n", "").replace("=3D", "=");
        let link = plain.split("/status/confirm?token=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        let confirm = format!("{}/status/confirm?token={link}", server.url);

        assert_eq!(reqwest::get(&confirm).await.unwrap().status(), StatusCode::OK);
        let counts = async || api.get("/api/v1/subscribers").await["items"][0]["state"].clone();
        assert_eq!(counts().await, "pending", "a mail filter that opens links confirms nothing");
        let (status, text) = form(&format!("{confirm}x"), &[]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        let (status, text) = form(&confirm, &[]).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(counts().await, "active");
        assert!(text.contains("ann@shop.example"));

        api.post("/api/v1/incidents", json!({"template": "auth_down"})).await;
        let letter = letters(2).await.pop().unwrap();
        let end = letter.header("list-unsubscribe").unwrap();
        let end = end.trim_matches(['<', '>']).to_owned();
        let choose = end.replace("/unsubscribe?", "/subscription?");
        let (status, _) = form(&choose, &[("component", "app")]).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(api.get("/api/v1/subscribers").await["items"][0]["components"], json!(["app"]));
        let (status, _) = form(&end, &[("List-Unsubscribe", "One-Click")]).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(counts().await, "unsubscribed");
        let (status, _) = form(&end, &[("List-Unsubscribe", "One-Click")]).await;
        assert_eq!(status, StatusCode::OK, "twice is no fault");

        let mut last = StatusCode::OK;
        for n in 0..40 {
            last = form(&ask, &[("address", &format!("p{n}@shop.example"))]).await.0;
        }
        assert_eq!(last, StatusCode::TOO_MANY_REQUESTS, "nobody writes to strangers through us by the hundred");
    }
}
