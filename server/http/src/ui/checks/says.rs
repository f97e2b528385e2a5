//! How packs and checks are worded: health, what the monitor does, why nothing is fixed.

use switchback_app::checks::{CheckView, PackView};
use switchback_checks::event_mode::Mode;
use switchback_checks::health::{Grade, words as percent};

use crate::ui::error::sentence;
use crate::ui::words::{Words, actor, count, duration, number};

/// A health in words.
pub fn health(health: Option<f64>) -> String {
    health.map_or_else(|| "not known".to_owned(), percent)
}

/// The colour of a grade.
pub fn tone(grade: Option<Grade>) -> &'static str {
    match grade {
        Some(Grade::Pass) => "good",
        Some(Grade::Warn) => "warn",
        Some(Grade::Fail) => "bad",
        None => "",
    }
}

/// The class of a page's sentence.
pub fn loudness(grade: Option<Grade>, is_silent: bool) -> &'static str {
    match grade {
        Some(Grade::Fail) => "bad",
        Some(Grade::Warn) => "attention",
        _ if is_silent => "attention",
        _ => "",
    }
}

/// The colour of a finding's state.
pub fn state_tone(state: &str) -> &'static str {
    match state {
        "open" => "warn",
        "stuck" => "bad",
        "fixed" => "good",
        _ => "",
    }
}

/// What a pack's monitor is at, as marks: words and tone.
pub fn marks(pack: &PackView) -> Vec<(&'static str, &'static str)> {
    let settings = &pack.settings;
    let mut marks = vec![match settings.mode {
        Mode::Off => ("not monitored", ""),
        Mode::Observe => ("observes", "plain"),
        Mode::Fix if pack.observes_until.is_some() => ("observes first", "plain"),
        Mode::Fix => ("fixes", "live-pill"),
    }];
    if pack.event_until.is_some() {
        marks.push(("event mode", "live-pill"));
    }
    if settings.paused.is_some() {
        marks.push(("paused", "warn"));
    }
    if pack.is_silent {
        marks.push(("silent", "bad"));
    }
    marks
}

/// What a pack's monitor does, in sentences.
pub fn monitor(pack: &PackView, now: i64) -> Words {
    let settings = &pack.settings;
    if let Some(why) = &settings.paused {
        let (why, by) = why.rsplit_once(" by ").unwrap_or((why, ""));
        let by = if by.is_empty() { String::new() } else { format!(" by {}", actor(by)) };
        return match why {
            "Paused" => Words::say(&format!("Paused{by}.")),
            why => Words::say(&format!("Paused{by}: {}", sentence(why))),
        };
    }
    let every = duration(pack.every_ms.unwrap_or(0).cast_signed()).replace(".0 s", " s");
    if pack.is_silent {
        let words = Words::default().strong("Sweeps are missing.");
        return match pack.swept_at {
            0 => words.and(&format!(" It should look every {every} and never has.")),
            at => words
                .and(&format!(" It should look every {every}; the last was "))
                .when(at, now)
                .and("."),
        };
    }
    let words = match (settings.mode, pack.observes_until) {
        (Mode::Off, _) => Words::say("Nobody looks by itself."),
        (Mode::Observe, _) => Words::say(&format!("Looks every {every} and changes nothing.")),
        (Mode::Fix, Some(until)) => {
            Words::say(&format!("Looks every {every}. It begins to fix ")).when(until, now).and(".")
        }
        (Mode::Fix, None) => Words::say(&format!("Looks every {every} and fixes what it finds.")),
    };
    match pack.event_until {
        Some(until) => words.and(" Event mode ends ").when(until, now).and("."),
        None => words,
    }
}

/// What a pack's page says first.
pub fn pack(pack: &PackView, now: i64) -> Words {
    let words = match (pack.health, pack.found) {
        _ if pack.settings.source.is_empty() => {
            return Words::default()
                .strong("Not in use.")
                .and(" Choose the data source that it is to look into.");
        }
        (None, _) => return Words::say("Nothing was looked at yet. ").join(&monitor(pack, now)),
        (Some(_), 0) => Words::default().strong("All is whole,").and(" as far as the checks look."),
        (Some(share), found) => {
            let words = Words::default().strong(&format!("{} found;", number(found)));
            let words = words.and(&format!(" {} is whole.", percent(share)));
            match pack.recent {
                0 => words,
                recent => words.and(&format!(" {} came in the last ten minutes.", number(recent))),
            }
        }
    };
    words.and(" ").join(&monitor(pack, now))
}

/// How many a check found: `3 of 5`.
pub fn found(check: &CheckView) -> String {
    match check.state.figures {
        None => "–".to_owned(),
        Some(figures) => match figures.population {
            Some(all) => format!("{} of {}", number(figures.found), number(all)),
            None => number(figures.found),
        },
    }
}

/// How long a check's query for everything took.
pub fn took(check: &CheckView) -> String {
    let us = check.state.took_full_us.max(check.state.took_us);
    match us {
        0 => "–".to_owned(),
        1..1_000 => "under 1 ms".to_owned(),
        us => duration((us / 1_000).cast_signed()),
    }
}

/// Findings of a check that are set apart, in words; empty when there are none.
pub fn apart(check: &CheckView) -> String {
    let mut parts = Vec::new();
    if check.state.stuck > 0 {
        parts.push(format!("{} stuck: the fix does not last", number(check.state.stuck)));
    }
    if check.state.ignored > 0 {
        parts.push(format!("{} ignored", count(check.state.ignored, "finding")));
    }
    parts.join("; ")
}

/// Why the last look failed, or nothing is fixed: words and tone.
pub fn trouble(check: &CheckView) -> Option<(String, &'static str)> {
    if let Some(error) = &check.state.error {
        return Some((format!("The last look failed: {}", sentence(error)), "bad"));
    }
    let held = check.state.held.as_ref()?;
    Some((sentence(held), "warn"))
}
