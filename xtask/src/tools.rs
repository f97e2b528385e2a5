//! Programs that tests need: found, installed where that is possible, else named exactly.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What went wrong, for a person.
pub type Problem = String;

/// Something that must be there before tests run.
pub struct Tool {
    name: &'static str,
    found: fn() -> bool,
    install: fn() -> Result<(), Problem>,
    by_hand: &'static str,
}

/// A browser and its driver.
pub const CHROMIUM: Tool = Tool {
    name: "Chromium and chromedriver",
    found: || has("chromedriver") && (has("chromium") || has("google-chrome")),
    install: || apt(&["chromium", "chromium-driver"]),
    by_hand: "on Debian: apt-get install chromium chromium-driver; on macOS: brew install --cask \
              chromium chromedriver",
};

/// PostgreSQL's programs.
pub const POSTGRES: Tool = Tool {
    name: "PostgreSQL",
    found: || crate::postgres::programs().is_some(),
    install: install_postgres,
    by_hand: "on Debian: apt-get install postgresql; on macOS: brew install postgresql@16",
};

/// The accessibility checker that the browser tests run in each page.
pub const AXE: Tool = Tool {
    name: "axe-core",
    found: || Path::new("tests/browser/node_modules/axe-core/axe.min.js").exists(),
    install: || {
        let flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        run(Command::new("npm").args(flags).current_dir("tests/browser"))
    },
    by_hand: "install Node.js and npm, then run `npm ci` in tests/browser",
};

/// Other systems' SDKs, which the compatibility tests point at a server, and engines.
pub const SDKS: Tool = Tool {
    name: "the SDKs of other systems",
    found: || {
        let parts = [
            "unleash-client",
            "@openfeature/flagd-core",
            "@growthbook/growthbook",
            "../ofrep-server/node_modules/@openfeature/server-sdk",
        ];
        let folder = Path::new("tests/compat/node_modules");
        has("node") && parts.iter().all(|part| folder.join(part).join("package.json").exists())
    },
    install: || {
        let flags = ["ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund"];
        run(Command::new("npm").args(flags).current_dir("tests/compat"))?;
        run(Command::new("npm").args(flags).current_dir("tests/compat/ofrep-server"))
    },
    by_hand: "install Node.js 20 or later and npm, then run `npm ci --legacy-peer-deps` in tests/compat and in tests/compat/ofrep-server",
};

/// The feed reader that the tests of the status page's feeds ask.
pub const FEEDPARSER: Tool = Tool {
    name: "feedparser",
    found: || {
        let python = "tests/feeds/.venv/bin/python";
        let import = Command::new(python).args(["-c", "import feedparser"]).status();
        Path::new(python).exists() && import.is_ok_and(|status| status.success())
    },
    install: || {
        let venv = "tests/feeds/.venv";
        run(Command::new("python3").args(["-m", "venv", "--clear", venv]))?;
        run(Command::new("tests/feeds/.venv/bin/python").args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            "-r",
            "tests/feeds/requirements.txt",
        ]))
    },
    by_hand: "install Python 3 with its venv module (on Debian: apt-get install python3-venv), then run \
              `python3 -m venv tests/feeds/.venv && tests/feeds/.venv/bin/pip install -r tests/feeds/requirements.txt`",
};

/// Installs what is missing, or says what to do.
pub fn install(tools: &[Tool]) -> Result<(), Problem> {
    for tool in tools {
        if (tool.found)() {
            continue;
        }
        println!("xtask: {} is missing; installing it", tool.name);
        let installed = (tool.install)();
        if !(tool.found)() {
            let why = installed.err().unwrap_or_default();
            return Err(format!("{} is missing. {}. {why}", tool.name, tool.by_hand));
        }
    }
    Ok(())
}

/// Debian starts a cluster of its own on port 5432 unless it is told not to.
fn install_postgres() -> Result<(), Problem> {
    let folder = Path::new("/etc/postgresql-common");
    if is_root() && !folder.exists() {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        std::fs::write(folder.join("createcluster.conf"), "create_main_cluster = false\n")
            .map_err(|error| error.to_string())?;
    }
    apt(&["postgresql"])
}

fn apt(packages: &[&str]) -> Result<(), Problem> {
    if !has("apt-get") {
        return Err("this machine has no apt-get".to_owned());
    }
    let program = if is_root() { "apt-get" } else { "sudo" };
    let prefix: &[&str] = if is_root() { &[] } else { &["-n", "apt-get"] };
    run(Command::new(program).args(prefix).args(["update", "-q"]))?;
    run(Command::new(program)
        .args(prefix)
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Whether a program is on the path.
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    })
}

/// Where cargo builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

/// Runs a command to its end; says which one failed.
pub fn run(command: &mut Command) -> Result<(), Problem> {
    let shown = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown} ended with {status}")),
        Err(error) => Err(format!("{shown} could not be started: {error}")),
    }
}
