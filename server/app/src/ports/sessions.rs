//! The engine's port to the sessions of the app's users.

use async_trait::async_trait;
use switchback_core::model::Millis;
use switchback_playbook::ports::PortError;
use switchback_playbook::sessions::{SessionWish as Wish, Sessions};

use super::{Ports, app_error};
use crate::user_sessions::{Revoke, SessionWish};

fn meant(wish: &Wish) -> Revoke {
    Revoke::Matching(SessionWish {
        platform: wish.platform.clone(),
        app_version: wish.app_version.clone(),
        below_version: wish.below_version.clone(),
        country: wish.country.clone(),
        idle_minutes: wish.idle_minutes,
        ..SessionWish::default()
    })
}

#[async_trait]
impl Sessions for Ports {
    async fn count(&self, environment: &str, wish: &Wish, until: Millis) -> Result<u64, PortError> {
        if self.drill().is_some() {
            return Ok(0); // the sessions are real
        }
        self.app.count_to_revoke(environment, &meant(wish), until).await.map_err(app_error)
    }

    async fn revoke(
        &self,
        environment: &str,
        wish: &Wish,
        until: Millis,
        is_first: bool,
    ) -> Result<u64, PortError> {
        if self.drill().is_some() {
            return Ok(0);
        }
        let reason = self.run.as_ref().map(|run| run.reason.clone()).unwrap_or_default();
        let by = self.app.stamp(&self.who(), &reason);
        let by = is_first.then_some(&by);
        self.app.revoke_some(environment, &meant(wish), until, by).await.map_err(app_error)
    }
}
