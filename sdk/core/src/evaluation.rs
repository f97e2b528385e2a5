//! Deciding: from a flag and a context to a value and a reason. Flat, early returns, all borrowed.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::bucket::slot_of;
use crate::constraint::Test;
use crate::context::{Found, Query, Unit};
use crate::ruleset::{
    Audience, Flag, Gate, Guards, OnStale, Prerequisite, Rule, Ruleset, Segment, Special, Split,
    Variant, Variants,
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

    #[inline]
    fn new(flag: &'r Flag, verdict: Verdict<'r>, query: &Query<'_>) -> Self {
        let (rule, reason, looked) = match verdict {
            Verdict::On => (None, Reason::Default, Looked::NOT),
            Verdict::OnByRule(rule, looked) => (Some(rule), Reason::Rule(&rule.id), looked),
            Verdict::OnWhileStale(value) => return Self { value, ..Self::on(flag, Reason::Stale) },
            Verdict::NoRule => return Self::off(flag, Reason::NoRule),
            Verdict::OffByRule(rule) => return Self::off(flag, Reason::Rule(&rule.id)),
            Verdict::Disabled => return Self::off(flag, Reason::Disabled),
            Verdict::Killed => return Self::off(flag, Reason::Killed),
            Verdict::Error => return Self::off(flag, Reason::Error),
            Verdict::Expired => return Self::off(flag, Reason::Expired),
            Verdict::Stale => return Self::off(flag, Reason::Stale),
            Verdict::Unmet(one) => return Self::off(flag, Reason::Prerequisite(&one.key)),
        };
        let on = Self { slot: looked.slot(), ..Self::on(flag, reason) };
        match choose(flag, rule, query) {
            None => on,
            Some(variant) => Self {
                variant: Some(&variant.name),
                value: variant.value.as_deref().unwrap_or(on.value),
                outcome: variant.number + 2,
                ..on
            },
        }
    }

    #[inline]
    fn on(flag: &'r Flag, reason: Reason<'r>) -> Self {
        let value = &*flag.on_value;
        Self { enabled: true, variant: None, value, reason, slot: None, outcome: 1 }
    }

    #[inline]
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

/// What the gates and rules say, before any variant is chosen. Two words, so that it is handed over in registers.
#[derive(Clone, Copy)]
pub(crate) enum Verdict<'r> {
    Disabled,
    Killed,
    Error,
    Expired,
    Stale,
    NoRule,
    Unmet(&'r Prerequisite),
    OffByRule(&'r Rule),
    On,
    OnByRule(&'r Rule, Looked),
    OnWhileStale(&'r Value),
}

/// The slot that was looked at, if any was.
#[derive(Clone, Copy)]
pub(crate) struct Looked(u32);

impl Looked {
    /// No slot is so large.
    const NOT: Self = Self(u32::MAX);

    #[inline]
    fn slot(self) -> Option<u32> {
        (self.0 != Self::NOT.0).then_some(self.0)
    }
}

impl Verdict<'_> {
    #[inline]
    fn is_on(self) -> bool {
        matches!(self, Self::On | Self::OnByRule(..) | Self::OnWhileStale(_))
    }
}

impl Ruleset {
    /// Decides one flag. The evaluation is made where it is read: much of it need not be made at all then.
    #[inline]
    pub(crate) fn decide<'r>(&'r self, flag: &'r Flag, query: &Query<'_>) -> Evaluation<'r> {
        let verdict =
            if flag.gate == Gate::Everybody { Verdict::On } else { self.judge(flag, query) };
        Evaluation::new(flag, verdict, query)
    }

    /// As [`Ruleset::decide`], for a loop over all flags.
    #[inline]
    pub(crate) fn decide_inline<'r>(&'r self, flag: &'r Flag, query: &Query<'_>) -> Evaluation<'r> {
        Evaluation::new(flag, self.judge_inline(flag, query), query)
    }

    /// Whether a flag is on, without choosing a variant.
    #[inline]
    pub(crate) fn is_on(&self, flag: &Flag, query: &Query<'_>) -> bool {
        flag.gate == Gate::Everybody || self.is_on_for(flag, query)
    }

    fn is_on_for(&self, flag: &Flag, query: &Query<'_>) -> bool {
        self.judge_inline(flag, query).is_on()
    }

    fn judge<'r>(&'r self, flag: &'r Flag, query: &Query<'_>) -> Verdict<'r> {
        self.judge_inline(flag, query)
    }

    /// Gates first, then rules. Calls itself for prerequisites; compiling has made sure that those
    /// end (`PREREQUISITE_DEPTH_MAX`).
    #[expect(clippy::inline_always, reason = "each caller wants another part of the verdict")]
    #[inline(always)]
    fn judge_inline<'r>(&'r self, flag: &'r Flag, query: &Query<'_>) -> Verdict<'r> {
        match flag.gate {
            Gate::Everybody => return Verdict::On,
            Gate::Open => {}
            Gate::Disabled => return Verdict::Disabled,
            Gate::Killed => return Verdict::Killed,
            Gate::Error => return Verdict::Error,
        }
        if let Some(guards) = &flag.guards
            && let Some(verdict) = self.guard(guards, query)
        {
            return verdict;
        }
        if flag.rules.is_empty() {
            return Verdict::On;
        }
        for rule in self.rules(flag) {
            if let Some(looked) = rule.admits(query) {
                return if rule.serves_off {
                    Verdict::OffByRule(rule)
                } else {
                    Verdict::OnByRule(rule, looked)
                };
            }
        }
        Verdict::NoRule
    }

    /// Expiry, staleness, prerequisites; `None`: nothing stands in the way.
    #[inline(never)]
    fn guard<'r>(&'r self, guards: &'r Guards, query: &Query<'_>) -> Option<Verdict<'r>> {
        if let (Some(end), Some(now)) = (guards.expires_at, query.moment.now_ms)
            && now >= end
        {
            return Some(Verdict::Expired);
        }
        if guards.max_staleness_ms.is_some_and(|max| query.moment.stale_for_ms > max) {
            match &guards.on_stale {
                OnStale::KeepLast => {}
                OnStale::Off => return Some(Verdict::Stale),
                OnStale::Value(value) => return Some(Verdict::OnWhileStale(value)),
            }
        }
        let unmet = guards.prerequisites.iter().find(|one| !self.is_met(one, query))?;
        Some(Verdict::Unmet(unmet))
    }

    /// A flag that is unknown or cannot be understood meets nothing: not even "must be off".
    pub(crate) fn is_met(&self, prerequisite: &Prerequisite, query: &Query<'_>) -> bool {
        let Some(flag) = prerequisite.flag.and_then(|index| self.flag(index)) else {
            return false;
        };
        let verdict = self.judge(flag, query);
        let rule = match verdict {
            Verdict::Error => return false,
            verdict if !verdict.is_on() => return !prerequisite.enabled,
            _ if !prerequisite.enabled => return false,
            _ if prerequisite.variants.is_empty() => return true,
            Verdict::OnWhileStale(_) => return false,
            Verdict::OnByRule(rule, _) => Some(rule),
            _ => None,
        };
        // Without a variant it counts as `disabled`: that is how Unleash names none.
        let chosen = choose(flag, rule, query).map_or("disabled", |variant| &variant.name);
        prerequisite.variants.iter().any(|name| **name == *chosen)
    }
}

impl Audience {
    #[inline(never)]
    fn includes(&self, query: &Query<'_>) -> bool {
        // Groups first: they keep out the most.
        (self.groups.is_empty() || self.has_group(query))
            && (self.platforms.is_empty() || self.has_platform(query))
            && self.tests.iter().all(|test| test.holds(query))
    }

    #[inline]
    pub(crate) fn has_platform(&self, query: &Query<'_>) -> bool {
        let number = match query.known {
            Some(known) => known.platform(),
            None => query.platform().and_then(|platform| query.texts.find(platform)),
        };
        number.is_some_and(|number| self.platforms.holds(number))
    }

    #[inline]
    pub(crate) fn has_group(&self, query: &Query<'_>) -> bool {
        match query.known {
            Some(known) => known.groups().iter().any(|number| self.groups.holds(*number)),
            None => self.has_group_by_name(query),
        }
    }

    #[inline(never)]
    fn has_group_by_name(&self, query: &Query<'_>) -> bool {
        query.groups().iter().any(|group| self.groups.contains(group, query.texts))
    }
}

impl Special {
    fn includes(&self, query: &Query<'_>) -> bool {
        self.segments.iter().all(|segment| {
            segment.tests.as_ref().is_some_and(|tests| tests.iter().all(|t| t.holds(query)))
        })
    }
}

impl Rule {
    /// Whether it lets a context in; with the slot if it had to be looked at.
    #[expect(
        clippy::inline_always,
        reason = "short, but for the hash, and nearly all that a decision does"
    )]
    #[inline(always)]
    pub(crate) fn admits(&self, query: &Query<'_>) -> Option<Looked> {
        if self.audience.as_ref().is_some_and(|audience| !audience.includes(query)) {
            return None;
        }
        if let Some(special) = &self.special {
            return self.admits_specially(special, query);
        }
        // At 100 % nobody is looked at.
        if self.percent >= crate::bucket::SLOTS {
            return Some(Looked::NOT);
        }
        let slot = slot_of(self.salted.hash(query.usual_unit()?.as_bytes()));
        (slot < self.percent).then_some(Looked(slot))
    }

    /// With segments, another unit, a formula of another system, or a share that does not start at 0. At 100 % nobody is
    /// looked at, but a field that was named must be there; so has Unleash it.
    #[inline(never)]
    fn admits_specially(&self, special: &Special, query: &Query<'_>) -> Option<Looked> {
        if !special.includes(query) {
            return None;
        }
        let must_be_there = special.split.is_none() && matches!(special.unit, Unit::Field(_));
        if self.percent >= crate::bucket::SLOTS && !must_be_there {
            return Some(Looked::NOT);
        }
        let offset = special.split.as_ref().map_or(0, |split| split.offset);
        let slot = self.slot(query)?;
        (slot.wrapping_sub(offset) < self.percent).then_some(Looked(slot))
    }

    /// The slot of the context's unit; `None` without a unit.
    pub(crate) fn slot(&self, query: &Query<'_>) -> Option<u32> {
        let unit = self.unit();
        let split = self.special.as_ref().and_then(|special| special.split.as_ref());
        if let Some(Split { foreign: Some(foreign), .. }) = split {
            let slots = u64::from(crate::bucket::SLOTS);
            return foreign.point(query.unit(unit), slots).map(|slot| slot as u32);
        }
        let hash = match query.unit(unit) {
            Some(unit) => self.salted.hash(unit.as_bytes()),
            None if *unit == Unit::Random => self.salted.hash(&query.moment.draw.to_le_bytes()),
            None => return None,
        };
        Some(slot_of(hash))
    }

    /// Which field is bucketed.
    #[inline]
    pub(crate) fn unit(&self) -> &Unit {
        self.special.as_ref().map_or(&Unit::Default, |special| &special.unit)
    }

    pub(crate) fn tests(&self) -> &[Test] {
        self.audience.as_ref().map_or(&[], |audience| &audience.tests)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        self.special.as_ref().map_or(&[], |special| &special.segments)
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
    variants.choose(rule.map_or(&Unit::Default, Rule::unit), query)
}

impl Variants {
    fn choose(&self, unit_of_rule: &Unit, query: &Query<'_>) -> Option<&Variant> {
        if self.has_overrides
            && let Some(variant) = self.forced(query)
        {
            return Some(variant);
        }
        let unit = self.unit.as_deref().unwrap_or(unit_of_rule);
        match (&self.foreign, unit, query.usual_unit()) {
            (None, Unit::Default, Some(text)) => self.at_hash(self.salted.hash(text.as_bytes())),
            _ => self.choose_specially(unit, query),
        }
    }

    #[inline(never)]
    fn forced(&self, query: &Query<'_>) -> Option<&Variant> {
        self.list.iter().find(|variant| variant.is_forced(query))
    }

    /// By a formula of another system, by another unit, or without one.
    #[inline(never)]
    fn choose_specially(&self, unit: &Unit, query: &Query<'_>) -> Option<&Variant> {
        match (&self.foreign, query.unit(unit)) {
            (Some(foreign), text) => self.at(foreign.point(text, self.total())?),
            (None, Some(text)) => self.at_hash(self.salted.hash(text.as_bytes())),
            (None, None) if *unit == Unit::Random => {
                self.at_hash(self.salted.hash(&query.moment.draw.to_le_bytes()))
            }
            (None, None) => self.only(),
        }
    }

    #[inline]
    fn at_hash(&self, hash: u32) -> Option<&Variant> {
        self.at(u64::from(hash).checked_rem(self.total())?)
    }

    /// The first whose running total exceeds the point; a weight of 0 never does.
    #[inline]
    fn at(&self, point: u64) -> Option<&Variant> {
        // There are few: to count them all costs less than to guess wrongly where to stop.
        self.list.get(self.ends.iter().filter(|end| **end <= point).count())
    }

    #[inline]
    fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or_default()
    }

    /// The variant that everybody gets, if there is but one with a weight.
    #[cold]
    fn only(&self) -> Option<&Variant> {
        let total = self.total();
        self.list.iter().find(|variant| u64::from(variant.weight) == total && total > 0)
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
