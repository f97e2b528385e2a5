//! `cargo xtask ...`: one name for each thing that CI or a person runs. Alone it prints them.
#![expect(clippy::print_stdout, reason = "this is a command-line tool")]

mod postgres;
mod tools;

use std::process::{Command, ExitCode};

use tools::{Problem, run};

const HELP: &str = "\
cargo xtask test [FILTER]   every test, on SQLite and on a private PostgreSQL, with a real browser
cargo xtask ci              fmt, clippy with warnings denied, then every test
cargo xtask bench [NAME]    benchmarks: checks, evaluation, fanout, guards, http, intake, messages, playbook, propagation, reconnect, rollback, sessions, status; all when none is named
cargo xtask bench engines   decisions of other engines beside ours; builds those engines first, which takes minutes
cargo xtask ui-shots [DIR]  screenshots of the console, light and dark, wide and narrow
cargo xtask fmt             format everything";

/// The benchmark that is no member of the workspace.
const ENGINES: &str = "bench/engines/Cargo.toml";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", filter @ ..] => test(filter),
        ["ci"] => ci(),
        ["bench", names @ ..] => bench(names),
        ["ui-shots", rest @ ..] => ui_shots(rest),
        ["fmt"] => format_all(&[]),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        [unknown, ..] => Err(format!("there is no task `{unknown}`\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Formats the workspace. Step kinds are declared by a macro, which `cargo fmt` does not look into.
fn format_all(arguments: &[&str]) -> Result<(), Problem> {
    run(Command::new("cargo").args(["fmt", "--all"]).args(arguments))?;
    run(Command::new("cargo").args(["fmt", "--manifest-path", ENGINES]).args(arguments))?;
    let kinds = std::fs::read_dir("server/playbook/src/steps").map_err(|e| e.to_string())?;
    let files = kinds.filter_map(|entry| Some(entry.ok()?.path()));
    let mut command = Command::new("rustfmt");
    command.args(["--edition", "2024"]).args(files);
    if arguments.contains(&"--check") {
        command.arg("--check");
    }
    run(&mut command)
}

/// A machine that builds once needs neither what quickens the next build nor debuggers' tables:
/// without them the build takes less than half of the room on its disk.
const ONCE: [(&str, &str); 2] = [("CARGO_INCREMENTAL", "0"), ("CARGO_PROFILE_DEV_DEBUG", "none")];

fn ci() -> Result<(), Problem> {
    format_all(&["--check"])?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run(Command::new("cargo").args(clippy).envs(ONCE))?;
    run_tests(&[], &ONCE)
}

fn test(filter: &[&str]) -> Result<(), Problem> {
    run_tests(filter, &[])
}

/// Runs the tests against one private PostgreSQL, which ends with this process.
fn run_tests(filter: &[&str], settings: &[(&str, &str)]) -> Result<(), Problem> {
    let all = [
        tools::CHROMIUM,
        tools::POSTGRES,
        tools::AXE,
        tools::SDKS,
        tools::FEEDPARSER,
        tools::AIOSMTPD,
        tools::STATUSPAGE,
        tools::PROMETHEUS,
    ];
    tools::install(&all)?;
    // With the tests, so that nothing is built a second time with the features that only they ask for.
    let build = ["build", "--workspace", "--all-targets", "--locked"];
    run(Command::new("cargo").args(build).envs(settings.iter().copied()))?;
    let server = postgres::Private::start()?;
    let with = |command: &mut Command| run(server.give_to(command).envs(settings.iter().copied()));
    if tools::has("cargo-nextest") {
        with(
            Command::new("cargo").args(["nextest", "run", "--workspace", "--locked"]).args(filter),
        )?;
    } else {
        with(
            Command::new("cargo").args(["test", "--workspace", "--locked", "--tests"]).args(filter),
        )?;
    }
    if filter.is_empty() {
        with(Command::new("cargo").args(["test", "--workspace", "--locked", "--doc", "--quiet"]))?;
    }
    Ok(())
}

fn bench(names: &[&str]) -> Result<(), Problem> {
    if names == ["engines"] {
        return bench_engines();
    }
    // What is published is what is measured.
    run(Command::new("cargo").args(["build", "--workspace", "--profile", "dist", "--locked"]))?;
    let all = [
        "checks",
        "detection",
        "evaluation",
        "fanout",
        "guards",
        "intake",
        "http",
        "messages",
        "playbook",
        "propagation",
        "reconnect",
        "rollback",
        "sessions",
        "status",
    ];
    let chosen = if names.is_empty() { &all[..] } else { names };
    if chosen.contains(&"propagation") {
        tools::install(&[tools::SDKS])?;
    }
    let server = if ["checks", "intake", "messages", "playbook", "rollback", "sessions"]
        .iter()
        .any(|name| chosen.contains(name))
    {
        tools::install(&[tools::POSTGRES])?;
        Some(postgres::Private::start()?)
    } else {
        None
    };
    for name in chosen {
        if !all.contains(name) {
            let all = all.join(", ");
            return Err(format!(
                "there is no benchmark `{name}`; there are {all}, and `engines`, which runs alone"
            ));
        }
        let mut command = Command::new(tools::target_dir().join("dist").join(name));
        match &server {
            Some(server) => run(server.give_to(&mut command))?,
            None => run(&mut command)?,
        }
    }
    Ok(())
}

/// A package outside the workspace, so that nobody else waits for what the other engines need.
fn bench_engines() -> Result<(), Problem> {
    let target = tools::target_dir();
    run(Command::new("cargo")
        .args(["run", "--release", "--locked", "--manifest-path", ENGINES, "--target-dir"])
        .arg(target))
}

fn ui_shots(rest: &[&str]) -> Result<(), Problem> {
    tools::install(&[tools::CHROMIUM])?;
    run(Command::new("cargo").args(["build", "--workspace", "--locked"]))?;
    let folder = rest.first().copied().unwrap_or("docs/screenshots");
    run(Command::new(tools::target_dir().join("debug").join("ui-shots")).arg(folder))
}
