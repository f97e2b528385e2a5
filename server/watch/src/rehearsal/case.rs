//! Cases as files: a guard, what it is shown, and what is expected of it.
//!
//! ```yaml
//! name: A broken sign-in is found within two minutes
//! guard: {subject: the new login, min_users: 8}
//! series:
//!   for: 30m
//!   users: 40                             # in a tick, both arms
//!   share: 50%                            # of them with the new behaviour
//!   failures: 2%
//!   harm: {from: 10m, times: 6}
//!   seed: 7
//!   runs: 100
//! expect: {reaches: bad, within: 2m, share: 90%, false_alarms: 0}
//! ```
//!
//! Recorded ticks are `series: {ticks: [[20, 1, 20, 0], none], harm: {from: 5s}}`: treated, of them failed, control, of
//! them failed.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_playbook::problem::Problem;
use switchback_playbook::read::{Entries, Reader, join};
use switchback_playbook::units::parse_percent;
use switchback_playbook::yaml::{self, Content, Limits, Node};

use super::series::{Outage, Recorded, Series, Synthetic};
use crate::grid::Tick;
use crate::guard::{Action, Guard};

/// A file's size at most.
const LIMITS: Limits = Limits { bytes: 1024 * 1024, nodes: 100_000 };
/// Ticks of all runs together: some seconds of computing.
const TICKS_MAX: u64 = 1_000_000;
const STANDINGS: [&str; 7] =
    ["sample_ratio", "not_this_flag", "bad", "no_data", "warn", "insufficient", "ok"];

/// What is expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    /// The standing that is to come, after the harm, the outage, the silence or the start, the first there is.
    pub reaches: Option<String>,
    /// In which time, in milliseconds.
    pub within_ms: Millis,
    /// In which share of the runs, from 0 to 1.
    pub share: f64,
    /// Standings that may never come.
    pub never: Vec<String>,
    /// Runs with a false alarm at most.
    pub false_alarms: Option<u64>,
}

/// A guard, what it is shown, and what is expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What people call it.
    pub name: String,
    /// The guard.
    pub guard: Guard,
    /// What it is shown.
    pub series: Series,
    /// What is expected.
    pub expect: Expect,
}

/// Reads a case. Every problem is named, with its line and column.
pub fn parse(text: &str) -> Result<Case, Vec<Problem>> {
    let root = yaml::read_within(text, LIMITS).map_err(|problem| vec![problem])?;
    let mut reader = Reader::default();
    let case = read(&mut reader, &root);
    match case {
        Some(case) if reader.problems.is_empty() => Ok(case),
        _ => Err(reader.problems),
    }
}

fn read(reader: &mut Reader, root: &Node) -> Option<Case> {
    let map = reader.map(root, "", &["name", "guard", "series", "expect"])?;
    let name = reader.required(map, "", "name", 200);
    let settings = match map.get("guard") {
        Some(node) => guard(reader, node),
        None => Some(Guard::default()),
    };
    let tick_ms = settings.as_ref().map_or(5_000, |settings| settings.tick_ms);
    let series = child(reader, map, "series").and_then(|node| series(reader, node, tick_ms));
    let expect = child(reader, map, "expect").and_then(|node| expect(reader, node));
    Some(Case { name: name?, guard: settings?, series: series?, expect: expect? })
}

fn child<'n>(reader: &mut Reader, map: Entries<'n>, key: &str) -> Option<&'n Node> {
    let found = map.get(key);
    if found.is_none() {
        reader.fault(map.node, "", format!("`{key}` is missing"), "");
    }
    found
}

fn guard(reader: &mut Reader, node: &Node) -> Option<Guard> {
    let keys = [
        "subject",
        "tolerated",
        "act",
        "warn",
        "min_users",
        "action",
        "tick",
        "no_data_hold",
        "no_data_page",
        "steady",
        "false_alarm_every",
    ];
    let path = "guard";
    let map = reader.map(node, path, &keys)?;
    let mut found = Guard::default();
    let set = |target: &mut Millis, value: Option<u64>| {
        if let Some(value) = value {
            *target = Millis::try_from(value).unwrap_or(Millis::MAX);
        }
    };
    set(&mut found.tick_ms, reader.duration(map, path, "tick"));
    set(&mut found.no_data_hold_ms, reader.duration(map, path, "no_data_hold"));
    set(&mut found.no_data_page_ms, reader.duration(map, path, "no_data_page"));
    set(&mut found.steady_ms, reader.duration(map, path, "steady"));
    set(&mut found.false_alarm_every_ms, reader.duration(map, path, "false_alarm_every"));
    found.subject = reader.optional(map, path, "subject", 100).unwrap_or(found.subject);
    found.tolerated = decimal(reader, map, path, "tolerated", (0.1, 100.0)).unwrap_or(1.0);
    found.alpha_act = decimal(reader, map, path, "act", (1e-9, 0.2)).unwrap_or(found.alpha_act);
    found.alpha_warn = decimal(reader, map, path, "warn", (1e-9, 0.2)).unwrap_or(found.alpha_warn);
    found.min_users =
        reader.whole(map, path, "min_users", 0, 1_000_000_000).unwrap_or(found.min_users);
    let words = [("warn", 0), ("hold", 1), ("put_back", 2)];
    found.action = match reader.word(map, path, "action", &words) {
        Some(0) => Action::Warn,
        Some(1) => Action::Hold,
        _ => Action::PutBack,
    };
    for (_, message) in found.problems() {
        reader.fault(node, path, message, "");
    }
    Some(found)
}

fn series(reader: &mut Reader, node: &Node, tick_ms: Millis) -> Option<Series> {
    let path = "series";
    let found = if node.get("ticks").is_some() {
        Series::Recorded(recorded(reader, node, path)?)
    } else {
        Series::Synthetic(synthetic(reader, node, path)?)
    };
    let all = found.ticks(tick_ms).saturating_mul(found.runs());
    if all == 0 || all > TICKS_MAX {
        let message = format!("{all} ticks in all runs; from 1 to {TICKS_MAX} are run");
        reader.fault(node, path, message, "shorten `for` or take fewer `runs`");
    }
    Some(found)
}

fn synthetic(reader: &mut Reader, node: &Node, path: &str) -> Option<Synthetic> {
    let keys = [
        "for",
        "users",
        "share",
        "failures",
        "harm",
        "outage",
        "silence",
        "new_users",
        "seed",
        "runs",
    ];
    let map = reader.map(node, path, &keys)?;
    let for_ms = moment(reader, map, path, "for");
    if for_ms.is_none() && map.get("for").is_none() {
        reader.fault(node, path, "`for` or `ticks` is missing", "");
    }
    let harm = map.get("harm").and_then(|node| {
        let path = join(path, "harm");
        let map = reader.map(node, &path, &["from", "times"])?;
        let from = moment(reader, map, &path, "from").unwrap_or(0);
        let times = decimal(reader, map, &path, "times", (0.0, 1_000.0));
        if map.get("times").is_none() {
            reader.fault(node, &path, "`times` is missing", "how many times as often they fail");
        }
        Some((from, times?))
    });
    let new_users = map.get("new_users").and_then(|node| {
        let path = join(path, "new_users");
        let map = reader.map(node, &path, &["each", "share"])?;
        let each = reader.whole(map, &path, "each", 0, 1_000_000).unwrap_or(1);
        Some((each, share(reader, map, &path, "share").unwrap_or(0.5)))
    });
    Some(Synthetic {
        users: reader.whole(map, path, "users", 1, 1_000_000_000).unwrap_or(40),
        share: share(reader, map, path, "share").unwrap_or(0.5),
        failures: share(reader, map, path, "failures").unwrap_or(0.02),
        outage: window(reader, map, path, "outage", true),
        silence: window(reader, map, path, "silence", false),
        seed: reader.whole(map, path, "seed", 0, u64::MAX).unwrap_or(1),
        runs: reader.whole(map, path, "runs", 1, 10_000).unwrap_or(1),
        harm,
        new_users,
        for_ms: for_ms?,
    })
}

fn window(
    reader: &mut Reader,
    map: Entries<'_>,
    path: &str,
    key: &str,
    fails: bool,
) -> Option<Outage> {
    let node = map.get(key)?;
    let path = join(path, key);
    let keys: &[&str] = if fails { &["from", "to", "failures"] } else { &["from", "to"] };
    let map = reader.map(node, &path, keys)?;
    let failures = share(reader, map, &path, "failures");
    if fails && map.get("failures").is_none() {
        reader.fault(
            node,
            &path,
            "`failures` is missing",
            "the share of users that fail meanwhile",
        );
    }
    let from_ms = moment(reader, map, &path, "from").unwrap_or(0);
    let to_ms = moment(reader, map, &path, "to").unwrap_or(Millis::MAX);
    if to_ms <= from_ms {
        reader.fault(node, &path, "`to` is not after `from`", "");
    }
    Some(Outage { from_ms, to_ms, failures })
}

fn recorded(reader: &mut Reader, node: &Node, path: &str) -> Option<Recorded> {
    let map = reader.map(node, path, &["ticks", "harm"])?;
    let harm_from = map.get("harm").and_then(|node| {
        let path = join(path, "harm");
        let map = reader.map(node, &path, &["from"])?;
        moment(reader, map, &path, "from")
    });
    let place = join(path, "ticks");
    let items = reader.list(map.get("ticks")?, &place);
    let ticks = items.iter().enumerate().map(|(index, item)| {
        if item.text() == Some("none") {
            return None;
        }
        let found = counts(item);
        if found.is_none() {
            let message = "four whole numbers are expected, or `none`";
            let hint = "[treated, of them failed, control, of them failed]";
            reader.fault(item, &format!("{place}[{index}]"), message, hint);
        }
        found
    });
    Some(Recorded { ticks: ticks.collect(), harm_from })
}

fn counts(node: &Node) -> Option<Tick> {
    let Content::List(items) = &node.content else { return None };
    let numbers: Option<Vec<u64>> = items.iter().map(|item| item.text()?.parse().ok()).collect();
    match numbers?.as_slice() {
        &[treated, treated_bad, control, control_bad] => {
            Some(Tick { treated, treated_bad, control, control_bad })
        }
        _ => None,
    }
}

fn expect(reader: &mut Reader, node: &Node) -> Option<Expect> {
    let path = "expect";
    let keys = ["reaches", "within", "share", "never", "false_alarms"];
    let map = reader.map(node, path, &keys)?;
    let words = STANDINGS.map(|word| (word, word));
    let reaches = reader.word(map, path, "reaches", &words).map(str::to_owned);
    for key in ["within", "share"] {
        if let Some(node) = map.get(key).filter(|_| map.get("reaches").is_none()) {
            reader.fault(node, &join(path, key), format!("`{key}` needs `reaches`"), "");
        }
    }
    if keys.iter().all(|key| map.get(key).is_none()) {
        reader.fault(node, path, "nothing is expected", "such as {reaches: bad, within: 2m}");
    }
    let place = join(path, "never");
    let items = map.get("never").map_or(&[][..], |node| reader.list(node, &place));
    let mut never = Vec::new();
    for item in items {
        if let Some(word) = item.text().filter(|word| STANDINGS.contains(word)) {
            never.push(word.to_owned());
        } else {
            let hint = format!("known: {}", STANDINGS.join(", "));
            reader.fault(item, &place, "this is no standing", hint);
        }
    }
    Some(Expect {
        reaches,
        within_ms: moment(reader, map, path, "within").unwrap_or(Millis::MAX),
        share: share(reader, map, path, "share").unwrap_or(1.0),
        never,
        false_alarms: reader.whole(map, path, "false_alarms", 0, 10_000),
    })
}

fn moment(reader: &mut Reader, map: Entries<'_>, path: &str, key: &str) -> Option<Millis> {
    reader.duration(map, path, key).map(|ms| Millis::try_from(ms).unwrap_or(Millis::MAX))
}

/// A percentage as a share from 0 to 1.
fn share(reader: &mut Reader, map: Entries<'_>, path: &str, key: &str) -> Option<f64> {
    let node = map.get(key)?;
    match parse_percent(node.text().unwrap_or_default()) {
        Ok(thousandths) => Some(f64::from(thousandths) / 100_000.0),
        Err(message) => {
            reader.fault(node, &join(path, key), message, "");
            None
        }
    }
}

fn decimal(
    reader: &mut Reader,
    map: Entries<'_>,
    path: &str,
    key: &str,
    (low, high): (f64, f64),
) -> Option<f64> {
    let node = map.get(key)?;
    match node.text().and_then(|text| text.parse::<f64>().ok()) {
        Some(number) if (low..=high).contains(&number) => Some(number),
        _ => {
            let message = format!("a number from {low} to {high} is expected");
            reader.fault(node, &join(path, key), message, "");
            None
        }
    }
}
