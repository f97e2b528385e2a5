//! What the handle and the connection share: the state in force and how fresh it is.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use switchback_core::model::{Document, Millis, Revision};
use switchback_core::wire::Notice;
use switchback_core::{Context, Evaluation, FlagIndex, Moment, Ruleset};
use tokio::sync::{broadcast, watch};

use crate::auth_events::Waiting;
use crate::clock::{Clock, now_ms};
use crate::counts::Counters;
use crate::subscription::{Change, Impression};

/// Changes and notices that a slow listener may be behind; older ones are dropped.
const NEWS_MAX: usize = 64;

/// Impressions that a slow listener may be behind; older ones are dropped.
const IMPRESSIONS_MAX: usize = 1_024;

/// Where the flags in force came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// Nothing is known yet: every flag is unknown.
    #[default]
    Empty,
    /// The disk cache of an earlier run.
    Disk,
    /// The server, in this run.
    Live,
    /// [`crate::Switchback::for_tests`].
    Test,
}

/// How a client is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Where the flags in force came from.
    pub source: Source,
    /// Their revision; 0 when there are none.
    pub revision: Revision,
    /// The database that the revision belongs to.
    pub epoch: String,
    /// Whether the server is connected and has confirmed the flags.
    pub live: bool,
    /// When not live: the last moment the server was heard of, in milliseconds since 1970.
    pub stale_since: Option<Millis>,
    /// The last thing that went wrong, until the server confirms the flags again.
    pub last_error: Option<String>,
    /// Evaluation counts that were dropped while the server was away for long.
    pub dropped_counts: u64,
    /// Auth events that were dropped while the server was away for long.
    pub dropped_events: u64,
}

/// The progress that waiting callers look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) status: Status,
    /// The first attempt to connect has failed, or the token was refused.
    pub(crate) has_failed: bool,
    pub(crate) is_refused: bool,
    /// The token is a browser's.
    pub(crate) is_browser: bool,
    pub(crate) is_stopped: bool,
}

/// One revision in force, with its counters.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) document: Arc<Document>,
    pub(crate) ruleset: Ruleset,
    pub(crate) counters: Counters,
    /// Whether any flag asks for impressions.
    pub(crate) impresses: bool,
}

impl State {
    pub(crate) fn new(document: Arc<Document>) -> Self {
        let ruleset = Ruleset::compile(&document);
        for problem in ruleset.problems() {
            tracing::warn!(path = problem.path, "flag document: {}", problem.message);
        }
        let counters = Counters::new(&ruleset);
        let mut all = (0..ruleset.keys().len()).filter_map(|n| ruleset.nth(n));
        let impresses = all.any(|flag| ruleset.wants_impressions(flag));
        Self { document, ruleset, counters, impresses }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: ArcSwap<State>,
    pub(crate) clock: Clock,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) changes: broadcast::Sender<Arc<Change>>,
    pub(crate) notices: broadcast::Sender<Arc<Notice>>,
    /// Auth events on their way.
    pub(crate) auth_events: Waiting,
    /// Tells this client from every other.
    pub(crate) run: String,
    /// Made when the first listener comes: most apps have none.
    impressions: OnceLock<broadcast::Sender<Arc<Impression>>>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let clock = Clock::new();
        Self {
            state: ArcSwap::from_pointee(State::default()),
            auth_events: Waiting::default(),
            run: format!("{:08x}{:08x}", clock.draw(), clock.draw()),
            clock,
            progress: watch::Sender::new(Progress::default()),
            changes: broadcast::Sender::new(NEWS_MAX),
            notices: broadcast::Sender::new(NEWS_MAX),
            impressions: OnceLock::new(),
        }
    }

    pub(crate) fn hear_impressions(&self) -> broadcast::Receiver<Arc<Impression>> {
        self.impressions.get_or_init(|| broadcast::Sender::new(IMPRESSIONS_MAX)).subscribe()
    }

    /// Tells listeners of a decision, if there are any and the flag asks for it. Waits for nobody.
    #[cold]
    pub(crate) fn impress<'r>(
        &self,
        ruleset: &'r Ruleset,
        flag: FlagIndex,
        by: &Context<'_>,
        decision: impl FnOnce() -> Evaluation<'r>,
    ) {
        let listeners = self.impressions.get().filter(|heard| heard.receiver_count() > 0);
        let (Some(listeners), true) = (listeners, ruleset.wants_impressions(flag)) else { return };
        let found = decision();
        let impression = Impression {
            flag: ruleset.keys().nth(flag.get()).unwrap_or_default().to_owned(),
            unit: by.unit().map(str::to_owned),
            enabled: found.enabled,
            variant: found.variant.map(str::to_owned),
            reason: found.reason.to_string(),
            revision: ruleset.revision(),
            missed: 0,
        };
        listeners.send(Arc::new(impression)).ok(); // the last listener may just have left
    }

    /// Puts a state in force; decisions that are under way end with the old one.
    pub(crate) fn enforce(&self, state: State, source: Source) -> Arc<State> {
        let (revision, epoch) = (state.ruleset.revision(), state.ruleset.epoch().to_owned());
        let old = self.state.swap(Arc::new(state));
        self.progress.send_modify(|progress| {
            progress.status.source = source;
            progress.status.revision = revision;
            progress.status.epoch = epoch;
        });
        old
    }

    pub(crate) fn status(&self) -> Status {
        let mut status = self.progress.borrow().status.clone();
        if !status.live && status.source != Source::Empty {
            let stale_ms = i64::try_from(self.clock.stale_for_ms()).unwrap_or(i64::MAX);
            status.stale_since = Some(now_ms().saturating_sub(stale_ms));
        }
        status
    }

    /// The moment of a decision: what the flag needs of it, and what the caller has set already.
    #[inline]
    pub(crate) fn moment(&self, ruleset: &Ruleset, flag: FlagIndex, by: &Context<'_>) -> Moment {
        let needs = ruleset.needs(flag);
        let mut moment = by.moment();
        if needs.time {
            moment = self.with_time(moment);
        }
        if needs.draw {
            moment.draw ^= self.clock.draw();
        }
        moment
    }

    pub(crate) fn with_time(&self, mut moment: Moment) -> Moment {
        moment.now_ms = moment.now_ms.or_else(|| Some(now_ms()));
        moment.stale_for_ms = moment.stale_for_ms.max(self.clock.stale_for_ms());
        moment
    }
}
