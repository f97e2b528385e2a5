//! Everything that Switchback keeps, in SQLite or PostgreSQL: one SQL text serves both.
//!
//! A use case calls one method; the method is one transaction. A write and its record in
//! `change_log` or `rollback_log` are in the same transaction, always.
#![warn(missing_docs)]

mod alerts;
mod auth_counts;
mod auth_events;
mod automation;
mod backups;
mod board;
mod changes;
mod channels;
mod checks;
mod components;
mod data_sources;
mod db;
mod drills;
mod environments;
mod error;
mod event_pollers;
mod findings;
mod flags;
mod guards;
mod idempotency;
mod impact;
mod incident_moves;
mod incident_templates;
mod incidents;
mod meta;
mod migrate;
mod news;
mod nodes;
mod notices;
mod outbox;
mod preserved;
mod probes;
mod remote_incidents;
mod reviews;
mod rollback_log;
mod run_queue;
mod run_times;
mod runs;
mod segments;
mod subscribers;
mod tokens;
mod usage;
mod user_session_rounds;
mod user_session_writes;
mod user_sessions;
mod users;
mod versions;
mod visits;

pub use alerts::{AlertBatch, AlertRow, AlertStateRow, OutsideAlert, Silence};
pub use auth_counts::{Count, CountFilter, CountLine, SourceRow};
pub use auth_events::{AuthEventRow, NewEvents, Taken};
pub use automation::{AutomationOff, Gate, Once, ScheduleRow};
pub use backups::BackupRow;
pub use board::{PublicBoard, PublicIncident, PublicUpdate};
pub use changes::{Change, ChangeFilter, Stamp};
pub use channels::ChannelRow;
pub use checks::{CheckBatch, CheckCell, CheckRunRow, CheckSettingsRow, CheckStateRow};
pub use components::{Component, ComponentGroup, ComponentMoves, ComponentStatus};
pub use data_sources::DataSourceRow;
pub use db::{Db, Dialect};
pub use drills::DrillRow;
pub use environments::{Environment, Moved, NewEnvironment, Project};
pub use error::StoreError;
pub use event_pollers::EventPollerRow;
pub use findings::{FindingCount, FindingFilter, FindingRow};
pub use flags::{ChangedFlag, FlagRecord, FlagRow, NewFlag, RestoredFlag};
pub use guards::{ActRow, Beside as GuardBeside, GuardRow, RolloutRow};
pub use idempotency::Remembered;
pub use impact::ImpactRow;
pub use incidents::{
    Audience, Impact, Incident, IncidentStatus, IncidentUpdate, NewIncident, NewUpdate, Telling,
};
pub use migrate::{Opened, open};
pub use news::Listener;
pub use nodes::NodeRow;
pub use outbox::{
    Attempt, Delivery, DeliveryCount, DeliveryFilter, DeliveryRow, DeliveryState, MessageRow,
    Neighbour, NewMessage, Recipients,
};
pub use probes::{ProbeDay, ProbeLease, ProbeResult, ProbeRow, ProbeRule};
pub use remote_incidents::RemoteIncident;
pub use reviews::Review;
pub use rollback_log::{
    ChainHead, ChainLink, ChainProblem, LogEntry, NewEntry, hash_of, verify_rows,
};
pub use run_times::StepTimes;
pub use runs::{Beside, Lease, NewRun, RunFilter, RunRow, Waits};
pub use segments::SegmentRow;
pub use subscribers::{Subscriber, SubscriberCount, SubscriberMode, SubscriberState};
pub use tokens::{TokenKind, TokenRow};
pub use usage::UsageRow;
pub use user_session_writes::{Counting, SessionPick, SessionWrite, SessionWritten, Whose};
pub use user_sessions::{
    After, EndReason, RevokedSession, SessionDay, SessionFilter, UserSession, version_rank,
};
pub use users::{Role, SessionRow, UserRow};
pub use versions::TemplateVersion;

/// A handle to the database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) db: Db,
}

impl Store {
    /// Which database this is.
    pub fn dialect(&self) -> Dialect {
        self.db.dialect()
    }

    /// Answers when the database does.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.one("SELECT 1 AS one", vec![]).await.map(drop)
    }

    /// Closes every connection; writes in flight are finished first.
    pub async fn close(&self) {
        match &self.db {
            Db::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Db::Postgres(pool) => pool.close().await,
        }
    }

    /// Every statement of this crate, so that a test can prepare each on both databases.
    pub fn statements(dialect: Dialect) -> impl Iterator<Item = &'static str> {
        [
            alerts::ALL,
            auth_counts::ALL,
            auth_events::ALL,
            backups::ALL,
            board::ALL,
            automation::ALL,
            changes::ALL,
            checks::ALL,
            channels::ALL,
            components::ALL,
            data_sources::ALL,
            drills::ALL,
            environments::ALL,
            event_pollers::ALL,
            findings::ALL,
            flags::ALL,
            guards::ALL,
            idempotency::ALL,
            incident_templates::ALL,
            incidents::ALL,
            meta::ALL,
            nodes::ALL,
            notices::ALL,
            outbox::ALL,
            preserved::ALL,
            probes::ALL,
            remote_incidents::ALL,
            reviews::ALL,
            rollback_log::ALL,
            run_queue::ALL,
            run_times::ALL,
            runs::ALL,
            segments::ALL,
            subscribers::ALL,
            tokens::ALL,
            impact::ALL,
            usage::ALL,
            user_session_writes::ALL,
            user_sessions::ALL,
            users::ALL,
            visits::ALL,
        ]
        .into_iter()
        .flatten()
        .copied()
        .chain([auth_events::INSERT.one(dialect), auth_counts::ADD.one(dialect)])
        .chain([event_pollers::ADD.one(dialect), event_pollers::DROP.one(dialect)])
        .chain([user_sessions::BY_ID.one(dialect), user_sessions::OPEN_OF_USERS.one(dialect)])
        .chain([user_session_writes::START.one(dialect), user_session_writes::END.one(dialect)])
        .chain([user_session_writes::TOUCH.one(dialect), user_session_writes::ADD_DAY.one(dialect)])
        .chain([findings::bulk(dialect)])
    }

    /// Asks the database to parse a statement without running it.
    pub async fn prepare(&self, sql: &'static str) -> Result<(), StoreError> {
        self.db.prepare(sql).await
    }
}
