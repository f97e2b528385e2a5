//! What people are told, and that they are: channels, subscribers, retries, refusals, and a server that dies in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use switchback_tests::server::{ADMIN, program};
use switchback_tests::sink::Seen;
use switchback_tests::{Api, Backend, MailSink, Server, Sink, eventually, on_both};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";

/// A server whose outside world is the sinks.
fn serve(backend: &Backend, sink: &Sink, mail: &MailSink) -> (Server, Api) {
    let (slack, discord) =
        (format!("{}/slack/hush", sink.url), format!("{}/discord/hush", sink.url));
    let variables = [
        ("SLACK_URL", slack.as_str()),
        ("DISCORD_URL", &discord),
        ("PD_KEY", ROUTING_KEY),
        ("HOOK_SECRET", SECRET),
        ("SWITCHBACK_MAIL__URL", &mail.url),
        ("SWITCHBACK_MAIL__FROM", "Shop status <status@shop.example>"),
        ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8"),
    ];
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    (server, api)
}

async fn channel(api: &Api, key: &str, to: Value, topics: &[&str]) {
    let body = json!({"name": key, "to": to, "topics": topics});
    api.put(&format!("/api/v1/channels/{key}"), body).await;
}

async fn subscribe(api: &Api, address: &str, components: &[&str]) -> String {
    let body = json!({"mode": "email", "address": address, "components": components, "skip_confirmation": true});
    let added = api.post("/api/v1/subscribers", body).await;
    added["id"].as_str().unwrap().to_owned()
}

async fn open(api: &Api) -> Value {
    let body = json!({
        "template": "auth_down", "vars": {"estimated_time": "90m"},
        "name": "Sign-in <b>down</b>", "in_app": ["production"],
    });
    api.post("/api/v1/incidents", body).await
}

fn bodies(seen: &[Seen], line: &str) -> Vec<Value> {
    let meant = seen.iter().filter(|one| one.line.starts_with(line));
    meant.map(|one| serde_json::from_str(&one.body).unwrap()).collect()
}

on_both! {
    /// One incident, told once to every channel in its own form, threaded to its end.
    async fn an_incident_reaches_every_channel(backend: Backend) {
        let (sink, mail) = (Sink::start(|_, _| Some(200)), MailSink::start(Duration::ZERO));
        let (_server, api) = serve(&backend, &sink, &mail);
        channel(&api, "chat", json!({"kind": "slack", "url": "env:SLACK_URL"}), &["incidents"]).await;
        channel(&api, "game", json!({"kind": "discord", "url": "env:DISCORD_URL"}), &["incidents"]).await;
        let pager = json!({"kind": "pagerduty", "routing_key": "env:PD_KEY", "base_url": sink.url});
        channel(&api, "pager", pager, &["incidents", "flags"]).await;
        let hook = json!({"kind": "webhook", "url": format!("{}/hook", sink.url), "secret": "env:HOOK_SECRET"});
        channel(&api, "hook", hook, &["incidents"]).await;
        channel(&api, "desk", json!({"kind": "email", "to": ["desk@shop.example"]}), &["incidents"]).await;
        channel(&api, "quiet", json!({"kind": "slack", "url": "env:SLACK_URL"}), &["flags"]).await;
        let ann = subscribe(&api, "ann@shop.example", &[]).await;
        subscribe(&api, "bob@shop.example", &["app"]).await;

        let incident = open(&api).await;
        let id = incident["id"].as_str().unwrap();
        api.settled_messages().await;
        let handler = json!({"handled_by": "Ada"});
        api.put(&format!("/api/v1/incidents/{id}/handler"), handler).await;
        let resolve = json!({"status": "resolved", "body": "It works again."});
        api.post(&format!("/api/v1/incidents/{id}/updates"), resolve).await;
        let messages = api.settled_messages().await;

        assert!(messages.iter().all(|message| message["state"] == "sent"), "{messages:?}");
        let seen = sink.seen();
        let slack = bodies(&seen, "POST /slack/hush");
        assert_eq!(slack.len(), 2, "the quiet channel hears nothing");
        assert!(slack[0]["text"].as_str().unwrap().contains("Sign-in &lt;b&gt;down&lt;/b&gt;"), "{slack:?}");
        let discord = bodies(&seen, "POST /discord/hush?wait=true");
        assert_eq!((discord.len(), &discord[0]["allowed_mentions"]["parse"]), (2, &json!([])));
        let pages = bodies(&seen, "POST /v2/enqueue");
        let actions: Vec<&Value> = pages.iter().map(|page| &page["event_action"]).collect();
        assert_eq!(actions, ["trigger", "acknowledge", "resolve"]);
        assert!(pages.iter().all(|page| page["dedup_key"] == format!("sb:inc:{id}") && page["routing_key"] == ROUTING_KEY));
        let hooks: Vec<&Seen> = seen.iter().filter(|one| one.line == "POST /hook").collect();
        assert_eq!(hooks.len(), 3);
        for hook in &hooks {
            let (id, at) = (&hook.headers["webhook-id"], &hook.headers["webhook-timestamp"]);
            let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
            let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            let mac = mac.chain_update(format!("{id}.{at}.{}", hook.body));
            let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
            assert_eq!(hook.headers["webhook-signature"], expected);
        }
        let first: Value = serde_json::from_str(&hooks[0].body).unwrap();
        assert_eq!((&first["type"], &first["data"]["incident"]["id"]), (&json!("incident.opened"), &json!(id)));

        let mails = mail.mails();
        let to = |who: &str| -> Vec<_> { mails.iter().filter(|mail| mail.to == [who]).collect() };
        assert_eq!(to("desk@shop.example").len(), 2);
        assert!(to("bob@shop.example").is_empty(), "Bob only wants news of the app");
        let letters = to("ann@shop.example");
        let first = format!("<{id}.0.{ann}@shop.example>");
        assert_eq!(letters[0].header("message-id").unwrap(), first);
        assert_eq!(letters[1].header("references").unwrap(), first);
        assert!(letters[0].header("list-unsubscribe").unwrap().contains("/status/unsubscribe?token="));
        assert_eq!(letters[0].header("list-unsubscribe-post").unwrap(), "List-Unsubscribe=One-Click");
        assert!(letters[0].data.contains("1 hour 30 minutes"), "{}", letters[0].data);

        let shown = format!("{:?} {:?}", messages, api.get("/api/v1/channels").await);
        assert!(!shown.contains("hush") && !shown.contains(ROUTING_KEY), "{shown}");
    }

    /// What cannot be delivered is given up with a reason, and what can be still arrives.
    async fn refusals_are_said_and_hold_up_nobody(backend: Backend) {
        let sink = Sink::start(|line, nth| match (line, nth) {
            ("POST /flaky", 1) | ("POST /down", _) => Some(503),
            ("POST /moved", _) => Some(302),
            ("POST /gone", _) => Some(410),
            ("POST /hang", _) => None,
            _ => Some(200),
        });
        let mail = MailSink::start(Duration::ZERO);
        let (_server, api) = serve(&backend, &sink, &mail);
        let hook = |path: &str| json!({"kind": "webhook", "url": format!("{}/{path}", sink.url), "secret": "env:HOOK_SECRET"});
        for path in ["flaky", "moved", "gone", "hang", "good"] {
            channel(&api, path, hook(path), &["incidents"]).await;
        }
        let metadata = json!({"kind": "webhook", "url": "http://169.254.169.254/latest", "secret": "env:HOOK_SECRET"});
        channel(&api, "metadata", metadata, &["incidents"]).await;
        let unset = json!({"kind": "slack", "url": "env:NOT_SET"});
        channel(&api, "unset", unset, &["incidents"]).await;
        for name in ["refused", "carl", "dora"] {
            subscribe(&api, &format!("{name}@shop.example"), &[]).await;
        }

        open(&api).await;

        let fates = eventually("all but those who do not answer are done", || async {
            let listed = api.get("/api/v1/messages?limit=200").await;
            let fates: BTreeMap<String, Value> = listed["items"].as_array().unwrap().iter().map(|item| {
                let to = item["address"].as_str().or(item["channel"].as_str()).unwrap();
                (to.to_owned(), item.clone())
            }).collect();
            let waits = ["hang", "unset"];
            let done = fates.iter().all(|(to, fate)| waits.contains(&to.as_str()) || fate["state"] != "waiting");
            (done && fates.len() == 10).then_some(fates)
        }).await;
        for good in ["good", "flaky", "carl@shop.example", "dora@shop.example"] {
            assert_eq!(fates[good]["state"], "sent", "{good}: {fates:?}");
        }
        for (dead, why) in [
            ("moved", "redirects are not followed"), ("gone", "410"), ("metadata", "private address"),
            ("refused@shop.example", "550"),
        ] {
            assert_eq!(fates[dead]["state"], "dead", "{dead}");
            assert!(fates[dead]["error"].as_str().unwrap().contains(why), "{dead}: {}", fates[dead]["error"]);
        }
        assert!(fates["unset"]["error"].as_str().unwrap().contains("NOT_SET is not set"));
        let tries: Vec<Seen> = sink.seen().into_iter().filter(|one| one.line == "POST /flaky").collect();
        assert_eq!(tries.len(), 2);
        assert_eq!(tries[0].headers["webhook-id"], tries[1].headers["webhook-id"], "the key stays");
        let gone = api.get("/api/v1/channels/gone").await;
        assert!(gone["disabled_why"].as_str().unwrap().contains("410"), "{gone}");

        let again = format!("/api/v1/messages/{}/resend", fates["moved"]["id"].as_str().unwrap());
        let answer = api.send(Method::POST, &again, None).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        eventually("the dead letter is tried again", || async {
            let tries = sink.seen().iter().filter(|one| one.line == "POST /moved").count();
            (tries == 2).then_some(())
        }).await;
    }

    /// A server that is killed while it writes a thousand letters leaves each recipient with exactly one, or with more of the
    /// same `Message-ID`.
    async fn a_killed_server_loses_no_letter(backend: Backend) {
        const PEOPLE: usize = 1_000;
        let (sink, mail) = (Sink::start(|_, _| Some(200)), MailSink::start(Duration::from_millis(2)));
        let (server, api) = serve(&backend, &sink, &mail);
        let insert = (0..PEOPLE)
            .map(|n| format!("('sub_{n:04}', 'email', 'p{n}@shop.example', 'active', {}, 1)", "TRUE"))
            .collect::<Vec<_>>()
            .join(", ");
        let insert = format!("INSERT INTO subscribers (id, mode, address, state, is_global, created_at) VALUES {insert}");
        backend.tamper(&insert).await;

        open(&api).await;
        eventually("some letters are out", || async { (mail.mails().len() > 50).then_some(()) }).await;
        server.kill();
        let before = mail.mails().len();
        if !backend.database_url.is_empty() {
            // Nobody can be sure that the other node is dead until its leases have run out.
            backend.tamper("UPDATE outbox SET leased_until = 0 WHERE state = 'waiting'").await;
        }
        let (_server, api) = serve(&backend, &sink, &mail);

        eventually("every letter is noted", || async {
            let counts = api.get("/api/v1/messages/counts").await;
            let sent = counts.as_array().unwrap().iter().find(|one| one["state"] == "sent").cloned();
            (sent.is_some_and(|sent| sent["count"] == PEOPLE)).then_some(())
        }).await;
        let mails = mail.mails();
        let mut ids: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for one in &mails {
            ids.entry(&one.to[0]).or_default().insert(one.header("message-id").unwrap());
        }
        assert!(before < PEOPLE, "it was killed in the middle: {before}");
        assert_eq!(ids.len(), PEOPLE, "nobody is left out");
        assert!(ids.values().all(|ids| ids.len() == 1), "a second letter has the first one's id");
        let doubles = mails.len() - PEOPLE;
        assert!(doubles <= 32, "only what was in flight is sent twice: {doubles}");
        println!("killed after {before} letters; {doubles} were sent twice under their id");
    }

    /// Wrong input is refused with its place, and changes nothing.
    async fn wrong_input_is_refused_with_its_place(backend: Backend) {
        let (sink, mail) = (Sink::start(|_, _| Some(200)), MailSink::start(Duration::ZERO));
        let (_server, api) = serve(&backend, &sink, &mail);
        let refused = async |method: Method, path: &str, body: Value, says: &str| {
            let answer = api.send(method, path, Some(body)).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {}", answer.body);
            assert!(answer.body.to_string().contains(says), "{path}: {}", answer.body);
        };
        let source = "name: late\ntitle: Late\nimpact: minor\nstatus: investigating\nbody: 'back in {etta}'\nplaceholders: {eta: {type: duration, default: 2h}}\n";
        refused(Method::PUT, "/api/v1/incident-templates/late", json!({"source": source}), "5:7: body: `{etta}` is not declared").await;
        let lost = "name: auth_down\ntitle: T\nimpact: minor\nstatus: investigating\nbody: 'B'\n";
        refused(Method::PUT, "/api/v1/incident-templates/auth_down", json!({"source": lost}), "a playbook would no longer work").await;
        let long = json!({"name": "x", "body": "b".repeat(30_000)});
        refused(Method::POST, "/api/v1/incidents", long, "25000").await;
        let vars = json!({"template": "auth_down", "vars": {"nope": "1"}});
        refused(Method::POST, "/api/v1/incidents", vars, "no placeholder `nope`").await;
        for address in ["a@b.example\r\nBcc: c@d.example", "nobody", "a b@c.example"] {
            let body = json!({"mode": "email", "address": address, "skip_confirmation": true});
            refused(Method::POST, "/api/v1/subscribers", body, "is not an e-mail address").await;
        }
        let given = json!({"name": "x", "to": {"kind": "slack", "url": "https://hooks.example/hush"}});
        let answer = api.send(Method::PUT, "/api/v1/channels/x", Some(given)).await;
        assert!(answer.status.is_client_error() && !answer.body.to_string().contains("hush"), "{}", answer.body);
        assert!(api.get("/api/v1/subscribers").await["items"].as_array().unwrap().is_empty());
        assert!(api.get("/api/v1/incidents").await["items"].as_array().unwrap().is_empty());

        let good = source.replace("{etta}", "{eta}");
        let kept = api.put("/api/v1/incident-templates/late", json!({"source": good})).await;
        assert_eq!((&kept["version"], &kept["is_own"]), (&json!(1), &json!(true)));
        let stale = json!({"source": good, "expected_version": 0});
        let answer = api.send(Method::PUT, "/api/v1/incident-templates/late", Some(stale)).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
        let shown = api.post("/api/v1/incident-templates/late/preview", json!({"vars": {"eta": "1h"}})).await;
        assert_eq!(shown["body"], "back in 1 hour");
    }

    /// A playbook's messages go through the outbox once, and its incident says who is told.
    async fn a_playbook_tells_channels_and_the_page(backend: Backend) {
        const TELL: &str = "\
apiVersion: switchback/v1
kind: Playbook
metadata: {name: tell, title: Tell, owner: team-app}
spec:
  deadline: 1m
  steps:
    - id: chat
      notify.slack: {title: 'We roll back', message: 'Sign-in goes off.', severity: warning}
    - id: page
      page.component: {components: {app: degraded_performance}}
    - id: quiet
      incident.open: {template: auth_down, notify: [slack]}
    - id: stop
      probe.http: {url: 'http://127.0.0.1:1/', within: 1s}
      timeout: 2s
";
        let (sink, mail) = (Sink::start(|_, _| Some(200)), MailSink::start(Duration::ZERO));
        let runbooks = backend.folder.path().join("runbooks");
        std::fs::create_dir_all(&runbooks).unwrap();
        std::fs::write(runbooks.join("tell.yaml"), TELL).unwrap();
        let (runbooks, slack) = (runbooks.display().to_string(), format!("{}/slack", sink.url));
        let variables = [
            ("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()), ("SLACK_URL", &slack), ("PD_KEY", ROUTING_KEY),
            ("SWITCHBACK_MAIL__URL", &mail.url), ("SWITCHBACK_MAIL__FROM", "status@shop.example"),
            ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8"),
        ];
        let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
        let api = server.api();
        channel(&api, "chat", json!({"kind": "slack", "url": "env:SLACK_URL"}), &["team", "runs", "flags"]).await;
        let pager = json!({"kind": "pagerduty", "routing_key": "env:PD_KEY", "base_url": sink.url});
        channel(&api, "pager", pager, &["runs"]).await;
        subscribe(&api, "ann@shop.example", &[]).await;

        let end = switchback_tests::shop::play(&api, "tell", &json!({})).await;
        let messages = api.settled_messages().await;

        assert_eq!(end["run"]["state"], "compensated", "{end}");
        let texts: Vec<String> = bodies(&sink.seen(), "POST /slack").iter().map(|body| body["text"].to_string()).collect();
        let told = |what: &str| texts.iter().filter(|text| text.contains(what)).count();
        assert_eq!(told("Sign-in goes off."), 1, "{texts:?}");
        assert!(told("Sign-in is unavailable") >= 1, "the team hears of its incident: {texts:?}");
        assert!(told("is being taken back") == 1 && told("Tell:") >= 1, "{texts:?}");
        let pages = bodies(&sink.seen(), "POST /v2/enqueue");
        let actions: Vec<&Value> = pages.iter().map(|page| &page["event_action"]).collect();
        assert_eq!(actions, ["trigger", "trigger"], "a run that failed stays open on the pager");
        assert!(mail.mails().is_empty(), "customers were not told: {messages:?}");
        let components = api.get("/api/v1/components").await;
        let app = components["items"].as_array().unwrap().iter().find(|one| one["key"] == "app").cloned().unwrap();
        assert_eq!(app["status"], "operational", "what the run said on the page was taken back");
        let incidents = api.get("/api/v1/incidents").await;
        assert_eq!(incidents["items"][0]["audience"], "team");
        let page = Api::new(&server.url, "").get("/status.json").await;
        assert_eq!(page["incidents"], json!([]));
    }

    /// What is said of one incident goes in its order: a pager waits for what fails, a chat goes on without it.
    async fn a_pager_hears_of_the_beginning_first(backend: Backend) {
        let sink = Sink::start(|_, nth| Some(if nth == 1 { 503 } else { 200 }));
        let mail = MailSink::start(Duration::ZERO);
        let (_server, api) = serve(&backend, &sink, &mail);
        let pager = json!({"kind": "pagerduty", "routing_key": "env:PD_KEY", "base_url": sink.url});
        channel(&api, "pager", pager, &["incidents"]).await;
        channel(&api, "chat", json!({"kind": "slack", "url": "env:SLACK_URL"}), &["incidents"]).await;

        let incident = open(&api).await;
        let id = incident["id"].as_str().unwrap();
        for (status, body) in [("monitoring", "Better."), ("resolved", "It works again.")] {
            api.post(&format!("/api/v1/incidents/{id}/updates"), json!({"status": status, "body": body})).await;
        }
        api.settled_messages().await;

        let seen = sink.seen();
        let pages = bodies(&seen, "POST /v2/enqueue");
        let actions: Vec<&Value> = pages.iter().map(|page| &page["event_action"]).collect();
        assert_eq!(actions, ["trigger", "trigger", "trigger", "resolve"], "the first one again, then the others");
        assert_eq!(pages[0]["payload"]["summary"], pages[1]["payload"]["summary"]);
        let chat = bodies(&seen, "POST /slack/hush");
        let says = |nth: usize, what: &str| chat[nth]["text"].as_str().unwrap().contains(what);
        assert!(chat.len() == 4 && says(1, "Better.") && says(2, "It works again.") && !says(3, "works again"), "{chat:?}");
    }

    /// Planned work begins and ends by itself, and moves its components then; what is written down afterwards tells nobody and
    /// moves nothing.
    async fn planned_work_runs_by_itself_and_the_past_is_quiet(backend: Backend) {
        let (sink, mail) = (Sink::start(|_, _| Some(200)), MailSink::start(Duration::ZERO));
        let (_server, api) = serve(&backend, &sink, &mail);
        subscribe(&api, "ann@shop.example", &[]).await;
        let now = jiff::Timestamp::now().as_millisecond();
        let at = |ms: i64| jiff::Timestamp::from_millisecond(now + ms).unwrap().to_string();
        let past = json!({
            "name": "It was slow", "body": "A query had no index.", "impact": "minor", "components": {"auth": "partial_outage"},
            "started_at": at(-7_200_000), "ended_at": at(-3_600_000),
        });
        let past = api.post("/api/v1/incidents", past).await;
        let planned = json!({
            "name": "New disks", "status": "scheduled", "body": "Reads only.", "components": {"app": "under_maintenance"},
            "scheduled_for": at(-1_000), "scheduled_until": at(3_000), "auto_begin": true, "auto_complete": true,
        });
        let planned = api.post("/api/v1/incidents", planned).await;
        let id = planned["id"].as_str().unwrap();
        let state = async |key: &str| {
            let all = api.get("/api/v1/components").await;
            all["items"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap()["status"].clone()
        };

        eventually("it has begun", || async { (state("app").await == "under_maintenance").then_some(()) }).await;
        let done = eventually("it is complete", || async {
            let found = api.get(&format!("/api/v1/incidents/{id}")).await;
            (found["status"] == "completed").then_some(found)
        }).await;
        api.settled_messages().await;

        let said: Vec<&Value> = done["updates"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
        assert_eq!(said, ["completed", "in_progress", "scheduled"]);
        assert_eq!((state("app").await, state("auth").await), (json!("operational"), json!("operational")));
        assert_eq!((&past["status"], past["resolved_at"].is_number()), (&json!("resolved"), true), "{past}");
        let subjects: Vec<String> = mail.mails().iter().map(|one| one.header("subject").unwrap()).collect();
        assert_eq!(subjects, ["Scheduled: New disks", "In progress: New disks", "Completed: New disks"]);
    }

    /// A postmortem is drafted from what is on record of that time: updates, alerts, runs, changes; and of no other.
    async fn a_postmortem_is_drafted_from_the_record(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let incident = api.post("/api/v1/incidents", json!({"template": "auth_down"})).await;
        let id = incident["id"].as_str().unwrap();
        let now = jiff::Timestamp::now().to_string();
        let alert = |status: &str| json!({
            "status": status, "labels": {"alertname": "DiskFull", "environment": "production"},
            "annotations": {"summary": "the disk is full"}, "startsAt": now, "fingerprint": "f1",
        });
        for status in ["firing", "resolved"] {
            api.post("/api/v1/alerts", json!({"version": "4", "status": status, "alerts": [alert(status)]})).await;
        }
        let flag = |key: &str| json!({"key": key, "description": "made by a test"});
        api.post("/api/v1/flags", flag("new_login")).await;
        let end = switchback_tests::shop::play(&api, "rehearsal", &json!({})).await;
        let resolve = json!({"status": "resolved", "body": "It works again."});
        api.post(&format!("/api/v1/incidents/{id}/updates"), resolve).await;
        api.post("/api/v1/flags", flag("too_late")).await;

        let draft = api.get(&format!("/api/v1/incidents/{id}/postmortem")).await;

        let text = draft["body"].as_str().unwrap();
        let title = end["run"]["title"].as_str().unwrap();
        let lines = [
            "**Identified**: ".to_owned(), "**Resolved**: It works again.".to_owned(), "Component auth: operational to major outage".to_owned(),
            "Alert in production: ".to_owned(), "Alert in production is over: ".to_owned(), format!("started \"{title}\" in staging"),
            "`new_login` in ".to_owned(),
        ];
        for line in lines {
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert!(!text.contains("too_late"), "{text}");
    }

    /// What the pages do, the commands do.
    async fn the_commands_tell_people_too(backend: Backend) {
        let (sink, mail) = (Sink::start(|_, _| Some(200)), MailSink::start(Duration::ZERO));
        let (server, api) = serve(&backend, &sink, &mail);
        let command = |words: &[&str]| {
            let output = std::process::Command::new(program())
                .env_clear()
                .env("SWITCHBACK_URL", &server.url)
                .env("SWITCHBACK_TOKEN", ADMIN)
                .args(words)
                .output()
                .unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.success(), text(&output.stdout), text(&output.stderr))
        };
        let good = |words: &[&str]| {
            let (is_good, said, why) = command(words);
            assert!(is_good, "{words:?}: {why}");
            said
        };
        let file = backend.folder.path().join("ops.json");
        std::fs::write(&file, r#"{"name": "Ops", "to": {"kind": "slack", "url": "env:SLACK_URL"}, "topics": ["incidents"]}"#).unwrap();
        good(&["channel", "put", "ops", &file.display().to_string()]);
        good(&["channel", "test", "ops"]);
        good(&["subscriber", "add", "ann@shop.example", "--agreed"]);
        let template = backend.folder.path().join("late.yaml");
        std::fs::write(&template, "name: late\ntitle: Late\nimpact: minor\nstatus: identified\nbody: by {days}\nplaceholders: {days: {type: number}}\n").unwrap();
        good(&["template", "put", &template.display().to_string(), "late"]);
        assert!(good(&["template", "preview", "late", "--var", "days=3"]).contains("by 3"));

        let (is_good, _, why) = command(&["incident", "open", "--template", "late"]);
        assert!(!is_good && why.contains("needs a value for `days`"), "{why}");
        let said = good(&["incident", "open", "--template", "late", "--var", "days=3"]);
        let id = said.split_whitespace().next().unwrap();
        good(&["incident", "update", id, "--status", "resolved", "--body", "All are there."]);

        assert!(good(&["incident", "show", id]).contains("All are there."));
        assert!(good(&["incident", "list"]).contains("Late"));
        api.settled_messages().await;
        let listed = good(&["message", "list", "--state", "sent"]);
        assert!(listed.contains("ann@shop.example") && listed.contains("ops"), "{listed}");
        assert!(good(&["channel", "list"]).contains("slack") && good(&["subscriber", "list"]).contains("active"));
        assert_eq!(mail.mails().len(), 2);
    }
}
