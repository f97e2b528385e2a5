//! Unleash's features document: read (for import and `switchback evaluate`), written (for its SDKs), and its context.
//! Shapes and semantics: Unleash client specification 6.1.0.

mod context;
mod decide;
mod document;
mod drift;
mod export;
mod file;
mod read;
mod write;

pub use context::{Peer, context_of};
pub use decide::{Chosen, Decider};
pub use document::{
    Constraint, Dependency, Feature, Features, Override, Payload, Segment, Strategy, Variant,
};
pub use drift::Source;
pub use file::file_of;
pub use read::{Reading, import, read};
pub use write::{Written, feature_of, features_of, payload_of, segment_id, segment_of, unsaid};
