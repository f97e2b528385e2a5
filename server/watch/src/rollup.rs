//! From events to counts: what a batch adds to each cell of time, dimension, kind and value.
//!
//! Counts only add up, so that batches of several nodes may be written in any order. Values are bounded: a sender that
//! invents a new error each time fills one cell, `(other)`.

use std::collections::{BTreeMap, HashMap};

use switchback_core::model::Millis;

use crate::event::{Event, EventKind};
use crate::histogram::bucket_of;

/// Widths of cells in seconds, the finest first.
pub const WIDTHS_S: [i64; 4] = [FINEST_S, 60, 600, 3600];
/// The width of the finest cells, in seconds.
pub const FINEST_S: i64 = 10;
/// Different values of one dimension that are told apart within a day; further ones count as [`OTHER`].
pub const VALUES_MAX: usize = 100;
/// Flags whose variants are told apart within a day.
pub const FLAGS_MAX: usize = 200;
/// The value that stands for all beyond [`VALUES_MAX`].
pub const OTHER: &str = "(other)";
const DAY_MS: Millis = 86_400_000;

/// What a count is split by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Not at all.
    All,
    /// By bucket of a [`crate::histogram::Histogram`].
    Latency,
    /// By error.
    Error,
    /// By platform.
    Platform,
    /// By the app's version.
    Version,
    /// By country.
    Country,
    /// By the variant of a flag.
    Flag(String),
}

impl Dimension {
    /// Its name in the database and in the API; a flag's is `flag:KEY`.
    pub fn name(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Latency => "latency".to_owned(),
            Self::Error => "error".to_owned(),
            Self::Platform => "platform".to_owned(),
            Self::Version => "version".to_owned(),
            Self::Country => "country".to_owned(),
            Self::Flag(key) => format!("flag:{key}"),
        }
    }

    /// The dimension of a name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Self::All,
            "latency" => Self::Latency,
            "error" => Self::Error,
            "platform" => Self::Platform,
            "version" => Self::Version,
            "country" => Self::Country,
            _ => Self::Flag(name.strip_prefix("flag:").filter(|key| !key.is_empty())?.to_owned()),
        })
    }
}

/// One count, in the order in which every node writes, so that two never wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// How much time it covers, in seconds.
    pub width_s: i64,
    /// What it is split by.
    pub dimension: String,
    /// When it begins, in UTC milliseconds.
    pub at: Millis,
    /// What happened.
    pub kind: EventKind,
    /// The value of the dimension; empty for `all`.
    pub value: String,
}

/// Which values were seen lately, for one environment.
#[derive(Debug, Default)]
pub struct Vocabulary {
    known: HashMap<Dimension, HashMap<Box<str>, Millis>>,
    others: u64,
}

impl Vocabulary {
    /// How often a value had to count as [`OTHER`].
    pub fn others(&self) -> u64 {
        self.others
    }

    /// Whether a value keeps its name.
    fn admits(&mut self, dimension: &Dimension, value: &str, now: Millis) -> bool {
        if !self.known.contains_key(dimension) {
            let flags = self.known.keys().filter(|one| matches!(one, Dimension::Flag(_))).count();
            if matches!(dimension, Dimension::Flag(_)) && flags >= FLAGS_MAX {
                self.others += 1;
                return false;
            }
            self.known.insert(dimension.clone(), HashMap::new());
        }
        let Some(values) = self.known.get_mut(dimension) else { return false };
        if let Some(seen) = values.get_mut(value) {
            *seen = now;
            return true;
        }
        if values.len() >= VALUES_MAX {
            values.retain(|_, seen| now - *seen < DAY_MS);
        }
        if values.len() >= VALUES_MAX {
            self.others += 1;
            return false;
        }
        values.insert(value.into(), now);
        true
    }
}

type Values = HashMap<Box<str>, u64>;
type Dimensions = HashMap<Dimension, Values>;

/// What a batch adds.
#[derive(Debug, Default)]
pub struct Rollup {
    finest: HashMap<(Millis, EventKind), Dimensions>,
}

impl Rollup {
    /// Counts one event, which arrived at `now`.
    pub fn add(&mut self, event: &Event, vocabulary: &mut Vocabulary, now: Millis) {
        let at = floor(event.at, FINEST_S);
        let cells = self.finest.entry((at, event.kind)).or_default();
        bump(cells, &Dimension::All, "");
        if let Some(ms) = event.latency_ms {
            bump(cells, &Dimension::Latency, &bucket_of(ms).to_string());
        }
        let mut count = |dimension: &Dimension, value: &str| {
            if vocabulary.admits(dimension, value, now) {
                bump(cells, dimension, value);
            } else if !matches!(dimension, Dimension::Flag(_)) {
                bump(cells, dimension, OTHER);
            }
        };
        let words = [
            (Dimension::Error, &event.error),
            (Dimension::Platform, &event.platform),
            (Dimension::Version, &event.app_version),
            (Dimension::Country, &event.country),
        ];
        for (dimension, value) in words {
            if let Some(value) = value {
                count(&dimension, value);
            }
        }
        for (flag, variant) in &event.variants {
            count(&Dimension::Flag(flag.clone()), variant);
        }
    }

    /// The counts of every width, in the order of [`Cell`].
    pub fn cells(&self) -> BTreeMap<Cell, u64> {
        let mut all = BTreeMap::new();
        for ((at, kind), dimensions) in &self.finest {
            for (dimension, values) in dimensions {
                for (value, n) in values {
                    for width_s in WIDTHS_S {
                        let cell = Cell {
                            width_s,
                            dimension: dimension.name(),
                            at: floor(*at, width_s),
                            kind: *kind,
                            value: value.to_string(),
                        };
                        *all.entry(cell).or_insert(0) += n;
                    }
                }
            }
        }
        all
    }
}

/// The start of the cell of a width in seconds that holds a moment.
pub fn floor(at: Millis, width_s: i64) -> Millis {
    at.div_euclid(width_s * 1000) * width_s * 1000
}

fn bump(cells: &mut Dimensions, dimension: &Dimension, value: &str) {
    if !cells.contains_key(dimension) {
        cells.insert(dimension.clone(), HashMap::new());
    }
    let Some(values) = cells.get_mut(dimension) else { return };
    match values.get_mut(value) {
        Some(n) => *n += 1,
        None => {
            values.insert(value.into(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::read;

    const NOW: Millis = 1_790_000_000_000;

    fn event(id: u64, error: &str) -> Event {
        let given = json!({"id": format!("e{id}"), "type": "login_failure", "at": NOW, "user_id": "u", "error": error,
            "latency_ms": 40, "variants": {"new_login": "on"}});
        read(0, &given, NOW).unwrap()
    }

    #[test]
    fn every_width_and_dimension_is_counted_once() {
        let (mut rollup, mut words) = (Rollup::default(), Vocabulary::default());
        for id in 0..3 {
            rollup.add(&event(id, "bad"), &mut words, NOW);
        }
        let cells = rollup.cells();
        assert_eq!(cells.len(), 4 * WIDTHS_S.len());
        assert!(cells.values().all(|n| *n == 3), "{cells:?}");
    }

    #[test]
    fn a_million_errors_do_not_fill_the_database() {
        let (mut rollup, mut words) = (Rollup::default(), Vocabulary::default());
        for id in 0..10_000 {
            rollup.add(&event(id, &format!("error {id}")), &mut words, NOW);
        }
        let errors: BTreeMap<_, _> = rollup
            .cells()
            .into_iter()
            .filter(|(cell, _)| cell.dimension == "error" && cell.width_s == 10)
            .collect();
        assert_eq!(errors.len(), VALUES_MAX + 1);
        assert_eq!(errors.values().sum::<u64>(), 10_000);
        assert_eq!(words.others(), 10_000 - VALUES_MAX as u64);
    }

    #[test]
    fn dimensions_have_names_that_lead_back() {
        for name in ["all", "latency", "error", "platform", "version", "country", "flag:a:b"] {
            assert_eq!(Dimension::of(name).unwrap().name(), name);
        }
        assert_eq!((Dimension::of("flag:"), Dimension::of("x")), (None, None));
    }
}
