//! Alert rules: they fire and end by what apps report, are told once, stay quiet when told to, and survive a node's death.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::browser::Browser;
use switchback_tests::server::{ADMIN, EVENTS, program};
use switchback_tests::{Api, Backend, Server, Sink, eventually, on_both, shop};

const PROD: &str = "/api/v1/environments/production";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Logins fail, as soon as 20 of them are known; over as soon as they do not.
fn rule(name: &str, more: &str) -> String {
    format!(
        "kind: AlertRule\nmetadata: {{name: {name}, title: Logins fail}}\nspec:\n  environments: [production]\n  \
         severity: critical\n  labels: {{component: auth}}\n  \
         when: {{failure_rate: {{of: login, above: 10%, window: 5m, min_events: 20}}}}\n  keep_for: 0s\n{more}"
    )
}

fn serve(backend: &Backend) -> Server {
    let variables = [
        ("HOOK_SECRET", SECRET),
        ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8"),
        ("PD_KEY", "0123456789abcdef0123456789abcdef"),
    ];
    Server::start_on(backend, "127.0.0.1:0", &variables)
}

async fn channel(api: &Api, sink: &Sink) {
    let to = json!({"kind": "webhook", "url": format!("{}/hook", sink.url), "secret": "env:HOOK_SECRET"});
    let body = json!({"name": "Hook", "to": to, "topics": ["alerts"]});
    api.put("/api/v1/channels/hook", body).await;
}

async fn put(api: &Api, name: &str, more: &str) -> Value {
    let body = json!({"source": rule(name, more)});
    api.put(&format!("/api/v1/alert-rules/{name}"), body).await
}

async fn logins(server: &Server, mark: &str, n: usize, failed: usize) {
    let kind = |n: usize| if n < failed { "login_failure" } else { "login_success" };
    let batch: Vec<Value> = (0..n)
        .map(|n| json!({"id": format!("{mark}{n}"), "type": kind(n), "user_id": format!("u{n}")}))
        .collect();
    Api::new(&server.url, EVENTS).post("/api/v1/auth-events", json!(batch)).await;
}

/// The open alert of a rule.
async fn open(api: &Api, rule: &str) -> Option<Value> {
    let all = api.get(&format!("{PROD}/alerts?open=true")).await;
    all.as_array().unwrap().iter().find(|alert| alert["rule"] == rule).cloned()
}

async fn fired(api: &Api, rule: &str) -> Value {
    eventually("the rule fires", async || open(api, rule).await).await
}

fn told(sink: &Sink, event: &str) -> Vec<Value> {
    let seen = sink.seen();
    let bodies = seen.iter().map(|one| serde_json::from_str::<Value>(&one.body).unwrap());
    bodies.filter(|body| body["type"] == event).collect()
}

async fn standing(api: &Api, rule: &str) -> Value {
    let all = api.get(&format!("{PROD}/alert-rules")).await;
    all.as_array().unwrap().iter().find(|one| one["name"] == rule).unwrap().clone()
}

on_both! {
    async fn a_rule_fires_is_taken_care_of_and_ends(backend: Backend) {
        let sink = Sink::start(|_, _| Some(200));
        let server = serve(&backend);
        let api = server.api();
        channel(&api, &sink).await;
        put(&api, "fails", "  summary: '{value} in {environment}'\n  playbook: auth-rollback\n").await;
        logins(&server, "a", 100, 25).await;

        let alert = fired(&api, "fails").await;

        assert_eq!((&alert["words"], &alert["severity"]), (&json!("25 % in production"), &json!("critical")));
        eventually("it is told", async || (!told(&sink, "alert.firing").is_empty()).then_some(())).await;
        let is = standing(&api, "fails").await;
        assert_eq!((&is["phase"], &is["value_words"]), (&json!("firing"), &json!("25 %")));
        let id = alert["id"].as_str().unwrap();
        let mine = eventually("no look comes between", async || {
            let answer = api.send(Method::PUT, &format!("/api/v1/alerts/{id}/ack"), Some(json!({"minutes": 5}))).await;
            (answer.status == StatusCode::OK).then_some(answer.body)
        }).await;
        assert_eq!(mine["acked_by"], json!("token:first admin token"), "{mine}");

        logins(&server, "b", 2_000, 0).await;

        eventually("it is over", async || open(&api, "fails").await.is_none().then_some(())).await;
        eventually("its end is told", async || (!told(&sink, "alert.resolved").is_empty()).then_some(())).await;
        let of = |event: &str| told(&sink, event).into_iter().filter(|one| one["data"].to_string().contains(id)).count();
        assert_eq!((of("alert.firing"), of("alert.resolved")), (2, 1), "fired and taken care of: {:?}", sink.seen());
        let history = api.get(&format!("{PROD}/alerts")).await;
        assert!(history[0]["resolved_at"].is_number(), "{history}");
        let again = api.send(Method::PUT, &format!("/api/v1/alerts/{id}/ack"), Some(json!({}))).await;
        assert_eq!(again.status, StatusCode::CONFLICT, "it is over: {}", again.body);
    }

    /// An outage that one of our own runs announces is on record, and wakes nobody; one that a person sets does.
    async fn what_a_run_announces_wakes_nobody(backend: Backend) {
        let server = serve(&backend);
        let api = server.api();
        let source = "kind: AlertRule\nmetadata: {name: down, title: Sign-in is down}\nspec:\n  environments: [production]\n  \
                      severity: critical\n  when: {component_down: {component: auth}}\n  keep_for: 0s\n";
        api.put("/api/v1/alert-rules/down", json!({"source": source})).await;
        let run = json!({"environment": "production", "reason": "sign-in fails", "inputs": {"reason": "sign-in fails"}});
        api.post("/api/v1/playbooks/auth-rollback/runs", run).await;

        let quiet = fired(&api, "down").await;
        let incident = api.get("/api/v1/incidents?open=true").await["items"][0]["id"].as_str().unwrap().to_owned();
        api.post(&format!("/api/v1/incidents/{incident}/updates"), json!({"status": "resolved", "body": "It works again."})).await;
        eventually("it is over", async || open(&api, "down").await.is_none().then_some(())).await;
        api.put("/api/v1/components/auth/status", json!({"status": "major_outage"})).await;
        let loud = fired(&api, "down").await;

        assert!(quiet["quiet_why"].as_str().is_some_and(|why| why.contains("A run of ours announced it")), "{quiet}");
        assert_eq!(loud["quiet_why"], json!(null), "{loud}");
    }

    async fn who_is_silent_says_nothing(backend: Backend) {
        let server = serve(&backend);
        let api = server.api();
        put(&api, "fails", "").await;
        let is = eventually("it was looked at", async || {
            let is = standing(&api, "fails").await;
            is["no_data_since"].is_number().then_some(is)
        }).await;
        assert_eq!((&is["phase"], &is["value"]), (&json!("ok"), &Value::Null));

        logins(&server, "a", 19, 19).await;

        eventually("somebody reports", async || standing(&api, "fails").await["no_data_since"].is_null().then_some(())).await;
        assert_eq!(standing(&api, "fails").await["phase"], json!("ok"), "19 are too few");
        let absent = standing(&api, "signups_stalled").await;
        assert_eq!(absent["value"], Value::Null, "an app that reports no sign-ups is not silent about them: {absent}");
    }

    async fn a_quiet_alert_is_kept_and_told_when_the_quiet_ends(backend: Backend) {
        let sink = Sink::start(|_, _| Some(200));
        let server = serve(&backend);
        let api = server.api();
        channel(&api, &sink).await;
        put(&api, "fails", "").await;
        put(&api, "follows", "  inhibited_by: [fails]\n").await;
        let wish = json!({"rule": "fails", "minutes": 60, "comment": "we know", "labels": {"component": "auth"}});
        let silence = api.post("/api/v1/silences", wish).await;
        logins(&server, "a", 40, 20).await;

        let (first, second) = (fired(&api, "fails").await, fired(&api, "follows").await);

        assert!(first["quiet_why"].as_str().unwrap().contains("we know"), "{first}");
        assert!(second["quiet_why"].as_str().unwrap().contains("`fails`"), "{second}");
        assert!(told(&sink, "alert.firing").is_empty());
        let id = silence["id"].as_str().unwrap();
        let ended = api.send(Method::DELETE, &format!("/api/v1/silences/{id}"), None).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT);
        eventually("it is told now", async || (!told(&sink, "alert.firing").is_empty()).then_some(())).await;
        assert_eq!(open(&api, "follows").await.unwrap()["was_told"], json!(false));
        assert_eq!(open(&api, "fails").await.unwrap()["quiet_why"], Value::Null);
    }

    /// What fires together is one message.
    async fn alerts_of_one_look_are_one_message(backend: Backend) {
        let sink = Sink::start(|_, _| Some(200));
        let server = serve(&backend);
        let api = server.api();
        channel(&api, &sink).await;
        let pager = json!({"kind": "pagerduty", "routing_key": "env:PD_KEY", "base_url": sink.url});
        api.put("/api/v1/channels/pager", json!({"name": "Pager", "to": pager, "topics": ["alerts"]})).await;
        for name in ["one", "two", "three"] {
            put(&api, name, "").await;
        }
        logins(&server, "a", 40, 20).await;
        eventually("all are told", async || {
            let pages = sink.seen().iter().filter(|one| one.line.contains("/v2/enqueue")).count();
            (pages == 3 && !told(&sink, "alerts.changed").is_empty()).then_some(())
        }).await;
        let together = told(&sink, "alerts.changed");
        assert_eq!((together.len(), told(&sink, "alert.firing").len()), (1, 0), "{together:?}");
    }

    /// The node dies right after; its successor neither loses the alert nor tells of it again.
    async fn an_alert_survives_the_node_that_fired_it(backend: Backend) {
        let sink = Sink::start(|_, _| Some(200));
        let server = serve(&backend);
        let api = server.api();
        channel(&api, &sink).await;
        put(&api, "fails", "").await;
        logins(&server, "a", 40, 20).await;
        let alert = fired(&api, "fails").await;
        server.kill();

        let server = serve(&backend);
        let api = server.api();
        assert_eq!(open(&api, "fails").await.unwrap()["id"], alert["id"]);
        logins(&server, "b", 2_000, 0).await;
        eventually("the next node ends it", async || open(&api, "fails").await.is_none().then_some(())).await;
        eventually("that is told", async || (!told(&sink, "alert.resolved").is_empty()).then_some(())).await;
        let history = api.get(&format!("{PROD}/alerts")).await;
        assert_eq!(history.as_array().unwrap().len(), 1, "{history}");
        let messages = backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM messages WHERE topic = 'alerts'").await;
        assert_eq!(messages, "2", "one that it fires, one that it is over");
    }

    async fn rules_are_checked_versioned_and_reset(backend: Backend) {
        let server = serve(&backend);
        let api = server.api();
        let path = "/api/v1/alert-rules/login_failures";
        let shipped = api.get(path).await;
        assert_eq!((&shipped["is_own"], &shipped["version"]), (&json!(false), &json!(0)));
        for (more, part) in [
            ("  inhibited_by: [nothing]\n", "nothing"),
            ("  playbook: nothing\n", "nothing"),
            ("  escalate: [{after: 1m, channels: [nobody]}]\n", "nobody"),
            ("  kep: 1m\n", "9:3"),
        ] {
            let body = json!({"source": rule("login_failures", more)});
            let checked = api.post("/api/v1/alert-rules/check", json!({"source": body["source"]})).await;
            assert_eq!(checked.as_array().unwrap().len(), 1, "{checked}");
            let answer = api.send(Method::PUT, path, Some(body)).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(answer.body.to_string().contains(part), "{}", answer.body);
        }
        let other = api.send(Method::PUT, path, Some(json!({"source": rule("other", "")}))).await;
        assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", other.body);
        let kept = put(&api, "login_failures", "  enabled: false\n").await;
        assert_eq!((&kept["is_own"], &kept["version"]), (&json!(true), &json!(1)));
        let body = json!({"source": rule("login_failures", ""), "version": 0});
        let late = api.send(Method::PUT, path, Some(body)).await;
        assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.body);
        assert_eq!(standing(&api, "login_failures").await["enabled"], json!(false));
        let reset = api.send(Method::DELETE, path, None).await;
        assert_eq!(reset.status, StatusCode::NO_CONTENT);
        let again = api.get(path).await;
        assert_eq!((&again["source"], &again["version"]), (&shipped["source"], &json!(2)));
        let nothing = api.send(Method::DELETE, path, None).await;
        assert_eq!(nothing.status, StatusCode::CONFLICT, "{}", nothing.body);
        for wish in [
            json!({"minutes": 0, "comment": "x"}),
            json!({"minutes": 5, "comment": " "}),
            json!({"minutes": 5, "comment": "x", "starts_at": 0}),
        ] {
            let answer = api.send(Method::POST, "/api/v1/silences", Some(wish)).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.body);
        }
    }

    /// A number of a database, asked for beside the loop; what cannot be asked for is no data.
    async fn a_value_of_a_data_source_fires(backend: Backend) {
        let mine = rule("mine", "");
        let (_server, api) = shop::open(&backend, "shop", &[("alerts/mine.yaml", &mine)]).await;
        assert_eq!(standing(&api, "mine").await["is_own"], json!(false), "the folder's rules count");
        let written = async |name: &str, query: &str, bound: &str| {
            let value = format!("{{value: {{source: shop, query: {query}, {bound}}}}}");
            let old = "{failure_rate: {of: login, above: 10%, window: 5m, min_events: 20}}";
            let source = rule(name, "").replace(old, &value);
            api.put(&format!("/api/v1/alert-rules/{name}"), json!({"source": source})).await;
        };
        written("high", "SELECT 7 AS n", "above: 5").await;
        written("low", "SELECT 7 AS n", "below: 10").await;
        written("broken", "SELECT n FROM nothing", "above: 5").await;
        for name in ["high", "low"] {
            assert_eq!(fired(&api, name).await["words"], json!("It is 7."));
        }
        let broken = standing(&api, "broken").await;
        assert!(broken["no_data_since"].is_number() && broken["phase"] == "ok", "{broken}");
    }

    /// One user signs in again and again.
    async fn many_sessions_of_one_user_are_seen(backend: Backend) {
        let server = serve(&backend);
        let api = server.api();
        let source = rule("odd", "").replace(
            "{failure_rate: {of: login, above: 10%, window: 5m, min_events: 20}}",
            "{sessions: {at_once: 3, window: 1h}}",
        );
        let app = Api::new(&server.url, EVENTS);
        for n in 0..5 {
            let body = json!({"user_id": "ada", "session_id": format!("s{n}")});
            assert!(app.send(Method::POST, "/api/v1/sessions/login", Some(body)).await.status.is_success());
        }
        api.put("/api/v1/alert-rules/odd", json!({"source": source})).await;
        let alert = fired(&api, "odd").await;
        assert!(alert["words"].as_str().unwrap().contains("began 5 sessions"), "{alert}");
    }

    /// Nobody signs in from four places within minutes; four times from one is no news.
    async fn a_user_who_is_everywhere_is_seen(backend: Backend) {
        let server = serve(&backend);
        let api = server.api();
        let pace = rule("pace", "").replace(
            "{failure_rate: {of: login, above: 10%, window: 5m, min_events: 20}}",
            "{sessions: {pace: 3, window: 10m}}",
        );
        let app = Api::new(&server.url, EVENTS);
        let come = async |user: &str, n: usize, country: &str| {
            let body = json!({"user_id": user, "session_id": format!("{user}{n}"), "country": country, "device": "Phone"});
            assert!(app.send(Method::POST, "/api/v1/sessions/login", Some(body)).await.status.is_success());
        };
        for n in 0..6 {
            come("bob", n, "DE").await;
        }
        for (n, country) in ["DE", "BR", "JP", "ZA"].into_iter().enumerate() {
            come("ada", n, country).await;
        }
        let calm = pace.replace("name: pace", "name: calm").replace("pace: 3", "pace: 4");
        for (name, source) in [("pace", pace), ("calm", calm)] {
            api.put(&format!("/api/v1/alert-rules/{name}"), json!({"source": source})).await;
        }

        let alert = fired(&api, "pace").await;

        assert!(alert["words"].as_str().unwrap().contains("from 4 places"), "{alert}");
        let calm = standing(&api, "calm").await;
        assert_eq!((&calm["phase"], &calm["value"]), (&json!("ok"), &json!(4.0)), "six times from one place count once");
    }

    /// A rule is shown the last days before anybody is called by it.
    async fn a_rule_is_tried_on_the_past(backend: Backend) {
        let server = serve(&backend);
        let api = server.api();
        logins(&server, "a", 1, 1).await;
        let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let outage = now / 60_000 * 60_000 - 24 * 3_600_000;
        let mut rows = Vec::new();
        for minute in -60..60_i64 {
            let failed = if (0..10).contains(&minute) { 60 } else { 1 };
            for (kind, n) in [("login_failure", failed), ("login_success", 100 - failed)] {
                rows.push(format!("('production', 60, 'all', {}, '{kind}', '', {n})", outage + minute * 60_000));
            }
        }
        backend.tamper(&format!("INSERT INTO auth_counts (environment, width_s, dimension, at, kind, value, n) VALUES {}", rows.join(", "))).await;
        let source = rule("past", "  for: 2m\n");
        let path = format!("{PROD}/alert-rules/trial");

        let trial = api.post(&path, json!({"source": source, "days": 2})).await;

        let fired = trial["fired"].as_array().unwrap();
        assert_eq!(fired.len(), 1, "{trial}");
        let at = fired[0]["at"].as_i64().unwrap();
        assert!((outage..outage + 6 * 60_000).contains(&at), "soon after it began: {trial}");
        assert!(fired[0]["until"].as_i64().unwrap() > outage + 10 * 60_000 && fired[0]["words"].as_str().unwrap().starts_with("60 %"), "{trial}");
        assert!(trial["unknown_ms"].as_i64().unwrap() > 40 * 3_600_000, "the rest of the time nobody reported: {trial}");
        let long = api.send(Method::POST, &path, Some(json!({"source": source, "days": 7}))).await;
        assert_eq!(long.status, StatusCode::UNPROCESSABLE_ENTITY, "its window is shorter than what is kept so long: {}", long.body);
        assert!(open(&api, "past").await.is_none(), "nothing is kept");
        let file = backend.folder.path().join("past.yaml");
        std::fs::write(&file, &source).unwrap();
        let mut command = std::process::Command::new(program());
        command.env_clear().env("SWITCHBACK_URL", &server.url).env("SWITCHBACK_TOKEN", ADMIN);
        command.args(["alert", "try-rule"]).arg(&file).args(["--days", "2"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("60 % of logins failed"), "{said}");
    }

    /// What apps count of themselves: a share of two counters; nobody reporting is no data.
    async fn a_share_of_impact_metrics_fires(backend: Backend) {
        let server = serve(&backend);
        let api = server.api();
        let written = async |name: &str, value: &str| {
            let old = "{failure_rate: {of: login, above: 10%, window: 5m, min_events: 20}}";
            let source = rule(name, "").replace(old, &format!("{{value: {{{value}, above: 0.2}}}}"));
            api.put(&format!("/api/v1/alert-rules/{name}"), json!({"source": source})).await;
        };
        let counter = |name: &str, value: u32| json!({"name": name, "help": "", "type": "counter", "samples": [{"labels": {"step": "sso"}, "value": value}]});
        let report = json!({"appName": "shop", "bucket": null, "impactMetrics": [counter("login_errors", 30), counter("login_attempts", 100)]});
        let app = Api::new(&server.url, switchback_tests::server::SERVER);
        assert_eq!(app.send(Method::POST, "/api/client/metrics", Some(report)).await.status, StatusCode::ACCEPTED);
        eventually("it is written", async || {
            let names = api.get(&format!("{PROD}/impact-metrics")).await;
            (names.as_array().unwrap().len() == 2).then_some(())
        }).await;

        written("share", "impact: login_errors, per: login_attempts, labels: {step: sso, app: shop}").await;
        written("other", "impact: login_errors, per: login_attempts, labels: {app: admin}").await;

        assert_eq!(fired(&api, "share").await["words"], json!("It is 0.3."));
        let other = standing(&api, "other").await;
        assert!(other["no_data_since"].is_number() && other["phase"] == "ok", "{other}");
    }

    /// What Alertmanager sends stands among ours, once, however often it comes.
    async fn alerts_from_outside_are_kept_once(backend: Backend) {
        let server = serve(&backend);
        let api = server.api();
        let token = async |name: &str, role: &str| {
            let body = json!({"name": name, "kind": "api", "role": role, "environment": "production"});
            let made = api.post("/api/v1/tokens", body).await;
            Api::new(&server.url, made["token"].as_str().unwrap())
        };
        let (monitor, weak) = (token("monitor", "operator").await, token("weak", "viewer").await);
        let message = |status: &str| json!({
            "version": "4", "groupKey": "g", "status": status, "receiver": "switchback", "orgId": 1,
            "alerts": [{
                "status": status, "labels": {"alertname": "DiskFull", "environment": "production", "severity": "page"},
                "annotations": {"summary": "the disk is full"}, "startsAt": "2026-02-03T04:05:06.789Z",
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "f1",
            }],
        });
        let hook = "/hooks/alertmanager";

        let refused = weak.send(Method::POST, hook, Some(message("firing"))).await;
        assert_eq!(refused.body["recorded"], json!(0), "a viewer records nothing");
        for _ in 0..3 {
            let taken = monitor.send(Method::POST, hook, Some(message("firing"))).await;
            assert_eq!((taken.status, &taken.body["recorded"]), (StatusCode::OK, &json!(1)), "{}", taken.body);
        }

        let alert = open(&api, "DiskFull").await.unwrap();
        assert_eq!((&alert["source"], &alert["severity"]), (&json!("alertmanager"), &json!("critical")));
        let history = api.get(&format!("{PROD}/alerts")).await;
        assert_eq!(history.as_array().unwrap().len(), 1, "{history}");
        monitor.send(Method::POST, hook, Some(message("resolved"))).await;
        monitor.send(Method::POST, hook, Some(message("firing"))).await; // late, and old
        assert!(open(&api, "DiskFull").await.is_none());
        let nobody = Api::new(&server.url, "*:*.nothing").send(Method::POST, hook, Some(message("firing"))).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
        let shapeless = monitor.send(Method::POST, hook, Some(json!({"alerts": 7}))).await;
        assert!(shapeless.status.is_client_error(), "{}", shapeless.body);
    }
}

/// Two nodes look at one database: one alert, one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_tell_of_an_alert_once() {
    let backend = Backend::postgres().await;
    let sink = Sink::start(|_, _| Some(200));
    let (one, two) = (serve(&backend), serve(&backend));
    channel(&one.api(), &sink).await;
    put(&one.api(), "fails", "").await;
    logins(&two, "a", 40, 20).await;

    fired(&two.api(), "fails").await;

    one.kill();
    logins(&two, "b", 2_000, 0).await;
    let api = two.api();
    eventually("the node that is left ends it", async || {
        open(&api, "fails").await.is_none().then_some(())
    })
    .await;
    let messages =
        backend.ask("SELECT CAST(COUNT(*) AS TEXT) FROM messages WHERE topic = 'alerts'").await;
    assert_eq!(messages, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_have_commands() {
    let backend = Backend::sqlite();
    let server = serve(&backend);
    let file = backend.folder.path().join("fails.yaml");
    std::fs::write(&file, rule("fails", "")).unwrap();
    let file = file.display().to_string();
    let run = |arguments: &[&str]| {
        let found = std::process::Command::new(program())
            .env_clear()
            .env("SWITCHBACK_URL", &server.url)
            .env("SWITCHBACK_TOKEN", ADMIN)
            .arg("alert")
            .args(arguments)
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&found.stdout),
            String::from_utf8_lossy(&found.stderr)
        );
        (found.status.success(), said)
    };
    let says = |arguments: &[&str], part: &str| {
        let (ok, said) = run(arguments);
        assert!(ok && said.contains(part), "{arguments:?}: {said}");
    };
    says(&["check-rule", &file], "is a rule");
    says(&["put-rule", "fails", &file], "version 1");
    says(&["show-rule", "fails"], "kind: AlertRule");
    says(&["rules", "production"], "login_failures");
    logins(&server, "a", 40, 20).await;
    let alert = fired(&server.api(), "fails").await;
    says(&["list", "production"], "50 % of logins failed");
    let id = alert["id"].as_str().unwrap();
    eventually("no look comes between", async || {
        run(&["ack", id, "--minutes", "5"]).0.then_some(())
    })
    .await;
    says(&["list", "production", "--all"], "takes care");
    says(&["silence", "--minutes", "5", "--comment", "a quiet night"], "holds until");
    says(&["silences"], "a quiet night");
    says(&["reset-rule", "fails"], "gone");
    std::fs::write(&file, "kind: AlertRule\n").unwrap();
    let (ok, said) = run(&["check-rule", &file]);
    assert!(!ok && said.contains("metadata"), "{said}");
}

/// A person takes care of an alert, silences a rule and mends one, in the console.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_shows_alerts_and_keeps_rules() {
    let backend = Backend::sqlite();
    let server = serve(&backend);
    let api = server.api();
    put(&api, "fails", "").await;
    logins(&server, "a", 40, 20).await;
    fired(&api, "fails").await;
    let browser = Browser::start().await;
    browser.sign_in(&server).await;
    browser.open(&format!("{}/ui/production/alerts", server.url)).await;
    browser.see("#alerts", "50 % of logins failed").await;
    browser.click("#alerts article button.primary").await;
    browser.see("#alerts", "takes care of it").await;
    browser.open(&format!("{}/ui/production/alert-rules/new", server.url)).await;
    browser.fill("#edit-rule textarea", "kind: AlertRule\n").await;
    browser.click("#edit-rule button.primary").await;
    browser.see(".fault", "`metadata` is missing").await;
    browser.quit().await;
}
