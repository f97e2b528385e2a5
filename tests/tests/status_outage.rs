//! The status page while its database is away: served from memory, from disk by a server that starts, and without one error.

use std::process::Command;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use switchback_tests::link::Link;
use switchback_tests::server::program;
use switchback_tests::{Api, Backend, Server, eventually};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Requests while the database is away, over how many connections, and how many each sends at once.
const REQUESTS: usize = 100_000;
const CONNECTIONS: usize = 20;
const AT_ONCE: usize = 50;

/// A PostgreSQL behind a link that can be cut.
async fn behind_a_link() -> (Backend, Link) {
    let mut backend = Backend::postgres().await;
    let (user, rest) = backend.database_url.split_once('@').unwrap();
    let (host, name) = rest.split_once('/').unwrap();
    let link = Link::to(host).await;
    backend.database_url = format!("{user}@{}/{name}", link.address);
    (backend, link)
}

async fn open(api: &Api, name: &str) -> String {
    let body = json!({"name": name, "impact": "major", "body": "We are looking into it."});
    api.post("/api/v1/incidents", body).await["id"].as_str().unwrap().to_owned()
}

async fn shows(server: &Server, text: &str) -> bool {
    let answer = Api::new(&server.url, "").send(Method::GET, "/status", None).await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.body.as_str().unwrap().contains(text)
}

/// Sends requests over one connection, several at once, and counts the answers by status.
async fn ask(address: &str, requests: usize) -> Vec<u16> {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let one = "GET /status HTTP/1.1\r\nhost: status.example.com\r\naccept-encoding: gzip\r\n\r\n";
    let mut seen = Vec::with_capacity(requests);
    for _ in 0..requests / AT_ONCE {
        stream.write_all(one.repeat(AT_ONCE).as_bytes()).await.unwrap();
        for _ in 0..AT_ONCE {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {line:?}"));
            seen.push(status.parse().unwrap());
            let mut length = 0;
            loop {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
        }
    }
    seen
}

/// A hundred thousand readers come while the database is away: each gets the page as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_turned_away_without_the_database() {
    let (backend, link) = behind_a_link().await;
    let server = Server::start(&backend);
    let api = server.api();
    open(&api, "Sign-in is slow").await;
    link.cut();
    eventually("writes are refused", || async {
        let body = json!({"name": "More", "body": "More."});
        let answer = api.send(Method::POST, "/api/v1/incidents", Some(body)).await;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;

    let address = server.address().to_owned();
    let asking: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let address = address.clone();
            tokio::spawn(async move { ask(&address, REQUESTS / CONNECTIONS).await })
        })
        .collect();
    let mut answered = 0;
    for one in asking {
        let seen = one.await.unwrap();
        assert!(seen.iter().all(|status| *status == 200), "{seen:?}");
        answered += seen.len();
    }

    assert_eq!(answered, REQUESTS);
    assert!(shows(&server, "Sign-in is slow").await);
    for path in [
        "/status.json",
        "/status/feed.atom",
        "/status/feed.rss",
        "/status/history",
        "/api/v2/summary.json",
        "/status/badge.svg",
    ] {
        let answer = Api::new(&server.url, "").send(Method::GET, path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    link.mend();
    eventually("the page follows again", || async {
        let body = json!({"name": "All is well again", "body": "Yes."});
        let answer = api.send(Method::POST, "/api/v1/incidents", Some(body)).await;
        answer.status.is_success().then_some(())
    })
    .await;
    assert!(shows(&server, "All is well again").await);
}

/// A server that starts without its database shows the page as it was, and takes everything up when the database is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_while_the_database_is_away() {
    let (backend, link) = behind_a_link().await;
    let first = Server::start_to_return(&backend);
    let id = open(&first.api(), "Sign-in is slow").await;
    let file = backend.folder.path().join("status/board.json");
    eventually("the page is on disk", || async {
        let text = std::fs::read_to_string(&file).ok()?;
        text.contains("Sign-in is slow").then_some(())
    })
    .await;
    let address = first.address().to_owned();
    first.kill();
    link.cut();

    let server = Server::start_on(&backend, &address, &[]);

    assert!(shows(&server, "Sign-in is slow").await);
    let nobody = Api::new(&server.url, "");
    for path in [
        format!("/status/incidents/{id}"),
        "/status/feed.atom".into(),
        "/api/v2/summary.json".into(),
        "/healthz".into(),
    ] {
        assert_eq!(nobody.send(Method::GET, &path, None).await.status, StatusCode::OK, "{path}");
    }
    let refused = server.api().send(Method::GET, "/api/v1/incidents", None).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable"))
    );
    assert!(refused.headers.contains_key("retry-after"));
    let page =
        nobody.send_with(Method::GET, "/ui/production", None, &[("accept", "text/html")]).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        page.body.as_str().unwrap().contains("The database cannot be reached"),
        "{}",
        page.body
    );
    assert_eq!(
        nobody.send(Method::GET, "/readyz", None).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    link.mend();
    let api = server.api();
    eventually("the server is whole", || async {
        let body = json!({"status": "resolved", "body": "It works again."});
        let path = format!("/api/v1/incidents/{id}/updates");
        // Who waited for the database hands over to the whole server and closes its connections.
        let answer = api.try_send(Method::POST, &path, Some(body)).await?;
        answer.status.is_success().then_some(())
    })
    .await;
    eventually("everybody sees the whole server", || async {
        shows(&server, "It works again.").await.then_some(())
    })
    .await;
    assert_eq!(nobody.send(Method::GET, "/readyz", None).await.status, StatusCode::OK);
    assert_eq!(server.terminate(), Some(0));
}

/// A server that waits for its database can be ended; one that never had any says so and does not start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_when_it_is_asked_to() {
    let (backend, link) = behind_a_link().await;
    let never = Command::new(program())
        .env_clear()
        .args([
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            "postgres://nobody@127.0.0.1:1/none",
            "--data-dir",
        ])
        .arg(tempfile::tempdir().unwrap().path())
        .output()
        .unwrap();
    assert_eq!(never.status.code(), Some(1), "{}", String::from_utf8_lossy(&never.stderr));
    let first = Server::start(&backend);
    let file = backend.folder.path().join("status/board.json");
    eventually("the page is on disk", || async { file.is_file().then_some(()) }).await;
    first.kill();
    link.cut();

    let server = Server::start(&backend);

    assert!(shows(&server, "All systems operational").await);
    let ending = tokio::task::spawn_blocking(move || server.terminate());
    let code = tokio::time::timeout(Duration::from_secs(10), ending).await.unwrap().unwrap();
    assert_eq!(code, Some(0));
}
