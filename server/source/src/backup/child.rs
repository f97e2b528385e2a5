//! PostgreSQL's own programs as child processes: found, told where to connect by their environment, never outliving us.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use sqlx::postgres::PgConnectOptions;
use std::str::FromStr as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::Shelf;
use super::files::cannot;
use crate::error::SourceError;

const CHUNK_BYTES: usize = 256 * 1024;
/// What is kept of a program's complaints.
const WORDS_BYTES_MAX: usize = 4_096;
const LINES_MAX: usize = 6;
/// What a program may know of the server's own environment.
const INHERITED: [&str; 5] = ["PATH", "HOME", "PGPASSFILE", "PGPASSWORD", "LD_LIBRARY_PATH"];

/// Where a program connects to, as its environment says it: never in its arguments, which every user of a machine can read.
#[derive(Clone)]
pub(super) struct Target {
    /// The database.
    pub database: String,
    variables: Vec<(&'static str, String)>,
    secrets: Vec<String>,
}

impl Target {
    /// Reads an address.
    pub fn of(address: &str) -> Result<Self, SourceError> {
        let unreadable = || SourceError::Credentials("the address cannot be read".to_owned());
        let options = PgConnectOptions::from_str(address).map_err(|_| unreadable())?;
        let url = url::Url::parse(address).map_err(|_| unreadable())?;
        let user = options.get_username().to_owned();
        let database = options.get_database().unwrap_or(&user).to_owned();
        let host = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let mut variables =
            vec![("PGHOST", host), ("PGPORT", options.get_port().to_string()), ("PGUSER", user)];
        let mut secrets = Vec::new();
        let mut password = url.password().map(|raw| {
            secrets.push(raw.to_owned());
            decode(raw)
        });
        for (key, value) in url.query_pairs() {
            let value = value.into_owned();
            match key.replace('-', "").as_str() {
                "sslmode" => variables.push(("PGSSLMODE", value)),
                "sslrootcert" | "sslca" => variables.push(("PGSSLROOTCERT", value)),
                "sslcert" => variables.push(("PGSSLCERT", value)),
                "sslkey" => variables.push(("PGSSLKEY", value)),
                "password" => password = Some(value),
                _ => {}
            }
        }
        if let Some(password) = password {
            secrets.push(password.clone());
            variables.push(("PGPASSWORD", password));
        }
        Ok(Self { database, variables, secrets })
    }

    /// With a limit for waiting for locks, and none for statements, which copy whole tables.
    pub fn within(mut self, lock_ms: u64) -> Self {
        let options = format!("-c lock_timeout={lock_ms} -c statement_timeout=0");
        self.variables.push(("PGOPTIONS", options));
        self
    }

    /// The words of a program, without the password.
    fn without_secrets(&self, text: &str) -> String {
        let secrets = self.secrets.iter().filter(|secret| !secret.is_empty());
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
    }
}

/// Undoes `%41`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let hex = others.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Another database of the same server.
pub(super) fn with_database(address: &str, name: &str) -> Result<String, SourceError> {
    let unreadable = |_| SourceError::Credentials("the address cannot be read".to_owned());
    let mut url = url::Url::parse(address).map_err(unreadable)?;
    url.set_path(&format!("/{name}"));
    Ok(url.into())
}

/// One of PostgreSQL's programs.
pub(super) struct Program {
    name: &'static str,
    path: PathBuf,
}

impl Program {
    /// Finds it, and sees that it is no older than the database.
    pub async fn find(
        shelf: &Shelf,
        name: &'static str,
        server_version: &str,
    ) -> Result<Self, SourceError> {
        let folders = match &shelf.pg_bin_dir {
            Some(folder) => vec![folder.clone()],
            None => tokio::task::spawn_blocking(folders).await.unwrap_or_default(),
        };
        let path = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        let Some(path) = path else {
            let place = match &shelf.pg_bin_dir {
                Some(folder) => format!("is not in {} (`backup.pg_bin_dir`)", folder.display()),
                None => "is not on the server's path".to_owned(),
            };
            let wanted = major(server_version).unwrap_or_default();
            let message = format!(
                "{name} {place}: install PostgreSQL's client programs, version {wanted} or later, or set `backup.pg_bin_dir`"
            );
            return Err(SourceError::Refused(message));
        };
        let program = Self { name, path };
        let nowhere =
            Target { database: String::new(), variables: Vec::new(), secrets: Vec::new() };
        let said = program.run(&nowhere, &["--version".to_owned()], None, None).await?;
        let own = said.split(')').nth(1).unwrap_or_default();
        let own = own.split_whitespace().next().unwrap_or_default().to_owned();
        if major(&own) < major(server_version) {
            let message = format!(
                "{name} {own} is older than the database, {server_version}: install PostgreSQL's client programs of its \
                 version, or set `backup.pg_bin_dir`"
            );
            return Err(SourceError::Refused(message));
        }
        Ok(program)
    }

    /// Runs it to its end: `input` is what it reads, `output` what it writes into; otherwise its words are returned. Dropping
    /// this kills it with all its children. Should this process die, it finds its pipes closed and ends by itself.
    pub async fn run(
        &self,
        target: &Target,
        arguments: &[String],
        input: Option<&Path>,
        output: Option<tokio::fs::File>,
    ) -> Result<String, SourceError> {
        let name = self.name;
        let cannot_run =
            |error: std::io::Error| SourceError::Refused(format!("{name} cannot be run: {error}"));
        let mut command = Command::new(&self.path);
        command.env_clear().args(arguments);
        let kept = INHERITED.iter().filter_map(|key| Some((key, std::env::var_os(key)?)));
        command.envs(kept).envs(target.variables.iter().map(|(key, value)| (key, value)));
        command
            .env("LC_ALL", "C")
            .env("PGCONNECT_TIMEOUT", "5")
            .env("PGDATABASE", &target.database);
        let piped = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        command.stdin(piped).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(cannot_run)?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let (Some(path), Some(mut stdin)) = (input, stdin) {
                let file = tokio::fs::File::open(path).await?;
                let mut file = BufReader::with_capacity(CHUNK_BYTES, file);
                tokio::io::copy_buf(&mut file, &mut stdin).await?;
                stdin.shutdown().await?;
            }
            Ok::<_, std::io::Error>(())
        };
        let collect = async {
            let Some(stdout) = stdout else { return Ok(String::new()) };
            let mut stdout = BufReader::with_capacity(CHUNK_BYTES, stdout);
            if let Some(mut file) = output {
                tokio::io::copy_buf(&mut stdout, &mut file).await?;
                file.flush().await?;
                return Ok(String::new());
            }
            let mut text = Vec::new();
            stdout.read_to_end(&mut text).await?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let words = async {
            match stderr {
                Some(stderr) => last_words(stderr).await,
                None => String::new(),
            }
        };
        // A program that has read enough closes its end: what `feed` says is then of no interest, and otherwise the program says it.
        let (_, collected, words, ended) = tokio::join!(feed, collect, words, child.wait());
        group.0 = None;
        let collected: Result<String, std::io::Error> = collected;
        let collected =
            collected.map_err(|error| cannot(Path::new("the backup"), "be written", &error))?;
        if ended.map_err(cannot_run)?.success() {
            return Ok(collected);
        }
        let words = target.without_secrets(&words);
        if words.contains("connection") {
            return Err(SourceError::Unreachable(format!("{name}: {words}")));
        }
        Err(SourceError::Refused(format!("{name} failed: {words}")))
    }
}

/// A process and its children; they are killed when this is dropped before they ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The last lines of a stream, joined.
async fn last_words(mut stream: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut chunk = vec![0; 1_024];
    while let Ok(count) = stream.read(&mut chunk).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let excess = kept.len().saturating_sub(WORDS_BYTES_MAX);
        kept.drain(..excess);
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(LINES_MAX)..).unwrap_or_default().join("; ")
}

/// Where programs may be: the path, then Debian's folders, newest first.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            Some((major(&entry.file_name().to_string_lossy())?, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|one, other| other.cmp(one));
    folders.extend(versions.into_iter().map(|(_, folder)| folder));
    folders
}

/// `15.18 (Debian …)` → 15.
fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_into_the_environment_and_out_of_words() {
        let target = Target::of("postgres://ada:p%40ss%25@db:5433/shop?sslmode=require").unwrap();

        let value = |name: &str| {
            let found = target.variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        assert_eq!((value("PGHOST"), value("PGPORT"), value("PGUSER")), ("db", "5433", "ada"));
        assert_eq!((value("PGPASSWORD"), value("PGSSLMODE")), ("p@ss%", "require"));
        assert_eq!(target.database, "shop");
        assert_eq!(target.without_secrets("no p@ss% here"), "no … here");
    }

    #[test]
    fn versions_are_compared_by_their_first_number() {
        assert_eq!(major("15.18 (Debian 15.18-0)"), Some(15));
        assert!(major("9.6") < major("15.1"));
        assert_eq!(major("main"), None);
    }
}
