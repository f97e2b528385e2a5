//! Incident templates that were written here, every version of them.

use crate::Store;
use crate::changes::Stamp;
use crate::db::{params, sql};
use crate::error::StoreError;
use crate::versions::{TemplateVersion, Versions, read_version};

sql! {
    NEWEST = "SELECT t.* FROM incident_templates t JOIN (SELECT name, MAX(version) AS newest \
              FROM incident_templates GROUP BY name) n ON n.name = t.name AND n.newest = t.version ORDER BY t.name";
    VERSIONS = "SELECT * FROM incident_templates WHERE name = $1 ORDER BY version DESC";
    LAST = "SELECT MAX(version) AS version FROM incident_templates WHERE name = $1";
    INSERT = "INSERT INTO incident_templates (name, version, source, created_at, created_by) \
              VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name, version) DO NOTHING";
}

const OWN: Versions =
    Versions { last: LAST, insert: INSERT, kind: "incident template", removed: "remove" };

impl Store {
    /// The newest version of each template that was written here.
    pub async fn list_templates(&self) -> Result<Vec<TemplateVersion>, StoreError> {
        self.db.all(NEWEST, vec![]).await?.iter().map(read_version).collect()
    }

    /// Every version of a template, newest first.
    pub async fn list_template_versions(
        &self,
        name: &str,
    ) -> Result<Vec<TemplateVersion>, StoreError> {
        self.db.all(VERSIONS, params![name]).await?.iter().map(read_version).collect()
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
        let version = OWN.put_in(&mut tx, name, expected, source, by).await?;
        tx.announce("templates").await?;
        tx.commit().await?;
        Ok(version)
    }
}
