//! Runs of playbooks: the frozen plan, who drives, who approved. What happened is in `rollback_log`.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::automation::{self, Gate};
use crate::changes::Stamp;
use crate::db::{Row, Tx, params, sql};
use crate::error::{StoreError, not_found};
use crate::reviews::{self, Review};
use crate::rollback_log::{LogEntry, NewEntry, append_in};

sql! {
    INSERT = "INSERT INTO playbook_runs (id, playbook, title, environment, concurrency_key, plan, plan_sha256, \
              reason, trigger_kind, requested_by, state, created_at, begins_at, deadline_at, lease_epoch, lease_expires_at, \
              undoes, expires_at, queued_for) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
              CASE WHEN CAST($15 AS TEXT) IS NULL THEN 'planned' ELSE 'queued' END, $11, $11, $12, 0, 0, $13, $14, $15)";
    HOLDERS = "SELECT id, environment FROM playbook_runs \
               WHERE (concurrency_key = $1 OR queued_for = $1) AND finished_at IS NULL ORDER BY id";
    FIND = "SELECT * FROM playbook_runs WHERE id = $1";
    LIST = "SELECT * FROM playbook_runs WHERE (CAST($1 AS TEXT) IS NULL OR playbook = $1) \
            AND (CAST($2 AS TEXT) IS NULL OR environment = $2) AND (CAST($3 AS TEXT) IS NULL OR id < $3) \
            AND (NOT $4 OR finished_at IS NULL) ORDER BY id DESC LIMIT $5";
    CLAIM = "UPDATE playbook_runs SET lease_owner = $2, lease_epoch = lease_epoch + 1, lease_expires_at = $3 \
             WHERE id = $1 AND finished_at IS NULL AND queued_for IS NULL AND (lease_expires_at <= $4 OR lease_owner = $2) \
             RETURNING lease_epoch";
    DUE = "SELECT id FROM playbook_runs WHERE finished_at IS NULL AND state <> 'parked' AND queued_for IS NULL \
           AND lease_expires_at <= $1 ORDER BY id";
    RENEW = "UPDATE playbook_runs SET lease_expires_at = $3 WHERE id = $1 AND lease_epoch = $2 \
             AND finished_at IS NULL";
    FENCE = "UPDATE playbook_runs SET lease_epoch = lease_epoch WHERE id = $1 AND lease_epoch = $2 \
             AND finished_at IS NULL";
    SET_STATE = "UPDATE playbook_runs SET state = $3 WHERE id = $1 AND lease_epoch = $2";
    FINISH = "UPDATE playbook_runs SET state = $3, finished_at = $4, lease_expires_at = 0 \
              WHERE id = $1 AND lease_epoch = $2 AND finished_at IS NULL";
    RELEASE = "UPDATE playbook_runs SET lease_expires_at = 0, lease_owner = NULL \
               WHERE id = $1 AND lease_epoch = $2";
    WAKE = "UPDATE playbook_runs SET lease_expires_at = CASE WHEN state = 'parked' THEN 0 ELSE lease_expires_at END, \
            state = CASE WHEN state = 'parked' THEN 'running' ELSE state END \
            WHERE id = $1 AND finished_at IS NULL";
    LEAVE_QUEUE = "UPDATE playbook_runs SET queued_for = NULL, state = 'planned' WHERE id = $1 AND queued_for IS NOT NULL";
    UNDONE_BY = "SELECT * FROM playbook_runs WHERE undoes = $1 ORDER BY id DESC";
    EXPIRED = "SELECT id FROM playbook_runs WHERE expires_at <= $1 ORDER BY expires_at LIMIT 20";
    SET_EXPIRY = "UPDATE playbook_runs SET expires_at = $2 WHERE id = $1";
    MOVE_EXPIRY = "UPDATE playbook_runs SET expires_at = $3 WHERE id = $1 AND expires_at = $2";
    RELEASE_ALL = "UPDATE playbook_runs SET lease_expires_at = 0 WHERE finished_at IS NULL";
    PARK = "UPDATE playbook_runs SET state = $3, lease_expires_at = 0 WHERE id = $1 AND lease_epoch = $2 \
            AND finished_at IS NULL";
}

/// The phase of a row by which a person cancels a run.
const CANCEL: &str = "cancel_requested";

/// A run to start.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns are those of RunRow")]
pub struct NewRun {
    pub id: String,
    pub playbook: String,
    pub title: String,
    pub environment: String,
    pub concurrency_key: String,
    pub plan: String,
    pub plan_sha256: String,
    pub reason: String,
    pub trigger: String,
    pub requested_by: String,
    pub created_at: Millis,
    pub deadline_at: Millis,
    pub undoes: Option<String>,
    pub expires_at: Option<Millis>,
    /// What it does when another run has its key; `None`: it is refused.
    pub on_conflict: Option<Waits>,
}

/// What a run does when another has its key: it waits for the other's end.
#[derive(Clone, Debug)]
pub enum Waits {
    /// Nothing else.
    Queue,
    /// The others are cancelled, each with this row, of which the run's id is filled in.
    Supersede(Box<NewEntry>),
}

/// A run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct RunRow {
    /// Its id.
    pub id: String,
    /// The playbook's name.
    pub playbook: String,
    /// The playbook's title then.
    pub title: String,
    /// Where it acts.
    pub environment: String,
    /// One run at a time per key.
    pub concurrency_key: String,
    /// The compiled plan, as JSON; the run walks this and never the file again.
    pub plan: String,
    /// The plan's SHA-256.
    pub plan_sha256: String,
    /// Why.
    pub reason: String,
    /// `manual`, `api`, `cli` ...
    pub trigger: String,
    /// Who.
    pub requested_by: String,
    /// As `playbooks` names it: planned, running, succeeded ...
    pub state: String,
    /// When.
    pub created_at: Millis,
    /// When its time began to count: when it was asked for, or when its turn came.
    pub begins_at: Millis,
    /// The key that it waits for while another run has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_for: Option<String>,
    /// When it must be over.
    pub deadline_at: Millis,
    /// When it was over.
    pub finished_at: Option<Millis>,
    /// Which node drives it.
    pub lease_owner: Option<String>,
    /// How often the driver changed.
    pub lease_epoch: u64,
    /// Until when.
    pub lease_expires_at: Millis,
    /// The run that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
    /// When it is taken back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
}

/// The right to drive a run, until it expires; every write names its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run_id: String,
    /// The fence.
    pub epoch: u64,
}

/// What is kept together with a new run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'b> {
    /// Somebody started it without the right to, in an emergency.
    pub review: Option<(&'b Review, &'b Stamp)>,
    /// It starts by itself.
    pub gate: Option<&'b Gate>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// One playbook.
    pub playbook: Option<String>,
    /// One environment.
    pub environment: Option<String>,
    /// Older than this run: the cursor of the page before.
    pub before_id: Option<String>,
    /// Only those that are not over.
    pub active: bool,
    /// Rows, at most.
    pub limit: i64,
}

impl RunRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            playbook: row.text("playbook")?,
            title: row.text("title")?,
            environment: row.text("environment")?,
            concurrency_key: row.text("concurrency_key")?,
            plan: row.text("plan")?,
            plan_sha256: row.text("plan_sha256")?,
            reason: row.text("reason")?,
            trigger: row.text("trigger_kind")?,
            requested_by: row.text("requested_by")?,
            state: row.text("state")?,
            created_at: row.int("created_at")?,
            begins_at: row.int("begins_at")?,
            queued_for: row.opt_text("queued_for")?,
            deadline_at: row.int("deadline_at")?,
            finished_at: row.opt_int("finished_at")?,
            lease_owner: row.opt_text("lease_owner")?,
            lease_epoch: row.unsigned("lease_epoch")?,
            lease_expires_at: row.int("lease_expires_at")?,
            undoes: row.opt_text("undoes")?,
            expires_at: row.opt_int("expires_at")?,
        })
    }
}

/// Refuses when the lease is in other hands; locks the run's row for the transaction.
pub(crate) async fn fence(tx: &mut Tx, lease: &Lease) -> Result<(), StoreError> {
    match tx.execute(FENCE, params![&lease.run_id, lease.epoch]).await? {
        0 => Err(StoreError::Fenced { run: lease.run_id.clone() }),
        _ => Ok(()),
    }
}

/// Appends what a person said about a run, and frees a parked one; refuses when the run is over. A run that waits for its turn can
/// only be cancelled, and waits no more then.
pub(crate) async fn say_in(tx: &mut Tx, entry: NewEntry) -> Result<LogEntry, StoreError> {
    let run = entry.run_id.clone();
    if entry.phase == CANCEL {
        tx.execute(LEAVE_QUEUE, params![&run]).await?;
    }
    if tx.execute(WAKE, params![&run]).await? == 0 {
        let row = tx.one(FIND, params![&run]).await?;
        row.ok_or_else(|| not_found("run", &run))?;
        return Err(StoreError::Refused("the run is over".to_owned()));
    }
    append_in(tx, entry, 0).await
}

impl Store {
    /// Keeps a new run with its plan, and its first row in the log. When another run holds its concurrency key it waits, or is
    /// refused with that run's id.
    pub async fn create_run(
        &self,
        run: &NewRun,
        first: NewEntry,
        beside: Beside<'_>,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if let Some(gate) = beside.gate {
            automation::pass_in(&mut tx, gate, run).await?;
        }
        let key = &run.concurrency_key;
        let before = tx.all(HOLDERS, params![key]).await?;
        let queued_for = match (before.first(), &run.on_conflict) {
            (None, _) => None,
            (Some(row), None) => {
                return Err(StoreError::Exists { kind: "run", key: row.text("id")? });
            }
            (Some(_), Some(_)) => Some(key.clone()),
        };
        if let Some(Waits::Supersede(row)) = &run.on_conflict {
            for other in &before {
                let (run_id, environment) = (other.text("id")?, other.text("environment")?);
                say_in(&mut tx, NewEntry { run_id, environment, ..(**row).clone() }).await?;
            }
        }
        // The place is taken by whoever runs; in the queue each has its own.
        let own = queued_for.as_ref().map_or_else(|| key.clone(), |_| format!("queued:{}", run.id));
        let params = params![
            &run.id,
            &run.playbook,
            &run.title,
            &run.environment,
            &own,
            &run.plan,
            &run.plan_sha256,
            &run.reason,
            &run.trigger,
            &run.requested_by,
            run.created_at,
            run.deadline_at,
            &run.undoes,
            run.expires_at,
            &queued_for,
        ];
        tx.execute(INSERT, params).await.map_err(|error| {
            if error.is_duplicate() {
                StoreError::Exists { kind: "run", key: run.concurrency_key.clone() }
            } else {
                error
            }
        })?;
        append_in(&mut tx, first, 0).await?;
        if let Some((review, by)) = beside.review {
            reviews::insert_in(&mut tx, review, by).await?;
        }
        tx.commit().await
    }

    /// One run.
    pub async fn get_run(&self, id: &str) -> Result<RunRow, StoreError> {
        let row = self.db.one(FIND, params![id]).await?;
        RunRow::read(&row.ok_or_else(|| not_found("run", id))?)
    }

    /// Runs, newest first.
    pub async fn list_runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StoreError> {
        let RunFilter { playbook, environment, before_id, active, limit } = filter;
        let params = params![playbook, environment, before_id, *active, *limit];
        self.db.all(LIST, params).await?.iter().map(RunRow::read).collect()
    }

    /// Takes a run whose lease is free; `None` when someone else was quicker or it is over.
    pub async fn claim_run(
        &self,
        id: &str,
        owner: &str,
        now: Millis,
        ttl_ms: i64,
    ) -> Result<Option<Lease>, StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(CLAIM, params![id, owner, now + ttl_ms, now]).await?;
        tx.commit().await?;
        row.map(|row| Ok(Lease { run_id: id.to_owned(), epoch: row.unsigned("lease_epoch")? }))
            .transpose()
    }

    /// Runs that nobody drives.
    pub async fn list_due_runs(&self, now: Millis) -> Result<Vec<String>, StoreError> {
        self.db.all(DUE, params![now]).await?.iter().map(|row| row.text("id")).collect()
    }

    /// Frees every lease. Only for a process that is certain to be alone: then whoever held them is dead.
    pub async fn release_all_leases(&self) -> Result<(), StoreError> {
        self.db.execute(RELEASE_ALL, vec![]).await.map(drop)
    }

    /// Keeps a lease; an error says that it is lost.
    pub async fn renew_lease(
        &self,
        lease: &Lease,
        now: Millis,
        ttl_ms: i64,
    ) -> Result<(), StoreError> {
        match self.db.execute(RENEW, params![&lease.run_id, lease.epoch, now + ttl_ms]).await? {
            0 => Err(StoreError::Fenced { run: lease.run_id.clone() }),
            _ => Ok(()),
        }
    }

    /// Gives a lease back, so that another node goes on at once.
    pub async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        self.db.execute(RELEASE, params![&lease.run_id, lease.epoch]).await.map(drop)
    }

    /// Notes a run's state, for lists.
    pub async fn set_run_state(&self, lease: &Lease, state: &str) -> Result<(), StoreError> {
        self.db.execute(SET_STATE, params![&lease.run_id, lease.epoch, state]).await.map(drop)
    }

    /// Leaves a run to a person, with the row that says why.
    pub async fn park_run(
        &self,
        lease: &Lease,
        state: &str,
        last: NewEntry,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        fence(&mut tx, lease).await?;
        append_in(&mut tx, last, lease.epoch).await?;
        tx.execute(PARK, params![&lease.run_id, lease.epoch, state]).await?;
        tx.commit().await
    }

    /// Ends a run, with its last row in the log.
    pub async fn finish_run(
        &self,
        lease: &Lease,
        state: &str,
        last: NewEntry,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let at = last.at;
        fence(&mut tx, lease).await?;
        append_in(&mut tx, last, lease.epoch).await?;
        tx.execute(FINISH, params![&lease.run_id, lease.epoch, state, at]).await?;
        tx.commit().await
    }

    /// Runs that take this one back, newest first.
    pub async fn list_undoing(&self, id: &str) -> Result<Vec<RunRow>, StoreError> {
        self.db.all(UNDONE_BY, params![id]).await?.iter().map(RunRow::read).collect()
    }

    /// Runs whose time to be taken back by themselves has come.
    pub async fn list_expired_runs(&self, now: Millis) -> Result<Vec<String>, StoreError> {
        self.db.all(EXPIRED, params![now]).await?.iter().map(|row| row.text("id")).collect()
    }

    /// Notes when a run is taken back by itself; `None`: not at all.
    pub async fn set_run_expiry(&self, id: &str, at: Option<Millis>) -> Result<(), StoreError> {
        self.db.execute(SET_EXPIRY, params![id, at]).await.map(drop)
    }

    /// Moves that time, if it is still what it was: `false` when another node was quicker.
    pub async fn move_run_expiry(
        &self,
        id: &str,
        from: Millis,
        to: Option<Millis>,
    ) -> Result<bool, StoreError> {
        Ok(self.db.execute(MOVE_EXPIRY, params![id, from, to]).await? > 0)
    }

    /// Appends what a person said about a run: an approval, a refusal, a decision, a cancel. It needs
    /// no lease; a parked run becomes free to be driven again.
    pub async fn append_by_person(&self, entry: NewEntry) -> Result<LogEntry, StoreError> {
        let mut tx = self.db.begin().await?;
        let entry = say_in(&mut tx, entry).await?;
        tx.commit().await?;
        Ok(entry)
    }
}
