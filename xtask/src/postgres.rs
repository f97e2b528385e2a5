//! A private PostgreSQL for the tests: its own folder, a free port on loopback, gone at the end.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tools::{Problem, is_root, run};

/// The variable that tests read.
const VARIABLE: &str = "SWITCHBACK_TEST_POSTGRES";
const UP_WITHIN: Duration = Duration::from_secs(30);

/// A running server.
pub struct Private {
    folder: PathBuf,
    server: Option<Child>,
    url: String,
}

/// The folder with `initdb` and `postgres`; Debian keeps them off the path.
pub fn programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    for root in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            folders.push(entry.path().join("bin"));
        }
    }
    folders
        .into_iter()
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

impl Private {
    /// Makes a cluster and starts it; or takes the one that the variable names.
    pub fn start() -> Result<Self, Problem> {
        if let Some(url) = std::env::var_os(VARIABLE).and_then(|url| url.into_string().ok()) {
            return Ok(Self { folder: PathBuf::new(), server: None, url });
        }
        let programs = programs().ok_or("PostgreSQL is missing")?;
        let folder =
            std::env::temp_dir().join(format!("switchback-postgres-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let data = folder.join("data");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder))?;
        }
        let mut init = as_postgres(&programs.join("initdb"));
        init.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D"]);
        run(init.arg(&data).stdout(Stdio::null()))?;
        let port = free_port()?;
        let mut command = as_postgres(&programs.join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(&folder);
        for setting in [
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "listen_addresses=127.0.0.1",
            "max_connections=300",
            "lc_messages=C",
        ] {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
        command.args(["-p", &port.to_string()]).stdout(Stdio::null()).stderr(log);
        let server = command.spawn().map_err(|error| format!("PostgreSQL: {error}"))?;
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let private = Self { folder, server: Some(server), url };
        private.wait()?;
        Ok(private)
    }

    fn wait(&self) -> Result<(), Problem> {
        let until = Instant::now() + UP_WITHIN;
        loop {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            if log.contains("ready to accept connections") {
                return Ok(());
            }
            if Instant::now() > until {
                let last = log.lines().last().unwrap_or("no word from it");
                return Err(format!("PostgreSQL did not start: {last}"));
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Tells a command where the server is.
    pub fn give_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(VARIABLE, &self.url)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = Command::new("kill").args(["-INT", &server.id().to_string()]).status();
            let _ = server.wait();
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// PostgreSQL refuses to run as root: then it runs as its own user, without a shell between, so that
/// signals reach it.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command.current_dir("/tmp");
    command
}

fn free_port() -> Result<u16, Problem> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}
