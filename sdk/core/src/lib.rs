//! Switchback's pure core: flags, rulesets, evaluation, deltas, wire frames and the follower.
//!
//! No I/O, no clock, no randomness: the time and the draw are in the context. The server, the SDKs
//! and relays all decide with this crate.
#![warn(missing_docs)]

mod auth_event;
mod bucket;
mod constraint;
pub mod context;
mod delta;
mod evaluation;
mod explain;
pub mod follower;
mod lookup;
pub mod model;
mod ruleset;
pub mod validate;
mod version;
pub mod wire;

pub use auth_event::AuthEventKind;
pub use bucket::{SLOTS, slot, variant_point};
pub use constraint::REGEX_SIZE_BYTES_MAX;
pub use context::{Context, ContextBody, Moment, Property};
pub use delta::Gap;
pub use evaluation::{AuthMode, Evaluation, Reason};
pub use explain::{Check, Explanation, RuleExplanation};
pub use follower::{Follower, Reply, backoff_ms};
pub use ruleset::{FlagIndex, PREREQUISITE_DEPTH_MAX, PREREQUISITE_VISITS_MAX, Problem, Ruleset};
