//! Guards, rollouts in steps, and what happened by itself. Each save names the version that it was made from, so that of
//! two nodes that looked at the same moment one only is heard.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params, sql};
use crate::error::{StoreError, not_found};
use crate::outbox::{NewMessage, send_in};

sql! {
    INSERT = "INSERT INTO guards (id, environment, flag, phase, settings, state, verdict, standing_since, since, seen_until, \
              version, created_at, created_by) VALUES ($1, $2, $3, $4, $5, NULL, NULL, $6, $6, $6, 1, $6, $7)";
    SAVE = "UPDATE guards SET phase = $3, settings = $4, state = $5, verdict = $6, standing_since = $7, since = $8, \
            seen_until = $9, version = version + 1 WHERE id = $1 AND version = $2";
    GET = "SELECT * FROM guards WHERE id = $1";
    LIST = "SELECT * FROM guards WHERE environment = $1 AND (CAST($2 AS TEXT) IS NULL OR flag = $2) ORDER BY created_at DESC, id";
    ARMED = "SELECT * FROM guards WHERE phase = 'armed' ORDER BY environment, id";
    REMOVE = "DELETE FROM guards WHERE id = $1";
    POINT = "INSERT INTO guard_points (guard, at, point) VALUES ($1, $2, $3) ON CONFLICT (guard, at) DO NOTHING";
    POINTS = "SELECT at, point FROM guard_points WHERE guard = $1 AND at >= $2 ORDER BY at";
    REMOVE_POINTS = "DELETE FROM guard_points WHERE guard = $1";
    FORGET_POINTS = "DELETE FROM guard_points WHERE at < $1";
    ACT = "INSERT INTO automatic_acts (id, environment, flag, guard, at, act, words) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    ACTS = "SELECT * FROM automatic_acts WHERE environment = $1 AND at >= $2 ORDER BY at DESC, id DESC";
    FREEZE = "INSERT INTO freezes (environment, since, why) VALUES ($1, $2, $3) ON CONFLICT (environment) DO NOTHING";
    FROZEN = "SELECT * FROM freezes WHERE environment = $1";
    THAW = "DELETE FROM freezes WHERE environment = $1";
    NEW_ROLLOUT = "INSERT INTO rollouts (id, environment, flag, guard, phase, settings, state, move, version, created_at, \
                   created_by, ended_at) VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, 1, $8, $9, NULL)";
    SAVE_ROLLOUT = "UPDATE rollouts SET phase = $3, state = $4, move = $5, ended_at = $6, version = version + 1 \
                    WHERE id = $1 AND version = $2";
    GET_ROLLOUT = "SELECT * FROM rollouts WHERE id = $1";
    ROLLOUTS = "SELECT * FROM rollouts WHERE environment = $1 AND (CAST($2 AS TEXT) IS NULL OR flag = $2) \
                ORDER BY created_at DESC, id LIMIT 200";
    OPEN_ROLLOUTS = "SELECT * FROM rollouts WHERE ended_at IS NULL ORDER BY environment, id";
    LEASE = "INSERT INTO leases (name, owner, until) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET \
             owner = excluded.owner, until = excluded.until WHERE leases.until <= $4 OR leases.owner = $2";
}

/// A guard as it is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct GuardRow {
    /// Its id.
    pub id: String,
    /// The environment.
    pub environment: String,
    /// The flag.
    pub flag: String,
    /// `armed`, `resting` (somebody disarmed it) or `acted` (it rests until somebody arms it again).
    pub phase: String,
    /// What it watches and what it does.
    pub settings: Value,
    /// What it has seen.
    pub state: Option<Value>,
    /// What it said last.
    pub verdict: Option<Value>,
    /// Since when it says so, in UTC milliseconds.
    pub standing_since: Millis,
    /// Since when it looks.
    pub since: Millis,
    /// Events that arrived before this moment are in its state.
    pub seen_until: Millis,
    /// Goes up with each save.
    pub version: u64,
    /// When it was made.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
}

/// What goes with a save.
#[derive(Clone, Debug, Default)]
pub struct Beside<'a> {
    /// A point of its line.
    pub point: Option<(Millis, Value)>,
    /// Something that was done.
    pub act: Option<ActRow>,
    /// Nothing happens by itself any more in its environment, and why.
    pub freeze: Option<&'a str>,
    /// What is told.
    pub message: Option<NewMessage>,
    /// What stands on the log: the action, and who.
    pub log: Option<(&'a str, &'a Stamp)>,
    /// When.
    pub at: Millis,
}

/// Something that happened by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct ActRow {
    /// Its id.
    pub id: String,
    /// The environment.
    pub environment: String,
    /// The flag.
    pub flag: Option<String>,
    /// The guard.
    pub guard: Option<String>,
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// `put_back`, `run_playbook`, `freeze`.
    pub act: String,
    /// Why, in a sentence.
    pub words: String,
}

/// A rollout as it is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RolloutRow {
    /// Its id.
    pub id: String,
    /// The environment.
    pub environment: String,
    /// The flag.
    pub flag: String,
    /// The guard that watches it.
    pub guard: Option<String>,
    /// `running`, `paused`, `aborting`, `put_back` or `done`.
    pub phase: String,
    /// Its steps, and the rule.
    pub settings: Value,
    /// Where it is.
    pub state: Value,
    /// What it does or waits for.
    #[serde(rename = "move")]
    pub next: Option<Value>,
    /// Goes up with each save.
    pub version: u64,
    /// When it was made, in UTC milliseconds.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
    /// When it ended.
    pub ended_at: Option<Millis>,
}

impl Store {
    /// Makes a guard.
    pub async fn create_guard(&self, row: &GuardRow, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        insert_guard(&mut tx, row, by).await?;
        tx.commit().await
    }

    /// Saves a guard with what belongs to it. Fails with [`StoreError::Stale`] when somebody else saved it since.
    pub async fn save_guard(&self, row: &GuardRow, beside: Beside<'_>) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        save(&mut tx, row).await?;
        let Beside { point, act, freeze, message, log, at } = beside;
        if let Some((at, point)) = point {
            tx.execute(POINT, params![&row.id, at, json(&point)?]).await?;
        }
        if let Some(act) = act {
            let ActRow { id, environment, flag, guard, at, act, words } = act;
            tx.execute(ACT, params![id, environment, flag, guard, at, act, words]).await?;
        }
        if let Some(why) = freeze {
            tx.execute(FREEZE, params![&row.environment, at, why]).await?;
        }
        if let Some(message) = message {
            send_in(&mut tx, &message, at).await?;
        }
        if let Some((action, by)) = log {
            log_guard(&mut tx, row, action, by, 0).await?;
        }
        tx.commit().await
    }

    /// A guard.
    pub async fn get_guard(&self, id: &str) -> Result<GuardRow, StoreError> {
        let row = self.db.one(GET, params![id]).await?;
        read(&row.ok_or_else(|| not_found("guard", id))?)
    }

    /// Guards of an environment, or of one of its flags; the newest first.
    pub async fn list_guards(
        &self,
        environment: &str,
        flag: Option<&str>,
    ) -> Result<Vec<GuardRow>, StoreError> {
        self.db.all(LIST, params![environment, flag]).await?.iter().map(read).collect()
    }

    /// Guards that look, of all environments.
    pub async fn list_armed_guards(&self) -> Result<Vec<GuardRow>, StoreError> {
        self.db.all(ARMED, params![]).await?.iter().map(read).collect()
    }

    /// Removes a guard and its line.
    pub async fn remove_guard(&self, row: &GuardRow, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if tx.execute(REMOVE, params![&row.id]).await? == 0 {
            return Err(not_found("guard", &row.id));
        }
        tx.execute(REMOVE_POINTS, params![&row.id]).await?;
        log_guard(&mut tx, row, "remove", by, 0).await?;
        tx.commit().await
    }

    /// The points of a guard's line since a moment.
    pub async fn list_guard_points(
        &self,
        guard: &str,
        since: Millis,
    ) -> Result<Vec<(Millis, Value)>, StoreError> {
        let rows = self.db.all(POINTS, params![guard, since]).await?;
        rows.iter().map(|row| Ok((row.int("at")?, row.json("point")?))).collect()
    }

    /// Forgets points before a moment.
    pub async fn forget_guard_points(&self, before: Millis) -> Result<u64, StoreError> {
        self.db.execute(FORGET_POINTS, params![before]).await
    }

    /// What happened by itself in an environment since a moment, the newest first.
    pub async fn list_acts(
        &self,
        environment: &str,
        since: Millis,
    ) -> Result<Vec<ActRow>, StoreError> {
        let rows = self.db.all(ACTS, params![environment, since]).await?;
        rows.iter()
            .map(|row| {
                Ok(ActRow {
                    id: row.text("id")?,
                    environment: row.text("environment")?,
                    flag: row.opt_text("flag")?,
                    guard: row.opt_text("guard")?,
                    at: row.int("at")?,
                    act: row.text("act")?,
                    words: row.text("words")?,
                })
            })
            .collect()
    }

    /// Since when nothing happens by itself in an environment, and why.
    pub async fn find_freeze(
        &self,
        environment: &str,
    ) -> Result<Option<(Millis, String)>, StoreError> {
        let row = self.db.one(FROZEN, params![environment]).await?;
        row.map(|row| Ok((row.int("since")?, row.text("why")?))).transpose()
    }

    /// Ends a freeze.
    pub async fn end_freeze(&self, environment: &str, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if tx.execute(THAW, params![environment]).await? == 0 {
            return Err(not_found("freeze", environment));
        }
        let entry = Entry {
            environment: Some(environment),
            revision: None,
            kind: "automation",
            subject: environment,
            action: "thaw",
            before: None,
            after: None,
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// Makes a rollout, and the guard that watches it.
    pub async fn create_rollout(
        &self,
        row: &RolloutRow,
        guard: Option<&GuardRow>,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if let Some(guard) = guard {
            insert_guard(&mut tx, guard, by).await?;
        }
        let RolloutRow { id, environment, flag, guard, phase, settings, state, .. } = row;
        let (settings, state) = (json(settings)?, json(state)?);
        let params = params![
            id,
            environment,
            flag,
            guard,
            phase,
            settings,
            state,
            row.created_at,
            &row.created_by
        ];
        tx.execute(NEW_ROLLOUT, params).await?;
        // A place of its own on the log, beside the guard's.
        log_rollout(&mut tx, row, "start", by, 1).await?;
        tx.commit().await
    }

    /// Saves a rollout. Fails with [`StoreError::Stale`] when somebody else saved it since.
    pub async fn save_rollout(
        &self,
        row: &RolloutRow,
        log: Option<(&str, &Stamp)>,
        message: Option<&NewMessage>,
        at: Millis,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let next = row.next.as_ref().map(json).transpose()?;
        let params =
            params![&row.id, row.version, &row.phase, json(&row.state)?, next, row.ended_at];
        if tx.execute(SAVE_ROLLOUT, params).await? == 0 {
            return Err(StoreError::Stale { current: row.version + 1 });
        }
        if let Some(message) = message {
            send_in(&mut tx, message, at).await?;
        }
        if let Some((action, by)) = log {
            log_rollout(&mut tx, row, action, by, 0).await?;
        }
        tx.commit().await
    }

    /// A rollout.
    pub async fn get_rollout(&self, id: &str) -> Result<RolloutRow, StoreError> {
        let row = self.db.one(GET_ROLLOUT, params![id]).await?;
        read_rollout(&row.ok_or_else(|| not_found("rollout", id))?)
    }

    /// Rollouts of an environment, or of one of its flags; the newest first, 200 at most.
    pub async fn list_rollouts(
        &self,
        environment: &str,
        flag: Option<&str>,
    ) -> Result<Vec<RolloutRow>, StoreError> {
        self.db.all(ROLLOUTS, params![environment, flag]).await?.iter().map(read_rollout).collect()
    }

    /// Rollouts that have not ended, of all environments.
    pub async fn list_open_rollouts(&self) -> Result<Vec<RolloutRow>, StoreError> {
        self.db.all(OPEN_ROLLOUTS, params![]).await?.iter().map(read_rollout).collect()
    }

    /// Takes or keeps a lease until a moment; false when another owner has it.
    pub async fn hold_lease(
        &self,
        name: &str,
        owner: &str,
        (now, until): (Millis, Millis),
    ) -> Result<bool, StoreError> {
        Ok(self.db.execute(LEASE, params![name, owner, until, now]).await? > 0)
    }
}

async fn insert_guard(tx: &mut Tx, row: &GuardRow, by: &Stamp) -> Result<(), StoreError> {
    let GuardRow { id, environment, flag, phase, settings, created_at, created_by, .. } = row;
    let settings = json(settings)?;
    let params = params![id, environment, flag, phase, settings, *created_at, created_by];
    tx.execute(INSERT, params).await?;
    log_guard(tx, row, "arm", by, 0).await
}

async fn save(tx: &mut Tx, row: &GuardRow) -> Result<(), StoreError> {
    let state = row.state.as_ref().map(json).transpose()?;
    let verdict = row.verdict.as_ref().map(json).transpose()?;
    let params = params![
        &row.id,
        row.version,
        &row.phase,
        json(&row.settings)?,
        state,
        verdict,
        row.standing_since,
        row.since,
        row.seen_until,
    ];
    if tx.execute(SAVE, params).await? == 0 {
        return Err(StoreError::Stale { current: row.version + 1 });
    }
    Ok(())
}

async fn log_guard(
    tx: &mut Tx,
    row: &GuardRow,
    action: &str,
    by: &Stamp,
    place: usize,
) -> Result<(), StoreError> {
    let what = ("guard", row.environment.as_str(), row.id.as_str());
    log(tx, what, (action, json(&row.settings)?), by, place).await
}

async fn log_rollout(
    tx: &mut Tx,
    row: &RolloutRow,
    action: &str,
    by: &Stamp,
    place: usize,
) -> Result<(), StoreError> {
    let what = ("rollout", row.environment.as_str(), row.id.as_str());
    log(tx, what, (action, json(&row.state)?), by, place).await
}

/// Writes to the change log: what kind of thing, where and which; what was done with it, and what it is after that.
async fn log(
    tx: &mut Tx,
    (kind, environment, subject): (&'static str, &str, &str),
    (action, after): (&str, String),
    by: &Stamp,
    place: usize,
) -> Result<(), StoreError> {
    let environment = Some(environment);
    let after = Some(after);
    let entry = Entry { environment, revision: None, kind, subject, action, before: None, after };
    tx.log(by, place, entry).await
}

fn read(row: &Row) -> Result<GuardRow, StoreError> {
    Ok(GuardRow {
        id: row.text("id")?,
        environment: row.text("environment")?,
        flag: row.text("flag")?,
        phase: row.text("phase")?,
        settings: row.json("settings")?,
        state: row.opt_json("state")?,
        verdict: row.opt_json("verdict")?,
        standing_since: row.int("standing_since")?,
        since: row.int("since")?,
        seen_until: row.int("seen_until")?,
        version: row.unsigned("version")?,
        created_at: row.int("created_at")?,
        created_by: row.text("created_by")?,
    })
}

fn read_rollout(row: &Row) -> Result<RolloutRow, StoreError> {
    Ok(RolloutRow {
        id: row.text("id")?,
        environment: row.text("environment")?,
        flag: row.text("flag")?,
        guard: row.opt_text("guard")?,
        phase: row.text("phase")?,
        settings: row.json("settings")?,
        state: row.json("state")?,
        next: row.opt_json("move")?,
        version: row.unsigned("version")?,
        created_at: row.int("created_at")?,
        created_by: row.text("created_by")?,
        ended_at: row.opt_int("ended_at")?,
    })
}
