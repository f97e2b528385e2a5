//! The API's client, for the commands.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::Failure;

/// How long to wait before a request is tried again.
const AGAIN_AFTER: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Which server, and as whom.
#[derive(Args, Clone)]
pub struct Target {
    /// The server; `SWITCHBACK_URL` when not given.
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// An API token; `SWITCHBACK_TOKEN` when not given (better: tokens in arguments can be seen by
    /// others on the machine).
    #[arg(long, global = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
}

/// A client of one server.
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
    /// Print JSON instead of a table.
    pub json: bool,
}

impl Target {
    /// The server's address.
    pub fn address(&self, variables: &BTreeMap<String, String>) -> String {
        let given = self.url.clone().or_else(|| variables.get("SWITCHBACK_URL").cloned());
        let url = given.filter(|text| !text.is_empty());
        let url = url.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
        url.trim_end_matches('/').to_owned()
    }

    /// A client; says what is missing.
    pub fn client(&self, variables: &BTreeMap<String, String>) -> Result<Client, Failure> {
        let from = |given: &Option<String>, name: &str| {
            given.clone().or_else(|| variables.get(name).cloned()).filter(|text| !text.is_empty())
        };
        let token = from(&self.token, "SWITCHBACK_TOKEN").ok_or_else(|| {
            Failure::with_code(
                2,
                "an API token is missing; make one under Settings, Tokens and set SWITCHBACK_TOKEN",
            )
        })?;
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .connect_timeout(Duration::from_secs(5))
            .no_proxy()
            .build()?;
        Ok(Client { http, url: self.address(variables), token, json: self.json })
    }
}

impl Client {
    /// Reads.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None).await
    }

    /// Reads what is not JSON, or is wanted as it came.
    pub async fn text(&self, path: &str) -> Result<String, Failure> {
        self.ask(Method::GET, path, None).await
    }

    /// Writes.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let text = self.ask(method, path, body).await?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Writes, and tries again while the server is busy, away or without its database.
    pub async fn send_patiently(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        for wait in AGAIN_AFTER {
            match self.exchange(Method::POST, path, Some(body.clone())).await {
                Ok((status, _)) if status.as_u16() == 429 || status.as_u16() == 503 => {}
                Ok((status, text)) => {
                    return Ok(serde_json::from_str(&said(status, text)?).unwrap_or(Value::Null));
                }
                Err(_) => {}
            }
            tokio::time::sleep(wait).await;
        }
        self.send(Method::POST, path, Some(body.clone())).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<String, Failure> {
        let (status, text) = self.exchange(method, path, body).await?;
        said(status, text)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, String), Failure> {
        let mut request = self
            .http
            .request(method, format!("{}/api/v1{path}", self.url))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|error| {
            let reason =
                if error.is_timeout() { "it did not answer in time" } else { "no connection" };
            Failure::with_code(3, format!("{} cannot be reached: {reason}", self.url))
        })?;
        Ok((answer.status(), answer.text().await?))
    }

    /// Every page of a list.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let mark = if path.contains('?') { '&' } else { '?' };
            // The first page has no cursor; an empty one would be a place before everything.
            let page = match cursor.as_str() {
                "" => self.get(path).await?,
                cursor => self.get(&format!("{path}{mark}cursor={cursor}")).await?,
            };
            all.extend(page.get("items").and_then(Value::as_array).cloned().unwrap_or_default());
            match page.get("next").and_then(Value::as_str) {
                Some(next) => next.clone_into(&mut cursor),
                None => return Ok(all),
            }
        }
    }
}

/// A good answer's text; else what the server says is wrong.
fn said(status: StatusCode, text: String) -> Result<String, Failure> {
    if status.is_success() {
        return Ok(text);
    }
    let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let detail = value.get("detail").and_then(Value::as_str);
    let detail = detail.map_or_else(|| format!("the server answered {status}"), str::to_owned);
    Err(Failure::new(detail))
}

/// A value's text, for a table's cell.
pub fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// UTC milliseconds as people read them.
pub fn when(value: &Value, pointer: &str) -> String {
    let Some(ms) = value.pointer(pointer).and_then(Value::as_i64) else { return String::new() };
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
        .unwrap_or_default()
}

/// Prints rows as a table.
pub fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(heads);
    for row in rows {
        table.add_row(row);
    }
    super::say(table.trim_fmt());
}
