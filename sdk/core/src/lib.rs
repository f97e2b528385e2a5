//! Switchback's pure core: flags, rulesets, evaluation, deltas, wire frames and the follower.
//!
//! No I/O, no clock, no randomness: the time and the draw are in the context. The server, the SDKs
//! and relays all decide with this crate.
#![warn(missing_docs)]

pub mod context;
pub mod model;
pub mod wire;
