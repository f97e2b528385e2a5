//! Segments' rules as conditions.

use serde::Deserialize;
use serde_json::Value;
use switchback_core::model::{Formula, Operator, Percent, Stickiness};

use super::{Segment, field, null_as_default};
use crate::condition::{Condition, Share, is_set, not, plain, test};
use crate::number;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rule {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) rules: Vec<Rule>,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) conditions: Vec<Comparison>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Comparison {
    pub(super) operator: String,
    #[serde(alias = "property_", deserialize_with = "null_as_default")]
    pub(super) property: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) value: Value,
}

impl Comparison {
    /// The value as text; numbers are written so in some documents.
    pub(super) fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }
}

/// Where a segment holds; one without rules never does.
pub(super) fn condition(segment: &Segment, environment: &str) -> Result<Condition, String> {
    if segment.rules.is_empty() {
        return Ok(Condition::Never);
    }
    let reader = Reader { segment, environment };
    segment.rules.iter().map(|one| reader.rule(one)).collect::<Result<_, _>>().map(Condition::All)
}

struct Reader<'s> {
    segment: &'s Segment,
    environment: &'s str,
}

impl Reader<'_> {
    /// Conditions and inner rules, each under the rule's word, both of which must hold.
    fn rule(&self, rule: &Rule) -> Result<Condition, String> {
        let conditions = rule.conditions.iter().map(|one| self.comparison(one));
        let conditions: Vec<Condition> = conditions.collect::<Result<_, _>>()?;
        let rules: Vec<Condition> =
            rule.rules.iter().map(|one| self.rule(one)).collect::<Result<_, _>>()?;
        let mut both = Vec::new();
        for list in [conditions, rules] {
            if list.is_empty() {
                continue;
            }
            both.push(match rule.kind.as_str() {
                "ALL" => Condition::All(list),
                "ANY" => Condition::Any(list),
                "NONE" => not(Condition::Any(list)),
                other => return Err(format!("has a rule of the type `{other}`")),
            });
        }
        Ok(Condition::All(both))
    }

    fn comparison(&self, one: &Comparison) -> Result<Condition, String> {
        let text = one.text();
        if one.operator == "PERCENTAGE_SPLIT" {
            if !one.property.is_empty() && one.property != "$.identity.key" {
                return Err("splits by a trait".to_owned());
            }
            let percent = number(&text).and_then(|percent| Percent::try_from(percent).ok());
            let percent = percent.ok_or_else(|| format!("splits at `{text}`"))?;
            return Ok(Condition::Share(Share {
                formula: Formula::FlagsmithSplit,
                salt: format!("{},{}_", self.segment.id, self.environment),
                unit: Stickiness::Field("user_id".to_owned()),
                start: 0,
                end: percent.thousandths(),
            }));
        }
        let name = one.property.as_str();
        if name.is_empty() || (name.starts_with("$.") && name != "$.identity.identifier") {
            return Err(format!("asks for `{name}`"));
        }
        let field = field(name);
        let positive = |condition| Ok(Condition::All(vec![is_set(&field), condition]));
        match one.operator.as_str() {
            "IS_SET" => Ok(is_set(&field)),
            "IS_NOT_SET" => Ok(not(is_set(&field))),
            "EQUAL" => equal(&field, &text),
            "NOT_EQUAL" => positive(not(equal(&field, &text)?)),
            "CONTAINS" => Ok(test(&field, Operator::StrContains, [plain(&text)?])),
            "NOT_CONTAINS" => positive(not(test(&field, Operator::StrContains, [plain(&text)?]))),
            "IN" => {
                let parsed: Option<Vec<String>> = serde_json::from_str(&text).ok();
                let list = match &one.value {
                    Value::Array(list) => {
                        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                    }
                    _ => parsed.unwrap_or_else(|| text.split(',').map(str::to_owned).collect()),
                };
                let values: Vec<String> =
                    list.iter().map(|one| plain(one)).collect::<Result<_, _>>()?;
                if values.is_empty() {
                    return Ok(Condition::Never);
                }
                Ok(test(&field, Operator::In, values))
            }
            "GREATER_THAN" => order(&field, Operator::NumGt, Operator::SemverGt, &text),
            "GREATER_THAN_INCLUSIVE" => order(&field, Operator::NumGte, Operator::SemverGte, &text),
            "LESS_THAN" => order(&field, Operator::NumLt, Operator::SemverLt, &text),
            "LESS_THAN_INCLUSIVE" => order(&field, Operator::NumLte, Operator::SemverLte, &text),
            "REGEX" if text.starts_with('^') && !text.contains('|') => {
                Ok(test(&field, Operator::Regex, [text]))
            }
            "REGEX" => Err(format!(
                "has the regular expression `{text}`: some of Flagsmith's SDKs look for it anywhere, others at the start only; begin it with `^`"
            )),
            other => Err(format!("uses `{other}`, which has no counterpart")),
        }
    }
}

fn equal(field: &str, text: &str) -> Result<Condition, String> {
    if let Some(version) = text.strip_suffix(":semver") {
        return Ok(test(field, Operator::SemverEq, [version]));
    }
    Ok(test(field, Operator::In, [plain(text)?]))
}

fn order(
    field: &str,
    numbers: Operator,
    versions: Operator,
    text: &str,
) -> Result<Condition, String> {
    if let Some(version) = text.strip_suffix(":semver") {
        return Ok(test(field, versions, [version]));
    }
    match number(text) {
        Some(_) => Ok(test(field, numbers, [text.trim()])),
        None => Err(format!("puts `{text}` in order, which is no number")),
    }
}
