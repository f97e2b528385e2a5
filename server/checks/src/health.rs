//! Health in percent: of a check, of a pack, of everything. It never says 100 % while somebody is broken.

use serde::{Deserialize, Serialize};

use crate::pack::{Check, Severity};

/// What the last look of a check found.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Figures {
    /// How many are broken; ignored ones left out.
    pub found: u64,
    /// How many could be; `None` when the check does not say.
    pub population: Option<u64>,
}

/// How a check stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Nothing that matters.
    Pass,
    /// More than `warn_above`.
    Warn,
    /// More than `error_above`.
    Fail,
}

impl Grade {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// How a check stands with so many findings. Information passes whatever it finds; a warning never fails.
pub fn grade(check: &Check, found: u64) -> Grade {
    match check.severity {
        Severity::Info => Grade::Pass,
        Severity::Error if found > check.error_above => Grade::Fail,
        _ if found > check.warn_above => Grade::Warn,
        _ => Grade::Pass,
    }
}

/// The share that is whole, 0 to 1; `None` when a check has no population: then it is whole or it is not.
pub fn of_check(figures: Figures) -> f64 {
    match figures.population {
        _ if figures.found == 0 => 1.0,
        Some(all) if all > 0 => (1.0 - figures.found as f64 / all as f64).max(0.0),
        _ => 0.0,
    }
}

/// The health of a pack, 0 to 1: of the subjects that its checks look at, the share that none finds broken (one that two checks
/// find counts twice); checks without a
/// population count as one subject each. `None` while nothing was looked at.
pub fn of_pack<'c>(checks: impl IntoIterator<Item = (&'c Check, Option<Figures>)>) -> Option<f64> {
    let (mut broken, mut population) = (0u64, 0u64);
    let (mut whole, mut single) = (0u64, 0u64);
    let mut is_known = false;
    for (check, figures) in checks {
        let Some(figures) = figures else { continue };
        is_known = true;
        if check.severity == Severity::Info {
            continue;
        }
        if let Some(all) = figures.population {
            broken = broken.saturating_add(figures.found);
            population = population.max(all).max(figures.found);
        } else {
            single += 1;
            whole += u64::from(figures.found == 0);
        }
    }
    let of_subjects = (population > 0).then(|| (1.0 - broken as f64 / population as f64).max(0.0));
    let of_single = (single > 0).then(|| whole as f64 / single as f64);
    match (of_subjects, of_single) {
        (Some(subjects), Some(single)) => Some(subjects.min(single)),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => is_known.then_some(1.0),
    }
}

/// A health as people read it, such as `99.97 %`. It is rounded down, so that 100 % is said of nothing that is less.
pub fn words(health: f64) -> String {
    let hundredths = (health.clamp(0.0, 1.0) * 10_000.0).floor() as u32;
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => format!("{whole} %"),
        (whole, rest) if rest % 10 == 0 => format!("{whole}.{} %", rest / 10),
        (whole, rest) => format!("{whole}.{rest:02} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::LabelKind;

    fn check(severity: Severity) -> Check {
        Check {
            name: "one".to_owned(),
            title: String::new(),
            about: String::new(),
            class: "orphan".to_owned(),
            severity,
            label: LabelKind::None,
            detect: String::new(),
            population: None,
            warn_above: 0,
            error_above: 10,
            indexes: vec![],
            fix: None,
        }
    }

    #[test]
    fn a_pack_is_as_healthy_as_its_subjects() {
        let (error, info) = (check(Severity::Error), check(Severity::Info));
        let of = |found, population| Some(Figures { found, population });

        assert_eq!(of_pack([(&error, None)]), None);
        assert_eq!(of_pack([(&error, of(0, Some(0)))]), Some(1.0));
        assert_eq!(of_pack([(&error, of(1, Some(100))), (&error, of(1, Some(50)))]), Some(0.98));
        assert_eq!(of_pack([(&error, of(1, None)), (&error, of(0, None))]), Some(0.5));
        assert_eq!(of_pack([(&info, of(90, Some(100)))]), Some(1.0));
        assert_eq!(of_pack([(&error, of(5, Some(2)))]), Some(0.0), "a table that shrank meanwhile");
    }

    #[test]
    fn grades_follow_the_limits() {
        let error = check(Severity::Error);
        assert_eq!(grade(&error, 0), Grade::Pass);
        assert_eq!(grade(&error, 10), Grade::Warn);
        assert_eq!(grade(&error, 11), Grade::Fail);
        assert_eq!(grade(&check(Severity::Warning), 11), Grade::Warn);
        assert_eq!(grade(&check(Severity::Info), 11), Grade::Pass);
    }

    #[test]
    fn nothing_broken_is_called_whole() {
        assert_eq!(words(1.0), "100 %");
        assert_eq!(words(0.999_999_9), "99.99 %");
        assert_eq!(words(0.995), "99.5 %");
        assert_eq!(words(0.0), "0 %");
        let almost = of_check(Figures { found: 1, population: Some(1_000_000) });
        assert!((almost - 0.999_999).abs() < 1e-12);
    }
}
