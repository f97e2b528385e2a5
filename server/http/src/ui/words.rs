//! How numbers, times and sentences are written. Times are relative, with the moment on hover;
//! thousands are parted by thin spaces; percentages carry no false precision.

use std::fmt;

use askama::filters::HtmlSafe;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A moment: what a page shows as "14 minutes ago". The script keeps it current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// The moment, in UTC milliseconds.
    pub at: i64,
    /// When the page was made.
    pub now: i64,
}

impl fmt::Display for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (iso, stamp) = (iso(self.at), plain_stamp(self.at));
        let words = relative(self.at, self.now);
        write!(out, "<time datetime=\"{iso}\" title=\"{stamp}\" data-ago>{words}</time>")
    }
}

impl HtmlSafe for When {}

/// What began at a moment and goes on: "for 44 seconds". The script keeps it current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting {
    /// When it began, in UTC milliseconds.
    pub at: i64,
    /// When the page was made.
    pub now: i64,
}

impl fmt::Display for Lasting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (iso, stamp) = (iso(self.at), plain_stamp(self.at));
        let words = lasting(self.now - self.at);
        write!(
            out,
            "<time datetime=\"{iso}\" title=\"{stamp}\" data-ago=\"for\">for {words}</time>"
        )
    }
}

impl HtmlSafe for Lasting {}

/// A sentence with parts that stand out; escapes what it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(String);

impl Words {
    /// Begins with plain text.
    pub fn say(text: &str) -> Self {
        Self::default().and(text)
    }

    /// Plain text.
    #[must_use]
    pub fn and(mut self, text: &str) -> Self {
        escape(text, &mut self.0);
        self
    }

    /// Text that stands out.
    #[must_use]
    pub fn strong(mut self, text: &str) -> Self {
        self.0.push_str("<strong>");
        escape(text, &mut self.0);
        self.0.push_str("</strong>");
        self
    }

    /// A key or another word of the machine.
    #[must_use]
    pub fn code(mut self, text: &str) -> Self {
        self.0.push_str("<code>");
        escape(text, &mut self.0);
        self.0.push_str("</code>");
        self
    }

    /// A link.
    #[must_use]
    pub fn link(mut self, to: &str, text: &str) -> Self {
        self.0.push_str("<a href=\"");
        escape(to, &mut self.0);
        self.0.push_str("\">");
        escape(text, &mut self.0);
        self.0.push_str("</a>");
        self
    }

    /// A moment.
    #[must_use]
    pub fn when(mut self, at: i64, now: i64) -> Self {
        self.0.push_str(&When { at, now }.to_string());
        self
    }

    /// How long something goes on already.
    #[must_use]
    pub fn lasting(mut self, at: i64, now: i64) -> Self {
        self.0.push_str(&Lasting { at, now }.to_string());
        self
    }

    /// Text in which backticks mark words of the machine.
    #[must_use]
    pub fn ticked(mut self, text: &str) -> Self {
        for (index, part) in text.split('`').enumerate() {
            self = if index % 2 == 1 { self.code(part) } else { self.and(part) };
        }
        self
    }

    /// The same without links, for places that are pressed themselves.
    #[must_use]
    pub fn unlinked(&self) -> Self {
        let mut text = self.0.replace("</a>", "</strong>");
        while let Some(start) = text.find("<a ") {
            let end = text
                .get(start..)
                .and_then(|rest| rest.find('>'))
                .map_or(text.len(), |at| start + at + 1);
            text.replace_range(start..end, "<strong>");
        }
        Self(text)
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Another sentence behind this one.
    #[must_use]
    pub fn join(mut self, other: &Self) -> Self {
        self.0.push_str(&other.0);
        self
    }
}

impl fmt::Display for Words {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl HtmlSafe for Words {}

fn escape(text: &str, into: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            other => into.push(other),
        }
    }
}

/// `10 000`, parted by narrow spaces that do not break.
pub fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1 client`, `2 clients`.
pub fn count(count: u64, one: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {one}{s}", number(count))
}

/// `25 %`, `0.1 %`; never more digits than were set.
pub fn percent(share: f64) -> String {
    format!("{share}\u{202f}%")
}

/// A share of a whole, rounded so that only all is 100 and only nothing is 0.
pub fn share_percent(part: u64, whole: u64) -> String {
    if whole == 0 || part >= whole {
        return percent(100.0);
    }
    let exact = part as f64 * 100.0 / whole as f64;
    let rounded = if exact > 99.0 { (exact * 100.0).floor() / 100.0 } else { exact.round() };
    percent(if part > 0 { rounded.max(1.0) } else { 0.0 })
}

/// `48 ms`, `0.4 s`, `1 min 12 s`, `3 h 5 min`.
pub fn duration(ms: i64) -> String {
    let seconds = ms / 1000;
    match ms {
        ..100 => format!("{ms} ms"),
        100..10_000 => format!("{:.1} s", ms as f64 / 1000.0),
        10_000..60_000 => format!("{seconds} s"),
        60_000..3_600_000 => match seconds % 60 {
            0 => format!("{} min", seconds / 60),
            rest => format!("{} min {rest} s", seconds / 60),
        },
        3_600_000..172_800_000 => match seconds / 60 % 60 {
            0 => format!("{} h", seconds / 3600),
            rest => format!("{} h {rest} min", seconds / 3600),
        },
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `14 minutes ago`, `in 3 h 59 min`. The script writes the same words.
pub fn relative(at: i64, now: i64) -> String {
    match now - at {
        ..0 => format!("in {}", ahead(at - now)),
        0..10_000 => "just now".to_owned(),
        over => format!("{} ago", lasting(over)),
    }
}

/// `14 minutes`: what is over is counted in whole units.
fn lasting(ms: i64) -> String {
    let seconds = ms.max(0).unsigned_abs() / 1000;
    match seconds {
        0..60 => count(seconds, "second"),
        60..3_600 => count(seconds / 60, "minute"),
        3_600..86_400 => count(seconds / 3_600, "hour"),
        _ => count(seconds / 86_400, "day"),
    }
}

/// `3 h 59 min`: what is ahead is rounded to the nearest minute, or hour, so that it never sounds an
/// hour too near.
fn ahead(ms: i64) -> String {
    let seconds = ms.max(0).unsigned_abs().div_ceil(1000);
    let minutes = (seconds + 30) / 60;
    let hours = (minutes + 30) / 60;
    let (whole, unit, rest, rest_unit) = match (seconds, minutes) {
        (0..60, _) => return count(seconds, "second"),
        (_, 0..60) => return count(minutes, "minute"),
        (_, 60..1_440) => (minutes / 60, " h", minutes % 60, "min"),
        (_, _) => (hours / 24, if hours < 48 { " day" } else { " days" }, hours % 24, "h"),
    };
    let whole = format!("{}{unit}", number(whole));
    if rest == 0 { whole } else { format!("{whole} {rest} {rest_unit}") }
}

/// `2026-02-03T04:05:06Z`.
pub fn iso(at: i64) -> String {
    format_at(at, "%Y-%m-%dT%H:%M:%SZ")
}

/// `2026-02-03 04:05:06 UTC`.
pub fn plain_stamp(at: i64) -> String {
    format_at(at, "%Y-%m-%d %H:%M:%S UTC")
}

/// A moment in a format of `strftime`, in UTC.
pub fn format_at(at: i64, format: &str) -> String {
    Timestamp::from_millisecond(at)
        .map(|at| at.to_zoned(TimeZone::UTC).strftime(format).to_string())
        .unwrap_or_default()
}

/// What a `datetime-local` field or a timestamp says, in UTC milliseconds.
pub fn read_moment(text: &str) -> Option<i64> {
    let zoned = if text.ends_with('Z') { text.to_owned() } else { format!("{text}Z") };
    let spaced = zoned.replacen(' ', "T", 1);
    spaced.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(parts: &[String], last: &str) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., end] => format!("{} {last} {end}", rest.join(", ")),
    }
}

/// `major_outage` as people say it: `Major outage`.
pub fn title(word: &str) -> String {
    let spaced = word.replace('_', " ");
    let mut letters = spaced.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}", letters.as_str())
}

/// With a capital, where a sentence begins: our own words do, names of people stay as they write them.
pub fn capital(words: &str) -> String {
    match words.split_once(' ') {
        Some((first @ ("a" | "an" | "the"), rest)) => format!("{} {rest}", title(first)),
        _ => words.to_owned(),
    }
}

/// Who acted, as a sentence names them: tokens and runs are no people.
pub fn actor(name: &str) -> String {
    match name.split_once(':') {
        Some(("token", name)) => format!("“{name}” (token)"),
        Some(("schedule", _)) => "the schedule".to_owned(),
        Some(("alert", name)) => format!("an alert by “{name}”"),
        Some(("webhook", name)) => format!("“{name}” (webhook)"),
        Some(("probe", name)) => format!("the probe “{name}”"),
        Some(("run", _)) => "a run".to_owned(),
        Some(("guard", _)) => "a guard".to_owned(),
        Some(("rollout", _)) => "a rollout".to_owned(),
        _ => name.to_owned(),
    }
}

/// Why a flag is what it is, from the core's word for it.
pub fn because(reason: &str) -> String {
    let inside = |kind: &str| reason.strip_prefix(kind)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(id) = inside("rule") {
        return format!("rule {id} lets it in");
    }
    if let Some(key) = inside("prerequisite") {
        return format!("its prerequisite {key} is not met");
    }
    let words = match reason {
        "disabled" => "it is off",
        "killed" => "it is killed",
        "default" => "it is on and has no rules",
        "no_rule" => "no rule lets it in",
        "expired" => "its time is over",
        "stale" => "the server was not heard of for too long",
        "error" => "it cannot be understood",
        other => other,
    };
    words.to_owned()
}

/// The word that an enum has in JSON.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_a_hundred_percent() {
        assert_eq!(share_percent(9_998, 10_000), "99.98\u{202f}%");
        assert_eq!(share_percent(99_999, 100_000), "99.99\u{202f}%");
        assert_eq!(share_percent(0, 10), "0\u{202f}%");
        assert_eq!(share_percent(0, 0), "100\u{202f}%");
    }

    #[test]
    fn numbers_and_durations_read_well() {
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(duration(48), "48 ms");
        assert_eq!(duration(72_000), "1 min 12 s");
        assert_eq!(read_moment("2026-02-03T04:05"), read_moment("2026-02-03 04:05:00Z"));
    }

    #[test]
    fn moments_are_said_exactly() {
        let (second, minute, hour) = (1_000, 60_000, 3_600_000);
        for (ms, words) in [
            (1, "in 1 second"),
            (8 * second, "in 8 seconds"),
            (119 * second, "in 2 minutes"),
            (59 * minute + 40 * second, "in 1 h"),
            (119 * minute, "in 1 h 59 min"),
            (239 * minute, "in 3 h 59 min"),
            (24 * hour - minute, "in 23 h 59 min"),
            (36 * hour, "in 1 day 12 h"),
            (48 * hour, "in 2 days"),
            (0, "just now"),
            (-9 * second, "just now"),
            (-44 * second, "44 seconds ago"),
            (-14 * minute, "14 minutes ago"),
            (-119 * minute, "1 hour ago"),
        ] {
            assert_eq!(relative(hour + ms, hour), words, "{ms} ms ahead");
        }

        let lasting = Words::say("open ").lasting(0, 44 * second).to_string();
        assert!(lasting.contains("data-ago=\"for\">for 44 seconds<"), "{lasting}");
    }

    #[test]
    fn a_sentence_escapes_what_it_is_given() {
        let words = Words::say("by ").strong("<b>").link("/x?a=\"", "go");

        assert_eq!(
            words.to_string(),
            "by <strong>&lt;b&gt;</strong><a href=\"/x?a=&quot;\">go</a>"
        );
        assert_eq!(
            words.unlinked().to_string(),
            "by <strong>&lt;b&gt;</strong><strong>go</strong>"
        );
        assert_eq!(Words::default().ticked("set `a` on").to_string(), "set <code>a</code> on");
    }
}
