//! GrowthBook's own decisions, computed from its payload: what a drift report compares with.

use serde_json::{Map, Value};

use super::primary;
use crate::drift::{Person, Regexes, Source as Asked, list_of, same, version};
use crate::field_name;
use crate::hash::fnv1a;

/// A payload that can be asked.
pub struct Source {
    features: Map<String, Value>,
    groups: Map<String, Value>,
    primary: String,
    regexes: Regexes,
}

impl Source {
    /// Takes a payload that `import` has read.
    pub fn new(text: &str) -> Result<Self, String> {
        let document: Value = crate::parse(text)?;
        let part = |name: &str| document.get(name).and_then(Value::as_object).cloned();
        let features = part("features").unwrap_or_default();
        let primary = primary(&features);
        let groups = part("savedGroups").unwrap_or_default();
        Ok(Self { features, groups, primary, regexes: Regexes::default() })
    }

    fn get(&self, who: &Person, name: &str) -> Value {
        who.get(&field_name(name, &self.primary))
    }

    /// A hashed attribute as text; `None` when there is nothing to hash.
    fn unit(&self, who: &Person, name: &str) -> Option<String> {
        match self.get(who, name) {
            Value::String(text) => Some(text).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn rule(&mut self, key: &str, rule: &Value, who: &Person) -> Option<Value> {
        let text = |name: &str| rule.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
        if !rule.get("condition").is_none_or(|condition| self.holds(condition, who)) {
            return None;
        }
        let by = text("hashAttribute").unwrap_or("id");
        let version = rule.get("hashVersion").and_then(Value::as_i64).unwrap_or(1);
        let inside = |n: f64, range: &Value| {
            let bound = |place: usize| range.get(place).and_then(Value::as_f64);
            bound(0).is_some_and(|from| n >= from) && bound(1).is_some_and(|to| n < to)
        };
        if rule.get("filters").is_some_and(Value::is_array) {
            for filter in list_of(rule, "filters") {
                let attribute = filter.get("attribute").and_then(Value::as_str).unwrap_or(by);
                let seed = filter.get("seed").and_then(Value::as_str).unwrap_or_default();
                let version = filter.get("hashVersion").and_then(Value::as_i64).unwrap_or(2);
                let n = hash(seed, &self.unit(who, attribute)?, version);
                if !list_of(filter, "ranges").iter().any(|range| inside(n, range)) {
                    return None;
                }
            }
        }
        if let Some(value) = rule.get("force") {
            let coverage = rule.get("coverage").and_then(Value::as_f64);
            let range = rule.get("range");
            if coverage.is_none() && range.is_none() {
                return Some(value.clone());
            }
            let unit = self.unit(who, by)?;
            let n = hash(text("seed").unwrap_or(key), &unit, version);
            let admitted = match (range, coverage) {
                (Some(range), _) => inside(n, range),
                (None, Some(coverage)) => coverage > 0.0 && n <= coverage,
                (None, None) => true,
            };
            return admitted.then(|| value.clone());
        }
        let variations = list_of(rule, "variations");
        let unit = self.unit(who, by)?;
        if variations.len() < 2 {
            return None;
        }
        if let Some(namespace) = rule.get("namespace").filter(|_| rule.get("filters").is_none()) {
            let name = namespace.get(0)?.as_str()?;
            let n = hash(&format!("__{name}"), &unit, 1);
            let bound = |place: usize| namespace.get(place).and_then(Value::as_f64);
            if n < bound(1)? || n >= bound(2)? {
                return None;
            }
        }
        let n = hash(text("seed").or(text("key")).unwrap_or(key), &unit, version);
        let picked = match rule.get("ranges") {
            Some(ranges) => ranges.as_array()?.iter().position(|range| inside(n, range))?,
            None => picked(rule, variations.len(), n)?,
        };
        let passes = rule.get("meta").and_then(|meta| meta.get(picked)?.get("passthrough"));
        if passes == Some(&Value::Bool(true)) {
            return None;
        }
        variations.get(picked).cloned()
    }

    fn holds(&mut self, condition: &Value, who: &Person) -> bool {
        let Some(object) = condition.as_object() else { return false };
        object.iter().all(|(name, inner)| match name.as_str() {
            "$or" => {
                let list = inner.as_array().cloned().unwrap_or_default();
                list.is_empty() || list.iter().any(|one| self.holds(one, who))
            }
            "$nor" => {
                let list = inner.as_array().cloned().unwrap_or_default();
                !(list.is_empty() || list.iter().any(|one| self.holds(one, who)))
            }
            "$and" => inner.as_array().into_iter().flatten().all(|one| self.holds(one, who)),
            "$not" => !self.holds(inner, who),
            name => {
                let found = self.get(who, name);
                self.value(&found, inner)
            }
        })
    }

    fn value(&mut self, found: &Value, wanted: &Value) -> bool {
        match wanted {
            Value::Object(operators) => {
                operators.iter().all(|(operator, value)| self.operator(found, operator, value))
            }
            other => same(found, other),
        }
    }

    fn operator(&mut self, found: &Value, operator: &str, value: &Value) -> bool {
        let numbers = || Some((found.as_f64()?, value.as_f64()?));
        let versions = || {
            let (a, b) = (version(found.as_str()?)?, version(value.as_str()?)?);
            Some(a.cmp_precedence(&b))
        };
        let within = |list: &Value, lower: bool| {
            let text = |one: &Value| match one {
                Value::String(text) if lower => Value::String(text.to_lowercase()),
                other => other.clone(),
            };
            let list: Vec<Value> = list.as_array().into_iter().flatten().map(text).collect();
            let has = |one: &Value| list.iter().any(|known| same(known, &text(one)));
            match found {
                Value::Array(several) => several.iter().any(has),
                one => !one.is_null() && has(one),
            }
        };
        let group = |groups: &Map<String, Value>| {
            let list = value.as_str().and_then(|id| groups.get(id)).cloned();
            within(&list.unwrap_or_else(|| Value::Array(Vec::new())), false)
        };
        match operator {
            "$eq" => same(found, value),
            "$ne" => !same(found, value),
            "$in" => within(value, false),
            "$nin" => !within(value, false),
            "$ini" => within(value, true),
            "$nini" => !within(value, true),
            "$inGroup" => group(&self.groups),
            "$notInGroup" => !group(&self.groups),
            "$exists" => found.is_null() != (*value == Value::Bool(true)),
            "$lt" => numbers().is_some_and(|(a, b)| a < b),
            "$lte" => numbers().is_some_and(|(a, b)| a <= b),
            "$gt" => numbers().is_some_and(|(a, b)| a > b),
            "$gte" => numbers().is_some_and(|(a, b)| a >= b),
            "$regex" | "$regexi" => {
                let pattern = value.as_str().unwrap_or_default();
                let pattern = match operator {
                    "$regexi" => format!("(?i){pattern}"),
                    _ => pattern.to_owned(),
                };
                found.as_str().is_some_and(|text| self.regexes.find(&pattern, text))
            }
            "$all" => found.as_array().is_some_and(|several| {
                value.as_array().into_iter().flatten().all(|one| several.contains(one))
            }),
            "$not" => !self.value(found, value),
            "$veq" => versions().is_some_and(std::cmp::Ordering::is_eq),
            "$vne" => !versions().is_some_and(std::cmp::Ordering::is_eq),
            "$vlt" => versions().is_some_and(std::cmp::Ordering::is_lt),
            "$vlte" => versions().is_some_and(std::cmp::Ordering::is_le),
            "$vgt" => versions().is_some_and(std::cmp::Ordering::is_gt),
            "$vgte" => versions().is_some_and(std::cmp::Ordering::is_ge),
            _ => false,
        }
    }
}

impl Asked for Source {
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value> {
        let feature = self.features.get(key)?.clone();
        for rule in list_of(&feature, "rules") {
            if let Some(value) = self.rule(key, rule, who) {
                return Some(value);
            }
        }
        Some(feature.get("defaultValue").cloned().unwrap_or(Value::Null))
    }
}

fn picked(rule: &Value, variations: usize, n: f64) -> Option<usize> {
    let coverage = rule.get("coverage").and_then(Value::as_f64).unwrap_or(1.0).clamp(0.0, 1.0);
    let given: Vec<f64> = list_of(rule, "weights").iter().filter_map(Value::as_f64).collect();
    let total: f64 = given.iter().sum();
    let usable = given.len() == variations && (0.99..=1.01).contains(&total);
    let mut start = 0.0;
    (0..variations).find(|place| {
        let equal = 1.0 / variations as f64;
        let weight = given.get(*place).copied().filter(|_| usable).unwrap_or(equal);
        let (from, to) = (start, start + coverage * weight);
        start += weight;
        n >= from && n < to
    })
}

fn hash(seed: &str, unit: &str, version: i64) -> f64 {
    if version == 2 {
        let first = fnv1a(&format!("{seed}{unit}"));
        return f64::from(fnv1a(&first.to_string()) % 10_000) / 10_000.0;
    }
    f64::from(fnv1a(&format!("{unit}{seed}")) % 1_000) / 1_000.0
}
