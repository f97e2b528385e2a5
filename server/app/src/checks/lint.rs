//! A pack before it is used: its database looks every query over, explains it, and rehearses every fix.

use serde::Serialize;
use switchback_checks::event_mode::Settings;
use switchback_checks::{Check, Pack, Per};
use switchback_source::{Dialect, Pick, Remedy, Source, SourceError};
use switchback_store::Role;

use crate::App;
use crate::error::AppError;
use crate::who::{EVERYWHERE, Who};

/// Keys that a fix is rehearsed with.
const REHEARSED: u64 = 5;

/// Something about a check that its database says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Remark {
    /// The check; empty: all of them.
    pub check: String,
    /// Whether it cannot be used so.
    pub is_error: bool,
    /// What it is.
    pub message: String,
}

impl App {
    /// What the pack's database says of its checks.
    pub async fn lint_check_pack(&self, who: &Who, name: &str) -> Result<Vec<Remark>, AppError> {
        who.must(Role::Operator, EVERYWHERE, "let a database look checks over")?;
        let known = self.get_check_pack(who, name).await?;
        if known.settings.source.is_empty() {
            return Err(AppError::Refused("the pack has no data source yet".to_owned()));
        }
        self.lint_pack(&known.pack, &known.settings).await
    }

    pub(super) async fn lint_pack(
        &self,
        pack: &Pack,
        settings: &Settings,
    ) -> Result<Vec<Remark>, AppError> {
        let source = self.source(&settings.source).await?;
        let mut remarks = Vec::new();
        let mut remark = |check: &str, is_error: bool, message: String| {
            remarks.push(Remark { check: check.to_owned(), is_error, message });
        };
        let dialect = match source.dialect().await {
            Ok(Dialect::Postgres) => "postgres",
            Ok(Dialect::Sqlite) => "sqlite",
            Err(error) => {
                let message = format!("data source `{}`: {error}", settings.source);
                return Err(AppError::invalid("source", message));
            }
        };
        if !pack.dialects.iter().any(|one| one == dialect) {
            let message = format!("the pack is written for {}", pack.dialects.join(", "));
            remark("", true, message);
            return Ok(remarks);
        }
        for check in &pack.checks {
            match look(&source, check).await {
                Ok(warnings) => {
                    for words in warnings {
                        remark(&check.name, false, words);
                    }
                }
                Err(error) => remark(&check.name, true, error.to_string()),
            }
        }
        Ok(remarks)
    }
}

async fn look(source: &Source, check: &Check) -> Result<Vec<String>, SourceError> {
    let in_part = |part: &str, error: SourceError| match error {
        SourceError::Refused(why) | SourceError::Constraint(why) => {
            SourceError::Refused(format!("{part}: {why}"))
        }
        other => other,
    };
    let detector =
        source.detector(&check.detect).await.map_err(|error| in_part("detect", error))?;
    let plan = source.explain(&detector.text(), &[]).await;
    let mut warnings = plan.map_err(|error| in_part("detect", error))?.warnings;
    if !warnings.is_empty() && !check.indexes.is_empty() {
        warnings.push(format!("an index may help: {}", check.indexes.join("; ")));
    }
    if !detector.has_window() {
        let note = "without a column `since` it cannot be asked for the last minutes only";
        warnings.push(note.to_owned());
    }
    if let Some(population) = &check.population {
        source.explain(population, &[]).await.map_err(|error| in_part("population", error))?;
    }
    let Some(fix) = &check.fix else { return Ok(warnings) };
    let tables = tables_of(fix);
    let remedy = remedy_of(fix, &tables);
    let repairer =
        source.repairer(detector, &remedy).await.map_err(|error| in_part("fix", error))?;
    let pick = Pick::After { cursor: None, limit: REHEARSED, window_ms: None };
    let rehearsed = source.rehearse_repair(&repairer, pick).await;
    let rehearsed = rehearsed.map_err(|error| in_part("fix", error))?;
    let unhealed = rehearsed.done.iter().filter(|one| !one.is_healed).count();
    if unhealed > 0 {
        warnings.push(format!(
            "the fix was tried on {} and rolled back: {unhealed} would still be found",
            rehearsed.done.len()
        ));
    }
    for table in rehearsed.unnamed {
        warnings.push(format!(
            "the fix, or a trigger, also writes to {table}: name it in `tables`, or an undo leaves that as it is"
        ));
    }
    Ok(warnings)
}

pub(super) fn tables_of(fix: &switchback_checks::Fix) -> Vec<(String, String)> {
    fix.tables.iter().map(|one| (one.table.clone(), one.key.clone())).collect()
}

pub(super) fn remedy_of<'f>(
    fix: &'f switchback_checks::Fix,
    tables: &'f [(String, String)],
) -> Remedy<'f> {
    Remedy {
        sql: &fix.sql,
        is_batch: fix.per == Per::Batch,
        tables,
        rows_per_key: fix.rows_per_key,
    }
}
