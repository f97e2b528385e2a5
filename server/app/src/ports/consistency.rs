//! The engine's port to packs of consistency checks.

use async_trait::async_trait;
use switchback_playbook::consistency::{Consistency, PackHealth, PackWish, RepairState};
use switchback_playbook::ports::PortError;

use super::{Ports, app_error};
use crate::checks::BackfillWish;

#[async_trait]
impl Consistency for Ports {
    async fn look(&self, wish: &PackWish) -> Result<PackHealth, PortError> {
        let check = wish.check.as_deref();
        let view = self.app.run_checks_now(&self.who(), &wish.pack, check).await;
        let view = view.map_err(app_error)?;
        let looked = view.checks.iter().filter(|one| check.is_none_or(|name| name == one.name));
        let mut found = 0;
        let mut lowest: f64 = 1.0;
        for one in looked {
            if let Some(error) = &one.state.error {
                let message = format!("{}/{}: {error}", wish.pack, one.name);
                return Err(PortError::Unavailable(message));
            }
            found += one.counted();
            lowest = lowest.min(one.health.unwrap_or(1.0));
        }
        let health = if check.is_some() { lowest } else { view.health.unwrap_or(1.0) };
        Ok(PackHealth { health, found })
    }

    async fn would_repair(&self, wish: &PackWish) -> Result<u64, PortError> {
        if self.drill().is_some() {
            return Ok(0); // the people are real
        }
        let preview = self.app.preview_backfill(&self.who(), &wish.pack, &meant(wish)).await;
        Ok(preview.map_err(app_error)?.would_repair)
    }

    async fn start(&self, key: &str, wish: &PackWish) -> Result<(), PortError> {
        if self.drill().is_some() {
            return Ok(());
        }
        let mut meant = meant(wish);
        meant.reason = self.run.as_ref().map(|run| run.reason.clone()).unwrap_or_default();
        let id = run_id(key);
        self.app.start_backfill_as(&self.who(), &wish.pack, meant, id).await.map_err(app_error)
    }

    async fn start_undo(&self, key: &str) -> Result<(), PortError> {
        if self.drill().is_some() {
            return Ok(());
        }
        self.app.undo_repair_once(&self.who(), &run_id(key)).await.map_err(app_error)
    }

    async fn state(&self, key: &str) -> Result<Option<RepairState>, PortError> {
        if self.drill().is_some() {
            let state = RepairState {
                is_over: true,
                found: 0,
                healed: 0,
                left: 0,
                conflicts: 0,
                message: None,
                is_failed: false,
            };
            return Ok(Some(state));
        }
        let Some(run) = self.app.find_repair_run(&run_id(key)).await.map_err(app_error)? else {
            return Ok(None);
        };
        let checks = run.progress.checks.values();
        let sum = |of: fn(&crate::checks::CheckProgress) -> u64| checks.clone().map(of).sum();
        Ok(Some(RepairState {
            is_over: matches!(run.state.as_str(), "done" | "undone"),
            is_failed: matches!(run.state.as_str(), "failed" | "cancelled"),
            found: sum(|one| one.found),
            healed: sum(|one| one.healed),
            left: sum(|one| one.left.unwrap_or(0)),
            conflicts: sum(|one| one.conflicts),
            message: run.progress.message.clone(),
        }))
    }
}

fn meant(wish: &PackWish) -> BackfillWish {
    BackfillWish { check: wish.check.clone(), window_ms: wish.window_ms, ..BackfillWish::default() }
}

/// The run of repairs that a step's key stands for: starting it twice is starting it once.
fn run_id(key: &str) -> String {
    format!("rep_{key}")
}
