//! What starts by itself: the switch that stops all of it, its limits, and each call once.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Tx, json, params, sql};
use crate::error::StoreError;
use crate::runs::NewRun;

sql! {
    INIT = "INSERT INTO meta (key, value) VALUES ('automation', '') ON CONFLICT (key) DO NOTHING";
    LOCK = "UPDATE meta SET value = value WHERE key = 'automation' RETURNING value";
    SET = "UPDATE meta SET value = $1 WHERE key = 'automation'";
    GET = "SELECT value FROM meta WHERE key = 'automation'";
    LAST = "SELECT MAX(created_at) AS at FROM playbook_runs WHERE playbook = $1 AND environment = $2 \
            AND trigger_kind IN ('webhook', 'schedule', 'alert')";
    COUNT = "SELECT COUNT(*) AS n FROM playbook_runs WHERE playbook = $1 AND environment = $2 \
             AND trigger_kind IN ('webhook', 'schedule', 'alert') AND created_at > $3";
    SCHEDULES = "SELECT playbook, rule, due_at FROM schedules ORDER BY playbook";
    PLACE = "INSERT INTO schedules (playbook, rule, due_at) VALUES ($1, $2, $3) ON CONFLICT (playbook) DO UPDATE \
             SET rule = excluded.rule, due_at = excluded.due_at WHERE schedules.rule <> excluded.rule";
    ADVANCE = "UPDATE schedules SET due_at = $4 WHERE playbook = $1 AND rule = $2 AND due_at = $3";
    ONCE = "INSERT INTO idempotency_keys (actor, key, fingerprint, status, body, created_at) \
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (actor, key) DO NOTHING";
}

/// Since when nothing starts by itself, who wants it so, and why.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct AutomationOff {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when, in UTC milliseconds.
    pub at: Millis,
}

/// When a playbook is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// The playbook.
    pub playbook: String,
    /// The schedule that this was reckoned from.
    pub rule: String,
    /// When, in UTC milliseconds.
    pub due_at: Millis,
}

/// A call that is answered once: whose, its id, and a hash of what it says.
#[derive(Clone, Debug)]
pub struct Once {
    /// Whose ids these are.
    pub actor: String,
    /// The id.
    pub key: String,
    /// A hash of what it says.
    pub fingerprint: String,
}

/// What a run that starts by itself must pass, in the transaction that makes it.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// The pause after the start before, in milliseconds.
    pub cooldown_ms: i64,
    /// The most starts, and in how many milliseconds.
    pub ceiling: Option<(u64, i64)>,
    /// The call that wants it.
    pub once: Option<Once>,
}

/// Passes a run, or says why not. Such starts take turns, so that no two of them pass the same limit.
pub(crate) async fn pass_in(tx: &mut Tx, gate: &Gate, run: &NewRun) -> Result<(), StoreError> {
    tx.execute(INIT, vec![]).await?;
    let switch = tx.one(LOCK, vec![]).await?.map(|row| row.text("value")).transpose()?;
    if let Some(once) = &gate.once
        && !keep_in(tx, once, 202, &run.id, run.created_at).await?
    {
        return Err(StoreError::Exists { kind: "call", key: once.key.clone() });
    }
    if let Some(off) = read(&switch.unwrap_or_default()) {
        return Err(StoreError::Refused(format!("automation is off: {}", off.reason)));
    }
    let last = tx.one(LAST, params![&run.playbook, &run.environment]).await?;
    let last = last.map(|row| row.opt_int("at")).transpose()?.flatten();
    if let Some(last) = last.filter(|last| run.created_at - last < gate.cooldown_ms) {
        let (ago, pause) = ((run.created_at - last) / 1_000, gate.cooldown_ms / 1_000);
        let message = format!("it started by itself {ago} s ago, and its cool-down is {pause} s");
        return Err(StoreError::Refused(message));
    }
    if let Some((runs, per_ms)) = gate.ceiling {
        let since = run.created_at - per_ms;
        let row = tx.one(COUNT, params![&run.playbook, &run.environment, since]).await?;
        let started = row.map_or(Ok(0), |row| row.unsigned("n"))?;
        if started >= runs {
            let message = format!(
                "it started by itself {started} times within {} s, and its ceiling is {runs}",
                per_ms / 1_000
            );
            return Err(StoreError::Refused(message));
        }
    }
    Ok(())
}

async fn keep_in(
    tx: &mut Tx,
    once: &Once,
    status: i64,
    body: &str,
    at: Millis,
) -> Result<bool, StoreError> {
    let Once { actor, key, fingerprint } = once;
    Ok(tx.execute(ONCE, params![actor, key, fingerprint, status, body, at]).await? == 1)
}

fn read(value: &str) -> Option<AutomationOff> {
    serde_json::from_str(value).ok()
}

impl Store {
    /// Since when nothing starts by itself; `None`: it does.
    pub async fn automation_off(&self) -> Result<Option<AutomationOff>, StoreError> {
        let row = self.db.one(GET, vec![]).await?;
        let value = row.map(|row| row.text("value")).transpose()?;
        Ok(value.as_deref().and_then(read))
    }

    /// Switches everything that starts by itself off or on.
    pub async fn set_automation(
        &self,
        off: Option<&AutomationOff>,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        tx.execute(INIT, vec![]).await?;
        let before = tx.one(LOCK, vec![]).await?.map(|row| row.text("value")).transpose()?;
        let before = before.as_deref().and_then(read);
        let after = off.map(json).transpose()?;
        tx.execute(SET, params![after.as_deref().unwrap_or_default()]).await?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "automation",
            subject: "automation",
            action: if off.is_some() { "turn off" } else { "turn on" },
            before: before.as_ref().map(json).transpose()?,
            after,
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// Notes that a playbook was not let start by itself: the stamp's reason says why. The same call stays refused.
    pub async fn refuse_start(
        &self,
        by: &Stamp,
        environment: &str,
        playbook: &str,
        once: Option<&Once>,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if let Some(once) = once
            && !keep_in(&mut tx, once, 409, &by.reason, by.at).await?
        {
            return Ok(()); // another node has noted it
        }
        let entry = Entry {
            environment: Some(environment),
            revision: None,
            kind: "playbook",
            subject: playbook,
            action: "refuse start",
            before: None,
            after: None,
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// When playbooks are due.
    pub async fn list_schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        let rows = self.db.all(SCHEDULES, vec![]).await?;
        let row = |row: &crate::db::Row| {
            let (playbook, rule) = (row.text("playbook")?, row.text("rule")?);
            Ok(ScheduleRow { playbook, rule, due_at: row.int("due_at")? })
        };
        rows.iter().map(row).collect()
    }

    /// Keeps when a playbook is due first, if that is not kept for this schedule.
    pub async fn place_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        let ScheduleRow { playbook, rule, due_at } = row;
        self.db.execute(PLACE, params![playbook, rule, *due_at]).await.map(drop)
    }

    /// Moves on to the next time, if no other node has.
    pub async fn advance_schedule(
        &self,
        row: &ScheduleRow,
        next: Millis,
    ) -> Result<(), StoreError> {
        let ScheduleRow { playbook, rule, due_at } = row;
        self.db.execute(ADVANCE, params![playbook, rule, *due_at, next]).await.map(drop)
    }
}
