//! `switchback config check`: the effective values, secrets masked.

use clap::Subcommand;
use switchback_app::config::Config;

use super::say;

#[derive(Subcommand)]
pub enum Command {
    /// Check file, environment and command line, and print what they come to.
    Check,
}

pub fn run(command: &Command, config: &Config) {
    match command {
        Command::Check => {
            for (key, value) in config.effective() {
                say(format!("{key} = {value}"));
            }
        }
    }
}
