//! People who sign in, their roles, and their console sessions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::changes::{Entry, Stamp};
use crate::db::{Row, json, params, sql};
use crate::error::{StoreError, not_found};

sql! {
    INSERT = "INSERT INTO users (id, email, name, password_hash, roles, created_at) \
              VALUES ($1, $2, $3, $4, $5, $6)";
    FIND_BY_EMAIL = "SELECT * FROM users WHERE email = $1";
    FIND = "SELECT * FROM users WHERE id = $1";
    LIST = "SELECT * FROM users ORDER BY email";
    COUNT = "SELECT COUNT(*) AS n FROM users";
    SET_ROLES = "UPDATE users SET roles = $2 WHERE id = $1";
    SET_PASSWORD = "UPDATE users SET password_hash = $2 WHERE id = $1";
    SET_DISABLED = "UPDATE users SET disabled_at = $2 WHERE id = $1";
    INSERT_SESSION = "INSERT INTO console_sessions (hash, user_id, created_at, last_seen_at, expires_at, user_agent) \
                      VALUES ($1, $2, $3, $3, $4, $5)";
    FIND_SESSION = "SELECT s.user_id, s.created_at, s.last_seen_at, s.expires_at, s.user_agent \
                    FROM console_sessions s JOIN users u ON u.id = s.user_id \
                    WHERE s.hash = $1 AND u.disabled_at IS NULL";
    TOUCH_SESSION = "UPDATE console_sessions SET last_seen_at = $2, expires_at = $3 WHERE hash = $1";
    DELETE_SESSION = "DELETE FROM console_sessions WHERE hash = $1";
    DELETE_SESSIONS_OF = "DELETE FROM console_sessions WHERE user_id = $1";
    DELETE_EXPIRED = "DELETE FROM console_sessions WHERE expires_at < $1";
}

/// What someone may do; each includes the ones before it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Deserialize,
    Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    #[default]
    Viewer,
    /// Changes flags and segments.
    Editor,
    /// Kills flags, runs playbooks, handles incidents.
    Operator,
    /// People, tokens, environments.
    Admin,
}

/// A person.
#[derive(Clone, Debug, PartialEq)]
pub struct UserRow {
    /// Their id.
    pub id: String,
    /// How they sign in; lower case.
    pub email: String,
    /// What people call them.
    pub name: String,
    /// argon2id, in PHC form.
    pub password_hash: String,
    /// A role per environment; `*` is every environment that is not named.
    pub roles: BTreeMap<String, Role>,
    /// Since when.
    pub created_at: Millis,
    /// Since when they may not sign in.
    pub disabled_at: Option<Millis>,
}

/// A person's sign-in.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRow {
    /// Who.
    pub user_id: String,
    /// Since when.
    pub created_at: Millis,
    /// Last request, to the minute.
    pub last_seen_at: Millis,
    /// When it ends without further requests.
    pub expires_at: Millis,
    /// The browser.
    pub user_agent: String,
}

/// A user as the log shows it: never with the password's hash.
#[derive(Serialize)]
struct Shown<'a> {
    email: &'a str,
    name: &'a str,
    roles: &'a BTreeMap<String, Role>,
    disabled_at: Option<Millis>,
}

impl UserRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.text("id")?,
            email: row.text("email")?,
            name: row.text("name")?,
            password_hash: row.text("password_hash")?,
            roles: row.json("roles")?,
            created_at: row.int("created_at")?,
            disabled_at: row.opt_int("disabled_at")?,
        })
    }

    fn shown(&self) -> Result<String, StoreError> {
        let Self { email, name, roles, disabled_at, .. } = self;
        json(&Shown { email, name, roles, disabled_at: *disabled_at })
    }
}

impl Store {
    /// Adds a person.
    pub async fn create_user(&self, user: &UserRow, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let roles = json(&user.roles)?;
        let UserRow { id, email, name, password_hash, created_at, .. } = user;
        let params = params![id, email, name, password_hash, roles, *created_at];
        tx.execute(INSERT, params).await.map_err(|error| {
            if error.is_duplicate() {
                StoreError::Exists { kind: "user", key: email.clone() }
            } else {
                error
            }
        })?;
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "user",
            subject: email,
            action: "create",
            before: None,
            after: Some(user.shown()?),
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// Replaces a person's roles, password hash and disabled mark; ends their sessions when the
    /// password or the mark changes.
    pub async fn update_user(&self, user: &UserRow, by: &Stamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let row = tx.one(FIND, params![&user.id]).await?;
        let before = UserRow::read(&row.ok_or_else(|| not_found("user", &user.id))?)?;
        tx.execute(SET_ROLES, params![&user.id, json(&user.roles)?]).await?;
        tx.execute(SET_PASSWORD, params![&user.id, &user.password_hash]).await?;
        tx.execute(SET_DISABLED, params![&user.id, user.disabled_at]).await?;
        if before.password_hash != user.password_hash || before.disabled_at != user.disabled_at {
            tx.execute(DELETE_SESSIONS_OF, params![&user.id]).await?;
        }
        let entry = Entry {
            environment: None,
            revision: None,
            kind: "user",
            subject: &user.email,
            action: "update",
            before: Some(before.shown()?),
            after: Some(user.shown()?),
        };
        tx.log(by, 0, entry).await?;
        tx.commit().await
    }

    /// A person by e-mail, in lower case.
    pub async fn find_user_by_email(&self, email: &str) -> Result<Option<UserRow>, StoreError> {
        let row = self.db.one(FIND_BY_EMAIL, params![email]).await?;
        row.as_ref().map(UserRow::read).transpose()
    }

    /// A person by id.
    pub async fn get_user(&self, id: &str) -> Result<UserRow, StoreError> {
        let row = self.db.one(FIND, params![id]).await?;
        UserRow::read(&row.ok_or_else(|| not_found("user", id))?)
    }

    /// Everybody, by e-mail.
    pub async fn list_users(&self) -> Result<Vec<UserRow>, StoreError> {
        self.db.all(LIST, vec![]).await?.iter().map(UserRow::read).collect()
    }

    /// How many there are.
    pub async fn count_users(&self) -> Result<u64, StoreError> {
        self.db.one(COUNT, vec![]).await?.map_or(Ok(0), |row| row.unsigned("n"))
    }

    /// Opens a session under the SHA-256 of its cookie.
    pub async fn create_session(&self, hash: &str, session: &SessionRow) -> Result<(), StoreError> {
        let SessionRow { user_id, created_at, expires_at, user_agent, .. } = session;
        let params = params![hash, user_id, *created_at, *expires_at, user_agent];
        self.db.execute(INSERT_SESSION, params).await.map(drop)
    }

    /// A session whose person may still sign in.
    pub async fn find_session(&self, hash: &str) -> Result<Option<SessionRow>, StoreError> {
        let row = self.db.one(FIND_SESSION, params![hash]).await?;
        row.map(|row| {
            Ok(SessionRow {
                user_id: row.text("user_id")?,
                created_at: row.int("created_at")?,
                last_seen_at: row.int("last_seen_at")?,
                expires_at: row.int("expires_at")?,
                user_agent: row.text("user_agent")?,
            })
        })
        .transpose()
    }

    /// Keeps a session alive.
    pub async fn touch_session(
        &self,
        hash: &str,
        at: Millis,
        expires_at: Millis,
    ) -> Result<(), StoreError> {
        self.db.execute(TOUCH_SESSION, params![hash, at, expires_at]).await.map(drop)
    }

    /// Ends a session.
    pub async fn delete_session(&self, hash: &str) -> Result<(), StoreError> {
        self.db.execute(DELETE_SESSION, params![hash]).await.map(drop)
    }

    /// Forgets sessions that ended by themselves.
    pub async fn delete_expired_sessions(&self, now: Millis) -> Result<u64, StoreError> {
        self.db.execute(DELETE_EXPIRED, params![now]).await
    }
}
