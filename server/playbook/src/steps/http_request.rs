//! `http.request`: asks another system to do something, with a key by which it can do it once, and says how it is taken back.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Answer, At, Effect, Fault, Field, Fields, Inverse, Overlay, Past, Ran, Resolved, StepError,
    StepKind, Undo,
};
use crate::ports::{HeaderText, HttpRequest, PortError};

const BODY_MAX: usize = 65_536;
const HEADERS_MAX: usize = 30;
const TIMEOUT_MS: u64 = 10_000;
const TIMEOUT_MS_MAX: u64 = 300_000;
const METHODS: [(&str, &str); 6] = [
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("PATCH", "PATCH"),
    ("DELETE", "DELETE"),
    ("GET", "GET"),
    ("HEAD", "HEAD"),
];
/// Headers that are ours to send.
const RESERVED: [&str; 7] = [
    "idempotency-key",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
];

/// Parts of names of headers that are secrets.
const SECRET_NAMES: [&str; 8] =
    ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey", "api_key"];

/// The kind.
pub struct Kind;

/// One request.
#[derive(Clone, Serialize, Deserialize)]
struct Call {
    method: String,
    url: String,
    /// A text goes as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    /// The status that is wanted; any of 200 to 299 where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expect: Option<u16>,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(flatten)]
    call: Call,
    headers: BTreeMap<String, HeaderText>,
    timeout_ms: u64,
    undo: Option<Call>,
    safe_in_dry_run: bool,
}

impl Call {
    fn of(fields: &Fields<'_>) -> Result<Self, Fault> {
        let url = fields.text("url", 2_000)?;
        let host = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        match host.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default()) {
            Some(host) if host.contains('@') => {
                let message = "an address must not hold a user or a password";
                return Err(Fault::new("url", message).hint("send a header with `{secret: …}`"));
            }
            Some(host) if !host.is_empty() => {}
            _ => return Err(Fault::new("url", "an address starts with http:// or https://")),
        }
        let expect = fields.any("expect").map(|_| fields.whole("expect", 100, 599, 200));
        let call = Self {
            method: fields.word("method", &METHODS)?.to_owned(),
            url,
            body: fields.any("body").cloned(),
            expect: expect.transpose()?.map(|status| status as u16),
        };
        if call.text().is_some_and(|text| text.len() > BODY_MAX) {
            return Err(Fault::new("body", format!("over {BODY_MAX} bytes")));
        }
        if call.body.is_some() && call.only_reads() {
            return Err(Fault::new("body", format!("{} has no body", call.method)));
        }
        Ok(call)
    }

    fn only_reads(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD")
    }

    /// The body as it is sent.
    fn text(&self) -> Option<String> {
        self.body.as_ref().map(|body| match body {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }

    /// `POST https://api.test/jobs`; what is behind a question mark may be nobody's business.
    fn says(&self) -> String {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        format!("{} {url}", self.method)
    }

    /// The body without what it says: names stay, values go.
    fn redacted(&self) -> String {
        match &self.body {
            None => "no body".to_owned(),
            Some(Value::String(text)) => format!("a text of {} bytes", text.len()),
            Some(body) => format!("the body {}", hidden(body)),
        }
    }

    fn is_as_expected(&self, status: u16) -> bool {
        self.expect.map_or((200..300).contains(&status), |expect| expect == status)
    }
}

/// The same shape, with every value hidden.
fn hidden(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), hidden(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(hidden).collect(),
        _ => json!("…"),
    }
}

impl Params {
    fn request(&self, call: &Call, key: String, is_urgent: bool) -> HttpRequest {
        let mut headers = self.headers.clone();
        if !headers.contains_key("content-type") {
            let kind = match &call.body {
                Some(Value::String(_)) => Some("text/plain; charset=utf-8"),
                Some(_) => Some("application/json"),
                None => None,
            };
            headers.extend(
                kind.map(|kind| ("content-type".to_owned(), HeaderText::Plain(kind.to_owned()))),
            );
        }
        let (method, url, body) = (call.method.clone(), call.url.clone(), call.text());
        HttpRequest { method, url, headers, body, key, timeout_ms: self.timeout_ms, is_urgent }
    }

    /// Sends a request and judges the answer. Its body is read by nobody: it may hold what a log must not.
    async fn send(
        &self,
        at: &At<'_>,
        call: &Call,
        phase: &str,
        is_urgent: bool,
    ) -> Result<Value, StepError> {
        let begun = at.now();
        let request = self.request(call, at.key(phase), is_urgent);
        let Some(answer) = at.world.http.send(&request).await? else {
            let says = format!("{} was not sent: this is a drill", call.says());
            return Ok(json!({"says": says}));
        };
        let status = answer.status;
        let says = format!("{} answered {status}", call.says());
        if call.is_as_expected(status) {
            return Ok(json!({"says": says, "status": status, "took_ms": at.now() - begun}));
        }
        // Busy, or broken for now; anything else says that the request is wrong.
        let may_pass = status == 408 || status == 429 || status >= 500;
        Err(StepError::Failed { message: says, retry: may_pass })
    }
}

/// Headers, their names in small letters.
fn headers_of(fields: &Fields<'_>) -> Result<BTreeMap<String, HeaderText>, Fault> {
    let wrong = |message: String| {
        Fault::new("headers", message)
            .hint("a text, or {secret: env:NAME} or {secret: file:/path} for what nobody may read")
    };
    let mut headers = BTreeMap::new();
    for (name, value) in fields.map_of("headers")? {
        let key = name.to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if key.is_empty() || key.len() > 100 || !key.chars().all(allowed) {
            return Err(wrong(format!("`{name}` is not a header's name")));
        }
        if RESERVED.contains(&key.as_str()) {
            return Err(wrong(format!("`{name}` is set by the server")));
        }
        let text = match &value {
            Value::String(text) => HeaderText::Plain(text.clone()),
            Value::Object(map) if map.len() == 1 => match map.get("secret") {
                Some(Value::String(place)) => secret(place).map_err(wrong)?,
                _ => return Err(wrong(format!("`{name}` is neither a text nor a secret"))),
            },
            _ => return Err(wrong(format!("`{name}` is neither a text nor a secret"))),
        };
        let is_secret = matches!(text, HeaderText::Secret { .. });
        let is_plain = |text: &str| text.len() <= 1_000 && !text.contains(|c: char| c.is_control());
        if let HeaderText::Plain(text) = &text
            && !is_plain(text)
        {
            return Err(wrong(format!("`{name}` is too long, or not one line")));
        }
        if SECRET_NAMES.iter().any(|part| key.contains(part)) && !is_secret {
            return Err(wrong(format!("`{name}` is a secret, and this file is read by many")));
        }
        if headers.insert(key, text).is_some() {
            return Err(wrong(format!("`{name}` is given twice")));
        }
    }
    if headers.len() > HEADERS_MAX {
        return Err(wrong(format!("over {HEADERS_MAX} headers")));
    }
    Ok(headers)
}

/// Where a secret is. What is given wrongly may be the secret itself, so it is not repeated.
fn secret(place: &str) -> Result<HeaderText, String> {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_good = match place.split_once(':') {
        Some(("env", rest)) => !rest.is_empty() && rest.chars().all(name),
        Some(("file", rest)) => rest.starts_with('/'),
        _ => false,
    };
    if !is_good {
        return Err("a secret is named, not given: `env:NAME` or `file:/absolute/path`".to_owned());
    }
    if place.starts_with("env:SWITCHBACK_") {
        return Err("this server's own settings are not sent".to_owned());
    }
    Ok(HeaderText::Secret { secret: place.to_owned() })
}

const CALL_FIELDS: [Field; 4] = [
    Field { name: "method", about: "" },
    Field { name: "url", about: "" },
    Field { name: "body", about: "" },
    Field { name: "expect", about: "" },
];

/// The request that takes it back.
fn undo_of(fields: &Fields<'_>) -> Result<Option<Call>, Fault> {
    let map = match fields.any("undo") {
        None => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(_) => {
            return Err(Fault::new("undo", "a map is expected").hint("{method, url, body, expect}"));
        }
    };
    let inner = Fields { map, templates: fields.templates, earlier: fields.earlier };
    let within = |fault: Fault| {
        let message = format!("{}: {}", fault.field, fault.message);
        Fault { field: "undo".to_owned(), message, hint: fault.hint }
    };
    inner.check_names(&CALL_FIELDS).and_then(|()| Call::of(&inner)).map(Some).map_err(within)
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "http.request"
    }

    fn about(&self) -> &'static str {
        "Sends a request to another system, with an Idempotency-Key; says how it is taken back, or that it cannot be."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "method", about: "POST (default), PUT, PATCH, DELETE, GET or HEAD" },
            Field { name: "url", about: "an http or https address" },
            Field {
                name: "headers",
                about: "by name: a text, or {secret: env:NAME} or {secret: file:/path}",
            },
            Field { name: "body", about: "a text, or a map or list that is sent as JSON" },
            Field { name: "expect", about: "the status; default any from 200 to 299" },
            Field { name: "timeout", about: "how long one attempt may take; default 10s" },
            Field {
                name: "undo",
                about: "the request that takes it back: {method, url, body, expect}; same headers",
            },
            Field {
                name: "irreversible",
                about: "true: nothing takes it back; it then needs an approval",
            },
            Field {
                name: "safe_in_dry_run",
                about: "true: a dry run really sends it; otherwise it only says what it would send",
            },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let flag = |name: &str| match fields.any(name) {
            None => Ok(false),
            Some(_) => fields.bool(name),
        };
        let params = Params {
            call: Call::of(fields)?,
            headers: headers_of(fields)?,
            timeout_ms: fields.duration_or_none("timeout")?.unwrap_or(TIMEOUT_MS),
            undo: undo_of(fields)?,
            safe_in_dry_run: flag("safe_in_dry_run")?,
        };
        if !(1..=TIMEOUT_MS_MAX).contains(&params.timeout_ms) {
            return Err(Fault::new("timeout", "1ms to 5m is expected"));
        }
        let irreversible = flag("irreversible")?;
        let undo = match (&params.undo, irreversible) {
            (Some(_), false) => Undo::Automatic,
            (None, true) => Undo::Impossible,
            (None, false) if params.call.only_reads() => Undo::NotNeeded,
            _ => {
                let message = "say in one way how it is taken back: `undo`; or that nothing does \
                               (`irreversible: true`)";
                return Err(Fault::new("undo", message));
            }
        };
        let does = format!("Send {}", params.call.says());
        let undoes = params.undo.as_ref().map(|call| format!("Send {}", call.says()));
        let timeout_ms = params.timeout_ms.saturating_add(10_000);
        let resolved = Resolved::new(&params, does);
        let undoes = undoes.unwrap_or_default();
        Ok(Resolved { undoes, undo: Some(undo), danger: irreversible, timeout_ms, ..resolved })
    }

    async fn preview(&self, at: &At<'_>, _so_far: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        let call = &params.call;
        let http = &at.world.http;
        // A key of its own each time: the other side must not take it for the run's.
        let phase = format!("dry-{}", at.now());
        let request = params.request(call, at.key(&phase), false);
        let mut warnings = Vec::new();
        let message = if params.safe_in_dry_run {
            match params.send(at, call, &phase, false).await {
                Ok(seen) => {
                    let says = seen.get("says").and_then(Value::as_str).unwrap_or_default();
                    format!("{says} in this dry run")
                }
                Err(error) => {
                    warnings.push(error.to_string());
                    format!("{} was sent", call.says())
                }
            }
        } else {
            let names: Vec<&str> = request.headers.keys().map(String::as_str).collect();
            let with =
                if names.is_empty() { String::new() } else { format!("{}, ", names.join(", ")) };
            format!(
                "{} would be sent, with {with}idempotency-key and {}",
                call.says(),
                call.redacted()
            )
        };
        if let Err(error) = http.check(&request).await {
            warnings.push(error.to_string());
        }
        if let Some(undo) = &params.undo
            && let Err(error) = http.check(&params.request(undo, at.key("undo"), true)).await
        {
            warnings.push(format!("the undo: {error}"));
        }
        warnings.dedup();
        let change = Answer::Known(Some((Value::Null, json!({"message": message}))));
        Effect { change, warnings, ..Effect::none() }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        Ok(Ran::Done(params.send(at, &params.call, "do", false).await?))
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let Some(undo) = &params.undo else { return Ok(Ran::Done(json!({}))) };
        if at.done.is_none() {
            let request = params.request(&params.call, at.key("do"), true);
            if let Err(PortError::Refused(why)) = at.world.http.check(&request).await {
                let says = format!("it could not be sent, so nothing is taken back: {why}");
                return Ok(Ran::Done(json!({"says": says})));
            }
        }
        Ok(Ran::Done(params.send(at, undo, "undo", true).await?))
    }

    fn invert(&self, past: &Past<'_>) -> Inverse {
        let Ok(params) = Params::deserialize(past.params) else { return Inverse::Nothing };
        let Some(undo) = &params.undo else {
            let reads = params.call.only_reads();
            let left = || Inverse::Impossible(format!("{} (nothing takes it back)", past.does));
            return if reads { Inverse::Nothing } else { left() };
        };
        let Ok(Value::Object(mut map)) = serde_json::to_value(undo) else {
            return Inverse::Nothing;
        };
        map.insert("headers".to_owned(), json!(params.headers));
        map.insert("timeout".to_owned(), json!(format!("{}ms", params.timeout_ms)));
        map.insert("undo".to_owned(), json!(params.call));
        Inverse::step("http.request", Value::Object(map))
    }
}
