//! A feed: one environment as one scope of clients sees it. The document is compiled and every frame
//! rendered once, as bytes that all sockets share.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use bytestring::ByteString;
use switchback_core::model::{Document, FlagEntry, Millis, Revision};
use switchback_core::wire::{Delta, FlagValue, Notice, ServerFrame, Values};
use switchback_core::{Context, Ruleset};
use switchback_store::Moved;
use tokio::sync::watch;

use super::client::Client;
use super::frontend::Front;
use super::unleash::Rendered;

/// What moved in one revision: flag keys and segment keys.
#[derive(Clone, Debug, Default)]
struct Step {
    to: Revision,
    flags: Vec<String>,
    segments: Vec<String>,
    /// Something was turned off: nobody waits for that.
    is_urgent: bool,
}

/// One environment at one revision, ready to be sent.
#[derive(Debug)]
pub struct Snapshot {
    /// What it says.
    pub document: Arc<Document>,
    /// The same, compiled.
    pub ruleset: Ruleset,
    /// When this node knew of it, in UTC milliseconds.
    pub known_at: Millis,
    full: OnceLock<ByteString>,
    heartbeat: OnceLock<ByteString>,
    /// From the revision before; what nearly every client needs.
    delta: Option<(Revision, ByteString)>,
    window: VecDeque<Step>,
    unleash: OnceLock<Box<Rendered>>,
    front: OnceLock<Box<Front>>,
}

/// What a client needs next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing: it has the newest.
    Nothing,
    /// This frame, which leads to this revision.
    Frame(ByteString, Revision),
}

impl Snapshot {
    fn new(document: Document, known_at: Millis) -> Self {
        let document = Arc::new(document);
        Self {
            ruleset: Ruleset::compile(&document),
            document,
            known_at,
            full: OnceLock::new(),
            heartbeat: OnceLock::new(),
            delta: None,
            window: VecDeque::new(),
            unleash: OnceLock::new(),
            front: OnceLock::new(),
        }
    }

    /// As Unleash's SDKs take it; written when the first of them asks.
    pub fn unleash(&self) -> &Rendered {
        self.unleash.get_or_init(|| Box::new(Rendered::new(&self.document)))
    }

    /// Outcomes as front ends are sent them; written when the first of them asks.
    pub(super) fn front(&self) -> &Front {
        self.front.get_or_init(|| Box::new(Front::new(&self.document, &self.ruleset)))
    }

    /// Whether the newest change turned something off.
    pub fn is_urgent(&self) -> bool {
        self.window.back().is_none_or(|step| step.is_urgent)
    }

    /// Keys of the flags and segments that changed after a revision, if the window still holds them all.
    pub fn moved_since(&self, has: Revision) -> Option<(BTreeSet<&str>, BTreeSet<&str>)> {
        let known_from = self.window.front()?.to - 1;
        if has < known_from || has > self.document.revision {
            return None;
        }
        let (mut flags, mut segments) = (BTreeSet::new(), BTreeSet::new());
        for step in self.window.iter().filter(|step| step.to > has) {
            flags.extend(step.flags.iter().map(String::as_str));
            segments.extend(step.segments.iter().map(String::as_str));
        }
        Some((flags, segments))
    }

    /// The whole document as a frame.
    pub fn full(&self) -> ByteString {
        self.full.get_or_init(|| render(&ServerFrame::Full((*self.document).clone()))).clone()
    }

    /// The newest revision and the database's id, as a frame.
    pub fn heartbeat(&self) -> ByteString {
        let Document { epoch, revision, .. } = &*self.document;
        let frame = || ServerFrame::Heartbeat { epoch: epoch.clone(), revision: *revision };
        self.heartbeat.get_or_init(|| render(&frame())).clone()
    }

    /// One decision per flag for one context, as a frame.
    pub fn values(&self, context: &Context<'_>) -> ByteString {
        let mut values = Values {
            epoch: self.document.epoch.clone(),
            revision: self.document.revision,
            values: Vec::with_capacity(self.document.flags.len()),
        };
        self.ruleset.evaluate_all(context, |key, decision| {
            values.values.push(FlagValue {
                key: key.to_owned(),
                enabled: decision.enabled,
                variant: decision.variant.map(str::to_owned),
                value: decision.value.clone(),
                reason: decision.reason.to_string(),
            });
        });
        render(&ServerFrame::Values(values))
    }

    /// What a client needs that has `has` of `epoch`: nothing, the shared delta, a delta of its own
    /// out of the window, or the whole document.
    pub fn next_for(&self, has: Option<(&str, Revision)>) -> Next {
        let now = self.document.revision;
        let Some((_, has)) = has.filter(|(epoch, _)| *epoch == self.document.epoch) else {
            return Next::Frame(self.full(), now);
        };
        if has == now {
            return Next::Nothing;
        }
        if let Some((from, bytes)) = &self.delta
            && *from == has
        {
            return Next::Frame(bytes.clone(), now);
        }
        match self.delta_since(has) {
            Some(delta) => Next::Frame(render(&ServerFrame::Delta(delta)), now),
            None => Next::Frame(self.full(), now),
        }
    }

    /// Whether a flag's time ran out after one moment and not after another.
    pub fn expires_between(&self, after: Millis, until: Millis) -> bool {
        self.document.flags.values().any(|flag| match flag {
            FlagEntry::Known(flag) => {
                flag.state.expires_at.is_some_and(|at| at > after && at <= until)
            }
            FlagEntry::Unreadable { .. } => false,
        })
    }

    fn delta_since(&self, has: Revision) -> Option<Delta> {
        let (flags, segments) = self.moved_since(has)?;
        Some(self.delta_of(has, flags.into_iter(), segments.into_iter()))
    }

    fn delta_of<'a>(
        &self,
        from: Revision,
        flags: impl Iterator<Item = &'a str>,
        segments: impl Iterator<Item = &'a str>,
    ) -> Delta {
        let Document { epoch, revision, flags: all, segments: lists, .. } = &*self.document;
        let mut delta = Delta { epoch: epoch.clone(), from, to: *revision, ..Delta::default() };
        for key in flags {
            match all.get(key) {
                Some(flag) => delta.flags.push(flag.clone()),
                None => delta.removed_flags.push(key.to_owned()),
            }
        }
        for key in segments {
            match lists.get(key) {
                Some(segment) => delta.segments.push(segment.clone()),
                None => delta.removed_segments.push(key.to_owned()),
            }
        }
        delta
    }
}

/// Why sessions wake: there is a newer revision, or a newer notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// The newest revision.
    pub revision: Revision,
    /// How many notices there were.
    pub notices: u64,
}

/// Notices that a late client is still told.
const NOTICES_MAX: usize = 20;

/// One environment for one scope: its newest snapshot and the clients that follow it.
#[derive(Debug)]
pub struct Feed {
    /// The environment.
    pub environment: String,
    /// A project's key, or `None` for all.
    pub project: Option<String>,
    current: ArcSwap<Snapshot>,
    wake: watch::Sender<Wake>,
    notices: Mutex<Vec<(u64, Notice, ByteString)>>,
    clients: Mutex<HashMap<u64, Arc<Client>>>,
    /// Clients acknowledged, came or went since pages were last told.
    moved: AtomicBool,
    /// One refresh at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Feed {
    /// A feed that starts with this document, narrowed to the project.
    pub fn new(
        environment: &str,
        project: Option<&str>,
        mut document: Document,
        known_at: Millis,
    ) -> Self {
        if let Some(project) = project {
            document.flags.retain(|_, flag| belongs(flag, project));
        }
        let revision = document.revision;
        Self {
            environment: environment.to_owned(),
            project: project.map(str::to_owned),
            current: ArcSwap::from_pointee(Snapshot::new(document, known_at)),
            wake: watch::Sender::new(Wake { revision, notices: 0 }),
            notices: Mutex::default(),
            clients: Mutex::new(HashMap::new()),
            moved: AtomicBool::new(false),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// The newest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Wakes whenever there is a newer snapshot.
    pub fn subscribe(&self) -> watch::Receiver<Wake> {
        self.wake.subscribe()
    }

    /// Takes a change in: compiles the new document, renders its delta once, wakes the sessions.
    pub fn advance(&self, moved: Moved, window_max: usize, known_at: Millis) {
        let before = self.current();
        if moved.epoch == before.document.epoch && moved.revision <= before.document.revision {
            return;
        }
        let mut document = (*before.document).clone();
        let from = document.revision;
        document.revision = moved.revision;
        let mut step = Step { to: moved.revision, ..Step::default() };
        for (key, flag) in moved.flags {
            let flag = flag.map(|flag| FlagEntry::Known(Box::new(flag)));
            let ours = |flag: &FlagEntry| self.project.as_ref().is_none_or(|p| belongs(flag, p));
            let flag = flag.filter(ours);
            step.is_urgent |= match &flag {
                Some(FlagEntry::Known(flag)) => flag.state.killed || !flag.state.enabled,
                _ => true,
            };
            match flag {
                Some(flag) => document.flags.insert(key.clone(), flag),
                None => document.flags.remove(&key),
            };
            step.flags.push(key);
        }
        for (key, segment) in moved.segments {
            match segment {
                Some(segment) => document.segments.insert(key.clone(), segment),
                None => document.segments.remove(&key),
            };
            step.segments.push(key);
        }
        let mut snapshot = Snapshot::new(document, known_at);
        let delta = snapshot.delta_of(
            from,
            step.flags.iter().map(String::as_str),
            step.segments.iter().map(String::as_str),
        );
        snapshot.delta = Some((from, render(&ServerFrame::Delta(delta))));
        snapshot.window.clone_from(&before.window);
        snapshot.window.push_back(step);
        while snapshot.window.len() > window_max {
            snapshot.window.pop_front();
        }
        self.install(snapshot);
    }

    /// Starts over with a whole document, after the database's id changed.
    pub fn replace(&self, mut document: Document, known_at: Millis) {
        if let Some(project) = &self.project {
            document.flags.retain(|_, flag| belongs(flag, project));
        }
        self.install(Snapshot::new(document, known_at));
    }

    /// Kills a flag here and now, while the store cannot be asked. The document gets an epoch of its
    /// own: clients take it as a whole, and take the store's document again when that is back.
    pub fn kill(&self, key: &str, mark: &str, known_at: Millis) {
        let mut document = (*self.current().document).clone();
        let Some(FlagEntry::Known(flag)) = document.flags.get_mut(key) else { return };
        flag.state.killed = true;
        let base = document.epoch.split('~').next().unwrap_or_default().to_owned();
        document.epoch = format!("{base}~{mark}");
        self.install(Snapshot::new(document, known_at));
    }

    fn install(&self, snapshot: Snapshot) {
        let revision = snapshot.document.revision;
        self.current.store(Arc::new(snapshot));
        self.wake.send_modify(|wake| wake.revision = revision);
    }

    /// Takes over the notices that matter now, oldest first; wakes the sessions for new ones.
    pub fn set_notices(&self, current: Vec<Notice>) {
        let mut known = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = known.last().map_or(0, |(number, ..)| *number);
        known.retain(|(_, old, _)| current.iter().any(|notice| notice.id == old.id));
        for notice in current {
            if !known.iter().any(|(_, old, _)| old.id == notice.id) {
                next += 1;
                let frame = render(&ServerFrame::Notice(notice.clone()));
                known.push((next, notice, frame));
            }
        }
        let over = known.len().saturating_sub(NOTICES_MAX);
        known.drain(..over);
        self.wake.send_if_modified(|wake| std::mem::replace(&mut wake.notices, next) != next);
    }

    /// Frames of notices after a number that have not expired, and the newest number.
    pub fn notices_after(&self, seen: u64, now: Millis) -> (Vec<ByteString>, u64) {
        let known = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = known.last().map_or(seen, |(number, ..)| *number);
        let fresh = |notice: &Notice| notice.expires_at.is_none_or(|at| at > now);
        let frames = known.iter().filter(|(number, notice, _)| *number > seen && fresh(notice));
        (frames.map(|(_, _, frame)| frame.clone()).collect(), newest)
    }

    /// Adds a client; dropping what this returns removes it.
    pub fn join(self: &Arc<Self>, client: Client) -> Membership {
        let client = Arc::new(client);
        self.clients().insert(client.id, Arc::clone(&client));
        Membership { feed: Arc::clone(self), client }
    }

    /// A client acknowledged, came or went.
    pub fn on_client_moved(&self) {
        // Looked at first: ten thousand acknowledgements at once would fight for the cache line.
        if !self.moved.load(Ordering::Relaxed) {
            self.moved.store(true, Ordering::Release);
        }
    }

    /// Whether clients moved since this was last asked.
    pub fn take_moved(&self) -> bool {
        self.moved.swap(false, Ordering::AcqRel)
    }

    /// The clients now connected.
    pub fn clients(&self) -> MutexGuard<'_, HashMap<u64, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's place in a feed, for as long as its session lives.
#[derive(Debug)]
pub struct Membership {
    /// The feed.
    pub feed: Arc<Feed>,
    /// The client.
    pub client: Arc<Client>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.feed.clients().remove(&self.client.id);
    }
}

fn belongs(flag: &FlagEntry, project: &str) -> bool {
    matches!(flag, FlagEntry::Known(flag) if flag.project == project)
}

/// A frame as bytes; the frames of the core always serialise.
pub fn render(frame: &ServerFrame) -> ByteString {
    serde_json::to_string(frame).map(ByteString::from).unwrap_or_default()
}
