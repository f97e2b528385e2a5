//! Probes: what looks at components on a schedule and moves them when it fails, or works, often enough in a row.

mod flow;
mod look;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use switchback_core::model::Millis;
use switchback_store::{ProbeDay, ProbeLease, ProbeResult, ProbeRow, ProbeRule, Role};
use tokio::sync::Semaphore;

pub use flow::FlowStep;
pub use settings::{Check, ProbeSettings};

use super::App;
use super::environments::check_key;
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::live::News;

/// How often is looked for probes that are due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks at once on one node.
const AT_ONCE: usize = 32;
/// What a look may take beside its own time-out: looking up names, and writing the result. In milliseconds.
const LEASE_ROOM_MS: Millis = 20_000;
/// How long single results are kept, in milliseconds.
const RESULTS_MS: Millis = 2 * 86_400_000;
/// How long days are kept, in milliseconds.
const DAYS_MS: Millis = 400 * 86_400_000;
/// Days that a probe's page shows.
const DAYS_SHOWN_MS: Millis = 89 * 86_400_000;
/// Probes at most.
const PROBES_MAX: usize = 500;

/// Under this and its name a probe tells of its sign-ins.
const SENDER: &str = "probe:";

/// Whether auth events come from a probe, not from users.
pub fn is_probe(source: &str) -> bool {
    source.starts_with(SENDER)
}

/// A probe, for people.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct ProbeView {
    /// How it looks.
    pub settings: ProbeSettings,
    /// Whether it failed often enough in a row.
    pub is_down: bool,
    /// When it looks again, in UTC milliseconds.
    pub next_at: Millis,
    /// What it found last.
    pub last: Option<ProbeResult>,
    /// What it found by day, the oldest first.
    pub days: Vec<ProbeDay>,
}

/// A probe with its single results.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct ProbeDetail {
    /// The probe.
    pub probe: ProbeView,
    /// What it found, the newest first; single results are kept for two days.
    pub results: Vec<ProbeResult>,
}

impl App {
    /// All probes, by component.
    pub async fn list_probes(&self, who: &Who) -> Result<Vec<ProbeView>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at probes")?;
        let since = self.clock.now() - DAYS_SHOWN_MS;
        let mut days = self.store.list_days_of_probes(since).await?;
        let mut found = Vec::new();
        for row in self.store.list_probes().await? {
            let last = self.store.list_probe_results(&row.key, 1).await?.pop();
            let days = days.remove(&row.key).unwrap_or_default();
            found.push(view(&row, last, days)?);
        }
        Ok(found)
    }

    /// One probe and what it found.
    pub async fn get_probe(
        &self,
        who: &Who,
        key: &str,
        limit: i64,
    ) -> Result<ProbeDetail, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at probes")?;
        let row = self.store.get_probe(key).await?;
        let results = self.store.list_probe_results(key, limit).await?;
        let days = self.store.list_probe_days(key, self.clock.now() - DAYS_SHOWN_MS).await?;
        Ok(ProbeDetail { probe: view(&row, results.first().cloned(), days)?, results })
    }

    /// Makes a probe or changes it; it begins anew.
    pub async fn put_probe(
        &self,
        who: &Who,
        settings: ProbeSettings,
        reason: &str,
    ) -> Result<ProbeView, AppError> {
        who.must(Role::Admin, EVERYWHERE, "change probes")?;
        check_key("name", &settings.name)?;
        let wrong = settings.faults();
        if !wrong.is_empty() {
            return Err(AppError::Invalid(wrong));
        }
        if let Some(environment) = settings.check.environment() {
            self.get_environment(environment).await?;
        }
        let known = self.store.list_probes().await?;
        if known.len() >= PROBES_MAX && !known.iter().any(|row| row.key == settings.name) {
            return Err(AppError::Refused(format!("there are {PROBES_MAX} probes already")));
        }
        let body =
            serde_json::to_value(&settings).map_err(|error| AppError::Internal(Box::new(error)))?;
        let ProbeSettings { name, component, is_enabled, .. } = &settings;
        let by = self.stamp(who, reason);
        self.store.put_probe(name, component, *is_enabled, &body, &by).await?;
        self.announce(News::Status).await;
        Ok(self.get_probe(who, name, 1).await?.probe)
    }

    /// Removes a probe and what it found.
    pub async fn remove_probe(&self, who: &Who, key: &str, reason: &str) -> Result<(), AppError> {
        who.must(Role::Admin, EVERYWHERE, "remove probes")?;
        self.store.remove_probe(key, &self.stamp(who, reason)).await?;
        self.announce(News::Status).await;
        Ok(())
    }

    /// Looks once, now; nothing is kept and nothing moves.
    pub async fn test_probe(&self, who: &Who, key: &str) -> Result<ProbeResult, AppError> {
        who.must(Role::Operator, EVERYWHERE, "test probes")?;
        let settings = settings_of(&self.store.get_probe(key).await?)?;
        Ok(self.look(&settings).await)
    }

    /// Looks at what is due, for the life of the server.
    pub(super) async fn run_probes(self: Arc<Self>) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            if let Err(error) = self.look_at_what_is_due(&room).await {
                tracing::debug!(error = %error, "probes cannot be looked up");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look_at_what_is_due(self: &Arc<Self>, room: &Arc<Semaphore>) -> Result<(), AppError> {
        let free = room.available_permits();
        if free == 0 {
            return Ok(());
        }
        let now = self.clock.now();
        let until = now + settings::TIMEOUT_MAX_MS + LEASE_ROOM_MS;
        let lease = ProbeLease { owner: self.hub.node.clone(), until };
        for row in self.store.claim_probes(&lease, now, free as i64).await? {
            let Ok(permit) = Arc::clone(room).try_acquire_owned() else { break };
            let (app, lease) = (Arc::clone(self), lease.clone());
            tokio::spawn(async move {
                if let Err(error) = app.look_and_keep(&row, &lease).await {
                    // The lease runs out, and somebody looks again.
                    tracing::debug!(probe = row.key, error = %error, "a probe's result is not kept");
                }
                drop(permit);
            });
        }
        Ok(())
    }

    async fn look_and_keep(
        self: &Arc<Self>,
        row: &ProbeRow,
        lease: &ProbeLease,
    ) -> Result<(), AppError> {
        let settings = settings_of(row)?;
        let result = self.look(&settings).await;
        if let Some(environment) = settings.check.environment() {
            self.tell_of_login(environment, &row.key, &result).await;
        }
        let rule = ProbeRule {
            failures: settings.failures,
            successes: settings.successes,
            interval_ms: settings.interval_s as i64 * 1_000,
        };
        let who = Who::with_role(&format!("probe:{}", row.key), Role::Operator);
        let by = self.stamp(&who, &result.said);
        if self.store.keep_probe_result(row, lease, rule, &result, &by).await? {
            tracing::warn!(
                probe = row.key,
                component = row.component,
                "a probe moved a component: {}",
                result.said
            );
            self.announce(News::Status).await;
        }
        Ok(())
    }

    /// Says how a sign-in went among the logins of an environment. It is of no user: no guard counts it.
    async fn tell_of_login(self: &Arc<Self>, environment: &str, probe: &str, found: &ProbeResult) {
        let mut event = json!({
            "id": format!("probe:{probe}:{}", found.at),
            "type": if found.is_good { "login_success" } else { "login_failure" },
            "at": found.at,
            "latency_ms": found.took_ms,
        });
        if let Some(event) = event.as_object_mut().filter(|_| !found.is_good) {
            event.insert("error".to_owned(), json!(found.said));
        }
        let source = format!("{SENDER}{probe}");
        if let Err(error) = self.take_auth_events(environment, &source, vec![event]).await {
            tracing::debug!(probe, error = %error, "how a probe signed in is not counted");
        }
    }

    /// Forgets what is too old.
    pub(super) async fn sweep_probes(&self) -> Result<(), switchback_store::StoreError> {
        let now = self.clock.now();
        self.store.sweep_probes(now - RESULTS_MS, now - DAYS_MS).await
    }
}

fn settings_of(row: &ProbeRow) -> Result<ProbeSettings, AppError> {
    serde_json::from_value(row.settings.clone())
        .map_err(|error| AppError::Internal(Box::new(error)))
}

fn view(
    row: &ProbeRow,
    last: Option<ProbeResult>,
    days: Vec<ProbeDay>,
) -> Result<ProbeView, AppError> {
    let settings = settings_of(row)?;
    Ok(ProbeView { settings, is_down: row.is_down, next_at: row.next_at, last, days })
}
