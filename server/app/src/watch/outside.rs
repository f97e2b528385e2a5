//! Values that others know, for rules: asked for beside the watch's loop, never in it. What does not answer in time is no data.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use switchback_core::model::Millis;
use switchback_store::ImpactRow;
use switchback_watch::alert::Reading;
use switchback_watch::impact::{Kind, Sample};
use switchback_watch::rule::{Origin, Outside};

use crate::App;
use crate::outgoing::{destination, text_of, why_no_answer};

/// How often one is asked for, in milliseconds.
const ASK_EVERY_MS: Millis = 10_000;
/// How long an answer holds, in milliseconds.
const HOLDS_MS: Millis = 30_000;
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Samples older than this are no data, in milliseconds.
const SAMPLE_AGE_MS_MAX: f64 = 60_000.0;
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Figures of apps that one value is made of.
const SAMPLES_MAX: i64 = 20_000;
/// Values that are remembered; rules are fewer.
const ANSWERS_MAX: usize = 1_000;

/// What was answered last.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<HashMap<String, Answer>>>);

#[derive(Clone, Copy, Default)]
struct Answer {
    asked_at: Option<Millis>,
    is_asking: bool,
    known: Option<(Millis, f64)>,
}

impl App {
    /// The last answer, when it is not too old; and asks anew when it is time.
    pub(super) fn outside_value(
        self: &Arc<Self>,
        answers: &Answers,
        environment: &str,
        wanted: &Outside,
        now: Millis,
    ) -> Reading {
        let key =
            format!("{environment}\n{:?}\n{}\n{}", wanted.origin, wanted.query, wanted.is_below);
        let mut all = answers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ANSWERS_MAX && !all.contains_key(&key) {
            all.clear();
        }
        let answer = all.entry(key.clone()).or_default();
        let is_due = answer.asked_at.is_none_or(|at| now - at >= ASK_EVERY_MS);
        if is_due && !answer.is_asking {
            (answer.asked_at, answer.is_asking) = (Some(now), true);
            let (app, answers, wanted) = (Arc::clone(self), answers.clone(), wanted.clone());
            let environment = environment.to_owned();
            tokio::spawn(async move {
                let asked = app.ask_outside(&environment, &wanted);
                let found = tokio::time::timeout(WITHIN, asked).await;
                let found = found.unwrap_or_else(|_| Err("no answer: not in time".to_owned()));
                let found = found
                    .inspect_err(|why| tracing::debug!("a rule's value is not known: {why}"))
                    .ok();
                let mut all = answers.0.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = all.entry(key).or_default();
                answer.is_asking = false;
                answer.known = found.map(|value| (app.clock.now(), value));
            });
        }
        match answer.known {
            Some((at, value)) if now - at <= HOLDS_MS => {
                Reading::Value(if wanted.is_below { -value } else { value })
            }
            _ => Reading::NoData,
        }
    }

    async fn ask_outside(&self, environment: &str, wanted: &Outside) -> Result<f64, String> {
        match &wanted.origin {
            Origin::Impact(impact) => {
                let since = impact.since(self.clock.now());
                let own = self.impact_samples(environment, &impact.name, since).await?;
                let per = match &impact.per {
                    Some(name) => self.impact_samples(environment, name, since).await?,
                    None => Vec::new(),
                };
                let value = impact.value(&own, &per, wanted.is_below);
                value.ok_or_else(|| "no app reported it within the window".to_owned())
            }
            Origin::Source(name) => {
                let source = self.source(name).await.map_err(|error| error.to_string())?;
                let rows = source.query(&wanted.query, &[]).await;
                let rows = rows.map_err(|error| error.to_string())?;
                let only = rows.first().filter(|row| row.len() == 1);
                let value = only.and_then(|row| row.values().next());
                value.and_then(number).ok_or_else(|| "it gave no row of one number".to_owned())
            }
            Origin::Prometheus(base) => {
                let query: String =
                    url::form_urlencoded::byte_serialize(wanted.query.as_bytes()).collect();
                let url = format!("{base}/api/v1/query?query={query}");
                let to = destination(&url, &self.config.outgoing.networks).await;
                let to = to.map_err(|error| error.to_string())?;
                let now = self.clock.now();
                if self.circuits.enter(&to.host, now).is_err() {
                    return Err("it failed several times in a row and is left alone".to_owned());
                }
                let asked = async {
                    let client = to.client(WITHIN).map_err(why_no_answer)?;
                    let mut answer = client.get(&url).send().await.map_err(why_no_answer)?;
                    let status = answer.status().as_u16();
                    let body = text_of(&mut answer, BODY_BYTES_MAX).await.map_err(why_no_answer)?;
                    Ok::<_, String>((status, body))
                };
                // The outer time-out would leave the host's state open.
                let asked = tokio::time::timeout(WITHIN.mul_f32(0.9), asked).await;
                let asked = asked.unwrap_or_else(|_| Err("no answer: not in time".to_owned()));
                let is_good = asked.as_ref().is_ok_and(|(status, _)| *status < 500);
                self.circuits.leave(&to.host, self.clock.now(), is_good);
                let (status, body) = asked?;
                if status != 200 {
                    return Err(format!("status {status}"));
                }
                worst(&body, wanted.is_below, self.clock.now())
                    .ok_or_else(|| "the answer holds no number of now".to_owned())
            }
        }
    }
}

impl App {
    /// What apps reported under a name since a moment.
    async fn impact_samples(
        &self,
        environment: &str,
        name: &str,
        since: Millis,
    ) -> Result<Vec<Sample>, String> {
        let rows = self.store.list_impact(environment, name, since, SAMPLES_MAX).await;
        let rows = rows.map_err(|error| error.to_string())?;
        if rows.len() as i64 == SAMPLES_MAX {
            return Err(format!("over {SAMPLES_MAX} figures in the window"));
        }
        Ok(rows.into_iter().filter_map(sample).collect())
    }
}

/// A figure as it is kept; none for the buckets of a histogram, whose sum has a row of its own.
fn sample(row: ImpactRow) -> Option<Sample> {
    let kind = match row.kind.as_str() {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" if row.le.is_empty() => Kind::Histogram,
        _ => return None,
    };
    let mut labels: BTreeMap<String, String> = serde_json::from_str(&row.labels).ok()?;
    labels.insert("app".to_owned(), row.app);
    let (sum, count) = (row.sum_micros as f64 / 1_000_000.0, row.count as f64);
    Some(Sample { kind, labels, minute: row.minute, sum, count })
}

fn number(value: &Value) -> Option<f64> {
    let found = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    found.filter(|number| number.is_finite())
}

/// The worst of Prometheus's numbers. One that is none, or is old, makes all of it unknown.
fn worst(body: &str, is_below: bool, now: Millis) -> Option<f64> {
    let body: Value = serde_json::from_str(body).ok()?;
    if body.get("status").and_then(Value::as_str) != Some("success") {
        return None;
    }
    let result = body.pointer("/data/result")?;
    let samples: Vec<&Value> = match body.pointer("/data/resultType")?.as_str()? {
        "scalar" => vec![result],
        "vector" => result.as_array()?.iter().filter_map(|one| one.get("value")).collect(),
        _ => return None,
    };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a date stay below 2^52")]
    let now = now as f64;
    let of = |sample: &&Value| {
        let at = sample.get(0)?.as_f64()? * 1_000.0;
        let value = number(sample.get(1)?)?;
        (now - at <= SAMPLE_AGE_MS_MAX).then_some(value)
    };
    let values: Option<Vec<f64>> = samples.iter().map(of).collect();
    values?.into_iter().reduce(if is_below { f64::min } else { f64::max })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vector(values: &[(f64, &str)]) -> String {
        let all: Vec<Value> =
            values.iter().map(|one| json!({"metric": {}, "value": [one.0, one.1]})).collect();
        json!({"status": "success", "data": {"resultType": "vector", "result": all}}).to_string()
    }

    #[test]
    fn the_worst_series_counts_and_what_is_unknown_is_no_data() {
        let two = vector(&[(1_000.0, "3"), (1_000.0, "7")]);
        assert_eq!(worst(&two, false, 1_000_000), Some(7.0));
        assert_eq!(worst(&two, true, 1_000_000), Some(3.0));
        let scalar = json!({"status": "success", "data": {"resultType": "scalar", "result": [1_000.0, "2"]}});
        assert_eq!(worst(&scalar.to_string(), false, 1_000_000), Some(2.0));
        for body in [
            vector(&[]),
            vector(&[(1_000.0, "NaN")]),
            vector(&[(1_000.0, "1"), (1_000.0, "+Inf")]),
            vector(&[(900.0, "1")]),
            "hello".to_owned(),
            json!({"status": "error"}).to_string(),
            json!({"status": "success", "data": {"resultType": "matrix", "result": []}})
                .to_string(),
        ] {
            assert_eq!(worst(&body, false, 1_000_000), None, "{body}");
        }
        assert_eq!((number(&json!("4.5")), number(&json!(null))), (Some(4.5), None));
    }
}
