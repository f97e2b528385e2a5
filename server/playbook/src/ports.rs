//! The ports through which steps reach the world. The server implements them; tests fake them.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use switchback_core::model::{FlagState, Millis, Revision, ValueType};

use crate::archive::Archive;
use crate::backups::Backups;
use crate::consistency::Consistency;
use crate::journal::{Journal, Lease, NewEntry};
use crate::preserve::Preserve;
use crate::says::Says;
use crate::sessions::Sessions;
use crate::watch::Watch;

/// Why a port did not do what it was asked; each variant needs a different reaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Somebody else drives this run now: stop at once, touch nothing more.
    #[error("another node has taken this run over")]
    Fenced,
    /// What was named does not exist; trying again is useless.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Somebody changed it in between; look again.
    #[error("changed by somebody else: {0}")]
    Conflict(String),
    /// The request is wrong; trying again is useless.
    #[error("{0}")]
    Refused(String),
    /// It did not answer, or not in time; trying again may help, and it may have happened.
    #[error("{0}")]
    Unavailable(String),
}

/// A flag in one environment at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct FlagSnapshot {
    /// The environment's revision at which this flag last changed: what compare-and-set compares.
    pub revision: Revision,
    /// The type of its values.
    pub value_type: ValueType,
    /// Its state.
    pub state: FlagState,
}

/// A change of one flag, made only if nobody changed it in between.
#[derive(Clone, Debug, PartialEq)]
pub struct FlagWrite {
    /// The environment's key.
    pub environment: String,
    /// The flag's key.
    pub flag: String,
    /// The change is refused with [`PortError::Conflict`] unless the flag is still at this revision.
    pub expected_revision: Revision,
    /// What the flag becomes.
    pub state: FlagState,
    /// For the change log: why, in words.
    pub reason: String,
}

/// Changes of several flags of an environment, made at once and only if nothing was changed in between.
#[derive(Clone, Debug, PartialEq)]
pub struct FlagsWrite {
    /// The environment's key.
    pub environment: String,
    /// The changes are refused with [`PortError::Conflict`] unless the environment is still at this revision.
    pub expected_revision: Revision,
    /// What the flags become.
    pub states: BTreeMap<String, FlagState>,
    /// For the change log: why, in words.
    pub reason: String,
}

/// Flags of the environments.
#[async_trait]
pub trait Flags: Send + Sync {
    /// Reads a flag; [`PortError::NotFound`] when there is none.
    async fn read(&self, environment: &str, flag: &str) -> Result<FlagSnapshot, PortError>;

    /// The state that a flag had before the change that made `revision`; [`PortError::NotFound`] when that was no change of it.
    async fn read_before(
        &self,
        environment: &str,
        flag: &str,
        revision: Revision,
    ) -> Result<FlagState, PortError>;

    /// Every flag of an environment, and the environment's revision, read before them.
    async fn read_all(
        &self,
        environment: &str,
    ) -> Result<(Revision, BTreeMap<String, FlagSnapshot>), PortError>;

    /// The states that the flags of an environment had at a moment, in UTC milliseconds; without those that came later.
    async fn read_all_at(
        &self,
        environment: &str,
        at: Millis,
    ) -> Result<BTreeMap<String, FlagState>, PortError>;

    /// As [`apply`](Self::apply), for several flags in one revision.
    async fn apply_all(
        &self,
        lease: &Lease,
        write: FlagsWrite,
        outcome: NewEntry,
    ) -> Result<Revision, PortError>;

    /// Commits the change, its `change_log` row and `outcome.with_revision(new revision)` in ONE
    /// transaction, fenced by the lease; then wakes the stream. Returns the new revision.
    ///
    /// This is what makes a flag step happen exactly once.
    async fn apply(
        &self,
        lease: &Lease,
        write: FlagWrite,
        outcome: NewEntry,
    ) -> Result<Revision, PortError>;
}

/// How far a revision has come among the connected clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converged {
    /// The revision that was asked about.
    pub revision: Revision,
    /// Clients connected to the environment, relays' clients included.
    pub connected: u64,
    /// Those of them that acknowledged this revision or a later one.
    pub acked: u64,
}

/// What the connected clients have acknowledged.
#[async_trait]
pub trait Convergence: Send + Sync {
    /// The state of `revision`, or of the environment's newest when `None`.
    async fn status(
        &self,
        environment: &str,
        revision: Option<Revision>,
    ) -> Result<Converged, PortError>;
}

/// An incident's text, ready to be shown: every placeholder is filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentText {
    /// The template that it came from.
    pub template: String,
    /// The title.
    pub title: String,
    /// The update's text.
    pub body: String,
    /// `none`, `minor`, `major`, `critical` or `maintenance`.
    pub impact: String,
    /// `investigating`, `identified`, `monitoring`, `resolved`, `scheduled`, `in_progress`,
    /// `verifying` or `completed`.
    pub status: String,
    /// Components and what becomes of them, such as `auth` → `major_outage`.
    pub components: BTreeMap<String, String>,
    /// What other channels say.
    #[serde(default, skip_serializing_if = "Says::is_empty")]
    pub says: Says,
    /// Who is told: `page`, `in_app`, `subscribers`, kinds of channels or their keys; empty: everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<String>,
}

/// Incidents and the status page. Every call carries a key: the same key twice is done once.
#[async_trait]
pub trait Incidents: Send + Sync {
    /// Opens an incident, or finds the one that this key opened. Returns its id.
    async fn open(
        &self,
        key: &str,
        environment: &str,
        text: &IncidentText,
    ) -> Result<String, PortError>;

    /// The incident that this key opened, if it did.
    async fn find_by_key(&self, key: &str) -> Result<Option<String>, PortError>;

    /// The newest unresolved incident of the environment that was opened from `template`.
    async fn find_open(
        &self,
        environment: &str,
        template: &str,
    ) -> Result<Option<String>, PortError>;

    /// Posts an update; `text.status` moves the incident (`resolved` resolves it). An empty title
    /// leaves the title as it is.
    async fn update(&self, key: &str, id: &str, text: &IncidentText) -> Result<(), PortError>;

    /// Sets components outside an incident, once per key. Returns what they were before the first time.
    async fn set_components(
        &self,
        key: &str,
        components: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, PortError>;

    /// How components are; those that are not known are absent.
    async fn components(&self) -> Result<BTreeMap<String, String>, PortError>;

    /// How many subscribers would be told of this.
    async fn reached(&self, text: &IncidentText) -> Result<u64, PortError>;
}

/// A message shown inside the apps, by their SDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// A short line.
    pub title: String,
    /// The message.
    pub message: String,
    /// When it disappears by itself, in UTC milliseconds.
    pub expires_at: Millis,
}

/// A message to the team's channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The kind of channel: `slack`, `discord`, `pagerduty`, `webhook` or `email`.
    pub kind: String,
    /// One channel's key; every channel of the kind when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// One line.
    pub title: String,
    /// The message.
    pub message: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
}

/// Messages to the apps.
#[async_trait]
pub trait Notices: Send + Sync {
    /// Posts a notice once per key.
    async fn post(&self, key: &str, environment: &str, notice: &Notice) -> Result<(), PortError>;

    /// Hands a message to the outbox once per key. Returns the keys of the channels that it goes to.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when there is no such channel, or none of this kind.
    async fn announce(&self, key: &str, said: &Announcement) -> Result<Vec<String>, PortError>;

    /// The channels that a message would go to; errors as [`Notices::announce`].
    async fn recipients(&self, said: &Announcement) -> Result<Vec<String>, PortError>;
}

/// A question to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpQuestion {
    /// `GET` or `HEAD`.
    pub method: String,
    /// An `http` or `https` address.
    pub url: String,
    /// When to give up, in milliseconds.
    pub timeout_ms: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// At most the first 64 KiB of the body.
    pub body: String,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeaderText {
    /// This text.
    Plain(String),
    /// What is kept elsewhere.
    Secret {
        /// `env:NAME` (a variable of the server) or `file:/path`.
        secret: String,
    },
}

/// A request that may change something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// An `http` or `https` address.
    pub url: String,
    /// Headers by name.
    pub headers: BTreeMap<String, HeaderText>,
    /// The body, if it has one.
    pub body: Option<String>,
    /// Sent as `Idempotency-Key`: the same for every attempt, so that the other side can do it once.
    pub key: String,
    /// When to give up, in milliseconds.
    pub timeout_ms: u64,
    /// Also to a host that is left alone because it failed several times in a row.
    pub is_urgent: bool,
}

/// HTTP. The server's implementation refuses addresses that its configuration does not allow.
#[async_trait]
pub trait Http: Send + Sync {
    /// Asks; a status that is not 2xx is an answer, not an error.
    async fn ask(&self, question: &HttpQuestion) -> Result<HttpAnswer, PortError>;

    /// Sends; any status is an answer. `None`: it was not sent, since this run is a drill. [`PortError::Refused`]: it was not
    /// sent, and would not be another time.
    async fn send(&self, request: &HttpRequest) -> Result<Option<HttpAnswer>, PortError>;

    /// Whether [`send`](Self::send) could send it: its secrets are there, and its address is allowed.
    async fn check(&self, request: &HttpRequest) -> Result<(), PortError>;
}

/// A query to a data source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The data source's name.
    pub source: String,
    /// One query.
    pub sql: String,
    /// `$1`, `$2`, …, as texts.
    pub params: Vec<String>,
    /// When to give up, in milliseconds; the source's own limit when that is shorter, or nothing is said.
    pub timeout_ms: Option<u64>,
}

/// A script for a data source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The data source's name.
    pub source: String,
    /// Statements, parted by semicolons; one transaction.
    pub sql: String,
    /// `$1`, `$2`, …, as texts; with one statement only.
    pub params: Vec<String>,
    /// More changed rows than this roll it back.
    pub rows_max: u64,
    /// Tables whose changed rows are kept as they were.
    pub snapshots: Vec<Snapshot>,
}

/// A table whose rows a script changes, kept so that they can be put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The table, with its schema where it has one.
    pub table: String,
    /// The columns by which its rows are known.
    pub key: Vec<String>,
    /// Only these rows: an SQL condition.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Which of a script's two images is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The rows as they were before the script.
    Before,
    /// The rows as the script left them.
    After,
}

/// Rows that a script changed, to be put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBack {
    /// The data source's name.
    pub source: String,
    /// The key of the script.
    pub of: String,
    /// Which image.
    pub side: Side,
    /// Also rows that somebody else has changed since.
    pub is_forced: bool,
}

/// What a script did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Rows that it changed.
    pub rows: u64,
    /// By statement.
    pub statements: Vec<u64>,
}

/// What a script would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// Rows that it would change.
    pub rows: u64,
    /// What somebody should know first, such as locks.
    pub warnings: Vec<String>,
}

/// Which way a migration goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// It is applied.
    Up,
    /// It is taken back.
    Down,
}

impl Direction {
    /// The way back.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// A migration of a data source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// The data source's name.
    pub source: String,
    /// Its own name, by which the data source's ledger knows it.
    pub name: String,
    /// The script that applies it.
    pub up: String,
    /// The script that takes it back.
    pub down: String,
    /// Queries that give no row while it is applied.
    pub verify: String,
    /// More changed rows than this roll a script back.
    pub rows_max: u64,
}

/// The app's databases. Rows are columns by name.
#[async_trait]
pub trait Sources: Send + Sync {
    /// Asks; the database changes nothing, and the source's limits hold.
    async fn ask(&self, question: &Question) -> Result<Vec<Map<String, Value>>, PortError>;

    /// What is expensive about a query, in words, without asking it.
    async fn explain(&self, question: &Question) -> Result<Vec<String>, PortError>;

    /// Runs a script once per key, in one transaction. The key again does nothing and tells what the first one did.
    async fn exec(&self, key: &str, script: &Script) -> Result<Changed, PortError>;

    /// What a script with this key did; `None` when it did not happen.
    async fn find(&self, key: &str, source: &str) -> Result<Option<Changed>, PortError>;

    /// Puts the rows that a script changed back, once per key; [`PortError::Conflict`] when somebody else has changed some since.
    async fn put_back(&self, key: &str, rows: &PutBack) -> Result<Changed, PortError>;

    /// What putting back would change.
    async fn rehearse_put_back(&self, rows: &PutBack) -> Result<Changed, PortError>;

    /// Runs a script and rolls it back.
    async fn rehearse(&self, script: &Script) -> Result<Rehearsal, PortError>;

    /// Takes a migration up or down once per key, in one transaction, and asks its queries after going up. `None`: it was so
    /// already, and nothing was done.
    async fn migrate(
        &self,
        key: &str,
        migration: &Migration,
        direction: Direction,
    ) -> Result<Option<Changed>, PortError>;

    /// What a migration with this key did, as [`migrate`](Self::migrate) says it; `None` when it did not happen.
    async fn find_migrated(
        &self,
        key: &str,
        source: &str,
    ) -> Result<Option<Option<Changed>>, PortError>;

    /// Why a migration does not stand where the direction leads; `None` when it does.
    async fn check_migration(
        &self,
        migration: &Migration,
        direction: Direction,
    ) -> Result<Option<String>, PortError>;

    /// Takes a migration there and back, and rolls it all back.
    async fn rehearse_migration(
        &self,
        migration: &Migration,
        direction: Direction,
    ) -> Result<Rehearsal, PortError>;
}

/// What a look at a table found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Whether the rules hold; `true` for the first look.
    pub holds: bool,
    /// A sentence.
    pub says: String,
    /// For the log: figures, and the names of missing and changed keys.
    pub detail: Map<String, Value>,
}

/// What must not get lost, in the app's databases.
#[async_trait]
pub trait Preservation: Send + Sync {
    /// Looks at the table and keeps what a later comparison needs, under the run and the rule. Done again it replaces that.
    async fn measure(&self, lease: &Lease, rule: &Preserve) -> Result<Look, PortError>;

    /// Looks again and compares; `before` is the detail of the first look.
    async fn compare(
        &self,
        run_id: &str,
        rule: &Preserve,
        before: &Value,
    ) -> Result<Look, PortError>;
}

/// Time.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now, in UTC milliseconds.
    fn now_ms(&self) -> Millis;
    /// Returns when [`now_ms`](Self::now_ms) has reached `at`.
    async fn sleep_until(&self, at: Millis);
}

/// Tells whoever watches a run that it has moved. Best effort: it must not block or fail.
pub trait Progress: Send + Sync {
    /// The run has a new row.
    fn moved(&self, run_id: &str);
}

/// Everything outside: one value that holds every port.
#[derive(Clone)]
pub struct World {
    /// Runs and their rows.
    pub journal: Arc<dyn Journal>,
    /// Flags.
    pub flags: Arc<dyn Flags>,
    /// Where they go for good, or nearly.
    pub archive: Arc<dyn Archive>,
    /// Acknowledgements.
    pub convergence: Arc<dyn Convergence>,
    /// Incidents.
    pub incidents: Arc<dyn Incidents>,
    /// In-app notices.
    pub notices: Arc<dyn Notices>,
    /// HTTP probes.
    pub http: Arc<dyn Http>,
    /// The app's databases.
    pub sources: Arc<dyn Sources>,
    /// What must not get lost.
    pub preservation: Arc<dyn Preservation>,
    /// Their backups.
    pub backups: Arc<dyn Backups>,
    /// Sessions of the app's users.
    pub sessions: Arc<dyn Sessions>,
    /// Packs of consistency checks.
    pub consistency: Arc<dyn Consistency>,
    /// What apps report about logins.
    pub watch: Arc<dyn Watch>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Watchers.
    pub progress: Arc<dyn Progress>,
}
