//! HTTP: every URL, and nothing else. A handler extracts, calls one use case, answers.

pub mod api;
pub mod auth;
pub mod compat;
pub mod endpoint;
pub mod health;
pub mod hooks;
pub mod idempotency;
pub mod observe;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod router;
pub mod status;
pub mod stream;
pub mod ui;

use std::ops::Deref;
use std::sync::Arc;

use crate::app::App;

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
