//! LaunchDarkly's own decisions, computed from its data: what a drift report compares with.

use serde_json::Value;

use super::field;
use crate::drift::{Person, Regexes, Source as Asked, list_of, same, version};
use crate::hash::sha1_share;

/// Flag data that can be asked.
pub struct Source {
    document: Value,
    regexes: Regexes,
}

impl Source {
    /// Takes data that `import` has read.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut document: Value = crate::parse(text)?;
        if let Some(inner) = document.get_mut("data").filter(|data| data.get("flags").is_some()) {
            document = inner.take();
        }
        Ok(Self { document, regexes: Regexes::default() })
    }

    fn flag(&mut self, key: &str, who: &Person, depth: usize) -> Option<(usize, Value)> {
        let flag = self.document.get("flags")?.get(key)?.clone();
        let number = |value: &Value, name: &str| value.get(name)?.as_u64().map(|n| n as usize);
        let give = |n: usize| Some((n, flag.get("variations")?.get(n)?.clone()));
        let off = || give(number(&flag, "offVariation")?);
        if flag.get("on") != Some(&Value::Bool(true)) || depth > 16 {
            return off();
        }
        for needs in list_of(&flag, "prerequisites") {
            let parent = needs.get("key")?.as_str()?;
            let is_on = self.document.pointer(&format!("/flags/{parent}/on"));
            let is_on = is_on == Some(&Value::Bool(true));
            let given = self.flag(parent, who, depth + 1).map(|(n, _)| n);
            if !is_on || given != number(needs, "variation") {
                return off();
            }
        }
        let id = who.get("user_id");
        let contexts = list_of(&flag, "contextTargets");
        let users = list_of(&flag, "targets");
        let names = |target: &Value| list_of(target, "values").contains(&id);
        let targeted = if contexts.is_empty() {
            users.iter().find(|target| names(target))
        } else {
            contexts.iter().find(|target| {
                let same = |one: &&Value| one.get("variation") == target.get("variation");
                if list_of(target, "values").is_empty() {
                    users.iter().filter(same).any(names)
                } else {
                    names(target)
                }
            })
        };
        if let Some(target) = targeted {
            return give(number(target, "variation")?);
        }
        let salt = flag.get("salt").and_then(Value::as_str).unwrap_or_default().to_owned();
        for rule in list_of(&flag, "rules") {
            if list_of(rule, "clauses").iter().all(|clause| self.clause(clause, who, 0)) {
                return give(chosen(rule, key, &salt, who)?);
            }
        }
        give(chosen(flag.get("fallthrough")?, key, &salt, who)?)
    }

    fn clause(&mut self, clause: &Value, who: &Person, depth: usize) -> bool {
        let negate = clause.get("negate") == Some(&Value::Bool(true));
        let op = clause.get("op").and_then(Value::as_str).unwrap_or_default();
        let values = list_of(clause, "values");
        if op == "segmentMatch" {
            let mut keys = values.iter().filter_map(Value::as_str);
            return keys.any(|key| self.segment(key, who, depth + 1)) != negate;
        }
        let name = clause.get("attribute").and_then(Value::as_str).unwrap_or_default();
        let is_path = clause.get("contextKind").is_some();
        let name = if is_path { name.strip_prefix('/').unwrap_or(name) } else { name };
        let found = who.get(&field(name));
        let found = match &found {
            Value::Null => return false,
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let any = found.iter().any(|one| values.iter().any(|value| self.holds(op, one, value)));
        any != negate
    }

    fn holds(&mut self, op: &str, left: &Value, right: &Value) -> bool {
        let texts = || Some((left.as_str()?, right.as_str()?));
        let numbers = || Some((left.as_f64()?, right.as_f64()?));
        let versions = || Some((version(left.as_str()?)?, version(right.as_str()?)?));
        let answer = match op {
            "in" => Some(same(left, right)),
            "startsWith" => texts().map(|(a, b)| a.starts_with(b)),
            "endsWith" => texts().map(|(a, b)| a.ends_with(b)),
            "contains" => texts().map(|(a, b)| a.contains(b)),
            "matches" => texts().map(|(a, b)| self.regexes.find(b, a)),
            "lessThan" => numbers().map(|(a, b)| a < b),
            "lessThanOrEqual" => numbers().map(|(a, b)| a <= b),
            "greaterThan" => numbers().map(|(a, b)| a > b),
            "greaterThanOrEqual" => numbers().map(|(a, b)| a >= b),
            "semVerEqual" => versions().map(|(a, b)| a.cmp_precedence(&b).is_eq()),
            "semVerLessThan" => versions().map(|(a, b)| a.cmp_precedence(&b).is_lt()),
            "semVerGreaterThan" => versions().map(|(a, b)| a.cmp_precedence(&b).is_gt()),
            _ => None,
        };
        answer.unwrap_or(false)
    }

    fn segment(&mut self, key: &str, who: &Person, depth: usize) -> bool {
        let segment = self.document.get("segments").and_then(|all| all.get(key)).cloned();
        let Some(segment) = segment.filter(|_| depth <= 16) else { return false };
        let id = who.get("user_id");
        let names = |lists: &str, contexts: &str| {
            let contexts = list_of(&segment, contexts);
            list_of(&segment, lists).contains(&id)
                || contexts.iter().any(|target| list_of(target, "values").contains(&id))
        };
        if names("included", "includedContexts") {
            return true;
        }
        if names("excluded", "excludedContexts") {
            return false;
        }
        let salt = segment.get("salt").and_then(Value::as_str).unwrap_or_default();
        list_of(&segment, "rules").iter().any(|rule| {
            let by = rule.get("bucketBy").and_then(Value::as_str).unwrap_or("key");
            let weight = rule.get("weight").and_then(Value::as_f64);
            list_of(rule, "clauses").iter().all(|clause| self.clause(clause, who, depth))
                && weight.is_none_or(|weight| {
                    weight < 0.0 || bucket(&format!("{key}.{salt}"), by, who) < weight / 100_000.0
                })
        })
    }
}

impl Asked for Source {
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value> {
        if let Some(value) = self.document.get("flagValues").and_then(|all| all.get(key)) {
            return Some(value.clone());
        }
        self.flag(key, who, 0).map(|(_, value)| value)
    }
}

fn chosen(outcome: &Value, key: &str, salt: &str, who: &Person) -> Option<usize> {
    if let Some(n) = outcome.get("variation").and_then(Value::as_u64) {
        return Some(n as usize);
    }
    let rollout = outcome.get("rollout")?;
    let seed = rollout.get("seed").and_then(Value::as_i64);
    let start = seed.map_or_else(|| format!("{key}.{salt}"), |seed| seed.to_string());
    let is_experiment = rollout.get("kind").and_then(Value::as_str) == Some("experiment");
    let by = rollout.get("bucketBy").and_then(Value::as_str).filter(|_| !is_experiment);
    let bucket = bucket(&start, by.unwrap_or("key"), who);
    let variations = list_of(rollout, "variations");
    let mut sum = 0.0;
    let hit = variations.iter().find(|one| {
        sum += one.get("weight").and_then(Value::as_f64).unwrap_or_default() / 100_000.0;
        bucket < sum
    });
    Some(hit.or(variations.last())?.get("variation")?.as_u64()? as usize)
}

/// A missing attribute is bucket 0.
fn bucket(start: &str, by: &str, who: &Person) -> f64 {
    let id = match who.get(&field(by.strip_prefix('/').unwrap_or(by))) {
        Value::String(text) => text,
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return 0.0,
    };
    sha1_share(&format!("{start}.{id}"))
}
