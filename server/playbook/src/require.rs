//! Looking at a precondition: whether it holds now, and what was seen.

use crate::format::{Require, Wanted};
use crate::plan::Plan;
use crate::ports::{PortError, World};
use crate::steps::flags;
use crate::units::duration_words;

/// Whether it holds, and what was seen.
pub(crate) async fn look(
    require: &Require,
    plan: &Plan,
    world: &World,
) -> Result<(bool, String), PortError> {
    let now = world.clock.now_ms();
    match &require.wanted {
        Wanted::Flag { flag, on: wanted } => {
            let found = world.flags.read(&plan.environment, flag).await?;
            let on = flags::is_on(&found.state, now);
            Ok((on == *wanted, format!("`{flag}` is {}", if on { "on" } else { "off" })))
        }
        Wanted::BackupAge { source, max_ms } => {
            Ok(match world.backups.latest(source, true).await? {
                None => (false, format!("`{source}` has no backup that was verified")),
                Some(backup) => {
                    let age = now.saturating_sub(backup.created_at).max(0) as u64;
                    let says = format!(
                        "the newest verified backup of `{source}` is {} old",
                        duration_words(age)
                    );
                    (age <= *max_ms, says)
                }
            })
        }
    }
}
