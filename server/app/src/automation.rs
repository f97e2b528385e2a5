//! What starts by itself, and the switch that stops all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use switchback_store::{AutomationOff, Beside, Gate, Once, Role, StoreError};

use super::App;
use super::error::AppError;
use super::playbooks::RunDraft;
use super::who::{EVERYWHERE, Who};

/// A start that nobody pressed a button for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The playbook's name.
    pub playbook: String,
    /// The environment.
    pub environment: String,
    /// `webhook`, `schedule` or `alert`.
    pub trigger: &'static str,
    /// In whose name it stands on the log.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Values for its inputs.
    pub inputs: BTreeMap<String, Value>,
    /// What one person is asked before anything happens, and for how long, in milliseconds.
    pub ask: Option<(String, u64)>,
    /// What its first row says besides.
    pub noted: Value,
    /// The call behind it.
    pub once: Option<Once>,
}

impl App {
    /// Starts a run by itself, within the playbook's limits and unless automation is off. A refused start stands on
    /// the log of changes. Returns the run's id.
    pub(super) async fn start_by_itself(self: &Arc<Self>, wish: Wish) -> Result<String, AppError> {
        let Wish { playbook, environment, trigger, by, reason, inputs, ask, noted, once } = wish;
        if let Some(known) = self.answered(once.as_ref()).await? {
            return known;
        }
        let limits = self.catalogue.load().get(&playbook)?.limits;
        let gate = Gate {
            cooldown_ms: limits.cooldown_ms.cast_signed(),
            ceiling: limits.ceiling.map(|most| (most.runs, most.per_ms.cast_signed())),
            once: once.clone(),
        };
        let who = Who::with_role(&by, Role::Operator);
        let draft = RunDraft {
            playbook: playbook.clone(),
            environment: environment.clone(),
            reason: reason.trim().chars().take(1_000).collect(),
            inputs,
            trigger,
            break_glass: false,
        };
        let place = self.get_environment(&environment).await.map_err(|error| match error {
            AppError::NotFound { .. } => AppError::Refused(error.to_string()),
            error => error,
        });
        let plan = match place.and_then(|_| self.plan_run(&draft)) {
            Ok(plan) => self.must_be_drilled(&plan).await.map(|()| match ask {
                Some((question, wait_ms)) => plan.asked_first(&question, wait_ms),
                None => plan,
            }),
            Err(error) => Err(error),
        };
        let started = match plan {
            Ok(plan) => {
                let beside = Beside { gate: Some(&gate), ..Beside::default() };
                self.start_plan(&who, plan, trigger, noted, None, beside).await
            }
            Err(error) => Err(error),
        };
        let error = match started {
            Ok(run) => return Ok(run.id),
            // Another node was quicker with the same call.
            Err(AppError::Exists { kind: "call", .. }) => {
                let known = self.answered(once.as_ref()).await?;
                let gone = || Err(AppError::Refused("this call was answered before".to_owned()));
                return known.unwrap_or_else(gone);
            }
            Err(error @ (AppError::Refused(_) | AppError::Invalid(_))) => error,
            Err(error) => return Err(error),
        };
        let why = error.to_string();
        tracing::warn!(
            playbook,
            environment.key = environment,
            "it does not start by itself: {why}"
        );
        let stamp = self.stamp(&who, &why);
        self.store.refuse_start(&stamp, &environment, &playbook, once.as_ref()).await?;
        Err(error)
    }

    /// What a call was answered before.
    async fn answered(
        &self,
        once: Option<&Once>,
    ) -> Result<Option<Result<String, AppError>>, AppError> {
        let Some(once) = once else { return Ok(None) };
        let known = self.store.find_key(&once.actor, &once.key).await?;
        Ok(known.map(|known| match known {
            known if known.fingerprint != once.fingerprint => {
                let message = "another call had this id before";
                Err(AppError::invalid("webhook-id", message))
            }
            known if known.status == 202 => Ok(known.body),
            known => Err(AppError::Refused(known.body)),
        }))
    }

    /// Since when nothing starts by itself; `None`: it does.
    pub async fn automation_off(&self) -> Result<Option<AutomationOff>, AppError> {
        Ok(self.store.automation_off().await?)
    }

    /// Switches everything that starts by itself off or on.
    pub async fn set_automation(
        &self,
        who: &Who,
        off: bool,
        reason: &str,
    ) -> Result<Option<AutomationOff>, AppError> {
        who.must(Role::Admin, EVERYWHERE, "switch automation")?;
        let stamp = self.stamp(who, reason);
        if stamp.reason.is_empty() {
            return Err(AppError::invalid("reason", "say why"));
        }
        let (by, reason, at) = (stamp.actor.clone(), stamp.reason.clone(), stamp.at);
        let off = off.then_some(AutomationOff { by, reason, at });
        self.store.set_automation(off.as_ref(), &stamp).await?;
        tracing::warn!("automation is {} now", if off.is_some() { "off" } else { "on" });
        Ok(off)
    }
}

/// What starts and refused starts have in common with other errors of the store.
pub(super) fn start_error(error: StoreError) -> AppError {
    match error {
        StoreError::Exists { kind: "run", key } => {
            AppError::Refused(format!("run {key} is already doing this; wait for it or cancel it"))
        }
        error => error.into(),
    }
}
