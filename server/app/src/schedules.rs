//! Playbooks that the clock starts: on one node each time, and once for all the times that were missed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use switchback_playbook::schedule::Schedule;
use switchback_store::{Once, ScheduleRow};

use super::App;
use super::automation::Wish;
use super::error::AppError;

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl App {
    /// Starts what is due, for the life of the server.
    pub(super) async fn run_schedules(self: Arc<Self>) {
        loop {
            if let Err(error) = self.start_what_is_due().await {
                tracing::debug!(error = %error, "schedules cannot be looked up");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn start_what_is_due(self: &Arc<Self>) -> Result<(), AppError> {
        let catalogue = self.catalogue.load_full();
        let wanted = catalogue.playbooks.values();
        let wanted: Vec<(&str, &Schedule)> = wanted
            .filter_map(|one| Some((one.name.as_str(), one.triggers.schedule.as_ref()?)))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let known = self.store.list_schedules().await?;
        for (playbook, schedule) in wanted {
            let (rule, now) = (schedule.text(), self.clock.now());
            let row = known.iter().find(|row| row.playbook == playbook && row.rule == rule);
            let Some(row) = row else {
                let (playbook, due_at) = (playbook.to_owned(), schedule.next(now, now));
                self.store.place_schedule(&ScheduleRow { playbook, rule, due_at }).await?;
                continue;
            };
            if row.due_at > now {
                continue;
            }
            // Started under the time that it was due: another node, and this one after a crash, find the run there.
            match self.start_by_itself(wish(row, schedule)).await {
                Ok(_) | Err(AppError::Refused(_) | AppError::Invalid(_)) => {
                    self.store.advance_schedule(row, schedule.next(row.due_at, now)).await?;
                }
                Err(error) => {
                    tracing::warn!(playbook, error = %error, "a playbook that is due does not start yet");
                }
            }
        }
        Ok(())
    }
}

fn wish(row: &ScheduleRow, schedule: &Schedule) -> Wish {
    let name = format!("schedule:{}", row.playbook);
    Wish {
        playbook: row.playbook.clone(),
        environment: schedule.environment.clone(),
        trigger: "schedule",
        by: name.clone(),
        reason: format!("it is due {}", row.rule),
        inputs: schedule.inputs.clone(),
        ask: None,
        noted: json!({"due_at": row.due_at}),
        once: Some(Once {
            actor: name,
            key: row.due_at.to_string(),
            fingerprint: row.rule.clone(),
        }),
    }
}
