//! What a rule watches. Every condition becomes one number that is too high, so that thresholds, `clear` and `for` mean the same for all.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_playbook::problem::suggest;
use switchback_playbook::read::{Entries, Reader, join};
use switchback_playbook::units::{duration_text, duration_words};
use switchback_playbook::yaml::Node;

use super::consistency::{self, Consistency};
use super::outside::{self, Origin, Outside};
use super::share;
use crate::event::EventKind;
use crate::{baseline, hour_of_week, volume};

/// The shortest and the longest window, in milliseconds. Counts are kept in cells of ten seconds.
const WINDOW_MS: (Millis, Millis) = (30_000, 3 * 86_400_000);
/// Events in a window below which nothing is said, unless the rule says otherwise.
const EVENTS_MIN: u64 = 20;

/// What users do, well or badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
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

impl Of {
    const WORDS: [(&'static str, Self); 5] = [
        ("login", Self::Login),
        ("refresh", Self::Refresh),
        ("check", Self::Check),
        ("signup", Self::Signup),
        ("mfa", Self::Mfa),
    ];

    /// The kinds of events that worked, and that did not.
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

/// Which windows of a burn rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// Four pairs, from an hour to three days.
    Standard,
    /// Five minutes and 30 seconds.
    Rollback,
}

/// What is odd about the sessions of the app's users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sessions {
    /// So many are idle for over half of the time after which they end.
    IdleShare {
        /// From 0 to 1.
        above: f64,
        /// Fewer open ones say nothing.
        min_sessions: u64,
    },
    /// One user began so many that are all open.
    AtOnce {
        /// How many are not yet too many.
        above: u64,
        /// Begun within this time, in milliseconds.
        window_ms: Millis,
    },
    /// One user began sessions from more places and devices than one person can.
    Pace {
        /// How many are not yet too many.
        above: u64,
        /// Begun within this time, in milliseconds.
        window_ms: Millis,
    },
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The share that fails.
    FailureRate {
        /// Of what.
        of: Of,
        /// From 0 to 1.
        above: f64,
        /// In milliseconds.
        window_ms: Millis,
        /// Fewer say nothing.
        min_events: u64,
    },
    /// How fast an error budget burns.
    BurnRate {
        /// Of what.
        of: Of,
        /// The share that should work, between 0 and 1.
        objective: f64,
        /// In which windows.
        pairs: Pairs,
    },
    /// The share that fails, against the usual one.
    Baseline {
        /// Of what.
        of: Of,
        /// Standard deviations.
        z: f64,
    },
    /// Far fewer than usual at this time.
    VolumeDrop {
        /// Of what.
        of: Of,
    },
    /// None at all.
    Absence {
        /// Of what.
        of: Of,
        /// For so long, in milliseconds.
        for_ms: Millis,
    },
    /// How long it takes.
    Latency {
        /// Of what that works.
        of: Of,
        /// Which share is not slower, from 0 to 1.
        quantile: f64,
        /// In milliseconds.
        above_ms: f64,
        /// In milliseconds.
        window_ms: Millis,
        /// Fewer say nothing.
        min_events: u64,
    },
    /// How often something happens.
    Count {
        /// What.
        kind: EventKind,
        /// How often is not yet too often.
        above: u64,
        /// In milliseconds.
        window_ms: Millis,
    },
    /// The last hour, against the same hour of the weeks before.
    Anomaly {
        /// Of what.
        of: Of,
    },
    /// Sessions of the app's users are odd.
    Sessions(Sessions),
    /// A value of a data source or of Prometheus. Where too low is bad, readings are turned round.
    Value(Outside),
    /// Packs of consistency checks.
    Consistency(Consistency),
    /// A component has an outage.
    ComponentDown {
        /// Its key.
        component: String,
    },
}

impl Condition {
    /// The value above which it holds.
    pub fn threshold(&self) -> f64 {
        match self {
            Self::FailureRate { above, .. } | Self::Sessions(Sessions::IdleShare { above, .. }) => {
                *above
            }
            Self::BurnRate { .. } => 1.0,
            Self::Baseline { z, .. } => *z,
            Self::VolumeDrop { .. } => -volume::ALPHA.log10(),
            Self::Absence { for_ms, .. } => *for_ms as f64,
            Self::Latency { above_ms, .. } => *above_ms,
            Self::Count { above, .. }
            | Self::Sessions(Sessions::AtOnce { above, .. } | Sessions::Pace { above, .. }) => {
                *above as f64
            }
            Self::Anomaly { .. } => hour_of_week::Z_NAMED,
            Self::Value(Outside { bound, is_below, .. }) => {
                if *is_below {
                    -bound
                } else {
                    *bound
                }
            }
            Self::Consistency(wanted) => wanted.threshold(),
            Self::ComponentDown { .. } => 0.5,
        }
    }

    /// How far back it looks, in milliseconds.
    pub fn window_ms(&self) -> Millis {
        match self {
            Self::FailureRate { window_ms, .. }
            | Self::Latency { window_ms, .. }
            | Self::Count { window_ms, .. }
            | Self::Sessions(
                Sessions::AtOnce { window_ms, .. } | Sessions::Pace { window_ms, .. },
            ) => *window_ms,
            Self::BurnRate { pairs: Pairs::Standard, .. } => 3 * 86_400_000,
            Self::BurnRate { pairs: Pairs::Rollback, .. } | Self::Baseline { .. } => 300_000,
            Self::VolumeDrop { .. } => 60_000,
            Self::Absence { for_ms, .. } => *for_ms,
            Self::Anomaly { .. } => 3_600_000,
            Self::Value(Outside { origin: Origin::Impact(impact), .. }) => impact.window_ms,
            Self::Sessions(_)
            | Self::Value(_)
            | Self::Consistency(_)
            | Self::ComponentDown { .. } => 0,
        }
    }

    /// A value for people.
    pub fn value_words(&self, value: f64) -> String {
        match self {
            Self::FailureRate { .. } | Self::Sessions(Sessions::IdleShare { .. }) => {
                format!("{} %", rounded(value * 100.0))
            }
            Self::BurnRate { .. } => format!("{} times", rounded(value)),
            Self::Baseline { .. } | Self::Anomaly { .. } => {
                format!("{} standard deviations", rounded(value))
            }
            Self::VolumeDrop { .. } => format!("1 in 10^{}", value.clamp(0.0, 999.0).floor()),
            Self::Absence { .. } => {
                // Whole seconds: nobody reads the rest.
                let seconds = (value / 1_000.0).clamp(0.0, 1e9).floor() as u64;
                duration_words(seconds * 1_000)
            }
            Self::Latency { .. } => format!("{} ms", rounded(value)),
            Self::Count { .. }
            | Self::Sessions(Sessions::AtOnce { .. } | Sessions::Pace { .. }) => rounded(value),
            Self::Value(Outside { is_below, .. }) => {
                rounded(if *is_below { -value } else { value })
            }
            Self::Consistency(wanted) => wanted.value_words(value),
            Self::ComponentDown { .. } => {
                if value > 0.5 {
                    "down".to_owned()
                } else {
                    "up".to_owned()
                }
            }
        }
    }

    /// What people are told unless the rule has words of its own.
    pub(super) fn summary(&self) -> &'static str {
        match self {
            Self::FailureRate { of, .. } => match of {
                Of::Login => "{value} of logins failed in the last {window} in {environment}.",
                Of::Refresh => {
                    "{value} of token renewals failed in the last {window} in {environment}."
                }
                Of::Check => {
                    "{value} of token checks failed in the last {window} in {environment}."
                }
                Of::Signup => "{value} of sign-ups failed in the last {window} in {environment}.",
                Of::Mfa => {
                    "{value} of second factors were wrong in the last {window} in {environment}."
                }
            },
            Self::BurnRate { .. } => {
                "The error budget of {environment} burns {value} faster than it may."
            }
            Self::Baseline { .. } => {
                "The failure rate in {environment} is {value} above the usual one."
            }
            Self::VolumeDrop { .. } => {
                "So few in {environment} as in the last {window} are seen by chance {value}."
            }
            Self::Absence { .. } => "Nothing of the kind was seen in {environment} for {value}.",
            Self::Latency { .. } => "It takes {value} in {environment} (last {window}).",
            Self::Count { .. } => "{value} in the last {window} in {environment}.",
            Self::Anomaly { .. } => {
                "The last hour in {environment} is {value} from what is usual for it."
            }
            Self::Sessions(Sessions::IdleShare { .. }) => {
                "{value} of the sessions in {environment} are idle."
            }
            Self::Sessions(Sessions::AtOnce { .. }) => {
                "One user in {environment} began {value} sessions within {window}, and all are open."
            }
            Self::Consistency(wanted) => wanted.summary(),
            Self::Sessions(Sessions::Pace { .. }) => {
                "One user in {environment} signed in from {value} places and devices within {window}."
            }
            Self::Value(_) => "It is {value}.",
            Self::ComponentDown { .. } => "The component is {value}.",
        }
    }
}

/// At most two digits after the point.
fn rounded(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}

const KINDS: [&str; 12] = [
    "failure_rate",
    "burn_rate",
    "baseline",
    "volume_drop",
    "absence",
    "latency",
    "count",
    "anomaly",
    "sessions",
    "value",
    "component_down",
    "consistency",
];

pub(super) fn read(reader: &mut Reader, node: &Node, path: &str) -> Option<Condition> {
    let map = reader.map(node, path, &KINDS)?;
    let pairs = node.pairs().unwrap_or_default();
    if pairs.len() != 1 {
        let hint = format!("one of {}", KINDS.join(", "));
        reader.fault(node, path, "exactly one condition is expected", hint);
        return None;
    }
    let kind = KINDS.iter().find(|kind| map.get(kind).is_some())?;
    let node = map.get(kind)?;
    let path = &join(path, kind);
    match *kind {
        "failure_rate" => {
            let map = reader.map(node, path, &["of", "above", "window", "min_events"])?;
            let above = required_share(reader, map, path, "above", (0.0, 1.0));
            let window_ms = window(reader, map, path, "window");
            let min_events = events_min(reader, map, path);
            Some(Condition::FailureRate {
                of: of(reader, map, path)?,
                above: above?,
                window_ms: window_ms?,
                min_events,
            })
        }
        "burn_rate" => {
            let map = reader.map(node, path, &["of", "objective", "pairs"])?;
            let words = [("standard", Pairs::Standard), ("rollback", Pairs::Rollback)];
            let pairs = reader.word(map, path, "pairs", &words).unwrap_or(Pairs::Standard);
            let objective = required_share(reader, map, path, "objective", (0.0, 1.0));
            Some(Condition::BurnRate { of: of(reader, map, path)?, objective: objective?, pairs })
        }
        "baseline" => {
            let map = reader.map(node, path, &["of", "z"])?;
            let z = match map.get("z") {
                None => Some(baseline::Z_PAGE),
                Some(node) => {
                    let found = node.text().and_then(|text| text.parse::<f64>().ok());
                    let found = found.filter(|z| (2.0..=100.0).contains(z));
                    if found.is_none() {
                        reader.fault(
                            node,
                            &join(path, "z"),
                            "a number from 2 to 100 is expected",
                            "",
                        );
                    }
                    found
                }
            };
            Some(Condition::Baseline { of: of(reader, map, path)?, z: z? })
        }
        "volume_drop" => {
            let map = reader.map(node, path, &["of"])?;
            Some(Condition::VolumeDrop { of: of(reader, map, path)? })
        }
        "absence" => {
            let map = reader.map(node, path, &["of", "for"])?;
            let for_ms = window(reader, map, path, "for");
            Some(Condition::Absence { of: of(reader, map, path)?, for_ms: for_ms? })
        }
        "latency" => {
            let keys = ["of", "quantile", "above", "window", "min_events"];
            let map = reader.map(node, path, &keys)?;
            let quantile = match map.get("quantile") {
                None => Some(0.95),
                Some(_) => required_share(reader, map, path, "quantile", (0.0, 1.0)),
            };
            let above = reader.duration(map, path, "above");
            let above = above.filter(|ms| (1..=3_600_000).contains(ms)).map(|ms| ms as f64);
            if above.is_none() {
                let place = map.get("above").unwrap_or(node);
                reader.fault(place, &join(path, "above"), "`above` is from 1ms to 1h", "");
            }
            let window_ms = window(reader, map, path, "window");
            let min_events = events_min(reader, map, path);
            Some(Condition::Latency {
                of: of(reader, map, path)?,
                quantile: quantile?,
                above_ms: above?,
                window_ms: window_ms?,
                min_events,
            })
        }
        "count" => {
            let map = reader.map(node, path, &["type", "above", "window"])?;
            let word = reader.required(map, path, "type", 60);
            let kind = word.as_deref().and_then(EventKind::of);
            if let (Some(word), None, Some(node)) = (&word, kind, map.get("type")) {
                let hint = suggest(word, EventKind::ALL.iter().map(|kind| kind.word()));
                reader.fault(
                    node,
                    &join(path, "type"),
                    format!("`{word}` is no type of event"),
                    hint,
                );
            }
            if map.get("above").is_none() {
                reader.fault(node, path, "`above` is missing", "");
            }
            let above = reader.whole(map, path, "above", 0, 1_000_000_000);
            let window_ms = window(reader, map, path, "window");
            Some(Condition::Count { kind: kind?, above: above?, window_ms: window_ms? })
        }
        "anomaly" => {
            let map = reader.map(node, path, &["of"])?;
            Some(Condition::Anomaly { of: of(reader, map, path)? })
        }
        "sessions" => sessions(reader, node, path).map(Condition::Sessions),
        "consistency" => consistency::read(reader, node, path).map(Condition::Consistency),
        "value" => outside::read(reader, node, path).map(Condition::Value),
        _ => {
            let map = reader.map(node, path, &["component"])?;
            Some(Condition::ComponentDown {
                component: reader.required(map, path, "component", 100)?,
            })
        }
    }
}

fn sessions(reader: &mut Reader, node: &Node, path: &str) -> Option<Sessions> {
    let pairs = node.pairs().unwrap_or_default();
    if pairs.iter().any(|(key, _)| key.text == "idle_share") {
        let map = reader.map(node, path, &["idle_share", "min_sessions"])?;
        let above = required_share(reader, map, path, "idle_share", (0.0, 1.0))?;
        let min_sessions = reader.whole(map, path, "min_sessions", 1, 1_000_000_000);
        return Some(Sessions::IdleShare {
            above,
            min_sessions: min_sessions.unwrap_or(EVENTS_MIN),
        });
    }
    if pairs.iter().any(|(key, _)| key.text == "pace") {
        let map = reader.map(node, path, &["pace", "window"])?;
        let above = reader.whole(map, path, "pace", 1, 1_000_000)?;
        return Some(Sessions::Pace { above, window_ms: window(reader, map, path, "window")? });
    }
    let map = reader.map(node, path, &["at_once", "window"])?;
    if map.get("at_once").is_none() {
        reader.fault(node, path, "`idle_share`, `at_once` or `pace` is missing", "");
    }
    let above = reader.whole(map, path, "at_once", 1, 1_000_000)?;
    Some(Sessions::AtOnce { above, window_ms: window(reader, map, path, "window")? })
}

fn of(reader: &mut Reader, map: Entries<'_>, path: &str) -> Option<Of> {
    if map.get("of").is_none() {
        let hint = "login, refresh, check, signup or mfa";
        reader.fault(map.node, path, "`of` is missing", hint);
    }
    reader.word(map, path, "of", &Of::WORDS)
}

pub(super) fn window(
    reader: &mut Reader,
    map: Entries<'_>,
    path: &str,
    key: &str,
) -> Option<Millis> {
    let Some(node) = map.get(key) else {
        reader.fault(map.node, path, format!("`{key}` is missing"), "such as 5m");
        return None;
    };
    let ms = Millis::try_from(reader.duration(map, path, key)?).unwrap_or(Millis::MAX);
    let (low, high) = WINDOW_MS;
    if (low..=high).contains(&ms) {
        return Some(ms);
    }
    let text = |ms: Millis| duration_text(ms.unsigned_abs());
    let message = format!("`{key}` is from {} to {}", text(low), text(high));
    reader.fault(node, &join(path, key), message, "");
    None
}

fn events_min(reader: &mut Reader, map: Entries<'_>, path: &str) -> u64 {
    reader.whole(map, path, "min_events", 1, 1_000_000_000).unwrap_or(EVENTS_MIN)
}

/// A share between two bounds, without them.
fn required_share(
    reader: &mut Reader,
    map: Entries<'_>,
    path: &str,
    key: &str,
    (low, high): (f64, f64),
) -> Option<f64> {
    let Some(node) = map.get(key) else {
        reader.fault(map.node, path, format!("`{key}` is missing"), "such as 10%");
        return None;
    };
    let found = share(reader, map, path, key)?;
    if found > low && found < high {
        return Some(found);
    }
    let message = format!("`{key}` is between {} % and {} %", low * 100.0, high * 100.0);
    reader.fault(node, &join(path, key), message, "");
    None
}
