//! Cases, from their text to their reports.

use super::*;
use crate::grid::Tick;

fn report(text: &str) -> Report {
    run(&parse(text).unwrap())
}

fn refusals(text: &str) -> Vec<String> {
    parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn harm_is_found_in_time_and_a_healthy_hour_is_quiet() {
    let found = report(
        "name: sign-in breaks\n\
         guard: {subject: the new login}\n\
         series: {for: 30m, users: 40, share: 50%, failures: 2%, harm: {from: 10m, times: 6}, seed: 7, runs: 200}\n\
         expect: {reaches: bad, within: 4m, share: 95%, false_alarms: 0, never: [sample_ratio, no_data]}\n",
    );
    assert_eq!(found.broken, Vec::<String>::new());
    assert!((30_000..120_000).contains(&found.median_ms.unwrap()), "{found:?}");
    let last = found.events.last().unwrap();
    assert!(last.words.starts_with("Users with the new login fail "), "{}", last.words);

    let healthy = report("name: n\nseries: {for: 1h, runs: 200}\nexpect: {false_alarms: 0}\n");
    assert!(healthy.passed());
}

#[test]
fn what_does_not_come_true_is_named() {
    let found = report(
        "name: impatient\n\
         series: {for: 10m, harm: {from: 1m, times: 3}, runs: 50}\n\
         expect: {reaches: bad, within: 10s, never: [ok]}\n",
    );
    assert_eq!(
        found.broken,
        [
            "`bad` within 10s in 0 of 50 runs; 50 are expected",
            "`ok` in 50 of 50 runs, first in run 1 after 5s"
        ]
    );
}

#[test]
fn outages_silences_and_wrong_shares_are_told_apart() {
    for (series, standing) in [
        ("outage: {from: 5m, to: 9m, failures: 50%}", "not_this_flag"),
        ("silence: {from: 5m, to: 6m}", "no_data"),
        ("new_users: {each: 30, share: 65%}", "sample_ratio"),
    ] {
        let found = report(&format!(
            "name: n\nseries: {{for: 10m, users: 80, {series}, runs: 20}}\n\
             expect: {{reaches: {standing}, within: 2m, never: [bad]}}\n"
        ));
        assert_eq!(found.broken, Vec::<String>::new(), "{series}");
    }
}

#[test]
fn recorded_ticks_are_tried_as_they_were() {
    let mut ticks = vec!["[20, 0, 20, 0]"; 30];
    ticks.extend(["[20, 9, 20, 0]"; 6]);
    ticks.push("none");
    let text = format!(
        "name: n\nseries: {{ticks: [{}], harm: {{from: 150s}}}}\nexpect: {{reaches: bad, within: 30s}}\n",
        ticks.join(", ")
    );
    let found = report(&text);
    assert_eq!(found.broken, Vec::<String>::new());
    assert_eq!(found.false_alarms, 0);
}

#[test]
fn a_false_alarm_is_counted_and_the_guard_begins_anew() {
    let bad = Tick { treated: 20, treated_bad: 9, control: 20, control_bad: 0 };
    let sample = |index: i64| Sample {
        at: index * 5_000,
        readings: vec![Reading { tick: Some(bad), usual: None }],
        arrivals: None,
    };
    let found = rehearse(&Guard::default(), (1..=20).map(sample), Some(60_000));

    assert!(found.false_alarms >= 2, "{found:?}");
    assert!(found.detected_after_ms.unwrap() <= 20_000);
}

#[test]
fn a_file_that_is_wrong_is_told_so_in_one_look() {
    let found = refusals(
        "name: n\nguard: {alpa: 1, act: 0.5}\nseries: {for: 1h, share: 150%, harm: {from: 1m}}\n\
         expect: {within: 1m, never: [worse]}\n",
    );
    let expected = [
        "2:9: guard.alpa: unknown key `alpa`",
        "2:23: guard.act: a number from 0.000000001 to 0.2 is expected",
        "3:32: series.share: `150%` is not a percentage",
        "3:19: series.harm: `times` is missing",
        "4:18: expect.within: `within` needs `reaches`",
        "4:30: expect.never: this is no standing",
    ];
    for text in expected {
        let place = text.split_once(": ").unwrap().1;
        assert!(found.iter().any(|line| line.contains(place)), "{text}\n{found:#?}");
    }
    assert!(
        refusals("name: n\nseries: {for: 30d, runs: 9}\nexpect: {false_alarms: 0}\n")[0]
            .contains("ticks in all runs")
    );
    assert!(refusals("[]")[0].contains("a map is expected"));
    assert!(
        refusals("name: n\nseries: {ticks: [[1, 2, 3]]}\nexpect: {}\n")[0].contains("four whole")
    );
}
