//! Why a flag is what it is, step by step: for the tester page and for people who ask.

use serde::Serialize;
use serde_json::Value;

use crate::constraint::{Shown, Test};
use crate::context::{Context, Query, Unit};
use crate::evaluation::choose;
use crate::ruleset::{Audience, Prerequisite, Rule, Ruleset};

/// A decision with every step that led to it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The flag.
    pub key: String,
    /// On or off.
    pub enabled: bool,
    /// The variant, if one was chosen.
    pub variant: Option<String>,
    /// The value.
    pub value: Value,
    /// Why, as [`crate::Reason`] prints it.
    pub reason: String,
    /// The prerequisites, in order.
    pub prerequisites: Vec<Check>,
    /// All rules in order, also those after the one that decided.
    pub rules: Vec<RuleExplanation>,
}

/// What one rule says to the context.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleExplanation {
    /// The rule's id.
    pub id: String,
    /// What a person calls it.
    pub title: Option<String>,
    /// Whether this rule decided.
    pub decided: bool,
    /// Whether it lets the context in, were it asked.
    pub admits: bool,
    /// Groups, platforms, constraints and segments.
    pub checks: Vec<Check>,
    /// The share let in, 0.0 to 100.0.
    pub percent: f64,
    /// The text that is bucketed, if the context has it; `random` units have none.
    pub unit: Option<String>,
    /// The unit's slot, 0 to 99,999; it is let in when this is under 1,000 times the percent.
    pub slot: Option<u32>,
    /// The slot in percent, 0.0 to 99.999.
    pub slot_percent: Option<f64>,
    /// The variant that the context gets by this rule.
    pub variant: Option<String>,
}

/// One thing that must hold.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must hold, such as `country in [de, fr]`.
    pub text: String,
    /// What the context has, such as `` `de` `` or `not set`.
    pub found: String,
    /// Whether it does hold.
    pub held: bool,
}

impl Ruleset {
    /// As [`Ruleset::evaluate`], with every step. Allocates: for people, not for the hot path.
    pub fn explain(&self, key: &str, context: &Context<'_>) -> Explanation {
        let evaluation = self.evaluate(key, context);
        let query = self.query(context, context.moment_ref());
        let flag = self.index_of(key).and_then(|index| self.flag(index));
        let mut decided = false;
        let rule = |(rule, title): (&Rule, &Option<Box<str>>)| {
            let admits = rule.admits(&query).is_some();
            let variant = flag.filter(|_| admits).and_then(|flag| choose(flag, Some(rule), &query));
            let decides = !decided && matches!(evaluation.reason, crate::Reason::Rule(_)) && admits;
            decided |= decides;
            RuleExplanation {
                id: rule.id.to_string(),
                title: title.as_deref().map(str::to_owned),
                decided: decides,
                admits,
                checks: rule.checks(&query),
                percent: f64::from(rule.percent) / 1000.0,
                unit: query.unit(rule.unit()).map(str::to_owned),
                slot: rule.slot(&query),
                slot_percent: rule.slot(&query).map(|slot| f64::from(slot) / 1000.0),
                variant: variant.map(|variant| variant.name.to_string()),
            }
        };
        let rules = flag.map_or(&[][..], |flag| self.rules(flag));
        let titles = flag.and_then(|flag| self.titles.get(flag.rules.range()));
        let prerequisites = flag.map_or(&[][..], |flag| flag.prerequisites());
        Explanation {
            key: key.to_owned(),
            enabled: evaluation.enabled,
            variant: evaluation.variant.map(str::to_owned),
            value: evaluation.value.clone(),
            reason: evaluation.reason.to_string(),
            prerequisites: prerequisites.iter().map(|one| self.explain_one(one, &query)).collect(),
            rules: rules.iter().zip(titles.into_iter().flatten()).map(rule).collect(),
        }
    }

    fn explain_one(&self, prerequisite: &Prerequisite, query: &Query<'_>) -> Check {
        let Prerequisite { key, enabled, variants, .. } = prerequisite;
        let text = match (*enabled, variants.is_empty()) {
            (false, _) => format!("`{key}` is off"),
            (true, true) => format!("`{key}` is on"),
            (true, false) => format!("`{key}` is on with variant `{}`", variants.join("` or `")),
        };
        let found = match prerequisite.flag.and_then(|index| self.flag(index)) {
            None => "unknown".to_owned(),
            Some(flag) => {
                let evaluation = self.decide(flag, query);
                let state = if evaluation.enabled { "on" } else { "off" };
                let variant = evaluation.variant.map(|name| format!(" with variant `{name}`"));
                format!("{state}{}, {}", variant.unwrap_or_default(), evaluation.reason)
            }
        };
        Check { text, found, held: self.is_met(prerequisite, query) }
    }
}

impl Rule {
    fn checks(&self, query: &Query<'_>) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Some(audience) = &self.audience {
            let Audience { platforms, groups, .. } = &**audience;
            if !groups.is_empty() {
                let text = format!("groups in {}", groups.shown(query.texts));
                let found = match query.groups() {
                    [] => "not set".to_owned(),
                    groups => format!("`{}`", groups.join("`, `")),
                };
                checks.push(Check { text, found, held: audience.has_group(query) });
            }
            if !platforms.is_empty() {
                let text = format!("platform in {}", platforms.shown(query.texts));
                let found =
                    query.platform().map_or("not set".to_owned(), |text| format!("`{text}`"));
                checks.push(Check { text, found, held: audience.has_platform(query) });
            }
        }
        checks.extend(self.tests().iter().map(|test| check("", test, query)));
        for segment in self.segments() {
            let name = format!("segment `{}`: ", segment.key);
            match &segment.tests {
                Some(tests) => checks.extend(tests.iter().map(|test| check(&name, test, query))),
                None => checks.push(Check {
                    text: format!("{name}never holds"),
                    found: "missing".to_owned(),
                    held: false,
                }),
            }
        }
        if let (Unit::Field(field), None) = (self.unit(), query.unit(self.unit())) {
            let text = format!("{} is set, as it is bucketed", field.name());
            checks.push(Check { text, found: "not set".to_owned(), held: false });
        }
        checks
    }
}

fn check(prefix: &str, test: &Test, query: &Query<'_>) -> Check {
    Check {
        text: format!("{prefix}{}", Shown(test, query.texts)),
        found: test.found(query).to_string(),
        held: test.holds(query),
    }
}
