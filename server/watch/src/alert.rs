//! How an alert stands: calm, held long enough to fire, firing, calm long enough to be over; and who is told next.
//!
//! Time counts only between two readings that say the same, at most a minute at once: what was not looked at, and what
//! nobody knows, neither fires nor ends an alert.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::rule::Rule;

/// Between two readings no more than this counts, in milliseconds.
pub const GAP_MS_MAX: Millis = 60_000;

/// What a condition says now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// A value. One that is no number counts as no data.
    Value(f64),
    /// Too few events to say anything: the condition does not hold.
    Few,
    /// Nobody reports.
    NoData,
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Calm.
    #[default]
    Ok,
    /// The condition holds, not yet for long enough.
    Pending,
    /// Somebody should look.
    Firing,
}

impl Phase {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// What is remembered of a rule in an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// Since when, in UTC milliseconds.
    pub since: Millis,
    /// How long the condition has held (pending) or been calm (firing), in milliseconds.
    #[serde(default)]
    held_ms: Millis,
    /// When it was known last.
    #[serde(default)]
    known_at: Option<Millis>,
    /// Whether the last known reading was calm.
    #[serde(default)]
    was_calm: bool,
    /// Since when nobody reports.
    #[serde(default)]
    pub no_data_since: Option<Millis>,
    /// The last known value.
    #[serde(default)]
    pub value: Option<f64>,
}

/// What is worth a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It fires.
    Fired,
    /// It is over.
    Resolved,
}

impl State {
    /// What becomes of it by a reading. A reading from the past changes nothing.
    #[must_use]
    pub fn step(self, reading: Reading, rule: &Rule, now: Millis) -> (Self, Option<Change>) {
        let last = self.known_at.unwrap_or(now);
        if now < last {
            return (self, None);
        }
        let value = match reading {
            Reading::Value(value) if value.is_finite() => Some(value),
            Reading::Few => None,
            Reading::Value(_) | Reading::NoData => {
                let since = self.no_data_since.unwrap_or(now);
                // The time without data counts for neither side.
                return (Self { no_data_since: Some(since), known_at: None, ..self }, None);
            }
        };
        let is_bad = value.is_some_and(|value| value > rule.threshold());
        let is_calm = value.is_none_or(|value| value <= rule.clear_level());
        let passed = (now - last).min(GAP_MS_MAX);
        let mut next =
            Self { no_data_since: None, known_at: Some(now), was_calm: is_calm, value, ..self };
        match self.phase {
            Phase::Ok | Phase::Pending if !is_bad => {
                if self.phase == Phase::Pending {
                    next = Self { phase: Phase::Ok, since: now, held_ms: 0, ..next };
                }
                (next, None)
            }
            Phase::Ok if rule.for_ms > 0 => {
                (Self { phase: Phase::Pending, since: now, held_ms: 0, ..next }, None)
            }
            Phase::Pending if self.held_ms.saturating_add(passed) < rule.for_ms => {
                next.held_ms = self.held_ms.saturating_add(passed);
                (next, None)
            }
            Phase::Ok | Phase::Pending => {
                let fired = Self { phase: Phase::Firing, since: now, held_ms: 0, ..next };
                (fired, Some(Change::Fired))
            }
            Phase::Firing if !is_calm => (Self { held_ms: 0, ..next }, None),
            Phase::Firing => {
                let calm = if self.was_calm { self.held_ms.saturating_add(passed) } else { 0 };
                next.held_ms = calm;
                if calm < rule.keep_ms {
                    return (next, None);
                }
                let over = Self { phase: Phase::Ok, since: now, held_ms: 0, ..next };
                (over, Some(Change::Resolved))
            }
        }
    }
}

/// What an open alert needs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The step of the escalation with this place is told.
    Step(usize),
    /// An acknowledgement ran out: everybody so far is told again.
    Again,
}

/// What an alert needs that fired at a moment and was not told to anybody beyond `told` steps. An acknowledgement
/// stops the escalation until it runs out.
pub fn due(
    rule: &Rule,
    fired_at: Millis,
    acknowledged_until: Option<Millis>,
    told: usize,
    now: Millis,
) -> Option<Due> {
    match acknowledged_until {
        Some(until) if now < until => return None,
        Some(_) => return Some(Due::Again),
        None => {}
    }
    let step = rule.escalate.get(told)?;
    (now >= fired_at.saturating_add(step.after_ms)).then_some(Due::Step(told))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::draw::Draw;

    fn rule(more: &str) -> Rule {
        Rule::parse(&format!(
            "kind: AlertRule\nmetadata: {{name: one, title: One}}\nspec:\n  environments: [production]\n  severity: warning\n  \
             when: {{failure_rate: {{of: login, above: 10%, window: 1m}}}}\n{more}"
        ))
        .unwrap()
    }

    fn run(rule: &Rule, readings: &[Reading]) -> Vec<(usize, Change)> {
        let mut state = State::default();
        let mut changes = Vec::new();
        for (index, reading) in readings.iter().enumerate() {
            let (next, change) = state.step(*reading, rule, index as Millis * 5_000);
            state = next;
            changes.extend(change.map(|change| (index, change)));
        }
        changes
    }

    #[test]
    fn it_fires_after_for_and_is_over_after_keep_for() {
        let rule = rule("  for: 1m\n  keep_for: 2m\n");
        let mut readings = vec![Reading::Value(0.2); 13];
        readings.extend(vec![Reading::Value(0.08); 100]); // over the clear level
        readings.extend(vec![Reading::Value(0.05); 25]);
        assert_eq!(run(&rule, &readings), [(12, Change::Fired), (137, Change::Resolved)]);
        let short = [vec![Reading::Value(0.2); 12], vec![Reading::Value(0.0)]].concat();
        assert_eq!(run(&rule, &short), []);
    }

    #[test]
    fn no_data_neither_fires_nor_ends_an_alert() {
        let rule = rule("  for: 1m\n  keep_for: 1m\n");
        let unknown = [Reading::NoData, Reading::Value(f64::NAN), Reading::Value(f64::INFINITY)];
        let mut readings = vec![Reading::Value(0.2); 3];
        readings.extend((0..1_000).map(|n| unknown[n % 3]));
        assert_eq!(run(&rule, &readings), []);
        let mut firing = vec![Reading::Value(0.2); 13];
        firing.push(Reading::Value(0.0));
        firing.extend(vec![Reading::NoData; 1_000]);
        assert_eq!(run(&rule, &firing), [(12, Change::Fired)]);
        let (state, _) = State::default().step(Reading::NoData, &rule, 7);
        assert_eq!((state.no_data_since, state.value), (Some(7), None));
        assert_eq!(state.step(Reading::Few, &rule, 9).0.no_data_since, None);
    }

    #[test]
    fn a_rate_at_the_threshold_hardly_ever_flips() {
        // 60 a minute at exactly 10 %, looked at every five seconds for ten days.
        let per_day = |rule: &Rule| {
            let mut draw = Draw::new(11);
            let (mut state, mut fired) = (State::default(), 0_u32);
            let mut bits = std::collections::VecDeque::from(vec![0_u32; 12]);
            for tick in 0..10 * 17_280_i64 {
                let bad = (0..5).filter(|_| draw.unit() < 0.1).count();
                bits.pop_front();
                bits.push_back(u32::try_from(bad).unwrap());
                let rate = f64::from(bits.iter().sum::<u32>()) / 60.0;
                let (next, change) = state.step(Reading::Value(rate), rule, tick * 5_000);
                state = next;
                fired += u32::from(change == Some(Change::Fired));
            }
            f64::from(fired) / 10.0
        };
        let damped = per_day(&rule("  for: 3m\n  keep_for: 10m\n"));
        let raw = per_day(&rule("  for: 0s\n  keep_for: 0s\n  clear: 100%\n"));
        assert!(damped <= 1.0, "{damped}");
        assert!(raw > 100.0, "{raw}");
    }

    #[test]
    fn nobody_is_told_twice_and_an_acknowledgement_holds() {
        let rule = rule("  escalate: [{after: 0s, channels: [a]}, {after: 10m, channels: [b]}]\n");
        assert_eq!(due(&rule, 1_000, None, 0, 1_000), Some(Due::Step(0)));
        assert_eq!(due(&rule, 1_000, None, 1, 600_999), None);
        assert_eq!(due(&rule, 1_000, None, 1, 601_000), Some(Due::Step(1)));
        assert_eq!(due(&rule, 1_000, Some(700_000), 1, 601_000), None);
        assert_eq!(due(&rule, 1_000, Some(700_000), 1, 700_000), Some(Due::Again));
        assert_eq!(due(&rule, 1_000, None, 2, Millis::MAX), None);
    }

    fn reading() -> impl Strategy<Value = Reading> {
        prop_oneof![
            3 => (0.0_f64..0.3).prop_map(Reading::Value),
            1 => any::<f64>().prop_map(Reading::Value),
            1 => Just(Reading::Few),
            1 => Just(Reading::NoData),
        ]
    }

    proptest! {
        #[test]
        fn alerts_take_turns_and_last_as_long_as_the_rule_says(
            readings in prop::collection::vec((reading(), 1_i64..120_000), 0..300),
            hold in 0_u32..200, keep in 0_u32..600,
        ) {
            let rule = rule(&format!("  for: {hold}s\n  keep_for: {keep}s\n"));
            let (mut state, mut now) = (State::default(), 0);
            let mut last: Option<(Change, Millis)> = None;
            for (reading, wait) in readings {
                now += wait;
                let text = serde_json::to_string(&state).unwrap();
                let kept: State = serde_json::from_str(&text).unwrap(); // a node takes over
                let (next, change) = kept.step(reading, &rule, now);
                if let Some(change) = change {
                    match last {
                        None => prop_assert_eq!(change, Change::Fired),
                        Some((before, at)) => {
                            prop_assert_ne!(before, change);
                            let least = if change == Change::Resolved { keep } else { hold };
                            prop_assert!(now - at >= i64::from(least) * 1_000);
                        }
                    }
                    last = Some((change, now));
                }
                prop_assert!(next.held_ms >= 0 && next.value.is_none_or(f64::is_finite));
                prop_assert_eq!(next.step(reading, &rule, now - 1).1, None);
                state = next;
            }
        }
    }
}
