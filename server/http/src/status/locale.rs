//! How a reader writes dates, from what the browser says; always in UTC, and always saying so.

use crate::ui::words::format_at;

/// A way to write dates. Few, so that a page is kept in few versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Locale {
    /// `2026-11-21 14:02 UTC`, which everybody reads.
    #[default]
    Iso,
    /// `21 Nov 2026, 14:02 UTC`.
    British,
    /// `Nov 21, 2026, 2:02 PM UTC`.
    American,
    /// `21.11.2026, 14:02 UTC`.
    Dotted,
    /// `21/11/2026, 14:02 UTC`.
    Slashed,
    /// `21-11-2026, 14:02 UTC`.
    Dashed,
    /// `2026/11/21 14:02 UTC`.
    YearFirst,
}

/// Languages that are looked at in a header, at most.
const LANGUAGES_MAX: usize = 10;

impl Locale {
    /// The way of the first known language in an `Accept-Language` header, the most wanted first.
    pub fn wanted(header: Option<&str>) -> Self {
        let mut found: Vec<(f32, Self)> = header
            .unwrap_or_default()
            .split(',')
            .take(LANGUAGES_MAX)
            .filter_map(|part| {
                let (tag, rest) = part.split_once(';').unwrap_or((part, ""));
                let weight = rest.trim().strip_prefix("q=").and_then(|text| text.parse().ok());
                Some((weight.unwrap_or(1.0), Self::of(tag.trim())?))
            })
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0)); // stable: the first of equals wins
        found.first().map_or(Self::Iso, |(_, locale)| *locale)
    }

    fn of(tag: &str) -> Option<Self> {
        let tag = tag.to_ascii_lowercase();
        Some(match tag.as_str() {
            "en-us" | "en-ph" => return Some(Self::American),
            "en-ca" | "en-za" | "fr-ca" => return Some(Self::Iso),
            _ => match tag.split('-').next()? {
                "en" => Self::British,
                "de" | "pl" | "cs" | "sk" | "ru" | "uk" | "fi" | "da" | "nb" | "no" | "nn"
                | "tr" | "ro" | "bg" | "hr" | "sl" | "et" | "lv" => Self::Dotted,
                "fr" | "es" | "it" | "pt" | "el" | "ca" | "vi" | "id" => Self::Slashed,
                "nl" => Self::Dashed,
                "ja" => Self::YearFirst,
                "sv" | "lt" | "zh" | "ko" | "hu" => Self::Iso,
                _ => return None,
            },
        })
    }

    /// A day.
    pub fn day(self, at: i64) -> String {
        format_at(at, self.format())
    }

    /// A moment, to the minute.
    pub fn stamp(self, at: i64) -> String {
        let time = if self == Self::American { "%-I:%M %p UTC" } else { "%H:%M UTC" };
        let between = match self {
            Self::Iso | Self::YearFirst => " ",
            _ => ", ",
        };
        format!("{}{between}{}", self.day(at), format_at(at, time))
    }

    fn format(self) -> &'static str {
        match self {
            Self::Iso => "%Y-%m-%d",
            Self::British => "%-d %b %Y",
            Self::American => "%b %-d, %Y",
            Self::Dotted => "%-d.%-m.%Y",
            Self::Slashed => "%d/%m/%Y",
            Self::Dashed => "%d-%m-%Y",
            Self::YearFirst => "%Y/%m/%d",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_wanted_most_decides() {
        for (header, shown) in [
            (None, "2026-02-03 14:05 UTC"),
            (Some("en-US,en;q=0.9"), "Feb 3, 2026, 2:05 PM UTC"),
            (Some("en-GB"), "3 Feb 2026, 14:05 UTC"),
            (Some("tlh, fr;q=0.3, de;q=0.8"), "3.2.2026, 14:05 UTC"),
            (Some("es-MX"), "03/02/2026, 14:05 UTC"),
            (Some(";;q=x,,\u{feff}"), "2026-02-03 14:05 UTC"),
        ] {
            let locale = Locale::wanted(header);
            assert_eq!(locale.stamp(1_770_127_500_000), shown, "{header:?}");
        }
    }
}
