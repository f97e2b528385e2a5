//! What a guard is shown: a service that is made up from a seed, or ticks that were recorded.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use super::Sample;
use crate::draw::{Binomial, Draw};
use crate::grid::Tick;
use crate::guard::{Arrivals, Guard, Reading};

/// A time in which both arms fail more, or nothing is reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// Its start, in milliseconds.
    pub from_ms: Millis,
    /// Its end, in milliseconds.
    pub to_ms: Millis,
    /// The share of users that fail meanwhile; nothing where there is no data.
    pub failures: Option<f64>,
}

/// A service that is made up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Synthetic {
    /// How long, in milliseconds.
    pub for_ms: Millis,
    /// Users in a tick, of both arms.
    pub users: u64,
    /// The share of them that is treated, from 0 to 1.
    pub share: f64,
    /// The share of them that fails, from 0 to 1.
    pub failures: f64,
    /// From when on the treated fail more, in milliseconds, and how many times as often.
    pub harm: Option<(Millis, f64)>,
    /// What breaks both arms.
    pub outage: Option<Outage>,
    /// When nothing is reported.
    pub silence: Option<Outage>,
    /// New users in a tick, and the share of them that really is treated.
    pub new_users: Option<(u64, f64)>,
    /// Where the randomness begins.
    pub seed: u64,
    /// How many runs, each with randomness of its own.
    pub runs: u64,
}

/// Ticks that were recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// One after the other; nothing where none was reported.
    pub ticks: Vec<Option<Tick>>,
    /// From when on a person says that there was harm, in milliseconds.
    pub harm_from: Option<Millis>,
}

/// What a guard is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// Made up.
    Synthetic(Synthetic),
    /// Recorded.
    Recorded(Recorded),
}

impl Series {
    /// From when on there is harm, in milliseconds.
    pub fn harm_from(&self) -> Option<Millis> {
        match self {
            Self::Synthetic(series) => series.harm.map(|(from, _)| from),
            Self::Recorded(series) => series.harm_from,
        }
    }

    /// How many runs there are.
    pub fn runs(&self) -> u64 {
        match self {
            Self::Synthetic(series) => series.runs.max(1),
            Self::Recorded(_) => 1,
        }
    }

    /// From when on time is counted: the harm, else the outage, else the silence, else the start.
    pub(super) fn counted_from(&self) -> Millis {
        let broken = match self {
            Self::Synthetic(series) => {
                series.outage.or(series.silence).map(|outage| outage.from_ms)
            }
            Self::Recorded(_) => None,
        };
        self.harm_from().or(broken).unwrap_or(0)
    }

    /// How many ticks a run has.
    pub fn ticks(&self, tick_ms: Millis) -> u64 {
        match self {
            Self::Synthetic(series) => (series.for_ms / tick_ms.max(1)).max(0).unsigned_abs(),
            Self::Recorded(series) => series.ticks.len() as u64,
        }
    }

    /// The samples of one run. A tick is reported at its end.
    pub(super) fn samples<'s>(
        &'s self,
        settings: &'s Guard,
        run: u64,
    ) -> Box<dyn Iterator<Item = Sample> + 's> {
        let ticks = self.ticks(settings.tick_ms);
        let start = move |index: u64| (index as Millis).saturating_mul(settings.tick_ms);
        let metrics = settings.metrics.len();
        match self {
            Self::Synthetic(series) => {
                let mut draw = Draw::new(series.seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                Box::new((0..ticks).map(move |index| {
                    let (reading, arrivals) = series.tick(start(index), &mut draw);
                    Sample { at: start(index + 1), readings: vec![reading; metrics], arrivals }
                }))
            }
            Self::Recorded(series) => {
                Box::new(series.ticks.iter().zip(1..).map(move |(tick, end)| Sample {
                    at: start(end),
                    readings: vec![Reading { tick: *tick, usual: None }; metrics],
                    arrivals: None,
                }))
            }
        }
    }
}

impl Synthetic {
    fn tick(&self, at: Millis, draw: &mut Draw) -> (Reading, Option<Arrivals>) {
        let during = |outage: &Option<Outage>| {
            outage.filter(|outage| (outage.from_ms..outage.to_ms).contains(&at))
        };
        let base = during(&self.outage).and_then(|outage| outage.failures).unwrap_or(self.failures);
        let harm = self.harm.filter(|(from, _)| at >= *from).map_or(1.0, |(_, times)| times);
        let treated = draw.binomial(&Binomial::new(self.users, self.share));
        let control = self.users.saturating_sub(treated);
        let tick = Tick {
            treated,
            treated_bad: draw.binomial(&Binomial::new(treated, base * harm)),
            control,
            control_bad: draw.binomial(&Binomial::new(control, base)),
        };
        let silent = during(&self.silence).is_some();
        let reading = Reading { tick: (!silent).then_some(tick), usual: Some(self.failures) };
        let arrivals = self.new_users.map(|(each, share)| {
            let treated = draw.binomial(&Binomial::new(each, share));
            Arrivals { treated, control: each.saturating_sub(treated), share: self.share }
        });
        (reading, arrivals)
    }
}
