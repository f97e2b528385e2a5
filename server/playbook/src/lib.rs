//! Switchback's playbooks: the file format, its lint, the plan, the choice of the next move and the
//! runner. Everything outside is reached through the traits in [`ports`] and [`journal`].
//!
//! A run, from file to end: [`lint::load`] reads a file; [`plan::compile`] fills it in for one
//! environment; [`preview::dry_run`] shows what it would do; the server stores the plan and calls
//! [`runner::drive`] with a lease, again and again if need be, until it says how the run ended.
#![warn(missing_docs)]

pub mod alerts;
pub mod archive;
pub mod backups;
pub mod blocks;
pub mod consistency;
pub mod expr;
mod flights;
pub mod format;
pub mod guards;
pub mod inputs;
pub mod invert;
pub mod journal;
pub mod lint;
mod live;
pub mod next_move;
pub mod plan;
pub mod ports;
pub mod preserve;
pub mod preview;
pub mod problem;
pub mod read;
mod require;
pub mod runner;
pub mod says;
pub mod schedule;
pub mod sessions;
pub mod standing;
pub mod state;
pub mod steps;
pub mod templates;
pub mod triggers;
pub mod units;
pub mod watch;
pub mod yaml;

pub use plan::{Plan, compile};
pub use preview::{Preview, dry_run};
pub use problem::Problem;
pub use runner::{DriveError, drive};
pub use state::{Ending, RunState, RunView};
pub use steps::registry;
