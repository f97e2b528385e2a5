//! The moves of rollouts: each is made first and kept then, so that a node that dies between makes it once more, to no effect.

use std::collections::BTreeMap;

use serde_json::json;
use switchback_core::model::Millis;
use switchback_store::{GuardBeside, Role, RolloutRow, StoreError};
use switchback_watch::action::{Act, Next};
use switchback_watch::guard::Verdict;
use switchback_watch::rollout::{Command, Guarded, Move, Phase, RolloutState, next_move};

use super::guards::GuardSettings;
use super::rollouts::{kept_of, phase_word, state_of};
use super::words::kind_of;
use crate::App;
use crate::error::AppError;
use crate::who::Who;

impl App {
    /// Makes a rollout's next move, and keeps it.
    pub(super) async fn move_rollout(
        &self,
        row: &RolloutRow,
        guarded: &BTreeMap<String, (Verdict, Next)>,
        now: Millis,
    ) -> Result<(), AppError> {
        let kept = kept_of(row)?;
        let plan = kept.plan();
        let mut state = state_of(row);
        let mut acted = false;
        let mut users = u64::MAX;
        let mut guards = Vec::new();
        if let Some(id) = &row.guard {
            let Some((verdict, next)) = guarded.get(id) else {
                // Not looked at yet, disarmed by a person, or it has acted: nothing goes up unwatched.
                let guard = self.store.get_guard(id).await?;
                return self.rest_rollout(row, &guard.phase, now).await;
            };
            users = verdict.treated;
            acted = next.act == Act::PutBack;
            guards.push(Guarded { verdict, next });
        }
        let rule = kept.rule.as_deref();
        let by = Who::with_role(&format!("rollout:{}", row.id), Role::Operator);
        let share = self.current_share(&row.environment, &row.flag, rule).await?;
        let expected = state.step.and_then(|step| kept.steps.get(step)).map(|step| step.percent);
        let touched = expected.is_some_and(|expected| share != Some(expected));
        if touched && state.phase == Phase::Running && !acted {
            // Somebody changed the flag by hand: nothing goes up over their head.
            if let Ok(paused) = state.command(&plan, Command::Pause, now) {
                state = paused;
                let why = "Somebody changed the flag, so that the rollout is paused.".to_owned();
                let made = Move::Wait { why, until: None };
                return self.keep_rollout(row, &state, &made, Some("pause"), &by).await;
            }
        }
        let made = next_move(&plan, &state, &guards, users, now);
        let mut word = None;
        match &made {
            Move::Raise { percent } => {
                if let Some(guard) = &row.guard {
                    self.restart_guard(guard).await?; // each step is judged by its own users
                }
                let step = state.step.map_or(1, |step| step + 2);
                let reason = format!(
                    "step {step} of {} of a rollout by {}",
                    plan.steps.len(),
                    row.created_by
                );
                self.raise_flag(&by, &row.environment, &row.flag, (rule, *percent), &reason)
                    .await?;
                word = Some("raise");
            }
            Move::PutBack { why } => {
                let settings = GuardSettings {
                    rule: kept.rule.clone(),
                    back_to: kept.before,
                    ..GuardSettings::of(&row.flag)
                };
                self.put_flag_back(&by, &row.environment, &settings, why).await?;
                word = Some("put_back");
            }
            Move::Done => word = Some("done"),
            Move::Wait { .. } | Move::AskApproval { .. } | Move::Hold { .. } => {}
        }
        let after = state.after(&made, now);
        if word.is_none() && after == state && row.next == Some(json!(made)) {
            return Ok(());
        }
        self.keep_rollout(row, &after, &made, word, &by).await
    }

    async fn restart_guard(&self, id: &str) -> Result<(), AppError> {
        let now = self.clock.now();
        let mut guard = self.store.get_guard(id).await?;
        (guard.state, guard.verdict) = (None, None);
        (guard.since, guard.seen_until, guard.standing_since) = (now, now, now);
        self.save_guard(&guard, GuardBeside { at: now, ..GuardBeside::default() }).await
    }

    async fn rest_rollout(
        &self,
        row: &RolloutRow,
        phase: &str,
        now: Millis,
    ) -> Result<(), AppError> {
        let by = Who::with_role(&format!("rollout:{}", row.id), Role::Operator);
        let state = state_of(row);
        let made = match phase {
            "acted" => {
                Move::PutBack { why: "Its guard found harm and put the flag back.".to_owned() }
            }
            "resting" => {
                Move::Hold { why: "Its guard rests; nothing goes up unwatched.".to_owned() }
            }
            // Armed, and looked at for the first time in a moment.
            _ if state.phase != Phase::Aborting => return Ok(()),
            _ => Move::PutBack { why: "Somebody aborted the rollout.".to_owned() },
        };
        let kept = kept_of(row)?;
        if let Move::PutBack { why } = &made {
            let settings = GuardSettings {
                rule: kept.rule.clone(),
                back_to: kept.before,
                ..GuardSettings::of(&row.flag)
            };
            self.put_flag_back(&by, &row.environment, &settings, why).await?;
        }
        if row.next == Some(json!(made)) {
            return Ok(());
        }
        let word = matches!(made, Move::PutBack { .. }).then_some("put_back");
        self.keep_rollout(row, &state.after(&made, now), &made, word, &by).await
    }

    async fn keep_rollout(
        &self,
        row: &RolloutRow,
        state: &RolloutState,
        made: &Move,
        word: Option<&str>,
        by: &Who,
    ) -> Result<(), AppError> {
        let now = self.clock.now();
        let ended = matches!(state.phase, Phase::Done | Phase::PutBack);
        let kept = RolloutRow {
            phase: phase_word(state.phase).to_owned(),
            state: json!(state),
            next: Some(json!(made)),
            ended_at: ended.then_some(now),
            ..row.clone()
        };
        let stamp = self.stamp(by, "");
        let asks = matches!(made, Move::AskApproval { .. } | Move::Hold { .. });
        let is_news = asks && row.next.as_ref().map(kind_of) != Some(kind_of(&json!(made)));
        let message = (is_news || matches!(word, Some("put_back" | "done" | "pause")))
            .then(|| self.rollout_message(&kept, made));
        self.store
            .save_rollout(&kept, word.map(|word| (word, &stamp)), message.as_ref(), now)
            .await
            .map_err(|error| match error {
                StoreError::Stale { current } => AppError::Conflict { current },
                error => error.into(),
            })
    }
}
