//! How often each rule alarms falsely and how soon it sees harm, by seeded simulation: bounds asserted here,
//! tables written to `docs/statistics.md` by
//! `cargo test -p switchback-watch --release --test simulation -- --ignored`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests that cannot go on say where and end"
)]

mod rules;
mod scenarios;
mod tables;

use scenarios::{Harm, NULLS, clopper_pearson_upper};

/// Null runs of each scenario.
const RUNS: u64 = 20_000;
const ALPHA: f64 = 0.01;

/// Asserts that the true share of false alarms is below alpha, with 99 % confidence.
fn keeps_its_promise(name: &str) {
    let scenario = NULLS.iter().find(|scenario| scenario.name == name).expect(name);
    let alarms = scenario.alarms(RUNS, ALPHA);
    let upper = clopper_pearson_upper(alarms, RUNS, 0.01);
    assert!(upper <= ALPHA, "{name}: {alarms} of {RUNS} healthy runs, at most {upper:.4}");
}

macro_rules! promises {
    ($($test:ident: $name:literal;)*) => {
        $(#[test] fn $test() { keeps_its_promise($name); })*

        /// A scenario that nobody asserts would be a table's ornament.
        #[test]
        fn every_null_is_asserted() {
            let asserted = [$($name),*];
            assert_eq!(NULLS.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), asserted);
        }
    };
}

promises! {
    a_small_service: "2 %, 20 + 20 users a tick";
    a_rollout_at_five_percent: "2 %, 2 + 38 (5 % rollout)";
    a_rare_failure: "0.2 %, 100 + 100";
    a_frequent_failure: "8 %, 20 + 20";
    a_ramp: "2 %, ramp 1, 5, 10, 25, 50 % of 40";
    outages_of_both: "2 % and 15 % in turns of 5 min, 20 + 20";
    a_failure_of_nearly_half: "40 %, 20 + 20";
    two_nodes: "2 %, two nodes of 10 + 10";
    users_who_differ: "half of the users 0.5 %, half 7.5 %, 20 + 20";
    a_tolerated_ratio: "2.4 % against 2 % with 1.2 tolerated, 20 + 20";
}

/// The delays that the design was chosen by: median and 95th percentile in seconds. Whole ticks, so that a
/// tick more or less is allowed besides the 15 %.
#[test]
fn delays_are_those_of_the_design() {
    let expected = [
        ("2 % to 12 %, 20 + 20", 35.0, 75.0),
        ("2 % to 12 %, 2 + 38", 135.0, 340.0),
        ("2 % to 50 %, 2 + 38", 20.0, 40.0),
        ("0.2 % to 10 %, 5 + 95", 35.0, 75.0),
        ("2 % to 4 %, 20 + 20", 375.0, 870.0),
    ];
    for (name, median, late) in expected {
        let harm = scenarios::HARMS.iter().find(|harm| harm.name == name).expect(name);
        near(name, harm.delays(4_000, ALPHA), (median, late));
    }
}

#[test]
fn a_stricter_promise_costs_little_time() {
    let harm = Harm { name: "", treated: (20, 0.12), control: (20, 0.02), healthy: 0 };
    for (alpha, expected) in
        [(0.05, (25.0, 55.0)), (0.01, (35.0, 75.0)), (0.001, (50.0, 90.0)), (1e-4, (65.0, 120.0))]
    {
        near(&format!("alpha {alpha}"), harm.delays(4_000, alpha), expected);
    }
}

#[test]
fn late_harm_is_seen_sooner_by_restarting() {
    let late = Harm { name: "", treated: (20, 0.12), control: (20, 0.02), healthy: 360 };
    let few = Harm { treated: (2, 0.12), control: (38, 0.02), ..late };
    near("since the start", late.delays(2_000, ALPHA), (175.0, 270.0));
    near("one a day", late.late_delays(2_000, 17_280.0), (60.0, 115.0));
    near("one in 30 days", late.late_delays(2_000, 518_400.0), (85.0, 140.0));
    near("one in 30 days, 5 %", few.late_delays(2_000, 518_400.0), (310.0, 585.0));
}

#[test]
fn restarts_keep_their_run_length() {
    // A thousand ticks between false alarms are promised; the mean of 400 runs shows it many times over.
    let mean = rules::run_length(400, 1_000.0, 60_000);
    assert!(mean >= 1_000.0, "{mean} ticks");
}

#[test]
fn sample_ratios_alarm_rarely_and_soon_enough() {
    let alarms = rules::ratio_alarms(RUNS, 0.5, 0.5);
    let upper = clopper_pearson_upper(alarms, RUNS, 0.01);
    assert!(upper <= switchback_watch::sample_ratio::ALPHA, "{alarms} of {RUNS}");
    for (real, meant, expected) in [(0.55, 0.5, 265.0), (0.52, 0.5, 1_255.0), (0.12, 0.1, 525.0)] {
        let found = rules::ratio_delay(1_000, real, meant);
        assert!((found / expected - 1.0).abs() <= 0.15, "{real} for {meant}: {found} s");
    }
}

#[test]
fn the_arcsine_is_quiet_on_a_healthy_service_and_quick_on_harm() {
    for (users, rate) in [(5, 0.02), (60, 0.02), (60, 0.08), (1_000, 0.02)] {
        let a_day = rules::bucket_alarms(200, users, rate, 4.0);
        assert!(a_day <= 0.15, "{users} a minute at {rate}: {a_day} a day");
    }
    for (users, from, to, window, expected) in [
        (20, 0.02, 0.12, 12, (35.0, 50.0)),
        (5, 0.02, 0.12, 60, (135.0, 215.0)),
        (83, 0.02, 0.06, 12, (35.0, 50.0)),
    ] {
        let found = rules::baseline_delays(2_000, users, from, to, window);
        near(&format!("{users} a tick, {window} ticks"), found, expected);
    }
}

#[test]
fn the_bound_of_the_ratio_is_below_the_truth() {
    let runs = 2_000;
    let wrong = rules::bound_too_high(runs);
    let upper = clopper_pearson_upper(wrong, runs, 0.01);
    assert!(upper <= switchback_watch::ratio::BOUND_ALPHA, "{wrong} of {runs}");
}

#[test]
fn the_table_in_the_documents_is_there() {
    let text = std::fs::read_to_string(tables::PATH).unwrap();
    for part in tables::PARTS {
        assert!(text.contains(&tables::opening(part)), "{part}");
    }
}

/// Writes the tables of `docs/statistics.md`; takes a minute in a release build.
#[test]
#[ignore = "writes docs/statistics.md"]
fn write_the_tables() {
    tables::write();
}

#[track_caller]
fn near(what: &str, found: (f64, f64), expected: (f64, f64)) {
    for (found, expected) in [(found.0, expected.0), (found.1, expected.1)] {
        let allowed = (expected * 0.15).max(5.0);
        assert!((found - expected).abs() <= allowed, "{what}: {found} s, expected {expected} s");
    }
}
