//! Figures that apps report of themselves (Unleash's impact metrics), as one number for a rule.
//!
//! They are sums by minute, app and labels, and say nothing of who had which variant: two arms cannot be told apart by
//! them, so they are no metric of guards (`docs/statistics.md`, "Users, not requests").

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

const MINUTE_MS: Millis = 60_000;

/// Which figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// Its name.
    pub name: String,
    /// Labels that its series must have; `app` is the app's name.
    pub labels: BTreeMap<String, String>,
    /// The counter that it is a share of.
    pub per: Option<String>,
    /// How far back, in milliseconds.
    pub window_ms: Millis,
}

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Adds up.
    Counter,
    /// The last one counts.
    Gauge,
    /// Observations; their mean counts.
    Histogram,
}

/// A figure of one minute, app and set of labels.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is.
    pub kind: Kind,
    /// Its labels, with the app's name as `app`.
    pub labels: BTreeMap<String, String>,
    /// The minute's start, in UTC milliseconds.
    pub minute: Millis,
    /// The sum; a gauge's last value.
    pub sum: f64,
    /// Observations.
    pub count: f64,
}

impl Impact {
    /// From which minute on samples count, at a moment.
    pub fn since(&self, now: Millis) -> Millis {
        (now - self.window_ms).div_euclid(MINUTE_MS) * MINUTE_MS
    }

    /// Its value: a counter's increase per minute, or its share of the other; the worst of gauges; the mean of observations.
    /// None when nobody reported: that is not nought.
    pub fn value(&self, samples: &[Sample], per: &[Sample], is_below: bool) -> Option<f64> {
        let own: Vec<&Sample> = samples.iter().filter(|one| self.admits(one)).collect();
        let sum = |all: &[&Sample]| all.iter().map(|one| one.sum).sum::<f64>();
        if self.per.is_some() {
            let whole: Vec<&Sample> = per.iter().filter(|one| self.admits(one)).collect();
            // Whoever counts attempts and no error had none.
            return finite(sum(&own) / sum(&whole)).filter(|_| sum(&whole) > 0.0);
        }
        match own.first()?.kind {
            Kind::Counter => finite(sum(&own) * MINUTE_MS as f64 / self.window_ms as f64),
            Kind::Histogram => finite(sum(&own) / own.iter().map(|one| one.count).sum::<f64>()),
            Kind::Gauge => {
                let mut last: HashMap<&BTreeMap<String, String>, &Sample> = HashMap::new();
                for one in own {
                    let known = last.entry(&one.labels).or_insert(one);
                    if one.minute >= known.minute {
                        *known = one;
                    }
                }
                let worst = if is_below { f64::min } else { f64::max };
                last.into_values().map(|one| one.sum).reduce(worst).and_then(finite)
            }
        }
    }

    fn admits(&self, sample: &Sample) -> bool {
        self.labels.iter().all(|(name, value)| sample.labels.get(name) == Some(value))
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: Kind, app: &str, minute: Millis, sum: f64, count: f64) -> Sample {
        let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
        Sample { kind, labels, minute: minute * MINUTE_MS, sum, count }
    }

    fn impact(labels: &[(&str, &str)], per: Option<&str>) -> Impact {
        Impact {
            name: "errors".to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            per: per.map(str::to_owned),
            window_ms: 5 * MINUTE_MS,
        }
    }

    #[test]
    fn counters_are_per_minute_or_a_share() {
        let errors =
            [sample(Kind::Counter, "a", 1, 20.0, 20.0), sample(Kind::Counter, "b", 2, 30.0, 30.0)];
        let all = [sample(Kind::Counter, "a", 1, 100.0, 100.0)];
        assert_eq!(impact(&[], None).value(&errors, &[], false), Some(10.0));
        assert_eq!(impact(&[("app", "a")], None).value(&errors, &[], false), Some(4.0));
        assert_eq!(impact(&[("app", "a")], Some("all")).value(&errors, &all, false), Some(0.2));
        assert_eq!(
            impact(&[], Some("all")).value(&[], &all, false),
            Some(0.0),
            "no error among many"
        );
    }

    #[test]
    fn nobody_reporting_is_not_nought() {
        assert_eq!(impact(&[], None).value(&[], &[], false), None);
        assert_eq!(impact(&[], Some("all")).value(&[], &[], false), None);
        let nought = [sample(Kind::Counter, "a", 1, 0.0, 0.0)];
        assert_eq!(impact(&[], Some("all")).value(&nought, &nought, false), None);
        assert_eq!(impact(&[], None).value(&nought, &[], false), Some(0.0), "somebody said nought");
    }

    #[test]
    fn the_last_of_a_gauge_and_the_mean_of_observations_count() {
        let gauges = [
            sample(Kind::Gauge, "a", 1, 9.0, 1.0),
            sample(Kind::Gauge, "a", 3, 2.0, 1.0),
            sample(Kind::Gauge, "b", 2, 5.0, 1.0),
        ];
        assert_eq!(impact(&[], None).value(&gauges, &[], false), Some(5.0));
        assert_eq!(impact(&[], None).value(&gauges, &[], true), Some(2.0));
        let seen = [
            sample(Kind::Histogram, "a", 1, 100.0, 4.0),
            sample(Kind::Histogram, "b", 2, 100.0, 6.0),
        ];
        assert_eq!(impact(&[], None).value(&seen, &[], false), Some(20.0));
    }

    #[test]
    fn a_window_begins_with_a_whole_minute() {
        assert_eq!(impact(&[], None).since(10 * MINUTE_MS + 5), 5 * MINUTE_MS);
    }
}
