//! From the ways that a flag of another system decides to one of ours.

use std::collections::HashSet;

use serde_json::Value;
use switchback_core::model::{
    Bucketing, FlagKey, FlagKind, FlagState, Formula, Percent, Prerequisite, Rule, Serve,
    Stickiness, ValueType, Variant,
};
use switchback_core::validate;

use super::ImportedFlag;
use super::condition::{Condition, Share, Term, both};

/// A flag as it is read: its ways are asked in order, and the first that fits decides.
#[derive(Debug)]
pub struct Draft {
    /// Its name.
    pub key: String,
    /// What it is for.
    pub kind: FlagKind,
    /// What people wrote about it.
    pub description: String,
    /// What its units are hashed with, mostly.
    pub salt: String,
    /// On at all.
    pub enabled: bool,
    /// The type of its values.
    pub value_type: ValueType,
    /// What it gives when on, unless a way says otherwise.
    pub on_value: Value,
    /// What it gives when off.
    pub off_value: Value,
    /// How it decides.
    pub ways: Vec<Way>,
    /// What must be so first.
    pub prerequisites: Vec<Prerequisite>,
}

/// One way to decide.
#[derive(Clone, Debug)]
pub struct Way {
    /// Names its rules.
    pub id: String,
    /// What people call it.
    pub title: Option<String>,
    /// Whom it is for.
    pub when: Condition,
    /// The buckets that it is for; `None`: everybody, with or without a unit.
    pub share: Option<Share>,
    /// What it gives.
    pub gives: Gives,
}

/// What a way gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Gives {
    /// Off.
    Off,
    /// On, with the flag's on value.
    On,
    /// On, with a value under a name.
    Value(String, Value),
    /// On, with one of several values by weight.
    Spread(Spread),
}

/// Values by weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// How a unit becomes a point.
    pub formula: Formula,
    /// What it is hashed with.
    pub salt: String,
    /// The field that is hashed.
    pub unit: Stickiness,
    /// Name, value, weight.
    pub parts: Vec<(String, Value, u32)>,
}

/// The type that fits all values.
pub fn type_of<'v>(values: impl IntoIterator<Item = &'v Value>) -> ValueType {
    let mut found = None;
    for value in values {
        let one = match value {
            Value::Bool(_) => ValueType::Boolean,
            Value::String(_) => ValueType::String,
            Value::Number(_) => ValueType::Number,
            _ => return ValueType::Json,
        };
        if *found.get_or_insert(one) != one {
            return ValueType::Json;
        }
    }
    found.unwrap_or_default()
}

/// What a value means: on a boolean flag `true` is on and `false` is off.
pub fn gives(value_type: ValueType, name: &str, value: &Value) -> Gives {
    match (value_type, value) {
        (ValueType::Boolean, Value::Bool(true)) => Gives::On,
        (ValueType::Boolean, _) => Gives::Off,
        _ => Gives::Value(name.to_owned(), value.clone()),
    }
}

/// A flag of ours; an error when it cannot be said.
pub fn compose(draft: Draft) -> Result<ImportedFlag, String> {
    FlagKey::try_from(draft.key.as_str()).map_err(|error| error.to_string())?;
    let mut ids = HashSet::new();
    let mut rules: Vec<Rule> = Vec::new();
    'ways: for way in &draft.ways {
        for term in way.when.terms()? {
            let share = both(term.share.as_ref(), way.share.as_ref())?;
            if share.as_ref().is_some_and(|share| share.start >= share.end) {
                continue;
            }
            let rule = rule(&draft, way, term, share.as_ref(), &mut ids)?;
            let is_last = rule.constraints.is_empty()
                && rule.segments.is_empty()
                && rule.percent == Percent::ALL;
            rules.push(rule);
            if is_last {
                break 'ways;
            }
        }
    }
    let plain = |rule: &Rule| rule.constraints.is_empty() && rule.segments.is_empty();
    if let [only] = rules.as_slice()
        && plain(only)
        && only.percent == Percent::ALL
        && only.serve.is_on()
        && only.variants.is_empty()
    {
        rules.clear();
    }
    let is_boolean = draft.value_type == ValueType::Boolean;
    let state = FlagState {
        enabled: draft.enabled,
        rules,
        prerequisites: draft.prerequisites,
        on_value: if is_boolean { Value::Null } else { draft.on_value },
        off_value: if is_boolean { Value::Null } else { draft.off_value },
        ..FlagState::default()
    };
    validate::validate_flag(draft.value_type, &state, draft.kind).map_err(|problems| {
        let first = problems.first().map(|one| format!("{}: {}", one.path, one.message));
        first.unwrap_or_default()
    })?;
    Ok(ImportedFlag {
        key: draft.key,
        kind: draft.kind,
        value_type: draft.value_type,
        description: draft.description,
        salt: draft.salt,
        state,
    })
}

fn rule(
    draft: &Draft,
    way: &Way,
    term: Term,
    share: Option<&Share>,
    ids: &mut HashSet<String>,
) -> Result<Rule, String> {
    let mut rule = Rule::everybody(fresh_id(&way.id, ids));
    rule.title = way.title.clone().filter(|title| !title.is_empty());
    rule.constraints = term.tests;
    rule.segments = term.segments;
    if let Some(share) = share.filter(|share| !share.is_everybody()) {
        let thousandths = |n| Percent::from_thousandths(n).map_err(|error| error.to_string());
        rule.percent = thousandths(share.end - share.start)?;
        rule.bucketing = Bucketing { formula: share.formula, offset: thousandths(share.start)? };
        rule.stickiness = share.unit.clone();
        rule.salt = Some(share.salt.clone());
    }
    match &way.gives {
        Gives::Off => rule.serve = Serve::Off,
        Gives::On => {}
        Gives::Value(..) => rule.variants = vec![variant(&way.gives, draft)?],
        Gives::Spread(spread) => {
            if share.is_some() {
                return Err("splits a share by weights that are not steps of 0.001 %".to_owned());
            }
            rule.bucketing = Bucketing { formula: spread.formula, offset: Percent::NONE };
            rule.stickiness = spread.unit.clone();
            rule.salt = Some(spread.salt.clone());
            for (name, value, weight) in &spread.parts {
                let one = variant(&Gives::Value(name.clone(), value.clone()), draft)?;
                rule.variants.push(Variant { weight: *weight, ..one });
            }
        }
    }
    if rule.salt.as_deref() == Some(draft.salt.as_str()) {
        rule.salt = None;
    }
    Ok(rule)
}

fn variant(gives: &Gives, draft: &Draft) -> Result<Variant, String> {
    let Gives::Value(name, value) = gives else { return Err("no value".to_owned()) };
    if value.is_null() && !draft.on_value.is_null() {
        return Err("gives null beside other values".to_owned());
    }
    Ok(Variant {
        name: name.clone(),
        weight: 1,
        value: value.clone(),
        stickiness: None,
        overrides: Vec::new(),
    })
}

/// An id that is free, made of what the other system calls the rule.
fn fresh_id(base: &str, ids: &mut HashSet<String>) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~');
    let base: String = base.chars().filter(|c| allowed(*c)).take(48).collect();
    let base = if base.is_empty() { "rule".to_owned() } else { base };
    let mut id = base.clone();
    let mut n = 2;
    while !ids.insert(id.clone()) {
        id = format!("{base}-{n}");
        n += 1;
    }
    id
}

/// A variant's name for a value: the value where that is a short text.
pub fn name_of(value: &Value, n: usize) -> String {
    match value {
        Value::String(text) if !text.is_empty() && text.chars().count() <= 40 => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => format!("variation-{n}"),
    }
}
