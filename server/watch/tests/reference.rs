//! The rules against the golden vectors, which an independent reference in Python made from the formulas, and
//! against that reference itself on random cases.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests that cannot go on say where and end"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use switchback_core::model::Millis;
use switchback_watch::baseline::{self, Count};
use switchback_watch::draw::Draw;
use switchback_watch::ewma::{Ewma, Usual};
use switchback_watch::grid::{Cusum, Grid, Tick};
use switchback_watch::ratio::Ratio;
use switchback_watch::{burn, hour_of_week, sample_ratio, volume};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[derive(Deserialize)]
struct Case {
    rule: String,
    input: Value,
    output: Value,
}

fn ticks(input: &Value) -> Vec<Tick> {
    let ticks: Vec<[u64; 4]> = serde_json::from_value(input["ticks"].clone()).unwrap();
    let tick = |[treated, treated_bad, control, control_bad]: [u64; 4]| Tick {
        treated,
        treated_bad,
        control,
        control_bad,
    };
    ticks.into_iter().map(tick).collect()
}

fn count(pair: &Value) -> Count {
    Count { users: pair[0].as_u64().unwrap(), bad: pair[1].as_u64().unwrap() }
}

fn number(input: &Value, key: &str) -> f64 {
    input[key].as_f64().unwrap()
}

/// What our rule says to an input.
fn answer(rule: &str, input: &Value) -> Value {
    match rule {
        "grid" => {
            let mut grid = Grid::default();
            for tick in ticks(input) {
                grid.observe(&tick, number(input, "tolerated"));
            }
            json!({"evidence": grid.evidence(), "p_value": grid.p_value()})
        }
        "cusum" => {
            let mut cusum = Cusum::default();
            for tick in ticks(input) {
                cusum.observe(&tick, number(input, "tolerated"));
            }
            json!({"evidence": cusum.evidence()})
        }
        "ratio" => {
            let mut ratio = Ratio::default();
            for tick in ticks(input) {
                ratio.observe(&tick);
            }
            json!({"estimate": ratio.estimate(), "at_least": ratio.at_least()})
        }
        "sample_ratio" => {
            let counts: Vec<u64> = serde_json::from_value(input["counts"].clone()).unwrap();
            let shares: Vec<f64> = serde_json::from_value(input["shares"].clone()).unwrap();
            json!({"evidence": sample_ratio::evidence(&counts, &shares)})
        }
        "baseline" => {
            let (users, bad) = (input["users"].as_u64().unwrap(), input["bad"].as_u64().unwrap());
            json!({"z": baseline::z(Count { users, bad }, number(input, "usual"))})
        }
        "usual_of_hour" => {
            let minutes: Vec<Count> =
                input["minutes"].as_array().unwrap().iter().map(count).collect();
            json!({"rate": baseline::usual_of_hour(&minutes)})
        }
        "volume" => {
            let n = input["n"].as_u64().unwrap();
            json!({"log_tail": volume::log_tail(n, number(input, "mean"))})
        }
        "ewma" => {
            let read =
                |key: &str| -> Vec<f64> { serde_json::from_value(input[key].clone()).unwrap() };
            let (usual, mut ewma) = (Usual::of(&read("usual")).unwrap(), Ewma::default());
            let found = read("values").into_iter().map(|value| ewma.observe(value, &usual));
            json!({"beyond": found.collect::<Vec<_>>()})
        }
        "burn" => {
            let (objective, rate) = (number(input, "objective"), number(input, "rate"));
            let ms = |key: &str| input[key].as_i64().unwrap();
            let long_ms = ms("long_ms");
            let budget = number(input, "budget");
            let threshold = burn::threshold(budget, burn::PERIOD_MS, long_ms).unwrap();
            let pair =
                burn::Pair { severity: burn::Severity::Page, long_ms, short_ms: 30_000, threshold };
            let rollback = burn::rollback_pair(objective, ms("within_ms"), rate).unwrap();
            json!({
                "threshold": threshold,
                "detection_ms": pair.detection_ms(objective, rate),
                "rollback": rollback.threshold,
            })
        }
        "hour_of_week" => {
            const WEEK: Millis = 168 * 3_600_000;
            let (mut usual, mut at) = (hour_of_week::Usual::default(), 0);
            for week in input["weeks"].as_array().unwrap() {
                usual.learn(at, 0, count(week));
                at += WEEK;
            }
            let found = usual.distance(at, 0, count(&input["now"]));
            json!({"rate": found.rate, "volume": found.volume})
        }
        other => panic!("no rule `{other}`"),
    }
}

/// Whether two answers are the same to 1e-9; a detection time is whole milliseconds with us.
fn same(ours: &Value, theirs: &Value, key: &str) -> bool {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b, key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, key))
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            let allowed = if key == "detection_ms" { 1.0 } else { 1e-9 * (1.0 + b.abs()) };
            (a - b).abs() <= allowed
        }
        _ => ours == theirs,
    }
}

#[test]
fn the_golden_vectors_hold() {
    let text = std::fs::read_to_string(format!("{ROOT}/tests/vectors/watch.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 80, "the vectors are there");
    for case in cases {
        let found = answer(&case.rule, &case.input);
        let (rule, input, output) = (&case.rule, &case.input, &case.output);
        assert!(same(&found, output, ""), "{rule} {input}\n ours {found}\n expected {output}");
    }
}

/// A random input of each rule in turn.
fn random(draw: &mut Draw, index: usize) -> (&'static str, Value) {
    let mut below = |limit: u64| draw.bits() % limit;
    let counts = |below: &mut dyn FnMut(u64) -> u64, most: u64| {
        let users = below(most);
        (users, below(users + 1))
    };
    let mut ticks = Vec::new();
    if index % 8 < 3 {
        let (most, harm) = (1 + below(60), 1 + below(6));
        for _ in 0..below(80) {
            let (treated, control) = (below(most), below(most));
            let treated_bad = treated * below(harm * 10) / 100;
            ticks.push([treated, treated_bad.min(treated), control, control * below(10) / 100]);
        }
    }
    let tolerated = [1.0, 1.0, 1.2, 2.0, 0.8][below(5) as usize];
    match index % 8 {
        0 => ("grid", json!({"tolerated": tolerated, "ticks": ticks})),
        1 => ("cusum", json!({"tolerated": tolerated, "ticks": ticks})),
        2 => ("ratio", json!({"ticks": ticks})),
        3 => {
            let share = (1 + below(98)) as f64 / 100.0;
            let counts = [below(20_000), below(20_000)];
            ("sample_ratio", json!({"counts": counts, "shares": [share, 1.0 - share]}))
        }
        4 => {
            let (users, bad) = counts(&mut below, 5_000);
            let usual = below(1_001) as f64 / 1_000.0;
            ("baseline", json!({"users": users, "bad": bad, "usual": usual}))
        }
        5 => {
            let minutes: Vec<_> = (0..below(70)).map(|_| counts(&mut below, 50)).collect();
            ("usual_of_hour", json!({"minutes": minutes}))
        }
        6 => ("volume", json!({"n": below(3_000), "mean": (1 + below(300_000)) as f64 / 100.0})),
        _ => {
            let weeks: Vec<_> = (0..=below(12)).map(|_| counts(&mut below, 3_000)).collect();
            let now = counts(&mut below, 3_000);
            ("hour_of_week", json!({"weeks": weeks, "now": now}))
        }
    }
}

#[test]
fn the_python_reference_agrees_on_random_cases() {
    let mut draw = Draw::new(2_026);
    let cases: Vec<Value> = (0..2_000)
        .map(|index| {
            let (rule, input) = random(&mut draw, index);
            let output = answer(rule, &input);
            json!({"rule": rule, "input": input, "output": output})
        })
        .collect();

    let mut python = Command::new("python3")
        .args([&format!("{ROOT}/tests/statistics/reference.py"), "check"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs the reference; on Debian: apt-get install python3");
    let input = serde_json::to_vec(&cases).unwrap();
    python.stdin.take().unwrap().write_all(&input).unwrap();
    let output = python.wait_with_output().unwrap();

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("2000 cases, 0 differences"), "{said}");
}
