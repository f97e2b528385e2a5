//! Looking at a precondition: whether it holds now, and what was seen.

use crate::consistency::PackWish;
use crate::format::{Require, Wanted};
use crate::plan::Plan;
use crate::ports::{PortError, World};
use crate::steps::flags;
use crate::units::duration_words;

/// Whether it holds, and what was seen. An expression's looks give up after so many milliseconds, if their own limit is longer.
pub(crate) async fn look(
    require: &Require,
    plan: &Plan,
    world: &World,
    timeout_ms: Option<u64>,
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
        Wanted::Expression { expr } => {
            let (_, values) = crate::next_move::values(plan, require.block.as_deref());
            let found =
                crate::live::holds(expr, &values, &plan.environment, world, timeout_ms).await?;
            // What has no answer does not hold.
            Ok(found.unwrap_or_else(|why| (false, why)))
        }
        Wanted::Health { pack, health } => {
            let wish = PackWish { pack: pack.clone(), ..PackWish::default() };
            let look = world.consistency.look(&wish).await?;
            let percent = (look.health * 10_000.0).floor() / 100.0;
            let says = format!("`{pack}` is at {percent} %, {} found", look.found);
            Ok((look.health * 100_000.0 >= f64::from(*health), says))
        }
    }
}
