//! Hearing of changes, notices and impressions.

use std::sync::Arc;

use switchback_core::model::Revision;
use switchback_core::wire::Notice;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

/// A new revision is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision.
    pub revision: Revision,
    /// Flags that are new, gone or changed, by themselves or by a segment that they use.
    pub keys: Vec<String>,
    /// Earlier changes were dropped, as this listener was too slow: look at all flags again.
    pub missed: bool,
}

/// Changes, one after the other. At most 64 wait; older ones are dropped.
#[derive(Debug)]
pub struct Changes(pub(crate) broadcast::Receiver<Arc<Change>>);

impl Changes {
    /// The next change; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<Change> {
        let (change, missed) = receive(&mut self.0).await?;
        Some(Change { missed: missed > 0 || change.missed, ..Change::clone(&change) })
    }
}

/// One decision of a flag that asks for it: its state has `impressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impression {
    /// The flag.
    pub flag: String,
    /// Whom it was decided for: the context's user, or else its session.
    pub unit: Option<String>,
    /// On or off.
    pub enabled: bool,
    /// The variant, if one was chosen.
    pub variant: Option<String>,
    /// Why, in stable words such as `rule(beta)`, `disabled` or `killed`.
    pub reason: String,
    /// The revision that decided.
    pub revision: Revision,
    /// Earlier impressions that were dropped, as this listener was too slow.
    pub missed: u64,
}

/// Impressions, one after the other. At most 1,024 wait; older ones are dropped, and counted.
#[derive(Debug)]
pub struct Impressions(pub(crate) broadcast::Receiver<Arc<Impression>>);

impl Impressions {
    /// The next impression; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<Impression> {
        let (impression, missed) = receive(&mut self.0).await?;
        Some(Impression { missed, ..Impression::clone(&impression) })
    }
}

/// Notices for the app's users, one after the other. At most 64 wait; older ones are dropped.
#[derive(Debug)]
pub struct Notices(pub(crate) broadcast::Receiver<Arc<Notice>>);

impl Notices {
    /// The next notice; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<Arc<Notice>> {
        receive(&mut self.0).await.map(|(notice, _)| notice)
    }
}

/// The next one, and how many were dropped before it.
async fn receive<T: Clone>(from: &mut broadcast::Receiver<T>) -> Option<(T, u64)> {
    let mut missed = 0;
    loop {
        match from.recv().await {
            Ok(news) => return Some((news, missed)),
            Err(RecvError::Lagged(dropped)) => missed += dropped,
            Err(RecvError::Closed) => return None,
        }
    }
}

/// A callback that is being called; dropping this ends it.
#[derive(Debug)]
#[must_use = "dropping the subscription ends it"]
pub struct Subscription(pub(crate) Option<JoinHandle<()>>);

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
