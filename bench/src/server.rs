//! The real server in a process of its own, on a temporary SQLite database.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a benchmark that cannot go on says where and ends"
)]

use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::measure::machine_ns;

const ADMIN: &str = "*:*.bench-admin-token";
/// The token of the clients.
pub const SDK: &str = "*:production.bench-server-token";
/// The token of browsers.
pub const BROWSER: &str = "*:production.bench-browser-token";
/// Where the clients' flags live.
pub const ENVIRONMENT: &str = "/api/v1/environments/production";

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    http: reqwest::Client,
    /// Where it listens.
    pub url: String,
    /// From starting the process to its first answer.
    pub started_in: Duration,
    /// When it began to listen, by [`machine_ns`].
    pub listening_at: u64,
}

impl Server {
    /// Starts the server that was built beside this program.
    pub async fn start(folder: &TempDir) -> Self {
        Self::start_on(folder, "127.0.0.1:0").await
    }

    /// Starts it on an address.
    pub async fn start_on(folder: &TempDir, listen: &str) -> Self {
        Self::start_with(folder, listen, &[]).await
    }

    /// Starts it on an address, with further settings in its environment.
    pub async fn start_with(folder: &TempDir, listen: &str, variables: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
        let own = std::env::current_exe().expect("this program has a path");
        let began = Instant::now();
        let mut child = Command::new(own.with_file_name("switchback"))
            .env_clear()
            .env("SWITCHBACK_INIT_ADMIN_TOKENS", ADMIN)
            .env("SWITCHBACK_INIT_CLIENT_TOKENS", SDK)
            .env("SWITCHBACK_INIT_FRONTEND_TOKENS", BROWSER)
            .env("SWITCHBACK_COMPAT__BROWSER_REQUESTS_PER_SECOND", "0")
            .env("SWITCHBACK_LOG", "warn")
            // A heartbeat in the middle of a round would be counted as the round's work.
            .env("SWITCHBACK_STREAM__HEARTBEAT_MS", "60000")
            .envs(variables.iter().copied())
            .args(["--listen", listen, "--data-dir"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server is built beside this program and starts");
        let output = child.stdout.take().expect("its output is a pipe");
        let mut lines = BufReader::new(output).lines();
        let url = loop {
            let line = lines.next_line().await.expect("the server's output can be read");
            let line = line.expect("the server says where it listens");
            if let Some((_, url)) = line.split_once("listens on ") {
                break url.to_owned();
            }
        };
        let listening_at = machine_ns();
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut server = Self { child, http, url, started_in: Duration::ZERO, listening_at };
        server.send(Method::GET, "/healthz", None).await;
        server.started_in = began.elapsed();
        server
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// Sends a request as administrator; the answer must be good.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request =
            self.http.request(method, format!("{}{path}", self.url)).bearer_auth(ADMIN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("the server answers");
        let status = answer.status();
        let text = answer.text().await.expect("the answer can be read");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, None).await
    }

    /// Switches a flag.
    pub async fn set_flag(&self, key: &str, enabled: bool) -> Value {
        let path = format!("{ENVIRONMENT}/flags/{key}/enabled");
        let body = json!({"enabled": enabled, "reason": "a round of the benchmark"});
        self.send(Method::PUT, &path, Some(body)).await
    }

    /// Ends it as a power cut would.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the server runs");
    }

    /// Ends it as an operator would.
    pub async fn end(mut self) {
        let id = self.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status().await;
        let _ = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
    }
}

/// A database of its own on a PostgreSQL. Returns its address.
pub async fn database(server: &str, purpose: &str) -> String {
    use sqlx::{Connection as _, Executor as _};

    let name = format!("bench_{purpose}_{}", std::process::id());
    let mut connection = sqlx::PgConnection::connect(server).await.expect("PostgreSQL answers");
    let make = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    connection.execute(sqlx::query(make)).await.expect("a database can be made");
    let (base, _) = server.rsplit_once('/').expect("an address ends with a database");
    format!("{base}/{name}")
}
