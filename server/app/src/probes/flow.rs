//! A sign-in in steps: requests one after the other, with what one answered carried over to the next.
//!
//! What is sent and what comes back may hold secrets: of both only statuses and the names of fields are ever said.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{COOKIE, SET_COOKIE};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_source::Credentials;

use super::look::{BODY_BYTES_MAX, no_answer, secret};
use crate::App;
use crate::outgoing::text_of;

/// Steps of one sign-in.
const STEPS_MAX: usize = 10;
/// Headers, fields, expectations and kept values of one step.
const PARTS_MAX: usize = 30;
/// The longest value that is carried over, in bytes.
const KEPT_BYTES_MAX: usize = 16 * 1024;
/// Cookies that are carried over.
const COOKIES_MAX: usize = 50;
/// The longest text of a step, in bytes.
const TEXT_MAX: usize = 4_000;
/// Names that credentials give.
const OF_CREDENTIALS: [&str; 2] = ["name", "password"];

/// One request of a sign-in. `${name}` and `${password}` are the credentials', `${...}` what an earlier step kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowStep {
    /// How it asks; `GET` when not given.
    #[serde(default)]
    pub method: FlowMethod,
    /// The address. A password never stands in it.
    pub url: String,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What it posts, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// What it posts, as a form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub form: BTreeMap<String, String>,
    /// Statuses that are well; none: 200 to 399.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// What the answer's JSON says, by JSON pointer, such as `/user/active`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, Value>,
    /// What is carried over: its name, and its JSON pointer in the answer. It must be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keep: BTreeMap<String, String>,
}

/// How a step asks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum FlowMethod {
    /// Reads.
    #[default]
    Get,
    /// Posts.
    Post,
    /// Puts.
    Put,
    /// Patches.
    Patch,
    /// Deletes.
    Delete,
}

impl From<FlowMethod> for reqwest::Method {
    fn from(method: FlowMethod) -> Self {
        match method {
            FlowMethod::Get => Self::GET,
            FlowMethod::Post => Self::POST,
            FlowMethod::Put => Self::PUT,
            FlowMethod::Patch => Self::PATCH,
            FlowMethod::Delete => Self::DELETE,
        }
    }
}

/// What is wrong with the steps of a sign-in: field and message.
pub(super) fn faults(steps: &[FlowStep], has_credentials: bool) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if steps.is_empty() || steps.len() > STEPS_MAX {
        found.push(("check.steps", format!("1 to {STEPS_MAX} steps")));
    }
    let mut known: Vec<&str> = Vec::new();
    if has_credentials {
        known.extend(OF_CREDENTIALS);
    }
    for (number, step) in (1..).zip(steps) {
        found.extend(
            step.faults(&known).into_iter().map(|m| ("check.steps", format!("step {number}: {m}"))),
        );
        known.extend(step.keep.keys().map(String::as_str));
    }
    found
}

impl FlowStep {
    fn faults(&self, known: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        let mut texts = vec![self.url.clone()];
        texts.extend(self.headers.values().chain(self.form.values()).cloned());
        texts.extend(self.json.as_ref().map(Value::to_string));
        for name in texts.iter().flat_map(|text| names(text)) {
            if !known.contains(&name) {
                found.push(format!("`${{{name}}}` is kept by no earlier step"));
            }
        }
        // The host is written out, so that no answer decides where a password goes.
        let host_ends = self.url.splitn(4, '/').take(3).map(|part| part.len() + 1).sum::<usize>();
        let host = self.url.get(..host_ends.saturating_sub(1)).unwrap_or(&self.url);
        let plain = names(&self.url)
            .iter()
            .fold(self.url.clone(), |text, name| text.replace(&format!("${{{name}}}"), "x"));
        match url::Url::parse(&plain) {
            Ok(url) if !["http", "https"].contains(&url.scheme()) => {
                found.push("`url` must begin with http:// or https://".to_owned());
            }
            Ok(url) if url.password().is_some() || !url.username().is_empty() => {
                found.push("`url` holds a password; name credentials".to_owned());
            }
            Ok(_) if host.contains("${") => {
                found.push("the host in `url` must be written out".to_owned());
            }
            Ok(_) if names(&self.url).contains(&"password") => {
                found.push("a password never stands in `url`".to_owned());
            }
            Ok(_) => {}
            Err(_) => found.push("`url` cannot be read".to_owned()),
        }
        if self.json.is_some() && !self.form.is_empty() {
            found.push("it posts either `json` or `form`".to_owned());
        }
        if self.status.iter().any(|one| !(100..600).contains(one)) {
            found.push("a status is 100 to 599".to_owned());
        }
        for name in self.headers.keys() {
            if reqwest::header::HeaderName::try_from(name).is_err() {
                found.push(format!("`{name}` is no header's name"));
            }
        }
        if self.expect.keys().chain(self.keep.values()).any(|place| !place.starts_with('/')) {
            found.push("a JSON pointer begins with /".to_owned());
        }
        let is_name = |name: &String| {
            !OF_CREDENTIALS.contains(&name.as_str())
                && !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !self.keep.keys().all(is_name) {
            found.push(
                "what is kept is named by a-z, 0-9 and _, and not `name` or `password`".to_owned(),
            );
        }
        let parts = [self.headers.len(), self.form.len(), self.expect.len(), self.keep.len()];
        if parts.into_iter().any(|n| n > PARTS_MAX)
            || texts.iter().any(|text| text.len() > TEXT_MAX)
        {
            found.push(format!("it has over {PARTS_MAX} parts, or a text over {TEXT_MAX} bytes"));
        }
        found
    }
}

/// What is carried from one step to the next.
#[derive(Default)]
struct Carried {
    values: BTreeMap<String, String>,
    /// Host, name and value.
    cookies: Vec<(String, String, String)>,
}

impl App {
    /// Signs in. The whole has `within`; the caller ends it then.
    pub(super) async fn sign_in_by(
        &self,
        credentials: Option<&Credentials>,
        steps: &[FlowStep],
        within: Duration,
    ) -> Result<String, String> {
        let mut carried = Carried::default();
        if let Some(credentials) = credentials {
            let (name, password) = secret(credentials).await?;
            carried.values.insert("name".to_owned(), name);
            carried.values.insert("password".to_owned(), password);
        }
        for (number, step) in (1..).zip(steps) {
            let done = self.take_step(step, &mut carried, within).await;
            done.map_err(|why| format!("step {number}: {why}"))?;
        }
        Ok(format!("signed in, in {} steps", steps.len()))
    }

    async fn take_step(
        &self,
        step: &FlowStep,
        carried: &mut Carried,
        within: Duration,
    ) -> Result<(), String> {
        let url = fill(&step.url, &carried.values, |value| {
            url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
        });
        let to = self.allowed(&url).await?;
        let client = to.client(within).map_err(no_answer)?;
        let mut request = client.request(step.method.into(), &url);
        let plain = |text: &str| fill(text, &carried.values, str::to_owned);
        for (name, value) in &step.headers {
            request = request.header(name, plain(value));
        }
        let cookies: Vec<String> = carried
            .cookies
            .iter()
            .filter(|(host, _, _)| *host == to.host)
            .map(|(_, name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        if let Some(json) = &step.json {
            request = request.json(&filled(json, &carried.values));
        } else if !step.form.is_empty() {
            let pairs = step.form.iter().map(|(name, value)| (name, plain(value)));
            let body =
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            request =
                request.header("content-type", "application/x-www-form-urlencoded").body(body);
        }
        let mut answer = request.send().await.map_err(no_answer)?;
        let status = answer.status().as_u16();
        let is_well = match step.status.as_slice() {
            [] => (200..400).contains(&status),
            some => some.contains(&status),
        };
        if !is_well {
            return Err(format!("it answered {status}"));
        }
        for cookie in answer.headers().get_all(SET_COOKIE) {
            if let Ok(cookie) = cookie.to_str() {
                carried.take_cookie(&to.host, cookie);
            }
        }
        if step.expect.is_empty() && step.keep.is_empty() {
            return Ok(());
        }
        let body = text_of(&mut answer, BODY_BYTES_MAX).await.map_err(no_answer)?;
        let body: Value = serde_json::from_str(&body)
            .map_err(|_| format!("it answered {status} without JSON"))?;
        for (place, wanted) in &step.expect {
            if body.pointer(place) != Some(wanted) {
                return Err(format!("`{place}` is not as expected"));
            }
        }
        for (name, place) in &step.keep {
            let value = match body.pointer(place) {
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
                _ => return Err(format!("`{place}` is missing")),
            };
            if value.is_empty() || value.len() > KEPT_BYTES_MAX {
                return Err(format!("`{place}` is empty or over {KEPT_BYTES_MAX} bytes"));
            }
            carried.values.insert(name.clone(), value);
        }
        Ok(())
    }
}

impl Carried {
    /// Takes a `Set-Cookie` over; the newest of a name counts, and one that ends at once is forgotten.
    fn take_cookie(&mut self, host: &str, text: &str) {
        let mut parts = text.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        self.cookies.retain(|(h, n, _)| !(h == host && n == name));
        let ends = parts.any(|part| {
            let Some((key, value)) = part.split_once('=') else { return false };
            key.eq_ignore_ascii_case("max-age") && value.parse::<i64>().is_ok_and(|age| age <= 0)
        });
        let fits = self.cookies.len() < COOKIES_MAX && value.len() <= KEPT_BYTES_MAX;
        if !ends && !value.is_empty() && fits {
            self.cookies.push((host.to_owned(), name.to_owned(), value.to_owned()));
        }
    }
}

/// The names between `${` and `}` in a text.
fn names(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("${") {
        let Some((name, next)) = after.split_once('}') else { break };
        found.push(name);
        rest = next;
    }
    found
}

/// A text with what is known in place of its names. Values are not looked into again.
fn fill(text: &str, values: &BTreeMap<String, String>, coded: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, next)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        if let Some(value) = values.get(name) {
            out.push_str(&coded(value));
        } else {
            out.push_str("${");
            out.push_str(name);
            out.push('}');
        }
        rest = next;
    }
    out.push_str(rest);
    out
}

/// JSON with its texts filled.
fn filled(value: &Value, values: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text, values, str::to_owned)),
        Value::Array(all) => Value::Array(all.iter().map(|one| filled(one, values)).collect()),
        Value::Object(all) => {
            Value::Object(all.iter().map(|(key, one)| (key.clone(), filled(one, values))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(value: Value) -> FlowStep {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn values_are_filled_in_once_and_coded_for_addresses() {
        let values = BTreeMap::from([
            ("a".to_owned(), "x y&${b}".to_owned()),
            ("b".to_owned(), "2".to_owned()),
        ]);
        assert_eq!(fill("<${a}>${c}${", &values, str::to_owned), "<x y&${b}>${c}${");
        let coded = fill("/f?flow=${a}", &values, |value| {
            url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
        });
        assert_eq!(coded, "/f?flow=x+y%26%24%7Bb%7D");
        assert_eq!(filled(&json!({"k": ["${b}", 1]}), &values), json!({"k": ["2", 1]}));
    }

    #[test]
    fn steps_that_cannot_be_taken_are_refused() {
        let wrong =
            |one: Value| faults(&[step(one)], true).into_iter().map(|(_, m)| m).collect::<String>();
        assert_eq!(
            wrong(json!({"url": "https://a.example/login", "json": {"p": "${password}"}})),
            ""
        );
        assert!(wrong(json!({"url": "https://a.example/${token}"})).contains("no earlier step"));
        assert!(wrong(json!({"url": "https://a.example/?p=${password}"})).contains("never stands"));
        assert!(wrong(json!({"url": "https://${name}/x"})).contains("written out"));
        assert!(wrong(json!({"url": "ftp://a.example"})).contains("http"));
        assert!(
            wrong(json!({"url": "https://a.example", "keep": {"password": "/p"}}))
                .contains("not `name`")
        );
        assert!(wrong(json!({"url": "https://a.example", "expect": {"p": 1}})).contains("pointer"));
        let first = step(json!({"url": "https://a.example", "keep": {"flow": "/id"}}));
        let second = step(json!({"url": "https://a.example/x?flow=${flow}"}));
        assert_eq!(faults(&[first, second], false), []);
        assert_eq!(faults(&[], false).len(), 1);
    }

    #[test]
    fn cookies_are_replaced_and_forgotten() {
        let mut carried = Carried::default();
        carried.take_cookie("a", "s=1; Path=/; HttpOnly");
        carried.take_cookie("a", "s=2");
        carried.take_cookie("b", "s=3");
        assert_eq!(carried.cookies.len(), 2);
        carried.take_cookie("a", "s=; Max-Age=0");
        assert_eq!(carried.cookies, [("b".to_owned(), "s".to_owned(), "3".to_owned())]);
    }
}
