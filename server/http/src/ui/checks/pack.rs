//! One pack: how it stands, its checks, its trend, what it has found by kind, its monitor, its repairs.

use std::collections::BTreeMap;

use actix_web::web::Path;
use askama::Template;
use switchback_app::checks::{CheckView, KnownPack, PackView, RepairRun};
use switchback_checks::event_mode::{Event, Mode};
use switchback_store::FindingCount;

use super::trend::{Trend, WINDOWS};
use super::{query_of, says};
use crate::ui::fields::{Faults, Fields};
use crate::ui::frame::Frame;
use crate::ui::visit::Visit;
use crate::ui::watch::Note;
use crate::ui::words::{self, When, Words};
use crate::ui::{Answer, UiError, ok, unprocessable};

/// Runs that the page lists.
const RUNS_SHOWN: usize = 10;
/// Rows of a table of counts.
const COUNTS_SHOWN: usize = 8;
/// Event mode by hand: minutes, and how they are called.
const EVENT_LENGTHS: [(i64, &str); 4] =
    [(30, "30 minutes"), (60, "1 hour"), (180, "3 hours"), (720, "12 hours")];
/// Fields with a place of their own for what is wrong with them.
const FIELDS: [&str; 5] = ["source", "replica", "event_starts", "event_ends", "lead_minutes"];

/// A table of counts: its title, the filter's name, and values with how many.
type Counted = (&'static str, &'static str, Vec<(String, u64)>);

#[derive(Template)]
#[template(path = "pages/check_pack.html")]
struct PackPage {
    frame: Frame,
    known: KnownPack,
    view: PackView,
    window: &'static str,
    trend: Trend,
    /// Where findings are: by what, the filter's name, and values with how many.
    counts: Vec<Counted>,
    runs: Vec<RepairRun>,
    sources: Vec<String>,
    /// Whether the panel that asks before the monitor fixes is open.
    asks_fix: bool,
    form: Fields,
    faults: Faults,
}

impl PackPage {
    fn home(&self) -> String {
        format!("/ui/checks/{}", self.view.name)
    }

    fn sentence(&self) -> Words {
        says::pack(&self.view, self.frame.now)
    }

    fn tone(&self) -> &'static str {
        says::loudness(self.view.grade, self.view.is_silent)
    }

    fn health(&self) -> String {
        says::health(self.view.health)
    }

    fn figure_tone(&self) -> &'static str {
        if says::tone(self.view.grade) == "bad" { "bad" } else { "" }
    }

    fn marks(&self) -> Vec<(&'static str, &'static str)> {
        says::marks(&self.view)
    }

    fn monitor(&self) -> Words {
        says::monitor(&self.view, self.frame.now)
    }

    fn windows(&self) -> &'static [(&'static str, &'static str, i64)] {
        &WINDOWS
    }

    fn lengths(&self) -> &'static [(i64, &'static str)] {
        &EVENT_LENGTHS
    }

    fn is_used(&self) -> bool {
        !self.view.settings.source.is_empty()
    }

    fn is_mode(&self, word: &str) -> bool {
        self.view.settings.mode.word() == word
    }

    fn is_off(&self) -> bool {
        self.view.settings.mode == Mode::Off
    }

    /// Whether event mode is on by hand, so that it can be ended.
    fn by_hand(&self) -> bool {
        self.view.settings.event_until.is_some_and(|until| self.frame.now < until)
    }

    fn number(&self, count: &u64) -> String {
        words::number(*count)
    }

    fn grade(&self, check: &CheckView) -> (&'static str, &'static str) {
        let word = check.grade.map_or("not looked at", |grade| grade.word());
        (word, says::tone(check.grade))
    }

    fn found(&self, check: &CheckView) -> String {
        says::found(check)
    }

    fn recent(&self, check: &CheckView) -> String {
        match (check.state.figures, check.state.recent) {
            (None, _) => "–".to_owned(),
            (Some(_), None) => "cannot tell".to_owned(),
            (Some(_), Some(recent)) => words::number(recent),
        }
    }

    fn took(&self, check: &CheckView) -> String {
        says::took(check)
    }

    fn apart(&self, check: &CheckView) -> String {
        says::apart(check)
    }

    fn trouble(&self, check: &CheckView) -> Option<(String, &'static str)> {
        says::trouble(check)
    }

    fn findings_of(&self, field: &str, value: &str) -> String {
        format!("{}/findings{}", self.home(), query_of(&[(field, value), ("state", "open")]))
    }

    fn indexes(&self, check: &CheckView) -> Vec<String> {
        self.known.pack.check(&check.name).map(|check| check.indexes.clone()).unwrap_or_default()
    }

    fn has_fix(&self) -> bool {
        self.view.checks.iter().any(|check| check.has_fix)
    }

    /// What the monitor may do in fix mode, in words.
    fn fix_limits(&self) -> String {
        let pace = &self.known.pack.pace;
        format!(
            "It fixes at most {} in a sweep and {} in a minute, and nothing when more than {} is broken. A finding that comes back after {} is left to people.",
            words::number(pace.fixes_per_sweep),
            words::number(pace.fixes_per_minute),
            words::percent((pace.share_max * 10_000.0).round() / 100.0),
            words::count(pace.attempts, "fix").replace("fixs", "fixes"),
        )
    }

    fn observe_time(&self) -> String {
        words::duration(self.known.pack.pace.observe_ms.cast_signed())
    }

    fn event_pace(&self) -> String {
        words::duration(self.known.pack.pace.event_ms.cast_signed()).replace(".0 s", " s")
    }

    fn lead(&self, event: &Event) -> String {
        words::duration(event.lead_ms)
    }

    fn utc(&self, at: &i64) -> String {
        words::format_at(*at, "%Y-%m-%d %H:%M")
    }

    /// The trend stands alone: flags are changed in environments, and data sources belong to none.
    fn notes(&self) -> &'static [Note] {
        &[]
    }

    fn run_words(&self, run: &RepairRun) -> (&'static str, &'static str) {
        super::run::state_words(run)
    }

    fn by(&self, name: &str) -> String {
        words::actor(name)
    }

    fn healed(&self, run: &RepairRun) -> String {
        words::number(run.progress.healed())
    }

    fn when(&self, at: &i64) -> When {
        self.frame.ago(at)
    }

    fn fault(&self, field: &str) -> String {
        self.faults.on(field)
    }

    fn other_faults(&self) -> Vec<String> {
        self.faults.beside(&FIELDS)
    }
}

/// `GET /ui/checks/{pack}?window=&ask=fix`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    ok(&page_of(&visit, &path, query, Faults::default()).await?)
}

/// The page with what was wrong with a change.
pub async fn refused(visit: &Visit, name: &str, form: Fields, faults: Faults) -> Answer {
    unprocessable(&page_of(visit, name, form, faults).await?)
}

async fn page_of(
    visit: &Visit,
    name: &str,
    form: Fields,
    faults: Faults,
) -> Result<PackPage, UiError> {
    let known = visit.get_check_pack(&visit.who, name).await?;
    let frame = visit.frame_anywhere("checks", known.pack.title.as_str()).await?;
    let asked = form.text("window");
    let (window, _, window_ms) =
        WINDOWS.into_iter().find(|(value, ..)| *value == asked).unwrap_or(("day", "", 86_400_000));
    let detail = visit.get_pack_detail(&visit.who, name, window_ms).await?;
    let mut runs = visit.list_repair_runs(&visit.who, Some(name)).await?;
    runs.truncate(RUNS_SHOWN);
    let sources = visit.list_sources(&visit.who).await?;
    Ok(PackPage {
        trend: Trend::of(&detail, window_ms, frame.now),
        counts: counts_of(&detail.counts),
        view: detail.view,
        runs,
        sources: sources.into_iter().map(|source| source.settings.name).collect(),
        asks_fix: form.text("ask") == "fix" || (!faults.none() && form.text("mode") == "fix"),
        frame,
        known,
        window,
        form,
        faults,
    })
}

/// Where what is broken is: by class, country and platform.
fn counts_of(counts: &[FindingCount]) -> Vec<Counted> {
    type Of = fn(&FindingCount) -> &String;
    let kinds: [(&'static str, &'static str, Of); 3] = [
        ("By kind", "class", |one| &one.class),
        ("By country prefix", "country", |one| &one.country),
        ("By platform", "platform", |one| &one.platform),
    ];
    let mut all = Vec::new();
    for (title, field, of) in kinds {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        let present = |one: &&FindingCount| matches!(one.state.as_str(), "open" | "stuck");
        for one in counts.iter().filter(present).filter(|one| !of(one).is_empty()) {
            *sums.entry(of(one).clone()).or_default() += one.count;
        }
        let mut rows: Vec<(String, u64)> = sums.into_iter().collect();
        rows.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        rows.truncate(COUNTS_SHOWN);
        if !rows.is_empty() {
            all.push((title, field, rows));
        }
    }
    all
}
