//! Which variant of each flag a user had at a moment, so that those with a change can be told from those without.
//!
//! An app that evaluates by itself says so in the event; for the others the flags are evaluated here, as they stood at
//! the event's time. Users whom a flag could not reach at any share (of another platform, say) are left out: they may
//! fail more or less often for reasons of their own, and would make a poor comparison.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use switchback_core::context::ContextBody;
use switchback_core::model::{Document, FlagEntry, Millis, Percent, Serve};
use switchback_core::{FlagIndex, Ruleset};
use switchback_watch::event::{Event, VARIANTS_MAX};

use crate::live::Snapshot;

/// How long earlier states are kept for events that come late, in milliseconds.
const KEPT_MS: Millis = 120_000;
/// Earlier states at most.
const KEPT_MAX: usize = 16;

/// What an environment's flags were lately, the oldest first.
#[derive(Default)]
pub struct History(VecDeque<Arc<Split>>);

/// A state, and the flags of it that do not treat everybody alike.
pub struct Split {
    snapshot: Arc<Snapshot>,
    flags: Vec<(FlagIndex, String)>,
    /// The same flags with every share at 100 %: who may get them at all.
    reach: Ruleset,
}

impl History {
    /// Notes the state that is in force now.
    pub fn note(&mut self, snapshot: &Arc<Snapshot>, now: Millis) {
        if self.0.back().is_some_and(|last| Arc::ptr_eq(&last.snapshot, snapshot)) {
            return;
        }
        self.0.push_back(Arc::new(Split::of(Arc::clone(snapshot))));
        // The oldest goes when the one after it covers all the time that is asked for.
        while self.0.len() > KEPT_MAX
            || self.0.get(1).is_some_and(|next| next.snapshot.known_at < now - KEPT_MS)
        {
            self.0.pop_front();
        }
    }

    /// The state at a moment; the oldest that is known for earlier ones.
    pub fn at(&self, moment: Millis) -> Option<Arc<Split>> {
        let newest = self.0.iter().rev().find(|split| split.snapshot.known_at <= moment);
        newest.or(self.0.front()).cloned()
    }
}

impl Split {
    fn of(snapshot: Arc<Snapshot>) -> Self {
        let ruleset = &snapshot.ruleset;
        let flags = snapshot
            .document
            .flags
            .values()
            .filter(|entry| splits(entry))
            .filter_map(|entry| Some((ruleset.index_of(entry.key())?, entry.key().to_owned())))
            .take(VARIANTS_MAX)
            .collect();
        let reach = reach(&snapshot.document);
        Self { snapshot, flags, reach }
    }

    /// What a user had: `on`, `off`, or the variant's name, by flag.
    pub fn variants(&self, event: &Event) -> BTreeMap<String, String> {
        if self.flags.is_empty() || (event.user.is_none() && event.session.is_none()) {
            return BTreeMap::new();
        }
        let body = ContextBody {
            user_id: event.user.clone(),
            session_id: event.session.clone(),
            platform: event.platform.clone(),
            app_version: event.app_version.clone(),
            country: event.country.clone(),
            groups: event.groups.clone(),
            properties: event.properties.clone(),
            ..ContextBody::default()
        };
        let context = body.to_context(event.at, 0);
        let moment = context.moment();
        let one = |(index, key): &(FlagIndex, String)| {
            let found = self.snapshot.ruleset.evaluate_index(*index, &context, moment);
            if !found.enabled && !self.reach.evaluate_at(key, &context, moment).enabled {
                return None;
            }
            let name = found.variant.unwrap_or(if found.enabled { "on" } else { "off" });
            Some((key.clone(), name.to_owned()))
        };
        self.flags.iter().filter_map(one).collect()
    }
}

/// A document in which every rule of the flags that split users lets in all whom it may.
fn reach(document: &Document) -> Ruleset {
    let mut open = document.clone();
    for entry in open.flags.values_mut() {
        if splits(entry)
            && let FlagEntry::Known(flag) = entry
        {
            for rule in &mut flag.state.rules {
                rule.percent = Percent::ALL;
            }
        }
    }
    // Only these are asked; the others matter where one of them is a prerequisite.
    let needs_others = |entry: &FlagEntry| match entry {
        FlagEntry::Known(flag) => splits(entry) && !flag.state.prerequisites.is_empty(),
        FlagEntry::Unreadable { .. } => false,
    };
    if !open.flags.values().any(needs_others) {
        open.flags.retain(|key, _| document.flags.get(key).is_some_and(splits));
    }
    Ruleset::compile(&open)
}

/// Whether two users may get different answers of it.
fn splits(entry: &FlagEntry) -> bool {
    let FlagEntry::Known(flag) = entry else { return false };
    let state = &flag.state;
    if !state.enabled || state.killed {
        return false;
    }
    let variants = |own: &[switchback_core::model::Variant]| {
        own.len() > 1 || (own.is_empty() && state.variants.len() > 1)
    };
    match state.rules.first() {
        None => state.variants.len() > 1 || !state.prerequisites.is_empty(),
        Some(first) => {
            let is_for_all = first.percent == Percent::ALL
                && first.groups.is_empty()
                && first.platforms.is_empty()
                && first.constraints.is_empty()
                && first.segments.is_empty()
                && first.serve == Serve::On;
            !is_for_all || variants(&first.variants) || !state.prerequisites.is_empty()
        }
    }
}
