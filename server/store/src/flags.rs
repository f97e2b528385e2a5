//! Flags: their definitions, and their state in each environment.

use serde::{Deserialize, Serialize};
use switchback_core::model::{FlagKey, FlagKind, FlagState, Millis, ValueType};

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params, sql, word};
use crate::error::{StoreError, not_found};

sql! {
    TAGS = "SELECT key, tags FROM flags WHERE tags <> '[]'";
    INSERT = "INSERT INTO flags (key, project, kind, value_type, salt, description, owner, tags, \
              lifetime_days, created_at, created_by) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    INSERT_STATE = "INSERT INTO flag_states (environment, flag, state, revision, updated_at, updated_by) \
                    VALUES ($1, $2, $3, $4, $5, $6)";
    ENVIRONMENTS = "SELECT key FROM environments ORDER BY key";
    FIND = "SELECT * FROM flags WHERE key = $1";
    UPDATE = "UPDATE flags SET kind = $2, description = $3, owner = $4, tags = $5, lifetime_days = $6 \
              WHERE key = $1";
    ARCHIVE = "UPDATE flags SET archived_at = $2 WHERE key = $1 AND archived_at IS NULL";
    UNARCHIVE = "UPDATE flags SET archived_at = NULL WHERE key = $1 AND archived_at IS NOT NULL";
    STATE = "SELECT state, revision FROM flag_states WHERE environment = $1 AND flag = $2";
    SET_STATE = "UPDATE flag_states SET state = $3, revision = $4, updated_at = $5, updated_by = $6 \
                 WHERE environment = $1 AND flag = $2";
    LIST = "SELECT f.*, s.state, s.revision, s.updated_at, s.updated_by FROM flag_states s \
            JOIN flags f ON f.key = s.flag \
            WHERE s.environment = $1 AND (f.archived_at IS NULL OR $2) ORDER BY f.key";
    GET = "SELECT f.*, s.state, s.revision, s.updated_at, s.updated_by FROM flag_states s \
           JOIN flags f ON f.key = s.flag WHERE s.environment = $1 AND f.key = $2";
}

/// A flag's identity: what is the same in every environment and does not evaluate.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct FlagRecord {
    /// Its permanent name.
    pub key: FlagKey,
    /// Its project.
    pub project: String,
    /// What it is for.
    pub kind: FlagKind,
    /// The type of its values.
    pub value_type: ValueType,
    /// Separates its buckets from other flags'.
    pub salt: String,
    /// What it does, for people.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// How long it was meant to live, in days.
    pub lifetime_days: Option<i64>,
    /// When it was made.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
    /// When it was archived.
    pub archived_at: Option<Millis>,
}

/// A flag in one environment.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct FlagRow {
    /// Its identity.
    pub flag: FlagRecord,
    /// Its state here.
    pub state: FlagState,
    /// The environment's revision that last changed it.
    pub revision: u64,
    /// When.
    pub updated_at: Millis,
    /// By whom.
    pub updated_by: String,
}

/// A flag to make; `state` is its first state in every environment.
#[derive(Clone, Debug)]
pub struct NewFlag {
    /// Its identity.
    pub record: FlagRecord,
    /// Its first state.
    pub state: FlagState,
}

/// What a change of a flag did.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedFlag {
    /// The environment's revision now.
    pub revision: u64,
    /// False when it was so already; then no revision was made.
    pub changed: bool,
    /// What it was.
    pub before: FlagState,
    /// What it is.
    pub after: FlagState,
    /// The revision that it had before.
    pub before_revision: u64,
}

/// One flag to put back, with the state to put.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredFlag {
    /// The flag.
    pub key: String,
    /// The state.
    pub state: FlagState,
}

impl FlagRecord {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let key = row.text("key")?;
        Ok(Self {
            key: key
                .try_into()
                .map_err(|error| StoreError::Corrupt { column: "key", source: Box::new(error) })?,
            project: row.text("project")?,
            kind: row.word("kind")?,
            value_type: row.word("value_type")?,
            salt: row.text("salt")?,
            description: row.text("description")?,
            owner: row.text("owner")?,
            tags: row.json("tags")?,
            lifetime_days: row.opt_int("lifetime_days")?,
            created_at: row.int("created_at")?,
            created_by: row.text("created_by")?,
            archived_at: row.opt_int("archived_at")?,
        })
    }
}

impl FlagRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            flag: FlagRecord::read(row)?,
            state: row.json("state")?,
            revision: row.unsigned("revision")?,
            updated_at: row.int("updated_at")?,
            updated_by: row.text("updated_by")?,
        })
    }
}

impl Store {
    /// Makes a flag, with its first state in every environment: one revision in each.
    pub async fn create_flag(&self, new: &NewFlag, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let NewFlag { record, state } = new;
        let key = record.key.as_str();
        let environments = tx.all(ENVIRONMENTS, vec![]).await?;
        let params = params![
            key,
            &record.project,
            word(&record.kind)?,
            word(&record.value_type)?,
            &record.salt,
            &record.description,
            &record.owner,
            json(&record.tags)?,
            record.lifetime_days,
            record.created_at,
            &record.created_by,
        ];
        tx.execute(INSERT, params).await.map_err(|error| {
            if error.is_duplicate() {
                StoreError::Exists { kind: "flag", key: key.to_owned() }
            } else {
                error
            }
        })?;
        for (n, row) in environments.iter().enumerate() {
            let environment = row.text("key")?;
            let revision = tx.next_revision(&environment).await?;
            let state = json(state)?;
            let params = params![&environment, key, &state, revision, by.at, &by.actor];
            tx.execute(INSERT_STATE, params).await?;
            let entry = Entry {
                environment: Some(&environment),
                revision: Some(revision),
                kind: "flag",
                subject: key,
                action: "create",
                before: None,
                after: Some(state),
            };
            tx.log(by, n, entry).await?;
            tx.announce(&format!("env:{environment}")).await?;
        }
        tx.commit().await
    }

    /// Changes what people read about a flag; no environment moves.
    pub async fn update_flag(&self, record: &FlagRecord, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let key = record.key.as_str();
        let row = tx.one(FIND, params![key]).await?.ok_or_else(|| not_found("flag", key))?;
        let before = FlagRecord::read(&row)?;
        let params = params![
            key,
            word(&record.kind)?,
            &record.description,
            &record.owner,
            json(&record.tags)?,
            record.lifetime_days,
        ];
        tx.execute(UPDATE, params).await?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "flag",
            subject: key,
            action: "describe",
            before: Some(json(&before)?),
            after: Some(json(record)?),
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// Archives a flag, or brings it back as it was: every environment moves on, and its key is never used for another.
    ///
    /// # Errors
    /// There is no such flag that is not archived, or is.
    pub async fn set_flag_archived(
        &self,
        key: &str,
        archived: bool,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        set_archived_in(&mut tx, key, archived, by).await?;
        tx.commit().await
    }

    /// Tags of the flags that have any, by key.
    pub async fn list_tags(&self) -> Result<Vec<(String, Vec<String>)>, StoreError> {
        let rows = self.db.all(TAGS, params![]).await?;
        rows.iter().map(|row| Ok((row.text("key")?, row.json("tags")?))).collect()
    }

    /// All flags of an environment, by key.
    pub async fn list_flags(
        &self,
        environment: &str,
        with_archived: bool,
    ) -> Result<Vec<FlagRow>, StoreError> {
        let rows = self.db.all(LIST, params![environment, with_archived]).await?;
        rows.iter().map(FlagRow::read).collect()
    }

    /// One flag in one environment.
    pub async fn get_flag(&self, environment: &str, key: &str) -> Result<FlagRow, StoreError> {
        let row = self.db.one(GET, params![environment, key]).await?;
        FlagRow::read(&row.ok_or_else(|| not_found("flag", key))?)
    }

    /// Changes one flag's state: `decide` sees what it is under the lock and says what it shall be.
    ///
    /// One transaction with its `change_log` row. When nothing differs, no revision is made.
    pub async fn change_flag<E: From<StoreError>>(
        &self,
        environment: &str,
        key: &str,
        action: &str,
        by: &Stamp,
        decide: impl FnOnce(&FlagState, u64) -> Result<FlagState, E>,
    ) -> Result<ChangedFlag, E> {
        let mut tx = self.db.begin().await?;
        let changed = change_in(&mut tx, (environment, key), action, by, decide).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Puts several flags of an environment at once: one revision, one row each.
    pub async fn restore_flags(
        &self,
        environment: &str,
        flags: &[RestoredFlag],
        expected: u64,
        by: &Stamp,
    ) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let revision = restore_in(&mut tx, environment, flags, expected, by).await?;
        tx.commit().await?;
        Ok(revision)
    }
}

/// Puts several flags at once inside a transaction; a run's step adds its outcome to the same one.
pub(crate) async fn restore_in(
    tx: &mut Tx,
    environment: &str,
    flags: &[RestoredFlag],
    expected: u64,
    by: &Stamp,
) -> Result<u64, StoreError> {
    let revision = tx.next_revision(environment).await?;
    if revision != expected.cast_signed() + 1 {
        return Err(StoreError::Stale { current: revision.cast_unsigned() - 1 });
    }
    for (n, RestoredFlag { key, state }) in flags.iter().enumerate() {
        let row = tx.one(STATE, params![environment, key]).await?;
        let before = row.ok_or_else(|| not_found("flag", key))?.text("state")?;
        let after = json(state)?;
        let params = params![environment, key, &after, revision, by.at, &by.actor];
        tx.execute(SET_STATE, params).await?;
        let entry = Entry {
            environment: Some(environment),
            revision: Some(revision),
            kind: "flag",
            subject: key,
            action: "restore",
            before: Some(before),
            after: Some(after),
        };
        tx.log(by, n, entry).await?;
    }
    tx.announce(&format!("env:{environment}")).await?;
    Ok(revision.cast_unsigned())
}

/// The change of one flag inside a transaction; a run's step adds its outcome to the same one.
pub(crate) async fn change_in<E: From<StoreError>>(
    tx: &mut Tx,
    (environment, key): (&str, &str),
    action: &str,
    by: &Stamp,
    decide: impl FnOnce(&FlagState, u64) -> Result<FlagState, E>,
) -> Result<ChangedFlag, E> {
    let revision = tx.next_revision(environment).await?;
    let row = tx.one(GET, params![environment, key]).await?;
    let row = FlagRow::read(&row.ok_or_else(|| not_found("flag", key))?)?;
    if row.flag.archived_at.is_some() {
        return Err(not_found("flag", key).into());
    }
    let (before, before_revision) = (row.state, row.revision);
    let after = decide(&before, before_revision)?;
    if after == before {
        tx.unwind_revision(environment).await?;
        let revision = revision.cast_unsigned() - 1;
        return Ok(ChangedFlag { revision, changed: false, before, after, before_revision });
    }
    let text = json(&after)?;
    let params = params![environment, key, &text, revision, by.at, &by.actor];
    tx.execute(SET_STATE, params).await?;
    let entry = Entry {
        environment: Some(environment),
        revision: Some(revision),
        kind: "flag",
        subject: key,
        action,
        before: Some(json(&before)?),
        after: Some(text),
    };
    tx.log(by, 0, entry).await?;
    tx.announce(&format!("env:{environment}")).await?;
    let revision = revision.cast_unsigned();
    Ok(ChangedFlag { revision, changed: true, before, after, before_revision })
}

/// Archives a flag in every environment, or brings it back.
pub(crate) async fn set_archived_in(
    tx: &mut Tx,
    key: &str,
    archived: bool,
    by: &Stamp,
) -> Result<(), StoreError> {
    let moved = if archived {
        tx.execute(ARCHIVE, params![key, by.at]).await?
    } else {
        tx.execute(UNARCHIVE, params![key]).await?
    };
    if moved == 0 {
        return Err(not_found("flag", key));
    }
    for (n, row) in tx.all(ENVIRONMENTS, vec![]).await?.iter().enumerate() {
        let environment = row.text("key")?;
        let revision = tx.next_revision(&environment).await?;
        let state = tx.one(STATE, params![&environment, key]).await?;
        let state = state.map(|row| row.text("state")).transpose()?;
        let (action, before, after) =
            if archived { ("archive", state, None) } else { ("unarchive", None, state) };
        let entry = Entry {
            environment: Some(&environment),
            revision: Some(revision),
            kind: "flag",
            subject: key,
            action,
            before,
            after,
        };
        tx.log(by, n, entry).await?;
        tx.announce(&format!("env:{environment}")).await?;
    }
    Ok(())
}
