//! Sessions of the app's users, in memory, and the step that ends them.

use async_trait::async_trait;
use switchback_core::model::Millis;
use switchback_playbook::dry_run;
use switchback_playbook::journal::{NewEntry, Person};
use switchback_playbook::ports::PortError;
use switchback_playbook::sessions::{SessionWish, Sessions};
use switchback_playbook::state::Ending;

use crate::support::{Fake, Fault, T0, TestClock, plan_of};

/// Sessions that end in one go.
const BATCH: u64 = 500;

#[async_trait]
impl Sessions for Fake {
    async fn count(&self, _: &str, _: &SessionWish, _: Millis) -> Result<u64, PortError> {
        Ok(self.with(|inner| inner.sessions))
    }

    async fn revoke(&self, _: &str, _: &SessionWish, _: Millis, _: bool) -> Result<u64, PortError> {
        self.operate(None, |inner| {
            let ended = inner.sessions.min(BATCH);
            inner.sessions -= ended;
            Ok(ended)
        })
    }
}

const STEPS: &str = "- {id: out, approve: {roles: [admin], timeout: 1m}, session.revoke: {platform: ios, below_version: '2.4', idle: 2h}}";

fn agreed() -> Fake {
    let fake = Fake::new(plan_of(STEPS));
    let person = Person { name: "ada".into(), roles: vec!["admin".into()], comment: String::new() };
    fake.with(|inner| inner.sessions = 1_200);
    fake.say(NewEntry::approval("r1", "out", T0, true, &person));
    fake
}

#[tokio::test(start_paused = true)]
async fn sessions_end_to_the_last_whatever_dies() {
    let calm = agreed();
    assert_eq!(calm.drive_to_end(&TestClock::new()).await, Ending::Succeeded);
    assert_eq!(calm.with(|inner| inner.sessions), 0);

    for number in 1..=calm.with(|inner| inner.operations) {
        for fault in [Fault::DieBefore(number), Fault::DieAfter(number)] {
            let fake = agreed();
            fake.with(|inner| inner.faults = vec![fault]);

            assert_eq!(fake.drive_to_end(&TestClock::new()).await, Ending::Succeeded, "{fault:?}");
            assert_eq!(fake.with(|inner| inner.sessions), 0, "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_and_ends_nothing() {
    let fake = agreed();

    let seen = dry_run(&plan_of(STEPS), &fake.world(&TestClock::new())).await;

    let told = serde_json::to_string(&seen).unwrap();
    assert!(told.contains("1200 sessions end; nothing brings them back"), "{told}");
    assert_eq!(fake.with(|inner| inner.sessions), 1_200);
}
