//! What changed between two documents, and making the change.

use std::collections::BTreeMap;

use crate::model::{Document, Revision};
use crate::wire::Delta;

/// A delta does not start where the document is: ask for a full one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the change leads from revision {from}, but revision {have} is here (or another epoch)")]
pub struct Gap {
    /// Where the document is.
    pub have: Revision,
    /// Where the delta starts.
    pub from: Revision,
}

impl Delta {
    /// What leads from `old` to `new`. Both are of one environment and epoch: the delta carries
    /// `new`'s.
    pub fn between(old: &Document, new: &Document) -> Self {
        Self {
            epoch: new.epoch.clone(),
            from: old.revision,
            to: new.revision,
            flags: changed(&old.flags, &new.flags),
            removed_flags: removed(&old.flags, &new.flags),
            segments: changed(&old.segments, &new.segments),
            removed_segments: removed(&old.segments, &new.segments),
        }
    }
}

impl Document {
    /// Makes the change, or nothing at all if the delta does not start here.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), Gap> {
        if delta.from != self.revision || delta.epoch != self.epoch {
            return Err(Gap { have: self.revision, from: delta.from });
        }
        for key in &delta.removed_flags {
            self.flags.remove(key);
        }
        for flag in &delta.flags {
            self.flags.insert(flag.key().to_owned(), flag.clone());
        }
        for key in &delta.removed_segments {
            self.segments.remove(key);
        }
        for segment in &delta.segments {
            self.segments.insert(segment.key.as_str().to_owned(), segment.clone());
        }
        self.revision = delta.to;
        Ok(())
    }
}

fn changed<T: Clone + PartialEq>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Vec<T> {
    let is_changed = |(key, item): &(&String, &T)| old.get(*key) != Some(*item);
    new.iter().filter(is_changed).map(|(_, item)| item.clone()).collect()
}

fn removed<T>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Vec<String> {
    old.keys().filter(|key| !new.contains_key(*key)).cloned().collect()
}
