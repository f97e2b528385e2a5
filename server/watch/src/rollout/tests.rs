//! Rollouts, move by move.

use super::*;
use crate::guard::{Guard, GuardState, Reading, observe};

const MINUTE: Millis = 60_000;

fn plan() -> Plan {
    let step = |percent: f64, needs_approval| Step {
        percent: Percent::try_from(percent).unwrap(),
        soak_ms: 10 * MINUTE,
        min_users: 50,
        needs_approval,
    };
    Plan { steps: vec![step(1.0, false), step(50.0, true), step(100.0, false)] }
}

fn verdict(standing: Standing) -> Verdict {
    let settings = Guard::default();
    let reading = [Reading::default()];
    let mut found = observe(&mut GuardState::new(&settings, 0), &settings, &reading, None, 0);
    found.standing = standing;
    found.words = "words".to_owned();
    found
}

fn move_with(state: &RolloutState, standing: Standing, act: Act, users: u64, now: Millis) -> Move {
    let verdict = verdict(standing);
    let next = Next { act, page: false, instead_of: None, words: "words".to_owned() };
    let guards = [Guarded { verdict: &verdict, next: &next }];
    next_move(&plan(), state, &guards, users, now)
}

fn quiet(state: &RolloutState, users: u64, now: Millis) -> Move {
    move_with(state, Standing::Ok, Act::Nothing, users, now)
}

fn percent(percent: f64) -> Percent {
    Percent::try_from(percent).unwrap()
}

/// In its first step since the time 0.
fn first_step() -> RolloutState {
    let state = RolloutState::default();
    let made = quiet(&state, 0, 0);
    assert_eq!(made, Move::Raise { percent: percent(1.0) });
    state.after(&made, 0)
}

#[test]
fn a_healthy_rollout_goes_from_step_to_step() {
    let state = first_step();
    let early = quiet(&state, 500, 9 * MINUTE);
    assert_eq!(
        early,
        Move::Wait {
            why: "This step lasts for another 1 minute.".to_owned(),
            until: Some(10 * MINUTE)
        }
    );
    let few = quiet(&state, 49, 10 * MINUTE);
    assert!(matches!(few, Move::Wait { why, until: None } if why.starts_with("49 of 50 users")));

    let asks = quiet(&state, 50, 10 * MINUTE);
    assert_eq!(asks, Move::AskApproval { step: 1, percent: percent(50.0) });
    let state = state.after(&asks, 10 * MINUTE);
    let wrong = state.command(&plan(), Command::Approve(2), 0);
    assert_eq!(wrong, Err(Refusal::OtherStep { next: 2, given: 3 }));
    let state = state.command(&plan(), Command::Approve(1), 11 * MINUTE).unwrap();
    let made = quiet(&state, 50, 11 * MINUTE);
    assert_eq!(made, Move::Raise { percent: percent(50.0) });

    let state = state.after(&made, 11 * MINUTE);
    let made = quiet(&state, 50, 21 * MINUTE);
    let state = state.after(&made, 21 * MINUTE);
    assert_eq!((made, state.step), (Move::Raise { percent: percent(100.0) }, Some(2)));

    let blind = move_with(&state, Standing::Insufficient, Act::Nothing, 50, 31 * MINUTE);
    assert_eq!(blind, Move::Done);
    let state = state.after(&blind, 31 * MINUTE);
    assert_eq!(state.phase, Phase::Done);
    assert_eq!(state.command(&plan(), Command::Abort, 0), Err(Refusal::Ended));
}

#[test]
fn guards_are_heard_in_every_state() {
    let paused = first_step().command(&plan(), Command::Pause, MINUTE).unwrap();
    let back = Move::PutBack { why: "words".to_owned() };
    for state in [first_step(), paused, RolloutState::default()] {
        assert_eq!(move_with(&state, Standing::Bad, Act::PutBack, 0, MINUTE), back);
    }
    let ended = first_step().after(&back, MINUTE);
    assert_eq!(quiet(&ended, 999, 99 * MINUTE), Move::Done);
    assert_eq!(ended.after(&Move::Done, 0).phase, Phase::PutBack);
}

#[test]
fn time_on_hold_does_not_count() {
    let state = first_step();
    let silent = Standing::NoData { age_ms: 20_000 };
    let held = move_with(&state, silent, Act::Hold, 90, 5 * MINUTE);
    assert_eq!(held, Move::Hold { why: "words".to_owned() });

    let state = state.after(&held, 5 * MINUTE).after(&held, 7 * MINUTE);
    let waits = quiet(&state, 90, 9 * MINUTE);
    assert!(matches!(waits, Move::Wait { until: Some(until), .. } if until == 14 * MINUTE));
    let state = state.after(&waits, 9 * MINUTE);
    assert!(matches!(quiet(&state, 90, 13 * MINUTE), Move::Wait { .. }));
    assert!(matches!(quiet(&state, 90, 14 * MINUTE), Move::AskApproval { .. }));
}

#[test]
fn a_pause_ends_when_somebody_says_so() {
    let state = first_step().command(&plan(), Command::Pause, 5 * MINUTE).unwrap();
    assert!(matches!(quiet(&state, 90, 99 * MINUTE), Move::Wait { until: None, .. }));
    assert_eq!(state.command(&plan(), Command::Skip, 0), Err(Refusal::Paused));

    let state = state.command(&plan(), Command::Resume, 100 * MINUTE).unwrap();
    assert!(matches!(quiet(&state, 90, 104 * MINUTE), Move::Wait { .. }));
    assert!(matches!(quiet(&state, 90, 105 * MINUTE), Move::AskApproval { .. }));
    assert_eq!(state.command(&plan(), Command::Resume, 0), Err(Refusal::NotPaused));
}

#[test]
fn skipping_ends_the_waiting_but_not_what_holds() {
    let state = first_step().command(&plan(), Command::Skip, 0).unwrap();
    assert!(matches!(quiet(&state, 0, 1), Move::AskApproval { .. }));
    let held = move_with(&state, Standing::SampleRatio, Act::Hold, 0, 1);
    assert!(matches!(held, Move::Hold { .. }));
}

#[test]
fn doubts_keep_a_rollout_from_growing() {
    let state = first_step();
    for (standing, act) in [
        (Standing::Warn, Act::Warn),
        (Standing::Bad, Act::Warn),
        (Standing::Insufficient, Act::Nothing),
    ] {
        let found = move_with(&state, standing, act, 90, 60 * MINUTE);
        assert_eq!(found, Move::Wait { why: "words".to_owned(), until: None });
    }
}

#[test]
fn an_abort_puts_back() {
    let state = first_step().command(&plan(), Command::Abort, 1).unwrap();
    assert!(matches!(quiet(&state, 90, 2), Move::PutBack { .. }));
}

#[test]
fn a_clock_that_jumps_breaks_nothing() {
    let state = first_step();
    assert!(matches!(quiet(&state, 90, Millis::MIN), Move::Wait { .. }));
    let held = state.after(&Move::Hold { why: String::new() }, Millis::MAX);
    assert!(matches!(quiet(&held, 90, 0), Move::Wait { .. }));
    let wild = Plan { steps: vec![Step { soak_ms: Millis::MAX, ..plan().steps[0].clone() }] };
    assert!(matches!(next_move(&wild, &state, &[], 90, 0), Move::Wait { .. }));
}

#[test]
fn plans_that_cannot_work_are_named() {
    assert_eq!(Plan::default().problems(), []);
    assert_eq!(plan().problems(), []);
    let mut wrong = plan();
    wrong.steps[0].percent = Percent::NONE;
    wrong.steps[1].soak_ms = -1;
    wrong.steps[2].percent = percent(50.0);
    let found = wrong.problems();
    let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["steps[0].percent", "steps[1].soak_ms", "steps[2].percent"]);
    assert_eq!(found[2].1, "50 % is not more than the 50 % of the step before");
    assert_eq!(Plan { steps: Vec::new() }.problems().len(), 1);
}
