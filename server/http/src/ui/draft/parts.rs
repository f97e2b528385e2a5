//! The parts of a draft that rules, flags and segments share: conditions, variants, values.

use serde_json::{Value, json};
use switchback_app::{AppError, Wrong};
use switchback_core::model::{Constraint, Override, Prerequisite, Stickiness, ValueType, Variant};

use super::super::fields::{Fields, split};
use super::super::words::{read_moment, word};

/// One test.
#[derive(Clone, Debug, Default)]
pub struct ConstraintDraft {
    pub field: String,
    pub operator: String,
    pub values: String,
    pub inverted: bool,
    pub case_insensitive: bool,
}

/// One outcome.
#[derive(Clone, Debug, Default)]
pub struct VariantDraft {
    pub name: String,
    pub weight: String,
    pub value: String,
    pub stickiness: String,
    pub overrides: Vec<OverrideDraft>,
}

/// Whom a variant is always given to.
#[derive(Clone, Debug, Default)]
pub struct OverrideDraft {
    pub field: String,
    pub values: String,
}

/// Another flag that comes first.
#[derive(Clone, Debug, Default)]
pub struct PrerequisiteDraft {
    pub flag: String,
    pub state: String,
    pub variants: String,
}

/// Operators that take one value as it is, commas and all.
const SINGLE: [&str; 3] = ["REGEX", "NUM_", "DATE_"];

impl ConstraintDraft {
    /// What the form shows first.
    pub fn of(constraint: &Constraint) -> Self {
        Self {
            field: constraint.field.clone(),
            operator: word(&constraint.operator),
            values: join(&constraint.values),
            inverted: constraint.inverted,
            case_insensitive: constraint.case_insensitive,
        }
    }

    /// The list that was sent.
    pub fn read(form: &Fields, prefix: &str) -> Vec<Self> {
        let indexes = form.indexes(prefix);
        let one = |index: &String| {
            let name = |field: &str| format!("{prefix}.{index}.{field}");
            Self {
                field: form.text(&name("field")).to_owned(),
                operator: form.text(&name("operator")).to_owned(),
                values: form.text(&name("values")).to_owned(),
                inverted: form.is(&name("inverted")),
                case_insensitive: form.is(&name("case_insensitive")),
            }
        };
        indexes.iter().map(one).collect()
    }

    /// The constraint that this means.
    pub fn to_constraint(&self, path: &str, wrong: &mut Vec<Wrong>) -> Option<Constraint> {
        let operator = serde_json::from_value(json!(self.operator)).map_err(|_| {
            let message = format!("`{}` is not an operator", self.operator);
            wrong.push(Wrong { field: format!("{path}.operator"), message });
        });
        let single = SINGLE.iter().any(|name| self.operator.starts_with(name));
        let values = match self.operator.as_str() {
            "IS_SET" => Vec::new(),
            _ if single => vec![self.values.trim().to_owned()],
            _ => several(&self.values),
        };
        Some(Constraint {
            field: self.field.clone(),
            operator: operator.ok()?,
            values,
            inverted: self.inverted,
            case_insensitive: self.case_insensitive,
        })
    }
}

/// What a variant's fields show first.
pub fn variant_draft(variant: &Variant, value_type: ValueType) -> VariantDraft {
    VariantDraft {
        name: variant.name.clone(),
        weight: variant.weight.to_string(),
        value: value_text(&variant.value, value_type),
        stickiness: variant.stickiness.clone().map(String::from).unwrap_or_default(),
        overrides: variant
            .overrides
            .iter()
            .map(|one| OverrideDraft { field: one.field.clone(), values: join(&one.values) })
            .collect(),
    }
}

/// The list that was sent.
pub fn read_variants(form: &Fields, prefix: &str) -> Vec<VariantDraft> {
    let one = |index: &String| {
        let text = |name: &str| form.text(&format!("{prefix}.{index}.{name}")).to_owned();
        let overrides = form.indexes(&format!("{prefix}.{index}.overrides"));
        VariantDraft {
            name: text("name"),
            weight: text("weight"),
            value: text("value"),
            stickiness: text("stickiness"),
            overrides: overrides
                .iter()
                .map(|k| OverrideDraft {
                    field: text(&format!("overrides.{k}.field")),
                    values: text(&format!("overrides.{k}.values")),
                })
                .collect(),
        }
    };
    form.indexes(prefix).iter().map(one).collect()
}

/// The variants that drafts mean.
pub fn to_variants(
    drafts: &[VariantDraft],
    path: &str,
    value_type: ValueType,
    wrong: &mut Vec<Wrong>,
) -> Vec<Variant> {
    let mut all = Vec::new();
    for (n, draft) in drafts.iter().enumerate() {
        let place = |field: &str| format!("{path}[{n}].{field}");
        let weight = draft.weight.parse::<u32>().unwrap_or_else(|_| {
            let message = format!("`{}` is not a weight: a whole number", draft.weight);
            wrong.push(Wrong { field: place("weight"), message });
            0
        });
        let overrides = draft.overrides.iter();
        let overrides = overrides
            .map(|one| Override { field: one.field.clone(), values: several(&one.values) })
            .collect();
        let stickiness = Some(draft.stickiness.clone()).filter(|text| !text.is_empty());
        all.push(Variant {
            name: draft.name.clone(),
            weight,
            value: match draft.value.as_str() {
                "" => Value::Null,
                text => keep(read_value(&place("value"), text, value_type), wrong),
            },
            stickiness: stickiness.map(Stickiness::from),
            overrides,
        });
    }
    all
}

/// What a prerequisite's fields show first.
pub fn prerequisite_draft(one: &Prerequisite) -> PrerequisiteDraft {
    PrerequisiteDraft {
        flag: one.flag.to_string(),
        state: (if one.enabled { "on" } else { "off" }).to_owned(),
        variants: join(&one.variants),
    }
}

/// Values as one field shows them: by lines where one holds a comma.
pub fn join(values: &[String]) -> String {
    if values.iter().any(|value| value.contains(',')) && values.len() > 1 {
        return values.join("\n");
    }
    values.join(", ")
}

/// What [`join`] wrote, or a person.
pub fn several(text: &str) -> Vec<String> {
    if text.contains('\n') {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return lines.map(str::to_owned).collect();
    }
    split(text)
}

/// The value, or its default with what is wrong put to the rest.
pub fn keep<T: Default>(result: Result<T, AppError>, wrong: &mut Vec<Wrong>) -> T {
    match result {
        Ok(value) => value,
        Err(AppError::Invalid(more)) => {
            wrong.extend(more);
            T::default()
        }
        Err(error) => {
            wrong.push(Wrong { field: String::new(), message: error.to_string() });
            T::default()
        }
    }
}

/// A field's moment.
pub fn moment(field: &str, text: &str) -> Result<i64, AppError> {
    read_moment(text).ok_or_else(|| AppError::invalid(field, format!("`{text}` is not a time")))
}

/// A value as its field shows it.
pub fn value_text(value: &Value, value_type: ValueType) -> String {
    match (value, value_type) {
        (Value::Null, _) => String::new(),
        (Value::String(text), ValueType::String) => text.clone(),
        (other, _) => other.to_string(),
    }
}

/// What a value's field says; empty is the default of the type.
pub fn read_value(field: &str, text: &str, value_type: ValueType) -> Result<Value, AppError> {
    match value_type {
        ValueType::String => Ok(Value::String(text.to_owned())),
        _ if text.is_empty() => Ok(Value::Null),
        _ => serde_json::from_str(text).map_err(|_| {
            let wanted = match value_type {
                ValueType::Boolean => "true or false",
                ValueType::Number => "a number",
                _ => "JSON",
            };
            AppError::invalid(field, format!("`{text}` is not {wanted}"))
        }),
    }
}
