//! `switchback serve`: opens the database, seeds it once, listens, ends cleanly on SIGTERM.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use switchback_app::App;
use switchback_app::config::{Config, Init, LogFormat};
use switchback_app::ids::SystemClock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use super::{Failure, Outcome, say, waiting};
use switchback_http::router;

/// Threads for the background tasks; requests have their own.
const BACKGROUND_THREADS: usize = 2;
/// How long the end may take at most.
const END_WITHIN: Duration = Duration::from_secs(10);

pub fn run(config: Config, init: &Init) -> Outcome {
    start_logging(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(serve(config, init))
}

async fn serve(config: Config, init: &Init) -> Outcome {
    let mut signals = Signals::listen()?;
    let started = tokio::select! {
        started = start(config, init) => started?,
        () = signals.wait() => {
            say("Ending.");
            return Ok(());
        }
    };
    for line in &started.hints {
        say(line);
    }
    let Started { app, server, _lock, .. } = started;
    let handle = server.handle();
    let store = app.store.clone();
    tokio::spawn(async move {
        signals.wait().await;
        say("Ending.");
        end(&app).await;
        handle.stop(true).await;
    });
    server.await?;
    let _ = tokio::time::timeout(END_WITHIN, store.close()).await;
    Ok(())
}

/// A server that listens.
pub struct Started {
    /// The application.
    pub app: Arc<App>,
    /// To be awaited.
    pub server: actix_web::dev::Server,
    /// What to tell whoever started it.
    pub hints: Vec<String>,
    /// Held for as long as the embedded database is in use.
    pub(super) _lock: Option<File>,
}

/// Opens everything and listens. The errors are readable lines that say what to do.
pub async fn start(config: Config, init: &Init) -> Result<Started, Failure> {
    let listener = listen(&config.listen)?;
    let url = format!("http://{}", listener.local_addr()?);
    let is_embedded = config.database_url.is_empty();
    let lock = if is_embedded { Some(own_data_dir(&config.data_dir)?) } else { None };
    let public_url = match config.public_url.trim_end_matches('/') {
        "" => url.clone(),
        given => given.to_owned(),
    };
    let (opened, has_waited) = waiting::open(&config, &public_url, &listener).await?;
    let app = App::new(opened.store, config, public_url, Arc::new(SystemClock))?;
    let mut hints = vec![if has_waited {
        "The database is there.".to_owned()
    } else {
        format!("Switchback listens on {url}")
    }];
    if app.store.find_meta("seeded").await?.is_none() {
        if opened.is_new {
            app.store.put_epoch(&app.ids.next("epoch")).await?;
        }
        if let Some(token) = app.seed(init).await? {
            hints.push(format!("SDK token for development, shown once: {token}"));
        }
        app.store.put_meta("seeded", "yes").await?;
    }
    if app.needs_setup().await? {
        let secret = app.new_setup_secret().await?;
        let base = &app.public_url;
        hints.push(format!("Make the first administrator, with this link that works once: {base}/setup?token={secret}"));
    } else {
        hints.push(format!("Console: {}   Status page: {}/status", app.public_url, app.public_url));
    }
    if is_embedded {
        // The lock says that whoever held them is dead.
        app.store.release_all_leases().await?;
        app.store.release_deliveries().await?;
        app.store.release_probes().await?;
    }
    app.warm_up().await?;
    app.start_tasks();
    let server = router::server(&app, listener)?;
    tracing::info!(url, "listening");
    Ok(Started { app, server, hints, _lock: lock })
}

/// Tells sockets to come back elsewhere and hands over what is under way.
pub async fn end(app: &App) {
    app.stopping.store(true, Ordering::Relaxed);
    app.hub.close_all();
    app.write_usage().await;
    app.write_impact().await;
    app.flush_sessions().await;
    let _ = app.store.delete_nodes(&app.hub.node, 0).await;
    tokio::time::sleep(Duration::from_millis(200)).await; // lets the goodbyes leave
}

fn listen(address: &str) -> Result<TcpListener, Failure> {
    let parsed: std::net::SocketAddr = address
        .parse()
        .map_err(|_| Failure::new(format!("`{address}` is not an address and port")))?;
    let listener = TcpListener::bind(parsed).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(format!(
            "{address} is taken by another program; stop it, or choose another with --listen 127.0.0.1:0"
        )),
        std::io::ErrorKind::PermissionDenied => Failure::new(format!(
            "you may not listen on {address}; ports under 1024 need more rights, choose another with --listen"
        )),
        _ => Failure::new(format!("cannot listen on {address}: {error}")),
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Makes the folder, proves that it can be written, and keeps other processes off it.
fn own_data_dir(folder: &Path) -> Result<File, Failure> {
    let shown = folder.display();
    let hint = "choose another with --data-dir";
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("{shown} cannot be made: {error}; {hint}")))?;
    let lock = File::create(folder.join("switchback.lock"))
        .map_err(|error| Failure::new(format!("{shown} cannot be written: {error}; {hint}")))?;
    lock.try_lock().map_err(|_| {
        Failure::new(format!("another Switchback runs on {shown}; stop it, or {hint}"))
    })?;
    Ok(lock)
}

/// Sends log lines to standard error.
pub(super) fn start_logging(config: &Config) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.log)
        .map_err(|error| Failure::new(format!("log is `{}`: {error}", config.log)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    let set = match config.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    set.map_err(|error| Failure::new(error.to_string()))
}

/// The signals that end the server; they count from the moment that this returns.
/// The signals that end a server.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when the server shall end.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
