//! Letters, as a real mail server takes them and another parser reads them: over TLS, each by itself, threaded, and ended with one
//! click; and news of one incident, which ends by itself.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::mail_server::authority;
use switchback_tests::{Api, Backend, MailServer, MailSink, Server, Sink, eventually, on_both};

/// What a body may hold that a mail server, or a parser, could stumble over.
const BODY: &str =
    "Payments fail für alle.\n.\nQUIT\nFrom here on: a=b, 100 %, <b>bold</b> & more.\n\nWe look.";

/// A server that writes letters over TLS, with a password.
fn serve(backend: &Backend, mail: &MailServer) -> (Server, Api) {
    let (url, authority) = (mail.url_with_tls(), authority(backend.folder.path()));
    let variables = [
        ("SWITCHBACK_MAIL__URL", url.as_str()),
        ("SWITCHBACK_MAIL__CA_FILE", authority.to_str().unwrap()),
        ("SWITCHBACK_MAIL__FROM", "Störungen im Shop <status@shop.example>"),
        ("SWITCHBACK_MAIL__REPLY_TO", "help@shop.example"),
    ];
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    (server, api)
}

async fn subscribe(api: &Api, address: &str) -> String {
    let body = json!({"mode": "email", "address": address, "skip_confirmation": true});
    api.post("/api/v1/subscribers", body).await["id"].as_str().unwrap().to_owned()
}

async fn team(api: &Api, to: &[&str]) {
    let body = json!({"name": "Desk", "to": {"kind": "email", "to": to}, "topics": ["incidents"]});
    api.put("/api/v1/channels/desk", body).await;
}

fn to<'l>(letters: &'l [Value], address: &str) -> Vec<&'l Value> {
    letters.iter().filter(|letter| letter["to"] == json!([address])).collect()
}

/// A page of people's, and a form sent to it.
async fn form(url: &str, fields: &[(&str, &str)]) -> (StatusCode, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    let answer = client
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.finish())
        .send()
        .await
        .unwrap();
    (answer.status(), answer.text().await.unwrap())
}

on_both! {
    /// A real mail server takes letters over STARTTLS after a sign-in, and a foreign parser finds in them what was said. Whom it
    /// refuses is named, and holds up nobody.
    async fn a_real_mail_server_takes_what_was_said(backend: Backend) {
        let mail = MailServer::start_with_tls();
        let (server, api) = serve(&backend, &mail);
        team(&api, &["desk@shop.example", "refused.desk@shop.example", "chief@shop.example"]).await;
        let ann = subscribe(&api, "ann@shop.example").await;
        for name in ["bob", "refused"] {
            subscribe(&api, &format!("{name}@shop.example")).await;
        }

        let name = "Zahlungen <b>down</b> für alle";
        let opened = json!({"name": name, "status": "investigating", "impact": "major", "body": BODY, "components": {"app": "major_outage"}});
        let incident = api.post("/api/v1/incidents", opened).await;
        let id = incident["id"].as_str().unwrap();
        api.settled_messages().await;
        let resolve = json!({"status": "resolved", "body": "It works again."});
        api.post(&format!("/api/v1/incidents/{id}/updates"), resolve).await;
        let fates = api.settled_messages().await;

        let letters = mail.letters();
        for address in ["ann@shop.example", "bob@shop.example", "desk@shop.example", "chief@shop.example"] {
            assert_eq!(to(&letters, address).len(), 2, "{address}: {letters:?}");
        }
        for letter in &letters {
            assert_eq!((&letter["is_encrypted"], &letter["is_signed_in"]), (&json!(true), &json!(true)));
            assert_eq!((&letter["faults"], &letter["kind"]), (&json!([]), &json!("multipart/alternative")), "{letter}");
            assert!(letter["line_max"].as_u64().unwrap() <= 998, "{letter}");
            assert_eq!(letter["headers"]["from"], "Störungen im Shop <status@shop.example>");
            assert_eq!((&letter["from"], &letter["headers"]["reply-to"]), (&json!("status@shop.example"), &json!("help@shop.example")));
            assert_eq!(letter["headers"]["auto-submitted"], "auto-generated");
        }
        let both = to(&letters, "ann@shop.example");
        let (first, last) = (both[0], both[1]);
        assert_eq!(first["headers"]["subject"], format!("Investigating: {name}"));
        let text = first["text"].as_str().unwrap();
        assert!(text.starts_with(&format!("{BODY}\n")), "{text}");
        assert!(!first["tags"].as_array().unwrap().contains(&json!("b")), "what was written is no markup: {first}");
        let words = first["words"].as_str().unwrap();
        assert!(words.contains(name) && words.contains("QUIT\nFrom here on: a=b, 100 %, <b>bold</b> & more."), "{words}");
        let page = format!("{}/status/incidents/{id}", server.url);
        assert!(first["links"].as_array().unwrap().contains(&json!(page)) && text.contains(&page), "{first}");

        let own = format!("<{id}.0.{ann}@shop.example>");
        assert_eq!((&first["headers"]["message-id"], &first["references"]), (&json!(own), &json!([])));
        assert_ne!(last["headers"]["message-id"], json!(own));
        assert_eq!((&last["references"], &last["headers"]["in-reply-to"]), (&json!([own]), &json!(own)));
        let end = first["headers"]["list-unsubscribe"].as_str().unwrap().trim_matches(['<', '>']);
        assert_eq!(first["headers"]["list-unsubscribe-post"], "List-Unsubscribe=One-Click");
        assert!(text.contains(end) && first["links"].as_array().unwrap().contains(&json!(end)));
        let (status, _) = form(end, &[("List-Unsubscribe", "One-Click")]).await;
        assert_eq!(status, StatusCode::OK);
        let known = api.get("/api/v1/subscribers").await["items"].as_array().unwrap().clone();
        let found = known.iter().find(|one| one["id"] == json!(ann)).unwrap();
        assert_eq!(found["state"], "unsubscribed");
        assert_eq!(to(&letters, "desk@shop.example")[0]["headers"].get("list-unsubscribe"), None, "the team's letters have no end");

        let of = |what: &str| fates.iter().filter(|fate| fate["address"] == *what || fate["channel"] == *what).collect::<Vec<_>>();
        for fate in of("refused@shop.example") {
            assert_eq!(fate["state"], "dead");
            assert!(fate["error"].as_str().unwrap().contains("no such mailbox"), "{fate}");
        }
        for fate in of("desk") {
            assert_eq!(fate["state"], "sent");
            let why = fate["error"].as_str().unwrap();
            assert!(why.starts_with("refused.desk@shop.example: the mail server refused it"), "{why}");
        }
        assert!(!format!("{fates:?}").contains("hush"), "the password is told nobody");
    }

    /// A mailbox that has to be asked twice gets its letter, and the others do not get theirs again.
    async fn who_is_asked_again_holds_up_nobody(backend: Backend) {
        let mail = MailServer::start_with_tls();
        let (_server, api) = serve(&backend, &mail);
        team(&api, &["later.desk@shop.example", "chief@shop.example"]).await;

        api.post("/api/v1/incidents", json!({"template": "auth_down"})).await;
        let waits = eventually("it is said why one waits", || async {
            let listed = api.get("/api/v1/messages").await;
            let item = listed["items"][0].clone();
            item["error"].is_string().then_some(item)
        }).await;
        let sent = api.settled_messages().await;

        assert!(waits["error"].as_str().unwrap().starts_with("later.desk@shop.example: the mail server said"), "{waits}");
        assert_eq!((&sent[0]["state"], &sent[0]["error"]), (&json!("sent"), &Value::Null));
        let letters = mail.letters();
        assert_eq!((to(&letters, "chief@shop.example").len(), to(&letters, "later.desk@shop.example").len()), (1, 1));
    }

    /// News of one incident: asked for on its page, confirmed by the address, told to its end, and over with it.
    async fn people_follow_one_incident_until_it_is_over(backend: Backend) {
        let mail = MailServer::start_with_tls();
        let (server, api) = serve(&backend, &mail);
        let open = async |name: &str, audience: &str| {
            let body = json!({"name": name, "status": "investigating", "impact": "minor", "body": "We look.", "audience": audience});
            api.post("/api/v1/incidents", body).await["id"].as_str().unwrap().to_owned()
        };
        let (ours, other, hidden) = (open("Cards fail", "public").await, open("App slow", "public").await, open("Quiet", "team").await);
        let ask = format!("{}/status/subscribe", server.url);
        let page = eventually("the page shows it", || async {
            let answer = reqwest::get(format!("{}/status/incidents/{ours}", server.url)).await.unwrap();
            (answer.status() == StatusCode::OK).then_some(answer)
        }).await.text().await.unwrap();
        assert!(page.contains(&format!("href=\"/status/subscribe?incident={ours}\"")), "{page}");
        let shown = reqwest::get(format!("{ask}?incident={ours}")).await.unwrap().text().await.unwrap();
        assert!(shown.contains("Cards fail") && shown.contains(&format!("name=\"incident\" value=\"{ours}\"")), "{shown}");

        let of_ours = [("address", "ann@shop.example"), ("incident", ours.as_str())];
        let (status, said) = form(&ask, &of_ours).await;
        assert_eq!(status, StatusCode::OK, "{said}");
        for wrong in [hidden.as_str(), "inc_none"] {
            let (status, said) = form(&ask, &[("address", "eve@shop.example"), ("incident", wrong)]).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(!said.contains("Quiet"), "{said}");
        }
        let letters = async |count: usize| {
            eventually("the letter is out", || async { (mail.letters().len() >= count).then(|| mail.letters()) }).await
        };
        let asked = letters(1).await.pop().unwrap();
        assert!(asked["headers"]["subject"].as_str().unwrap().contains("\"Cards fail\""), "{asked}");
        let links = asked["links"].as_array().unwrap();
        let confirm = links.iter().filter_map(Value::as_str).find(|link| link.contains("/status/confirm?token=")).unwrap();
        let (status, said) = form(confirm, &[]).await;
        assert_eq!(status, StatusCode::OK);
        assert!(said.contains("Cards fail") && said.contains("End this news") && !said.contains("Only about"), "{said}");
        // Who gets everything gets no second letter for the one incident.
        subscribe(&api, "bob@shop.example").await;
        let body = json!({"mode": "email", "address": "bob@shop.example", "incident": ours, "skip_confirmation": true});
        api.post("/api/v1/subscribers", body).await;

        let update = async |id: &str, status: &str| {
            api.post(&format!("/api/v1/incidents/{id}/updates"), json!({"status": status, "body": "News."})).await;
        };
        update(&other, "identified").await;
        update(&ours, "identified").await;
        update(&ours, "resolved").await;
        api.settled_messages().await;

        let all = mail.letters();
        let news: Vec<&Value> = to(&all, "ann@shop.example").into_iter().map(|one| &one["headers"]["subject"]).collect();
        assert_eq!(news[1..], ["Identified: Cards fail", "Resolved: Cards fail"], "nothing of the other one");
        assert_eq!(to(&all, "bob@shop.example").len(), 3, "one letter for each update");
        let known = api.get("/api/v1/subscribers").await["items"].as_array().unwrap().clone();
        let of_incident: Vec<&Value> = known.iter().filter(|one| one["incident_id"] == json!(ours)).map(|one| &one["state"]).collect();
        assert_eq!(of_incident, ["ended", "ended"]);
        let (status, said) = form(&ask, &of_ours).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(said.contains("That incident is over"), "{said}");
        let (status, said) = form(confirm, &[]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "an old link begins nothing: {said}");
    }
}

/// Without the right authority, or without TLS at the other end, no letter leaves and no password either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_goes_over_tls_or_not_at_all() {
    let (with_tls, plain) = (MailServer::start_with_tls(), MailServer::start());
    let in_clear = plain.url().replace("127.0.0.1", "u:hush@localhost") + "?tls=required";
    for (url, mail) in [(with_tls.url_with_tls(), &with_tls), (in_clear, &plain)] {
        let backend = Backend::sqlite();
        let variables = [
            ("SWITCHBACK_MAIL__URL", url.as_str()),
            ("SWITCHBACK_MAIL__FROM", "status@shop.example"),
        ];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let api = server.api();
        team(&api, &["desk@shop.example"]).await;

        let answer = api.send(Method::POST, "/api/v1/channels/desk/test", None).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        let waits = eventually("it is said why it waits", || async {
            let item = api.get("/api/v1/messages").await["items"][0].clone();
            item["error"].is_string().then_some(item)
        })
        .await;

        assert_eq!(waits["state"], "waiting", "{waits}");
        assert!(!waits["error"].as_str().unwrap().contains("hush"), "{waits}");
        assert!(mail.letters().is_empty());
    }
}

/// Microsoft Teams gets a card as its Workflows take it, and an answer that refuses is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teams_gets_a_card() {
    let backend = Backend::sqlite();
    let sink = Sink::start(|line, _| Some(if line.contains("gone") { 404 } else { 202 }));
    let mail = MailSink::start(Duration::ZERO);
    let (good, gone) = (format!("{}/flow/hush", sink.url), format!("{}/gone/hush", sink.url));
    let variables = [
        ("TEAMS_URL", good.as_str()),
        ("GONE_URL", &gone),
        ("SWITCHBACK_MAIL__URL", &mail.url),
        ("SWITCHBACK_MAIL__FROM", "status@shop.example"),
        ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8"),
    ];
    let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
    let api = server.api();
    for (key, url) in [("ops", "env:TEAMS_URL"), ("old", "env:GONE_URL")] {
        let body =
            json!({"name": key, "to": {"kind": "teams", "url": url}, "topics": ["incidents"]});
        api.put(&format!("/api/v1/channels/{key}"), body).await;
    }

    api.post(
        "/api/v1/incidents",
        json!({"template": "auth_down", "name": "Sign-in [down](https://evil.test)"}),
    )
    .await;
    let fates = api.settled_messages().await;

    let seen = sink.seen();
    let card = seen.iter().find(|one| one.line == "POST /flow/hush").unwrap();
    let card: Value = serde_json::from_str(&card.body).unwrap();
    let attachment = &card["attachments"][0];
    assert_eq!(
        (&card["type"], &attachment["contentType"]),
        (&json!("message"), &json!("application/vnd.microsoft.card.adaptive"))
    );
    let content = &attachment["content"];
    assert_eq!(
        (&content["type"], &content["body"][0]["color"]),
        (&json!("AdaptiveCard"), &json!("Attention"))
    );
    assert_eq!(content["body"][0]["text"], "Sign-in \\[down\\]\\(https://evil.test\\)");
    assert_eq!(content["actions"][0]["type"], "Action.OpenUrl");
    let state = |channel: &str| fates.iter().find(|fate| fate["channel"] == channel).unwrap();
    assert_eq!((&state("ops")["state"], &state("old")["state"]), (&json!("sent"), &json!("dead")));
    assert!(!format!("{fates:?}").contains("hush"));
}
