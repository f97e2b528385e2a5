//! JSONLogic as conditions: the part of it that constraints can say exactly.

use serde_json::Value;
use switchback_core::model::{Formula, Operator, Percent, Stickiness};

use super::{Reader, field};
use crate::condition::{Condition, Share, is_set, not, plain, test};
use crate::{Weight, hash, number_text};

/// One side of a comparison.
pub enum Operand {
    /// Always the same.
    Constant(Value),
    /// An attribute of the context.
    Attribute(String),
}

/// An operation and its arguments; a single one needs no list.
pub fn operation(logic: &Value) -> Option<(&str, Vec<Value>)> {
    let object = logic.as_object().filter(|object| object.len() == 1)?;
    let (name, arguments) = object.iter().next()?;
    let arguments = match arguments {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    Some((name, arguments))
}

/// What a side of a comparison is.
pub fn operand(logic: &Value, key: &str) -> Result<Operand, String> {
    match operation(logic) {
        Some(("var", arguments)) => match arguments.as_slice() {
            [Value::String(name)] if name == "$flagd.flagKey" => {
                Ok(Operand::Constant(Value::String(key.to_owned())))
            }
            [Value::String(name)] if !name.is_empty() => Ok(Operand::Attribute(name.clone())),
            _ => Err("a `var` has a default or no name".to_owned()),
        },
        Some((other, _)) => Err(format!("compares with the result of `{other}`")),
        None if logic.is_object() => Err("compares with an object".to_owned()),
        None => Ok(Operand::Constant(logic.clone())),
    }
}

impl Reader<'_> {
    /// What a `$ref` stands for.
    pub(super) fn resolve<'v>(&'v self, logic: &'v Value) -> Result<&'v Value, String> {
        let mut logic = logic;
        for _ in 0..8 {
            let name = match logic.as_object() {
                Some(object) if object.len() == 1 => object.get("$ref"),
                _ => None,
            };
            let Some(name) = name else { return Ok(logic) };
            let name = name.as_str().unwrap_or_default();
            let found = self.evaluators.get(name);
            logic = found.ok_or_else(|| format!("`$ref` names `{name}`, which is not there"))?;
        }
        Err("`$ref`s refer to each other".to_owned())
    }

    /// Where `logic` is true in JSONLogic's sense.
    pub(super) fn condition(&mut self, logic: &Value) -> Result<Condition, String> {
        self.enter()?;
        let condition = self.condition_inside(logic)?;
        self.depth -= 1;
        Ok(condition)
    }

    fn condition_inside(&mut self, logic: &Value) -> Result<Condition, String> {
        let logic = self.resolve(logic)?.clone();
        let Some((operator, arguments)) = operation(&logic) else {
            return Ok(if is_true(&logic)? { Condition::Always } else { Condition::Never });
        };
        let arguments = arguments.as_slice();
        match operator {
            "and" => self.all(arguments),
            "or" => self.list(arguments).map(Condition::Any),
            "!" | "!!" => match arguments {
                [one] => {
                    let inner = self.condition(one)?;
                    Ok(if operator == "!" { not(inner) } else { inner })
                }
                _ => Err(format!("`{operator}` takes one argument")),
            },
            "var" => self.truth(&logic),
            "==" | "===" => self.equal(arguments),
            "!=" | "!==" => self.equal(arguments).map(not),
            "in" => self.is_in(arguments),
            "starts_with" => self.text(arguments, Operator::StrStartsWith),
            "ends_with" => self.text(arguments, Operator::StrEndsWith),
            "sem_ver" => self.version(arguments),
            "<" | "<=" | ">" | ">=" => self.order(operator, arguments),
            "some" => self.some(arguments),
            "fractional" => self.share(arguments),
            other => Err(format!("uses `{other}`, which has no counterpart")),
        }
    }

    fn list(&mut self, arguments: &[Value]) -> Result<Vec<Condition>, String> {
        if arguments.is_empty() {
            return Err("`and` or `or` without arguments".to_owned());
        }
        arguments.iter().map(|one| self.condition(one)).collect()
    }

    /// Where one of them says that an attribute is there, the others may compare it in any order.
    fn all(&mut self, arguments: &[Value]) -> Result<Condition, String> {
        let before = self.present.len();
        for one in arguments {
            if let Some(("!=" | "!==", sides)) = operation(one)
                && let [attribute, Value::Null] = sides.as_slice()
                && let Operand::Attribute(name) = operand(attribute, self.key)?
            {
                self.present.push(name);
            }
        }
        let all = self.list(arguments).map(Condition::All);
        self.present.truncate(before);
        all
    }

    /// A list that has an element among constants.
    fn some(&mut self, arguments: &[Value]) -> Result<Condition, String> {
        let refuse = || "uses `some` otherwise than to look for one of several texts".to_owned();
        let [list, inner] = arguments else { return Err(refuse()) };
        let Operand::Attribute(name) = operand(list, self.key)? else { return Err(refuse()) };
        let Some(("in", inner)) = operation(inner) else { return Err(refuse()) };
        let [element, Value::Array(texts)] = inner.as_slice() else { return Err(refuse()) };
        if *element != serde_json::json!({"var": ""}) || texts.is_empty() {
            return Err(refuse());
        }
        let texts = texts.iter().map(|one| plain(one.as_str().ok_or_else(refuse)?));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let message =
            format!("looks into the list `{name}`: here a single text counts as one, too");
        self.note(Weight::Differs, message);
        Ok(test(&field(&name), Operator::In, texts))
    }

    /// `fractional` where a condition is expected: the shares that give `true`.
    fn share(&mut self, arguments: &[Value]) -> Result<Condition, String> {
        let refuse =
            || "uses `fractional` as a condition otherwise than with true and false".to_owned();
        let (by, items) = match arguments {
            [first, rest @ ..] if !first.is_array() => (Some(first), rest),
            all => (None, all),
        };
        let mut parts = Vec::new();
        for item in items {
            let [Value::Bool(is_in), weight] = item.as_array().map_or(&[][..], Vec::as_slice)
            else {
                return Err(refuse());
            };
            parts.push((*is_in, weight.as_u64().ok_or_else(refuse)?));
        }
        let total: u64 = parts.iter().map(|(_, weight)| weight).sum();
        if total == 0 || total > i32::MAX as u64 {
            return Err(refuse());
        }
        let (salt, unit) = self.bucketed_by(by)?;
        let point = (u64::from(hash::murmur3(salt.as_bytes(), 0)) * total) >> 32;
        let all = u64::from(Percent::ALL.thousandths());
        let mut ways = Vec::new();
        let mut start = 0;
        for (is_in, weight) in parts {
            let end = start + weight;
            if !(start * all).is_multiple_of(total) || !(end * all).is_multiple_of(total) {
                return Err("has shares that are no steps of 0.001 %".to_owned());
            }
            if is_in && weight > 0 {
                let step = |n: u64| u32::try_from(n * all / total).unwrap_or_default();
                ways.push(Condition::Share(Share {
                    formula: Formula::Flagd,
                    salt: salt.clone(),
                    unit: Stickiness::Field(unit.clone()),
                    start: step(start),
                    end: step(end),
                }));
                // `cat` of a missing attribute is what stands before it.
                if by.is_some() && (start..end).contains(&point) {
                    ways.push(not(is_set(&unit)));
                }
            }
            start = end;
        }
        Ok(Condition::Any(ways))
    }

    /// An attribute that is neither missing, empty, 0 nor false.
    fn truth(&mut self, logic: &Value) -> Result<Condition, String> {
        match operand(logic, self.key)? {
            Operand::Constant(value) => {
                Ok(if is_true(&value)? { Condition::Always } else { Condition::Never })
            }
            Operand::Attribute(name) => {
                let message = format!(
                    "asks whether `{name}` is true: the texts `false` and `0` count as false here"
                );
                self.note(Weight::Differs, message);
                let field = field(&name);
                Ok(Condition::All(vec![
                    test(&field, Operator::Regex, ["(?s)."]),
                    test(&field, Operator::NotIn, ["false", "0"]),
                ]))
            }
        }
    }

    fn equal(&mut self, arguments: &[Value]) -> Result<Condition, String> {
        let [left, right] = arguments else { return Err("`==` takes two arguments".to_owned()) };
        match (operand(left, self.key)?, operand(right, self.key)?) {
            (Operand::Attribute(name), Operand::Constant(value))
            | (Operand::Constant(value), Operand::Attribute(name)) => {
                let field = field(&name);
                match &value {
                    Value::Null => Ok(not(is_set(&field))),
                    Value::String(text) => Ok(test(&field, Operator::In, [plain(text)?])),
                    Value::Bool(value) => Ok(test(&field, Operator::In, [value.to_string()])),
                    Value::Number(number) => {
                        Ok(test(&field, Operator::NumEq, [number_text(number)]))
                    }
                    _ => Err("compares with a list or an object".to_owned()),
                }
            }
            (Operand::Constant(left), Operand::Constant(right)) => {
                Ok(if left == right { Condition::Always } else { Condition::Never })
            }
            _ => Err("compares two attributes with each other".to_owned()),
        }
    }

    fn is_in(&mut self, arguments: &[Value]) -> Result<Condition, String> {
        let [needle, heap] = arguments else { return Err("`in` takes two arguments".to_owned()) };
        match (operand(needle, self.key)?, operand(heap, self.key)?) {
            (Operand::Attribute(name), Operand::Constant(Value::Array(list))) => {
                let mut values = Vec::new();
                for one in &list {
                    values.push(match one {
                        Value::String(text) => plain(text)?,
                        Value::Number(number) => number_text(number),
                        Value::Bool(value) => value.to_string(),
                        _ => return Err("`in` has a list with something computed".to_owned()),
                    });
                }
                if values.is_empty() {
                    return Ok(Condition::Never);
                }
                Ok(test(&field(&name), Operator::In, values))
            }
            (Operand::Constant(Value::String(text)), Operand::Attribute(name)) => {
                let message = format!(
                    "looks for `{text}` in `{name}`: in a text it does so here too, but of a list an element that contains it is enough"
                );
                self.note(Weight::Differs, message);
                Ok(test(&field(&name), Operator::StrContains, [plain(&text)?]))
            }
            _ => Err("uses `in` otherwise than with one attribute and constants".to_owned()),
        }
    }

    fn text(&mut self, arguments: &[Value], operator: Operator) -> Result<Condition, String> {
        match arguments {
            [left, Value::String(text)] => match operand(left, self.key)? {
                Operand::Attribute(name) => Ok(test(&field(&name), operator, [plain(text)?])),
                Operand::Constant(_) => Err("compares two constants".to_owned()),
            },
            _ => Err("compares with something else than a constant text".to_owned()),
        }
    }

    fn version(&mut self, arguments: &[Value]) -> Result<Condition, String> {
        let [left, Value::String(operator), Value::String(version)] = arguments else {
            return Err("`sem_ver` otherwise than with an attribute and a constant".to_owned());
        };
        let Operand::Attribute(name) = operand(left, self.key)? else {
            return Err("`sem_ver` compares two constants".to_owned());
        };
        let version = full_version(version)
            .ok_or_else(|| format!("`sem_ver` compares with `{version}`, which is no version"))?;
        let message = format!(
            "compares the version in `{name}`: here it must have all three numbers and no `v` before them (in `app_version`, `2.1` will do)"
        );
        self.note(Weight::Differs, message);
        let field = field(&name);
        let is = |operator, version: &str| test(&field, operator, [version]);
        let numbers: Vec<u64> =
            version.split(['.', '-', '+']).take(3).map_while(|part| part.parse().ok()).collect();
        let &[major, minor, _] = numbers.as_slice() else {
            return Err("`sem_ver` compares with something that is no version".to_owned());
        };
        // `-0` comes before every other pre-release.
        let between = |from: String, to: String| {
            Condition::All(vec![is(Operator::SemverGte, &from), is(Operator::SemverLt, &to)])
        };
        Ok(match operator.as_str() {
            "=" => is(Operator::SemverEq, &version),
            "!=" => Condition::Any(vec![
                is(Operator::SemverLt, &version),
                is(Operator::SemverGt, &version),
            ]),
            "<" => is(Operator::SemverLt, &version),
            "<=" => is(Operator::SemverLte, &version),
            ">" => is(Operator::SemverGt, &version),
            ">=" => is(Operator::SemverGte, &version),
            "^" => between(format!("{major}.0.0-0"), format!("{}.0.0-0", major.saturating_add(1))),
            "~" => between(
                format!("{major}.{minor}.0-0"),
                format!("{major}.{}.0-0", minor.saturating_add(1)),
            ),
            other => return Err(format!("`sem_ver` has the operator `{other}`")),
        })
    }

    /// Numbers. A missing attribute is 0 to some of flagd's libraries, so only what 0 fails is taken.
    fn order(&mut self, operator: &str, arguments: &[Value]) -> Result<Condition, String> {
        if let [low, middle, high] = arguments {
            let pair = |a: &Value, b: &Value| [a.clone(), b.clone()];
            let Operand::Constant(bound) = operand(low, self.key)? else {
                return Err("compares in an order that has no counterpart".to_owned());
            };
            let is_above_0 = bound.as_f64().is_some_and(|bound| bound > 0.0);
            if !operator.starts_with('<') || !is_above_0 {
                return Err("compares between bounds that start at or below 0".to_owned());
            }
            let Operand::Attribute(name) = operand(middle, self.key)? else {
                return Err("compares constants".to_owned());
            };
            let low = self.order(operator, &pair(low, middle))?;
            let high = match operand(high, self.key)? {
                Operand::Constant(Value::Number(number)) => number_text(&number),
                _ => return Err("compares with something that is no number".to_owned()),
            };
            let less = if operator == "<" { Operator::NumLt } else { Operator::NumLte };
            return Ok(Condition::All(vec![low, test(&field(&name), less, [high])]));
        }
        let [left, right] = arguments else {
            return Err(format!("`{operator}` takes two arguments"));
        };
        let (name, bound, operator) = match (operand(left, self.key)?, operand(right, self.key)?) {
            (Operand::Attribute(name), Operand::Constant(Value::Number(bound))) => {
                (name, bound, operator)
            }
            (Operand::Constant(Value::Number(bound)), Operand::Attribute(name)) => {
                let turned = match operator {
                    "<" => ">",
                    "<=" => ">=",
                    ">" => "<",
                    _ => "<=",
                };
                (name, bound, turned)
            }
            _ => return Err("compares otherwise than an attribute with a number".to_owned()),
        };
        if name == "$flagd.timestamp" {
            return timestamp(operator, &bound);
        }
        let fails_at_0 = bound.as_f64().is_some_and(|bound| match operator {
            ">" => bound >= 0.0,
            ">=" => bound > 0.0,
            _ => false,
        });
        if self.present.contains(&name) {
            let order = match operator {
                "<" => Operator::NumLt,
                "<=" => Operator::NumLte,
                ">" => Operator::NumGt,
                _ => Operator::NumGte,
            };
            return Ok(test(&field(&name), order, [number_text(&bound)]));
        }
        if !fails_at_0 {
            return Err(format!(
                "`{name}` {operator} {bound} holds for a missing attribute in some of flagd's libraries and not in others"
            ));
        }
        let greater = if operator == ">" { Operator::NumGt } else { Operator::NumGte };
        Ok(test(&field(&name), greater, [number_text(&bound)]))
    }
}

/// Seconds there, milliseconds here.
fn timestamp(operator: &str, bound: &serde_json::Number) -> Result<Condition, String> {
    let seconds = bound.as_i64().filter(|seconds| seconds.abs() < 1_000_000_000_000);
    let seconds = seconds.ok_or("compares the time with something that is no whole number")?;
    let (operator, seconds) = match operator {
        ">=" => (Operator::NumGte, seconds),
        ">" => (Operator::NumGte, seconds + 1),
        "<" => (Operator::NumLt, seconds),
        _ => (Operator::NumLt, seconds + 1),
    };
    Ok(test("current_time", operator, [(seconds * 1000).to_string()]))
}

fn is_true(value: &Value) -> Result<bool, String> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(value) => Ok(*value),
        Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        Value::String(text) => Ok(!text.is_empty()),
        Value::Array(list) => Ok(!list.is_empty()),
        Value::Object(_) => Err("has an object where a condition is expected".to_owned()),
    }
}

/// `v1.2` as `1.2.0`.
pub fn full_version(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at_checked(end)?;
    let count = core.split('.').count();
    let is_number = |part: &str| {
        !part.is_empty() && part.len() < 10 && part.bytes().all(|b| b.is_ascii_digit())
    };
    if count > 3 || !core.split('.').all(is_number) {
        return None;
    }
    Some(format!("{core}{}{rest}", ".0".repeat(3 - count)))
}
