//! Probes: what looks at components on a schedule, one node at a time, what it found, and what that does to a component.

use std::collections::BTreeMap;

use serde_json::Value;
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::components::{ComponentStatus, move_in, status_in};
use crate::db::{Row, Tx, json, params, sql, word};
use crate::error::{StoreError, not_found};

sql! {
    LIST = "SELECT * FROM probes ORDER BY component, key";
    FIND = "SELECT * FROM probes WHERE key = $1";
    PUT = "INSERT INTO probes (key, component, settings, is_enabled, is_down, holds, failures, successes, next_at, owner, \
           leased_until, created_at, updated_at) VALUES ($1, $2, $3, $4, FALSE, FALSE, 0, 0, $5, '', 0, $5, $5) \
           ON CONFLICT (key) DO UPDATE SET component = excluded.component, settings = excluded.settings, \
           is_enabled = excluded.is_enabled, is_down = FALSE, holds = FALSE, failures = 0, successes = 0, \
           next_at = excluded.next_at, owner = '', leased_until = 0, updated_at = excluded.updated_at";
    REMOVE = "DELETE FROM probes WHERE key = $1";
    REMOVE_RESULTS = "DELETE FROM probe_results WHERE probe = $1";
    REMOVE_DAYS = "DELETE FROM probe_days WHERE probe = $1";
    DUE = "SELECT key FROM probes WHERE is_enabled AND next_at <= $1 AND leased_until <= $1 LIMIT 1";
    CLAIM = "UPDATE probes SET owner = $2, leased_until = $3 WHERE key IN (SELECT key FROM probes WHERE is_enabled \
             AND next_at <= $1 AND leased_until <= $1 ORDER BY next_at, key LIMIT $4) AND leased_until <= $1 RETURNING *";
    RELEASE = "UPDATE probes SET leased_until = 0 WHERE leased_until > 0";
    END_LEASE = "UPDATE probes SET leased_until = 0, next_at = $4 WHERE key = $1 AND owner = $2 AND leased_until = $3";
    SET_COUNTS = "UPDATE probes SET failures = $2, successes = $3, is_down = $4 WHERE key = $1";
    HOLD = "UPDATE probes SET holds = (is_enabled AND is_down AND $2) WHERE component = $1";
    OF_COMPONENT = "SELECT * FROM probes WHERE component = $1";
    HELD = "SELECT components FROM incidents WHERE resolved_at IS NULL AND withdrawn_at IS NULL AND status <> 'scheduled'";
    KEEP = "INSERT INTO probe_results (probe, at, is_good, took_ms, said) VALUES ($1, $2, $3, $4, $5) \
            ON CONFLICT (probe, at) DO NOTHING";
    KEEP_DAY = "INSERT INTO probe_days (probe, day, good, bad, took_ms) VALUES ($1, $2, $3, $4, $5) \
                ON CONFLICT (probe, day) DO UPDATE SET good = probe_days.good + excluded.good, \
                bad = probe_days.bad + excluded.bad, took_ms = probe_days.took_ms + excluded.took_ms";
    RESULTS = "SELECT * FROM probe_results WHERE probe = $1 ORDER BY at DESC LIMIT $2";
    DAYS = "SELECT * FROM probe_days WHERE probe = $1 AND day >= $2 ORDER BY day";
    ALL_DAYS = "SELECT * FROM probe_days WHERE day >= $1 ORDER BY probe, day";
    SWEEP_RESULTS = "DELETE FROM probe_results WHERE at < $1";
    SWEEP_DAYS = "DELETE FROM probe_days WHERE day < $1";
}

/// A day, in milliseconds.
const DAY_MS: Millis = 86_400_000;

/// A probe with what it stands at.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeRow {
    /// Its permanent name.
    pub key: String,
    /// The component that it looks at.
    pub component: String,
    /// How it looks; this crate only keeps it.
    pub settings: Value,
    /// Whether it looks.
    pub is_enabled: bool,
    /// Whether it failed often enough in a row.
    pub is_down: bool,
    /// Whether the component is as it is because of its probes.
    pub holds: bool,
    /// Failures in a row.
    pub failures: u64,
    /// Successes in a row.
    pub successes: u64,
    /// When it is due, in UTC milliseconds.
    pub next_at: Millis,
    /// Until when a node looks, in UTC milliseconds.
    pub leased_until: Millis,
    /// Its last change, in UTC milliseconds.
    pub updated_at: Millis,
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct ProbeResult {
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// Whether all was well.
    pub is_good: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What was wrong, or what answered.
    pub said: String,
}

/// What one day's looks found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct ProbeDay {
    /// Its first moment, in UTC milliseconds.
    pub at: Millis,
    /// Looks that went well.
    pub good: u64,
    /// Looks that did not.
    pub bad: u64,
    /// How long all of them took together, in milliseconds.
    pub took_ms: u64,
}

/// How many results in a row move a component, where to, and how often is looked.
#[derive(Clone, Copy, Debug)]
pub struct ProbeRule {
    /// Failures in a row.
    pub failures: u64,
    /// Successes in a row.
    pub successes: u64,
    /// From one look to the next, in milliseconds.
    pub interval_ms: Millis,
}

/// A node that looks, and until when: what it found counts only while that is so.
#[derive(Clone, Debug)]
pub struct ProbeLease {
    /// The node.
    pub owner: String,
    /// Until when, in UTC milliseconds.
    pub until: Millis,
}

fn read(row: &Row) -> Result<ProbeRow, StoreError> {
    Ok(ProbeRow {
        key: row.text("key")?,
        component: row.text("component")?,
        settings: row.json("settings")?,
        is_enabled: row.bool("is_enabled")?,
        is_down: row.bool("is_down")?,
        holds: row.bool("holds")?,
        failures: row.unsigned("failures")?,
        successes: row.unsigned("successes")?,
        next_at: row.int("next_at")?,
        leased_until: row.int("leased_until")?,
        updated_at: row.int("updated_at")?,
    })
}

fn read_result(row: &Row) -> Result<ProbeResult, StoreError> {
    Ok(ProbeResult {
        at: row.int("at")?,
        is_good: row.bool("is_good")?,
        took_ms: row.unsigned("took_ms")?,
        said: row.text("said")?,
    })
}

fn read_day(row: &Row) -> Result<ProbeDay, StoreError> {
    Ok(ProbeDay {
        at: row.int("day")? * DAY_MS,
        good: row.unsigned("good")?,
        bad: row.unsigned("bad")?,
        took_ms: row.unsigned("took_ms")?,
    })
}

/// Makes a component what its probes say. An open incident that names it wins, and so does maintenance; a state that
/// somebody else gave it stays until it is operational again. Returns whether it moved.
async fn follow_in(
    tx: &mut Tx,
    component: &str,
    held_before: bool,
    by: &Stamp,
) -> Result<bool, StoreError> {
    for row in tx.all(HELD, vec![]).await? {
        let held: BTreeMap<String, ComponentStatus> = row.json("components")?;
        if held.contains_key(component) {
            return Ok(false);
        }
    }
    let Some(now) = status_in(tx, component).await? else { return Ok(false) };
    let rows = tx.all(OF_COMPONENT, params![component]).await?;
    let probes: Vec<ProbeRow> = rows.iter().map(read).collect::<Result<_, _>>()?;
    let is_held = held_before || probes.iter().any(|probe| probe.holds);
    let states = probes.iter().filter(|probe| probe.is_enabled && probe.is_down).map(|probe| {
        let state = probe.settings.get("state").cloned().unwrap_or_default();
        serde_json::from_value(state).unwrap_or(ComponentStatus::MajorOutage)
    });
    let wanted = match states.max() {
        _ if now == ComponentStatus::UnderMaintenance => None,
        Some(worst) if is_held || now == ComponentStatus::Operational => Some(worst),
        None if is_held => Some(ComponentStatus::Operational),
        _ => None,
    };
    let Some(wanted) = wanted else { return Ok(false) };
    let is_bad = wanted != ComponentStatus::Operational;
    tx.execute(HOLD, params![component, is_bad]).await?;
    if wanted == now {
        return Ok(false);
    }
    move_in(tx, &BTreeMap::from([(component.to_owned(), wanted)]), by.at).await?;
    let entry = Entry {
        environment: None,
        revision: None,
        kind: "component",
        subject: component,
        action: "status",
        before: Some(json(&BTreeMap::from([(component, word(&now)?)]))?),
        after: Some(json(&BTreeMap::from([(component, word(&wanted)?)]))?),
    };
    tx.log(by, 0, entry).await?;
    tx.announce("status").await?;
    Ok(true)
}

async fn log_in(
    tx: &mut Tx,
    key: &str,
    action: &'static str,
    before: Option<&ProbeRow>,
    after: Option<&Value>,
    by: &Stamp,
) -> Result<(), StoreError> {
    let entry = Entry {
        environment: None,
        revision: None,
        kind: "probe",
        subject: key,
        action,
        before: before.map(|row| json(&row.settings)).transpose()?,
        after: after.map(json).transpose()?,
    };
    tx.log(by, 1, entry).await.map(drop)
}

impl Store {
    /// All probes, by component.
    pub async fn list_probes(&self) -> Result<Vec<ProbeRow>, StoreError> {
        self.db.all(LIST, vec![]).await?.iter().map(read).collect()
    }

    /// One probe.
    pub async fn get_probe(&self, key: &str) -> Result<ProbeRow, StoreError> {
        let row = self.db.one(FIND, params![key]).await?;
        read(&row.ok_or_else(|| not_found("probe", key))?)
    }

    /// Makes a probe or changes it; it begins anew. What it did to a component is taken back.
    pub async fn put_probe(
        &self,
        key: &str,
        component: &str,
        is_enabled: bool,
        settings: &Value,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if status_in(&mut tx, component).await?.is_none() {
            return Err(not_found("component", component));
        }
        let before = tx.one(FIND, params![key]).await?.as_ref().map(read).transpose()?;
        tx.execute(PUT, params![key, component, json(settings)?, is_enabled, by.at]).await?;
        if let Some(before) = before.as_ref().filter(|before| before.holds) {
            follow_in(&mut tx, &before.component, true, by).await?;
        }
        log_in(&mut tx, key, "put", before.as_ref(), Some(settings), by).await?;
        tx.commit().await
    }

    /// Removes a probe with its results. What it did to its component is taken back.
    pub async fn remove_probe(&self, key: &str, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND, params![key]).await?;
        let before = read(&row.ok_or_else(|| not_found("probe", key))?)?;
        for statement in [REMOVE_RESULTS, REMOVE_DAYS, REMOVE] {
            tx.execute(statement, params![key]).await?;
        }
        if before.holds {
            follow_in(&mut tx, &before.component, true, by).await?;
        }
        log_in(&mut tx, key, "remove", Some(&before), None, by).await?;
        tx.commit().await
    }

    /// Takes probes that are due and that nobody looks through now, the longest due first.
    pub async fn claim_probes(
        &self,
        lease: &ProbeLease,
        now: Millis,
        limit: i64,
    ) -> Result<Vec<ProbeRow>, StoreError> {
        if self.db.one(DUE, params![now]).await?.is_none() {
            return Ok(Vec::new()); // the usual case takes no lock
        }
        let mut tx = self.db.begin().await?;
        let rows = tx.all(CLAIM, params![now, &lease.owner, lease.until, limit]).await?;
        let claimed = rows.iter().map(read).collect::<Result<_, _>>()?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// Ends every lease: whoever held them is dead.
    pub async fn release_probes(&self) -> Result<(), StoreError> {
        self.db.execute(RELEASE, vec![]).await.map(drop)
    }

    /// Keeps what a look found and moves the component when it is time. Nothing is kept of a look whose lease is over, or
    /// whose probe was changed meanwhile. Returns whether the component moved.
    pub async fn keep_probe_result(
        &self,
        probe: &ProbeRow,
        lease: &ProbeLease,
        rule: ProbeRule,
        result: &ProbeResult,
        by: &Stamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let key = &probe.key;
        let planned = probe.next_at + rule.interval_ms;
        let next_at = if planned > result.at { planned } else { result.at + rule.interval_ms };
        if tx.execute(END_LEASE, params![key, &lease.owner, lease.until, next_at]).await? == 0 {
            return Ok(false);
        }
        let ProbeResult { at, is_good, took_ms, said } = result;
        tx.execute(KEEP, params![key, *at, *is_good, *took_ms, said]).await?;
        let (good, bad) = (i64::from(*is_good), i64::from(!*is_good));
        tx.execute(KEEP_DAY, params![key, at.div_euclid(DAY_MS), good, bad, *took_ms]).await?;
        let row = tx.one(FIND, params![key]).await?;
        let before = read(&row.ok_or_else(|| not_found("probe", key))?)?;
        let (failures, successes) =
            if *is_good { (0, before.successes + 1) } else { (before.failures + 1, 0) };
        let is_down =
            if before.is_down { successes < rule.successes } else { failures >= rule.failures };
        tx.execute(SET_COUNTS, params![key, failures, successes, is_down]).await?;
        // Also when nothing changed: an incident that held the component may be over.
        let moved = if is_down || before.is_down || before.holds {
            follow_in(&mut tx, &before.component, before.holds, by).await?
        } else {
            false
        };
        tx.commit().await?;
        Ok(moved)
    }

    /// What a probe found, the newest first.
    pub async fn list_probe_results(
        &self,
        key: &str,
        limit: i64,
    ) -> Result<Vec<ProbeResult>, StoreError> {
        self.db.all(RESULTS, params![key, limit]).await?.iter().map(read_result).collect()
    }

    /// What a probe's looks found by day, since a moment.
    pub async fn list_probe_days(
        &self,
        key: &str,
        since: Millis,
    ) -> Result<Vec<ProbeDay>, StoreError> {
        let since = since.div_euclid(DAY_MS);
        self.db.all(DAYS, params![key, since]).await?.iter().map(read_day).collect()
    }

    /// The same of every probe.
    pub async fn list_days_of_probes(
        &self,
        since: Millis,
    ) -> Result<BTreeMap<String, Vec<ProbeDay>>, StoreError> {
        let mut found: BTreeMap<String, Vec<ProbeDay>> = BTreeMap::new();
        for row in self.db.all(ALL_DAYS, params![since.div_euclid(DAY_MS)]).await? {
            found.entry(row.text("probe")?).or_default().push(read_day(&row)?);
        }
        Ok(found)
    }

    /// Forgets single results that are older than one moment, and days that are older than another.
    pub async fn sweep_probes(&self, results: Millis, days: Millis) -> Result<(), StoreError> {
        self.db.execute(SWEEP_RESULTS, params![results]).await?;
        self.db.execute(SWEEP_DAYS, params![days.div_euclid(DAY_MS)]).await.map(drop)
    }
}
