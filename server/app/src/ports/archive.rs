//! The engine's port to the archive of flags.

use async_trait::async_trait;
use switchback_playbook::archive::{Archive, ArchiveState};
use switchback_playbook::journal::{Lease, NewEntry};
use switchback_playbook::ports::PortError;

use super::{Ports, app_error, fence_of, port_error};

#[async_trait]
impl Archive for Ports {
    async fn look(&self, flag: &str) -> Result<ArchiveState, PortError> {
        self.app.look_at_archive(flag).await.map_err(app_error)
    }

    async fn set(
        &self,
        lease: &Lease,
        flag: &str,
        archived: bool,
        reason: &str,
        outcome: NewEntry,
    ) -> Result<(), PortError> {
        let (store, fence, row) = (&self.app.store, fence_of(lease), self.row(outcome));
        if self.drill().is_some() {
            return store.append_entry(&fence, row).await.map(drop).map_err(port_error);
        }
        let by = self.app.stamp(&self.who(), reason);
        let moved = store.archive_flag_in_run(&fence, (flag, archived), &by, row).await;
        moved.map_err(port_error)?;
        self.app.flag_moved(flag, if archived { "archived" } else { "brought back" }).await;
        Ok(())
    }
}
