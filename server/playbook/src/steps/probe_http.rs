//! `probe.http`: asks an address until it answers as it should.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{At, Check, Fault, Field, Fields, Ran, Resolved, StepError, StepKind};
use crate::ports::{HttpQuestion, PortError};
use crate::units::duration_text;

const PAUSE_MS: u64 = 250;
const QUESTION_MS_MAX: u64 = 5_000;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    url: String,
    method: String,
    expect: u16,
    within_ms: u64,
    contains: Option<String>,
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "probe.http"
    }

    fn about(&self) -> &'static str {
        "Asks an address until it gives the expected status, and text if one is named."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "url", about: "an http or https address" },
            Field { name: "method", about: "GET (default) or HEAD" },
            Field { name: "expect", about: "the status; default 200" },
            Field { name: "within", about: "how long to keep asking; default 10s" },
            Field { name: "contains", about: "a text that the body must hold" },
        ]
    }

    fn read_only(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params {
            url: fields.text("url", 2_000)?,
            method: fields.word("method", &[("GET", "GET"), ("HEAD", "HEAD")])?.to_owned(),
            expect: fields.whole("expect", 100, 599, 200)? as u16,
            within_ms: fields.duration_or_none("within")?.unwrap_or(10_000),
            contains: fields.text_or_none("contains", 500)?,
        };
        let host =
            ["http://", "https://"].iter().find_map(|scheme| params.url.strip_prefix(scheme));
        match host {
            Some(host) if !host.is_empty() && !host.starts_with('/') => {}
            _ => return Err(Fault::new("url", "an address starts with http:// or https://")),
        }
        if params.url.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
            return Err(Fault::new("url", "an address must not hold a user or a password"));
        }
        let within = duration_text(params.within_ms);
        let does = format!("Ask {} until it answers {}, up to {within}", params.url, params.expect);
        let timeout_ms = params.within_ms + QUESTION_MS_MAX;
        Ok(Resolved { timeout_ms, ..Resolved::new(&params, does) })
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let begun = at.now();
        let give_up = begun.saturating_add_unsigned(params.within_ms);
        loop {
            let left = give_up.saturating_sub(at.now()).max(1) as u64;
            let question = HttpQuestion {
                method: params.method.clone(),
                url: params.url.clone(),
                timeout_ms: left.min(QUESTION_MS_MAX),
            };
            let seen = match at.world.http.ask(&question).await {
                Ok(answer) if answer.status != params.expect => format!("status {}", answer.status),
                Ok(answer)
                    if params.contains.as_ref().is_some_and(|text| !answer.body.contains(text)) =>
                {
                    "a body without the expected text".to_owned()
                }
                Ok(answer) => {
                    let took_ms = at.now() - begun;
                    let says = format!("{} answered {}", params.url, answer.status);
                    return Ok(Ran::Done(json!({"says": says, "took_ms": took_ms})));
                }
                Err(error @ PortError::Refused(_)) => return Err(error.into()),
                Err(error) => error.to_string(),
            };
            let now = at.now();
            if now >= give_up {
                return Err(StepError::passing(format!("{} gave {seen}", params.url)));
            }
            at.world.clock.sleep_until(now.saturating_add_unsigned(PAUSE_MS).min(give_up)).await;
        }
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        match self.run(at).await {
            Ok(Ran::Done(seen)) => Ok(Check::Holds(
                seen.get("says").and_then(|v| v.as_str()).unwrap_or_default().to_owned(),
            )),
            Ok(Ran::Committed) => Ok(Check::Holds(String::new())),
            Err(StepError::Failed { message, .. }) => Ok(Check::Broken(message)),
            Err(error) => Err(error),
        }
    }
}
