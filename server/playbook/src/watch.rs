//! The port to what apps report about logins.

use async_trait::async_trait;

use crate::ports::PortError;

/// What can fail, as expressions name it.
pub const KINDS: [&str; 4] = ["login", "refresh", "signup", "mfa"];

/// What apps report about logins.
#[async_trait]
pub trait Watch: Send + Sync {
    /// The share of attempts that failed in an environment in the last minutes, 0 to 1. `None`: there was no attempt, or nobody
    /// reports. `what` is one of [`KINDS`].
    async fn failures(
        &self,
        environment: &str,
        what: &str,
        minutes: u32,
    ) -> Result<Option<f64>, PortError>;
}
