//! What a guard says, tick by tick.

use super::*;

const TICK: Millis = 5_000;

fn reading(treated_bad: u64, control_bad: u64) -> Reading {
    let tick = Tick { treated: 20, treated_bad, control: 20, control_bad };
    Reading { tick: Some(tick), usual: Some(0.02) }
}

/// Runs so many ticks of one reading and gives the last verdict.
fn run(state: &mut GuardState, settings: &Guard, reading: Reading, ticks: i64) -> Verdict {
    let from = state.now;
    let mut last = None;
    for tick in 1..=ticks {
        last = Some(observe(state, settings, &[reading], None, from + tick * TICK));
    }
    last.unwrap()
}

fn fresh() -> (Guard, GuardState) {
    let settings = Guard { subject: "the new login".to_owned(), ..Guard::default() };
    let state = GuardState::new(&settings, 0);
    (settings, state)
}

#[test]
fn harm_is_named_with_its_size() {
    let (settings, mut state) = fresh();
    run(&mut state, &settings, reading(1, 1), 10);
    let found = run(&mut state, &settings, reading(3, 1), 60);

    assert_eq!(found.standing, Standing::Bad);
    assert!(found.p_value < 1e-4 && found.evidence > found.bound);
    assert_eq!(found.words, "Users with the new login fail 2.7 times as often (at least 1.6).");
}

#[test]
fn a_healthy_change_is_fine_and_a_young_one_is_unknown() {
    let (settings, mut state) = fresh();
    let one = Tick { treated: 4, treated_bad: 4, control: 4, control_bad: 0 };
    let young = run(&mut state, &settings, Reading { tick: Some(one), usual: None }, 1);
    assert_eq!(young.standing, Standing::Insufficient);
    assert!(young.words.contains("4 with the new login and 4 without; 8 of each"));

    let (settings, mut state) = fresh();
    assert_eq!(run(&mut state, &settings, reading(1, 1), 2_000).standing, Standing::Ok);
}

#[test]
fn harm_that_comes_late_is_named_with_its_own_size() {
    let (settings, mut state) = fresh();
    run(&mut state, &settings, reading(1, 1), 2_000);
    let found = run(&mut state, &settings, reading(8, 1), 9);

    assert_eq!(found.standing, Standing::Bad);
    assert_eq!(found.words, "Users with the new login fail 8.0 times as often.");
}

#[test]
fn silence_and_nonsense_are_no_data_and_never_pass() {
    let (settings, mut state) = fresh();
    run(&mut state, &settings, reading(1, 1), 100);
    let nonsense = Tick { treated: 1, treated_bad: 99, control: 1, control_bad: 0 };
    for silent in [None, Some(nonsense)] {
        let mut state = state.clone();
        let found = run(&mut state, &settings, Reading { tick: silent, usual: None }, 4);
        assert_eq!(found.standing, Standing::NoData { age_ms: 20_000 });
        assert_eq!(found.words, "No data about `failures` for 20 seconds: nothing can be said.");
    }
}

#[test]
fn an_arm_that_falls_silent_is_no_data_and_an_idle_night_is_not() {
    let (settings, mut state) = fresh();
    run(&mut state, &settings, reading(1, 1), 100);
    let night = Reading { tick: Some(Tick::default()), usual: None };
    assert_eq!(run(&mut state.clone(), &settings, night, 500).standing, Standing::Ok);

    let half = Tick { control: 20, ..Tick::default() };
    let found = run(&mut state, &settings, Reading { tick: Some(half), usual: None }, 4);
    assert_eq!(found.standing, Standing::NoData { age_ms: 20_000 });
}

#[test]
fn what_breaks_both_arms_is_not_blamed_on_the_flag() {
    let (settings, mut state) = fresh();
    run(&mut state, &settings, reading(1, 1), 20);
    let found = run(&mut state, &settings, reading(16, 12), 12);
    assert_eq!(found.standing, Standing::NotThisFlag);
}

#[test]
fn wrong_shares_come_before_harm() {
    let (settings, mut state) = fresh();
    run(&mut state, &settings, reading(9, 1), 50);
    let arrivals = Arrivals { treated: 100, control: 300, share: 0.5 };
    let now = state.now + TICK;
    let found = observe(&mut state, &settings, &[reading(9, 1)], Some(arrivals), now);

    assert_eq!(found.standing, Standing::SampleRatio);
    assert!(found.words.starts_with("25.0 % of new users have the new login where 50.0 % should"));
}

#[test]
fn a_second_metric_shares_the_error_rate_and_decides_alone() {
    let settings =
        Guard { metrics: vec!["failures".into(), "time_outs".into()], ..Guard::default() };
    let mut state = GuardState::new(&settings, 0);
    let mut found = None;
    for tick in 0..30 {
        let readings = [reading(1, 1), reading(6, 1)];
        found = Some(observe(&mut state, &settings, &readings, None, tick * TICK));
    }
    let found = found.unwrap();
    assert_eq!((found.standing, found.metric.as_str()), (Standing::Bad, "time_outs"));
    assert!((found.bound - 20_000_f64.ln()).abs() < 1e-9);
}

#[test]
fn the_state_survives_a_restart_and_what_cannot_be_read_begins_anew() {
    let (settings, mut state) = fresh();
    run(&mut state, &settings, reading(3, 1), 7);
    let text = serde_json::to_string(&state).unwrap();

    let back = GuardState::read(&text, &settings, 99);
    assert_eq!(back.users(), (140, 140));
    let mut other = back;
    let found = run(&mut other, &settings, reading(3, 1), 30);
    let expected = run(&mut state, &settings, reading(3, 1), 30);
    assert!((found.evidence - expected.evidence).abs() < 1e-9);

    let stricter = Guard { tolerated: 1.2, ..settings.clone() };
    for (text, settings) in [("{\"since\":1}", &settings), (text.as_str(), &stricter)] {
        assert_eq!(GuardState::read(text, settings, 99), GuardState::new(settings, 99));
    }
}

#[test]
fn a_clock_that_jumps_makes_no_verdict_worse() {
    let (settings, mut state) = fresh();
    run(&mut state, &settings, reading(1, 1), 100);
    for now in [Millis::MIN, 0, 900_000, Millis::MAX, 5] {
        let found = observe(&mut state, &settings, &[reading(1, 1)], None, now);
        assert_eq!(found.standing, Standing::Ok, "{now}");
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    assert_eq!(Guard::default().problems(), []);
    let wrong = Guard {
        metrics: Vec::new(),
        tolerated: f64::NAN,
        alpha_act: 0.1,
        no_data_hold_ms: 1,
        action: Action::RunPlaybook { name: " ".into(), approval: true },
        ..Guard::default()
    };
    let found: Vec<&str> = wrong.problems().into_iter().map(|(field, _)| field).collect();
    assert_eq!(found, ["metrics", "tolerated", "alpha_act", "no_data_hold_ms", "action"]);

    let mut state = GuardState::new(&wrong, 0);
    assert_eq!(observe(&mut state, &wrong, &[], None, 1).standing, Standing::Insufficient);
}
