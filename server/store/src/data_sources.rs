//! The app's databases that playbooks and checks may touch. Never their credentials: only where those are.

use serde_json::Value;
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, json, params, sql};
use crate::error::{StoreError, not_found};

sql! {
    LIST = "SELECT * FROM data_sources ORDER BY name";
    FIND = "SELECT * FROM data_sources WHERE name = $1";
    PUT = "INSERT INTO data_sources (name, body, updated_at, updated_by) VALUES ($1, $2, $3, $4) \
           ON CONFLICT (name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at, \
           updated_by = excluded.updated_by";
    DELETE = "DELETE FROM data_sources WHERE name = $1";
}

/// A data source.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSourceRow {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub body: Value,
    /// When it was changed last.
    pub updated_at: Millis,
    /// By whom.
    pub updated_by: String,
}

impl DataSourceRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.text("name")?,
            body: row.json("body")?,
            updated_at: row.int("updated_at")?,
            updated_by: row.text("updated_by")?,
        })
    }
}

impl Store {
    /// Data sources, by name.
    pub async fn list_data_sources(&self) -> Result<Vec<DataSourceRow>, StoreError> {
        self.db.all(LIST, vec![]).await?.iter().map(DataSourceRow::read).collect()
    }

    /// One data source.
    pub async fn get_data_source(&self, name: &str) -> Result<DataSourceRow, StoreError> {
        let row = self.db.one(FIND, params![name]).await?;
        DataSourceRow::read(&row.ok_or_else(|| not_found("data source", name))?)
    }

    /// Makes or replaces a data source.
    pub async fn put_data_source(
        &self,
        name: &str,
        body: &Value,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let before = tx.one(FIND, params![name]).await?.map(|row| row.text("body")).transpose()?;
        let after = json(body)?;
        tx.execute(PUT, params![name, &after, by.at, by.actor.as_str()]).await?;
        let action = if before.is_none() { "create" } else { "update" };
        tx.log(by, 0, entry(name, action, before, Some(after))).await?;
        tx.commit().await
    }

    /// Forgets a data source; the database itself is not touched.
    pub async fn delete_data_source(&self, name: &str, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND, params![name]).await?;
        let before = row.ok_or_else(|| not_found("data source", name))?.text("body")?;
        tx.execute(DELETE, params![name]).await?;
        tx.log(by, 0, entry(name, "delete", Some(before), None)).await?;
        tx.commit().await
    }
}

fn entry<'a>(
    name: &'a str,
    action: &'a str,
    before: Option<String>,
    after: Option<String>,
) -> Entry<'a> {
    let (environment, revision) = (None, None);
    Entry { environment, revision, kind: "data source", subject: name, action, before, after }
}
