//! The nodes of a cluster, and what each sees of its own clients.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::db::{params, sql};
use crate::error::StoreError;

sql! {
    PUT = "INSERT INTO nodes (id, started_at, seen_at, convergence) VALUES ($1, $2, $3, $4) \
           ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, convergence = excluded.convergence";
    LIST = "SELECT * FROM nodes WHERE seen_at >= $1 ORDER BY id";
    DELETE = "DELETE FROM nodes WHERE id = $1 OR seen_at < $2";
}

/// One node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct NodeRow {
    /// Its id.
    pub id: String,
    /// When it started.
    pub started_at: Millis,
    /// When it last wrote here.
    pub seen_at: Millis,
    /// What it sees, as JSON.
    pub convergence: String,
}

impl Store {
    /// Says what this node sees.
    pub async fn put_node(&self, node: &NodeRow) -> Result<(), StoreError> {
        let NodeRow { id, started_at, seen_at, convergence } = node;
        self.db.execute(PUT, params![id, *started_at, *seen_at, convergence]).await.map(drop)
    }

    /// Nodes seen since a moment.
    pub async fn list_nodes(&self, since: Millis) -> Result<Vec<NodeRow>, StoreError> {
        let rows = self.db.all(LIST, params![since]).await?;
        rows.iter()
            .map(|row| {
                Ok(NodeRow {
                    id: row.text("id")?,
                    started_at: row.int("started_at")?,
                    seen_at: row.int("seen_at")?,
                    convergence: row.text("convergence")?,
                })
            })
            .collect()
    }

    /// Removes a node that ends, and those not seen since a moment.
    pub async fn delete_nodes(&self, id: &str, not_since: Millis) -> Result<(), StoreError> {
        self.db.execute(DELETE, params![id, not_since]).await.map(drop)
    }
}
