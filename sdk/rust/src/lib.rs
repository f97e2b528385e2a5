#![doc = include_str!("../README.md")]
//! Switchback's client for Rust: local decisions, live updates, proof of application.
#![warn(missing_docs)]

mod auth_events;
mod builder;
mod cache;
mod client;
mod clock;
mod connection;
mod counts;
mod saver;
mod shared;
mod subscription;
mod testing;
mod transport;

pub use auth_events::AuthEvent;
pub use builder::{BuildError, Builder};
pub use client::{Decision, Switchback};
pub use shared::{Source, Status};
pub use subscription::{Change, Changes, Impression, Impressions, Notices, Subscription};
pub use switchback_core::wire::Notice;
pub use switchback_core::{AuthEventKind, AuthMode, Context, Property};
pub use testing::TestBuilder;
