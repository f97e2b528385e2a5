//! The watch: how logins go, against what was changed; who guards what; who reports.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use actix_web::web::{Path, Query};
use askama::Template;
use serde::Deserialize;
use switchback_app::AppError;
use switchback_app::flags::FlagFilter;
use switchback_app::watch::Metric;
use switchback_app::watch::figures::{
    Latency, Rate, SILENT_MS, Series, SeriesWish, Share, Summary, Window,
};
use switchback_app::watch::guards::GuardView;
use switchback_app::watch::pollers::PollerView;
use switchback_app::watch::rollouts::{RolloutView, StepForecast, usual_steps};
use switchback_app::watch::suspects::Suspect;
use switchback_store::{ChangeFilter, RunFilter, SourceRow};
use switchback_watch::event::EventKind;
use switchback_watch::histogram::Histogram;

use super::charts::{Axis, Chart};
use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::timeline::{Event, if_allowed};
use super::visit::Visit;
use super::words::{self, Words, number, share_percent};
use super::{Answer, UiError, ok};

/// Windows to choose from: value, words, minutes.
const WINDOWS: [(&str, &str, i64); 6] = [
    ("15m", "15 minutes", 15),
    ("1h", "Hour", 60),
    ("6h", "6 hours", 360),
    ("1d", "Day", 1_440),
    ("7d", "Week", 10_080),
    ("30d", "30 days", 43_200),
];
/// Targets of latency, in milliseconds.
const LOGIN_TARGET_MS: f64 = 75.0;
const TOKEN_TARGET_MS: f64 = 50.0;
/// Rows of one table.
const ROWS_MAX: usize = 12;

#[derive(Deserialize)]
pub struct WatchQuery {
    window: Option<String>,
}

/// A line drawn through every chart.
pub struct Note {
    pub x: f64,
    pub class: &'static str,
    pub label: String,
}

/// A row of a table of shares.
struct ShareLine {
    value: String,
    attempts: String,
    failure: String,
    /// Of the highest in the table, 0 to 100.
    bar: f64,
    is_worse: bool,
}

/// A guard in the list.
pub struct GuardLine {
    pub id: String,
    pub flag: String,
    pub word: &'static str,
    pub tone: &'static str,
    pub words: Words,
    pub since: i64,
    pub does: String,
}

/// A rollout in the list.
struct RolloutLine {
    view: RolloutView,
    share: String,
    tone: &'static str,
    steps: Vec<(String, &'static str)>,
}

/// Everything that follows the clock.
pub struct Board {
    sentence: Words,
    tone: &'static str,
    summary: Summary,
    charts: Vec<Chart>,
    ticks: Vec<(f64, String)>,
    notes: Vec<Note>,
    events: Vec<Event>,
    table: Vec<(String, String, String, String)>,
    errors: Vec<(String, String)>,
    platforms: Vec<ShareLine>,
    versions: Vec<ShareLine>,
    flags: Vec<(String, Vec<ShareLine>)>,
    funnel: Vec<(&'static str, String, f64)>,
    silent: Vec<SourceRow>,
    suspects: Vec<Suspect>,
}

/// A database whose auth tables are read.
struct PollerLine {
    is_well: bool,
    words: String,
}

#[derive(Template)]
#[template(path = "pages/watch.html")]
struct WatchPage {
    frame: Frame,
    window: String,
    board: Board,
    guards: Vec<GuardLine>,
    rollouts: Vec<RolloutLine>,
    guarded: Vec<String>,
    acts: Vec<switchback_store::ActRow>,
    frozen: Option<(i64, String)>,
    forecast: Vec<StepForecast>,
    form: Fields,
    faults: Faults,
    pollers: Vec<PollerLine>,
    /// How apps reach this server.
    base: String,
    /// Consistency checks, when some are in use.
    checks: Option<super::checks::Tile>,
}

impl WatchPage {
    fn windows(&self) -> &'static [(&'static str, &'static str, i64)] {
        &WINDOWS
    }

    fn metrics(&self) -> &'static [(Metric, &'static str, &'static str)] {
        &Metric::ALL
    }

    fn seconds(&self, seconds: impl Borrow<Option<u64>>) -> String {
        match seconds.borrow() {
            Some(seconds) => words::duration((*seconds * 1000).cast_signed()),
            None => "not seen".to_owned(),
        }
    }

    fn ms(&self, value: impl Borrow<Option<f64>>) -> String {
        value.borrow().map_or_else(|| "–".to_owned(), |ms| format!("{} ms", ms.round()))
    }

    fn spaced(&self, word: &str) -> String {
        word.replace('_', " ")
    }

    fn other_faults(&self) -> Vec<String> {
        self.faults.beside(&[])
    }
}

/// `GET /ui/{environment}/watch`.
pub async fn page(visit: Visit, path: Path<String>, query: Query<WatchQuery>) -> Answer {
    let window = query.window.clone().unwrap_or_default();
    ok(&page_of(&visit, &path, &window, Fields::default(), Faults::default()).await?)
}

/// The page, with what somebody sent that could not be taken.
pub async fn with_faults(visit: &Visit, environment: &str, form: Fields, faults: Faults) -> Answer {
    super::unprocessable(&page_of(visit, environment, "", form, faults).await?)
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    window: &str,
    form: Fields,
    faults: Faults,
) -> Result<WatchPage, UiError> {
    let frame = visit.frame(environment, "watch", "Watch").await?;
    let known = WINDOWS.iter().find(|(value, _, _)| *value == window).unwrap_or(&WINDOWS[0]);
    let until = frame.now + 1000;
    let window = Window { from: until - known.2 * 60_000, until };
    let board = Board::of(visit, &frame, window, known.1).await?;
    let guards = visit.list_guards(&visit.who, environment, None).await?;
    let rollouts = visit.list_rollouts(&visit.who, environment, None).await?;
    let flags = visit.list_flags(&visit.who, environment, &FlagFilter::default()).await?;
    let (acts, frozen) = visit.list_acts(&visit.who, environment).await?;
    let pollers = visit.list_auth_pollers(&visit.who, environment).await?;
    let forecast = visit.forecast_rollout(&visit.who, environment, &usual_steps()).await?;
    Ok(WatchPage {
        window: known.0.to_owned(),
        board,
        guards: guards.iter().take(50).map(guard_line).collect(),
        rollouts: rollouts.into_iter().take(20).map(rollout_line).collect(),
        guarded: flags.iter().map(|row| row.flag.key.to_string()).collect(),
        acts: acts.into_iter().take(ROWS_MAX).collect(),
        frozen,
        forecast,
        pollers: pollers.iter().map(poller_line).collect(),
        base: visit.public_url.clone(),
        checks: super::checks::Tile::of(visit).await?,
        form,
        faults,
        frame,
    })
}

fn poller_line(poller: &PollerView) -> PollerLine {
    let source = &poller.source;
    let Some(row) = &poller.progress else {
        let words = format!("The tables of Supabase in {source} were not read yet.");
        return PollerLine { is_well: true, words };
    };
    let is_well = row.state == "reads";
    let words = match &row.said {
        Some(said) => format!("No data from the tables of Supabase in {source}: {said}."),
        None => format!("The tables of Supabase in {source} are read. They know no failed logins."),
    };
    PollerLine { is_well, words }
}

/// A guard as a row.
pub fn guard_line(guard: &GuardView) -> GuardLine {
    let said = |name: &str| guard.verdict.as_ref().and_then(|verdict| verdict.get(name));
    let standing = said("standing").map(words::word).unwrap_or_default();
    let (word, tone) = match (guard.phase.as_str(), standing.as_str()) {
        ("acted", _) => ("acted", "bad"),
        ("resting", _) => ("rests", ""),
        (_, "ok") => ("well", "good"),
        (_, "bad") => ("harm", "bad"),
        (_, "warn") => ("maybe", "warn"),
        (_, "sample_ratio") => ("miscounted", "warn"),
        (_, "not_this_flag") => ("not this flag", "warn"),
        (_, "insufficient") => ("too few yet", ""),
        (_, "") => ("begins", ""),
        _ => ("no data", "warn"),
    };
    let does = match &guard.settings.action {
        switchback_app::watch::guards::GuardAction::Warn => "warns".to_owned(),
        switchback_app::watch::guards::GuardAction::Hold => "holds the rollout".to_owned(),
        switchback_app::watch::guards::GuardAction::PutBack => {
            format!("puts it back to {}", words::percent(guard.settings.back_to.as_f64()))
        }
        switchback_app::watch::guards::GuardAction::RunPlaybook { name, .. } => {
            format!("runs {name}")
        }
    };
    GuardLine {
        id: guard.id.clone(),
        flag: guard.settings.flag.clone(),
        word,
        tone,
        words: Words::default().ticked(&said("words").map(words::word).unwrap_or_default()),
        since: if guard.verdict.is_some() { guard.standing_since } else { guard.since },
        does,
    }
}

fn rollout_line(view: RolloutView) -> RolloutLine {
    let current = view.step;
    let steps = view.steps.iter().enumerate().map(|(place, step)| {
        let class = match current {
            Some(at) if place < at => "past",
            Some(at) if place == at => "now",
            _ => "",
        };
        (words::percent(step.percent.as_f64()), class)
    });
    let share = match (view.phase.as_str(), current.and_then(|at| view.steps.get(at))) {
        ("put_back", _) | (_, None) => words::percent(view.before.as_f64()),
        (_, Some(step)) => words::percent(step.percent.as_f64()),
    };
    let tone = match view.phase.as_str() {
        "done" => "good",
        "put_back" => "bad",
        "paused" | "aborting" => "warn",
        _ => "",
    };
    RolloutLine { share, tone, steps: steps.collect(), view }
}

impl Board {
    async fn of(
        visit: &Visit,
        frame: &Frame,
        window: Window,
        span: &str,
    ) -> Result<Self, AppError> {
        let environment = frame.environment.as_str();
        let summary = visit.auth_summary(&visit.who, environment, window).await?;
        let wish = |dimension: &str| SeriesWish {
            window,
            dimension: dimension.to_owned(),
            kinds: Vec::new(),
        };
        let all = visit.auth_series(&visit.who, environment, &wish("all")).await?;
        let latency = visit.auth_series(&visit.who, environment, &wish("latency")).await?;
        let axis = Axis::of(&all.at, all.width_s);
        let charts = charts(&axis, &all, &latency, summary.tells_failures);
        let (notes, events) = notes(visit, frame, &axis).await?;
        let table = table(&axis, &all, &latency, summary.tells_failures);
        let (tone, sentence) = judge(&summary, span, environment);
        let silent = |one: &&SourceRow| one.last_at < frame.now - SILENT_MS;
        let silent = summary.sources.iter().filter(silent).cloned().collect();
        let count = |kind: &str| summary.by_kind.get(kind).copied().unwrap_or(0);
        let steps = [
            ("Sign-ups begun", count("signup") + count("signup_failure")),
            ("Accounts made", count("signup")),
            ("Address or phone confirmed", count("email_verified") + count("phone_verified")),
        ];
        let begun = steps.first().map_or(0, |(_, n)| *n);
        let funnel = steps
            .into_iter()
            .filter(|_| begun > 0)
            .map(|(name, n)| (name, number(n), (n as f64 / begun as f64 * 100.0).min(100.0)))
            .collect();
        Ok(Self {
            sentence,
            tone,
            charts,
            ticks: axis.ticks(),
            notes,
            events,
            table,
            errors: summary
                .errors
                .iter()
                .take(ROWS_MAX)
                .map(|(e, n)| (e.clone(), number(*n)))
                .collect(),
            platforms: shares(&summary.platforms),
            versions: shares(&summary.versions),
            flags: summary.flags.iter().map(|(flag, all)| (flag.clone(), shares(all))).collect(),
            funnel,
            suspects: suspects(visit, frame, tone).await?,
            silent,
            summary,
        })
    }

    fn rate(&self, rate: &Rate) -> String {
        failed(*rate)
    }

    fn number(&self, count: impl Borrow<u64>) -> String {
        number(*count.borrow())
    }

    fn is_slow(&self, latency: &Latency, target: f64) -> bool {
        latency.p95.is_some_and(|ms| ms > target)
    }
}

/// The share that failed; a dash when there were no attempts, or nobody would have told.
fn failed(rate: Rate) -> String {
    match rate.failure {
        Some(_) => share_percent(rate.bad, rate.attempts()),
        None => "–".to_owned(),
    }
}

/// While logins fail: what may be the cause, those first for which something speaks.
async fn suspects(visit: &Visit, frame: &Frame, tone: &str) -> Result<Vec<Suspect>, AppError> {
    if tone != "bad" {
        return Ok(Vec::new());
    }
    let mut found = visit.what_changed(&visit.who, &frame.environment, frame.now).await?;
    found.truncate(5);
    Ok(found)
}

fn judge(summary: &Summary, span: &str, environment: &str) -> (&'static str, Words) {
    let logins = &summary.logins;
    let span = span.to_lowercase();
    if summary.sources.is_empty() {
        return ("", Words::say("Nobody reports logins here yet."));
    }
    if !summary.is_reported {
        let words = Words::say("Nobody reports logins in ").strong(environment).and(
            " at the moment: what follows is what was known before. No news is not good news.",
        );
        return ("attention", words);
    }
    if logins.attempts() == 0 {
        return ("", Words::say(&format!("Nobody tried to log in in the last {span}.")));
    }
    if !summary.tells_failures {
        let all = words::count(logins.attempts(), "login");
        let words = Words::default().strong(&all).and(&format!(
            " in the last {span}. How many failed is not known: who reports knows only those that worked."
        ));
        return ("attention", words);
    }
    let worked = share_percent(logins.good, logins.attempts());
    let mut words = Words::default().strong(&worked).and(&format!(
        " of {} in the last {span} worked",
        words::count(logins.attempts(), "login")
    ));
    if let Some(p95) = summary.login_ms.p95 {
        words = words.and(&format!("; 95 % of them within {} ms", p95.round()));
    }
    let failure = logins.failure.unwrap_or(0.0);
    let tone = if failure > 0.1 && logins.attempts() >= 20 { "bad" } else { "" };
    (tone, words.and("."))
}

/// For each point the counts of a kind.
fn of_kind(series: &Series, axis: &Axis, kind: &str) -> Vec<u64> {
    let mut sum = vec![0; axis.at.len()];
    for row in series.counts.iter().filter(|row| row.kind == kind) {
        for (total, n) in sum.iter_mut().zip(axis.merge(&row.n)) {
            *total += n;
        }
    }
    sum
}

fn quantiles(series: &Series, axis: &Axis, kind: &str, q: f64) -> Vec<Option<f64>> {
    let mut points: Vec<Histogram> = vec![Histogram::default(); axis.at.len()];
    for row in series.counts.iter().filter(|row| row.kind == kind) {
        let Ok(bucket) = row.value.parse::<usize>() else { continue };
        for (point, n) in points.iter_mut().zip(axis.merge(&row.n)) {
            point.add(bucket, n);
        }
    }
    points.iter().map(|point| point.quantile(q)).collect()
}

fn failures(good: &[u64], bad: &[u64], is_told: bool) -> Vec<Option<f64>> {
    let rate = |(good, bad): (&u64, &u64)| {
        (is_told && good + bad > 0).then(|| *bad as f64 / (good + bad) as f64 * 100.0)
    };
    good.iter().zip(bad).map(rate).collect()
}

fn charts(axis: &Axis, all: &Series, latency: &Series, is_told: bool) -> Vec<Chart> {
    let (good, bad) = (of_kind(all, axis, "login_success"), of_kind(all, axis, "login_failure"));
    let renewed = of_kind(all, axis, "token_refresh");
    let not_renewed = of_kind(all, axis, "token_refresh_failure");
    let rates = [
        (6, "Logins", failures(&good, &bad, is_told)),
        (2, "Token renewals", failures(&renewed, &not_renewed, is_told)),
    ];
    let login = [
        (0, "half within", quantiles(latency, axis, "login_success", 0.5)),
        (3, "95 % within", quantiles(latency, axis, "login_success", 0.95)),
    ];
    let tokens = [
        (4, "renewals, 95 %", quantiles(latency, axis, "token_refresh", 0.95)),
        (2, "checks, 95 %", quantiles(latency, axis, "token_check", 0.95)),
    ];
    vec![
        Chart::stacked("Logins", axis, &[(0, "worked", good), (6, "failed", bad)]),
        Chart::lines("Failed, in percent", axis, &rates, (5.0, " %"), None),
        Chart::lines("Login takes", axis, &login, (10.0, " ms"), Some((LOGIN_TARGET_MS, "target"))),
        Chart::lines(
            "Tokens take",
            axis,
            &tokens,
            (10.0, " ms"),
            Some((TOKEN_TARGET_MS, "target")),
        ),
    ]
}

/// Twelve rows of figures: what the charts show, to be read.
fn table(
    axis: &Axis,
    all: &Series,
    latency: &Series,
    is_told: bool,
) -> Vec<(String, String, String, String)> {
    let (good, bad) = (of_kind(all, axis, "login_success"), of_kind(all, axis, "login_failure"));
    let p95 = quantiles(latency, axis, "login_success", 0.95);
    let rows = axis.at.len().div_ceil(ROWS_MAX).max(1);
    let sums =
        |counts: &[u64]| -> Vec<u64> { counts.chunks(rows).map(|all| all.iter().sum()).collect() };
    let (good, bad) = (sums(&good), sums(&bad));
    let slowest = p95.chunks(rows).map(|all| all.iter().flatten().copied().reduce(f64::max));
    axis.at
        .iter()
        .step_by(rows)
        .zip(good.iter().zip(&bad))
        .zip(slowest)
        .map(|((at, (good, bad)), p95)| {
            let all = good + bad;
            let is_known = is_told && all > 0;
            let failed = if is_known { share_percent(*bad, all) } else { "–".to_owned() };
            let p95 = p95.map_or_else(|| "–".to_owned(), |ms| format!("{} ms", ms.round()));
            (axis.label(*at), number(all), failed, p95)
        })
        .collect()
}

fn shares(all: &[Share]) -> Vec<ShareLine> {
    let rate = |share: &Share| share.logins.failure.unwrap_or(0.0);
    let enough = || all.iter().filter(|share| share.logins.attempts() >= 20);
    let highest = all.iter().map(rate).fold(0.0, f64::max);
    let lowest = enough().map(rate).fold(f64::INFINITY, f64::min);
    let line = |share: &Share| ShareLine {
        value: share.value.clone(),
        attempts: number(share.logins.attempts()),
        failure: failed(share.logins),
        bar: if highest > 0.0 { rate(share) / highest * 100.0 } else { 0.0 },
        is_worse: share.logins.attempts() >= 20 && rate(share) > 0.02 && rate(share) > 2.0 * lowest,
    };
    all.iter().take(ROWS_MAX).map(line).collect()
}

/// Changes, runs, incidents and what happened by itself: as lines through the charts, and as a list.
async fn notes(
    visit: &Visit,
    frame: &Frame,
    axis: &Axis,
) -> Result<(Vec<Note>, Vec<Event>), AppError> {
    let environment = frame.environment.as_str();
    let base = frame.url("");
    let since = axis.at.first().copied().unwrap_or(frame.now);
    let filter = ChangeFilter {
        environment: Some(environment.to_owned()),
        since: Some(since),
        limit: 200,
        ..ChangeFilter::default()
    };
    let mut notes = Vec::new();
    let mut events = Vec::new();
    let mut note = |at: i64, class: &'static str, what: &str| {
        if axis.holds(at) {
            notes.push(Note { x: axis.x(at), class, label: format!("{} {what}", axis.label(at)) });
        }
    };
    for row in visit.list_changes(&visit.who, &filter).await? {
        let change = &row.change;
        if matches!(change.subject_kind.as_str(), "flag" | "segment" | "deploy") {
            let what = format!("{} {}: {}", change.actor, change.action, change.subject);
            note(change.at, if change.emergency { "incident" } else { "change" }, &what);
            events.push(Event::of_change(change, &base));
        }
    }
    let filter =
        RunFilter { environment: Some(environment.to_owned()), limit: 50, ..RunFilter::default() };
    for run in visit.list_runs(&visit.who, &filter).await? {
        if axis.holds(run.created_at) {
            note(run.created_at, "run", &run.title);
            events.push(Event::of_run(&run, &base));
        }
    }
    for incident in if_allowed(visit.list_incidents(&visit.who, false, None, 50).await)? {
        if axis.holds(incident.created_at) {
            note(incident.created_at, "incident", &incident.name);
            events.push(Event::of_incident(&incident, &base));
        }
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    events.truncate(ROWS_MAX);
    Ok((notes, events))
}

/// Counts of logins by weekday and hour (UTC) of the last four weeks, and the highest of them.
#[derive(Template)]
#[template(path = "parts/heat.html")]
struct Heat {
    rows: Vec<(&'static str, Vec<(usize, String)>)>,
}

/// `GET /ui/parts/{environment}/heat`: when people log in.
pub async fn heat(visit: Visit, path: Path<String>) -> Answer {
    let now = visit.clock.now();
    let window = visit.window(Some(now - 28 * 86_400_000), Some(now))?;
    let kinds = vec![EventKind::LoginSuccess, EventKind::LoginFailure];
    let wish = SeriesWish { window, dimension: "all".to_owned(), kinds };
    let series = visit.auth_series(&visit.who, &path, &wish).await?;
    let mut cells: BTreeMap<usize, u64> = BTreeMap::new();
    for row in series.counts.iter().filter(|row| row.kind.starts_with("login_")) {
        for (at, n) in series.at.iter().zip(&row.n) {
            *cells.entry(switchback_watch::hour_of_week::hour(*at, 0)).or_insert(0) += n;
        }
    }
    let top = cells.values().copied().max().unwrap_or(0).max(1);
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let row = |(day, name): (usize, &&'static str)| {
        let cell = |hour: usize| {
            let n = cells.get(&(day * 24 + hour)).copied().unwrap_or(0);
            let level = if n == 0 { 0 } else { 1 + (n * 4 / (top + 1)) as usize };
            (level, format!("{name} {hour:02}:00 UTC: {}", words::count(n, "login")))
        };
        (*name, (0..24).map(cell).collect())
    };
    ok(&Heat { rows: days.iter().enumerate().map(row).collect() })
}
