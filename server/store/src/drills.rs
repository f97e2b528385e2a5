//! Drills and how they went.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::db::{Row, params, sql};
use crate::error::StoreError;

sql! {
    INSERT = "INSERT INTO drills (id, playbook, environment, state, requested_by, started_at, objective_ms, message) \
              VALUES ($1, $2, $3, 'preparing', $4, $5, $6, '')";
    UPDATE = "UPDATE drills SET state = $2, run_id = $3, undo_run_id = $4, finished_at = $5, copy_ms = $6, took_ms = $7, \
              undo_ms = $8, message = $9 WHERE id = $1 AND finished_at IS NULL";
    GET = "SELECT * FROM drills WHERE id = $1";
    LIST = "SELECT * FROM drills WHERE (CAST($1 AS TEXT) IS NULL OR playbook = $1) ORDER BY started_at DESC, id DESC LIMIT $2";
    OPEN = "SELECT * FROM drills WHERE finished_at IS NULL AND started_at < $1 ORDER BY started_at";
}

/// A drill.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct DrillRow {
    /// Its id.
    pub id: String,
    /// The playbook.
    pub playbook: String,
    /// The environment whose flags it began with.
    pub environment: String,
    /// `preparing`, `running`, `undoing`, `passed` or `failed`.
    pub state: String,
    /// Its run.
    pub run_id: Option<String>,
    /// The run that took it back.
    pub undo_run_id: Option<String>,
    /// Who.
    pub requested_by: String,
    /// When.
    pub started_at: Millis,
    /// When it was over.
    pub finished_at: Option<Millis>,
    /// How long copying the data sources took, in milliseconds; not part of the objective.
    pub copy_ms: Option<i64>,
    /// How long the run took, in milliseconds.
    pub took_ms: Option<i64>,
    /// How long taking it back took, in milliseconds.
    pub undo_ms: Option<i64>,
    /// How long the run may take, in milliseconds.
    pub objective_ms: i64,
    /// Why it failed.
    pub message: String,
}

impl DrillRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            playbook: row.text("playbook")?,
            environment: row.text("environment")?,
            state: row.text("state")?,
            run_id: row.opt_text("run_id")?,
            undo_run_id: row.opt_text("undo_run_id")?,
            requested_by: row.text("requested_by")?,
            started_at: row.int("started_at")?,
            finished_at: row.opt_int("finished_at")?,
            copy_ms: row.opt_int("copy_ms")?,
            took_ms: row.opt_int("took_ms")?,
            undo_ms: row.opt_int("undo_ms")?,
            objective_ms: row.int("objective_ms")?,
            message: row.text("message")?,
        })
    }
}

impl Store {
    /// Keeps a new drill. Refuses when one of the same playbook is not over.
    pub async fn create_drill(&self, drill: &DrillRow) -> Result<(), StoreError> {
        let params = params![
            &drill.id,
            &drill.playbook,
            &drill.environment,
            &drill.requested_by,
            drill.started_at,
            drill.objective_ms,
        ];
        self.db.execute(INSERT, params).await.map(drop).map_err(|error| {
            if error.is_duplicate() {
                StoreError::Exists { kind: "drill", key: drill.playbook.clone() }
            } else {
                error
            }
        })
    }

    /// Writes how far a drill is; one that is over stays as it is.
    pub async fn update_drill(&self, drill: &DrillRow) -> Result<(), StoreError> {
        let params = params![
            &drill.id,
            &drill.state,
            &drill.run_id,
            &drill.undo_run_id,
            drill.finished_at,
            drill.copy_ms,
            drill.took_ms,
            drill.undo_ms,
            &drill.message,
        ];
        self.db.execute(UPDATE, params).await.map(drop)
    }

    /// One drill.
    pub async fn get_drill(&self, id: &str) -> Result<DrillRow, StoreError> {
        let row = self.db.one(GET, params![id]).await?;
        DrillRow::read(&row.ok_or_else(|| crate::error::not_found("drill", id))?)
    }

    /// Drills, newest first.
    pub async fn list_drills(
        &self,
        playbook: Option<&str>,
        limit: i64,
    ) -> Result<Vec<DrillRow>, StoreError> {
        self.db.all(LIST, params![playbook, limit]).await?.iter().map(DrillRow::read).collect()
    }

    /// Drills that began before a moment and are not over.
    pub async fn list_open_drills(&self, before: Millis) -> Result<Vec<DrillRow>, StoreError> {
        self.db.all(OPEN, params![before]).await?.iter().map(DrillRow::read).collect()
    }
}
