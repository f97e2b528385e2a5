//! Data sources: the app's own databases (PostgreSQL, SQLite), which playbooks and checks may touch within limits.
//!
//! A data source never holds its credentials: it names the environment variable or the file that does, and they are read
//! when a connection is made. No error of this crate says more of them than that name.
#![warn(missing_docs)]

mod backup;
mod connect;
mod error;
mod exec;
pub mod keys;
mod migrate;
mod mirror;
mod query;
mod repair;
mod script;
mod settings;
mod snapshot;
mod survey;

pub use backup::{Count, Look, Proof, Scope, Shelf, Space, Taken};
pub use connect::{Dialect, Source, Tested};
pub use error::SourceError;
pub use exec::{Executed, Rehearsed, Work};
pub use migrate::{Direction, Migrated, Migration};
pub use mirror::{Mirrored, MirroredFlag};
pub use query::{Plan, Row};
pub use repair::{
    Change, Detector, JournalRow, KeyDone, Pick, Remedy, Repaired, Repairer, RunMark, Undone,
    Work as RepairWork,
};
pub use script::{Statement, split};
pub use settings::{Access, Credentials, Settings};
pub use snapshot::{SNAPSHOT_ROWS_MAX, Side, Snapshot};
pub use survey::{Columns, ROWS_MAX};
