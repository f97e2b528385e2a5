//! Putting what came into force, and saying so.

use std::collections::BTreeSet;
use std::sync::Arc;

use switchback_core::Gap;
use switchback_core::model::{Document, FlagEntry};
use switchback_core::wire::{Delta, ServerFrame};
use tokio::time::Instant;

use super::{CONFIRM_EVERY, Task};
use crate::builder::compile;
use crate::shared::{Shared, Source};
use crate::subscription::Change;

impl Task {
    /// Applies a full document or a delta.
    pub(super) async fn apply(&mut self, frame: ServerFrame) -> Result<(), Gap> {
        let old = Arc::clone(&self.connection.shared.state.load().document);
        let (document, delta) = match frame {
            ServerFrame::Full(document) => {
                let delta = Delta::between(&old, &document);
                (document, delta)
            }
            ServerFrame::Delta(delta) => {
                let mut document = Document::clone(&old);
                document.apply(&delta)?;
                (document, delta)
            }
            _ => return Ok(()),
        };
        let keys = changed_keys(&document, delta);
        let (document, revision) = (Arc::new(document), document_revision(&self.connection.shared));
        let state = compile(Arc::clone(&document)).await;
        let to = state.ruleset.revision();
        let shared = &self.connection.shared;

        self.retired.push(shared.enforce(state, Source::Live));
        self.connection.saver.send_modify(|wanted| wanted.document = Some(document));
        self.confirmed_at = Instant::now();
        tracing::info!(revision = to, "flags went from revision {revision} to {to}");
        let change = Change { revision: to, keys, missed: false };
        shared.changes.send(Arc::new(change)).ok(); // nobody may be listening
        self.gather();
        Ok(())
    }

    /// The server has confirmed that the flags in force are the newest.
    pub(super) fn on_confirmed(&mut self) {
        let shared = &self.connection.shared;
        shared.clock.on_heard();
        shared.progress.send_if_modified(|progress| {
            let is_news = !progress.status.live || progress.status.last_error.is_some();
            progress.status.live = true;
            progress.status.last_error = None;
            progress.is_refused = false;
            progress.has_failed = false;
            if is_news && progress.status.source != Source::Test {
                progress.status.source = Source::Live;
            }
            is_news
        });
        if self.confirmed_at.elapsed() >= CONFIRM_EVERY {
            self.confirmed_at = Instant::now();
            let document = Arc::clone(&shared.state.load().document);
            self.connection.saver.send_modify(|wanted| {
                wanted.document = Some(document);
                wanted.confirmed += 1;
            });
        }
    }

    /// The connection is gone.
    pub(super) fn on_away(&mut self, error: &str, is_refused: bool) {
        self.gather();
        self.connection.shared.progress.send_modify(|progress| {
            progress.status.live = false;
            progress.status.last_error = Some(error.to_owned());
            progress.has_failed = true;
            progress.is_refused = is_refused;
        });
    }

    pub(super) fn on_error(&self, error: &str) {
        tracing::warn!("flag server: {error}");
        self.connection
            .shared
            .progress
            .send_modify(|progress| progress.status.last_error = Some(error.to_owned()));
    }

    /// A frame of a later release is no reason to part; a document that cannot be read leaves the
    /// last one in force.
    pub(super) fn on_unreadable(&self, error: &serde_json::Error) {
        if error.to_string().contains("unknown variant") {
            tracing::debug!("a frame of a kind that this release does not know: {error}");
        } else {
            self.on_error(&format!("a frame cannot be read: {error}"));
        }
    }

    /// Moves counts from the atomics to the rows that wait to be sent.
    pub(super) fn gather(&mut self) {
        let current = self.connection.shared.state.load_full();
        current.counters.drain(&current.ruleset, &mut self.pending);
        // A decision that began before the swap may still count: keep its state until it is done.
        let pending = &mut self.pending;
        self.retired.retain(|state| {
            let is_in_use = Arc::strong_count(state) > 1;
            state.counters.drain(&state.ruleset, pending);
            is_in_use
        });
        let dropped = self.pending.dropped();
        let events = self.connection.shared.auth_events.dropped();
        self.connection.shared.progress.send_if_modified(|progress| {
            let is_news = progress.status.dropped_counts != dropped
                || progress.status.dropped_events != events;
            progress.status.dropped_counts = dropped;
            progress.status.dropped_events = events;
            is_news
        });
    }
}

fn document_revision(shared: &Shared) -> u64 {
    shared.state.load().ruleset.revision()
}

/// Flags that a delta touches, by themselves or by a segment that they use.
fn changed_keys(document: &Document, delta: Delta) -> Vec<String> {
    let mut segments: BTreeSet<&str> = delta.segments.iter().map(|s| s.key.as_str()).collect();
    segments.extend(delta.removed_segments.iter().map(String::as_str));
    let mut keys: BTreeSet<String> = delta.flags.iter().map(|flag| flag.key().to_owned()).collect();
    if !segments.is_empty() {
        let uses = |entry: &FlagEntry| match entry {
            FlagEntry::Known(flag) => {
                let mut named = flag.state.rules.iter().flat_map(|rule| &rule.segments);
                named.any(|segment| segments.contains(segment.as_str()))
            }
            FlagEntry::Unreadable { .. } => false,
        };
        let touched = document.flags.iter().filter(|(_, entry)| uses(entry));
        keys.extend(touched.map(|(key, _)| key.clone()));
    }
    keys.extend(delta.removed_flags);
    keys.into_iter().collect()
}
