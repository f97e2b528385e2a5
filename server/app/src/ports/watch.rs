//! The engine's port to what apps report about logins.

use async_trait::async_trait;
use switchback_playbook::ports::PortError;
use switchback_playbook::watch::Watch;

use super::{Ports, app_error};
use crate::watch::figures::Window;
use crate::who::Who;

#[async_trait]
impl Watch for Ports {
    async fn failures(
        &self,
        environment: &str,
        what: &str,
        minutes: u32,
    ) -> Result<Option<f64>, PortError> {
        let until = self.app.clock.now();
        let window = Window { from: until - i64::from(minutes) * 60_000, until };
        let found = self.app.auth_summary(&Who::system(), environment, window).await;
        let found = found.map_err(app_error)?;
        let rate = match what {
            "login" => found.logins,
            "refresh" => found.refreshes,
            "signup" => found.signups,
            _ => found.second_factors,
        };
        Ok(rate.failure)
    }
}
