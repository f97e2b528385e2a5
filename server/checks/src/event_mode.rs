//! How a pack is monitored: off, only looked at, or fixed as well; how often; and the event mode, by schedule or by hand.

use serde::{Deserialize, Serialize};

use crate::pack::Pace;

/// Events that a pack may have ahead of it.
pub const EVENTS_MAX: usize = 50;
/// The longest event with its lead, in milliseconds: a week.
const EVENT_MS_MAX: i64 = 7 * 86_400_000;

/// What monitoring does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing: sweeps are made by hand.
    #[default]
    Off,
    /// Looks, and changes nothing.
    Observe,
    /// Looks, and fixes within the limits.
    Fix,
}

impl Mode {
    /// Every mode, with its word.
    pub const WORDS: [(&'static str, Self); 3] =
        [("off", Self::Off), ("observe", Self::Observe), ("fix", Self::Fix)];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }
}

/// An event for which the pack is swept more often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// When the doors open, in UTC milliseconds.
    pub starts_at: i64,
    /// When it is over.
    pub ends_at: i64,
    /// How long before the doors open event mode begins, in milliseconds.
    #[serde(default = "lead_ms")]
    pub lead_ms: i64,
}

fn lead_ms() -> i64 {
    30 * 60_000
}

/// How a pack is monitored here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The data source; empty: the pack is not in use.
    pub source: String,
    /// A replica of it, which is asked in its place as far as nothing is changed.
    pub replica: Option<String>,
    /// What monitoring does.
    pub mode: Mode,
    /// Since when it does, in UTC milliseconds.
    pub mode_since: i64,
    /// Why it pauses, if it does.
    pub paused: Option<String>,
    /// Event mode by hand, until this moment in UTC milliseconds.
    pub event_until: Option<i64>,
    /// Events ahead.
    pub events: Vec<Event>,
    /// Whether labels are kept in full, so that somebody who may can reveal them; otherwise only what is shown is kept.
    pub keeps_labels: bool,
}

impl Settings {
    /// Whether event mode is on, and until when.
    pub fn event_mode(&self, now: i64) -> Option<i64> {
        let by_hand = self.event_until.filter(|until| now < *until);
        let scheduled = self.events.iter().filter_map(|event| {
            (event.starts_at.saturating_sub(event.lead_ms) <= now && now < event.ends_at)
                .then_some(event.ends_at)
        });
        scheduled.chain(by_hand).max()
    }

    /// How long from one sweep to the next, in milliseconds; `None` when it is not monitored.
    pub fn every_ms(&self, pace: &Pace, now: i64) -> Option<u64> {
        let is_on = self.mode != Mode::Off && self.paused.is_none() && !self.source.is_empty();
        let is_event = self.event_mode(now).is_some();
        is_on.then_some(if is_event { pace.event_ms.min(pace.every_ms) } else { pace.every_ms })
    }

    /// Until when it only looks, though it is set to fix, in UTC milliseconds.
    pub fn observes_until(&self, pace: &Pace, now: i64) -> Option<i64> {
        let until = self.mode_since.saturating_add(pace.observe_ms.cast_signed());
        (self.mode == Mode::Fix && now < until).then_some(until)
    }

    /// What is wrong with the events: field and message.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if self.events.len() > EVENTS_MAX {
            faults.push(("events".to_owned(), format!("over {EVENTS_MAX} events")));
        }
        for (index, event) in self.events.iter().enumerate() {
            let mut fault = |message: &str| {
                faults.push((format!("events[{index}]"), message.to_owned()));
            };
            if event.ends_at <= event.starts_at {
                fault("it ends before it starts");
            } else if event.lead_ms < 0 {
                fault("`lead_ms` is below 0");
            } else if event.ends_at.saturating_sub(event.starts_at).saturating_add(event.lead_ms)
                > EVENT_MS_MAX
            {
                fault("it is longer than a week");
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_mode_begins_before_the_doors_open() {
        let pace = Pace::default();
        let event = Event {
            name: String::new(),
            starts_at: 3_600_000,
            ends_at: 7_200_000,
            lead_ms: 1_800_000,
        };
        let mut settings = Settings {
            source: "app".to_owned(),
            mode: Mode::Observe,
            events: vec![event],
            ..Settings::default()
        };

        assert_eq!(settings.every_ms(&pace, 1_799_999), Some(30_000));
        assert_eq!(settings.every_ms(&pace, 1_800_000), Some(1_000));
        assert_eq!(settings.event_mode(1_800_000), Some(7_200_000));
        assert_eq!(settings.every_ms(&pace, 7_200_000), Some(30_000));
        settings.event_until = Some(8_000_000);
        assert_eq!(settings.every_ms(&pace, 7_200_000), Some(1_000));
        settings.paused = Some("lunch".to_owned());
        assert_eq!(settings.every_ms(&pace, 7_200_000), None);
    }

    #[test]
    fn it_only_looks_at_first() {
        let pace = Pace::default();
        let settings = Settings { mode: Mode::Fix, mode_since: 1_000, ..Settings::default() };
        assert_eq!(settings.observes_until(&pace, 2_000), Some(3_601_000));
        assert_eq!(settings.observes_until(&pace, 3_601_000), None);
    }

    #[test]
    fn an_event_that_cannot_be_is_refused() {
        let event = |starts_at, ends_at, lead_ms| Event {
            name: String::new(),
            starts_at,
            ends_at,
            lead_ms,
        };
        let settings = Settings {
            events: vec![event(5, 5, 0), event(0, 1, -1), event(0, i64::MAX, 0), event(0, 1, 0)],
            ..Settings::default()
        };
        let faults = settings.faults();
        assert_eq!(
            faults.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(),
            ["events[0]", "events[1]", "events[2]"]
        );
    }
}
