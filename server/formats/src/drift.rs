//! Who would change sides: the other system's own decisions beside ours, over many made-up users.

use std::collections::{BTreeMap, HashMap};

use regex::Regex;
use serde::Serialize;
use serde_json::{Value, json};
use switchback_core::context::Property;
use switchback_core::model::{
    Constraint, Document, Flag, FlagEntry, FlagKey, Operator, Stickiness,
};
use switchback_core::{Context, Ruleset};

use super::Imported;

/// Users when no number is given.
pub const USERS_DEFAULT: usize = 100_000;
/// Ids that are shown of those who change sides.
const SAMPLE_MAX: usize = 5;

/// A system's file that can be asked what it decides.
pub trait Source {
    /// The value; `None`: the flag is off, or leaves it to the app's code.
    fn decide(&mut self, key: &str, who: &Person) -> Option<Value>;

    /// Whether it decides the same every time.
    fn is_repeatable(&self, _key: &str) -> bool {
        true
    }

    /// Whether it expects a list in a field.
    fn is_list(&self, _field: &str) -> bool {
        false
    }
}

/// A made-up user: values by our names of the fields.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// Our fields and properties.
    pub fields: BTreeMap<String, Value>,
    /// The time.
    pub now_ms: i64,
}

/// How one flag fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlagDrift {
    /// The flag.
    pub flag: String,
    /// Users whose decision differs.
    pub moved: usize,
    /// Some of them.
    pub users: Vec<String>,
}

/// What was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Users that were made up.
    pub users: usize,
    /// Every flag that was imported and decides the same every time.
    pub flags: Vec<FlagDrift>,
}

impl Report {
    /// Users who change sides, over all flags.
    pub fn moved(&self) -> usize {
        self.flags.iter().map(|flag| flag.moved).sum()
    }
}

impl Person {
    /// A field's value; null when it is not set.
    pub fn get(&self, field: &str) -> Value {
        let name = field.strip_prefix("properties.").unwrap_or(field);
        self.fields.get(field).or_else(|| self.fields.get(name)).cloned().unwrap_or(Value::Null)
    }

    /// As an app would send it.
    pub fn context(&self) -> Context<'_> {
        let mut context = Context::new().now_ms(self.now_ms);
        for (name, value) in &self.fields {
            let text = value.as_str();
            context = match (name.as_str(), text) {
                ("user_id", Some(text)) => context.user_id(text),
                ("session_id", Some(text)) => context.session_id(text),
                ("app_version" | "appVersion", Some(text)) => context.app_version(text),
                ("remote_address", Some(text)) => context.remote_address(text),
                ("country", Some(text)) => context.country(text),
                ("environment", Some(text)) => context.environment(text),
                _ => match property(value) {
                    Some(property) => {
                        let name = name.strip_prefix("properties.").unwrap_or(name);
                        context.property(name, property)
                    }
                    None => context,
                },
            };
        }
        context
    }
}

fn property(value: &Value) -> Option<Property<'_>> {
    Some(match value {
        Value::String(text) => Property::from(text.as_str()),
        Value::Bool(value) => Property::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Property::from(whole),
            None => Property::from(number.as_f64()?),
        },
        Value::Array(list) => {
            Property::from(list.iter().filter_map(Value::as_str).collect::<Vec<_>>())
        }
        Value::Null | Value::Object(_) => return None,
    })
}

/// The document that the import would make.
pub fn document(imported: &Imported) -> Document {
    let mut document = Document { environment: "import".to_owned(), ..Document::default() };
    for segment in &imported.segments {
        document.segments.insert(segment.key.to_string(), segment.clone());
    }
    for flag in &imported.flags {
        let Ok(key) = FlagKey::try_from(flag.key.as_str()) else { continue };
        let own = Flag {
            key,
            project: String::new(),
            kind: flag.kind,
            value_type: flag.value_type,
            salt: flag.salt.clone(),
            state: flag.state.clone(),
        };
        document.flags.insert(flag.key.clone(), FlagEntry::Known(Box::new(own)));
    }
    document
}

/// Asks both sides about `users` made-up users.
pub fn report(imported: &Imported, source: &mut dyn Source, users: usize, now_ms: i64) -> Report {
    let ruleset = Ruleset::compile(&document(imported));
    let mut crowd = Crowd::of(imported);
    for (_, values) in crowd.fields.iter_mut().filter(|(field, _)| source.is_list(field)) {
        let listed = |value: &Value| [json!([value]), json!([value, "something else"])];
        *values = values.iter().flat_map(listed).collect();
    }
    let mut flags: Vec<FlagDrift> = imported
        .flags
        .iter()
        .filter(|flag| source.is_repeatable(&flag.key))
        .map(|flag| FlagDrift { flag: flag.key.clone(), moved: 0, users: Vec::new() })
        .collect();
    for n in 0..users {
        let person = crowd.person(n, now_ms);
        let context = person.context();
        for drift in &mut flags {
            let own = ruleset.evaluate(&drift.flag, &context);
            let agrees = match source.decide(&drift.flag, &person) {
                None => !own.enabled,
                // On, or a value of null.
                Some(Value::Null) => own.enabled || own.value.is_null(),
                Some(value) => {
                    same(&value, own.value) && (!value.is_boolean() || own.value == &value)
                }
            };
            if !agrees {
                drift.moved += 1;
                if drift.users.len() < SAMPLE_MAX {
                    let shown = serde_json::to_string(&person.fields);
                    drift.users.push(shown.unwrap_or_default());
                }
            }
        }
    }
    Report { users, flags }
}

/// What the flags ask about, with values on both sides of every comparison.
struct Crowd {
    fields: BTreeMap<String, Vec<Value>>,
    ids: Vec<String>,
}

impl Crowd {
    fn of(imported: &Imported) -> Self {
        let mut crowd = Self { fields: BTreeMap::new(), ids: Vec::new() };
        for constraint in imported.segments.iter().flat_map(|segment| &segment.constraints) {
            crowd.learn(constraint);
        }
        for rule in imported.flags.iter().flat_map(|flag| &flag.state.rules) {
            rule.constraints.iter().for_each(|constraint| crowd.learn(constraint));
            if let Stickiness::Field(name) = &rule.stickiness
                && name != "user_id"
            {
                crowd.fields.entry(name.clone()).or_default();
            }
        }
        crowd
    }

    fn learn(&mut self, constraint: &Constraint) {
        use Operator as O;
        if constraint.field == "user_id" {
            self.ids.extend(constraint.values.iter().take(50).cloned());
            return;
        }
        if constraint.field == "current_time" {
            return;
        }
        let known = self.fields.entry(constraint.field.clone()).or_default();
        for text in constraint.values.iter().take(50) {
            match constraint.operator {
                O::NumEq | O::NumGt | O::NumGte | O::NumLt | O::NumLte => {
                    let number: f64 = text.trim().parse().unwrap_or_default();
                    let near = [number, number - 1.0, number + 1.0, number + 0.5, 0.0];
                    known.extend(near.into_iter().map(whole_if_it_is));
                }
                O::SemverEq | O::SemverGt | O::SemverGte | O::SemverLt | O::SemverLte => {
                    let start = text.split('-').next().unwrap_or(text);
                    known.extend([json!(text), json!(start), json!(format!("{start}-rc.1"))]);
                    known.extend([
                        json!("0.0.1"),
                        json!("1.9.3"),
                        json!("2.10.0"),
                        json!("99.0.0"),
                    ]);
                }
                O::Regex => {
                    let letters: String =
                        text.chars().filter(|c| c.is_alphanumeric() || *c == '@').collect();
                    known.extend([json!(letters), json!("something else")]);
                }
                O::StrStartsWith | O::StrEndsWith | O::StrContains => known.extend([
                    json!(text),
                    json!(format!("{text}-after")),
                    json!(format!("before-{text}")),
                    json!(format!("a{text}b")),
                ]),
                _ => match text.as_str() {
                    "true" | "false" => known.extend([json!(true), json!(false)]),
                    text => known.extend([json!(text), json!(format!("{text}x"))]),
                },
            }
        }
        // A number that is compared is sent as a number: systems disagree about others.
        if !known.iter().any(Value::is_number) {
            known.push(json!("elsewhere"));
        }
        known.dedup();
    }

    /// The same one for the same number, always.
    fn person(&self, n: usize, now_ms: i64) -> Person {
        let mut draws = Draws(n as u64);
        let mut fields = BTreeMap::new();
        let draw = draws.next();
        let id = match n % 6 {
            0 => Some(format!("user-{n}")),
            1 => Some(format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                draw >> 32,
                draw & 0xffff,
                draw >> 52,
                (draw >> 40) & 0xfff,
                draw >> 16
            )),
            2 => Some(n.to_string()),
            3 => Some(format!("person{n}@example.org")),
            4 if !self.ids.is_empty() => self.ids.get(draw as usize % self.ids.len()).cloned(),
            4 => Some(format!("{draw:016x}")),
            _ => Some(format!("U{:05}.{}", draw % 100_000, n)),
        };
        if let Some(id) = id {
            fields.insert("user_id".to_owned(), json!(id));
        }
        for (name, values) in &self.fields {
            let draw = draws.next();
            let value = match draw % 8 {
                0 => continue,
                1 if values.is_empty() || values.iter().all(Value::is_string) => {
                    json!(format!("{name}-{}", draw >> 8))
                }
                _ if values.is_empty() => json!(format!("u{}", (draw >> 8) % 100_000)),
                _ => values.get((draw >> 8) as usize % values.len()).cloned().unwrap_or_default(),
            };
            fields.insert(name.clone(), value);
        }
        Person { fields, now_ms }
    }
}

/// SplitMix64 (Sebastiano Vigna, public domain).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn whole_if_it_is(number: f64) -> Value {
    if number.fract() == 0.0 { json!(number as i64) } else { json!(number) }
}

/// Equal, as numbers where both are.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.total_cmp(&right).is_eq(),
        _ => left == right,
    }
}

/// A list inside an object; empty when there is none.
pub(super) fn list_of<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A version, with what is missing filled up.
pub(super) fn version(text: &str) -> Option<semver::Version> {
    semver::Version::parse(&super::flagd::full_version(text)?).ok()
}

/// Regular expressions, each compiled once.
#[derive(Default)]
pub(super) struct Regexes(HashMap<String, Option<Regex>>);

impl Regexes {
    pub(super) fn find(&mut self, pattern: &str, text: &str) -> bool {
        let known = self.0.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
        known.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}
