//! The 90 thin bars of a component: a picture for those who see it, a sentence for those who hear it.

use std::fmt::Write as _;

use switchback_app::status_page::{DAYS, Day, uptime};
use switchback_store::ComponentStatus;

use super::locale::Locale;
use crate::ui::words::{share_percent, title, word};

/// From one bar to the next, and how wide one is, in the picture's own units.
const PITCH: i64 = 5;
const WIDTH: i64 = 4;
/// Bad days that the sentence names; the picture has them all.
const NAMED_MAX: usize = 5;

/// Bars, and what they say.
pub struct Bars {
    /// The picture.
    pub svg: String,
    /// The share of time that it was up, such as `99.98 %`; empty when it was never known.
    pub uptime: String,
}

/// Draws the bars of a component.
pub fn draw(name: &str, days: &[Day], locale: Locale) -> Bars {
    let (up, known) = uptime(days);
    let share = if known == 0 { String::new() } else { share_percent(up, known) };
    let mut svg = String::with_capacity(days.len() * 64 + 512);
    let label = escape(&sentence(name, &share, days, locale));
    let _ = write!(
        svg,
        "<svg class=\"bars\" viewBox=\"0 0 {} 32\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">",
        DAYS * PITCH - (PITCH - WIDTH),
    ); // writing to a text cannot fail
    for (index, day) in days.iter().enumerate() {
        let _ = write!(
            svg,
            "<path d=\"M{} 0h{WIDTH}v32h-{WIDTH}\"{}><title>{}</title></path>",
            index as i64 * PITCH,
            class_of(day),
            said(day, locale),
        );
    }
    svg.push_str("</svg>");
    Bars { svg, uptime: share }
}

fn class_of(day: &Day) -> &'static str {
    match day.worst {
        None => " class=\"none\"",
        Some(ComponentStatus::Operational) => "",
        Some(ComponentStatus::UnderMaintenance) => " class=\"work\"",
        Some(ComponentStatus::DegradedPerformance) => " class=\"slow\"",
        Some(ComponentStatus::PartialOutage) => " class=\"part\"",
        Some(ComponentStatus::MajorOutage) => " class=\"down\"",
    }
}

/// `3 Nov 2026: partial outage, 97.2 % up`.
fn said(day: &Day, locale: Locale) -> String {
    let date = locale.day(day.at);
    match day.worst {
        None => format!("{date}: not known"),
        Some(ComponentStatus::Operational) => format!("{date}: no trouble"),
        Some(worst) => {
            let up = (day.known_ms - day.down_ms).max(0).cast_unsigned();
            let share = share_percent(up, day.known_ms.max(0).cast_unsigned());
            format!("{date}: {}, {share} up", title(&word(&worst)).to_lowercase())
        }
    }
}

fn sentence(name: &str, share: &str, days: &[Day], locale: Locale) -> String {
    if share.is_empty() {
        return format!("{name}: nothing is known yet");
    }
    let is_bad = |day: &&Day| day.worst.is_some_and(|worst| worst != ComponentStatus::Operational);
    let bad: Vec<&Day> = days.iter().filter(is_bad).collect();
    let mut text = format!("{name}: {share} up in the last {DAYS} days");
    if bad.is_empty() {
        text.push_str(", no trouble");
    }
    for day in bad.iter().rev().take(NAMED_MAX) {
        let _ = write!(text, "; {}", said(day, locale)); // writing to a text cannot fail
    }
    if let Some(more @ 1..) = bad.len().checked_sub(NAMED_MAX) {
        let _ = write!(text, "; and {more} more days with trouble");
    }
    text
}

/// Text inside an attribute or an element.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What XML has no place for, and what would end a line inside an attribute.
            other if other.is_control() && other != '\n' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => {}
            other => escaped.push(other),
        }
    }
    escaped
}
