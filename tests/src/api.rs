//! The API as a program uses it.

use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A client with one token.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body; null when it has none.
    pub body: Value,
    /// Its headers.
    pub headers: reqwest::header::HeaderMap,
}

impl Api {
    /// A client; an empty token sends none.
    pub fn new(url: &str, token: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, url: url.to_owned(), token: token.to_owned() }
    }

    /// Sends a request with headers of the test's own.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.sent(method, path, body, headers).await.unwrap()
    }

    async fn sent(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body, headers })
    }

    /// Sends a request to a server that may be about to close the connection; `None` when it did.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<Answer> {
        self.sent(method, path, body, &[]).await.ok()
    }

    /// Sends a request.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.send_with(method, path, body, &[]).await
    }

    /// Reads; the answer must be good.
    pub async fn get(&self, path: &str) -> Value {
        good(self.send(Method::GET, path, None).await, path)
    }

    /// The messages to people and channels, once none waits any more.
    pub async fn settled_messages(&self) -> Vec<Value> {
        crate::eventually("every message is sent or given up", || async {
            let listed = self.get("/api/v1/messages?limit=200").await;
            let items = listed["items"].as_array().unwrap().clone();
            let over = items.iter().all(|item| item["state"] != "waiting");
            (over && !items.is_empty()).then_some(items)
        })
        .await
    }

    /// Makes; the answer must be good.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        good(self.send(Method::POST, path, Some(body)).await, path)
    }

    /// Puts; the answer must be good.
    pub async fn put(&self, path: &str, body: Value) -> Value {
        good(self.send(Method::PUT, path, Some(body)).await, path)
    }
}

fn good(answer: Answer, path: &str) -> Value {
    assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.body);
    answer.body
}
