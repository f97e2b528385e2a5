//! Describing a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use switchback_core::Follower;
use switchback_core::model::Document;
use switchback_core::wire::Hello;
use tokio::sync::watch;

use crate::cache::Cache;
use crate::client::Switchback;
use crate::connection::{self, Connection, Timing};
use crate::saver::{self, Wanted};
use crate::shared::{Shared, Source, State};
use crate::transport::{Endpoint, Token};

/// Flags beyond which a document is compiled away from the threads that serve.
const INLINE_FLAGS_MAX: usize = 500;

/// Why a client could not be built: a mistake of the caller. A server that is away is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// The URL is missing or not usable.
    #[error("`{url}` is not a server's URL such as https://flags.example.org: {reason}")]
    Url {
        /// What was given, without user name and password.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The token is empty or holds characters that no token has.
    #[error("the token is missing or is not one")]
    Token,
    /// The token is a browser's: it is sent values, never the rules that this client decides by.
    #[error(
        "the token is a browser token; this client needs a server token (Settings, Tokens, kind `server`)"
    )]
    BrowserToken,
    /// A root certificate cannot be read.
    #[error("root certificate {index} cannot be read")]
    Certificate {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// No tokio runtime is running here.
    #[error("build the client inside a tokio runtime")]
    NoRuntime,
}

/// Describes a client; see [`Switchback::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    url: String,
    token: Token,
    hello: Hello,
    cache_dir: Option<PathBuf>,
    roots: Vec<Vec<u8>>,
    ready_timeout: Duration,
    timing: Timing,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            url: String::new(),
            token: Token::default(),
            hello: Hello {
                sdk: concat!("switchback-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
                ..Hello::default()
            },
            cache_dir: None,
            roots: Vec::new(),
            ready_timeout: Duration::from_secs(5),
            timing: Timing::default(),
        }
    }
}

impl Builder {
    /// Where the server is, such as `https://flags.example.org`. Required.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// The SDK token. Required. It is never written to logs, errors or file names.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Token::new(token.into());
        self
    }

    /// The app's name, shown to operators.
    pub fn app(mut self, name: impl Into<String>) -> Self {
        self.hello.app = name.into();
        self
    }

    /// The app's version, shown to operators.
    pub fn app_version(mut self, version: impl Into<String>) -> Self {
        self.hello.app_version = Some(version.into());
        self
    }

    /// One process or device. Default: a random name.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.hello.instance = name.into();
        self
    }

    /// The platform, such as `server` or `ios`.
    pub fn platform(mut self, name: impl Into<String>) -> Self {
        self.hello.platform = Some(name.into());
        self
    }

    /// Where the last good flags are kept for the next start. Default: nowhere.
    pub fn cache_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(directory.into());
        self
    }

    /// How long [`Builder::build`] waits for the server. Default: 5 s.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.ready_timeout = timeout;
        self
    }

    /// How often evaluation counts are sent. Default: 10 s; at least 100 ms.
    pub fn report_every(mut self, every: Duration) -> Self {
        self.timing.report_every = every.max(Duration::from_millis(100));
        self
    }

    /// How long the server may be silent before the connection is made anew. Default: 45 s, three
    /// heartbeats.
    pub fn silence_timeout(mut self, timeout: Duration) -> Self {
        self.timing.silence = timeout;
        self
    }

    /// Certificates (DER) to trust besides the public ones: for servers with a company's own.
    pub fn root_certificates(mut self, certificates: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.roots.extend(certificates);
        self
    }

    /// Starts the client.
    ///
    /// Returns as soon as the server has sent the flags; when it cannot be reached, at once with
    /// the flags from the disk cache, or after the ready timeout with none. It goes on trying in
    /// the background. Only mistakes in the description are errors, a browser's token among them: that
    /// is known once the server has answered. Told later, it is in [`crate::Status::last_error`].
    pub async fn build(mut self) -> Result<Switchback, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let endpoint = Endpoint::new(&self.url, self.token.clone(), &self.roots)?;
        if self.hello.instance.is_empty() {
            self.hello.instance = format!("{:016x}", getrandom::u64().unwrap_or_default());
        }
        let shared = Arc::new(Shared::new());
        let cache = self.cache_dir.take();
        let cache = cache.map(|directory| Cache::new(&directory, &self.url, self.token.text()));

        let start = tokio::time::Instant::now();
        let follower = match &cache {
            Some(cache) => start_from_disk(cache.clone(), &shared).await,
            None => Follower::default(),
        };
        let has_flags = follower.position().is_some();
        let saver = watch::Sender::new(Wanted::default());
        let writing = cache.map(|cache| runtime.spawn(saver::run(cache, saver.subscribe())));

        let (stop, stopping) = watch::channel(false);
        let connection = Connection {
            shared: Arc::clone(&shared),
            endpoint,
            hello: self.hello,
            timing: self.timing,
            follower,
            saver,
            stop: stopping,
        };
        runtime.spawn(connection::run(connection, writing));

        let mut progress = shared.progress.subscribe();
        let ready = progress.wait_for(|progress| {
            progress.status.live || progress.is_refused || (has_flags && progress.has_failed)
        });
        if tokio::time::timeout_at(start + self.ready_timeout, ready).await.is_err() {
            tracing::warn!("the flag server has not answered in time; going on without it");
        }
        if shared.progress.borrow().is_browser {
            return Err(BuildError::BrowserToken);
        }
        Ok(Switchback { shared, stop: Arc::new(stop) })
    }
}

async fn start_from_disk(cache: Cache, shared: &Shared) -> Follower {
    let loaded = tokio::task::spawn_blocking(move || cache.load()).await;
    match loaded {
        Ok(Ok(Some((document, age)))) => {
            let follower = Follower::resume(document.epoch.clone(), document.revision);
            shared.clock.set_age(age);
            shared.enforce(compile(Arc::new(document)).await, Source::Disk);
            follower
        }
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the flag cache on disk was ignored");
            Follower::default()
        }
        Ok(Ok(None)) | Err(_) => Follower::default(),
    }
}

/// Compiles a document without holding up the thread for long.
pub(crate) async fn compile(document: Arc<Document>) -> State {
    if document.flags.len() <= INLINE_FLAGS_MAX {
        return State::new(document);
    }
    let elsewhere = Arc::clone(&document);
    match tokio::task::spawn_blocking(move || State::new(elsewhere)).await {
        Ok(state) => state,
        Err(_) => State::new(document), // the runtime is shutting down
    }
}
