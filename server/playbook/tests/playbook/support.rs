//! A world in memory, with faults at every commit, and a clock that only moves when all wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use switchback_core::model::{FlagState, Millis, Revision, ValueType};
use switchback_playbook::backups::{
    Backup, BackupCheck, BackupSpace, BackupWish, Backups, Verified,
};
use switchback_playbook::journal::{Entry, Journal, Lease, NewEntry, Phase, RunRecord};
use switchback_playbook::plan::Plan;
use switchback_playbook::ports::*;
use switchback_playbook::preserve::Preserve;
use switchback_playbook::state::RunState;
use switchback_playbook::templates::{IncidentTemplate, Library};
use switchback_playbook::{DriveError, Ending, drive};

pub const ENV: &str = "production";
pub const T0: Millis = 1_000_000;

/// What somebody else does in the middle.
pub type Act = fn(&mut Inner);

/// When a commit or an effect is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node dies before the n-th operation takes effect.
    DieBefore(u64),
    /// The node dies after the n-th operation took effect and before it hears so.
    DieAfter(u64),
    /// The n-th operation takes effect, and its answer is lost.
    TimeOutAfter(u64),
}

#[derive(Default)]
pub struct Inner {
    pub plan: Option<Plan>,
    pub entries: Vec<Entry>,
    pub state: Option<RunState>,
    pub epoch: u64,
    pub flags: BTreeMap<String, FlagSnapshot>,
    pub revision: Revision,
    /// What a flag was before a revision.
    pub before: BTreeMap<(String, Revision), FlagState>,
    /// What flags were at any moment that is asked about.
    pub earlier: BTreeMap<String, FlagState>,
    /// Every flag write that was committed.
    pub writes: Vec<(String, Revision)>,
    /// Open incidents by key: (id, template, resolved).
    pub incidents: BTreeMap<String, (String, String, bool)>,
    pub updates: BTreeSet<String>,
    pub notices: BTreeSet<String>,
    pub components: BTreeMap<String, String>,
    pub moved: BTreeMap<String, BTreeMap<String, String>>,
    /// Keys of requests that the other side has seen: it does each once.
    pub sent: BTreeSet<String>,
    /// Keys of scripts that a data source has done, and what it did, in order.
    pub scripts: BTreeSet<String>,
    pub sql: Vec<String>,
    pub rows: u64,
    pub backups: BTreeMap<String, String>,
    pub sessions: u64,
    pub archived: BTreeSet<String>,
    /// Broken rows that a pack of checks finds, and runs of repairs by key: how many each healed, and whether it was taken back.
    pub broken_rows: u64,
    pub repairs: BTreeMap<String, (u64, bool)>,
    pub connected: u64,
    pub acked: u64,
    /// Operations so far: each commit and each effect is one.
    pub operations: u64,
    pub faults: Vec<Fault>,
    /// The node is dead: nothing it asks for is answered.
    pub dead: bool,
    /// Flags whose writes fail, and incident calls that fail.
    pub broken: BTreeSet<String>,
    pub http_status: u16,
    /// Runs before the n-th operation, as another actor in the middle.
    pub meddle: Option<(u64, Act)>,
}

#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<Inner>>);

impl Fake {
    pub fn new(plan: Plan) -> Self {
        let fake = Self::default();
        fake.with(|inner| {
            inner.plan = Some(plan);
            (inner.connected, inner.acked, inner.http_status) = (100, 100, 200);
            for key in ["auth_bypass", "auth_enabled", "auth_rollout", "a", "b", "c", "d"] {
                let state = FlagState { enabled: key == "auth_enabled", ..FlagState::default() };
                let value_type = ValueType::Boolean;
                inner.earlier.insert(key.into(), state.clone());
                inner.flags.insert(key.into(), FlagSnapshot { revision: 0, value_type, state });
            }
        });
        fake
    }

    pub fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    pub fn world(&self, clock: &TestClock) -> World {
        World {
            journal: Arc::new(self.clone()),
            flags: Arc::new(self.clone()),
            archive: Arc::new(self.clone()),
            convergence: Arc::new(self.clone()),
            incidents: Arc::new(self.clone()),
            notices: Arc::new(self.clone()),
            http: Arc::new(self.clone()),
            sources: Arc::new(self.clone()),
            preservation: Arc::new(self.clone()),
            backups: Arc::new(self.clone()),
            sessions: Arc::new(self.clone()),
            consistency: Arc::new(self.clone()),
            watch: Arc::new(self.clone()),
            clock: Arc::new(clock.clone()),
            progress: Arc::new(self.clone()),
        }
    }

    pub fn lease(&self) -> Lease {
        let epoch = self.with(|inner| {
            inner.epoch += 1;
            inner.dead = false;
            inner.epoch
        });
        Lease { run_id: "r1".into(), owner: "node".into(), epoch, ttl_ms: 5_000 }
    }

    /// Drives until the end, taking over after each death; panics when that does not come.
    pub async fn drive_to_end(&self, clock: &TestClock) -> Ending {
        for _ in 0..10 {
            let lease = self.lease();
            match drive("r1", &lease, &self.world(clock)).await {
                Ok(ending) => return ending,
                Err(DriveError::Journal(_) | DriveError::LeaseLost(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        panic!("ten drivers did not end the run: {:#?}", self.phases());
    }

    pub fn say(&self, entry: NewEntry) {
        self.with(|inner| push(inner, entry, 0));
    }

    pub fn phases(&self) -> Vec<(String, Phase)> {
        self.with(|i| i.entries.iter().map(|e| (e.row.step_id.clone(), e.row.phase)).collect())
    }

    pub fn states(&self) -> BTreeMap<String, FlagState> {
        self.with(|inner| inner.flags.iter().map(|(k, f)| (k.clone(), f.state.clone())).collect())
    }

    pub fn open_incidents(&self) -> usize {
        self.with(|inner| inner.incidents.values().filter(|(_, _, resolved)| !resolved).count())
    }

    /// One operation that takes effect at most once, with the faults around it.
    pub fn operate<T>(
        &self,
        lease: Option<&Lease>,
        act: impl FnOnce(&mut Inner) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let gone = || PortError::Unavailable("no answer".into());
        self.with(|inner| {
            if inner.dead {
                return Err(gone());
            }
            inner.operations += 1;
            let number = inner.operations;
            if let Some((at, meddle)) = inner.meddle
                && at == number
            {
                meddle(inner);
            }
            if inner.faults.contains(&Fault::DieBefore(number)) {
                inner.dead = true;
                return Err(gone());
            }
            if lease.is_some_and(|lease| lease.epoch != inner.epoch) {
                return Err(PortError::Fenced);
            }
            let done = act(inner);
            if inner.faults.contains(&Fault::DieAfter(number)) {
                inner.dead = true;
                return Err(gone());
            }
            if inner.faults.contains(&Fault::TimeOutAfter(number)) {
                return Err(gone());
            }
            done
        })
    }
}

pub fn push(inner: &mut Inner, row: NewEntry, epoch: u64) -> u64 {
    let seq = inner.entries.len() as u64 + 1;
    inner.entries.push(Entry { seq, epoch, row });
    seq
}

#[async_trait]
impl Journal for Fake {
    async fn load(&self, run_id: &str) -> Result<RunRecord, PortError> {
        self.with(|inner| {
            if inner.dead {
                return Err(PortError::Unavailable("no answer".into()));
            }
            // Through JSON, as the server keeps it.
            let plan = serde_json::to_string(inner.plan.as_ref().unwrap()).unwrap();
            let plan = serde_json::from_str(&plan).unwrap();
            let entries = inner.entries.clone();
            Ok(RunRecord { run_id: run_id.into(), plan, started_at: T0, entries })
        })
    }

    async fn append(&self, lease: &Lease, entry: NewEntry) -> Result<u64, PortError> {
        self.operate(Some(lease), |inner| Ok(push(inner, entry, lease.epoch)))
    }

    async fn renew(&self, lease: &Lease) -> Result<(), PortError> {
        self.with(|inner| match (inner.dead, inner.epoch == lease.epoch) {
            (true, _) => Err(PortError::Unavailable("no answer".into())),
            (false, true) => Ok(()),
            (false, false) => Err(PortError::Fenced),
        })
    }

    async fn finish(
        &self,
        lease: &Lease,
        state: RunState,
        entry: NewEntry,
    ) -> Result<(), PortError> {
        self.operate(Some(lease), |inner| {
            inner.state = Some(state);
            push(inner, entry, lease.epoch);
            Ok(())
        })
    }
}

#[async_trait]
impl Flags for Fake {
    async fn read(&self, _: &str, flag: &str) -> Result<FlagSnapshot, PortError> {
        self.with(|inner| {
            if inner.dead {
                return Err(PortError::Unavailable("no answer".into()));
            }
            let found = inner.flags.get(flag).cloned();
            found.ok_or_else(|| PortError::NotFound(format!("flag `{flag}`")))
        })
    }

    async fn read_before(&self, _: &str, flag: &str, at: Revision) -> Result<FlagState, PortError> {
        self.with(|inner| {
            let found = inner.before.get(&(flag.to_owned(), at)).cloned();
            found.ok_or_else(|| PortError::NotFound(format!("revision {at} of `{flag}`")))
        })
    }

    async fn read_all(
        &self,
        _: &str,
    ) -> Result<(Revision, BTreeMap<String, FlagSnapshot>), PortError> {
        self.with(|inner| {
            if inner.dead {
                return Err(PortError::Unavailable("no answer".into()));
            }
            Ok((inner.revision, inner.flags.clone()))
        })
    }

    async fn read_all_at(
        &self,
        _: &str,
        _: Millis,
    ) -> Result<BTreeMap<String, FlagState>, PortError> {
        Ok(self.with(|inner| inner.earlier.clone()))
    }

    async fn apply_all(
        &self,
        lease: &Lease,
        write: FlagsWrite,
        outcome: NewEntry,
    ) -> Result<Revision, PortError> {
        self.operate(Some(lease), |inner| {
            if inner.revision != write.expected_revision {
                return Err(PortError::Conflict("the environment".into()));
            }
            inner.revision += 1;
            for (key, state) in write.states {
                let flag = inner.flags.get_mut(&key).unwrap();
                flag.revision = inner.revision;
                let before = std::mem::replace(&mut flag.state, state);
                inner.before.insert((key.clone(), inner.revision), before);
                inner.writes.push((key, inner.revision));
            }
            push(inner, outcome.with_revision(inner.revision), lease.epoch);
            Ok(inner.revision)
        })
    }

    async fn apply(
        &self,
        lease: &Lease,
        write: FlagWrite,
        outcome: NewEntry,
    ) -> Result<Revision, PortError> {
        self.operate(Some(lease), |inner| {
            if inner.broken.contains(&write.flag) {
                return Err(PortError::Refused(format!("`{}` is broken", write.flag)));
            }
            let flag = inner.flags.get_mut(&write.flag).unwrap();
            if flag.revision != write.expected_revision {
                return Err(PortError::Conflict(write.flag));
            }
            inner.revision += 1;
            flag.revision = inner.revision;
            let before = std::mem::replace(&mut flag.state, write.state);
            inner.before.insert((write.flag.clone(), inner.revision), before);
            inner.writes.push((write.flag, inner.revision));
            push(inner, outcome.with_revision(inner.revision), lease.epoch);
            Ok(inner.revision)
        })
    }
}

#[async_trait]
impl Convergence for Fake {
    async fn status(&self, _: &str, revision: Option<Revision>) -> Result<Converged, PortError> {
        Ok(self.with(|inner| Converged {
            revision: revision.unwrap_or(inner.revision),
            connected: inner.connected,
            acked: inner.acked,
        }))
    }
}

#[async_trait]
impl Http for Fake {
    async fn ask(&self, _: &HttpQuestion) -> Result<HttpAnswer, PortError> {
        Ok(HttpAnswer { status: self.with(|inner| inner.http_status), body: "hello".into() })
    }

    async fn send(&self, request: &HttpRequest) -> Result<Option<HttpAnswer>, PortError> {
        self.operate(None, |inner| {
            if inner.sent.insert(request.key.clone()) {
                inner.sql.push(format!("{} {}", request.method, request.url));
            }
            Ok(Some(HttpAnswer { status: 200, body: String::new() }))
        })
    }

    async fn check(&self, _: &HttpRequest) -> Result<(), PortError> {
        Ok(())
    }
}

#[async_trait]
impl Sources for Fake {
    async fn ask(&self, _: &Question) -> Result<Vec<Map<String, Value>>, PortError> {
        Ok(vec![Map::from_iter([("n".to_owned(), json!(1))])])
    }

    async fn explain(&self, _: &Question) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }

    async fn exec(&self, key: &str, script: &Script) -> Result<Changed, PortError> {
        self.operate(None, |inner| {
            if inner.scripts.insert(key.into()) {
                inner.sql.push(script.sql.clone());
            }
            Ok(Changed { rows: 1, statements: vec![1] })
        })
    }

    async fn find(&self, key: &str, _: &str) -> Result<Option<Changed>, PortError> {
        Ok(self.with(|inner| inner.scripts.contains(key).then(Changed::default)))
    }

    async fn put_back(&self, key: &str, rows: &PutBack) -> Result<Changed, PortError> {
        self.operate(None, |inner| {
            if inner.scripts.insert(key.into()) {
                inner.sql.push(format!("{:?} of {}", rows.side, rows.of));
            }
            Ok(Changed { rows: 1, statements: vec![1] })
        })
    }

    async fn rehearse_put_back(&self, _: &PutBack) -> Result<Changed, PortError> {
        Ok(Changed { rows: 1, statements: vec![1] })
    }

    async fn rehearse(&self, _: &Script) -> Result<Rehearsal, PortError> {
        Ok(Rehearsal { rows: 1, warnings: Vec::new() })
    }

    async fn migrate(
        &self,
        key: &str,
        migration: &Migration,
        direction: Direction,
    ) -> Result<Option<Changed>, PortError> {
        self.operate(None, |inner| {
            if inner.scripts.insert(key.into()) {
                inner.sql.push(format!("{} {direction:?}", migration.name));
            }
            Ok(Some(Changed { rows: 1, statements: vec![1] }))
        })
    }

    async fn find_migrated(
        &self,
        key: &str,
        _: &str,
    ) -> Result<Option<Option<Changed>>, PortError> {
        Ok(self.with(|inner| inner.scripts.contains(key).then(|| Some(Changed::default()))))
    }

    async fn check_migration(
        &self,
        _: &Migration,
        _: Direction,
    ) -> Result<Option<String>, PortError> {
        Ok(None)
    }

    async fn rehearse_migration(
        &self,
        _: &Migration,
        _: Direction,
    ) -> Result<Rehearsal, PortError> {
        Ok(Rehearsal { rows: 1, warnings: Vec::new() })
    }
}

#[async_trait]
impl Preservation for Fake {
    async fn measure(&self, lease: &Lease, _: &Preserve) -> Result<Look, PortError> {
        self.operate(Some(lease), |inner| {
            let detail = Map::from_iter([("rows".to_owned(), json!(inner.rows))]);
            Ok(Look { holds: true, says: "looked at".into(), detail })
        })
    }

    async fn compare(&self, _: &str, _: &Preserve, before: &Value) -> Result<Look, PortError> {
        self.operate(None, |inner| {
            if inner.broken.contains("source") {
                return Err(PortError::Unavailable("no answer".into()));
            }
            let holds = before["rows"].as_u64().unwrap() <= inner.rows;
            Ok(Look { holds, says: "looked at again".into(), detail: Map::new() })
        })
    }
}

#[async_trait]
impl Backups for Fake {
    async fn space(&self, _: &BackupWish) -> Result<BackupSpace, PortError> {
        Ok(BackupSpace { database_bytes: 1_000, free_bytes: 100 })
    }

    async fn take(&self, key: &str, wish: &BackupWish) -> Result<Backup, PortError> {
        self.operate(None, |inner| {
            inner.backups.entry(key.into()).or_insert_with(|| wish.source.clone());
            Ok(backup(key, &wish.source))
        })
    }

    async fn find(&self, key: &str) -> Result<Option<Backup>, PortError> {
        Ok(self.with(|inner| inner.backups.get(key).map(|source| backup(key, source))))
    }

    async fn get(&self, id: &str) -> Result<Backup, PortError> {
        let found = Backups::find(self, id).await?;
        found.ok_or_else(|| PortError::NotFound(format!("backup `{id}`")))
    }

    async fn latest(&self, source: &str, _: bool) -> Result<Option<Backup>, PortError> {
        Ok(self.with(|inner| {
            let found = inner.backups.iter().find(|(_, of)| *of == source);
            found.map(|(key, source)| backup(key, source))
        }))
    }

    async fn verify(&self, _: &str, _: &[BackupCheck]) -> Result<Verified, PortError> {
        Ok(Verified { restore_ms: 10, age_ms: 1_000, tables: 1, rows: 3 })
    }

    async fn restore(&self, key: &str, before: &str, id: &str) -> Result<Backup, PortError> {
        let source = self.get(id).await?.source;
        self.operate(None, |inner| {
            inner.scripts.insert(key.into());
            inner.backups.insert(before.into(), source.clone());
            Ok(backup(before, &source))
        })
    }

    async fn was_restored(&self, key: &str, _: &str) -> Result<Option<bool>, PortError> {
        Ok(Some(self.with(|inner| inner.scripts.contains(key))))
    }
}

/// A backup whose id is its key.
fn backup(key: &str, source: &str) -> Backup {
    Backup {
        id: key.into(),
        source: source.into(),
        file: format!("{source}.dump"),
        bytes: 100,
        rows: 3,
        created_at: 0,
        verified_at: Some(0),
    }
}

impl Progress for Fake {
    fn moved(&self, _: &str) {}
}

/// Tokio's paused clock: it moves only when every task waits.
#[derive(Clone)]
pub struct TestClock(tokio::time::Instant);

impl TestClock {
    pub fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now_ms(&self) -> Millis {
        T0 + self.0.elapsed().as_millis() as i64
    }

    async fn sleep_until(&self, at: Millis) {
        let wait = Duration::from_millis((at - T0).max(0) as u64);
        tokio::time::sleep_until(self.0 + wait).await;
    }
}

pub fn library() -> &'static Library {
    static ONCE: std::sync::OnceLock<Library> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| {
        let mut library = Library::default();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runbooks/incidents");
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            library.insert(IncidentTemplate::parse(&text).unwrap());
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runbooks/sql");
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            let name = format!("sql/{}", file.file_name().to_string_lossy());
            library.insert_script(&name, std::fs::read_to_string(file.path()).unwrap());
        }
        library
    })
}

pub fn runbook(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runbooks");
    std::fs::read_to_string(format!("{folder}/{name}.yaml")).unwrap()
}

/// A plan from a list of steps in YAML (each line indented as given).
pub fn plan_of(steps: &str) -> Plan {
    plan_with("deadline: 10m", steps)
}

pub fn plan_with(spec: &str, steps: &str) -> Plan {
    let text = file(spec, steps);
    let (playbook, _) = switchback_playbook::lint::load(&text, library())
        .unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    switchback_playbook::compile(&playbook, library(), ENV, &BTreeMap::new(), "a test").unwrap()
}

pub fn file(spec: &str, steps: &str) -> String {
    let indent = |text: &str| text.lines().flat_map(|line| ["  ", line, "\n"]).collect::<String>();
    format!(
        "apiVersion: switchback/v1\nkind: Playbook\nmetadata: {{name: t, title: T}}\nspec:\n{}  steps:\n{}",
        indent(spec),
        indent(&indent(steps))
    )
}

pub fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, Value> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
}
