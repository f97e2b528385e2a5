//! A rollout's plan, its state, and the choice of its next move.
//!
//! Guards speak in every state, also while it is paused or waits for somebody's consent. A step is left when
//! it has lasted long enough, enough users were counted, no doubt stands, and whoever must agree has agreed.

mod estimate;

use serde::{Deserialize, Serialize};
use switchback_core::model::{Millis, Percent};
use switchback_playbook::units::duration_words;

pub use estimate::{Estimate, Traffic, detection_time};

use crate::action::{Act, Next};
use crate::guard::{Standing, Verdict};

/// Steps that a plan may have.
pub const STEPS_MAX: usize = 20;
/// The longest that a step may soak, in milliseconds: 30 days.
pub const SOAK_MS_MAX: Millis = 30 * 86_400_000;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The share of users that get the new behaviour.
    pub percent: Percent,
    /// How long it lasts at least, in milliseconds. Time in which it is held or paused does not count.
    pub soak_ms: Millis,
    /// Users with the new behaviour that are counted in it at least.
    #[serde(default)]
    pub min_users: u64,
    /// Somebody agrees before it begins.
    #[serde(default)]
    pub needs_approval: bool,
}

/// The steps, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Default for Plan {
    /// 1, 5, 10, 25, 50 and 100 %, ten minutes and a hundred users each.
    fn default() -> Self {
        let percents = [1_000, 5_000, 10_000, 25_000, 50_000, 100_000];
        let steps = percents.into_iter().filter_map(|thousandths| {
            let percent = Percent::from_thousandths(thousandths).ok()?;
            Some(Step { percent, soak_ms: 600_000, min_users: 100, needs_approval: false })
        });
        Self { steps: steps.collect() }
    }
}

impl Plan {
    /// What is wrong with the plan: the place, such as `steps[2].percent`, and what it takes.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            let message =
                format!("a plan has 1 to {STEPS_MAX} steps; this one has {}", self.steps.len());
            found.push(("steps".to_owned(), message));
        }
        let mut before = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let share = step.percent.thousandths();
            if share == 0 {
                let message = "a step reaches somebody; 0 % is no step".to_owned();
                found.push((format!("steps[{index}].percent"), message));
            } else if share <= before {
                let message = format!(
                    "{} % is not more than the {} % of the step before",
                    step.percent,
                    f64::from(before) / 1000.0
                );
                found.push((format!("steps[{index}].percent"), message));
            }
            before = before.max(share);
            if !(0..=SOAK_MS_MAX).contains(&step.soak_ms) {
                let message = "a step lasts from 0 to 30 days".to_owned();
                found.push((format!("steps[{index}].soak_ms"), message));
            }
        }
        found
    }
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It does.
    #[default]
    Running,
    /// Somebody paused it.
    Paused,
    /// Somebody aborted it: it is to be put back.
    Aborting,
    /// It was put back.
    PutBack,
    /// The last step is over.
    Done,
}

/// Where a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutState {
    /// The index of the step that is in force; nothing before the first.
    pub step: Option<usize>,
    /// Whether it goes on.
    pub phase: Phase,
    entered_at: Millis,
    /// How long this step was held or paused, in milliseconds, without what goes on now.
    held_ms: Millis,
    held_since: Option<Millis>,
    /// The step to which somebody agreed.
    approved: Option<usize>,
    /// Somebody ended the waiting of this step.
    skipped: bool,
}

/// What people may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Stop for now.
    Pause,
    /// Go on.
    Resume,
    /// Wait no longer in this step. Guards that hold it still do.
    Skip,
    /// End it and put the flag back.
    Abort,
    /// Agree to a step, by its index.
    Approve(usize),
}

/// Why a command does nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has ended.
    #[error("this rollout has ended")]
    Ended,
    /// It is not paused.
    #[error("this rollout is not paused")]
    NotPaused,
    /// It is paused.
    #[error("this rollout is paused; resume it first")]
    Paused,
    /// The next step is another.
    #[error("the next step is number {next}, not {given}")]
    OtherStep {
        /// The next step, from 1.
        next: usize,
        /// The one that was named, from 1.
        given: usize,
    },
    /// There is no next step.
    #[error("there is no further step")]
    NoFurtherStep,
}

/// What a rollout does next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// Nothing yet.
    Wait {
        /// For what.
        why: String,
        /// Until when, where time is all that it waits for.
        until: Option<Millis>,
    },
    /// The next step begins.
    Raise {
        /// Its share.
        percent: Percent,
    },
    /// Somebody must agree to the next step.
    AskApproval {
        /// Its index.
        step: usize,
        /// Its share.
        percent: Percent,
    },
    /// It goes no further while this holds.
    Hold {
        /// What.
        why: String,
    },
    /// The flag goes back.
    PutBack {
        /// For what.
        why: String,
    },
    /// It is over.
    Done,
}

/// What a guard found and what follows from it.
#[derive(Clone, Copy, Debug)]
pub struct Guarded<'a> {
    /// What it says.
    pub verdict: &'a Verdict,
    /// What follows, from [`crate::action::next_action`].
    pub next: &'a Next,
}

impl RolloutState {
    /// The state after a command.
    pub fn command(&self, plan: &Plan, command: Command, now: Millis) -> Result<Self, Refusal> {
        let mut next = self.clone();
        match (self.phase, command) {
            (Phase::Aborting | Phase::PutBack | Phase::Done, _) => return Err(Refusal::Ended),
            (_, Command::Abort) => next.phase = Phase::Aborting,
            (Phase::Running, Command::Resume) => return Err(Refusal::NotPaused),
            (Phase::Paused, Command::Resume) => {
                next.phase = Phase::Running;
                next.go_on(now);
            }
            (Phase::Paused, Command::Pause | Command::Skip) => return Err(Refusal::Paused),
            (Phase::Running, Command::Pause) => {
                next.phase = Phase::Paused;
                next.stand_still(now);
            }
            (Phase::Running, Command::Skip) => next.skipped = true,
            (_, Command::Approve(given)) => {
                let following = self.following();
                if following >= plan.steps.len() {
                    return Err(Refusal::NoFurtherStep);
                }
                if given != following {
                    return Err(Refusal::OtherStep {
                        next: following + 1,
                        given: given.saturating_add(1),
                    });
                }
                next.approved = Some(given);
            }
        }
        Ok(next)
    }

    /// The state once a move was made.
    #[must_use]
    pub fn after(&self, made: &Move, now: Millis) -> Self {
        let mut next = self.clone();
        match made {
            Move::Raise { .. } => {
                return Self { step: Some(self.following()), entered_at: now, ..Self::default() };
            }
            Move::PutBack { .. } => next.phase = Phase::PutBack,
            Move::Done if self.phase == Phase::Running => next.phase = Phase::Done,
            Move::Hold { .. } => next.stand_still(now),
            Move::Wait { .. } | Move::AskApproval { .. } if self.phase == Phase::Running => {
                next.go_on(now);
            }
            _ => {}
        }
        next
    }

    fn following(&self) -> usize {
        self.step.map_or(0, |step| step.saturating_add(1))
    }

    fn stand_still(&mut self, now: Millis) {
        self.held_since.get_or_insert(now);
    }

    fn go_on(&mut self, now: Millis) {
        if let Some(since) = self.held_since.take() {
            self.held_ms = self.held_ms.saturating_add(now.saturating_sub(since).max(0));
        }
    }

    /// When this step has lasted long enough, should nothing hold it from now on.
    fn soaked_at(&self, step: &Step, now: Millis) -> Millis {
        let holding = self.held_since.map_or(0, |since| now.saturating_sub(since).max(0));
        [self.held_ms, holding, step.soak_ms]
            .into_iter()
            .fold(self.entered_at, Millis::saturating_add)
    }
}

/// Chooses what a rollout does next, from its state and what its guards say at this moment. Pure: make the move,
/// then keep [`RolloutState::after`].
///
/// `users` are those with the new behaviour that were counted in this step, by whoever counts most.
pub fn next_move(
    plan: &Plan,
    state: &RolloutState,
    guards: &[Guarded<'_>],
    users: u64,
    now: Millis,
) -> Move {
    match state.phase {
        Phase::Done | Phase::PutBack => return Move::Done,
        Phase::Aborting => {
            return Move::PutBack { why: "Somebody aborted the rollout.".to_owned() };
        }
        Phase::Running | Phase::Paused => {}
    }
    let said = |wanted: fn(&Act) -> bool| guards.iter().find(|guard| wanted(&guard.next.act));
    if let Some(guard) = said(|act| *act == Act::PutBack) {
        return Move::PutBack { why: guard.next.words.clone() };
    }
    if let Some(guard) =
        said(|act| matches!(act, Act::Hold | Act::Freeze | Act::RunPlaybook { .. }))
    {
        return Move::Hold { why: guard.next.words.clone() };
    }
    if state.phase == Phase::Paused {
        return Move::Wait { why: "Somebody paused the rollout.".to_owned(), until: None };
    }
    if let Some(step) = state.step.and_then(|step| plan.steps.get(step))
        && let Some(wait) = waits(step, state, guards, users, now)
    {
        return wait;
    }
    let following = state.following();
    match plan.steps.get(following) {
        None => Move::Done,
        Some(step) if step.needs_approval && state.approved != Some(following) => {
            Move::AskApproval { step: following, percent: step.percent }
        }
        Some(step) => Move::Raise { percent: step.percent },
    }
}

/// What a step still waits for; a person may end all of it.
fn waits(
    step: &Step,
    state: &RolloutState,
    guards: &[Guarded<'_>],
    users: u64,
    now: Millis,
) -> Option<Move> {
    if state.skipped {
        return None;
    }
    let wait = |why: String| Some(Move::Wait { why, until: None });
    let warns =
        |guard: &&Guarded<'_>| matches!(guard.verdict.standing, Standing::Warn | Standing::Bad);
    if let Some(guard) = guards.iter().find(warns) {
        return wait(guard.next.words.clone());
    }
    let until = state.soaked_at(step, now);
    if now < until {
        let left = duration_words(until.saturating_sub(now).max(1_000).unsigned_abs());
        let why = format!("This step lasts for another {left}.");
        return Some(Move::Wait { why, until: Some(until) });
    }
    if users < step.min_users {
        return wait(format!("{users} of {} users were counted in this step.", step.min_users));
    }
    // At 100 % nobody is left to compare with.
    let unsure = |guard: &&Guarded<'_>| guard.verdict.standing == Standing::Insufficient;
    if let Some(guard) = guards.iter().find(unsure)
        && step.percent.thousandths() < Percent::ALL.thousandths()
    {
        return wait(guard.verdict.words.clone());
    }
    None
}

#[cfg(test)]
mod tests;
