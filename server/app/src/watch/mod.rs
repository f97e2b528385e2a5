//! The watch: what apps report of their users' logins, and what it says about the changes that were made.

pub mod alerts;
mod climb;
mod evaluator;
pub mod events;
mod exposure;
pub mod figures;
mod foreign;
pub mod guards;
mod moves;
mod outside;
pub mod pollers;
mod readings;
pub mod rollouts;
pub mod rulebook;
mod rules;
mod supabase;
pub mod suspects;
mod telling;
mod ticks;
pub mod trial;
mod words;

pub use events::{EventsTaken, Intake};
pub use ticks::Metric;
