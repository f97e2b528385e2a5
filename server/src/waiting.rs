//! A start while PostgreSQL cannot be reached: the status page is served as it was, until the database is there.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use switchback_app::config::Config;
use switchback_app::ids::SystemClock;
use switchback_app::status_page::StatusBoard;
use switchback_store::{Opened, StoreError};

use super::{Failure, say};
use switchback_http::router;

/// How long the database may take before the status page is served meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries to reach the database.
const RETRY: Duration = Duration::from_secs(1);

/// Opens the database. While that cannot be reached, a server that ran before serves its status page on the listener's
/// socket; it ends when the database is there. A server that never ran says what is wrong and does not start.
///
/// Returns whether it waited.
pub async fn open(
    config: &Config,
    public_url: &str,
    listener: &TcpListener,
) -> Result<(Opened, bool), Failure> {
    let address = config.database_address();
    let mut opening = Box::pin(switchback_store::open(&address));
    let board = StatusBoard::new(config, public_url);
    // Nobody else uses the runtime yet: reading one file may block it.
    if config.database_url.is_empty() || !board.restore() {
        return Ok((opening.await.map_err(|error| explain(config, error))?, false));
    }
    let mut found = match tokio::time::timeout(PATIENCE, &mut opening).await {
        Ok(Ok(opened)) => return Ok((opened, false)),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    if found.as_ref().is_some_and(|error| !error.is_outage()) {
        return Err(found.map_or_else(|| Failure::new("no answer"), |error| explain(config, error)));
    }
    let server = router::waiting_server(
        config,
        Arc::new(board),
        Arc::new(SystemClock),
        listener.try_clone()?,
    )?;
    let handle = server.handle();
    let serving = tokio::spawn(server);
    say(format!("Switchback listens on http://{}", listener.local_addr()?));
    say(
        "The database cannot be reached: only the status page is served, as it was. Everything else follows by itself.",
    );
    let outcome = loop {
        if let Some(error) = found.take() {
            if !error.is_outage() {
                break Err(explain(config, error));
            }
            let failure = explain(config, error);
            tracing::warn!("the database cannot be reached: {}", failure.message);
            tokio::time::sleep(RETRY).await;
            opening = Box::pin(switchback_store::open(&address));
        }
        match opening.as_mut().await {
            Ok(opened) => break Ok((opened, true)),
            Err(error) => found = Some(error),
        }
    };
    // Its connections end on their own time: the next server takes new ones from the same socket already.
    tokio::spawn(async move {
        handle.stop(true).await;
        let _ = serving.await;
    });
    outcome
}

fn explain(config: &Config, error: StoreError) -> Failure {
    let place = match switchback_app::config::mask_url(&config.database_url) {
        empty if empty.is_empty() => config.data_dir.join("switchback.db").display().to_string(),
        url => url,
    };
    let base = Failure::from(error);
    Failure::new(match base.message {
        message if message.contains("newer release") => format!(
            "{place}: {message}; start the newer release, or restore a backup made by this one"
        ),
        message => format!("{place}: {message}"),
    })
}
