//! HTTP: every URL, and nothing else. A handler extracts, calls one use case, answers.

mod api;
mod auth;
mod compat;
mod endpoint;
mod health;
mod hooks;
mod idempotency;
mod observe;
mod openapi;
mod page;
mod problem;
pub mod router;
pub mod status;
mod stream;
pub mod ui;

use std::ops::Deref;
use std::sync::Arc;

use switchback_app::App;

/// A request's body, at most, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// What handlers are given.
pub struct State(pub Arc<App>);

impl Deref for State {
    type Target = Arc<App>;

    fn deref(&self) -> &Arc<App> {
        &self.0
    }
}
