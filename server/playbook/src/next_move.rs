//! Chooses a run's next move from its rows alone. Pure: the runner is a loop around this, and a
//! restarted node carries on by reading the journal.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use switchback_core::model::Millis;

use crate::blocks::{Block, PlannedBlock};
use crate::expr;
use crate::format::{OnDeadline, OnError, Otherwise};
use crate::journal::Entry;
use crate::live;
use crate::plan::{Condition, OnTimeout, Plan, PlannedStep};
use crate::preserve::OnBroken;
use crate::state::{Cause, Ending, PreserveView, RunView, StepState, StepView};
use crate::steps::Undo;

/// How often an undo is tried before the unwinding goes on without it.
pub const UNDO_TIMES: u32 = 3;
/// How often a step may be left without an outcome before a person is asked.
pub const UNKNOWN_TIMES: u32 = 20;
/// The least time that unwinding gets, in milliseconds.
pub const UNDO_DEADLINE_MS_MIN: u64 = 60_000;
/// How often a table is looked at before the run gives up starting.
const MEASURE_TIMES: u32 = 3;
/// How often a table is looked at again before a person is asked.
const COMPARE_TIMES: u32 = 5;
const BACKOFF_MS_MAX: u64 = 60_000;

/// What to do next. Steps are named by their index in the plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Look whether this precondition holds.
    Require(usize),
    /// Look at the table of this preserve rule before the first step.
    Measure(usize),
    /// Look again, and compare.
    Compare(usize),
    /// Write down that this preserve rule is not looked at.
    Unmeasured(usize, String),
    /// Look whether the condition of this step or block holds, with these values.
    Look(String, String, Value),
    /// Leave the step out.
    Skip(usize, String),
    /// Write down that the step failed before it started.
    Fail(usize, String),
    /// Write down that the step waits until then, for people or for time.
    Pause {
        /// The step.
        step: usize,
        /// The end of the wait, in UTC milliseconds.
        until: Millis,
        /// For people, rather than for time.
        approval: bool,
    },
    /// Do nothing until then.
    WaitUntil(Millis),
    /// Do nothing until people approve, or until then.
    AwaitApproval(usize, Millis),
    /// Steps are in flight: do nothing until one of them ends, or until then.
    Join(Option<Millis>),
    /// Write the intent and do it; the attempt counts from 1.
    RunStep(usize, u32),
    /// An intent has no outcome: write that down, and find out if possible.
    ProbeUnknown(usize),
    /// Look whether the step's effect is there.
    Verify(usize),
    /// Write down that the run unwinds from here on.
    Compensate(Cause, String),
    /// Write the intent to undo and do it; the attempt counts from 1.
    Undo(usize, u32),
    /// Ask a person about the step or the preserve rule of this row id, or about the run (empty).
    Park(String, String),
    /// The run is over.
    Finish(Ending),
}

/// Chooses the next move.
///
/// Intent comes before effect and outcome after it. An intent without outcome is *unknown*: what may be
/// repeated is repeated, for the rest a person is asked; it never guesses. Undo goes newest first,
/// includes the step that failed (it may be half done), has its own deadline, and does not overwrite
/// what somebody else has changed.
///
/// `busy` are steps of a group that this driver has in flight: only more of the same group start beside them.
pub fn next_move(
    plan: &Plan,
    entries: &[Entry],
    started_at: Millis,
    now: Millis,
    busy: &BTreeSet<usize>,
) -> Move {
    let chosen = choose(plan, entries, started_at, now, busy);
    if busy.is_empty() {
        return chosen;
    }
    match chosen {
        Move::WaitUntil(at) | Move::AwaitApproval(_, at) => Move::Join(Some(at)),
        Move::RunStep(..)
        | Move::Verify(_)
        | Move::Look(..)
        | Move::Skip(..)
        | Move::Fail(..)
        | Move::Pause { .. }
        | Move::Join(_) => chosen,
        // What ends or turns a run comes when nothing is in flight any more.
        _ => Move::Join(None),
    }
}

fn choose(
    plan: &Plan,
    entries: &[Entry],
    started_at: Millis,
    now: Millis,
    busy: &BTreeSet<usize>,
) -> Move {
    let view = RunView::of(plan, entries);
    if let Some(ending) = view.finished {
        return Move::Finish(ending);
    }
    if let Some(id) = &view.parked {
        return Move::Park(id.clone(), "a person must decide".to_owned());
    }
    if let Some((since, cause)) = view.compensating {
        return unwind(plan, &view, since, cause, now);
    }
    if view.cancelled {
        return Move::Compensate(Cause::Cancel, "the run was cancelled".to_owned());
    }
    if view.undo_wanted {
        return Move::Compensate(Cause::Decision, "a person chose to undo the run".to_owned());
    }
    for (index, require) in plan.require.iter().enumerate() {
        match (view.require.get(&require.id), require.otherwise) {
            (None, _) => return Move::Require(index),
            (Some(true), _) => {}
            // A called playbook has nothing to do: its steps are left out.
            (Some(false), Otherwise::StopOk) if require.block.is_some() => {}
            (Some(false), Otherwise::StopOk) => return Move::Finish(Ending::NothingToDo),
            (Some(false), Otherwise::Fail) => return Move::Finish(Ending::Failed),
            (Some(false), Otherwise::Ask) => {
                let why = format!("the precondition `{}` does not hold", require.id);
                return Move::Park(format!("require.{}", require.id), why);
            }
        }
    }
    match measured(plan, &view, now) {
        None => {}
        Some(Move::Finish(ending)) => return Move::Finish(ending),
        Some(chosen) => return in_time(plan, &view, chosen, started_at, now),
    }
    let forward = onward(plan, &view, now, busy);
    match forward.or_else(|| compared(plan, &view, now)) {
        None => Move::Finish(Ending::Succeeded),
        Some(chosen) => in_time(plan, &view, chosen, started_at, now),
    }
}

/// The move that the first step asks for that is not over, or the group that it stands in.
fn onward(plan: &Plan, view: &RunView, now: Millis, busy: &BTreeSet<usize>) -> Option<Move> {
    let mut seen_group = None;
    for (index, (step, seen)) in plan.steps.iter().zip(&view.steps).enumerate() {
        let chosen = match plan.group_of(step) {
            None => forward(plan, view, index, step, seen, now),
            Some((id, _)) if seen_group == Some(id) => None,
            Some((id, max)) => {
                seen_group = Some(id);
                together(plan, view, id, max, now, busy)
            }
        };
        if chosen.is_some() {
            return chosen;
        }
    }
    None
}

/// The move that a group asks for. A failure starts nothing more, and what can be settled at once comes before what takes time.
fn together(
    plan: &Plan,
    view: &RunView,
    group: &str,
    max: u64,
    now: Millis,
    busy: &BTreeSet<usize>,
) -> Option<Move> {
    let inner = plan.steps.iter().zip(&view.steps).enumerate();
    let inner = inner
        .filter(|(index, (step, _))| step.block.as_deref() == Some(group) && !busy.contains(index));
    let chosen = inner.filter_map(|(index, (step, seen))| {
        let is_taken_up = seen.state != StepState::Pending && seen.state != StepState::Waiting;
        Some((is_taken_up, forward(plan, view, index, step, seen, now)?))
    });
    let rank = |(is_taken_up, chosen): &(bool, Move)| match chosen {
        Move::Park(..) => (0, 0),
        Move::Compensate(..) => (1, 0),
        Move::WaitUntil(at) | Move::AwaitApproval(_, at) => (4, *at),
        // What has begun is brought to its end before another step begins.
        Move::RunStep(..) | Move::Verify(_) => (3, i64::from(!is_taken_up)),
        _ => (2, 0),
    };
    let is_full = busy.len() as u64 >= max;
    match chosen.min_by_key(rank) {
        Some((_, Move::RunStep(..) | Move::Verify(_))) if is_full => Some(Move::Join(None)),
        Some((_, first)) => Some(first),
        None => (!busy.is_empty()).then_some(Move::Join(None)),
    }
}

/// Before the first step: what must not get lost is looked at.
fn measured(plan: &Plan, view: &RunView, now: Millis) -> Option<Move> {
    plan.preserve.iter().enumerate().find_map(|(index, rule)| {
        let Some(seen) = view.preserve.get(&rule.id) else { return Some(Move::Measure(index)) };
        if seen.before.is_some() || seen.skipped {
            return None;
        }
        if seen.may_retry && seen.failures < MEASURE_TIMES {
            return Some(again(seen, now).unwrap_or(Move::Measure(index)));
        }
        Some(match rule.on_broken {
            OnBroken::Compensate => Move::Finish(Ending::Failed),
            OnBroken::Warn => Move::Unmeasured(index, seen.says.clone()),
        })
    })
}

/// After the last step: it is looked at again.
fn compared(plan: &Plan, view: &RunView, now: Millis) -> Option<Move> {
    plan.preserve.iter().enumerate().find_map(|(index, rule)| {
        let seen = view.preserve.get(&rule.id)?;
        if seen.skipped || seen.before.is_none() {
            return None;
        }
        match (seen.after, rule.on_broken) {
            (Some(true), _) | (Some(false), OnBroken::Warn) => None,
            (Some(false), OnBroken::Compensate) => {
                let why = format!("data `{}`: {}", rule.id, seen.says);
                Some(Move::Compensate(Cause::Failure, why))
            }
            (None, _) if seen.failures < COMPARE_TIMES => {
                Some(again(seen, now).unwrap_or(Move::Compare(index)))
            }
            (None, OnBroken::Warn) => Some(Move::Unmeasured(index, seen.says.clone())),
            (None, OnBroken::Compensate) => {
                let why =
                    format!("nobody knows whether data `{}` is as it was: {}", rule.id, seen.says);
                Some(Move::Park(rule.row_id(), why))
            }
        }
    })
}

/// The pause after a look that failed.
fn again(seen: &PreserveView, now: Millis) -> Option<Move> {
    let at = later(seen.last_at, 1_000, seen.failures);
    (seen.failures > 0 && now < at).then_some(Move::WaitUntil(at))
}

/// Holds a forward move against the run's deadline.
fn in_time(plan: &Plan, view: &RunView, chosen: Move, started_at: Millis, now: Millis) -> Move {
    let deadline = started_at.saturating_add_unsigned(plan.deadline_ms);
    if view.late_allowed || plan.on_deadline == OnDeadline::Continue {
        return chosen;
    }
    if matches!(chosen, Move::Compensate(..) | Move::Park(..)) {
        return chosen;
    }
    if now < deadline {
        return match chosen {
            Move::WaitUntil(at) => Move::WaitUntil(at.min(deadline)),
            Move::AwaitApproval(index, until) => Move::AwaitApproval(index, until.min(deadline)),
            Move::Join(until) => {
                Move::Join(Some(until.map_or(deadline, |until| until.min(deadline))))
            }
            other => other,
        };
    }
    match plan.on_deadline {
        OnDeadline::Compensate => {
            Move::Compensate(Cause::Deadline, "the deadline passed".to_owned())
        }
        OnDeadline::Pause | OnDeadline::Continue => {
            Move::Park(String::new(), "the deadline passed".to_owned())
        }
    }
}

/// The move that one step asks for; `None` when the run may go on behind it.
fn forward(
    plan: &Plan,
    view: &RunView,
    index: usize,
    step: &PlannedStep,
    seen: &StepView,
    now: Millis,
) -> Option<Move> {
    let failed = || match step.on_error {
        OnError::Continue => None,
        OnError::Stop => {
            let why = seen.because.as_deref().unwrap_or("it failed");
            Some(Move::Compensate(Cause::Failure, format!("step `{}`: {why}", step.id)))
        }
    };
    match seen.state {
        StepState::Verified | StepState::Skipped => None,
        StepState::Done => step.verify.is_some().then_some(Move::Verify(index)),
        StepState::Intent => Some(Move::ProbeUnknown(index)),
        StepState::Unknown if step.idempotent && seen.unknowns < UNKNOWN_TIMES => {
            Some(Move::RunStep(index, seen.attempts + 1))
        }
        StepState::Unknown => {
            let why = format!("nobody knows whether step `{}` happened", step.id);
            Some(Move::Park(step.id.clone(), why))
        }
        StepState::Failed if seen.may_retry && seen.failures <= step.retry.times => {
            let again = later(seen.last_at, step.retry.backoff_ms, seen.failures);
            Some(if now < again {
                Move::WaitUntil(again)
            } else {
                Move::RunStep(index, seen.attempts + 1)
            })
        }
        StepState::Failed | StepState::Unverified => failed(),
        StepState::Pending | StepState::Waiting if seen.attempts > 0 => {
            Some(Move::RunStep(index, seen.attempts + 1)) // a person said to do it again
        }
        StepState::Pending | StepState::Waiting => Some(start(plan, view, index, step, seen, now)),
        // Undo rows before the run unwinds: the journal is not one of ours.
        StepState::UndoIntent | StepState::Undone | StepState::UndoFailed => {
            Some(Move::Park(step.id.clone(), format!("step `{}` was undone too early", step.id)))
        }
    }
}

/// A step that was never started: condition, then people, then time, then the effect.
fn start(
    plan: &Plan,
    view: &RunView,
    index: usize,
    step: &PlannedStep,
    seen: &StepView,
    now: Millis,
) -> Move {
    if let Some(left_out) = unless_it_runs(plan, view, index, step) {
        return left_out;
    }
    if let Some(approval) = &step.approve
        && seen.broke_glass.is_none()
        && (seen.approvals.len() as u64) < u64::from(approval.min)
    {
        if let Some(who) = &seen.refused_by {
            return Move::Fail(index, format!("refused by {who}"));
        }
        match seen.approval_until {
            None => {
                let until = now.saturating_add_unsigned(approval.timeout_ms);
                return Move::Pause { step: index, until, approval: true };
            }
            Some(until) if now < until => return Move::AwaitApproval(index, until),
            Some(_) => match approval.on_timeout {
                OnTimeout::Skip => return Move::Skip(index, "nobody approved in time".to_owned()),
                OnTimeout::Stop => return Move::Fail(index, "nobody approved in time".to_owned()),
                OnTimeout::Proceed => {}
            },
        }
    }
    match seen.wait_until {
        None if step.wait_ms > 0 => {
            let until = now.saturating_add_unsigned(step.wait_ms);
            Move::Pause { step: index, until, approval: false }
        }
        Some(until) if now < until => Move::WaitUntil(until),
        _ => Move::RunStep(index, 1),
    }
}

/// Leaves a step out whose condition, or that of what it stands in, does not hold.
fn unless_it_runs(plan: &Plan, view: &RunView, index: usize, step: &PlannedStep) -> Option<Move> {
    let around: Vec<&PlannedBlock> = plan.blocks_of(step).collect();
    for block in around.iter().rev() {
        let own = (block.id.as_str(), &block.condition, block.within.as_deref());
        if let Some(found) = condition(plan, view, index, own) {
            return Some(found);
        }
        let idle = plan.require.iter().find(|require| {
            require.block.as_deref() == Some(block.id.as_str())
                && require.otherwise == Otherwise::StopOk
                && view.require.get(&require.id) == Some(&false)
        });
        if let Some(require) = idle {
            let why = format!("there is nothing to do: `{}` does not hold", require.id);
            return Some(Move::Skip(index, why));
        }
    }
    condition(plan, view, index, (&step.id, &step.condition, step.block.as_deref()))
}

/// Looks at the condition of a step or a block that stands in another block.
fn condition(
    plan: &Plan,
    view: &RunView,
    index: usize,
    (id, condition, block): (&str, &Condition, Option<&str>),
) -> Option<Move> {
    match condition {
        Condition::Always => None,
        Condition::Never => Some(Move::Skip(index, "its condition does not hold".to_owned())),
        Condition::When(expression) if live::looks(expression) => match view.conditions.get(id) {
            Some(Ok(true)) => None,
            Some(Ok(false)) => {
                Some(Move::Skip(index, format!("`{}` does not hold", expression.trim())))
            }
            Some(Err(message)) => Some(Move::Fail(index, format!("its condition: {message}"))),
            None => Some(Move::Look(id.to_owned(), expression.clone(), context(plan, view, block))),
        },
        Condition::When(expression) => match expr::holds(expression, &context(plan, view, block)) {
            Ok(true) => None,
            Ok(false) => Some(Move::Skip(index, format!("`{}` does not hold", expression.trim()))),
            Err(message) => Some(Move::Fail(index, format!("its condition: {message}"))),
        },
    }
}

/// What a late condition in `block` may look at: its own playbook's values and steps.
fn context(plan: &Plan, view: &RunView, block: Option<&str>) -> Value {
    let (scope, mut values) = values(plan, block);
    let mut steps = Map::new();
    for (step, seen) in plan.steps.iter().zip(&view.steps) {
        let Some(name) = step.id.strip_prefix(&scope) else { continue };
        let ok = matches!(seen.state, StepState::Done | StepState::Verified);
        let out = seen.output.clone().unwrap_or_else(|| json!({}));
        put(&mut steps, name, json!({"state": seen.state, "ok": ok, "out": out}));
    }
    if let Value::Object(values) = &mut values {
        values.insert("steps".to_owned(), Value::Object(steps));
    }
    values
}

/// How the ids of a call's steps begin, and what its expressions see beside them.
pub(crate) fn values(plan: &Plan, block: Option<&str>) -> (String, Value) {
    let call = plan.around(block).find_map(|block| match &block.what {
        Block::Call { playbook, inputs, vars, .. } => Some((&block.id, playbook, inputs, vars)),
        Block::Group { .. } => None,
    });
    let scope = call.map_or(String::new(), |(id, ..)| format!("{id}."));
    let (playbook, inputs, vars) = match call {
        Some((_, playbook, inputs, vars)) => (playbook, inputs, vars),
        None => (&plan.playbook, &plan.inputs, &plan.vars),
    };
    let values = json!({
        "inputs": inputs, "vars": vars, "environment": plan.environment, "reason": plan.reason,
        "playbook": playbook,
    });
    (scope, values)
}

/// Puts a value under a dotted name.
fn put(map: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            map.insert(name.to_owned(), value);
        }
        Some((outer, rest)) => {
            if let Value::Object(inner) = map.entry(outer).or_insert_with(|| json!({})) {
                put(inner, rest, value);
            }
        }
    }
}

fn unwind(plan: &Plan, view: &RunView, since: Millis, cause: Cause, now: Millis) -> Move {
    let mut left_behind = false;
    for (index, (step, seen)) in plan.steps.iter().zip(&view.steps).enumerate().rev() {
        if step.undo != Undo::Automatic || !seen.may_have_effect() {
            continue;
        }
        let unsure =
            matches!(seen.state, StepState::Intent | StepState::Unknown | StepState::UndoIntent);
        if unsure && !step.idempotent {
            let why = format!("nobody knows whether step `{}` happened or was undone", step.id);
            return Move::Park(step.id.clone(), why);
        }
        if seen.state == StepState::UndoFailed {
            if seen.conflict {
                let why = seen.because.clone().unwrap_or_default();
                return Move::Park(step.id.clone(), why);
            }
            if seen.undo_failures >= UNDO_TIMES {
                left_behind = true;
                continue;
            }
            let again = later(seen.last_at, 1_000, seen.undo_failures);
            if now < again {
                return Move::WaitUntil(again);
            }
        }
        let deadline = since.saturating_add_unsigned(plan.deadline_ms.max(UNDO_DEADLINE_MS_MIN));
        if now >= deadline && !view.late_allowed {
            return Move::Park(String::new(), "the time for undoing is over".to_owned());
        }
        return Move::Undo(index, seen.undo_attempts + 1);
    }
    if view.steps.iter().any(|seen| seen.attempts > 0) {
        for (index, rule) in plan.preserve.iter().enumerate() {
            let Some(seen) = view.preserve.get(&rule.id).filter(|seen| seen.before.is_some())
            else {
                continue;
            };
            match seen.after_undo {
                Some(holds) => left_behind |= !holds && rule.on_broken == OnBroken::Compensate,
                // The undoing does not wait for a data source for ever; that it was not checked stays visible.
                None if seen.failures >= COMPARE_TIMES => left_behind = true,
                None => return again(seen, now).unwrap_or(Move::Compare(index)),
            }
        }
    }
    Move::Finish(match cause {
        _ if left_behind => Ending::CompensateFailed,
        Cause::Cancel => Ending::Cancelled,
        Cause::Failure | Cause::Deadline | Cause::Decision => Ending::Compensated,
    })
}

/// When to try again after the n-th failure: the pause doubles up to a minute.
fn later(last: Millis, backoff_ms: u64, failures: u32) -> Millis {
    let doubled = backoff_ms.saturating_mul(1 << failures.saturating_sub(1).min(16));
    last.saturating_add_unsigned(doubled.min(BACKOFF_MS_MAX))
}
