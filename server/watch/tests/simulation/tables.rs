//! The tables of `docs/statistics.md`, between marks in the text.

use std::fmt::Write as _;

use switchback_watch::grid::Grid;

use crate::rules::{self, Naive, Repeats, Rule};
use crate::scenarios::{HARMS, Harm, NULLS, clopper_pearson_upper};

pub const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/statistics.md");
pub const PARTS: [&str; 6] =
    ["false alarms", "delays", "late", "sample ratio", "baseline", "counted twice"];

pub fn opening(part: &str) -> String {
    format!("<!-- table: {part} -->\n")
}

pub fn write() {
    let mut text = std::fs::read_to_string(PATH).unwrap();
    for part in PARTS {
        let table = match part {
            "false alarms" => false_alarms(),
            "delays" => delays(),
            "late" => late(),
            "sample ratio" => sample_ratio(),
            "baseline" => baseline(),
            _ => counted_twice(),
        };
        let (before, rest) = text.split_once(&opening(part)).expect(part);
        let (_, after) = rest.split_once("<!-- end -->").expect(part);
        text = format!("{before}{}{table}<!-- end -->{after}", opening(part));
    }
    std::fs::write(PATH, text).unwrap();
}

fn percent(share: f64) -> String {
    if share < 0.000_05 { "0".to_owned() } else { format!("{:.2} %", share * 100.0) }
}

fn pair((median, late): (f64, f64)) -> String {
    format!("{median:.0} / {late:.0}")
}

fn false_alarms() -> String {
    let mut table = "| healthy service | `> 10 %` in a tick | in more than 3 ticks | z-test at each tick | grid | at most (99 %) |\n\
                     | --- | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for null in &NULLS {
        let rule = |rule: Rule| percent(rules::naive_alarms(null, 4_000, rule));
        let alarms = null.alarms(20_000, 0.01);
        let cells = [
            rule(rules::fixed),
            rule(rules::fixed_thrice),
            rule(rules::z_each_tick),
            percent(alarms as f64 / 20_000.0),
            percent(clopper_pearson_upper(alarms, 20_000, 0.01)),
        ];
        writeln!(table, "| {} | {} |", null.name, cells.join(" | ")).unwrap();
    }
    table
}

fn delays() -> String {
    let mut table = "| change | grid at 1 % | grid at 0.01 % | z-test at each tick (not valid) |\n\
                     | --- | ---: | ---: | ---: |\n"
        .to_owned();
    for harm in &HARMS {
        let z = harm.delays_by(4_000, |state: &mut Naive, tick| rules::z_each_tick(state, tick));
        let cells = [pair(harm.delays(4_000, 0.01)), pair(harm.delays(4_000, 1e-4)), pair(z)];
        writeln!(table, "| {} | {} |", harm.name, cells.join(" | ")).unwrap();
    }
    let ramp = ramp_delays();
    writeln!(
        table,
        "| 2 % to 12 %, ramp 1, 5, 10, 25, 50 % of 40, 12 min a step | {} | {} | - |",
        ramp.0, ramp.1
    )
    .unwrap();
    table
}

fn ramp_delays() -> (String, String) {
    use switchback_watch::draw::{Binomial, Draw};
    use switchback_watch::grid::Tick;
    let by = |alpha: f64| {
        let delays = (0..4_000_u64).map(|run| {
            let (mut draw, mut grid) = (Draw::new(17_000_023 * run), Grid::default());
            let seen = (0..720).find(|tick| {
                let (treated, control) = crate::scenarios::ramp(*tick);
                grid.observe(
                    &Tick {
                        treated,
                        treated_bad: draw.binomial(&Binomial::new(treated, 0.12)),
                        control,
                        control_bad: draw.binomial(&Binomial::new(control, 0.02)),
                    },
                    1.0,
                );
                grid.evidence() >= -alpha.ln()
            });
            (seen.unwrap_or(720) + 1) as f64 * 5.0
        });
        pair(crate::scenarios::percentiles(delays.collect()))
    };
    (by(0.01), by(1e-4))
}

fn late() -> String {
    let even = Harm { name: "20 + 20", treated: (20, 0.12), control: (20, 0.02), healthy: 360 };
    let few = Harm { name: "2 + 38", treated: (2, 0.12), control: (38, 0.02), healthy: 360 };
    let mut table = "| 2 % to 12 % after 30 minutes | since the start, 1 % | one false alarm a day | one in 30 days |\n\
                     | --- | ---: | ---: | ---: |\n"
        .to_owned();
    for harm in [even, few] {
        let cells = [
            pair(harm.delays(2_000, 0.01)),
            pair(harm.late_delays(2_000, 17_280.0)),
            pair(harm.late_delays(2_000, 518_400.0)),
        ];
        writeln!(table, "| {} | {} |", harm.name, cells.join(" | ")).unwrap();
    }
    let ticks = rules::run_length(1_000, 1_000.0, 200_000);
    writeln!(
        table,
        "\nAt a threshold of 1,000 ticks the mean time to a false alarm was {:.0} ticks, {:.1} times the promise.",
        ticks,
        ticks / 1_000.0
    )
    .unwrap();
    table
}

fn sample_ratio() -> String {
    let mut table = "| 40 new users a tick | false within an hour, or median time to the alarm |\n| --- | ---: |\n".to_owned();
    let false_share = rules::ratio_alarms(20_000, 0.5, 0.5) as f64 / 20_000.0;
    writeln!(table, "| 50 : 50 as meant | {} false |", percent(false_share)).unwrap();
    for (name, real, meant) in [
        ("55 : 45 for 50 : 50", 0.55, 0.5),
        ("52 : 48 for 50 : 50", 0.52, 0.5),
        ("12 : 88 for 10 : 90", 0.12, 0.1),
    ] {
        writeln!(table, "| {name} | {:.0} s |", rules::ratio_delay(2_000, real, meant)).unwrap();
    }
    table
}

fn baseline() -> String {
    let mut table = "| healthy service | whole minutes, z > 4 | 60 s at each tick, z > 4 | 60 s, z > 5 | 5 min, z > 4 |\n\
                     | --- | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for (minute, rate) in [(60_u64, 0.02), (60, 0.08), (240, 0.02), (960, 0.02)] {
        let tick = minute / 12;
        let cells = [
            rules::bucket_alarms(1_000, minute, rate, 4.0),
            rules::sliding_episodes(300, tick, rate, 12, 4.0),
            rules::sliding_episodes(300, tick, rate, 12, 5.0),
            rules::sliding_episodes(300, tick, rate, 60, 4.0),
        ]
        .map(|a_day| format!("{a_day:.3}"));
        writeln!(
            table,
            "| {minute} users a minute, {:.0} % | {} |",
            rate * 100.0,
            cells.join(" | ")
        )
        .unwrap();
    }
    table.push_str("\n| change | 60 s, z > 4 | 5 min, z > 4 |\n| --- | ---: | ---: |\n");
    for (minute, from, to) in [(240_u64, 0.02, 0.12), (60, 0.02, 0.12), (1_000, 0.02, 0.06)] {
        let delays = |ticks| pair(rules::baseline_delays(4_000, minute / 12, from, to, ticks));
        let cells = [delays(12), delays(60)].join(" | ");
        writeln!(
            table,
            "| {minute} users a minute, {:.0} % to {:.0} % | {cells} |",
            from * 100.0,
            to * 100.0
        )
        .unwrap();
    }
    table
}

fn counted_twice() -> String {
    let mut table =
        "| a healthy service with 2 % failures, 20 + 20 | taken back at 1 % | at 0.01 % |\n\
                     | --- | ---: | ---: |\n"
            .to_owned();
    let repeats = |times, apart, weight| Repeats { times, apart, weight };
    for (name, repeats) in [
        ("each failing user counts once", repeats(1, 1, 1)),
        ("each user's five requests count", repeats(1, 1, 5)),
        ("a failing user counts again in the next tick", repeats(2, 1, 1)),
        ("a failing user counts in every tick of a minute", repeats(12, 1, 1)),
        ("a failing user counts again after ten minutes", repeats(2, 120, 1)),
        ("a failing user counts every ten minutes for an hour", repeats(6, 120, 1)),
    ] {
        let shares = rules::repeated_alarms(10_000, repeats).map(percent).join(" | ");
        writeln!(table, "| {name} | {shares} |").unwrap();
    }
    table
}
