//! The condition that watches packs of consistency checks: their health, their silence, fixes that do not stick.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_playbook::read::{Reader, join};
use switchback_playbook::units::duration_words;
use switchback_playbook::yaml::Node;

use super::share;

/// The longest silence, in milliseconds: a day.
const SILENT_MS_MAX: u64 = 86_400_000;

/// What is bad about a pack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bad {
    /// A smaller share than this is whole, 0 to 1.
    HealthBelow(f64),
    /// No sweep for so long though it is monitored, in milliseconds.
    SilentFor(Millis),
    /// More findings than this come back after every fix.
    StuckAbove(u64),
}

/// Which packs, and what is bad about them. Of several packs the worst counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consistency {
    /// Only this pack; otherwise every one that is in use.
    pub pack: Option<String>,
    /// What is bad.
    pub bad: Bad,
}

impl Consistency {
    /// The value above which it holds: the missing share, milliseconds, or findings.
    pub(super) fn threshold(&self) -> f64 {
        match self.bad {
            Bad::HealthBelow(share) => 1.0 - share,
            Bad::SilentFor(ms) => ms as f64,
            Bad::StuckAbove(count) => count as f64,
        }
    }

    pub(super) fn value_words(&self, value: f64) -> String {
        match self.bad {
            // Rounded down: less than all is never told as 100 %.
            Bad::HealthBelow(_) => {
                format!("{} %", ((1.0 - value).clamp(0.0, 1.0) * 10_000.0).floor() / 100.0)
            }
            Bad::SilentFor(_) => {
                duration_words((value / 1_000.0).clamp(0.0, 1e9).floor() as u64 * 1_000)
            }
            Bad::StuckAbove(_) => format!("{}", value.floor()),
        }
    }

    pub(super) fn summary(&self) -> &'static str {
        match self.bad {
            Bad::HealthBelow(_) => "{value} of what the consistency checks look at is whole.",
            Bad::SilentFor(_) => "The consistency checks have not looked for {value}.",
            Bad::StuckAbove(_) => "{value} findings are back after every fix.",
        }
    }
}

pub(super) fn read(reader: &mut Reader, node: &Node, path: &str) -> Option<Consistency> {
    const WAYS: [&str; 3] = ["health_below", "silent_for", "stuck_above"];
    let map = reader.map(node, path, &["pack", "health_below", "silent_for", "stuck_above"])?;
    let pack = map.get("pack").and_then(|_| reader.name(map, path, "pack"));
    let given: Vec<&str> = WAYS.into_iter().filter(|key| map.get(key).is_some()).collect();
    let bad = match given.as_slice() {
        ["health_below"] => Bad::HealthBelow(share(reader, map, path, "health_below")?),
        ["silent_for"] => {
            let ms = reader.duration(map, path, "silent_for")?;
            if !(1_000..=SILENT_MS_MAX).contains(&ms) {
                let place = join(path, "silent_for");
                reader.fault(node, &place, "`silent_for` is from 1s to 1d", "");
            }
            Bad::SilentFor(ms.cast_signed())
        }
        ["stuck_above"] => {
            Bad::StuckAbove(reader.whole(map, path, "stuck_above", 0, 1_000_000_000)?)
        }
        _ => {
            let message =
                "exactly one of `health_below`, `silent_for` and `stuck_above` is expected";
            reader.fault(node, path, message, "");
            return None;
        }
    };
    Some(Consistency { pack, bad })
}
