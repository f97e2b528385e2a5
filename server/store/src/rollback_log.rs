//! `rollback_log`: every move of every run, append-only, each row holding the hash of the one before.
//!
//! The hash covers every column but itself, so that an edited, inserted or missing row breaks the
//! chain at that row. Appends take turns on the row in `chain_heads`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::Stamp;
use crate::db::{Row, Tx, json, params, sql};
use crate::error::StoreError;
use crate::flags::{ChangedFlag, RestoredFlag, change_in, restore_in, set_archived_in};
use crate::outbox;
use crate::runs::{Lease, fence};

sql! {
    HEAD_INIT = "INSERT INTO chain_heads (name, seq, hash) VALUES ('rollback_log', 0, '') \
                 ON CONFLICT (name) DO NOTHING";
    HEAD_NEXT = "UPDATE chain_heads SET seq = seq + 1 WHERE name = 'rollback_log' RETURNING seq, hash";
    HEAD_SET = "UPDATE chain_heads SET hash = $1 WHERE name = 'rollback_log'";
    HEAD = "SELECT seq, hash FROM chain_heads WHERE name = 'rollback_log'";
    INSERT = "INSERT INTO rollback_log (seq, run_id, environment, step_id, attempt, phase, epoch, actor, \
              reason, before_state, after_state, duration_ms, detail, at, prev_hash, hash) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    BY_RUN = "SELECT * FROM rollback_log WHERE run_id = $1 ORDER BY seq";
    PAGE = "SELECT * FROM rollback_log WHERE seq > $1 ORDER BY seq LIMIT $2";
    LINKS = "SELECT seq, prev_hash, hash FROM rollback_log WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3";
}

/// A move to append.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEntry {
    /// The run.
    pub run_id: String,
    /// Where it acts.
    pub environment: String,
    /// The step, or empty for the run itself.
    pub step_id: String,
    /// The step's attempt, from 1.
    pub attempt: u32,
    /// `intent`, `done`, `failed` ...
    pub phase: String,
    /// Who drives the run.
    pub actor: String,
    /// Why the run was started.
    pub reason: String,
    /// What was there before.
    pub before: Option<Value>,
    /// What is there now.
    pub after: Option<Value>,
    /// How long the effect took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// What the step says of itself.
    pub detail: Value,
    /// When.
    pub at: Millis,
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
#[expect(missing_docs, reason = "the columns are those of NewEntry, plus the chain")]
pub struct LogEntry {
    pub seq: u64,
    pub run_id: String,
    pub environment: String,
    pub step_id: String,
    pub attempt: u32,
    pub phase: String,
    pub epoch: u64,
    pub actor: String,
    pub reason: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
    pub duration_ms: Option<i64>,
    pub detail: Value,
    pub at: Millis,
    pub prev_hash: String,
    pub hash: String,
}

/// What chains a row, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct ChainLink {
    /// Its number.
    pub seq: u64,
    /// The hash of the row before it.
    pub prev_hash: String,
    /// Its own hash.
    pub hash: String,
}

/// The newest row that the chain must end with.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct ChainHead {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

/// The first row at which the chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Deserialize, Serialize)]
#[error("row {seq}: {what}")]
pub struct ChainProblem {
    /// The row's number.
    pub seq: u64,
    /// What is wrong with it.
    pub what: String,
}

impl LogEntry {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.unsigned("seq")?,
            run_id: row.text("run_id")?,
            environment: row.text("environment")?,
            step_id: row.text("step_id")?,
            attempt: u32::try_from(row.int("attempt")?).unwrap_or_default(),
            phase: row.text("phase")?,
            epoch: row.unsigned("epoch")?,
            actor: row.text("actor")?,
            reason: row.text("reason")?,
            before: row.opt_json("before_state")?,
            after: row.opt_json("after_state")?,
            duration_ms: row.opt_int("duration_ms")?,
            detail: row.json("detail")?,
            at: row.int("at")?,
            prev_hash: row.text("prev_hash")?,
            hash: row.text("hash")?,
        })
    }
}

/// The hash of a row: SHA-256, in hex, over the JSON list of its columns in the table's order.
/// JSON marks where each text ends, so that no two different rows give the same bytes.
pub fn hash_of(entry: &LogEntry) -> String {
    let columns = serde_json::json!([
        entry.seq,
        entry.run_id,
        entry.environment,
        entry.step_id,
        entry.attempt,
        entry.phase,
        entry.epoch,
        entry.actor,
        entry.reason,
        entry.before,
        entry.after,
        entry.duration_ms,
        entry.detail,
        entry.at,
        entry.prev_hash,
    ]);
    let digest = Sha256::digest(columns.to_string().as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        use std::fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Checks rows that follow `from` (seq and hash of the row before them). Returns the new end.
pub fn verify_rows(from: ChainHead, rows: &[LogEntry]) -> Result<ChainHead, ChainProblem> {
    let mut head = from;
    for row in rows {
        let expected = head.seq + 1;
        if row.seq != expected {
            let what = format!("row {expected} is missing; the next one is {}", row.seq);
            return Err(ChainProblem { seq: expected, what });
        }
        if row.prev_hash != head.hash {
            let what = "it does not follow the row before it".to_owned();
            return Err(ChainProblem { seq: row.seq, what });
        }
        if hash_of(row) != row.hash {
            let what = "its content does not match its hash".to_owned();
            return Err(ChainProblem { seq: row.seq, what });
        }
        head = ChainHead { seq: row.seq, hash: row.hash.clone() };
    }
    Ok(head)
}

pub(crate) async fn append_in(
    tx: &mut Tx,
    new: NewEntry,
    epoch: u64,
) -> Result<LogEntry, StoreError> {
    tx.execute(HEAD_INIT, vec![]).await?;
    let head = tx.one(HEAD_NEXT, vec![]).await?;
    let head = head.ok_or(StoreError::Refused("the chain has no head".to_owned()))?;
    let mut entry = LogEntry {
        seq: head.unsigned("seq")?,
        run_id: new.run_id,
        environment: new.environment,
        step_id: new.step_id,
        attempt: new.attempt,
        phase: new.phase,
        epoch,
        actor: new.actor,
        reason: new.reason,
        before: new.before,
        after: new.after,
        duration_ms: new.duration_ms,
        detail: new.detail,
        at: new.at,
        prev_hash: head.text("hash")?,
        hash: String::new(),
    };
    entry.hash = hash_of(&entry);
    let params = params![
        entry.seq,
        &entry.run_id,
        &entry.environment,
        &entry.step_id,
        i64::from(entry.attempt),
        &entry.phase,
        entry.epoch,
        &entry.actor,
        &entry.reason,
        entry.before.as_ref().map(json).transpose()?,
        entry.after.as_ref().map(json).transpose()?,
        entry.duration_ms,
        json(&entry.detail)?,
        entry.at,
        &entry.prev_hash,
        &entry.hash,
    ];
    tx.execute(INSERT, params).await?;
    tx.execute(HEAD_SET, params![&entry.hash]).await?;
    if is_news(&entry) {
        let (message, body) =
            (format!("msg_run_{}", entry.seq), serde_json::json!({"log": entry.seq}));
        let run = Some(entry.run_id.as_str());
        outbox::tell_in(tx, "runs", &message, &body, run, entry.at).await?;
    }
    tx.announce(&format!("run:{}", entry.run_id)).await?;
    Ok(entry)
}

/// Whether somebody who does not look at the run wants to hear of it.
fn is_news(entry: &LogEntry) -> bool {
    match entry.phase.as_str() {
        "finished" | "parked" | "compensating" | "broke_glass" => true,
        "waiting" | "voided" => entry.detail.get("for").is_some_and(|what| what == "approval"),
        _ => false,
    }
}

impl Store {
    /// Appends a move, if the lease is still ours.
    pub async fn append_entry(&self, lease: &Lease, new: NewEntry) -> Result<LogEntry, StoreError> {
        let mut tx = self.db.begin().await?;
        fence(&mut tx, lease).await?;
        let entry = append_in(&mut tx, new, lease.epoch).await?;
        tx.commit().await?;
        Ok(entry)
    }

    /// Changes a flag and appends the step's outcome, in one transaction: exactly once.
    pub async fn change_flag_in_run<E: From<StoreError>>(
        &self,
        lease: &Lease,
        (environment, key, action): (&str, &str, &str),
        by: &Stamp,
        decide: impl FnOnce(
            &switchback_core::model::FlagState,
            u64,
        ) -> Result<switchback_core::model::FlagState, E>,
        outcome: impl FnOnce(&ChangedFlag) -> NewEntry,
    ) -> Result<(ChangedFlag, LogEntry), E> {
        let mut tx = self.db.begin().await?;
        fence(&mut tx, lease).await?;
        let changed = change_in(&mut tx, (environment, key), action, by, decide).await?;
        let entry = append_in(&mut tx, outcome(&changed), lease.epoch).await?;
        tx.commit().await?;
        Ok((changed, entry))
    }

    /// Changes several flags of an environment at once and appends the step's outcome, in one transaction. `Stale` when the
    /// environment is at another revision than `expected`.
    pub async fn restore_flags_in_run(
        &self,
        lease: &Lease,
        environment: &str,
        flags: &[RestoredFlag],
        expected: u64,
        by: &Stamp,
        outcome: impl FnOnce(u64) -> NewEntry,
    ) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        fence(&mut tx, lease).await?;
        let revision = restore_in(&mut tx, environment, flags, expected, by).await?;
        append_in(&mut tx, outcome(revision), lease.epoch).await?;
        tx.commit().await?;
        Ok(revision)
    }

    /// Archives a flag in every environment, or brings it back, and appends the step's outcome, in one transaction.
    pub async fn archive_flag_in_run(
        &self,
        lease: &Lease,
        (key, archived): (&str, bool),
        by: &Stamp,
        outcome: NewEntry,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        fence(&mut tx, lease).await?;
        set_archived_in(&mut tx, key, archived, by).await?;
        append_in(&mut tx, outcome, lease.epoch).await?;
        tx.commit().await
    }

    /// A run's moves, oldest first.
    pub async fn list_entries(&self, run: &str) -> Result<Vec<LogEntry>, StoreError> {
        self.db.all(BY_RUN, params![run]).await?.iter().map(LogEntry::read).collect()
    }

    /// The move with a number.
    pub async fn find_entry(&self, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        let rows = self.page_entries(seq.saturating_sub(1), 1).await?;
        Ok(rows.into_iter().find(|row| row.seq == seq))
    }

    /// Moves of all runs after a number, oldest first.
    pub async fn page_entries(&self, after: u64, limit: i64) -> Result<Vec<LogEntry>, StoreError> {
        self.db.all(PAGE, params![after, limit]).await?.iter().map(LogEntry::read).collect()
    }

    /// Links of all rows after a number and up to another, oldest first.
    pub async fn page_links(
        &self,
        after: u64,
        last: u64,
        limit: i64,
    ) -> Result<Vec<ChainLink>, StoreError> {
        let rows = self.db.all(LINKS, params![after, last, limit]).await?;
        let link = |row: &Row| {
            let (prev_hash, hash) = (row.text("prev_hash")?, row.text("hash")?);
            Ok(ChainLink { seq: row.unsigned("seq")?, prev_hash, hash })
        };
        rows.iter().map(link).collect()
    }

    /// Where the chain ends.
    pub async fn chain_head(&self) -> Result<ChainHead, StoreError> {
        match self.db.one(HEAD, vec![]).await? {
            Some(row) => Ok(ChainHead { seq: row.unsigned("seq")?, hash: row.text("hash")? }),
            None => Ok(ChainHead { seq: 0, hash: String::new() }),
        }
    }
}
