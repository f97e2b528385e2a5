//! The public status page: what customers see, what programs read, and that it is there whatever the database does.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchback_tests::server::program;
use switchback_tests::{Api, Backend, Server, on_both};

const DAY_MS: i64 = 86_400_000;

/// A visitor: nobody in particular.
fn visitor(server: &Server) -> Api {
    Api::new(&server.url, "")
}

async fn page(server: &Server, path: &str) -> String {
    let answer = visitor(server).send(Method::GET, path, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    answer.body.as_str().map_or_else(|| answer.body.to_string(), str::to_owned)
}

async fn open(api: &Api, name: &str, components: Value) -> String {
    let body = json!({"name": name, "impact": "major", "components": components,
        "body": "We are looking into it.\nMore in ten minutes."});
    api.post("/api/v1/incidents", body).await["id"].as_str().unwrap().to_owned()
}

/// When the server read what the page says, in UTC milliseconds.
async fn now_ms(server: &Server) -> i64 {
    let board = visitor(server).get("/status/board.json").await;
    board["board"]["read_at"].as_i64().unwrap()
}

/// Lets the server see what was written behind its back: a change of its own makes it read everything.
async fn reread(server: &Server) {
    let body = json!({"name": "App", "description": "Everything else.", "position": 1});
    server.api().put("/api/v1/components/app", body).await;
}

on_both! {
    /// One page tells how things are, what is being done, what was and what will be.
    async fn customers_read_what_happens(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        assert!(page(&server, "/status").await.contains("All systems operational"));

        let id = open(&api, "Payments fail <now>", json!({"app": "partial_outage"})).await;
        let shown = page(&server, "/status").await;
        for part in ["Some systems are not working", "Payments fail &#60;now&#62;", "Partial outage", "More in ten minutes."] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let body = json!({"status": "resolved", "body": "It works again."});
        api.post(&format!("/api/v1/incidents/{id}/updates"), body).await;

        let shown = page(&server, "/status").await;
        assert!(shown.contains("All systems operational") && shown.contains("It works again."), "{shown}");
        let story = page(&server, &format!("/status/incidents/{id}")).await;
        assert!(story.contains("It works again.") && story.contains("We are looking into it."), "{story}");
        let month = page(&server, "/status/history").await;
        assert!(month.contains("Payments fail"), "{month}");
        for missing in ["/status/incidents/inc_none", "/status/history?month=1999-01", "/status/history?month=%00", "/status/badges/none.svg"] {
            let answer = visitor(&server).send(Method::GET, missing, None).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{missing}");
        }
    }

    /// What only the team may see, and what was withdrawn, is nowhere on the page.
    async fn what_is_not_for_everybody_is_not_shown(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let (team, gone) = (open(&api, "Secret trouble", json!({})).await, open(&api, "Withdrawn trouble", json!({})).await);
        assert!(page(&server, "/status").await.contains("Secret trouble"));

        backend.tamper(&format!("UPDATE incidents SET audience = 'team' WHERE id = '{team}'")).await;
        backend.tamper(&format!("UPDATE incidents SET withdrawn_at = 1 WHERE id = '{gone}'")).await;
        reread(&server).await;

        for path in ["/status", "/status.json", "/status/history", "/status/feed.atom", "/status/feed.rss", "/api/v2/incidents.json", "/status/board.json"] {
            let shown = page(&server, path).await;
            assert!(!shown.contains("Secret") && !shown.contains("Withdrawn"), "{path}: {shown}");
        }
        for id in [team, gone] {
            let answer = visitor(&server).send(Method::GET, &format!("/status/incidents/{id}"), None).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
        }
    }

    /// Each of the last 90 days has a bar with its worst state and the share of time that it was up.
    async fn the_past_of_components_is_told_by_day(backend: Backend) {
        let server = Server::start(&backend);
        let today = now_ms(&server).await / DAY_MS * DAY_MS;
        backend.tamper("DELETE FROM component_states WHERE component = 'auth'").await;
        for (at, status) in [
            (today - 9 * DAY_MS, "operational"),
            (today - 3 * DAY_MS + 3_600_000, "major_outage"),
            (today - 3 * DAY_MS + 3 * 3_600_000, "degraded_performance"),
            (today - 3 * DAY_MS + 4 * 3_600_000, "operational"),
        ] {
            backend.tamper(&format!("INSERT INTO component_states (component, at, status) VALUES ('auth', {at}, '{status}')")).await;
        }
        reread(&server).await;

        let shown = page(&server, "/status").await;

        let sign_in = shown.split("<li>").find(|part| part.contains("Sign-in")).unwrap();
        assert_eq!(sign_in.matches("<path d=\"M").count(), 90);
        assert!(sign_in.contains(": major outage, 92\u{202f}% up</title>"), "{sign_in}");
        assert_eq!(sign_in.matches(": no trouble</title>").count(), 9, "{sign_in}");
        assert_eq!(sign_in.matches(": not known</title>").count(), 80);
        // Two hours of nine days and what today has had so far.
        let share = sign_in.split("aria-label=\"Sign-in: ").nth(1).unwrap();
        assert!(share.starts_with("99.0") || share.starts_with("99.1"), "{share}");
    }

    /// Planned work is announced with its times and does not make the page say that something is wrong.
    async fn planned_work_is_announced(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let body = json!({"name": "New database", "impact": "maintenance", "status": "scheduled", "body": "At night."});
        let id = api.post("/api/v1/incidents", body).await["id"].as_str().unwrap().to_owned();
        let from = now_ms(&server).await + DAY_MS;
        let until = from + 3_600_000;
        backend.tamper(&format!("UPDATE incidents SET scheduled_for = {from}, scheduled_until = {until} WHERE id = '{id}'")).await;
        reread(&server).await;

        let shown = page(&server, "/status").await;

        assert!(shown.contains("All systems operational") && shown.contains("<h2 id=\"planned\">"), "{shown}");
        let upcoming = visitor(&server).get("/api/v2/scheduled-maintenances/upcoming.json").await;
        assert_eq!(upcoming["scheduled_maintenances"][0]["id"], json!(id));
        assert!(upcoming["scheduled_maintenances"][0]["scheduled_for"].is_string());
        let short = visitor(&server).get("/status.json").await;
        assert_eq!((&short["status"]["indicator"], short["planned"].as_array().unwrap().len()), (&json!("none"), 1));
        let active = visitor(&server).get("/api/v2/scheduled-maintenances/active.json").await;
        assert_eq!(active["scheduled_maintenances"], json!([]));
    }

    /// Programs that read Statuspage's public API find the same documents here, from any site.
    async fn statuspages_public_api_is_served(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let id = open(&api, "Slow", json!({"auth": "degraded_performance"})).await;
        let visitor = visitor(&server);

        let answer = visitor.send(Method::GET, "/api/v2/summary.json", None).await;
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        let summary = answer.body;
        for field in ["id", "name", "url", "time_zone", "updated_at"] {
            assert!(summary["page"][field].is_string(), "page.{field}: {summary}");
        }
        assert_eq!(summary["status"], json!({"indicator": "major", "description": "Partial System Outage"}));
        let component = &summary["components"][0];
        for field in ["id", "name", "status", "created_at", "updated_at", "position", "description", "showcase", "start_date", "group_id", "page_id", "group", "only_show_if_degraded"] {
            assert!(component.get(field).is_some(), "component.{field}: {component}");
        }
        let incident = &summary["incidents"][0];
        for field in ["id", "name", "status", "created_at", "updated_at", "monitoring_at", "resolved_at", "impact", "shortlink", "started_at", "page_id", "incident_updates", "components"] {
            assert!(incident.get(field).is_some(), "incident.{field}: {incident}");
        }
        for field in ["id", "incident_id", "status", "body", "created_at", "updated_at", "display_at", "affected_components"] {
            assert!(incident["incident_updates"][0].get(field).is_some(), "update.{field}: {incident}");
        }
        assert_eq!((&incident["id"], &incident["components"][0]["id"]), (&json!(id), &json!("auth")));
        let (unresolved, all) = ("/api/v2/incidents/unresolved.json", "/api/v2/incidents.json");
        assert_eq!(visitor.get(unresolved).await["incidents"][0]["id"], json!(id));
        let body = json!({"status": "resolved", "body": "Done."});
        api.post(&format!("/api/v1/incidents/{id}/updates"), body).await;
        assert_eq!(visitor.get(unresolved).await["incidents"], json!([]));
        assert_eq!(visitor.get(all).await["incidents"][0]["resolved_at"].as_str().unwrap().len(), 24);
        for (path, key) in [("status", "status"), ("components", "components"), ("scheduled-maintenances", "scheduled_maintenances")] {
            let document = visitor.get(&format!("/api/v2/{path}.json")).await;
            assert!(document.get(key).is_some() && document["page"]["id"].is_string(), "{document}");
        }
        let unknown = visitor.send(Method::GET, "/api/v2/nothing.json", None).await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    }

    /// Feed readers follow the incidents: a permanent entry each, its updates newest first.
    async fn feed_readers_follow_the_incidents(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        let id = open(&api, "Slow <b> & \u{1}late", json!({"auth": "degraded_performance"})).await;
        open(&api, "Another", json!({})).await;
        let (atom, rss) = (read_feed(&server, "/status/feed.atom").await, read_feed(&server, "/status/feed.rss").await);
        for (feed, version) in [(&atom, "atom10"), (&rss, "rss20")] {
            assert_eq!((&feed["bozo"], &feed["version"]), (&json!(false), &json!(version)), "{feed}");
            assert_eq!((&feed["title"], feed["entries"].as_array().unwrap().len()), (&json!("Service status"), 2), "{feed}");
        }
        let entry = |feed: &Value| feed["entries"].as_array().unwrap().iter().find(|one| one["title"].as_str().unwrap().contains("Slow")).unwrap().clone();
        assert_eq!(entry(&atom)["title"], json!("Slow <b> &  late"));
        assert!(entry(&atom)["id"].as_str().unwrap().starts_with("tag:127.0.0.1,20"), "{atom}");
        assert!(entry(&atom)["id"].as_str().unwrap().ends_with(&format!(":incident/{id}")), "{atom}");
        let story = visitor(&server).send(Method::GET, entry(&rss)["link"].as_str().unwrap().strip_prefix(&server.url).unwrap(), None).await;
        assert_eq!(story.status, StatusCode::OK, "the entry leads to its story");

        let body = json!({"status": "monitoring", "body": "Better <now>."});
        api.post(&format!("/api/v1/incidents/{id}/updates"), body).await;

        let (later_atom, later_rss) = (read_feed(&server, "/status/feed.atom").await, read_feed(&server, "/status/feed.rss").await);
        let said = entry(&later_atom)["content"].as_str().unwrap().to_owned();
        assert!(said.find("Better").unwrap() < said.find("We are looking into it.").unwrap(), "{said}");
        assert_eq!(entry(&later_atom)["id"], entry(&atom)["id"], "an entry keeps its id");
        assert_ne!(entry(&later_rss)["id"], entry(&rss)["id"], "readers show what changed");
        let known = visitor(&server).send(Method::GET, "/status/feed.atom", None).await;
        let headers = [("if-none-match", known.headers["etag"].to_str().unwrap())];
        let again = visitor(&server).send_with(Method::GET, "/status/feed.atom", None, &headers).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    }

    /// A page costs its readers little: one small request, and a header when nothing changed.
    async fn a_page_is_small_and_known_by_its_tag(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        for number in 0..30 {
            let body = json!({"name": format!("Part {number}"), "description": "One of many parts.", "position": number});
            api.put(&format!("/api/v1/components/part-{number}"), body).await;
        }
        let long = "What happened, in many words. ".repeat(40);
        for number in 0..5 {
            let body = json!({"name": format!("Trouble {number}"), "body": long});
            api.post("/api/v1/incidents", body).await;
        }
        let visitor = visitor(&server);

        let short = visitor.send_with(Method::GET, "/status", None, &[("accept-encoding", "gzip")]).await;
        assert_eq!((short.status, &short.headers["content-encoding"]), (StatusCode::OK, &"gzip".parse().unwrap()));
        let size: usize = short.headers["content-length"].to_str().unwrap().parse().unwrap();
        assert!(size < 50_000, "{size} bytes");
        let full = visitor.send(Method::GET, "/status", None).await;
        let text = full.body.as_str().unwrap();
        for other in ["<script", "src=\"http", "src=\"/", "rel=\"stylesheet", "@import", "url("] {
            assert!(!text.contains(other), "the page asks for something else: {other}");
        }
        let policy = full.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");

        for (encoding, tag) in [("gzip", &short.headers["etag"]), ("identity", &full.headers["etag"])] {
            let headers = [("accept-encoding", encoding), ("if-none-match", tag.to_str().unwrap())];
            let again = visitor.send_with(Method::GET, "/status", None, &headers).await;
            assert_eq!((again.status, &again.body), (StatusCode::NOT_MODIFIED, &json!("")), "{encoding}");
        }
        assert_ne!(short.headers["etag"], full.headers["etag"], "they are different bytes");
        let tag = full.headers["etag"].to_str().unwrap();
        api.put("/api/v1/components/app/status", json!({"status": "major_outage"})).await;
        let changed = visitor.send_with(Method::GET, "/status", None, &[("if-none-match", tag)]).await;
        assert_eq!(changed.status, StatusCode::OK);
        let head = visitor.send(Method::HEAD, "/status", None).await;
        assert_eq!((head.status, &head.body), (StatusCode::OK, &json!("")));
    }

    /// Dates stand as readers write them, always in UTC, with the moment for machines.
    async fn dates_are_written_as_readers_write_them(backend: Backend) {
        let server = Server::start(&backend);
        open(&server.api(), "Slow", json!({})).await;
        let visitor = visitor(&server);

        for (language, mark) in [("en-US,en;q=0.8", "M UTC</time>"), ("de", "."), ("", "-")] {
            let answer = visitor.send_with(Method::GET, "/status", None, &[("accept-language", language)]).await;
            let text = answer.body.as_str().unwrap().to_owned();
            let time = text.split("<time datetime=\"").nth(1).unwrap();
            let (moment, shown) = time.split_once("\">").unwrap();
            assert!(moment.ends_with('Z') && moment.len() == 20, "{moment}");
            let shown = shown.split_inclusive("</time>").next().unwrap();
            assert!(shown.contains(mark) && shown.ends_with(" UTC</time>"), "{language}: {shown}");
        }
    }

    /// Groups order components; one that hides while it is well is shown when it is not.
    async fn components_stand_in_their_groups(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        backend.tamper("INSERT INTO component_groups (key, name, description, position) VALUES ('shop', 'The shop', '', 1)").await;
        let body = json!({"name": "Checkout", "group": "shop", "only_show_if_degraded": true});
        api.put("/api/v1/components/checkout", body).await;
        assert!(!page(&server, "/status").await.contains("The shop"), "nothing in it is shown");

        api.put("/api/v1/components/checkout/status", json!({"status": "degraded_performance"})).await;

        let shown = page(&server, "/status").await;
        assert!(shown.contains("The shop") && shown.contains("Checkout") && shown.contains("Some systems are slow"), "{shown}");
        let all = visitor(&server).get("/api/v2/components.json").await;
        let group = all["components"].as_array().unwrap().iter().find(|one| one["group"] == json!(true)).unwrap().clone();
        assert_eq!((&group["components"], &group["status"]), (&json!(["checkout"]), &json!("degraded_performance")));
        let badge = page(&server, "/status/badges/checkout.svg").await;
        assert!(badge.contains("Checkout: Degraded performance"), "{badge}");
        assert!(page(&server, "/status/badge.svg").await.contains("Service status: Some systems are slow"));
    }

    /// The page as files stands anywhere: every link leads to a file that is there, and a second time changes nothing.
    async fn the_page_is_written_as_files(backend: Backend) {
        let server = Server::start(&backend);
        let id = open(&server.api(), "Slow <&>", json!({"app": "degraded_performance"})).await;
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        std::fs::create_dir(&site).unwrap();
        std::fs::write(site.join("own.html"), "mine").unwrap();

        let said = export(&server, &site, &["--public-url", "https://status.example.com"]);
        assert!(said.contains(" 0 removed"), "{said}");

        for file in ["index.html", &format!("incidents/{id}.html"), "feed.atom", "feed.rss", "status.json", "badge.svg", "badges/app.svg", "api/v2/summary.json"] {
            assert!(site.join(file).is_file(), "{file}");
        }
        for file in walk(&site).iter().filter(|file| file.extension().is_some_and(|ending| ending == "html")) {
            let text = std::fs::read_to_string(file).unwrap();
            for link in text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
                let is_elsewhere = link.starts_with("data:") || link.starts_with("https:");
                assert!(is_elsewhere || file.parent().unwrap().join(link).is_file(), "{}: {link}", file.display());
            }
        }
        let feed = std::fs::read_to_string(site.join("feed.atom")).unwrap();
        assert!(feed.contains(&format!("https://status.example.com/incidents/{id}.html")), "{feed}");

        backend.tamper(&format!("UPDATE incidents SET audience = 'team' WHERE id = '{id}'")).await;
        reread(&server).await;
        let said = export(&server, &site, &["--public-url", "https://status.example.com"]);
        assert!(said.contains(" 1 removed"), "{said}");
        assert!(!site.join(format!("incidents/{id}.html")).exists() && site.join("own.html").is_file());
        let board = folder.path().join("board.json");
        std::fs::write(&board, page(&server, "/status/board.json").await).unwrap();
        for _ in 0..2 {
            let from = ["--from", board.to_str().unwrap(), "--public-url", "https://status.example.com"];
            let said = export(&server, &site, &from);
            assert!(said.contains(" 0 removed"), "{said}");
        }
        let said = export(&server, &site, &["--from", board.to_str().unwrap(), "--public-url", "https://status.example.com"]);
        assert!(said.contains(": 0 written, 0 removed"), "{said}");
    }
}

/// What a real feed reader makes of a feed.
async fn read_feed(server: &Server, path: &str) -> Value {
    let answer = visitor(server).send(Method::GET, path, None).await;
    assert_eq!(answer.status, StatusCode::OK);
    let kind = answer.headers["content-type"].to_str().unwrap().to_owned();
    let text = answer.body.as_str().unwrap().to_owned();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds");
    let mut reader = Command::new(folder.join(".venv/bin/python"))
        .arg(folder.join("read.py"))
        .arg(kind)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("feedparser: run the tests with `cargo xtask test`, which installs it");
    reader.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = reader.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn export(server: &Server, folder: &Path, more: &[&str]) -> String {
    let output = Command::new(program())
        .env_clear()
        .args(["status", "export", "--url", &server.url])
        .args(more)
        .arg(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

/// What an operator says about the page is on it; what cannot be shown stops the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_looks_as_it_was_set() {
    let backend = Backend::sqlite();
    let logo = backend.folder.path().join("logo.svg");
    std::fs::write(&logo, "<svg xmlns=\"http://www.w3.org/2000/svg\"/>").unwrap();
    let variables = [
        ("SWITCHBACK_STATUS__TITLE", "Acme & Sons"),
        ("SWITCHBACK_STATUS__LOGO", logo.to_str().unwrap()),
        ("SWITCHBACK_STATUS__ACCENT", "#8a1c7c"),
        ("SWITCHBACK_STATUS__LINKS", "Docs=https://docs.example.com,Shop=https://example.com"),
    ];
    let server = Server::start_on(&backend, "127.0.0.1:0", &variables);

    let shown = page(&server, "/status").await;

    for part in [
        "Acme &#38; Sons",
        "src=\"data:image/svg+xml;base64,",
        "#8a1c7c",
        "href=\"https://docs.example.com\">Docs",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let wrong = Command::new(program())
        .env_clear()
        .env("SWITCHBACK_STATUS__ACCENT", "#ffee00")
        .args(["config", "check"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("contrast of 1."), "{said}");
}
