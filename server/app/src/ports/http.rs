//! The engine's port to other systems by HTTP: addresses that are allowed, secrets read at the last moment, never a redirect.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use switchback_playbook::ports::{
    HeaderText, Http, HttpAnswer, HttpQuestion, HttpRequest, PortError,
};
use switchback_source::{Credentials, SourceError};

use super::Ports;
use crate::outgoing::{Destination, NoWay, destination, text_of, why_no_answer};

/// How much of an answer is read, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// What a secret may have, in bytes.
const SECRET_BYTES_MAX: usize = 8 * 1024;

#[async_trait]
impl Http for Ports {
    async fn ask(&self, question: &HttpQuestion) -> Result<HttpAnswer, PortError> {
        let destination = self.destination(&question.url).await?;
        let timeout = Duration::from_millis(question.timeout_ms);
        let client = destination.client(timeout).map_err(no_answer)?;
        let request = client.request(method(&question.method)?, &question.url);
        answer(request).await
    }

    async fn send(&self, request: &HttpRequest) -> Result<Option<HttpAnswer>, PortError> {
        if self.drill().is_some() {
            self.check(request).await?; // other systems are real
            return Ok(None);
        }
        let method = method(&request.method)?;
        let headers = headers(request).await?;
        let destination = self.destination(&request.url).await?;
        let (circuits, host) = (&self.app.circuits, destination.host.as_str());
        if let Err(left_ms) = circuits.enter(host, self.app.clock.now())
            && !request.is_urgent
        {
            let seconds = left_ms.div_euclid(1_000) + 1;
            let message =
                format!("`{host}` failed several times in a row and is left alone for {seconds} s");
            return Err(PortError::Unavailable(message));
        }
        let timeout = Duration::from_millis(request.timeout_ms);
        let client = destination.client(timeout).map_err(no_answer)?;
        let mut sending = client.request(method, &request.url).headers(headers);
        if let Some(body) = &request.body {
            sending = sending.body(body.clone());
        }
        let answered = answer(sending).await;
        let is_good = answered.as_ref().is_ok_and(|answer| answer.status < 500);
        circuits.leave(host, self.app.clock.now(), is_good);
        answered.map(Some)
    }

    async fn check(&self, request: &HttpRequest) -> Result<(), PortError> {
        method(&request.method)?;
        headers(request).await?;
        self.destination(&request.url).await.map(drop)
    }
}

impl Ports {
    async fn destination(&self, url: &str) -> Result<Destination, PortError> {
        let found = destination(url, &self.app.config.outgoing.networks).await;
        found.map_err(|error| match error {
            NoWay::Refused(why) => PortError::Refused(why),
            NoWay::Unknown(why) => PortError::Unavailable(why),
        })
    }
}

fn method(text: &str) -> Result<reqwest::Method, PortError> {
    text.parse().map_err(|_| PortError::Refused(format!("`{text}` is not a method")))
}

/// The request's headers, its secrets read. No error says more of a secret than where it is.
async fn headers(request: &HttpRequest) -> Result<HeaderMap, PortError> {
    let mut headers = HeaderMap::new();
    for (name, text) in &request.headers {
        let bad = || PortError::Refused(format!("the header `{name}` cannot be sent"));
        let key: HeaderName = name.parse().map_err(|_| bad())?;
        let mut value = match text {
            HeaderText::Plain(text) => HeaderValue::from_str(text).map_err(|_| bad())?,
            HeaderText::Secret { secret } => {
                HeaderValue::from_str(&read_secret(secret).await?).map_err(|_| bad())?
            }
        };
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    let key = HeaderValue::from_str(&request.key);
    let key = key.map_err(|_| PortError::Refused("the key cannot be sent".to_owned()))?;
    headers.insert("idempotency-key", key);
    Ok(headers)
}

async fn read_secret(reference: &str) -> Result<String, PortError> {
    let wrong = |message: String| PortError::Refused(format!("a secret: {message}"));
    let place = Credentials::try_from(reference.to_owned()).map_err(wrong)?;
    let text = place.read().await.map_err(|error| match error {
        SourceError::Credentials(message) => wrong(message),
        other => wrong(other.to_string()),
    })?;
    if text.len() > SECRET_BYTES_MAX {
        return Err(wrong(format!("{place} is over {SECRET_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn no_answer(error: reqwest::Error) -> PortError {
    PortError::Unavailable(why_no_answer(error))
}

async fn answer(request: reqwest::RequestBuilder) -> Result<HttpAnswer, PortError> {
    let mut answer = request.send().await.map_err(no_answer)?;
    let status = answer.status().as_u16();
    let body = text_of(&mut answer, BODY_BYTES_MAX).await.map_err(no_answer)?;
    Ok(HttpAnswer { status, body })
}
