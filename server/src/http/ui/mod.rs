//! The console's pages.

use actix_web::web;

/// Its URLs.
pub fn routes(_config: &mut web::ServiceConfig) {}
