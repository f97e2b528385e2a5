//! The command line: one file per command group. Without a command it serves.

mod alert;
mod apply;
mod approval;
mod auth_events;
mod automation;
mod backup;
mod change;
mod check;
mod client;
mod component;
mod config;
mod demo;
mod drill;
mod evaluate;
mod export;
mod flag;
mod import;
mod incident;
mod log;
mod playbook;
mod preview;
mod probe;
mod record;
mod serve;
mod session;
mod source;
mod status;
mod status_export;
mod tell;
mod token;
mod waiting;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use switchback_app::config::{Config, ConfigError};

pub use client::Target;

/// Feature flags and rollback: see that it hurts, put everything back, prove that everybody has it.
#[derive(Parser)]
#[command(name = "switchback", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What the server is started with. Also settable in `switchback.toml` and as `SWITCHBACK_*`.
#[derive(Args, Clone, Default)]
struct Settings {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where the embedded database lies.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// `postgres://...` instead of the embedded database.
    #[arg(long, global = true, value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// A configuration file; `switchback.toml` is read when it is there.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (what happens without a command).
    Serve,
    /// Auth events from files and logs of other systems.
    AuthEvents {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: auth_events::Command,
    },
    /// Let playbooks start by themselves, or not.
    Automation {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: automation::Command,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// List, switch, ramp, kill and restore flags.
    Flag {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: flag::Command,
    },
    /// List and run playbooks, live step by step.
    Playbook {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: playbook::Command,
    },
    /// Rehearse a playbook for real in a sandbox, against copies of its data sources, and time it.
    Drill {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        command: drill::Command,
    },
    /// Read the logs, and prove that nobody changed them.
    Log {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: log::Command,
    },
    /// Take flags over from another system: shows what would be done; does it with --apply.
    Import {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        options: import::Options,
    },
    /// Write an environment's flags and segments as files, or as one file of Unleash or flagd.
    Export {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        options: export::Options,
    },
    /// Make an environment what a folder of files says: shows the plan, asks, does it.
    Apply {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        options: apply::Options,
    },
    /// Make, list and revoke tokens.
    Token {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: token::Command,
    },
    /// Data sources: the app's databases that playbooks may touch.
    Source {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: source::Command,
    },
    /// What watches a flag's users, and puts it back when they fail more than the others.
    Guard {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: watch::GuardCommand,
    },
    /// Raise a flag in steps, as long as its users are well.
    Rollout {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: watch::RolloutCommand,
    },
    /// Try guards on made-up or recorded series, such as in CI; no server is needed.
    Test {
        #[command(subcommand)]
        command: watch::TestCommand,
    },
    /// Components of the status page and their groups.
    Component {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: component::Command,
    },
    /// Incidents: what customers and the team are told.
    Incident {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: incident::Command,
    },
    /// Where messages to the team go.
    Channel {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: tell::ChannelCommand,
    },
    /// What was sent to whom.
    Message {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: tell::MessageCommand,
    },
    /// Who gets news from the status page.
    Subscriber {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: tell::SubscriberCommand,
    },
    /// What incidents are written from.
    Template {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: tell::TemplateCommand,
    },
    /// What looks at components on a schedule.
    Probe {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: probe::Command,
    },
    /// Sessions of the app's users: who is in, for how long, ending them.
    Session {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: session::Command,
    },
    /// Alerts: who takes care, rules, silences.
    Alert {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: alert::Command,
    },
    /// Consistency checks of data sources: findings, repairs, the monitor.
    Check {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: check::Command,
    },
    /// Backups of data sources: list, take, prove.
    Backup {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: backup::Command,
    },
    /// What is on, who is connected, what is open; and the public status page as files.
    #[command(args_conflicts_with_subcommands = true)]
    Status {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        query: status::Query,
        #[command(subcommand)]
        command: Option<status::Command>,
    },
    /// What would this user get? Reads JSON lines, writes one answer a line.
    ///
    /// A line is {"state": <Unleash features document>, "context": {...}, "toggle": "name",
    /// "kind": "bool" or "variant"}; its answer {"enabled": true, "variant": null}. A line that cannot
    /// be read is answered with {"error": "..."}, and the next one is read.
    Evaluate(evaluate::Options),
    /// A server with 200 live clients on a temporary database, to try everything on.
    Demo(demo::Options),
}

/// Why a command ended badly, in one line, with its exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The usual one.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// With an exit code that scripts can tell apart.
    pub fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Self::new(message)
    }
}

/// A command's outcome.
pub type Outcome = Result<(), Failure>;

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS provider for the whole process, named before any client is built.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            let line = message.replace('\n', " ");
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("switchback: {line}\n").as_bytes(),
            );
            ExitCode::from(code)
        }
    }
}

fn run(cli: Cli) -> Outcome {
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let settings = cli.settings;
    match cli.command {
        None | Some(Command::Serve) => {
            let config = load(&settings, &variables)?;
            let init = switchback_app::config::init_from(&variables)?;
            serve::run(config, &init)
        }
        Some(Command::Config { command }) => {
            config::run(&command, &load(&settings, &variables)?);
            Ok(())
        }
        Some(Command::Demo(options)) => demo::run(&options, settings.listen),
        Some(Command::Evaluate(options)) => in_runtime(evaluate::run(options)),
        Some(Command::Flag { target, command }) => {
            in_runtime(flag::run(target.client(&variables)?, command))
        }
        Some(Command::Playbook { target, command }) => {
            in_runtime(playbook::run(target.client(&variables)?, command))
        }
        Some(Command::Drill { target, command }) => {
            in_runtime(drill::run(target.client(&variables)?, command))
        }
        Some(Command::AuthEvents { target, command }) => {
            in_runtime(auth_events::run(target.client(&variables)?, command))
        }
        Some(Command::Automation { target, command }) => {
            in_runtime(automation::run(target.client(&variables)?, command))
        }
        Some(Command::Log { target, command: log::Command::Verify { file: Some(file) } }) => {
            record::verify(&file, target.json)
        }
        Some(Command::Log { target, command }) => {
            in_runtime(log::run(target.client(&variables)?, command))
        }
        Some(Command::Import { target, options }) => {
            in_runtime(import::run(target.client(&variables)?, options))
        }
        Some(Command::Export { target, options }) => {
            in_runtime(export::run(target.client(&variables)?, options))
        }
        Some(Command::Apply { target, options }) => {
            in_runtime(apply::run(target.client(&variables)?, options))
        }
        Some(Command::Token { target, command }) => {
            in_runtime(token::run(target.client(&variables)?, command))
        }
        Some(Command::Source { target, command }) => {
            in_runtime(source::run(target.client(&variables)?, command))
        }
        Some(Command::Component { target, command }) => {
            in_runtime(component::run(target.client(&variables)?, command))
        }
        Some(Command::Incident { target, command }) => {
            in_runtime(incident::run(target.client(&variables)?, command))
        }
        Some(Command::Channel { target, command }) => {
            in_runtime(tell::channel(target.client(&variables)?, command))
        }
        Some(Command::Guard { target, command }) => {
            in_runtime(watch::guard(target.client(&variables)?, command))
        }
        Some(Command::Rollout { target, command }) => {
            in_runtime(watch::rollout(target.client(&variables)?, command))
        }
        Some(Command::Test { command }) => watch::test(&command),
        Some(Command::Message { target, command }) => {
            in_runtime(tell::message(target.client(&variables)?, command))
        }
        Some(Command::Subscriber { target, command }) => {
            in_runtime(tell::subscriber(target.client(&variables)?, command))
        }
        Some(Command::Template { target, command }) => {
            in_runtime(tell::template(target.client(&variables)?, command))
        }
        Some(Command::Alert { target, command }) => {
            in_runtime(alert::run(target.client(&variables)?, command))
        }
        Some(Command::Check { target, command }) => {
            in_runtime(check::run(target.client(&variables)?, command))
        }
        Some(Command::Probe { target, command }) => {
            in_runtime(probe::run(target.client(&variables)?, command))
        }
        Some(Command::Session { target, command }) => {
            in_runtime(session::run(target.client(&variables)?, command))
        }
        Some(Command::Backup { target, command }) => {
            in_runtime(backup::run(target.client(&variables)?, command))
        }
        Some(Command::Status { target, command: Some(command), .. }) => {
            let status::Command::Export(options) = command;
            in_runtime(status_export::run(&target.address(&variables), options))
        }
        Some(Command::Status { target, query, command: None }) => {
            in_runtime(status::run(target.client(&variables)?, query))
        }
    }
}

fn in_runtime(command: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn load(settings: &Settings, variables: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let Settings { listen, data_dir, database_url, config } = settings;
    let mut flags = Vec::new();
    if let Some(listen) = listen {
        flags.push(("listen", listen.clone()));
    }
    if let Some(data_dir) = data_dir {
        flags.push(("data_dir", data_dir.display().to_string()));
    }
    if let Some(database_url) = database_url {
        flags.push(("database_url", database_url.clone()));
    }
    let file = config.clone().or_else(|| variables.get("SWITCHBACK_CONFIG").map(PathBuf::from));
    switchback_app::config::load(file.as_ref(), variables, &flags)
}

/// Writes a line for people or pipes; a closed pipe is no error.
pub fn say(line: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = std::io::Write::write_all(&mut out, line.as_ref().as_bytes());
    let _ = std::io::Write::write_all(&mut out, b"\n");
    let _ = std::io::Write::flush(&mut out);
}

/// Writes a line for people who look at what went wrong, beside what is piped on.
pub fn remark(line: impl AsRef<str>) {
    let line = line.as_ref().replace('\n', " ") + "\n";
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}
