//! Clients for the tests of apps: fixed flags, no server.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use switchback_core::model::{Document, Flag, FlagEntry, FlagKey, FlagKind, FlagState, ValueType};
use tokio::sync::watch;

use crate::client::Switchback;
use crate::shared::{Shared, Source, State};

/// Describes a client with fixed flags; see [`Switchback::for_tests`].
#[derive(Clone, Debug, Default)]
pub struct TestBuilder {
    flags: BTreeMap<String, FlagEntry>,
}

impl TestBuilder {
    /// A flag that is on for everybody.
    #[must_use]
    pub fn flag_on(self, key: &str) -> Self {
        self.with(key, FlagState { enabled: true, ..FlagState::default() }, ValueType::Boolean)
    }

    /// A flag that is known and off for everybody.
    #[must_use]
    pub fn flag_off(self, key: &str) -> Self {
        self.with(key, FlagState::default(), ValueType::Boolean)
    }

    /// A flag that is on with this value for everybody.
    #[must_use]
    pub fn flag(self, key: &str, value: Value) -> Self {
        let state = FlagState { enabled: true, on_value: value, ..FlagState::default() };
        self.with(key, state, ValueType::Json)
    }

    /// The client. A key that no server would take stays unknown.
    pub fn build(self) -> Switchback {
        let document = Document {
            epoch: "test".to_owned(),
            environment: "test".to_owned(),
            revision: 1,
            flags: self.flags,
            segments: BTreeMap::new(),
        };
        let shared = Arc::new(Shared::new());
        shared.enforce(State::new(Arc::new(document)), Source::Test);
        shared.progress.send_modify(|progress| {
            progress.status.live = true;
            progress.is_stopped = true; // there is nothing to shut down
        });
        Switchback { shared, stop: Arc::new(watch::Sender::new(false)) }
    }

    fn with(mut self, key: &str, state: FlagState, value_type: ValueType) -> Self {
        match FlagKey::try_from(key) {
            Ok(flag_key) => {
                let flag = Flag {
                    key: flag_key,
                    project: "test".to_owned(),
                    kind: FlagKind::default(),
                    value_type,
                    salt: key.to_owned(),
                    state,
                };
                self.flags.insert(key.to_owned(), FlagEntry::Known(Box::new(flag)));
            }
            Err(error) => tracing::warn!("`{key}` is no flag key: {error}"),
        }
        self
    }
}
