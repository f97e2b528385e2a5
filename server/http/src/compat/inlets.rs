//! Small doors for tools that post incidents: Cachet's API, the plain form, and PagerDuty's events.

mod cachet;
mod pagerduty;

use actix_web::web;

/// Their URLs.
pub fn routes(config: &mut web::ServiceConfig) {
    config.configure(cachet::routes).configure(pagerduty::routes);
}
