//! What can happen to a user's login: the vocabulary that apps, importers and rules share.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal),+ $(,)?) => {
        /// What happened. The vocabulary is closed: an importer maps other systems' names to it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum AuthEventKind { $($(#[$doc])* $name),+ }

        impl AuthEventKind {
            /// Every kind, in the order of this file.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name in the API, in rules and in the database.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }
    };
}

kinds! {
    /// A login that worked.
    LoginSuccess = "login_success",
    /// A login that did not.
    LoginFailure = "login_failure",
    /// A user left.
    Logout = "logout",
    /// A new account.
    Signup = "signup",
    /// An account that could not be made.
    SignupFailure = "signup_failure",
    /// A token was renewed.
    TokenRefresh = "token_refresh",
    /// A token could not be renewed.
    TokenRefreshFailure = "token_refresh_failure",
    /// A token was looked at, and is good.
    TokenCheck = "token_check",
    /// A token was looked at, and is not good.
    TokenCheckFailure = "token_check_failure",
    /// A session began.
    SessionStart = "session_start",
    /// A session ended.
    SessionEnd = "session_end",
    /// A session was ended by somebody else.
    SessionRevoked = "session_revoked",
    /// A second factor was asked for.
    MfaChallenge = "mfa_challenge",
    /// A second factor was wrong.
    MfaFailure = "mfa_failure",
    /// A password was reset.
    PasswordReset = "password_reset",
    /// An address was confirmed.
    EmailVerified = "email_verified",
    /// A phone was confirmed.
    PhoneVerified = "phone_verified",
    /// An account was made by the app itself, such as for a user who was there before it.
    BootstrapCreated = "bootstrap_created",
    /// Row-level security refused a row.
    RlsViolation = "rls_violation",
    /// An account was locked.
    AccountLocked = "account_locked",
}

impl AuthEventKind {
    /// The kind of a name.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }
}
