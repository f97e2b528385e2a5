//! What can go wrong with a data source.

/// Why a data source did not do what it was asked; each variant needs a different reaction.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The credentials cannot be read, or are none.
    #[error("its credentials: {0}")]
    Credentials(String),
    /// It does not answer.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It did not give a lock in time; trying again may help.
    #[error("a lock was not given within {0} ms")]
    Locked(u64),
    /// A statement ran out of time.
    #[error("the statement took longer than {0} ms")]
    TimedOut(u64),
    /// Somebody changed the same rows at the same moment; trying again helps.
    #[error("somebody changed the same rows at the same moment")]
    Raced,
    /// Somebody changed rows since; what was asked for would overwrite that.
    #[error("{0}")]
    Conflict(String),
    /// It may not be written to.
    #[error("{0}")]
    ReadOnly(String),
    /// A query gave too much.
    #[error("more than {0} rows; narrow the query, or raise the source's limit")]
    TooManyRows(u64),
    /// A fix changed more rows than its keys allow.
    #[error("the fix changed {changed} rows for {keys} keys, and {allowed} are allowed")]
    Overreach {
        /// Rows that it changed.
        changed: u64,
        /// Keys that it was given.
        keys: u64,
        /// Rows that it may change.
        allowed: u64,
    },
    /// A row breaks a rule of the database, or a trigger refuses it; other rows may do well.
    #[error("{0}")]
    Constraint(String),
    /// The statement is wrong, or what it asks for is refused.
    #[error("{0}")]
    Refused(String),
}

impl SourceError {
    /// Whether trying again may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Locked(_) | Self::TimedOut(_) | Self::Raced)
    }

    /// What a driver's error means, under these limits. Messages of the database are about statements and objects; those
    /// of the connection could hold an address and are put in words of ours.
    pub(crate) fn of(error: sqlx::Error, statement_ms: u64, lock_ms: u64) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default().into_owned();
                match code.as_str() {
                    "55P03" | "5" | "6" => Self::Locked(lock_ms), // lock_not_available; SQLITE_BUSY, SQLITE_LOCKED
                    "57014" | "9" => Self::TimedOut(statement_ms), // query_canceled; SQLITE_INTERRUPT
                    "40001" | "40P01" => Self::Raced, // serialization_failure, deadlock_detected
                    "25006" | "8" => Self::ReadOnly(error.message().to_owned()),
                    "28000" | "28P01" => {
                        Self::Credentials("the database refuses this user or password".to_owned())
                    }
                    "3D000" => {
                        Self::Credentials("the database that they name does not exist".to_owned())
                    }
                    // The server ends, starts, or has no room for a connection.
                    "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "53300" => Self::Unreachable(
                        "the server ends or starts, or takes no more connections".to_owned(),
                    ),
                    code if code.len() == 5 && code.starts_with("08") => {
                        Self::Unreachable("the connection was lost".to_owned())
                    }
                    "14" => Self::Unreachable("the file cannot be opened".to_owned()),
                    // What cannot be read is repeated after a colon, and may be somebody's.
                    code if code.len() == 5 && code.starts_with("22") => {
                        let message = error.message();
                        Self::Constraint(
                            message.split_once(": ").map_or(message, |(head, _)| head).to_owned(),
                        )
                    }
                    code if is_about_a_row(code) => Self::Constraint(message_of(&*error)),
                    _ => Self::Refused(message_of(&*error)),
                }
            }
            sqlx::Error::PoolTimedOut => {
                Self::Unreachable("no connection became free in time".to_owned())
            }
            sqlx::Error::Io(error) => Self::Unreachable(error.kind().to_string()),
            // A connection that ends in the middle of an answer, or at the first byte, leaves something that cannot be read.
            sqlx::Error::Protocol(_) => Self::Unreachable("the connection broke off".to_owned()),
            sqlx::Error::Tls(_) => Self::Unreachable("TLS failed".to_owned()),
            sqlx::Error::Configuration(_) => {
                Self::Credentials("the address cannot be read".to_owned())
            }
            other => Self::Refused(other.to_string()),
        }
    }
}

/// PostgreSQL's class 23 (constraints) and errors that functions raise; SQLite's constraints of every kind.
fn is_about_a_row(code: &str) -> bool {
    code.starts_with("23") && code.len() == 5
        || code == "P0001"
        || code.len() < 5 && code.parse::<u32>().is_ok_and(|code| code & 0xff == 19)
}

fn message_of(error: &(dyn sqlx::error::DatabaseError + 'static)) -> String {
    let Some(detail) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() else {
        return error.message().to_owned();
    };
    let hint = detail.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{hint}", detail.message())
}
