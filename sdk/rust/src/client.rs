//! The handle that apps hold.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use switchback_core::model::{Document, Revision};
use switchback_core::wire::Notice;
use switchback_core::{AuthMode, Context, Evaluation, Explanation, FlagIndex};
use tokio::sync::watch;

use crate::auth_events::AuthEvent;
use crate::builder::Builder;
use crate::shared::{Shared, State, Status};
use crate::subscription::{Change, Changes, Impression, Impressions, Notices, Subscription};
use crate::testing::TestBuilder;

/// How long [`Switchback::shutdown`] waits for the last report to be sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// A client of one environment. Cheap to clone; the connection ends with the last clone.
///
/// Decisions are made here, from memory: they never block, never fail and never wait for the
/// network.
#[derive(Clone)]
pub struct Switchback {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: Arc<watch::Sender<bool>>,
}

/// One decision with its reason, as owned values.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// On or off.
    pub enabled: bool,
    /// The variant, if one was chosen.
    pub variant: Option<String>,
    /// The value; `null` for an unknown flag.
    pub value: Value,
    /// Why, in stable words such as `rule(beta)`, `disabled` or `unknown_flag`.
    pub reason: String,
    /// The revision that decided.
    pub revision: Revision,
}

impl Switchback {
    /// Starts to describe a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client with fixed flags and no server.
    ///
    /// ```
    /// use switchback_sdk::{Context, Switchback};
    ///
    /// let switchback = Switchback::for_tests().flag_on("new_checkout").build();
    /// assert!(switchback.is_enabled("new_checkout", &Context::new()));
    /// ```
    pub fn for_tests() -> TestBuilder {
        TestBuilder::default()
    }

    /// Whether a flag is on. An unknown flag is off.
    pub fn is_enabled(&self, key: &str, context: &Context<'_>) -> bool {
        self.is_enabled_or(key, context, false)
    }

    /// Whether a flag is on; `unknown` when there is no such flag.
    pub fn is_enabled_or(&self, key: &str, context: &Context<'_>, unknown: bool) -> bool {
        let state: &State = &self.shared.state.load();
        match state.ruleset.index_of(key) {
            Some(flag) => self.is_index_enabled(state, flag, context),
            None => unknown,
        }
    }

    /// The name of the variant that the context gets, if the flag is on and has variants.
    pub fn variant(&self, key: &str, context: &Context<'_>) -> Option<String> {
        self.decide(key, context, |found, _| found.variant.map(str::to_owned))?
    }

    /// The flag's value for the context. `None` when there is no such flag, or when the value is
    /// not a `T`.
    pub fn value<T: DeserializeOwned>(&self, key: &str, context: &Context<'_>) -> Option<T> {
        self.decide(key, context, |found, _| T::deserialize(found.value))?
            .inspect_err(|error| tracing::debug!(flag.key = key, "value of another type: {error}"))
            .ok()
    }

    /// The flag's value for the context; `otherwise` when there is no such flag, or when the value
    /// is not a `T`.
    pub fn value_or<T: DeserializeOwned>(
        &self,
        key: &str,
        context: &Context<'_>,
        otherwise: T,
    ) -> T {
        self.value(key, context).unwrap_or(otherwise)
    }

    /// The decision with its value and reason.
    pub fn evaluation(&self, key: &str, context: &Context<'_>) -> Decision {
        let owned = |found: Evaluation<'_>, revision| Decision {
            enabled: found.enabled,
            variant: found.variant.map(str::to_owned),
            value: found.value.clone(),
            reason: found.reason.to_string(),
            revision,
        };
        self.decide(key, context, owned).unwrap_or_else(|| Decision {
            enabled: false,
            variant: None,
            value: Value::Null,
            reason: switchback_core::Reason::UnknownFlag.to_string(),
            revision: self.shared.state.load().ruleset.revision(),
        })
    }

    /// The decision with every step that led to it. Not counted.
    pub fn explain(&self, key: &str, context: &Context<'_>) -> Explanation {
        let state = self.shared.state.load();
        let moment = self.shared.with_time(context.moment());
        let context = context.clone().stale_for_ms(moment.stale_for_ms);
        state.ruleset.explain(key, &context.now_ms(moment.now_ms.unwrap_or_default()))
    }

    /// How requests are to be authenticated; see [`switchback_core::Ruleset::auth_mode`]. Without
    /// word from the server, ever: [`AuthMode::Enforced`].
    pub fn auth_mode(&self, context: &Context<'_>) -> AuthMode {
        let state: &State = &self.shared.state.load();
        state.ruleset.auth_mode_by(|flag| self.is_index_enabled(state, flag, context))
    }

    /// The document in force, as it came; a relay passes it on.
    pub fn document(&self) -> Arc<Document> {
        Arc::clone(&self.shared.state.load().document)
    }

    /// Changes from now on.
    pub fn changes(&self) -> Changes {
        Changes(self.shared.changes.subscribe())
    }

    /// Notices from now on.
    pub fn notices(&self) -> Notices {
        Notices(self.shared.notices.subscribe())
    }

    /// Impressions from now on: decisions of flags that ask for it. Questions about other flags cost nothing more.
    pub fn impressions(&self) -> Impressions {
        Impressions(self.shared.hear_impressions())
    }

    /// Calls `each` after every change, in a task of its own, until the subscription is dropped.
    /// Needs a tokio runtime; without one it is never called.
    pub fn on_change(&self, mut each: impl FnMut(&Change) + Send + 'static) -> Subscription {
        let mut changes = self.changes();
        subscribe(async move {
            while let Some(change) = changes.next().await {
                each(&change);
            }
        })
    }

    /// Calls `each` with every notice, as [`Switchback::on_change`] does with changes.
    pub fn on_notice(&self, mut each: impl FnMut(&Notice) + Send + 'static) -> Subscription {
        let mut notices = self.notices();
        subscribe(async move {
            while let Some(notice) = notices.next().await {
                each(&notice);
            }
        })
    }

    /// Calls `each` with every impression, as [`Switchback::on_change`] does with changes. Decisions
    /// never wait for it; when it is slower than they are, impressions are dropped and counted.
    pub fn on_impression(
        &self,
        mut each: impl FnMut(&Impression) + Send + 'static,
    ) -> Subscription {
        let mut impressions = self.impressions();
        subscribe(async move {
            while let Some(impression) = impressions.next().await {
                each(&impression);
            }
        })
    }

    /// Tells the server what happened to a user's login. Never waits: events are kept in memory, 10,000 at most, and sent
    /// about once a second. See [`Status::dropped_events`].
    pub fn auth_event(&self, event: AuthEvent) {
        self.shared.auth_events.add(event, &self.shared.run);
    }

    /// How the client is doing.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Waits until `revision`, or a later one, is in force. `false`: the client was shut down
    /// first. Put a timeout around it.
    pub async fn wait_for_revision(&self, revision: Revision) -> bool {
        let mut progress = self.shared.progress.subscribe();
        let there = progress.wait_for(|p| p.is_stopped || p.status.revision >= revision).await;
        there.is_ok_and(|progress| progress.status.revision >= revision)
    }

    /// Sends the last report, writes the cache and closes the connection; at most two seconds.
    /// Decisions go on with what is known.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let mut progress = self.shared.progress.subscribe();
        let stopped = progress.wait_for(|progress| progress.is_stopped);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, stopped).await.is_err() {
            tracing::warn!("the flag client did not stop in time");
        }
    }

    #[inline]
    fn is_index_enabled(&self, state: &State, flag: FlagIndex, context: &Context<'_>) -> bool {
        let moment = self.shared.moment(&state.ruleset, flag, context);
        let enabled = state.ruleset.is_index_enabled(flag, context, moment);
        state.counters.count(flag, usize::from(enabled));
        if state.impresses {
            let decision = || state.ruleset.evaluate_index(flag, context, moment);
            self.shared.impress(&state.ruleset, flag, context, decision);
        }
        enabled
    }

    fn decide<T>(
        &self,
        key: &str,
        context: &Context<'_>,
        take: impl FnOnce(Evaluation<'_>, Revision) -> T,
    ) -> Option<T> {
        let state: &State = &self.shared.state.load();
        let flag: FlagIndex = state.ruleset.index_of(key)?;
        let moment = self.shared.moment(&state.ruleset, flag, context);
        let found = state.ruleset.evaluate_index(flag, context, moment);
        state.counters.count(flag, found.outcome());
        if state.impresses {
            self.shared.impress(&state.ruleset, flag, context, || found);
        }
        Some(take(found, state.ruleset.revision()))
    }
}

impl fmt::Debug for Switchback {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Switchback").field("status", &self.status()).finish_non_exhaustive()
    }
}

fn subscribe(task: impl Future<Output = ()> + Send + 'static) -> Subscription {
    let runtime = tokio::runtime::Handle::try_current();
    Subscription(runtime.ok().map(|runtime| runtime.spawn(task)))
}
