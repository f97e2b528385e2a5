//! Requests a second of the routes that other systems' SDKs ask again and again, beside bare actix-web routes that send the
//! same: `http [--markdown]`. Client, server and floor share this machine's cores and take turns.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on says where and ends"
)]

mod floor;

use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use switchback_bench::load;
use switchback_bench::measure::median;
use switchback_bench::server::{BROWSER, ENVIRONMENT, SDK, Server};
use switchback_bench::table::{number, render};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const FLAGS: usize = 1_000;
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--floor") {
        floor::serve(&arguments[1]);
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let markdown = arguments.iter().any(|argument| argument == "--markdown");
    print!("{}", runtime.expect("a runtime can be made").block_on(compare(markdown)));
}

/// One row: what is asked of us, and of the floor.
struct Row {
    name: &'static str,
    /// The share of the floor that is wanted.
    aim: f64,
    ours: String,
    floor: String,
}

async fn compare(markdown: bool) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let server = Server::start(&folder).await;
    make_flags(&server).await;
    let ours = server.url.trim_start_matches("http://").to_owned();
    let features = load::request(&ours, "/api/client/features", SDK, "");
    let answer = load::once(&ours, &features).await;
    let etag = load::header(&answer, "etag").expect("the document has an ETag").to_owned();
    let body = answer.split_once("\r\n\r\n").expect("the answer has a body").1;
    let page = load::once(
        &ours,
        &load::request(&ours, "/api/frontend?userId=u1&sessionId=s1", BROWSER, ""),
    )
    .await;
    assert!(page.starts_with("HTTP/1.1 200"), "{}", &page[..200.min(page.len())]);
    let material = folder.path().join("floor.json");
    std::fs::write(&material, body).expect("the folder can be written");

    let program = std::env::current_exe().expect("this program has a path");
    let mut child = tokio::process::Command::new(program)
        .arg("--floor")
        .arg(&material)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the floor starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let floor =
        lines.next_line().await.expect("readable").expect("the floor says where it listens");

    let known = format!("If-None-Match: {etag}\r\n");
    let rows = [
        Row {
            name: "features, 304",
            aim: 0.85,
            ours: load::request(&ours, "/api/client/features", SDK, &known),
            floor: load::request(&floor, "/304", SDK, &known),
        },
        Row {
            name: "features, 200",
            aim: 0.70,
            ours: features,
            floor: load::request(&floor, "/200", SDK, ""),
        },
        Row {
            name: "front end, 1,000 flags",
            aim: 0.60,
            ours: load::request(&ours, "/api/frontend?userId=u1&sessionId=s1", BROWSER, ""),
            floor: load::request(&floor, "/front?userId=u1&sessionId=s1", BROWSER, ""),
        },
    ];
    let head = ["route", "requests/s", "bare route", "share", "aim"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for row in &rows {
        let (mut mine, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(load::requests_per_second(&floor, &row.floor, CONNECTIONS, ROUND).await);
            mine.push(load::requests_per_second(&ours, &row.ours, CONNECTIONS, ROUND).await);
        }
        let (mine, bare) = (median(mine), median(bare));
        table.push(vec![
            row.name.to_owned(),
            number(mine),
            number(bare),
            format!("{:.2}", mine / bare),
            format!("{:.2}", row.aim),
        ]);
    }
    server.end().await;
    render(&table, markdown)
}

/// A quarter each of plain flags, rollouts, rules and variants, as in the other benchmark.
async fn make_flags(server: &Server) {
    let missing = FLAGS
        - server.get(&format!("{ENVIRONMENT}/flags?limit=500")).await["items"]
            .as_array()
            .map_or(0, Vec::len);
    for n in 0..missing {
        let state = match n % 4 {
            0 => json!({"enabled": true}),
            1 => json!({"enabled": true, "rules": [{"id": "half", "percent": 50}]}),
            2 => {
                json!({"enabled": true, "rules": [{"id": "beta", "platforms": ["ios"], "percent": 50,
                "constraints": [{"field": "app_version", "operator": "SEMVER_GTE", "values": ["3.2.0"]}]}]})
            }
            _ => {
                let variant = |n: u32| json!({"name": format!("variant-{n}"), "weight": 20});
                json!({"enabled": true, "variants": (0..5).map(variant).collect::<Vec<Value>>()})
            }
        };
        let body = json!({"key": format!("flag-{n:04}"), "project": "default", "state": state});
        server.send(Method::POST, "/api/v1/flags", Some(body)).await;
    }
}
