//! All packs of checks: how those in use stand, and the others with a way to use them.

use askama::Template;
use switchback_app::checks::PackView;
use switchback_checks::health::Grade;

use super::says;
use super::trend::{Spark, WINDOWS};
use crate::ui::fields::{Faults, Fields};
use crate::ui::frame::Frame;
use crate::ui::visit::Visit;
use crate::ui::words::{self, Words};
use crate::ui::{Answer, UiError, ok, unprocessable};

/// A pack in use.
struct Used {
    pack: PackView,
    spark: Option<Spark>,
}

#[derive(Template)]
#[template(path = "pages/checks.html")]
struct ChecksPage {
    frame: Frame,
    sentence: Words,
    tone: &'static str,
    used: Vec<Used>,
    others: Vec<PackView>,
    /// Data sources to choose from.
    sources: Vec<String>,
    /// The pack that somebody tried to use.
    tried: String,
    form: Fields,
    faults: Faults,
}

impl ChecksPage {
    fn health(&self, pack: &PackView) -> String {
        says::health(pack.health)
    }

    fn tone_of(&self, pack: &PackView) -> &'static str {
        if pack.grade == Some(Grade::Fail) { "bad" } else { "" }
    }

    fn marks(&self, pack: &PackView) -> Vec<(&'static str, &'static str)> {
        says::marks(pack)
    }

    fn monitor(&self, pack: &PackView) -> Words {
        says::monitor(pack, self.frame.now)
    }

    /// What keeps checks from working, the worst first.
    fn troubles(&self, pack: &PackView) -> Vec<(String, &'static str)> {
        let mut all: Vec<(String, &'static str)> =
            pack.checks.iter().filter_map(says::trouble).collect();
        all.sort_by_key(|(_, tone)| *tone != "bad");
        all.dedup();
        all.truncate(2);
        all
    }

    /// Whether event mode is on by hand, so that it can be ended.
    fn by_hand(&self, pack: &PackView) -> bool {
        pack.settings.event_until.is_some_and(|until| self.frame.now < until)
    }

    fn number(&self, count: &u64) -> String {
        words::number(*count)
    }

    fn checks_of(&self, pack: &PackView) -> String {
        words::count(pack.checks.len() as u64, "check")
    }

    fn faults_of(&self, pack: &PackView) -> Vec<String> {
        if pack.name == self.tried { self.faults.beside(&[]) } else { Vec::new() }
    }

    fn chosen(&self, pack: &PackView, source: &str) -> bool {
        pack.name == self.tried && self.form.text("source") == source
    }
}

/// `GET /ui/checks`.
pub async fn page(visit: Visit) -> Answer {
    ok(&page_of(&visit, String::new(), Fields::default(), Faults::default()).await?)
}

/// The page with what was wrong with using a pack.
pub async fn refused(visit: &Visit, pack: &str, form: Fields, faults: Faults) -> Answer {
    unprocessable(&page_of(visit, pack.to_owned(), form, faults).await?)
}

async fn page_of(
    visit: &Visit,
    tried: String,
    form: Fields,
    faults: Faults,
) -> Result<ChecksPage, UiError> {
    let frame = visit.frame_anywhere("checks", "Checks").await?;
    let health = visit.check_health(&visit.who).await?;
    let sources = visit.list_sources(&visit.who).await?;
    let day = WINDOWS.get(1).map_or(0, |(_, _, ms)| *ms);
    let (mut used, mut others) = (Vec::new(), Vec::new());
    for pack in health.packs {
        if pack.settings.source.is_empty() {
            others.push(pack);
            continue;
        }
        let detail = visit.get_pack_detail(&visit.who, &pack.name, day).await?;
        used.push(Used { spark: Spark::of(&detail, frame.now), pack });
    }
    let grade = used.iter().filter_map(|one| one.pack.grade).max();
    let is_silent = used.iter().any(|one| one.pack.is_silent);
    Ok(ChecksPage {
        sentence: sentence(&used, health.overall),
        tone: says::loudness(grade, is_silent),
        used,
        others,
        sources: sources.into_iter().map(|source| source.settings.name).collect(),
        frame,
        tried,
        form,
        faults,
    })
}

fn sentence(used: &[Used], overall: Option<f64>) -> Words {
    let found: u64 = used.iter().map(|one| one.pack.found).sum();
    let recent: u64 = used.iter().map(|one| one.pack.recent).sum();
    let lowest = used.iter().filter(|one| one.pack.found > 0).min_by(|left, right| {
        let of = |one: &Used| one.pack.health.unwrap_or(1.0);
        of(left).total_cmp(&of(right))
    });
    let words = match (overall, lowest) {
        _ if used.is_empty() => {
            return Words::say("Checks look for rows in the app’s own databases that are broken, ")
                .and("and can heal them. No pack is in use yet.");
        }
        (None, _) => Words::say("Nothing was looked at yet."),
        (Some(_), None) => {
            Words::default().strong("All is whole,").and(" as far as the checks look.")
        }
        (Some(share), Some(lowest)) => {
            let words = Words::default().strong(&format!("{} found.", words::number(found)));
            let share = says::health(Some(share));
            let words = match used {
                [_] => words.and(&format!(" {share} is whole.")),
                _ => words
                    .and(" The lowest is ")
                    .link(&format!("/ui/checks/{}", lowest.pack.name), &lowest.pack.title)
                    .and(&format!(" with {share} whole.")),
            };
            match recent {
                0 => words,
                recent => {
                    words.and(&format!(" {} came in the last ten minutes.", words::number(recent)))
                }
            }
        }
    };
    let silent = used.iter().filter(|one| one.pack.is_silent).count() as u64;
    match silent {
        0 => words,
        silent => words
            .and(" ")
            .strong(&format!("Sweeps are missing in {}.", words::count(silent, "pack"))),
    }
}
