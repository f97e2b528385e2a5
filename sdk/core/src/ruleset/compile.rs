//! From a document to a ruleset.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{
    Audience, AuthFlags, Flag, FlagIndex, Gate, Guards, Needs, OnStale, Prerequisite, Problem,
    Rule, Ruleset, Segment, Span, Special, Split, Variant, Variants, graph,
};
use crate::bucket::{Foreign, Salted};
use crate::constraint::{Set, Test, Texts};
use crate::context::{Field, Unit};
use crate::lookup::Index;
use crate::model::{self, Document, FlagEntry, Formula, UNREADABLE, ValueType};

pub(super) fn ruleset(document: &Document) -> Ruleset {
    let keys: Vec<&str> = document.flags.keys().map(String::as_str).collect();
    let mut index = Index::default();
    keys.iter().zip(1..).for_each(|(key, n)| index.add(key, n));
    let mut compiler = Compiler {
        index,
        keys,
        values: [Value::Null, Value::Bool(false), Value::Bool(true)].map(Arc::new),
        segments: BTreeMap::new(),
        texts: Texts::default(),
        rules: Vec::new(),
        titles: Vec::new(),
        variant_names: Vec::new(),
        problems: Vec::new(),
    };
    for (key, segment) in &document.segments {
        let path = format!("segments.{key}");
        let tests = compiler.tests(&segment.constraints, &path);
        if segment.constraints.iter().any(|one| one.field == UNREADABLE) {
            compiler.problem(path, "cannot be read, so it never holds");
        }
        compiler.segments.insert(key, tests.into());
    }
    let mut flags: Vec<Flag> = Vec::with_capacity(document.flags.len());
    let mut keys = String::new();
    for (key, entry) in &document.flags {
        let start = keys.len() as u32;
        keys.push_str(key);
        flags.push(compiler.entry(key, Span { start, end: keys.len() as u32 }, entry));
    }

    let edges: Vec<Vec<u32>> = flags.iter().map(asked).collect();
    let faults = graph::faults(&edges).into_iter().zip(document.flags.keys());
    for (flag, (fault, key)) in flags.iter_mut().zip(faults) {
        if let Some(fault) = fault {
            flag.gate = Gate::Error;
            compiler.problem(format!("flags.{key}.prerequisites"), fault);
        }
    }

    compiler.texts.shrink();
    keys.shrink_to_fit();
    compiler.rules.shrink_to_fit();
    compiler.titles.shrink_to_fit();
    let at = |key: &str| compiler.place(key);
    let auth = AuthFlags {
        bypass: at("auth_bypass"),
        enabled: at("auth_enabled"),
        rollout: at("auth_rollout"),
    };
    Ruleset {
        epoch: document.epoch.clone(),
        environment: document.environment.clone(),
        revision: document.revision,
        auth,
        index: compiler.index,
        keys,
        flags,
        rules: compiler.rules,
        variant_names: compiler.variant_names,
        titles: compiler.titles,
        texts: compiler.texts,
        problems: compiler.problems,
    }
}

fn asked(flag: &Flag) -> Vec<u32> {
    flag.prerequisites().iter().filter_map(|one| one.flag).map(|index| index.0).collect()
}

struct Compiler<'d> {
    /// Places in `keys`, from 1 on.
    index: Index,
    keys: Vec<&'d str>,
    /// `null`, `false` and `true`, which most flags give.
    values: [Arc<Value>; 3],
    segments: BTreeMap<&'d str, Arc<[Test]>>,
    texts: Texts,
    rules: Vec<Rule>,
    titles: Vec<Option<Box<str>>>,
    variant_names: Vec<Box<[Arc<str>]>>,
    problems: Vec<Problem>,
}

impl<'d> Compiler<'d> {
    fn problem(&mut self, path: String, message: impl Into<String>) {
        self.problems.push(Problem { path, message: message.into() });
    }

    /// Where a flag is.
    fn place(&self, key: &str) -> Option<FlagIndex> {
        let is = |n: u32| self.keys.get(n as usize - 1).is_some_and(|known| *known == key);
        self.index.find(key, is).map(|n| FlagIndex(n - 1))
    }

    /// A value; `null` on a boolean flag means what the flag's state says.
    fn value(&self, value: &Value, value_type: ValueType, meaning: bool) -> Arc<Value> {
        let [null, no, yes] = &self.values;
        Arc::clone(match (value, value_type) {
            (Value::Null, ValueType::Boolean) => {
                if meaning {
                    yes
                } else {
                    no
                }
            }
            (Value::Null, _) => null,
            (Value::Bool(true), _) => yes,
            (Value::Bool(false), _) => no,
            _ => return Arc::new(value.clone()),
        })
    }

    fn entry(&mut self, key: &str, place: Span, entry: &'d FlagEntry) -> Flag {
        match entry {
            FlagEntry::Known(flag) => self.flag(key, place, flag),
            FlagEntry::Unreadable { error, raw, .. } => {
                self.problem(format!("flags.{key}"), format!("cannot be read: {error}"));
                self.unreadable(place, raw)
            }
        }
    }

    fn flag(&mut self, key: &str, place: Span, flag: &'d model::Flag) -> Flag {
        let state = &flag.state;
        let path = format!("flags.{key}");
        let mut names = Vec::new();
        let variants = self.variants(&state.variants, Formula::Native, &flag.salt, &mut names);
        let first_rule = self.rules.len();
        for (n, rule) in state.rules.iter().enumerate() {
            let compiled = self.rule(rule, &flag.salt, &format!("{path}.rules[{n}]"), &mut names);
            self.rules.push(compiled);
            self.titles.push(rule.title.as_deref().map(Box::from));
        }
        self.variant_names.push(names.into());
        let rules = self.rules.get(first_rule..).unwrap_or_default();
        let guards = Guards {
            expires_at: state.expires_at,
            max_staleness_ms: state.max_staleness_ms,
            on_stale: match &state.on_stale {
                model::OnStale::KeepLast => OnStale::KeepLast,
                model::OnStale::Off => OnStale::Off,
                model::OnStale::Value(value) => OnStale::Value(value.clone()),
            },
            prerequisites: state.prerequisites.iter().map(|one| self.prerequisite(one)).collect(),
        };
        let has_prerequisites = !guards.prerequisites.is_empty();
        let is_guarded =
            guards.expires_at.is_some() || guards.max_staleness_ms.is_some() || has_prerequisites;
        Flag {
            needs: Needs {
                time: is_guarded || rules.iter().any(Rule::uses_time),
                draw: has_prerequisites
                    || draws(variants.as_deref())
                    || rules.iter().any(Rule::uses_draw),
            },
            gate: match (state.killed, state.enabled) {
                (true, _) => Gate::Killed,
                (false, false) => Gate::Disabled,
                (false, true) if !is_guarded && state.rules.is_empty() => Gate::Everybody,
                (false, true) => Gate::Open,
            },
            rules: Span { start: first_rule as u32, end: self.rules.len() as u32 },
            on_value: self.value(&state.on_value, flag.value_type, true),
            off_value: self.value(&state.off_value, flag.value_type, false),
            variants,
            guards: is_guarded.then(|| Box::new(guards)),
            key: place,
            impressions: state.impressions,
        }
    }

    fn prerequisite(&self, one: &model::Prerequisite) -> Prerequisite {
        Prerequisite {
            key: one.flag.as_str().into(),
            flag: self.place(one.flag.as_str()),
            enabled: one.enabled,
            variants: one.variants.iter().map(|name| name.as_str().into()).collect(),
        }
    }

    fn rule(
        &mut self,
        rule: &model::Rule,
        salt: &str,
        path: &str,
        names: &mut Vec<Arc<str>>,
    ) -> Rule {
        let salt = rule.salt.as_deref().unwrap_or(salt);
        let audience = Audience {
            platforms: Set::new(rule.platforms.iter().map(String::as_str), &mut self.texts),
            groups: Set::new(rule.groups.iter().map(String::as_str), &mut self.texts),
            tests: self.tests(&rule.constraints, path).into(),
        };
        let special = Special {
            segments: rule.segments.iter().map(|key| self.segment(key, path)).collect(),
            unit: Unit::from(&rule.stickiness),
            split: (!rule.bucketing.is_native()).then(|| Split {
                offset: rule.bucketing.offset.thousandths(),
                foreign: Foreign::new(rule.bucketing.formula, salt),
            }),
        };
        Rule {
            percent: rule.percent.thousandths(),
            salted: Salted::rollout(salt),
            id: rule.id.as_str().into(),
            audience: (!audience.is_everybody()).then(|| Box::new(audience)),
            variants: self.variants(&rule.variants, rule.bucketing.formula, salt, names),
            special: (!special.is_usual()).then(|| Box::new(special)),
            serves_off: !rule.serve.is_on(),
        }
    }

    fn variants(
        &mut self,
        list: &[model::Variant],
        formula: Formula,
        salt: &str,
        names: &mut Vec<Arc<str>>,
    ) -> Option<Box<Variants>> {
        let first = list.first()?;
        let variant = |variant: &model::Variant| {
            let known = names.iter().position(|name| **name == *variant.name);
            let number = known.unwrap_or_else(|| {
                names.push(variant.name.as_str().into());
                names.len() - 1
            });
            let overrides = variant.overrides.iter();
            Variant {
                weight: variant.weight,
                number: number as u32,
                value: (!variant.value.is_null()).then(|| Arc::new(variant.value.clone())),
                name: names.get(number).cloned().unwrap_or_default(),
                overrides: overrides
                    .map(|one| {
                        let values = one.values.iter().map(|v| v.trim());
                        (Field::new(&one.field), Set::new(values, &mut self.texts))
                    })
                    .collect(),
            }
        };
        let unit = first.stickiness.as_ref().map(|one| Box::new(Unit::from(one)));
        let list: Box<[Variant]> = list.iter().map(variant).collect();
        let mut total = 0;
        let end = |variant: &Variant| {
            total += u64::from(variant.weight);
            total
        };
        Some(Box::new(Variants {
            ends: list.iter().map(end).collect(),
            salted: Salted::variants(salt),
            foreign: Foreign::new(formula, salt),
            unit,
            has_overrides: list.iter().any(|variant| !variant.overrides.is_empty()),
            list,
        }))
    }

    fn segment(&mut self, key: &str, path: &str) -> Segment {
        let tests = self.segments.get(key).cloned();
        if tests.is_none() {
            self.problem(format!("{path}.segments"), format!("there is no segment `{key}`"));
        }
        Segment { key: key.into(), tests }
    }

    fn tests(&mut self, constraints: &[model::Constraint], path: &str) -> Vec<Test> {
        let compile = |(n, constraint)| {
            let (test, fault) = Test::compile(constraint, &mut self.texts);
            if let Some(fault) = fault {
                let path = format!("{path}.constraints[{n}].{}", fault.part);
                self.problems.push(Problem { path, message: fault.message });
            }
            test
        };
        constraints.iter().enumerate().map(compile).collect()
    }
}

impl Audience {
    fn is_everybody(&self) -> bool {
        self.platforms.is_empty() && self.groups.is_empty() && self.tests.is_empty()
    }
}

impl Special {
    fn is_usual(&self) -> bool {
        self.segments.is_empty() && self.unit == Unit::Default && self.split.is_none()
    }
}

impl Rule {
    fn uses_time(&self) -> bool {
        let segments = self.segments().iter().filter_map(|segment| segment.tests.as_deref());
        self.tests().iter().chain(segments.flatten()).any(Test::uses_time)
    }

    fn uses_draw(&self) -> bool {
        *self.unit() == Unit::Random || draws(self.variants.as_deref())
    }
}

fn draws(variants: Option<&Variants>) -> bool {
    variants.is_some_and(|variants| variants.unit.as_deref() == Some(&Unit::Random))
}

impl Compiler<'_> {
    /// A flag that is off for everybody, with what can be learnt of its off value.
    fn unreadable(&mut self, place: Span, raw: &Value) -> Flag {
        let boolean = raw.get("value_type").is_none_or(|value_type| value_type == "boolean");
        let value_type = if boolean { ValueType::Boolean } else { ValueType::Json };
        let off_value = raw.pointer("/state/off_value").unwrap_or(&Value::Null);
        self.variant_names.push(Box::default());
        Flag {
            gate: Gate::Error,
            rules: Span { start: 0, end: 0 },
            on_value: self.value(&Value::Null, ValueType::Json, true),
            off_value: self.value(off_value, value_type, false),
            variants: None,
            guards: None,
            key: place,
            impressions: false,
            needs: Needs::default(),
        }
    }
}
