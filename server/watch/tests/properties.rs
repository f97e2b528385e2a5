//! What holds for any input: no NaN, no panic, more harm is never less evidence, and nothing turns on by itself.

use proptest::prelude::*;
use switchback_core::model::Millis;
use switchback_watch::action::{Surroundings, next_action};
use switchback_watch::baseline::{self, Count};
use switchback_watch::grid::{Cusum, Grid, Tick};
use switchback_watch::guard::{Arrivals, Guard, GuardState, Reading, Standing, observe};
use switchback_watch::ratio::Ratio;
use switchback_watch::rollout::{Command, Guarded, Move, Plan, RolloutState, next_move};
use switchback_watch::{sample_ratio, volume};

/// Any counts at all, the nonsensical and the largest among them.
fn any_tick() -> impl Strategy<Value = Tick> {
    let count = || prop_oneof![0..50_u64, Just(0), Just(u64::MAX), any::<u64>()];
    (count(), count(), count(), count()).prop_map(|(treated, treated_bad, control, control_bad)| {
        Tick { treated, treated_bad, control, control_bad }
    })
}

/// Counts that can be true.
fn sound_tick() -> impl Strategy<Value = Tick> {
    (0..200_u64, 0..200_u64).prop_flat_map(|(treated, control)| {
        (0..=treated, 0..=control).prop_map(move |(treated_bad, control_bad)| Tick {
            treated,
            treated_bad,
            control,
            control_bad,
        })
    })
}

fn any_ratio() -> impl Strategy<Value = f64> {
    prop_oneof![0.5..4.0_f64, Just(1.0), any::<f64>()]
}

fn evidence(ticks: &[Tick], psi0: f64) -> (f64, f64) {
    let (mut grid, mut cusum) = (Grid::default(), Cusum::default());
    for tick in ticks {
        grid.observe(tick, psi0);
        cusum.observe(tick, psi0);
    }
    (grid.evidence(), cusum.evidence())
}

proptest! {
    /// A NaN would compare as false everywhere, so that harm would pass.
    #[test]
    fn the_evidence_is_always_a_number(
        ticks in prop::collection::vec(any_tick(), 0..30), psi0 in any_ratio()
    ) {
        let (mut grid, mut cusum, mut ratio) = (Grid::default(), Cusum::default(), Ratio::default());
        let mut p_before = 1.0;
        for tick in &ticks {
            grid.observe(tick, psi0);
            cusum.observe(tick, psi0);
            ratio.observe(tick);
            prop_assert!(grid.evidence().is_finite() && cusum.evidence().is_finite(), "{tick:?}");
            prop_assert!(grid.p_value() <= p_before && grid.p_value() >= 0.0);
            prop_assert!(ratio.estimate().is_none_or(f64::is_finite), "{:?}", tick);
            p_before = grid.p_value();
        }
    }

    /// One more treated user that failed never makes the flag look better.
    #[test]
    fn more_harm_is_more_evidence(
        before in prop::collection::vec(sound_tick(), 0..10), tick in sound_tick(), psi0 in 0.5..4.0_f64
    ) {
        prop_assume!(tick.treated_bad < tick.treated);
        let worse = Tick { treated_bad: tick.treated_bad + 1, ..tick };
        let with = |last: Tick| evidence(&[before.clone(), vec![last]].concat(), psi0);
        let (was, is) = (with(tick), with(worse));
        prop_assert!(is.0 >= was.0 - 1e-9 && is.1 >= was.1 - 1e-9, "{was:?} {is:?}");
    }

    /// Two nodes add their counts up before anybody looks: which of them saw a user makes no difference.
    #[test]
    fn counts_may_be_summed_in_any_order(
        ticks in prop::collection::vec((sound_tick(), sound_tick(), sound_tick()), 0..20)
    ) {
        let forth: Vec<Tick> = ticks.iter().map(|(a, b, c)| a.plus(b).plus(c)).collect();
        let back: Vec<Tick> = ticks.iter().map(|(a, b, c)| c.plus(a).plus(b)).collect();
        prop_assert_eq!(evidence(&forth, 1.0), evidence(&back, 1.0));
    }

    /// With the same users in every tick, merging ticks changes nothing either.
    #[test]
    fn ticks_of_the_same_size_may_be_merged(
        failures in prop::collection::vec((0..5_u64, 0..5_u64), 2..20)
    ) {
        let tick = |scale: u64, treated_bad, control_bad| Tick {
            treated: 30 * scale, treated_bad, control: 70 * scale, control_bad,
        };
        let apart: Vec<Tick> = failures.iter().map(|(t, c)| tick(1, *t, *c)).collect();
        let sum = failures.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let whole = tick(failures.len() as u64, sum.0, sum.1);
        let (apart, whole) = (evidence(&apart, 1.2).0, evidence(&[whole], 1.2).0);
        prop_assert!((apart - whole).abs() < 1e-9, "{apart} {whole}");
    }

    /// Whatever comes in, at whatever times: the sentence is whole and the state can be kept and read back.
    #[test]
    fn a_guard_takes_anything(
        news in prop::collection::vec(
            (prop::option::of(any_tick()), prop::option::of(any::<f64>()), any::<Millis>(),
             prop::option::of((any::<u64>(), any::<u64>(), any::<f64>()))),
            0..20,
        ),
        tolerated in any_ratio(), alpha in any::<f64>(), tick_ms in any::<Millis>(),
    ) {
        let settings = Guard { tolerated, alpha_act: alpha, tick_ms, ..Guard::default() };
        let mut state = GuardState::new(&settings, 0);
        for (tick, usual, now, arrivals) in news {
            let arrivals =
                arrivals.map(|(treated, control, share)| Arrivals { treated, control, share });
            let found = observe(&mut state, &settings, &[Reading { tick, usual }], arrivals, now);
            prop_assert!(found.evidence.is_finite() && found.bound.is_finite());
            prop_assert!((0.0..=1.0).contains(&found.p_value));
            prop_assert!(!found.words.contains("NaN") && !found.words.contains("inf"), "{}", found.words);
            let next = next_action(&settings, &found, &Surroundings::default(), now);
            prop_assert!(!next.words.is_empty());
            let text = serde_json::to_string(&state).unwrap();
            let back = GuardState::read(&text, &settings, now);
            prop_assert_eq!(back.users(), state.users());
        }
    }

    /// Without both arms failing differently nobody is blamed, however the clock jumps.
    #[test]
    fn an_empty_or_nonsensical_tick_is_never_harm(
        ticks in prop::collection::vec((0..9_u64, 10..99_u64, any::<Millis>()), 1..40)
    ) {
        let settings = Guard::default();
        let mut state = GuardState::new(&settings, 0);
        for (users, bad, now) in ticks {
            let tick = Tick { treated: users, treated_bad: bad, control: users, control_bad: 0 };
            let reading = Reading { tick: Some(tick), usual: Some(0.02) };
            let found = observe(&mut state, &settings, &[reading], None, now);
            let harmless =
                matches!(found.standing, Standing::Insufficient | Standing::NoData { .. });
            prop_assert!(harmless, "{:?}", found.standing);
        }
    }

    /// A rollout only ever grows to its next step, and never grows after it was put back.
    #[test]
    fn a_rollout_never_skips_a_step_or_returns(
        moves in prop::collection::vec((0..7_u8, 0..400_u64, 0..30_u8), 1..60)
    ) {
        let (plan, settings) = (Plan::default(), Guard::default());
        let (mut state, mut now, mut ended) = (RolloutState::default(), 0, false);
        for (command, users, minutes) in moves {
            now += Millis::from(minutes) * 60_000;
            let command = match command {
                0 => Some(Command::Pause),
                1 => Some(Command::Resume),
                2 => Some(Command::Skip),
                3 if users < 20 => Some(Command::Abort),
                4 => Some(Command::Approve(state.step.map_or(0, |step| step + 1))),
                _ => None,
            };
            if let Some(next) = command.and_then(|command| state.command(&plan, command, now).ok()) {
                state = next;
            }
            let mut guard = GuardState::new(&settings, now);
            let verdict = observe(&mut guard, &settings, &[Reading::default()], None, now);
            let next = next_action(&settings, &verdict, &Surroundings::default(), now);
            let guards = [Guarded { verdict: &verdict, next: &next }];
            let made = next_move(&plan, &state, &guards, users, now);
            let before = state.step;
            state = state.after(&made, now);
            if let Move::Raise { percent } = made {
                prop_assert!(!ended, "it was over");
                prop_assert_eq!(state.step, Some(before.map_or(0, |step| step + 1)));
                prop_assert_eq!(percent, plan.steps[state.step.unwrap()].percent);
            }
            ended |= matches!(made, Move::PutBack { .. } | Move::Done);
        }
    }

    /// The simple rules: a number or nothing.
    #[test]
    fn the_simple_rules_take_anything(
        users in any::<u64>(), bad in any::<u64>(), usual in any::<f64>(), mean in any::<f64>(),
        shares in prop::collection::vec(any::<f64>(), 0..4), counts in prop::collection::vec(any::<u64>(), 0..4),
    ) {
        let window = Count { users, bad };
        prop_assert!(baseline::z(window, usual).is_none_or(f64::is_finite));
        prop_assert!(sample_ratio::evidence(&counts, &shares).is_none_or(f64::is_finite));
        let mean = if mean.abs() > 1e6 && mean.abs() < 1e10 { 1e6 } else { mean }; // time, not range
        prop_assert!(volume::log_tail(users, mean).is_none_or(|tail| tail <= 0.0));
        prop_assert!(volume::log_tail(users % 100, mean).is_none_or(|tail| tail <= 0.0));
    }
}
