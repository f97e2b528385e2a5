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
    found: || has_module("tests/feeds", "feedparser"),
    install: || install_modules("tests/feeds"),
    by_hand: "install Python 3 with its venv module (on Debian: apt-get install python3-venv), then run \
              `python3 -m venv tests/feeds/.venv && tests/feeds/.venv/bin/pip install -r tests/feeds/requirements.txt`",
};

/// The mail server that the tests of letters send to.
pub const AIOSMTPD: Tool = Tool {
    name: "aiosmtpd",
    found: || has_module("tests/mail", "aiosmtpd.smtp"),
    install: || install_modules("tests/mail"),
    by_hand: "install Python 3 with its venv module (on Debian: apt-get install python3-venv), then run \
              `python3 -m venv tests/mail/.venv && tests/mail/.venv/bin/pip install -r tests/mail/requirements.txt`",
};

/// Clients of Statuspage, which read the status page and manage its incidents.
pub const STATUSPAGE: Tool = Tool {
    name: "the clients of Statuspage",
    found: || {
        let exporter = "tests/statuspage/.venv/bin/statuspage-prometheus-exporter";
        has_module("tests/statuspage", "statuspageio") && Path::new(exporter).exists()
    },
    install: || install_modules("tests/statuspage"),
    by_hand: "install Python 3 with its venv module (on Debian: apt-get install python3-venv), then run \
              `python3 -m venv tests/statuspage/.venv && tests/statuspage/.venv/bin/pip install -r tests/statuspage/requirements.txt`",
};

/// Whether a folder's own Python has a module.
fn has_module(folder: &str, module: &str) -> bool {
    let python = Path::new(folder).join(".venv/bin/python");
    let import = || Command::new(&python).args(["-c", &format!("import {module}")]).status();
    python.exists() && import().is_ok_and(|status| status.success())
}

/// Installs what a folder's list pins into a Python of its own.
fn install_modules(folder: &str) -> Result<(), Problem> {
    let venv = format!("{folder}/.venv");
    run(Command::new("python3").args(["-m", "venv", "--clear", &venv]))?;
    let flags = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    run(Command::new(format!("{venv}/bin/python")).args(flags).args([
        "--require-hashes",
        "-r",
        &format!("{folder}/requirements.txt"),
    ]))
}

/// Where Prometheus's programs are unpacked: installed, Debian would start them as services.
const MONITORING: &str = "tests/prometheus/.tools";
/// Debian's Alertmanager reads its templates from here and nowhere else.
const TEMPLATES: &str = "/usr/share/prometheus/alertmanager";

/// The Prometheus and the Alertmanager that scrape, alert and are asked in the tests.
pub const PROMETHEUS: Tool = Tool {
    name: "Prometheus and Alertmanager",
    found: || {
        let programs = ["prometheus", "promtool", "prometheus-alertmanager"];
        let unpacked = Path::new(MONITORING).join("usr/bin");
        let all = programs.iter().all(|one| has(one) || unpacked.join(one).exists());
        all && Path::new(TEMPLATES).join("default.tmpl").exists()
    },
    install: || {
        if !has("apt-get") || !has("dpkg-deb") {
            return Err("this machine has no apt-get".to_owned());
        }
        std::fs::create_dir_all(MONITORING).map_err(|error| error.to_string())?;
        let packages = ["download", "-q", "prometheus", "prometheus-alertmanager"];
        run(Command::new("apt-get").args(packages).current_dir(MONITORING))?;
        let files = std::fs::read_dir(MONITORING).map_err(|error| error.to_string())?;
        for file in files.flatten().map(|file| file.file_name()) {
            if Path::new(&file).extension().is_some_and(|end| end == "deb") {
                let unpack = ["-x".as_ref(), file.as_os_str(), ".".as_ref()];
                run(Command::new("dpkg-deb").args(unpack).current_dir(MONITORING))?;
            }
        }
        let place = |program: &str, arguments: &[&str]| {
            if is_root() {
                return run(Command::new(program).args(arguments));
            }
            run(Command::new("sudo").arg("-n").arg(program).args(arguments))
        };
        place("mkdir", &["-p", TEMPLATES])?;
        let templates = format!("{MONITORING}{TEMPLATES}/.");
        place("cp", &["-r", &templates, TEMPLATES])
    },
    by_hand: "on Debian: apt-get install prometheus prometheus-alertmanager",
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
