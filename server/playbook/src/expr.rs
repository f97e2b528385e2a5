//! Expressions: `${{ inputs.eta }}` inside values, and the bare expression of an `if:`.
//!
//! They are minijinja's, in an environment that has no loader, no functions and six filters, where an
//! undefined name is an error and fuel ends every loop. Evaluating one never changes anything.

use std::collections::BTreeSet;

use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, UndefinedBehavior, filters, tests};
use serde_json::Value;

use crate::problem::{Problem, suggest};
use crate::yaml::{Content, Node};

/// The longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4 * 1024;
/// The longest text that filling in expressions may make, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
const FUEL: u64 = 20_000;

fn environment<'e>() -> Environment<'e> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(50);
    env.add_filter("default", filters::default);
    env.add_filter("length", filters::length);
    env.add_filter("lower", filters::lower);
    env.add_filter("round", filters::round);
    env.add_filter("trim", filters::trim);
    env.add_filter("upper", filters::upper);
    env.add_test("defined", tests::is_defined);
    env.add_test("none", tests::is_none);
    env
}

/// Evaluates one expression against a context. The error is a sentence without a position.
pub fn eval(expression: &str, context: &Value) -> Result<Value, String> {
    eval_with(expression, context, |_| {})
}

/// The same with functions.
fn eval_with(
    expression: &str,
    context: &Value,
    add: impl FnOnce(&mut Environment<'_>),
) -> Result<Value, String> {
    check_shape(expression)?;
    let mut env = environment();
    add(&mut env);
    let compiled = env.compile_expression(expression).map_err(|error| sentence(&error))?;
    let value = compiled.eval(Serde(context)).map_err(|error| sentence(&error))?;
    if value.is_undefined() {
        return Err(format!("`{}` is not defined", expression.trim()));
    }
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return Err("the result is a list or a map".to_owned());
    }
    match serde_json::to_value(&value) {
        Ok(Value::String(text)) if text.len() > TEXT_BYTES_MAX => {
            Err("the result is too long".to_owned())
        }
        Ok(value) => Ok(value),
        Err(_) => Err("the result is not plain data".to_owned()),
    }
}

/// Evaluates a condition: anything but `false`, `null`, 0 and an empty text holds.
pub fn holds(expression: &str, context: &Value) -> Result<bool, String> {
    holds_with(expression, context, |_| {})
}

/// The same with functions, which must not have effects and may be called again.
pub(crate) fn holds_with(
    expression: &str,
    context: &Value,
    add: impl FnOnce(&mut Environment<'_>),
) -> Result<bool, String> {
    Ok(match eval_with(expression, context, add)? {
        Value::Null => false,
        Value::Bool(answer) => answer,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    })
}

/// The dotted names that an expression reads, such as `inputs.eta`. The error is a syntax error.
pub fn names(expression: &str) -> Result<BTreeSet<String>, String> {
    check_shape(expression)?;
    let env = environment();
    let compiled = env.compile_expression(expression).map_err(|error| sentence(&error))?;
    Ok(compiled.undeclared_variables(true).into_iter().collect())
}

/// Refuses names that are not in `known`; a name may also reach into a known one that ends in `.*`.
pub fn check_names(expression: &str, known: &[String]) -> Result<(), (String, String)> {
    for name in names(expression).map_err(|message| (message, String::new()))? {
        let found = known.iter().any(|known| match known.strip_suffix(".*") {
            Some(stem) => name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')),
            None => *known == name,
        });
        if !found {
            let hint = suggest(&name, known.iter().map(String::as_str));
            return Err((format!("`{name}` is not defined here"), hint));
        }
    }
    Ok(())
}

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'t> {
    /// Stands as it is.
    Plain(&'t str),
    /// Stood between `${{` and `}}`.
    Expression(&'t str),
}

/// Splits a text at its expressions.
pub fn split(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((plain, tail)) = rest.split_once("${{") {
        if !plain.is_empty() {
            parts.push(Part::Plain(plain));
        }
        let Some((expression, tail)) = tail.split_once("}}") else {
            return Err("`${{` is never closed by `}}`".to_owned());
        };
        parts.push(Part::Expression(expression));
        rest = tail;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Plain(rest));
    }
    Ok(parts)
}

/// Fills in a text. A text that is one expression and nothing else keeps the expression's type.
pub fn fill(text: &str, context: &Value) -> Result<Value, String> {
    let parts = split(text)?;
    if let [Part::Expression(only)] = parts.as_slice() {
        return eval(only, context);
    }
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Plain(plain) => out.push_str(plain),
            Part::Expression(expression) => match eval(expression, context)? {
                Value::String(value) => out.push_str(&value),
                value => out.push_str(&value.to_string()),
            },
        }
        if out.len() > TEXT_BYTES_MAX {
            return Err(format!("the text would be longer than {TEXT_BYTES_MAX} bytes"));
        }
    }
    Ok(Value::String(out))
}

/// Turns a node into JSON, filling in every expression. Faults are added to `problems`.
pub fn resolve(node: &Node, path: &str, context: &Value, problems: &mut Vec<Problem>) -> Value {
    match &node.content {
        Content::Scalar { text, plain } => {
            if text.contains("${{") {
                fill(text, context).unwrap_or_else(|message| {
                    problems.push(Problem::new(path, message).at(node.at));
                    Value::Null
                })
            } else if *plain {
                plain_scalar(text)
            } else {
                Value::String(text.clone())
            }
        }
        Content::List(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| resolve(item, &format!("{path}[{index}]"), context, problems))
            .collect(),
        Content::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| {
                let path = format!("{path}.{}", key.text);
                (key.text.clone(), resolve(value, &path, context, problems))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// What an unquoted scalar means: JSON's own words and numbers, else a text (`NO` and `yes` are texts).
pub fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    let numeric = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    match serde_json::from_str::<serde_json::Number>(text) {
        Ok(number) if numeric => Value::Number(number),
        _ => Value::String(text.to_owned()),
    }
}

/// Refuses what fuel does not see: `[1] * 100000000` is one step and minutes of work (measured: 36 s).
fn check_shape(expression: &str) -> Result<(), String> {
    let code = outside_texts(expression);
    if code.contains('*') && code.contains(['[', '{', ',']) {
        return Err("lists cannot be multiplied; leave `*` or the list out".to_owned());
    }
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("the expression is longer than {EXPRESSION_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// An expression without what stands in its quoted texts; a quote that is never closed hides nothing.
fn outside_texts(expression: &str) -> String {
    let mut code = String::new();
    let mut rest = expression;
    while let Some((before, quoted)) = rest.split_once(['\'', '"']) {
        code.push_str(before);
        let quote = rest.get(before.len()..).and_then(|tail| tail.chars().next());
        let mut is_escaped = false;
        let end = quoted.char_indices().find(|(_, c)| {
            let ends = Some(*c) == quote && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            ends
        });
        match end.and_then(|(at, _)| quoted.get(at + 1..)) {
            Some(tail) => rest = tail,
            None => return code + quoted,
        }
    }
    code + rest
}

fn sentence(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests_of_expressions {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lone_expression_keeps_its_type() {
        let context = json!({"inputs": {"share": 50, "who": "ada"}});

        assert_eq!(fill("${{ inputs.share }}", &context), Ok(json!(50)));
        assert_eq!(
            fill("${{ inputs.who }} has ${{ inputs.share }}", &context),
            Ok(json!("ada has 50"))
        );
        assert_eq!(fill("plain", &context), Ok(json!("plain")));
        assert!(fill("${{ inputs.nobody }}", &context).is_err());
        assert!(fill("${{ open", &context).is_err());
        assert_eq!(holds("inputs.share > 10 and inputs.who == 'ada'", &context), Ok(true));
    }

    #[test]
    fn names_are_found_and_the_nearest_is_suggested() {
        let known = ["inputs.eta".to_owned(), "steps.*".to_owned()];

        assert_eq!(check_names("inputs.eta ~ steps.x.state", &known), Ok(()));
        assert_eq!(
            check_names("inputs.etta", &known),
            Err(("`inputs.etta` is not defined here".into(), "did you mean `inputs.eta`?".into()))
        );
    }

    #[test]
    fn nothing_that_an_expression_says_can_run_for_long() {
        let nasty = [
            "'a' * 1000000000",
            "('a' * 99999) * 99999",
            "9 ** 9999999",
            "[1] * 100000000",
            "1 in (1, 2) * 100000000",
            "'a\\'' in ['\\''] * 100000000",
            "\"'\" in [\"'\"] * 100000000",
            "range(100000000)",
            "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            "1 +",
            "inputs.__class__.x()",
            "-",
            "not not not",
        ];
        for expression in nasty {
            assert!(eval(expression, &json!({"inputs": {}})).is_err(), "{expression}");
        }
        let deep = format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000));
        assert!(eval(&deep, &json!({})).is_err());
        let long = format!("0{}", "+1".repeat(2_000));
        assert!(eval(&long, &json!({})).is_err() || eval(&long, &json!({})) == Ok(json!(2_000)));
    }
}
