//! Several flags at once: what it would change, then one reason for all of it. Each flag is its own
//! change with its own record, so that one that is refused does not hold up the rest.

use serde::{Deserialize, Serialize};
use switchback_core::model::{FlagKey, FlagState};
use switchback_store::{FlagRow, Role};

use super::App;
use super::error::AppError;
use super::flags::Switch;
use super::who::{EVERYWHERE, Who};

/// Flags that one request may touch.
pub const BULK_MAX: usize = 200;

/// What is done to all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BulkAction {
    /// Off for everybody in the environment.
    TurnOff,
    /// On in the environment, as the rules say.
    TurnOn,
    /// Off above all rules.
    Kill,
    /// Gone, in every environment.
    Archive,
}

/// What happens to one flag.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// It gets this state.
    Becomes(Box<FlagState>),
    /// It goes, in every environment.
    Goes,
    /// It is so already.
    Nothing,
    /// It cannot be, and why.
    Refused(String),
}

/// One flag of a preview.
#[derive(Clone, Debug)]
pub struct BulkLine {
    /// The flag as it is.
    pub row: FlagRow,
    /// What would happen to it.
    pub effect: Effect,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct BulkOutcome {
    /// Keys that changed.
    pub changed: Vec<String>,
    /// How many were so already.
    pub unchanged: usize,
    /// Keys that were refused, and why.
    pub refused: Vec<(String, String)>,
    /// The newest revision that this made.
    pub revision: u64,
}

impl BulkAction {
    fn must(self, who: &Who, environment: &str) -> Result<(), AppError> {
        match self {
            Self::TurnOff | Self::TurnOn => who.must(Role::Editor, environment, "switch flags"),
            Self::Kill => who.must(Role::Operator, environment, "kill flags"),
            Self::Archive => who.must(Role::Admin, EVERYWHERE, "archive flags"),
        }
    }

    fn on(self, before: &FlagState) -> Option<FlagState> {
        let after = match self {
            Self::TurnOff => FlagState { enabled: false, ..before.clone() },
            Self::TurnOn => FlagState { enabled: true, ..before.clone() },
            Self::Kill => FlagState { killed: true, ..before.clone() },
            Self::Archive => return None,
        };
        Some(after)
    }
}

impl App {
    /// What an action would do to each of these flags. Changes nothing.
    pub async fn preview_bulk(
        &self,
        who: &Who,
        environment: &str,
        action: BulkAction,
        keys: &[String],
    ) -> Result<Vec<BulkLine>, AppError> {
        action.must(who, environment)?;
        check_count(keys)?;
        let mut lines = Vec::new();
        for key in keys {
            let row = self.store.get_flag(environment, key).await?;
            let effect = match action.on(&row.state) {
                _ if row.flag.archived_at.is_some() => Effect::Nothing,
                Some(after) if after == row.state => Effect::Nothing,
                Some(after) => Effect::Becomes(Box::new(after)),
                None => {
                    let needs = self.dependants_of(key).await?;
                    let stays = needs.iter().find(|(child, _)| !keys.contains(&child.to_string()));
                    match stays {
                        Some(child) => Effect::Refused(depends(child)),
                        None => Effect::Goes,
                    }
                }
            };
            lines.push(BulkLine { row, effect });
        }
        Ok(lines)
    }

    /// Does it, flag by flag. What is wrong with the request itself changes nothing.
    pub async fn run_bulk(
        &self,
        who: &Who,
        environment: &str,
        action: BulkAction,
        keys: &[String],
        reason: &str,
    ) -> Result<BulkOutcome, AppError> {
        action.must(who, environment)?;
        check_count(keys)?;
        if action != BulkAction::Kill {
            self.stamp_in(who, environment, reason).await?; // a missing reason is told once
        }
        let mut outcome = BulkOutcome::default();
        let mut left: Vec<String> = keys.to_vec();
        loop {
            let before = left.len();
            outcome.refused.clear();
            let mut refused = Vec::new();
            for key in left {
                match self.one_of_bulk(who, environment, action, &key, reason).await {
                    Ok(Some(revision)) => {
                        outcome.revision = outcome.revision.max(revision);
                        outcome.changed.push(key);
                    }
                    Ok(None) => outcome.unchanged += 1,
                    Err(error @ (AppError::Unavailable(_) | AppError::Internal(_)))
                        if outcome.changed.is_empty() =>
                    {
                        return Err(error);
                    }
                    Err(error) => {
                        outcome.refused.push((key.clone(), error.to_string()));
                        refused.push(key);
                    }
                }
            }
            // A flag that others of the list depend on can go once those are gone.
            let moved = refused.len() < before;
            if action != BulkAction::Archive || refused.is_empty() || !moved {
                return Ok(outcome);
            }
            left = refused;
        }
    }

    async fn one_of_bulk(
        &self,
        who: &Who,
        environment: &str,
        action: BulkAction,
        key: &str,
        reason: &str,
    ) -> Result<Option<u64>, AppError> {
        let changed = match action {
            BulkAction::TurnOff => {
                self.set_flag_enabled(who, environment, key, Switch::OFF, reason).await?
            }
            BulkAction::TurnOn => {
                self.set_flag_enabled(who, environment, key, Switch::ON, reason).await?
            }
            BulkAction::Kill => self.set_flag_killed(who, environment, key, true, reason).await?,
            BulkAction::Archive => {
                self.archive_flag(who, key, reason).await?;
                return Ok(Some(0));
            }
        };
        Ok(changed.changed.then_some(changed.revision))
    }

    /// Flags that need this one first, each with its environment.
    pub(crate) async fn dependants_of(
        &self,
        key: &str,
    ) -> Result<Vec<(FlagKey, String)>, AppError> {
        let mut found = Vec::new();
        for environment in self.known_environments() {
            for row in self.store.list_flags(&environment.key, false).await? {
                if row.state.prerequisites.iter().any(|p| p.flag.as_str() == key) {
                    found.push((row.flag.key, environment.key.clone()));
                }
            }
        }
        Ok(found)
    }
}

/// What stands in the way of archiving, in words.
pub(crate) fn depends((child, place): &(FlagKey, String)) -> String {
    format!("`{child}` depends on it in `{place}`; change that first")
}

fn check_count(keys: &[String]) -> Result<(), AppError> {
    match keys.len() {
        0 => Err(AppError::invalid("flag", "choose at least one flag")),
        1..=BULK_MAX => Ok(()),
        _ => Err(AppError::invalid("flag", format!("at most {BULK_MAX} flags at once"))),
    }
}
