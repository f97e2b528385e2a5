//! flagd's flag definitions.

mod decide;
mod logic;

use serde_json::{Map, Value};
use switchback_core::model::{FlagKind, Formula, Percent, Stickiness, ValueType};

use super::compose::{Draft, Gives, Spread, Way, compose, gives, type_of};
use super::condition::{Condition, Share, is_set, not};
use super::{Imported, ImportedFlag, Note, Weight};

/// Operations of one flag's targeting, those behind `$ref` counted wherever they are named.
const VISITS_MAX: usize = 5_000;
const DEPTH_MAX: usize = 200;

pub use decide::Source;
pub(super) use logic::full_version;

/// What the field of the targeting key is called there and here.
pub(crate) fn field(name: &str) -> String {
    super::field_name(name, "targetingKey")
}

/// Reads a definition file.
pub fn import(text: &str) -> Result<Imported, String> {
    let document: Value = super::parse(text)?;
    let flags = document.get("flags").and_then(Value::as_object);
    let flags = flags.ok_or("has no `flags`; give a flag definition file of flagd")?;
    let empty = Map::new();
    let evaluators = document.get("$evaluators").and_then(Value::as_object).unwrap_or(&empty);
    let mut imported = Imported::default();
    for (key, definition) in flags {
        let mut reader = Reader {
            key,
            evaluators,
            notes: Vec::new(),
            definition,
            visits: 0,
            depth: 0,
            present: Vec::new(),
        };
        match reader.flag() {
            Ok(flag) => {
                imported.flags.push(flag);
                imported.notes.append(&mut reader.notes);
            }
            Err(message) => imported.notes.push(super::left_out(key, "targeting", message)),
        }
    }
    Ok(imported)
}

struct Reader<'d> {
    key: &'d str,
    definition: &'d Value,
    evaluators: &'d Map<String, Value>,
    notes: Vec<Note>,
    visits: usize,
    depth: usize,
    /// Attributes that are known to be there, in the condition that is being read.
    present: Vec<String>,
}

/// What decides, while the tree is walked.
struct Tree {
    value_type: ValueType,
    ways: Vec<Way>,
}

impl Reader<'_> {
    fn note(&mut self, weight: Weight, message: impl Into<String>) {
        let about = self.key.to_owned();
        let note = Note { weight, about, path: "targeting".to_owned(), message: message.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn flag(&mut self) -> Result<ImportedFlag, String> {
        let variants = self.variants()?;
        if variants.is_empty() {
            return Err("has no variants".to_owned());
        }
        let value_type = type_of(variants.values());
        let enabled = match self.definition.get("state").and_then(Value::as_str) {
            Some("ENABLED") => true,
            Some("DISABLED") => false,
            _ => return Err("its state is neither ENABLED nor DISABLED".to_owned()),
        };
        if !enabled {
            self.note(
                Weight::Info,
                "is disabled: flagd leaves the value to the app's code, Switchback gives the off value",
            );
        }
        let mut tree = Tree { value_type, ways: Vec::new() };
        let targeting = self.definition.get("targeting").cloned().unwrap_or(Value::Null);
        let is_empty = targeting.as_object().is_some_and(Map::is_empty);
        let targeting = if is_empty { Value::Null } else { targeting };
        self.decide(&targeting, &Condition::Always, &mut tree)?;
        let default = self.default_variant();
        let default_value = default.and_then(|name| variants.get(name)).cloned();
        if default.is_some() && default_value.is_none() {
            return Err("its default variant is not among its variants".to_owned());
        }
        if default.is_none() {
            self.note(
                Weight::Info,
                "has no default variant: where flagd leaves the value to the app's code, the flag is off",
            );
        }
        let has_null = variants.values().any(Value::is_null);
        let fallback = default_value.unwrap_or(Value::Null);
        let on_value = if has_null { Value::Null } else { fallback.clone() };
        // A switch in its resting position.
        let is_off =
            value_type == ValueType::Boolean && tree.ways.iter().all(|way| way.gives == Gives::Off);
        if is_off {
            tree.ways.clear();
        }
        let description = self.definition.pointer("/metadata/description").and_then(Value::as_str);
        compose(Draft {
            key: self.key.to_owned(),
            kind: FlagKind::Release,
            description: description.unwrap_or_default().to_owned(),
            salt: self.key.to_owned(),
            enabled: enabled && !is_off,
            value_type,
            on_value,
            off_value: fallback,
            ways: tree.ways,
            prerequisites: Vec::new(),
        })
    }

    fn variants(&self) -> Result<Map<String, Value>, String> {
        let variants = self.definition.get("variants").and_then(Value::as_object);
        variants.cloned().ok_or_else(|| "has no variants".to_owned())
    }

    fn default_variant(&self) -> Option<&str> {
        self.definition.get("defaultVariant").and_then(Value::as_str)
    }

    /// What a variant's name means; `None`: the default.
    fn outcome(&self, name: Option<&str>, value_type: ValueType) -> Result<Gives, String> {
        let Some(name) = name.or_else(|| self.default_variant()) else { return Ok(Gives::Off) };
        let value = self.definition.pointer("/variants").and_then(|all| all.get(name));
        let value = value.ok_or_else(|| format!("gives `{name}`, which is not a variant"))?;
        Ok(gives(value_type, name, value))
    }

    fn give(&self, name: Option<&str>, under: &Condition, tree: &mut Tree) -> Result<(), String> {
        let gives = self.outcome(name, tree.value_type)?;
        tree.ways.push(way(under, None, gives));
        Ok(())
    }

    /// Counts what is walked through: `$ref`s may refer to each other, or multiply.
    fn enter(&mut self) -> Result<(), String> {
        self.visits += 1;
        self.depth += 1;
        if self.visits > VISITS_MAX || self.depth > DEPTH_MAX {
            return Err(
                "its targeting is too deep or too large, or its `$ref`s go round".to_owned()
            );
        }
        Ok(())
    }

    /// Whatever comes out of `logic` under a condition; every context under it is decided afterwards.
    fn decide(&mut self, logic: &Value, under: &Condition, tree: &mut Tree) -> Result<(), String> {
        self.enter()?;
        self.decide_inside(logic, under, tree)?;
        self.depth -= 1;
        Ok(())
    }

    fn decide_inside(
        &mut self,
        logic: &Value,
        under: &Condition,
        tree: &mut Tree,
    ) -> Result<(), String> {
        let logic = self.resolve(logic)?.clone();
        let Some((operator, arguments)) = logic::operation(&logic) else {
            return match &logic {
                Value::Null => self.give(None, under, tree),
                Value::String(name) => self.give(Some(name), under, tree),
                Value::Bool(value) => self.give(Some(&value.to_string()), under, tree),
                _ => Err("its targeting gives something that is no variant".to_owned()),
            };
        };
        match operator {
            "if" | "?:" => {
                let mut rest = arguments.as_slice();
                while let [condition, then, more @ ..] = rest {
                    let condition = self.condition(condition)?;
                    let both = Condition::All(vec![under.clone(), condition]);
                    self.decide(then, &both, tree)?;
                    rest = more;
                }
                let otherwise = rest.first().cloned().unwrap_or(Value::Null);
                self.decide(&otherwise, under, tree)
            }
            "fractional" => self.fractional(&arguments, under, tree),
            "==" | "===" | "!=" | "!==" | "!" | "!!" | "<" | "<=" | ">" | ">=" => {
                let condition = self.condition(&logic)?;
                let both = Condition::All(vec![under.clone(), condition]);
                self.give(Some("true"), &both, tree)?;
                self.give(Some("false"), under, tree)
            }
            other => Err(format!("`{other}` cannot choose a variant here")),
        }
    }

    fn fractional(
        &mut self,
        arguments: &[Value],
        under: &Condition,
        tree: &mut Tree,
    ) -> Result<(), String> {
        let (by, items) = match arguments {
            [first, rest @ ..] if !first.is_array() => (Some(first), rest),
            all => (None, all),
        };
        let mut parts = Vec::new();
        for item in items {
            let (name, weight) = match item.as_array().map(Vec::as_slice) {
                Some([name]) => (name, 1),
                Some([name, weight]) => {
                    let weight = weight.as_i64();
                    let weight = weight.ok_or("a weight in `fractional` is no whole number")?;
                    (name, u64::try_from(weight.max(0)).unwrap_or_default())
                }
                _ => return Err("`fractional` has an entry that is no pair".to_owned()),
            };
            if weight > i32::MAX as u64 {
                return Err("has a weight over 2,147,483,647 in `fractional`".to_owned());
            }
            let name = match name {
                Value::String(name) => Some(name.clone()),
                Value::Bool(value) => Some(value.to_string()),
                Value::Null => None,
                _ => return Err("`fractional` computes a variant".to_owned()),
            };
            parts.push((self.outcome(name.as_deref(), tree.value_type)?, weight));
        }
        let total: u64 = parts.iter().map(|(_, weight)| weight).sum();
        if total > i32::MAX as u64 {
            return Err("the weights in `fractional` are over 2,147,483,647 together".to_owned());
        }
        if total > 0 {
            let (salt, unit) = self.bucketed_by(by)?;
            let shares = shares(parts, total, &salt, &unit)?;
            for (share, gives) in shares {
                let condition = match &share {
                    None => Condition::All(vec![under.clone(), is_set(&unit)]),
                    Some(_) => under.clone(),
                };
                tree.ways.push(way(&condition, share, gives));
            }
            if by.is_some() {
                self.without_unit(items, total, (&salt, &unit), under, tree)?;
            }
        }
        self.give(None, under, tree)
    }

    /// `cat` of a missing attribute is what stands before it: one bucket for all who lack it.
    fn without_unit(
        &self,
        items: &[Value],
        total: u64,
        (salt, unit): (&str, &str),
        under: &Condition,
        tree: &mut Tree,
    ) -> Result<(), String> {
        let point = (u64::from(super::hash::murmur3(salt.as_bytes(), 0)) * total) >> 32;
        let mut sum = 0;
        for item in items {
            let weight = item.get(1).map_or(1, |weight| weight.as_i64().unwrap_or(0).max(0));
            sum += weight.cast_unsigned();
            if sum > point {
                let name = match item.get(0) {
                    Some(Value::Bool(value)) => Some(value.to_string()),
                    name => name.and_then(Value::as_str).map(str::to_owned),
                };
                let condition = Condition::All(vec![under.clone(), not(is_set(unit))]);
                return self.give(name.as_deref(), &condition, tree);
            }
        }
        Ok(())
    }

    /// What is hashed: a constant start and an attribute.
    fn bucketed_by(&self, by: Option<&Value>) -> Result<(String, String), String> {
        let Some(by) = by else { return Ok((self.key.to_owned(), "user_id".to_owned())) };
        let by = self.resolve(by)?;
        let refuse = || {
            "`fractional` buckets by something else than a `cat` of texts and one attribute"
                .to_owned()
        };
        let Some(("cat", parts)) = logic::operation(by) else { return Err(refuse()) };
        let mut salt = String::new();
        let mut parts = parts.iter();
        while let Some(part) = parts.next() {
            match logic::operand(part, self.key)? {
                logic::Operand::Constant(Value::String(text)) => salt.push_str(&text),
                logic::Operand::Constant(Value::Number(number)) => {
                    salt.push_str(&number.to_string());
                }
                logic::Operand::Attribute(name) if parts.len() == 0 && !salt.is_empty() => {
                    return Ok((salt, field(&name)));
                }
                _ => return Err(refuse()),
            }
        }
        Err(refuse())
    }
}

fn way(when: &Condition, share: Option<Share>, gives: Gives) -> Way {
    let id = match &gives {
        Gives::Off => "off".to_owned(),
        Gives::On => "on".to_owned(),
        Gives::Value(name, _) => name.clone(),
        Gives::Spread(_) => "split".to_owned(),
    };
    Way { id, title: None, when: when.clone(), share, gives }
}

/// Each outcome's range where all of them are whole steps of 0.001 %, else one spread of them.
fn shares(
    parts: Vec<(Gives, u64)>,
    total: u64,
    salt: &str,
    unit: &str,
) -> Result<Vec<(Option<Share>, Gives)>, String> {
    let all = u64::from(Percent::ALL.thousandths());
    let unit = Stickiness::Field(unit.to_owned());
    let mut sum = 0;
    let ends: Vec<u64> = parts
        .iter()
        .map(|(_, weight)| {
            sum += weight;
            sum
        })
        .collect();
    if ends.iter().all(|end| (end * all).is_multiple_of(total)) {
        let mut start = 0;
        let mut found = Vec::new();
        for ((gives, _), end) in parts.into_iter().zip(ends) {
            let end = u32::try_from(end * all / total).unwrap_or_default();
            let formula = Formula::Flagd;
            let share = Share { formula, salt: salt.to_owned(), unit: unit.clone(), start, end };
            if start < end {
                found.push(((!share.is_everybody()).then_some(share), gives));
            }
            start = end;
        }
        return Ok(found);
    }
    let divisor = parts.iter().fold(total, |divisor, (_, weight)| gcd(divisor, *weight));
    let mut spread = Vec::new();
    for (gives, weight) in parts {
        let Gives::Value(name, value) = gives else {
            return Err(
                "its weights are no steps of 0.001 %, which a boolean flag needs".to_owned()
            );
        };
        let weight = u32::try_from(weight / divisor).unwrap_or(u32::MAX);
        if spread.iter().any(|(known, _, _)| *known == name) {
            return Err("names a variant twice in weights that are no steps of 0.001 %".to_owned());
        }
        spread.push((name, value, weight));
    }
    let gives = Gives::Spread(Spread {
        formula: Formula::Flagd,
        salt: salt.to_owned(),
        unit,
        parts: spread,
    });
    Ok(vec![(None, gives)])
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
