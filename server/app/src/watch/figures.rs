//! What the counts say of a window: rates, latencies, shares, and how they moved.

use std::collections::BTreeMap;

use serde::Serialize;
use switchback_core::model::Millis;
use switchback_store::{AuthEventRow, CountFilter, CountLine, Role, SourceRow, StoreError};
use switchback_watch::event::EventKind;
use switchback_watch::histogram::Histogram;
use switchback_watch::rollup::{Dimension, FINEST_S, WIDTHS_S, floor};

use crate::App;
use crate::error::AppError;
use crate::who::Who;

/// The longest window, in milliseconds.
const WINDOW_MS_MAX: Millis = 400 * 86_400_000;
/// Points of a chart: the finest cells that stay below this are taken.
const POINTS_MAX: i64 = 400;
/// How long cells of each width are kept, in milliseconds; in the order of [`WIDTHS_S`].
pub const KEPT_MS: [Millis; 4] = [6 * 3_600_000, 3 * 86_400_000, 90 * 86_400_000, 400 * 86_400_000];
/// How long a sender may be silent before its figures count as missing, in milliseconds.
pub const SILENT_MS: Millis = 120_000;

/// Whether a sender would tell of what did not work. Supabase's audit table knows only what did.
pub fn tells_failures(source: &str) -> bool {
    !source.starts_with("supabase:") && !source.ends_with("/supabase-audit")
}

/// When a sender was heard last who would tell of what did not work; none: there is no such sender.
pub fn failures_heard_at(sources: &[SourceRow]) -> Option<Millis> {
    let told = sources.iter().filter(|source| tells_failures(&source.source));
    told.map(|source| source.last_at).max()
}

/// From a moment until before another, in UTC milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub from: Millis,
    /// The first moment after it.
    pub until: Millis,
}

/// Good and bad outcomes of one thing that users do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Rate {
    /// How often it worked.
    pub good: u64,
    /// How often it did not.
    pub bad: u64,
    /// The share that did not, 0 to 1; none without any attempt.
    pub failure: Option<f64>,
}

impl Rate {
    /// Of counts.
    pub fn new(good: u64, bad: u64) -> Self {
        let all = good + bad;
        #[expect(clippy::cast_precision_loss, reason = "counts of events stay below 2^52")]
        let failure = (all > 0).then(|| bad as f64 / all as f64);
        Self { good, bad, failure }
    }

    /// Without a share when nobody would have told of failures: nought is not known then.
    fn told(self, is_told: bool) -> Self {
        Self { failure: self.failure.filter(|_| is_told), ..self }
    }

    /// All attempts.
    pub fn attempts(&self) -> u64 {
        self.good + self.bad
    }
}

/// Latencies, in milliseconds; none without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Latency {
    /// How many.
    pub n: u64,
    /// Half are no longer.
    pub p50: Option<f64>,
    /// 95 % are no longer.
    pub p95: Option<f64>,
    /// 99 % are no longer.
    pub p99: Option<f64>,
}

impl From<&Histogram> for Latency {
    fn from(all: &Histogram) -> Self {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| all.quantile(q));
        Self { n: all.total(), p50, p95, p99 }
    }
}

/// One value of a dimension, such as a platform.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Share {
    /// The value.
    pub value: String,
    /// Logins by those who have it.
    pub logins: Rate,
}

/// What happened in a window.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Summary {
    /// From this moment, in UTC milliseconds.
    pub from: Millis,
    /// Until before this one.
    pub until: Millis,
    /// Whether anybody reports. Without a report nothing is known: noughts are not noughts.
    pub is_reported: bool,
    /// Whether anybody reports who would tell of failures. Without, no share of failures is known.
    pub tells_failures: bool,
    /// Logins.
    pub logins: Rate,
    /// Token renewals.
    pub refreshes: Rate,
    /// New accounts.
    pub signups: Rate,
    /// Second factors: challenges against wrong ones.
    pub second_factors: Rate,
    /// Latency of logins.
    pub login_ms: Latency,
    /// Latency of token renewals.
    pub refresh_ms: Latency,
    /// Latency of token checks.
    pub check_ms: Latency,
    /// Rows that row-level security refused.
    pub rls_violations: u64,
    /// How often each thing happened.
    pub by_kind: BTreeMap<String, u64>,
    /// Failed logins by error, the most frequent first.
    pub errors: Vec<(String, u64)>,
    /// By platform.
    pub platforms: Vec<Share>,
    /// By the app's version.
    pub versions: Vec<Share>,
    /// By the variant of each flag that did not treat everybody alike.
    pub flags: BTreeMap<String, Vec<Share>>,
    /// Who reports.
    pub sources: Vec<SourceRow>,
}

/// Which chart.
#[derive(Clone, Debug)]
pub struct SeriesWish {
    /// When.
    pub window: Window,
    /// Split by what.
    pub dimension: String,
    /// Of what happened; everything when empty.
    pub kinds: Vec<EventKind>,
}

/// Counts by time.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Series {
    /// Seconds that a point covers.
    pub width_s: i64,
    /// When the points begin, in UTC milliseconds.
    pub at: Vec<Millis>,
    /// For each kind and value one count for each point.
    pub counts: Vec<SeriesRow>,
}

/// One line of a chart.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct SeriesRow {
    /// What happened.
    pub kind: String,
    /// The value of the dimension; empty for `all`.
    pub value: String,
    /// How often, for each point.
    pub n: Vec<u64>,
}

/// Cells that are fine enough for a window and still kept.
pub fn width_for(window: Window, now: Millis) -> i64 {
    let length_s = (window.until - window.from).max(1) / 1000;
    let kept =
        |(width, kept): &(i64, Millis)| length_s / width <= POINTS_MAX && window.from >= now - kept;
    WIDTHS_S.into_iter().zip(KEPT_MS).find(kept).map_or(3600, |(width, _)| width)
}

impl App {
    /// A window, checked: the last 15 minutes when nothing is said.
    pub fn window(&self, from: Option<Millis>, until: Option<Millis>) -> Result<Window, AppError> {
        let now = self.clock.now();
        let until = until.unwrap_or(now + 1000).clamp(0, now + 3_600_000);
        let from = from.unwrap_or(until - 15 * 60_000).max(0);
        if from >= until {
            return Err(AppError::invalid("from", "the window ends before it begins"));
        }
        if until - from > WINDOW_MS_MAX {
            return Err(AppError::invalid("from", "a window has at most 400 days"));
        }
        Ok(Window { from, until })
    }

    /// What happened in a window.
    pub async fn auth_summary(
        &self,
        who: &Who,
        environment: &str,
        window: Window,
    ) -> Result<Summary, AppError> {
        who.must(Role::Viewer, environment, "look at logins")?;
        self.get_environment(environment).await?;
        let width_s = self.summing_width(window);
        let filter = CountFilter {
            environment,
            width_s,
            dimension: "all",
            from: floor(window.from, width_s),
            until: window.until,
        };
        let by_kind: BTreeMap<String, u64> = self
            .store
            .sum_auth_counts(&filter)
            .await?
            .into_iter()
            .map(|(kind, _, n)| (kind, n))
            .collect();
        let mut latencies = self.latencies(&filter).await?;
        let mut latency = |kind: EventKind| {
            latencies.remove(kind.word()).as_ref().map(Latency::from).unwrap_or_default()
        };
        let count = |kind: EventKind| by_kind.get(kind.word()).copied().unwrap_or(0);
        let sources = self.store.list_auth_sources(environment).await?;
        let since = window.from - SILENT_MS;
        let tells_failures = failures_heard_at(&sources).is_some_and(|at| at >= since);
        let rate = |good, bad| Rate::new(count(good), count(bad)).told(tells_failures);
        let mut errors: Vec<(String, u64)> = self
            .store
            .sum_auth_counts(&CountFilter { dimension: "error", ..filter.clone() })
            .await?
            .into_iter()
            .filter(|(kind, _, _)| kind == EventKind::LoginFailure.word())
            .map(|(_, value, n)| (value, n))
            .collect();
        errors.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let mut flags = BTreeMap::new();
        for flag in self.store.list_counted_flags(environment).await? {
            let dimension = Dimension::Flag(flag.clone()).name();
            let filter = CountFilter { dimension: &dimension, ..filter.clone() };
            let shares = self.shares(&filter, tells_failures).await?;
            if !shares.is_empty() {
                flags.insert(flag, shares);
            }
        }
        let platforms = CountFilter { dimension: "platform", ..filter.clone() };
        let versions = CountFilter { dimension: "version", ..filter.clone() };
        Ok(Summary {
            from: window.from,
            until: window.until,
            is_reported: sources.iter().any(|one| one.last_at >= since),
            tells_failures,
            logins: rate(EventKind::LoginSuccess, EventKind::LoginFailure),
            refreshes: rate(EventKind::TokenRefresh, EventKind::TokenRefreshFailure),
            signups: rate(EventKind::Signup, EventKind::SignupFailure),
            second_factors: rate(EventKind::MfaChallenge, EventKind::MfaFailure),
            login_ms: latency(EventKind::LoginSuccess),
            refresh_ms: latency(EventKind::TokenRefresh),
            check_ms: latency(EventKind::TokenCheck),
            rls_violations: count(EventKind::RlsViolation),
            errors,
            platforms: self.shares(&platforms, tells_failures).await?,
            versions: self.shares(&versions, tells_failures).await?,
            flags,
            sources,
            by_kind,
        })
    }

    /// Cells for sums: coarse enough to be few, fine enough for the window's edges.
    fn summing_width(&self, window: Window) -> i64 {
        width_for(window, self.clock.now()).max(FINEST_S)
    }

    async fn latencies(
        &self,
        filter: &CountFilter<'_>,
    ) -> Result<BTreeMap<String, Histogram>, AppError> {
        let filter = CountFilter { dimension: "latency", ..filter.clone() };
        let mut all: BTreeMap<String, Histogram> = BTreeMap::new();
        for (kind, bucket, n) in self.store.sum_auth_counts(&filter).await? {
            if let Ok(bucket) = bucket.parse() {
                all.entry(kind).or_default().add(bucket, n);
            }
        }
        Ok(all)
    }

    /// Logins by value, the most frequent first.
    async fn shares(
        &self,
        filter: &CountFilter<'_>,
        is_told: bool,
    ) -> Result<Vec<Share>, AppError> {
        let mut all: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (kind, value, n) in self.store.sum_auth_counts(filter).await? {
            match EventKind::of(&kind) {
                Some(EventKind::LoginSuccess) => all.entry(value).or_default().0 += n,
                Some(EventKind::LoginFailure) => all.entry(value).or_default().1 += n,
                _ => {}
            }
        }
        let share =
            |(value, (good, bad))| Share { value, logins: Rate::new(good, bad).told(is_told) };
        let mut shares: Vec<Share> = all.into_iter().map(share).collect();
        shares.sort_by_key(|share| std::cmp::Reverse(share.logins.attempts()));
        Ok(shares)
    }

    /// Counts by time, for a chart.
    pub async fn auth_series(
        &self,
        who: &Who,
        environment: &str,
        wish: &SeriesWish,
    ) -> Result<Series, AppError> {
        who.must(Role::Viewer, environment, "look at logins")?;
        self.get_environment(environment).await?;
        if Dimension::of(&wish.dimension).is_none() {
            let message = "there are `all`, `latency`, `error`, `platform`, `version`, `country` and `flag:KEY`";
            return Err(AppError::invalid("dimension", message));
        }
        let width_s = width_for(wish.window, self.clock.now());
        let from = floor(wish.window.from, width_s);
        let filter = CountFilter {
            environment,
            width_s,
            dimension: &wish.dimension,
            from,
            until: wish.window.until,
        };
        let step = width_s * 1000;
        let at: Vec<Millis> =
            (0..=(wish.window.until - 1 - from) / step).map(|n| from + n * step).collect();
        let kinds: Vec<&str> = wish.kinds.iter().map(|kind| kind.word()).collect();
        let lines = self.store.list_auth_lines(&filter, &kinds).await?;
        let row = |CountLine { kind, value, points }| {
            let mut n = vec![0; at.len()];
            for (cell, more) in points {
                let place = usize::try_from((cell - from) / step).unwrap_or(usize::MAX);
                if let Some(count) = n.get_mut(place) {
                    *count += more;
                }
            }
            SeriesRow { kind, value, n }
        };
        let counts = lines.into_iter().map(row).collect();
        Ok(Series { width_s, at, counts })
    }

    /// The events that arrived last, the newest first.
    pub async fn list_latest_auth_events(
        &self,
        who: &Who,
        environment: &str,
        limit: i64,
    ) -> Result<Vec<AuthEventRow>, AppError> {
        who.must(Role::Viewer, environment, "look at auth events")?;
        self.get_environment(environment).await?;
        let since = self.clock.now() - 86_400_000;
        Ok(self.store.list_latest_auth_events(environment, since, limit).await?)
    }

    /// Forgets events and counts that are older than they are of use.
    pub(crate) async fn sweep_auth_events(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for (width_s, kept) in WIDTHS_S.into_iter().zip(KEPT_MS) {
            self.store.forget_auth_counts(width_s, now - kept).await?;
        }
        let days = i64::from(self.config.watch.auth_log_days);
        for environment in self.known_environments() {
            // In pieces, so that nobody waits for a long write.
            while self
                .store
                .forget_auth_events(&environment.key, now - days * 86_400_000, 5_000)
                .await?
                == 5_000
            {
                tokio::task::yield_now().await;
            }
        }
        self.store.forget_auth_sources(now - 90 * 86_400_000).await.map(drop)
    }
}
