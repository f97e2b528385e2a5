//! What a repair would do: how many by check, and for the first of them each row before and after. It is done and rolled back.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use switchback_source::{Pick, SourceError};
use switchback_store::{CheckBatch, Role};

use super::backfill::{BackfillWish, wanted};
use super::lint::{remedy_of, tables_of};
use crate::App;
use crate::error::AppError;
use crate::who::{EVERYWHERE, Who};

/// Keys of a check whose rows are shown.
const SHOWN: u64 = 20;

/// What a repair would do.
#[derive(Clone, Debug, Default, Serialize, schemars::JsonSchema)]
pub struct Preview {
    /// How many would be repaired.
    pub would_repair: u64,
    /// By check.
    pub checks: Vec<CheckPreview>,
}

/// What a repair would do for a check.
#[derive(Clone, Debug, Default, Serialize, schemars::JsonSchema)]
pub struct CheckPreview {
    /// The check.
    pub check: String,
    /// What people call it.
    pub title: String,
    /// How many are found.
    pub found: u64,
    /// The first of them, fixed and rolled back.
    pub keys: Vec<KeyPreview>,
    /// Of those, how many would still be found.
    pub unhealed: u64,
    /// Tables that the fix or a trigger writes to, and that an undo would leave as they are then.
    pub unnamed: Vec<String>,
    /// Why it could not be tried.
    pub error: Option<String>,
}

/// What a repair would do for a key.
#[derive(Clone, Debug, Default, Serialize, schemars::JsonSchema)]
pub struct KeyPreview {
    /// The key.
    pub key: String,
    /// Whether it would be healed.
    pub is_healed: bool,
    /// Rows that would change.
    pub rows: Vec<RowPreview>,
}

/// A row before and after.
#[derive(Clone, Debug, Default, Serialize, schemars::JsonSchema)]
pub struct RowPreview {
    /// The table.
    pub table: String,
    /// The row's own primary key.
    pub row: String,
    /// `insert`, `update` or `delete`.
    pub action: &'static str,
    /// Columns that change: before and after.
    pub columns: BTreeMap<String, (Value, Value)>,
}

impl App {
    /// What a repair would do. The rows are shown as they are, so that somebody looked is logged.
    pub async fn preview_backfill(
        &self,
        who: &Who,
        pack: &str,
        wish: &BackfillWish,
    ) -> Result<Preview, AppError> {
        who.must(Role::Operator, EVERYWHERE, "preview repairs")?;
        let known = self.get_check_pack(who, pack).await?;
        let checks = wanted(&known, wish.check.as_deref())?;
        if known.settings.source.is_empty() {
            return Err(AppError::Refused(format!("`{pack}` has no data source yet")));
        }
        let log = (
            self.stamp(who, &wish.reason),
            pack.to_owned(),
            "preview".to_owned(),
            json!({"check": wish.check}),
        );
        self.store.save_checks(&CheckBatch { log: vec![log], ..CheckBatch::default() }).await?;
        let source = self.source(&known.settings.source).await?;
        let mut preview = Preview::default();
        let mut room = wish.limit.unwrap_or(u64::MAX);
        for check in checks {
            let Some(fix) = &check.fix else { continue };
            let mut shown = CheckPreview {
                check: check.name.clone(),
                title: check.title.clone(),
                ..CheckPreview::default()
            };
            let tried = async {
                let detector = source.detector(&check.detect).await?;
                let window_ms = wish.window_ms.filter(|_| detector.has_window());
                let ignored = self.ignored_of(pack, &check.name).await.map_err(|error| {
                    SourceError::Refused(format!("what is ignored cannot be read: {error}"))
                })?;
                let ignored: Vec<String> = ignored.into_iter().collect();
                let still = source.detect_keys(&detector, &ignored).await?.len() as u64;
                let all = source.count_detected(&detector, window_ms).await?;
                shown.found = all.saturating_sub(still);
                let tables = tables_of(fix);
                let repairer = source.repairer(detector, &remedy_of(fix, &tables)).await?;
                let limit = SHOWN.min(room);
                let pick = Pick::After { cursor: None, limit, window_ms };
                let keys = source.next_keys(repairer.detector(), pick).await?;
                let keys: Vec<String> =
                    keys.into_iter().filter(|key| !ignored.contains(key)).collect();
                let rehearsed = source.rehearse_repair(&repairer, Pick::Keys(&keys)).await?;
                shown.unhealed = rehearsed.done.iter().filter(|one| !one.is_healed).count() as u64;
                shown.unnamed = rehearsed.unnamed;
                shown.keys = rehearsed
                    .done
                    .into_iter()
                    .map(|one| KeyPreview {
                        rows: one.changes.into_iter().map(row_of).collect(),
                        key: one.key,
                        is_healed: one.is_healed,
                    })
                    .collect();
                Ok(())
            };
            let tried: Result<(), SourceError> = tried.await;
            shown.error = tried.err().map(|error| error.to_string());
            let takes = shown.found.min(room);
            room -= takes;
            preview.would_repair += takes;
            preview.checks.push(shown);
        }
        Ok(preview)
    }
}

/// The columns that differ.
fn row_of(change: switchback_source::Change) -> RowPreview {
    let read = |image: &Option<String>| -> Map<String, Value> {
        image.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    let (before, after) = (read(&change.before), read(&change.after));
    let action = match (&change.before, &change.after) {
        (None, _) => "insert",
        (_, None) => "delete",
        _ => "update",
    };
    let mut columns = BTreeMap::new();
    for name in before.keys().chain(after.keys()) {
        let of = |row: &Map<String, Value>| row.get(name).cloned().unwrap_or(Value::Null);
        let pair = (of(&before), of(&after));
        if pair.0 != pair.1 {
            columns.insert(name.clone(), pair);
        }
    }
    RowPreview { table: change.table, row: change.row, action, columns }
}
