//! Keeping the disk cache up to date, away from the threads that serve.

use std::sync::Arc;

use switchback_core::model::Document;
use tokio::sync::watch;

use crate::cache::Cache;

/// What is to be on disk. Only the newest counts, so a slow disk skips what came between.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) document: Option<Arc<Document>>,
    /// Counts confirmations of the same document.
    pub(crate) confirmed: u64,
}

/// Writes until the sender is gone and the last document is on disk. A disk that fails is
/// reported and tried again at the next change: the app runs without it.
pub(crate) async fn run(cache: Cache, mut wanted: watch::Receiver<Wanted>) {
    let mut on_disk: Option<Arc<Document>> = None;
    while wanted.changed().await.is_ok() {
        let Some(document) = wanted.borrow_and_update().document.clone() else { continue };
        let is_new = on_disk.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &document));
        let job = (cache.clone(), Arc::clone(&document));
        let write = tokio::task::spawn_blocking(move || {
            let (cache, document) = job;
            if is_new { cache.save(&document) } else { cache.touch() }
        });
        match write.await {
            Ok(Ok(())) => on_disk = Some(document),
            Ok(Err(error)) => {
                on_disk = None;
                tracing::warn!(error = &error as &dyn std::error::Error, "no flag cache on disk");
            }
            Err(_) => return, // the runtime is shutting down
        }
    }
}
