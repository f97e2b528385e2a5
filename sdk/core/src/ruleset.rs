//! A document, compiled: everything parsed once, so that a decision parses nothing.

mod compile;
mod graph;

use std::sync::Arc;

use serde_json::Value;

use crate::bucket::{Foreign, Salted};
use crate::constraint::{Set, Test, Texts};
use crate::context::{Context, Field, Known, Moment, Query, Unit};
use crate::evaluation::{AuthMode, Evaluation};
use crate::lookup::Index;
use crate::model::{Document, Millis, Revision};

/// Prerequisites of prerequisites: a longer chain is an error.
pub const PREREQUISITE_DEPTH_MAX: u32 = 16;

/// Flags that one decision may visit through prerequisites; more is an error. Without this, twenty
/// prerequisites on each of sixteen levels would be 10^20 visits.
pub const PREREQUISITE_VISITS_MAX: u32 = 1_000;

/// Something in a document, or in a change, that is not right.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where, such as `rules[0].constraints[1].values`.
    pub path: String,
    /// What, as a sentence without its subject.
    pub message: String,
}

/// A document, ready for decisions. It never changes: a new revision is a new ruleset.
#[derive(Debug, Default)]
pub struct Ruleset {
    epoch: String,
    environment: String,
    revision: Revision,
    /// Places in `flags`, from 1 on.
    index: Index,
    /// All keys in order, one after the other.
    keys: String,
    /// By key.
    pub(crate) flags: Vec<Flag>,
    /// Of all flags, in order.
    pub(crate) rules: Vec<Rule>,
    /// Of each flag: the names of all its variants, those of its rules included.
    variant_names: Vec<Box<[Arc<str>]>>,
    /// Of each rule: what a person calls it.
    pub(crate) titles: Vec<Option<Box<str>>>,
    /// What the flags' lists are made of.
    texts: Texts,
    auth: AuthFlags,
    problems: Vec<Problem>,
}

/// A flag's place in one ruleset, to save looking its key up again. Only good for that ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlagIndex(pub(crate) u32);

impl FlagIndex {
    /// The place: 0 for the first flag by key, without gaps.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// Where something is in a list that all flags share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What every decision reads is in one cache line, the rest elsewhere: a walk over all flags waits for memory otherwise.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Flag {
    pub(crate) gate: Gate,
    pub(crate) needs: Needs,
    pub(crate) impressions: bool,
    /// In [`Ruleset::rules`].
    pub(crate) rules: Span,
    /// In [`Ruleset::keys`].
    key: Span,
    /// Shared, as most flags' are the same.
    pub(crate) on_value: Arc<Value>,
    pub(crate) off_value: Arc<Value>,
    pub(crate) variants: Option<Box<Variants>>,
    /// `None`: there is no expiry, no staleness limit and no prerequisite to look at.
    pub(crate) guards: Option<Box<Guards>>,
}

impl Flag {
    pub(crate) fn prerequisites(&self) -> &[Prerequisite] {
        self.guards.as_ref().map_or(&[], |guards| &guards.prerequisites)
    }
}

/// Which parts of a [`Moment`] a flag's decision looks at; a caller may leave out the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The time, and how long the server has not been heard of.
    pub time: bool,
    /// The random number.
    pub draw: bool,
}

/// What stands before the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Open, and neither guards nor rules are behind it.
    Everybody,
    Open,
    Disabled,
    Killed,
    Error,
}

#[derive(Debug, Default)]
pub(crate) struct Guards {
    pub(crate) expires_at: Option<Millis>,
    pub(crate) max_staleness_ms: Option<u64>,
    pub(crate) on_stale: OnStale,
    pub(crate) prerequisites: Box<[Prerequisite]>,
}

#[derive(Debug, Default)]
pub(crate) enum OnStale {
    #[default]
    KeepLast,
    Off,
    Value(Value),
}

#[derive(Debug)]
pub(crate) struct Prerequisite {
    pub(crate) key: Box<str>,
    /// `None`: there is no such flag.
    pub(crate) flag: Option<FlagIndex>,
    pub(crate) enabled: bool,
    pub(crate) variants: Box<[Box<str>]>,
}

/// One cache line, as a [`Flag`] is.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Rule {
    /// In thousandths of a percent.
    pub(crate) percent: u32,
    pub(crate) salted: Salted,
    pub(crate) id: Box<str>,
    /// `None`: everybody.
    pub(crate) audience: Option<Box<Audience>>,
    pub(crate) variants: Option<Box<Variants>>,
    pub(crate) special: Option<Box<Special>>,
    pub(crate) serves_off: bool,
}

const _: () = assert!(size_of::<Flag>() == 64 && size_of::<Rule>() == 64);

/// Whom a rule is for; an empty list is for everybody.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) platforms: Set,
    pub(crate) groups: Set,
    pub(crate) tests: Box<[Test]>,
}

/// What only few rules have.
#[derive(Debug)]
pub(crate) struct Special {
    pub(crate) segments: Box<[Segment]>,
    pub(crate) unit: Unit,
    /// Another formula than ours, or another start than 0.
    pub(crate) split: Option<Split>,
}

/// How a rule's share is counted.
#[derive(Debug)]
pub(crate) struct Split {
    /// In thousandths of a percent.
    pub(crate) offset: u32,
    /// `None`: our own formula.
    pub(crate) foreign: Option<Box<Foreign>>,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) key: Box<str>,
    /// Shared by all rules that name it; `None`: missing, never holds.
    pub(crate) tests: Option<Arc<[Test]>>,
}

#[derive(Debug)]
pub(crate) struct Variants {
    pub(crate) salted: Salted,
    pub(crate) has_overrides: bool,
    /// Of each variant: its weight and those of all before it. The last is the total.
    pub(crate) ends: Box<[u64]>,
    pub(crate) list: Box<[Variant]>,
    /// `None`: our own formula.
    pub(crate) foreign: Option<Box<Foreign>>,
    /// `None`: the rule's.
    pub(crate) unit: Option<Box<Unit>>,
}

#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) weight: u32,
    /// Its place in [`Ruleset::variant_names`].
    pub(crate) number: u32,
    /// `None`: the flag's on value.
    pub(crate) value: Option<Arc<Value>>,
    pub(crate) name: Arc<str>,
    pub(crate) overrides: Box<[(Field, Set)]>,
}

/// The flags that [`Ruleset::auth_mode`] asks.
#[derive(Debug, Default)]
pub(crate) struct AuthFlags {
    pub(crate) bypass: Option<FlagIndex>,
    pub(crate) enabled: Option<FlagIndex>,
    pub(crate) rollout: Option<FlagIndex>,
}

impl Ruleset {
    /// Compiles a document. Never fails: what cannot be understood is off, and listed in
    /// [`Ruleset::problems`].
    pub fn compile(document: &Document) -> Self {
        compile::ruleset(document)
    }

    /// The database that the revision belongs to.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The environment.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// The revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// All keys, in order; a key's position is its [`FlagIndex`].
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.flags.iter().map(|flag| self.key(flag))
    }

    /// What was found wrong when compiling.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Where a flag is, for [`Ruleset::evaluate_index`].
    #[inline]
    pub fn index_of(&self, key: &str) -> Option<FlagIndex> {
        let is = |n: u32| self.flag(FlagIndex(n - 1)).is_some_and(|flag| self.key(flag) == key);
        self.index.find(key, is).map(|n| FlagIndex(n - 1))
    }

    /// The flag at a position of [`Ruleset::keys`].
    pub fn nth(&self, position: usize) -> Option<FlagIndex> {
        (position < self.flags.len()).then_some(FlagIndex(position as u32))
    }

    /// The names of a flag's variants, those of its rules included; see
    /// [`Evaluation::outcome`].
    pub fn variant_names(&self, flag: FlagIndex) -> impl ExactSizeIterator<Item = &str> {
        let names = self.variant_names.get(flag.get()).map_or(&[][..], |names| names);
        names.iter().map(|name| &**name)
    }

    /// Which parts of a [`Moment`] the flag's decision looks at: reading a clock costs more than
    /// most decisions.
    #[inline]
    pub fn needs(&self, flag: FlagIndex) -> Needs {
        self.flag(flag).map(|flag| flag.needs).unwrap_or_default()
    }

    /// Whether each evaluation of the flag is to be reported.
    pub fn wants_impressions(&self, flag: FlagIndex) -> bool {
        self.flag(flag).is_some_and(|flag| flag.impressions)
    }

    /// Decides one flag for one context, at the context's own moment. Pure: no clock, no I/O, no
    /// randomness, no allocation, no panic.
    ///
    /// Constraints with `REGEX` are the one exception to "no allocation": their automaton is built
    /// as it is needed, within [`crate::REGEX_SIZE_BYTES_MAX`].
    #[inline]
    pub fn evaluate<'r>(&'r self, key: &str, context: &Context<'_>) -> Evaluation<'r> {
        match self.index_of(key) {
            Some(flag) => self.decide_index(flag, context, context.moment_ref()),
            None => Evaluation::UNKNOWN,
        }
    }

    /// As [`Ruleset::evaluate`], at a moment other than the context's own.
    #[inline]
    pub fn evaluate_at<'r>(
        &'r self,
        key: &str,
        context: &Context<'_>,
        moment: Moment,
    ) -> Evaluation<'r> {
        match self.index_of(key) {
            Some(flag) => self.decide_index(flag, context, &moment),
            None => Evaluation::UNKNOWN,
        }
    }

    /// As [`Ruleset::evaluate_at`], for a flag whose place is known.
    #[inline]
    pub fn evaluate_index<'r>(
        &'r self,
        flag: FlagIndex,
        context: &Context<'_>,
        moment: Moment,
    ) -> Evaluation<'r> {
        self.decide_index(flag, context, &moment)
    }

    #[inline]
    fn decide_index<'r>(
        &'r self,
        flag: FlagIndex,
        context: &Context<'_>,
        moment: &Moment,
    ) -> Evaluation<'r> {
        match self.flag(flag) {
            Some(flag) => self.decide(flag, &self.query(context, moment)),
            None => Evaluation::UNKNOWN,
        }
    }

    /// Decides all flags, in order of their keys.
    pub fn evaluate_all<'r>(
        &'r self,
        context: &Context<'_>,
        mut each: impl FnMut(&'r str, Evaluation<'r>),
    ) {
        let known = Known::of(context, &self.texts);
        let query = Query { known: known.as_ref(), ..self.query(context, context.moment_ref()) };
        for flag in &self.flags {
            each(self.key(flag), self.decide_inline(flag, &query));
        }
    }

    /// Whether a flag is on; an unknown one is not. Cheaper than [`Ruleset::evaluate`], as no
    /// variant is chosen.
    #[inline]
    pub fn is_enabled(&self, key: &str, context: &Context<'_>) -> bool {
        match self.index_of(key) {
            Some(flag) => self.is_index_on(flag, context, context.moment_ref()),
            None => false,
        }
    }

    /// As [`Ruleset::is_enabled`], for a flag whose place is known, at a moment of one's own.
    #[inline]
    pub fn is_index_enabled(&self, flag: FlagIndex, context: &Context<'_>, moment: Moment) -> bool {
        self.is_index_on(flag, context, &moment)
    }

    #[inline]
    fn is_index_on(&self, flag: FlagIndex, context: &Context<'_>, moment: &Moment) -> bool {
        self.flag(flag).is_some_and(|flag| self.is_on(flag, &self.query(context, moment)))
    }

    /// What the flags `auth_bypass`, `auth_enabled` and `auth_rollout` say together.
    ///
    /// Bypass on: [`AuthMode::Bypass`]. Else `auth_enabled` off: [`AuthMode::Anonymous`]. Else
    /// [`AuthMode::Enforced`] if `auth_rollout` is on, [`AuthMode::Anonymous`] if it is off. A flag
    /// that is missing or cannot be understood never opens the door: `auth_bypass` then counts as
    /// off, the others as on, so that a missing document means `Enforced`.
    pub fn auth_mode(&self, context: &Context<'_>) -> AuthMode {
        self.auth_mode_by(|flag| self.is_index_enabled(flag, context, context.moment()))
    }

    /// As [`Ruleset::auth_mode`], with the caller asking each flag, so that it can count.
    pub fn auth_mode_by(&self, mut is_on: impl FnMut(FlagIndex) -> bool) -> AuthMode {
        let mut says = |index: Option<FlagIndex>, unknown: bool| match index {
            Some(index) if self.flag(index).is_some_and(|flag| flag.gate != Gate::Error) => {
                is_on(index)
            }
            _ => unknown,
        };
        if says(self.auth.bypass, false) {
            AuthMode::Bypass
        } else if says(self.auth.enabled, true) && says(self.auth.rollout, true) {
            AuthMode::Enforced
        } else {
            AuthMode::Anonymous
        }
    }

    #[inline]
    pub(crate) fn flag(&self, index: FlagIndex) -> Option<&Flag> {
        self.flags.get(index.0 as usize)
    }

    #[inline]
    fn key(&self, flag: &Flag) -> &str {
        self.keys.get(flag.key.range()).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn rules(&self, flag: &Flag) -> &[Rule] {
        self.rules.get(flag.rules.range()).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn query<'q>(&'q self, context: &'q Context<'q>, moment: &'q Moment) -> Query<'q> {
        let (environment, texts) = (&self.environment, &self.texts);
        Query { context, moment, environment, texts, known: None }
    }
}
