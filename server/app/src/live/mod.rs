//! From a committed change to the proof that every client has it: feeds, clients, convergence.

pub mod client;
pub mod convergence;
pub mod feed;
pub mod frontend;
pub mod hub;
pub mod listener;
pub mod pollers;
pub mod unleash;

pub use client::{Client, ClientView};
pub use convergence::{AppShare, Convergence};
pub use feed::{Feed, Snapshot};
pub use hub::{Hub, News};
pub use pollers::{Poll, Pollers};
