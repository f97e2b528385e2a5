//! What the public page says, held in memory: it is served whatever becomes of the database.

use std::sync::Arc;

use arc_swap::ArcSwap;
use switchback_core::model::Millis;
use switchback_store::{Audience, Component, ComponentStatus, Impact, Incident, Store, StoreError};

use crate::config::{Config, StatusPage};

/// Incidents that the page shows, newest first.
const HISTORY_MAX: i64 = 100;

/// The newest state of the page, and its settings.
pub struct StatusBoard {
    /// Name and links.
    pub settings: StatusPage,
    current: ArcSwap<Board>,
}

/// Everything that the page shows, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// Components, in their order.
    pub components: Vec<Component>,
    /// Incidents, newest first.
    pub incidents: Vec<Incident>,
    /// When this was read.
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
    pub(crate) fn new(config: &Config) -> Self {
        Self { settings: config.status.clone(), current: ArcSwap::from_pointee(Board::default()) }
    }

    /// The newest state.
    pub fn current(&self) -> Arc<Board> {
        self.current.load_full()
    }

    /// Reads the state anew.
    pub async fn refresh(&self, store: &Store, now: Millis) -> Result<(), StoreError> {
        let components = store.list_components().await?;
        let incidents =
            store.list_incidents(false, Some(Audience::Public), None, HISTORY_MAX).await?;
        self.current.store(Arc::new(Board { components, incidents, read_at: now }));
        Ok(())
    }
}

impl Board {
    /// Incidents that are not over.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.iter().filter(|incident| incident.resolved_at.is_none())
    }

    /// The worst of components and open incidents.
    pub fn overall(&self) -> Overall {
        let all_major = !self.components.is_empty()
            && self.components.iter().all(|c| c.status == ComponentStatus::MajorOutage);
        let components = self.components.iter().map(|component| match component.status {
            ComponentStatus::Operational => Overall::Operational,
            ComponentStatus::UnderMaintenance => Overall::Maintenance,
            ComponentStatus::DegradedPerformance => Overall::Degraded,
            ComponentStatus::MajorOutage if all_major => Overall::Major,
            ComponentStatus::PartialOutage | ComponentStatus::MajorOutage => Overall::Partial,
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
}
