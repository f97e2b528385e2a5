//! Switchback's watch: what an auth event is, how events become counts, and when counts mean harm.
//!
//! Pure throughout: the time comes in with the data, so that a rule can be tried on the past and a
//! test on a seed. The server brings the clock, the database and the messages.
#![warn(missing_docs)]

pub mod action;
pub mod alert;
pub mod baseline;
pub mod burn;
pub mod draw;
pub mod event;
pub mod ewma;
pub mod foreign;
pub mod grid;
pub mod guard;
pub mod histogram;
pub mod hour_of_week;
pub mod impact;
mod maths;
pub mod once;
pub mod ratio;
pub mod rehearsal;
pub mod replay;
pub mod rollout;
pub mod rollup;
pub mod rule;
pub mod sample_ratio;
pub mod volume;
