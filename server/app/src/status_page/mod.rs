//! What the public page says, held in memory and on disk: it is served whatever becomes of the database.

mod days;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;
use switchback_store::{
    Component, ComponentGroup, ComponentStatus, Impact, IncidentStatus, PublicBoard,
    PublicIncident, Store, StoreError,
};

pub use days::{DAY_MS, DAYS, Day, uptime};
pub use snapshot::{Snapshot, write_whole};

use crate::config::{Config, Look};
use days::days_of;
use snapshot::SnapshotFile;

/// The state is read anew after this long even when nobody changed anything: today's bars grow. In milliseconds.
const REREAD_MS: Millis = 60_000;
/// Without word from the database for this long the page says as of when it is, in milliseconds.
const OLD_MS: Millis = 90_000;

/// The newest state of the page, and how it looks.
pub struct StatusBoard {
    /// Name, colours and links.
    pub look: Look,
    /// How people reach the server.
    pub public_url: String,
    current: ArcSwap<Board>,
    /// Counts the states, so that what was made from one is known to be old.
    generation: AtomicU64,
    /// When the database was last heard of, in UTC milliseconds.
    heard_at: AtomicI64,
    /// The newest row of the change log when the state was read.
    seen: ArcSwapOption<String>,
    /// Reads take turns: one that began earlier must not end over one that saw more.
    reading: tokio::sync::Mutex<()>,
    file: Arc<SnapshotFile>,
}

/// Everything that the page shows, as of one moment.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Board {
    /// Components, in their order.
    pub components: Vec<Component>,
    /// Groups, in their order.
    pub groups: Vec<ComponentGroup>,
    /// The last 90 days of each component, oldest first.
    pub days: BTreeMap<String, Vec<Day>>,
    /// Incidents that everybody may see: open ones first, then the newest.
    pub incidents: Vec<PublicIncident>,
    /// When this was read, in UTC milliseconds.
    pub read_at: Millis,
}

/// The sentence at the top of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overall {
    /// Everything works.
    Operational,
    /// Announced work is going on.
    Maintenance,
    /// Something is slow.
    Degraded,
    /// Something does not work.
    Partial,
    /// Nothing of importance works.
    Major,
}

impl StatusBoard {
    /// An empty board.
    pub fn new(config: &Config, public_url: &str) -> Self {
        Self {
            look: config.status.look(),
            public_url: public_url.to_owned(),
            current: ArcSwap::from_pointee(Board::default()),
            generation: AtomicU64::new(1),
            heard_at: AtomicI64::new(0),
            seen: ArcSwapOption::empty(),
            reading: tokio::sync::Mutex::default(),
            file: SnapshotFile::new(&config.data_dir),
        }
    }

    /// Takes the state that lies on disk; false when there is none. Blocks.
    pub fn restore(&self) -> bool {
        let Some(found) = self.file.load() else { return false };
        self.heard_at.store(found.board.read_at, Ordering::Relaxed);
        self.current.store(Arc::new(found.board));
        self.generation.fetch_add(1, Ordering::Release);
        true
    }

    /// The newest state.
    pub fn current(&self) -> Arc<Board> {
        self.current.load_full()
    }

    /// Counts the states; it is read before the state that belongs to it.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the database was not heard of for so long that the page says so.
    pub fn is_old(&self, now: Millis) -> bool {
        now - self.heard_at.load(Ordering::Relaxed) > OLD_MS
    }

    /// Reads the state anew, and keeps it on disk.
    pub async fn refresh(&self, store: &Store, now: Millis) -> Result<(), StoreError> {
        let _turn = self.reading.lock().await;
        let newest = store.newest_change().await?;
        let found = store.read_board(now - days::DAYS * DAY_MS).await?;
        let board = Board::of(found, now);
        self.seen.store(newest.map(Arc::new));
        self.heard_at.store(now, Ordering::Relaxed);
        self.current.store(Arc::new(board.clone()));
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.file.keep(generation, Snapshot::new(self.look.clone(), board));
        Ok(())
    }

    /// Reads the state anew only when somebody changed something, or when it is a minute old.
    pub async fn follow(&self, store: &Store, now: Millis) -> Result<(), StoreError> {
        let newest = store.newest_change().await?;
        let is_same = newest.as_ref() == self.seen.load().as_deref();
        if !is_same || now - self.current.load().read_at >= REREAD_MS {
            return self.refresh(store, now).await;
        }
        self.heard_at.store(now, Ordering::Relaxed);
        Ok(())
    }
}

impl Board {
    fn of(found: PublicBoard, now: Millis) -> Self {
        let PublicBoard { components, groups, states, incidents } = found;
        let days = |component: &Component| {
            let states = states.get(&component.key).map_or(&[][..], Vec::as_slice);
            (component.key.clone(), days_of(states, now))
        };
        Self {
            days: components.iter().map(days).collect(),
            components,
            groups,
            incidents,
            read_at: now,
        }
    }

    /// Incidents that are not over, planned work that has not begun left out.
    pub fn open(&self) -> impl Iterator<Item = &PublicIncident> {
        self.unresolved().filter(|incident| incident.status != IncidentStatus::Scheduled)
    }

    /// The share of known time that a component was up, 0 to 1; nothing while nothing is known.
    pub fn uptime_of(&self, component: &str) -> Option<f64> {
        let (up, known) = uptime(self.days.get(component)?);
        (known > 0).then(|| up as f64 / known as f64)
    }

    /// Planned work that has not begun, the next first.
    pub fn planned(&self) -> Vec<&PublicIncident> {
        let is_planned = |one: &&PublicIncident| one.status == IncidentStatus::Scheduled;
        let mut found: Vec<_> = self.unresolved().filter(is_planned).collect();
        found.sort_by_key(|incident| incident.scheduled_for.unwrap_or(incident.created_at));
        found
    }

    fn unresolved(&self) -> impl Iterator<Item = &PublicIncident> {
        self.incidents.iter().filter(|incident| incident.resolved_at.is_none())
    }

    /// Components that the page shows: those that hide unless they are in trouble only while they are.
    pub fn shown(&self) -> impl Iterator<Item = &Component> {
        let is_calm = |one: &Component| one.status == ComponentStatus::Operational;
        self.components.iter().filter(move |one| !(one.only_show_if_degraded && is_calm(one)))
    }

    /// The worst of components and open incidents.
    pub fn overall(&self) -> Overall {
        let all_major = !self.components.is_empty()
            && self.components.iter().all(|c| c.status == ComponentStatus::MajorOutage);
        let components = self.components.iter().map(|component| match component.status {
            ComponentStatus::MajorOutage if all_major => Overall::Major,
            other => Overall::of(other),
        });
        let incidents = self.open().map(|incident| match incident.impact {
            Impact::None => Overall::Operational,
            Impact::Maintenance => Overall::Maintenance,
            Impact::Minor => Overall::Degraded,
            Impact::Major => Overall::Partial,
            Impact::Critical => Overall::Major,
        });
        components.chain(incidents).max().unwrap_or(Overall::Operational)
    }
}

impl Overall {
    /// What one component's state says.
    pub fn of(status: ComponentStatus) -> Self {
        match status {
            ComponentStatus::Operational => Self::Operational,
            ComponentStatus::UnderMaintenance => Self::Maintenance,
            ComponentStatus::DegradedPerformance => Self::Degraded,
            ComponentStatus::PartialOutage | ComponentStatus::MajorOutage => Self::Partial,
        }
    }

    /// The sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Operational => "All systems operational",
            Self::Maintenance => "Maintenance in progress",
            Self::Degraded => "Some systems are slow",
            Self::Partial => "Some systems are not working",
            Self::Major => "Major outage",
        }
    }

    /// Statuspage's word for it.
    pub fn indicator(self) -> &'static str {
        match self {
            Self::Operational | Self::Maintenance => "none",
            Self::Degraded => "minor",
            Self::Partial => "major",
            Self::Major => "critical",
        }
    }

    /// Statuspage's sentence for it.
    pub fn description(self) -> &'static str {
        match self {
            Self::Operational => "All Systems Operational",
            Self::Maintenance => "Service Under Maintenance",
            Self::Degraded => "Minor Service Outage",
            Self::Partial => "Partial System Outage",
            Self::Major => "Major Service Outage",
        }
    }
}
