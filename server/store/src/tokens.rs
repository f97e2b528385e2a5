//! Tokens of programs: found by the hash of their text, which is never stored.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, json, params, sql, word};
use crate::error::{StoreError, not_found};
use crate::users::Role;

sql! {
    INSERT = "INSERT INTO tokens (id, name, kind, project, environment, role, hash, hint, created_at, created_by) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    FIND = "SELECT * FROM tokens WHERE hash = $1";
    GET = "SELECT * FROM tokens WHERE id = $1";
    LIST = "SELECT * FROM tokens ORDER BY created_at DESC, id DESC";
    REVOKE = "UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    TOUCH = "UPDATE tokens SET last_used_at = $2 WHERE id = $1 \
             AND (last_used_at IS NULL OR last_used_at < $2)";
}

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// The management API, with a role.
    Api,
    /// Rules of one environment, for servers.
    Server,
    /// Evaluated values of one environment, for browsers and phones.
    Browser,
    /// Reports auth events and sessions of one environment, and nothing else.
    Events,
}

/// A token without its text.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct TokenRow {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it opens.
    pub kind: TokenKind,
    /// A project's key, or `*`.
    pub project: String,
    /// An environment's key, or `*`.
    pub environment: String,
    /// What an API token may do; viewer for the others.
    pub role: Role,
    /// How its text begins, to tell it from others.
    pub hint: String,
    /// When it was made.
    pub created_at: Millis,
    /// By whom.
    pub created_by: String,
    /// When it was last seen, to the minute.
    pub last_used_at: Option<Millis>,
    /// When it was revoked.
    pub revoked_at: Option<Millis>,
}

impl TokenRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            name: row.text("name")?,
            kind: row.word("kind")?,
            project: row.text("project")?,
            environment: row.text("environment")?,
            role: row.word("role")?,
            hint: row.text("hint")?,
            created_at: row.int("created_at")?,
            created_by: row.text("created_by")?,
            last_used_at: row.opt_int("last_used_at")?,
            revoked_at: row.opt_int("revoked_at")?,
        })
    }
}

impl Store {
    /// Keeps a new token by the SHA-256 of its text.
    pub async fn create_token(
        &self,
        token: &TokenRow,
        hash: &str,
        by: &Stamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let params = params![
            &token.id,
            &token.name,
            word(&token.kind)?,
            &token.project,
            &token.environment,
            word(&token.role)?,
            hash,
            &token.hint,
            token.created_at,
            &token.created_by,
        ];
        tx.execute(INSERT, params).await.map_err(|error| {
            if error.is_duplicate() {
                StoreError::Exists { kind: "token", key: token.hint.clone() }
            } else {
                error
            }
        })?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "token",
            subject: &token.id,
            action: "create",
            before: None,
            after: Some(json(token)?),
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// The token whose text has this hash, revoked or not.
    pub async fn find_token(&self, hash: &str) -> Result<Option<TokenRow>, StoreError> {
        let row = self.db.one(FIND, params![hash]).await?;
        row.as_ref().map(TokenRow::read).transpose()
    }

    /// All tokens, newest first.
    pub async fn list_tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.db.all(LIST, vec![]).await?.iter().map(TokenRow::read).collect()
    }

    /// All tokens by the hash of their text, for a cache.
    pub async fn list_token_hashes(&self) -> Result<Vec<(String, TokenRow)>, StoreError> {
        let rows = self.db.all(LIST, vec![]).await?;
        rows.iter().map(|row| Ok((row.text("hash")?, TokenRow::read(row)?))).collect()
    }

    /// Revokes a token; its sockets are closed when the other nodes hear of it.
    pub async fn revoke_token(&self, id: &str, by: &Stamp) -> Result<TokenRow, StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(GET, params![id]).await?.ok_or_else(|| not_found("token", id))?;
        let mut token = TokenRow::read(&row)?;
        if tx.execute(REVOKE, params![id, by.at]).await? == 1 {
            token.revoked_at = Some(by.at);
            let entry = Entry {
                environment: None,
                revision: None,
                kind: "token",
                subject: id,
                action: "revoke",
                before: None,
                after: Some(json(&token)?),
            };
            tx.log(by, 0, entry).await?;
            tx.announce(&format!("token:{id}")).await?;
        }
        tx.commit().await?;
        Ok(token)
    }

    /// Notes that a token was used.
    pub async fn touch_token(&self, id: &str, at: Millis) -> Result<(), StoreError> {
        self.db.execute(TOUCH, params![id, at]).await.map(drop)
    }
}
