//! Use cases by noun. Permission, audit and broadcast live here once; API, pages, CLI and playbook
//! steps all come through.

pub mod alerts;
mod announcements;
pub mod approvals;
mod archive;
pub mod automation;
pub mod backups;
pub mod brake;
pub mod break_glass;
pub mod bulk;
pub mod catalogue;
pub mod channels;
pub mod checks;
pub mod clients;
pub mod compare;
pub mod components;
pub mod config;
pub mod contexts;
pub mod diff;
pub mod drills;
mod emergency;
pub mod environments;
pub mod error;
pub mod evidence;
pub mod flags;
mod follow_up;
pub mod forecast;
pub mod ids;
pub mod impact;
pub mod incident_templates;
pub mod incidents;
pub mod links;
pub mod live;
pub mod log;
pub mod metrics;
pub mod mirror;
pub mod moments;
pub mod notify;
mod outbox;
pub mod outgoing;
pub mod playbooks;
pub mod ports;
mod postmortem;
pub mod probes;
mod remote_pages;
pub mod report;
mod schedules;
pub mod seed;
pub mod segments;
pub mod sources;
pub mod status_page;
pub mod subscribers;
pub mod tasks;
pub mod tokens;
pub mod undo;
pub mod usage;
mod user_keys;
pub mod user_sessions;
pub mod users;
pub mod visits;
pub mod watch;
pub mod webhooks;
pub mod who;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use switchback_store::{Environment, Store, StoreError};
use tokio::sync::{Notify, Semaphore};

pub use announcements::Reach;
pub use error::{AppError, Wrong};
pub use who::{EVERYWHERE, Who, role_name};

use crate::config::Config;
use crate::live::{Hub, News};
use crate::metrics::Metrics;
use crate::notify::Mailer;
use brake::Brake;
use catalogue::Catalogue;
use emergency::EmergencyJournal;
use ids::{Clock, Ids};
use status_page::StatusBoard;
use tokens::TokenCache;
use users::{SessionCache, SignInBrake};

/// The application: everything that use cases need, handed in once.
pub struct App {
    /// The database.
    pub store: Store,
    /// The stream.
    pub hub: Arc<Hub>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Ids,
    /// What was configured.
    pub config: Config,
    /// How people reach this server.
    pub public_url: String,
    /// Playbooks and incident templates.
    pub catalogue: ArcSwap<Catalogue>,
    /// What the public page says, in memory.
    pub status: Arc<StatusBoard>,
    /// What runs beside the requests.
    pub tasks: tasks::Tasks,
    /// Figures for `/metrics`.
    pub metrics: Metrics,
    pub(crate) tokens: TokenCache,
    pub(crate) brake: SignInBrake,
    pub(crate) emergency: EmergencyJournal,
    pub(crate) sessions: SessionCache,
    pub(crate) sources: sources::Sources,
    pub(crate) circuits: Arc<outgoing::Circuits>,
    pub(crate) outbox: outbox::Outbox,
    pub(crate) link_secret: tokio::sync::OnceCell<String>,
    pub(crate) mailer: Option<Mailer>,
    pub(crate) mirrors: mirror::Mirrors,
    pub(crate) copies: drills::Copies,
    pub(crate) visits: visits::Seen,
    /// Contexts that were asked about lately.
    pub contexts: contexts::Recent,
    pub(crate) user_keys: user_keys::UserKeys,
    pub(crate) usage: usage::Counts,
    pub(crate) intake: watch::Intake,
    pub(crate) user_sessions: user_sessions::Intake,
    pub(crate) impact: impact::Figures,
    pub(crate) checks: checks::Checks,
    /// Slows down browsers that ask far too often.
    pub brake_of_browsers: Brake,
    /// Slows down whoever asks for news in many names, by the hour.
    pub brake_of_wishes: Brake,
    /// Whole documents that may be on their way to streaming clients at once.
    pub hydrations: Arc<Semaphore>,
    pub(crate) runner: Notify,
    pub(crate) driving: std::sync::Mutex<std::collections::BTreeSet<String>>,
    pub(crate) verified: std::sync::Mutex<Option<playbooks::Verified>>,
    environments: RwLock<BTreeMap<String, Environment>>,
    store_is_up: AtomicBool,
    /// Set when the server is asked to end.
    pub stopping: AtomicBool,
}

impl App {
    /// An application on an open store. Reads what must be in memory from the start.
    pub fn new(
        store: Store,
        config: Config,
        public_url: String,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, AppError> {
        let ids = Ids::new(Arc::clone(&clock));
        let node = ids.next("node");
        let hub = Hub::new(node, store.clone(), Arc::clone(&clock), config.stream.clone());
        let mailer = Mailer::new(&config.mail).map_err(|why| AppError::invalid("mail", why))?;
        let catalogue = Catalogue::load(config.runbooks_dir.as_deref())?;
        let status = Arc::new(StatusBoard::new(&config, &public_url));
        let app = Arc::new(Self {
            hub: Arc::new(hub),
            ids,
            public_url,
            catalogue: ArcSwap::from_pointee(catalogue),
            status,
            tasks: tasks::Tasks::default(),
            metrics: Metrics::new(),
            tokens: TokenCache::default(),
            emergency: EmergencyJournal::open(&config.data_dir),
            sessions: SessionCache::default(),
            brake: SignInBrake::new(config.sign_in.free_attempts),
            sources: sources::Sources::default(),
            circuits: Arc::default(),
            outbox: outbox::Outbox::default(),
            link_secret: tokio::sync::OnceCell::new(),
            mailer,
            mirrors: mirror::Mirrors::default(),
            copies: drills::Copies::default(),
            visits: visits::Seen::default(),
            user_keys: user_keys::UserKeys::default(),
            contexts: contexts::Recent::default(),
            usage: usage::Counts::default(),
            intake: watch::Intake::default(),
            user_sessions: user_sessions::Intake::default(),
            impact: impact::Figures::default(),
            checks: checks::Checks::default(),
            brake_of_browsers: Brake::default(),
            brake_of_wishes: Brake::default(),
            hydrations: Arc::new(Semaphore::new(config.compat.hydrations_max)),
            runner: Notify::new(),
            driving: std::sync::Mutex::default(),
            verified: std::sync::Mutex::default(),
            environments: RwLock::default(),
            store_is_up: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            store,
            config,
            clock,
        });
        Ok(app)
    }

    /// Fills what is served from memory: environments, feeds, the status page.
    pub async fn warm_up(&self) -> Result<(), StoreError> {
        self.reconcile_kills().await?;
        self.recheck_tokens().await?;
        self.load_user_keys().await?;
        self.refresh_templates().await?;
        for environment in self.store.list_environments().await? {
            self.remember_environment(&environment);
            self.hub.feed(&environment.key, None).await?;
        }
        self.status.refresh(&self.store, self.clock.now()).await
    }

    /// An environment: from memory, else from the store.
    pub async fn get_environment(&self, key: &str) -> Result<Environment, AppError> {
        if let Some(found) = self.environments().get(key) {
            return Ok(found.clone());
        }
        let found = self.store.get_environment(key).await?;
        self.remember_environment(&found);
        Ok(found)
    }

    /// All environments, from memory.
    pub fn known_environments(&self) -> Vec<Environment> {
        self.environments().values().cloned().collect()
    }

    /// Keeps what is known of an environment.
    pub fn remember_environment(&self, environment: &Environment) {
        let mut all = self.environments.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(environment.key.clone(), environment.clone());
    }

    fn environments(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Environment>> {
        self.environments.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the database answered last time.
    pub fn store_is_up(&self) -> bool {
        self.store_is_up.load(Ordering::Relaxed)
    }

    /// Notes whether the database answers; true when that is new.
    pub fn set_store_up(&self, up: bool) -> bool {
        self.store_is_up.swap(up, Ordering::Relaxed) != up
    }

    /// Takes over news that this node made itself. The write is committed: an error here only means
    /// that polling will find it.
    pub(crate) async fn announce(&self, news: News) {
        if let Err(error) = crate::live::listener::on_news(self, news).await {
            tracing::warn!(error = %error, "a committed change is not yet in memory; polling will find it");
        }
    }

    /// Lets the runner look for runs at once.
    pub fn wake_runner(&self) {
        self.runner.notify_one();
    }
}
