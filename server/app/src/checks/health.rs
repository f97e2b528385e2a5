//! How packs stand: health, figures by check, what the monitor does, the trend, and the issues of the last ten minutes.

use serde::Serialize;
use switchback_checks::event_mode::{Mode, Settings};
use switchback_checks::health::{Grade, grade, of_check, of_pack};
use switchback_checks::{Check, Severity};
use switchback_core::model::Millis;
use switchback_store::{CheckCell, CheckStateRow, FindingCount, Role};

use super::book::KnownPack;
use super::memory::CheckState;
use super::sweep::{Places, RECENT_MS, Sweep};
use crate::App;
use crate::error::AppError;
use crate::who::{EVERYWHERE, Who};

/// What counts as fixed lately, in milliseconds.
const HOUR_MS: Millis = 3_600_000;
/// A sweep that is later than this many intervals, and this many milliseconds, is missing.
const MISSING: (i64, Millis) = (3, 15_000);
/// The longest trend, in milliseconds: 30 days.
const TREND_MS_MAX: Millis = 30 * 86_400_000;

/// How a check stands.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct CheckView {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Why it happens and what the fix does.
    pub about: String,
    /// How bad its findings are.
    pub severity: Severity,
    /// Whether it has a fix.
    pub has_fix: bool,
    /// `pass`, `warn` or `fail`; `None` while nothing was looked at.
    pub grade: Option<Grade>,
    /// The share that is whole, 0 to 1.
    pub health: Option<f64>,
    /// What the last look saw.
    pub state: CheckState,
}

impl CheckView {
    /// How many findings count: information does not.
    pub fn counted(&self) -> u64 {
        let figures = self.state.figures.filter(|_| self.severity != Severity::Info);
        figures.map_or(0, |figures| figures.found)
    }
}

/// How a pack stands.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct PackView {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Who minds it.
    pub owner: String,
    /// What it is for.
    pub about: String,
    /// Whether it was written here.
    pub is_own: bool,
    /// How it is monitored.
    pub settings: Settings,
    /// Goes up with each change of the settings.
    pub settings_version: u64,
    /// Between two sweeps now, in milliseconds; `None` when it is not monitored.
    pub every_ms: Option<u64>,
    /// Until when event mode is on, in UTC milliseconds.
    pub event_until: Option<Millis>,
    /// Until when it only looks though it is set to fix.
    pub observes_until: Option<Millis>,
    /// When it was swept last, in UTC milliseconds; 0: never.
    pub swept_at: Millis,
    /// Whether sweeps that should be there are missing.
    pub is_silent: bool,
    /// The share that is whole, 0 to 1; `None` while nothing was looked at.
    pub health: Option<f64>,
    /// The worst of its checks.
    pub grade: Option<Grade>,
    /// How many are broken.
    pub found: u64,
    /// Of these, how many came to be in the last ten minutes.
    pub recent: u64,
    /// Findings that were fixed in the last hour, and stayed so.
    pub fixed_in_hour: u64,
    /// Its checks.
    pub checks: Vec<CheckView>,
}

/// How everything stands.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Health {
    /// The lowest health of a pack in use, 0 to 1; `None` while none was looked at.
    pub overall: Option<f64>,
    /// Packs, those in use first.
    pub packs: Vec<PackView>,
}

/// A pack with everything that its page shows.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct PackDetail {
    /// How it stands.
    pub view: PackView,
    /// Its text.
    pub source: String,
    /// The newest version that was written here; 0: none.
    pub version: u64,
    /// What was found, by what it has in common.
    pub counts: Vec<FindingCount>,
    /// The trend of a day, in cells of five minutes.
    pub trend: Vec<CheckCell>,
}

/// An issue of the last minutes.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct RecentIssue {
    /// The pack.
    pub pack: String,
    /// The check.
    pub check: String,
    /// What people call it.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// How many came to be within the window; `None` when the check cannot tell.
    pub count: Option<u64>,
    /// Why it is not known.
    pub error: Option<String>,
}

impl App {
    /// How all packs stand.
    pub async fn check_health(&self, who: &Who) -> Result<Health, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at checks")?;
        let states = self.store.list_check_states().await?;
        let now = self.clock.now();
        let mut packs = Vec::new();
        for known in self.check_book().await?.values() {
            let fixed = if known.settings.source.is_empty() {
                0
            } else {
                self.store.count_fixed(&known.pack.name, now - HOUR_MS).await?
            };
            packs.push(pack_view(known, &states, fixed, now));
        }
        packs.sort_by_key(|pack| (pack.settings.source.is_empty(), pack.title.clone()));
        let overall = packs
            .iter()
            .filter(|pack| !pack.settings.source.is_empty())
            .filter_map(|pack| pack.health)
            .min_by(f64::total_cmp);
        Ok(Health { overall, packs })
    }

    /// One pack with its counts and its trend over a time, in milliseconds.
    pub async fn get_pack_detail(
        &self,
        who: &Who,
        name: &str,
        trend_ms: Millis,
    ) -> Result<PackDetail, AppError> {
        let known = self.get_check_pack(who, name).await?;
        let states = self.store.list_check_states().await?;
        let now = self.clock.now();
        let fixed = self.store.count_fixed(name, now - HOUR_MS).await?;
        let since = now - trend_ms.clamp(HOUR_MS, TREND_MS_MAX);
        Ok(PackDetail {
            view: pack_view(&known, &states, fixed, now),
            counts: self.store.count_findings(name, now - super::memory::REMEMBERED_MS).await?,
            trend: self.store.list_check_history(name, since).await?,
            source: known.source,
            version: known.version,
        })
    }

    /// Looks at a pack, or one of its checks, now, without fixing.
    ///
    /// # Errors
    /// No such pack or check, no data source, or it does not answer.
    pub async fn run_checks_now(
        &self,
        who: &Who,
        name: &str,
        check: Option<&str>,
    ) -> Result<PackView, AppError> {
        who.must(Role::Operator, EVERYWHERE, "run checks")?;
        let known = self.get_check_pack(who, name).await?;
        if known.settings.source.is_empty() {
            return Err(AppError::Refused(format!("`{name}` has no data source yet")));
        }
        if let Some(check) = check.filter(|check| known.pack.check(check).is_none()) {
            return Err(AppError::NotFound { kind: "check", key: check.to_owned() });
        }
        let (source, replica) = self.sources_of(&known).await?;
        let memory = self.checks.memory(name);
        let mut memory = memory.lock().await;
        memory.forget_queries();
        let sweep = Sweep { only: check, is_full: true, fixes: false };
        let places = Places { pool: &source, replica: &replica, wide: &replica };
        self.sweep_pack(&mut memory, &known, places, sweep).await?;
        // What was looked at shows at once, though states are saved now and then.
        let now = self.clock.now();
        memory.is_underway = true;
        let batch = switchback_store::CheckBatch {
            states: memory.states(name, now),
            ..switchback_store::CheckBatch::default()
        };
        self.store.save_checks(&batch).await?;
        memory.is_underway = false;
        drop(memory);
        let states = self.store.list_check_states().await?;
        let fixed = self.store.count_fixed(name, now - HOUR_MS).await?;
        Ok(pack_view(&known, &states, fixed, now))
    }

    /// What came to be broken in the last minutes, in every pack in use; asked for now. The window is in milliseconds, ten
    /// minutes when absent.
    pub async fn check_recent_issues(
        &self,
        who: &Who,
        window_ms: Option<u64>,
    ) -> Result<Vec<RecentIssue>, AppError> {
        who.must(Role::Operator, EVERYWHERE, "run checks")?;
        let window = window_ms.unwrap_or(RECENT_MS);
        let mut issues = Vec::new();
        for known in self.check_book().await?.into_values() {
            if known.settings.source.is_empty() {
                continue;
            }
            let (_, replica) = self.sources_of(&known).await?;
            for check in &known.pack.checks {
                let asked = async {
                    let detector = replica.detector(&check.detect).await?;
                    if !detector.has_window() {
                        return Ok(None);
                    }
                    replica.count_detected(&detector, Some(window)).await.map(Some)
                };
                let asked: Result<Option<u64>, switchback_source::SourceError> = asked.await;
                let (count, error) = match asked {
                    Ok(count) => (count, None),
                    Err(error) => (None, Some(error.to_string())),
                };
                issues.push(RecentIssue {
                    pack: known.pack.name.clone(),
                    check: check.name.clone(),
                    title: check.title.clone(),
                    severity: check.severity,
                    count,
                    error,
                });
            }
        }
        Ok(issues)
    }

    /// A pack's data source, and its replica or the source itself.
    pub(super) async fn sources_of(
        &self,
        known: &KnownPack,
    ) -> Result<
        (std::sync::Arc<switchback_source::Source>, std::sync::Arc<switchback_source::Source>),
        AppError,
    > {
        let source = self.source(&known.settings.source).await?;
        let replica = match &known.settings.replica {
            Some(name) => self.source(name).await?,
            None => std::sync::Arc::clone(&source),
        };
        Ok((source, replica))
    }
}

pub(super) fn pack_view(
    known: &KnownPack,
    states: &[CheckStateRow],
    fixed_in_hour: u64,
    now: Millis,
) -> PackView {
    let KnownPack { pack, settings, .. } = known;
    let state_of = |check: &Check| -> CheckState {
        let row = states.iter().find(|row| row.pack == pack.name && row.check == check.name);
        row.and_then(|row| serde_json::from_value(row.state.clone()).ok()).unwrap_or_default()
    };
    let checks: Vec<(&Check, CheckState)> =
        pack.checks.iter().map(|check| (check, state_of(check))).collect();
    let counts = |(check, state): &&(&Check, CheckState)| {
        check.severity != Severity::Info && state.figures.is_some()
    };
    let swept_at = checks.iter().map(|(_, state)| state.looked_at).max().unwrap_or(0);
    let every_ms = settings.every_ms(&pack.pace, now);
    let (intervals, least) = MISSING;
    let is_silent = every_ms.is_some_and(|every| {
        let late = (every.cast_signed() * intervals).max(least);
        now - swept_at.max(settings.mode_since) > late
    });
    let views: Vec<CheckView> = checks
        .iter()
        .map(|(check, state)| CheckView {
            name: check.name.clone(),
            title: check.title.clone(),
            about: check.about.clone(),
            severity: check.severity,
            has_fix: check.fix.is_some(),
            // What cannot look is never called whole.
            grade: match (&state.error, state.figures) {
                (Some(_), figures) => {
                    let known = figures.map_or(Grade::Warn, |one| grade(check, one.found));
                    Some(known.max(Grade::Warn))
                }
                (None, figures) => figures.map(|figures| grade(check, figures.found)),
            },
            health: state.figures.map(of_check),
            state: state.clone(),
        })
        .collect();
    PackView {
        name: pack.name.clone(),
        title: pack.title.clone(),
        owner: pack.owner.clone(),
        about: pack.about.clone(),
        is_own: known.is_own,
        settings: settings.clone(),
        settings_version: known.settings_version,
        every_ms,
        event_until: settings.event_mode(now),
        observes_until: settings
            .observes_until(&pack.pace, now)
            .filter(|_| settings.mode == Mode::Fix),
        swept_at,
        is_silent,
        health: of_pack(checks.iter().map(|(check, state)| (*check, state.figures))),
        grade: views.iter().filter_map(|view| view.grade).max(),
        found: checks
            .iter()
            .filter(counts)
            .filter_map(|(_, state)| state.figures)
            .map(|figures| figures.found)
            .sum(),
        recent: checks.iter().filter(counts).filter_map(|(_, state)| state.recent).sum(),
        fixed_in_hour,
        checks: views,
    }
}
