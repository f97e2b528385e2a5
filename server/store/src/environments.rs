//! Projects and environments.

use serde::{Deserialize, Serialize};
use switchback_core::model::{Document, Flag, FlagEntry, Millis, Segment};

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, Tx, json, params, sql};
use crate::error::{StoreError, not_found};
use crate::meta;

sql! {
    INSERT_PROJECT = "INSERT INTO projects (key, name, description, created_at) \
                      VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING";
    LIST_PROJECTS = "SELECT * FROM projects ORDER BY key";
    INSERT = "INSERT INTO environments (key, name, kind, protected, position, revision, created_at) \
              VALUES ($1, $2, $3, $4, $5, 0, $6) ON CONFLICT (key) DO NOTHING";
    LIST = "SELECT * FROM environments ORDER BY position, key";
    FIND = "SELECT * FROM environments WHERE key = $1";
    PROTECT = "UPDATE environments SET protected = $2 WHERE key = $1";
    SEED_STATES = "INSERT INTO flag_states (environment, flag, state, revision, updated_at, updated_by) \
                   SELECT $1, key, '{\"enabled\":false}', 0, $2, $3 FROM flags \
                   WHERE archived_at IS NULL AND value_type = 'boolean'";
    DOCUMENT_FLAGS = "SELECT f.key, f.project, f.kind, f.value_type, f.salt, s.state \
                      FROM flag_states s JOIN flags f ON f.key = s.flag \
                      WHERE s.environment = $1 AND f.archived_at IS NULL";
    DOCUMENT_FLAG = "SELECT f.key, f.project, f.kind, f.value_type, f.salt, s.state \
                     FROM flag_states s JOIN flags f ON f.key = s.flag \
                     WHERE s.environment = $1 AND f.key = $2 AND f.archived_at IS NULL";
    DOCUMENT_SEGMENTS = "SELECT body FROM segments WHERE environment = $1";
    DOCUMENT_SEGMENT = "SELECT body FROM segments WHERE environment = $1 AND key = $2";
    EPOCH = "SELECT value FROM meta WHERE key = 'epoch'";
    SUBJECTS_AFTER = "SELECT DISTINCT subject_kind, subject FROM change_log \
                      WHERE environment = $1 AND revision > $2";
}

/// A set of flags.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Project {
    /// Its permanent name.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created_at: Millis,
}

/// A place where flags have state of their own.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Environment {
    /// Its permanent name.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// `development`, `staging`, `production` or the operator's word: sets the stripe's colour.
    pub kind: String,
    /// Whether every change must say why.
    pub protected: bool,
    /// Its counter.
    pub revision: u64,
    /// When it was made.
    pub created_at: Millis,
}

/// An environment to make.
#[derive(Clone, Debug)]
pub struct NewEnvironment {
    /// Its permanent name.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether every change must say why.
    pub protected: bool,
    /// Where it stands in lists.
    pub position: i64,
}

impl Environment {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            key: row.text("key")?,
            name: row.text("name")?,
            kind: row.text("kind")?,
            protected: row.bool("protected")?,
            revision: row.unsigned("revision")?,
            created_at: row.int("created_at")?,
        })
    }
}

impl Store {
    /// Gives an empty database its id, once. Revisions compare only under one id.
    pub async fn put_epoch(&self, epoch: &str) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        meta::put_in(&mut tx, "epoch", epoch).await?;
        tx.commit().await
    }

    /// Makes a project; an existing one is left as it is.
    pub async fn create_project(&self, project: &Project, by: &Stamp) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let Project { key, name, description, created_at } = project;
        let made = tx.execute(INSERT_PROJECT, params![key, name, description, *created_at]).await?;
        if made == 1 {
            let entry = Entry {
                environment: None,
                revision: None,
                kind: "project",
                subject: key,
                action: "create",
                before: None,
                after: Some(json(project)?),
            };
            tx.log(by, 0, entry).await?;
        }
        tx.commit().await?;
        Ok(made == 1)
    }

    /// All projects, by key.
    pub async fn list_projects(&self) -> Result<Vec<Project>, StoreError> {
        let rows = self.db.all(LIST_PROJECTS, vec![]).await?;
        rows.iter()
            .map(|row| {
                Ok(Project {
                    key: row.text("key")?,
                    name: row.text("name")?,
                    description: row.text("description")?,
                    created_at: row.int("created_at")?,
                })
            })
            .collect()
    }

    /// Makes an environment, with every boolean flag off in it. False when it exists already.
    pub async fn create_environment(
        &self,
        new: &NewEnvironment,
        by: &Stamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let NewEnvironment { key, name, kind, protected, position } = new;
        let params = params![key, name, kind, *protected, *position, by.at];
        let made = tx.execute(INSERT, params).await?;
        if made == 1 {
            tx.execute(SEED_STATES, params![key, by.at, &by.actor]).await?;
            let entry = Entry {
                environment: Some(key),
                revision: None,
                kind: "environment",
                subject: key,
                action: "create",
                before: None,
                after: None,
            };
            tx.log(by, 0, entry).await?;
            tx.announce(&format!("env:{key}")).await?;
        }
        tx.commit().await?;
        Ok(made == 1)
    }

    /// All environments, in their order.
    pub async fn list_environments(&self) -> Result<Vec<Environment>, StoreError> {
        self.db.all(LIST, vec![]).await?.iter().map(Environment::read).collect()
    }

    /// One environment.
    pub async fn get_environment(&self, key: &str) -> Result<Environment, StoreError> {
        let row = self.db.one(FIND, params![key]).await?;
        Environment::read(&row.ok_or_else(|| not_found("environment", key))?)
    }

    /// Says whether changes in an environment must be given a reason.
    pub async fn protect_environment(
        &self,
        key: &str,
        protected: bool,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        if tx.execute(PROTECT, params![key, protected]).await? == 0 {
            return Err(not_found("environment", key));
        }
        let entry = Entry {
            environment: Some(key),
            revision: None,
            kind: "environment",
            subject: key,
            action: if protected { "protect" } else { "unprotect" },
            before: None,
            after: None,
        };
        tx.log(by, 0, entry).await?;
        tx.announce(&format!("env:{key}")).await?;
        tx.commit().await
    }

    /// Everything that an environment says at one moment.
    pub async fn load_document(&self, environment: &str) -> Result<Document, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let epoch = tx.one(EPOCH, vec![]).await?;
        let row = tx.one(FIND, params![environment]).await?;
        let row = row.ok_or_else(|| not_found("environment", environment))?;
        let mut document = Document {
            epoch: epoch.map(|row| row.text("value")).transpose()?.unwrap_or_default(),
            environment: environment.to_owned(),
            revision: row.unsigned("revision")?,
            ..Document::default()
        };
        for row in tx.all(DOCUMENT_FLAGS, params![environment]).await? {
            let flag = read_flag(&row)?;
            let key = flag.key.as_str().to_owned();
            document.flags.insert(key, FlagEntry::Known(Box::new(flag)));
        }
        for row in load_segments(&mut tx, environment).await? {
            document.segments.insert(row.key.as_str().to_owned(), row);
        }
        Ok(document)
    }
}

/// What moved an environment from one revision to another.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// The database's id.
    pub epoch: String,
    /// The revision that this leads to.
    pub revision: u64,
    /// Flags that changed: as they are now, or `None` when gone.
    pub flags: Vec<(String, Option<Flag>)>,
    /// Segments that changed: as they are now, or `None` when gone.
    pub segments: Vec<(String, Option<Segment>)>,
}

impl Store {
    /// What changed in an environment after a revision, as it stands at one moment.
    pub async fn load_changes(&self, environment: &str, after: u64) -> Result<Moved, StoreError> {
        let mut tx = self.db.snapshot().await?;
        let epoch = tx.one(EPOCH, vec![]).await?;
        let row = tx.one(FIND, params![environment]).await?;
        let row = row.ok_or_else(|| not_found("environment", environment))?;
        let mut moved = Moved {
            epoch: epoch.map(|row| row.text("value")).transpose()?.unwrap_or_default(),
            revision: row.unsigned("revision")?,
            ..Moved::default()
        };
        if moved.revision <= after {
            return Ok(moved);
        }
        for subject in tx.all(SUBJECTS_AFTER, params![environment, after]).await? {
            let key = subject.text("subject")?;
            if subject.text("subject_kind")? == "segment" {
                let row = tx.one(DOCUMENT_SEGMENT, params![environment, &key]).await?;
                moved.segments.push((key, row.map(|row| row.json("body")).transpose()?));
            } else {
                let row = tx.one(DOCUMENT_FLAG, params![environment, &key]).await?;
                moved.flags.push((key, row.as_ref().map(read_flag).transpose()?));
            }
        }
        Ok(moved)
    }
}

/// A flag as it travels, from a join of `flags` and `flag_states`.
pub(crate) fn read_flag(row: &Row) -> Result<Flag, StoreError> {
    let key = row.text("key")?;
    Ok(Flag {
        key: key
            .try_into()
            .map_err(|error| StoreError::Corrupt { column: "key", source: Box::new(error) })?,
        project: row.text("project")?,
        kind: row.word("kind")?,
        value_type: row.word("value_type")?,
        salt: row.text("salt")?,
        state: row.json("state")?,
    })
}

async fn load_segments(tx: &mut Tx, environment: &str) -> Result<Vec<Segment>, StoreError> {
    let rows = tx.all(DOCUMENT_SEGMENTS, params![environment]).await?;
    rows.iter().map(|row| row.json("body")).collect()
}
