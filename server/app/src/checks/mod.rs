//! Consistency checks of the app's databases: which there are, sweeps, the monitor, repairs, findings, health.

mod alerting;
pub mod backfill;
pub mod book;
mod drive;
pub mod findings;
mod fixes;
mod gauges;
pub mod health;
mod lint;
mod memory;
mod monitor;
pub mod preview;
pub mod report;
pub mod settings;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

pub use backfill::{BackfillWish, CheckProgress, RepairRun};
pub use book::{KnownPack, PackProblem};
pub use gauges::CheckGauges;
pub use health::{CheckView, Health, PackView};
pub use lint::Remark;
pub use memory::CheckState;

use memory::Memory;

/// What this node has in memory for checks.
#[derive(Default)]
pub(crate) struct Checks {
    /// By pack; locked while a sweep or a batch of repairs works, so that there is one of them at a time.
    memories: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Memory>>>>,
    /// Runs of repairs that this node drives.
    driven: Mutex<BTreeSet<String>>,
    /// Something is to be done at once.
    wake: Notify,
}

impl Checks {
    fn memory(&self, pack: &str) -> Arc<tokio::sync::Mutex<Memory>> {
        let mut all = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(pack.to_owned()).or_default())
    }

    /// Another node was the one that looks: what is known here may be old.
    fn forget(&self) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
