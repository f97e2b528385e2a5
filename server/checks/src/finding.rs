//! What becomes of a finding: found, fixed, back again, gone by itself, or a fix that does not stick.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pack::Pace;

/// How a finding stands.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Detected, and not healed.
    #[default]
    Open,
    /// Healed by us.
    Fixed,
    /// No longer detected, without us.
    Gone,
    /// Fixed as often as allowed, and back: nobody fixes it any more but a person.
    Stuck,
    /// A person said that it is all right.
    Ignored,
}

impl State {
    /// Every state, with its word.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("open", Self::Open),
        ("fixed", Self::Fixed),
        ("gone", Self::Gone),
        ("stuck", Self::Stuck),
        ("ignored", Self::Ignored),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }

    /// Whether it is still detected.
    pub fn is_present(self) -> bool {
        matches!(self, Self::Open | Self::Stuck | Self::Ignored)
    }
}

/// What decides of a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// How it stands.
    pub state: State,
    /// How often it was fixed.
    pub attempts: u64,
    /// When it was fixed last, in UTC milliseconds; 0: never.
    pub fixed_at: i64,
}

impl Standing {
    /// What detecting it means, now.
    #[must_use]
    pub fn detected(self, pace: &Pace) -> Self {
        let state = match self.state {
            State::Ignored => State::Ignored,
            _ if self.attempts >= pace.attempts => State::Stuck,
            _ => State::Open,
        };
        Self { state, ..self }
    }

    /// What it means that a complete look does not detect it.
    #[must_use]
    pub fn missed(self) -> Self {
        let state = if self.state.is_present() { State::Gone } else { self.state };
        Self { state, ..self }
    }

    /// What a fix means. One after which it is still detected is an attempt as well.
    #[must_use]
    pub fn tried(self, is_healed: bool, pace: &Pace, now: i64) -> Self {
        let attempts = self.attempts + 1;
        let state = match is_healed {
            true => State::Fixed,
            false if attempts >= pace.attempts => State::Stuck,
            false => State::Open,
        };
        Self { state, attempts, fixed_at: now }
    }

    /// Whether a sweep may fix it now.
    pub fn may_be_fixed(&self, pace: &Pace, now: i64) -> bool {
        let rested = now - self.fixed_at >= pace.cooldown_ms.cast_signed();
        self.state == State::Open && (self.attempts == 0 || rested)
    }
}

/// What a look changes in what was known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that were not present before: they need to be looked up, as they may have been fixed once.
    pub appeared: Vec<String>,
    /// Keys that are no longer detected.
    pub vanished: Vec<String>,
}

/// Compares what was present with what is detected now. A look that was cut short, or saw a window only, tells nothing of what
/// it did not show.
pub fn compare<'k>(
    known: &BTreeMap<String, Standing>,
    detected: impl IntoIterator<Item = &'k str>,
    is_complete: bool,
) -> Changes {
    let mut changes = Changes::default();
    let mut seen: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    for key in detected {
        if seen.insert(key) && !known.get(key).is_some_and(|one| one.state.is_present()) {
            changes.appeared.push(key.to_owned());
        }
    }
    if is_complete {
        let gone = |(key, one): &(&String, &Standing)| {
            one.state.is_present() && !seen.contains(key.as_str())
        };
        changes.vanished = known.iter().filter(gone).map(|(key, _)| key.clone()).collect();
    }
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fix_that_does_not_stick_is_given_up() {
        let pace = Pace::default();
        let mut one = Standing::default().detected(&pace);
        let mut now = 0;
        for _ in 0..pace.attempts {
            assert!(one.may_be_fixed(&pace, now));
            one = one.tried(true, &pace, now);
            assert_eq!(one.state, State::Fixed);
            one = one.detected(&pace);
            assert!(!one.may_be_fixed(&pace, now + 59_999), "it rests");
            now += 60_000;
        }
        assert_eq!(one.state, State::Stuck);
        assert!(!one.may_be_fixed(&pace, i64::MAX));
    }

    #[test]
    fn what_a_person_ignores_stays_ignored_until_it_is_gone() {
        let pace = Pace::default();
        let one = Standing { state: State::Ignored, ..Standing::default() };
        assert_eq!(one.detected(&pace).state, State::Ignored);
        assert_eq!(one.missed().state, State::Gone);
        assert_eq!(one.missed().detected(&pace).state, State::Open);
    }

    proptest! {
        /// After any looks, what is present is what the last complete look detected; a partial look takes nothing away.
        #[test]
        fn presence_follows_the_looks(
            looks in prop::collection::vec((prop::collection::btree_set("[a-f]", 0..6), any::<bool>()), 1..20)
        ) {
            let pace = Pace::default();
            let mut known: BTreeMap<String, Standing> = BTreeMap::new();
            let mut model: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
            for (detected, is_complete) in looks {
                let changes = compare(&known, detected.iter().map(String::as_str), is_complete);
                for key in changes.appeared {
                    let before = known.get(&key).copied().unwrap_or_default();
                    known.insert(key, before.detected(&pace));
                }
                for key in changes.vanished {
                    let before = known.get(&key).copied().unwrap_or_default();
                    known.insert(key, before.missed());
                }
                if is_complete { model = detected } else { model.extend(detected) }
                let present: std::collections::BTreeSet<String> =
                    known.iter().filter(|(_, one)| one.state.is_present()).map(|(key, _)| key.clone()).collect();
                prop_assert_eq!(&present, &model);
            }
        }
    }
}
