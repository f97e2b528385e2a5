//! The archive of flags, in memory, and the step that moves them there.

use async_trait::async_trait;
use switchback_playbook::archive::{Archive, ArchiveState};
use switchback_playbook::journal::{Lease, NewEntry};
use switchback_playbook::ports::PortError;
use switchback_playbook::state::Ending;

use crate::support::{Fake, Fault, TestClock, plan_of, push};

#[async_trait]
impl Archive for Fake {
    async fn look(&self, flag: &str) -> Result<ArchiveState, PortError> {
        let is_archived = self.with(|inner| inner.archived.contains(flag));
        Ok(ArchiveState { is_archived, obstacle: None })
    }

    async fn set(
        &self,
        lease: &Lease,
        flag: &str,
        archived: bool,
        _: &str,
        outcome: NewEntry,
    ) -> Result<(), PortError> {
        self.operate(Some(lease), |inner| {
            let moved = if archived {
                inner.archived.insert(flag.to_owned())
            } else {
                inner.archived.remove(flag)
            };
            if !moved {
                return Err(PortError::NotFound(flag.to_owned()));
            }
            push(inner, outcome, lease.epoch);
            Ok(())
        })
    }
}

/// Whatever dies, the flag is archived once and is back after a failure.
#[tokio::test(start_paused = true)]
async fn a_flag_goes_and_comes_back_whatever_dies() {
    const KEPT: &str = "- {id: gone, flag.archive: {key: auth_enabled}}";
    const FAILS: &str = "- {id: gone, flag.archive: {key: auth_enabled}}\n- {id: last, flag.set: {key: nowhere, value: true}}";
    for (steps, ending, is_archived) in
        [(KEPT, Ending::Succeeded, true), (FAILS, Ending::Compensated, false)]
    {
        let calm = Fake::new(plan_of(steps));
        assert_eq!(calm.drive_to_end(&TestClock::new()).await, ending);
        for number in 1..=calm.with(|inner| inner.operations) {
            for fault in [Fault::DieBefore(number), Fault::DieAfter(number)] {
                let fake = Fake::new(plan_of(steps));
                fake.with(|inner| inner.faults = vec![fault]);

                assert_eq!(fake.drive_to_end(&TestClock::new()).await, ending, "{fault:?}");
                assert_eq!(!fake.with(|inner| inner.archived.is_empty()), is_archived, "{fault:?}");
            }
        }
    }
}
