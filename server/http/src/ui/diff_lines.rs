//! Differences between two states, as people read them.

use serde_json::Value;
use switchback_app::diff::{Difference, diff};
use switchback_core::model::{Operator, Rule, Stickiness};

use super::words::{self, Words, plain_stamp};

/// One line: where, what it was, what it is.
pub struct DiffLine {
    /// Where, such as `Rule 1, percent`.
    pub place: String,
    /// What it was; empty when new.
    pub before: String,
    /// What it is; empty when gone.
    pub after: String,
}

/// Lines for differences.
pub fn lines(differences: &[Difference]) -> Vec<DiffLine> {
    // Something made from nothing reads better field by field.
    if let [Difference { path, before: None, after: Some(made @ Value::Object(_)) }] = differences
        && path.is_empty()
    {
        let nothing = Value::Object(serde_json::Map::new());
        return lines(&diff(Some(&nothing), Some(made)));
    }
    let line = |one: &Difference| DiffLine {
        place: place(&one.path),
        before: one.before.as_ref().map(|value| text(&one.path, value)).unwrap_or_default(),
        after: one.after.as_ref().map(|value| text(&one.path, value)).unwrap_or_default(),
    };
    differences.iter().map(line).collect()
}

fn place(path: &str) -> String {
    let parts = path.split('.').map(|part| {
        let (name, index) = match part.split_once('[') {
            Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let name = match name {
            "enabled" => "switch".to_owned(),
            "rules" if index.is_some() => "rule".to_owned(),
            "constraints" if index.is_some() => "constraint".to_owned(),
            "variants" if index.is_some() => "variant".to_owned(),
            "prerequisites" if index.is_some() => "prerequisite".to_owned(),
            "max_staleness_ms" => "longest staleness".to_owned(),
            other => other.replace('_', " "),
        };
        match index {
            Some(index) => format!("{name} {}", index + 1),
            None => name,
        }
    });
    match words::title(&parts.collect::<Vec<_>>().join(", ")) {
        empty if empty.is_empty() => "All of it".to_owned(),
        place => place,
    }
}

fn text(path: &str, value: &Value) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    match value {
        Value::Bool(on) if matches!(name, "enabled" | "killed") => {
            (if *on { "on" } else { "off" }).to_owned()
        }
        Value::Number(share) if name == "percent" => {
            words::percent(share.as_f64().unwrap_or_default())
        }
        Value::Number(at) if name.ends_with("_at") => plain_stamp(at.as_i64().unwrap_or_default()),
        Value::Number(ms) if name.ends_with("_ms") => {
            words::duration(ms.as_i64().unwrap_or_default())
        }
        Value::String(text) => text.clone(),
        Value::Array(parts) if parts.iter().all(Value::is_string) => {
            parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Value::Array(parts) if name == "rules" => {
            parts.iter().map(rule_text).collect::<Vec<_>>().join("; ")
        }
        Value::Object(_) if name.starts_with("rules[") => rule_text(value),
        other => other.to_string(),
    }
}

fn rule_text(value: &Value) -> String {
    match serde_json::from_value::<Rule>(value.clone()) {
        Ok(rule) => rule_plain(&rule),
        Err(_) => value.to_string(),
    }
}

/// What a rule says, as a sentence.
pub fn rule_words(rule: &Rule) -> Words {
    let mut words =
        whom(rule, "Everybody").and(" → ").strong(&words::percent(rule.percent.as_f64()));
    if rule.percent.thousandths() < 100_000 && rule.percent.thousandths() > 0 {
        words = words.and(&format!(" {}", stickiness_words(&rule.stickiness)));
    }
    if !rule.serve.is_on() {
        words = words.and(" → ").strong("off");
    }
    if !rule.variants.is_empty() {
        let names: Vec<String> = rule.variants.iter().map(|one| one.name.clone()).collect();
        words = words.and(" → ").strong(&words::list(&names, "or"));
    }
    words
}

/// Whom a rule is about, before its share is taken; `all` is the word for no limits.
pub fn whom(rule: &Rule, all: &str) -> Words {
    let mut words = match rule.platforms.as_slice() {
        [] => Words::default().strong(all),
        platforms => {
            let names: Vec<String> = platforms.iter().map(|name| platform_name(name)).collect();
            Words::default().strong(&words::list(&names, "or"))
        }
    };
    if !rule.groups.is_empty() {
        let label = if rule.groups.len() == 1 { " in group " } else { " in one of the groups " };
        words = words.and(label).strong(&words::list(&rule.groups, "or"));
    }
    if !rule.segments.is_empty() {
        words = words.and(" in segment ").strong(&words::list(&rule.segments, "and"));
    }
    for (index, constraint) in rule.constraints.iter().enumerate() {
        words = words.and(if index == 0 { " where " } else { " and " });
        if constraint.inverted {
            words = words.and("not ");
        }
        words =
            words.code(&constraint.field).and(&format!(" {}", operator_words(constraint.operator)));
        if !constraint.values.is_empty() {
            words = words.and(" ").strong(&values_text(&constraint.values));
        }
    }
    words
}

/// The same without marks.
pub fn rule_plain(rule: &Rule) -> String {
    let marked = rule_words(rule).to_string();
    let mut plain = String::new();
    let mut inside = false;
    for letter in marked.chars() {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            letter if !inside => plain.push(letter),
            _ => {}
        }
    }
    plain
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

fn values_text(values: &[String]) -> String {
    let shown: Vec<String> = values.iter().take(4).cloned().collect();
    match values.len().saturating_sub(4) {
        0 => words::list(&shown, "or"),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn platform_name(word: &str) -> String {
    match word {
        "ios" => "iOS".to_owned(),
        "android" => "Android".to_owned(),
        "web" => "Web".to_owned(),
        "server" => "Servers".to_owned(),
        other => other.to_owned(),
    }
}

fn stickiness_words(stickiness: &Stickiness) -> String {
    match stickiness {
        Stickiness::Default => "by user id".to_owned(),
        Stickiness::Random => "at random".to_owned(),
        Stickiness::Field(field) => format!("by {field}"),
    }
}

/// All operators, with their word in JSON and for people.
pub const OPERATORS: [(&str, &str); 20] = [
    ("IN", "is one of"),
    ("NOT_IN", "is none of"),
    ("STR_CONTAINS", "contains"),
    ("STR_STARTS_WITH", "starts with"),
    ("STR_ENDS_WITH", "ends with"),
    ("NUM_EQ", "= number"),
    ("NUM_GT", "> number"),
    ("NUM_GTE", "≥ number"),
    ("NUM_LT", "< number"),
    ("NUM_LTE", "≤ number"),
    ("SEMVER_EQ", "= version"),
    ("SEMVER_GT", "> version"),
    ("SEMVER_GTE", "≥ version"),
    ("SEMVER_LT", "< version"),
    ("SEMVER_LTE", "≤ version"),
    ("DATE_AFTER", "is after"),
    ("DATE_BEFORE", "is before"),
    ("REGEX", "matches"),
    ("IN_CIDR", "is in network"),
    ("IS_SET", "is set"),
];

/// An operator, for people.
pub fn operator_words(operator: Operator) -> &'static str {
    let word = words::word(&operator);
    OPERATORS.iter().find(|(name, _)| *name == word).map_or("", |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_reads_as_a_sentence() {
        let rule: Rule = serde_json::from_value(json!({
            "id": "beta", "platforms": ["ios", "android"], "groups": ["beta"], "percent": 25,
            "constraints": [{"field": "app_version", "operator": "SEMVER_GTE", "values": ["3.2"]}],
        }))
        .unwrap();

        let text = rule_plain(&rule).replace('\u{202f}', " ");

        assert_eq!(
            text,
            "iOS or Android in group beta where app_version ≥ version 3.2 → 25 % by user id"
        );
    }

    #[test]
    fn a_difference_says_where_in_words() {
        assert_eq!(place("rules[0].constraints[1].values"), "Rule 1, constraint 2, values");
        assert_eq!(place("enabled"), "Switch");
    }
}
