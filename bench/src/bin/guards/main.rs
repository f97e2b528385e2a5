//! What a thousand guards cost in one tick, beside a thousand naive z-tests in the same run.
//!
//! `guards [--markdown]` prints the table.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::hint::black_box;

use switchback_bench::measure::{Counting, allocations_per_call, ns_per_call};
use switchback_bench::table::{number, render};
use switchback_core::model::Percent;
use switchback_watch::draw::{Binomial, Draw};
use switchback_watch::grid::{Cusum, Grid, Tick};
use switchback_watch::guard::{Guard, GuardState, Reading, observe};
use switchback_watch::rollout::{Traffic, detection_time};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GUARDS: usize = 1_000;
/// Ticks that are drawn beforehand and gone round.
const TICKS: usize = 4_096;

fn main() {
    let markdown = std::env::args().any(|argument| argument == "--markdown");
    let ticks = ticks();
    let mut rows = vec![row_head()];
    let floor = ns_per_call(z_tests(&ticks));
    let mut add = |name: &str, ns: f64, allocations: f64| {
        rows.push(vec![
            name.to_owned(),
            number(ns / 1_000.0),
            format!("{:.2}", ns / floor),
            number(allocations),
        ]);
    };
    add("floor: 1,000 z-tests", floor, allocations_per_call(z_tests(&ticks)));
    add("1,000 grids", ns_per_call(grids(&ticks)), allocations_per_call(grids(&ticks)));
    add("1,000 guards", ns_per_call(guards(&ticks)), allocations_per_call(guards(&ticks)));
    add("1,000 states as JSON and back", ns_per_call(states()), allocations_per_call(states()));
    add("one estimate of a delay", ns_per_call(estimate), allocations_per_call(estimate));
    print!("{}", render(&rows, markdown));
}

fn row_head() -> Vec<String> {
    ["work of a tick", "CPU us", "x floor", "allocations"].map(str::to_owned).to_vec()
}

/// A healthy service with 2 % failures, 20 + 20 users a tick.
fn ticks() -> Vec<Tick> {
    let (mut draw, of) = (Draw::new(1), Binomial::new(20, 0.02));
    let mut tick = || Tick {
        treated: 20,
        treated_bad: draw.binomial(&of),
        control: 20,
        control_bad: draw.binomial(&of),
    };
    (0..TICKS).map(|_| tick()).collect()
}

/// The least that anybody does: sums, and the pooled test of two shares.
fn z_tests(ticks: &[Tick]) -> impl FnMut(u64) {
    let mut sums = vec![Tick::default(); GUARDS];
    let mut news = ticks.iter().cycle();
    move |calls| {
        for _ in 0..calls {
            for (sum, tick) in sums.iter_mut().zip(&mut news) {
                *sum = sum.plus(tick);
                let (n, m) = (sum.treated as f64, sum.control as f64);
                let pooled = (sum.treated_bad + sum.control_bad) as f64 / (n + m);
                let spread = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
                let z = (sum.treated_bad as f64 / n - sum.control_bad as f64 / m) / spread;
                black_box(z > 2.326_348);
            }
        }
    }
}

/// The evidence alone.
fn grids(ticks: &[Tick]) -> impl FnMut(u64) {
    let mut states = vec![(Grid::default(), Cusum::default()); GUARDS];
    let mut news = ticks.iter().cycle();
    move |calls| {
        for _ in 0..calls {
            for ((grid, cusum), tick) in states.iter_mut().zip(&mut news) {
                grid.observe(tick, 1.0);
                cusum.observe(tick, 1.0);
                black_box((grid.evidence(), cusum.evidence()));
            }
        }
    }
}

/// Everything that a guard looks at, to the sentence that it says.
fn guards(ticks: &[Tick]) -> impl FnMut(u64) {
    let settings = Guard::default();
    let mut states = vec![GuardState::new(&settings, 0); GUARDS];
    let mut news = ticks.iter().cycle();
    let mut now = 0;
    move |calls| {
        for _ in 0..calls {
            now += settings.tick_ms;
            for (state, tick) in states.iter_mut().zip(&mut news) {
                let reading = Reading { tick: Some(*tick), usual: Some(0.02) };
                black_box(observe(state, &settings, &[reading], None, now));
            }
        }
    }
}

/// What keeping the states costs.
fn states() -> impl FnMut(u64) {
    let settings = Guard::default();
    let mut state = GuardState::new(&settings, 0);
    for (index, tick) in (1..).zip(ticks().into_iter().take(100)) {
        let reading = Reading { tick: Some(tick), usual: Some(0.02) };
        observe(&mut state, &settings, &[reading], None, index * settings.tick_ms);
    }
    move |calls| {
        for _ in 0..calls * GUARDS as u64 {
            let text = serde_json::to_string(&state).unwrap_or_default();
            black_box(GuardState::read(&text, &settings, 0));
        }
    }
}

/// The longest there is: a harm that is hardly one.
fn estimate(calls: u64) {
    let traffic = Traffic { users_per_tick: 40.0, tick_ms: 5_000, base_rate: 0.02 };
    for _ in 0..calls {
        let percent = Percent::from_thousandths(5_000).unwrap_or(Percent::NONE);
        black_box(detection_time(percent, black_box(&traffic), 1.05, 1e-4));
    }
}
