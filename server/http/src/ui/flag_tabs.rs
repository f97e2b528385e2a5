//! A flag's tabs beside the rules: trying it, its activity, its history.

use std::collections::BTreeMap;

use serde_json::Value;
use switchback_app::AppError;
use switchback_app::contexts::Decided;
use switchback_app::environments::difference_of;
use switchback_core::Explanation;
use switchback_core::context::ContextBody;
use switchback_core::model::FlagState;
use switchback_store::FlagRow;

use super::diff_lines::{DiffLine, lines};
use super::fields::{Faults, Fields};
use super::timeline::did;
use super::visit::Visit;
use super::watch::{GuardLine, guard_line};
use super::words::{self, Words, format_at};

/// A context and what it gets.
pub struct TryIt {
    pub context: ContextBody,
    pub properties: String,
    pub explanation: Option<Explanation>,
    /// What every flag gives, when that was asked.
    pub all: Option<Vec<Decided>>,
    /// The question, as other flags' pages take it.
    pub question: String,
    pub faults: Faults,
}

impl TryIt {
    /// Reads the context from the query; explains when it says anything.
    pub async fn of(
        visit: &Visit,
        environment: &str,
        key: &str,
        query: &Fields,
    ) -> Result<Self, AppError> {
        let mut faults = Faults::default();
        let mut properties = BTreeMap::new();
        for line in query.text("properties").lines().filter(|line| !line.trim().is_empty()) {
            if let Some((name, text)) = line.split_once('=') {
                let text = text.trim();
                let value =
                    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
                properties.insert(name.trim().to_owned(), value);
            } else {
                let Err(AppError::Invalid(wrong)) = Err::<(), _>(AppError::invalid(
                    "properties",
                    format!("`{line}` is not name = value"),
                )) else {
                    continue;
                };
                faults.0.extend(wrong);
            }
        }
        let context = ContextBody {
            user_id: query.some("user_id"),
            session_id: query.some("session_id"),
            groups: query.list("groups"),
            platform: query.some("platform"),
            app_version: query.some("app_version"),
            country: query.some("country"),
            remote_address: query.some("remote_address"),
            app_name: query.some("app_name"),
            properties,
        };
        let asked = query.some("asked").is_some() && faults.none();
        let (mut explanation, mut all) = (None, None);
        if asked {
            explanation = Some(visit.explain_flag(&visit.who, environment, key, &context).await?);
        }
        if asked && query.text("scope") == "all" {
            all = Some(visit.decide_all(&visit.who, environment, &context).await?);
        }
        let question = visit.request.query_string().replace("&scope=all", "");
        let properties = query.text("properties").to_owned();
        Ok(Self { context, properties, explanation, all, question, faults })
    }

    /// A field's text.
    pub fn text(&self, field: &str) -> String {
        let context = &self.context;
        let found = match field {
            "user_id" => context.user_id.clone(),
            "session_id" => context.session_id.clone(),
            "groups" => Some(context.groups.join(", ")),
            "platform" => context.platform.clone(),
            "app_version" => context.app_version.clone(),
            "country" => context.country.clone(),
            "remote_address" => context.remote_address.clone(),
            _ => context.app_name.clone(),
        };
        found.unwrap_or_default()
    }

    /// A text in which backticks mark keys.
    pub fn ticked(&self, text: &str) -> Words {
        Words::default().ticked(text)
    }

    /// A reason as people read it.
    pub fn because(&self, reason: &str) -> String {
        words::because(reason)
    }

    /// A slot as people read it.
    pub fn slot(&self, slot: &f64) -> String {
        format!("{slot:.3}")
    }
}

/// Evaluations of the last day.
pub struct Activity {
    pub outcomes: Vec<Outcome>,
    pub bars: Vec<Bar>,
    pub hours: Vec<Hour>,
    pub total: u64,
    pub top: u64,
    pub from: i64,
    /// Guards of the flag.
    pub guards: Vec<GuardLine>,
}

/// One outcome and how often.
pub struct Outcome {
    pub name: String,
    pub count: u64,
    pub share: String,
    pub class: usize,
}

/// One rectangle of the chart.
pub struct Bar {
    pub x: f64,
    pub y: f64,
    pub height: f64,
    pub class: usize,
    pub label: String,
}

/// One row of the table.
pub struct Hour {
    pub label: String,
    pub counts: Vec<u64>,
}

const BUCKET_MS: i64 = 30 * 60_000;
const BUCKETS: i64 = 48;
/// The chart's inner height, in its own units.
const HEIGHT: f64 = 160.0;

impl Activity {
    /// Adds the last day's evaluations up.
    pub async fn of(visit: &Visit, environment: &str, key: &str) -> Result<Self, AppError> {
        let rows = visit.flag_usage(&visit.who, environment, key).await?;
        let guards = visit.list_guards(&visit.who, environment, Some(key)).await?;
        let guards = guards.iter().map(guard_line).collect();
        let until = (visit.clock.now() / (2 * BUCKET_MS) + 1) * 2 * BUCKET_MS;
        let from = until - BUCKETS * BUCKET_MS;
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        let mut cells: BTreeMap<(i64, String), u64> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.minute >= from) {
            let bucket = (row.minute - from) / BUCKET_MS;
            *totals.entry(row.outcome.clone()).or_insert(0) += row.evaluations;
            *cells.entry((bucket, row.outcome.clone())).or_insert(0) += row.evaluations;
        }
        let total: u64 = totals.values().sum();
        let mut names: Vec<(String, u64)> = totals.into_iter().collect();
        names.sort_by_key(|(name, count)| (name != "on", name == "off", std::cmp::Reverse(*count)));
        let of_bucket = |bucket: i64| -> u64 {
            names.iter().filter_map(|(name, _)| cells.get(&(bucket, name.clone()))).sum()
        };
        let top = (0..BUCKETS).map(of_bucket).max().unwrap_or(0).max(1);
        let mut bars = Vec::new();
        for bucket in 0..BUCKETS {
            let mut below = 0.0;
            for (class, (name, _)) in names.iter().enumerate() {
                let Some(count) = cells.get(&(bucket, name.clone())) else { continue };
                let height = *count as f64 / top as f64 * HEIGHT;
                let at = format_at(from + bucket * BUCKET_MS, "%H:%M UTC");
                below += height;
                bars.push(Bar {
                    x: 20.0 * bucket as f64 + 2.0,
                    y: HEIGHT - below,
                    height,
                    class: class % 5,
                    label: format!("{at}: {} {}", words::number(*count), outcome_name(name)),
                });
            }
        }
        let hour = |hour: i64| Hour {
            label: format_at(from + hour * 2 * BUCKET_MS, "%H:00"),
            counts: names
                .iter()
                .map(|(name, _)| {
                    let half =
                        |n: i64| cells.get(&(hour * 2 + n, name.clone())).copied().unwrap_or(0);
                    half(0) + half(1)
                })
                .collect(),
        };
        let hours =
            (0..BUCKETS / 2).rev().map(hour).filter(|hour| hour.counts.iter().sum::<u64>() > 0);
        let hours = hours.collect();
        let outcomes = names
            .into_iter()
            .enumerate()
            .map(|(class, (name, count))| Outcome {
                name: outcome_name(&name),
                share: words::share_percent(count, total),
                count,
                class: class % 5,
            })
            .collect();
        Ok(Self { outcomes, bars, hours, total, top, from, guards })
    }

    /// A count as text.
    pub fn number(&self, count: &u64) -> String {
        words::number(*count)
    }

    /// Labels below the chart, with their places in percent.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let tick = |n: i32| {
            (f64::from(n) * 25.0, format_at(self.from + i64::from(n) * 12 * BUCKET_MS, "%H:%M"))
        };
        (0..=4).map(tick).collect()
    }
}

fn outcome_name(outcome: &str) -> String {
    outcome
        .strip_prefix("variant:")
        .map_or_else(|| outcome.to_owned(), |name| format!("variant {name}"))
}

/// One row of the history.
pub struct Revision {
    pub id: String,
    pub number: u64,
    pub words: Words,
    pub reason: String,
    pub at: i64,
    pub emergency: bool,
    pub run_id: Option<String>,
    pub lines: Vec<DiffLine>,
    pub can_restore: bool,
    pub is_now: bool,
}

/// Revisions on a page.
const HISTORY_PAGE: i64 = 50;

impl Revision {
    /// A page of the history, newest first.
    pub async fn list(
        visit: &Visit,
        environment: &str,
        key: &str,
        query: &Fields,
    ) -> Result<Vec<Self>, AppError> {
        let before = query.some("before");
        let first = before.is_none();
        let rows = visit.flag_history(&visit.who, environment, key, before, HISTORY_PAGE).await?;
        let base = format!("/ui/{environment}");
        Ok(rows
            .into_iter()
            .enumerate()
            .map(|(index, row)| Self {
                words: did(&row.change, &base),
                lines: lines(&row.differences),
                number: row.change.revision.unwrap_or_default(),
                is_now: index == 0 && first,
                can_restore: row.change.after.is_some()
                    && row.change.revision.is_some()
                    && index > 0,
                id: row.change.id,
                reason: row.change.reason,
                at: row.change.at,
                emergency: row.change.emergency,
                run_id: row.change.run_id,
            })
            .collect())
    }
}

/// What restoring a revision would change.
pub struct Confirm {
    pub revision: u64,
    pub lines: Vec<DiffLine>,
    pub reason: String,
    pub faults: Faults,
}

impl Confirm {
    /// When the query names a revision to restore.
    pub async fn of(
        visit: &Visit,
        environment: &str,
        row: &FlagRow,
        query: &Fields,
    ) -> Result<Option<Self>, AppError> {
        let wanted = query.some("restore").or_else(|| query.some("revision"));
        let Some(revision) = wanted.and_then(|text| text.parse::<u64>().ok()) else {
            return Ok(None);
        };
        let key = row.flag.key.as_str();
        let rows = visit.flag_history(&visit.who, environment, key, None, 500).await?;
        let then =
            rows.into_iter().find(|one| one.change.revision.is_some_and(|own| own <= revision));
        let state = then
            .and_then(|one| one.change.after)
            .and_then(|after| serde_json::from_value(after).ok());
        let Some(state) = state else { return Ok(None) };
        let state = FlagState { killed: row.state.killed, ..state };
        Ok(Some(Self {
            revision,
            lines: lines(&difference_of(&row.state, &state)),
            reason: query.text("reason").to_owned(),
            faults: Faults::default(),
        }))
    }
}
