//! A snapshot as Unleash's SDKs take it: written once, shared by everybody who asks.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use bytestring::ByteString;
use serde_json::{Value, json};
use switchback_core::model::{Document, FlagEntry, Revision};
use switchback_formats::unleash::{Feature, Written, features_of, segment_id};

use super::feed::Snapshot;

/// Where a client is: the revision, and a mark of the database that it counts in. Travels as `412-0a1b2c3d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The environment's revision.
    pub revision: Revision,
    mark: u32,
}

impl Place {
    /// Where a document is.
    pub fn of(document: &Document) -> Self {
        let mark = switchback_core::variant_point("epoch", &document.epoch, u64::from(u32::MAX));
        Self { revision: document.revision, mark: mark as u32 }
    }

    /// Whether both count in the same database.
    pub fn is_of(&self, other: &Self) -> bool {
        self.mark == other.mark
    }

    /// Reads what a client sends back; quotes, `W/` and what follows a `:` are passed over.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches("W/").trim_matches('"');
        let text = text.split(':').next().unwrap_or_default();
        let (revision, mark) = text.split_once('-')?;
        Some(Self { revision: revision.parse().ok()?, mark: u32::from_str_radix(mark, 16).ok()? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}-{:08x}", self.revision, self.mark)
    }
}

/// The document, and the bytes that go out.
#[derive(Debug)]
pub struct Rendered {
    /// Flags and segments in Unleash's terms.
    pub written: Written,
    /// Where this is.
    pub place: Place,
    etags: (String, String),
    features: OnceLock<ByteString>,
    inlined: OnceLock<ByteString>,
    hydration: OnceLock<ByteString>,
    /// From the revision before this to this.
    step: OnceLock<ByteString>,
}

/// What a client of the delta API needs.
#[derive(Debug, PartialEq)]
pub enum Events {
    /// It has the newest.
    Nothing,
    /// `{"events": [..]}`, with the whole document in it.
    Hydration(ByteString),
    /// `{"events": [..]}`, with what changed.
    Changes(ByteString),
}

impl Rendered {
    pub(super) fn new(document: &Document) -> Self {
        let place = Place::of(document);
        Self {
            written: features_of(document),
            etags: (format!("\"{place}:0\""), format!("\"{place}:i\"")),
            place,
            features: OnceLock::new(),
            inlined: OnceLock::new(),
            hydration: OnceLock::new(),
            step: OnceLock::new(),
        }
    }

    /// The answer's ETag.
    pub fn etag(&self, inline: bool) -> &str {
        if inline { &self.etags.1 } else { &self.etags.0 }
    }

    /// The answer of `/api/client/features`; with each segment's constraints put into the strategies that name it, for
    /// SDKs that do not know segments.
    pub fn features(&self, environment: &str, inline: bool) -> ByteString {
        let place = if inline { &self.inlined } else { &self.features };
        place.get_or_init(|| self.render(environment, inline, |_| true)).clone()
    }

    /// The same for some of the flags; rendered for this one answer.
    pub fn filtered(
        &self,
        environment: &str,
        inline: bool,
        wanted: impl Fn(&Feature) -> bool,
    ) -> ByteString {
        self.render(environment, inline, wanted)
    }

    fn render(
        &self,
        environment: &str,
        inline: bool,
        wanted: impl Fn(&Feature) -> bool,
    ) -> ByteString {
        let features = self.written.features.values().filter(|feature| wanted(feature));
        let features: Vec<Value> = features
            .map(|feature| {
                let mut feature = feature.clone();
                if inline {
                    self.inline(&mut feature);
                }
                json!(feature)
            })
            .collect();
        let segments: Vec<_> =
            if inline { Vec::new() } else { self.written.segments.values().collect() };
        let answer = json!({
            "version": 2,
            "features": features,
            "segments": segments,
            "query": {"environment": environment, "inlineSegmentConstraints": inline},
            "meta": {"revisionId": self.place.revision, "etag": format!("\"{}\"", self.place), "queryHash": "switchback"},
        });
        ByteString::from(answer.to_string())
    }

    fn inline(&self, feature: &mut Feature) {
        for strategy in &mut feature.strategies {
            for id in std::mem::take(&mut strategy.segments) {
                match self.written.segments.values().find(|segment| segment.id == id) {
                    Some(segment) => {
                        strategy.constraints.extend(segment.constraints.iter().cloned());
                    }
                    None => strategy.segments.push(id), // missing: the SDK knows none, so it never admits
                }
            }
        }
    }

    fn hydration(&self) -> ByteString {
        let render = || {
            let event = json!({
                "type": "hydration",
                "eventId": self.place.revision,
                "features": self.written.features.values().collect::<Vec<_>>(),
                "segments": self.written.segments.values().collect::<Vec<_>>(),
            });
            ByteString::from(json!({"events": [event]}).to_string())
        };
        self.hydration.get_or_init(render).clone()
    }
}

impl Snapshot {
    /// Where this is.
    pub(super) fn unleash_place(&self) -> Place {
        Place::of(&self.document)
    }

    /// What a client needs that is at a place, or nowhere yet.
    pub fn unleash_events(&self, has: Option<&Place>) -> Events {
        let rendered = self.unleash();
        let Some(has) = has.filter(|has| has.mark == rendered.place.mark) else {
            return Events::Hydration(rendered.hydration());
        };
        if has.revision == rendered.place.revision {
            return Events::Nothing;
        }
        let Some((flags, segments)) = self.moved_since(has.revision) else {
            return Events::Hydration(rendered.hydration());
        };
        let render = || self.render_changes(&flags, &segments);
        if has.revision + 1 == rendered.place.revision {
            return Events::Changes(rendered.step.get_or_init(render).clone());
        }
        Events::Changes(render())
    }

    /// Segments first: a flag may name a new one. A flag whose prerequisite changed may have become one that Unleash
    /// can say, or ceased to be.
    fn render_changes(&self, flags: &BTreeSet<&str>, segments: &BTreeSet<&str>) -> ByteString {
        let Rendered { written, place, .. } = self.unleash();
        let id = place.revision;
        let mut events = Vec::new();
        for segment in segments.iter().filter_map(|key| written.segments.get(*key)) {
            events.push(json!({"type": "segment-updated", "eventId": id, "segment": segment}));
        }
        let mut named = flags.clone();
        for (key, entry) in &self.document.flags {
            if let FlagEntry::Known(flag) = entry
                && flag.state.prerequisites.iter().any(|one| flags.contains(one.flag.as_str()))
            {
                named.insert(key);
            }
        }
        for key in named {
            if let Some(feature) = written.features.get(key) {
                events.push(json!({"type": "feature-updated", "eventId": id, "feature": feature}));
                continue;
            }
            let project = match self.document.flags.get(key) {
                Some(FlagEntry::Known(flag)) => flag.project.as_str(),
                _ => "default",
            };
            events.push(json!({
                "type": "feature-removed", "eventId": id, "featureName": key, "project": project,
            }));
        }
        for key in segments.iter().filter(|key| !written.segments.contains_key(**key)) {
            events.push(
                json!({"type": "segment-removed", "eventId": id, "segmentId": segment_id(key)}),
            );
        }
        ByteString::from(json!({"events": events}).to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_read_or_refused(text in "\\PC{0,40}", revision in any::<u64>(), mark in any::<u32>()) {
            let _ = Place::parse(&text);
            let written = format!("W/\"{revision}-{mark:08x}:0\"");
            prop_assert_eq!(Place::parse(&written).unwrap().to_string(), format!("{revision}-{mark:08x}"));
        }
    }
}
