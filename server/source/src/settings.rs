//! What a data source is allowed, and where its credentials are.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::SourceError;

/// What may be done with a data source.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Looked at only; the connection itself refuses to write.
    #[default]
    ReadOnly,
    /// Changed as well.
    ReadWrite,
}

/// A data source as it is kept: no credentials in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its name in playbooks and checks: 1 to 60 of a-z, 0-9, - and _.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Where its address with user and password is: `env:NAME`, or `file:/path`.
    pub credentials: Credentials,
    /// What may be done with it.
    #[serde(default)]
    pub access: Access,
    /// Connections at most, 1 to 20.
    #[serde(default = "connections_max")]
    pub connections_max: u32,
    /// How long a statement may run, 10 to 3,600,000 ms.
    #[serde(default = "statement_timeout_ms")]
    pub statement_timeout_ms: u64,
    /// How long a statement may wait for a lock, 10 to 60,000 ms.
    #[serde(default = "lock_timeout_ms")]
    pub lock_timeout_ms: u64,
    /// Rows that a query may give, 1 to 1,000,000.
    #[serde(default = "rows_max")]
    pub rows_max: u64,
    /// Where the address of another PostgreSQL server is whose databases prove backups; otherwise its own server does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Credentials>,
    /// The environment whose flags are mirrored into it; it must allow writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
}

fn connections_max() -> u32 {
    4
}

fn statement_timeout_ms() -> u64 {
    30_000
}

fn lock_timeout_ms() -> u64 {
    1_000
}

fn rows_max() -> u64 {
    1_000
}

impl Settings {
    /// Every limit that is out of its range: field and message.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let limits = [
            ("connections_max", u64::from(self.connections_max), 1, 20),
            ("statement_timeout_ms", self.statement_timeout_ms, 10, 3_600_000),
            ("lock_timeout_ms", self.lock_timeout_ms, 10, 60_000),
            ("rows_max", self.rows_max, 1, 1_000_000),
        ];
        let reads = self.mirror.is_some() && self.access == Access::ReadOnly;
        let refused = reads.then(|| {
            ("mirror", "flags can only be mirrored into a source that may be written to".to_owned())
        });
        let outside = limits.into_iter().filter(|(_, is, low, high)| is < low || is > high);
        outside
            .map(|(field, is, low, high)| (field, format!("{is} is not between {low} and {high}")))
            .chain(refused)
            .collect()
    }
}

/// Where a secret is, such as a data source's address with user and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Credentials {
    /// In an environment variable of the server.
    Env(String),
    /// In a file that the server can read; its path is absolute.
    File(PathBuf),
}

impl TryFrom<String> for Credentials {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match text.split_once(':') {
            Some(("env", rest)) if !rest.is_empty() && rest.chars().all(name) => {
                Ok(Self::Env(rest.to_owned()))
            }
            Some(("file", rest)) if rest.starts_with('/') => Ok(Self::File(PathBuf::from(rest))),
            // What was given may be the address itself, so it is not repeated.
            _ => {
                Err("credentials are named, not given: `env:NAME` or `file:/absolute/path`"
                    .to_owned())
            }
        }
    }
}

impl From<Credentials> for String {
    fn from(credentials: Credentials) -> Self {
        credentials.to_string()
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(out, "env:{name}"),
            Self::File(path) => write!(out, "file:{}", path.display()),
        }
    }
}

impl Credentials {
    /// Reads the address, or another secret that is named in the same way.
    ///
    /// # Errors
    /// The variable is not set, or the file cannot be read: says which, never what is in it.
    pub async fn read(&self) -> Result<String, SourceError> {
        let found = match self {
            #[expect(clippy::disallowed_methods, reason = "credentials live in the environment")]
            Self::Env(name) => std::env::var(name).map_err(|_| format!("{name} is not set")),
            Self::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|error| format!("{} cannot be read: {error}", path.display())),
        };
        match found.map(|text| text.trim().to_owned()) {
            Ok(text) if text.is_empty() => {
                Err(SourceError::Credentials(format!("{self} is empty")))
            }
            Ok(text) => Ok(text),
            Err(message) => Err(SourceError::Credentials(message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_named_and_never_given() {
        let read = |text: &str| Credentials::try_from(text.to_owned());

        assert_eq!(read("env:SHOP_DB").unwrap().to_string(), "env:SHOP_DB");
        assert_eq!(read("file:/run/secrets/shop").unwrap().to_string(), "file:/run/secrets/shop");
        for wrong in ["postgres://u:secret@h/db", "env:", "env:A B", "file:relative", ""] {
            assert!(!read(wrong).unwrap_err().contains("secret"), "{wrong}");
        }
    }
}
