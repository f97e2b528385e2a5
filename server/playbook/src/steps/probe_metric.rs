//! `probe.metric`: asks Prometheus until a metric is as it should be. What gives no data never passes.

use std::fmt::Write as _;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_core::model::Millis;

use super::{At, Check, Fault, Field, Fields, Ran, Resolved, StepError, StepKind};
use crate::ports::{HttpAnswer, HttpQuestion, PortError};
use crate::units::duration_text;

const PAUSE_MS: u64 = 1_000;
const QUESTION_MS_MAX: u64 = 5_000;
/// A sample that is older is no data, in milliseconds.
const AGE_MS_MAX: u64 = 60_000;
const COMPARISONS: [&str; 6] = [">=", "<=", "==", "!=", ">", "<"];

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    url: String,
    query: String,
    expect: String,
    within_ms: u64,
    max_age_ms: u64,
}

/// What an answer says.
#[derive(Debug, PartialEq)]
enum Seen {
    /// Every series is as it should be: the values.
    Good(String),
    /// One is not, or there is nothing to look at; asking again may help.
    Not(String),
    /// The query is wrong.
    Refused(String),
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "probe.metric"
    }

    fn about(&self) -> &'static str {
        "Asks Prometheus a query until every series is as expected; no data never passes."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "url", about: "where Prometheus is, without /api/v1" },
            Field { name: "query", about: "PromQL, asked for this moment" },
            Field {
                name: "expect",
                about: "such as '< 0.05': >, >=, <, <=, == or != and a number",
            },
            Field { name: "within", about: "how long to keep asking; default 30s" },
            Field { name: "max_age", about: "an older sample is no data; default 1m" },
        ]
    }

    fn read_only(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let params = Params {
            url: fields.text("url", 1_000)?.trim_end_matches('/').to_owned(),
            query: fields.text("query", 2_000)?,
            expect: fields.text("expect", 60)?.trim().to_owned(),
            within_ms: fields.duration_or_none("within")?.unwrap_or(30_000),
            max_age_ms: fields.duration_or_none("max_age")?.unwrap_or(AGE_MS_MAX),
        };
        let host =
            ["http://", "https://"].iter().find_map(|scheme| params.url.strip_prefix(scheme));
        match host {
            Some(host) if !host.is_empty() && !host.starts_with('/') => {}
            _ => return Err(Fault::new("url", "an address starts with http:// or https://")),
        }
        if params.url.contains(['?', '#']) {
            return Err(Fault::new("url", "the query stands in `query`"));
        }
        if params.url.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
            return Err(Fault::new("url", "an address must not hold a user or a password"));
        }
        if comparison(&params.expect).is_none() {
            let message = format!("`{}` is not a comparison with a number", params.expect);
            return Err(Fault::new("expect", message).hint("such as '< 0.05'"));
        }
        let within = duration_text(params.within_ms);
        let Params { query, expect, .. } = &params;
        let does = format!("Look until `{query}` is {expect}, up to {within}");
        let timeout_ms = params.within_ms + QUESTION_MS_MAX;
        Ok(Resolved { timeout_ms, ..Resolved::new(&params, does) })
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let begun = at.now();
        let give_up = begun.saturating_add_unsigned(params.within_ms);
        loop {
            let left = give_up.saturating_sub(at.now()).max(1).cast_unsigned();
            let question = HttpQuestion {
                method: "GET".to_owned(),
                url: address(&params.url, &params.query),
                timeout_ms: left.min(QUESTION_MS_MAX),
            };
            let seen = match at.world.http.ask(&question).await {
                Ok(answer) => judge(&answer, &params, at.now()),
                Err(error @ PortError::Refused(_)) => return Err(error.into()),
                Err(error) => Seen::Not(format!("no data: {error}")),
            };
            let missing = match seen {
                Seen::Good(values) => {
                    let took_ms = at.now() - begun;
                    let says = format!("`{}` is {values}, as expected", params.query);
                    return Ok(Ran::Done(json!({"says": says, "took_ms": took_ms})));
                }
                Seen::Refused(why) => return Err(StepError::permanent(why)),
                Seen::Not(why) => why,
            };
            let now = at.now();
            if now >= give_up {
                let message = format!("`{}` is not {}: {missing}", params.query, params.expect);
                return Err(StepError::passing(message));
            }
            at.world.clock.sleep_until(now.saturating_add_unsigned(PAUSE_MS).min(give_up)).await;
        }
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        match self.run(at).await {
            Ok(Ran::Done(seen)) => Ok(Check::Holds(
                seen.get("says").and_then(Value::as_str).unwrap_or_default().to_owned(),
            )),
            Ok(Ran::Committed) => Ok(Check::Holds(String::new())),
            Err(StepError::Failed { message, .. }) => Ok(Check::Broken(message)),
            Err(error) => Err(error),
        }
    }
}

fn comparison(text: &str) -> Option<(&'static str, f64)> {
    let (word, rest) =
        COMPARISONS.iter().find_map(|word| Some((*word, text.strip_prefix(*word)?)))?;
    let number: f64 = rest.trim().parse().ok()?;
    number.is_finite().then_some((word, number))
}

#[expect(clippy::float_cmp, reason = "`==` and `!=` say what they mean")]
fn holds(word: &str, value: f64, wanted: f64) -> bool {
    match word {
        ">=" => value >= wanted,
        "<=" => value <= wanted,
        "==" => value == wanted,
        "!=" => value != wanted,
        ">" => value > wanted,
        _ => value < wanted,
    }
}

/// Where a query is asked.
pub(crate) fn address(url: &str, query: &str) -> String {
    format!("{}/api/v1/query?query={}", url.trim_end_matches('/'), encoded(query))
}

/// The one number that an answer gives; the error says why there is none.
pub(crate) fn number(answer: &HttpAnswer, now: Millis) -> Result<f64, String> {
    let any = Params {
        url: String::new(),
        query: String::new(),
        expect: format!(">= {}", f64::MIN),
        within_ms: 0,
        max_age_ms: AGE_MS_MAX,
    };
    match judge(answer, &any, now) {
        Seen::Good(values) => {
            values.parse().map_err(|_| format!("one series is expected, and these are {values}"))
        }
        Seen::Not(why) | Seen::Refused(why) => Err(why),
    }
}

fn judge(answer: &HttpAnswer, params: &Params, now: Millis) -> Seen {
    let no_data = |why: &str| Seen::Not(format!("no data: {why}"));
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if matches!(answer.status, 400 | 422) {
        let why = body.get("error").and_then(Value::as_str).unwrap_or("no reason given");
        let why: String = why.chars().take(300).collect();
        return Seen::Refused(format!("Prometheus refused the query: {why}"));
    }
    if answer.status != 200 || body.get("status") != Some(&json!("success")) {
        return no_data(&format!("status {}", answer.status));
    }
    let result = body.pointer("/data/result");
    let samples: Vec<&Value> = match body.pointer("/data/resultType").and_then(Value::as_str) {
        Some("scalar") => result.into_iter().collect(),
        Some("vector") => {
            let series = result.and_then(Value::as_array).into_iter().flatten();
            series.filter_map(|one| one.get("value")).collect()
        }
        _ => return no_data("the result is neither a number nor numbers"),
    };
    if samples.is_empty() {
        return no_data("no series");
    }
    let Some((word, wanted)) = comparison(&params.expect) else {
        return Seen::Refused(format!("`{}` is not a comparison", params.expect));
    };
    let mut values = Vec::new();
    for sample in samples {
        let at = sample.get(0).and_then(Value::as_f64).unwrap_or(0.0) * 1_000.0;
        let value = sample.get(1).and_then(Value::as_str).unwrap_or_default();
        let Some(number) = value.parse::<f64>().ok().filter(|number| number.is_finite()) else {
            return no_data(&format!(
                "`{}` is no number",
                value.chars().take(20).collect::<String>()
            ));
        };
        if now as f64 - at > params.max_age_ms as f64 {
            return no_data("the sample is too old");
        }
        if !holds(word, number, wanted) {
            return Seen::Not(format!("it is {value}"));
        }
        values.push(value);
    }
    values.truncate(5);
    Seen::Good(values.join(", "))
}

/// Percent-encoded, for a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_000_000;

    fn judged(expect: &str, status: u16, body: &Value) -> Seen {
        let params = Params {
            url: "http://p".into(),
            query: "q".into(),
            expect: expect.into(),
            within_ms: 1,
            max_age_ms: 60_000,
        };
        judge(&HttpAnswer { status, body: body.to_string() }, &params, NOW)
    }

    fn vector(values: &[(f64, &str)]) -> Value {
        let result: Vec<Value> =
            values.iter().map(|v| json!({"metric": {}, "value": [v.0, v.1]})).collect();
        json!({"status": "success", "data": {"resultType": "vector", "result": result}})
    }

    #[test]
    fn every_series_must_be_as_expected() {
        let one = vector(&[(1_000.0, "0.01")]);
        let two = vector(&[(1_000.0, "0.01"), (1_000.0, "0.2")]);
        let scalar = json!({"status": "success", "data": {"resultType": "scalar", "result": [1_000.0, "3"]}});

        assert_eq!(judged("< 0.05", 200, &one), Seen::Good("0.01".into()));
        assert_eq!(judged("<0.05", 200, &two), Seen::Not("it is 0.2".into()));
        for expect in ["== 3", ">= 3", "<= 3", "!= 4", "> 2", "< 4"] {
            assert_eq!(judged(expect, 200, &scalar), Seen::Good("3".into()), "{expect}");
        }
    }

    #[test]
    fn no_data_never_passes() {
        let error = json!({"status": "error", "errorType": "bad_data", "error": "parse error"});
        for (status, body) in [
            (200, vector(&[])),
            (200, vector(&[(1_000.0, "NaN")])),
            (200, vector(&[(1_000.0, "+Inf")])),
            (200, vector(&[(1_000.0, "0.01"), (900.0, "0.01")])),
            (200, json!({"status": "success", "data": {"resultType": "matrix", "result": []}})),
            (200, json!("hello")),
            (200, error.clone()),
            (503, vector(&[(1_000.0, "0.01")])),
        ] {
            for expect in ["< 0.05", "!= 7", "> -1"] {
                let seen = judged(expect, status, &body);
                assert!(
                    matches!(&seen, Seen::Not(why) if why.starts_with("no data")),
                    "{seen:?}: {body}"
                );
            }
        }
        assert_eq!(
            judged("< 1", 400, &error),
            Seen::Refused("Prometheus refused the query: parse error".into())
        );
    }

    #[test]
    fn a_query_is_encoded_and_a_comparison_is_read() {
        assert_eq!(encoded("rate(a{b=\"é\"}[5m])"), "rate%28a%7Bb%3D%22%C3%A9%22%7D%5B5m%5D%29");
        assert_eq!(
            (comparison("> NaN"), comparison("5"), comparison("<= 1e-3")),
            (None, None, Some(("<=", 0.001)))
        );
    }
}
