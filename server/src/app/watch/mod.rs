//! The watch: what apps report of their users' logins, and what it says about the changes that were made.

mod climb;
mod evaluator;
pub mod events;
mod exposure;
pub mod figures;
pub mod guards;
mod moves;
pub mod rollouts;
pub mod suspects;
mod ticks;
mod words;

pub use events::{EventsTaken, Intake};
pub use ticks::Metric;
