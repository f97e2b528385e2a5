//! Hearing of changes and notices.

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
        Some(Change { missed: missed || change.missed, ..Change::clone(&change) })
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

async fn receive<T: Clone>(from: &mut broadcast::Receiver<T>) -> Option<(T, bool)> {
    let mut missed = false;
    loop {
        match from.recv().await {
            Ok(news) => return Some((news, missed)),
            Err(RecvError::Lagged(_)) => missed = true,
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
