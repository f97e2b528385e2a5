//! The port of `consistency.run` and of its precondition: packs of consistency checks.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::ports::PortError;

/// What is to be looked at or repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackWish {
    /// The pack.
    pub pack: String,
    /// Only this check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Only what came to be so long ago at most, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
}

/// How a pack stands, as a look of this moment found it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PackHealth {
    /// The share that is whole, 0 to 1.
    pub health: f64,
    /// How many are broken.
    pub found: u64,
}

/// How far a run of repairs is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairState {
    /// Whether it is over.
    pub is_over: bool,
    /// How many were found.
    pub found: u64,
    /// How many are healed.
    pub healed: u64,
    /// How many are still found afterwards.
    pub left: u64,
    /// Rows that an undo left, as somebody else had changed them.
    pub conflicts: u64,
    /// Why it waits, or why it failed.
    pub message: Option<String>,
    /// Whether it failed.
    pub is_failed: bool,
}

/// Packs of checks.
#[async_trait]
pub trait Consistency: Send + Sync {
    /// Looks now.
    async fn look(&self, wish: &PackWish) -> Result<PackHealth, PortError>;

    /// How many would be repaired. In a drill nothing is looked at.
    async fn would_repair(&self, wish: &PackWish) -> Result<u64, PortError>;

    /// Starts a run of repairs, once per key.
    async fn start(&self, key: &str, wish: &PackWish) -> Result<(), PortError>;

    /// Starts taking a run back.
    async fn start_undo(&self, key: &str) -> Result<(), PortError>;

    /// How far a run is; `None` when none was started with this key.
    async fn state(&self, key: &str) -> Result<Option<RepairState>, PortError>;
}
