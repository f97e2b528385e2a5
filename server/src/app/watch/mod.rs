//! The watch: what apps report of their users' logins, and what it says about the changes that were made.

pub mod events;
mod exposure;
pub mod figures;

pub use events::{EventsTaken, Intake};
