//! The public status page.

use actix_web::web;

/// Its URLs.
pub fn routes(_config: &mut web::ServiceConfig) {}
