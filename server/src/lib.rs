//! Switchback's server: feature flags, live push with proof, one-click rollback.
//!
//! `http` and `cli` call use cases in `app`; `app` uses `store` and `live`. `http` never speaks SQL,
//! `app` never speaks HTTP.

pub mod app;
pub mod cli;
pub mod config;
pub mod formats;
pub mod http;
pub mod live;
pub mod metrics;
pub mod notify;
pub(crate) mod outgoing;
