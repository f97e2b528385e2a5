//! The port of `session.revoke`: sessions of the app's users.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::ports::PortError;

/// Which open sessions; what is absent does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionWish {
    /// Such as `ios`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Exactly this version of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    /// Versions of the app below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_version: Option<String>,
    /// The country, as the app says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Without activity for so many minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_minutes: Option<u32>,
}

/// Sessions of the app's users.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// How many open sessions match that began by `until`, in UTC milliseconds. None in a drill.
    async fn count(
        &self,
        environment: &str,
        wish: &SessionWish,
        until: Millis,
    ) -> Result<u64, PortError>;

    /// Ends some of them and tells the apps. Returns how many; 0 when none is left. `is_first`: the change log is told, too.
    async fn revoke(
        &self,
        environment: &str,
        wish: &SessionWish,
        until: Millis,
        is_first: bool,
    ) -> Result<u64, PortError>;
}
