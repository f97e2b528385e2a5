//! Months of the history: `2026-10`, which comes before, and which has something to tell.

use switchback_app::status_page::Board;
use switchback_core::model::Millis;
use switchback_store::PublicIncident;

use crate::ui::words::format_at;

/// A month, counted from January of the year 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i32);

impl Month {
    /// One that no history has.
    pub fn none() -> Self {
        Self(-1)
    }

    /// The month of a moment, in UTC.
    pub fn of(at: Millis) -> Self {
        Self::read(&format_at(at, "%Y-%m")).unwrap_or(Self(1970 * 12))
    }

    /// Reads `2026-10`.
    pub fn read(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if year.len() != 4 || month.len() != 2 || !is_number(year) || !is_number(month) {
            return None;
        }
        let (year, month): (i32, i32) = (year.parse().ok()?, month.parse().ok()?);
        (1..=12).contains(&month).then(|| Self(year * 12 + month - 1))
    }

    /// `2026-10`.
    pub fn key(self) -> String {
        format!("{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }

    /// `October 2026`.
    pub fn name(self) -> String {
        const NAMES: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        let name = NAMES.get(self.0.rem_euclid(12) as usize).copied().unwrap_or_default();
        format!("{name} {}", self.0.div_euclid(12))
    }

    /// The month before.
    pub fn before(self) -> Self {
        Self(self.0 - 1)
    }

    /// The month after.
    pub fn after(self) -> Self {
        Self(self.0 + 1)
    }
}

/// When an incident began, as people lived it.
pub fn began(incident: &PublicIncident) -> Millis {
    incident.scheduled_for.or(incident.started_at).unwrap_or(incident.created_at)
}

/// The first and the last month that the history has.
pub fn range(board: &Board) -> (Month, Month) {
    let last = Month::of(board.read_at);
    let months = board.incidents.iter().map(|incident| Month::of(began(incident)));
    (months.min().map_or(last, |first| first.min(last)), last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_read_and_told() {
        let month = Month::read("2026-01").unwrap();

        assert_eq!((month.key().as_str(), month.name().as_str()), ("2026-01", "January 2026"));
        assert_eq!(
            (month.before().key(), month.after().key()),
            ("2025-12".into(), "2026-02".into())
        );
        for bad in ["", "2026", "2026-13", "2026-00", "-026-01", "+026-01", "2026-1", "9999999-01"]
        {
            assert!(Month::read(bad).is_none(), "{bad}");
        }
    }
}
