//! Alert rules as files: what is watched, when somebody is told, who, and when it is over.
//!
//! ```yaml
//! kind: AlertRule
//! metadata: {name: login_failures, title: Logins fail, owner: auth team}
//! spec:
//!   environments: [production]
//!   severity: critical                    # info | warning | critical
//!   labels: {component: auth}
//!   when: {failure_rate: {of: login, above: 10%, window: 5m, min_events: 50}}
//!   for: 2m                               # so long before it fires
//!   keep_for: 10m                         # so long calm before it is over
//!   clear: 70%                            # calm is under this share of the threshold
//!   summary: "{value} of logins fail in {environment} ({window})"
//!   inhibited_by: [auth_down]
//!   playbook: auth-rollback               # suggested, never run by itself
//!   escalate: [{after: 0s, channels: [slack]}, {after: 10m, channels: [pagerduty]}]
//!   acknowledge_for: 30m
//! ```

mod condition;
mod consistency;
mod outside;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_playbook::problem::Problem;
use switchback_playbook::read::{Entries, Reader, is_name, join};
use switchback_playbook::units::{duration_words, parse_percent};
use switchback_playbook::yaml::{self, Node};

pub use condition::{Condition, Of, Pairs, Sessions};
pub use consistency::{Bad, Consistency};
pub use outside::{Origin, Outside};

/// The longest `for` and `keep_for`, in milliseconds.
const HELD_MS_MAX: Millis = 86_400_000;
/// Calm so long before it is over, unless the rule says otherwise, in milliseconds.
const KEEP_MS: Millis = 600_000;
/// How long an acknowledgement holds, unless the rule says otherwise, in milliseconds.
const ACKNOWLEDGED_MS: Millis = 1_800_000;
/// The share of the threshold under which it is calm.
const CLEAR: f64 = 0.7;
/// Steps of an escalation, channels of a step, labels, environments and inhibiting rules.
const LISTED_MAX: usize = 20;

/// How bad it is when the rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody must look now.
    Critical,
}

impl Severity {
    const WORDS: [(&'static str, Self); 3] =
        [("info", Self::Info), ("warning", Self::Warning), ("critical", Self::Critical)];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }
}

/// Who is told when nobody has acknowledged for so long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// So long after it fired, in milliseconds.
    pub after_ms: Millis,
    /// Keys of channels, or their kinds.
    pub channels: Vec<String>,
}

/// An alert rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name, unique.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Who minds it; empty when nobody is named.
    pub owner: String,
    /// Whether it is looked at.
    pub enabled: bool,
    /// Where it holds.
    pub environments: Vec<String>,
    /// How bad it is.
    pub severity: Severity,
    /// What silences may name, such as `component`.
    pub labels: BTreeMap<String, String>,
    /// What is watched.
    pub when: Condition,
    /// So long it must hold before it fires, in milliseconds.
    pub for_ms: Millis,
    /// So long it must be calm before it is over, in milliseconds.
    pub keep_ms: Millis,
    /// The share of the threshold under which it is calm, 0 to 1.
    pub clear: f64,
    /// What people are told, with `{value}`, `{window}` and `{environment}`; empty: the condition's own words.
    pub summary: String,
    /// Rules that make this one quiet while they fire in the same environment.
    pub inhibited_by: Vec<String>,
    /// The playbook that may help.
    pub playbook: Option<String>,
    /// Who is told, and when; empty: every channel that wants alerts, once.
    pub escalate: Vec<Step>,
    /// How long an acknowledgement holds, in milliseconds.
    pub acknowledge_ms: Millis,
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// Everything that is wrong, each with its line and column.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let root = yaml::read(text).map_err(|problem| vec![problem])?;
        let mut reader = Reader::default();
        match read(&mut reader, &root) {
            Some(rule) if reader.problems.is_empty() => Ok(rule),
            _ => Err(reader.problems),
        }
    }

    /// The value above which it fires.
    pub fn threshold(&self) -> f64 {
        self.when.threshold()
    }

    /// The value at or below which it is calm; never above the threshold.
    pub fn clear_level(&self) -> f64 {
        let threshold = self.threshold();
        // Below nought, further down is a larger number.
        if threshold < 0.0 { threshold / self.clear.max(0.01) } else { threshold * self.clear }
    }

    /// What people are told of a value.
    pub fn words(&self, value: Option<f64>, environment: &str) -> String {
        let value =
            value.map_or_else(|| "an unknown value".to_owned(), |v| self.when.value_words(v));
        let window = duration_words(self.when.window_ms().unsigned_abs());
        let text = if self.summary.is_empty() { self.when.summary() } else { &self.summary };
        // One pass, so that what stands in a value is never read as a placeholder.
        let mut said = String::with_capacity(text.len() + 32);
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            let (before, from) = rest.split_at(start);
            said.push_str(before);
            let known = [
                ("{value}", value.as_str()),
                ("{window}", &window),
                ("{environment}", environment),
            ];
            if let Some((name, with)) = known.iter().find(|(name, _)| from.starts_with(name)) {
                said.push_str(with);
                rest = from.get(name.len()..).unwrap_or_default();
            } else {
                said.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
        said.push_str(rest);
        said
    }
}

fn read(reader: &mut Reader, root: &Node) -> Option<Rule> {
    let map = reader.map(root, "", &["kind", "metadata", "spec"])?;
    reader.word(map, "", "kind", &[("AlertRule", ())]);
    for key in ["kind", "metadata", "spec"] {
        if map.get(key).is_none() {
            reader.fault(root, "", format!("`{key}` is missing"), "");
        }
    }
    let meta = map.get("metadata")?;
    let meta = reader.map(meta, "metadata", &["name", "title", "owner"])?;
    let name = reader.name(meta, "metadata", "name");
    let title = reader.required(meta, "metadata", "title", 100);
    let owner = reader.optional(meta, "metadata", "owner", 100).unwrap_or_default();
    let keys = [
        "enabled",
        "environments",
        "severity",
        "labels",
        "when",
        "for",
        "keep_for",
        "clear",
        "summary",
        "inhibited_by",
        "playbook",
        "escalate",
        "acknowledge_for",
    ];
    let node = map.get("spec")?;
    let spec = reader.map(node, "spec", &keys)?;
    if spec.get("severity").is_none() {
        reader.fault(node, "spec", "`severity` is missing", "info, warning or critical");
    }
    let severity = reader.word(spec, "spec", "severity", &Severity::WORDS);
    let environments = names(reader, spec, "environments");
    if environments.is_empty() {
        reader.fault(node, "spec", "`environments` names at least one", "such as [production]");
    }
    if spec.get("when").is_none() {
        let hint = "such as {absence: {of: login, for: 10m}}";
        reader.fault(node, "spec", "`when` is missing", hint);
    }
    let when = spec.get("when").and_then(|node| condition::read(reader, node, "spec.when"));
    let clear = share(reader, spec, "spec", "clear").unwrap_or(CLEAR);
    let playbook = spec.get("playbook").and_then(|_| reader.name(spec, "spec", "playbook"));
    let keep = held(reader, spec, "keep_for").unwrap_or(KEEP_MS);
    let for_ms = held(reader, spec, "for").unwrap_or(0);
    let acknowledge_ms = held(reader, spec, "acknowledge_for").unwrap_or(ACKNOWLEDGED_MS);
    let inhibited_by = names(reader, spec, "inhibited_by");
    if let (Some(node), Some(own)) = (spec.get("inhibited_by"), &name)
        && inhibited_by.contains(own)
    {
        reader.fault(node, "spec.inhibited_by", "a rule cannot make itself quiet", "");
    }
    Some(Rule {
        enabled: reader.bool(spec, "spec", "enabled").unwrap_or(true),
        labels: labels(reader, spec),
        summary: reader.optional(spec, "spec", "summary", 500).unwrap_or_default(),
        escalate: steps(reader, spec),
        name: name?,
        title: title?,
        owner,
        environments,
        severity: severity?,
        when: when?,
        for_ms,
        keep_ms: keep,
        clear,
        inhibited_by,
        playbook,
        acknowledge_ms,
    })
}

fn held(reader: &mut Reader, map: Entries<'_>, key: &str) -> Option<Millis> {
    let ms = reader.duration(map, "spec", key)?;
    match Millis::try_from(ms) {
        Ok(ms) if ms <= HELD_MS_MAX => Some(ms),
        _ => {
            if let Some(node) = map.get(key) {
                reader.fault(node, &join("spec", key), "longer than 1d", "");
            }
            None
        }
    }
}

fn names(reader: &mut Reader, map: Entries<'_>, key: &str) -> Vec<String> {
    let path = join("spec", key);
    let Some(node) = map.get(key) else { return Vec::new() };
    listed(reader, node, &path)
}

fn listed(reader: &mut Reader, node: &Node, path: &str) -> Vec<String> {
    let items = reader.list(node, path);
    if items.len() > LISTED_MAX {
        reader.fault(node, path, format!("over {LISTED_MAX} of them"), "");
    }
    let mut found: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(text) = reader.text(item, &path, 60) else { continue };
        if !is_name(&text) {
            reader.fault(item, &path, format!("`{text}` is not a name"), "");
        } else if found.contains(&text) {
            reader.fault(item, &path, format!("`{text}` stands here twice"), "");
        } else {
            found.push(text);
        }
    }
    found
}

fn labels(reader: &mut Reader, map: Entries<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Some(node) = map.get("labels") else { return found };
    let Some(pairs) = node.pairs() else {
        reader.fault(node, "spec.labels", format!("a map is expected, not {}", node.noun()), "");
        return found;
    };
    if pairs.len() > LISTED_MAX {
        reader.fault(node, "spec.labels", format!("over {LISTED_MAX} of them"), "");
    }
    for (key, value) in pairs {
        let path = join("spec.labels", &key.text);
        if !is_name(&key.text) {
            reader.fault(value, &path, format!("`{}` is not a name", key.text), "");
        }
        if let Some(text) = reader.text(value, &path, 100) {
            found.insert(key.text.clone(), text);
        }
    }
    found
}

fn steps(reader: &mut Reader, map: Entries<'_>) -> Vec<Step> {
    let Some(node) = map.get("escalate") else { return Vec::new() };
    let path = "spec.escalate";
    let items = reader.list(node, path);
    if items.len() > LISTED_MAX {
        reader.fault(node, path, format!("over {LISTED_MAX} steps"), "");
    }
    let mut found: Vec<Step> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(step) = reader.map(item, &path, &["after", "channels"]) else { continue };
        let after = reader.duration(step, &path, "after").unwrap_or(0);
        let after_ms = Millis::try_from(after).unwrap_or(Millis::MAX);
        if found.last().is_some_and(|last| last.after_ms >= after_ms) {
            reader.fault(item, &path, "`after` is not later than the step before", "");
        }
        let channels = match step.get("channels") {
            Some(node) => listed(reader, node, &join(&path, "channels")),
            None => Vec::new(),
        };
        if channels.is_empty() {
            reader.fault(item, &path, "`channels` names at least one", "a channel's key or kind");
        }
        found.push(Step { after_ms, channels });
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(spec: &str) -> String {
        format!(
            "kind: AlertRule\nmetadata: {{name: one, title: One}}\nspec:\n  environments: [production]\n  severity: warning\n{spec}"
        )
    }

    #[test]
    fn a_rule_is_read_with_its_defaults() {
        let text = rule("  when: {failure_rate: {of: login, above: 10%, window: 5m}}\n");
        let found = Rule::parse(&text).unwrap();
        assert_eq!(
            (found.for_ms, found.keep_ms, found.acknowledge_ms),
            (0, KEEP_MS, ACKNOWLEDGED_MS)
        );
        assert!(
            (found.threshold() - 0.1).abs() < 1e-12 && (found.clear_level() - 0.07).abs() < 1e-12
        );
        assert_eq!(
            found.words(Some(0.125), "production"),
            "12.5 % of logins failed in the last 5 minutes in production."
        );
        assert!(found.enabled && found.escalate.is_empty());
    }

    #[test]
    fn every_kind_of_condition_is_read() {
        for when in [
            "{burn_rate: {of: login, objective: 99%}}",
            "{burn_rate: {of: login, objective: 99%, pairs: rollback}}",
            "{baseline: {of: refresh}}",
            "{baseline: {of: refresh, z: 5}}",
            "{volume_drop: {of: login}}",
            "{absence: {of: signup, for: 6h}}",
            "{latency: {of: login, quantile: 95%, above: 2s, window: 5m, min_events: 20}}",
            "{count: {type: rls_violation, above: 0, window: 10m}}",
            "{anomaly: {of: login}}",
            "{sessions: {idle_share: 50%, min_sessions: 100}}",
            "{sessions: {at_once: 20, window: 1h}}",
            "{sessions: {pace: 3, window: 10m}}",
            "{value: {source: shop, query: SELECT 1, above: 100}}",
            "{value: {prometheus: 'http://prometheus:9090/', query: up, below: 1}}",
            "{value: {impact: login_errors, per: login_attempts, labels: {app: shop}, window: 10m, above: 0.1}}",
            "{value: {impact: queue, below: 3}}",
            "{component_down: {component: auth}}",
            "{consistency: {health_below: 100%}}",
            "{consistency: {pack: signups, silent_for: 2m}}",
            "{consistency: {stuck_above: 0}}",
        ] {
            let found = Rule::parse(&rule(&format!("  when: {when}\n"))).unwrap();
            let again: Rule =
                serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
            assert_eq!(found, again);
            assert!(!found.words(Some(1.0), "production").contains('{'), "{when}");
            assert!(!found.words(None, "production").is_empty());
        }
    }

    #[test]
    fn faults_are_named_with_their_places() {
        for (spec, line, part) in [
            ("  when: {failure_rat: {of: login}}\n", 6, "failure_rate"),
            ("  when: {failure_rate: {of: loginn, above: 10%, window: 5m}}\n", 6, "login"),
            ("  when: {failure_rate: {of: login, above: 0%, window: 5m}}\n", 6, "above"),
            ("  when: {failure_rate: {of: login, above: 10%, window: 5s}}\n", 6, "window"),
            ("  when: {absence: {of: login}}\n", 6, "for"),
            ("  when: {latency: {of: login, above: 0s, window: 5m}}\n", 6, "above"),
            ("  when: {sessions: {window: 1h}}\n", 6, "at_once"),
            ("  when: {count: {type: nothing, above: 1, window: 5m}}\n", 6, "type"),
            ("  when: {burn_rate: {of: login, objective: 100%}}\n", 6, "objective"),
            ("  when: {absence: {of: login, for: 10m}, anomaly: {of: login}}\n", 6, "one"),
            ("  when: {absence: {of: login, for: 10m}}\n  keep: 5m\n", 7, "keep_for"),
            ("  when: {absence: {of: login, for: 10m}}\n  inhibited_by: [one]\n", 7, "itself"),
            ("  when: {absence: {of: login, for: 10m}}\n  for: 2d\n", 7, "1d"),
            (
                "  when: {absence: {of: login, for: 10m}}\n  escalate: [{after: 5m, channels: [a]}, {after: 1m, channels: [b]}]\n",
                7,
                "later",
            ),
        ] {
            let problems = Rule::parse(&rule(spec)).unwrap_err();
            let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(said.contains(part), "{spec}: {said}");
            assert!(problems.iter().any(|one| one.line == Some(line)), "{spec}: {said}");
        }
        for text in ["", "[]", "kind: Playbook", "kind: AlertRule\nmetadata: 1\nspec: 2", ": {"] {
            assert!(Rule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn too_low_is_turned_round() {
        let text = rule("  when: {value: {source: shop, query: SELECT 1, below: 7}}\n");
        let found = Rule::parse(&text).unwrap();
        let (fires, calm) = (found.threshold(), found.clear_level());
        assert!(-6.0 > fires && -8.0 < fires && (-10.1..-9.0).contains(&calm));
        assert_eq!(found.words(Some(-6.5), "production"), "It is 6.5.");
        for value in [
            "{source: shop, query: SELECT 1}",
            "{source: shop, query: SELECT 1, above: NaN}",
            "{source: shop, query: SELECT 1, above: 1, below: 2}",
            "{source: shop, prometheus: 'http://p', query: up, above: 1}",
            "{impact: errors, query: up, above: 1}",
            "{source: shop, query: SELECT 1, per: x, above: 1}",
            "{impact: errors, labels: [a], above: 1}",
            "{prometheus: 'ftp://p', query: up, above: 1}",
            "{prometheus: 'http://me:secret@p', query: up, above: 1}",
        ] {
            assert!(
                Rule::parse(&rule(&format!("  when: {{value: {value}}}\n"))).is_err(),
                "{value}"
            );
        }
    }

    #[test]
    fn a_summary_keeps_what_it_does_not_know() {
        let text = rule(
            "  when: {absence: {of: login, for: 10m}}\n  summary: \"{x} {value} {environment}{\"\n",
        );
        let found = Rule::parse(&text).unwrap();
        assert_eq!(found.words(Some(900_000.0), "{value}"), "{x} 15 minutes {value}{");
    }
}
