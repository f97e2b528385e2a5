//! Hears of other nodes: `LISTEN` on a connection of its own, with polling as the fallback. Also tells
//! the others what this node's clients have acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use switchback_store::{Dialect, Listener, NodeRow, StoreError};

use super::convergence::Convergence;
use super::hub::News;
use crate::App;

const POLL_EVERY: Duration = Duration::from_secs(2);
const REPORT_EVERY: Duration = Duration::from_millis(200);
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A node that has not written for this long no longer counts, in milliseconds.
const NODE_ALIVE_MS: i64 = 10_000;

/// Takes over one piece of news, from this node or another.
pub async fn on_news(app: &App, news: News) -> Result<(), StoreError> {
    app.reconcile_kills().await?;
    match &news {
        News::Environment(key) => return app.hub.refresh(key).await,
        News::Token(id) => app.on_token_revoked(id),
        News::Status => app.status.refresh(&app.store, app.clock.now()).await?,
        News::Run(_) => app.wake_runner(),
        News::Notice(key) => app.hub.refresh_notices(key).await?,
        News::Clients(_) => {}
    }
    app.outbox.wake(); // what is news here may have been told to channels as well
    app.hub.publish(news);
    Ok(())
}

/// Follows the other nodes' news until the server ends. A gap or an error means: look at everything
/// again.
pub async fn listen(app: Arc<App>) {
    let mut wait = RETRY_MIN;
    loop {
        match app.store.listen().await {
            Ok(None) => return, // SQLite: there are no other nodes
            Ok(Some(mut listener)) => {
                wait = RETRY_MIN;
                catch_up(&app).await;
                follow(&app, &mut listener).await;
            }
            Err(error) => {
                tracing::warn!(error = %error, "the news of other nodes cannot be heard; polling");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

async fn follow(app: &App, listener: &mut Listener) {
    loop {
        match listener.next().await {
            Ok(Some(text)) => {
                let Some(news) = News::parse(&text) else { continue };
                if let Err(error) = on_news(app, news).await {
                    tracing::warn!(error = %error, "news could not be looked up; polling will");
                }
            }
            Ok(None) => catch_up(app).await,
            Err(error) => {
                tracing::warn!(error = %error, "the connection for news broke");
                return;
            }
        }
    }
}

/// Polls: whatever was announced and not heard is found here.
pub async fn poll(app: Arc<App>) {
    let mut tick = tokio::time::interval(POLL_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        catch_up(&app).await;
    }
}

async fn catch_up(app: &App) {
    let result = async {
        app.reconcile_kills().await?;
        for environment in app.store.list_environments().await? {
            app.remember_environment(&environment);
            if app.hub.knows_older(&environment.key, environment.revision) {
                app.hub.refresh(&environment.key).await?;
            }
        }
        app.recheck_tokens().await?;
        app.refresh_templates().await?;
        app.status.follow(&app.store, app.clock.now()).await?;
        app.wake_runner();
        Ok::<_, StoreError>(())
    };
    match result.await {
        Ok(()) => {
            if app.set_store_up(true) {
                tracing::info!("the database answers again");
            }
        }
        Err(error) => {
            if app.set_store_up(false) {
                tracing::error!(error = %error, "the database does not answer; serving from memory");
            }
        }
    }
}

/// Writes what this node's clients have, and reads the others. Only a cluster needs it.
pub async fn exchange(app: Arc<App>) {
    if app.store.dialect() == Dialect::Sqlite {
        return;
    }
    let started_at = app.clock.now();
    let mut tick = tokio::time::interval(REPORT_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut last, mut written_at) = (String::new(), 0);
    loop {
        tick.tick().await;
        let now = app.clock.now();
        let environments = app.hub.environments();
        let views: BTreeMap<&String, Convergence> =
            environments.iter().map(|key| (key, app.hub.convergence_here(key, None))).collect();
        let convergence = serde_json::to_string(&views).unwrap_or_default();
        if convergence != last || now - written_at > NODE_ALIVE_MS / 3 {
            let node = NodeRow {
                id: app.hub.node.clone(),
                started_at,
                seen_at: now,
                convergence: convergence.clone(),
            };
            if app.store.put_node(&node).await.is_ok() {
                (last, written_at) = (convergence, now);
            }
        }
        if let Ok(nodes) = app.store.list_nodes(now - NODE_ALIVE_MS).await {
            app.hub.set_others(by_environment(&app.hub.node, nodes));
        }
    }
}

fn by_environment(own: &str, nodes: Vec<NodeRow>) -> BTreeMap<String, Vec<Convergence>> {
    let mut others: BTreeMap<String, Vec<Convergence>> = BTreeMap::new();
    for node in nodes.into_iter().filter(|node| node.id != own) {
        let views: BTreeMap<String, Convergence> =
            serde_json::from_str(&node.convergence).unwrap_or_default();
        for (environment, view) in views {
            others.entry(environment).or_default().push(view);
        }
    }
    others
}
