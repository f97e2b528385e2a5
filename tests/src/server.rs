//! A real server process.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::api::Api;
use crate::backend::Backend;

/// The API token that every test server knows.
pub const ADMIN: &str = "*:*.test-admin-token";
/// A server token for production.
pub const SERVER: &str = "*:production.test-server-token";
/// A browser token for production.
pub const BROWSER: &str = "*:production.test-browser-token";
pub const EVENTS: &str = "*:production.test-events-token";
/// The first administrator.
pub const EMAIL: &str = "ada@example.com";
/// Their password.
pub const PASSWORD: &str = "correct horse battery";

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub url: String,
}

/// The program that the workspace's build left beside the tests.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().find(|folder| folder.join("switchback").is_file());
    folder.expect("the server is built: run `cargo build --workspace`").join("switchback")
}

impl Server {
    /// Starts a server on a free port of loopback.
    pub fn start(backend: &Backend) -> Self {
        Self::start_on(backend, "127.0.0.1:0", &[])
    }

    /// Starts a server whose address another one takes over. Its port is not among those that the system hands out: while no
    /// server is there, somebody else could get it.
    pub fn start_to_return(backend: &Backend) -> Self {
        let ports = std::iter::repeat_with(|| 20_000 + random() % 12_000);
        let mut addresses = ports.map(|port| format!("127.0.0.1:{port}"));
        let free = addresses.find(|address| std::net::TcpListener::bind(address).is_ok());
        Self::start_on(backend, &free.unwrap(), &[])
    }

    /// Starts a server on an address, with more variables.
    pub fn start_on(backend: &Backend, listen: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_as(Command::new(program()), backend, listen, variables)
    }

    /// Starts a server whose data directory is a disk of its own, of so many MiB, in memory. Only the server sees it: in its own mount
    /// namespace (Linux), which takes root or user namespaces.
    pub fn start_on_small_disk(backend: &Backend, mib: u32, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new("unshare");
        let may_mount = rustix::process::geteuid().is_root();
        let mount = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\" && exec \"$@\"");
        command
            .arg(if may_mount { "-m" } else { "-rm" })
            .args(["sh", "-c", &mount])
            .arg(backend.folder.path())
            .arg(program());
        Self::start_as(command, backend, "127.0.0.1:0", variables)
    }

    /// A folder as the server sees it, which may be on a disk of its own.
    pub fn sees(&self, folder: &std::path::Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.id()));
        root.join(folder.strip_prefix("/").unwrap_or(folder))
    }

    fn start_as(
        mut command: Command,
        backend: &Backend,
        listen: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        command
            .env_clear()
            .env("SWITCHBACK_INIT_ADMIN_EMAIL", EMAIL)
            .env("SWITCHBACK_INIT_ADMIN_PASSWORD", PASSWORD)
            .env("SWITCHBACK_INIT_ADMIN_TOKENS", ADMIN)
            .env("SWITCHBACK_INIT_CLIENT_TOKENS", SERVER)
            .env("SWITCHBACK_INIT_FRONTEND_TOKENS", BROWSER)
            .env("SWITCHBACK_INIT_EVENT_TOKENS", EVENTS)
            .env("SWITCHBACK_LOG", "warn")
            .envs(variables.iter().copied())
            .args(["--listen", listen, "--data-dir"])
            .arg(backend.folder.path())
            .stdout(Stdio::piped());
        if !backend.database_url.is_empty() {
            command.args(["--database-url", &backend.database_url]);
        }
        let mut child = command.spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("the server says where it listens").unwrap();
            if let Some((_, url)) = line.split_once("listens on ") {
                break url.to_owned();
            }
        };
        // The rest must be read, or the server would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    /// Starts a server as a newcomer does: nobody has an account. Returns the set-up link and the SDK
    /// token that it printed.
    pub fn start_fresh(backend: &Backend) -> (Self, String, String) {
        let mut command = Command::new(program());
        command
            .env_clear()
            .env("SWITCHBACK_LOG", "warn")
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(backend.folder.path())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut after = |mark: &str| {
            let line = lines.next().expect("the server says where to go next").unwrap();
            line.split_once(mark).unwrap_or_else(|| panic!("{line}")).1.to_owned()
        };
        let url = after("listens on ");
        let token = after("shown once: ");
        let link = after("works once: ");
        std::thread::spawn(move || lines.for_each(drop));
        (Self { child, url }, link, token)
    }

    /// The API, as administrator.
    pub fn api(&self) -> Api {
        Api::new(&self.url, ADMIN)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it holds, in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Sockets that it holds open.
    pub fn sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        let targets = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.filter(|target| target.display().to_string().starts_with("socket:")).count()
    }

    /// SIGKILL: no goodbye.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; returns the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        self.child.wait().unwrap().code()
    }

    /// Stops the process without ending it, as a machine that hangs would.
    pub fn freeze(&self) {
        Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap();
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        Command::new("kill").args(["-CONT", &self.child.id().to_string()]).status().unwrap();
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
