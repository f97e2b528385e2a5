//! Sends by HTTP: to addresses that are allowed, never after a redirect, with a limit, and leaving alone what keeps failing.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use switchback_core::model::Millis;

use super::Refusal;
use super::text::cut;
use crate::outgoing::{Circuits, NoWay, destination, text_of, why_no_answer};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an answer is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// The same where the answer is what was asked for, in bytes.
const API_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The longest that a `Retry-After` is believed, in milliseconds.
const RETRY_AFTER_MAX_MS: i64 = 60 * 60 * 1_000;

/// What messages are posted with.
#[derive(Clone, Debug)]
pub struct Poster {
    /// Private networks that may be reached.
    pub networks: Vec<IpNet>,
    /// Hosts that are left alone for a while.
    pub circuits: Arc<Circuits>,
    /// The time, for the circuits.
    pub now: Millis,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    retry_after_ms: Option<i64>,
    /// The beginning of the body.
    pub body: String,
}

impl Answer {
    /// 2xx is success; a redirect is none; 410 ends the address; 408, 429 and 5xx are tried again; the rest never.
    pub fn judge(&self) -> Result<(), Refusal> {
        let said = cut(self.body.trim(), 200);
        let what = match said.as_str() {
            "" => format!("it answered {}", self.status),
            said => format!("it answered {}: {said}", self.status),
        };
        match self.status {
            200..300 => Ok(()),
            300..400 => Err(Refusal::Never(format!("{what}; redirects are not followed"))),
            410 => Err(Refusal::Gone(what)),
            408 | 425 | 429 | 500.. => Err(Refusal::Later(what, self.retry_after_ms)),
            _ => Err(Refusal::Never(what)),
        }
    }
}

impl Poster {
    /// Posts JSON.
    pub async fn post_json(&self, url: &str, body: &Value) -> Result<Answer, Refusal> {
        self.post(url, "application/json", Vec::new(), body.to_string().into_bytes()).await
    }

    /// Asks an API, with a key and JSON. No error holds the address or the key.
    ///
    /// # Errors
    /// As [`Poster::post`].
    pub async fn call(
        &self,
        method: reqwest::Method,
        url: &str,
        authorization: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Refusal> {
        let mut headers = vec![("authorization", authorization.to_owned())];
        headers.push(("accept", "application/json".to_owned()));
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.send(method, url, "application/json", headers, body, API_BYTES_MAX).await
    }

    /// Posts a body. No error holds the address, which may be a secret.
    ///
    /// # Errors
    /// The address is not allowed or cannot be reached, there is no answer in time, or the host is left alone.
    pub async fn post(
        &self,
        url: &str,
        content_type: &str,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    ) -> Result<Answer, Refusal> {
        let post = reqwest::Method::POST;
        self.send(post, url, content_type, headers, body, ANSWER_BYTES_MAX).await
    }

    async fn send(
        &self,
        method: reqwest::Method,
        url: &str,
        content_type: &str,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Answer, Refusal> {
        let to = destination(url, &self.networks).await.map_err(|error| match error {
            NoWay::Refused(why) => Refusal::Never(why),
            NoWay::Unknown(why) => Refusal::Later(why, None),
        })?;
        self.circuits.enter(&to.host, self.now).map_err(Refusal::NotNow)?;
        let client = to.client(TIMEOUT).map_err(no_answer)?;
        let mut request = client.request(method, url).header("content-type", content_type);
        if !body.is_empty() {
            request = request.body(body);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answered = read(request, bytes_max).await;
        let is_good = answered.as_ref().is_ok_and(|answer| answer.status < 500);
        self.circuits.leave(&to.host, self.now, is_good);
        answered
    }
}

async fn read(request: reqwest::RequestBuilder, bytes_max: usize) -> Result<Answer, Refusal> {
    let mut answer = request.send().await.map_err(no_answer)?;
    let status = answer.status().as_u16();
    let seconds = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let seconds = seconds.and_then(|text| text.trim().parse::<f64>().ok());
    let retry_after_ms = seconds
        .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        .map(|seconds| ((seconds * 1_000.0) as i64).min(RETRY_AFTER_MAX_MS));
    let body = text_of(&mut answer, bytes_max).await.map_err(no_answer)?;
    Ok(Answer { status, retry_after_ms, body })
}

fn no_answer(error: reqwest::Error) -> Refusal {
    Refusal::Later(why_no_answer(error), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_by_what_they_mean_for_the_next_attempt() {
        let judge = |status| {
            let answer = Answer { status, retry_after_ms: Some(7), body: "why".into() };
            answer.judge()
        };

        assert_eq!(judge(202), Ok(()));
        assert!(matches!(judge(302), Err(Refusal::Never(why)) if why.contains("redirects")));
        assert!(matches!(judge(400), Err(Refusal::Never(why)) if why.contains("400: why")));
        assert!(matches!(judge(410), Err(Refusal::Gone(_))));
        assert!(matches!(judge(429), Err(Refusal::Later(_, Some(7)))));
        assert!(matches!(judge(503), Err(Refusal::Later(..))));
    }
}
