//! Other systems' SDKs, unmodified, against a real server: they decide as we do, hear of a kill, and live through a
//! restart. Also every case of Unleash's client specification.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use switchback_core::model::Document;
use switchback_core::wire::ServerFrame;
use switchback_core::{Context, Ruleset};
use switchback_tests::foreign::Foreign;
use switchback_tests::server::{BROWSER, SERVER, program};
use switchback_tests::stream::hello;
use switchback_tests::{Api, Server, Stream, eventually, on_both};

const PROD: &str = "/api/v1/environments/production";
const USERS: usize = 1_000;
const FLAGS: [(&str, &str); 5] = [
    ("half", "bool"),
    ("targeted", "bool"),
    ("colour", "string"),
    ("gated", "bool"),
    ("blocked", "bool"),
];

/// Flags of every sort that the other systems can be told.
async fn make_flags(api: &Api) {
    let states = [
        ("half", "boolean", json!({"enabled": true, "rules": [{"id": "half", "percent": 50}]})),
        (
            "targeted",
            "boolean",
            json!({"enabled": true, "rules": [
                {"id": "beta", "groups": ["beta"], "platforms": ["ios", "android"], "percent": 75,
                 "constraints": [{"field": "app_version", "operator": "SEMVER_GTE", "values": ["3.2"]}]},
                {"id": "pro", "percent": 20, "salt": "other", "segments": ["pro"]},
            ]}),
        ),
        (
            "colour",
            "string",
            json!({"enabled": true, "on_value": "some", "off_value": "none",
            "rules": [{"id": "all", "percent": 90}],
            "variants": [
                {"name": "red", "weight": 200, "value": "#f00", "overrides": [{"field": "user_id", "values": ["user-7"]}]},
                {"name": "blue", "weight": 300, "value": "#00f"}, {"name": "green", "weight": 500, "value": "#0f0"},
            ]}),
        ),
        (
            "gated",
            "boolean",
            json!({"enabled": true, "prerequisites": [{"flag": "half"}],
            "rules": [{"id": "most", "percent": 80, "salt": "gate"}]}),
        ),
        (
            "blocked",
            "boolean",
            json!({"enabled": true, "rules": [
                {"id": "not-web", "serve": "off", "platforms": ["web"]}, {"id": "rest", "percent": 100},
            ]}),
        ),
    ];
    let segment = json!({"key": "pro", "constraints": [{"field": "plan", "operator": "IN", "values": ["pro"]}]});
    api.put(&format!("{PROD}/segments/pro"), json!({"segment": segment, "reason": "test"})).await;
    for (key, value_type, state) in states {
        let start = match value_type {
            "boolean" => json!({"enabled": false}),
            _ => json!({"enabled": false, "on_value": "some", "off_value": "none"}),
        };
        let body =
            json!({"key": key, "project": "default", "value_type": value_type, "state": start});
        api.post("/api/v1/flags", body).await;
        let revision = api.get(&format!("{PROD}/flags/{key}")).await["revision"].clone();
        let body = json!({"state": state, "revision": revision, "reason": "test"});
        api.put(&format!("{PROD}/flags/{key}/state"), body).await;
    }
}

async fn document(server: &Server) -> Document {
    let mut stream = Stream::connect(&server.url, SERVER, hello("reference")).await;
    match stream.news().await {
        ServerFrame::Full(document) => document,
        other => panic!("{other:?}"),
    }
}

/// User number `n`, as `client.mjs` has it.
fn user(n: usize) -> Context<'static> {
    Context::new()
        .user_id(format!("user-{n}"))
        .platform(["ios", "android", "web"][n % 3])
        .groups([if n.is_multiple_of(4) { "beta" } else { "everyone" }])
        .app_version(format!("3.{}.0", n % 5))
        .property("plan", if n.is_multiple_of(2) { "pro" } else { "free" })
}

/// Each decision of the SDK is ours.
async fn agrees(client: &mut Foreign, ruleset: &Ruleset, users: usize) {
    let all = client.decisions(&FLAGS, users).await;
    for ((flag, _), found) in FLAGS.iter().zip(all) {
        assert_eq!(found.len(), users);
        for (n, found) in found.iter().enumerate() {
            let context = user(n);
            let ours = ruleset.evaluate(flag, &context);
            let variant = ours.variant.map_or(Value::Null, |name| json!(name));
            assert_eq!(found[0], json!(ours.enabled), "{flag} for user {n}: {found}");
            if found.as_array().is_some_and(|parts| parts.len() == 4) {
                assert_eq!(found[2], *ours.value, "{flag} for user {n}: {found}");
            } else {
                assert_eq!(found[1], variant, "{flag} for user {n}: {found}");
            }
        }
    }
}

async fn kill(api: &Api, flag: &str) {
    let body = json!({"killed": true, "reason": "test"});
    api.put(&format!("{PROD}/flags/{flag}/killed"), body).await;
}

async fn is_off(client: &mut Foreign, flag: &str) {
    loop {
        let found = client.decisions(&[(flag, "bool")], 1).await;
        if found[0][0][0] == json!(false) {
            return;
        }
        client.wait_for("changed").await;
    }
}

on_both! {
    /// Unleash's server SDK, asking for whole documents, for deltas, and on the stream.
    async fn unleash_client_decides_as_we_do_and_hears_of_a_kill(backend: Backend) {
        let server = Server::start(&backend);
        let api = server.api();
        make_flags(&api).await;
        let ruleset = Ruleset::compile(&document(&server).await);
        let mut clients = Vec::new();
        for kind in ["polling", "delta", "streaming"] {
            let mut client = Foreign::start(kind, &server.url, SERVER).await;
            agrees(&mut client, &ruleset, USERS).await;
            clients.push(client);
        }

        eventually("the page of clients lists them, each with its protocol", || async {
            let found = api.get(&format!("{PROD}/clients")).await.to_string();
            (found.contains("compat-delta") && found.contains("unleash_streaming")).then_some(())
        }).await;
        kill(&api, "blocked").await;
        for client in &mut clients {
            is_off(client, "blocked").await;
        }
        eventually("their evaluations are counted", || async {
            let usage = api.get(&format!("{PROD}/flags/half/usage")).await.to_string();
            usage.contains("\"on\"").then_some(())
        }).await;
    }

    /// A server that dies and comes back loses none of them.
    async fn a_restart_loses_no_client(backend: Backend) {
        let server = Server::start_to_return(&backend);
        let address = server.address().to_owned();
        make_flags(&server.api()).await;
        let mut streaming = Foreign::start("streaming", &server.url, SERVER).await;
        let mut web = Foreign::start("ofrep-web", &server.url, BROWSER).await;
        let mut polling = Foreign::start("polling", &server.url, SERVER).await;
        server.kill();

        let server = Server::start_on(&backend, &address, &[]);
        kill(&server.api(), "blocked").await;
        for client in [&mut streaming, &mut web, &mut polling] {
            is_off(client, "blocked").await;
        }
    }

    /// Unleash's browser SDK and OpenFeature's providers, evaluated by the server.
    async fn front_ends_decide_as_we_do(backend: Backend) {
        let limit = [("SWITCHBACK_COMPAT__BROWSER_REQUESTS_PER_SECOND", "0")];
        let server = Server::start_on(&backend, "127.0.0.1:0", &limit);
        let api = server.api();
        make_flags(&api).await;
        let ruleset = Ruleset::compile(&document(&server).await);
        for (kind, token) in [("proxy", BROWSER), ("ofrep-server", SERVER), ("ofrep-web", BROWSER)] {
            let mut client = Foreign::start(kind, &server.url, token).await;
            agrees(&mut client, &ruleset, USERS).await;
        }

        let mut web = Foreign::start("ofrep-web", &server.url, BROWSER).await;
        let mut proxy = Foreign::start("proxy-polling", &server.url, BROWSER).await;
        kill(&api, "blocked").await;
        is_off(&mut web, "blocked").await;
        is_off(&mut proxy, "blocked").await;
    }

    /// A node that is full answers 429: the SDK goes back to polling by itself.
    async fn a_full_node_sends_streams_back_to_polling(backend: Backend) {
        let server = Server::start_on(&backend, "127.0.0.1:0", &[("SWITCHBACK_STREAM__CLIENTS_MAX", "1")]);
        let api = server.api();
        make_flags(&api).await;
        let _only = Stream::connect(&server.url, SERVER, hello("takes the place")).await;

        let mut client = Foreign::start("streaming", &server.url, SERVER).await;

        kill(&api, "blocked").await;
        is_off(&mut client, "blocked").await;
    }
}

#[test]
fn every_case_of_the_client_specification_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("compat/node_modules/@unleash/client-specification/specifications");
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
    };
    let (mut lines, mut expected) = (String::new(), Vec::new());
    for file in read("index.json").as_array().unwrap() {
        let name = file.as_str().unwrap();
        let specification = read(name);
        for (list, kind, answer) in
            [("tests", "bool", "enabled"), ("variantTests", "variant", "variant")]
        {
            for case in specification[list].as_array().into_iter().flatten() {
                let line = json!({"state": specification["state"], "context": case["context"],
                                  "toggle": case["toggleName"], "kind": kind});
                lines.push_str(&line.to_string());
                lines.push('\n');
                expected.push((
                    format!("{name}: {}", case["description"]),
                    answer,
                    case["expectedResult"].clone(),
                ));
            }
        }
    }
    let mut child = Command::new(program())
        .arg("evaluate")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer =
        std::thread::spawn(move || std::io::Write::write_all(&mut input, lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();

    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> =
        answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), expected.len());
    for ((name, part, expected), found) in expected.iter().zip(&answers) {
        assert_eq!(found[part], *expected, "{name}: {found}");
    }
    println!("{} cases of client-specification 6.1.0 passed", answers.len());
    assert!(answers.len() >= 279, "only {} cases", answers.len());
}
