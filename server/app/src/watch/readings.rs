//! What a rule's condition says now: sums of ten-second cells, latencies, and what is usual. Who is silent says nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use switchback_core::model::Millis;
use switchback_store::{Component, CountFilter, StoreError};
use switchback_watch::alert::Reading;
use switchback_watch::baseline::{self, Count};
use switchback_watch::burn;
use switchback_watch::histogram::Histogram;
use switchback_watch::hour_of_week::Usual;
use switchback_watch::rollup::{FINEST_S, floor};
use switchback_watch::rule::{Condition, Of, Pairs, Sessions};
use switchback_watch::volume;

use super::figures::SILENT_MS;
use super::outside::Answers;
use super::ticks::Metric;
use crate::App;

const HOUR_MS: Millis = 3_600_000;
const WEEK_MS: Millis = 168 * HOUR_MS;
/// Weeks that the hour of the week is compared with.
const WEEKS: i64 = 8;
/// Cells of ten seconds are kept for six hours, those of a minute for three days.
const FINE_MS: Millis = 5 * HOUR_MS;
const MINUTES_MS: Millis = 24 * HOUR_MS;
/// How often what is usual is looked up again, in milliseconds.
const USUAL_EVERY_MS: Millis = 60_000;
/// How often sessions are counted, in milliseconds.
const SESSIONS_EVERY_MS: Millis = 30_000;
/// What was not seen for so long is nothing that this environment reports, in milliseconds.
const SEEN_MS: Millis = 7 * 86_400_000;
/// A silence is looked at this many windows back.
const ABSENT_WINDOWS: Millis = 2;

/// What is looked up less often than every look.
#[derive(Default)]
pub(super) struct Usuals {
    rates: HashMap<(String, &'static str), (Millis, Option<f64>)>,
    volumes: HashMap<(String, &'static str), (Millis, Option<f64>)>,
    hours: HashMap<(String, &'static str), (Millis, Option<f64>)>,
    sessions: HashMap<(String, String), (Millis, Reading)>,
    outside: Answers,
}

/// Where a reading is taken, and when.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The environment.
    pub environment: &'a str,
    /// Until before this moment.
    pub end: Millis,
    /// When somebody reported last; none: nobody ever did.
    pub heard_at: Option<Millis>,
    /// When somebody reported last who would tell of failures.
    pub failures_heard_at: Option<Millis>,
    /// Every component.
    pub components: &'a [Component],
}

fn value(found: Option<f64>) -> Reading {
    found.map_or(Reading::Few, Reading::Value)
}

fn metric(of: Of) -> Metric {
    match of {
        Of::Login => Metric::Login,
        Of::Refresh => Metric::Refresh,
        Of::Check => Metric::Check,
        Of::Signup => Metric::Signup,
        Of::Mfa => Metric::Mfa,
    }
}

/// The width of cells for a window, in seconds.
fn width(window_ms: Millis) -> i64 {
    if window_ms <= FINE_MS {
        FINEST_S
    } else if window_ms <= MINUTES_MS {
        60
    } else {
        600
    }
}

impl App {
    /// What a condition says.
    pub(super) async fn reading(
        self: &Arc<Self>,
        usuals: &mut Usuals,
        place: Place<'_>,
        when: &Condition,
    ) -> Result<Reading, StoreError> {
        if let Condition::Sessions(wanted) = when {
            return self.odd_sessions(usuals, place, wanted).await;
        }
        if let Condition::Value(wanted) = when {
            let Place { environment, end, .. } = place;
            return Ok(self.outside_value(&usuals.outside, environment, wanted, end));
        }
        if let Condition::Consistency(wanted) = when {
            return self.consistency_reading(wanted, place.end).await;
        }
        if let Condition::ComponentDown { component } = when {
            let found = place.components.iter().find(|one| one.key == *component);
            let value = |one: &Component| if one.status.is_outage() { 1.0 } else { 0.0 };
            return Ok(found.map_or(Reading::NoData, |one| Reading::Value(value(one))));
        }
        let Some(heard_at) = place.heard_at else { return Ok(Reading::NoData) };
        if let Condition::Absence { of, for_ms } = when {
            return self.silence(place, *of, *for_ms).await;
        }
        let patience = when.window_ms().clamp(SILENT_MS, HOUR_MS);
        let is_of_failures = matches!(
            when,
            Condition::FailureRate { .. } | Condition::BurnRate { .. } | Condition::Baseline { .. }
        );
        let heard_at = if is_of_failures { place.failures_heard_at } else { Some(heard_at) };
        if heard_at.is_none_or(|at| at < place.end - patience) {
            return Ok(Reading::NoData);
        }
        let end = place.end;
        Ok(match when {
            Condition::FailureRate { of, window_ms, min_events, .. } => {
                let count = self.outcomes(place, *of, (end - window_ms, end)).await?;
                value(count.rate().filter(|_| count.users >= *min_events))
            }
            Condition::BurnRate { of, objective, pairs } => {
                self.burning(place, *of, *objective, *pairs).await?
            }
            Condition::Baseline { of, .. } => {
                let Some(usual) = self.usual_rate(usuals, place, *of).await? else {
                    return Ok(Reading::Few);
                };
                let mut highest = None;
                for window_ms in [60_000, 300_000] {
                    let count = self.outcomes(place, *of, (end - window_ms, end)).await?;
                    let z = baseline::z(count, usual);
                    highest = z.into_iter().chain(highest).reduce(f64::max);
                }
                value(highest)
            }
            Condition::VolumeDrop { of } => {
                // The newest cell is not full yet.
                let until = floor(end, FINEST_S) - FINEST_S * 1_000;
                let count = self.outcomes(place, *of, (until - 60_000, until)).await?;
                let usual = self.usual_volume(usuals, place, *of).await?;
                let tail = usual.and_then(|mean| volume::log_tail(count.users, mean));
                value(tail.map(|tail| -tail / std::f64::consts::LN_10))
            }
            Condition::Latency { of, quantile, window_ms, min_events, .. } => {
                let all = self.latency_of(place, *of, *window_ms).await?;
                value(all.quantile(*quantile).filter(|_| all.total() >= *min_events))
            }
            Condition::Count { kind, window_ms, .. } => {
                let counts = self.counts(place, "all", (end - window_ms, end)).await?;
                let of_kind = counts.iter().filter(|(found, _, _)| found == kind.word());
                #[expect(clippy::cast_precision_loss, reason = "counts of events stay below 2^52")]
                let n = of_kind.map(|(_, _, n)| *n).sum::<u64>() as f64;
                Reading::Value(n)
            }
            Condition::Anomaly { of } => self.anomaly(usuals, place, *of).await?,
            Condition::Absence { .. }
            | Condition::Sessions(_)
            | Condition::Value(_)
            | Condition::Consistency(_)
            | Condition::ComponentDown { .. } => Reading::NoData,
        })
    }

    async fn counts(
        &self,
        place: Place<'_>,
        dimension: &str,
        (from, until): (Millis, Millis),
    ) -> Result<Vec<(String, String, u64)>, StoreError> {
        let width_s = width((place.end - from).max(until - from));
        let filter = CountFilter {
            environment: place.environment,
            width_s,
            dimension,
            from: floor(from, width_s),
            until,
        };
        self.store.sum_auth_counts(&filter).await
    }

    /// Attempts from a moment until before another, and how many of them failed.
    async fn outcomes(
        &self,
        place: Place<'_>,
        of: Of,
        span: (Millis, Millis),
    ) -> Result<Count, StoreError> {
        let (good, bad) = of.kinds();
        let mut count = Count::default();
        for (kind, _, n) in self.counts(place, "all", span).await? {
            if kind == good.word() || kind == bad.word() {
                count.users += n;
            }
            if kind == bad.word() {
                count.bad += n;
            }
        }
        Ok(count)
    }

    /// How long nothing of the kind was seen, in milliseconds.
    async fn silence(
        &self,
        place: Place<'_>,
        of: Of,
        for_ms: Millis,
    ) -> Result<Reading, StoreError> {
        let back = for_ms * ABSENT_WINDOWS;
        let width_s = width(back);
        let from = floor(place.end - back, width_s);
        let filter = CountFilter {
            environment: place.environment,
            width_s,
            dimension: "all",
            from,
            until: place.end,
        };
        let (good, bad) = of.kinds();
        let rows = self.store.list_auth_counts(&filter).await?;
        let of_kind =
            rows.iter().filter(|(_, kind, _, _)| kind == good.word() || kind == bad.word());
        let last = of_kind.map(|(at, _, _, _)| at + width_s * 1_000).max();
        if last.is_none() {
            // An app that never reports such a thing is not silent about it.
            let span = (place.end - SEEN_MS, place.end);
            if self.outcomes(place, of, span).await?.users == 0 {
                return Ok(Reading::NoData);
            }
        }
        // Nothing so far back: it is silent for longer than that.
        let silent = place.end - last.unwrap_or(from);
        #[expect(clippy::cast_precision_loss, reason = "days in milliseconds stay below 2^52")]
        let silent = silent.max(0) as f64;
        Ok(Reading::Value(silent))
    }

    async fn burning(
        &self,
        place: Place<'_>,
        of: Of,
        objective: f64,
        pairs: Pairs,
    ) -> Result<Reading, StoreError> {
        let pairs = match pairs {
            Pairs::Standard => burn::STANDARD.to_vec(),
            Pairs::Rollback => burn::rollback_pair(objective, 60_000, 0.2).into_iter().collect(),
        };
        let mut highest: Option<f64> = None;
        for pair in pairs {
            let end = place.end;
            let short = self.outcomes(place, of, (end - pair.short_ms, end)).await?;
            if short.users < burn::USERS_MIN {
                continue;
            }
            let long = self.outcomes(place, of, (end - pair.long_ms, end)).await?;
            let rates = burn::burn(long, objective).zip(burn::burn(short, objective));
            let times = rates.map(|(long, short)| long.min(short) / pair.threshold);
            highest = times.into_iter().chain(highest).reduce(f64::max);
        }
        Ok(value(highest))
    }

    /// What is odd about sessions; an environment without any open one says nothing.
    #[expect(clippy::cast_precision_loss, reason = "counts of sessions stay below 2^52")]
    async fn odd_sessions(
        &self,
        usuals: &mut Usuals,
        place: Place<'_>,
        wanted: &Sessions,
    ) -> Result<Reading, StoreError> {
        let key = (place.environment.to_owned(), format!("{wanted:?}"));
        if let Some((at, found)) = usuals.sessions.get(&key)
            && place.end - at < SESSIONS_EVERY_MS
        {
            return Ok(*found);
        }
        let open = self.store.sum_open_sessions(place.environment).await?;
        let found = match wanted {
            Sessions::Pace { window_ms, .. } => {
                let since = place.end - window_ms;
                match self.store.most_places_of_a_user(place.environment, since).await? {
                    Some(most) => Reading::Value(most as f64),
                    None if open == 0 => Reading::NoData,
                    None => Reading::Value(0.0),
                }
            }
            _ if open == 0 => Reading::NoData,
            Sessions::IdleShare { min_sessions, .. } if open < *min_sessions => Reading::Few,
            Sessions::IdleShare { .. } => {
                let hours = i64::from(self.config.watch.session_idle_hours);
                let span = (place.end - hours * HOUR_MS / 2, Millis::MAX);
                let active = self.store.count_active_sessions(place.environment, span).await?;
                Reading::Value(1.0 - active.min(open) as f64 / open as f64)
            }
            Sessions::AtOnce { window_ms, .. } => {
                let since = place.end - window_ms;
                let most = self.store.most_sessions_at_once(place.environment, since).await?;
                Reading::Value(most as f64)
            }
        };
        usuals.sessions.insert(key, (place.end, found));
        Ok(found)
    }

    async fn usual_rate(
        &self,
        usuals: &mut Usuals,
        place: Place<'_>,
        of: Of,
    ) -> Result<Option<f64>, StoreError> {
        let key = (place.environment.to_owned(), metric(of).word());
        if let Some((at, found)) = usuals.rates.get(&key)
            && place.end - at < USUAL_EVERY_MS
        {
            return Ok(*found);
        }
        let found = self.usual_failure(place.environment, metric(of), place.end).await?;
        usuals.rates.insert(key, (place.end, found));
        Ok(found)
    }

    /// How many are usual in a minute: at the same time of the last weeks, else in the last hour.
    async fn usual_volume(
        &self,
        usuals: &mut Usuals,
        place: Place<'_>,
        of: Of,
    ) -> Result<Option<f64>, StoreError> {
        let key = (place.environment.to_owned(), metric(of).word());
        if let Some((at, found)) = usuals.volumes.get(&key)
            && place.end - at < USUAL_EVERY_MS
        {
            return Ok(*found);
        }
        let mut minutes = Vec::new();
        for week in 1..=4 {
            let middle = place.end - week * WEEK_MS;
            let span = (middle - HOUR_MS / 2, middle + HOUR_MS / 2);
            let count = self.outcomes(place, of, span).await?;
            if count.users > 0 {
                minutes.push(per_minute(count, HOUR_MS));
            }
        }
        minutes.sort_by(f64::total_cmp);
        let found = if minutes.len() >= 2 {
            minutes.get((minutes.len() - 1) / 2).copied() // the lower one of two: no false alarm
        } else {
            let span = (place.end - HOUR_MS, place.end - 300_000);
            let count = self.outcomes(place, of, span).await?;
            (count.users > 0).then(|| per_minute(count, HOUR_MS - 300_000))
        };
        usuals.volumes.insert(key, (place.end, found));
        Ok(found)
    }

    async fn latency_of(
        &self,
        place: Place<'_>,
        of: Of,
        window_ms: Millis,
    ) -> Result<Histogram, StoreError> {
        let (good, _) = of.kinds();
        let mut all = Histogram::default();
        let span = (place.end - window_ms, place.end);
        for (kind, bucket, n) in self.counts(place, "latency", span).await? {
            if let Ok(bucket) = bucket.parse::<usize>()
                && kind == good.word()
            {
                all.add(bucket, n);
            }
        }
        Ok(all)
    }

    /// How far the last finished hour is from the same hour of the weeks before, by its rate or its number.
    async fn anomaly(
        &self,
        usuals: &mut Usuals,
        place: Place<'_>,
        of: Of,
    ) -> Result<Reading, StoreError> {
        // What arrives a minute late still belongs to its hour.
        let until = floor(place.end - 60_000, 3_600);
        let key = (place.environment.to_owned(), metric(of).word());
        if let Some((at, found)) = usuals.hours.get(&key)
            && *at == until
        {
            return Ok(value(*found));
        }
        let mut usual = Usual::default();
        for week in (1..=WEEKS).rev() {
            let at = until - HOUR_MS - week * WEEK_MS;
            let count = self.hour(place, of, at).await?;
            if count.users > 0 {
                usual.learn(at, 0, count);
            }
        }
        let at = until - HOUR_MS;
        let distance = usual.distance(at, 0, self.hour(place, of, at).await?);
        let volume = distance.volume.map(f64::abs);
        let found = volume.into_iter().chain(distance.rate).reduce(f64::max);
        usuals.hours.insert(key, (until, found));
        Ok(value(found))
    }

    async fn hour(&self, place: Place<'_>, of: Of, at: Millis) -> Result<Count, StoreError> {
        let (good, bad) = of.kinds();
        let filter = CountFilter {
            environment: place.environment,
            width_s: 3_600,
            dimension: "all",
            from: at,
            until: at + HOUR_MS,
        };
        let counts: BTreeMap<String, u64> = self
            .store
            .sum_auth_counts(&filter)
            .await?
            .into_iter()
            .map(|(kind, _, n)| (kind, n))
            .collect();
        let n = |word: &str| counts.get(word).copied().unwrap_or(0);
        let failed = n(bad.word());
        Ok(Count { users: n(good.word()) + failed, bad: failed })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of events stay below 2^52")]
fn per_minute(count: Count, span_ms: Millis) -> f64 {
    count.users as f64 * 60_000.0 / span_ms as f64
}
