//! GrowthBook's conditions: MongoDB's query language, as far as constraints can say it exactly.

use serde_json::{Map, Value};
use switchback_core::model::{Constraint, Operator};

use super::Reader;
use crate::condition::{Condition, is_set, not, plain, test};
use crate::flagd::full_version;
use crate::{Weight, number_text};

impl Reader<'_> {
    /// Where a condition holds.
    pub(super) fn condition(&mut self, condition: &Value) -> Result<Condition, String> {
        let Some(object) = condition.as_object() else {
            return Err("has a condition that is no object".to_owned());
        };
        let mut all = Vec::new();
        for (name, inner) in object {
            all.push(match name.as_str() {
                "$and" => Condition::All(self.list(inner)?),
                "$or" if inner.as_array().is_some_and(Vec::is_empty) => Condition::Always,
                "$or" => Condition::Any(self.list(inner)?),
                "$nor" if inner.as_array().is_some_and(Vec::is_empty) => Condition::Never,
                "$nor" => not(Condition::Any(self.list(inner)?)),
                "$not" => not(self.condition(inner)?),
                name if name.starts_with('$') => {
                    return Err(format!("uses `{name}`, which has no counterpart"));
                }
                name => self.attribute(name, inner)?,
            });
        }
        Ok(Condition::All(all))
    }

    fn list(&mut self, list: &Value) -> Result<Vec<Condition>, String> {
        let list = list.as_array().ok_or("has a list of conditions that is no list")?;
        list.iter().map(|one| self.condition(one)).collect()
    }

    fn attribute(&mut self, name: &str, wanted: &Value) -> Result<Condition, String> {
        if name.contains('.') {
            let message = format!(
                "asks for `{name}` inside another attribute: the app has to send it as a property of that name"
            );
            self.note(Weight::Differs, "condition", message);
        }
        let field = self.file.field(name);
        self.value(name, &field, wanted)
    }

    fn value(&mut self, name: &str, field: &str, wanted: &Value) -> Result<Condition, String> {
        match wanted {
            Value::Object(operators) if is_operators(operators) => {
                let mut all = Vec::new();
                for (operator, value) in operators {
                    all.push(self.operator(name, field, operator, value)?);
                }
                Ok(Condition::All(all))
            }
            other => equal(field, other),
        }
    }

    fn operator(
        &mut self,
        name: &str,
        field: &str,
        operator: &str,
        value: &Value,
    ) -> Result<Condition, String> {
        Ok(match operator {
            "$eq" => equal(field, value)?,
            "$ne" => not(equal(field, value)?),
            "$in" => is_in(field, value)?,
            "$nin" => not(is_in(field, value)?),
            "$ini" => is_in_any_case(field, value)?,
            "$nini" => not(is_in_any_case(field, value)?),
            "$inGroup" => self.group(field, value)?,
            "$notInGroup" => not(self.group(field, value)?),
            "$exists" => match value {
                Value::Bool(true) => is_set(field),
                Value::Bool(false) => not(is_set(field)),
                _ => return Err("uses `$exists` with something else than true or false".into()),
            },
            "$lt" => self.order(name, field, Operator::NumLt, value)?,
            "$lte" => self.order(name, field, Operator::NumLte, value)?,
            "$gt" => self.order(name, field, Operator::NumGt, value)?,
            "$gte" => self.order(name, field, Operator::NumGte, value)?,
            "$regex" | "$regexi" => {
                let pattern = value.as_str().ok_or("uses `$regex` without a text")?;
                Condition::Test(Constraint {
                    field: field.to_owned(),
                    operator: Operator::Regex,
                    values: vec![pattern.to_owned()],
                    inverted: false,
                    case_insensitive: operator == "$regexi",
                })
            }
            "$all" => {
                let list = value.as_array().filter(|list| list.len() > 1);
                let list = list.ok_or("uses `$all` without a list of several values")?;
                Condition::All(list.iter().map(|one| equal(field, one)).collect::<Result<_, _>>()?)
            }
            "$not" => not(self.value(name, field, value)?),
            "$veq" => self.version(name, field, Operator::SemverEq, value)?,
            "$vne" => not(self.version(name, field, Operator::SemverEq, value)?),
            "$vlt" => self.version(name, field, Operator::SemverLt, value)?,
            "$vlte" => self.version(name, field, Operator::SemverLte, value)?,
            "$vgt" => self.version(name, field, Operator::SemverGt, value)?,
            "$vgte" => self.version(name, field, Operator::SemverGte, value)?,
            other => return Err(format!("uses `{other}`, which has no counterpart")),
        })
    }

    fn order(
        &mut self,
        name: &str,
        field: &str,
        operator: Operator,
        value: &Value,
    ) -> Result<Condition, String> {
        let number = value.as_number().ok_or("puts texts in order, not numbers")?;
        let bound = number.as_f64().unwrap_or_default();
        let holds_at_0 = match operator {
            Operator::NumLt => bound > 0.0,
            Operator::NumLte => bound >= 0.0,
            Operator::NumGt => bound < 0.0,
            _ => bound <= 0.0,
        };
        if holds_at_0 {
            let message = format!(
                "a missing `{name}` counts as 0 in GrowthBook's JavaScript and as nothing here and in others of its SDKs"
            );
            self.note(Weight::Differs, "condition", message);
        }
        Ok(test(field, operator, [number_text(number)]))
    }

    fn version(
        &mut self,
        name: &str,
        field: &str,
        operator: Operator,
        value: &Value,
    ) -> Result<Condition, String> {
        let text = value.as_str().unwrap_or_default();
        let is_full = !text.starts_with(['v', 'V']) && text.split('.').count() >= 3;
        let version = full_version(text).filter(|_| is_full);
        let version = version.ok_or_else(|| {
            format!("compares with `{text}`, which is no version of three numbers")
        })?;
        let message = format!(
            "compares the version in `{name}`: here it must have three numbers; one that is missing or written otherwise fails"
        );
        self.note(Weight::Differs, "condition", message);
        Ok(Condition::All(vec![is_set(field), test(field, operator, [version])]))
    }

    fn group(&mut self, field: &str, value: &Value) -> Result<Condition, String> {
        let id = value.as_str().unwrap_or_default();
        match self.file.groups.get(id) {
            Some(list @ Value::Array(_)) => is_in(field, list),
            Some(_) => Err(format!("uses the saved group `{id}`, which is no list")),
            None => Ok(Condition::Never),
        }
    }
}

fn is_operators(object: &Map<String, Value>) -> bool {
    !object.is_empty() && object.keys().all(|name| name.starts_with('$'))
}

fn equal(field: &str, value: &Value) -> Result<Condition, String> {
    match value {
        Value::Null => Ok(not(is_set(field))),
        Value::Bool(value) => Ok(test(field, Operator::In, [value.to_string()])),
        Value::Number(number) => Ok(test(field, Operator::NumEq, [number_text(number)])),
        Value::String(text) => Ok(test(field, Operator::In, [plain(text)?])),
        _ => Err("compares with a list or an object".to_owned()),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or("uses `$in` without a list")?;
    let text = |one: &Value| match one {
        Value::String(text) => plain(text),
        Value::Number(number) => Ok(number_text(number)),
        Value::Bool(value) => Ok(value.to_string()),
        _ => Err("has a list with something that is no text or number".to_owned()),
    };
    list.iter().map(text).collect()
}

fn is_in(field: &str, value: &Value) -> Result<Condition, String> {
    let values = texts(value)?;
    Ok(if values.is_empty() { Condition::Never } else { test(field, Operator::In, values) })
}

/// `IN` knows no case, so it is a regular expression.
fn is_in_any_case(field: &str, value: &Value) -> Result<Condition, String> {
    let values = texts(value)?;
    if values.iter().any(|value| !value.is_ascii()) {
        return Err("compares texts that are not ASCII without regard to case".to_owned());
    }
    if values.is_empty() {
        return Ok(Condition::Never);
    }
    let list: Vec<String> = values.iter().map(|value| regex::escape(value)).collect();
    Ok(Condition::Test(Constraint {
        field: field.to_owned(),
        operator: Operator::Regex,
        values: vec![format!(r"\A(?:{})\z", list.join("|"))],
        inverted: false,
        case_insensitive: true,
    }))
}
