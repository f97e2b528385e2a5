//! Unleash's features document: read (for import and `switchback evaluate`), written (for its SDKs), and its context.
//! Shapes and semantics: Unleash client specification 6.1.0.

mod context;
mod decide;
mod document;
mod read;

pub use context::{Peer, context_of};
pub use decide::{Chosen, Decider};
pub use document::{
    Constraint, Dependency, Feature, Features, Override, Payload, Segment, Strategy, Variant,
};
pub use read::{Reading, import, read};

/// The name of a strategy that stands for a rule which Unleash cannot say. No SDK knows it, so it never admits.
pub const INEXPRESSIBLE: &str = "switchback-inexpressible";
