//! The tile that the overview and the watch page have when a pack is in use.

use switchback_app::AppError;

use super::says;
use crate::ui::timeline::if_allowed;
use crate::ui::visit::Visit;
use crate::ui::words::{count, number};

/// How all packs in use stand, in a tile.
pub struct Tile {
    pub health: String,
    /// The figure's class.
    pub tone: &'static str,
    pub words: String,
}

impl Tile {
    /// `None` when no pack is in use, or who looks may not see them.
    pub async fn of(visit: &Visit) -> Result<Option<Self>, AppError> {
        let Some(health) = if_allowed(visit.check_health(&visit.who).await.map(Some))? else {
            return Ok(None);
        };
        let used = || health.packs.iter().filter(|pack| !pack.settings.source.is_empty());
        if used().next().is_none() {
            return Ok(None);
        }
        let found: u64 = used().map(|pack| pack.found).sum();
        let grade = used().filter_map(|pack| pack.grade).max();
        let silent = used().filter(|pack| pack.is_silent).count() as u64;
        let words = match (found, silent) {
            (_, 1..) => format!("sweeps are missing in {}", count(silent, "pack")),
            _ if health.overall.is_none() => "nothing was looked at yet".to_owned(),
            (0, _) => format!("nobody is broken in {}", count(used().count() as u64, "pack")),
            (found, _) => format!("{} found", number(found)),
        };
        let tone = if says::tone(grade) == "bad" || silent > 0 { "bad" } else { "" };
        Ok(Some(Self { health: says::health(health.overall), tone, words }))
    }
}
