//! What rollouts and guards do to a flag: raise it step by step, or put it back.

use switchback_core::model::{FlagState, Percent};
use switchback_store::ChangedFlag;

use crate::App;
use crate::error::AppError;
use crate::flags::with_rollout;
use crate::who::Who;

impl App {
    /// Begins a step of a rollout: the flag is on, and one rule lets in a share.
    pub(super) async fn raise_flag(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        (rule, percent): (Option<&str>, Percent),
        reason: &str,
    ) -> Result<ChangedFlag, AppError> {
        self.change_flag(who, environment, key, "rollout", reason, |before, _| {
            if before.killed {
                let message = format!("`{key}` is killed; lift the kill first");
                return Err(AppError::Refused(message));
            }
            let state = with_rollout(before, rule, percent)?;
            Ok(FlagState { enabled: true, ..state })
        })
        .await
    }

    /// Lowers a flag; `lower` must not let more in than before. False when there was nothing to do.
    pub(super) async fn lower_flag(
        &self,
        who: &Who,
        environment: &str,
        key: &str,
        reason: &str,
        lower: impl FnOnce(&FlagState) -> Result<FlagState, AppError>,
    ) -> Result<bool, AppError> {
        let decide = |before: &FlagState, _| lower(before);
        let changed = self.change_flag(who, environment, key, "put back", reason, decide).await?;
        Ok(changed.changed)
    }
}
