//! From the events of five seconds to what guards compare: distinct users by arm, and how many of them failed.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;

use foldhash::quality::FixedState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use switchback_store::AuthEventRow;
use switchback_watch::baseline::Count;
use switchback_watch::event::EventKind;
use switchback_watch::grid::Tick;
use switchback_watch::once::Once;

use crate::probes::is_probe;

/// What can go well or badly for a user.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Logins.
    Login,
    /// Token renewals.
    Refresh,
    /// Token checks.
    Check,
    /// New accounts.
    Signup,
    /// Second factors.
    Mfa,
}

impl Metric {
    /// Every metric, with what it is for people.
    pub const ALL: [(Self, &str, &str); 5] = [
        (Self::Login, "login", "Failed logins"),
        (Self::Refresh, "refresh", "Failed token renewals"),
        (Self::Check, "check", "Failed token checks"),
        (Self::Signup, "signup", "Failed sign-ups"),
        (Self::Mfa, "mfa", "Wrong second factors"),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(one, _, _)| *one == self).map_or("", |(_, word, _)| word)
    }

    /// The kinds that are attempts that worked, and that did not.
    pub fn kinds(self) -> (EventKind, EventKind) {
        match self {
            Self::Login => (EventKind::LoginSuccess, EventKind::LoginFailure),
            Self::Refresh => (EventKind::TokenRefresh, EventKind::TokenRefreshFailure),
            Self::Check => (EventKind::TokenCheck, EventKind::TokenCheckFailure),
            Self::Signup => (EventKind::Signup, EventKind::SignupFailure),
            Self::Mfa => (EventKind::MfaChallenge, EventKind::MfaFailure),
        }
    }
}

/// One user with one variant: what of their attempts failed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    is_treated: bool,
    failed: bool,
}

/// One attempt.
struct Attempt<'e> {
    user: u64,
    metric: Metric,
    failed: bool,
    variant: &'e str,
}

/// The events of a tick, by flag.
pub struct Ticked {
    variants: Vec<BTreeMap<String, String>>,
    attempts: Vec<(u64, Metric, bool)>,
}

impl Ticked {
    /// Reads what arrived in a tick.
    pub fn of(events: &[AuthEventRow]) -> Self {
        let mut ticked = Self { variants: Vec::new(), attempts: Vec::new() };
        for event in events.iter().filter(|event| !is_probe(&event.source)) {
            let Some((metric, failed)) = attempt(&event.kind) else { continue };
            let Some(variants) = &event.variants else { continue };
            let Ok(variants) = serde_json::from_str(variants) else { continue };
            let name = event.user_key.as_ref().or(event.session_id.as_ref()).unwrap_or(&event.id);
            let user = user_of(name);
            ticked.variants.push(variants);
            ticked.attempts.push((user, metric, failed));
        }
        ticked
    }

    /// The attempts of those who had any variant of each flag.
    pub fn by_flag(&self) -> Flags<'_> {
        let mut flags: HashMap<&str, Vec<Attempt<'_>>> = HashMap::new();
        for (variants, (user, metric, failed)) in self.variants.iter().zip(&self.attempts) {
            for (flag, variant) in variants {
                let one = Attempt { user: *user, metric: *metric, failed: *failed, variant };
                flags.entry(flag).or_default().push(one);
            }
        }
        Flags(flags)
    }
}

/// Attempts by flag.
pub struct Flags<'e>(HashMap<&'e str, Vec<Attempt<'e>>>);

impl Flags<'_> {
    /// Distinct users by arm, and how many of them failed. Those who failed before are left out: a user who goes on
    /// failing is one fact, however often they try (`docs/statistics.md`, "Users, not requests").
    pub fn tick(&self, flag: &str, treated: &str, metric: Metric, once: &mut Once) -> Tick {
        let mut users: HashMap<u64, Seen> = HashMap::new();
        let attempts = self.0.get(flag).map(Vec::as_slice).unwrap_or_default();
        for one in attempts.iter().filter(|one| one.metric == metric) {
            let seen = users.entry(one.user).or_default();
            // Someone who moved between arms within five seconds counts where they ended.
            seen.is_treated = one.variant == treated;
            seen.failed |= one.failed;
        }
        let mut tick = Tick::default();
        for (user, seen) in users {
            if !once.admits(user, seen.failed) {
                continue;
            }
            let (all, bad) = if seen.is_treated {
                (&mut tick.treated, &mut tick.treated_bad)
            } else {
                (&mut tick.control, &mut tick.control_bad)
            };
            *all += 1;
            *bad += u64::from(seen.failed);
        }
        tick
    }

    /// The users of a flag, and whether each is treated.
    pub fn users(&self, flag: &str, treated: &str) -> impl Iterator<Item = (u64, bool)> {
        let attempts = self.0.get(flag).map(Vec::as_slice).unwrap_or_default();
        attempts.iter().map(move |one| (one.user, one.variant == treated))
    }
}

/// A user as ticks know them: of their key, else of their session, else of the event.
pub fn user_of(name: &str) -> u64 {
    FixedState::with_seed(7).hash_one(name)
}

fn attempt(kind: &str) -> Option<(Metric, bool)> {
    let kind = EventKind::of(kind)?;
    Metric::ALL.iter().find_map(|(metric, _, _)| {
        let (good, bad) = metric.kinds();
        if kind == good {
            Some((*metric, false))
        } else if kind == bad {
            Some((*metric, true))
        } else {
            None
        }
    })
}

/// Counts of a window as a baseline takes them; attempts stand for users there, in both the window and its usual.
pub fn count(good: u64, bad: u64) -> Count {
    Count { users: good + bad, bad }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: usize, kind: &str, user: &str, variant: &str) -> AuthEventRow {
        AuthEventRow {
            id: format!("e{id}"),
            kind: kind.to_owned(),
            at: 0,
            received_at: 0,
            user_key: Some(user.to_owned()),
            session_id: None,
            platform: None,
            app_version: None,
            country: None,
            latency_ms: None,
            error: None,
            variants: Some(format!(r#"{{"new_login":"{variant}"}}"#)),
            source: "test".to_owned(),
        }
    }

    #[test]
    fn a_probe_is_no_user() {
        let mut probe = event(0, "login_failure", "ada", "on");
        probe.source = "probe:shop".to_owned();
        let ticked = Ticked::of(&[probe]);
        let tick = ticked.by_flag().tick("new_login", "on", Metric::Login, &mut Once::default());
        assert_eq!(tick, Tick::default());
    }

    #[test]
    fn a_user_who_tries_five_times_counts_once() {
        let mut events: Vec<_> = (0..5).map(|n| event(n, "login_failure", "ada", "on")).collect();
        events.push(event(5, "login_success", "ada", "on"));
        events.push(event(6, "login_success", "bob", "off"));
        events.push(event(7, "token_refresh", "cyd", "off"));
        let ticked = Ticked::of(&events);
        let flags = ticked.by_flag();

        let mut failed = Once::default();
        let tick = flags.tick("new_login", "on", Metric::Login, &mut failed);
        let again = flags.tick("new_login", "on", Metric::Login, &mut failed);

        assert_eq!(tick, Tick { treated: 1, treated_bad: 1, control: 1, control_bad: 0 });
        assert_eq!(again, Tick { treated: 0, treated_bad: 0, control: 1, control_bad: 0 });
        assert_eq!(flags.tick("other", "on", Metric::Login, &mut failed), Tick::default());
        assert_eq!(flags.tick("new_login", "on", Metric::Refresh, &mut Once::default()).control, 1);
    }
}
