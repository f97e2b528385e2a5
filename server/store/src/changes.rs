//! `change_log`: who changed what from what to what, why, when. Audit and outbox in one.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_core::model::Millis;

use crate::Store;
use crate::db::{Row, Tx, params, sql};
use crate::error::{StoreError, not_found};
use crate::outbox;

sql! {
    INSERT = "INSERT INTO change_log (id, environment, revision, subject_kind, subject, action, \
              before_state, after_state, actor, reason, emergency, run_id, at) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    NEXT_REVISION = "UPDATE environments SET revision = revision + 1 WHERE key = $1 \
                     RETURNING revision";
    UNWIND_REVISION = "UPDATE environments SET revision = revision - 1 WHERE key = $1";
    FIND = "SELECT * FROM change_log WHERE id = $1";
    LIST = "SELECT * FROM change_log \
            WHERE (CAST($1 AS TEXT) IS NULL OR environment = $1) \
              AND (CAST($2 AS TEXT) IS NULL OR subject_kind = $2) \
              AND (CAST($3 AS TEXT) IS NULL OR subject = $3) \
              AND (CAST($4 AS TEXT) IS NULL OR actor = $4) \
              AND (CAST($5 AS TEXT) IS NULL OR id < $5) \
              AND (CAST($6 AS BIGINT) IS NULL OR at >= $6) \
              AND (CAST($7 AS TEXT) IS NULL OR run_id = $7) \
              AND (CAST($8 AS TEXT) IS NULL OR lower(subject) LIKE $8 OR lower(reason) LIKE $8) \
            ORDER BY id DESC LIMIT $9";
    SUBJECTS_AFTER = "SELECT revision, subject_kind, subject FROM change_log \
                      WHERE environment = $1 AND revision > $2 ORDER BY revision";
    AT_REVISION = "SELECT * FROM change_log WHERE environment = $1 AND revision = $2 ORDER BY id";
    FLAG_AT = "SELECT * FROM change_log \
               WHERE environment = $1 AND subject_kind = $2 AND subject = $3 AND revision <= $4 \
               ORDER BY revision DESC, id DESC LIMIT 1";
    AS_OF = "SELECT c.* FROM change_log c JOIN ( \
               SELECT subject_kind, subject, MAX(revision) AS newest FROM change_log \
               WHERE environment = $1 AND at <= $2 GROUP BY subject_kind, subject) latest \
             ON c.environment = $1 AND c.subject_kind = latest.subject_kind \
                AND c.subject = latest.subject AND c.revision = latest.newest";
    COUNT_SINCE = "SELECT COUNT(*) AS n FROM change_log WHERE environment = $1 AND at >= $2";
}

/// Who writes, why and when; every write carries one.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// A person's e-mail, a token's name, or `run:<id>`.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Millis,
    /// Passed a protection in an emergency; shown in red on the log.
    pub emergency: bool,
    /// The run that did it.
    pub run_id: Option<String>,
    /// The new row's id; time-ordered.
    pub id: String,
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Change {
    /// Its id.
    pub id: String,
    /// The environment, if the change belongs to one.
    pub environment: Option<String>,
    /// The environment's revision that it made.
    pub revision: Option<u64>,
    /// `flag`, `segment`, `environment`, `token`, `user`, `project`, `incident`, `component`.
    pub subject_kind: String,
    /// The subject's key.
    pub subject: String,
    /// A verb, such as `update`.
    pub action: String,
    /// What it was.
    pub before: Option<Value>,
    /// What it is now.
    pub after: Option<Value>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Whether a protection was passed.
    pub emergency: bool,
    /// The run that did it.
    pub run_id: Option<String>,
    /// When.
    pub at: Millis,
}

impl Change {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            environment: row.opt_text("environment")?,
            revision: row.opt_int("revision")?.map(i64::cast_unsigned),
            subject_kind: row.text("subject_kind")?,
            subject: row.text("subject")?,
            action: row.text("action")?,
            before: row.opt_json("before_state")?,
            after: row.opt_json("after_state")?,
            actor: row.text("actor")?,
            reason: row.text("reason")?,
            emergency: row.bool("emergency")?,
            run_id: row.opt_text("run_id")?,
            at: row.int("at")?,
        })
    }
}

/// What to list; `None` does not narrow.
#[derive(Clone, Debug, Default)]
pub struct ChangeFilter {
    /// One environment.
    pub environment: Option<String>,
    /// One kind of subject.
    pub subject_kind: Option<String>,
    /// One subject.
    pub subject: Option<String>,
    /// One actor.
    pub actor: Option<String>,
    /// Older than this row: the cursor of the page before.
    pub before_id: Option<String>,
    /// Not older than this.
    pub since: Option<Millis>,
    /// One run.
    pub run_id: Option<String>,
    /// In the subject or the reason, any case.
    pub text: Option<String>,
    /// Rows, at most.
    pub limit: i64,
}

/// What a change is about, inside a transaction.
pub(crate) struct Entry<'a> {
    pub environment: Option<&'a str>,
    pub revision: Option<i64>,
    pub kind: &'a str,
    pub subject: &'a str,
    pub action: &'a str,
    pub before: Option<String>,
    pub after: Option<String>,
}

impl Tx {
    /// Takes the environment's next revision. Locks its row, so that revisions have no gaps and
    /// commit in order.
    pub(crate) async fn next_revision(&mut self, environment: &str) -> Result<i64, StoreError> {
        let row = self.one(NEXT_REVISION, params![environment]).await?;
        row.ok_or_else(|| not_found("environment", environment))?.int("revision")
    }

    /// Gives a revision back that turned out not to be needed; its row is still locked.
    pub(crate) async fn unwind_revision(&mut self, environment: &str) -> Result<(), StoreError> {
        self.execute(UNWIND_REVISION, params![environment]).await.map(drop)
    }

    /// Writes the record of a change. `n` tells rows of one transaction apart.
    pub(crate) async fn log(
        &mut self,
        by: &Stamp,
        n: usize,
        entry: Entry<'_>,
    ) -> Result<(), StoreError> {
        let id = if n == 0 { by.id.clone() } else { format!("{}.{n:04}", by.id) };
        let params = params![
            &id,
            entry.environment,
            entry.revision,
            entry.kind,
            entry.subject,
            entry.action,
            entry.before,
            entry.after,
            by.actor.as_str(),
            by.reason.as_str(),
            by.emergency,
            by.run_id.as_deref(),
            by.at,
        ];
        self.execute(INSERT, params).await?;
        if entry.kind == "flag" {
            let (message, body) = (format!("msg_{id}"), json!({"change": id}));
            outbox::tell_in(self, "flags", &message, &body, by.run_id.as_deref(), by.at).await?;
        }
        Ok(())
    }
}

impl Store {
    /// Rows of the log, newest first.
    pub async fn list_changes(&self, filter: &ChangeFilter) -> Result<Vec<Change>, StoreError> {
        let text = filter.text.as_ref().map(|text| format!("%{}%", text.to_lowercase()));
        let params = params![
            &filter.environment,
            &filter.subject_kind,
            &filter.subject,
            &filter.actor,
            &filter.before_id,
            filter.since,
            &filter.run_id,
            text,
            filter.limit,
        ];
        self.db.all(LIST, params).await?.iter().map(Change::read).collect()
    }

    /// One row of the log.
    pub async fn find_change_by_id(&self, id: &str) -> Result<Option<Change>, StoreError> {
        self.db.one(FIND, params![id]).await?.as_ref().map(Change::read).transpose()
    }

    /// Which subjects changed after a revision: (revision, kind, subject), oldest first.
    pub async fn changed_subjects(
        &self,
        environment: &str,
        after: u64,
    ) -> Result<Vec<(u64, String, String)>, StoreError> {
        let rows = self.db.all(SUBJECTS_AFTER, params![environment, after]).await?;
        rows.iter()
            .map(|row| {
                Ok((row.unsigned("revision")?, row.text("subject_kind")?, row.text("subject")?))
            })
            .collect()
    }

    /// All rows of one revision.
    pub async fn changes_at(
        &self,
        environment: &str,
        revision: u64,
    ) -> Result<Vec<Change>, StoreError> {
        let rows = self.db.all(AT_REVISION, params![environment, revision]).await?;
        rows.iter().map(Change::read).collect()
    }

    /// The newest row about a subject at or before a revision.
    pub async fn find_change(
        &self,
        environment: &str,
        kind: &str,
        subject: &str,
        revision: u64,
    ) -> Result<Option<Change>, StoreError> {
        let row = self.db.one(FLAG_AT, params![environment, kind, subject, revision]).await?;
        row.as_ref().map(Change::read).transpose()
    }

    /// The newest row about each subject of an environment at a moment.
    pub async fn changes_as_of(
        &self,
        environment: &str,
        at: Millis,
    ) -> Result<Vec<Change>, StoreError> {
        let rows = self.db.all(AS_OF, params![environment, at]).await?;
        rows.iter().map(Change::read).collect()
    }

    /// How many changes an environment saw since a moment.
    pub async fn count_changes(&self, environment: &str, since: Millis) -> Result<u64, StoreError> {
        let row = self.db.one(COUNT_SINCE, params![environment, since]).await?;
        row.map_or(Ok(0), |row| row.unsigned("n"))
    }

    /// Records that something was deployed in an environment.
    pub async fn log_deploy(
        &self,
        environment: &str,
        name: &str,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let entry = Entry {
            environment: Some(environment),
            revision: None,
            kind: "deploy",
            subject: name,
            action: "deploy",
            before: None,
            after: None,
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// Records a change that belongs to no environment's revision.
    pub async fn log_change(
        &self,
        by: &Stamp,
        kind: &str,
        subject: &str,
        action: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind,
            subject,
            action,
            before: None,
            after: None,
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }
}
