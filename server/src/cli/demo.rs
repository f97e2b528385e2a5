//! `switchback demo`: a server with live clients, to try everything on.

use clap::Args;

use super::{Failure, Outcome};

#[derive(Args)]
pub struct Options {}

pub fn run(_options: &Options) -> Outcome {
    Err(Failure::new("the demo needs the SDK"))
}
