//! From a document to a ruleset.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::{
    AuthFlags, Flag, FlagIndex, Gate, Guards, Needs, OnStale, Prerequisite, Problem, Rule, Ruleset,
    Segment, Split, Variant, Variants, graph,
};
use crate::bucket::{Foreign, Salted};
use crate::constraint::{Set, Test, Texts};
use crate::context::{Field, Unit};
use crate::model::{self, Document, FlagEntry, Formula, UNREADABLE, ValueType};

pub(super) fn ruleset(document: &Document) -> Ruleset {
    let mut compiler = Compiler {
        index: document.flags.keys().zip(0..).map(|(key, n)| (key.as_str().into(), n)).collect(),
        segments: BTreeMap::new(),
        texts: Texts::default(),
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
    let mut flags: Vec<Flag> =
        document.flags.iter().map(|(key, entry)| compiler.entry(key, entry)).collect();

    let edges: Vec<Vec<u32>> = flags.iter().map(asked).collect();
    for (flag, fault) in flags.iter_mut().zip(graph::faults(&edges)) {
        if let Some(fault) = fault {
            flag.gate = Gate::Error;
            compiler.problem(format!("flags.{}.prerequisites", flag.key), fault);
        }
    }

    let at = |key: &str| compiler.index.get(key).copied().map(FlagIndex);
    Ruleset {
        epoch: document.epoch.clone(),
        environment: document.environment.clone(),
        revision: document.revision,
        auth: AuthFlags {
            bypass: at("auth_bypass"),
            enabled: at("auth_enabled"),
            rollout: at("auth_rollout"),
        },
        index: compiler.index,
        flags,
        problems: compiler.problems,
    }
}

fn asked(flag: &Flag) -> Vec<u32> {
    flag.guards.prerequisites.iter().filter_map(|one| one.flag).map(|index| index.0).collect()
}

struct Compiler<'d> {
    index: HashMap<Box<str>, u32, foldhash::fast::FixedState>,
    segments: BTreeMap<&'d str, Arc<[Test]>>,
    texts: Texts,
    problems: Vec<Problem>,
}

impl<'d> Compiler<'d> {
    fn problem(&mut self, path: String, message: impl Into<String>) {
        self.problems.push(Problem { path, message: message.into() });
    }

    fn entry(&mut self, key: &str, entry: &'d FlagEntry) -> Flag {
        match entry {
            FlagEntry::Known(flag) => self.flag(key, flag),
            FlagEntry::Unreadable { error, raw, .. } => {
                self.problem(format!("flags.{key}"), format!("cannot be read: {error}"));
                unreadable(key, raw)
            }
        }
    }

    fn flag(&mut self, key: &str, flag: &'d model::Flag) -> Flag {
        let state = &flag.state;
        let path = format!("flags.{key}");
        let mut names = Vec::new();
        let variants = self.variants(&state.variants, Formula::Native, &flag.salt, &mut names);
        let rules = state.rules.iter().enumerate();
        let rules: Box<[Rule]> = rules
            .map(|(n, rule)| self.rule(rule, &flag.salt, &format!("{path}.rules[{n}]"), &mut names))
            .collect();
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
        let is_guarded = guards.expires_at.is_some()
            || guards.max_staleness_ms.is_some()
            || !guards.prerequisites.is_empty();
        Flag {
            needs: Needs {
                time: is_guarded || rules.iter().any(Rule::uses_time),
                draw: !guards.prerequisites.is_empty()
                    || draws(variants.as_deref())
                    || rules.iter().any(|r| r.unit == Unit::Random || draws(r.variants.as_deref())),
            },
            gate: match (state.killed, state.enabled) {
                (true, _) => Gate::Killed,
                (false, false) => Gate::Disabled,
                (false, true) => Gate::Open,
            },
            is_guarded,
            rules,
            on_value: or_bool(&state.on_value, flag.value_type, true),
            off_value: or_bool(&state.off_value, flag.value_type, false),
            variants,
            guards,
            key: key.into(),
            variant_names: names.into(),
            impressions: state.impressions,
        }
    }

    fn prerequisite(&self, one: &model::Prerequisite) -> Prerequisite {
        Prerequisite {
            key: one.flag.as_str().into(),
            flag: self.index.get(one.flag.as_str()).copied().map(FlagIndex),
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
        Rule {
            groups: Set::new(rule.groups.iter().map(String::as_str), &mut self.texts),
            platforms: Set::new(rule.platforms.iter().map(String::as_str), &mut self.texts),
            tests: self.tests(&rule.constraints, path).into(),
            segments: rule.segments.iter().map(|key| self.segment(key, path)).collect(),
            percent: rule.percent.thousandths(),
            unit: Unit::from(&rule.stickiness),
            salted: Salted::rollout(salt),
            serves_off: !rule.serve.is_on(),
            split: (!rule.bucketing.is_native()).then(|| {
                Box::new(Split {
                    offset: rule.bucketing.offset.thousandths(),
                    foreign: Foreign::new(rule.bucketing.formula, salt),
                })
            }),
            variants: self.variants(&rule.variants, rule.bucketing.formula, salt, names),
            id: rule.id.as_str().into(),
            title: rule.title.as_deref().map(Box::from),
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
                value: variant.value.clone(),
                name: names.get(number).cloned().unwrap_or_default(),
                overrides: overrides
                    .map(|one| {
                        let values = one.values.iter().map(|v| v.trim());
                        (Field::new(&one.field), Set::new(values, &mut self.texts))
                    })
                    .collect(),
            }
        };
        let unit = first.stickiness.as_ref().map(Unit::from);
        let list: Box<[Variant]> = list.iter().map(variant).collect();
        Some(Box::new(Variants {
            total: list.iter().map(|variant| u64::from(variant.weight)).sum(),
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

impl Rule {
    fn uses_time(&self) -> bool {
        let segments = self.segments.iter().filter_map(|segment| segment.tests.as_deref());
        self.tests.iter().chain(segments.flatten()).any(Test::uses_time)
    }
}

fn draws(variants: Option<&Variants>) -> bool {
    variants.is_some_and(|variants| variants.unit == Some(Unit::Random))
}

/// A flag that is off for everybody, with what can be learnt of its off value.
fn unreadable(key: &str, raw: &Value) -> Flag {
    let boolean = raw.get("value_type").is_none_or(|value_type| value_type == "boolean");
    let value_type = if boolean { ValueType::Boolean } else { ValueType::Json };
    let off_value = raw.pointer("/state/off_value").unwrap_or(&Value::Null);
    Flag {
        gate: Gate::Error,
        is_guarded: false,
        rules: Box::default(),
        on_value: Value::Null,
        off_value: or_bool(off_value, value_type, false),
        variants: None,
        guards: Guards::default(),
        key: key.into(),
        variant_names: Box::default(),
        impressions: false,
        needs: Needs::default(),
    }
}

/// `null` on a boolean flag means what the flag's state says.
fn or_bool(value: &Value, value_type: ValueType, meaning: bool) -> Value {
    match (value, value_type) {
        (Value::Null, ValueType::Boolean) => Value::Bool(meaning),
        _ => value.clone(),
    }
}
