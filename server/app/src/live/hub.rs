//! All feeds of this node. News says *that* something moved; the hub reads *what* from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use switchback_core::model::Revision;
use switchback_store::{Store, StoreError};
use tokio::sync::broadcast;

use super::client::{Client, ClientView};
use super::convergence::Convergence;
use super::feed::Feed;
use super::pollers::Pollers;
use crate::config::Stream;
use crate::ids::Clock;

/// That something moved; where a name is given, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An environment's revision.
    Environment(String),
    /// A token was revoked.
    Token(String),
    /// A notice was sent in this environment.
    Notice(String),
    /// A run's log.
    Run(String),
    /// Incidents or components.
    Status,
    /// Clients acknowledged, came or went in this environment.
    Clients(String),
}

impl News {
    /// Reads what another node announced; what it does not know it ignores.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("env", key)) => Some(Self::Environment(key.to_owned())),
            Some(("token", id)) => Some(Self::Token(id.to_owned())),
            Some(("notice", key)) => Some(Self::Notice(key.to_owned())),
            Some(("run", id)) => Some(Self::Run(id.to_owned())),
            None if text == "status" => Some(Self::Status),
            _ => None,
        }
    }
}

/// News that pages and sessions may miss while they are busy; they look again when they do.
const NEWS_QUEUE: usize = 256;
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Notices older than this are not told to late clients, in milliseconds.
const NOTICE_MS: i64 = 86_400_000;
const NOTICES_MAX: i64 = 20;

type Scope = (String, Option<String>);

/// The feeds, by environment and project.
pub struct Hub {
    /// This node's id.
    pub node: String,
    store: Store,
    clock: Arc<dyn Clock>,
    limits: Stream,
    feeds: RwLock<BTreeMap<Scope, Arc<Feed>>>,
    next_client: AtomicU64,
    /// Clients that hold no connection.
    pub pollers: Pollers,
    news: broadcast::Sender<News>,
    /// Other nodes' views, by environment; filled by the listener.
    others: RwLock<BTreeMap<String, Vec<Convergence>>>,
}

impl Hub {
    /// A hub without feeds; they are made when first asked for.
    pub fn new(node: String, store: Store, clock: Arc<dyn Clock>, limits: Stream) -> Self {
        Self {
            node,
            store,
            clock,
            limits,
            feeds: RwLock::default(),
            next_client: AtomicU64::new(1),
            pollers: Pollers::default(),
            news: broadcast::channel(NEWS_QUEUE).0,
            others: RwLock::default(),
        }
    }

    /// The stream's limits.
    pub fn limits(&self) -> &Stream {
        &self.limits
    }

    /// The feed of a scope; read from the store the first time.
    pub async fn feed(
        &self,
        environment: &str,
        project: Option<&str>,
    ) -> Result<Arc<Feed>, StoreError> {
        let scope: Scope = (environment.to_owned(), project.map(str::to_owned));
        if let Some(feed) = self.feeds().get(&scope) {
            return Ok(Arc::clone(feed));
        }
        // Boxed: every client comes through here, and nearly none of them needs the database.
        Box::pin(self.open_feed(scope)).await
    }

    async fn open_feed(&self, scope: Scope) -> Result<Arc<Feed>, StoreError> {
        let (environment, project) = (scope.0.as_str(), scope.1.as_deref());
        let document = self.store.load_document(environment).await?;
        let feed = Arc::new(Feed::new(environment, project, document, self.clock.now()));
        let feed = {
            let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(feeds.entry(scope.clone()).or_insert(feed))
        };
        self.refresh_notices(environment).await?;
        self.refresh_feed(&feed).await?; // a change between the read and the insert woke nobody
        Ok(feed)
    }

    /// Brings every feed of an environment up to what the store says.
    pub async fn refresh(&self, environment: &str) -> Result<(), StoreError> {
        for feed in self.feeds_of(environment) {
            self.refresh_feed(&feed).await?;
        }
        self.publish(News::Environment(environment.to_owned()));
        Ok(())
    }

    async fn refresh_feed(&self, feed: &Feed) -> Result<(), StoreError> {
        let _turn = feed.turn.lock().await;
        let before = feed.current();
        let environment = feed.environment.as_str();
        let moved = self.store.load_changes(environment, before.document.revision).await?;
        if moved.epoch == before.document.epoch {
            feed.advance(moved, self.limits.window_revisions, self.clock.now());
        } else {
            feed.replace(self.store.load_document(environment).await?, self.clock.now());
        }
        Ok(())
    }

    /// Kills a flag for this node's clients, while the store cannot be asked.
    pub fn kill_in_memory(&self, environment: &str, key: &str, mark: &str) {
        for feed in self.feeds_of(environment) {
            feed.kill(key, mark, self.clock.now());
        }
        self.publish(News::Environment(environment.to_owned()));
    }

    /// Tells the apps what there is to tell.
    pub async fn refresh_notices(&self, environment: &str) -> Result<(), StoreError> {
        let now = self.clock.now();
        let since = now - NOTICE_MS;
        let mut notices = self.store.list_notices(environment, now, since, NOTICES_MAX).await?;
        notices.reverse();
        for feed in self.feeds_of(environment) {
            feed.set_notices(notices.clone());
        }
        Ok(())
    }

    /// Tells this node's pages and sessions.
    pub fn publish(&self, news: News) {
        let _ = self.news.send(news); // nobody listening is fine
    }

    /// Hears of everything that moves.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// A number for a new client.
    pub fn next_client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// Sockets on this node.
    pub fn connected(&self) -> usize {
        self.feeds().values().map(|feed| feed.clients().len()).sum()
    }

    /// Ends the sockets that came with a token.
    pub fn close_token(&self, token_id: &str) {
        for feed in self.feeds().values() {
            feed.clients().values().filter(|c| c.token_id == token_id).for_each(|c| c.close());
        }
    }

    /// Ends every socket.
    pub fn close_all(&self) {
        for feed in self.feeds().values() {
            feed.clients().values().for_each(|client| client.close());
        }
    }

    /// This node's clients of an environment.
    pub fn clients(&self, environment: &str) -> Vec<ClientView> {
        let feeds = self.feeds_of(environment);
        let clients = feeds.iter().flat_map(clients_of);
        clients.map(|client| client.view(&self.node)).collect()
    }

    /// How many clients of this node came with each token, by its id.
    pub fn token_use(&self) -> BTreeMap<String, u64> {
        let mut used = BTreeMap::new();
        for feed in self.feeds().values() {
            for client in feed.clients().values() {
                *used.entry(client.token_id.clone()).or_insert(0) += 1;
            }
        }
        used
    }

    /// How far a revision (the newest when `None`) has come among this node's clients.
    pub fn convergence_here(&self, environment: &str, revision: Option<Revision>) -> Convergence {
        let feeds = self.feeds_of(environment);
        let newest = feeds.iter().map(|feed| feed.current().document.revision).max();
        let revision = revision.or(newest).unwrap_or_default();
        let clients: Vec<Arc<Client>> = feeds.iter().flat_map(clients_of).collect();
        Convergence::of(&self.node, revision, clients.iter().map(AsRef::as_ref))
    }

    /// The same for the whole cluster.
    pub fn convergence(&self, environment: &str, revision: Option<Revision>) -> Convergence {
        let mut all = self.convergence_here(environment, revision);
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        for other in others.get(environment).into_iter().flatten() {
            all.merge(other.clone());
        }
        all
    }

    /// Takes over what the other nodes say of their clients.
    pub fn set_others(&self, others: BTreeMap<String, Vec<Convergence>>) {
        *self.others.write().unwrap_or_else(PoisonError::into_inner) = others;
    }

    /// Environments that have a feed here.
    pub fn environments(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.feeds().keys().map(|(key, _)| key.clone()).collect();
        keys.dedup();
        keys
    }

    /// Tells pages of clients that acknowledged, came or went, until the server ends: a few times a
    /// second, however many did.
    pub async fn tell_pages(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TELL_EVERY);
        loop {
            tick.tick().await;
            self.pollers.look_after(self.clock.now());
            let moved: BTreeSet<String> = {
                let feeds = self.feeds();
                let moved = feeds.values().filter(|feed| feed.take_moved());
                moved.map(|feed| feed.environment.clone()).collect()
            };
            for key in moved {
                self.publish(News::Clients(key));
            }
        }
    }

    /// True where a feed of this environment is behind a revision, or acted without the store.
    pub fn knows_older(&self, environment: &str, revision: Revision) -> bool {
        self.feeds_of(environment).iter().any(|feed| {
            let document = &feed.current().document;
            document.revision < revision || document.epoch.contains('~')
        })
    }

    fn feeds(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Scope, Arc<Feed>>> {
        self.feeds.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn feeds_of(&self, environment: &str) -> Vec<Arc<Feed>> {
        let feeds = self.feeds();
        feeds.values().filter(|feed| feed.environment == environment).cloned().collect()
    }
}

fn clients_of(feed: &Arc<Feed>) -> Vec<Arc<Client>> {
    feed.clients().values().cloned().collect()
}
