//! What happened in an environment since a person was there last.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use switchback_core::model::Millis;
use switchback_store::{Change, ChangeFilter, Role};

use super::App;
use super::error::AppError;
use super::who::Who;

/// A silence that ends a visit.
const PAUSE_MS: i64 = 30 * 60_000;
/// A visit is written down this often, at most.
const WRITE_EVERY_MS: i64 = 60_000;
/// Changes that are read, at most.
const CHANGES_MAX: i64 = 500;

/// When each person was last written down in each environment, so that not every page writes.
#[derive(Debug, Default)]
pub struct Seen(Mutex<BTreeMap<(String, String), Millis>>);

/// What others did meanwhile.
#[derive(Debug)]
pub struct Meanwhile {
    /// When the person was there before.
    pub since: Millis,
    /// What others changed since, newest first; at most 500.
    pub changes: Vec<Change>,
}

impl Seen {
    fn is_due(&self, user_id: &str, environment: &str, now: Millis) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = all.entry((user_id.to_owned(), environment.to_owned())).or_insert(i64::MIN);
        let due = now.saturating_sub(*last) >= WRITE_EVERY_MS;
        if due {
            *last = now;
        }
        due
    }
}

impl App {
    /// Notes that a person looks at an environment. Tokens pay no visits.
    pub async fn note_visit(&self, who: &Who, environment: &str) -> Result<(), AppError> {
        let Some(user_id) = &who.user_id else { return Ok(()) };
        let now = self.clock.now();
        if self.visits.is_due(user_id, environment, now) {
            self.store.note_visit(user_id, environment, now, PAUSE_MS).await?;
        }
        Ok(())
    }

    /// What others changed since the person was there before; `None` on their first visit.
    pub async fn meanwhile(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<Option<Meanwhile>, AppError> {
        who.must(Role::Viewer, environment, "look")?;
        let Some(user_id) = &who.user_id else { return Ok(None) };
        let Some(since) = self.store.previous_visit(user_id, environment).await? else {
            return Ok(None);
        };
        let filter = ChangeFilter {
            environment: Some(environment.to_owned()),
            since: Some(since + 1),
            limit: CHANGES_MAX,
            ..ChangeFilter::default()
        };
        let mut changes = self.store.list_changes(&filter).await?;
        changes.retain(|change| change.actor != who.name);
        Ok(Some(Meanwhile { since, changes }))
    }
}
