//! The binary itself. That this package has a test makes plain `cargo test --workspace` build it, which the tests with real
//! servers start.

use std::process::{Command, Output};

fn switchback(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_switchback")).args(arguments).output()
}

#[test]
fn it_says_its_version() {
    let output = switchback(&["--version"]).unwrap();

    let version = concat!("switchback ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
    assert!(output.status.success());
}

#[test]
fn an_unknown_command_is_refused_with_the_nearest() {
    let output = switchback(&["playbok"]).unwrap();

    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("'playbok'") && text.contains("'playbook'"), "{text}");
    assert!(!output.status.success());
}
