//! `schedule`: when a playbook starts by itself. All times are UTC.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use switchback_core::model::Millis;

use crate::alerts::Given;
use crate::inputs::Input;
use crate::problem::suggest;
use crate::read::{Entries, Reader, join};
use crate::triggers;
use crate::units::duration_text;
use crate::yaml::Node;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// The shortest time between two starts, in milliseconds.
const EVERY_MS_MIN: u64 = 60_000;
/// Day 0 of the epoch was a Thursday.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const EPOCH_DAY: i64 = 3;

/// When.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Every so many milliseconds.
    Every(u64),
    /// On these days of the week (0: Monday), at this minute of the day.
    At {
        /// From 0 to 1,439.
        minute: i64,
        /// At least one.
        days: Vec<i64>,
    },
}

/// When and where a playbook starts by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Schedule {
    /// The environment's key.
    pub environment: String,
    /// When.
    pub rule: Rule,
    /// Values for inputs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Value>,
}

impl Schedule {
    /// The first time after `now`, reckoned from a time at which it was due.
    pub fn next(&self, due: Millis, now: Millis) -> Millis {
        match &self.rule {
            Rule::Every(ms) => {
                let every = ms.cast_signed().max(1);
                let missed = (now - due).max(0) / every;
                due.saturating_add(every.saturating_mul(missed + 1))
            }
            Rule::At { minute, days } => {
                let today = now.div_euclid(DAY_MS);
                let on = |day: &i64| days.contains(&(day + EPOCH_DAY).rem_euclid(7));
                let times =
                    (today..=today + 7).filter(on).map(|day| day * DAY_MS + minute * MINUTE_MS);
                times.into_iter().find(|at| *at > now).unwrap_or(now.saturating_add(DAY_MS))
            }
        }
    }

    /// In words, such as `every 30d in staging` or `at 03:00 on mon, thu in production`.
    pub fn text(&self) -> String {
        let when = match &self.rule {
            Rule::Every(ms) => format!("every {}", duration_text(*ms)),
            Rule::At { minute, days } => {
                let at = format!("at {:02}:{:02}", minute / 60, minute % 60);
                let names =
                    DAYS.iter().enumerate().filter(|(day, _)| days.contains(&(*day as i64)));
                let names: Vec<&str> = names.map(|(_, name)| *name).collect();
                if names.len() == DAYS.len() { at } else { format!("{at} on {}", names.join(", ")) }
            }
        };
        format!("{when} in {}", self.environment)
    }
}

/// Reads `schedule`.
pub(crate) fn parse(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    inputs: &[Input],
) -> Option<Schedule> {
    let map = reader.map(node, path, &["every", "at", "days", "environment", "inputs"])?;
    let given = triggers::given(reader, map, path, inputs, false);
    triggers::all_given(reader, node, path, inputs, &given);
    let given = given.into_iter().filter_map(|(name, given)| match given {
        Given::Value(value) => Some((name, value)),
        Given::Pointer(_) => None, // there is nothing to point into
    });
    let environment = reader.name(map, path, "environment");
    let rule = match (map.get("every"), map.get("at")) {
        (Some(every), None) => {
            if let Some(days) = map.get("days") {
                reader.fault(days, &join(path, "days"), "`days` goes with `at`", "leave it out");
            }
            let ms = reader.duration(map, path, "every")?;
            if ms < EVERY_MS_MIN {
                reader.fault(every, &join(path, "every"), "shorter than 1m", "1m or more");
            }
            Rule::Every(ms)
        }
        (None, Some(_)) => at(reader, map, path)?,
        _ => {
            let hint = "{every: 30d, environment: staging}, or {at: '03:00', days: [mon], environment: staging}";
            reader.fault(node, path, "either `every` or `at` is expected", hint);
            return None;
        }
    };
    Some(Schedule { environment: environment?, rule, inputs: given.collect() })
}

fn at(reader: &mut Reader, map: Entries<'_>, path: &str) -> Option<Rule> {
    let node = map.get("at")?;
    let text = reader.text(node, &join(path, "at"), 10)?;
    let number = |text: &str, max: i64| {
        let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| plain && *number < max)
    };
    let minute = text
        .split_once(':')
        .and_then(|(hours, minutes)| Some(number(hours, 24)? * 60 + number(minutes, 60)?));
    let Some(minute) = minute else {
        let message = format!("`{text}` is not a time of day");
        reader.fault(node, &join(path, "at"), message, "such as '03:00', in UTC");
        return None;
    };
    let mut days: Vec<i64> = Vec::new();
    if let Some(list) = map.get("days") {
        let path = join(path, "days");
        for (index, item) in reader.list(list, &path).iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(text) = reader.text(item, &path, 20) else { continue };
            if let Some(day) = DAYS.iter().position(|day| *day == text) {
                days.push(day as i64);
            } else {
                let message = format!("`{text}` is not a day of the week");
                reader.fault(item, &path, message, suggest(&text, DAYS));
            }
        }
    }
    if days.is_empty() {
        days = (0..7).collect();
    }
    days.sort_unstable();
    days.dedup();
    Some(Rule::At { minute, days })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rule: Rule) -> Schedule {
        Schedule { environment: "staging".to_owned(), rule, inputs: BTreeMap::new() }
    }

    #[test]
    fn missed_times_are_one() {
        let every = schedule(Rule::Every(1_000));

        assert_eq!(every.next(5_000, 5_000), 6_000);
        assert_eq!(every.next(5_000, 9_500), 10_000, "four missed times are behind it");
        assert_eq!(every.next(5_000, 4_000), 6_000);
        assert_eq!(every.text(), "every 1s in staging");
    }

    #[test]
    fn days_and_times_are_those_of_the_calendar() {
        // 2026-02-03 was a Tuesday; 04:05:06 UTC.
        let now: Millis = 1_770_091_506_000;
        let at = |minute, days: &[i64]| schedule(Rule::At { minute, days: days.to_vec() });
        let midnight = now - now.rem_euclid(DAY_MS);

        assert_eq!(at(300, &[0, 1, 2, 3, 4, 5, 6]).next(0, now), midnight + 300 * MINUTE_MS);
        assert_eq!(at(180, &[1]).next(0, now), midnight + 7 * DAY_MS + 180 * MINUTE_MS);
        assert_eq!(at(180, &[0, 2]).next(0, now), midnight + DAY_MS + 180 * MINUTE_MS);
        assert_eq!(
            at(245, &[1]).next(0, midnight + 245 * MINUTE_MS),
            midnight + 7 * DAY_MS + 245 * MINUTE_MS
        );
        assert_eq!(at(185, &[0, 3]).text(), "at 03:05 on mon, thu in staging");
    }
}
