//! The console in a real browser: the journeys that people make.

use std::time::Duration;

use serde_json::json;
use switchback_sdk::Switchback;
use switchback_tests::browser::{Browser, NARROW_DARK, WIDE};
use switchback_tests::server::{EVENTS, SERVER};
use switchback_tests::{Api, Backend, MailSink, Server, Sink, eventually, people, shop};
use thirtyfour::By;

const PROD: &str = "/ui/production";

/// A wrong password is answered on the page; the right one opens the console.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn someone_signs_in() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let browser = Browser::start().await;

    browser.open(&server.url).await;
    browser.fill("[name=email]", "ada@example.com").await;
    browser.fill("[name=password]", "wrong").await;
    browser.click("#sign-in button").await;
    browser.see(".fault", "mail or password is wrong").await;

    browser.sign_in(&server).await;
    browser.see("main", "is calm").await;
    browser.quit().await;
}

/// The first administrator comes by the link that the start printed; it works once. The SDK token that
/// it printed connects an app.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_sets_up() {
    let backend = Backend::sqlite();
    let (server, link, token) = Server::start_fresh(&backend);
    let browser = Browser::start().await;

    browser.open(&link).await;
    browser.fill("[name=email]", "grace@example.com").await;
    browser.fill("[name=password]", "a longer password").await;
    browser.click("form button.primary").await;
    browser.see("nav.rail", "Overview").await;

    browser.open(&link).await;
    browser.see("body", "used or replaced").await;
    let app =
        Switchback::builder().url(&server.url).token(token).app("first").build().await.unwrap();
    browser.open(&format!("{}/ui/development/clients", server.url)).await;
    browser.see("main", "first").await;
    app.shutdown().await;
    browser.quit().await;
}

/// A flag is made and ramped by group and platform, with the difference shown before it is saved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_is_made_and_ramped() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let browser = Browser::start().await;
    browser.sign_in(&server).await;

    browser.open(&format!("{}{PROD}/flags/new", server.url)).await;
    browser.fill("[name=key]", "new_checkout").await;
    browser.fill("[name=description]", "The new checkout").await;
    browser.click("#new-flag-form button.primary").await;
    browser.see("h1", "new_checkout").await;

    browser.open(&format!("{}{PROD}/flags/new_checkout", server.url)).await;
    browser.click("[name=enabled]").await;
    browser.click("#rule-add").await;
    browser.fill("#rule-0-percent", "25").await;
    browser.click("[name='rules.0.platforms'][value=ios]").await;
    browser.fill("[name='rules.0.groups']", "beta").await;
    browser.click("#review").await; // leaves the field; the difference is shown by itself
    browser.see("#review", "beta").await;
    browser.fill("#review-reason", "first quarter of the testers").await;
    browser.click("#save").await;
    browser.see("#flag-head .sentence", "25").await;

    browser.open(&format!("{}{PROD}/flags/new_checkout?tab=settings", server.url)).await;
    browser.see("#other-sdks", "flagd cannot say its rules").await;
    let flag = server.api().get("/api/v1/environments/production/flags/new_checkout").await;
    let rule = &flag["state"]["rules"][0];
    assert_eq!(
        (&rule["percent"], &rule["groups"], &rule["platforms"]),
        (&json!(25), &json!(["beta"]), &json!(["ios"]))
    );
    browser.quit().await;
}

/// The button: press and hold, watch the run, see that every client has switched, and put it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_is_rolled_back_and_proved() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let mut clients = Vec::new();
    for _ in 0..10 {
        let client = Switchback::builder().url(&server.url).token(SERVER).app("shop").build();
        clients.push(client.await.unwrap());
    }
    let browser = Browser::start().await;
    browser.sign_in(&server).await;

    browser.open(&format!("{}{PROD}", server.url)).await;
    browser.click("#rollback-open").await;
    browser.fill("#rollback-panel [name=reason]", "sign-in fails for everybody").await;
    browser.hold_until("#rollback-hold", "/runs/").await;
    browser.see("main", "10").await;
    browser.see("#run-state", "Succeeded").await;

    browser.open(&format!("{}/status", server.url)).await;
    browser.see("body", "Sign-in is unavailable").await;
    browser.open(&format!("{}{PROD}/flags/auth_enabled?tab=history", server.url)).await;
    browser.see("main", "sign-in fails for everybody").await;
    browser.quit().await;
}

/// A template is written with its texts in view, an incident is opened from it, and a customer who asked for news gets a letter,
/// follows its link, and ends it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_asks_for_news_and_gets_it() {
    let backend = Backend::sqlite();
    let mail = MailSink::start(Duration::ZERO);
    let variables = [
        ("SWITCHBACK_MAIL__URL", mail.url.as_str()),
        ("SWITCHBACK_MAIL__FROM", "status@shop.example"),
    ];
    let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
    let letter = async |count: usize| {
        eventually("the letter is out", || async { mail.mails().get(count).cloned() }).await
    };
    let browser = Browser::start().await;

    browser.open(&format!("{}/status", server.url)).await;
    browser.click("a.get").await;
    let confirm = async |address: &str, count: usize| {
        browser.fill("[name=address]", address).await;
        browser.click(".ask button").await;
        browser.see("h1", "Look into your mailbox").await;
        let text = letter(count).await.data.replace("=\r\n", "").replace("=3D", "=");
        let link = text.split("/status/confirm?token=").nth(1).unwrap();
        let link = link.split_whitespace().next().unwrap();
        browser.open(&format!("{}/status/confirm?token={link}", server.url)).await;
        browser.click(".ask button").await;
        browser.see("h1", "You will get news").await;
    };
    confirm("ann@shop.example", 0).await;

    browser.sign_in(&server).await;
    browser.open(&format!("{}/ui/settings/templates/new", server.url)).await;
    let source = "name: late\ntitle: Parcels are late\nimpact: minor\nstatus: identified\nbody: by {days} days\nplaceholders: {days: {type: number, default: '2'}}";
    browser.fill("[name=source]", &source.replace("{days}", "{day}")).await;
    browser.click("[value=save]").await;
    browser.see(".fault", "`{day}` is not declared").await;
    browser.fill("[name=source]", source).await;
    browser.click("[value=preview]").await;
    browser.see(".previews", "by 2 days").await;
    browser.click("[value=save]").await;
    browser.see("h1", "late").await;
    browser.open(&format!("{}{PROD}/incidents/new?template=late", server.url)).await;
    browser.see("#open-incident", "1 subscriber").await;
    browser.click("#open-incident button.primary").await;
    browser.see("h1", "Parcels are late").await;
    let news = letter(1).await;
    assert!(news.data.contains("by 2 days"), "{}", news.data);

    // Somebody else wants to hear of this one alone.
    let api = server.api();
    let id = api.get("/api/v1/incidents").await["items"][0]["id"].as_str().unwrap().to_owned();
    browser.open(&format!("{}/status/incidents/{id}", server.url)).await;
    browser.click("p.quiet a[href*=subscribe]").await;
    browser.see("main", "Of one incident: Parcels are late").await;
    confirm("bob@shop.example", 2).await;
    let update = json!({"status": "resolved", "body": "They are on their way."});
    api.post(&format!("/api/v1/incidents/{id}/updates"), update).await;
    letter(4).await;
    let told = |name: &str| {
        mail.mails().iter().filter(|one| one.to.iter().any(|to| to.contains(name))).count()
    };
    assert_eq!((told("ann@shop.example"), told("bob@shop.example")), (3, 2));

    let end = news.header("list-unsubscribe").unwrap();
    browser.open(end.trim_matches(['<', '>'])).await;
    browser.click("button.second").await;
    browser.see("h1", "It has ended").await;
    browser.quit().await;
}

/// Several flags are turned off after a look at what changes, put back by Undo, and found again under "Mine".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_flags_are_turned_off_at_once() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let browser = Browser::start().await;
    browser.sign_in(&server).await;
    let api = server.api();
    let is_on = async |key: &str| {
        let flag = api.get(&format!("/api/v1/environments/production/flags/{key}")).await;
        flag["state"]["enabled"] == json!(true)
    };

    browser.open(&format!("{}{PROD}/flags", server.url)).await;
    browser.click("[data-keep][value=auth_enabled]").await;
    browser.click("[data-keep][value=auth_rollout]").await;
    browser.click(".bulk-bar [value=turn_off]").await;
    browser.see("#bulk-title", "Turn off 2 flags").await;
    assert!(is_on("auth_enabled").await, "a preview changes nothing");
    browser.fill("#bulk-reason", "the sign-in of both fails").await;
    browser.click("#bulk-do").await;
    browser.see(".toasts", "2 flags turned off").await;
    assert!(!is_on("auth_enabled").await && !is_on("auth_rollout").await);

    browser.click(".toasts form button").await;
    browser.see(".toasts", "2 flags turned on").await;
    assert!(is_on("auth_enabled").await && is_on("auth_rollout").await);
    browser.open(&format!("{}{PROD}/flags?mine=1", server.url)).await;
    browser.see("#flags", "auth_rollout").await;
    browser.quit().await;
}

/// Rules are dragged into another order, a variant is always given to some, and the page says before it is saved how many
/// of the contexts seen last would get something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_dragged_and_tried_on_the_last_contexts() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let api = server.api();
    let flag = "/api/v1/environments/production/flags/auth_rollout";
    let seen = api.get(flag).await["revision"].clone();
    let state = json!({"enabled": true, "rules": [
        {"id": "a", "groups": ["staff"], "percent": 100}, {"id": "b", "groups": ["beta"], "percent": 100}]});
    api.put(
        &format!("{flag}/state"),
        json!({"state": state, "revision": seen, "reason": "two rules"}),
    )
    .await;
    for n in 0..8 {
        let context = json!({"user_id": format!("u{n}"), "groups": ["beta"]});
        api.post(&format!("{flag}/explain"), context).await;
    }
    let browser = Browser::start().await;
    browser.sign_in(&server).await;

    browser.open(&format!("{}{PROD}/flags/auth_rollout", server.url)).await;
    browser.drag("#rule-1 [data-drag]", "#rule-0 .words").await;
    browser.see("#rule-0 .words", "beta").await;
    browser.see("#review", "None of the last 8 contexts").await;
    browser.fill("#rule-0-percent", "0").await;
    browser.see("#moved", "8 of the last 8 contexts seen here would change: 8 off.").await;
    browser.click("#rule-0 details:last-of-type > summary").await;
    browser.click("[name=do][value='variant.add.0']").await;
    browser.fill("#rule-0-variant-0", "blue").await;
    browser.click("#rule-0-variant-0-more > summary").await;
    browser.click("#rule-0-variant-0-override-add").await;
    browser.fill("#rule-0-variant-0-override-0", "u1, u2").await;
    browser.see("#review", "u1").await;
    browser.fill("#review-reason", "beta goes first").await;
    browser.click("#save").await;
    browser.see(".toasts", "saved as revision").await;

    let rules = api.get(flag).await["state"]["rules"].clone();
    let variant = &rules[0]["variants"][0];
    assert_eq!(
        (&rules[0]["id"], &rules[0]["percent"], &rules[1]["id"]),
        (&json!("b"), &json!(0), &json!("a"))
    );
    assert_eq!(
        variant["overrides"],
        json!([{"field": "user_id", "values": ["u1", "u2"]}]),
        "{rules}"
    );
    browser.quit().await;
}

/// Whoever comes back is told what others did meanwhile, a line per flag; a client has a page of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_is_told_what_others_did() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let api = server.api();
    backend
        .tamper("INSERT INTO visits (user_id, environment, seen_at) SELECT id, 'production', created_at FROM users")
        .await;
    backend.tamper("UPDATE visits SET seen_at = seen_at - 10800000").await;
    backend.tamper("UPDATE change_log SET at = at - 14400000").await;
    for percent in [5, 10] {
        let body = json!({"percent": percent, "reason": "a step"});
        api.put("/api/v1/environments/production/flags/auth_rollout/rollout", body).await;
    }
    let client =
        Switchback::builder().url(&server.url).token(SERVER).app("shop").instance("shop-7");
    let client = client.build().await.unwrap();
    let browser = Browser::start().await;

    browser.sign_in(&server).await;
    browser.open(&format!("{}{PROD}", server.url)).await;
    browser.see("#since h2", "Since you were here, 3 hours ago").await;
    browser.see("#since", "to 10").await;
    browser.see("#since", "in 2 changes").await;

    browser.open(&format!("{}{PROD}/clients?text=shop-7", server.url)).await;
    browser.click("#client-list tbody a").await;
    browser.see("h1", "shop-7").await;
    browser.see("#client", "has the newest revision").await;
    client.shutdown().await;
    browser.see("#client", "not connected here any more").await;
    browser.quit().await;
}

/// A pack is put to use, looks, shows who is broken; each row is seen before and after, the repair is held, proved, and taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_people_are_found_repaired_and_put_back() {
    const HOW_MANY: &str = "SELECT COUNT(*) || '' FROM profiles";
    let backend = Backend::sqlite();
    let (server, api) = shop::open(&backend, "shop", &[]).await;
    people::make(&backend, &api).await;
    let browser = Browser::start().await;
    browser.sign_in(&server).await;

    browser.open(&format!("{}/ui/checks", server.url)).await;
    browser.see("#checks-sentence", "No pack is in use yet").await;
    browser.open(&format!("{}/ui/checks/people", server.url)).await;
    browser.see("#pack-sentence", "Not in use").await;
    browser.click("#source button").await;
    browser.see(".toasts", "The data source is set").await;
    browser.click("#look-now").await;
    browser.see(".toasts", "Looked: 4 found").await;
    browser.see("#pack", "3 of 5").await;

    browser.open(&format!("{}/ui/checks/people/findings?search=%2B61412345615", server.url)).await;
    browser.see("#findings", "61******615").await;
    browser.click("#findings tbody a").await;
    browser.see("#finding-state", "open").await;
    browser.fill("#reveal [name=reason]", "she called us").await;
    browser.click("#reveal button").await;
    browser.see("#revealed", "no fix of ours").await;

    browser.open(&format!("{}/ui/checks/people?window=hour", server.url)).await;
    browser.click("#repair").await;
    browser.see("#repair-sentence", "4 findings").await;
    browser.see("#preview-profile_missing", "+35385123456").await;
    browser.see("#preview-unverified", "+61400000000").await;
    assert_eq!(backend.ask(HOW_MANY).await, "2", "a preview changes nothing");
    browser.fill("#start [name=reason]", "the doors open soon").await;
    browser.hold_until("#start-hold", "/ui/repairs/").await;
    browser.see("#run-state", "PASS").await;
    assert_eq!(backend.ask(HOW_MANY).await, "5");

    browser.click("#ask-undo").await;
    browser.fill("#undo [name=reason]", "not today").await;
    browser.hold_and_see("#undo-hold", "#run-state", "taken back").await;
    assert_eq!(backend.ask(HOW_MANY).await, "2");
    let log = api.get("/api/v1/changes?limit=100").await.to_string();
    assert!(log.contains("she called us") && log.contains("reveal"), "{log}");
    browser.quit().await;
}

/// What is wrong is said where it was typed, and the monitor fixes only after it was held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_is_mended_and_its_monitor_let_go() {
    let backend = Backend::sqlite();
    let (server, api) = shop::open(&backend, "shop", &[]).await;
    people::make(&backend, &api).await;
    people::set(&api, json!({"source": "shop", "mode": "observe"})).await;
    let browser = Browser::start().await;
    browser.sign_in(&server).await;

    browser.open(&format!("{}/ui/checks/people/text", server.url)).await;
    browser.fill("[name=source]", &people::PACK.replace("severity: error", "severty: error")).await;
    browser.click("[value=check]").await;
    browser.see(".fault", "unknown key `severty`").await;
    browser.see(".fault", "10:").await;

    browser.open(&format!("{}/ui/checks/people", server.url)).await;
    browser.click("#ask-fix-link").await;
    browser.see("#ask-fix", "can be taken back").await;
    browser.fill("#ask-fix [name=reason]", "it was watched for a week").await;
    let fix = browser.find("#fix-hold").await;
    fix.click().await.unwrap();
    let settings = api.get("/api/v1/checks/people").await["view"]["settings"]["mode"].clone();
    assert_eq!(settings, json!("observe"), "a click is not enough");
    browser.open(&format!("{}/ui/checks/people?ask=fix", server.url)).await;
    browser.fill("#ask-fix [name=reason]", "it was watched for a week").await;
    browser.hold_and_see("#fix-hold", "#pack .marks", "fixes").await;
    eventually("it fixes", || async {
        (backend.ask("SELECT COUNT(*) || '' FROM profiles").await == "5").then_some(())
    })
    .await;
    browser.see("#pack-sentence", "All is whole").await;
    browser.click("[value=pause]").await;
    browser.see("#pack-sentence", "Paused by").await;
    browser.open(&format!("{}{PROD}", server.url)).await;
    browser.see("#checks-tile", "100 %").await;
    browser.quit().await;
}

/// The keys move one crosshair over all charts, the address names the moment, and a guard is set from the flag's own page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moment_of_the_charts_has_an_address() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let events = Api::new(&server.url, EVENTS);
    let login = |n: u32| json!({"id": format!("l{n}"), "type": "login_success", "user_id": format!("u{n}"), "latency_ms": 40});
    events.post("/api/v1/auth-events", json!((0..20).map(login).collect::<Vec<_>>())).await;
    let browser = Browser::start().await;
    browser.sign_in(&server).await;
    eventually("the charts are there", || async {
        browser.open(&format!("{}{PROD}/watch", server.url)).await;
        browser.window.find(By::Css("#charts svg[data-at]")).await.ok()
    })
    .await;

    browser.press_left("#charts").await;
    browser.see("#charts .reading", ": ").await;
    let said = browser.find("#charts .reading").await.text().await.unwrap();
    let address = browser.window.current_url().await.unwrap();
    browser.open(address.as_str()).await;
    browser.see("#charts .reading", &said).await;

    browser.open(&format!("{}{PROD}/flags/auth_rollout?tab=activity", server.url)).await;
    browser.see("#flag-guards", "None is set").await;
    browser.click("#flag-guards summary").await;
    browser.fill("#flag-guards [name=reason]", "a new login").await;
    browser.click("#flag-guards button").await;
    browser.see(".toasts", "auth_rollout is guarded").await;
    browser.open(&format!("{}{PROD}/flags/auth_rollout?tab=activity", server.url)).await;
    browser.see("#flag-guards tbody", "puts").await;

    assert!(address.query().is_some_and(|query| query.contains("at=")), "{address}");
    browser.quit().await;
}

/// A run's page says who was told of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runs_page_says_who_was_told() {
    let (backend, sink) = (Backend::sqlite(), Sink::start(|_, _| Some(200)));
    let slack = format!("{}/slack", sink.url);
    let variables =
        [("SLACK_URL", slack.as_str()), ("SWITCHBACK_OUTGOING__NETWORKS", "127.0.0.0/8")];
    let server = Server::start_on(&backend, "127.0.0.1:0", &variables);
    let api = server.api();
    let chat = json!({"name": "chat", "to": {"kind": "slack", "url": "env:SLACK_URL"}, "topics": ["runs"]});
    api.put("/api/v1/channels/chat", chat).await;
    let body = json!({"environment": "production", "reason": "sign-in fails for everybody"});
    let run = api.post("/api/v1/playbooks/auth-rollback/runs", body).await;
    let browser = Browser::start().await;
    browser.sign_in(&server).await;

    eventually("the page says who was told", || async {
        let page = format!("{}{PROD}/runs/{}", server.url, run["id"].as_str().unwrap());
        browser.open(&page).await;
        let told = browser.window.find(By::Css("#sent")).await.ok()?.text().await.ok()?;
        (told.contains("chat") && told.contains("taken")).then_some(())
    })
    .await;
    browser.quit().await;
}

/// The pages of consistency checks, with findings and a run to look at.
async fn checks_pages(backend: &Backend, api: &Api) -> Vec<String> {
    people::make(backend, api).await;
    people::set(api, json!({"source": "shop"})).await;
    api.post("/api/v1/checks/people/run", json!({})).await;
    let wish = json!({"dry_run": false, "check": "unverified", "reason": "to look at"});
    let answer = api.post("/api/v1/checks/people/backfill", wish).await;
    let run = format!("/ui/repairs/{}", answer["run"]["id"].as_str().unwrap());
    let of = |page: &str| format!("/ui/checks{page}");
    let mut pages: Vec<String> = [
        "",
        "/people",
        "/people?window=week&ask=fix",
        "/plain_app",
        "/people/text",
        "/new/text",
        "/people/findings",
        "/people/findings?state=stuck",
        "/people/finding?check=profile_missing&key=3",
        "/people/repair",
    ]
    .map(of)
    .into();
    pages.extend([format!("{run}?ask=undo"), run]);
    pages
}

/// No page breaks the rules of accessibility, at a desk or on a phone, light or dark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_is_accessible() {
    let backend = Backend::sqlite();
    let (server, api) = shop::open(&backend, "shop", &[]).await;
    let body = json!({"environment": "production", "reason": "sign-in fails for everybody"});
    let run = api.post("/api/v1/playbooks/auth-rollback/runs", body).await;
    let segment = json!({"key": "staff", "name": "Staff", "constraints": []});
    let body = json!({"segment": segment, "revision": 0, "reason": "new"});
    api.put("/api/v1/environments/production/segments/staff", body).await;
    let labels = json!({"alertname": "DiskFull", "environment": "production"});
    let alert = json!({"status": "firing", "labels": labels, "annotations": {"summary": "the disk is full"},
        "startsAt": "2026-02-03T04:05:06Z", "fingerprint": "f1"});
    api.post("/api/v1/alerts", json!({"version": "4", "status": "firing", "alerts": [alert]}))
        .await;
    let silence = json!({"rule": "login_failures", "minutes": 60, "comment": "a quiet night"});
    api.post("/api/v1/silences", silence).await;
    let incidents = api.get("/api/v1/incidents").await;
    let incident = incidents["items"][0]["id"].as_str().map(str::to_owned);
    let browser = Browser::start().await;

    let mut pages: Vec<String> = vec!["/sign-in".to_owned(), "/status".to_owned()];
    let asked = ["/status/history", "/status/incidents/none", "/status/subscribe"];
    pages.extend(asked.map(str::to_owned));
    pages.extend(incident.iter().map(|id| format!("/status/incidents/{id}")));
    for page in [
        "",
        "/flags",
        "/flags?bulk=turn_off&flag=auth_enabled&flag=auth_rollout",
        "/flags/new",
        "/flags/auth_rollout",
        "/flags/auth_rollout?tab=try",
        "/flags/auth_rollout?tab=try&asked=1&scope=all&user_id=u1",
        "/flags/auth_rollout?tab=activity",
        "/flags/auth_rollout?tab=history",
        "/flags/auth_rollout?tab=settings",
        "/segments",
        "/segments/staff",
        "/segments/new",
        "/clients",
        "/clients/nobody",
        "/alerts",
        "/alert-rules/login_failures",
        "/alert-rules/new",
        "/playbooks",
        "/playbooks/auth-rollback",
        "/incidents",
        "/incidents/new",
        "/incidents/new?template=auth_down",
        "/watch",
        "/watch?window=1h",
        "/watch/sessions",
        "/watch/sessions?revoke=yes",
        "/watch/sessions?user=ada",
        "/log",
        "/restore",
    ] {
        pages.push(format!("{PROD}{page}"));
    }
    pages.push(format!("{PROD}/runs/{}", run["id"].as_str().unwrap()));
    pages.push(format!("{PROD}/runs/{0}/compare?with={0}", run["id"].as_str().unwrap()));
    pages.extend(incident.map(|id| format!("{PROD}/incidents/{id}")));
    pages.extend(checks_pages(&backend, &api).await);
    for page in [
        "people",
        "tokens",
        "projects",
        "environments",
        "sources",
        "components",
        "uptime",
        "channels",
        "messages",
        "subscribers",
        "templates",
        "templates/auth_down",
        "automation",
    ] {
        pages.push(format!("/ui/settings/{page}"));
    }
    pages.extend([
        "/docs/errors".to_owned(),
        "/docs/api".to_owned(),
        format!("{PROD}/nothing-here"),
    ]);

    let (mut found, mut is_signed_in) = (Vec::new(), false);
    for page in &pages {
        if page.starts_with("/ui") && !is_signed_in {
            is_signed_in = true;
            browser.sign_in(&server).await;
        }
        for look in [WIDE, NARROW_DARK] {
            browser.look(look).await;
            browser.open(&format!("{}{page}", server.url)).await;
            let violations = browser.violations().await;
            found.extend(
                violations.into_iter().map(|line| format!("{page} at {} px: {line}", look.width)),
            );
        }
        browser.look(WIDE).await;
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    browser.quit().await;
}
