//! The server's background tasks: supervised, restarted with back-off, seen in `/readyz`.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::App;
use crate::live::listener;

const RESTART_MIN: Duration = Duration::from_millis(200);
const RESTART_MAX: Duration = Duration::from_secs(30);
const WRITE_USAGE_EVERY: Duration = Duration::from_secs(10);
const LOOK_AT_PLANS_EVERY: Duration = Duration::from_secs(2);
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// How often each task had to be restarted.
#[derive(Default)]
pub struct Tasks {
    restarts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Tasks {
    /// Restarts by task.
    pub fn states(&self) -> BTreeMap<&'static str, u64> {
        self.restarts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl App {
    /// Starts everything that runs beside the requests.
    pub fn start_tasks(self: &Arc<Self>) {
        let app = self;
        app.supervise("listener", listener::listen);
        app.supervise("poll", listener::poll);
        app.supervise("exchange", listener::exchange);
        app.supervise("pages", |app| Arc::clone(&app.hub).tell_pages());
        app.supervise("runner", super::App::run_playbooks);
        app.supervise("drills", super::App::schedule_drills);
        app.supervise("mirrors", super::App::keep_mirrors);
        app.supervise("schedules", super::App::run_schedules);
        app.supervise("probes", super::App::run_probes);
        app.supervise("auth events", super::App::write_auth_events);
        app.supervise("watch", super::App::run_watch);
        app.supervise("auth tables", super::App::run_pollers);
        app.supervise("checks", super::App::run_checks);
        app.supervise("outbox", super::App::send_messages);
        app.supervise("sessions", super::App::write_sessions);
        app.supervise("idle sessions", super::App::keep_sessions);
        app.supervise("planned", |app| async move {
            loop {
                tokio::time::sleep(LOOK_AT_PLANS_EVERY).await;
                if let Err(error) = app.move_planned().await {
                    tracing::warn!(error = %error, "planned work could not be moved");
                }
                if let Err(error) = app.look_at_pages().await {
                    tracing::warn!(error = %error, "pages elsewhere could not be read back");
                }
            }
        });
        app.supervise("usage", |app| async move {
            loop {
                tokio::time::sleep(WRITE_USAGE_EVERY).await;
                app.write_usage().await;
                app.write_impact().await;
                app.note_open_tokens().await;
            }
        });
        app.supervise("sweep", |app| async move {
            loop {
                match app.check_chain().await {
                    Ok(report) if report.ok => {}
                    Ok(report) => tracing::error!(
                        row = report.broken_row,
                        problem = report.problem,
                        "the rollback log is broken"
                    ),
                    Err(error) => {
                        tracing::warn!(error = %error, "the rollback log could not be verified");
                    }
                }
                tokio::time::sleep(SWEEP_EVERY).await;
                app.sweep().await;
            }
        });
    }

    /// Runs a task for the life of the server; one that panics is started again, ever later.
    fn supervise<F, T>(self: &Arc<Self>, name: &'static str, task: F)
    where
        F: Fn(Arc<Self>) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let app = Arc::clone(self);
        app.tasks.restarts.lock().unwrap_or_else(PoisonError::into_inner).insert(name, 0);
        tokio::spawn(async move {
            let mut wait = RESTART_MIN;
            loop {
                match tokio::spawn(task(Arc::clone(&app))).await {
                    Ok(()) => return, // nothing to do here, such as listening on SQLite
                    Err(error) => tracing::error!(task = name, error = %error, "a task failed"),
                }
                {
                    let mut all = app.tasks.restarts.lock().unwrap_or_else(PoisonError::into_inner);
                    *all.entry(name).or_insert(0) += 1;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RESTART_MAX);
            }
        });
    }
}
