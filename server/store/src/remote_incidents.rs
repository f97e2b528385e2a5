//! Incidents on status pages elsewhere: what was told there, and what stands there.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::db::{Row, params, sql};
use crate::error::StoreError;

sql! {
    FIND = "SELECT * FROM remote_incidents WHERE channel = $1 AND incident_id = $2";
    OF_INCIDENT = "SELECT * FROM remote_incidents WHERE incident_id = $1 ORDER BY channel";
    TOLD = "INSERT INTO remote_incidents (channel, incident_id, remote_id, told_status, told_at) \
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (channel, incident_id) DO UPDATE SET \
            remote_id = excluded.remote_id, told_status = excluded.told_status, told_at = excluded.told_at";
    SEEN = "UPDATE remote_incidents SET seen_status = COALESCE($3, seen_status), seen_at = $4, error = $5 \
            WHERE channel = $1 AND incident_id = $2";
    DUE = "SELECT * FROM remote_incidents WHERE told_at >= $1 AND (seen_at IS NULL OR seen_at < $2) \
           ORDER BY told_at DESC LIMIT 20";
}

/// An incident on a page elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct RemoteIncident {
    /// The channel that leads there.
    pub channel: String,
    /// The incident here.
    pub incident_id: String,
    /// Its id there.
    pub remote_id: String,
    /// The status that it was told last, in that page's words.
    pub told_status: String,
    /// When, in UTC milliseconds.
    pub told_at: Millis,
    /// The status that was read back.
    pub seen_status: Option<String>,
    /// When, in UTC milliseconds.
    pub seen_at: Option<Millis>,
    /// Why it could not be read back.
    pub error: Option<String>,
}

fn read(row: &Row) -> Result<RemoteIncident, StoreError> {
    Ok(RemoteIncident {
        channel: row.text("channel")?,
        incident_id: row.text("incident_id")?,
        remote_id: row.text("remote_id")?,
        told_status: row.text("told_status")?,
        told_at: row.int("told_at")?,
        seen_status: row.opt_text("seen_status")?,
        seen_at: row.opt_int("seen_at")?,
        error: row.opt_text("error")?,
    })
}

impl Store {
    /// What an incident is on the page that a channel leads to.
    pub async fn find_remote_incident(
        &self,
        channel: &str,
        incident: &str,
    ) -> Result<Option<RemoteIncident>, StoreError> {
        self.db.one(FIND, params![channel, incident]).await?.as_ref().map(read).transpose()
    }

    /// The same for every page.
    pub async fn list_remote_incidents(
        &self,
        incident: &str,
    ) -> Result<Vec<RemoteIncident>, StoreError> {
        self.db.all(OF_INCIDENT, params![incident]).await?.iter().map(read).collect()
    }

    /// Notes what a page was told.
    pub async fn note_remote_told(
        &self,
        channel: &str,
        incident: &str,
        remote_id: &str,
        status: &str,
        at: Millis,
    ) -> Result<(), StoreError> {
        let params = params![channel, incident, remote_id, status, at];
        self.db.execute(TOLD, params).await.map(drop)
    }

    /// Notes what was read back, or why nothing was.
    pub async fn note_remote_seen(
        &self,
        channel: &str,
        incident: &str,
        status: Option<&str>,
        error: Option<&str>,
        at: Millis,
    ) -> Result<(), StoreError> {
        self.db.execute(SEEN, params![channel, incident, status, at, error]).await.map(drop)
    }

    /// Those that were told something since a moment and not looked at since another.
    pub async fn list_remote_due(
        &self,
        told_since: Millis,
        seen_before: Millis,
    ) -> Result<Vec<RemoteIncident>, StoreError> {
        self.db.all(DUE, params![told_since, seen_before]).await?.iter().map(read).collect()
    }
}
