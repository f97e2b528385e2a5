//! What differs between two JSON values, line by line, for people.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One difference.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Difference {
    /// Where, such as `rules[0].percent`.
    pub path: String,
    /// What it was; absent when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it is; absent when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Differences that are listed, at most.
const DIFFERENCES_MAX: usize = 200;

/// Compares two values; at most 200 differences.
pub fn diff(before: Option<&Value>, after: Option<&Value>) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", before, after, &mut found);
    found.truncate(DIFFERENCES_MAX);
    found
}

fn walk(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        _ if before == after => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&inner, old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new)))
            if old.iter().chain(new).any(serde_json::Value::is_object) =>
        {
            for index in 0..old.len().max(new.len()) {
                walk(&format!("{path}[{index}]"), old.get(index), new.get(index), found);
            }
        }
        _ => found.push(Difference {
            path: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_names_its_place() {
        let before = json!({"enabled": true, "rules": [{"id": "a", "percent": 10}]});
        let after = json!({"enabled": true, "rules": [{"id": "a", "percent": 25}], "killed": true});

        let found = diff(Some(&before), Some(&after));

        let lines: Vec<_> = found.iter().map(|d| d.path.as_str()).collect();
        assert_eq!(lines, ["killed", "rules[0].percent"]);
        assert_eq!(found[1].after, Some(json!(25)));
    }
}
