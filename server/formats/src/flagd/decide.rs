//! flagd's own decisions, computed from its file: what a drift report compares with.

use serde_json::{Map, Value, json};

use super::{field, logic};
use crate::drift::{Person, Source as Asked, same, version};
use crate::hash::murmur3;

/// A definition file that can be asked.
pub struct Source {
    flags: Map<String, Value>,
    evaluators: Map<String, Value>,
}

impl Source {
    /// Takes a file that `import` has read.
    pub fn new(text: &str) -> Result<Self, String> {
        let document: Value = crate::parse(text)?;
        let part = |name: &str| document.get(name).and_then(Value::as_object).cloned();
        let (flags, evaluators) = (part("flags"), part("$evaluators"));
        Ok(Self { flags: flags.unwrap_or_default(), evaluators: evaluators.unwrap_or_default() })
    }
}

impl Asked for Source {
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value> {
        let flag = self.flags.get(key)?;
        if flag.get("state")?.as_str()? != "ENABLED" {
            return None;
        }
        let targeting = flag.get("targeting").unwrap_or(&Value::Null);
        let is_empty = targeting.as_object().is_some_and(Map::is_empty);
        let chosen = if is_empty {
            Value::Null
        } else {
            Engine { key, who, evaluators: &self.evaluators }.run(targeting)
        };
        let name = match &chosen {
            Value::String(name) => name.clone(),
            Value::Bool(value) => value.to_string(),
            _ => flag.get("defaultVariant")?.as_str()?.to_owned(),
        };
        flag.get("variants")?.get(&name).cloned()
    }

    fn is_list(&self, name: &str) -> bool {
        self.flags.values().any(|flag| looks_into(flag, name))
    }
}

/// Whether something in a definition looks for elements of a field.
fn looks_into(value: &Value, name: &str) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|one| looks_into(one, name)),
        Value::Object(map) => map.iter().any(|(key, inner)| {
            let var = (key == "some").then(|| inner.get(0)?.get("var")?.as_str()).flatten();
            var.is_some_and(|var| field(var) == name) || looks_into(inner, name)
        }),
        _ => false,
    }
}

struct Engine<'s> {
    key: &'s str,
    who: &'s Person,
    evaluators: &'s Map<String, Value>,
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) => true,
    }
}

impl Engine<'_> {
    fn run(&self, logic: &Value) -> Value {
        let Some((operator, raw)) = logic::operation(logic) else { return logic.clone() };
        let argument = |n: usize| raw.get(n).map_or(Value::Null, |one| self.run(one));
        let texts = || Some((argument(0).as_str()?.to_owned(), argument(1).as_str()?.to_owned()));
        match operator {
            "$ref" => {
                let name = raw.first().and_then(Value::as_str).unwrap_or_default();
                self.evaluators.get(name).map_or(Value::Null, |inner| self.run(inner))
            }
            "var" => match raw.first().and_then(Value::as_str) {
                Some("$flagd.flagKey") => json!(self.key),
                Some("$flagd.timestamp") => json!(self.who.now_ms.div_euclid(1000)),
                Some(name) => self.who.get(&field(name)),
                None => Value::Null,
            },
            "if" | "?:" => {
                let mut rest = raw.as_slice();
                while let [condition, then, more @ ..] = rest {
                    if truthy(&self.run(condition)) {
                        return self.run(then);
                    }
                    rest = more;
                }
                rest.first().map_or(Value::Null, |last| self.run(last))
            }
            "and" => {
                let all = raw.iter().all(|one| truthy(&self.run(one)));
                json!(all)
            }
            "or" => json!(raw.iter().any(|one| truthy(&self.run(one)))),
            "!" => json!(!truthy(&argument(0))),
            "!!" => json!(truthy(&argument(0))),
            "==" | "===" => json!(same(&argument(0), &argument(1))),
            "!=" | "!==" => json!(!same(&argument(0), &argument(1))),
            "in" => json!(match (argument(0), argument(1)) {
                (needle, Value::Array(heap)) => heap.iter().any(|one| same(&needle, one)),
                (Value::String(needle), Value::String(heap)) => heap.contains(&needle),
                _ => false,
            }),
            // With the one condition that definitions of ours use.
            "some" => {
                let found =
                    raw.get(1).and_then(|inner| inner.get("in")?.get(1)?.as_array().cloned());
                json!(match (argument(0), found) {
                    (Value::Array(list), Some(wanted)) =>
                        list.iter().any(|one| wanted.contains(one)),
                    _ => false,
                })
            }
            "starts_with" => {
                texts().map_or(Value::Null, |(text, start)| json!(text.starts_with(&start)))
            }
            "ends_with" => texts().map_or(Value::Null, |(text, end)| json!(text.ends_with(&end))),
            "cat" => {
                let text = |one: &Value| match self.run(one) {
                    Value::String(text) => text,
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                json!(raw.iter().map(text).collect::<String>())
            }
            "<" | "<=" | ">" | ">=" => self.order(operator, &raw),
            "sem_ver" => {
                let operator = argument(1);
                let answer = (|| {
                    let (left, right) = (argument(0), argument(2));
                    compare(left.as_str()?, operator.as_str()?, right.as_str()?)
                })();
                answer.map_or(Value::Null, |answer| json!(answer))
            }
            "fractional" => self.fractional(&raw),
            _ => Value::Null,
        }
    }

    fn order(&self, operator: &str, raw: &[Value]) -> Value {
        let numbers: Option<Vec<f64>> = raw.iter().map(|one| self.run(one).as_f64()).collect();
        let Some(numbers) = numbers else { return json!(false) };
        let holds = |pair: &[f64]| match (operator, pair) {
            ("<", [a, b]) => a < b,
            ("<=", [a, b]) => a <= b,
            (">", [a, b]) => a > b,
            (">=", [a, b]) => a >= b,
            _ => false,
        };
        json!(numbers.windows(2).all(holds))
    }

    fn fractional(&self, raw: &[Value]) -> Value {
        let own = || {
            let id = self.who.get("user_id");
            let id = id.as_str().filter(|id| !id.is_empty())?;
            Some(format!("{}{id}", self.key))
        };
        let (hashed, items) = match raw {
            [first, rest @ ..] if !first.is_array() => match self.run(first) {
                Value::String(text) => (Some(text), rest),
                _ => (own(), rest),
            },
            all => (own(), all),
        };
        let Some(hashed) = hashed else { return Value::Null };
        let weight = |item: &Value| {
            let weight = item.get(1).map_or(1, |weight| weight.as_i64().unwrap_or(0));
            weight.max(0).cast_unsigned()
        };
        let total: u64 = items.iter().map(weight).sum();
        let point = (u64::from(murmur3(hashed.as_bytes(), 0)) * total) >> 32;
        let mut sum = 0;
        for item in items {
            sum += weight(item);
            if sum > point {
                return item.get(0).cloned().unwrap_or(Value::Null);
            }
        }
        Value::Null
    }
}

fn compare(left: &str, operator: &str, right: &str) -> Option<bool> {
    let (left, right) = (version(left)?, version(right)?);
    let order = left.cmp_precedence(&right);
    Some(match operator {
        "=" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        "^" => left.major == right.major,
        "~" => (left.major, left.minor) == (right.major, right.minor),
        _ => return None,
    })
}
