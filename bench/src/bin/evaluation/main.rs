//! How long a flag decision takes, beside its floor in the same run.
//!
//! `evaluation [--markdown] [--no-instructions]` prints the table. `evaluation --workload NAME
//! --calls N` only runs one workload; the program starts itself that way under callgrind.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

mod peers;
mod workloads;

use std::process::ExitCode;

use switchback_bench::measure::{
    Counting, allocations_per_call, instructions_per_call, ns_per_call,
};
use switchback_bench::table::{number, render};
use workloads::{FLOOR, WORKLOADS, Workload, World};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let after = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)
    };
    let world = World::new();
    if let Some(name) = after("--workload") {
        let calls = after("--calls").and_then(|text| text.parse().ok()).unwrap_or(1);
        let Some(workload) = WORKLOADS.iter().find(|workload| workload.name == name) else {
            println!("there is no workload `{name}`");
            return ExitCode::FAILURE;
        };
        (workload.run)(&world, calls);
        return ExitCode::SUCCESS;
    }
    print!("{}", table(&world, has("--markdown"), !has("--no-instructions")));
    ExitCode::SUCCESS
}

fn table(world: &World, markdown: bool, with_instructions: bool) -> String {
    let program = std::env::current_exe();
    let mut note = String::new();
    let mut instructions = |workload: &Workload| {
        if !with_instructions || !note.is_empty() || workload.calls == 0 {
            return f64::NAN;
        }
        let arguments = |calls: u64| {
            ["--workload", workload.name, "--calls", &calls.to_string()].map(str::to_owned).to_vec()
        };
        let counted = match &program {
            Ok(program) => instructions_per_call(program, workload.calls, arguments),
            Err(error) => Err(error.to_string()),
        };
        counted.unwrap_or_else(|error| {
            note = format!("Instructions were skipped: {error}\n");
            f64::NAN
        })
    };

    let floor_ns = ns_per_call(|calls| (FLOOR.run)(world, calls));
    let head =
        ["call", "CPU ns", "x floor", "instructions", "allocations", "goal ns", "goal instr."];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for workload in WORKLOADS {
        let ns = ns_per_call(|calls| (workload.run)(world, calls));
        rows.push(vec![
            workload.name.to_owned(),
            number(ns),
            format!("{:.2}", ns / floor_ns),
            number(instructions(workload)),
            number(allocations_per_call(|calls| (workload.run)(world, calls))),
            workload.goal_ns.map_or("-".to_owned(), number),
            workload.goal_instructions.map_or("-".to_owned(), number),
        ]);
    }
    render(&rows, markdown) + note.as_str()
}
