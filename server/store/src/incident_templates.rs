//! Incident templates that were written here, every version of them.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, json, params, sql};
use crate::error::StoreError;

sql! {
    NEWEST = "SELECT t.* FROM incident_templates t JOIN (SELECT name, MAX(version) AS newest \
              FROM incident_templates GROUP BY name) n ON n.name = t.name AND n.newest = t.version ORDER BY t.name";
    VERSIONS = "SELECT * FROM incident_templates WHERE name = $1 ORDER BY version DESC";
    LAST = "SELECT MAX(version) AS version FROM incident_templates WHERE name = $1";
    INSERT = "INSERT INTO incident_templates (name, version, source, created_at, created_by) \
              VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name, version) DO NOTHING";
}

/// A version of a template.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct TemplateVersion {
    /// The template's name.
    pub name: String,
    /// Counts from 1.
    pub version: u64,
    /// Its text; absent: it was removed, and the shipped one counts again.
    pub source: Option<String>,
    /// When, in UTC milliseconds.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
}

fn read(row: &Row) -> Result<TemplateVersion, StoreError> {
    Ok(TemplateVersion {
        name: row.text("name")?,
        version: row.unsigned("version")?,
        source: row.opt_text("source")?,
        created_at: row.int("created_at")?,
        created_by: row.text("created_by")?,
    })
}

impl Store {
    /// The newest version of each template that was written here.
    pub async fn list_templates(&self) -> Result<Vec<TemplateVersion>, StoreError> {
        self.db.all(NEWEST, vec![]).await?.iter().map(read).collect()
    }

    /// Every version of a template, newest first.
    pub async fn list_template_versions(
        &self,
        name: &str,
    ) -> Result<Vec<TemplateVersion>, StoreError> {
        self.db.all(VERSIONS, params![name]).await?.iter().map(read).collect()
    }

    /// Keeps a new version; without a text it removes the template. `expected`: the version that it was made from, 0 when
    /// there was none.
    ///
    /// # Errors
    /// Somebody else saved a version meanwhile.
    pub async fn put_template(
        &self,
        name: &str,
        expected: u64,
        source: Option<&str>,
        by: &Stamp,
    ) -> Result<u64, StoreError> {
        let mut tx = self.db.begin().await?;
        let last = tx.one(LAST, params![name]).await?;
        let last = last.map(|row| row.opt_int("version")).transpose()?.flatten().unwrap_or(0);
        let version = last.cast_unsigned() + 1;
        let params = params![name, version, source, by.at, &by.actor];
        if last.cast_unsigned() != expected || tx.execute(INSERT, params).await? == 0 {
            return Err(StoreError::Stale { current: last.cast_unsigned() });
        }
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "incident template",
            subject: name,
            action: if source.is_some() { "put" } else { "remove" },
            before: None,
            after: source.map(|text| json(&text)).transpose()?,
        };
        tx.log(by, 0, entry).await?;
        tx.announce("templates").await?;
        tx.commit().await?;
        Ok(version)
    }
}
