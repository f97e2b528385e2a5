//! Fixing some keys: tried again when somebody else was quicker, parted when one of them spoils the batch.

use std::time::Duration;

use switchback_source::{KeyDone, Pick, RepairWork, Repaired, Repairer, Source, SourceError};

use crate::ids;

/// How often a batch is tried that others keep changing, or that waits for a lock.
const TRIES: u32 = 4;
/// How long to wait before the second try, in milliseconds; twice as long each time.
const WAIT_MS: u64 = 20;

/// What became of some keys.
#[derive(Default)]
pub(super) struct Tried {
    /// What the fix did.
    pub done: Vec<KeyDone>,
    /// Keys that the database refuses to fix, with why.
    pub refused: Vec<(String, String)>,
    /// The last row of the run's journal; 0 when nothing was done.
    pub seq: i64,
    /// Rows of the journal that were written.
    pub lines: i64,
    /// Why it stopped before the last key.
    pub stopped: Option<SourceError>,
}

/// Fixes keys that are still detected. A key that the database refuses is found by halving, so that it does not stop the others.
pub(super) async fn fix_keys(
    source: &Source,
    repairer: &Repairer,
    work: RepairWork<'_>,
    keys: &[String],
) -> Tried {
    let mut tried = Tried::default();
    // The left half is on top, so that keys are fixed in their order.
    let mut stack: Vec<&[String]> = vec![keys];
    while let Some(part) = stack.pop() {
        match patiently(source, repairer, work, Pick::Keys(part)).await {
            Ok(mut repaired) => {
                tried.done.append(&mut repaired.done);
                tried.seq = tried.seq.max(repaired.seq);
                tried.lines += repaired.lines;
            }
            Err(SourceError::Constraint(why)) => {
                if let [one] = part {
                    tried.refused.push((one.clone(), why));
                } else {
                    let (left, right) = part.split_at(part.len() / 2);
                    stack.push(right);
                    stack.push(left);
                }
            }
            Err(error) => {
                tried.stopped = Some(error);
                return tried;
            }
        }
    }
    tried
}

/// One batch, tried again when somebody else was quicker or held a lock.
pub(super) async fn patiently(
    source: &Source,
    repairer: &Repairer,
    work: RepairWork<'_>,
    pick: Pick<'_>,
) -> Result<Repaired, SourceError> {
    let mut wait = WAIT_MS;
    for _ in 1..TRIES {
        match source.repair(repairer, work, pick).await {
            Err(SourceError::Raced | SourceError::Locked(_)) => {}
            other => return other,
        }
        let [spread] = ids::random::<1>();
        tokio::time::sleep(Duration::from_millis(wait + u64::from(spread) * wait / 255)).await;
        wait *= 2;
    }
    source.repair(repairer, work, pick).await
}
