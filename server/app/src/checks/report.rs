//! A pack's report, for people and for programs: JSON, text, and a page that stands alone.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use switchback_checks::health::words;
use switchback_core::model::Millis;
use switchback_store::{FindingFilter, FindingRow, Role};

use super::health::PackView;
use crate::App;
use crate::error::AppError;
use crate::who::{EVERYWHERE, Who};

/// Findings that a report names, by check.
const NAMED: usize = 20;

/// How a pack stands, with the first findings of each check, masked.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct CheckReport {
    /// When it was written, in UTC milliseconds.
    pub at: Millis,
    /// The pack.
    pub pack: PackView,
    /// Findings by check, those seen last first.
    pub findings: Vec<(String, Vec<FindingRow>)>,
}

impl App {
    /// A pack's report of what the last look saw.
    pub async fn check_report(&self, who: &Who, name: &str) -> Result<CheckReport, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at checks")?;
        let health = self.check_health(who).await?;
        let found = health.packs.into_iter().find(|pack| pack.name == name);
        let Some(pack) = found else {
            self.get_check_pack(who, name).await?;
            return Err(AppError::NotFound { kind: "pack of checks", key: name.to_owned() });
        };
        let mut findings = Vec::new();
        for check in &pack.checks {
            let mut rows = Vec::new();
            for state in ["stuck", "open"] {
                let filter = FindingFilter {
                    pack: Some(name.to_owned()),
                    check: Some(check.name.clone()),
                    state: Some(state.to_owned()),
                    ..FindingFilter::default()
                };
                rows.extend(self.list_findings(who, filter).await?.findings);
            }
            rows.truncate(NAMED);
            findings.push((check.name.clone(), rows));
        }
        Ok(CheckReport { at: self.clock.now(), pack, findings })
    }
}

impl CheckReport {
    /// The first findings of a check.
    pub fn findings_of(&self, check: &str) -> &[FindingRow] {
        let found = self.findings.iter().find(|(name, _)| name == check);
        found.map(|(_, rows)| rows.as_slice()).unwrap_or_default()
    }

    /// The pack's health in words.
    pub fn health(&self) -> String {
        self.pack.health.map_or_else(|| "not known".to_owned(), words)
    }

    /// The report as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let health = self.health();
        let _ = writeln!(text, "{} ({})", self.pack.title, self.pack.name);
        let _ = writeln!(text, "{} · health {health} · {} found", moment(self.at), self.pack.found);
        for check in &self.pack.checks {
            let grade = check.grade.map_or("----", |grade| grade.word());
            let found = check
                .state
                .figures
                .map_or_else(|| "not looked at".to_owned(), |figures| figures.found.to_string());
            let _ = writeln!(
                text,
                "\n{:<4}  {} ({}): {found}",
                grade.to_uppercase(),
                check.title,
                check.name
            );
            if let Some(error) = &check.state.error {
                let _ = writeln!(text, "      {error}");
            }
            for row in self.findings_of(&check.name) {
                let since = moment(row.first_seen);
                let _ = writeln!(
                    text,
                    "      {}  {}  {}  since {since}",
                    row.key, row.label, row.state
                );
            }
        }
        text
    }
}

/// A moment in UTC, to the second.
pub fn moment(at: Millis) -> String {
    Timestamp::from_millisecond(at)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A day in UTC, such as `2026-11-21`.
pub(super) fn day_of(at: Millis) -> String {
    Timestamp::from_millisecond(at)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%d").to_string())
}
