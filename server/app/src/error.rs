//! What a use case tells its caller: words for people, a stable code for programs.

use switchback_playbook::Problem as PlaybookProblem;
use switchback_store::StoreError;

/// One thing that is wrong with an input: where, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Wrong {
    /// The field, such as `rules[0].percent`.
    pub field: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// The JSON API, the pages and the CLI each render it.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The thing named is not there.
    #[error("{kind} `{key}` does not exist")]
    NotFound {
        /// The noun.
        kind: &'static str,
        /// Its key.
        key: String,
    },
    /// The key is taken.
    #[error("{kind} `{key}` exists already")]
    Exists {
        /// The noun.
        kind: &'static str,
        /// Its key.
        key: String,
    },
    /// Nobody is signed in, or the token is not known.
    #[error("sign in, or send a token that is not revoked")]
    Unauthorized,
    /// Signed in, but without the role.
    #[error("you may not {action} in `{environment}`; it takes the role {role}")]
    Forbidden {
        /// The verb.
        action: &'static str,
        /// Where.
        environment: String,
        /// Which role may.
        role: &'static str,
    },
    /// A token of another kind is needed.
    #[error("{0}")]
    WrongToken(&'static str),
    /// Someone was quicker.
    #[error("someone changed this before you: it is at revision {current} now; look again")]
    Conflict {
        /// The revision that it has now.
        current: u64,
    },
    /// The input is wrong; nothing was changed.
    #[error("{}", summary(.0))]
    Invalid(Vec<Wrong>),
    /// The input is right, but not now.
    #[error("{0}")]
    Refused(String),
    /// Too often.
    #[error("too many attempts; wait {seconds} s")]
    TooMany {
        /// How long.
        seconds: u64,
    },
    /// The database is away; nothing was changed.
    #[error("{}", away(.0))]
    Unavailable(#[source] StoreError),
    /// A defect.
    #[error("the server failed; please quote the request id")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn summary(wrong: &[Wrong]) -> String {
    match wrong {
        [one] if one.field.is_empty() => one.message.clone(),
        [one] => format!("{}: {}", one.field, one.message),
        many => many
            .iter()
            .take(5)
            .map(|one| format!("{}: {}", one.field, one.message))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

impl AppError {
    /// One field is wrong.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Wrong { field: field.to_owned(), message: message.into() }])
    }

    /// The stable word that programs match on. Documented in `docs/api.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Exists { .. } => "exists",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden { .. } | Self::WrongToken(_) => "forbidden",
            Self::Conflict { .. } => "conflict",
            Self::Invalid(_) => "invalid",
            Self::Refused(_) => "refused",
            Self::TooMany { .. } => "too_many",
            Self::Unavailable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }
}

fn away(error: &StoreError) -> &'static str {
    if error.is_full() {
        return "the disk is full, where the database is; nothing was changed: make room and try again";
    }
    "the database does not answer; nothing was changed, try again"
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { kind, key } => Self::NotFound { kind, key },
            StoreError::Exists { kind, key } => Self::Exists { kind, key },
            StoreError::Stale { current } => Self::Conflict { current },
            StoreError::Refused(why) => Self::Refused(why),
            error if error.is_outage() => Self::Unavailable(error),
            error => Self::Internal(Box::new(error)),
        }
    }
}

impl From<Vec<switchback_core::validate::Problem>> for AppError {
    fn from(problems: Vec<switchback_core::validate::Problem>) -> Self {
        let wrong =
            |p: switchback_core::validate::Problem| Wrong { field: p.path, message: p.message };
        Self::Invalid(problems.into_iter().map(wrong).collect())
    }
}

impl From<Vec<PlaybookProblem>> for AppError {
    fn from(problems: Vec<PlaybookProblem>) -> Self {
        let wrong = |p: PlaybookProblem| Wrong { field: p.path.clone(), message: p.message };
        Self::Invalid(problems.into_iter().map(wrong).collect())
    }
}
