//! What Unleash's SDKs report: evaluations by flag and variant, and the app's own figures ("impact metrics").

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use switchback_app::impact::{Sample, SampleKind};
use switchback_core::wire::{Count, REPORT_ROWS_MAX};
use switchback_store::TokenKind;

use super::{Guest, Refusal};

/// A report, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    #[serde(default)]
    app_name: Option<String>,
    #[serde(default)]
    bucket: Option<Bucket>,
    #[serde(default)]
    impact_metrics: Option<Vec<Impact>>,
}

#[derive(Deserialize)]
struct Bucket {
    #[serde(default)]
    toggles: BTreeMap<String, Toggle>,
}

#[derive(Deserialize)]
struct Toggle {
    #[serde(default)]
    yes: u64,
    #[serde(default)]
    no: u64,
    #[serde(default)]
    variants: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Impact {
    name: String,
    #[serde(rename = "type")]
    kind: SampleKind,
    #[serde(default)]
    samples: Vec<ImpactSample>,
}

#[derive(Deserialize)]
struct ImpactSample {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    value: Option<f64>,
    count: Option<f64>,
    sum: Option<f64>,
    #[serde(default)]
    buckets: Vec<ImpactBucket>,
}

#[derive(Deserialize)]
struct ImpactBucket {
    /// A number, or `"+Inf"`.
    le: serde_json::Value,
    count: f64,
}

/// A relay's report of many apps.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BulkReport {
    #[serde(default)]
    metrics: Vec<BulkRow>,
    #[serde(default)]
    impact_metrics: Vec<Impact>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BulkRow {
    feature_name: String,
    #[serde(flatten)]
    toggle: Toggle,
}

/// `POST /api/client/metrics`.
pub async fn report(
    request: HttpRequest,
    body: web::Json<Report>,
) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, &[TokenKind::Server]).await?;
    take_in(&guest, body.into_inner());
    Ok(HttpResponse::Accepted().finish())
}

/// `POST /api/frontend/client/metrics`.
pub async fn report_frontend(
    request: HttpRequest,
    body: web::Json<Report>,
) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, &[TokenKind::Browser]).await?;
    guest.slow_down(&request)?;
    take_in(&guest, body.into_inner());
    Ok(HttpResponse::Ok().finish())
}

/// `POST /api/client/metrics/bulk`.
pub async fn report_bulk(
    request: HttpRequest,
    body: web::Json<BulkReport>,
) -> Result<HttpResponse, Refusal> {
    let guest = Guest::of(&request, &[TokenKind::Server]).await?;
    let body = body.into_inner();
    let counts = body.metrics.into_iter().map(|row| (row.feature_name, row.toggle));
    count(&guest, counts);
    keep(&guest, "", body.impact_metrics);
    Ok(HttpResponse::Accepted().finish())
}

fn take_in(guest: &Guest, report: Report) {
    if let Some(bucket) = report.bucket {
        count(guest, bucket.toggles.into_iter());
    }
    keep(
        guest,
        report.app_name.as_deref().unwrap_or_default(),
        report.impact_metrics.unwrap_or_default(),
    );
}

fn count(guest: &Guest, toggles: impl Iterator<Item = (String, Toggle)>) {
    let mut counts = Vec::new();
    for (flag, Toggle { yes, no, variants }) in toggles.take(REPORT_ROWS_MAX) {
        // Evaluations with a variant are among the yes and no, under the name `disabled` when there was none.
        let named: u64 =
            variants.iter().filter(|(name, _)| *name != "disabled").map(|(_, n)| n).sum();
        for (variant, count) in variants.into_iter().filter(|(name, _)| name != "disabled") {
            counts.push(Count { flag: flag.clone(), enabled: true, variant: Some(variant), count });
        }
        for (enabled, count) in [(true, yes.saturating_sub(named)), (false, no)] {
            if count > 0 {
                counts.push(Count { flag: flag.clone(), enabled, variant: None, count });
            }
        }
    }
    let snapshot = guest.feed.current();
    let known = |key: &str| snapshot.document.flags.contains_key(key);
    guest.app.on_report(&guest.feed.environment, &counts, known);
}

fn keep(guest: &Guest, app_name: &str, metrics: Vec<Impact>) {
    let mut samples = Vec::new();
    for Impact { name, kind, samples: list } in metrics {
        for one in list {
            samples.push(Sample {
                name: name.clone(),
                kind,
                app: one.labels.get("appName").map_or(app_name, String::as_str).to_owned(),
                labels: one.labels,
                value: one.value.or(one.sum).unwrap_or_default(),
                count: one.count.unwrap_or(1.0),
                buckets: one
                    .buckets
                    .into_iter()
                    .filter_map(|bucket| {
                        let le = match &bucket.le {
                            serde_json::Value::String(_) => f64::INFINITY,
                            value => value.as_f64()?,
                        };
                        Some((le, bucket.count))
                    })
                    .collect(),
            });
        }
    }
    guest.app.on_samples(&guest.feed.environment, samples);
}
