//! The binary: parse arguments, call a role, map the outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchback::main()
}
