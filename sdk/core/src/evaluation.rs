//! Deciding: from a flag and a context to a value and a reason. Flat, early returns, all borrowed.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::bucket::slot_of;
use crate::context::{Found, Query, Unit};
use crate::ruleset::{
    Flag, Gate, Guards, OnStale, Prerequisite, Rule, Ruleset, Split, Variant, Variants,
};

/// One decision for one context, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation<'r> {
    /// On or off.
    pub enabled: bool,
    /// The variant's name, if one was chosen.
    pub variant: Option<&'r str>,
    /// The value; `null` for an unknown flag.
    pub value: &'r Value,
    /// Why.
    pub reason: Reason<'r>,
    /// The unit's slot, 0 to 99,999, when the deciding rule had to look at it.
    pub slot: Option<u32>,
    pub(crate) outcome: u32,
}

impl<'r> Evaluation<'r> {
    pub(crate) const UNKNOWN: Evaluation<'static> = Evaluation {
        enabled: false,
        variant: None,
        value: &Value::Null,
        reason: Reason::UnknownFlag,
        slot: None,
        outcome: 0,
    };

    /// A number for counting: 0 is off, 1 is on without a variant, 2 and more is the variant at that
    /// place (less 2) of [`Ruleset::variant_names`].
    pub fn outcome(&self) -> usize {
        self.outcome as usize
    }

    fn off(flag: &'r Flag, reason: Reason<'r>) -> Self {
        let value = &*flag.off_value;
        Self { enabled: false, variant: None, value, reason, slot: None, outcome: 0 }
    }
}

/// Why a flag is on or off. Printed as stable words, such as `rule(beta)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason<'r> {
    /// It is switched off.
    Disabled,
    /// It was killed.
    Killed,
    /// This rule let the context in.
    Rule(&'r str),
    /// It is on and has no rules.
    Default,
    /// It is on, but no rule let the context in.
    NoRule,
    /// This prerequisite is not met.
    Prerequisite(&'r str),
    /// Its time is over.
    Expired,
    /// The server was not heard of for too long.
    Stale,
    /// There is no such flag.
    UnknownFlag,
    /// The flag cannot be understood.
    Error,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Rule(id) => return write!(out, "rule({id})"),
            Self::Prerequisite(key) => return write!(out, "prerequisite({key})"),
            Self::Disabled => "disabled",
            Self::Killed => "killed",
            Self::Default => "default",
            Self::NoRule => "no_rule",
            Self::Expired => "expired",
            Self::Stale => "stale",
            Self::UnknownFlag => "unknown_flag",
            Self::Error => "error",
        })
    }
}

/// How requests are to be authenticated; see [`Ruleset::auth_mode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Users must sign in.
    Enforced,
    /// Nobody needs to sign in.
    Anonymous,
    /// An emergency: every check is passed over.
    Bypass,
}

impl AuthMode {
    /// `enforced`, `anonymous` or `bypass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Anonymous => "anonymous",
            Self::Bypass => "bypass",
        }
    }
}

impl fmt::Display for AuthMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What the gates and rules say, before any variant is chosen.
#[derive(Clone, Copy)]
pub(crate) enum Verdict<'r> {
    Off(Reason<'r>),
    On,
    OnByRule(&'r Rule, Option<u32>),
    OnWhileStale(&'r Value),
}

impl Verdict<'_> {
    #[inline]
    pub(crate) fn is_on(self) -> bool {
        !matches!(self, Self::Off(_))
    }
}

impl Ruleset {
    #[inline]
    pub(crate) fn decide<'r>(&'r self, flag: &'r Flag, query: &Query<'_>) -> Evaluation<'r> {
        let (rule, reason, slot) = match self.judge(flag, query) {
            Verdict::Off(reason) => return Evaluation::off(flag, reason),
            Verdict::OnWhileStale(value) => {
                let reason = Reason::Stale;
                return Evaluation {
                    enabled: true,
                    variant: None,
                    value,
                    reason,
                    slot: None,
                    outcome: 1,
                };
            }
            Verdict::On => (None, Reason::Default, None),
            Verdict::OnByRule(rule, slot) => (Some(rule), Reason::Rule(&rule.id), slot),
        };
        match choose(flag, rule, query) {
            None => {
                let value = &*flag.on_value;
                Evaluation { enabled: true, variant: None, value, reason, slot, outcome: 1 }
            }
            Some(variant) => Evaluation {
                enabled: true,
                variant: Some(&variant.name),
                value: variant.value.as_deref().unwrap_or(&flag.on_value),
                reason,
                slot,
                outcome: variant.number + 2,
            },
        }
    }

    /// Gates first, then rules. Calls itself for prerequisites; compiling has made sure that those
    /// end (`PREREQUISITE_DEPTH_MAX`).
    #[inline]
    pub(crate) fn judge<'r>(&'r self, flag: &'r Flag, query: &Query<'_>) -> Verdict<'r> {
        match flag.gate {
            Gate::Open => {}
            Gate::Disabled => return Verdict::Off(Reason::Disabled),
            Gate::Killed => return Verdict::Off(Reason::Killed),
            Gate::Error => return Verdict::Off(Reason::Error),
        }
        if let Some(guards) = &flag.guards
            && let Some(verdict) = self.guard(guards, query)
        {
            return verdict;
        }
        if flag.rules.is_empty() {
            return Verdict::On;
        }
        for rule in &flag.rules {
            if let Admission::In(slot) = rule.admits(query) {
                return if rule.serves_off {
                    Verdict::Off(Reason::Rule(&rule.id))
                } else {
                    Verdict::OnByRule(rule, slot)
                };
            }
        }
        Verdict::Off(Reason::NoRule)
    }

    /// Expiry, staleness, prerequisites; `None`: nothing stands in the way.
    #[inline(never)]
    fn guard<'r>(&'r self, guards: &'r Guards, query: &Query<'_>) -> Option<Verdict<'r>> {
        if let (Some(end), Some(now)) = (guards.expires_at, query.moment.now_ms)
            && now >= end
        {
            return Some(Verdict::Off(Reason::Expired));
        }
        if guards.max_staleness_ms.is_some_and(|max| query.moment.stale_for_ms > max) {
            match &guards.on_stale {
                OnStale::KeepLast => {}
                OnStale::Off => return Some(Verdict::Off(Reason::Stale)),
                OnStale::Value(value) => return Some(Verdict::OnWhileStale(value)),
            }
        }
        let unmet = guards.prerequisites.iter().find(|one| !self.is_met(one, query))?;
        Some(Verdict::Off(Reason::Prerequisite(&unmet.key)))
    }

    /// A flag that is unknown or cannot be understood meets nothing: not even "must be off".
    pub(crate) fn is_met(&self, prerequisite: &Prerequisite, query: &Query<'_>) -> bool {
        let Some(flag) = prerequisite.flag.and_then(|index| self.flag(index)) else {
            return false;
        };
        let verdict = self.judge(flag, query);
        let rule = match verdict {
            Verdict::Off(Reason::Error) => return false,
            Verdict::Off(_) => return !prerequisite.enabled,
            _ if !prerequisite.enabled => return false,
            _ if prerequisite.variants.is_empty() => return true,
            Verdict::OnWhileStale(_) => return false,
            Verdict::On => None,
            Verdict::OnByRule(rule, _) => Some(rule),
        };
        // Without a variant it counts as `disabled`: that is how Unleash names none.
        let chosen = choose(flag, rule, query).map_or("disabled", |variant| &variant.name);
        prerequisite.variants.iter().any(|name| **name == *chosen)
    }
}

/// Whether a rule lets a context in; with the slot if it had to be looked at.
pub(crate) enum Admission {
    In(Option<u32>),
    Out,
}

impl Rule {
    #[inline]
    pub(crate) fn admits(&self, query: &Query<'_>) -> Admission {
        if self.matches(query) { self.rolls_out_to(query) } else { Admission::Out }
    }

    /// Groups, platforms, constraints and segments.
    #[inline]
    fn matches(&self, query: &Query<'_>) -> bool {
        (self.platforms.is_empty() || self.is_on_platform(query))
            && (self.groups.is_empty() || self.is_in_group(query))
            && self.tests.iter().all(|test| test.holds(query))
            && self.segments.iter().all(|segment| {
                segment.tests.as_ref().is_some_and(|tests| tests.iter().all(|t| t.holds(query)))
            })
    }

    pub(crate) fn is_on_platform(&self, query: &Query<'_>) -> bool {
        query.platform().is_some_and(|platform| self.platforms.contains(platform, query.texts))
    }

    pub(crate) fn is_in_group(&self, query: &Query<'_>) -> bool {
        query.groups().iter().any(|group| self.groups.contains(group, query.texts))
    }

    /// At 100 % nobody is looked at, but a field that was named must be there; so has Unleash it.
    #[inline]
    fn rolls_out_to(&self, query: &Query<'_>) -> Admission {
        if let Some(split) = &self.split {
            return self.splits(split, query);
        }
        if self.percent >= crate::bucket::SLOTS && !matches!(self.unit, Unit::Field(_)) {
            return Admission::In(None);
        }
        match self.slot(query) {
            Some(slot) if slot < self.percent => Admission::In(Some(slot)),
            _ => Admission::Out,
        }
    }

    /// A formula of another system, or a share that does not start at 0. Where everybody is admitted nobody is
    /// looked at.
    #[inline(never)]
    fn splits(&self, split: &Split, query: &Query<'_>) -> Admission {
        if self.percent >= crate::bucket::SLOTS {
            return Admission::In(None);
        }
        match self.slot(query) {
            Some(slot) if slot.wrapping_sub(split.offset) < self.percent => {
                Admission::In(Some(slot))
            }
            _ => Admission::Out,
        }
    }

    /// The slot of the context's unit; `None` without a unit.
    #[inline]
    pub(crate) fn slot(&self, query: &Query<'_>) -> Option<u32> {
        if let Some(Split { foreign: Some(foreign), .. }) = self.split.as_deref() {
            let slots = u64::from(crate::bucket::SLOTS);
            return foreign.point(query.unit(&self.unit), slots).map(|slot| slot as u32);
        }
        let hash = match query.unit(&self.unit) {
            Some(unit) => self.salted.hash(unit.as_bytes()),
            None if self.unit == Unit::Random => self.salted.hash(&query.moment.draw.to_le_bytes()),
            None => return None,
        };
        Some(slot_of(hash))
    }
}

/// The variant for a context that was let in: the rule's variants, else the flag's.
///
/// Without a unit there is none, unless there is but one to get: the context then has the flag's on value. (Unleash
/// draws one at random, which would show a user a new variant at every call.)
#[inline]
pub(crate) fn choose<'r>(
    flag: &'r Flag,
    rule: Option<&'r Rule>,
    query: &Query<'_>,
) -> Option<&'r Variant> {
    let variants = match rule.and_then(|rule| rule.variants.as_deref()) {
        Some(variants) => variants,
        None => flag.variants.as_deref()?,
    };
    variants.choose(rule.map_or(&Unit::Default, |rule| &rule.unit), query)
}

impl Variants {
    fn choose(&self, unit_of_rule: &Unit, query: &Query<'_>) -> Option<&Variant> {
        if self.has_overrides
            && let Some(variant) = self.list.iter().find(|variant| variant.is_forced(query))
        {
            return Some(variant);
        }
        let unit = self.unit.as_ref().unwrap_or(unit_of_rule);
        let text = query.unit(unit);
        let mut point = match (&self.foreign, text) {
            (Some(foreign), _) => foreign.point(text, self.total)?,
            (None, Some(text)) => {
                u64::from(self.salted.hash(text.as_bytes())).checked_rem(self.total)?
            }
            (None, None) if *unit == Unit::Random => {
                let draw = query.moment.draw.to_le_bytes();
                u64::from(self.salted.hash(&draw)).checked_rem(self.total)?
            }
            (None, None) => return self.only(),
        };
        // The first whose running total exceeds the point; a weight of 0 never does.
        self.list.iter().find(|variant| match point.checked_sub(u64::from(variant.weight)) {
            None => true,
            Some(rest) => {
                point = rest;
                false
            }
        })
    }
}

impl Variants {
    /// The variant that everybody gets, if there is but one with a weight.
    #[cold]
    fn only(&self) -> Option<&Variant> {
        self.list.iter().find(|variant| u64::from(variant.weight) == self.total && self.total > 0)
    }
}

impl Variant {
    fn is_forced(&self, query: &Query<'_>) -> bool {
        self.overrides.iter().any(|(field, set)| match query.find(field) {
            Found::Missing | Found::Time(_) => false,
            Found::Text(text) | Found::Number(_, text) | Found::Address(text, _) => {
                set.contains(text, query.texts)
            }
            Found::Version(version) => set.contains(version.text(), query.texts),
            Found::List(list) => list.iter().any(|text| set.contains(text, query.texts)),
        })
    }
}
