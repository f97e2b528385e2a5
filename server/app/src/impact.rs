//! Figures that apps report of themselves (Unleash's "impact metrics"): added up in memory by minute, written once in a
//! while, bounded. Guards read them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_store::{ImpactRow, Role};

use super::App;
use super::error::AppError;
use super::who::Who;

/// Rows kept in memory between two writes; more are dropped, with a counter.
const ROWS_MAX: usize = 20_000;
/// Samples of one report.
const SAMPLES_MAX: usize = 1_000;
/// Buckets of one histogram.
const BUCKETS_MAX: usize = 50;
/// Labels of one sample, and characters of each text.
const LABELS_MAX: usize = 10;
const TEXT_MAX: usize = 100;
const MINUTE_MS: i64 = 60_000;
const MICRO: f64 = 1_000_000.0;
/// Rows of one answer.
const ANSWER_MAX: i64 = 10_000;

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleKind {
    /// Adds up.
    Counter,
    /// The last one counts.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// One reported figure: what accumulated since the app's last report.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: SampleKind,
    /// The app.
    pub app: String,
    /// What tells it from others of its name.
    pub labels: BTreeMap<String, String>,
    /// The value, or a histogram's sum.
    pub value: f64,
    /// Observations.
    pub count: f64,
    /// A histogram's buckets: upper bound, observations up to it.
    pub buckets: Vec<(f64, f64)>,
}

/// Environment, name, minute, app, labels, bucket.
type Key = (String, String, Millis, String, String, String);

/// What it is, its sum in millionths, and its observations.
type Figure = (SampleKind, i64, i64);

/// Figures that are not written yet.
#[derive(Default)]
pub(crate) struct Figures {
    rows: Mutex<BTreeMap<Key, Figure>>,
}

impl App {
    /// Takes figures in. Those that are no numbers, or too many, are dropped with a counter.
    pub fn on_samples(&self, environment: &str, samples: Vec<Sample>) {
        let minute = self.clock.now() / MINUTE_MS * MINUTE_MS;
        let mut rows = self.impact.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for sample in samples.into_iter().take(SAMPLES_MAX) {
            let labels: BTreeMap<String, String> = sample
                .labels
                .iter()
                .take(LABELS_MAX)
                .map(|(name, value)| (cut(name), cut(value)))
                .collect();
            let labels = serde_json::to_string(&labels).unwrap_or_default();
            let total = (String::new(), sample.value, sample.count);
            let buckets = sample.buckets.iter().take(BUCKETS_MAX);
            let buckets = buckets.map(|(le, count)| {
                let le = if le.is_finite() { le.to_string() } else { "+Inf".to_owned() };
                (le, 0.0, *count)
            });
            for (le, sum, count) in std::iter::once(total).chain(buckets) {
                let (Some(sum), Some(count)) = (micros(sum), whole(count)) else {
                    self.metrics.dropped_counts.inc();
                    continue;
                };
                let name = cut(&sample.name);
                let key =
                    (environment.to_owned(), name, minute, cut(&sample.app), labels.clone(), le);
                if rows.len() >= ROWS_MAX && !rows.contains_key(&key) {
                    self.metrics.dropped_counts.inc();
                    continue;
                }
                let (_, known_sum, known_count) = rows.entry(key).or_insert((sample.kind, 0, 0));
                *known_count = known_count.saturating_add(count);
                *known_sum = match sample.kind {
                    SampleKind::Gauge => sum,
                    _ => known_sum.saturating_add(sum),
                };
            }
        }
    }

    /// Writes what was reported. On an outage it is kept for the next time.
    pub async fn write_impact(&self) {
        let rows =
            std::mem::take(&mut *self.impact.rows.lock().unwrap_or_else(PoisonError::into_inner));
        let mut by_environment: BTreeMap<String, Vec<(Key, Figure)>> = BTreeMap::new();
        for (key, figures) in rows {
            by_environment.entry(key.0.clone()).or_default().push((key, figures));
        }
        for (environment, rows) in by_environment {
            let written: Vec<ImpactRow> =
                rows.iter().map(|(key, figures)| row(key, *figures)).collect();
            if let Err(error) = self.store.add_impact(&environment, &written).await {
                tracing::warn!(error = %error, "the apps' figures could not be written; kept");
                let mut kept = self.impact.rows.lock().unwrap_or_else(PoisonError::into_inner);
                for (key, (kind, sum, count)) in rows {
                    let (_, newer_sum, newer_count) = kept.entry(key).or_insert((kind, 0, 0));
                    *newer_count = newer_count.saturating_add(count);
                    if kind != SampleKind::Gauge || *newer_count == count {
                        *newer_sum = newer_sum.saturating_add(sum);
                    }
                }
            }
        }
    }

    /// A figure since a moment, oldest first, with what is not written yet.
    pub async fn list_impact(
        &self,
        who: &Who,
        environment: &str,
        name: &str,
        since: Millis,
    ) -> Result<Vec<ImpactRow>, AppError> {
        who.must(Role::Viewer, environment, "look at figures")?;
        self.write_impact().await;
        Ok(self.store.list_impact(environment, name, since, ANSWER_MAX).await?)
    }

    /// Names of figures, their kind, and the last minute of each.
    pub async fn list_impact_names(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<Vec<(String, String, Millis)>, AppError> {
        who.must(Role::Viewer, environment, "look at figures")?;
        self.write_impact().await;
        Ok(self.store.list_impact_names(environment).await?)
    }
}

fn row((_, name, minute, app, labels, le): &Key, (kind, sum_micros, count): Figure) -> ImpactRow {
    let kind = match kind {
        SampleKind::Counter => "counter",
        SampleKind::Gauge => "gauge",
        SampleKind::Histogram => "histogram",
    };
    ImpactRow {
        name: name.clone(),
        kind: kind.to_owned(),
        app: app.clone(),
        labels: labels.clone(),
        minute: *minute,
        le: le.clone(),
        sum_micros,
        count,
    }
}

fn micros(value: f64) -> Option<i64> {
    let micros = (value * MICRO).round();
    (micros.abs() < 9e18).then_some(micros as i64)
}

fn whole(count: f64) -> Option<i64> {
    (0.0..9e15).contains(&count).then_some(count as i64)
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}
