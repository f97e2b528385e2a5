//! Decisions for a context: why, for all flags, and what a change would do to the contexts seen last.
//!
//! The last contexts that decisions were asked for stay in this node's memory: they may be about people, and a sample
//! needs no more than that. SDKs that decide by themselves send none, so they come from browsers, front ends, OFREP and
//! "Try it".

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::FixedState;
use serde_json::Value;
use switchback_core::context::ContextBody;
use switchback_core::model::{Document, FlagEntry, FlagState};
use switchback_core::{Context, Ruleset};
use switchback_store::Role;

use super::App;
use super::error::AppError;
use super::who::Who;

/// Contexts that are kept for an environment.
const KEPT_MAX: usize = 1_000;
/// A context with longer texts than this together, in bytes, is not kept.
const CONTEXT_BYTES_MAX: usize = 4_096;

/// The last contexts of each environment, each once.
#[derive(Debug, Default)]
pub struct Recent(Mutex<BTreeMap<String, Ring>>);

/// Digests stand beside what they are of, so that looking for one touches little memory.
#[derive(Debug, Default)]
struct Ring {
    digests: VecDeque<u64>,
    contexts: VecDeque<Arc<ContextBody>>,
}

/// What a change would do to the contexts that were seen last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Moved {
    /// Contexts that it was tried on; at most 1,000.
    pub of: u64,
    /// Those that get something else: on, off, another variant or value.
    pub changed: u64,
    /// Those that were off and would be on.
    pub to_on: u64,
    /// Those that were on and would be off.
    pub to_off: u64,
}

impl Recent {
    /// Keeps a context unless it is there already. Never waits: while another thread writes, one context less is seen.
    pub fn note(&self, environment: &str, context: &Context<'_>) {
        let body = ContextBody::from(context);
        if body == ContextBody::default() || size(&body) > CONTEXT_BYTES_MAX {
            return;
        }
        let digest = FixedState::with_seed(0).hash_one(&body);
        let Ok(mut all) = self.0.try_lock() else { return };
        if !all.contains_key(environment) {
            all.insert(environment.to_owned(), Ring::default());
        }
        let Some(ring) = all.get_mut(environment) else { return };
        if ring.digests.contains(&digest) {
            return;
        }
        if ring.digests.len() >= KEPT_MAX {
            ring.digests.pop_front();
            ring.contexts.pop_front();
        }
        ring.digests.push_back(digest);
        ring.contexts.push_back(Arc::new(body));
    }

    fn of(&self, environment: &str) -> Vec<Arc<ContextBody>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(environment).map(|ring| ring.contexts.iter().cloned().collect()).unwrap_or_default()
    }
}

fn size(body: &ContextBody) -> usize {
    let texts = [
        &body.user_id,
        &body.session_id,
        &body.platform,
        &body.app_version,
        &body.country,
        &body.remote_address,
        &body.app_name,
    ];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let groups: usize = body.groups.iter().map(String::len).sum();
    let properties =
        body.properties.iter().map(|(name, value)| name.len() + value.to_string().len());
    texts + groups + properties.sum::<usize>()
}

/// What a context gets from one flag.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Decided {
    /// The flag.
    pub key: String,
    /// On or off.
    pub enabled: bool,
    /// The variant, if one was chosen.
    pub variant: Option<String>,
    /// The value.
    pub value: Value,
    /// Why, in a few words.
    pub reason: String,
}

impl App {
    /// Why a context gets what it gets, rule by rule.
    pub async fn explain_flag(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        body: &ContextBody,
    ) -> Result<switchback_core::Explanation, AppError> {
        who.must(Role::Viewer, environment, "look at flags")?;
        let snapshot = self.hub.feed(environment, None).await?.current();
        if !snapshot.document.flags.contains_key(key) {
            return Err(AppError::NotFound { kind: "flag", key: key.to_owned() });
        }
        let context = body.to_context(self.clock.now(), 0);
        self.contexts.note(environment, &context);
        Ok(snapshot.ruleset.explain(key, &context))
    }

    /// What a context gets from every flag, by key.
    pub async fn decide_all(
        &self,
        who: &Who,
        environment: &str,
        body: &ContextBody,
    ) -> Result<Vec<Decided>, AppError> {
        who.must(Role::Viewer, environment, "look at flags")?;
        let snapshot = self.hub.feed(environment, None).await?.current();
        let context = body.to_context(self.clock.now(), 0);
        self.contexts.note(environment, &context);
        let mut all = Vec::with_capacity(snapshot.document.flags.len());
        snapshot.ruleset.evaluate_all(&context, |key, decision| {
            all.push(Decided {
                key: key.to_owned(),
                enabled: decision.enabled,
                variant: decision.variant.map(str::to_owned),
                value: decision.value.clone(),
                reason: decision.reason.to_string(),
            });
        });
        Ok(all)
    }

    /// How many of the contexts seen last would get something else from a flag in another state.
    pub async fn try_on_recent(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        state: &FlagState,
    ) -> Result<Moved, AppError> {
        who.must(Role::Viewer, environment, "look at flags")?;
        let contexts = self.contexts.of(environment);
        if contexts.is_empty() {
            return Ok(Moved::default());
        }
        let snapshot = self.hub.feed(environment, None).await?.current();
        let (key, state, now) = (key.to_owned(), state.clone(), self.clock.now());
        let counted = tokio::task::spawn_blocking(move || {
            let mut document = Document::clone(&snapshot.document);
            if let Some(FlagEntry::Known(flag)) = document.flags.get_mut(&key) {
                flag.state = state;
            }
            count(&snapshot.ruleset, &Ruleset::compile(&document), &key, &contexts, now)
        });
        counted.await.map_err(|error| AppError::Internal(Box::new(error)))
    }
}

fn count(
    before: &Ruleset,
    after: &Ruleset,
    key: &str,
    contexts: &[Arc<ContextBody>],
    now: i64,
) -> Moved {
    let mut moved = Moved { of: contexts.len() as u64, ..Moved::default() };
    for (draw, body) in contexts.iter().enumerate() {
        let context = body.to_context(now, draw as u32);
        let (was, is) = (before.evaluate(key, &context), after.evaluate(key, &context));
        let same = (was.enabled, was.variant, was.value) == (is.enabled, is.variant, is.value);
        moved.changed += u64::from(!same);
        moved.to_on += u64::from(!was.enabled && is.enabled);
        moved.to_off += u64::from(was.enabled && !is.enabled);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_thousand_are_kept_each_once() {
        let recent = Recent::default();

        for n in 0..KEPT_MAX + 500 {
            recent.note("prod", &Context::new().user_id(format!("u{n}")));
            recent.note("prod", &Context::new().user_id(format!("u{n}")));
        }
        recent.note("prod", &Context::new());
        recent.note("prod", &Context::new().user_id("x".repeat(CONTEXT_BYTES_MAX + 1)));

        let kept = recent.of("prod");
        assert_eq!(kept.len(), KEPT_MAX);
        assert_eq!(kept[0].user_id.as_deref(), Some("u500"));
        assert_eq!(kept[KEPT_MAX - 1].user_id.as_deref(), Some("u1499"));
    }
}
