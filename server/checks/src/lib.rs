//! Consistency checks: what a pack says, what becomes of what it finds, how much may be fixed, and how healthy that is.
//!
//! Pure: time and what a database answered come in as data.
#![warn(missing_docs)]

pub mod event_mode;
pub mod finding;
pub mod health;
pub mod limits;
pub mod pack;
pub mod subject;

pub use pack::{Check, Fix, LabelKind, Pace, Pack, Per, Severity, Touched};
