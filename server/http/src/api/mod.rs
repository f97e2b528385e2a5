//! The management API under `/api/v1`, by noun.

mod alert_rules;
mod alerts;
mod approvals;
mod auth_events;
mod automation;
pub mod backups;
mod channels;
mod checks;
mod components;
mod drills;
pub mod environments;
pub mod flags;
mod guards;
pub mod incidents;
pub mod log;
pub mod people;
pub mod playbooks;
mod probes;
pub mod records;
pub mod segments;
pub mod sources;
mod subscribers;
pub mod tokens;
mod undo;
mod user_sessions;

use super::endpoint::Endpoint;

/// Every endpoint of the API, in the order of its document.
pub fn endpoints() -> Vec<Endpoint> {
    [
        environments::endpoints(),
        flags::endpoints(),
        segments::endpoints(),
        playbooks::endpoints(),
        drills::endpoints(),
        approvals::endpoints(),
        alerts::endpoints(),
        automation::endpoints(),
        undo::endpoints(),
        records::endpoints(),
        auth_events::endpoints(),
        guards::endpoints(),
        alert_rules::endpoints(),
        incidents::endpoints(),
        components::endpoints(),
        probes::endpoints(),
        subscribers::endpoints(),
        channels::endpoints(),
        checks::endpoints(),
        user_sessions::endpoints(),
        log::endpoints(),
        sources::endpoints(),
        backups::endpoints(),
        tokens::endpoints(),
        people::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
