//! How long a flag decision takes in other engines, beside ours: the same thousand flags, each in its engine's own
//! language, one after the other in the same run. Every engine must first show that it decides what the flags say.
//!
//! `switchback-bench-engines [--markdown]` prints the tables; with `--load` only what loading takes.

mod configcat;
mod eppo;
mod flagd;
mod flagsmith;
mod growthbook;
mod launchdarkly;
mod load;
#[expect(dead_code, reason = "shared with the benchmarks that run processes")]
#[path = "../../src/measure.rs"]
mod measure;
mod shares;
mod switchback;
#[path = "../../src/table.rs"]
mod table;
mod unleash;
mod world;

use std::process::ExitCode;

use measure::{Counting, allocations_per_call, ns_per_call};
use table::{number, render};
use world::{Engine, Flag, GROUP, flags};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Make = fn(&[Flag]) -> Box<dyn Engine>;

/// Every engine, ours first.
const ENGINES: &[(&str, Make)] = &[
    ("switchback", |flags| Box::new(switchback::Switchback::new(flags))),
    ("unleash-yggdrasil 0.21.7", |flags| Box::new(unleash::Unleash::new(flags))),
    ("launchdarkly-server-sdk-evaluation 2.2.1", |flags| {
        Box::new(launchdarkly::LaunchDarkly::new(flags))
    }),
    ("eppo_core 10.0.0", |flags| Box::new(eppo::Eppo::new(flags))),
    ("configcat 0.1.7", |flags| Box::new(configcat::ConfigCat::new(flags))),
    ("flagsmith-flag-engine 0.7.0", |flags| Box::new(flagsmith::Flagsmith::new(flags))),
    ("growthbook-rust 0.4.0", |flags| Box::new(growthbook::GrowthBook::new(flags))),
    ("flagd-evaluation-engine 0.1.0", |flags| Box::new(flagd::Flagd::new(flags))),
];

type Work = fn(&dyn Engine, u64);

const WORK: &[(&str, Work)] = &[
    ("W1 plain", |engine, calls| engine.ask("plain", calls)),
    ("W2 50 %", |engine, calls| engine.ask("rollout", calls)),
    ("W3 targeting", |engine, calls| engine.ask("targeting", calls)),
    ("W4 variants", |engine, calls| engine.ask_variant("variants", calls)),
    ("W5 1,000 flags", |engine, calls| engine.ask_all(calls)),
];

fn main() -> ExitCode {
    let is_markdown = std::env::args().any(|argument| argument == "--markdown");
    if std::env::args().any(|argument| argument == "--load") {
        print!("{}", load::report());
        return ExitCode::SUCCESS;
    }
    let flags = flags();
    let columns = WORK.iter().map(|(name, _)| (*name).to_owned());
    let mut head = vec!["CPU ns (allocations)".to_owned()];
    head.extend(columns);
    let (mut rows, mut ratios) = (vec![head.clone()], vec![head]);
    "slower than ours by".clone_into(&mut ratios[0][0]);
    let mut ours: Vec<f64> = Vec::new();
    for (name, make) in ENGINES {
        let mut engine = make(&flags);
        if let Err(message) = shares::check(&*engine, &flags) {
            println!("{name} does not decide what the flags say, and is not timed: {message}");
            return ExitCode::FAILURE;
        }
        if !settle(&mut *engine) {
            println!("{name} lets nobody in");
            return ExitCode::FAILURE;
        }
        let ns: Vec<f64> =
            WORK.iter().map(|(_, work)| ns_per_call(|calls| work(&*engine, calls))).collect();
        let allocations =
            WORK.iter().map(|(_, work)| allocations_per_call(|calls| work(&*engine, calls)));
        let cells = ns.iter().zip(allocations);
        let cells =
            cells.map(|(ns, allocations)| format!("{} ({})", number(*ns), number(allocations)));
        let mut row = vec![(*name).to_owned()];
        row.extend(cells);
        rows.push(row);
        if ours.is_empty() {
            ours.clone_from(&ns);
        } else {
            let mut row = vec![(*name).to_owned()];
            row.extend(ns.iter().zip(&ours).map(|(theirs, ours)| format!("{:.1}", theirs / ours)));
            ratios.push(row);
        }
    }
    // Once more: other work on the machine would otherwise favour whoever was asked at a better moment.
    let mut engine = switchback::Switchback::new(&flags);
    settle(&mut engine);
    let again: Vec<f64> =
        WORK.iter().map(|(_, work)| ns_per_call(|calls| work(&engine, calls))).collect();
    let mut row = vec!["switchback, at the end of the run".to_owned()];
    row.extend(again.iter().map(|ns| number(*ns)));
    rows.push(row);
    let mut row = vec!["switchback, all flags in one call".to_owned()];
    row.extend(std::iter::repeat_n("-".to_owned(), WORK.len() - 1));
    row.push(number(ns_per_call(|calls| engine.ask_all_at_once(calls))));
    rows.push(row);
    print!("{}\n{}\n", render(&rows, is_markdown), render(&ratios, is_markdown));
    print!("{}", load::report());
    ExitCode::SUCCESS
}

/// Chooses a user whom the rollouts under test let in: the longer way.
fn settle(engine: &mut dyn Engine) -> bool {
    let is_in = |user: &String| {
        ["rollout", "targeting"].iter().all(|key| engine.decide(key, user, GROUP) == "on")
    };
    let found = (0..1_000).map(world::user).find(is_in);
    if let Some(user) = &found {
        engine.settle(user);
    }
    found.is_some()
}
