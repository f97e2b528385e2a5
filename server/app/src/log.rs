//! Reading the two logs.

use switchback_store::{ChangeFilter, LogEntry, Role};

use super::App;
use super::error::AppError;
use super::flags::HistoryRow;
use super::who::{EVERYWHERE, Who};

impl App {
    /// The change log, newest first. Without an environment it takes a role everywhere.
    pub async fn list_changes(
        &self,
        who: &Who,
        filter: &ChangeFilter,
    ) -> Result<Vec<HistoryRow>, AppError> {
        let environment = filter.environment.as_deref().unwrap_or(EVERYWHERE);
        who.must(Role::Viewer, environment, "look at the log")?;
        let rows = self.store.list_changes(filter).await?;
        Ok(rows.into_iter().map(HistoryRow::from).collect())
    }

    /// The rollback log after a row, oldest first.
    pub async fn list_rollback_log(
        &self,
        who: &Who,
        after: u64,
        limit: i64,
    ) -> Result<Vec<LogEntry>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at the log")?;
        Ok(self.store.page_entries(after, limit).await?)
    }
}
