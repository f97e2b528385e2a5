//! Flagsmith's own decisions, computed from its document: what a drift report compares with.

use serde_json::Value;

use super::field;
use crate::drift::{Person, Regexes, Source as Asked, list_of, version};
use crate::hash::md5_percentage;

/// An environment document that can be asked.
pub struct Source {
    document: Value,
    regexes: Regexes,
}

impl Source {
    /// Takes a document that `import` has read.
    pub fn new(text: &str) -> Result<Self, String> {
        Ok(Self { document: crate::parse(text)?, regexes: Regexes::default() })
    }

    fn identity_key(&self, who: &Person) -> Option<String> {
        let id = who.get("user_id");
        let environment = self.document.get("api_key").and_then(Value::as_str).unwrap_or_default();
        Some(format!("{environment}_{}", id.as_str()?))
    }

    fn state(&mut self, name: &str, who: &Person) -> Option<Value> {
        let document = self.document.clone();
        let is_this =
            |one: &&Value| one.pointer("/feature/name").and_then(Value::as_str) == Some(name);
        let own = |from: &Value, list: &str| list_of(from, list).iter().find(is_this).cloned();
        let base = own(&document, "feature_states")?;
        let Some(key) = self.identity_key(who) else { return Some(base) };
        let id = who.get("user_id");
        for identity in list_of(&document, "identity_overrides") {
            if identity.get("identifier") == Some(&id)
                && let Some(state) = own(identity, "identity_features")
            {
                return Some(state);
            }
        }
        let mut best: Option<(f64, Value)> = None;
        let segments = document.pointer("/project/segments").and_then(Value::as_array);
        for segment in segments.into_iter().flatten() {
            let Some(state) = own(segment, "feature_states") else { continue };
            let priority = state.pointer("/feature_segment/priority").and_then(Value::as_f64);
            let priority = priority.unwrap_or(f64::INFINITY);
            let is_better = best.as_ref().is_none_or(|(known, _)| priority < *known);
            if is_better && self.is_in(segment, &key, who) {
                best = Some((priority, state));
            }
        }
        Some(best.map_or(base, |(_, state)| state))
    }

    fn is_in(&mut self, segment: &Value, key: &str, who: &Person) -> bool {
        let id = segment.get("id").map(ToString::to_string).unwrap_or_default();
        let rules = list_of(segment, "rules");
        !rules.is_empty() && rules.iter().all(|rule| self.rule(rule, (&id, key), who))
    }

    fn rule(&mut self, rule: &Value, ids: (&str, &str), who: &Person) -> bool {
        let kind = rule.get("type").and_then(Value::as_str).unwrap_or_default();
        let conditions: Vec<bool> =
            list_of(rule, "conditions").iter().map(|one| self.condition(one, ids, who)).collect();
        let rules: Vec<bool> =
            list_of(rule, "rules").iter().map(|one| self.rule(one, ids, who)).collect();
        let holds = |answers: &[bool]| match kind {
            _ if answers.is_empty() => true,
            "ANY" => answers.contains(&true),
            "NONE" => !answers.contains(&true),
            _ => !answers.contains(&false),
        };
        holds(&conditions) && holds(&rules)
    }

    fn condition(&mut self, one: &Value, (segment, key): (&str, &str), who: &Person) -> bool {
        let text = |name: &str| match one.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let (operator, wanted) = (text("operator"), text("value"));
        if operator == "PERCENTAGE_SPLIT" {
            return wanted.parse().is_ok_and(|limit: f64| md5_percentage(&[segment, key]) <= limit);
        }
        let property = one.get("property_").or(one.get("property")).and_then(Value::as_str);
        let found = who.get(&field(property.unwrap_or_default()));
        let text = match &found {
            Value::Null => return operator == "IS_NOT_SET",
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let versions = || {
            let (a, b) = (version(&text)?, version(wanted.strip_suffix(":semver")?)?);
            Some(a.cmp_precedence(&b))
        };
        let order = || {
            if wanted.ends_with(":semver") {
                return versions();
            }
            found.as_f64()?.partial_cmp(&wanted.parse().ok()?)
        };
        let equal = || {
            if wanted.ends_with(":semver") {
                return versions().is_some_and(std::cmp::Ordering::is_eq);
            }
            text == wanted || order().is_some_and(std::cmp::Ordering::is_eq)
        };
        match operator.as_str() {
            "IS_SET" => true,
            "EQUAL" => equal(),
            "NOT_EQUAL" => !equal(),
            "CONTAINS" => text.contains(&wanted),
            "NOT_CONTAINS" => !text.contains(&wanted),
            "IN" => match one.get("value") {
                Some(Value::Array(list)) => list.contains(&found),
                _ => match serde_json::from_str::<Vec<String>>(&wanted) {
                    Ok(list) => list.contains(&text),
                    Err(_) => wanted.split(',').any(|one| one == text),
                },
            },
            "GREATER_THAN" => order().is_some_and(std::cmp::Ordering::is_gt),
            "GREATER_THAN_INCLUSIVE" => order().is_some_and(std::cmp::Ordering::is_ge),
            "LESS_THAN" => order().is_some_and(std::cmp::Ordering::is_lt),
            "LESS_THAN_INCLUSIVE" => order().is_some_and(std::cmp::Ordering::is_le),
            "REGEX" => self.regexes.find(&wanted, &text),
            _ => false,
        }
    }
}

impl Asked for Source {
    /// The value where the feature is enabled; `true` for one that has no value.
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value> {
        let state = self.state(key, who)?;
        if state.get("enabled") != Some(&Value::Bool(true)) {
            return None;
        }
        let mut chosen = state.get("feature_state_value").cloned().unwrap_or(Value::Null);
        let mut choices = list_of(&state, "multivariate_feature_state_values").to_vec();
        choices.sort_by_key(|one| one.get("id").and_then(Value::as_i64).unwrap_or(i64::MAX));
        let object = match state.get("django_id") {
            Some(Value::Number(id)) => id.to_string(),
            _ => state.get("featurestate_uuid").and_then(Value::as_str).unwrap_or_default().into(),
        };
        if let Some(key) = self.identity_key(who) {
            let share = md5_percentage(&[&object, &key]);
            let mut start = 0.0;
            for one in &choices {
                let part = one.get("percentage_allocation").and_then(Value::as_f64);
                let end = start + part.unwrap_or_default();
                if start <= share && share < end {
                    let value = one.pointer("/multivariate_feature_option/value");
                    chosen = value.cloned().unwrap_or(Value::Null);
                    break;
                }
                start = end;
            }
        }
        Some(if chosen.as_str() == Some("") { Value::Null } else { chosen })
    }
}
