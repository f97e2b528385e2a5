//! Configuration: `switchback.toml` < environment `SWITCHBACK_*` < command line. An unknown key stops
//! the start and names the nearest known one.

mod status;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use status::{Look, StatusPage};
pub use watch::{Supabase, UserIds, Watch};

/// Everything that can be set, with its default. A key `a.b` is `SWITCHBACK_A__B` in the environment.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port to listen on. Port 0 takes a free one.
    pub listen: String,
    /// Where the embedded database and journals lie.
    pub data_dir: PathBuf,
    /// `postgres://...`; empty: the embedded SQLite file in `data_dir`.
    pub database_url: String,
    /// How people reach this server, for links; empty: made from `listen`.
    pub public_url: String,
    /// HTTP worker threads; 0: one per core.
    pub workers: usize,
    /// What to log, such as `info` or `switchback=debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// A folder with playbooks and incident templates of your own, beside the shipped ones.
    pub runbooks_dir: Option<PathBuf>,
    /// Backups of data sources.
    pub backup: Backup,
    /// Drills of playbooks.
    pub drills: Drills,
    /// The stream to the apps.
    pub stream: Stream,
    /// Other systems' SDKs.
    pub compat: Compat,
    /// What playbooks may reach by HTTP.
    pub outgoing: Outgoing,
    /// The mail server.
    pub mail: Mail,
    /// Signing in.
    pub sign_in: SignIn,
    /// The public status page.
    pub status: StatusPage,
    /// Logins and sessions of the app's users.
    pub watch: Watch,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where backups of data sources lie, and what makes them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// The folder; `backups` in `data_dir` when not set. Several nodes share one.
    pub dir: Option<PathBuf>,
    /// The folder with `pg_dump` and `pg_restore`; otherwise the path, then where Debian keeps them.
    pub pg_bin_dir: Option<PathBuf>,
}

/// Drills of playbooks.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drills {
    /// Whether a playbook is drilled by itself as often as it says.
    pub automatic: bool,
}

impl Default for Drills {
    fn default() -> Self {
        Self { automatic: true }
    }
}

/// The server that takes our e-mail.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    /// `smtps://user:password@host:465` or `smtp://user:password@host:587?tls=required`; empty: no e-mail is sent.
    pub url: String,
    /// Who it is from, such as `Shop status <status@shop.example>`.
    pub from: String,
    /// Where answers go; empty: to `from`.
    pub reply_to: String,
    /// A certificate authority of your own, in PEM form.
    pub ca_file: Option<PathBuf>,
    /// Letters to subscribers that one node sends a minute; 0: as many as the server takes.
    pub per_minute: u32,
}

/// What playbooks may reach by HTTP.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outgoing {
    /// Private networks that they may reach, loopback too; public addresses always.
    pub networks: Vec<IpNet>,
}

/// Limits and rhythm of the stream.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// How often a quiet stream says that it is alive, in milliseconds.
    pub heartbeat_ms: u64,
    /// How long a socket may not take a frame before it is dropped, in milliseconds.
    pub write_timeout_ms: u64,
    /// Sockets that this node holds at most; more are told to come back later.
    pub clients_max: usize,
    /// Revisions that a reconnecting client may lag behind and still get a delta.
    pub window_revisions: usize,
}

/// What other systems' SDKs (Unleash, OpenFeature, flagd) are offered.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compat {
    /// Pages of these origins may ask from a browser; `*`: any.
    pub cors_origins: Vec<String>,
    /// Unleash's server SDKs are offered the stream, and told to switch to it.
    pub unleash_streaming: bool,
    /// Requests a second that one address may make with a browser token; 0: any number.
    pub browser_requests_per_second: u32,
    /// Whole documents that are on their way to streaming clients at once.
    pub hydrations_max: usize,
}

/// Console sessions and the brake on guessing.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignIn {
    /// A session ends after this long without a request, in hours.
    pub idle_hours: i64,
    /// Wrong passwords per account and address before delays begin.
    pub free_attempts: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            data_dir: PathBuf::from("./switchback-data"),
            database_url: String::new(),
            public_url: String::new(),
            workers: 0,
            log: "info,actix_server=warn,sqlx=warn".to_owned(),
            log_format: LogFormat::Text,
            trusted_proxies: Vec::new(),
            runbooks_dir: None,
            backup: Backup::default(),
            drills: Drills::default(),
            stream: Stream::default(),
            compat: Compat::default(),
            outgoing: Outgoing::default(),
            mail: Mail::default(),
            sign_in: SignIn::default(),
            status: StatusPage::default(),
            watch: Watch::default(),
        }
    }
}

impl Default for Compat {
    fn default() -> Self {
        Self {
            cors_origins: vec!["*".to_owned()],
            unleash_streaming: true,
            browser_requests_per_second: 50,
            hydrations_max: 256,
        }
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            heartbeat_ms: 15_000,
            write_timeout_ms: 10_000,
            clients_max: 50_000,
            window_revisions: 1_000,
        }
    }
}

impl Default for SignIn {
    fn default() -> Self {
        Self { idle_hours: 12, free_attempts: 5 }
    }
}

/// Accounts and tokens for a first start without a person; read only when the database is empty.
#[derive(Clone, Default)]
pub struct Init {
    /// The first administrator.
    pub admin: Option<(String, String)>,
    /// API tokens with the admin role.
    pub admin_tokens: Vec<String>,
    /// Server tokens.
    pub client_tokens: Vec<String>,
    /// Browser tokens.
    pub frontend_tokens: Vec<String>,
    /// Tokens that report auth events and sessions.
    pub event_tokens: Vec<String>,
}

/// One readable line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Names that the environment may hold beside the configuration's own.
const OTHER_VARIABLES: &[&str] = &[
    "SWITCHBACK_CONFIG",
    "SWITCHBACK_URL",
    "SWITCHBACK_TOKEN",
    "SWITCHBACK_INIT_ADMIN_EMAIL",
    "SWITCHBACK_INIT_ADMIN_PASSWORD",
    "SWITCHBACK_INIT_ADMIN_TOKENS",
    "SWITCHBACK_INIT_CLIENT_TOKENS",
    "SWITCHBACK_INIT_FRONTEND_TOKENS",
    "SWITCHBACK_INIT_EVENT_TOKENS",
];
const TEST_PREFIX: &str = "SWITCHBACK_TEST_";
const OPTIONAL_KEYS: &[&str] =
    &["runbooks_dir", "backup.dir", "backup.pg_bin_dir", "mail.ca_file", "status.logo"];

/// Reads the file (if given, or `switchback.toml` if there), lays the environment over it, then the
/// command line's own values.
pub fn load(
    file: Option<&PathBuf>,
    environment: &BTreeMap<String, String>,
    flags: &[(&str, String)],
) -> Result<Config, ConfigError> {
    let mut table = read_file(file)?;
    let known = known_keys();
    for (path, _) in leaves(&table, "") {
        refuse_unknown(&path, &known, "key", "switchback.toml")?;
    }
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix("SWITCHBACK_") else { continue };
        if OTHER_VARIABLES.contains(&name.as_str()) || name.starts_with(TEST_PREFIX) {
            continue;
        }
        let path = rest.to_lowercase().replace("__", ".");
        if !known.contains_key(&path) {
            let mut names: Vec<String> = known.keys().map(|key| variable(key)).collect();
            names.extend(OTHER_VARIABLES.iter().map(|name| (*name).to_owned()));
            let near = nearest(name, names.iter().map(String::as_str));
            return Err(ConfigError(format!("unknown variable {name} in the environment{near}")));
        }
        set(&mut table, &path, typed(text, known.get(&path), &variable(&path))?);
    }
    for (path, text) in flags {
        set(&mut table, path, typed(text, known.get(*path), path)?);
    }
    let config: Config = Value::Table(table)
        .try_into()
        .map_err(|error| ConfigError(format!("configuration: {}", one_line(&error.to_string()))))?;
    config.check()?;
    Ok(config)
}

/// Reads what a first start without a person needs.
pub fn init_from(environment: &BTreeMap<String, String>) -> Result<Init, ConfigError> {
    let get = |name: &str| environment.get(name).filter(|text| !text.is_empty());
    let list = |name: &str| -> Vec<String> {
        let text = get(name).map(String::as_str).unwrap_or_default();
        text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
    };
    let email = get("SWITCHBACK_INIT_ADMIN_EMAIL");
    let password = get("SWITCHBACK_INIT_ADMIN_PASSWORD");
    let admin = match (email, password) {
        (Some(email), Some(password)) => Some((email.clone(), password.clone())),
        (None, None) => None,
        _ => {
            return Err(ConfigError(
                "SWITCHBACK_INIT_ADMIN_EMAIL and SWITCHBACK_INIT_ADMIN_PASSWORD go together; \
                 one of them is missing"
                    .to_owned(),
            ));
        }
    };
    Ok(Init {
        admin,
        admin_tokens: list("SWITCHBACK_INIT_ADMIN_TOKENS"),
        client_tokens: list("SWITCHBACK_INIT_CLIENT_TOKENS"),
        frontend_tokens: list("SWITCHBACK_INIT_FRONTEND_TOKENS"),
        event_tokens: list("SWITCHBACK_INIT_EVENT_TOKENS"),
    })
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let between = |key: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(ConfigError(format!("{key} is {value}; it must be {low} to {high}")))
        };
        between("stream.heartbeat_ms", self.stream.heartbeat_ms, 100, 60_000)?;
        between("stream.write_timeout_ms", self.stream.write_timeout_ms, 100, 120_000)?;
        between("stream.clients_max", self.stream.clients_max as u64, 1, 1_000_000)?;
        between("stream.window_revisions", self.stream.window_revisions as u64, 1, 100_000)?;
        between("compat.hydrations_max", self.compat.hydrations_max as u64, 1, 100_000)?;
        between("sign_in.idle_hours", self.sign_in.idle_hours.max(0).cast_unsigned(), 1, 720)?;
        between("sign_in.free_attempts", u64::from(self.sign_in.free_attempts), 1, 100)?;
        between("workers", self.workers as u64, 0, 256)?;
        crate::notify::Mailer::check(&self.mail).map_err(ConfigError)?;
        self.status.check()?;
        self.watch.check()?;
        let listen: Result<std::net::SocketAddr, _> = self.listen.parse();
        if listen.is_err() {
            let listen = &self.listen;
            let hint = "use address:port, such as 127.0.0.1:8080";
            return Err(ConfigError(format!("listen is `{listen}`; {hint}")));
        }
        Ok(())
    }

    /// Every key with its effective value; secrets masked.
    pub fn effective(&self) -> Vec<(String, String)> {
        let mut shown = self.clone();
        shown.database_url = mask_url(&self.database_url);
        shown.mail.url = mask_url(&self.mail.url);
        let table = Table::try_from(&shown).unwrap_or_default();
        leaves(&table, "").into_iter().map(|(key, value)| (key, value.to_string())).collect()
    }

    /// What to hand to the store.
    pub fn database_address(&self) -> String {
        if self.database_url.is_empty() {
            format!("sqlite:{}", self.data_dir.join("switchback.db").display())
        } else {
            self.database_url.clone()
        }
    }
}

/// A database URL without its password.
pub fn mask_url(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            let _ = url.set_password(Some("****"));
            url.to_string()
        }
        _ => text.to_owned(),
    }
}

fn read_file(file: Option<&PathBuf>) -> Result<Table, ConfigError> {
    let default = PathBuf::from("switchback.toml");
    let (path, must) = file.map_or((&default, false), |path| (path, true));
    match std::fs::read_to_string(path) {
        Ok(text) => text.parse::<Table>().map_err(|error| {
            ConfigError(format!("{}: {}", path.display(), one_line(&error.to_string())))
        }),
        Err(error) if must || error.kind() != std::io::ErrorKind::NotFound => {
            Err(ConfigError(format!("{} cannot be read: {error}", path.display())))
        }
        Err(_) => Ok(Table::new()),
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn known_keys() -> BTreeMap<String, Value> {
    let table = Table::try_from(Config::default()).unwrap_or_default();
    let mut known: BTreeMap<String, Value> = leaves(&table, "").into_iter().collect();
    for key in OPTIONAL_KEYS {
        known.insert((*key).to_owned(), Value::String(String::new()));
    }
    known
}

fn leaves(table: &Table, prefix: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => found.extend(leaves(inner, &path)),
            other => found.push((path, other.clone())),
        }
    }
    found
}

fn refuse_unknown(
    path: &str,
    known: &BTreeMap<String, Value>,
    what: &str,
    place: &str,
) -> Result<(), ConfigError> {
    if known.contains_key(path) {
        return Ok(());
    }
    let near = nearest(path, known.keys().map(String::as_str));
    Err(ConfigError(format!("unknown {what} `{path}` in {place}{near}")))
}

/// `; did you mean ...?` with the nearest name, or nothing when none is near.
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(text, name), name))
        .filter(|(score, _)| *score > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

fn variable(path: &str) -> String {
    format!("SWITCHBACK_{}", path.replace('.', "__").to_uppercase())
}

fn typed(text: &str, like: Option<&Value>, name: &str) -> Result<Value, ConfigError> {
    let wrong = |what: &str| ConfigError(format!("{name} is `{text}`; it must be {what}"));
    Ok(match like {
        Some(Value::Integer(_)) => {
            Value::Integer(text.parse().map_err(|_| wrong("a whole number"))?)
        }
        Some(Value::Boolean(_)) => {
            Value::Boolean(text.parse().map_err(|_| wrong("true or false"))?)
        }
        Some(Value::Array(_)) => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| Value::String(part.to_owned()))
                .collect(),
        ),
        _ => Value::String(text.to_owned()),
    })
}

fn set(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_command_line_beats_the_environment() {
        let variables = environment(&[
            ("SWITCHBACK_LISTEN", "127.0.0.1:1"),
            ("SWITCHBACK_STREAM__HEARTBEAT_MS", "500"),
        ]);

        let config = load(None, &variables, &[("listen", "127.0.0.1:2".to_owned())]).unwrap();

        assert_eq!((config.listen.as_str(), config.stream.heartbeat_ms), ("127.0.0.1:2", 500));
    }

    #[test]
    fn an_unknown_variable_names_the_nearest() {
        let error = load(None, &environment(&[("SWITCHBACK_LISTN", "x")]), &[]).unwrap_err();

        assert_eq!(
            error.to_string(),
            "unknown variable SWITCHBACK_LISTN in the environment; did you mean `SWITCHBACK_LISTEN`?"
        );
    }

    #[test]
    fn a_wrong_value_says_what_is_allowed() {
        let bad = environment(&[("SWITCHBACK_STREAM__HEARTBEAT_MS", "5")]);

        let error = load(None, &bad, &[]).unwrap_err();

        assert_eq!(error.to_string(), "stream.heartbeat_ms is 5; it must be 100 to 60000");
    }

    #[test]
    fn a_password_is_masked() {
        let config = load(
            None,
            &environment(&[("SWITCHBACK_DATABASE_URL", "postgres://me:hunter2@db/sb")]),
            &[],
        )
        .unwrap();

        let shown = format!("{:?}", config.effective());

        assert!(!shown.contains("hunter2") && shown.contains("****"), "{shown}");
    }
}
