//! Requests a second of the public status page, beside a bare actix-web route that sends the same bytes: `status [--markdown]`.
//! Client, server and floor share this machine's cores and take turns.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on says where and ends"
)]

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use actix_web::http::header;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use reqwest::Method;
use serde_json::json;
use switchback_bench::load;
use switchback_bench::measure::median;
use switchback_bench::server::Server;
use switchback_bench::table::{number, render};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const COMPONENTS: usize = 12;
const INCIDENTS: usize = 5;
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
/// The share of the floor that is wanted.
const AIM: f64 = 0.80;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--floor") {
        serve_floor(&arguments[1]);
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let markdown = arguments.iter().any(|argument| argument == "--markdown");
    print!("{}", runtime.expect("a runtime can be made").block_on(compare(markdown)));
}

async fn compare(markdown: bool) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = Server::start(&folder).await;
    fill(&server).await;
    let ours = server.url.trim_start_matches("http://").to_owned();
    let small = "Accept-Encoding: gzip\r\n";
    let mut rows = Vec::new();
    for (name, path, more) in [
        ("/status, gzip", "/status", small),
        ("/status, plain", "/status", ""),
        ("/api/v2/summary.json, gzip", "/api/v2/summary.json", small),
    ] {
        let request = load::request(&ours, path, "none", more);
        let answer = load::once_bytes(&ours, &request).await;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{path} is there");
        let file = folder.path().join(format!("floor-{}", rows.len()));
        std::fs::write(&file, &answer[end..]).expect("the folder can be written");
        rows.push((name, request, file, answer.len() - end));
    }
    let known = known(&ours).await;
    let empty = folder.path().join("floor-304");
    std::fs::write(&empty, b"").expect("the folder can be written");
    rows.push(("/status, 304", known, empty, 0));

    let head = ["route", "bytes", "requests/s", "bare route", "share", "aim"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for (name, request, file, bytes) in rows {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = tokio::process::Command::new(program)
            .arg("--floor")
            .arg(&file)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the floor starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let floor = lines.next_line().await.expect("readable").expect("it says where it listens");
        let (mut mine, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // The page is made anew now and then, and its tag with it.
            let request = if bytes == 0 { self::known(&ours).await } else { request.clone() };
            bare.push(load::requests_per_second(&floor, &request, CONNECTIONS, ROUND).await);
            mine.push(load::requests_per_second(&ours, &request, CONNECTIONS, ROUND).await);
        }
        let (mine, bare) = (median(mine), median(bare));
        table.push(vec![
            name.to_owned(),
            number(bytes as f64),
            number(mine),
            number(bare),
            format!("{:.2}", mine / bare),
            format!("{AIM:.2}"),
        ]);
    }
    server.end().await;
    render(&table, markdown)
}

/// Asks for the page with the tag that it has now.
async fn known(ours: &str) -> String {
    let answer = load::once(ours, &load::request(ours, "/status", "none", "")).await;
    let etag = load::header(&answer, "etag").expect("the page has an ETag");
    load::request(ours, "/status", "none", &format!("If-None-Match: {etag}\r\n"))
}

async fn fill(server: &Server) {
    for n in 0..COMPONENTS {
        let body =
            json!({"name": format!("Service {n}"), "description": "What it is.", "position": n});
        server.send(Method::PUT, &format!("/api/v1/components/service-{n}"), Some(body)).await;
    }
    for n in 0..INCIDENTS {
        let body = json!({"name": format!("Incident {n}"), "body": "Some people wait. We are looking into it."});
        server.send(Method::POST, "/api/v1/incidents", Some(body)).await;
    }
}

/// The floor: one route that sends the bytes of a file, or 304 when there are none. Serves until its parent ends.
fn serve_floor(file: &str) {
    let body = Bytes::from(std::fs::read(file).expect("the file is there"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    println!("{}", listener.local_addr().expect("it is bound"));
    actix_web::rt::System::new()
        .block_on(async move {
            HttpServer::new(move || {
                App::new().app_data(Data::new(body.clone())).default_service(web::to(as_it_is))
            })
            .listen(listener)
            .expect("the socket can be served")
            .run()
            .await
        })
        .expect("the floor runs");
}

async fn as_it_is(request: HttpRequest, body: Data<Bytes>) -> HttpResponse {
    if body.is_empty() {
        let etag = request.headers().get(header::IF_NONE_MATCH).cloned();
        let etag = etag.unwrap_or_else(|| header::HeaderValue::from_static("\"none\""));
        return HttpResponse::NotModified().insert_header((header::ETAG, etag)).finish();
    }
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(body.get_ref().clone())
}
