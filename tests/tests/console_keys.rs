//! The console by keyboard, on a phone, and with the longest names: nothing traps, hides or runs off the page.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::browser::{Browser, Look, NARROW_DARK, WIDE};
use switchback_tests::{Backend, Server, people, shop};

const PROD: &str = "/ui/production";
/// What has the focus, by id, name or class.
const FOCUSED: &str = "const e = document.activeElement; return e.id || e.name || e.className;";

/// Tab goes past the search field; the palette opens by key, finds what holds the words, says when there is nothing, and
/// gives the focus back; `?` lists the keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyboard_gets_everywhere_and_back() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let browser = Browser::start().await;
    browser.sign_in(&server).await;
    browser.open(&format!("{}{PROD}/flags", server.url)).await;

    browser.find("[data-palette]").await.focus().await.unwrap();
    assert_eq!(browser.ask("return document.querySelectorAll('dialog[open]').length").await, 0);
    browser.press("\u{e004}").await;
    assert_eq!(browser.ask(FOCUSED).await, "rollback-open");

    browser.find("#new-flag").await.focus().await.unwrap();
    browser.press("/").await;
    browser.see("#palette", "Overview").await;
    browser.press("new").await;
    browser.see("#palette li", "New flag").await;
    let rows = "return [...document.querySelectorAll('#palette li')].map((row) => row.textContent.toLowerCase())";
    let rows = browser.ask(rows).await;
    let rows = rows.as_array().unwrap();
    assert!(rows.iter().all(|row| row.as_str().unwrap().contains("new")), "{rows:?}");
    browser.press("zzz").await;
    browser.see("#palette", "Nothing found").await;
    browser.press("\u{e00c}").await;
    browser.becomes(FOCUSED, "new-flag").await;

    browser.press("?").await;
    browser.see("#keys", "Search or jump").await;
    browser.press("\u{e00c}").await;
    browser.becomes(FOCUSED, "new-flag").await;
    browser.find("[data-palette]").await.send_keys("tok").await.unwrap();
    browser.see("#palette li", "Tokens").await;
    browser.press("\u{e00c}").await;
    browser.becomes(FOCUSED, "q").await;
    browser.quit().await;
}

/// A share that cannot be is marked while it is typed, and the mark goes with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_share_is_marked_at_once() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let body = json!({"percent": 10, "reason": "a step"});
    let rollout = "/api/v1/environments/production/flags/auth_rollout/rollout";
    server.api().put(rollout, body).await;
    let browser = Browser::start().await;
    browser.sign_in(&server).await;
    browser.open(&format!("{}{PROD}/flags/auth_rollout", server.url)).await;
    let slider = "return document.querySelector('[data-percent-range]').value";
    let is_marked = "return document.querySelector('#rule-0-percent').ariaInvalid";

    browser.fill("#rule-0-percent", "140").await;
    browser.see("#rule-0-percent-fault", "0 to 100").await;
    assert_eq!(browser.ask(is_marked).await, "true");
    assert_ne!(browser.ask(slider).await, "100", "the slider does not pretend");

    browser.fill("#rule-0-percent", "40").await;
    browser.see("#review", "40").await;
    browser.becomes(is_marked, "false").await;
    assert_eq!(browser.ask(slider).await, "40");
    let fault = "return document.querySelector('#rule-0-percent-fault').textContent";
    assert_eq!(browser.ask(fault).await, "");

    browser.click("#kill-hold").await;
    browser
        .becomes(
            "return document.querySelector('#kill-hold + [role=status]')?.textContent",
            "Keep it pressed",
        )
        .await;
    let places = "return [...document.querySelectorAll('#places a')].map((link) => link.pathname)";
    let places = browser.ask(places).await;
    assert!(
        places.as_array().unwrap().contains(&json!("/ui/staging/flags/auth_rollout")),
        "{places}"
    );
    browser.quit().await;
}

/// What runs off a page: the page itself, or something to press.
const OFF: &str = "const wide = innerWidth + 1, found = [];
if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
for (const one of document.querySelectorAll('main button, main a.button, main select'))
  if (one.getBoundingClientRect().right > wide) found.push(one.ariaLabel || one.textContent.trim());
for (const one of document.querySelectorAll('main svg text'))
  if (one.getBoundingClientRect().height < 11 || one.getBoundingClientRect().right > wide) found.push(`chart: ${one.textContent}`);
return found;";

/// The longest names break no page sideways, at a desk or on a phone, and leave everything within reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_names_stay_on_their_pages() {
    let backend = Backend::sqlite();
    let (server, api) = shop::open(&backend, "shop", &[]).await;
    people::make(&backend, &api).await;
    people::set(&api, json!({"source": "shop"})).await;
    api.post("/api/v1/checks/people/run", json!({})).await;
    let (key, reason) = ("k".repeat(100), "r".repeat(180));
    api.post(
        "/api/v1/flags",
        json!({"key": key, "description": "d".repeat(180), "reason": reason}),
    )
    .await;
    let body = json!({"name": "w".repeat(180), "impact": "none", "status": "investigating", "body": "b".repeat(200)});
    let incident = api.post("/api/v1/incidents", body).await;
    let token = json!({"name": "t".repeat(100), "kind": "server", "environment": "production", "project": "*"});
    api.post("/api/v1/tokens", token).await;
    shop::connect(&api, &"s".repeat(60)).await;
    let browser = Browser::start().await;
    browser.sign_in(&server).await;

    let user = "u".repeat(200);
    let mut pages: Vec<String> = [
        String::new(),
        "/flags".to_owned(),
        format!("/flags?turn_on={key}"),
        format!("/flags?bulk=turn_on&flag={key}"),
        format!("/flags/{key}"),
        format!("/flags/{key}?tab=settings"),
        format!("/flags/{key}?tab=history"),
        format!("/flags/auth_rollout?tab=try&asked=1&scope=all&user_id={user}"),
        "/incidents".to_owned(),
        format!("/incidents/{}", incident["id"].as_str().unwrap()),
        "/watch".to_owned(),
        "/watch/sessions".to_owned(),
        "/log".to_owned(),
        "/restore".to_owned(),
    ]
    .map(|page| format!("{PROD}{page}"))
    .into();
    for page in ["tokens", "sources", "channels", "uptime", "components", "automation"] {
        pages.push(format!("/ui/settings/{page}"));
    }
    pages.extend(
        ["/ui/checks/people", "/ui/checks/people/repair", "/nothing-here"].map(str::to_owned),
    );
    let mut found = Vec::new();
    for look in [NARROW_DARK, Look { dark: false, ..WIDE }] {
        browser.look(look).await;
        for page in &pages {
            browser.open(&format!("{}{page}", server.url)).await;
            let off = browser.ask(OFF).await;
            if off.as_array().is_none_or(|off| !off.is_empty()) {
                found.push(format!("{page} at {} px: {off}", look.width));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    browser.quit().await;
}

/// An address that nobody knows is a page for people, and a problem for programs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_address_is_answered_as_it_was_asked() {
    let backend = Backend::sqlite();
    let server = Server::start(&backend);
    let kind_of = async |path: &str, accept: &str| {
        let answer = server.api().send_with(Method::GET, path, None, &[("accept", accept)]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        answer.headers["content-type"].to_str().unwrap().to_owned()
    };

    let page = "text/html,application/xhtml+xml,*/*;q=0.8";
    assert_eq!(kind_of("/nothing-here", page).await, "text/html; charset=utf-8");
    assert_eq!(kind_of("/nothing-here", "*/*").await, "application/problem+json");
    assert_eq!(kind_of("/api/v1/nothing-here", page).await, "application/problem+json");
    let said: Value = server.api().send_with(Method::GET, "/nothing-here", None, &[]).await.body;
    assert_eq!(said["code"], "not_found");
}
