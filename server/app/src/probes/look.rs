//! One look of a probe: to addresses that are allowed, within its time, saying what was wrong and no secret.

use std::time::Duration;

use serde_json::{Map, Value};
use switchback_source::Credentials;
use switchback_store::ProbeResult;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::settings::{Check, ProbeSettings};
use crate::App;
use crate::outgoing::{Destination, destination, text_of};

/// How much of an answer is searched for a text, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;
/// What is kept of what was wrong, in characters.
const SAID_MAX: usize = 300;

/// What a probe posts.
struct Post {
    body: Vec<u8>,
    kind: &'static str,
}

impl App {
    /// Looks once.
    pub(super) async fn look(&self, settings: &ProbeSettings) -> ProbeResult {
        let at = self.clock.now();
        let began = Instant::now();
        let within = Duration::from_millis(settings.timeout_ms);
        let looked = tokio::time::timeout(within, self.look_at(&settings.check, within)).await;
        let outcome =
            looked.unwrap_or_else(|_| Err(format!("no answer within {} ms", settings.timeout_ms)));
        let is_good = outcome.is_ok();
        let (Ok(said) | Err(said)) = outcome;
        ProbeResult {
            at,
            is_good,
            took_ms: began.elapsed().as_millis() as u64,
            said: said
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(SAID_MAX)
                .collect(),
        }
    }

    async fn look_at(&self, check: &Check, within: Duration) -> Result<String, String> {
        match check {
            Check::Http { url, status, text } => {
                let is_well = |found: u16| match status.as_slice() {
                    [] => (200..300).contains(&found),
                    some => some.contains(&found),
                };
                self.ask(url, None, within, is_well, text).await
            }
            Check::Tcp { address } => {
                let to = self.allowed(&format!("http://{address}/")).await?;
                let mut last = "it cannot be reached".to_owned();
                for address in &to.addresses {
                    match TcpStream::connect(address).await {
                        Ok(_) => return Ok("connected".to_owned()),
                        Err(error) => last = format!("no connection: {}", error.kind()),
                    }
                }
                Err(last)
            }
            Check::Sql { source, query, text } => {
                let source = self.source(source).await.map_err(|error| error.to_string())?;
                let rows = source.query(query, &[]).await.map_err(|error| error.to_string())?;
                let first = rows.first().ok_or("it gave no row")?;
                let said = first_of(first);
                if text.is_empty() || said == *text {
                    Ok(format!("{} rows", rows.len()))
                } else {
                    Err("the first column says something else".to_owned())
                }
            }
            Check::Login {
                url,
                credentials,
                name_field,
                password_field,
                is_form,
                status,
                text,
                environment: _,
            } => {
                let (name, password) = secret(credentials).await?;
                let post = Post::of(*is_form, [(name_field, &name), (password_field, &password)]);
                let is_well = |found: u16| match status.as_slice() {
                    [] => (200..400).contains(&found),
                    some => some.contains(&found),
                };
                self.ask(url, Some(post), within, is_well, text).await
            }
            Check::LoginFlow { credentials, steps, environment: _ } => {
                self.sign_in_by(credentials.as_ref(), steps, within).await
            }
        }
    }

    pub(super) async fn allowed(&self, url: &str) -> Result<Destination, String> {
        destination(url, &self.config.outgoing.networks).await.map_err(|error| error.to_string())
    }

    /// Asks an address. What comes back may hold what was sent: none of it is said but its status.
    async fn ask(
        &self,
        url: &str,
        post: Option<Post>,
        within: Duration,
        is_well: impl Fn(u16) -> bool,
        text: &str,
    ) -> Result<String, String> {
        let to = self.allowed(url).await?;
        let client = to.client(within).map_err(no_answer)?;
        let request = match post {
            None => client.get(url),
            Some(post) => client.post(url).header("content-type", post.kind).body(post.body),
        };
        let mut answer = request.send().await.map_err(no_answer)?;
        let status = answer.status().as_u16();
        if !is_well(status) {
            return Err(format!("it answered {status}"));
        }
        if text.is_empty() {
            return Ok(format!("it answered {status}"));
        }
        let body = text_of(&mut answer, BODY_BYTES_MAX).await.map_err(no_answer)?;
        if body.contains(text) {
            Ok(format!("it answered {status} with the text"))
        } else {
            Err(format!("it answered {status} without the text"))
        }
    }
}

impl Post {
    fn of(is_form: bool, fields: [(&String, &String); 2]) -> Self {
        if is_form {
            let body =
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            return Self { body: body.into_bytes(), kind: "application/x-www-form-urlencoded" };
        }
        let fields = fields.map(|(name, value)| (name.clone(), Value::String(value.clone())));
        let body = Value::Object(Map::from_iter(fields)).to_string();
        Self { body: body.into_bytes(), kind: "application/json" }
    }
}

fn first_of(row: &Map<String, Value>) -> String {
    match row.values().next() {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// `name:password`; errors say where it is, never what.
pub(super) async fn secret(credentials: &Credentials) -> Result<(String, String), String> {
    let text = credentials.read().await.map_err(|error| error.to_string())?;
    let (name, password) =
        text.split_once(':').ok_or_else(|| format!("{credentials} holds no name:password"))?;
    Ok((name.to_owned(), password.to_owned()))
}

pub(super) fn no_answer(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        "it cannot be reached".to_owned()
    } else {
        "no answer that can be read".to_owned()
    }
}
