//! The product's whole journey with a thousand clients: set up, ramp, roll back, lose the server in the middle,
//! go on, bring it back. And the one client that spoils it for nobody: the one that never reads.

use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use switchback_core::wire::{ClientFrame, ServerFrame};
use switchback_sdk::{AuthMode, Context, Switchback};
use switchback_tests::browser::Browser;
use switchback_tests::fleet::{Fleet, Target, raise_open_files};
use switchback_tests::server::{ADMIN, SERVER, program};
use switchback_tests::stream::hello;
use switchback_tests::{Api, Backend, Server, Stream, eventually};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const CLIENTS: usize = 1_000;
const PROD: &str = "/api/v1/environments/production";
/// A journey takes half a minute where nothing else runs; more than this is a hang.
const JOURNEY_WITHIN: Duration = Duration::from_mins(3);

/// What the command line answers; it must be content.
async fn cli(server: &Server, words: &[&str]) -> String {
    let mut command = Command::new(program());
    command.env_clear().current_dir(std::env::temp_dir()).kill_on_drop(true);
    command.env("SWITCHBACK_URL", &server.url).env("SWITCHBACK_TOKEN", ADMIN).args(words);
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}{errors}");
    text
}

async fn newest(api: &Api) -> u64 {
    api.get(PROD).await["revision"].as_u64().unwrap()
}

/// Waits until every node says that everybody has acknowledged a revision.
async fn proved(servers: &[Server], revision: u64, everybody: usize) {
    for server in servers {
        let what = format!("{everybody} of {everybody} at {revision}, says {}", server.url);
        eventually(&what, || async {
            let found = server.api().get(&format!("{PROD}/convergence?revision={revision}")).await;
            (found["connected"] == json!(everybody) && found["acked"] == json!(everybody))
                .then_some(())
        })
        .await;
    }
}

/// How many rows of a run's log are of this step and phase.
fn rows(detail: &Value, step: &str, phase: &str) -> usize {
    let log = detail["log"].as_array().unwrap();
    log.iter().filter(|row| row["step_id"] == json!(step) && row["phase"] == json!(phase)).count()
}

async fn journey(backend: &Backend, nodes: usize) {
    raise_open_files();
    let everybody = CLIENTS + nodes;

    // Set up: a token for the apps, and the apps, an equal share on each node.
    let mut servers: Vec<Server> = (0..nodes).map(|_| Server::start_to_return(backend)).collect();
    let made = cli(&servers[0], &["token", "create", "apps", "--env", "production"]).await;
    let token = made.trim().to_owned();
    let target =
        |server: &Server| Target { address: server.address().to_owned(), token: token.clone() };
    let targets: Vec<Target> = servers.iter().map(target).collect();
    let fleet = Fleet::connect(&targets, CLIENTS).await;
    let mut apps = Vec::new();
    for server in &servers {
        let app = Switchback::builder().url(&server.url).token(&token).app("shop").build();
        apps.push(app.await.unwrap());
    }
    let user = Context::new().user_id("u1");

    // Ramp a flag from the command line.
    let ramp = ["flag", "rollout", "auth_rollout", "60", "--reason", "the second week"];
    let said = cli(&servers[0], &ramp).await;
    assert!(said.contains(&format!("of {everybody} clients have it")), "{said}");
    let ramped = newest(&servers[0].api()).await;
    fleet.all_acked(ramped).await;
    proved(&servers, ramped, everybody).await;

    // Roll production back from the console, with clients that take it and are slow to say so.
    let browser = Browser::start().await;
    browser.sign_in(&servers[0]).await;
    browser.open(&format!("{}/ui/production", servers[0].url)).await;
    browser.click("#rollback-open").await;
    browser.fill("#rollback-panel [name=reason]", "sign-in fails for everybody").await;
    fleet.acknowledge(false);
    browser.hold_until("#rollback-hold", "/runs/").await;
    let address = browser.window.current_url().await.unwrap();
    let run = address.path().rsplit('/').next().unwrap().to_owned();
    let path = format!("/api/v1/runs/{run}");
    eventually("the run waits for the clients", || async {
        let detail = servers[0].api().get(&path).await;
        (rows(&detail, "everybody_has_it", "intent") == 1).then_some(())
    })
    .await;
    fleet.all_have(ramped + 2).await;

    // The server that drives the run dies, and is started again.
    let (listen, before) = (servers[0].address().to_owned(), fleet.lost());
    servers.remove(0).kill();
    servers.insert(0, Server::start_on(backend, &listen, &[]));
    fleet.acknowledge(true);
    let detail = eventually("the run ends", || async {
        let detail = servers[0].api().get(&path).await;
        detail["run"]["finished_at"].is_number().then_some(detail)
    })
    .await;

    // It is finished, nothing was written twice, and everybody proves it.
    assert_eq!(detail["state"], json!("succeeded"), "{detail}");
    for step in ["bypass_on", "auth_off", "open_incident", "tell_apps", "everybody_has_it", "note"]
    {
        assert_eq!(rows(&detail, step, "done"), 1, "{step}: {detail}");
    }
    let changes = servers[0].api().get(&format!("/api/v1/changes?run={run}")).await;
    let flips: Vec<(&Value, &Value)> = changes["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["change"])
        .filter(|change| change["subject_kind"] == json!("flag"))
        .map(|change| (&change["revision"], &change["subject"]))
        .collect();
    let (off, on) = (json!(ramped + 2), json!(ramped + 1));
    assert_eq!(flips, [(&off, &json!("auth_enabled")), (&on, &json!("auth_bypass"))]);
    assert_eq!(newest(&servers[0].api()).await, ramped + 2);
    let incidents = servers[0].api().get("/api/v1/incidents").await;
    assert_eq!(incidents["items"].as_array().unwrap().len(), 1, "{incidents}");
    assert!(cli(&servers[0], &["log", "verify"]).await.contains("unbroken"));
    assert!(fleet.lost() - before >= CLIENTS / nodes, "the clients of the dead node noticed");
    fleet.all_acked(ramped + 2).await;
    proved(&servers, ramped + 2, everybody).await;
    for app in &apps {
        assert_eq!(app.auth_mode(&user), AuthMode::Bypass);
    }
    browser.see("#run-state", "Succeeded").await;
    browser.quit().await;

    // Bring it back from the command line.
    let restore = ["playbook", "run", "auth-restore", "--reason", "the cause is repaired"];
    let said = cli(&servers[0], &[&restore[..], &["--input", "soak=100ms"]].concat()).await;
    assert!(said.contains("auth-restore: succeeded in"), "{said}");
    let restored = newest(&servers[0].api()).await;
    fleet.all_acked(restored).await;
    proved(&servers, restored, everybody).await;
    for app in &apps {
        assert_eq!(app.status().revision, restored);
        assert_eq!(app.auth_mode(&user), AuthMode::Enforced);
    }
    assert!(cli(&servers[0], &["log", "verify"]).await.contains("unbroken"));
}

/// One server, SQLite inside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_follow_one_server_through_a_rollback() {
    let backend = Backend::sqlite();
    tokio::time::timeout(JOURNEY_WITHIN, journey(&backend, 1)).await.expect("the journey ends");
}

/// Two servers on one PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_follow_two_servers_through_a_rollback() {
    let backend = Backend::postgres().await;
    tokio::time::timeout(JOURNEY_WITHIN, journey(&backend, 2)).await.expect("the journey ends");
}

/// Clients that never read, on sockets that take next to nothing.
const DEAF: usize = 20;
/// Many times what the kernel and the session's queue hold of such a socket.
const PUSHES_MAX: usize = 1_000;
/// What a push carries, so that few are enough.
const PUSH_BYTES: usize = 30_000;
/// What the kernel and the session's queue may hold of one such socket, and more.
const QUEUED_BYTES_MAX: usize = 8 << 20;
/// What may be allocated meanwhile for everything; all that was pushed to the deaf is several times this.
const GROWTH_KIB_MAX: u64 = 64 * 1024;
/// On two busy cores; a client behind a deaf one would wait for the write timeout, or for ever.
const PROMPT: Duration = Duration::from_secs(2);

/// Opens a stream on a socket with the smallest buffer, says hello, and leaves it at that.
async fn deaf(server: &Server) -> WebSocketStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    let socket = socket.connect(server.address().parse().unwrap()).await.unwrap();
    let mut request =
        format!("ws://{}/api/v1/stream", server.address()).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {SERVER}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(request, socket).await.unwrap();
    let text = serde_json::to_string(&ClientFrame::Hello(hello("deaf"))).unwrap();
    socket.send(Message::text(text)).await.unwrap();
    socket
}

/// A client that never reads is dropped after a little; nobody waits for it, and it costs next to nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_dropped() {
    let backend = Backend::sqlite();
    let limit = [("SWITCHBACK_STREAM__WRITE_TIMEOUT_MS", "500")];
    let server = Server::start_on(&backend, "127.0.0.1:0", &limit);
    let api = server.api();
    let value = "x".repeat(PUSH_BYTES);
    let state =
        json!({"enabled": true, "on_value": value, "rules": [{"id": "all", "percent": 50}]});
    let flag =
        json!({"key": "banner", "project": "default", "value_type": "string", "state": state});
    api.post("/api/v1/flags", flag).await;
    let push = async |n: usize| {
        let body = json!({"percent": n % 100, "reason": "test"});
        let done = api.put(&format!("{PROD}/flags/banner/rollout"), body).await;
        done["revision"].as_u64().unwrap()
    };
    let connected = async || {
        let found = api.get(&format!("{PROD}/convergence")).await;
        usize::try_from(found["connected"].as_u64().unwrap()).unwrap()
    };
    let mut others = Vec::new();
    for _ in 0..5 {
        let mut other = Stream::connect(&server.url, SERVER, hello("other")).await;
        assert!(matches!(other.news().await, ServerFrame::Full(_)));
        others.push(other);
    }
    for n in 0..10 {
        push(n).await;
        for other in &mut others {
            other.news().await;
        }
    }
    let (rss_before, sockets_before) = (server.rss_kib(), server.sockets());
    let mut deaf_ones = Vec::new();
    for _ in 0..DEAF {
        deaf_ones.push(deaf(&server).await);
    }
    eventually("everybody is in", || async {
        (connected().await == others.len() + DEAF).then_some(())
    })
    .await;

    let mut count = 10;
    while connected().await > others.len() {
        assert!(count < PUSHES_MAX, "clients that never read are held for ever");
        count += 1;
        let pushed = Instant::now();
        let revision = push(count).await;
        for other in &mut others {
            let frame = other.news().await;
            assert!(matches!(frame, ServerFrame::Delta(delta) if delta.to == revision));
        }
        assert!(pushed.elapsed() < PROMPT, "push {count} took {:?}", pushed.elapsed());
    }

    let growth = server.rss_kib().saturating_sub(rss_before);
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB more after {count} pushes");
    eventually("the sockets of the deaf are closed", || async {
        (server.sockets() <= sockets_before).then_some(())
    })
    .await;
    for socket in deaf_ones {
        let mut queued = Vec::new();
        // Cut off in the middle of a frame: what the kernel held is there, or gone with a reset.
        let _ = tokio::time::timeout(PROMPT, socket.into_inner().read_to_end(&mut queued))
            .await
            .expect("it is closed");
        assert!(queued.len() < QUEUED_BYTES_MAX, "{} bytes were queued", queued.len());
    }
}
