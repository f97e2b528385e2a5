//! Packs of consistency checks that were written here, how each is monitored, how its checks stand, and runs of repairs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params, sql};
use crate::error::{StoreError, not_found};
use crate::findings::{FindingRow, save_findings};
use crate::versions::{TemplateVersion, Versions, read_version};

sql! {
    NEWEST = "SELECT p.* FROM check_packs p JOIN (SELECT name, MAX(version) AS newest FROM check_packs GROUP BY name) n \
              ON n.name = p.name AND n.newest = p.version ORDER BY p.name";
    LAST = "SELECT MAX(version) AS version FROM check_packs WHERE name = $1";
    INSERT_PACK = "INSERT INTO check_packs (name, version, source, created_at, created_by) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name, version) DO NOTHING";
    SETTINGS = "SELECT * FROM check_settings ORDER BY pack";
    NEW_SETTINGS = "INSERT INTO check_settings (pack, settings, version, updated_at, updated_by) \
                    VALUES ($1, $2, 1, $3, $4) ON CONFLICT (pack) DO NOTHING";
    SAVE_SETTINGS = "UPDATE check_settings SET settings = $3, updated_at = $4, updated_by = $5, version = version + 1 \
                     WHERE pack = $1 AND version = $2";
    STATES = "SELECT * FROM check_states ORDER BY pack, check_name";
    PUT_STATE = "INSERT INTO check_states (pack, check_name, state, at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (pack, check_name) DO UPDATE SET state = excluded.state, at = excluded.at";
    PUT_HISTORY = "INSERT INTO check_history (pack, check_name, at, found, population, fixed) VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (pack, check_name, at) DO UPDATE SET population = COALESCE(excluded.population, check_history.population), \
                   fixed = check_history.fixed + excluded.fixed, \
                   found = CASE WHEN excluded.found > check_history.found THEN excluded.found ELSE check_history.found END";
    HISTORY = "SELECT * FROM check_history WHERE pack = $1 AND at >= $2 ORDER BY at, check_name";
    FORGET_HISTORY = "DELETE FROM check_history WHERE at < $1";
    SEEN = "UPDATE findings SET last_seen = $3 WHERE pack = $1 AND check_name = $2 AND state IN ('open', 'stuck', 'ignored')";
    HIDE = "UPDATE findings SET full_label = NULL, detail = NULL WHERE pack = $1";
    INSERT_RUN = "INSERT INTO check_runs (id, pack, kind, state, body, reason, started_by, started_at, finished_at, version) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, 1) ON CONFLICT DO NOTHING";
    SAVE_RUN = "UPDATE check_runs SET state = $3, body = $4, finished_at = $5, version = version + 1 \
                WHERE id = $1 AND version = $2";
    GET_RUN = "SELECT * FROM check_runs WHERE id = $1";
    RUNS = "SELECT * FROM check_runs WHERE (CAST($1 AS TEXT) IS NULL OR pack = $1) ORDER BY started_at DESC, id DESC LIMIT $2";
    OPEN_RUNS = "SELECT * FROM check_runs WHERE state IN ('running', 'undoing') ORDER BY started_at, id";
}

const OWN: Versions =
    Versions { last: LAST, insert: INSERT_PACK, kind: "checks", removed: "reset" };

/// How a pack is monitored.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckSettingsRow {
    /// The pack.
    pub pack: String,
    /// The settings.
    pub settings: Value,
    /// Goes up with each save; 0: never saved.
    pub version: u64,
    /// When it was saved, in UTC milliseconds.
    pub updated_at: Millis,
    /// By whom.
    pub updated_by: String,
}

/// How a check stands.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckStateRow {
    /// The pack.
    pub pack: String,
    /// The check.
    pub check: String,
    /// What the last look saw.
    pub state: Value,
    /// When it was saved, in UTC milliseconds.
    pub at: Millis,
}

/// What a check found within five minutes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct CheckCell {
    /// The check.
    pub check: String,
    /// When the cell begins, in UTC milliseconds.
    pub at: Millis,
    /// The most that were broken at once.
    pub found: u64,
    /// How many there were.
    pub population: Option<u64>,
    /// How many were fixed.
    pub fixed: u64,
}

/// A run of repairs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct CheckRunRow {
    /// Its id.
    pub id: String,
    /// The pack.
    pub pack: String,
    /// `backfill` or `monitor`.
    pub kind: String,
    /// `running`, `paused`, `done`, `failed`, `cancelled`, `undoing` or `undone`.
    pub state: String,
    /// What it is to do, how far it is, and what came of it.
    pub body: Value,
    /// Why.
    pub reason: String,
    /// Who started it.
    pub started_by: String,
    /// When, in UTC milliseconds.
    pub started_at: Millis,
    /// When it was over.
    pub finished_at: Option<Millis>,
    /// Goes up with each save.
    pub version: u64,
}

/// What a look or a batch changes, all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct CheckBatch {
    /// Findings as they are now.
    pub findings: Vec<FindingRow>,
    /// Checks whose findings are all still there: pack, check, and when that was seen.
    pub seen: Vec<(String, String, Millis)>,
    /// How checks stand.
    pub states: Vec<CheckStateRow>,
    /// Cells of the trend: the pack, and what to add.
    pub history: Vec<(String, CheckCell)>,
    /// Runs, with the versions that they were made from; a new one has 0.
    pub runs: Vec<CheckRunRow>,
    /// What the log says: the pack, the verb, and what happened.
    pub log: Vec<(Stamp, String, String, Value)>,
}

impl Store {
    /// The newest version of each pack that was written here.
    pub async fn list_check_packs(&self) -> Result<Vec<TemplateVersion>, StoreError> {
        self.db.all(NEWEST, params![]).await?.iter().map(read_version).collect()
    }

    /// Keeps a new version of a pack; without a text the shipped one counts again. `expected`: the version that it was made
    /// from, 0 when there was none.
    ///
    /// # Errors
    /// Somebody else saved a version meanwhile.
    pub async fn put_check_pack(
        &self,
        name: &str,
        expected: u64,
        source: Option<&str>,
        by: &Stamp,
    ) -> Result<u64, StoreError> {
        OWN.put(self, name, expected, source, by).await
    }

    /// How the packs are monitored.
    pub async fn list_check_settings(&self) -> Result<Vec<CheckSettingsRow>, StoreError> {
        let rows = self.db.all(SETTINGS, params![]).await?;
        rows.iter()
            .map(|row| {
                Ok(CheckSettingsRow {
                    pack: row.text("pack")?,
                    settings: row.json("settings")?,
                    version: row.unsigned("version")?,
                    updated_at: row.int("updated_at")?,
                    updated_by: row.text("updated_by")?,
                })
            })
            .collect()
    }

    /// Saves how a pack is monitored, with its record.
    ///
    /// # Errors
    /// Somebody else saved it meanwhile.
    pub async fn put_check_settings(
        &self,
        pack: &str,
        expected: u64,
        settings: &Value,
        action: &str,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let text = json(settings)?;
        let saved = if expected == 0 {
            tx.execute(NEW_SETTINGS, params![pack, &text, by.at, &by.actor]).await?
        } else {
            tx.execute(SAVE_SETTINGS, params![pack, expected, &text, by.at, &by.actor]).await?
        };
        if saved == 0 {
            return Err(StoreError::Stale { current: expected + 1 });
        }
        log(&mut tx, by, pack, action, Some(text)).await?;
        tx.commit().await
    }

    /// Forgets whom a pack's findings are about; what is shown stays.
    pub async fn hide_labels(&self, pack: &str) -> Result<(), StoreError> {
        self.db.execute(HIDE, params![pack]).await.map(drop)
    }

    /// How the checks stand.
    pub async fn list_check_states(&self) -> Result<Vec<CheckStateRow>, StoreError> {
        let rows = self.db.all(STATES, params![]).await?;
        rows.iter()
            .map(|row| {
                Ok(CheckStateRow {
                    pack: row.text("pack")?,
                    check: row.text("check_name")?,
                    state: row.json("state")?,
                    at: row.int("at")?,
                })
            })
            .collect()
    }

    /// The trend of a pack since a moment.
    pub async fn list_check_history(
        &self,
        pack: &str,
        since: Millis,
    ) -> Result<Vec<CheckCell>, StoreError> {
        let rows = self.db.all(HISTORY, params![pack, since]).await?;
        rows.iter()
            .map(|row| {
                Ok(CheckCell {
                    check: row.text("check_name")?,
                    at: row.int("at")?,
                    found: row.unsigned("found")?,
                    population: row.opt_int("population")?.map(i64::cast_unsigned),
                    fixed: row.unsigned("fixed")?,
                })
            })
            .collect()
    }

    /// Forgets the trend before a moment.
    pub async fn forget_check_history(&self, before: Millis) -> Result<(), StoreError> {
        self.db.execute(FORGET_HISTORY, params![before]).await.map(drop)
    }

    /// Keeps what a look or a batch changed, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when somebody else saved one of the runs since.
    pub async fn save_checks(&self, batch: &CheckBatch) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        for (pack, check, at) in &batch.seen {
            tx.execute(SEEN, params![pack, check, *at]).await?;
        }
        save_findings(&mut tx, &batch.findings).await?;
        for CheckStateRow { pack, check, state, at } in &batch.states {
            tx.execute(PUT_STATE, params![pack, check, json(state)?, *at]).await?;
        }
        for (pack, cell) in &batch.history {
            let CheckCell { check, at, found, population, fixed } = cell;
            let params = params![pack, check, *at, *found, *population, *fixed];
            tx.execute(PUT_HISTORY, params).await?;
        }
        for run in &batch.runs {
            save_run(&mut tx, run).await?;
        }
        for (by, pack, action, after) in &batch.log {
            log(&mut tx, by, pack, action, Some(json(after)?)).await?;
        }
        tx.commit().await
    }

    /// A run of repairs.
    pub async fn get_check_run(&self, id: &str) -> Result<CheckRunRow, StoreError> {
        let row = self.db.one(GET_RUN, params![id]).await?;
        read_run(&row.ok_or_else(|| not_found("repair run", id))?)
    }

    /// Runs of repairs, the newest first; of one pack when it is named.
    pub async fn list_check_runs(
        &self,
        pack: Option<&str>,
        limit: i64,
    ) -> Result<Vec<CheckRunRow>, StoreError> {
        self.db.all(RUNS, params![pack, limit]).await?.iter().map(read_run).collect()
    }

    /// Runs of repairs that somebody must drive.
    pub async fn list_open_check_runs(&self) -> Result<Vec<CheckRunRow>, StoreError> {
        self.db.all(OPEN_RUNS, params![]).await?.iter().map(read_run).collect()
    }
}

async fn save_run(tx: &mut Tx, run: &CheckRunRow) -> Result<(), StoreError> {
    let CheckRunRow { id, pack, kind, state, body, reason, started_by, .. } = run;
    let body = json(body)?;
    if run.version == 0 {
        let params = params![id, pack, kind, state, body, reason, started_by, run.started_at];
        return match tx.execute(INSERT_RUN, params).await? {
            0 => Err(StoreError::Stale { current: 1 }),
            _ => Ok(()),
        };
    }
    let params = params![id, run.version, state, body, run.finished_at];
    match tx.execute(SAVE_RUN, params).await? {
        0 => Err(StoreError::Stale { current: run.version + 1 }),
        _ => Ok(()),
    }
}

async fn log(
    tx: &mut Tx,
    by: &Stamp,
    pack: &str,
    action: &str,
    after: Option<String>,
) -> Result<(), StoreError> {
    let entry = Entry {
        environment: None,
        revision: None,
        kind: "checks",
        subject: pack,
        action,
        before: None,
        after,
    };
    tx.log(by, 0, entry).await
}

fn read_run(row: &Row) -> Result<CheckRunRow, StoreError> {
    Ok(CheckRunRow {
        id: row.text("id")?,
        pack: row.text("pack")?,
        kind: row.text("kind")?,
        state: row.text("state")?,
        body: row.json("body")?,
        reason: row.text("reason")?,
        started_by: row.text("started_by")?,
        started_at: row.int("started_at")?,
        finished_at: row.opt_int("finished_at")?,
        version: row.unsigned("version")?,
    })
}
