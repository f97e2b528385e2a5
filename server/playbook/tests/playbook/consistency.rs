//! A pack of consistency checks, in memory, and the step that wants it to be healthy, or makes it so.

use async_trait::async_trait;
use switchback_playbook::consistency::{Consistency, PackHealth, PackWish, RepairState};
use switchback_playbook::dry_run;
use switchback_playbook::ports::PortError;
use switchback_playbook::state::Ending;

use crate::support::{Fake, Fault, TestClock, plan_of};

const ALL: f64 = 1_000.0;

#[async_trait]
impl Consistency for Fake {
    async fn look(&self, _: &PackWish) -> Result<PackHealth, PortError> {
        Ok(self.with(|inner| PackHealth {
            health: 1.0 - inner.broken_rows as f64 / ALL,
            found: inner.broken_rows,
        }))
    }

    async fn would_repair(&self, _: &PackWish) -> Result<u64, PortError> {
        Ok(self.with(|inner| inner.broken_rows))
    }

    async fn start(&self, key: &str, _: &PackWish) -> Result<(), PortError> {
        self.operate(None, |inner| {
            let found = inner.broken_rows;
            if !inner.repairs.contains_key(key) {
                inner.repairs.insert(key.to_owned(), (found, false));
                inner.broken_rows = 0;
            }
            Ok(())
        })
    }

    async fn start_undo(&self, key: &str) -> Result<(), PortError> {
        self.operate(None, |inner| {
            if let Some((healed, is_undone)) = inner.repairs.get_mut(key)
                && !*is_undone
            {
                *is_undone = true;
                inner.broken_rows += *healed;
            }
            Ok(())
        })
    }

    async fn state(&self, key: &str) -> Result<Option<RepairState>, PortError> {
        Ok(self.with(|inner| {
            inner.repairs.get(key).map(|(healed, _)| RepairState {
                is_over: true,
                found: *healed,
                healed: *healed,
                left: 0,
                conflicts: 0,
                message: None,
                is_failed: false,
            })
        }))
    }
}

fn broken(steps: &str) -> Fake {
    let fake = Fake::new(plan_of(steps));
    fake.with(|inner| inner.broken_rows = 12);
    fake
}

const REPAIR: &str = "- {id: heal, consistency.run: {pack: signups, repair: true, window: 10m}}";

#[tokio::test(start_paused = true)]
async fn a_pack_that_is_not_healthy_stops_the_run() {
    let strict = broken("- {id: whole, consistency.run: {pack: signups}}");
    let lenient = broken("- {id: whole, consistency.run: {pack: signups, health: 98%}}");

    assert_eq!(strict.drive_to_end(&TestClock::new()).await, Ending::Compensated);
    assert_eq!(lenient.drive_to_end(&TestClock::new()).await, Ending::Succeeded);
    assert_eq!(lenient.with(|inner| inner.repairs.len()), 0, "looking repairs nothing");
}

#[tokio::test(start_paused = true)]
async fn a_repair_happens_once_whatever_dies() {
    let calm = broken(REPAIR);
    assert_eq!(calm.drive_to_end(&TestClock::new()).await, Ending::Succeeded);

    for number in 1..=calm.with(|inner| inner.operations) {
        for fault in [Fault::DieBefore(number), Fault::DieAfter(number)] {
            let fake = broken(REPAIR);
            fake.with(|inner| inner.faults = vec![fault]);

            assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Succeeded, "{fault:?}");
            let (left, runs) = fake.with(|inner| (inner.broken_rows, inner.repairs.len()));
            assert_eq!((left, runs), (0, 1), "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_takes_its_repair_back() {
    let fake = broken(&format!("{REPAIR}\n- {{id: bad, flag.set: {{key: nowhere, value: true}}}}"));

    assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Compensated);

    let repairs: Vec<(u64, bool)> = fake.with(|inner| inner.repairs.values().copied().collect());
    assert_eq!(repairs, [(12, true)]);
    assert_eq!(fake.with(|inner| inner.broken_rows), 12);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_and_repairs_nothing() {
    let fake = broken(REPAIR);

    let seen = dry_run(&plan_of(REPAIR), &fake.world(&TestClock::new())).await;

    let told = serde_json::to_string(&seen).unwrap();
    assert!(told.contains("would repair 12"), "{told}");
    assert_eq!(fake.with(|inner| inner.broken_rows), 12);
}
