//! The port of `flag.archive`: flags that go in every environment, and come back.

use async_trait::async_trait;

use crate::journal::{Lease, NewEntry};
use crate::ports::PortError;

/// How a flag stands towards the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveState {
    /// Whether it is there.
    pub is_archived: bool,
    /// Why it cannot be archived, or brought back when it is there; `None` when it can.
    pub obstacle: Option<String>,
}

/// The archive of flags.
#[async_trait]
pub trait Archive: Send + Sync {
    /// How a flag stands; [`PortError::NotFound`] when there is none.
    async fn look(&self, flag: &str) -> Result<ArchiveState, PortError>;

    /// Archives a flag in every environment, or brings it back as it was, and commits `outcome` in the same transaction, fenced
    /// by the lease. In a drill only the outcome is written: the other environments are real.
    async fn set(
        &self,
        lease: &Lease,
        flag: &str,
        archived: bool,
        reason: &str,
        outcome: NewEntry,
    ) -> Result<(), PortError>;
}
